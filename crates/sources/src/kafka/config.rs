//! `source.type = "kafka"`: its settings, and the columns that it brings along.
//!
//! Owns: brokers and topics, the instances that share them, and which settings of librdkafka a user may not change.
//! Does not own: what the other settings mean (librdkafka says so itself when it refuses one).

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::datatypes::TimeUnit;
use itertools::Itertools;
#[cfg(feature = "kafka")]
use pintail_core::error::Result;
use pintail_core::identity::Instance;
use pintail_core::schema::{ColumnType, MetadataColumn};
use pintail_core::secret::Secret;
use pintail_settings::bounds::{HOUR, secret_or_file};
use pintail_settings::{Section, values};

use crate::OnGap;
#[cfg(feature = "kafka")]
use crate::kind::Surroundings;
use crate::kind::{Configured, Kind};
#[cfg(feature = "kafka")]
use crate::{Resume, Source};

/// The kind.
pub(super) const NAME: &str = "kafka";

/// `source.type = "kafka"`
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// Brokers of one cluster to begin with, `host:port`.
    pub brokers: Vec<String>,
    /// The topics.
    pub topics: Vec<String>,
    /// The consumer group that is told what is committed, for tools that show its lag.
    pub group: String,
    /// What to do when messages that were not read are gone, or what was read is not what the log holds there.
    pub on_gap: OnGap,
    /// `sasl.password`
    pub password: Option<Secret>,
    /// Settings for librdkafka as they are, such as those of TLS and SASL.
    pub properties: BTreeMap<String, String>,
    /// Time between two looks at the number of partitions.
    pub partitions_interval: Duration,
    /// Which of the partitions are read.
    pub instance: Instance,
}

/// What the source `kafka` says of each message: the columns of [`pintail_core::messages`], with bytes as text. `_timestamp` is that of the producer or the
/// broker, as the topic is set.
pub const METADATA: [MetadataColumn; 6] = [
    MetadataColumn { name: "_topic", column_type: ColumnType::Dictionary },
    MetadataColumn { name: "_partition", column_type: ColumnType::Int32 },
    MetadataColumn { name: "_offset", column_type: ColumnType::Int64 },
    MetadataColumn { name: "_timestamp", column_type: ColumnType::Timestamp(TimeUnit::Millisecond) },
    MetadataColumn { name: "_key", column_type: ColumnType::Text },
    MetadataColumn { name: "_headers", column_type: ColumnType::Json },
];

/// The kind.
pub(crate) const KIND: Kind =
    Kind { name: NAME, keys: KEYS, read: |section, _| Box::new(read(section)), owns: Some(super::position::owns) };

/// The keys of this source, some of which others have as well.
const KEYS: &[&str] =
    &["brokers", "topics", "group", "on_gap", "password", "password_file", "properties", "partitions_interval", "instance"];

/// Reads the keys.
fn read(section: &mut Section<'_>) -> KafkaConfig {
    for (key, example) in [("brokers", "127.0.0.1:9092"), ("topics", "events")] {
        if !section.has(key) {
            section.missing(key, format_args!("`source.type = \"kafka\"` needs at least one, such as [\"{example}\"]"));
        }
    }
    let topics = section.list("topics", &[], topic);
    // Not as for columns: case counts here.
    for topic in topics.iter().duplicates() {
        section.fault("topics", format_args!("`{topic}` is given twice"));
    }
    KafkaConfig {
        brokers: section.list("brokers", &[], broker),
        topics,
        group: section.text("group", "pintail", values::name),
        on_gap: OnGap::read(section),
        password: password(section),
        properties: properties(section),
        // Librdkafka itself looks every 5 minutes. Until it is looked, the messages of a new partition wait at the broker.
        partitions_interval: section.duration("partitions_interval", Duration::from_secs(30), Duration::from_millis(100)..=HOUR),
        instance: section.table("instance", instance).unwrap_or_default(),
    }
}

fn password(section: &mut Section<'_>) -> Option<Secret> {
    let (key, password) = secret_or_file(section, "password", "password_file")?;
    if password.is_empty() {
        section.fault(key, "it is empty");
    }
    Some(Secret::new(password))
}

