//! Holds `config.example.toml` to the code.

use std::collections::BTreeSet;

use pintail_core::limits::descriptors::Descriptors;

use super::*;
use crate::reference::words::Words;

const EXAMPLE: &str = include_str!("../../../config.example.toml");

const FILE: [&str; 8] =
    ["path = \"events", "follow =", "on_gap =", "poll_interval =", "files_max =", "copies =", "remember =", "remember_max ="];

/// Those that have a default.
const HTTP: [&str; 12] = [
    "listen = \"127.0.0.1:8088",
    "allow_without_token =",
    "body_bytes_max =",
    "decompressed_bytes_max =",
    "bodies_bytes_max =",
    "body_timeout =",
    "idle_timeout =",
    "connections_max =",
    "ephemeral =",
    "journal_bytes_max =",
    "idempotency_ttl =",
    "idempotency_keys_max =",
];

/// Those that have a default: ways to log in and files of TLS have none.
const NATS: [&str; 6] = ["url =", "stream =", "consumer =", "unacknowledged_max =", "tls =", "on_gap ="];

const KAFKA: [&str; 6] = ["brokers =", "topics =", "group =", "partitions_interval =", "instance =", "on_gap ="];

/// The example with another `type`: the simulator's keys taken out, those of the other taken from their comments.
fn example_of(source: &str, keys: &[&str]) -> String {
    let simulator = ["seed =", "limit =", "rate ="];
    let mut lines = Vec::new();
    for line in EXAMPLE.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        match bare {
            "type = \"simulator\"" => lines.push(source),
            _ if keys.iter().any(|key| bare.starts_with(key)) => lines.push(bare),
            _ if simulator.iter().any(|key| line.starts_with(key)) => {}
            _ => lines.push(line),
        }
    }
    lines.join("\n")
}

fn report_of(text: &str) -> Report {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, format!("{text}\n# One without a word is refused.")).unwrap();
    let mut report = Report::default();
    read(
        RawConfig::collect(Some(&path), std::iter::empty(), &[]).unwrap(),
        KINDS,
        Limits { cores: 8, memory: None, descriptors: Descriptors::new(65_536) },
        &mut report,
    );
    assert_eq!(report.faults, [""; 0]);
    report
}

#[test]
fn the_example_holds_exactly_the_defaults() {
    assert_eq!(report_of(EXAMPLE).effective, report_of("").effective);
}

#[test]
fn the_keys_for_files_hold_exactly_the_defaults() {
    let least = "source.type = \"file\"\nsource.path = \"events/*.ndjson\"\n";
    assert_eq!(report_of(&example_of("type = \"file\"", &FILE)).effective, report_of(least).effective);
}

#[test]
fn the_keys_for_http_hold_exactly_the_defaults() {
    assert_eq!(report_of(&example_of("type = \"http\"", &HTTP)).effective, report_of("source.type = \"http\"\n").effective);
}

#[test]
fn the_keys_for_nats_hold_exactly_the_defaults() {
    let least = "source.type = \"nats\"\nsource.stream = \"EVENTS\"\n";
    assert_eq!(report_of(&example_of("type = \"nats\"", &NATS)).effective, report_of(least).effective);
}

#[test]
fn the_keys_for_kafka_hold_exactly_the_defaults() {
    let least = "source.type = \"kafka\"\nsource.brokers = \"127.0.0.1:9092\"\nsource.topics = \"events\"\n";
    let effective = |text: &str| {
        let mut effective = report_of(text).effective;
        // A list of one may be typed as its only text, which is told apart from it.
        effective.retain(|key, _| !["source.brokers", "source.topics"].contains(&key.as_str()));
        effective
    };
    assert_eq!(effective(&example_of("type = \"kafka\"", &KAFKA)), effective(least));
}

#[test]
#[cfg(feature = "bucket")]
fn the_keys_for_a_bucket_hold_exactly_the_defaults() {
    let with_default = ["[storage]", "allow_http =", "request_timeout =", "connect_timeout =", "scratch =", "heartbeat ="];
    let bare =
        |line: &'static str| line.strip_prefix("# ").filter(|bare| with_default.iter().any(|key| bare.starts_with(key))).unwrap_or(line);
    let of_bucket = |line: &'static str| match line {
        "out_path = \"checkpoints/\"" => "out_path = \"s3://lake/events\"",
        "checkpoint_interval = \"30s\"" => "checkpoint_interval = \"60s\"",
        line => bare(line),
    };
    let example: Vec<&str> = EXAMPLE.lines().map(of_bucket).collect();
    assert_eq!(report_of(&example.join("\n")).effective, report_of("pipeline.out_path = \"s3://lake/events\"\n").effective);
}

#[test]
fn every_key_of_the_code_is_in_the_example_and_no_other() {
    let lookup = "\n[[transform.lookup]]\nname = \"a\"\npath = \"a.csv\"\n";
    let table = "\n[[table]]\nname = \"a\"\nformat = \"delta\"\n";
    let known = report_of(&format!("{EXAMPLE}{lookup}{table}")).known;
    let is_read = |name: &&str| cfg!(feature = "bucket") || !name.starts_with("storage.");
    assert_eq!(Words::of_example().names().filter(is_read).map(str::to_owned).collect::<BTreeSet<_>>(), known);
}
