//! What an operator does to a dataset: adopting, declaring files expired, repairing; and what stands in the ledger afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::common::Dataset;
use crate::common::lines::{ids, lines};
use crate::common::process::Pintail;

/// Copies a directory with everything below it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

/// Returns the records of actions, as `(kind, text)`.
pub(crate) fn actions(dataset: &Dataset) -> Vec<(String, String)> {
    let mut records: Vec<PathBuf> = fs::read_dir(dataset.internal("commits/000000")).unwrap().map(|entry| entry.unwrap().path()).collect();
    records.sort();
    let read = |path: &PathBuf| -> Value { serde_json::from_str(fs::read_to_string(path).unwrap().lines().next().unwrap()).unwrap() };
    let action = |record: Value| {
        let action = record.get("action")?.clone();
        assert!(action["by"]["user"].is_string() && action["by"]["host"].is_string() && action["by"]["pid"].is_u64(), "{action}");
        Some((action["kind"].as_str()?.to_owned(), action["text"].as_str()?.to_owned()))
    };
    records.iter().map(read).filter_map(action).collect()
}

fn config(dataset: &Dataset, limit: u64) -> Pintail<'_> {
    dataset.simulator(limit)
}

#[test]
fn files_whose_ledger_is_lost_are_refused_until_they_are_adopted_and_then_everything_fits() {
    let dataset = Dataset::new();
    config(&dataset, 1000).run_ok();
    let files = dataset.data_files();
    fs::remove_dir_all(dataset.internal("")).unwrap();
    config(&dataset, 1000).run().assert_refused(78, &["no ledger", "pintail adopt", "_pintail"]);
    config(&dataset, 1000).args(["check"]).run().assert_refused(78, &["pintail adopt"]);
    assert!(!dataset.internal("").exists(), "a refusal makes nothing");

    let other = config(&dataset, 1000).set("transform.sql", "SELECT user_id, region FROM events").set("sink.event_time", "");
    other.args(["adopt"]).run().assert_refused(78, &["nothing was adopted", "which the SQL does not return"]);
    assert!(!dataset.internal("").exists());

    let adopted = config(&dataset, 1000).args(["adopt"]).run_ok();
    assert!(adopted.stdout.contains(&format!("{} files with 1,000 rows", files.len())), "{}", adopted.stdout);
    dataset.pintail().args(["verify"]).run_ok();
    assert_eq!(actions(&dataset)[0].0, "adopt");
    // The source has no position: what it has is read again, under names that are not taken.
    config(&dataset, 500).run_ok();
    assert_eq!(dataset.rows_len(), 1500);
    dataset.pintail().args(["verify"]).run_ok();
}

#[test]
fn a_ledger_older_than_its_files_is_refused_by_run_and_check_and_can_adopt_them() {
    let dataset = Dataset::new();
    config(&dataset, 1000).run_ok();
    let older = dataset.root().join("older");
    copy(&dataset.internal(""), &older);
    config(&dataset, 3000).run_ok();
    fs::remove_dir_all(dataset.internal("")).unwrap();
    copy(&older, &dataset.internal(""));
    config(&dataset, 3000).run().assert_refused(65, &["the ledger is older than the files", "pintail adopt"]);
    config(&dataset, 3000).args(["check"]).run().assert_refused(65, &["the ledger is older than the files"]);
    assert_eq!(dataset.pintail().args(["verify"]).run().code(), 65);

    config(&dataset, 3000).args(["adopt"]).run_ok();
    dataset.pintail().args(["verify"]).run_ok();
    config(&dataset, 3000).run_ok();
    // Of 1,000 events it knew; the other 2,000 are there twice, as it said.
    assert_eq!(dataset.rows_len(), 5000);
    dataset.pintail().args(["verify"]).run_ok();
}

