//! Records that are Avro, from Kafka and NATS, through to what others read.

use async_nats::jetstream::stream::RetentionPolicy::Limits;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::kafka::{Cluster, TOPIC};
use crate::common::nats::Broker;
use crate::common::process::Pintail;
use crate::common::{Dataset, checkout};

/// A record of every type, as fastavro has written it, and the rows that it must become.
const FIXTURES: &str = "crates/decode/src/avro/tests/fixtures";

const EVENT: &str = r#"{"type":"record","name":"Event","fields":[
    {"name":"id","type":"long"},{"name":"ts","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"place","type":{"type":"record","name":"Place","fields":[{"name":"region","type":["null","string"]},
        {"name":"tags","type":{"type":"array","items":"string"}}]}}]}"#;

const SQL: &str = "SELECT id, ts, place.region AS region, place.tags AS tags FROM events";

/// Fails on a record with the id 7. The fields are taken first: DuckDB 2.0 computes a cast of `place.region` for each row, also where `CASE` does not ask.
const STRICT: &str = "SELECT id + CASE WHEN id = 7 THEN CAST(region AS INTEGER) ELSE 0 END AS id, ts, region, tags \
                      FROM (SELECT id, ts, place.region AS region, place.tags AS tags FROM events)";

fn integer(value: i64, to: &mut Vec<u8>) {
    let mut left = (value.wrapping_shl(1) ^ (value >> 63)) as u64;
    while left > 0x7f {
        to.push(left as u8 | 0x80);
        left >>= 7;
    }
    to.push(left as u8);
}

fn text(text: &str, to: &mut Vec<u8>) {
    integer(text.len() as i64, to);
    to.extend(text.as_bytes());
}

/// An event as a writer of [`EVENT`] writes it.
fn event(id: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    integer(id, &mut bytes);
    integer(1_767_225_600_000 + id, &mut bytes);
    integer(1, &mut bytes);
    text(["eu", "us"][id as usize % 2], &mut bytes);
    if id % 3 > 0 {
        integer(id % 3, &mut bytes);
        (0..id % 3).for_each(|tag| text(&format!("t{tag}"), &mut bytes));
    }
    bytes.push(0);
    bytes
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, 9], bytes].concat()
}

fn avro<'d>(pintail: Pintail<'d>, dataset: &Dataset, schema: &str) -> Pintail<'d> {
    let schema = dataset.write("event.avsc", schema);
    pintail.set("schema.format", "avro").set("schema.from", schema.to_str().unwrap()).set("pipeline.checkpoint_interval", "100ms")
}

fn kafka<'d>(dataset: &'d Dataset, cluster: &Cluster, schema: &str) -> Pintail<'d> {
    let pintail = avro(dataset.pintail(), dataset, schema);
    pintail.set("source.type", "kafka").set("source.brokers", cluster.broker()).set("source.topics", TOPIC).set("transform.sql", SQL)
}

/// Leaves the nulls of objects out.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            object.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), without_nulls(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

