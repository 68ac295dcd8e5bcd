//! The JSON that the page is made of.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::http::{events, get, request};
use crate::common::lines::{line, lines};
use crate::common::{Dataset, wait_until};

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().map(String::as_str).collect()
}

#[track_caller]
fn assert_keys(value: &Value, wanted: &str) {
    let missing: Vec<_> = wanted.split_whitespace().filter(|key| !keys(value).contains(key)).collect();
    assert!(missing.is_empty(), "{missing:?} are missing in {value}");
}

#[test]
fn the_status_has_every_field_of_its_contract_and_the_figures_of_the_records() {
    let dataset = Dataset::new();
    let mut process = dataset.watched().spawn();
    let address = process.admin();
    process.wait_for_commits(3);
    wait_until("the rates", || get(address, "/api/status").json()["records_per_second"].as_f64().unwrap() > 0.0);
    let status = get(address, "/api/status").json();
    assert_keys(
        &status,
        "version dataset_id out_path source partition_by state ready not_ready started_at now records_in rows_out filtered expanded \
         dead_letters open records_per_second lag_records lag_bytes checkpoint stages channels group_by value groups partitions \
         partitions_more dead_letter_reasons memory_bytes duckdb_memory_bytes query",
    );
    assert_keys(&status["dead_letters"], "decode sql sink");
    assert_keys(&status["open"], "records_in dead_letters oldest_seconds");
    assert_keys(&status["checkpoint"], "sequence interval_seconds seconds_since");
    assert_keys(&status["query"], "enabled token rows_max timeout_seconds");
    assert_eq!((&status["state"], &status["ready"], &status["source"]), (&"running".into(), &true.into(), &"simulator".into()));
    assert_eq!(status["checkpoint"]["interval_seconds"], 0.1);
    let names: Vec<_> = status["stages"].as_array().unwrap().iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["producer", "batcher", "transformer", "writer"]);
    for stage in status["stages"].as_array().unwrap() {
        assert!((0.0..=1.0).contains(&stage["busy"].as_f64().unwrap()), "{stage}");
    }
    assert_eq!(status["channels"].as_array().unwrap().len(), 3);
    assert_keys(&status["channels"][0], "from to length capacity blocked");
    assert_keys(&status["groups"][0], "name rows mean open_rows");
    assert_keys(&status["partitions"][0], "partition rows bytes files");
    assert!(status["partitions"][0]["partition"].as_str().unwrap().starts_with("region="));
    assert!(status["memory_bytes"].as_u64().unwrap() > 10_000_000);

    let checkpoints = get(address, "/api/checkpoints?limit=2").json();
    assert_eq!(checkpoints.as_array().unwrap().len(), 2);
    assert_keys(&checkpoints[0], "sequence trigger at files rows records_in filtered expanded dead_letters bytes duration_ms");
    assert!(checkpoints[0]["sequence"].as_u64() > checkpoints[1]["sequence"].as_u64(), "newest first");
    assert_eq!(get(address, "/api/checkpoints?limit=x").status, 400);
    let history = get(address, "/api/history").json();
    assert_eq!(history["interval_seconds"], 5);
    assert_keys(&history["samples"][0], "at records_per_second lag_records lag_bytes open_oldest_seconds");
    process.stop(Signal::TERM).assert_code(0);
}

