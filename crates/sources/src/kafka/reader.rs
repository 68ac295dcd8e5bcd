//! Reader: one session after another, each with its partitions assigned at the offsets where the last one ended.
//!
//! Owns: beginning again, carrying out what the positions say, the lag, the partitions that are added while it runs.
//! Does not own: the client's settings (see `client`), looking at what was read (see `looker`), what a position may be (see `position`), chunks
//! (see `messages`).
//!
//! A partition is assigned at an offset and read from there on; `auto.offset.reset = error` makes the library say where it cannot, instead
//! of going on elsewhere. Offsets without a message (compacted, markers of transactions, aborted) are holes, not gaps; the position passes over
//! them when the library has.
//!
//! A log may become another one while it is read. Where the broker keeps leader epochs, the library notices at each new leader. Where it does
//! not, a session ends when a leader has changed or a connection was lost, and the next one looks at what was read some seconds before, too.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pintail_core::batch::{Chunk, OffsetUnit};
use pintail_core::error::{Error, Result};
use pintail_core::evidence::{Evidence, Key, Witness};
use pintail_core::messages;
use pintail_core::offsets::{Note, Partition};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, info};

use super::client::{Consumer, Ties};
use super::config::KafkaConfig;
use super::epochs::{leader_epoch, set_leader_epoch};
use super::headers::headers;
use super::looker::Looker;
use super::position::{Known, LogFinding, Looked, Position, Positions, ShownPartition};
use super::source::Shared;
use super::topics::{Shape, observe, reason, shape};
use super::witness::{Latest, Logged};
use crate::messages::Chunks;
use crate::reach::{PAUSE_MAX, Reach};
use crate::resume::carried;
use crate::thread::{ChunkSender, Exit};

/// Longest time that a message waits for others to share its chunk.
const LINGER: Duration = Duration::from_millis(20);
/// Bytes of all partitions after which what was read is handed on.
const HELD_BYTES: usize = 512 << 10;
/// Time between two looks at the lag.
const LAG_INTERVAL: Duration = Duration::from_secs(1);

/// What the thread works with.
pub(super) struct Reader {
    pub(super) config: KafkaConfig,
    pub(super) consumer: Arc<Consumer>,
    pub(super) record_bytes_max: usize,
    pub(super) key: Key,
    pub(super) positions: Positions,
    pub(super) shared: Arc<Shared>,
    pub(super) reach: Reach,
}

/// The partitions of a session.
struct Session {
    logs: Vec<Log>,
    /// The one whose message came last: the next is most likely of the same.
    last: usize,
    /// What the topics were when it began.
    shape: Shape,
    /// The number of what the library told last of the ties.
    told: u64,
    /// What the messages come through, as soon as every leader could be reached.
    ties: Option<Ties>,
}

/// One partition while it is read.
struct Log {
    topic: String,
    number: i32,
    partition: Arc<Partition>,
    chunks: Chunks<Latest>,
    /// What was found out before anything was read.
    found: Option<Chunk>,
    /// The last message at each of the last two looks at the ties: if they have changed since, it came before.
    before: [Option<Witness>; 2],
}

/// Why a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// It begins again, for this reason.
    Again(String),
    /// There are more partitions than it knows, or a topic was made again; or the log may have become another.
    Changed,
}

impl Reader {
    /// Reads until nobody wants more.
    pub(super) fn run(mut self, sender: &ChunkSender) -> Result<(), Exit> {
        loop {
            let reason = match self.begin(sender)? {
                Err(reason) => reason,
                Ok(mut session) => {
                    let begun = Instant::now();
                    let end = self.consume(&mut session, sender)?;
                    self.keep(session, sender)?;
                    if begun.elapsed() > PAUSE_MAX {
                        self.reach.steady();
                    }
                    match end {
                        End::Changed => continue,
                        End::Again(reason) => reason,
                    }
                }
            };
            self.lost(&reason)?;
            let pause = self.reach.pause();
            self.rest(pause, sender)?;
        }
    }

    /// Begins a session as [`Self::run`] does, for what it finds out, and reads nothing.
    pub(super) fn look_once(mut self, sender: &ChunkSender) -> Result<(), Exit> {
        self.begin(sender).map(drop)
    }

