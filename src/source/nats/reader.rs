//! Reader: one session after another.
//!
//! Owns: beginning again when a session is lost (with a growing pause, and a warning when the reason changes), what a gap leads to.
//! Does not own: consumers (see `session`), what comes out of them (see `intake`), what a position may be (see `position`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::stream::RetentionPolicy;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::Shared;
use super::connect::{Connection, Failure};
use super::intake::Intake;
use super::position::{Gap, Position, Positions};
use super::session::{Session, observed};
use crate::batch::Chunk;
use crate::config::{NatsConfig, OnGap};
use crate::error::{Error, Result};

/// The pause after a failure doubles from the shortest, which means that all is well, to the longest.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Why reading ends.
pub(super) enum Exit {
    /// The session is over, for this reason: the next one goes on.
    Lost(String),
    /// No more is to be read.
    Unwanted,
    /// It must not go on.
    Failed(Error),
}

impl From<Error> for Exit {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The task that reads.
pub(super) struct Reader {
    pub(super) config: NatsConfig,
    pub(super) checkpoint_interval: Duration,
    pub(super) record_bytes_max: usize,
    pub(super) positions: Positions,
    pub(super) shared: Arc<Shared>,
    pub(super) chunks: mpsc::Sender<Result<Chunk>>,
    /// Turns true when no more is to be read, and acknowledgements are all that is left.
    pub(super) stop: watch::Receiver<bool>,
    /// Time to wait after the next failure.
    pub(super) pause: Duration,
    /// The reason that was last warned of, until reading goes on.
    pub(super) warned: Option<String>,
}

impl Reader {
    /// Reads until nobody wants more. An error goes the way of the chunks.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.read().await {
            let _ = self.chunks.send(Err(error)).await;
        }
    }

    async fn read(&mut self) -> Result<()> {
        loop {
            let (session, position, gap) = self.begin().await?;
            match Intake::run(self, session, &position, gap).await {
                // One that was over before it had begun is a failure like any other; another one is simply gone on with.
                Exit::Lost(reason) if self.pause > PAUSE_MIN => self.fail(reason).await,
                Exit::Lost(reason) => {
                    debug!(reason, "the session is over");
                    self.pause = 2 * PAUSE_MIN;
                }
                Exit::Unwanted => unreachable!("a session outlives the reading, for the acknowledgements"),
                Exit::Failed(error) => return Err(error),
            }
            // What is committed meanwhile has nobody to be acknowledged to.
            self.shared.set_client(None);
        }
    }

    /// Begins a session, however long it takes.
    async fn begin(&mut self) -> Result<(Session, Position, Option<Gap>)> {
        loop {
            let failure = match self.try_begin().await {
                Ok(begun) => {
                    self.shared.was_connected.store(true, Ordering::Relaxed);
                    return Ok(begun);
                }
                Err(failure) => failure,
            };
            let reason = match failure {
                Failure::Refused(error) => return Err(error),
                // At the first time it is the configuration; later it is the server that changed, and may change back.
                Failure::Login(reason) if !self.shared.was_connected.load(Ordering::Relaxed) => return Err(Error::config(reason)),
                Failure::Login(reason) | Failure::Passing(reason) => reason,
            };
            self.fail(reason).await;
        }
    }

    /// Waits before the next try. A reason is told once, however many tries fail for it.
    async fn fail(&mut self, reason: String) {
        self.shared.trouble.send_replace(Some(reason.clone()));
        if self.warned.as_ref() != Some(&reason) {
            warn!(stream = self.config.stream, reason, "not reading, trying again");
            self.warned = Some(reason);
        }
        sleep(self.pause).await;
        self.pause = (2 * self.pause).min(PAUSE_MAX);
    }

    /// Takes up that the session is of use.
    pub(super) fn succeed(&mut self) {
        self.shared.trouble.send_if_modified(|trouble| trouble.take().is_some());
        if self.warned.take().is_some() {
            info!(stream = self.config.stream, "reading goes on");
        }
        self.pause = PAUSE_MIN;
    }

    async fn try_begin(&mut self) -> Result<(Session, Position, Option<Gap>), Failure> {
        let connection = Connection::open(&self.config).await?;
        let stream = connection.stream(&self.config).await?;
        let info = stream.cached_info();
        let (position, gap) = self.positions.judge(&observed(info));
        // Where others acknowledge what we do not read, the stream begins behind our position as a matter of course.
        let of_others = info.config.retention != RetentionPolicy::Limits && self.config.subject.is_some();
        let gap = gap.filter(|gap| !(of_others && matches!(gap, Gap::Removed { .. })));
        if let Some(gap) = &gap {
            self.meet(gap).map_err(Failure::Refused)?;
        }
        let committed = self.shared.acks().begin(&position.partition.id, info.config.retention == RetentionPolicy::Interest);
        self.shared.set_client(Some(connection.client.clone()));
        let session = Session::begin(connection, stream, &self.config, &position, committed, self.checkpoint_interval).await?;
        Ok((session, position, gap))
    }

    /// Refuses or records a gap.
    pub(super) fn meet(&self, gap: &Gap) -> Result<()> {
        let stream = &self.config.stream;
        match self.config.on_gap {
            OnGap::Refuse => Err(Error::state(format!(
                "the stream `{stream}` {gap}: refusing to go on; set `source.on_gap = \"record\"` to go on with what is there"
            ))),
            OnGap::Record => {
                warn!(lost = gap.lost(), "the stream `{stream}` {gap}: going on with what is there");
                Ok(())
            }
        }
    }
}