/// The settings that keep the promise, with what a user who sets one is told. Aliases count too: the library takes either.
pub const PINTAIL_OWN: [(&str, &str); 27] = [
    ("bootstrap.servers", "set `source.brokers`"),
    ("metadata.broker.list", "set `source.brokers`"),
    ("group.id", "set `source.group`"),
    ("sasl.password", "set `source.password` or `source.password_file`, which are not shown anywhere"),
    ("auto.offset.reset", "positions come from the commit records, and a hole must not be passed over"),
    ("enable.auto.commit", GROUP_IS_TOLD),
    ("auto.commit.enable", GROUP_IS_TOLD),
    ("auto.commit.interval.ms", GROUP_IS_TOLD),
    ("enable.auto.offset.store", GROUP_IS_TOLD),
    ("offset.store.method", GROUP_IS_TOLD),
    ("offset.store.path", GROUP_IS_TOLD),
    ("offset.store.sync.interval.ms", GROUP_IS_TOLD),
    ("isolation.level", "it is always read_committed"),
    ("check.crcs", "it is always on"),
    ("enable.partition.eof", "it is always off"),
    ("statistics.interval.ms", "the lag, and whether a leader was away, come from the statistics of each second"),
    ("enabled_events", "what the library tells is what the source waits for"),
    ("log.queue", "nothing takes the log from a queue"),
    ("log_level", "`log.level` and `debug` decide what is logged"),
    ("api.version.request", NO_TRANSACTIONS),
    ("api.version.request.timeout.ms", NO_TRANSACTIONS),
    ("api.version.fallback.ms", NO_TRANSACTIONS),
    ("broker.version.fallback", NO_TRANSACTIONS),
    ("topic.blacklist", "which topics are read is said by `source.topics`"),
    ("group.instance.id", "partitions are assigned by `source.instance`, never by the group"),
    ("group.protocol", "partitions are assigned by `source.instance`, never by the group"),
    ("internal.termination.signal", "signals are for the process"),
];

const GROUP_IS_TOLD: &str = "the group is told what is committed after it is";
const NO_TRANSACTIONS: &str = "a broker that is not asked for its version is read without regard to aborted transactions";

/// The greatest `fetch.wait.max.ms`: a broker answers the questions of one connection in their order, and a look at the topics waits at most
/// 5 s for its own.
const FETCH_WAIT_MAX_MS: u64 = 2_000;

fn properties(section: &mut Section<'_>) -> BTreeMap<String, String> {
    let properties = section.texts("properties");
    for name in properties.keys() {
        if let Some((_, why)) = PINTAIL_OWN.iter().find(|(own, _)| own == name) {
            section.fault("properties", format_args!("`{name}` cannot be set: {why}"));
        }
    }
    let wait = properties.get("fetch.wait.max.ms");
    if let Some(wait) = wait.filter(|wait| wait.trim().parse::<u64>().is_ok_and(|wait| wait > FETCH_WAIT_MAX_MS)) {
        let why = "looks at the topics wait behind a fetch that waits for messages";
        section.fault("properties", format_args!("`fetch.wait.max.ms` = {wait}: at most {FETCH_WAIT_MAX_MS}; {why}"));
    }
    properties
}

fn instance(section: &mut Section<'_>) -> Instance {
    let count = section.count("count", 1, 1..=1_000);
    let index = section.count("index", 0, 0..=999);
    if index >= count {
        section.fault("index", format_args!("{index} of {count} instances: they are counted from 0, the last is {}", count - 1));
    }
    let small = |number: usize| u32::try_from(number).expect("at most a thousand");
    Instance {
        index: small(index),
        count: small(count),
        // Their locks and renames do not hold from host to host on all of them.
        network_file_system: section.boolean("network_file_system", false),
    }
}

/// A broker of Kafka, `host:port`; the port may be left out.
fn broker(text: &str) -> Result<String, String> {
    let wanted = "expected a broker, such as \"127.0.0.1:9092\" or \"kafka.example.com:9093\"";
    if values::is_host_and_port(text, "/?#,@") { Ok(text.to_owned()) } else { Err(wanted.to_owned()) }
}

/// The name of a topic of Kafka.
fn topic(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match text.len() {
        1..=249 if text.chars().all(fits) && text != "." && text != ".." => Ok(text.to_owned()),
        _ => Err("expected the name of a topic: at most 249 letters, digits, `.`, `_` or `-`".into()),
    }
}

impl Configured for KafkaConfig {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    /// Partitions are assigned, and the group is told only what is committed.
    fn can_be_tried(&self) -> bool {
        true
    }

    fn accepting_gaps(&self) -> Box<dyn Configured> {
        Box::new(Self { on_gap: OnGap::Record, ..self.clone() })
    }

    fn instance(&self) -> Instance {
        self.instance
    }

    fn metadata(&self) -> &'static [MetadataColumn] {
        &METADATA
    }

    fn gives_messages(&self) -> bool {
        true
    }

    #[cfg(feature = "kafka")]
    fn open(&self, around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Box<dyn Source>> {
        Ok(Box::new(super::KafkaSource::open(self, around.record_bytes_max, resume)?))
    }

    #[cfg(feature = "kafka")]
    fn check(&self, around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Vec<String>> {
        super::KafkaSource::probe(self, around.record_bytes_max, resume).map(|found| vec![found])
    }
}
