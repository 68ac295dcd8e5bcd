//! `source.type = "kafka"`.

use pintail_core::error::Result;
use pintail_core::identity::Instance;
use pintail_core::secret::Secret;
use pintail_sources::OnGap;
use pintail_sources::kafka::config::*;

use super::{assert_fault, faults, load};
use crate::Config;

fn load_kafka(sets: &[&str]) -> Result<Config> {
    let needed = ["source.type=kafka", "source.brokers=127.0.0.1:9092", "source.topics=events"];
    load(&[], &needed.into_iter().chain(sets.iter().copied()).collect::<Vec<_>>())
}

fn kafka(sets: &[&str]) -> KafkaConfig {
    load_kafka(sets).unwrap().source.settings::<KafkaConfig>().unwrap().clone()
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
    assert_kafka_fault(&["source.properties={ \"auto.offset.reset\" = \"latest\" }"], "`auto.offset.reset` cannot be set: positions come");
    for (own, _) in PINTAIL_OWN {
        assert_kafka_fault(&[&format!("source.properties={{ \"{own}\" = \"0\" }}")], &format!("`{own}` cannot be set: "));
    }
    assert_kafka_fault(&["source.properties={ \"fetch.wait.max.ms\" = \"2001\" }"], "`fetch.wait.max.ms` = 2001: at most 2000; looks");
    kafka(&["source.properties={ \"fetch.wait.max.ms\" = \"2000\" }"]);
    assert_kafka_fault(&["source.instance={ index = 2, count = 2 }"], "2 of 2 instances: they are counted from 0, the last is 1");
}
