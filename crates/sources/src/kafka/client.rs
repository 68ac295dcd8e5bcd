//! The client: librdkafka with the settings that keep the promise.
//!
//! Owns: the settings that are ours (the configuration refuses them from users), what the library says of itself (its log, errors, whether a broker can be reached,
//! through which the messages come, how far the logs go).
//! Does not own: which partitions are read, and from where (see `reader`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pintail_core::error::{Error, Result};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use tracing::{debug, info, warn};

use super::config::KafkaConfig;

/// A consumer of ours.
pub(super) type Consumer = BaseConsumer<Context>;

/// Returns the library's settings for `config`.
fn settings(config: &KafkaConfig) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings
        // 64 MiB of messages that wait would be another fifth of the memory of the whole process.
        .set("queued.max.messages.kbytes", "32768")
        .set("client.id", "pintail")
        // Of one connection a broker answers one request after the other: while a fetch waits for messages, a look at the topics waits for it,
        // and reading for both.
        .set("fetch.wait.max.ms", "100")
        // A broker that goes away is told by `trouble`, not by a line a second.
        .set("log.connection.close", "false")
        .set("reconnect.backoff.max.ms", "5000");
    for (name, value) in &config.properties {
        settings.set(name, value);
    }
    settings
        .set("bootstrap.servers", config.brokers.join(","))
        .set("group.id", &config.group)
        .set("auto.offset.reset", "error")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("enable.partition.eof", "false")
        .set("statistics.interval.ms", "1000");
    if let Some(password) = &config.password {
        settings.set("sasl.password", password.reveal());
    }
    // What it says at this level it says only if asked by `debug`.
    settings.set_log_level(RDKafkaLogLevel::Debug);
    settings
}

/// Makes a consumer. Connects to nothing yet.
///
/// # Errors
/// `Config` if the library refuses a setting, with its own words.
pub(super) fn consumer(config: &KafkaConfig, context: Context) -> Result<Consumer> {
    make(&settings(config), context)
}

/// What a consumer does where the log is not what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reset {
    /// It says so.
    Refuse,
    /// It goes where the leader epoch of its position ended, or to the beginning if that cannot be told.
    GoOn,
}

/// Makes a consumer for a look at single messages: it says where a partition ends, and asks for little.
///
/// # Errors
/// As [`consumer`].
pub(super) fn looker(config: &KafkaConfig, reset: Reset) -> Result<Consumer> {
    let mut settings = settings(config);
    settings
        .set("auto.offset.reset", if reset == Reset::Refuse { "error" } else { "earliest" })
        .set("enable.partition.eof", "true")
        .set("statistics.interval.ms", "0")
        .set("fetch.wait.max.ms", "20")
        // A message that is longer comes all the same.
        .set("fetch.message.max.bytes", "65536")
        .set("queued.max.messages.kbytes", "1024");
    make(&settings, Context::default())
}

fn make(settings: &ClientConfig, context: Context) -> Result<Consumer> {
    let made: KafkaResult<Consumer> = BaseConsumer::from_config_and_context(settings, context);
    made.map_err(|error| match error {
        KafkaError::ClientConfig(_, problem, name, _) => Error::config(format!("`source.properties.\"{name}\"`: {problem}")),
        other => Error::config(format!("the Kafka client cannot be made from this configuration: {other}")),
    })
}

/// How far the log of a partition goes, as the broker said last.
pub(super) type Ends = HashMap<(String, i32), u64>;

/// What the messages come through: the leader of each partition, and how often the connection to each broker was lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ties {
    leaders: BTreeMap<(String, i32), i32>,
    lost: BTreeMap<i32, i64>,
    /// Whether every leader can be reached.
    whole: bool,
}

