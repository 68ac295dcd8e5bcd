//! Poison among good records.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::lines::{ids, line, lines};
use crate::common::process::Pintail;
use crate::common::{Dataset, wait_until, walk};

/// Fails on a record whose `sku` is no number.
const STRICT: &str = "SELECT id, ts, region, CAST(sku AS INTEGER) AS sku FROM events";
/// Takes such a record without the number.
const MENDED: &str = "SELECT id, ts, region, TRY_CAST(sku AS INTEGER) AS sku FROM events";

fn pipeline<'a>(dataset: &'a Dataset, sql: &str) -> Pintail<'a> {
    let columns = json!([
        { "name": "id", "type": "int64", "required": true },
        { "name": "ts", "type": "timestamp_ms", "required": true },
        { "name": "region", "type": "text" },
        { "name": "sku", "type": "text" },
    ]);
    dataset.file("events.ndjson").set("schema.columns", columns).set("transform.sql", sql)
}

fn event(id: i64, fields: Value) -> String {
    let mut event = json!({ "id": id, "ts": 1_767_225_600_000 + id, "region": "eu", "sku": id.to_string() });
    event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    event.to_string()
}

/// A record that must be rejected: its phase and its bytes.
struct Poison {
    phase: &'static str,
    bytes: Vec<u8>,
}

fn poison() -> Vec<Poison> {
    let poison = |phase, bytes: &str| Poison { phase, bytes: bytes.into() };
    let mut invalid = event(5001, json!({ "sku": "?" })).into_bytes();
    let at = invalid.iter().position(|byte| *byte == b'?').unwrap();
    invalid[at] = 0xff;
    vec![
        poison("decode", "{\"id\": 5000, \"ts\": "),
        Poison { phase: "decode", bytes: invalid },
        poison("decode", &event(5002, json!({ "id": "not a number" }))),
        poison("decode", &event(5003, json!({ "ts": null }))),
        poison("decode", r#"{"ts":1767225600000,"region":"eu"}"#),
        poison("decode", "[1, 2, 3]"),
        poison("sql", &event(5005, json!({ "sku": "x1" }))),
        poison("sql", &event(5006, json!({ "sku": "99999999999999" }))),
        poison("sink", &event(5007, json!({ "region": "a\u{0}b" }))),
        poison("sink", &event(5008, json!({ "region": "r".repeat(300) }))),
    ]
}

#[test]
fn poison_is_set_aside_record_by_record_and_the_rest_goes_on() {
    let dataset = Dataset::new();
    let (mut input, mut expected) = (Vec::new(), Vec::new());
    for (i, poison) in poison().into_iter().enumerate() {
        let first = i as i64 * 100;
        lines(first..first + 100).lines().for_each(|line| input.extend([line.as_bytes(), b"\n"].concat()));
        expected.push((input.len() as u64, poison.phase, poison.bytes.clone()));
        input.extend([&poison.bytes[..], b"\n"].concat());
    }
    input.extend(line(1000).bytes());
    dataset.write("events.ndjson", &input);
    pipeline(&dataset, STRICT).set("pipeline.batch_rows", 256).run_ok();

    assert_eq!(dataset.ids(), ids(0..1001));
    let counts = dataset.counts();
    assert_eq!((counts.records_in, counts.rows_out, counts.filtered, counts.expanded), (1011, 1001, 0, 0));
    assert_eq!((counts.decode, counts.sql, counts.sink), (6, 2, 2));
    dataset.assert_clean();

    let mut letters = dataset.dead_letters();
    letters.sort_by_key(|letter| letter["offset"].as_u64());
    assert_eq!(letters.len(), expected.len());
    for (letter, (offset, phase, bytes)) in letters.iter().zip(&expected) {
        assert_eq!((letter["offset"].as_u64(), letter["phase"].as_str()), (Some(*offset), Some(*phase)), "{letter}");
        assert!(letter["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{letter}");
        assert!(holds(letter, bytes), "the original bytes {:?} in {letter}", String::from_utf8_lossy(bytes));
    }
    let reason = |i: usize| letters[i]["reason"].as_str().unwrap().to_owned();
    assert!(reason(2).contains("id") && reason(3).contains("ts") && reason(4).contains("id") && reason(6).contains("x1"), "{letters:?}");
}

/// Returns whether some text of a dead letter is, or encodes, the original bytes.
fn holds(letter: &Value, bytes: &[u8]) -> bool {
    let encoded = [base64(bytes), bytes.iter().map(|byte| format!("{byte:02x}")).collect()];
    let strings: Vec<_> = letter.as_object().unwrap().values().filter_map(Value::as_str).collect();
    strings
        .iter()
        .any(|text| text.as_bytes() == bytes || encoded.iter().any(|encoded| encoded.trim_end_matches('=') == text.trim_end_matches('=')))
}

/// Encodes after RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        text.extend((0..=group.len()).map(|i| char::from(ALPHABET[(bits >> (18 - 6 * i)) as usize & 63])));
    }
    text
}

