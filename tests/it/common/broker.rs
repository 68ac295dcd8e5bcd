//! A broker of Kafka of our own: what other clusters in a process cannot do (cut a log, elect another leader, delete and compact records,
//! abort transactions, make a topic again) is one call here.
//!
//! Owns: the port, its threads, and what tests do to the logs.
//! Does not own: what a log holds (see [`log`]), how it looks on the wire (see [`protocol`]).

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::Log;
use protocol::answer;

pub(crate) mod log;
mod protocol;

/// Bytes of a request: what librdkafka asks here has a few hundred.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Time after which a thread sees that it is to end.
const SLICE: Duration = Duration::from_millis(10);

/// How much of the protocol the broker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    /// Before 2.4: leader epochs are not to be relied on, and topics have no ids.
    Old,
    /// 2.4 to 2.7: topics have no ids.
    WithoutIds,
    /// Since 2.8.
    WithIds,
}

/// The topics by name, each with its id and its partitions.
type Topics = BTreeMap<String, Topic>;

#[derive(Debug)]
struct Topic {
    id: u128,
    logs: Vec<Log>,
}

#[derive(Debug)]
struct State {
    age: Age,
    address: SocketAddr,
    topics: Mutex<Topics>,
    /// Offsets that groups were told of, by topic and partition.
    told: Mutex<BTreeMap<(String, i32), i64>>,
    ended: AtomicBool,
    /// Connections of an earlier number are closed.
    generation: AtomicU64,
}

/// A broker on a port of its own, which ends when it is dropped.
pub(crate) struct Broker {
    state: Arc<State>,
    listening: Option<JoinHandle<()>>,
}

impl Broker {
    /// Starts a broker in which `topic` has so many partitions.
    pub(crate) fn start(age: Age, topic: &str, partitions: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let state = Arc::new(State {
            age,
            address: listener.local_addr().unwrap(),
            topics: Mutex::default(),
            told: Mutex::default(),
            ended: AtomicBool::new(false),
            generation: AtomicU64::new(0),
        });
        let listening = thread::spawn({
            let state = state.clone();
            move || listen(&listener, &state)
        });
        let broker = Self { state, listening: Some(listening) };
        broker.create(topic, partitions);
        broker
    }

    /// Returns its address.
    pub(crate) fn address(&self) -> String {
        self.state.address.to_string()
    }

    /// Makes a topic; one of the same name is deleted, with all that it held.
    pub(crate) fn create(&self, topic: &str, partitions: usize) {
        let logs = std::iter::repeat_with(Log::default).take(partitions).collect();
        self.state.topics.lock().unwrap().insert(topic.to_owned(), Topic { id: rand::random(), logs });
    }

    /// Adds empty partitions to a topic, up to so many.
    pub(crate) fn add_partitions(&self, topic: &str, partitions: usize) {
        self.state.topics.lock().unwrap().get_mut(topic).expect("the topic").logs.resize_with(partitions, Log::default);
    }

    /// Does something to the log of a partition.
    pub(crate) fn log<T>(&self, topic: &str, partition: usize, act: impl FnOnce(&mut Log) -> T) -> T {
        act(&mut self.state.topics.lock().unwrap().get_mut(topic).expect("the topic").logs[partition])
    }

    /// Closes all connections; clients may connect again.
    pub(crate) fn disconnect(&self) {
        self.state.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Closes all connections, and does something to the log before anybody connects again.
    pub(crate) fn restart<T>(&self, topic: &str, partition: usize, act: impl FnOnce(&mut Log) -> T) -> T {
        // Requests are answered with this lock.
        let mut topics = self.state.topics.lock().unwrap();
        self.disconnect();
        thread::sleep(4 * SLICE);
        act(&mut topics.get_mut(topic).expect("the topic").logs[partition])
    }

    /// Returns the offset that a group was told of last.
    pub(crate) fn told(&self, topic: &str, partition: i32) -> Option<i64> {
        self.state.told.lock().unwrap().get(&(topic.to_owned(), partition)).copied()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

fn listen(listener: &TcpListener, state: &Arc<State>) {
    let mut connections: Vec<JoinHandle<()>> = Vec::new();
    while !state.ended.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((stream, _)) => {
                let state = state.clone();
                connections.push(thread::spawn(move || drop(serve(stream, &state))));
            }
            Err(_) => thread::sleep(SLICE),
        }
        connections.retain(|connection| !connection.is_finished());
    }
    connections.into_iter().for_each(|connection| drop(connection.join()));
}

/// Answers requests in their order, each a length and as many bytes.
fn serve(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    let generation = state.generation.load(Ordering::SeqCst);
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let mut length = [0; 4];
    loop {
        stream.set_read_timeout(Some(SLICE))?;
        while stream.peek(&mut length).is_err() {
            if state.ended.load(Ordering::SeqCst) || state.generation.load(Ordering::SeqCst) != generation {
                return Ok(());
            }
        }
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        assert!(length <= REQUEST_BYTES_MAX, "a request of {length} bytes");
        let mut request = vec![0; length];
        stream.read_exact(&mut request)?;
        let answer = answer(&request, state);
        if state.generation.load(Ordering::SeqCst) != generation {
            return Ok(());
        }
        stream.write_all(&u32::try_from(answer.len()).expect("limited").to_be_bytes())?;
        stream.write_all(&answer)?;
    }
}
