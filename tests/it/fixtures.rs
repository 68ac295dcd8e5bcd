//! `pintail test`: what a configuration makes of fixtures, held against what is expected, without a dataset.

use std::fs;

use crate::common::Dataset;
use crate::common::lines::columns;
use crate::common::process::Pintail;

const SQL: &str = "SELECT id, ts, upper(region) AS region, 100 / (id - 7) AS part FROM events WHERE id <> 5";

const INPUT: &str = concat!(
    "{\"id\":1,\"ts\":1767225600000,\"region\":\"eu\"}\n",
    "\n",
    "{\"id\":\"x\",\"ts\":1}\n",
    "{\"id\":5,\"ts\":1767225600000}\n",
    "{\"id\":2,\"ts\":1767225600001,\"region\":null}\n",
);

/// A run with fixtures beside its configuration.
fn test<'a>(dataset: &'a Dataset, arguments: &[&str]) -> Pintail<'a> {
    let run = dataset.pintail().set("schema.columns", columns()).set("transform.sql", SQL).set("source.type", "stdin");
    run.args(["test"]).args(arguments)
}

fn fixture(dataset: &Dataset, name: &str, files: &[(&str, &str)]) {
    files.iter().for_each(|(file, content)| drop(dataset.write(&format!("tests/{name}/{file}"), content)));
}

fn read(dataset: &Dataset, file: &str) -> String {
    fs::read_to_string(dataset.root().join("tests").join(file)).unwrap()
}

#[test]
fn what_is_written_by_hand_passes_whatever_the_order_and_the_looks_of_numbers() {
    let dataset = Dataset::new();
    let expected = concat!(
        "{\"region\": null, \"id\": 2.0, \"part\": -20.0, \"ts\": \"2026-01-01T00:00:00.001\"}\n",
        "{\"id\": 1, \"region\": \"EU\", \"part\": -16.666666666666668, \"ts\": \"2026-01-01T00:00:00\"}\n",
    );
    fixture(&dataset, "sales", &[("input.ndjson", INPUT), ("expected.ndjson", expected), ("dead_letters.ndjson", "{\"line\":3}\n")]);
    fixture(&dataset, "nothing", &[("input.ndjson", ""), ("expected.ndjson", "")]);
    // Whatever else lies in such a directory.
    dataset.write("tests/unit/main.rs", "fn main() {}");
    let passed = test(&dataset, &[]).run();
    passed.assert_code(0);
    assert_eq!(passed.stdout, "ok      nothing  0 rows, 0 dead letters\nok      sales    2 rows, 1 dead letter\n\n2 passed, 0 failed\n");
    assert!(!dataset.out().exists());
}

#[test]
fn what_differs_is_told_by_file_line_and_field_and_the_exit_code_is_1() {
    let dataset = Dataset::new();
    let expected =
        concat!("{\"id\":1,\"region\":\"US\",\"part\":-16.666666666666668,\"ts\":\"2026-01-01T00:00:00\"}\n", "{\"other\":true}\n",);
    let letters = "{\"line\":3,\"phase\":\"sql\"}\n{\"line\":4}\n";
    fixture(&dataset, "sales", &[("input.ndjson", INPUT), ("expected.ndjson", expected), ("dead_letters.ndjson", letters)]);
    fixture(&dataset, "unsaid", &[("input.ndjson", "{\"id\":7,\"ts\":0}\n{\"id\":8,\"ts\":0}\n")]);
    let failed = test(&dataset, &[]).run();
    failed.assert_code(1);
    for said in [
        "FAILED  sales   2 rows, 1 dead letter\n",
        "        expected.ndjson:1  region: expected \"US\", got \"EU\"\n",
        "        expected.ndjson:2  did not come: {\"other\":true}\n",
        "        not expected: {\"id\":2,",
        "        dead_letters.ndjson:1  phase: expected \"sql\", got \"decode\"\n",
        "        dead_letters.ndjson:2  was not rejected: {\"line\":4}\n",
        "FAILED  unsaid",
        "        it has neither expected.ndjson nor dead_letters.ndjson: --update writes them\n",
        "\n0 passed, 2 failed\n",
    ] {
        assert!(failed.stdout.contains(said), "{said}\n{}", failed.stdout);
    }
    let one = test(&dataset, &["unsaid"]).run();
    one.assert_code(1);
    assert!(!one.stdout.contains("sales"), "{}", one.stdout);
}

