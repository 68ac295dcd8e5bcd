//! Records that end the process which runs them.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::Dataset;
use crate::common::process::{Outcome, Pintail};

/// Memory at which the test ends the service, as the kernel would at a container's limit: far below what the deadly record takes.
const KILOBYTES_MAX: u64 = 400 << 10;
const RECORDS: i64 = 24;
const DEADLY: [i64; 2] = [5, 17];

fn pipeline(dataset: &Dataset) -> Pintail<'_> {
    let columns = json!([
        { "name": "id", "type": "int64" },
        { "name": "ts", "type": "timestamp_ms" },
        { "name": "region", "type": "text" },
        { "name": "length", "type": "int64" },
    ]);
    let sql = "SELECT id, ts, region, length(repeat('x', length)) AS length FROM events";
    let pintail = dataset.file("events.ndjson").set("schema.columns", columns).set("transform.sql", sql);
    pintail.set("transform.memory_limit", "64MiB").set("transform.threads", 1)
}

/// Runs the service, and kills it when it takes too much memory.
fn run_in_a_container(dataset: &Dataset) -> Outcome {
    let mut process = pipeline(dataset).spawn();
    let status = format!("/proc/{}/status", process.pid());
    while process.is_running() {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let field = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
        if field.is_some_and(|kilobytes| kilobytes.parse::<u64>().unwrap() > KILOBYTES_MAX) {
            return process.kill();
        }
        thread::sleep(Duration::from_millis(2));
    }
    process.wait()
}

#[test]
fn a_record_that_ends_the_process_is_set_aside_at_the_third_start_and_its_neighbours_are_not() {
    let dataset = Dataset::new();
    let length = |id| if DEADLY.contains(&id) { 900_000_000 } else { id };
    let event = |id| json!({ "id": id, "ts": 1_767_225_600_000 + id, "region": "eu", "length": length(id) }).to_string() + "\n";
    dataset.write("events.ndjson", (0..RECORDS).map(event).collect::<String>());
    for _ in 0..2 {
        run_in_a_container(&dataset).assert_code(137);
        assert_eq!(dataset.rows_len(), 0);
    }
    let third = run_in_a_container(&dataset);
    third.assert_code(0);
    assert_eq!(dataset.ids(), (0..RECORDS).filter(|id| !DEADLY.contains(id)).collect::<Vec<_>>());
    let letters = dataset.dead_letters();
    let ids: Vec<_> = letters.iter().map(id_of).collect();
    assert_eq!(ids, DEADLY, "{letters:?}");
    assert!(letters[0]["reason"].as_str().unwrap().contains("memory"), "{letters:?}");
    dataset.assert_clean();

    // Afterwards nothing is tried.
    let again = pipeline(&dataset).run_ok();
    assert!(!again.stderr.contains("tried"), "{}", again.stderr);
}

fn id_of(letter: &Value) -> i64 {
    serde_json::from_str::<Value>(letter["record"].as_str().unwrap()).unwrap()["id"].as_i64().unwrap()
}

#[test]
fn a_record_that_cannot_be_interrupted_is_set_aside_at_the_third_start_in_a_time_that_does_not_grow_with_the_halvings() {
    let dataset = Dataset::new();
    let length = |id| if id == 50 { 3_000_000 } else { 1 };
    let event = |id| json!({ "id": id, "ts": 1_767_225_600_000 + id, "region": "eu", "length": length(id) }).to_string() + "\n";
    dataset.write("events.ndjson", (0..64_i64).map(event).collect::<String>());
    let sql = "SELECT id, ts, region, levenshtein(repeat('x', length), repeat('y', length)) AS length FROM events";
    let pintail = || pipeline(&dataset).set("transform.sql", sql).set("transform.timeout", "100ms").set("transform.memory_limit", "1GiB");
    for _ in 0..2 {
        let mut process = pintail().spawn();
        thread::sleep(Duration::from_secs(2));
        assert!(process.is_running(), "it can be interrupted");
        process.kill();
    }
    // A stop is obeyed at once, and does not count as an end of the trial.
    let stopped = pintail().spawn();
    thread::sleep(Duration::from_secs(1));
    let begun = Instant::now();
    stopped.stop(Signal::TERM).assert_code(75);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let begun = Instant::now();
    pintail().run().assert_code(0);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!(dataset.ids(), (0..64).filter(|id| *id != 50).collect::<Vec<_>>());
    let letters = dataset.dead_letters();
    assert_eq!(letters.iter().map(id_of).collect::<Vec<_>>(), [50], "{letters:?}");
}
