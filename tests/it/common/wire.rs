//! A network between Pintail and a NATS server: it can be cut, fall silent, or lose a delivery.
//!
//! Owns: the connections through it, and as much of NATS' protocol as tells one message from the next.
//! Does not own: the server (see [`super::nats`]).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A way to a server. It goes away with what runs through it.
pub(crate) struct Wire {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    sockets: Mutex<Vec<TcpStream>>,
    silent: AtomicBool,
    /// Every so many deliveries one is lost; 0 = none.
    lose_every: AtomicU64,
    deliveries: AtomicU64,
    lost: AtomicU64,
    ended: AtomicBool,
}

impl Wire {
    /// Leads to a port of this machine.
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Self { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        let state = wire.state.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if state.ended.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(server) = TcpStream::connect(("127.0.0.1", port)) {
                    state.join(&client, &server);
                }
            }
        });
        wire
    }

    /// Returns the address that leads there.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Cuts every connection. New ones can be made at once.
    pub(crate) fn cut(&self) {
        for socket in self.state.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Lets nothing through any more, without a word; or lets it through again.
    pub(crate) fn set_silent(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::Relaxed);
    }

    /// Loses one delivery in so many; 0 = none.
    pub(crate) fn lose_every(&self, deliveries: u64) {
        self.state.lose_every.store(deliveries, Ordering::Relaxed);
    }

    /// Returns how many deliveries were lost.
    pub(crate) fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Relaxed);
        self.cut();
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    /// Joins two connections, each way in a thread of its own.
    fn join(self: &Arc<Self>, client: &TcpStream, server: &TcpStream) {
        let clone = |socket: &TcpStream| socket.try_clone().unwrap();
        self.sockets.lock().unwrap().extend([clone(client), clone(server)]);
        let (state, from, to) = (self.clone(), clone(client), clone(server));
        thread::spawn(move || state.pass_bytes(from, to));
        let (state, from, to) = (self.clone(), clone(server), clone(client));
        thread::spawn(move || state.pass_messages(from, to));
    }

    fn pass_bytes(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 8192];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            self.wait();
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Passes on what a server says, but for what gets lost: a line, and behind `MSG …` and `HMSG …` as many bytes as its last word says.
    fn pass_messages(&self, from: TcpStream, mut to: TcpStream) {
        let mut from = BufReader::new(from);
        let mut message = Vec::new();
        while from.read_until(b'\n', &mut message).is_ok_and(|n| n > 0) {
            let line = String::from_utf8_lossy(&message).into_owned();
            if line.starts_with("MSG ") || line.starts_with("HMSG ") {
                let payload: usize = line.split_whitespace().next_back().unwrap().parse().unwrap();
                let begin = message.len();
                message.resize(begin + payload + 2, 0);
                if from.read_exact(&mut message[begin..]).is_err() {
                    break;
                }
            }
            self.wait();
            // Only a delivery of a consumer has a place to be acknowledged at.
            let lost = line.contains(" $JS.ACK.") && self.loses();
            if !lost && to.write_all(&message).is_err() {
                break;
            }
            message.clear();
        }
        let _ = to.shutdown(Shutdown::Both);
    }

    fn loses(&self) -> bool {
        let (number, every) = (1 + self.deliveries.fetch_add(1, Ordering::Relaxed), self.lose_every.load(Ordering::Relaxed));
        let lost = every > 0 && number % every == 0;
        self.lost.fetch_add(u64::from(lost), Ordering::Relaxed);
        lost
    }

    fn wait(&self) {
        while self.silent.load(Ordering::Relaxed) && !self.ended.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
    }
}
