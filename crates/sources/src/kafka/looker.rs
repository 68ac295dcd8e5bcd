//! Looker: a look at what stands before the positions, by a consumer of its own, before reading begins.
//!
//! Owns: fetching the messages that were read last, and asking for their leader epochs where they are gone.
//! Does not own: which messages (see [`Known::asks`]), what is concluded (see `position`), asking again (see `reader`).
//!
//! Of the epochs librdkafka tells no answer, but it acts on one: a consumer that seeks to an offset with an epoch asks the broker where that
//! epoch ends (KIP-320). If it ends before the offset, the log was truncated: with `auto.offset.reset = error` there is an error and no
//! message, with `earliest` it reads on where the epoch ended. An error names no partition: those that say nothing else are meant, when there
//! are as many. Partitions are asked topic by topic, since the crate tells of an end the partition, but not the topic.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pintail_core::error::Result;
use pintail_core::evidence::Key;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use tracing::debug;

use super::client::{self, Consumer, Reset};
use super::config::KafkaConfig;
use super::epochs::set_leader_epoch;
use super::position::{Ask, Known, Looked, ShownPartition, Sight};
use super::reader::{End, judge, logged};
use super::witness::witness;
use crate::thread::{ChunkSender, Exit};

/// Time without any answer after which a look fails.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time without an answer after which it is asked whether the log has nothing more up to its end.
const SILENCE: Duration = Duration::from_secs(3);
/// Messages that are read of a partition: the one that is looked for, and the one behind it.
const SIGHTS_MAX: usize = 2;

/// What a look shows, or why the broker cannot tell now; the outer error ends the source.
type Answer<T> = Result<Result<T, String>, Exit>;

/// A consumer for looks.
pub(super) struct Looker<'a> {
    config: &'a KafkaConfig,
    consumer: Consumer,
    key: &'a Key,
    sender: &'a ChunkSender,
}

/// A partition that is to be read for a moment.
struct Start<'a> {
    observed: &'a ShownPartition,
    ask: Ask,
    /// The epoch of the message before `ask.from`, if that is the question.
    epoch: Option<i32>,
}

/// What was read of it.
#[derive(Debug, Default)]
struct Read {
    ask: Ask,
    sights: Vec<Sight>,
    ended: bool,
    refused: bool,
}

impl Read {
    fn is_done(&self) -> bool {
        self.ended || self.sights.len() == SIGHTS_MAX || self.sights.last().is_some_and(|sight| sight.to >= self.ask.until)
    }
}

impl<'a> Looker<'a> {
    /// # Errors
    /// As [`client::looker`].
    pub(super) fn new(config: &'a KafkaConfig, key: &'a Key, sender: &'a ChunkSender) -> Result<Self> {
        Ok(Self { config, consumer: client::looker(config, Reset::Refuse)?, key, sender })
    }

