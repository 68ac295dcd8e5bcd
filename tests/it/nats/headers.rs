//! Messages with headers or subjects that no client should send, and the server stores all the same.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::ops::Range;

use async_nats::jetstream::stream::{
    Config,
    RetentionPolicy::{self, Interest, Limits, WorkQueue},
};
use rustix::process::Signal;

use crate::common::Dataset;
use crate::common::lines::{ids, line};
use crate::common::nats::{Broker, STREAM};
use crate::common::process::{Process, log_lines};
use crate::common::wait_until;

/// Publishes messages with subject and headers as they are: those begin with their version, or there are none.
fn publish_all_as(broker: &Broker, subject: &[u8], headers: &[u8], payloads: &[String]) {
    let behind = broker.stream().state.last_sequence + payloads.len() as u64;
    let mut stream = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    BufReader::new(&stream).read_line(&mut String::new()).unwrap();
    let verb: &[u8] = if headers.is_empty() { b"PUB " } else { b"HPUB " };
    let mut sent = b"CONNECT {\"headers\":true}\r\n".to_vec();
    for payload in payloads {
        let sizes = match headers.len() {
            0 => format!(" {}\r\n", payload.len()),
            length => format!(" {length} {}\r\n", length + payload.len()),
        };
        sent.extend([verb, subject, sizes.as_bytes(), headers, payload.as_bytes(), b"\r\n"].concat());
    }
    stream.write_all(&sent).unwrap();
    wait_until("the messages", || broker.stream().state.last_sequence >= behind);
}

fn publish_as(broker: &Broker, subject: &[u8], headers: &[u8], payload: &str) {
    publish_all_as(broker, subject, headers, &[payload.to_owned()]);
}

/// Publishes messages with headers as they are.
fn publish_all_with(broker: &Broker, headers: &[u8], ids: Range<i64>) {
    let headers = [&b"NATS/1.0\r\n"[..], headers, b"\r\n\r\n"].concat();
    publish_all_as(broker, b"events.eu", &headers, &ids.map(line).collect::<Vec<_>>());
}

fn publish_with(broker: &Broker, headers: &[u8], id: i64) {
    publish_all_with(broker, headers, id..id + 1);
}

const HEADERS: [&[u8]; 3] = [b"A: \xff\xfe", b"no name", b"A: b\rc"];

/// Subject and headers of messages that the client does not take, or takes for words of the server.
const MESSAGES: [(&[u8], &[u8]); 6] = [
    (b"events.\xff\xfe", b""),
    (b"events.\xe9", b"NATS/1.0\r\nA: b\r\n\r\n"),
    ("events.a\u{3000}b".as_bytes(), b"NATS/1.0\r\nA: b\r\n\r\n"),
    (b"events.eu", b"NATS/1.0 503\r\n\r\n"),
    (b"events.eu", b"NATS/1.0 409 Consumer Deleted\r\n\r\n"),
    (b"events.eu", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n"),
];

/// Reads messages that the client does not take, among others and as the last ones, and again after a restart.
fn read_messages(retention: RetentionPolicy) {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(retention);
    let mut process = dataset.nats(&broker).spawn();
    process.wait_until("the consumer", |_| retention != Interest || broker.consumer().is_some());
    for (id, (subject, headers)) in (0..).step_by(2).zip(MESSAGES) {
        publish_as(&broker, subject, headers, &line(id));
        broker.publish_ids(id + 1..id + 2);
    }
    process.wait_for_rows(12);
    publish_as(&broker, MESSAGES[0].0, b"", &line(12));
    process.wait_for_rows(13);
    publish_as(&broker, MESSAGES[5].0, MESSAGES[5].1, &line(13));
    process.wait_for_rows(14);
    process.stop(Signal::TERM).assert_code(0);
    let mut process = dataset.nats(&broker).spawn();
    publish_as(&broker, MESSAGES[3].0, MESSAGES[3].1, &line(14));
    broker.publish_ids(15..16);
    process.wait_for_rows(16);
    // An interest stream lets go what was fetched once a later message is acknowledged.
    broker.publish_ids(16..17);
    process.wait_for_rows(17);
    wait_until("what is read to leave the stream", || retention == Limits || broker.stream().state.messages == 0);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..17), "{retention:?}");
    dataset.assert_clean();
}

#[test]
fn a_message_of_a_stream_that_the_client_does_not_take_is_read_and_what_is_behind_it_too() {
    read_messages(Limits);
}

#[test]
fn a_message_of_an_interest_stream_that_the_client_does_not_take_is_read_and_what_is_behind_it_too() {
    read_messages(Interest);
}

#[test]
fn a_message_of_a_work_queue_that_the_client_does_not_take_is_read_and_leaves_the_queue() {
    read_messages(WorkQueue);
}

/// Counts the warnings of messages that the client does not take.
fn warnings(log: &str) -> usize {
    log_lines(log, &["WARN"]).matches("subject or headers that cannot be read").count()
}

fn read_all(retention: RetentionPolicy, subject: Option<&str>) {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(retention);
    let mut process = dataset.nats(&broker);
    if let Some(subject) = subject {
        process = process.set("source.subject", subject);
    }
    let mut process = process.spawn();
    if retention == Interest {
        process.wait_until("the consumer", |_| broker.consumer().is_some());
    }
    broker.publish_ids(0..10);
    for (id, headers) in (10..).zip(HEADERS) {
        publish_with(&broker, headers, id);
        broker.publish("events.us", subject.map(|_| line(-1)));
    }
    broker.publish_ids(13..20);
    process.wait_for_rows(20);
    let log = process.stop(Signal::TERM);
    log.assert_code(0);
    assert_eq!(dataset.ids(), ids(0..20), "{retention:?}");
    assert_eq!(warnings(&log.stderr), 1, "one a minute: {}", log.stderr);
    dataset.assert_clean();
}