#[test]
fn a_removed_file_is_told_by_verify_and_the_service_until_its_rows_are_declared_expired() {
    let dataset = Dataset::new();
    config(&dataset, 1000).run_ok();
    fs::remove_file(dataset.out().join(&dataset.data_files()[0])).unwrap();
    for arguments in [&["verify"][..], &["verify", "--fast"]] {
        dataset.pintail().args(arguments).run().assert_refused(65, &["is missing", "pintail expire"]);
    }
    config(&dataset, 2000).run_ok();
    config(&dataset, 2000).args(["expire", "--before", "2025-12-31"]).run_ok();
    dataset.pintail().args(["verify"]).run().assert_refused(65, &["is missing"]);
    config(&dataset, 2000).args(["expire", "--before", "2026-06-01T00:00:00Z"]).run_ok();
    let verified = dataset.pintail().args(["verify"]).run_ok();
    assert!(verified.stdout.contains("1 expired files are gone"), "{}", verified.stdout);
    assert_eq!(actions(&dataset).iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), ["expire", "expire"]);
    config(&dataset, 3000).run_ok();
}

#[test]
fn a_lost_or_damaged_key_is_refused_until_the_operator_gives_the_evidence_up_and_nothing_is_read_twice() {
    for damage in [None, Some("")] {
        let dataset = Dataset::new();
        dataset.write("logs/a.ndjson", lines(0..200));
        let run = || dataset.file("logs/*.ndjson");
        run().run_ok();
        match damage {
            None => fs::remove_file(dataset.internal("KEY")).unwrap(),
            Some(content) => fs::write(dataset.internal("KEY"), content).unwrap(),
        }
        run().run().assert_refused(65, &["KEY", "pintail repair --key"]);
        run().args(["repair", "--key"]).run_ok();
        assert_eq!(actions(&dataset)[0].0, "repair");
        let again = run().args(["repair", "--key"]).run_ok().stdout;
        assert!(again.contains("sound: nothing was changed") && actions(&dataset).len() == 1, "{again}");
        dataset.append("logs/a.ndjson", lines(200..250));
        run().run_ok();
        assert_eq!(dataset.ids(), ids(0..250), "damage {damage:?}");
        dataset.pintail().args(["verify"]).run_ok();
    }
}

#[test]
fn an_operators_command_waits_for_the_service_to_stop() {
    let dataset = Dataset::new();
    let mut service = config(&dataset, 0).set("source.rate", 10_000).set("pipeline.checkpoint_interval", "100ms").spawn();
    service.wait_for_rows(1);
    for arguments in [&["expire", "--before", "2026-06-01"][..], &["adopt"]] {
        config(&dataset, 0).args(arguments).run().assert_refused(75, &["is held by process", &service.pid().to_string()]);
    }
    service.stop(Signal::TERM).assert_code(0);
}

#[test]
fn a_start_that_accepts_gaps_says_who_started_it() {
    let dataset = Dataset::new();
    config(&dataset, 1000).run_ok();
    config(&dataset, 2000).args(["run", "--accept"]).run_ok();
    let accepted = actions(&dataset);
    assert_eq!((accepted.len(), accepted[0].0.as_str()), (1, "accept"));
    dataset.assert_simulated(2000);
}

#[test]
fn a_service_whose_lock_somebody_removed_commits_nothing_more() {
    let dataset = Dataset::new();
    let mut service = config(&dataset, 0).set("source.rate", 10_000).set("pipeline.checkpoint_interval", "100ms").spawn();
    service.wait_for_rows(1);
    fs::remove_file(dataset.internal("LOCK")).unwrap();
    service.wait().assert_refused(75, &["LOCK` was removed"]);
    let rows = dataset.rows_len() as u64;
    dataset.assert_simulated(rows);
    config(&dataset, rows + 1000).run_ok();
    dataset.assert_simulated(rows + 1000);
}

#[test]
fn a_query_names_the_file_that_is_damaged_and_blames_no_file_for_its_own_faults() {
    let dataset = Dataset::new();
    config(&dataset, 100_000).run_ok();
    let file = dataset.out().join(&dataset.data_files()[1]);
    let sound = fs::read(&file).unwrap();
    let query = |sql: &str| config(&dataset, 1).args(["query", sql]).run();
    let own = ["SELECT CAST(sku AS INT) FROM events", "SELECT error('mine') FROM events", "SELECT nope FROM events"];
    own.iter().for_each(|sql| query(sql).assert_refused(78, &["quer"]));
    // Amid the pages, and amid the footer: its length and the marks at its ends are as they were.
    for at in [sound.len() / 2, sound.len() - 60] {
        let mut damaged = sound.clone();
        damaged[at..at + 40].fill(0xee);
        fs::write(&file, damaged).unwrap();
        let refused = query("SELECT sum(amount), max(sku), max(user_id), max(ts) FROM events");
        refused.assert_refused(65, &[file.to_str().unwrap(), "pintail verify"]);
        dataset.pintail().args(["verify"]).run().assert_refused(65, &[file.to_str().unwrap()]);
    }
}

