//! Little or nothing to do.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::Dataset;
use crate::common::lines::{ids, line, lines};

#[test]
fn one_event_before_a_silence_is_visible_after_the_interval_and_the_silence_makes_no_record() {
    let dataset = Dataset::new();
    dataset.append("quiet.ndjson", "");
    let mut process = dataset.follow("quiet.ndjson").set("pipeline.checkpoint_interval", "1s").spawn();
    process.wait_until_started();
    dataset.append("quiet.ndjson", line(1));
    let begin = Instant::now();
    process.wait_for_rows(1);
    // The interval, the look at the file, and what a machine with two busy cores adds.
    assert!(begin.elapsed() < Duration::from_secs(3), "visible after {:?}", begin.elapsed());
    assert_eq!(dataset.commits_len(), 1);

    thread::sleep(Duration::from_millis(3200));
    assert_eq!(dataset.commits_len(), 1, "three idle intervals make no record");
    dataset.append("quiet.ndjson", line(2));
    process.wait_for_rows(2);
    process.stop(Signal::TERM).assert_code(0);
    let commits = dataset.commits();
    assert_eq!((commits.len(), commits[0].trigger()), (2, "interval"));
    assert_eq!(commits[1].seq, commits[0].seq + 1);
    assert_eq!(dataset.ids(), ids(1..3));
    dataset.assert_clean();
}

#[test]
fn one_event_on_an_open_standard_input_is_visible_after_the_interval() {
    let dataset = Dataset::new();
    let pintail = dataset.small_events().set("source.type", "stdin").set("pipeline.checkpoint_interval", "300ms");
    let mut process = pintail.stdin_open().spawn();
    process.wait_until_started();
    process.feed(lines(0..1));
    process.wait_for_rows(1);
    process.feed(lines(1..2));
    process.wait_for_rows(2);
    process.close_stdin();
    process.wait().assert_code(0);
    assert_eq!(dataset.ids(), ids(0..2));
    dataset.assert_clean();
}

#[test]
fn sql_that_takes_everything_away_still_moves_the_offsets() {
    let dataset = Dataset::new();
    let run = |limit| {
        let sql = "SELECT epoch_ms(timestamp) AS ts, user_id, region, amount, sku, 'none' AS bucket FROM events WHERE amount < 0";
        dataset.simulator(limit).set("transform.sql", sql).run_ok()
    };
    run(20_000);
    let counts = dataset.counts();
    assert_eq!((counts.records_in, counts.filtered, counts.rows_out), (20_000, 20_000, 0));
    let last = dataset.last_commit();
    assert_eq!((last.next_offset(), last.data_files().len(), dataset.data_files().len()), (20_000, 0, 0));

    let commits = dataset.commits_len();
    run(20_000);
    assert_eq!(dataset.commits_len(), commits, "a restart reads nothing twice");
    run(25_000);
    assert_eq!(dataset.counts().records_in, 25_000);
    dataset.assert_clean();
}

#[test]
fn an_empty_input_ends_well_and_makes_no_record() {
    let dataset = Dataset::new();
    dataset.small_events().set("source.type", "stdin").stdin("").run_ok();
    assert_eq!((dataset.commits_len(), dataset.data_files().len()), (0, 0));
    dataset.assert_clean();
}
