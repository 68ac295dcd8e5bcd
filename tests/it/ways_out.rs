//! Commands that messages name: each is for the dataset that the message is about, can be run as it stands, and is a way out.
//!
//! Owns: finding them in messages, and running them by a shell.
//! Does not own: what the commands do beyond that (see [`crate::operator`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;

use crate::common::Dataset;
use crate::common::lines::lines;
use crate::common::process::{Outcome, Pintail, log_lines};

/// Returns the command in a message that begins with `pintail WORDS`.
#[track_caller]
fn told(outcome: &Outcome, words: &str) -> String {
    let (begin, message) = (format!("`pintail {words}"), log_lines(&outcome.stderr, &["ERROR"]));
    let (_, rest) = message.split_once(&begin).unwrap_or_else(|| panic!("no {begin} in {message}"));
    format!("pintail {words}{}", rest.split_once('`').expect("a closing backtick").0)
}

/// Runs a command as somebody who copies it from the message would. The environment of the service is not theirs.
fn by_shell(dataset: &Dataset, command: &str) -> Output {
    let binary = Path::new(env!("CARGO_BIN_EXE_pintail"));
    let path = format!("{}:/usr/bin:/bin", binary.parent().unwrap().display());
    Command::new("sh").env_clear().env("PATH", path).current_dir(dataset.root()).args(["-c", command]).output().unwrap()
}

#[track_caller]
fn by_shell_ok(dataset: &Dataset, command: &str) {
    let output = by_shell(dataset, command);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_command_is_for_the_same_dataset_however_that_was_configured() {
    let out = |dataset: &Dataset| dataset.out().to_str().unwrap().to_owned();
    let file: fn(&Dataset, String) -> Pintail<'_> = |dataset, _| dataset.simulator(1000);
    let set: fn(&Dataset, String) -> Pintail<'_> =
        |dataset, out| dataset.simulator(1000).unset("pipeline.out_path").args(["--set", &format!("pipeline.out_path={out}")]);
    let environment: fn(&Dataset, String) -> Pintail<'_> =
        |dataset, out| dataset.simulator(1000).unset("pipeline.out_path").env("OUT_PATH", &out);
    for how in [file, set, environment] {
        let dataset = Dataset::new();
        how(&dataset, out(&dataset)).run_ok();
        fs::remove_file(dataset.internal("KEY")).unwrap();
        let refused = how(&dataset, out(&dataset)).run();
        refused.assert_refused(65, &["KEY"]);
        by_shell_ok(&dataset, &told(&refused, "repair --key"));
        assert!(dataset.internal("KEY").exists());
        how(&dataset, out(&dataset)).run_ok();
    }
}

/// Puts the only checkpoint of a dataset back to where its publication had just begun. Returns its files with their staged places.
fn unpublished(dataset: &Dataset) -> Vec<(PathBuf, PathBuf)> {
    dataset.simulator(1000).run_ok();
    let commit = dataset.last_commit();
    let staging = dataset.internal(&format!("staging/{:010}-{}", commit.seq, commit.value["epoch"]));
    fs::create_dir_all(&staging).unwrap();
    let files = commit.value["files"].as_array().unwrap().iter();
    let places: Vec<_> = files
        .map(|file| (dataset.out().join(file["path"].as_str().unwrap()), staging.join(format!("{}.inprogress", file["staged"]))))
        .collect();
    places.iter().for_each(|(place, staged)| fs::rename(place, staged).unwrap());
    places
}

#[test]
fn files_that_can_never_be_published_are_named_with_a_command_that_does_without_them() {
    for other in [None, Some("other bytes")] {
        let dataset = Dataset::new();
        let places = unpublished(&dataset);
        for (_, staged) in &places[..2] {
            fs::remove_file(staged).unwrap();
            other.inspect(|bytes| fs::write(staged, bytes).unwrap());
        }
        let lost: Vec<&str> = places[..2].iter().map(|(place, _)| place.strip_prefix(dataset.out()).unwrap().to_str().unwrap()).collect();
        dataset.pintail().args(["verify"]).run().assert_code(65);
        let refused = dataset.simulator(2000).run();
        refused.assert_refused(65, &lost);
        assert!(places.iter().all(|(place, _)| !place.exists()), "a refused start publishes nothing");
        // A time that does not cover them is no way out.
        dataset.simulator(2000).args(["expire", "--before", "2020-01-01"]).run().assert_refused(65, &lost);

        by_shell_ok(&dataset, &told(&refused, "expire --before "));
        let there: Vec<bool> = places.iter().map(|(place, _)| place.exists()).collect();
        assert_eq!((&there[..2], there[2..].contains(&false)), (&[false, false][..], false), "the others are published");
        dataset.simulator(2000).run_ok();
        dataset.pintail().args(["verify"]).run_ok();
    }
}

#[test]
fn files_whose_whole_staging_is_gone_are_an_error_at_start_and_verify_names_the_command_that_does_without_them() {
    let dataset = Dataset::new();
    let places = unpublished(&dataset);
    fs::remove_dir_all(dataset.internal("staging")).unwrap();
    let started = dataset.simulator(2000).run_ok();
    let error = started.stderr.lines().find(|line| line.contains("ERROR")).expect("an error");
    for (place, _) in &places {
        assert!(error.contains(place.strip_prefix(dataset.out()).unwrap().to_str().unwrap()), "{error}");
    }
    let verified = dataset.simulator(2000).args(["verify"]).run();
    verified.assert_code(65);
    by_shell_ok(&dataset, &told(&verified, "expire --before "));
    dataset.pintail().args(["verify"]).run_ok();
    // What is declared is not told again.
    assert!(!dataset.simulator(3000).run_ok().stderr.contains("ERROR"));
}

#[test]
fn a_record_that_is_missing_in_mid_chain_is_restored_from_a_copy_or_a_new_ledger_is_begun() {
    let dataset = Dataset::new();
    (1..=3).for_each(|thousands| drop(dataset.simulator(thousands * 1000).run_ok()));
    let record = dataset.records().into_iter().find(|record| record.seq == 4).unwrap().path;
    let content = fs::read(&record).unwrap();
    let name = record.strip_prefix(dataset.out()).unwrap().to_str().unwrap();
    for bytes in [None, Some(&content[..content.len() / 2])] {
        fs::remove_file(&record).unwrap();
        bytes.inspect(|bytes| fs::write(&record, bytes).unwrap());
        let refused = [dataset.simulator(3000).run(), dataset.pintail().args(["verify"]).run()];
        refused.iter().for_each(|refused| refused.assert_refused(65, &[name, "restore it", "pintail adopt"]));
        fs::write(&record, &content).unwrap();
        dataset.simulator(3000).run_ok();
    }

    fs::remove_file(&record).unwrap();
    let refused = dataset.simulator(3000).run();
    fs::rename(dataset.internal(""), dataset.root().join("ledger")).unwrap();
    by_shell_ok(&dataset, &told(&refused, "adopt"));
    assert_eq!(dataset.rows_len(), 3000);
    // Where reading stood is lost with the ledger.
    dataset.simulator(3000).run_ok();
    assert_eq!(dataset.rows_len(), 6000);
    dataset.assert_clean();
}

#[test]
fn what_needs_the_dataset_alone_needs_no_other_option_than_its_place() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..200));
    dataset.file("a.ndjson").set("sink.partition_by", json!([])).run_ok();
    dataset.data_files().iter().for_each(|file| fs::remove_file(dataset.out().join(file)).unwrap());
    // As somebody looks who knows where the dataset is and nothing else of it.
    let place = dataset.out().to_str().unwrap().to_owned();
    let look = || by_shell(&dataset, &format!("OUT_PATH='{place}' pintail verify"));
    let missing = String::from_utf8(look().stderr).unwrap();
    let (_, expire) = missing.split_once("`pintail expire").expect("a command");
    let declared = by_shell(&dataset, &format!("pintail expire{}", expire.split_once('`').unwrap().0));
    assert!(declared.status.success(), "{}", String::from_utf8_lossy(&declared.stderr));
    assert!(look().status.success());

    let said = String::from_utf8(declared.stdout).unwrap();
    let (_, back) = said.split_once("`pintail expire --take-back").expect("the way back");
    by_shell_ok(&dataset, &format!("pintail expire --take-back{}", back.split_once('`').unwrap().0));
    assert!(!look().status.success(), "what was declared is taken back");
    fs::remove_file(dataset.internal("KEY")).unwrap();
    by_shell_ok(&dataset, &format!("pintail repair --key --set pipeline.out_path='{place}'"));
    assert_eq!(dataset.simulator(10).run().code(), 78, "for another source and other columns it is still none to write to");
}