    /// Waits, and serves the library meanwhile.
    fn rest(&self, pause: Duration, sender: &ChunkSender) -> Result<(), Exit> {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            sender.check_stop()?;
            // Nothing is assigned: only what the library says of itself can come.
            drop(self.consumer.poll(Duration::from_millis(20)));
        }
        Ok(())
    }

    /// Records that nothing can be read.
    ///
    /// # Errors
    /// `Config` if the broker refuses the login and never took it: that is the configuration.
    fn lost(&mut self, reason: &str) -> Result<(), Exit> {
        if let Some(words) = self.consumer.context().refused().filter(|_| !self.reach.was_reached()) {
            return Err(Error::config(format!("the broker refuses the login: {words}")).into());
        }
        self.reach.lost(reason);
        Ok(())
    }

    /// Looks at the topics and assigns the partitions; the reason, if the broker cannot tell now.
    fn begin(&mut self, sender: &ChunkSender) -> Result<Result<Session, String>, Exit> {
        let shape = match shape(&self.consumer, &self.config) {
            Ok(shape) => shape,
            Err(reason) => return Ok(Err(reason)),
        };
        sender.check_stop()?;
        let observed = match observe(&self.consumer, &self.config, &shape) {
            Ok(observed) => observed,
            Err(reason) => return Ok(Err(reason)),
        };
        let looked = match self.look(&observed, sender)? {
            Ok(looked) => looked,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut assignment = TopicPartitionList::new();
        let mut logs = Vec::with_capacity(observed.len());
        for (shown, looked) in observed.iter().zip(&looked) {
            let (position, finding) = self.positions.judge(shown, looked);
            begin_at(&mut assignment, shown, &position)?;
            logs.push(self.open_log(shown, position, finding)?);
        }
        if let Err(error) = self.consumer.assign(&assignment) {
            return Ok(Err(format!("the partitions cannot be assigned: {error}")));
        }
        debug!(partitions = logs.len(), "session begun");
        self.consumer.context().answered();
        self.reach.available();
        let (told, _) = self.consumer.context().ties();
        Ok(Ok(Session { logs, last: 0, shape, told, ties: None }))
    }

    /// Makes the log of a partition that is read on at a position, with what was found out of it.
    fn open_log(&self, shown: &ShownPartition, position: Position, finding: Option<LogFinding>) -> Result<Log> {
        let Position { partition, next, begin, evidence } = position;
        let is_new = evidence.is_none();
        let evidence = evidence.unwrap_or_default();
        let meet = |finding: LogFinding| self.config.on_gap.meet(&partition.label, finding.found(&partition.label));
        let notes: Vec<Note> = finding.map(meet).transpose()?.into_iter().collect();
        // Where a partition begins is recorded although it is empty: what comes and goes before it is read is missed then.
        let found = (is_new || !notes.is_empty())
            .then(|| carried(partition.clone(), (next, next), OffsetUnit::Records, Some(evidence.clone()), notes));
        let last = evidence.witnesses.last().copied();
        let latest = Latest::new(self.key.clone(), evidence);
        let mut chunks = Chunks::new(partition.clone(), next, self.record_bytes_max, latest);
        chunks.skip_to(begin);
        Ok(Log { topic: shown.topic.clone(), number: shown.partition, partition, chunks, found, before: [last; 2] })
    }

    /// Looks at what stands before the positions; nothing where nothing is known.
    fn look(&self, observed: &[ShownPartition], sender: &ChunkSender) -> Result<Result<Vec<Vec<Looked>>, String>, Exit> {
        let known: Vec<Vec<Known>> = observed.iter().map(|shown| self.positions.known(shown)).collect();
        let mut looked: Vec<Vec<Looked>> = vec![Vec::new(); observed.len()];
        let deepest = known.iter().map(Vec::len).max().unwrap_or(0);
        if deepest == 0 {
            return Ok(Ok(looked));
        }
        let looker = Looker::new(&self.config, &self.key, sender)?;
        // The latest log of each partition, then those that it was before: a look reads each partition from one offset.
        for depth in 0..deepest {
            let (places, wanted): (Vec<usize>, Vec<(&ShownPartition, &Known)>) =
                (0..observed.len()).filter_map(|place| Some((place, (&observed[place], known[place].get(depth)?)))).unzip();
            let seen = if depth == 0 { looker.look(&wanted)? } else { looker.look_at_messages(&wanted)? };
            match seen {
                Ok(seen) => places.into_iter().zip(seen).for_each(|(place, seen)| looked[place].push(seen)),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        Ok(Ok(looked))
    }

    /// Reads until the session must begin again.
    fn consume(&mut self, session: &mut Session, sender: &ChunkSender) -> Result<End, Exit> {
        let mut held = 0;
        let mut since = Instant::now();
        let mut lag_at = Instant::now();
        let mut look_at = Instant::now() + self.config.partitions_interval;
        loop {
            sender.check_stop()?;
            let polled = self.consumer.poll(Duration::ZERO).or_else(|| sender.at_rest(|| self.consumer.poll(LINGER)));
            // Read once for each message: a fiftieth of what the library takes for one.
            let now = Instant::now();
            match polled {
                None => {}
                Some(Ok(message)) => {
                    if held == 0 {
                        since = now;
                    }
                    held += self.take(session, &message)?;
                }
                Some(Err(error)) => {
                    if let Some(end) = judge(&error)? {
                        hand_on(session, sender)?;
                        return Ok(end);
                    }
                }
            }
            if held >= HELD_BYTES || (held > 0 && now - since >= LINGER) {
                hand_on(session, sender)?;
                held = 0;
            }
            if now - lag_at >= LAG_INTERVAL {
                lag_at = now;
                self.pass_over(session);
                hand_on(session, sender)?;
                held = 0;
                self.look_at_lag(session);
                if self.has_lost_touch(session) {
                    info!("a leader has changed or was away: looking at what was read");
                    return Ok(End::Changed);
                }
                match self.consumer.context().unreachable() {
                    Some(reason) => self.lost(&reason)?,
                    None => self.reach.available(),
                }
            }
            if now >= look_at {
                let looked = shape(&self.consumer, &self.config);
                // Counted from the answer, which may take longer than the interval: so there is time to read between two looks.
                look_at = Instant::now() + self.config.partitions_interval;
                // One that cannot be asked is no reason to stop reading from the others.
                if let Ok(shape) = looked.as_ref()
                    && *shape != session.shape
                {
                    info!(before = session.shape.partitions(), now = shape.partitions(), "the topics have changed");
                    hand_on(session, sender)?;
                    return Ok(End::Changed);
                }
            }
        }
    }

    /// Takes a message up, and returns its bytes.
    fn take(&self, session: &mut Session, message: &BorrowedMessage<'_>) -> Result<usize> {
        // None: one of an assignment before this.
        let Some(log) = session.log(message.topic(), message.partition()) else { return Ok(0) };
        let offset =
            u64::try_from(message.offset()).map_err(|_| Error::internal(format!("{} has an offset below 0", log.partition.label)))?;
        if offset < log.chunks.next() {
            return Ok(0);
        }
        let logged = logged(message);
        log.chunks.push(offset, &logged.message, &logged);
        Ok(logged.message.bytes())
    }

    /// Takes how far the session came, for the next one.
    fn keep(&mut self, session: Session, sender: &ChunkSender) -> Result<(), Exit> {
        let mut session = session;
        hand_on(&mut session, sender)?;
        for log in &mut session.logs {
            let next = log.chunks.next();
            let evidence = log.chunks.memory().evidence();
            let before = log.before[0].filter(|before| evidence.witnesses.iter().all(|witness| witness.from > before.from));
            let witnesses = before.into_iter().chain(evidence.witnesses.iter().copied()).collect();
            self.positions.advance(&log.partition, next, Arc::new(Evidence { witnesses, ..Evidence::default() }));
        }
        if let Err(error) = self.consumer.unassign() {
            debug!(%error, "unassign");
        }
        Ok(())
    }

    /// Passes over what is no message: the library is behind it, and has handed out all that lies before.
    fn pass_over(&self, session: &mut Session) {
        let passed = match self.consumer.position() {
            Ok(passed) => passed,
            Err(error) => return debug!(%error, "position"),
        };
        for element in passed.elements() {
            if let (Offset::Offset(offset), Some(log)) = (element.offset(), session.log(element.topic(), element.partition()))
                && let Some(offset) = u64::try_from(offset).ok().filter(|offset| *offset > log.chunks.next())
            {
                log.chunks.skip_to(offset);
            }
        }
    }

    /// Returns whether a log may have become another one since the session began: its leader changed, or was away.
    fn has_lost_touch(&self, session: &mut Session) -> bool {
        let (told, ties) = self.consumer.context().ties();
        if told == session.told {
            return false;
        }
        session.told = told;
        let is_whole = ties.are_whole(session.logs.iter().map(|log| (log.topic.as_str(), log.number)));
        match &session.ties {
            Some(known) if *known != ties => return is_whole,
            None if !is_whole => return false,
            known => session.ties = known.clone().or(Some(ties)),
        }
        for log in &mut session.logs {
            let last = log.chunks.memory().evidence().witnesses.last().copied();
            log.before = [log.before[1], last];
        }
        false
    }

    fn look_at_lag(&self, session: &Session) {
        let ends = self.consumer.context().ends();
        let behind = |log: &Log| Some(ends.get(&(log.topic.clone(), log.number))?.saturating_sub(log.chunks.next()));
        let lag = session.logs.iter().map(behind).sum::<Option<u64>>();
        if let Some(lag) = lag {
            self.shared.lag.store(lag, Ordering::Relaxed);
        }
    }
}

impl Session {
    fn log(&mut self, topic: &str, number: i32) -> Option<&mut Log> {
        let is = |log: &Log| log.number == number && log.topic == topic;
        if !self.logs.get(self.last).is_some_and(is) {
            self.last = self.logs.iter().position(is)?;
        }
        self.logs.get_mut(self.last)
    }
}

/// Says where a partition is to be read from.
fn begin_at(assignment: &mut TopicPartitionList, shown: &ShownPartition, position: &Position) -> Result<()> {
    let (begin, label) = (position.begin, &position.partition.label);
    let offset = i64::try_from(begin).map_err(|_| Error::internal(format!("offset {begin} of {label} is no offset")))?;
    let named = assignment.add_partition_offset(&shown.topic, shown.partition, Offset::Offset(offset));
    named.map_err(|e| Error::internal(format!("cannot name {label} to the library: {e}")))?;
    // The library compares it when another leader is elected, also if nothing was read before.
    let last = position.evidence.as_ref().and_then(|evidence| evidence.witnesses.last());
    if let Some(epoch) = last.filter(|last| last.to == begin).and_then(|last| last.epoch) {
        set_leader_epoch(assignment, &shown.topic, shown.partition, epoch);
    }
    Ok(())
}

/// Hands all that was read to the line.
fn hand_on(session: &mut Session, sender: &ChunkSender) -> Result<(), Exit> {
    for log in &mut session.logs {
        for chunk in log.found.take().into_iter().chain(log.chunks.take()) {
            sender.send(chunk)?;
        }
    }
    Ok(())
}

/// Returns a message as it stands in the log.
pub(super) fn logged<'a>(message: &'a BorrowedMessage<'_>) -> Logged<'a> {
    let whole = messages::Message {
        topic: Some(message.topic()),
        partition: Some(message.partition()),
        offset: Some(message.offset()),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key(),
        headers: headers(message),
        payload: message.payload(),
    };
    Logged { message: whole, epoch: leader_epoch(message) }
}

/// Returns whether an error ends the session; `None` if the library goes on by itself.
pub(super) fn judge(error: &KafkaError) -> Result<Option<End>> {
    use RDKafkaErrorCode as Code;
    if let KafkaError::MessageConsumptionFatal(_) = error {
        return Err(Error::internal(format!("the Kafka client cannot go on: {error}")));
    }
    let Some(code) = error.rdkafka_error_code() else { return Ok(Some(End::Again(error.to_string()))) };
    Ok(match code {
        // The broker's bytes are damaged: passing over them would lose records without a word.
        Code::BadMessage | Code::InvalidMessage | Code::BadCompression => {
            return Err(Error::state(format!("a message cannot be read as the broker sends it: {code}")));
        }
        Code::AllBrokersDown
        | Code::BrokerTransportFailure
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::NotLeaderForPartition
        | Code::LeaderNotAvailable
        | Code::NetworkException
        | Code::PartitionEOF => {
            debug!(%code, "librdkafka");
            None
        }
        // Out of range (retention, truncation), no such topic, no right to it: what the broker shows is to be judged anew.
        _ => Some(End::Again(reason(error))),
    })
}