#[test]
fn a_record_beyond_the_limit_keeps_its_head_and_its_length() {
    let dataset = Dataset::new();
    let huge = event(1, json!({ "sku": "x".repeat(3_000_000) }));
    dataset.write("events.ndjson", format!("{}{huge}\n{}", line(0), line(2)));
    pipeline(&dataset, STRICT).run_ok();
    assert_eq!(dataset.ids(), [0, 2]);
    let letters = dataset.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["length"].as_u64(), Some(huge.len() as u64));
    assert!(holds(&letters[0], &huge.as_bytes()[..64 << 10]), "the first 64 KiB");
    dataset.assert_clean();
}

#[test]
fn a_wrong_schema_does_not_eat_the_stream() {
    let dataset = Dataset::new();
    let text: String = (0..2000).map(|id| if id % 5 == 0 { "{\"id\": \n".to_owned() } else { line(id) }).collect();
    dataset.write("events.ndjson", text);
    let outcome = pipeline(&dataset, STRICT).run();
    outcome.assert_refused(65, &["dead", "ratio_max"]);
    assert_eq!((dataset.commits_len(), dataset.data_files().len(), dataset.dead_letters().len()), (0, 0, 0));

    pipeline(&dataset, STRICT).set("dead_letters.ratio_max", 0.5).run_ok();
    assert_eq!((dataset.counts().decode, dataset.rows_len()), (400, 1600));
    dataset.assert_clean();
}

#[test]
fn a_few_bad_records_of_a_short_input_stop_nothing() {
    let dataset = Dataset::new();
    dataset.write("events.ndjson", format!("nonsense\nmore\n{}", line(0)));
    pipeline(&dataset, STRICT).run_ok();
    assert_eq!((dataset.ids(), dataset.counts().decode), (vec![0], 2));
}

#[test]
fn dead_letters_are_listed_by_phase_with_samples() {
    let dataset = Dataset::new();
    let sql = event(1, json!({ "sku": "x1" }));
    let sink = event(2, json!({ "region": "a\u{0}b" }));
    dataset.write("events.ndjson", format!("{}broken-json\n{sql}\n{sink}\n", line(0)));
    pipeline(&dataset, STRICT).run_ok();
    let listed = dataset.pintail().args(["dead-letters", "--samples", "3"]).run_ok().stdout;
    for word in ["decode", "sql", "sink", "broken-json", "x1"] {
        assert!(listed.contains(word), "`{word}` in\n{listed}");
    }

    let dataset = Dataset::new();
    dataset.write("events.ndjson", line(0));
    pipeline(&dataset, STRICT).run_ok();
    dataset.pintail().args(["dead-letters"]).run_ok();
}

#[test]
fn a_file_of_rejected_records_that_is_gone_is_missed_until_it_is_declared_expired() {
    let dataset = Dataset::new();
    dataset.write("events.ndjson", format!("nonsense\n{}", line(0)));
    pipeline(&dataset, STRICT).run_ok();
    dataset.write("events.ndjson", format!("nonsense\n{}more nonsense\n{}", line(0), line(1)));
    pipeline(&dataset, STRICT).run_ok();
    let files = walk(&dataset.internal("dead_letters"));
    fs::remove_file(files.iter().min().unwrap()).unwrap();
    let listed = dataset.pintail().args(["dead-letters"]).run();
    listed.assert_refused(65, &["1 rejected record is missing", "dead_letters/", "pintail verify"]);
    assert!(listed.stdout.contains("1 dead letter\n"), "{}", listed.stdout);
    dataset.pintail().args(["expire", "--before", "2200-01-01T00:00:00Z", "--force"]).run_ok();
    dataset.pintail().args(["dead-letters"]).run_ok();
}

