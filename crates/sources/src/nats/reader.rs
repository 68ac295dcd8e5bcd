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
use pintail_core::batch::{Chunk, OffsetUnit, Records};
use pintail_core::error::{Error, Result};
use pintail_core::evidence::{Evidence, Key};
use pintail_core::invocation::service_command;
use pintail_core::offsets::{Note, NoteKind, OffsetRange};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::check::{Begins, Checked, Messages, Restored, Standing, check, found, standing};
use super::config::NatsConfig;
use super::connect::{Connection, Failure};
use super::history::{History, nothing};
use super::intake::Intake;
use super::position::{Found, Gap, Observed, Position, Positions};
use super::session::{Session, observed};
use super::source::Shared;
use super::unreadable;
use crate::OnGap;
use crate::messages::Remember;

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
    /// The sequence at which the last session began.
    pub(super) begun_at: Option<u64>,
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
            warn!(stream = self.config.stream, reason, "source unavailable, retrying");
            self.warned = Some(reason);
        }
        sleep(self.pause).await;
        self.pause = (2 * self.pause).min(PAUSE_MAX);
    }

    /// Takes up that the session is of use.
    pub(super) fn succeed(&mut self) {
        self.shared.trouble.send_if_modified(|trouble| trouble.take().is_some());
        if self.warned.take().is_some() {
            info!(stream = self.config.stream, "source available again");
        }
        self.pause = PAUSE_MIN;
    }

    async fn try_begin(&mut self) -> Result<(Session, Position), Failure> {
        let connection = Connection::open(&self.config).await?;
        let stream = connection.stream(&self.config).await?;
        let info = stream.cached_info();
        let mut position = self.resume(&connection, info).await?;
        if self.begun_at.replace(position.next) == Some(position.next) {
            // The session before this one got nowhere: because nothing has come, or because of what comes next.
            let messages = Messages { connection: &connection, stream: &self.config.stream.clone() };
            position = unreadable::pass(self, &messages, info.config.retention, position).await?;
        }
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
        self.tell(&behind, position.next, Some(note)).await;
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
        // Recorded although it is empty: what comes and goes before it is read is missed then.
        self.tell(&position, next, note).await;
        Ok(position)
    }

    /// Looks whether what was read stands before a position, or what was read of an earlier generation.
    async fn go_on(&mut self, connection: &Connection, observed: &Observed, position: Position) -> Result<Position, Failure> {
        let (key, next, stream) = (self.key.clone(), position.next, self.config.stream.clone());
        let messages = Messages { connection, stream: &stream };
        let evidence = position.evidence.clone().unwrap_or_default();
        let checked = check(&messages, observed, next, &evidence, self.config.subject.as_deref(), &key).await?;
        let surely = if let Checked::Other(restored) = &checked { restored.common + 1 } else { next };
        let (position, note) = match (checked, self.earlier(&messages, observed, &position, surely).await?) {
            (Checked::Other(restored), (Some(earlier), _)) => {
                let restored = Restored { next: earlier.next, begins: Begins::Known, ..restored };
                (self.positions.going_on(&position, &earlier), self.meet_other(restored, next)?)
            }
            (Checked::Other(restored), (None, Some(earlier))) if earlier.next < restored.next => {
                let evidence = earlier.evidence.unwrap_or_default();
                let restored = Restored { next: earlier.next, begins: Begins::Somewhere, evidence, ..restored };
                (self.positions.behind(&position, restored.next, restored.evidence.clone()), self.meet_other(restored, next)?)
            }
            (Checked::Other(restored), _) => {
                (self.positions.behind(&position, restored.next, restored.evidence.clone()), self.meet_other(restored, next)?)
            }
            (_, (Some(earlier), _)) => {
                let text = format!(
                    "the stream `{stream}` is again what was read up to sequence {} before an older state of it was restored: reading goes on \
                     there instead of at {next}",
                    earlier.next - 1
                );
                (self.positions.going_on(&position, &earlier), remark(NoteKind::Moved, text))
            }
            (Checked::Same, _) if position.evidence.is_some() => return Ok(position),
            (Checked::Same, _) => {
                let evidence = Some(found(&messages, next, &key).await?.into());
                let text = format!("the position {next} in the stream `{stream}` has no evidence yet: accepted");
                (Position { evidence, ..position }, remark(NoteKind::Accepted, text))
            }
            (Checked::CannotBeSeen(evidence), _) => {
                let text =
                    format!("of what was read last before {next}, the stream `{stream}` has nothing any more, and nothing contradicts it");
                (Position { evidence: Some(evidence.into()), ..position }, remark(NoteKind::CannotBeSeen, text))
            }
        };
        self.tell(&position, position.next, Some(note)).await;
        Ok(position)
    }

    fn meet_other(&self, restored: Restored, next: u64) -> Result<Note, Failure> {
        self.meet(&Gap::PutBack { restored, next }).map_err(Failure::Refused)
    }

    /// Looks at the earlier generations that were read further than `surely`. Returns the position farthest on of those whose last message surely
    /// stands in the stream again; and the one least far on of those that it may be, since their messages are gone: behind it lies what nobody
    /// has read, if it is that one.
    async fn earlier(
        &self,
        messages: &Messages<'_>,
        observed: &Observed,
        position: &Position,
        surely: u64,
    ) -> Result<(Option<Position>, Option<Position>), Failure> {
        let (mut standing_again, mut possible): (Option<Position>, Option<Position>) = (None, None);
        for earlier in self.positions.earlier(position).into_iter().filter(|earlier| earlier.next > surely) {
            match standing(messages, observed, &earlier, &self.key).await? {
                Standing::Surely if standing_again.as_ref().is_none_or(|known| known.next < earlier.next) => standing_again = Some(earlier),
                Standing::Possibly if possible.as_ref().is_none_or(|known| known.next > earlier.next) => possible = Some(earlier),
                Standing::Surely | Standing::Possibly | Standing::Not => {}
            }
        }
        Ok((standing_again, possible))
    }

    /// Hands on what was found out of a partition from a sequence up to a position: it is said once, and belongs in the next record.
    async fn tell(&mut self, position: &Position, from: u64, note: Option<Note>) {
        let range = OffsetRange::new(position.partition.clone(), from, position.next);
        let range = OffsetRange { evidence: position.evidence.clone(), notes: note.into_iter().collect(), ..range };
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
                service_command("run --accept")
            ))),
            OnGap::Record => {
                let text = format!("the stream `{stream}` {gap}: going on with what is there");
                // Under a filter, what was removed may have been others'.
                let lost = gap.lost().filter(|_| self.config.subject.is_none());
                warn!(lost, "{text}");
                Ok(Note { kind: NoteKind::Gap, text, lost })
            }
        }
    }
}

/// Says what is no fault.
fn remark(kind: NoteKind, text: String) -> Note {
    info!("{text}");
    Note { kind, text, lost: None }
}
