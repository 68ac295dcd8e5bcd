//! Files that grow, move and vanish.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::common::Dataset;
use crate::common::lines::{ids, line, lines};
use crate::common::process::log_lines;

#[test]
fn appended_lines_are_read_and_a_torn_one_waits_for_its_end() {
    let dataset = Dataset::new();
    dataset.append("a.ndjson", lines(0..10));
    let mut process = dataset.follow("a.ndjson").spawn();
    process.wait_for_rows(10);
    let torn = line(10);
    let (head, tail) = torn.split_at(12);
    dataset.append("a.ndjson", head);
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(dataset.ids(), ids(0..10), "half a line is no record");
    dataset.append("a.ndjson", tail);
    dataset.append("a.ndjson", lines(11..500));
    process.wait_for_rows(500);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..500));
    assert!(dataset.dead_letters().is_empty());
    dataset.assert_clean();
}

#[test]
fn a_torn_line_at_the_stop_is_read_whole_after_the_restart() {
    let dataset = Dataset::new();
    let torn = line(10);
    let (head, tail) = torn.split_at(12);
    dataset.append("a.ndjson", lines(0..10) + head);
    let mut process = dataset.follow("a.ndjson").spawn();
    process.wait_for_rows(10);
    process.stop(Signal::TERM).assert_code(0);
    dataset.append("a.ndjson", tail);
    let mut process = dataset.follow("a.ndjson").spawn();
    process.wait_for_rows(11);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..11));
    assert!(dataset.dead_letters().is_empty());
}

#[test]
fn a_file_renamed_while_it_is_followed_is_read_to_its_end() {
    let dataset = Dataset::new();
    dataset.append("a.ndjson", lines(0..10));
    let mut process = dataset.follow("a.ndjson").spawn();
    process.wait_for_rows(10);
    for turn in 0..3 {
        let next = 10 + turn * 200;
        dataset.append("a.ndjson", lines(next..next + 100));
        fs::rename(dataset.root().join("a.ndjson"), dataset.root().join(format!("a.ndjson.{turn}"))).unwrap();
        dataset.append("a.ndjson", lines(next + 100..next + 200));
        process.wait_for_rows(next as usize + 200);
    }
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..610));
    dataset.assert_clean();
}

#[test]
fn a_file_renamed_while_nobody_looked_is_found_by_its_identity() {
    let dataset = Dataset::new();
    dataset.append("a.ndjson", lines(0..100));
    let mut process = dataset.follow("a.ndjson").spawn();
    process.wait_for_rows(100);
    process.stop(Signal::TERM).assert_code(0);
    dataset.append("a.ndjson", lines(100..200));
    fs::rename(dataset.root().join("a.ndjson"), dataset.root().join("a.ndjson.1")).unwrap();
    dataset.append("a.ndjson", lines(200..300));

    let mut process = dataset.follow("a.ndjson").spawn();
    process.wait_for_rows(300);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..300));
    dataset.assert_clean();
}

#[test]
fn a_rotated_file_that_still_matches_is_not_read_twice() {
    let dataset = Dataset::new();
    dataset.append("logs/app.ndjson", lines(0..100));
    let mut process = dataset.follow("logs/*.ndjson").spawn();
    process.wait_for_rows(100);
    fs::rename(dataset.root().join("logs/app.ndjson"), dataset.root().join("logs/app.1.ndjson")).unwrap();
    dataset.append("logs/app.ndjson", lines(100..200));
    process.wait_for_rows(200);
    process.stop(Signal::TERM).assert_code(0);
    fs::rename(dataset.root().join("logs/app.1.ndjson"), dataset.root().join("logs/app.2.ndjson")).unwrap();
    dataset.append("logs/app.ndjson", lines(200..201));
    let mut process = dataset.follow("logs/*.ndjson").spawn();
    process.wait_for_rows(201);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..201));
    dataset.assert_clean();
}

#[test]
fn a_new_file_that_matches_is_taken_up() {
    let dataset = Dataset::new();
    dataset.append("in/a.ndjson", lines(0..10));
    let mut process = dataset.follow("in/*.ndjson").spawn();
    process.wait_for_rows(10);
    dataset.append("in/b.ndjson", lines(10..20));
    dataset.append("in/ignored.txt", lines(1000..1010));
    process.wait_for_rows(20);
    dataset.append("in/a.ndjson", lines(20..30));
    process.wait_for_rows(30);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..30));
    let last = dataset.last_commit();
    assert_eq!((last.positions.len(), last.spans().len()), (2, 1), "each file is a source partition, and a record has those that moved");
}

#[test]
fn a_truncated_file_is_refused_at_the_start_or_recorded() {
    let dataset = Dataset::new();
    dataset.append("a.ndjson", lines(0..100));
    let mut process = dataset.follow("a.ndjson").spawn();
    process.wait_for_rows(100);
    process.stop(Signal::TERM).assert_code(0);
    // As `copytruncate` does it: the same inode, other content, shorter than what was read.
    dataset.write("a.ndjson", lines(100..110));

    let refused = dataset.follow("a.ndjson").run();
    assert_ne!(refused.code(), 0);
    refused.assert_refused(refused.code(), &["a.ndjson", "on_gap"]);
    assert_eq!(dataset.ids(), ids(0..100));

    let mut process = dataset.follow("a.ndjson").set("source.on_gap", "record").spawn();
    process.wait_for_rows(110);
    let log = process.log();
    process.stop(Signal::TERM).assert_code(0);
    assert!(log_lines(&log, &["WARN"]).contains("a.ndjson"), "{log}");
    assert_eq!(dataset.ids(), ids(0..110));
    dataset.assert_clean();
}

#[test]
fn a_file_truncated_while_it_is_followed_stops_the_line_after_what_was_committed() {
    let dataset = Dataset::new();
    dataset.append("a.ndjson", lines(0..100));
    let mut process = dataset.follow("a.ndjson").spawn();
    process.wait_for_rows(100);
    dataset.write("a.ndjson", "");
    let refused = process.wait();
    assert_ne!(refused.code(), 0);
    refused.assert_refused(refused.code(), &["a.ndjson"]);
    assert_eq!(dataset.ids(), ids(0..100));
    assert!(dataset.commits().iter().all(|commit| commit.trigger() == "interval"), "a failure ends in no barrier");
    dataset.assert_clean();
}

#[test]
fn a_file_that_vanished_with_unread_lines_is_noticed() {
    let dataset = Dataset::new();
    dataset.append("in/a.ndjson", lines(0..100));
    dataset.append("in/b.ndjson", lines(100..110));
    let mut process = dataset.follow("in/*.ndjson").spawn();
    process.wait_for_rows(110);
    process.stop(Signal::TERM).assert_code(0);
    dataset.append("in/a.ndjson", lines(110..120));
    fs::remove_file(dataset.root().join("in/a.ndjson")).unwrap();

    // What it held beyond the commit cannot be known, so its absence is told; whether as a refusal is for `on_gap` to say.
    let mut process = dataset.follow("in/*.ndjson").set("source.on_gap", "record").spawn();
    dataset.append("in/b.ndjson", lines(120..130));
    process.wait_for_rows(120);
    let log = process.log();
    process.stop(Signal::TERM).assert_code(0);
    assert!(log_lines(&log, &["WARN"]).contains("a.ndjson"), "{log}");
    dataset.assert_clean();
}
