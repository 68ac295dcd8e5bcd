//! Messages whose payloads are no lines: one record each, and in a dead letter with all that the stream says of them.

use async_nats::HeaderMap;
use async_nats::jetstream::stream::RetentionPolicy::{self, Limits, WorkQueue};
use pintail_core::limits::process_bytes;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::Dataset;
use crate::common::lines::line;
use crate::common::nats::Broker;
use crate::common::payloads::{STRICT, bad, content, indented};

fn publish(broker: &Broker, payload: &'static [u8]) {
    let mut headers = HeaderMap::new();
    [("Trace", "7"), ("Again", "é"), ("Trace", "8")].into_iter().for_each(|(name, value)| headers.append(name, value));
    let js = broker.js();
    broker.run(async { js.publish_with_headers("events.us", headers, payload.into()).await.unwrap().await.unwrap() });
}

fn read(retention: RetentionPolicy) {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(retention);
    let run = |sql: &str| dataset.nats(&broker).set("transform.sql", sql).set("pipeline.batch_rows", 3);
    let mut process = run(STRICT).spawn();
    let (mut sequence, mut expected) = (1, Vec::new());
    for (index, (payload, (field, value))) in bad().into_iter().enumerate() {
        broker.publish("events.eu", [line(100 + index as i64)]);
        publish(&broker, payload);
        expected.push((sequence + 1, field, value));
        sequence += 2;
        if index % 3 == 0 {
            process.wait_until("a checkpoint", |dataset| dataset.commits().last().is_some_and(|last| last.next_offset() > 1));
            assert_eq!(process.kill().code(), 137);
            process = run(STRICT).spawn();
        }
    }
    broker.publish("events.us", [indented()]);
    process.wait_until("all sequences", |dataset| dataset.commits().last().is_some_and(|last| last.next_offset() == sequence + 1));
    process.stop(Signal::TERM).assert_code(0);

    let letters = dataset.dead_letters();
    assert_eq!(letters.len(), expected.len() + 1, "{letters:?}");
    let headers = json!([["Again", "é"], ["Trace", "7"], ["Trace", "8"]]);
    for (letter, (sequence, field, value)) in letters.iter().zip(&expected) {
        assert_eq!((letter["offset"].as_u64(), &letter[*field]), (Some(*sequence), value), "{letter}");
        let message = &letter["message"];
        assert_eq!((&message["topic"], &message["headers"], message["key"].is_null()), (&json!("events.us"), &headers, true), "{letter}");
        assert!(message["timestamp_ms"].as_i64().is_some_and(|time| time > 1_700_000_000_000), "{letter}");
    }
    assert_eq!(letters.last().unwrap()["record"], indented());
    assert_eq!((dataset.ids(), dataset.counts().records_in), ((100..109).collect(), sequence));
    dataset.assert_clean();

    run("SELECT id, ts, region FROM events").args(["dead-letters", "--replay"]).run_ok();
    let mut ids: Vec<_> = (100..109).collect();
    ids.insert(0, 7);
    assert_eq!(dataset.ids(), ids);
    let again = &dataset.dead_letters()[letters.len()..];
    let contents = |letters: &[Value]| letters.iter().map(content).collect::<Vec<_>>();
    assert_eq!(contents(again), contents(&letters[..letters.len() - 1]), "what is rejected again is the same message");
    dataset.assert_clean();
}

#[test]
fn payloads_of_any_bytes_are_one_record_each_over_kills_and_a_replay_hands_the_same_messages_back() {
    read(Limits);
    read(WorkQueue);
}

#[test]
fn thousands_of_headers_beside_each_message_take_no_more_memory_than_the_line_may_hold() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(Limits);
    let mut headers = HeaderMap::new();
    (0..6_000).for_each(|n| headers.append(format!("h{n}").as_str(), "v"));
    let js = broker.js();
    for id in 0..600 {
        let payload = if id % 3 == 0 { "no record".to_owned() } else { line(id) };
        broker.run(async { js.publish_with_headers("events.us", headers.clone(), payload.into()).await.unwrap().await.unwrap() });
    }
    let mut process = dataset.nats(&broker).set("pipeline.memory_max", "64MiB").set("dead_letters.ratio_max", 1.0).spawn();
    process.wait_for_rows(400);
    process.wait_until("the dead letters", |dataset| dataset.dead_letters().len() == 200);
    let peak = process_bytes(&process.pid().to_string(), "VmHWM").unwrap() >> 20;
    process.stop(Signal::TERM).assert_code(0);
    assert!(peak < 200, "{peak} MiB");
    dataset.assert_clean();
}
