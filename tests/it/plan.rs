//! `pintail plan`: what another configuration would change, said before it runs.

use serde_json::json;

use crate::common::Dataset;
use crate::common::lines::{SQL, columns, lines};
use crate::common::process::{Outcome, Pintail};

/// Writes a configuration as a file of its own.
fn config(dataset: &Dataset, name: &str, sql: &str, more: &str) {
    let out = dataset.out().display().to_string();
    let columns: Vec<String> = columns()
        .as_array()
        .unwrap()
        .iter()
        .map(|column| {
            let required = column.get("required").map_or(String::new(), |required| format!(", required = {required}"));
            format!("{{ name = {}, type = {}{required} }}", column["name"], column["type"])
        })
        .collect();
    let text = format!(
        "admin.listen = \"\"\npipeline.out_path = {out:?}\nsource = {{ type = \"file\", path = \"a.ndjson\" }}\nschema.columns = [{}]\n\
         transform.sql = {}\nsink.partition_by = [\"region\"]\nsink.event_time = \"ts\"\n{more}",
        columns.join(", "),
        json!(sql),
    );
    dataset.write(name, text);
}

fn plan<'a>(dataset: &'a Dataset, arguments: &[&str]) -> Pintail<'a> {
    dataset.pintail().bare().args(["plan", "new.toml", "--config", "old.toml"]).args(arguments)
}

/// A dataset of a hundred events, and the configuration that made it.
fn dataset() -> Dataset {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..100) + "no JSON\n");
    config(&dataset, "old.toml", SQL, "");
    dataset.pintail().bare().args(["run", "--config", "old.toml"]).run_ok();
    dataset
}

fn assert_says(outcome: &Outcome, lines: &[&str]) {
    for line in lines {
        assert!(outcome.stdout.contains(line), "{line}\n{}{}", outcome.stdout, outcome.stderr);
    }
}

#[test]
fn the_same_configuration_changes_nothing() {
    let dataset = dataset();
    config(&dataset, "new.toml", SQL, "");
    let before = dataset.records().len();
    let planned = plan(&dataset, &[]).run_ok();
    assert_says(
        &planned,
        &["output columns: the same 3\n", "tried 101 records of the source `file`", "        101  the same rows\n", "the dataset takes it"],
    );
    assert_eq!(dataset.records().len(), before, "nothing is written");
}

#[test]
fn rows_that_differ_are_counted_by_field_and_shown() {
    let dataset = dataset();
    let sql = "SELECT id + CASE WHEN id = 7 THEN 1 ELSE 0 END AS id, ts, upper(region) AS region FROM events WHERE id >= 10 OR id = 7";
    config(&dataset, "new.toml", sql, "");
    let planned = plan(&dataset, &["--samples", "1"]).run_ok();
    assert_says(
        &planned,
        &[
            "          1  the same rows\n",
            "         91  other rows: id in 1, region in 91\n",
            "          9  rows before, none now\n",
            "\n  a.ndjson at 0: {\"id\":0,",
            "\n    - {\"id\":0,",
            "\n    + no row\n",
        ],
    );
    assert_eq!(planned.stdout.matches("    - ").count(), 1, "{}", planned.stdout);
}

#[test]
fn records_that_become_dead_letters_or_are_none_any_more_are_told() {
    let dataset = dataset();
    config(
        &dataset,
        "new.toml",
        "SELECT id, ts, CASE WHEN id < 3 THEN CAST(CAST('x' || id AS INTEGER) AS VARCHAR) ELSE region END AS region FROM events",
        "",
    );
    assert_says(&plan(&dataset, &[]).run_ok(), &["          3  rows before, dead letters now\n", "    + rejected: ", "'x0'"]);
    let back = dataset.pintail().bare().args(["plan", "old.toml", "--config", "new.toml"]).run_ok();
    assert_says(&back, &["          3  dead letters before, rows now\n", "    - rejected: "]);
}

#[test]
fn the_dead_letters_of_the_dataset_are_a_sample_too() {
    let dataset = dataset();
    config(&dataset, "new.toml", "SELECT id, ts, lower(region) AS region FROM events", "");
    assert_says(&plan(&dataset, &["--dead-letters"]).run_ok(), &["tried 1 record of the dead letters\n", "          1  the same rows\n"]);
}

#[test]
fn what_the_dataset_would_refuse_is_named_with_the_columns_that_change() {
    let dataset = dataset();
    config(&dataset, "new.toml", "SELECT id::VARCHAR AS id, ts, region, 1.5 AS part FROM events", "");
    let refused = plan(&dataset, &[]).run();
    refused.assert_refused(78, &["it would be refused", "column `id` is VARCHAR", "column `part`"]);
    assert_says(&refused, &["output columns\n", "  ~ id      BIGINT → VARCHAR\n", "  + part    DECIMAL(2,1)\n", "tried 101 records"]);
    config(&dataset, "new.toml", "SELECT id, ts, region, 1.5 AS part FROM events", "sink.allow_new_columns = true\n");
    assert_says(&plan(&dataset, &[]).run_ok(), &["  + part    DECIMAL(2,1)\n", "        101  the same rows\n", "the dataset takes it"]);
    config(&dataset, "new.toml", "SELECT idd FROM events", "sink.compresion = \"zstd(1)\"\n");
    plan(&dataset, &[]).run().assert_refused(78, &["it would be refused", "compresion"]);
}

#[test]
fn where_the_rows_of_a_batch_depend_on_each_other_all_are_compared_together() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..100));
    let sql = |of: &str| format!("SELECT {of} AS id, max(ts) AS ts, region FROM events GROUP BY region");
    config(&dataset, "old.toml", &sql("max(id)"), "transform.per_batch = true\n");
    dataset.pintail().bare().args(["run", "--config", "old.toml"]).run_ok();
    config(&dataset, "new.toml", &sql("min(id)"), "transform.per_batch = true\n");
    assert_says(&plan(&dataset, &[]).run_ok(), &["tried 100 records", "          1  other rows: id in 1\n", "  100 records together\n"]);
}

#[test]
fn it_must_be_said_which_configuration_is_the_old_one_if_no_service_runs() {
    let dataset = dataset();
    config(&dataset, "new.toml", SQL, "");
    // A copy of the program, so that the services of other tests are none of it.
    let own = dataset.root().join("pintail");
    std::fs::copy(env!("CARGO_BIN_EXE_pintail"), &own).unwrap();
    let alone = || dataset.pintail().bare().binary(&own);
    alone().args(["plan", "new.toml"]).run().assert_refused(78, &["which configuration is the old one", "--config"]);
    let old = std::fs::read_to_string(dataset.root().join("old.toml")).unwrap();
    dataset.write("old.toml", old.replace("path = \"a.ndjson\"", "path = \"a.ndjson\", follow = true"));
    let mut service = alone().args(["run", "--config", "old.toml"]).spawn();
    service.wait_until("its first look", |dataset| dataset.records().iter().filter(|record| record.is_open_record()).count() == 2);
    let planned = alone().args(["plan", "new.toml"]).run_ok();
    assert_says(&planned, &["tried 101 records of the source `file`", "the dataset takes it"]);
    assert!(service.is_running());
}