#[test]
fn after_a_restart_the_figures_are_those_since_the_dataset_began() {
    let dataset = Dataset::new();
    dataset.append("events.ndjson", lines(0..1_000));
    dataset.append("events.ndjson", "broken <script>alert(1)</script>\n");
    dataset.follow("events.ndjson").set("source.follow", false).run_ok();
    let mut process = dataset.follow("events.ndjson").set("admin.listen", "127.0.0.1:0").spawn();
    let address = process.admin();
    wait_until("the old records", || get(address, "/api/status").json()["history_read"] == true);
    dataset.append("events.ndjson", line(1_000));
    wait_until("the new record", || get(address, "/api/status").json()["records_in"] == 1_002);
    let status = get(address, "/api/status").json();
    assert_eq!((&status["rows_out"], &status["dead_letters"]["decode"]), (&1_001.into(), &1.into()));
    let rows = |name: &str| {
        let partitions = status["partitions"].as_array().unwrap();
        partitions.iter().find(|partition| partition["partition"] == name).unwrap_or_else(|| panic!("{status}"))["rows"].clone()
    };
    assert_eq!((rows("region=eu"), rows("region=us")), (501.into(), 500.into()));
    let reason = &status["dead_letter_reasons"][0];
    assert_eq!((&reason["phase"], &reason["count"]), (&"decode".into(), &1.into()));
    assert_eq!(reason["samples"][0]["text"], "broken <script>alert(1)</script>");
    assert!(reason["samples"][0]["position"].as_str().unwrap().contains("events.ndjson@"), "{reason}");
    let checkpoints = get(address, "/api/checkpoints").json();
    let checkpoints = checkpoints.as_array().unwrap();
    assert_eq!(checkpoints.len(), dataset.commits_len());
    assert!(checkpoints[0]["duration_ms"].is_u64() && checkpoints.last().unwrap()["duration_ms"].is_null());
    // The metrics count from the start of the process.
    assert_eq!(get(address, "/metrics").metric("pintail_records_in_total"), 1.0);
    process.stop(Signal::TERM).assert_code(0);
}

#[test]
fn a_listener_gets_the_status_again_and_again_until_the_service_ends() {
    let dataset = Dataset::new();
    let mut process = dataset.watched().spawn();
    let address = process.admin();
    process.wait_for_commits(1);
    wait_until("the old records", || get(address, "/api/status").json()["history_read"] == true);
    let mut events = events(address);
    let seen: Vec<_> = events.by_ref().take(3).collect();
    let records: Vec<_> = seen.iter().map(|status| status["records_in"].as_u64()).collect();
    assert!(records.windows(2).all(|pair| pair[0] < pair[1]) && seen.len() == 3, "{records:?}");
    process.signal(Signal::TERM);
    assert!(events.count() < 20, "the stream ends with the service");
    process.wait().assert_code(0);
}

#[test]
fn more_listeners_than_there_is_room_for_are_sent_away_and_a_scrape_still_finds_room() {
    let dataset = Dataset::new();
    let mut process = dataset.watched().set("source.rate", 1000).spawn();
    let address = process.admin();
    process.wait_for_commits(1);
    let mut listeners: Vec<_> = (0..16).map(|_| events(address)).collect();
    listeners.iter_mut().for_each(|events| assert!(events.next().is_some()));
    assert_eq!(get(address, "/api/events").status, 429);
    assert_eq!(get(address, "/metrics").status, 200);
    drop(listeners);
    wait_until("room", || events(address).next().is_some());
    process.stop(Signal::TERM).assert_code(0);
}

#[test]
fn the_page_and_every_answer_are_kept_from_other_sites() {
    let dataset = Dataset::new();
    let mut process = dataset.watched().set("source.rate", 1000).spawn();
    let address = process.admin();
    let page = get(address, "/");
    assert!(page.status == 200 && page.body.starts_with("<!doctype html>"), "{page:?}");
    for path in ["/", "/healthz", "/api/status", "/nothing"] {
        let head = get(address, path).head.to_lowercase();
        assert!(head.contains("content-security-policy: default-src 'none'") && head.contains("x-content-type-options: nosniff"), "{head}");
        // A name that a foreign site has pointed at this machine.
        assert_eq!(request(address, "GET", path, &[("Host", "evil.example")], "").status, 403, "{path}");
        assert_eq!(request(address, "GET", path, &[("Host", "localhost:1")], "").status, if path == "/nothing" { 404 } else { 200 });
    }
    assert_eq!(request(address, "POST", "/api/status", &[], "").status, 405);
    process.stop(Signal::TERM).assert_code(0);
}