#[test]
fn a_message_whose_headers_cannot_be_read_is_read_without_them() {
    read_all(Limits, None);
    read_all(Limits, Some("events.eu"));
    read_all(Interest, None);
    read_all(WorkQueue, None);
}

#[test]
fn a_message_that_the_client_does_not_take_leaves_a_work_queue_in_which_nothing_may_be_deleted() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    let config =
        Config { name: STREAM.into(), subjects: vec!["events.>".into()], retention: WorkQueue, deny_delete: true, ..Config::default() };
    broker.run(broker.js().create_stream(config)).unwrap();
    broker.publish_ids(0..10);
    publish_with(&broker, HEADERS[0], 10);
    broker.publish_ids(11..20);
    let mut process = dataset.nats(&broker).spawn();
    process.wait_for_rows(20);
    wait_until("what is read to leave the queue", || broker.stream().state.messages == 0);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..20));
    dataset.assert_clean();
}

#[test]
fn many_messages_whose_headers_cannot_be_read_do_not_slow_the_line_down() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(Limits);
    for id in 0..60 {
        publish_with(&broker, HEADERS[0], id);
        // Each alone: a session for each of them would take half a minute.
        broker.publish("events.us", (id % 3 == 0).then(|| line(100 + id)));
    }
    let mut process = dataset.nats(&broker).spawn();
    process.wait_for_rows(80);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..60).into_iter().chain((100..160).step_by(3)).collect::<Vec<_>>());
    dataset.assert_clean();
}

/// Lets a process fetch a message that the client does not take behind 99 others, and purges the hundred behind it before they are read; one
/// comes after. Nothing is committed for eight seconds.
fn purge_behind<'a>(broker: &Broker, dataset: &'a Dataset, retention: RetentionPolicy, settings: &[(&str, &str)]) -> Process<'a> {
    broker.make_stream(retention);
    let process = dataset.nats(broker).set("pipeline.checkpoint_interval", "8s");
    let mut process = settings.iter().fold(process, |process, (key, value)| process.set(key, *value)).spawn();
    process.wait_until("the consumer", |_| broker.consumer().is_some());
    broker.publish_ids(0..99);
    publish_with(broker, HEADERS[0], 99);
    wait_until("the message to be fetched", || warnings(&process.log()) > 0);
    process.signal(Signal::STOP);
    broker.publish_ids(100..200);
    broker.purge();
    broker.publish_ids(200..201);
    process.signal(Signal::CONT);
    process
}

#[test]
fn messages_purged_unread_behind_one_that_the_client_does_not_take_are_refused_or_recorded() {
    for retention in [WorkQueue, Interest] {
        let (broker, dataset) = (Broker::start(), Dataset::new());
        let process = purge_behind(&broker, &dataset, retention, &[]);
        // What was asked for before it was stopped may have been answered with the first of them.
        process.wait().assert_refused(65, &[STREAM, "begins at sequence 201", "read up to 10", "removed unread", "source.on_gap"]);
        dataset.assert_clean();

        let (broker, dataset) = (Broker::start(), Dataset::new());
        let mut process = purge_behind(&broker, &dataset, retention, &[("source.on_gap", "record")]);
        process.wait_until("the last message", |dataset| dataset.ids().contains(&200));
        process.stop(Signal::TERM).assert_code(0);
        // As above.
        let mut ids = dataset.ids();
        ids.retain(|id| *id != 100);
        assert_eq!(ids, (0..100).chain([200]).collect::<Vec<_>>(), "{retention:?}");
        assert_eq!((dataset.noted(), dataset.last_commit().next_offset()), (vec!["gap".to_owned()], 202), "{retention:?}");
        dataset.assert_clean();
    }
}

#[test]
fn messages_purged_behind_one_that_the_client_does_not_take_may_be_others_where_a_work_queue_is_read_by_subject() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    let mut process = purge_behind(&broker, &dataset, WorkQueue, &[("source.subject", "events.eu")]);
    process.wait_until("the last message", |dataset| dataset.ids().contains(&200));
    process.stop(Signal::TERM).assert_code(0);
    let mut ids = dataset.ids();
    ids.retain(|id| *id != 100);
    assert_eq!(ids, (0..100).chain([200]).collect::<Vec<_>>());
    assert!(dataset.noted().is_empty(), "{:?}", dataset.noted());
    dataset.assert_clean();
}

#[test]
fn messages_purged_unread_among_many_that_the_client_does_not_take_are_refused() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(Limits);
    publish_all_with(&broker, HEADERS[0], 0..20_000);
    let process = dataset.nats(&broker).spawn();
    wait_until("a message to be fetched", || warnings(&process.log()) > 0);
    process.signal(Signal::STOP);
    broker.purge();
    publish_with(&broker, HEADERS[0], 20_000);
    process.signal(Signal::CONT);
    process.wait().assert_refused(65, &[STREAM, "begins at sequence 20001", "removed unread", "source.on_gap"]);
    dataset.assert_clean();
}
