//! SIGTERM and SIGINT.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pintail::internals::Early;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::lines::{ids, line, lines};
use crate::common::process::Pintail;
use crate::common::{Dataset, wait_until};

/// `docker stop` kills after 10 s; the drain has 8.
const DRAIN: Duration = Duration::from_secs(8);

#[test]
fn sigterm_drains_the_line_and_a_restart_goes_on_behind_it() {
    drains_and_goes_on(Signal::TERM);
}

#[test]
fn sigint_drains_the_line_and_a_restart_goes_on_behind_it() {
    drains_and_goes_on(Signal::INT);
}

fn drains_and_goes_on(signal: Signal) {
    let dataset = Dataset::new();
    let run = |limit| dataset.simulator(limit).set("source.rate", 50_000).set("pipeline.checkpoint_interval", "200ms");
    let mut process = run(0).spawn();
    process.wait_for_commits(2);
    let outcome = process.stop(signal);
    outcome.assert_code(0);
    assert!(outcome.waited < DRAIN, "the drain took {:?}", outcome.waited);
    let last = dataset.last_commit();
    assert_eq!(last.trigger(), "shutdown");
    let done = last.next_offset();
    dataset.assert_simulated(done);

    run(done + 10_000).set("source.rate", 0).run_ok();
    assert_eq!(dataset.last_commit().next_offset(), done + 10_000);
    dataset.assert_simulated(done + 10_000);
    dataset.assert_clean();
}

/// Starts the line with a configuration that comes through a pipe, and sends SIGTERM before it comes.
fn stopped_before_its_configuration(dataset: &Dataset) -> (Child, PathBuf) {
    let config = dataset.root().join("config.toml");
    assert!(Command::new("mkfifo").arg(&config).status().unwrap().success());
    let mut command = Command::new(env!("CARGO_BIN_EXE_pintail"));
    let child =
        command.current_dir(dataset.root()).arg("--config").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let caught = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << (Signal::TERM.as_raw() - 1)) != 0
    };
    wait_until("a handler of SIGTERM", caught);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    (child, config)
}

#[test]
fn a_stop_that_comes_before_the_configuration_is_heeded_and_a_second_one_leaves_at_once() {
    let dataset = Dataset::new();
    let (mut child, config) = stopped_before_its_configuration(&dataset);
    fs::write(config, "admin.listen = \"\"\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let dataset = Dataset::new();
    let (mut child, _) = stopped_before_its_configuration(&dataset);
    thread::sleep(Duration::from_millis(50));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn what_was_read_long_before_the_interval_is_committed_at_a_signal() {
    let dataset = Dataset::new();
    dataset.write("events.ndjson", lines(0..1000));
    let mut process = dataset.follow("events.ndjson").set("pipeline.checkpoint_interval", "1h").spawn();
    process.wait_until_started();
    // Reading leaves no trace outside before the commit; the file is read at the first look.
    thread::sleep(Duration::from_millis(1500));
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..1000));
    let commits = dataset.commits();
    assert_eq!((commits.len(), commits[0].trigger()), (1, "shutdown"));
}

#[test]
fn lines_taken_from_standard_input_are_committed_at_a_signal() {
    let dataset = Dataset::new();
    let mut process = dataset.small_events().set("source.type", "stdin").stdin_open().spawn();
    process.wait_until_started();
    process.feed(lines(0..100));
    // From the pipe to the batcher is a step that leaves no trace outside.
    thread::sleep(Duration::from_millis(500));
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..100));
    assert_eq!(dataset.last_commit().trigger(), "shutdown");
    dataset.assert_clean();
}

#[test]
fn a_signal_ends_a_process_that_waits_for_standard_input() {
    for signal in [Signal::TERM, Signal::INT] {
        let dataset = Dataset::new();
        let mut process = dataset.small_events().set("source.type", "stdin").stdin_open().spawn();
        process.wait_until_started();
        let outcome = process.stop(signal);
        outcome.assert_code(0);
        assert!(outcome.waited < Duration::from_secs(3), "an idle process took {:?} to stop", outcome.waited);
        assert_eq!(dataset.commits_len(), 0, "nothing was read, so there is nothing to record");
    }
}

