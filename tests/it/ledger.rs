//! Other hands on a dataset: the lock, the ledger and files removed; and the commands for those who mean it.

use std::fs;

use rustix::process::Signal;

use crate::common::Dataset;

#[test]
fn each_start_writes_a_record_that_says_who_it_is() {
    let dataset = Dataset::new();
    let mut process = dataset.simulator(0).set("source.rate", 20_000).set("pipeline.checkpoint_interval", "100ms").spawn();
    process.wait_for_commits(1);
    let pid = process.pid();
    process.stop(Signal::TERM).assert_code(0);
    let records = dataset.records();
    let opened = &records[0].value["opened"];
    assert_eq!((records[0].is_open_record(), &records[0].value["epoch"], &opened["pid"]), (true, &1.into(), &pid.into()));
    assert!(opened["host"].is_string() && opened["boot_id"].is_string() && opened["started"].is_u64(), "{opened}");
    assert!(records[1..].iter().all(|record| record.is_checkpoint() && record.value["epoch"] == 1));
}

#[test]
fn a_process_whose_lock_was_removed_stops_when_another_has_started_and_nothing_is_lost_or_doubled() {
    let dataset = Dataset::new();
    let run = || dataset.simulator(0).set("source.rate", 20_000).set("pipeline.checkpoint_interval", "50ms");
    let mut first = run().spawn();
    first.wait_for_commits(1);
    // Wherever it is in its work when the other one starts.
    first.signal(Signal::STOP);
    fs::remove_file(dataset.internal("LOCK")).unwrap();
    let before = dataset.commits_len();
    let mut second = run().spawn();
    second.wait_for_commits(before + 2);
    first.signal(Signal::CONT);
    first.wait().assert_code(75);
    second.stop(Signal::TERM).assert_code(0);
    let done = dataset.last_commit().next_offset();
    dataset.simulator(done + 1000).run_ok();
    dataset.assert_clean();
    dataset.assert_simulated(done + 1000);
}

#[test]
fn a_process_whose_lock_was_removed_commits_nothing_more_even_if_nobody_else_starts() {
    let dataset = Dataset::new();
    let mut process = dataset.simulator(0).set("source.rate", 20_000).set("pipeline.checkpoint_interval", "50ms").spawn();
    process.wait_for_commits(1);
    fs::remove_file(dataset.internal("LOCK")).unwrap();
    process.wait().assert_refused(75, &["LOCK", "was removed"]);
    dataset.simulator(dataset.last_commit().next_offset() + 1000).run_ok();
    dataset.assert_clean();
}

#[test]
fn a_ledger_removed_under_a_process_is_not_begun_anew() {
    let dataset = Dataset::new();
    let mut process = dataset.simulator(0).set("source.rate", 20_000).set("pipeline.checkpoint_interval", "50ms").spawn();
    process.wait_for_commits(2);
    // Between two looks of a process that writes: again, until it is gone.
    while fs::remove_dir_all(dataset.internal("commits")).is_err() {}
    process.wait().assert_refused(65, &["somebody removed the ledger", "pintail adopt"]);
    assert!(dataset.records().is_empty());
    dataset.simulator(1000).run().assert_refused(65, &["the ledger is older than the files"]);
}

#[test]
fn files_without_a_ledger_are_refused_and_can_be_adopted() {
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    let file = dataset.data_files().pop().unwrap();
    fs::remove_dir_all(dataset.internal("")).unwrap();
    dataset.simulator(1000).run().assert_refused(78, &["no ledger", ".parquet", "pintail adopt"]);
    dataset.simulator(1000).args(["check"]).run().assert_code(78);
    assert!(!dataset.internal("").exists(), "a refused start makes nothing");

    let adopted = dataset.simulator(1000).args(["adopt"]).run_ok().stdout;
    assert!(adopted.contains("5 files with 1,000 rows"), "{adopted}");
    let records = dataset.records();
    let named: Vec<_> = records.iter().flat_map(|record| record.data_files()).collect();
    assert!(named.contains(&file) && named.len() == 5, "{named:?}");
    let action = &records.iter().find(|record| record.value["action"].is_object()).expect("an action").value["action"];
    assert_eq!(action["kind"], "adopt");
    assert!(action["by"]["user"].is_string() && action["by"]["host"].is_string(), "{action}");
    dataset.assert_clean();
    // Where reading goes on is lost with the ledger: what the files hold is read again.
    dataset.simulator(500).run_ok();
    assert_eq!(dataset.rows_len(), 1500);
    dataset.assert_clean();
}

#[test]
fn a_missing_file_is_named_until_old_files_are_declared_expired() {
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    let file = dataset.data_files().pop().unwrap();
    fs::remove_file(dataset.out().join(&file)).unwrap();
    for how in [&["verify"][..], &["verify", "--fast"]] {
        dataset.pintail().args(how).run().assert_refused(65, &[file.to_str().unwrap(), "is missing", "pintail expire"]);
    }
    dataset.simulator(1000).args(["expire", "--before", "2025-12-31"]).run_ok();
    dataset.pintail().args(["verify"]).run().assert_code(65);
    dataset.simulator(1000).args(["expire", "--before", "2026-01-02"]).run_ok();
    let verified = dataset.pintail().args(["verify"]).run_ok().stdout;
    assert!(verified.contains("1 expired files are gone"), "{verified}");
    dataset.simulator(2000).run_ok();
}

