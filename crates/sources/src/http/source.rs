//! The source: opens journal and server, reads the one and ends the other.
//!
//! Owns: the order of opening and of stopping.
//! Does not own: what is answered (see `routes`), what is read (see `chunks`).

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pintail_core::batch::Chunk;
use pintail_core::breaker::WhenRejected;
use pintail_core::clock::Clock;
use pintail_core::error::{Error, Result};
use pintail_core::evidence::Key;
use pintail_core::identity::SourceIdentity;
use pintail_core::offsets::{Offsets, Partition, PartitionId};
use pintail_core::schema::EventSchema;
use pintail_server::{Further, Limits, tls};
use pintail_storage::checkpoint::lock::{self, Seen};
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::durable::posix::Posix;
use pintail_storage::journal::time::Machine;
use pintail_storage::journal::{Committed, Journal, Settings};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use super::chunks::Chunks;
use super::config::HttpConfig;
use super::meter::PushMeter;
use super::routes::{self, Intake};
use crate::thread::ReadThread;
use crate::{Resume, Source};

/// The only partition, and the kind in the identity.
const NAME: &str = "http";

/// Requests that wait for the journal's thread: it takes up to a thousand at once.
const QUEUE: usize = 1024;
/// Size of a segment, unless the journal is small: what is committed goes in pieces of this size.
const SEGMENT_BYTES: u64 = 64 << 20;
/// The least size: below it, there would be a new file for every few requests.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Time for a client to take anything of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Bytes of a body read at a time.
const READ_BYTES_MAX: usize = 256 << 10;
/// Time for requests that are under way at the end. A part of the 8 s that a stop has.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// Time at the end for what is journaled and not read yet; what takes longer is read at the next start.
const LAST_READS: Duration = Duration::from_millis(500);
/// Bytes of those reads: they are held in memory until the line takes them.
const LAST_READS_BYTES_MAX: usize = 16 << 20;

/// Records that clients push.
pub struct HttpSource {
    journal: Journal,
    thread: ReadThread,
    partition: PartitionId,
    /// Where the next chunk begins.
    next: u64,
    server: Option<Server>,
    meter: Arc<PushMeter>,
}

/// The running server. It ends when this is dropped.
struct Server {
    stop: watch::Sender<bool>,
    ended: JoinHandle<()>,
}

/// What the source is opened with.
#[derive(Debug)]
pub struct Opening<'a> {
    /// Its own settings.
    pub http: &'a HttpConfig,
    /// The dataset's directory, which the journal lies in. Its lock is held.
    pub out_path: &'a Path,
    /// The dataset that the journal belongs to.
    pub dataset_id: &'a str,
    /// The columns of the events, which pushed Arrow data is held against.
    pub schema: &'a EventSchema,
    /// Bytes of a record.
    pub record_bytes_max: usize,
    /// Bodies that are cut into records at the same time.
    pub cores: usize,
    /// Time between checkpoints, after which the journal has room again.
    pub checkpoint_interval: Duration,
}

impl HttpSource {
    /// Opens the journal and begins to listen. Inside a runtime.
    ///
    /// # Errors
    /// As [`Journal::open`]; [`pintail_core::error::ErrorKind::TryAgain`] if the address is taken, `Config` if it or the certificate is no good.
    pub fn open(opening: &Opening<'_>, resume: &Resume<'_>) -> Result<Self> {
        let offsets = resume.offsets;
        let http = opening.http;
        // First what is wrong without a look at the disk.
        let acceptor = acceptor(http)?;
        let listener = listen(http)?;
        let partition = Arc::new(Partition { id: PartitionId::new(NAME), label: NAME.into() });
        let committed = journal_committed(offsets);
        let next = committed.offset.unwrap_or(0);
        let unsaid = committed.offset.is_some() && committed.evidence.is_none();
        let settings = journal_settings(opening.out_path, http, opening.dataset_id, resume.key);
        // It does not wait for room on a full disk: the clients are told, and keep what they have.
        let journal = Journal::open(Arc::new(Posix::unwaiting()), settings, committed)?;
        let schema = opening.schema.clone();
        let chunks = Chunks::new(journal.reader(next), partition.clone(), opening.record_bytes_max, schema, resume.key.clone());
        let accepted = unsaid.then(|| chunks.accepted(next));
        let thread = ReadThread::spawn(NAME, move |sender| {
            accepted.into_iter().try_for_each(|chunk| sender.send(chunk))?;
            chunks.run(sender)
        })?;
        let meter = Arc::new(PushMeter::new(journal.clone(), http.journal_bytes_max));
        let address = listener.local_addr().map_err(|e| Error::io("listen for the HTTP source", e))?;
        let intake = Intake::new(opening, address, journal.clone(), meter.clone());
        info!(%address, tls = acceptor.is_some(), token = !http.tokens.is_empty(), backlog = journal.end() - next, "HTTP source listens");
        let server = Server::start(listener, intake, acceptor, http);
        Ok(Self { journal, thread, partition: partition.id.clone(), next, server: Some(server), meter })
    }