#[test]
fn a_signal_right_after_the_start_is_not_the_end_of_the_dataset() {
    // Into the start, ever a little later: in the recovery, before the first read, in the first batch.
    let dataset = Dataset::new();
    for delay in [0, 20, 60, 150] {
        let _ = fs::remove_file(dataset.internal("LOCK"));
        let mut process = dataset.simulator(0).spawn();
        process.wait_until("the lock", |dataset| dataset.internal("LOCK").exists());
        thread::sleep(Duration::from_millis(delay));
        process.stop(Signal::TERM).assert_code(0);
    }
    let done = dataset.commits().last().map_or(0, |commit| commit.next_offset());
    dataset.simulator(done + 1000).run_ok();
    assert_eq!(dataset.counts().rows_out, done + 1000);
    dataset.assert_clean();
}

/// SQL that holds a batch for minutes on its records, not on the empty batch of the start, and that no vector's end interrupts soon.
fn stuck(dataset: &Dataset) -> Pintail<'_> {
    let slow = "SELECT id, ts, region, levenshtein(repeat(region || id, 2000), repeat('x' || id, 2000)) AS d FROM events";
    dataset.write("events.ndjson", lines(0..4000));
    dataset.follow("events.ndjson").set("transform.sql", slow).set("transform.threads", 1)
}

#[test]
fn a_second_signal_leaves_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let dataset = Dataset::new();
        let mut process = stuck(&dataset).spawn();
        process.wait_until_started();
        thread::sleep(Duration::from_millis(700));
        process.signal(signal);
        thread::sleep(Duration::from_millis(300));
        assert!(process.is_running(), "the first signal waits for the batch in work");
        let outcome = process.stop(signal);
        outcome.assert_code(code);
        assert!(outcome.waited < Duration::from_millis(1000), "the second signal took {:?}", outcome.waited);
        assert_eq!((dataset.commits_len(), dataset.data_files().len()), (0, 0));
    }
}

/// As `timeout` of the GNU core utilities sends them, which then must not cost what was read from a pipe.
#[test]
fn signals_that_come_together_are_one() {
    let dataset = Dataset::new();
    let mut process = dataset.small_events().set("source.type", "stdin").stdin_open().spawn();
    process.feed(lines(0..1000));
    process.wait_until_started();
    // Reading leaves no trace outside before the commit.
    thread::sleep(Duration::from_millis(500));
    process.signal(Signal::TERM);
    process.signal(Signal::TERM);
    process.signal(Signal::INT);
    process.wait().assert_code(0);
    assert_eq!(dataset.ids(), ids(0..1000));
}

#[test]
fn a_drain_past_its_deadline_gives_up_and_the_records_are_read_again() {
    let dataset = Dataset::new();
    let mut process = stuck(&dataset).set("pipeline.shutdown_timeout", "500ms").spawn();
    process.wait_until_started();
    thread::sleep(Duration::from_millis(700));
    let outcome = process.stop(Signal::TERM);
    outcome.assert_code(75);
    assert!(outcome.waited < Duration::from_secs(4), "a deadline of 500 ms took {:?}", outcome.waited);
    assert_eq!((dataset.commits_len(), dataset.data_files().len()), (0, 0));

    dataset.append("events.ndjson", line(4000));
    dataset.file("events.ndjson").run_ok();
    assert_eq!(dataset.ids(), ids(0..4001));
    dataset.assert_clean();
}

/// Says to the copy of this test that runs as a process of its own which part it has.
const HANGING: &str = "PINTAIL_TEST_HANGS";

#[test]
fn a_stop_comes_to_its_end_in_time_also_if_the_runtime_hangs() {
    if std::env::var_os(HANGING).is_some() {
        return hang();
    }
    let name = "shutdown::a_stop_comes_to_its_end_in_time_also_if_the_runtime_hangs";
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut child = command.args(["--exact", name, "--nocapture"]).env(HANGING, "1").stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("it hangs")));
    let begun = Instant::now();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    wait_until("the end of the process", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(75));
    assert!(begun.elapsed() > Duration::from_millis(300) && begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

/// Blocks the only thread of a runtime that is to hear of the signal.
fn hang() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let _signals = pintail::internals::handle_signals(Early::install().unwrap(), Duration::from_millis(300), || {}).unwrap();
        println!("\nit hangs");
        thread::sleep(Duration::from_secs(60));
    });
}
