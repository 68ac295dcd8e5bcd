//! A ledger in a bucket that is older than its files, damaged, or gone.

use std::collections::BTreeSet;

use pintail_storage::checkpoint::paths::Paths;

use super::*;

/// Returns the objects of a dataset's ledger.
fn ledger(weed: &Weed, name: &str) -> Vec<(String, Vec<u8>)> {
    let keys = weed.keys(name).into_iter().filter(|key| key.starts_with("_pintail/"));
    keys.map(|key| (key.clone(), weed.get(name, &key))).collect()
}

/// Removes what lies below `_pintail`, and lays down what lay there before.
fn put_ledger_back(weed: &Weed, name: &str, ledger: &[(String, Vec<u8>)]) {
    weed.keys(name).iter().filter(|key| key.starts_with("_pintail/")).for_each(|key| weed.remove(name, key));
    ledger.iter().for_each(|(key, bytes)| weed.put(name, key, bytes.clone()));
}

#[test]
fn an_older_ledger_in_a_bucket_is_refused_by_run_check_query_and_verify_and_goes_on_without_the_newer_files() {
    let (weed, dataset) = (Weed::start(), Dataset::new());
    let run = |events| weed.take(stream(&dataset, events), "older").set("source.rate", 100_000);
    run(30_000).run_ok();
    let (older, last) = (ledger(&weed, "older"), weed.records("older") as u64);
    run(60_000).run_ok();
    put_ledger_back(&weed, "older", &older);
    for args in [&["run"][..], &["check"], &["query", "SELECT count(*) FROM events"]] {
        let refused = run(60_000).args(args).run();
        let said = format!("the last commit record is {last}: the ledger is older than the files");
        assert!(refused.stderr.contains(&said) && !refused.stderr.contains("adopt"), "{args:?}: {}", refused.stderr);
        refused.assert_code(65);
    }
    let verified = weed.take(dataset.pintail(), "older").args(["verify", "--fast"]).run();
    assert!(verified.stderr.contains("is visible, but no commit record names it"), "{}", verified.stderr);
    verified.assert_code(65);
    // The way out that the message names.
    let newer = |key: &String| Paths::new("").checkpoint_of(Path::new(key)).is_some_and(|checkpoint| checkpoint > last);
    data_files(&weed, "older").iter().filter(|key| newer(key)).for_each(|key| weed.remove("older", key));
    run(60_000).run_ok();
    assert_simulated(&weed, "older", &dataset, 60_000);
}

#[test]
fn a_service_whose_bucket_is_emptied_or_put_back_under_it_ends_and_publishes_nothing_more() {
    let (weed, dataset) = (Weed::start(), Dataset::new());
    for (name, emptied) in [("emptied", true), ("put-back", false)] {
        let run = || weed.take(stream(&dataset, 10_000_000), name).set("source.rate", 20_000);
        let mut process = run().spawn();
        process.wait_until("a commit", |_| weed.records(name) >= 2);
        process.stop(Signal::TERM).assert_code(0);
        let older: Vec<_> = weed.keys(name).into_iter().map(|key| (key.clone(), weed.get(name, &key))).collect();
        let before = weed.records(name);
        let mut process = run().spawn();
        process.wait_until("another commit", |_| weed.records(name) >= before + 3);
        process.signal(Signal::STOP);
        weed.keys(name).iter().for_each(|key| weed.remove(name, key));
        if !emptied {
            older.iter().for_each(|(key, bytes)| weed.put(name, key, bytes.clone()));
        }
        let (data, records) = (data_files(&weed, name), weed.records(name));
        // Longer than a request takes.
        std::thread::sleep(Duration::from_millis(1_500));
        process.signal(Signal::CONT);
        let ended = process.wait_within(Duration::from_secs(20));
        assert!(
            ended.stderr.contains("`s3://lake/") && ended.stderr.contains("which this process found or wrote, is gone"),
            "{}",
            ended.stderr
        );
        ended.assert_code(65);
        // What was under way when it was stopped may have come to be, and nothing after it.
        let new = data_files(&weed, name).into_iter().filter(|key| !data.contains(key));
        let checkpoints: BTreeSet<_> = new.map(|key| Paths::new("").checkpoint_of(Path::new(&key))).collect();
        assert!(checkpoints.len() <= 1 && weed.records(name) <= records + 1, "{name}: {checkpoints:?}");
    }
}

#[test]
fn a_snapshot_that_is_gone_from_a_bucket_is_made_again_from_the_records() {
    let (weed, dataset) = (Weed::start(), Dataset::new());
    let run = |events| weed.take(stream(&dataset, events), "snapshot").set("pipeline.checkpoint_interval", "20ms");
    let snapshots = || weed.keys("snapshot").into_iter().filter(|key| key.starts_with("_pintail/snapshots/")).collect::<Vec<_>>();
    let mut events = 0;
    while snapshots().is_empty() {
        events += 200_000;
        run(events).set("source.rate", 40_000).set("pipeline.batch_rows", 500).run_ok();
    }
    let last = snapshots().pop().unwrap();
    let whole = weed.get("snapshot", &last);
    weed.remove("snapshot", &last);
    let refused = run(events).run();
    assert!(refused.stderr.contains("pintail repair --snapshot"), "{}", refused.stderr);
    refused.assert_code(65);
    let told = run(events).args(["repair", "--snapshot"]).run_ok().stdout;
    assert!(told.contains("was made again from the records"), "{told}");
    assert!(weed.get("snapshot", &last) == whole, "byte for byte");
    run(events).run_ok();
    assert_simulated(&weed, "snapshot", &dataset, events);
}

#[test]
fn check_refuses_a_bucket_that_a_start_refuses_for_what_lies_there() {
    let (weed, dataset) = (Weed::start(), Dataset::new());
    let both = |name: &str, code: i32, words: &[&str]| {
        for args in [&["check"][..], &["run"]] {
            weed.take(stream(&dataset, 20_000), name).args(args).run().assert_refused(code, words);
        }
    };
    weed.take(stream(&dataset, 20_000), "below/dataset").run_ok();
    both("below", 78, &["`dataset/region="]);
    weed.remove("below/dataset", "_pintail/FORMAT");
    both("below/dataset", 65, &["FORMAT` is missing"]);
}