#[test]
fn every_type_that_fastavro_writes_is_read_by_value_from_the_parquet_files() {
    let (cluster, dataset) = (Cluster::start(1), Dataset::new());
    let fixture = |name: &str| std::fs::read(checkout(&format!("{FIXTURES}/{name}"))).unwrap();
    let (records, mut messages) = (fixture("types.bin"), Vec::new());
    let mut left = &records[..];
    while let Some((length, rest)) = left.split_first_chunk::<4>() {
        let (message, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        messages.push(message);
        left = rest;
    }
    cluster.produce(0, &messages);
    let sql = "SELECT * EXCLUDE (span, wide, _topic, _partition, _offset, _timestamp, _key, _headers), CAST(span AS VARCHAR) AS span, CAST(wide AS VARCHAR) AS wide, \
               _offset AS number FROM events";
    let run = kafka(&dataset, &cluster, std::str::from_utf8(&fixture("types.avsc")).unwrap());
    let run = run.set("transform.sql", sql).set("sink.partition_by", json!([])).set("sink.event_time", "");
    let mut process = run.spawn();
    process.wait_for_rows(messages.len());
    process.stop(Signal::TERM).assert_code(0);
    dataset.assert_clean();
    let expected: Vec<Value> =
        std::str::from_utf8(&fixture("types.jsonl")).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut readers = vec![("the parquet crate", dataset.rows())];
    readers.extend(dataset.read_back(&[]).iter().map(|read| (read.reader, read.rows())));
    for (reader, mut rows) in readers {
        rows.sort_by_key(|row| row["number"].as_i64());
        assert_eq!(rows.len(), expected.len(), "{reader}");
        for (row, expected) in rows.iter().zip(&expected) {
            for (column, expected) in expected.as_object().unwrap() {
                // DuckDB's own words for an interval.
                let expected = match column.as_str() {
                    "span" if !expected.is_null() => json!("1 year 2 months 3 days 00:00:01.5"),
                    _ => without_nulls(expected),
                };
                let found = row.get(column).map_or(Value::Null, without_nulls);
                assert_eq!(found, expected, "{column}, read by {reader}");
            }
        }
    }
}

#[test]
fn messages_that_do_not_decode_are_dead_letters_with_their_bytes_over_kills_and_a_replay_reads_them_again() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(Limits);
    let run = |sql: &str| {
        let pintail = avro(dataset.nats(&broker).unset("schema.columns"), &dataset, EVENT);
        pintail
            .set("schema.framing", "confluent")
            .set("transform.sql", sql)
            .set("pipeline.batch_rows", 3)
            .set("dead_letters.ratio_max", 1.0)
    };
    let bad = [
        event(1),
        framed(&event(2)[..5]),
        framed(&[&event(3)[..], b"x"].concat()),
        b"{\"id\":1}".to_vec(),
        Vec::new(),
        framed(&[0xff; 40]),
    ];
    let mut process = run(STRICT).spawn();
    let mut sequence = 0;
    for (index, bad) in bad.iter().enumerate() {
        broker.publish("events.eu", [framed(&event(100 + index as i64)), bad.clone(), framed(&event(200 + index as i64))]);
        sequence += 3;
        if index % 2 == 0 {
            process.wait_until("a checkpoint", |dataset| dataset.commits().last().is_some_and(|last| last.next_offset() > 1));
            assert_eq!(process.kill().code(), 137);
            process = run(STRICT).spawn();
        }
    }
    broker.publish("events.us", [framed(&event(7))]);
    process.wait_until("all sequences", |dataset| dataset.commits().last().is_some_and(|last| last.next_offset() == sequence + 2));
    process.stop(Signal::TERM).assert_code(0);
    let good: Vec<i64> = (100..106).chain(200..206).collect();
    assert_eq!(dataset.ids(), good);
    let letters = dataset.dead_letters();
    let told: Vec<_> =
        letters.iter().map(|letter| (letter["offset"].as_u64().unwrap(), letter["reason"].as_str().unwrap().to_owned())).collect();
    let unframed = "no frame of a schema registry before it (a zero and the four bytes of the schema's id)";
    let expected = [
        (2, unframed),
        (5, "column `ts`: the payload ends within it"),
        (8, "1 bytes are left behind the record: was it written by another schema?"),
        (11, "no frame of a schema registry before it (a zero and the four bytes of the schema's id) (it begins as JSON does)"),
        (14, "an empty message: there is no record in it"),
        (17, "column `id`: an integer of more than 64 bits"),
    ];
    assert_eq!(told[..6], expected.map(|(at, why)| (at, why.to_owned())));
    assert_eq!((told.len(), told[6].0), (7, sequence + 1), "{told:?}");
    assert!(letters[5]["record_base64"].is_string(), "{}", letters[5]);
    let row = dataset.rows().into_iter().find(|row| row["id"] == 200).unwrap();
    assert_eq!((&row["tags"], &row["region"], &row["ts"]), (&json!(["t0", "t1"]), &json!("eu"), &json!("2026-01-01T00:00:00.200")));
    dataset.assert_clean();

    run(SQL).args(["dead-letters", "--replay"]).run_ok();
    assert_eq!(dataset.ids(), [vec![7], good].concat());
    assert_eq!(dataset.dead_letters().len(), 7 + 6, "what is rejected again is a dead letter again");
    dataset.assert_clean();
}

#[test]
fn check_binds_the_sql_to_the_avro_schema_and_refuses_what_gives_no_columns() {
    let (cluster, dataset) = (Cluster::start(1), Dataset::new());
    let told = |run: Pintail<'_>| {
        let outcome = run.args(["check"]).run();
        (outcome.code(), outcome.stdout.clone() + &outcome.stderr)
    };
    let (code, said) = told(kafka(&dataset, &cluster, EVENT).set("sink.event_time", "ts"));
    assert!(code == 0 && said.contains("tags    VARCHAR[]"), "{said}");
    let (code, said) = told(kafka(&dataset, &cluster, EVENT).set("transform.sql", "SELECT id, place.country AS region FROM events"));
    assert!(code == 78 && said.contains("country"), "{said}");
    let itself = r#"{"type":"record","name":"Node","fields":[{"name":"id","type":"long"},{"name":"next","type":["null","Node"]}]}"#;
    let (code, said) = told(kafka(&dataset, &cluster, itself));
    assert!(code == 78 && said.contains("`schema.from`") && said.contains("the record `Node` holds itself at `next`"), "{said}");
}