#[test]
fn update_writes_what_came_and_then_it_passes() {
    let dataset = Dataset::new();
    fixture(&dataset, "sales", &[("input.ndjson", INPUT)]);
    fixture(&dataset, "clean", &[("input.ndjson", "{\"id\":8,\"ts\":0}\n"), ("dead_letters.ndjson", "{\"line\":9}\n")]);
    let wrote = test(&dataset, &["--update"]).run();
    wrote.assert_code(0);
    assert!(wrote.stdout.contains("wrote   sales"), "{}", wrote.stdout);
    assert_eq!(read(&dataset, "clean/expected.ndjson"), "{\"id\":8,\"ts\":\"1970-01-01T00:00:00\",\"region\":null,\"part\":100.0}\n");
    assert!(!dataset.root().join("tests/clean/dead_letters.ndjson").exists());
    let letters = read(&dataset, "sales/dead_letters.ndjson");
    assert!(letters.starts_with("{\"line\":3,\"phase\":\"decode\",\"reason\":\"column `id`"), "{letters}");
    let passed = test(&dataset, &[]).run();
    passed.assert_code(0);
    assert!(passed.stdout.contains("2 passed, 0 failed"), "{}", passed.stdout);
}

#[test]
fn without_a_configuration_nothing_is_tested_or_written_by_the_simulators() {
    let dataset = Dataset::new();
    fixture(&dataset, "sales", &[("input.ndjson", INPUT)]);
    let bare = |arguments: &[&str]| dataset.pintail().bare().args(["test"]).args(arguments);
    for arguments in [&["--update"][..], &["sales"], &["--update", "--set", "pipeline.out_path=elsewhere"]] {
        bare(arguments).run().assert_refused(78, &["which configuration", "--config"]);
    }
    dataset.write("pintail.toml", "");
    bare(&["--update"]).run().assert_refused(78, &["`pintail.toml` is here"]);
    assert!(!dataset.root().join("tests/sales/expected.ndjson").exists());
    // Settings are one, too, and so is what a load keeps in its dataset.
    let typed =
        ["--update", "--set", "schema.columns=[{ name = \"id\", type = \"int64\" }]", "--set", "transform.sql=SELECT id FROM events"];
    let typed = bare(&typed).args(["--set", "sink.partition_by=[]", "--set", "sink.event_time="]).run();
    typed.assert_code(0);
    assert_eq!(read(&dataset, "sales/expected.ndjson"), "{\"id\":1}\n{\"id\":5}\n{\"id\":2}\n");
    dataset.write("a.ndjson", "{\"id\":1,\"region\":\"eu\"}\n");
    dataset.pintail().bare().args(["load", "a.ndjson", "--to", "lake"]).run_ok();
    let kept = bare(&["--update", "--dir", "tests", "--set", "pipeline.out_path=lake"]).run();
    kept.assert_code(0);
    assert!(read(&dataset, "sales/expected.ndjson").starts_with("{\"id\":1,\"region\":\"eu\"}\n"));
}

#[test]
fn where_there_is_nothing_to_test_or_a_file_is_wrong_it_says_what_to_do() {
    let dataset = Dataset::new();
    test(&dataset, &[]).run().assert_refused(78, &["no fixtures in", "tests/first/input.ndjson", "test --update"]);
    fixture(&dataset, "a", &[("expected.ndjson", "")]);
    test(&dataset, &[]).run().assert_refused(78, &["tests/a", "no input.ndjson"]);
    fixture(&dataset, "a", &[("input.ndjson", INPUT), ("expected.ndjson", "{\"a\":1}\n[2]\n")]);
    test(&dataset, &[]).run().assert_refused(78, &["tests/a/expected.ndjson`:2", "object"]);
    test(&dataset, &["b"]).run().assert_refused(78, &["no fixture `b`", "there are a"]);
    let wrong = dataset.pintail().set("transform.sql", "SELECT idd FROM events").args(["test"]).run();
    wrong.assert_refused(78, &["transform.sql", "idd"]);
}

#[test]
fn the_directory_can_be_another_and_the_rows_of_hive_partitions_have_all_columns() {
    let dataset = Dataset::new();
    dataset.write("own/one/input.ndjson", INPUT);
    let run =
        test(&dataset, &["--dir", "own", "--update"]).set("sink.partition_by", serde_json::json!(["region"])).set("sink.event_time", "ts");
    run.run().assert_code(0);
    let rows = fs::read_to_string(dataset.root().join("own/one/expected.ndjson")).unwrap();
    assert!(rows.contains("\"region\":\"EU\"") && rows.lines().count() == 2, "{rows}");
}
