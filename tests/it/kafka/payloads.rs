//! Messages whose payloads are no lines: one record each, and in a dead letter with all that Kafka says of them.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::Dataset;
use crate::common::kafka::{Cluster, TOPIC};
use crate::common::lines::line;
use crate::common::payloads::{STRICT, bad, content, indented};

const TIME: i64 = 1_767_225_600_123;

/// Writes a message with a key that is no text, and headers.
fn produce(cluster: &Cluster, payload: Option<&[u8]>) {
    let headers = OwnedHeaders::new().insert(Header { key: "b", value: Some(&b"\xff"[..]) });
    let headers = headers.insert(Header { key: "a", value: None::<&[u8]> }).insert(Header { key: "b", value: Some(&b"text"[..]) });
    let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(TOPIC).partition(0).key(&b"k\xff"[..]).headers(headers).timestamp(TIME);
    cluster.produce_record(match payload {
        Some(payload) => record.payload(payload),
        None => record,
    });
}

/// What a dead letter says of such a message.
fn said() -> Value {
    let headers = json!([["b", { "base64": "/w==" }], ["a", null], ["b", "text"]]);
    json!({ "topic": "events", "partition": 0, "timestamp_ms": TIME, "key_base64": "a/8=", "headers": headers })
}

#[test]
fn payloads_of_any_bytes_are_one_record_each_over_kills_and_a_replay_hands_the_same_messages_back() {
    let (cluster, dataset) = (Cluster::start(1), Dataset::new());
    let columns = "_partition AS p, _offset AS o, _timestamp AS t, _key AS k, _headers AS h";
    let run =
        |sql: &str| dataset.kafka(&cluster.broker()).set("transform.sql", sql.replace("region FROM", &format!("region, {columns} FROM")));
    let mut process = run(STRICT).set("pipeline.batch_rows", 3).spawn();
    let mut offset = 0;
    let mut expected = Vec::new();
    for (index, (payload, (field, value))) in bad().into_iter().enumerate() {
        cluster.produce(0, [line(100 + index as i64)]);
        produce(&cluster, Some(payload));
        expected.push((offset + 1, field, value));
        offset += 2;
        if index % 3 == 0 {
            process.wait_until("a checkpoint", |dataset| {
                dataset.commits().last().is_some_and(|last| last.positions.values().any(|to| *to > 0))
            });
            assert_eq!(process.kill().code(), 137);
            process = run(STRICT).set("pipeline.batch_rows", 3).spawn();
        }
    }
    produce(&cluster, None);
    produce(&cluster, Some(indented().as_bytes()));
    expected.push((offset, "tombstone", json!(true)));
    expected.push((offset + 1, "record", json!(indented())));
    let end = offset + 2;
    process.wait_until("all offsets", |dataset| dataset.commits().last().is_some_and(|last| last.positions.values().copied().eq([end])));
    process.stop(Signal::TERM).assert_code(0);

    let letters = dataset.dead_letters();
    assert_eq!(letters.len(), expected.len(), "{letters:?}");
    for (letter, (offset, field, value)) in letters.iter().zip(&expected) {
        assert_eq!((letter["offset"].as_u64(), &letter[*field], &letter["message"]), (Some(*offset), value, &said()), "{letter}");
    }
    assert_eq!((dataset.ids(), dataset.counts().records_in), ((100..109).collect(), end));
    dataset.assert_clean();

    run("SELECT id, ts, region FROM events").args(["dead-letters", "--replay"]).run_ok();
    let mended = dataset.rows().into_iter().find(|row| row["id"] == 7).expect("the record that the SQL takes now");
    assert_eq!((&mended["p"], mended["o"].as_u64(), &mended["t"]), (&json!(0), Some(offset + 1), &json!("2026-01-01T00:00:00.123")));
    assert_eq!((&mended["k"], &mended["h"]), (&json!("k\\xFF"), &json!(r#"{"b":"\\xFF","a":null,"b":"text"}"#)));
    let again = &dataset.dead_letters()[letters.len()..];
    let contents = |letters: &[Value]| letters.iter().map(content).collect::<Vec<_>>();
    assert_eq!(contents(again), contents(&letters[..letters.len() - 1]), "what is rejected again is the same message");
    let listed = dataset.pintail().args(["dead-letters"]).run_ok().stdout;
    assert!(listed.contains(&format!("and {} that were replayed", letters.len())), "the tombstone too:\n{listed}");
    dataset.assert_clean();
}

/// The protocol has no such names; `rdkafka` panics at them.
#[test]
fn a_header_whose_name_is_no_text_is_a_header_like_any_other() {
    let (cluster, dataset) = (Cluster::start(1), Dataset::new());
    let name = OsStr::from_bytes(b"\xe9t\xe9=v");
    let mut kcat = Command::new("kcat");
    kcat.args(["-b", &cluster.broker(), "-t", TOPIC, "-p", "0", "-P", "-H"]).arg(name).args(["-H", "plain=w"]);
    let mut kcat = kcat.stdin(Stdio::piped()).spawn().expect("kcat is installed (apt-get install kcat)");
    kcat.stdin.take().unwrap().write_all((line(1) + &line(2)).as_bytes()).unwrap();
    assert!(kcat.wait().unwrap().success());
    let mut process = dataset.kafka(&cluster.broker()).set("transform.sql", "SELECT id, ts, region, _headers AS h FROM events").spawn();
    process.wait_for_rows(2);
    process.stop(Signal::TERM).assert_code(0);
    assert!(dataset.rows().iter().all(|row| row["h"] == json!(r#"{"\\xE9t\\xE9":"v","plain":"w"}"#)), "{:?}", dataset.rows());
}
