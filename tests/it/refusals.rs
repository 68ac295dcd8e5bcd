//! Starts that must not happen, and what they say.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::common::Dataset;
use crate::common::lines::{ids, lines};
use crate::common::process::{Pintail, log_lines};

/// The default SQL, with the columns between `ts` and `region` for a test to choose.
fn sql(columns: &str) -> String {
    format!("SELECT epoch_ms(timestamp) AS ts, {columns}, region FROM events")
}

#[test]
fn a_second_instance_names_the_holder_and_touches_nothing() {
    let dataset = Dataset::new();
    let run = || dataset.simulator(0).set("source.rate", 20_000).set("pipeline.checkpoint_interval", "100ms");
    let mut first = run().spawn();
    first.wait_for_commits(1);
    let second = run().run();
    second.assert_refused(75, &[&first.pid().to_string()]);
    assert!(second.took < Duration::from_secs(10));

    let commits = dataset.commits_len();
    first.wait_for_commits(commits + 2);
    first.stop(Signal::TERM).assert_code(0);
    dataset.assert_clean();
    dataset.assert_simulated(dataset.last_commit().next_offset());
}

#[test]
fn a_dataset_is_not_mixed_with_other_events_or_another_layout() {
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    let files = dataset.data_files();
    dataset.simulator(2000).set("source.seed", 43).run().assert_refused(78, &["seed", "42", "43", "out_path"]);
    let other_time = dataset.simulator(2000).set("source.start_time", "2026-06-01T00:00:00Z");
    other_time.run().assert_refused(78, &["start_time", "2026-01-01", "2026-06-01"]);
    dataset.pintail().set("source.type", "stdin").run().assert_refused(78, &["simulator", "stdin"]);
    let partitioned = |by: &str| dataset.simulator(2000).set("sink.partition_by", json!([by])).run();
    partitioned("bucket").assert_refused(78, &["partition_by", "region", "bucket"]);
    partitioned("user_id").assert_refused(78, &["partition_by", "region", "user_id"]);

    assert_eq!((dataset.data_files(), dataset.commits_len()), (files, 1));
    dataset.simulator(2000).run_ok();
    dataset.assert_simulated(2000);
}

#[test]
fn the_output_keeps_its_columns_and_their_types() {
    let dataset = Dataset::new();
    let run = |limit, columns: &str| dataset.simulator(limit).set("transform.sql", sql(columns)).set("monitor.group_by", "region");
    run(1000, "user_id, amount, sku").run_ok();
    run(2000, "user_id, amount").run().assert_refused(78, &["sku"]);
    run(2000, "user_id, amount, sku AS article").run().assert_refused(78, &["sku"]);
    run(2000, "user_id, CAST(amount AS VARCHAR) AS amount, sku").run().assert_refused(78, &["amount"]);
    assert_eq!(dataset.commits_len(), 1);

    run(2000, "user_id, amount, sku, 1 AS extra").run().assert_refused(78, &["extra", "allow_new_columns"]);
    run(2000, "user_id, amount, sku, 1 AS extra").set("sink.allow_new_columns", true).run_ok();
    dataset.assert_clean();
    let with_extra = dataset.rows().iter().filter(|row| row.contains_key("extra")).count();
    assert_eq!((dataset.rows().len(), with_extra), (2000, 1000));
    // From now on it belongs to the output.
    run(3000, "user_id, amount, sku, 1 AS extra").run_ok();
    run(4000, "user_id, amount, sku").run().assert_refused(78, &["extra"]);
}

#[test]
fn a_damaged_commit_record_stops_the_start_and_verify_explains_it() {
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    let commit = dataset.last_commit();
    let good = fs::read_to_string(&commit.path).unwrap();

    let changed = good.replacen("1000", "1001", 1);
    assert_ne!(changed, good, "the record counts 1000 events somewhere");
    for bad in [changed.as_str(), &good[..good.len() / 2], ""] {
        fs::write(&commit.path, bad).unwrap();
        let name = commit.path.file_name().unwrap().to_str().unwrap();
        dataset.simulator(2000).run().assert_refused(65, &[name, "restore it"]);
        dataset.pintail().args(["verify"]).run().assert_refused(65, &[name]);
    }
    fs::write(&commit.path, good).unwrap();
    dataset.simulator(2000).run_ok();
    dataset.assert_simulated(2000);
}

