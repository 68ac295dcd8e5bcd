//! What can be sent, and what becomes of it.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::ipc::writer::StreamWriter;
use rustix::process::Signal;
use serde_json::Value;

use super::{JSON, NDJSON, assert_taken, post};
use crate::common::Dataset;
use crate::common::lines::{gzip, ids, line, lines};
use crate::common::payloads::{STRICT, indented};

const ARROW: (&str, &str) = ("Content-Type", "application/vnd.apache.arrow.stream");

/// Returns events as an Arrow IPC stream of batches of ten; one without an id if it is `null`.
fn arrow(range: std::ops::Range<i64>, null: Option<i64>) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut writer: Option<StreamWriter<&mut Vec<u8>>> = None;
    for ids in range.collect::<Vec<_>>().chunks(10) {
        let id = Int64Array::from_iter(ids.iter().map(|id| (Some(*id) != null).then_some(*id)));
        let ts = TimestampMillisecondArray::from_iter_values(ids.iter().map(|id| 1_767_225_600_000 + id)).with_timezone("UTC");
        let region = StringArray::from_iter_values(ids.iter().map(|id| if id % 2 == 0 { "eu" } else { "us" }));
        let columns: [(&str, arrow::array::ArrayRef); 3] = [("id", Arc::new(id)), ("ts", Arc::new(ts)), ("region", Arc::new(region))];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap();
        if writer.is_none() {
            writer = Some(StreamWriter::try_new(&mut stream, &batch.schema()).unwrap());
        }
        writer.as_mut().unwrap().write(&batch).unwrap();
    }
    writer.unwrap().finish().unwrap();
    stream
}

fn array(range: std::ops::Range<i64>) -> String {
    let events: Vec<Value> = range.map(|id| serde_json::from_str(&line(id)).unwrap()).collect();
    serde_json::to_string_pretty(&events).unwrap()
}

#[test]
fn events_of_every_content_type_and_encoding_arrive_once() {
    let dataset = Dataset::new();
    let mut process = dataset.push().spawn();
    let address = process.http();
    let mut next = 0;
    let mut send = |headers: &[(&str, &str)], count: u64, body: &[u8]| {
        assert_taken(&post(address, headers, body), count, next);
        next += count;
    };
    send(&[NDJSON], 20, lines(0..20).as_bytes());
    send(&[JSON, ("Content-Encoding", "identity")], 20, array(20..40).as_bytes());
    send(&[JSON], 1, format!("\n{}", line(40)).as_bytes());
    send(&[ARROW], 29, &arrow(41..70, None));
    send(&[NDJSON], 0, b"");
    send(&[JSON], 0, b"[]");
    let zstd: fn(&[u8]) -> Vec<u8> = |bytes| zstd::encode_all(bytes, 3).unwrap();
    let gzip: fn(&[u8]) -> Vec<u8> = |bytes| gzip(bytes);
    for (encoding, encode, from) in [("gzip", gzip, 70), ("zstd", zstd, 100)] {
        let encoding = ("Content-Encoding", encoding);
        send(&[NDJSON, encoding], 10, &encode(lines(from..from + 10).as_bytes()));
        send(&[JSON, encoding], 10, &encode(array(from + 10..from + 20).as_bytes()));
        send(&[ARROW, encoding], 10, &encode(&arrow(from + 20..from + 30, None)));
    }
    // The last line needs no end, blank ones are none.
    send(&[NDJSON], 2, format!("\n{}\r\n{}", line(130), line(131).trim_end()).as_bytes());
    process.wait_for_committed(132);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..132));
    assert!(dataset.rows().iter().all(|row| row["ts"].as_str().unwrap().starts_with("2026-01-01T00:00:00")), "also those of Arrow");
    dataset.assert_clean();
}

#[test]
fn a_record_that_does_not_fit_is_accepted_and_becomes_a_dead_letter_with_its_offset() {
    let dataset = Dataset::new();
    let mut process = dataset.push().set("source.record_bytes_max", 1000).set("dead_letters.ratio_max", 1.0).spawn();
    let address = process.http();
    assert_taken(&post(address, &[NDJSON], format!("{}not json\n{}", line(0), line(2))), 3, 0);
    assert_taken(&post(address, &[JSON], "[3, {\"id\":\"four\"}]"), 2, 3);
    assert_taken(&post(address, &[NDJSON], format!("{{\"id\":5,\"text\":\"{}\"}}\n{}", "x".repeat(2000), line(6))), 2, 5);
    assert_taken(&post(address, &[ARROW], arrow(7..20, Some(12))), 13, 7);
    process.wait_for_committed(20);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), [ids(0..1), vec![2, 6], ids(7..12), ids(13..20)].concat());
    let mut offsets: Vec<_> = dataset.dead_letters().iter().map(|letter| letter["offset"].as_u64().unwrap()).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, [1, 3, 4, 5, 12]);
    dataset.assert_clean();
}

#[test]
fn a_record_of_a_json_body_keeps_its_bytes_in_its_dead_letter_and_in_a_replay_of_it() {
    let dataset = Dataset::new();
    let push = |sql: &str| dataset.push().set("transform.sql", sql).set("dead_letters.ratio_max", 1.0);
    let mut process = push(STRICT).spawn();
    let address = process.http();
    let unfit = "{\r\n  \"id\": \"four\"\n}";
    let key = [JSON, ("Idempotency-Key", "one")];
    for _ in 0..2 {
        assert_taken(&post(address, &key, format!("[\n{}, {},\n\t{unfit}]", line(1).trim(), indented().trim())), 3, 0);
    }
    assert_taken(&post(address, &[JSON], unfit), 1, 3);
    process.wait_until("all to be published", |dataset| dataset.dead_letters().len() == 3 && dataset.ids().len() == 1);
    assert_eq!(process.kill().code(), 137);

    let kept = || dataset.dead_letters().iter().map(|letter| letter["record"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let (letters, indented) = (kept(), indented());
    assert_eq!((dataset.ids(), letters.len()), (ids(1..2), 3));
    assert!([unfit, indented.trim()].iter().all(|record| letters.contains(&(*record).to_owned())), "{letters:?}");
    // What is rejected again in a replay still has its bytes; what the SQL takes by then is a row.
    push("SELECT id, ts, region FROM events").args(["dead-letters", "--replay"]).run_ok();
    assert_eq!((dataset.ids(), kept().len()), (vec![1, 7], 5));
    assert_eq!(kept()[3..], [unfit, unfit]);
    dataset.assert_clean();
}

#[test]
fn bytes_that_are_no_blank_line_leave_a_dead_letter() {
    let dataset = Dataset::new();
    let mut process = dataset.push().set("dead_letters.ratio_max", 1.0).spawn();
    let address = process.http();
    let bodies = ["\0\0\0\0", "\0\n", "\u{a0}\n", "\u{2003}\n", "\u{1e}\n", "\u{c}\n", "\u{1}\n", "\0\u{feff} \n", "\u{feff}\0\n"];
    for (offset, body) in (0..).zip(bodies) {
        assert_taken(&post(address, &[NDJSON], body), 1, offset);
    }
    let taken = bodies.len() as u64;
    assert_taken(&post(address, &[NDJSON], format!("{}\0\0\n{}", line(0), line(1))), 3, taken);
    process.wait_for_committed(taken + 3);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!((dataset.ids(), dataset.dead_letters().len()), (ids(0..2), bodies.len() + 1));
    dataset.assert_clean();
}
