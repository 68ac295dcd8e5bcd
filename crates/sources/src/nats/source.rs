//! The source: the task that reads, what is acknowledged and when, the look at the server for `pintail check`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::stream::RetentionPolicy;
use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use pintail_core::batch::Chunk;
use pintail_core::breaker::WhenRejected;
use pintail_core::error::{Error, Result};
use pintail_core::offsets::Offsets;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::acks::{ACK, Acks, IN_PROGRESS, reply_all};
use super::config::NatsConfig;
use super::connect::{Connection, Failure, check_files};
use super::position::Positions;
use super::reader::Reader;
use super::session::{Line, observed};
use super::subject;
use crate::flood::Flood;
use crate::meters::SourceMeters;
use crate::reach::Reach;
use crate::{Resume, Source};

/// Chunks that wait for the producer. Two keep the reader at work while one is handled.
const CHUNKS_WAITING: usize = 2;

/// Time for acknowledgements to reach the server. Those that do not are made up for when the message is delivered again.
const ACK_PATIENCE: Duration = Duration::from_secs(2);

/// A delivery that waits longer for its commit is in danger of being delivered again: a third of the least time after which the server does so.
const LONG_WAIT: Duration = Duration::from_secs(20);

/// The lag before the server was asked.
const UNKNOWN: u64 = u64::MAX;

/// A stream of NATS JetStream, read by a task of its own.
#[derive(Debug)]
pub struct NatsSource {
    chunks: mpsc::Receiver<Result<Chunk>>,
    stop: watch::Sender<bool>,
    shared: Arc<Shared>,
    trouble: watch::Receiver<Option<String>>,
    task: AbortHandle,
    waiting: AbortHandle,
}

/// What the task and the source both look at.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) acks: Mutex<Acks>,
    /// The connection that acknowledges; `None` while there is none.
    pub(super) client: Mutex<Option<async_nats::Client>>,
    /// Messages that are not read yet.
    pub(super) lag: AtomicU64,
}

impl Shared {
    pub(super) fn acks(&self) -> MutexGuard<'_, Acks> {
        self.acks.lock()
    }

    pub(super) fn client(&self) -> Option<async_nats::Client> {
        self.client.lock().clone()
    }

    pub(super) fn set_client(&self, client: Option<async_nats::Client>) {
        *self.client.lock() = client;
    }
}

impl NatsSource {
    /// Begins to read behind what is committed, as soon as a server can be reached: it need not be there yet. Inside a runtime.
    ///
    /// # Errors
    /// `Config` if a file of the configuration cannot be read; `State` if the offsets are of something else. What the server shows
    /// (a refused login, a stream that was purged, restored or made again) comes from [`Source::read`].
    pub fn open(config: &NatsConfig, line: Line, resume: &Resume<'_>) -> Result<Self> {
        let offsets = resume.offsets;
        check_files(config)?;
        let shared = Arc::new(Shared { acks: Mutex::new(Acks::new(offsets)), client: Mutex::new(None), lag: AtomicU64::new(UNKNOWN) });
        let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
        let stop = watch::Sender::new(false);
        let (reach, trouble) = Reach::new(config.stream.clone());
        let reader = reader(config, line, resume, (shared.clone(), sender, stop.subscribe(), reach))?;
        let task = tokio::spawn(reader.run()).abort_handle();
        let waiting = tokio::spawn(keep_waiting(shared.clone())).abort_handle();
        Ok(Self { chunks, stop, shared, trouble, task, waiting })
    }

    /// Connects once and says what is there. Makes no consumer. Outside a runtime.
    ///
    /// # Errors
    /// `TryAgain` if the server cannot be reached, `Config` if it refuses the login or does not have the stream, `State` if the stream is not what was
    /// read and `source.on_gap` refuses that.
    pub fn probe(config: &NatsConfig, line: Line, resume: &Resume<'_>) -> Result<String> {
        check_files(config)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| Error::io("start the runtime", e))?;
        let offsets = resume.offsets;
        let shared = Arc::new(Shared { acks: Mutex::new(Acks::new(offsets)), client: Mutex::new(None), lag: AtomicU64::new(UNKNOWN) });
        // Nobody takes what it finds out.
        let (sender, _) = mpsc::channel(CHUNKS_WAITING);
        let stop = watch::Sender::new(false);
        let (reach, _) = Reach::new(config.stream.clone());
        let mut reader = reader(config, line, resume, (shared, sender, stop.subscribe(), reach))?;
        runtime.block_on(probe(config, &mut reader)).map_err(|failure| match failure {
            Failure::Refused(error) => error,
            Failure::Login(reason) => Error::config(reason),
            Failure::Passing(reason) => Error::try_again(reason),
        })
    }
}

