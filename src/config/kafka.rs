//! `source.type = "kafka"`: its keys.
//!
//! Owns: brokers and topics, the instances that share them, and which settings of librdkafka a user may not change.
//! Does not own: what the other settings mean (librdkafka says so itself when it refuses one), the keys that every source has (see
//! `sections`).

use std::collections::BTreeMap;
use std::time::Duration;

use itertools::Itertools;

use super::raw::read_text;
use super::reader::Section;
use super::sections::on_gap;
use super::{OnGap, Secret, values};

/// The keys of this source, some of which others have as well.
pub(super) const OWN_KEYS: [&str; 9] =
    ["brokers", "topics", "group", "on_gap", "password", "password_file", "properties", "partitions_interval", "instance"];

/// Hours and more are no reasonable time to wait for a new partition.
const HOUR: Duration = Duration::from_secs(3600);

/// `source.type = "kafka"`
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// Brokers of one cluster to begin with, `host:port`.
    pub brokers: Vec<String>,
    /// The topics.
    pub topics: Vec<String>,
    /// The consumer group that is told what is committed, for tools that show its lag.
    pub group: String,
    /// What to do when messages that were not read are gone, or a topic was made again.
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

/// `[source.instance]`: several processes share the partitions of one dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    /// Which one this is, from 0.
    pub index: u32,
    /// How many there are.
    pub count: u32,
    /// Whether they may share a dataset on a network file system.
    pub network_file_system: bool,
}

impl Default for Instance {
    /// The only one.
    fn default() -> Self {
        Self { index: 0, count: 1, network_file_system: false }
    }
}

/// Reads the keys.
pub(super) fn read(section: &mut Section<'_>) -> KafkaConfig {
    for (key, example) in [("brokers", "127.0.0.1:9092"), ("topics", "events")] {
        if !section.has(key) {
            section.fault(key, format_args!("missing: `source.type = \"kafka\"` needs at least one, such as [\"{example}\"]"));
        }
    }
    let topics = section.list("topics", &[], values::kafka_topic);
    // Not as for columns: case counts here.
    for topic in topics.iter().duplicates() {
        section.fault("topics", format_args!("`{topic}` is given twice"));
    }
    KafkaConfig {
        brokers: section.list("brokers", &[], values::kafka_broker),
        topics,
        group: section.text("group", "pintail", values::name),
        on_gap: on_gap(section),
        password: password(section),
        properties: kafka_properties(section),
        // Librdkafka itself looks every 5 minutes. Until it is looked, the messages of a new partition wait at the broker.
        partitions_interval: section.duration("partitions_interval", Duration::from_secs(30), Duration::from_millis(100)..=HOUR),
        instance: section.table("instance", instance).unwrap_or_default(),
    }
}

fn password(section: &mut Section<'_>) -> Option<Secret> {
    let given = section.has("password");
    let file = section.optional_text("password_file", |text| {
        let path = values::path(text)?;
        let text = read_text(&path, values::SECRET_BYTES_MAX).map_err(|e| format!("cannot read it: {e}"))?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty()).ok_or_else(|| "it is empty".to_owned())
    });
    if given && file.is_some() {
        section.fault("password_file", "given together with `source.password`: leave one of them out");
    }
    section.secret("password").or(file).map(Secret)
}

/// The settings that keep the promise, with what a user who sets one is told.
const KAFKA_OWN: [(&str, &str); 10] = [
    ("bootstrap.servers", "set `source.brokers`"),
    ("metadata.broker.list", "set `source.brokers`"),
    ("group.id", "set `source.group`"),
    ("sasl.password", "set `source.password` or `source.password_file`, which are not shown anywhere"),
    ("auto.offset.reset", "positions come from the commit records, and a hole must not be passed over"),
    ("enable.auto.commit", "the group is told what is committed after it is"),
    ("enable.auto.offset.store", "the group is told what is committed after it is"),
    ("isolation.level", "it is always read_committed"),
    ("check.crcs", "it is always on"),
    ("enable.partition.eof", "it is always off"),
];

fn kafka_properties(section: &mut Section<'_>) -> BTreeMap<String, String> {
    let properties = section.texts("properties");
    for name in properties.keys() {
        if let Some((_, why)) = KAFKA_OWN.iter().find(|(own, _)| own == name) {
            section.fault("properties", format_args!("`{name}` cannot be set: {why}"));
        }
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
