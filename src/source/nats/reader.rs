//! Reader: one session after another.
//!
//! Owns: beginning again when a session is lost (with a growing pause, and a warning when the reason changes), what a gap leads to, and saying what
//! was found out before a session.
//! Does not own: consumers (see `session`), what comes out of them (see `intake`), what a position may be (see `position`), whether it holds
//! (see `check`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::stream::{Info, RetentionPolicy};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::Shared;
use super::check::{Checked, Messages, check, found};
use super::connect::{Connection, Failure};
use super::history::{History, nothing};
use super::intake::Intake;
use super::position::{Found, Gap, Observed, Position, Positions};
use super::session::{Session, observed};
use crate::batch::{Chunk, OffsetUnit, Records};
use crate::config::{NatsConfig, OnGap};
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Key};
use crate::invocation::command;
use crate::offsets::{Note, NoteKind, OffsetRange};
use crate::source::messages::Beside;

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
    /// What evidence is made with.
    pub(super) key: Key,
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
            let (session, position) = self.begin().await?;
            match Intake::run(self, session, position).await {
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
    async fn begin(&mut self) -> Result<(Session, Position)> {
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

    async fn try_begin(&mut self) -> Result<(Session, Position), Failure> {
        let connection = Connection::open(&self.config).await?;
        let stream = connection.stream(&self.config).await?;
        let info = stream.cached_info();
        let position = self.resume(&connection, info).await?;
        let committed = self.shared.acks().begin(&position.partition.id, info.config.retention == RetentionPolicy::Interest);
        self.shared.set_client(Some(connection.client.clone()));
        let session = Session::begin(connection, stream, &self.config, &position, committed, self.checkpoint_interval).await?;
        Ok((session, position))
    }

    /// Finds where reading goes on in a stream, before a consumer is made: what that acknowledges is gone.
    async fn resume(&mut self, connection: &Connection, info: &Info) -> Result<Position, Failure> {
        let observed = observed(info);
        let position = match self.positions.find(&observed) {
            Found::New { created, gap } => self.begin_stream(&created, gap, &observed).await?,
            Found::Known(position) => self.go_on(connection, &observed, position).await?,
        };
        let begin = observed.begin();
        // Where others acknowledge what we do not read, the stream begins behind our position as a matter of course.
        let of_others = info.config.retention != RetentionPolicy::Limits && self.config.subject.is_some();
        if of_others || begin <= position.next {
            return Ok(position);
        }
        let note = self.meet(&Gap::Removed { from: position.next, to: begin }).map_err(Failure::Refused)?;
        let mut history = History::new(self.key.clone(), position.evidence);
        history.pass(nothing(&self.key, begin - 1, None));
        let behind = Position { next: begin, evidence: history.evidence(begin), ..position };
        self.tell(&behind, position.next, note).await;
        Ok(behind)
    }

    /// Begins a stream that is not known.
    async fn begin_stream(&mut self, created: &str, gap: Option<Gap>, observed: &Observed) -> Result<Position, Failure> {
        let note = gap.map(|gap| self.meet(&gap)).transpose().map_err(Failure::Refused)?;
        let next = observed.begin();
        // An older state might bring back what is gone.
        let before = (next > 1).then(|| nothing(&self.key, next - 1, None));
        let evidence = Evidence { witnesses: before.into_iter().collect(), ..Evidence::default() };
        let position = self.positions.first(created, next, evidence);
        if let Some(note) = note {
            self.tell(&position, next, note).await;
        }
        Ok(position)
    }

    /// Looks whether what was read stands before a position.
    async fn go_on(&mut self, connection: &Connection, observed: &Observed, position: Position) -> Result<Position, Failure> {
        let (key, next) = (self.key.clone(), position.next);
        let messages = Messages { connection, stream: &self.config.stream };
        let evidence = position.evidence.clone().unwrap_or_default();
        let (position, note) = match check(&messages, observed, next, &evidence, self.config.subject.as_deref(), &key).await? {
            Checked::Same if position.evidence.is_some() => return Ok(position),
            Checked::Same => {
                let evidence = Some(found(&messages, next, &key).await?.into());
                let text = format!("the position {next} in the stream `{}` has no evidence yet: accepted", self.config.stream);
                (Position { evidence, ..position }, remark(NoteKind::Accepted, text))
            }
            Checked::CannotBeSeen(evidence) => {
                let stream = &self.config.stream;
                let text =
                    format!("of what was read last before {next}, the stream `{stream}` has nothing any more, and nothing contradicts it");
                (Position { evidence: Some(evidence.into()), ..position }, remark(NoteKind::CannotBeSeen, text))
            }
            Checked::Other(restored) => {
                let behind = self.positions.behind(&position, &restored);
                (behind, self.meet(&Gap::PutBack { restored, next }).map_err(Failure::Refused)?)
            }
        };
        self.tell(&position, position.next, note).await;
        Ok(position)
    }

    /// Hands on what was found out of a partition from a sequence up to a position: it is said once, and belongs in the next record.
    async fn tell(&mut self, position: &Position, from: u64, note: Note) {
        let range = OffsetRange::new(position.partition.clone(), from, position.next).with_note(note);
        let range = OffsetRange { evidence: position.evidence.clone(), ..range };
        self.positions.keep(&range);
        // Nobody takes it once the source is stopped; it is found out again at the next start.
        let _ = self.chunks.send(Ok(Chunk::new(Records::Lines(Bytes::new()), range, OffsetUnit::Records))).await;
    }

    /// Refuses a gap, or returns what is noted of it.
    pub(super) fn meet(&self, gap: &Gap) -> Result<Note> {
        let stream = &self.config.stream;
        match self.config.on_gap {
            OnGap::Refuse => Err(Error::state(format!(
                "the stream `{stream}` {gap}: refusing to go on; set `source.on_gap = \"record\"`, or start once with {}, to go on with what \
                 is there",
                command("run --accept")
            ))),
            OnGap::Record => {
                let text = format!("the stream `{stream}` {gap}: going on with what is there");
                warn!(lost = gap.lost(), "{text}");
                Ok(Note { kind: NoteKind::Gap, text, lost: gap.lost() })
            }
        }
    }
}

/// Says what is no fault.
fn remark(kind: NoteKind, text: String) -> Note {
    info!("{text}");
    Note { kind, text, lost: None }
}
