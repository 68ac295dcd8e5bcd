//! Compaction from the command line: few files of many, what all commands say of them then, and what is refused.

use std::fs;
use std::path::PathBuf;

use crate::common::Dataset;
use crate::common::process::Pintail;

/// Ten minutes for each 1,000 events, which are of 20 milliseconds.
const SQL: &str = "SELECT epoch_ms(1767225600000 + (timestamp - 1767225600000) * 30000) AS ts, user_id, amount, region FROM events";

fn config(dataset: &Dataset, limit: u64) -> Pintail<'_> {
    dataset.simulator(limit).set("transform.sql", SQL).set("sink.event_time", "ts").set("sink.partition_by", vec!["region"])
}

/// A dataset of so many checkpoints, six of which are of an hour.
fn filled(checkpoints: u64) -> Dataset {
    let dataset = Dataset::new();
    for number in 1..=checkpoints {
        config(&dataset, number * 1_000).run_ok();
    }
    dataset
}

/// Asks for figures that depend on each value.
fn sums(dataset: &Dataset) -> String {
    let sql = "SELECT count(*) AS n, sum(user_id) AS users, sum(hash(ts, user_id, amount, region)::HUGEINT) AS hashes FROM events";
    dataset.pintail().args(["query", "--format", "csv", sql]).run_ok().stdout
}

#[test]
fn the_small_files_of_closed_hours_become_one_each_with_the_same_rows_and_verify_query_and_the_service_go_on_from_there() {
    let dataset = filled(14);
    let (files, before) = (dataset.data_files(), sums(&dataset));
    let planned = config(&dataset, 0).args(["compact", "--dry-run"]).run_ok().stdout;
    assert!(planned.contains("would be rewritten") && planned.contains("region=us 2026-01-01 00:00, 6 files"), "{planned}");
    assert_eq!(dataset.data_files(), files);

    let foreign = dataset.out().join("region=us/NOTES");
    fs::write(&foreign, "of somebody else").unwrap();
    let told = config(&dataset, 0).args(["compact"]).run_ok().stdout;
    assert!(told.contains("60 files with") && told.contains("became 10 files"), "{told}");
    assert_eq!(dataset.data_files().len(), files.len() - 50);
    assert_eq!((sums(&dataset), fs::read_to_string(foreign).unwrap().as_str()), (before.clone(), "of somebody else"));
    let verified = dataset.pintail().args(["verify"]).run_ok().stdout;
    assert!(verified.contains("10 rewrites put the rows of 60 files into 10 files"), "{verified}");
    let beside: Vec<PathBuf> = fs::read_dir(dataset.out().parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!beside.iter().any(|path| path.to_string_lossy().ends_with(".compaction")), "{beside:?}");
    // Each row is in one file, and nothing is left to do.
    assert!(config(&dataset, 0).args(["compact"]).run_ok().stdout.contains("nothing to compact"));

    config(&dataset, 20_000).run_ok();
    dataset.pintail().args(["verify"]).run_ok();
    assert_ne!(sums(&dataset), before);
    config(&dataset, 0).args(["expire", "--before", "2026-01-01T01:00:00Z", "--remove"]).run_ok();
    let verified = dataset.pintail().args(["verify"]).run_ok().stdout;
    assert!(verified.contains("5 expired files are gone"), "{verified}");
}

#[test]
fn a_damaged_file_is_not_merged_and_one_that_was_replaced_and_put_back_is_told() {
    let dataset = filled(9);
    let of_the_hour = |file: &&PathBuf| file.starts_with("region=eu") && file.to_string_lossy().contains("2026-01-01-00");
    let damaged = dataset.out().join(dataset.data_files().iter().find(of_the_hour).unwrap());
    let whole = fs::read(&damaged).unwrap();
    let mut bytes = whole.clone();
    bytes[20] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    config(&dataset, 0).args(["compact"]).run().assert_refused(65, &["is not what commit record", "pintail verify"]);
    fs::write(&damaged, &whole).unwrap();
    config(&dataset, 0).args(["compact"]).run_ok();
    dataset.pintail().args(["verify"]).run_ok();
    fs::write(&damaged, &whole).unwrap();
    dataset.pintail().args(["verify"]).run().assert_refused(65, &["was replaced by commit record", "counts its rows twice"]);
}

#[test]
fn what_cannot_be_compacted_is_refused_by_its_name_with_the_reason_and_nothing_is_changed() {
    let dataset = filled(8);
    let files = dataset.data_files();
    config(&dataset, 0).args(["publish"]).run_ok();
    config(&dataset, 0).args(["compact"]).run().assert_refused(78, &["Delta table", "nothing was changed"]);
    fs::remove_dir_all(dataset.out().join("_delta_log")).unwrap();
    // A directory of somebody's in one hive partition: the others are compacted.
    fs::create_dir(dataset.out().join("region=us/_archive")).unwrap();
    let told = config(&dataset, 0).args(["compact"]).run_ok().stdout;
    assert!(told.contains("region=us is left as it is") && told.contains("_archive"), "{told}");
    assert_eq!(dataset.data_files().len(), files.len() - 20);
    config(&dataset, 0).args(["publish"]).run().assert_refused(78, &["were replaced by larger ones"]);

    let flat = Dataset::new();
    let of = |limit: u64| {
        flat.simulator(limit).set("transform.sql", SQL).set("sink.event_time", "ts").set("sink.partition_by", Vec::<&str>::new())
    };
    of(1_000).run_ok();
    of(0).args(["compact"]).run().assert_refused(78, &["has no hive partitions", "nothing was changed"]);
}