    /// Returns what makes offsets comparable: nothing but the kind. The journal itself holds the dataset's id.
    pub fn identity() -> SourceIdentity {
        SourceIdentity { kind: NAME.to_owned(), properties: Default::default() }
    }

    /// Checks that it could be opened now: the certificate, and the address unless a running service has it.
    pub fn check(http: &HttpConfig, out_path: &Path) -> Result<()> {
        acceptor(http)?;
        match listen(http) {
            Err(_) if matches!(lock::look(out_path), Ok(Seen::Held { .. })) => Ok(()),
            listening => listening.map(drop),
        }
    }

    /// Reads what is journaled, for a moment.
    async fn last_reads(&mut self) -> Result<Vec<Chunk>> {
        let deadline = Instant::now() + LAST_READS;
        let (mut chunks, mut bytes) = (Vec::new(), 0);
        while self.next < self.journal.end() && bytes < LAST_READS_BYTES_MAX {
            let Ok(read) = timeout_at(deadline, self.read()).await else { break };
            let Some(chunk) = read? else { break };
            bytes += chunk.bytes();
            chunks.push(chunk);
        }
        Ok(chunks)
    }
}

impl Server {
    fn start(listener: TcpListener, intake: Intake, tls: Option<TlsAcceptor>, http: &HttpConfig) -> Self {
        let limits = Limits {
            name: "HTTP source",
            connections_max: http.connections_max,
            // A client that comes while all others are being served waits for the first that is.
            further: Further::Wait,
            head_timeout: http.idle_timeout,
            write_timeout: WRITE_TIMEOUT,
            head_bytes_max: HEAD_BYTES_MAX,
            read_bytes_max: READ_BYTES_MAX,
            stop_grace: STOP_GRACE,
        };
        let (stop, stopped) = watch::channel(false);
        let router = routes::router(Arc::new(intake));
        let ended = tokio::spawn(async move {
            if let Err(error) = pintail_server::serve(listener, router, tls, limits, stopped).await {
                warn!(%error, "the HTTP source has ended");
            }
        });
        Self { stop, ended }
    }

    /// Accepts nothing more, and waits until what is under way is answered.
    async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.ended.await;
    }
}

#[async_trait]
impl Source for HttpSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let chunk = self.thread.recv().await?;
        if let Some(chunk) = &chunk {
            self.next = chunk.range.to;
        }
        Ok(chunk)
    }

    async fn stop(&mut self) -> Result<Vec<Chunk>> {
        if let Some(server) = self.server.take() {
            server.stop().await;
            self.journal.close().await;
        }
        self.last_reads().await
    }

    async fn committed(&mut self, offsets: &Offsets) -> Result<()> {
        match offsets.next_offset(&self.partition) {
            Some(committed) => self.journal.release(committed).await,
            None => Ok(()),
        }
    }

    fn remaining(&self) -> Option<u64> {
        Some(self.journal.end().saturating_sub(self.next))
    }

    fn when_rejected(&self) -> WhenRejected {
        WhenRejected::Pause
    }

    fn work(&self) -> Option<Arc<Clock>> {
        Some(self.thread.work())
    }

    fn pushed(&self) -> Option<Arc<PushMeter>> {
        Some(self.meter.clone())
    }
}

/// Returns what the commit records say of the journal.
pub fn journal_committed(offsets: &Offsets) -> Committed {
    let partition = PartitionId::new(NAME);
    Committed { offset: offsets.next_offset(&partition), evidence: offsets.evidence(&partition).cloned() }
}

/// Returns the settings of the journal of a dataset.
pub fn journal_settings(out_path: &Path, http: &HttpConfig, dataset_id: &str, key: &Key) -> Settings {
    // The least of the journal's own limits, with room for some segments.
    let keys = 2 * (http.keys_max * pintail_storage::journal::frame::HEADER) as u64;
    let segment_bytes = (http.journal_bytes_max.saturating_sub(keys) / 8).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES);
    Settings {
        dir: Paths::new(out_path).journal(),
        dataset_id: dataset_id.to_owned(),
        segment_bytes,
        bytes_max: http.journal_bytes_max,
        key_ttl: http.key_ttl,
        keys_max: http.keys_max,
        queue: QUEUE,
        key: key.clone(),
        clocks: Arc::new(Machine::default()),
    }
}

fn acceptor(http: &HttpConfig) -> Result<Option<TlsAcceptor>> {
    http.tls.as_ref().map(|files| tls::acceptor(&files.cert_file, &files.key_file)).transpose()
}

fn listen(http: &HttpConfig) -> Result<TcpListener> {
    let address = http.listen;
    let bound = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            Error::try_again(format!("`source.listen` = \"{address}\" is taken by another process: choose another port"))
        }
        _ => Error::config(format!("`source.listen` = \"{address}\" cannot be listened on: {error}")),
    })
}
