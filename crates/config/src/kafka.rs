//! `source.type = "kafka"`: its keys.
//!
//! Owns: brokers and topics, the instances that share them, and which settings of librdkafka a user may not change.
//! Does not own: what the other settings mean (librdkafka says so itself when it refuses one), the keys that every source has (see
//! `sections`).

use std::collections::BTreeMap;
use std::time::Duration;

use itertools::Itertools;
use pintail_core::identity::Instance;
use pintail_core::secret::Secret;
use pintail_sources::kafka::config::KafkaConfig;

use super::reader::Section;
use super::sections::{HOUR, on_gap, secret_or_file};
use super::values;

/// The keys of this source, some of which others have as well.
pub(super) const OWN_KEYS: [&str; 9] =
    ["brokers", "topics", "group", "on_gap", "password", "password_file", "properties", "partitions_interval", "instance"];

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
    let (key, password) = secret_or_file(section, "password", "password_file")?;
    if password.is_empty() {
        section.fault(key, "it is empty");
    }
    Some(Secret::new(password))
}

/// The settings that keep the promise, with what a user who sets one is told. Aliases count too: the library takes either.
const KAFKA_OWN: [(&str, &str); 27] = [
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

fn kafka_properties(section: &mut Section<'_>) -> BTreeMap<String, String> {
    let properties = section.texts("properties");
    for name in properties.keys() {
        if let Some((_, why)) = KAFKA_OWN.iter().find(|(own, _)| own == name) {
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

#[cfg(test)]
mod tests {
    use pintail_core::error::Result;
    use pintail_sources::OnGap;

    use super::super::tests::{assert_fault, faults, load};
    use super::super::{Config, SourceKind};
    use super::*;

    fn load_kafka(sets: &[&str]) -> Result<Config> {
        let needed = ["source.type=kafka", "source.brokers=127.0.0.1:9092", "source.topics=events"];
        load(&[], &needed.into_iter().chain(sets.iter().copied()).collect::<Vec<_>>())
    }

    fn kafka(sets: &[&str]) -> KafkaConfig {
        match load_kafka(sets).unwrap().source.kind {
            SourceKind::Kafka(kafka) => kafka,
            other => panic!("not Kafka: {other:?}"),
        }
    }

    #[track_caller]
    fn assert_kafka_fault(sets: &[&str], expected: &str) {
        let found = faults(load_kafka(sets));
        assert!(found.contains(expected), "expected {expected:?} in: {found}");
    }

    #[test]
    fn a_topic_of_kafka_needs_its_broker_and_its_name() {
        let config = kafka(&[]);
        assert_eq!((config.brokers, config.topics), (vec!["127.0.0.1:9092".to_owned()], vec!["events".to_owned()]));
        assert_eq!((config.on_gap, config.instance), (OnGap::Refuse, Instance::default()));
        assert_fault(&["source.type=kafka", "source.brokers=a:9092"], "`source.topics`: missing");
        assert_fault(&["source.type=kafka", "source.topics=events"], "`source.brokers`: missing");
        assert_kafka_fault(&["source.topics=[\"a\", \"b\", \"a\"]"], "`source.topics`: `a` is given twice");
    }

    #[test]
    fn the_password_of_kafka_is_in_a_key_or_a_file_and_never_empty_or_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            format!("source.password_file={}", dir.path().join(name).display())
        };
        let config = kafka(&[&file("password", "hunter2\n")]);
        assert_eq!(config.password.as_ref().map(Secret::reveal), Some("hunter2"));
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_kafka_fault(&[&file("empty", "\n")], "`source.password_file`: it is empty");
        assert_kafka_fault(&[&file("password", "hunter2"), "source.password=hunter3"], "given together with `source.password`");
    }

    #[test]
    fn what_keeps_the_promise_of_kafka_cannot_be_set_and_an_instance_is_one_of_its_count() {
        let config = kafka(&["source.properties={ \"fetch.min.bytes\" = \"1000\" }", "source.instance={ index = 1, count = 2 }"]);
        assert_eq!(config.properties["fetch.min.bytes"], "1000");
        assert_eq!((config.instance.index, config.instance.count), (1, 2));
        assert_kafka_fault(
            &["source.properties={ \"auto.offset.reset\" = \"latest\" }"],
            "`auto.offset.reset` cannot be set: positions come",
        );
        for (own, _) in KAFKA_OWN {
            assert_kafka_fault(&[&format!("source.properties={{ \"{own}\" = \"0\" }}")], &format!("`{own}` cannot be set: "));
        }
        assert_kafka_fault(&["source.properties={ \"fetch.wait.max.ms\" = \"2001\" }"], "`fetch.wait.max.ms` = 2001: at most 2000; looks");
        kafka(&["source.properties={ \"fetch.wait.max.ms\" = \"2000\" }"]);
        assert_kafka_fault(&["source.instance={ index = 2, count = 2 }"], "2 of 2 instances: they are counted from 0, the last is 1");
    }
}