/// Asks the server to wait longer for what a full disk or a pause keeps from being committed: what it delivers again costs its bytes once more.
async fn keep_waiting(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(LONG_WAIT);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let replies = shared.acks().long_waiting();
        if let Some(client) = shared.client().filter(|_| !replies.is_empty()) {
            let _ = tokio::time::timeout(ACK_PATIENCE, reply_all(&client, replies, IN_PROGRESS)).await;
        }
    }
}

/// What a reader shares with its source: what both look at, where chunks go, the stop, whether the server can be reached.
type Ends = (Arc<Shared>, mpsc::Sender<Result<Chunk>>, watch::Receiver<bool>, Reach);

fn reader(config: &NatsConfig, line: Line, resume: &Resume<'_>, (shared, chunks, stop, reach): Ends) -> Result<Reader> {
    Ok(Reader {
        config: config.clone(),
        line,
        key: resume.key.clone(),
        positions: Positions::new(&config.stream, resume.offsets)?,
        shared,
        chunks,
        stop,
        begun_at: None,
        unreadable: Flood::default(),
        reach,
    })
}

async fn probe(config: &NatsConfig, reader: &mut Reader) -> Result<String, Failure> {
    let connection = Connection::open(config).await?;
    // The server is there: what it has not is a matter of the configuration.
    let stream = connection.stream(config).await.map_err(|failure| match failure {
        Failure::Passing(reason) | Failure::Login(reason) => Failure::Refused(Error::config(reason)),
        refused @ Failure::Refused(_) => refused,
    })?;
    let info = stream.cached_info();
    if let Some(subject) = &config.subject
        && !info.config.subjects.is_empty()
        && !info.config.subjects.iter().any(|of_stream| subject::overlap(subject, of_stream))
    {
        let of_stream = info.config.subjects.join("`, `");
        let why = format!("`source.subject`: the stream `{}` has nothing of `{subject}`: its subjects are `{of_stream}`", config.stream);
        return Err(Failure::Refused(Error::config(why)));
    }
    reader.resume(&connection, info).await?;
    let seen = observed(info);
    let retention = match info.config.retention {
        RetentionPolicy::Limits => "limits",
        RetentionPolicy::Interest => "interest",
        RetentionPolicy::WorkQueue => "work queue",
    };
    let messages = match info.state.messages {
        0 => "no messages".to_owned(),
        count => format!("{count} messages, sequence {} to {}", seen.first, seen.last),
    };
    let version = connection.client.server_info().version;
    let subjects = info.config.subjects.join(", ");
    Ok(format!("stream `{}` ({subjects}) on nats-server {version}: {messages}; retention: {retention}", config.stream))
}

#[async_trait]
impl Source for NatsSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        match self.chunks.recv().await {
            Some(chunk) => chunk.map(Some),
            None => Err(Error::internal("the reader of the source `nats` has ended")),
        }
    }

    async fn stop(&mut self) -> Result<Vec<Chunk>> {
        self.stop.send_replace(true);
        self.chunks.close();
        while self.chunks.try_recv().is_ok() {}
        Ok(Vec::new())
    }

    async fn committed(&mut self, offsets: &Offsets) -> Result<()> {
        let replies = self.shared.acks().commit(offsets);
        let client = self.shared.client();
        if let Some(client) = client.filter(|_| !replies.is_empty()) {
            let _ = tokio::time::timeout(ACK_PATIENCE, reply_all(&client, replies, ACK)).await;
        }
        Ok(())
    }

    fn when_rejected(&self) -> WhenRejected {
        WhenRejected::Pause
    }

    /// Returns the messages of the stream, of the subjects that are read, which are not read yet.
    fn remaining(&self) -> Option<u64> {
        Some(self.shared.lag.load(Ordering::Relaxed)).filter(|lag| *lag != UNKNOWN)
    }

    fn meters(&self) -> SourceMeters {
        SourceMeters { trouble: Some(self.trouble.clone()), ..SourceMeters::default() }
    }
}

impl Drop for NatsSource {
    fn drop(&mut self) {
        self.task.abort();
        self.waiting.abort();
    }
}
