//! Reader: one session after another.
//!
//! Owns: beginning again when a session is lost, gathering the facts before it begins, carrying out the plan, saying what was found out, and whether
//! messages that are gone were removed unread.
//! Does not own: consumers (see `session`), what comes out of them (see `intake`), what a position may be (see `position`), whether it holds
//! (see `check`) and what that means (see `plan`).

use std::ops::Range;
use std::sync::Arc;

use async_nats::jetstream::stream::{Info, RetentionPolicy};
use pintail_core::batch::{Chunk, OffsetUnit};
use pintail_core::error::{Error, Result};
use pintail_core::evidence::{Evidence, Key};
use pintail_core::offsets::Note;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tracing::debug;

use super::check::{Messages, check, found, standing};
use super::config::NatsConfig;
use super::connect::{Connection, Failure};
use super::history::{History, nothing};
use super::intake::Intake;
use super::plan::{Facts, StreamFinding, plan, surely};
use super::position::{Found, Position, Positions, ShownStream, StreamGap};
use super::session::{Line, Session, observed};
use super::source::Shared;
use super::unreadable;
use crate::flood::Flood;
use crate::messages::Remember;
use crate::reach::Reach;
use crate::resume::carried;

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

impl From<Failure> for Exit {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => Self::Failed(error),
            Failure::Login(reason) | Failure::Passing(reason) => Self::Lost(reason),
        }
    }
}

