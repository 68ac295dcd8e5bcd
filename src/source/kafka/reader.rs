//! Reader: one session after another, each with its partitions assigned at the offsets where the last one ended.
//!
//! Owns: beginning again (with a growing pause, and a warning when the reason changes), what is done about a gap, the lag, the partitions
//! that are added while it runs.
//! Does not own: the client's settings (see `client`), what a position may be (see `position`), chunks (see `messages`).
//!
//! A partition is assigned at an offset and read from there on; `auto.offset.reset = error` makes the library say where it cannot, instead
//! of going on elsewhere. Offsets without a message (compacted, markers of transactions, aborted) are holes, not gaps.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, info, warn};

use super::Shared;
use super::client::Consumer;
use super::metadata::{MetadataRows, Said};
use super::position::{Gap, Position, Positions};
use super::topics::{Shape, observe, reason, shape};
use crate::config::{KafkaConfig, OnGap};
use crate::error::{Error, Result};
use crate::offsets::Partition;
use crate::source::messages::Chunks;
use crate::source::thread::{ChunkSender, Exit};

/// Longest time that a message waits for others to share its chunk.
const LINGER: Duration = Duration::from_millis(20);
/// Bytes of all partitions after which what was read is handed on.
const HELD_BYTES: usize = 512 << 10;
/// The pause after a failure doubles from the shortest to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Time between two looks at the lag.
const LAG_INTERVAL: Duration = Duration::from_secs(1);

/// What the thread works with.
pub(super) struct Reader {
    pub(super) config: KafkaConfig,
    pub(super) consumer: Arc<Consumer>,
    pub(super) record_bytes_max: usize,
    pub(super) metadata: SchemaRef,
    pub(super) positions: Positions,
    pub(super) shared: Arc<Shared>,
}

/// The partitions of a session.
struct Session {
    logs: Vec<Log>,
    /// The one whose message came last: the next is most likely of the same.
    last: usize,
    /// What the topics were when it began.
    shape: Shape,
}

/// One partition while it is read.
struct Log {
    topic: String,
    number: i32,
    partition: Arc<Partition>,
    chunks: Chunks<MetadataRows>,
}

/// Why a session ends.
enum End {
    /// It begins again, for this reason.
    Again(String),
    /// There are more partitions than it knows, or a topic was made again.
    Changed,
}

