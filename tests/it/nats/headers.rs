//! Messages with headers or subjects that no client should send, and the server stores all the same.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use async_nats::jetstream::stream::{
    Config,
    RetentionPolicy::{self, Interest, Limits, WorkQueue},
};
use rustix::process::Signal;

use crate::common::Dataset;
use crate::common::lines::{ids, line};
use crate::common::nats::{Broker, STREAM};
use crate::common::process::log_lines;
use crate::common::wait_until;

/// Publishes a message with subject and headers as they are: those begin with their version, or there are none.
fn publish_as(broker: &Broker, subject: &[u8], headers: &[u8], payload: &str) {
    let before = broker.stream().state.last_sequence;
    let mut stream = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    BufReader::new(&stream).read_line(&mut String::new()).unwrap();
    let sizes = match headers.len() {
        0 => format!(" {}\r\n", payload.len()),
        length => format!(" {length} {}\r\n", length + payload.len()),
    };
    let verb: &[u8] = if headers.is_empty() { b"PUB " } else { b"HPUB " };
    let parts = [b"CONNECT {\"headers\":true}\r\n", verb, subject, sizes.as_bytes(), headers, payload.as_bytes(), b"\r\n"];
    stream.write_all(&parts.concat()).unwrap();
    wait_until("the message", || broker.stream().state.last_sequence > before);
}

/// Publishes a message with headers as they are.
fn publish_with(broker: &Broker, headers: &[u8], payload: &str) {
    publish_as(broker, b"events.eu", &[&b"NATS/1.0\r\n"[..], headers, b"\r\n\r\n"].concat(), payload);
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
        publish_with(&broker, headers, &line(id));
        broker.publish("events.us", subject.map(|_| line(-1)));
    }
    broker.publish_ids(13..20);
    process.wait_for_rows(20);
    let log = process.stop(Signal::TERM);
    log.assert_code(0);
    assert_eq!(dataset.ids(), ids(0..20), "{retention:?}");
    assert_eq!(
        log_lines(&log.stderr, &["WARN"]).matches("subject or headers that cannot be read").count(),
        HEADERS.len(),
        "{}",
        log.stderr
    );
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
    publish_with(&broker, HEADERS[0], &line(10));
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
        publish_with(&broker, HEADERS[0], &line(id));
        // Some behind each other, some alone.
        broker.publish("events.us", (id % 3 == 0).then(|| line(100 + id)));
    }
    let mut process = dataset.nats(&broker).spawn();
    process.wait_for_rows(80);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..60).into_iter().chain((100..160).step_by(3)).collect::<Vec<_>>());
    dataset.assert_clean();
}