#[test]
fn sql_that_fails_on_every_record_stops_soon_and_not_after_a_search_through_all() {
    let dataset = Dataset::new();
    let sql = "SELECT epoch_ms(timestamp) AS ts, region, CAST(sku AS INTEGER) AS amount FROM events";
    let outcome = dataset.simulator(50_000).set("transform.sql", sql).run();
    outcome.assert_refused(65, &["ratio_max", "conversion error"]);
    assert_eq!((dataset.commits_len(), dataset.data_files().len()), (0, 0));
}

#[test]
fn per_batch_sql_that_fails_on_a_record_stops_and_says_what_to_do() {
    let dataset = Dataset::new();
    let sql = "SELECT max(epoch_ms(timestamp)) AS ts, region, sum(CAST(sku AS INTEGER)) AS amount FROM events GROUP BY region";
    let outcome = dataset.simulator(1_000).set("transform.sql", sql).set("transform.per_batch", true).run();
    outcome.assert_refused(65, &["per_batch", "try_cast"]);
    assert_eq!(dataset.commits_len(), 0);
}

#[test]
fn mended_dead_letters_are_replayed_once() {
    let dataset = Dataset::new();
    let bad = |id: i64| event(id, json!({ "sku": format!("x{id}") })) + "\n";
    dataset.write("events.ndjson", lines(0..50) + &bad(50) + &lines(51..99) + &bad(99));
    pipeline(&dataset, STRICT).run_ok();
    assert_eq!((dataset.rows_len(), dataset.counts().sql), (98, 2));

    pipeline(&dataset, MENDED).args(["dead-letters", "--replay"]).run_ok();
    assert_eq!(dataset.ids(), ids(0..100));
    dataset.assert_clean();
    let commits = dataset.commits_len();
    pipeline(&dataset, MENDED).args(["dead-letters", "--replay"]).run_ok();
    assert_eq!((dataset.ids(), dataset.commits_len()), (ids(0..100), commits), "a second replay adds nothing");
    let listed = dataset.pintail().args(["dead-letters"]).run_ok().stdout;
    assert!(listed.contains("0 dead letters, and"), "what was replayed is no longer listed:\n{listed}");

    // The source goes on where it was, and takes the replayed records for no gap of its own.
    dataset.append("events.ndjson", lines(100..110));
    pipeline(&dataset, MENDED).run_ok();
    assert_eq!(dataset.ids(), ids(0..110));
    dataset.assert_clean();
}

#[test]
fn simulated_events_that_the_sql_cannot_take_keep_their_row() {
    let dataset = Dataset::new();
    let sql = "SELECT epoch_ms(timestamp) AS ts, user_id, amount, sku, 'low' AS bucket,
        CASE WHEN timestamp % 1000 = 7 THEN CAST('poison' AS INTEGER) ELSE 1 END AS n, region FROM events";
    // A constant that fails would fail for all: the value has to come from the record.
    let sql = sql.replace("CAST('poison' AS INTEGER)", "CAST(sku || 'poison' AS INTEGER)");
    dataset.simulator(60_000).set("transform.sql", sql).set("pipeline.batch_rows", 10_000).run_ok();
    let counts = dataset.counts();
    // 50 events share each millisecond; 60,000 events last 1,200 ms.
    assert_eq!((counts.sql, counts.rows_out), (100, 59_900));
    let letters = dataset.dead_letters();
    assert!(letters.iter().all(|letter| (letter["offset"].as_u64().unwrap() / 50) % 1000 == 7), "event n is at n × 20 µs");
    dataset.assert_clean();
}