#[test]
fn a_lost_format_file_is_not_made_anew_over_existing_records() {
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    fs::remove_file(dataset.internal("FORMAT")).unwrap();
    dataset.simulator(2000).run().assert_refused(65, &["FORMAT"]);
    assert_eq!(dataset.commits_len(), 1);
    assert!(!dataset.internal("FORMAT").exists());
}

/// Makes a dataset of one checkpoint with one data file, and puts the checkpoint back to where its publishing had just begun. Returns the file
/// and the staging directory.
fn unpublished(dataset: &Dataset) -> (PathBuf, PathBuf) {
    one_partition(dataset, 1000).run_ok();
    let commit = dataset.last_commit();
    assert_eq!(commit.data_files().len(), 1);
    let staging = dataset.internal(&format!("staging/{:010}-{}", commit.seq, commit.value["epoch"]));
    fs::create_dir_all(&staging).unwrap();
    (dataset.out().join(&commit.data_files()[0]), staging)
}

fn one_partition(dataset: &Dataset, limit: u64) -> Pintail<'_> {
    let sql = "SELECT epoch_ms(timestamp) AS ts, user_id, amount, sku, 'low' AS bucket, 'eu' AS region FROM events";
    dataset.simulator(limit).set("transform.sql", sql)
}

#[test]
fn a_file_that_was_staged_but_not_yet_renamed_is_published_at_the_next_start() {
    let dataset = Dataset::new();
    let (file, staging) = unpublished(&dataset);
    fs::rename(&file, staging.join("0.inprogress")).unwrap();
    assert_eq!(dataset.rows_len(), 0);
    one_partition(&dataset, 2000).run_ok();
    assert!(file.exists());
    assert_eq!(dataset.rows_len(), 2000);
    dataset.assert_clean();
    assert!(!staging.exists());
}

#[test]
fn a_torn_or_lost_file_of_an_unpublished_checkpoint_stops_the_start() {
    let dataset = Dataset::new();
    let (file, _) = unpublished(&dataset);
    let name = file.strip_prefix(dataset.out()).unwrap().to_str().unwrap().to_owned();
    let whole = fs::read(&file).unwrap();

    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    one_partition(&dataset, 2000).run().assert_refused(65, &[&name]);
    fs::remove_file(&file).unwrap();
    one_partition(&dataset, 2000).run().assert_refused(65, &[&name]);
    assert_eq!(dataset.commits_len(), 1);

    fs::write(&file, &whole).unwrap();
    one_partition(&dataset, 2000).run_ok();
    assert_eq!(dataset.rows_len(), 2000);
    dataset.assert_clean();
}

