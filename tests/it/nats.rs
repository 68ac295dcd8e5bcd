//! NATS JetStream, with a real server.

mod access;
mod gaps;
mod headers;
mod histories;
mod kills;
mod outages;
mod payloads;
mod removals;
mod restores;
mod retention;

use async_nats::jetstream::stream::RetentionPolicy::Limits;
use rustix::process::Signal;
use serde_json::Value;

use crate::common::Dataset;
use crate::common::lines::{ids, line};
use crate::common::nats::Broker;

/// Asserts that the rows are those of the small events `range`, each once and with all it holds.
#[track_caller]
fn assert_whole(dataset: &Dataset, range: std::ops::Range<i64>) {
    let (found, expected) = (dataset.ids(), ids(range));
    let differ = found.iter().zip(&expected).find(|(found, expected)| found != expected);
    assert!(found == expected, "{} rows, {} messages; the first that differs: {differ:?}", found.len(), expected.len());
    for row in dataset.rows() {
        let id = row["id"].as_i64().unwrap();
        let expected: Value = serde_json::from_str(&line(id)).unwrap();
        let ts: chrono::NaiveDateTime = row["ts"].as_str().unwrap().parse().unwrap();
        assert_eq!((ts.and_utc().timestamp_millis(), &row["region"]), (expected["ts"].as_i64().unwrap(), &expected["region"]), "{row:?}");
    }
}

#[test]
fn messages_arrive_once_in_the_order_of_the_stream_and_a_restart_goes_on_behind_them() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(Limits);
    broker.publish_ids(0..3000);
    // Batches end between the chunks that are read.
    let run = || dataset.nats(&broker).set("pipeline.batch_rows", 700);
    let mut process = run().spawn();
    process.wait_for_rows(3000);
    broker.publish_ids(3000..3500);
    process.wait_for_rows(3500);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.last_commit().next_offset(), 3501, "a sequence begins at 1");

    broker.publish_ids(3500..4000);
    let mut process = run().spawn();
    process.wait_for_rows(4000);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..4000));
    let row = dataset.rows().into_iter().find(|row| row["id"] == 1234).unwrap();
    assert_eq!((row["region"].as_str(), dataset.counts().records_in), (Some("eu"), 4000));
    let in_file: Vec<_> = dataset.rows().iter().map(|row| row["id"].as_i64().unwrap()).filter(|id| id % 2 == 0).collect();
    assert!(in_file.is_sorted(), "rows of a hive partition are in the order of the stream");
    dataset.assert_clean();
}

#[test]
fn under_a_subject_filter_and_with_deleted_messages_offsets_are_sequences_and_counts_are_records() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(Limits);
    // Holes of 1 to 40 sequences; the first message is none of ours.
    let mut sequence = 0;
    let mut expected = Vec::new();
    for id in 0..300 {
        let others = if id % 10 == 0 { 40 } else { 1 + id % 3 };
        broker.publish("events.us", (0..others).map(|n| line(10_000 + n)));
        broker.publish("events.eu", [line(id)]);
        sequence += others as u64 + 1;
        match id % 50 {
            49 => broker.delete(sequence),
            _ => expected.push(id),
        }
    }
    broker.publish("events.us", [line(10_000)]);
    let run = || dataset.nats(&broker).set("source.subject", "events.eu").set("pipeline.batch_rows", 64);
    let mut process = run().spawn();
    // The position moves behind what is not for us, too.
    process.wait_until("all sequences", |dataset| dataset.commits().last().is_some_and(|last| last.next_offset() == sequence + 2));
    process.kill();
    assert_eq!((dataset.ids(), dataset.counts().records_in), (expected.clone(), expected.len() as u64));

    broker.publish("events.us", [line(10_000)]);
    broker.publish("events.eu", ["no JSON".to_owned(), line(300)]);
    let mut process = run().spawn();
    process.wait_for_rows(expected.len() + 1);
    process.stop(Signal::TERM).assert_code(0);
    expected.push(300);
    assert_eq!(dataset.ids(), expected);
    assert_eq!(dataset.dead_letters()[0]["offset"], sequence + 3, "the position of a dead letter is its sequence");
    dataset.assert_clean();
}

#[test]
fn a_message_of_several_lines_is_one_record() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(Limits);
    let indented = line(0).replace([',', '{'], ",\n  ").replacen(",\n", "{\n", 1);
    broker.publish("events.eu", [indented, line(1) + &line(2), String::new(), line(3), format!("{{\"id\":{:>2000}}}", 1)]);
    let mut process = dataset.nats(&broker).set("source.record_bytes_max", "1KiB").spawn();
    process.wait_until("5 sequences", |dataset| dataset.commits().last().is_some_and(|last| last.next_offset() == 6));
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), [0, 3]);
    let letters: Vec<_> = dataset.dead_letters().iter().map(|letter| letter["offset"].as_u64().unwrap()).collect();
    assert_eq!(letters, [2, 3, 5], "two objects in one message, one of no bytes, and one that is too long");
    dataset.assert_clean();
}