#[test]
fn no_text_of_a_record_and_no_kind_of_error_stops_the_line() {
    let fragile = [
        ("pintail's own function: x", "CAST(sku AS INTEGER)"),
        ("Out of Memory Error: x", "CAST(sku AS INTEGER)"),
        ("x", "list_reduce(CASE WHEN sku = 'x' THEN []::INTEGER[] ELSE [1, 2] END, lambda a, b: a + b)"),
        ("x", "json_deserialize_sql(CASE WHEN sku = 'x' THEN '{}' ELSE json_serialize_sql('SELECT 1') END)"),
        ("x", "CASE WHEN sku = 'x' THEN error('IO Error: ' || sku) ELSE sku END"),
        ("x", "regexp_matches('a', CASE WHEN sku = 'x' THEN '(' ELSE sku END)"),
    ];
    for (text, expression) in fragile {
        let dataset = Dataset::new();
        dataset.write("events.ndjson", lines(0..10) + &event(10, json!({ "sku": text })) + "\n" + &lines(11..20));
        pipeline(&dataset, &format!("SELECT id, ts, region, {expression} AS v FROM events")).run_ok();
        let letters = dataset.dead_letters();
        assert_eq!((dataset.rows_len(), letters.len()), (19, 1), "{expression}");
        assert!(letters[0]["record"].as_str().unwrap().contains(text), "{letters:?}");
        dataset.assert_clean();
    }
}

#[test]
fn a_reason_is_short_and_holds_nothing_that_a_terminal_obeys() {
    let dataset = Dataset::new();
    let long = event(1, json!({ "sku": format!("\u{1b}]0;PWNED\u{7}{}", "x".repeat(100_000)) }));
    dataset.write("events.ndjson", format!("{}{long}\n{{\"id\":\"\u{1b}[2J\"}}\n", line(0)));
    pipeline(&dataset, STRICT).run_ok();
    let letters = dataset.dead_letters();
    assert_eq!(letters.len(), 2);
    for letter in &letters {
        let reason = letter["reason"].as_str().unwrap();
        assert!(reason.len() <= 200 && !reason.chars().any(char::is_control), "{reason:?}");
    }
    assert!(letters[0]["reason"].as_str().unwrap().ends_with("source column sku"), "{letters:?}");
    assert!(holds(&letters[0], long.as_bytes()), "the record itself is kept whole");
    let listed = dataset.pintail().args(["dead-letters"]).run_ok().stdout;
    assert!(!listed.chars().any(|c| c.is_control() && c != '\n'), "{listed:?}");
}

#[test]
fn a_million_records_that_are_alike_are_a_few_bytes_of_dead_letters_and_each_is_known() {
    let dataset = Dataset::new();
    dataset.write("events.ndjson", "1\n".repeat(500_000) + &line(0) + &"1\n".repeat(500_000));
    pipeline(&dataset, STRICT).set("dead_letters.ratio_max", 1.0).run_ok();
    assert_eq!((dataset.counts().decode, dataset.rows_len()), (1_000_000, 1));
    let kept: u64 = walk(&dataset.internal("dead_letters")).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(kept < 20_000, "{kept} bytes");
    dataset.assert_clean();
    let places: Vec<u64> = dataset.dead_letters().iter().map(|letter| letter["offset"].as_u64().unwrap()).collect();
    let expected = (0..500_000).map(|n| n * 2).chain((0..500_000).map(|n| 1_000_000 + line(0).len() as u64 + n * 2));
    assert!(places.into_iter().eq(expected), "each record at its place");
    assert!(dataset.pintail().args(["dead-letters"]).run_ok().stdout.contains("1,000,000 dead letters"));
}

#[test]
fn many_dead_letters_end_a_checkpoint_before_its_time() {
    let dataset = Dataset::new();
    let text: String = (0..20_000).map(|id| format!("{{\"id\": {id} {}\n", "x".repeat(500))).collect();
    dataset.write("events.ndjson", text);
    let settings = pipeline(&dataset, STRICT).set("dead_letters.ratio_max", 1.0).set("dead_letters.bytes_max", "100KiB");
    settings.set("pipeline.checkpoint_interval", "1h").set("pipeline.batch_rows", 500).set("pipeline.chunk_channel", 1).run_ok();
    assert_eq!(dataset.counts().decode, 20_000);
    assert!(dataset.commits_len() >= 3, "{} commits", dataset.commits_len());
    dataset.assert_clean();
}