#[test]
fn a_replay_beside_its_service_is_told_to_wait_until_that_is_stopped() {
    let dataset = Dataset::new();
    let mut service = config(&dataset, 0).set("source.rate", 10_000).set("pipeline.checkpoint_interval", "100ms").spawn();
    service.wait_for_rows(1);
    let refused = config(&dataset, 0).args(["dead-letters", "--replay"]).run();
    refused.assert_refused(75, &[&service.pid().to_string(), "stop that first"]);
    assert!(!refused.errors().contains("out_path"), "elsewhere there is nothing to replay: {}", refused.errors());
    config(&dataset, 0).run().assert_refused(75, &["out_path"]);
    service.stop(Signal::TERM).assert_code(0);
}

#[test]
fn a_file_in_a_directory_that_is_no_hive_partition_is_not_adopted() {
    let dataset = Dataset::new();
    let partitioned = || config(&dataset, 100);
    partitioned().run_ok();
    let file = dataset.data_files()[0].clone();
    let partition = dataset.out().join(file.parent().unwrap());
    for (place, said) in [("sub", "`sub`"), ("region=elsewhere", "`region=…` twice")] {
        let dir = partition.join(place);
        fs::create_dir(&dir).unwrap();
        fs::copy(dataset.out().join(&file), dir.join("copy.parquet")).unwrap();
        partitioned().args(["adopt"]).run().assert_refused(78, &["copy.parquet", said, "nothing was adopted", "out of the dataset"]);
        fs::remove_dir_all(dir).unwrap();
    }
    dataset.pintail().args(["verify"]).run_ok();
}

#[test]
fn a_copy_is_not_adopted_and_what_was_adopted_by_mistake_is_undone_by_the_command_that_is_named() {
    let dataset = Dataset::new();
    config(&dataset, 1000).run_ok();
    let file = dataset.out().join(&dataset.data_files()[0]);
    let (copy, foreign) = (file.with_file_name("copy.parquet"), file.with_file_name("foreign.parquet"));
    fs::copy(&file, &copy).unwrap();
    config(&dataset, 1000).args(["adopt"]).run().assert_refused(78, &["copy.parquet", "nothing was adopted"]);
    fs::remove_file(&copy).unwrap();

    let other = Dataset::new();
    config(&other, 50).run_ok();
    fs::copy(other.out().join(&other.data_files()[0]), &foreign).unwrap();
    for is_ledger_lost in [false, true] {
        if is_ledger_lost {
            fs::rename(dataset.internal(""), dataset.root().join("ledger")).unwrap();
        }
        let before = fs::read_dir(dataset.root()).unwrap().count();
        let said = config(&dataset, 1000).args(["adopt"]).run_ok().stdout;
        assert!(said.starts_with("adopting") && said.contains("foreign.parquet"), "what it is about to do comes first: {said}");
        dataset.pintail().args(["verify"]).run_ok();
        let (_, undo) = said.split_once("`mkdir ").expect("the way back");
        let undo = format!("mkdir {}", undo.split_once('`').unwrap().0);
        let undone = std::process::Command::new("sh").args(["-c", &undo]).current_dir(dataset.root()).status().unwrap();
        assert!(undone.success() && fs::read_dir(dataset.root()).unwrap().count() > before, "{undo}");
        if is_ledger_lost {
            config(&dataset, 1000).run().assert_refused(78, &["no ledger"]);
            fs::rename(dataset.root().join("ledger"), dataset.internal("")).unwrap();
        } else {
            dataset.pintail().args(["verify"]).run().assert_refused(65, &["foreign.parquet` is visible"]);
        }
    }
    fs::remove_file(&foreign).unwrap();
    config(&dataset, 2000).run_ok();
    dataset.assert_simulated(2000);
    dataset.assert_clean();
}