#[test]
fn a_declaration_says_what_it_covers_and_can_be_taken_back() {
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    let files = dataset.data_files();
    fs::remove_file(dataset.out().join(&files[0])).unwrap();
    let expire = |arguments: &[&str]| dataset.simulator(1000).args(["expire"]).args(arguments.iter().copied()).run();
    let far = expire(&["--before", "2999-01-01"]);
    far.assert_refused(78, &["in the future", "--force"]);
    let told = expire(&["--before", "2025-01-01"]).stdout;
    assert!(told.contains(&format!("covers none of {} files", files.len())), "{told}");
    let told = expire(&["--before", "2999-01-01", "--force"]).stdout;
    for said in
        ["covers 5 of 5 files, with 1,000 rows", "from 2026-01-01T00:00:00", "1 of these is gone", "pintail expire --take-back --config"]
    {
        assert!(told.contains(said), "{said} in {told}");
    }
    dataset.pintail().args(["verify"]).run_ok();

    let back = expire(&["--take-back"]);
    assert!(back.stdout.contains("only files older than 2025-01-01T00:00:00Z may be gone"), "{}", back.stdout);
    for arguments in [&["verify"][..], &["query", "SELECT 1"]] {
        dataset.pintail().args(arguments).run().assert_refused(65, &[files[0].to_str().unwrap(), "missing"]);
    }
    expire(&["--take-back"]).assert_code(0);
    expire(&["--take-back"]).assert_refused(78, &["nothing to take back"]);
    dataset.simulator(2000).run_ok();
}

#[test]
fn files_that_are_declared_expired_are_removed_if_that_is_asked_for_but_for_those_of_the_last_checkpoint() {
    let dataset = Dataset::new();
    for events in [1000, 2000] {
        dataset.simulator(events).run_ok();
    }
    let files = dataset.data_files();
    let expire = |arguments: &[&str]| dataset.pintail().args(["expire"]).args(arguments.iter().copied()).run();
    expire(&["--take-back", "--remove"]).assert_code(78);
    let told = expire(&["--before", "2026-02-01", "--remove"]);
    told.assert_code(0);
    assert!(
        told.stdout.contains("removed 5 files with ") && told.stdout.contains("5 files of the last checkpoint stay"),
        "{}",
        told.stdout
    );
    assert_eq!(dataset.data_files().len(), files.len() - 5);
    assert_eq!(dataset.rows_len(), 1000);
    let verified = dataset.pintail().args(["verify"]).run_ok().stdout;
    assert!(verified.contains("5 expired files are gone") && verified.ends_with("clean\n"), "{verified}");
    dataset.simulator(3000).run_ok();
    expire(&["--before", "2026-02-01", "--remove"]).assert_code(0);
    assert_eq!(dataset.rows_len(), 1000);
    dataset.pintail().args(["verify"]).run_ok();
}

#[test]
fn the_last_declaration_is_taken_back_also_if_an_earlier_one_covers_more() {
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    fs::remove_file(dataset.out().join(&dataset.data_files()[0])).unwrap();
    let expire = |arguments: &[&str]| dataset.pintail().args(["expire"]).args(arguments.iter().copied()).run_ok().stdout;
    expire(&["--before", "2026-02-01"]);
    let narrower = expire(&["--before", "2020-01-01"]);
    assert!(narrower.contains("holds still: files older than 2026-02-01T00:00:00Z"), "{narrower}");
    let back = expire(&["--take-back"]);
    assert!(back.contains("older than 2020-01-01T00:00:00Z may be gone is taken back: only files older than 2026-02-01"), "{back}");
    dataset.pintail().args(["verify"]).run_ok();
    let back = expire(&["--take-back"]);
    assert!(back.contains("no file may be gone") && back.contains("what is taken back covered 5 of 5 files"), "{back}");
    dataset.pintail().args(["verify"]).run().assert_refused(65, &["missing"]);
}

#[test]
fn a_file_that_was_replaced_by_one_of_another_length_is_named_by_query_and_answers_nothing() {
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    let files = dataset.data_files();
    fs::copy(dataset.out().join(&files[0]), dataset.out().join(&files[1])).unwrap();
    for sql in ["SELECT * FROM events", "SELECT count(*) FROM events", "SELECT 1"] {
        dataset.pintail().args(["query", sql]).run().assert_refused(65, &[files[1].to_str().unwrap(), "bytes", "pintail verify"]);
    }
    // Beside one that is gone, both are named.
    fs::remove_file(dataset.out().join(&files[2])).unwrap();
    let refused = dataset.pintail().args(["query", "SELECT 1"]).run();
    refused.assert_refused(65, &[files[1].to_str().unwrap(), files[2].to_str().unwrap(), "missing"]);
}

#[test]
fn a_fast_verify_reads_no_file() {
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    let path = dataset.out().join(dataset.data_files().pop().unwrap());
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let told = dataset.pintail().args(["verify", "--fast"]).run_ok().stdout;
    assert!(told.contains("none read"), "{told}");
    dataset.pintail().args(["verify"]).run().assert_code(65);
    bytes.pop();
    fs::write(&path, bytes).unwrap();
    dataset.pintail().args(["verify", "--fast"]).run().assert_code(65);
}

#[test]
fn a_key_that_is_gone_is_asked_for_and_not_made_anew() {
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    let key = dataset.internal("KEY");
    let content = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    dataset.simulator(2000).run().assert_refused(65, &["KEY` is missing"]);
    assert!(!key.exists());
    fs::write(&key, content).unwrap();
    dataset.simulator(2000).run_ok();
    dataset.assert_simulated(2000);
}

#[test]
fn a_check_compares_with_the_dataset() {
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    let records = dataset.records().len();
    dataset.simulator(2000).args(["check"]).run_ok();
    dataset.simulator(2000).set("source.seed", 43).args(["check"]).run().assert_refused(78, &["seed", "42", "43"]);
    assert_eq!(dataset.records().len(), records, "a check takes no number");
}