impl Ties {
    /// Returns whether each of `partitions` has a leader that can be reached.
    pub(super) fn are_whole<'a>(&self, partitions: impl IntoIterator<Item = (&'a str, i32)>) -> bool {
        self.whole && partitions.into_iter().all(|(topic, number)| self.leaders.contains_key(&(topic.to_owned(), number)))
    }

    fn of(statistics: &Statistics) -> Self {
        let mut leaders = BTreeMap::new();
        for (topic, partitions) in &statistics.topics {
            let read = partitions.partitions.iter().filter(|(_, partition)| partition.desired && partition.leader >= 0);
            leaders.extend(read.map(|(number, partition)| ((topic.clone(), *number), partition.leader)));
        }
        let leads: BTreeSet<i32> = leaders.values().copied().collect();
        let brokers = || statistics.brokers.values().filter(|broker| leads.contains(&broker.nodeid));
        let lost = brokers().map(|broker| (broker.nodeid, broker.disconnects.unwrap_or(0))).collect();
        let up: BTreeSet<i32> = brokers().filter(|broker| broker.state == "UP").map(|broker| broker.nodeid).collect();
        let whole = leaders.values().all(|leader| up.contains(leader));
        Self { leaders, lost, whole }
    }
}

/// What the library says of itself.
#[derive(Debug, Default)]
pub(super) struct Context {
    ends: Mutex<Ends>,
    /// With the number of times that they were told.
    ties: Mutex<(u64, Ties)>,
    /// Why no broker is of use, in the library's last words.
    words: Mutex<Option<String>>,
    unreachable: AtomicBool,
    refused: AtomicBool,
}

impl Context {
    /// Returns how far the logs go.
    pub(super) fn ends(&self) -> Ends {
        self.ends.lock().clone()
    }

    /// Returns what the messages come through, with a number that grows each time it is told.
    pub(super) fn ties(&self) -> (u64, Ties) {
        self.ties.lock().clone()
    }

    /// Returns why no broker can be reached at this moment; `None` while one can.
    pub(super) fn unreachable(&self) -> Option<String> {
        let words = || self.words.lock().clone();
        self.unreachable.load(Ordering::Relaxed).then(|| words().unwrap_or_else(|| "no broker can be reached".to_owned()))
    }

    /// Returns what the library said last of what failed.
    pub(super) fn last_words(&self) -> Option<String> {
        self.words.lock().clone()
    }

    /// Returns the words in which a login was refused, if that is what happened last.
    pub(super) fn refused(&self) -> Option<String> {
        let words = || self.words.lock().clone();
        self.refused.load(Ordering::Relaxed).then(|| words().unwrap_or_default())
    }

    /// Records that a broker has answered.
    pub(super) fn answered(&self) {
        self.unreachable.store(false, Ordering::Relaxed);
        self.refused.store(false, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => warn!(facility, message, "librdkafka"),
            // What it calls an error is a connection that failed: it tries again, and `trouble` tells it.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => info!(facility, message, "librdkafka"),
            _ => debug!(facility, message, "librdkafka"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        {
            let mut ties = self.ties.lock();
            *ties = (ties.0 + 1, Ties::of(&statistics));
        }
        // -1001 stands for "not known".
        let end = |ls: i64, hi: i64| u64::try_from(ls).or_else(|_| u64::try_from(hi)).ok();
        let mut ends = self.ends.lock();
        for (topic, partitions) in statistics.topics {
            for (number, partition) in partitions.partitions {
                if let Some(end) = end(partition.ls_offset, partition.hi_offset) {
                    ends.insert((topic.clone(), number), end);
                }
            }
        }
        if statistics.brokers.values().any(|broker| broker.state == "UP") {
            self.answered();
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "librdkafka");
        let code = error.rdkafka_error_code();
        match code {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.unreachable.store(true, Ordering::Relaxed),
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
                self.refused.store(true, Ordering::Relaxed);
                *self.words.lock() = Some(reason.to_owned());
            }
            _ => *self.words.lock() = Some(reason.to_owned()),
        }
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &rdkafka::TopicPartitionList) {
        if let Err(error) = result {
            debug!(%error, "the group was not told what is committed");
        }
    }
}
