//! Messages with headers that no client should send, and the server stores all the same.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use async_nats::jetstream::stream::RetentionPolicy::{self, Interest, Limits, WorkQueue};
use rustix::process::Signal;

use crate::common::Dataset;
use crate::common::lines::{ids, line};
use crate::common::nats::{Broker, STREAM};
use crate::common::process::log_lines;
use crate::common::wait_until;

/// Publishes a message with headers as they are.
fn publish_with(broker: &Broker, headers: &[u8], payload: &str) {
    let before = broker.stream().state.last_sequence;
    let mut stream = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    BufReader::new(&stream).read_line(&mut String::new()).unwrap();
    let headers = [&b"NATS/1.0\r\n"[..], headers, b"\r\n\r\n"].concat();
    let head = format!("CONNECT {{\"headers\":true}}\r\nHPUB events.eu {} {}\r\n", headers.len(), headers.len() + payload.len());
    stream.write_all(&[head.as_bytes(), &headers, payload.as_bytes(), b"\r\n"].concat()).unwrap();
    wait_until("the message", || broker.stream().state.last_sequence > before);
}

const HEADERS: [&[u8]; 3] = [b"A: \xff\xfe", b"no name", b"A: b\rc"];

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
    assert_eq!(log_lines(&log.stderr, &["WARN"]).matches("headers that cannot be read").count(), HEADERS.len(), "{}", log.stderr);
    dataset.assert_clean();
}

#[test]
fn a_message_whose_headers_cannot_be_read_is_read_without_them() {
    read_all(Limits, None);
    read_all(Limits, Some("events.eu"));
    read_all(Interest, None);
}

#[test]
fn a_message_of_a_work_queue_whose_headers_cannot_be_read_is_named() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(WorkQueue);
    broker.publish_ids(0..10);
    publish_with(&broker, HEADERS[0], &line(10));
    broker.publish_ids(11..20);
    // What is deleted unread is a gap.
    let mut process = dataset.nats(&broker).set("source.on_gap", "record").spawn();
    process.wait_for_rows(10);
    let named = format!("the message at sequence 11 of the stream `{STREAM}` has headers that cannot be read");
    wait_until("the message to be named", || log_lines(&process.log(), &["WARN"]).contains(&named));
    broker.delete(11);
    process.wait_for_rows(19);
    process.stop(Signal::TERM).assert_code(0);
    let expected: Vec<_> = (0..10).chain(11..20).collect();
    assert_eq!(dataset.ids(), expected);
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