#[test]
fn a_published_file_that_somebody_removed_is_told_and_the_line_goes_on() {
    let dataset = Dataset::new();
    one_partition(&dataset, 1000).run_ok();
    let file = dataset.data_files().pop().unwrap();
    fs::remove_file(dataset.out().join(&file)).unwrap();
    let outcome = one_partition(&dataset, 2000).run_ok();
    let told = log_lines(&outcome.stderr, &["ERROR"]);
    assert!(told.contains(file.to_str().unwrap()), "{}", outcome.stderr);
    assert_eq!(dataset.rows_len(), 1000);
    let verified = dataset.pintail().args(["verify"]).run();
    verified.assert_refused(65, &[file.to_str().unwrap()]);
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest_one() {
    let dataset = Dataset::new();
    dataset.simulator(1000).set("source.rat", 5).run().assert_refused(78, &["source.rat", "rate"]);
    dataset.simulator(1000).args(["--set", "sink.partitionby=region"]).run().assert_refused(78, &["sink.partitionby", "partition_by"]);
    assert!(!dataset.internal("commits").exists());
}

#[test]
fn all_faults_of_a_configuration_are_named_at_once() {
    let dataset = Dataset::new();
    let faulty = || {
        let pintail = dataset.simulator(1000).set("pipeline.batch_rows", 0).set("pipeline.checkpoint_interval", "soon");
        pintail.set("source.type", "simulatr").set("sink.compression", "zap").set("transfrom.threads", 2)
    };
    let words = ["batch_rows", "checkpoint_interval", "soon", "simulatr", "simulator", "zap", "transfrom", "transform"];
    faulty().run().assert_refused(78, &words);
    let checked = faulty().args(["check"]).run();
    checked.assert_code(78);
    let said = checked.stdout + &checked.stderr;
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    assert!(!dataset.out().exists() || dataset.data_files().is_empty());
}

#[test]
fn sql_that_cannot_work_is_refused_at_the_start() {
    let dataset = Dataset::new();
    let secret = dataset.write("secret.csv", "word\nheron\n");
    let target = dataset.root().join("stolen.csv");
    let cases: [(String, &[&str]); 14] = [
        (sql("amout"), &["amout", "amount"]),
        (sql("amount") + "; SELECT 1", &["statement"]),
        (format!("COPY events TO '{}'", target.display()), &["SELECT"]),
        ("INSERT INTO events SELECT * FROM events".into(), &["SELECT"]),
        (format!("SET threads = 3; {}", sql("amount")), &["statement"]),
        ("SELECT epoch_ms(max(timestamp)) AS ts, region FROM events GROUP BY region".into(), &["per_batch"]),
        (sql("row_number() OVER (ORDER BY timestamp) AS n"), &["per_batch"]),
        (sql("amount") + " LIMIT 10", &["per_batch"]),
        ("SELECT DISTINCT epoch_ms(timestamp) AS ts, region FROM events".into(), &["per_batch"]),
        ("SELECT amount, region FROM events".into(), &["event_time", "ts"]),
        ("SELECT sku AS ts, region FROM events".into(), &["event_time", "ts"]),
        ("SELECT epoch_ms(timestamp) AS ts, amount FROM events".into(), &["region"]),
        (sql("amount, sku AS Amount"), &["mount"]),
        (format!("SELECT epoch_ms(0) AS ts, word, 'eu' AS region FROM read_csv('{}')", secret.display()), &[]),
    ];
    for (sql, words) in cases {
        let outcome = dataset.simulator(1000).set("transform.sql", sql.as_str()).run();
        assert_eq!(outcome.code(), 78, "`{sql}`: {}", outcome.stderr);
        outcome.assert_refused(78, words);
    }
    dataset.simulator(1000).set("transform.sql", sql("amout")).args(["check"]).run().assert_code(78);
    assert!(!target.exists());
    assert_eq!((dataset.commits_len(), dataset.data_files().len()), (0, 0));
}

#[test]
fn a_type_that_parquet_cannot_hold_is_refused_with_its_column() {
    let dataset = Dataset::new();
    let run = |columns: &str| dataset.simulator(1000).set("transform.sql", sql(columns)).run();
    run("union_value(n := amount) AS either").assert_refused(78, &["either"]);
}

#[test]
fn an_aggregate_runs_when_batches_are_meant() {
    let dataset = Dataset::new();
    let sql = "SELECT epoch_ms(max(timestamp)) AS ts, region, count(*) AS n FROM events GROUP BY region";
    let pintail = dataset.simulator(3000).set("pipeline.batch_rows", 1000).set("transform.sql", sql);
    pintail.set("transform.per_batch", true).set("monitor.group_by", "region").set("monitor.value", "n").run_ok();
    let rows = dataset.rows();
    assert_eq!(rows.len(), 15, "five regions of three batches");
    assert_eq!(rows.iter().map(|row| row["n"].as_i64().unwrap()).sum::<i64>(), 3000);
    let counts = dataset.counts();
    assert_eq!((counts.records_in, counts.rows_out, counts.filtered), (3000, 15, 2985));
}

#[test]
fn an_output_path_that_cannot_be_is_named() {
    let dataset = Dataset::new();
    let file = dataset.write("file", "not a directory");
    let outcome = dataset.simulator(1000).set("pipeline.out_path", file.join("out").to_str().unwrap()).run();
    assert!([74, 78].contains(&outcome.code()), "exit code {}: {}", outcome.code(), outcome.stderr);
    assert!(outcome.errors().contains(file.to_str().unwrap()), "{}", outcome.stderr);
}

#[test]
fn an_output_path_without_permission_is_named_with_the_way_out() {
    if rustix::process::geteuid().is_root() {
        return; // Root may write everywhere.
    }
    let dataset = Dataset::new();
    fs::create_dir(dataset.out()).unwrap();
    let mode = |mode| fs::set_permissions(dataset.out(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    mode(0o500);
    let outcome = dataset.simulator(1000).run();
    mode(0o700);
    assert!([74, 78].contains(&outcome.code()), "exit code {}: {}", outcome.code(), outcome.stderr);
    let uid = rustix::process::geteuid().as_raw().to_string();
    assert!(outcome.errors().contains(&uid) && outcome.errors().contains("chmod"), "{}", outcome.stderr);
}

/// It is what a shell leaves of a command that failed: `pintail infer … > pintail.toml`.
#[test]
fn a_configuration_without_a_word_is_refused() {
    let dataset = Dataset::new();
    dataset.write("empty.toml", "\n");
    for command in ["run", "check"] {
        let outcome = dataset.pintail().args([command, "--config"]).args([dataset.root().join("empty.toml").to_str().unwrap()]).run();
        outcome.assert_refused(78, &["empty.toml", "is empty"]);
    }
}

#[test]
fn a_missing_input_is_named() {
    let dataset = Dataset::new();
    let outcome = dataset.file("nowhere.ndjson").run();
    assert_ne!(outcome.code(), 0);
    assert!(outcome.errors().contains("nowhere.ndjson"), "{}", outcome.stderr);
    dataset.write("nowhere.ndjson", lines(0..10));
    dataset.file("nowhere.ndjson").run_ok();
    assert_eq!(dataset.ids(), ids(0..10));
}

#[test]
fn a_lost_or_damaged_format_is_refused_alike_by_run_and_check_with_the_way_out() {
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    let path = dataset.out().join("_pintail/FORMAT");
    let ways_out = ["FORMAT", "from any copy", "adopt"];
    for content in [None, Some(""), Some("garbage\n")] {
        match content {
            None => fs::remove_file(&path).unwrap(),
            Some(content) => fs::write(&path, content).unwrap(),
        }
        dataset.simulator(2000).run().assert_refused(65, &ways_out);
        let checked = dataset.simulator(2000).args(["check"]).run();
        assert_ne!(checked.code(), 0, "{content:?}: {}", checked.stdout);
        assert!(ways_out.iter().all(|word| checked.stderr.contains(word)), "{content:?}: {}", checked.stderr);
    }
}

#[test]
fn the_key_is_its_owners_alone() {
    let dataset = Dataset::new();
    dataset.simulator(10).run_ok();
    let mode = |name: &str| fs::metadata(dataset.out().join("_pintail").join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("KEY"), mode("FORMAT") & 0o044), (0o600, 0o044));
}

#[test]
fn a_directory_that_nothing_was_committed_to_says_how_it_becomes_free() {
    let dataset = Dataset::new();
    let stdin = || dataset.small_events().set("source.type", "stdin");
    stdin()
        .set("transform.sql", "SELECT id, ts, region::DATE AS region FROM events")
        .stdin(lines(0..5050))
        .run()
        .assert_refused(65, &["the SQL fails"]);
    let refused = dataset.simulator(10).run();
    refused.assert_refused(78, &["stdin", "simulator", "nothing was ever committed there", "rm -r "]);
    stdin().stdin(lines(0..100)).run_ok();
    assert!(!dataset.simulator(10).run().stderr.contains("rm -r"), "what is committed is not to be removed");
}

#[test]
fn a_search_that_stops_says_how_much_of_the_batch_it_has_tried() {
    let dataset = Dataset::new();
    let run = dataset.small_events().set("source.type", "stdin").set("transform.sql", "SELECT id, ts, region::DATE AS region FROM events");
    let refused = run.stdin(lines(0..5050)).run();
    refused.assert_refused(65, &["records tried so far, of a batch of 5050", "dead_letters.ratio_max = 0.1 of it"]);
}

#[test]
fn two_columns_of_one_name_are_refused_as_json() {
    let dataset = Dataset::new();
    dataset.simulator(10).run_ok();
    let query = |format: &str| dataset.pintail().args(["query", "SELECT 1 AS a, 2 AS a", "--format", format]).run();
    query("json").assert_refused(78, &["`a`", "AS"]);
    assert_eq!(query("csv").stdout, "a,a\n1,2\n");
}

#[test]
fn an_adoption_that_is_refused_announces_nothing() {
    let (dataset, other) = (Dataset::new(), Dataset::new());
    dataset.simulator(100).run_ok();
    other.simulator(200).run_ok();
    let stray = other.out().join(other.data_files().pop().unwrap());
    fs::copy(stray, dataset.out().join(dataset.data_files().pop().unwrap()).with_file_name("stray.parquet")).unwrap();
    let refused = dataset.simulator(100).set("source.seed", 43).args(["adopt"]).run();
    refused.assert_refused(78, &["seed"]);
    assert_eq!(refused.stdout, "");
}
