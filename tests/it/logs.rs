//! A log that cannot be written, or that nobody reads.

use std::time::Duration;

use pintail_storage::checkpoint::lock::{self, Seen};
use rustix::process::Signal;
use serde_json::json;

use crate::common::http::get;
use crate::common::process::{Pintail, Process, messages};
use crate::common::{Dataset, wait_until};

/// `docker stop` kills after 10 s; the drain has 8.
const DRAIN: Duration = Duration::from_secs(8);

/// A run that says much: a checkpoint every few milliseconds, with a long line about its groups.
fn loud(dataset: &Dataset) -> Pintail<'_> {
    let pintail = dataset.simulator(0).set("source.rate", 20_000).set("pipeline.batch_rows", 100).set("monitor.group_by", "user_id");
    pintail.set("monitor.groups_max", 1_000).set("pipeline.checkpoint_interval", "10ms").set("admin.listen", "127.0.0.1:0")
}

/// A shell that sends standard error elsewhere and becomes the program.
fn with_stderr(to: &str) -> [String; 3] {
    ["sh".into(), "-c".into(), format!("exec \"$0\" \"$@\" 2>{to}")]
}

#[test]
fn a_log_that_is_closed_or_full_stops_neither_the_line_nor_a_command() {
    for to in ["&-", "/dev/full"] {
        for format in ["text", "json"] {
            let dataset = Dataset::new();
            let run = dataset.simulator(20_000).set("log.format", format).set("log.level", "debug");
            run.through(with_stderr(to)).run_ok();
            dataset.assert_simulated(20_000);
        }
        let dataset = Dataset::new();
        let wrong = || dataset.pintail().set("source.type", "nothing").through(with_stderr(to));
        wrong().args(["check"]).run().assert_code(78);
        wrong().run().assert_code(78);
        dataset.pintail().args(["health"]).through(with_stderr(to)).run().assert_code(75);
    }
}

#[test]
fn digits_that_are_cut_and_records_without_values_are_told_once() {
    let dataset = Dataset::new();
    let columns = json!([{ "name": "id", "type": "int64" }, { "name": "at", "type": "timestamp" }]);
    let run = |lines: &str| {
        let run = dataset.pintail().set("source.type", "stdin").set("schema.columns", columns.clone()).set("pipeline.batch_rows", 2);
        let run = run.set("transform.sql", "SELECT * FROM events").set("sink.partition_by", json!([])).set("sink.event_time", "");
        let log = run.set("monitor.group_by", "id").set("monitor.value", "id").stdin(lines).run_ok().stderr;
        let told = ["digits behind the microsecond are cut", "is a row of nulls"].map(|words| log.matches(words).count());
        (told, log)
    };
    let exact = "{\"id\":1,\"at\":\"2026-01-05T10:00:00.123456000Z\"}\n{\"id\":2}\n";
    assert_eq!(run(exact).0, [0, 0]);
    let cut = "{\"id\":3,\"at\":\"2026-01-05T10:00:00.123456789Z\"}\n";
    let (told, log) = run(&[cut, "{}\n", "{\"other\":1}\n", "{\"id\":null,\"at\":null}\n", cut, cut].concat());
    assert_eq!(told, [1, 1], "{log}");
    assert!(log.contains("\"column\":\"at\""), "{log}");
    assert_eq!((dataset.rows_len(), dataset.counts().decode), (8, 0));
}

#[test]
fn a_log_whose_reader_is_gone_stops_nothing() {
    let dataset = Dataset::new();
    let mut process = loud(&dataset).log_unread().spawn();
    process.wait_for_commits(3);
    process.close_log();
    let commits = dataset.commits_len();
    process.wait_for_commits(commits + 20);
    let outcome = process.stop(Signal::TERM);
    outcome.assert_code(0);
    dataset.assert_simulated(dataset.last_commit().next_offset());
}

/// Waits until log lines are dropped, because nobody reads them.
fn wait_for_drops(process: &mut Process<'_>) {
    process.wait_for_commits(1);
    process.wait_until("lines to be dropped", |dataset| {
        // Where the admin server listens the log would say.
        let seen = lock::look(dataset.out().as_path()).unwrap();
        let Seen::Held { admin: Some(address), .. } = seen else { panic!("no admin server") };
        get(address, "/metrics").metric("pintail_log_lines_dropped_total") > 0.0
    });
}

#[test]
fn how_many_lines_were_dropped_is_said_as_soon_as_the_log_is_read_again() {
    let dataset = Dataset::new();
    let mut process = loud(&dataset).log_unread().spawn();
    wait_for_drops(&mut process);
    process.read_log();
    wait_until("the count", || !messages(&process.log(), "log lines were dropped: nobody took them").is_empty());
    let told: u64 =
        messages(&process.log(), "log lines were dropped: nobody took them").iter().map(|told| told["lines"].as_u64().unwrap()).sum();
    assert!(told > 0);
    process.stop(Signal::TERM).assert_code(0);
}

#[test]
fn a_log_that_nobody_reads_holds_up_neither_the_line_nor_its_end_also_on_one_core() {
    let dataset = Dataset::new();
    // Core 0 is there on every machine that lets a test choose.
    let mut process = loud(&dataset).through(["taskset", "-c", "0"]).log_unread().spawn();
    wait_for_drops(&mut process);
    let commits = dataset.commits_len();
    process.wait_for_commits(commits + 20);
    let outcome = process.stop(Signal::TERM);
    outcome.assert_code(0);
    assert!(outcome.waited < DRAIN, "{:?}", outcome.waited);
    dataset.assert_simulated(dataset.last_commit().next_offset());
}