#[test]
fn a_replay_takes_what_it_can_and_what_fails_again_stays_with_the_sql_that_was_tried() {
    let dataset = Dataset::new();
    let bad = |id: i64| event(id, json!({ "sku": if id % 3 == 0 { format!("{id}.0") } else { format!("x{id}") } })) + "\n";
    dataset.write("events.ndjson", (0..3_000).map(bad).collect::<String>());
    pipeline(&dataset, STRICT).set("dead_letters.ratio_max", 1.0).run_ok();
    let strict = "SELECT id, ts, region, CASE WHEN sku LIKE 'x%' THEN CAST(sku AS INTEGER) END AS sku FROM events";
    let replay = || pipeline(&dataset, strict).args(["dead-letters", "--replay"]).run_ok();
    replay();
    let third: Vec<i64> = (0..3_000).filter(|id| id % 3 == 0).collect();
    assert_eq!(dataset.ids(), third);
    dataset.assert_clean();
    let last = dataset.last_commit();
    let tried: Vec<Value> = dataset.dead_letters().into_iter().filter(|letter| !letter["tried_sql_sha256"].is_null()).collect();
    assert_eq!(tried.len(), 2_000);
    assert!(tried.iter().all(|letter| letter["tried_sql_sha256"] == last.value["sql_sha256"]), "{:?}", tried[0]);
    let listed = dataset.pintail().args(["dead-letters"]).run_ok().stdout;
    assert!(listed.contains("2,000  of all these were rejected again by a replay"), "{listed}");
    replay();
    assert_eq!(dataset.ids(), third);
    pipeline(&dataset, MENDED).args(["dead-letters", "--replay"]).run_ok();
    assert_eq!(dataset.ids(), ids(0..3_000));
    dataset.assert_clean();
}

#[test]
fn a_stop_amid_a_search_ends_at_once_and_the_open_checkpoint_is_read_again() {
    let dataset = Dataset::new();
    dataset.write("events.ndjson", lines(0..20_000));
    // Many records of the second batch fail, in a way that only trying them one after the other finds.
    let sql = "SELECT id, ts, region, list_reduce(CASE WHEN id >= 10000 AND id % 100 = 0 THEN []::INTEGER[] ELSE [1, 2] END, lambda a, b: a + b) \
               AS v FROM events";
    let run = || pipeline(&dataset, sql).set("dead_letters.ratio_max", 1.0).set("pipeline.batch_rows", 10_000).set("transform.threads", 1);
    let process = run().spawn();
    wait_until("the search", || process.log().contains("setting the records aside"));
    let outcome = process.stop(Signal::TERM);
    outcome.assert_code(0);
    assert!(outcome.waited < Duration::from_secs(4), "{:?}", outcome.waited);
    assert_eq!((dataset.rows_len(), dataset.dead_letters().len()), (0, 0));
    dataset.pintail().args(["verify"]).run_ok();
    run().run_ok();
    let all: Vec<i64> = (0..20_000).filter(|id| *id < 10_000 || id % 100 > 0).collect();
    assert_eq!(dataset.ids(), all);
    dataset.assert_clean();
}

#[test]
fn a_replay_of_letters_that_are_not_what_their_record_says_is_refused_and_nothing_of_it_is_read() {
    let dataset = Dataset::new();
    for (id, name) in [(1, "one"), (2, "two")] {
        dataset.write("events.ndjson", (1..=id).map(|id| event(id, json!({ "sku": "x" })) + "\n").collect::<String>());
        pipeline(&dataset, STRICT).set("dead_letters.ratio_max", 1.0).run_ok();
        assert_eq!(dataset.dead_letters().len(), id as usize, "after {name}");
    }
    let first = walk(&dataset.internal("dead_letters")).into_iter().min().unwrap();
    let path = dataset.internal("dead_letters").join(first);
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, whole.replace("\\\"id\\\":1", "\\\"id\\\":9")).unwrap();
    assert_ne!(fs::read_to_string(&path).unwrap(), whole);
    let replay = || pipeline(&dataset, MENDED).args(["dead-letters", "--replay"]);
    replay().run().assert_refused(65, &["is not what commit record", "nothing was replayed", "verify"]);
    assert_eq!(dataset.rows_len(), 0);
    fs::write(&path, whole).unwrap();
    replay().run_ok();
    assert_eq!(dataset.ids(), ids(1..3));
}