#[test]
fn a_start_that_the_environment_configures_is_accepted_by_the_command_that_it_names() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..2_000));
    let start = || {
        let service = dataset.pintail().unset("pipeline.out_path").env("OUT_PATH", dataset.out().to_str().unwrap());
        let service = service.env("PINTAIL_SOURCE__TYPE", "file").env("PINTAIL_SOURCE__PATH", "a.ndjson");
        let sql = "SELECT id,\n  'it''s \\n' AS region\nFROM events";
        let service = service.env("PINTAIL_TRANSFORM__SQL", sql).env("PINTAIL_SINK__EVENT_TIME", "");
        service.env("PINTAIL_SCHEMA__COLUMNS", r#"[{ name = "id", type = "int64" }]"#)
    };
    start().run_ok();
    dataset.write("a.ndjson", lines(5_000..5_010));
    let refused = start().run();
    refused.assert_refused(65, &["a.ndjson"]);
    by_shell_ok(&dataset, &told(&refused, "run --accept"));
    assert_eq!(dataset.rows_len(), 2_010);
}

#[test]
fn too_many_rejections_pass_with_the_command_that_is_named_whatever_was_set() {
    for sql in [false, true] {
        let dataset = Dataset::new();
        dataset.write("a.ndjson", if sql { lines(0..2_000) } else { "[]\n".repeat(2_000) });
        let failing = "SELECT id, CAST(region || 'x' AS INT) AS n FROM events";
        let run = dataset.file("a.ndjson").set("sink.event_time", "").set("sink.partition_by", json!([]));
        let run = if sql { run.set("transform.sql", failing) } else { run };
        let refused = run.args(["run", "--set", "dead_letters.ratio_max=0.05"]).run();
        refused.assert_code(65);
        by_shell_ok(&dataset, &told(&refused, "run"));
        assert_eq!(dataset.dead_letters().len(), 2_000);
    }
}
