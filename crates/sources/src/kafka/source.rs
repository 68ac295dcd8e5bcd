//! The source: the thread that reads, what the group is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pintail_core::batch::Chunk;
use pintail_core::breaker::WhenRejected;
use pintail_core::error::{Error, Result};
use pintail_core::offsets::Offsets;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::watch;
use tracing::debug;

use super::client::{self, Consumer, Context};
use super::config::{KafkaConfig, NAME};
use super::position::{self, Positions};
use super::reader::Reader;
use super::topics;
use crate::meters::SourceMeters;
use crate::reach::Reach;
use crate::thread::ReadThread;
use crate::{Resume, Source};

/// The lag while nobody knows it.
pub(super) const UNKNOWN: u64 = u64::MAX;
/// Time for the group to be told what is committed. It is for tools to look at: nothing waits longer for it.
const TELL_PATIENCE: Duration = Duration::from_secs(1);

/// Time for a broker to say that it is there, after it could not be asked for more.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// Topics of Kafka, read by a thread.
pub struct KafkaSource {
    thread: ReadThread,
    consumer: Arc<Consumer>,
    shared: Arc<Shared>,
    trouble: watch::Receiver<Option<String>>,
    telling: Arc<AtomicBool>,
}

/// What the thread and the source both look at.
#[derive(Debug)]
pub(super) struct Shared {
    /// Messages that are not read yet.
    pub(super) lag: AtomicU64,
}

impl KafkaSource {
    /// Begins to read behind what is committed, as soon as a broker can be reached: it need not be there yet.
    ///
    /// # Errors
    /// `Config` if the library refuses a setting. What the broker shows (a refused login, an offset that is gone, a topic that was made
    /// again) comes from [`Source::read`].
    pub fn open(config: &KafkaConfig, record_bytes_max: usize, resume: &Resume<'_>) -> Result<Self> {
        let consumer = Arc::new(client::consumer(config, Context::default())?);
        let shared = Arc::new(Shared { lag: AtomicU64::new(UNKNOWN) });
        let (reach, trouble) = Reach::new(config.brokers.join(","));
        let reader = reader(config, consumer.clone(), record_bytes_max, resume, (shared.clone(), reach));
        let thread = ReadThread::spawn(NAME, move |sender| reader.run(sender))?;
        Ok(Self { thread, consumer, shared, trouble, telling: Arc::default() })
    }

    /// Connects once and says what is there. Joins no group. Blocks, outside a runtime.
    ///
    /// # Errors
    /// `TryAgain` if no broker can be reached, `Config` if the login is refused or a topic is not there, `State` if a partition is not what was read and
    /// `source.on_gap` refuses that.
    pub fn probe(config: &KafkaConfig, record_bytes_max: usize, resume: &Resume<'_>) -> Result<String> {
        let consumer = Arc::new(client::consumer(config, Context::default())?);
        let shape = topics::shape(&consumer, config);
        let observed = shape.and_then(|shape| topics::observe(&consumer, config, &shape)).map_err(|observed_reason| {
            drop(consumer.poll(Duration::from_millis(100)));
            let refused = consumer.context().refused();
            let is_away = refused.is_none() && consumer.fetch_metadata(None, ANSWER_PATIENCE).is_err();
            let reason = refused.map(|words| format!("the login is refused: {words}"));
            let brokers = config.brokers.join(",");
            if is_away {
                // What the library says of itself comes with a poll. Nothing is assigned.
                drop(consumer.poll(Duration::from_millis(100)));
                let reason = consumer.context().last_words().unwrap_or(observed_reason);
                return Error::try_again(format!(
                    "cannot reach a broker of `source.brokers` = {brokers}: {reason}; a service that runs waits until one is there"
                ));
            }
            Error::config(format!("`source.brokers` = {brokers}: {}", reason.unwrap_or(observed_reason)))
        })?;
        let messages: u64 = observed.iter().map(|partition| partition.high - partition.low).sum();
        let (shared, (reach, _trouble)) = (Arc::new(Shared { lag: AtomicU64::new(UNKNOWN) }), Reach::new(config.brokers.join(",")));
        check_positions(reader(config, consumer, record_bytes_max, resume, (shared, reach)))?;
        Ok(format!("{} of {}: {messages} messages in {} partitions", config.topics.join(", "), config.brokers.join(","), observed.len()))
    }
}

/// Returns what reads behind what is committed.
fn reader(
    config: &KafkaConfig,
    consumer: Arc<Consumer>,
    record_bytes_max: usize,
    resume: &Resume<'_>,
    (shared, reach): (Arc<Shared>, Reach),
) -> Reader {
    let (config, key, positions) = (config.clone(), resume.key.clone(), Positions::new(resume.offsets));
    Reader { config, consumer, record_bytes_max, key, positions, shared, reach }
}

/// Looks whether what was read still stands in the partitions; what the brokers cannot tell now is waited for by a service that runs.
fn check_positions(reader: Reader) -> Result<()> {
    let mut thread = ReadThread::spawn(NAME, move |sender| reader.look_once(sender))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|e| Error::io("start the runtime", e))?;
    runtime.block_on(thread.recv()).map(drop)
}

#[async_trait]
impl Source for KafkaSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        match self.thread.recv().await? {
            Some(chunk) => Ok(Some(chunk)),
            None => Err(Error::internal("the reader of the source `kafka` has ended")),
        }
    }

    async fn committed(&mut self, offsets: &Offsets) -> Result<()> {
        let mut next = TopicPartitionList::new();
        // A partition whose log became another one is known by both; the later one counts.
        let places: BTreeMap<_, _> = offsets.spans().filter_map(|(id, span)| Some((position::place(id)?, span.to))).collect();
        for ((topic, partition), offset) in places {
            let Ok(offset) = i64::try_from(offset) else { continue };
            if let Err(error) = next.add_partition_offset(&topic, partition, Offset::Offset(offset)) {
                debug!(%error, topic, partition, "not told to the group");
            }
        }
        // Where no broker answers the library would wait for a minute, and nobody needs that offset any more.
        if next.count() == 0 || self.consumer.context().unreachable().is_some() || self.telling.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let (consumer, telling) = (self.consumer.clone(), self.telling.clone());
        let told = tokio::task::spawn_blocking(move || {
            if let Err(error) = consumer.commit(&next, CommitMode::Sync) {
                debug!(%error, "the group was not told what is committed");
            }
            telling.store(false, Ordering::Release);
        });
        let _ = tokio::time::timeout(TELL_PATIENCE, told).await;
        Ok(())
    }

    fn when_rejected(&self) -> WhenRejected {
        WhenRejected::Pause
    }

    /// Returns the messages of the partitions that are read, which are not read yet; within a log its markers of
    /// transactions count.
    fn remaining(&self) -> Option<u64> {
        Some(self.shared.lag.load(Ordering::Relaxed)).filter(|lag| *lag != UNKNOWN)
    }

    fn meters(&self) -> SourceMeters {
        SourceMeters { reading: Some(self.thread.work()), trouble: Some(self.trouble.clone()), ..SourceMeters::default() }
    }
}