    /// Looks at what stands before the positions of partitions, in their order, and where it is not what was read, how far the log is. Blocks.
    pub(super) fn look(&self, wanted: &[(&ShownPartition, &Known)]) -> Answer<Vec<Looked>> {
        let looked = match self.look_at_messages(wanted)? {
            Ok(looked) => looked,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut looked = match self.ask_epochs(wanted, looked)? {
            Ok(looked) => looked,
            Err(reason) => return Ok(Err(reason)),
        };
        Ok(self.look_before_forks(wanted, &mut looked)?.map(|()| looked))
    }

    /// Looks at the messages that were read last, each partition at most once. Blocks.
    pub(super) fn look_at_messages(&self, wanted: &[(&ShownPartition, &Known)]) -> Answer<Vec<Looked>> {
        let asks: Vec<Vec<Option<Ask>>> = wanted.iter().map(|(observed, known)| known.asks(observed)).collect();
        let mut looked: Vec<Looked> = vec![Looked::default(); wanted.len()];
        for round in 0..asks.iter().map(Vec::len).max().unwrap_or(0) {
            let start = |index: usize| Some(Start { observed: wanted[index].0, ask: (*asks[index].get(round)?)?, epoch: None });
            let starts: Vec<_> = (0..wanted.len()).map(start).collect();
            let reads = match self.read_all(&self.consumer, &starts)? {
                Ok(reads) => reads,
                Err(reason) => return Ok(Err(reason)),
            };
            for (looked, read) in looked.iter_mut().zip(reads) {
                looked.sights.push(read.map(|read| read.sights).unwrap_or_default());
            }
        }
        Ok(Ok(looked))
    }

    /// Asks for the epochs of what is gone or differs, and where those that end too early did so.
    fn ask_epochs(&self, wanted: &[(&ShownPartition, &Known)], mut looked: Vec<Looked>) -> Answer<Vec<Looked>> {
        let start = |index: usize| {
            let (observed, known): (&ShownPartition, &Known) = wanted[index];
            let (from, epoch) = known.epoch_to_ask(observed, &looked[index])?;
            Some(Start { observed, ask: Ask { from, until: 0 }, epoch: Some(epoch) })
        };
        let mut starts: Vec<Option<Start<'_>>> = (0..wanted.len()).map(start).collect();
        let reads = match self.read_all(&self.consumer, &starts)? {
            Ok(reads) => reads,
            Err(reason) => return Ok(Err(reason)),
        };
        for ((looked, read), start) in looked.iter_mut().zip(&reads).zip(&mut starts) {
            looked.disowned = read.as_ref().is_some_and(|read| read.refused);
            start.take_if(|_| !looked.disowned);
        }
        if starts.iter().all(Option::is_none) {
            return Ok(Ok(looked));
        }
        let consumer = client::looker(self.config, Reset::GoOn)?;
        let reads = match self.read_all(&consumer, &starts)? {
            Ok(reads) => reads,
            Err(reason) => return Ok(Err(reason)),
        };
        for ((looked, read), (observed, _)) in looked.iter_mut().zip(reads).zip(wanted) {
            let Some(read) = read else { continue };
            // Where nothing comes, what was read stands up to the end.
            looked.fork = read.sights.first().map(|sight| sight.from).or(read.ended.then_some(observed.high));
        }
        Ok(Ok(looked))
    }

    /// Finds the last message before each fork. What is no message, or was compacted away, may lie between: the distance doubles until one is
    /// found, or the log begins.
    fn look_before_forks(&self, wanted: &[(&ShownPartition, &Known)], looked: &mut [Looked]) -> Answer<()> {
        let mut distance = 1;
        loop {
            let start = |(looked, (observed, _)): (&Looked, &(&ShownPartition, &Known))| {
                let fork = looked.fork.filter(|fork| looked.before_fork.is_none() && *fork > observed.low)?;
                let reaches = distance == 1 || fork.saturating_sub(distance / 2) > observed.low;
                let ask = Ask { from: fork.saturating_sub(distance).max(observed.low), until: fork };
                reaches.then_some((ask, fork))
            };
            let asks: Vec<Option<(Ask, u64)>> = looked.iter().zip(wanted).map(start).collect();
            if asks.iter().all(Option::is_none) {
                return Ok(Ok(()));
            }
            let starts: Vec<Option<Start<'_>>> =
                asks.iter().zip(wanted).map(|(ask, (observed, _))| ask.map(|(ask, _)| Start { observed, ask, epoch: None })).collect();
            let reads = match self.read_all(&self.consumer, &starts)? {
                Ok(reads) => reads,
                Err(reason) => return Ok(Err(reason)),
            };
            for ((looked, read), ask) in looked.iter_mut().zip(reads).zip(asks) {
                let Some((read, (_, fork))) = read.zip(ask) else { continue };
                looked.before_fork = read.sights.into_iter().rfind(|sight| sight.from < fork);
            }
            distance *= 2;
        }
    }

    /// Reads of each partition that is wanted, topic by topic.
    fn read_all(&self, consumer: &Consumer, starts: &[Option<Start<'_>>]) -> Answer<Vec<Option<Read>>> {
        let mut reads: Vec<Option<Read>> = starts.iter().map(|_| None).collect();
        let mut topics: Vec<&str> = starts.iter().flatten().map(|start| start.observed.topic.as_str()).collect();
        topics.dedup();
        for topic in topics {
            let of_topic: Vec<_> = starts.iter().flatten().filter(|start| start.observed.topic == topic).collect();
            let mut found = match self.read(consumer, topic, &of_topic)? {
                Ok(found) => found,
                Err(reason) => return Ok(Err(reason)),
            };
            for (start, read) in starts.iter().zip(&mut reads) {
                if let Some(start) = start.as_ref().filter(|start| start.observed.topic == topic) {
                    *read = found.remove(&start.observed.partition);
                }
            }
        }
        Ok(Ok(reads))
    }

    fn read(&self, consumer: &Consumer, topic: &str, starts: &[&Start<'_>]) -> Answer<HashMap<i32, Read>> {
        if let Err(reason) = self.begin(consumer, topic, starts)? {
            return Ok(Err(reason));
        }
        let mut reads: HashMap<i32, Read> =
            starts.iter().map(|start| (start.observed.partition, Read { ask: start.ask, ..Read::default() })).collect();
        let asks_epochs = starts.iter().any(|start| start.epoch.is_some());
        let (mut refused, mut asked_for_ends) = (0, asks_epochs);
        let mut answered = Instant::now();
        while reads.values().filter(|read| !read.is_done()).count() > refused {
            self.sender.check_stop()?;
            match self.sender.at_rest(|| consumer.poll(Duration::from_millis(20))) {
                Some(Ok(message)) => {
                    let read = reads.get_mut(&message.partition()).filter(|read| message.topic() == topic && !read.is_done());
                    if let Some(read) = read {
                        answered = Instant::now();
                        if let Ok(offset) = u64::try_from(message.offset()) {
                            read.sights.push(witness(self.key, offset, &logged(&message)));
                        }
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    answered = Instant::now();
                    reads.entry(partition).and_modify(|read| read.ended = true);
                }
                Some(Err(error)) if asks_epochs && error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    answered = Instant::now();
                    refused += 1;
                }
                Some(Err(error)) => {
                    if let Some(End::Again(reason)) = judge(&error)? {
                        return Ok(Err(format!("`{topic}` cannot be looked at: {reason}")));
                    }
                }
                None => {}
            }
            if !asked_for_ends && answered.elapsed() > SILENCE {
                asked_for_ends = true;
                if let Err(reason) = self.go_to_ends(consumer, topic, starts, &reads)? {
                    return Ok(Err(reason));
                }
            }
            if answered.elapsed() > PATIENCE {
                let mut open = starts.iter().filter(|start| !reads[&start.observed.partition].is_done());
                // Behind the last stable offset nothing is told before a transaction ends.
                return Ok(match open.find(|start| start.ask.from <= start.observed.high) {
                    Some(Start { observed, ask, .. }) => {
                        Err(format!("`{topic}[{}]` cannot be looked at: no answer at offset {}", observed.partition, ask.from))
                    }
                    None => Ok(reads),
                });
            }
        }
        reads.values_mut().filter(|read| !read.is_done()).for_each(|read| read.refused = true);
        Ok(Ok(reads))
    }

    /// Reads on at the ends of the logs that say nothing: where all up to the end was compacted away a broker answers nothing, but it says that
    /// the end is one.
    fn go_to_ends(&self, consumer: &Consumer, topic: &str, starts: &[&Start<'_>], reads: &HashMap<i32, Read>) -> Answer<()> {
        let silent = starts.iter().filter(|start| !reads[&start.observed.partition].is_done());
        let end = |start: &&Start<'_>| Ask { from: start.observed.high, until: 0 };
        let ends: Vec<_> = silent.map(|start| Start { observed: start.observed, ask: end(start), epoch: None }).collect();
        self.begin(consumer, topic, &ends.iter().collect::<Vec<_>>())
    }

    /// Begins to read at the offsets of `starts`, with their epochs if these are asked for.
    fn begin(&self, consumer: &Consumer, topic: &str, starts: &[&Start<'_>]) -> Answer<()> {
        let (mut list, mut sought) = (TopicPartitionList::new(), TopicPartitionList::new());
        for Start { observed, ask, epoch } in starts {
            // The library reads there before it seeks: what is out of range would be refused twice.
            let begin = if epoch.is_some() { ask.from.min(observed.high) } else { ask.from };
            for (list, offset) in [(&mut list, begin), (&mut sought, ask.from)] {
                let offset = i64::try_from(offset).map_or(Offset::Invalid, Offset::Offset);
                if let Err(error) = list.add_partition_offset(topic, observed.partition, offset) {
                    return Ok(Err(format!("`{topic}[{}]` cannot be named to the library: {error}", observed.partition)));
                }
            }
            if let Some(epoch) = epoch {
                set_leader_epoch(&mut sought, topic, observed.partition, *epoch);
            }
        }
        match consumer.assign(&list) {
            Err(error) => Ok(Err(format!("`{topic}` cannot be looked at: {error}"))),
            Ok(()) if starts.iter().any(|start| start.epoch.is_some()) => self.seek(consumer, topic, &sought),
            Ok(()) => Ok(Ok(())),
        }
    }

    /// Seeks to the offsets and epochs of `list`, whose partitions have just been assigned.
    fn seek(&self, consumer: &Consumer, topic: &str, list: &TopicPartitionList) -> Answer<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            self.sender.check_stop()?;
            let sought = consumer.seek_partitions(list.clone(), PATIENCE);
            let refused = match &sought {
                Ok(sought) => sought.elements().iter().find_map(|element| element.error().err()),
                Err(error) => Some(error.clone()),
            };
            let Some(error) = refused else { return Ok(Ok(())) };
            if Instant::now() > until {
                return Ok(Err(format!("the leader epochs of `{topic}` cannot be asked for: {error}")));
            }
            // The library has not begun to read yet.
            debug!(%error, topic, "seek");
            drop(consumer.poll(Duration::from_millis(5)));
        }
    }
}