/// The task that reads.
pub(super) struct Reader {
    pub(super) config: NatsConfig,
    pub(super) line: Line,
    /// What evidence is made with.
    pub(super) key: Key,
    pub(super) positions: Positions,
    pub(super) shared: Arc<Shared>,
    pub(super) chunks: mpsc::Sender<Result<Chunk>>,
    /// Turns true when no more is to be read, and acknowledgements are all that is left.
    pub(super) stop: watch::Receiver<bool>,
    /// The sequence at which the last session began.
    pub(super) begun_at: Option<u64>,
    /// Messages that the client does not take.
    pub(super) unreadable: Flood,
    /// Whether the server can be reached.
    pub(super) reach: Reach,
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
                Exit::Lost(reason) if !self.reach.is_steady() => self.fail(&reason).await,
                Exit::Lost(reason) => {
                    debug!(reason, "the session is over");
                    self.reach.pause();
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
                    self.reach.reached();
                    return Ok(begun);
                }
                Err(failure) => failure,
            };
            let reason = match failure {
                Failure::Refused(error) => return Err(error),
                // At the first time it is the configuration; later it is the server that changed, and may change back.
                Failure::Login(reason) if !self.reach.was_reached() => return Err(Error::config(reason)),
                Failure::Login(reason) | Failure::Passing(reason) => reason,
            };
            self.fail(&reason).await;
        }
    }

    /// Waits before the next try.
    async fn fail(&mut self, reason: &str) {
        self.reach.lost(reason);
        sleep(self.reach.pause()).await;
    }

    /// Records that the session is of use.
    pub(super) fn succeed(&mut self) {
        self.reach.available();
        self.reach.steady();
    }

    async fn try_begin(&mut self) -> Result<(Session, Position), Failure> {
        let connection = Connection::open(&self.config).await?;
        let stream = connection.stream(&self.config).await?;
        let info = stream.cached_info();
        let mut position = self.resume(&connection, info).await?;
        if self.begun_at.replace(position.next) == Some(position.next) {
            // The session before this one got nowhere: because nothing has come, or because of what comes next.
            position = unreadable::pass(self, &connection, &stream, position).await?;
        }
        let committed = self.shared.acks().begin(&position.partition.id, info.config.retention == RetentionPolicy::Interest);
        self.shared.set_client(Some(connection.client.clone()));
        let session = Session::begin(connection, stream, &self.config, &position, committed, self.line).await?;
        Ok((session, position))
    }

    /// Finds where reading goes on in a stream, before a consumer is made: what that acknowledges is gone.
    pub(super) async fn resume(&mut self, connection: &Connection, info: &Info) -> Result<Position, Failure> {
        let observed = observed(info);
        let position = match self.positions.find(&observed) {
            Found::New { created, gap } => self.begin_stream(&created, gap, &observed).await?,
            Found::Known(position) => self.go_on(connection, &observed, position).await?,
        };
        self.pass_removed(info, position).await
    }

    /// Moves a position to where the stream begins, if that is behind it because messages were removed unread.
    pub(super) async fn pass_removed(&mut self, info: &Info, position: Position) -> Result<Position, Failure> {
        let met = self.meet_removal(info, position.next..u64::MAX).map_err(Failure::Refused)?;
        let Some((begin, note)) = met else { return Ok(position) };
        let mut history = History::new(self.key.clone(), position.evidence);
        history.pass(nothing(&self.key, begin - 1, None));
        let behind = Position { next: begin, evidence: history.evidence(begin), ..position };
        self.tell(&behind, position.next, Some(note)).await;
        Ok(behind)
    }

    /// Begins a stream that is not known.
    async fn begin_stream(&mut self, created: &str, gap: Option<StreamGap>, observed: &ShownStream) -> Result<Position, Failure> {
        let note = gap.map(|gap| self.meet_gap(gap)).transpose().map_err(Failure::Refused)?;
        let next = observed.begin();
        // An older state might bring back what is gone.
        let before = (next > 1).then(|| nothing(&self.key, next - 1, None));
        let evidence = Evidence { witnesses: before.into_iter().collect(), ..Evidence::default() };
        let position = self.positions.first(created, next, evidence);
        // Recorded although it is empty: what comes and goes before it is read is missed then.
        self.tell(&position, next, note).await;
        Ok(position)
    }

    /// Looks whether what was read stands before a position, or what was read of an earlier generation, and goes on as that says.
    async fn go_on(&mut self, connection: &Connection, observed: &ShownStream, position: Position) -> Result<Position, Failure> {
        let facts = self.look(connection, observed, &position).await?;
        let (position, finding) = plan(&self.positions, position, facts);
        if let Some(finding) = finding {
            let note = self.meet(&finding).map_err(Failure::Refused)?;
            self.tell(&position, position.next, Some(note)).await;
        }
        Ok(position)
    }

    /// Asks the server what the plan for a position must know.
    async fn look(&self, connection: &Connection, observed: &ShownStream, position: &Position) -> Result<Facts, Failure> {
        let messages = Messages { connection, stream: &self.config.stream };
        let (key, next) = (&self.key, position.next);
        let evidence = position.evidence.clone().unwrap_or_default();
        let checked = check(&messages, observed, next, &evidence, self.config.subject.as_deref(), key).await?;
        let surely = surely(&checked, next);
        let mut earlier = Vec::new();
        for generation in self.positions.earlier(position).into_iter().filter(|earlier| earlier.next > surely) {
            let standing = standing(&messages, observed, &generation, key).await?;
            earlier.push((generation, standing));
        }
        let found = if position.evidence.is_none() { Some(found(&messages, next, key).await?) } else { None };
        Ok(Facts { checked, earlier, found })
    }

    /// Hands on what was found out of a partition from a sequence up to a position: it is said once, and belongs in the next record.
    async fn tell(&mut self, position: &Position, from: u64, note: Option<Note>) {
        let Position { partition, next, evidence } = position.clone();
        let chunk = carried(partition, (from, next), OffsetUnit::Records, evidence, note.into_iter().collect());
        self.positions.keep(&chunk.range);
        // Nobody takes it once the source is stopped; it is found out again at the next start.
        let _ = self.chunks.send(Ok(chunk)).await;
    }

    /// Returns whether messages that are gone may have been ours. Of streams that drop what others acknowledge, they are theirs as a matter of
    /// course where we do not read all subjects.
    pub(super) fn removal_matters(&self, info: &Info) -> bool {
        self.config.subject.is_none() || info.config.retention == RetentionPolicy::Limits
    }

    /// Judges a range of sequences of which no message came. If the stream begins behind where the range does, something in it was removed as a
    /// whole, by a purge or a limit: that is refused, or where the stream begins is returned, and what is noted. Otherwise they are of other
    /// subjects, or were deleted one by one.
    pub(super) fn meet_removal(&self, info: &Info, missing: Range<u64>) -> Result<Option<(u64, Note)>> {
        let begin = observed(info).begin();
        if begin <= missing.start || !self.removal_matters(info) {
            return Ok(None);
        }
        let note = self.meet_gap(StreamGap::Removed { from: missing.start, to: missing.end.min(begin) })?;
        Ok(Some((begin, note)))
    }

    /// Refuses a gap, or returns what is noted of it.
    fn meet_gap(&self, gap: StreamGap) -> Result<Note> {
        self.meet(&StreamFinding::Gap(gap))
    }

    /// Refuses a gap, or returns the note of what was found.
    fn meet(&self, finding: &StreamFinding) -> Result<Note> {
        let stream = &self.config.stream;
        self.config.on_gap.meet(stream, finding.found(stream, self.config.subject.is_some()))
    }
}
