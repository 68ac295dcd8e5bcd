//! The source: opens journal and server, reads the one and ends the other.
//!
//! Owns: the order of opening and of stopping.
//! Does not own: what is answered (see `routes`), what is read (see `chunks`).

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pintail_core::batch::Chunk;
use pintail_core::breaker::WhenRejected;
use pintail_core::error::{Error, Result};
use pintail_core::offsets::{Offsets, Partition, PartitionId};
use pintail_server::{Further, Limits, tls};
use pintail_storage::checkpoint::lock::{self, Seen};
use pintail_storage::durable::posix::Posix;
use pintail_storage::journal::Journal;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use super::chunks::Chunks;
use super::config::HttpConfig;
use super::config::{NAME, journal_committed};
use super::meter::PushMeter;
use super::routes::{self, Intake};
use crate::kind::Surroundings;
use crate::meters::SourceMeters;
use crate::thread::ReadThread;
use crate::{Resume, Source};

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

impl HttpSource {
    /// Opens the journal and begins to listen. Inside a runtime.
    ///
    /// # Errors
    /// As [`Journal::open`]; [`pintail_core::error::ErrorKind::TryAgain`] if the address is taken, `Config` if it or the certificate is no good.
    pub fn open(http: &HttpConfig, around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Self> {
        let offsets = resume.offsets;
        // First what is wrong without a look at the disk.
        let acceptor = acceptor(http)?;
        let listener = pintail_server::listen("source.listen", http.listen, "")?;
        let partition = Arc::new(Partition { id: PartitionId::new(NAME), label: NAME.into() });
        let committed = journal_committed(offsets);
        let next = committed.offset.unwrap_or(0);
        let unsaid = committed.offset.is_some() && committed.evidence.is_none();
        let settings = http.journal_settings(around, resume.key);
        // It does not wait for room on a full disk: the clients are told, and keep what they have.
        let journal = Journal::open(Arc::new(Posix::unwaiting()), settings, committed)?;
        let schema = around.schema.clone();
        let chunks = Chunks::new(journal.reader(next), partition.clone(), around.record_bytes_max, schema, resume.key.clone());
        let accepted = unsaid.then(|| chunks.accepted(next));
        let thread = ReadThread::spawn(NAME, move |sender| {
            accepted.into_iter().try_for_each(|chunk| sender.send(chunk))?;
            chunks.run(sender)
        })?;
        let meter = Arc::new(PushMeter::new(journal.clone(), http.journal_bytes_max));
        let address = listener.local_addr().map_err(|e| Error::io("listen for the HTTP source", e))?;
        let intake = Intake::new(http, around, address, journal.clone(), meter.clone());
        info!(%address, tls = acceptor.is_some(), token = !http.tokens.is_empty(), backlog = journal.end() - next, "HTTP source listens");
        let server = Server::start(listener, intake, acceptor, http);
        Ok(Self { journal, thread, partition: partition.id.clone(), next, server: Some(server), meter })
    }

    /// Checks that it could be opened now: the certificate, and unless a service runs, which has the address and writes the journal, these too.
    pub fn check(http: &HttpConfig, around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<()> {
        acceptor(http)?;
        if matches!(lock::look(around.out_path), Ok(Seen::Held { .. })) {
            return Ok(());
        }
        pintail_server::listen("source.listen", http.listen, "")?;
        if around.dataset_id.is_empty() {
            return Ok(());
        }
        Journal::check(&Posix::unwaiting(), &http.journal_settings(around, resume.key), &journal_committed(resume.offsets))
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

    fn meters(&self) -> SourceMeters {
        SourceMeters { reading: Some(self.thread.work()), figures: self.meter.figures(), ..SourceMeters::default() }
    }
}

fn acceptor(http: &HttpConfig) -> Result<Option<TlsAcceptor>> {
    http.tls.as_ref().map(|files| tls::acceptor(&files.cert_file, &files.key_file)).transpose()
}