impl Reader {
    /// Reads until nobody wants more.
    pub(super) fn run(mut self, sender: &ChunkSender) -> Result<(), Exit> {
        let mut pause = PAUSE_MIN;
        loop {
            let (reason, lasted) = match self.begin(sender)? {
                Err(reason) => (reason, false),
                Ok(mut session) => {
                    let begun = Instant::now();
                    let end = self.consume(&mut session, sender)?;
                    self.keep(session, sender)?;
                    match end {
                        End::Changed => continue,
                        End::Again(reason) => (reason, begun.elapsed() > PAUSE_MAX),
                    }
                }
            };
            self.trouble(&reason)?;
            pause = if lasted { PAUSE_MIN } else { pause };
            self.rest(pause, sender)?;
            pause = (2 * pause).min(PAUSE_MAX);
        }
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

    /// Says why nothing can be read. A reason is told once, however often it comes.
    ///
    /// # Errors
    /// `Config` if the broker refuses the login and never took it: that is the configuration.
    fn trouble(&self, reason: &str) -> Result<(), Exit> {
        if let Some(words) = self.consumer.context().refused().filter(|_| !self.shared.was_connected.load(Ordering::Relaxed)) {
            return Err(Error::config(format!("the broker refuses the login: {words}")).into());
        }
        let before = self.shared.trouble.send_replace(Some(reason.to_owned()));
        if before.as_deref() != Some(reason) {
            warn!(brokers = self.config.brokers.join(","), reason, "not reading, trying again");
        }
        Ok(())
    }

    fn well(&self) {
        self.shared.was_connected.store(true, Ordering::Relaxed);
        if self.shared.trouble.send_replace(None).is_some_and(|reason| !reason.is_empty()) {
            info!(brokers = self.config.brokers.join(","), "reading goes on");
        }
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
        let mut assignment = TopicPartitionList::new();
        let mut logs = Vec::with_capacity(observed.len());
        for shown in &observed {
            let (Position { partition, next, begin }, gap) = self.positions.judge(shown);
            if let Some(gap) = gap {
                self.meet(&partition, &gap)?;
            }
            let offset =
                i64::try_from(begin).map_err(|_| Error::internal(format!("offset {begin} of {} is no offset", partition.label)))?;
            assignment
                .add_partition_offset(&shown.topic, shown.partition, Offset::Offset(offset))
                .map_err(|e| Error::internal(format!("cannot name {} to the library: {e}", partition.label)))?;
            let beside = MetadataRows::new(self.metadata.clone(), &shown.topic, shown.partition);
            let mut chunks = Chunks::new(partition.clone(), next, self.record_bytes_max, beside);
            chunks.skip_to(begin);
            logs.push(Log { topic: shown.topic.clone(), number: shown.partition, partition, chunks });
        }
        if let Err(error) = self.consumer.assign(&assignment) {
            return Ok(Err(format!("the partitions cannot be assigned: {error}")));
        }
        debug!(partitions = logs.len(), "session begun");
        self.consumer.context().answered();
        self.well();
        Ok(Ok(Session { logs, last: 0, shape }))
    }

    /// Refuses or records a gap.
    fn meet(&self, partition: &Partition, gap: &Gap) -> Result<()> {
        let label = &partition.label;
        match self.config.on_gap {
            OnGap::Refuse => Err(Error::state(format!(
                "`{label}`: {gap}: refusing to go on; set `source.on_gap = \"record\"` to go on with what is there"
            ))),
            OnGap::Record => {
                warn!("`{label}`: {gap}: going on with what is there");
                Ok(())
            }
        }
    }

    /// Reads until the session must begin again.
    fn consume(&self, session: &mut Session, sender: &ChunkSender) -> Result<End, Exit> {
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
                self.look_at_lag(session);
                match self.consumer.context().unreachable() {
                    Some(reason) => self.trouble(&reason)?,
                    None => self.well(),
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
        let headers = message.headers().map(|headers| headers.iter().map(|header| (header.key, header.value)).collect());
        let said = Said {
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key(),
            headers: headers.unwrap_or_default(),
        };
        let payload = payload(message.payload());
        log.chunks.push(offset, payload, said);
        Ok(payload.len() + message.key_len() + 1)
    }

    /// Takes up how far the session came, for the next one.
    fn keep(&mut self, session: Session, sender: &ChunkSender) -> Result<(), Exit> {
        let mut session = session;
        hand_on(&mut session, sender)?;
        for log in &session.logs {
            self.positions.advance(&log.partition, log.chunks.next());
        }
        if let Err(error) = self.consumer.unassign() {
            debug!(%error, "unassign");
        }
        Ok(())
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

/// Hands all that was read to the line.
fn hand_on(session: &mut Session, sender: &ChunkSender) -> Result<(), Exit> {
    for log in &mut session.logs {
        for chunk in log.chunks.take() {
            sender.send(chunk)?;
        }
    }
    Ok(())
}

/// Returns the record in a payload. A registry's frame is passed over: a zero, which no JSON begins with, and the number of the schema.
/// A message without a payload (a tombstone) is a record without values.
fn payload(payload: Option<&[u8]>) -> &[u8] {
    match payload {
        None => b"{}",
        Some([]) => b"\"\"",
        Some([0, _, _, _, _, record @ ..]) => record,
        Some(record) => record,
    }
}

/// Returns whether an error ends the session; `None` if the library goes on by itself.
fn judge(error: &KafkaError) -> Result<Option<End>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_s_frame_is_passed_over_and_no_payload_is_a_record_without_values() {
        assert_eq!(payload(Some(b"\x00\x00\x00\x00\x07{\"a\":1}")), b"{\"a\":1}");
        assert_eq!(payload(Some(b"{\"a\":1}")), b"{\"a\":1}");
        assert_eq!(payload(Some(b"\x00\x00")), b"\x00\x00");
        assert_eq!(payload(None), b"{}");
        assert_eq!(payload(Some(b"")), b"\"\"");
    }
}
