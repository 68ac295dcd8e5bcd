//! `pintail check` names everything that is wrong at once, and nothing twice: what rests on a fault is not one more.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::common::lines::lines;
use crate::common::{Dataset, walk};

#[test]
fn faults_of_every_stage_are_named_at_once() {
    let dataset = Dataset::new();
    dataset.write("taken", "a file where a directory is wanted");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = dataset.file("nowhere.ndjson").set("admin.listen", address.as_str()).set("pipeline.out_path", "taken");
    let run = run.set("log.format", "xml").set("sink.sort_by", json!(["nope desc"])).set("monitor.groups_max", 0);
    let refused = run.set("sink.partition_by", json!(["shop"])).args(["check"]).run();
    refused.assert_refused(
        78,
        &["log.format", "monitor.groups_max", "nowhere.ndjson", &address, "sink.sort_by", "`nope`", "`shop`", "`taken` is no directory"],
    );
}

#[test]
fn what_rests_on_a_faulty_section_is_not_blamed_for_it_and_the_rest_is_looked_at() {
    let dataset = Dataset::new();
    let run = dataset.file("nowhere.ndjson").set("sink.compresion", "zstd(1)");
    let refused = run.clone().set("schema.columns", json!([{ "name": "id", "type": "intt64" }])).args(["check"]).run();
    refused.assert_refused(78, &["intt64", "compresion", "nowhere.ndjson"]);
    assert!(!refused.errors().contains("transform.sql"), "{}", refused.errors());
    // The SQL can be judged where the sink can't.
    let refused = run.set("transform.sql", "SELECT idd FROM events").args(["check"]).run();
    refused.assert_refused(78, &["compresion", "nowhere.ndjson", "`transform.sql`", "idd"]);
}

#[test]
fn all_that_does_not_fit_the_dataset_is_named_at_once() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..100));
    dataset.file("a.ndjson").run_ok();
    let sql = "SELECT id::VARCHAR AS id, ts::VARCHAR AS ts, region, 1 AS more FROM events";
    let run = dataset.small_events().set("source.type", "stdin").set("transform.sql", sql).set("sink.event_time", "");
    let refused = run.set("sink.partition_by", json!([])).args(["check"]).run();
    refused.assert_refused(78, &["`stdin`", "partition_by"]);
    let run = dataset.file("a.ndjson").set("transform.sql", sql).set("sink.event_time", "");
    run.args(["check"]).run().assert_refused(78, &["column `id`", "column `ts`", "column `more`"]);
}

#[test]
fn every_lookup_that_is_missing_is_named_beside_sql_that_is_none() {
    let dataset = Dataset::new();
    let tables = "[[transform.lookup]]\nname = \"a\"\npath = \"a.csv\"\n[[transform.lookup]]\nname = \"b\"\npath = \"b.csv\"\n";
    let run = dataset.simulator(10).set("transform.sql", "SELECT FROM WHERE events").tables(tables);
    run.args(["check"]).run().assert_refused(78, &["a.csv", "b.csv", "`transform.sql`"]);
}

#[test]
fn the_address_of_a_service_that_runs_is_no_fault_and_one_that_two_servers_want_is() {
    let dataset = Dataset::new();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (admin, http) = (free(), free());
    let service = || dataset.push().set("admin.listen", admin.as_str()).set("source.listen", http.as_str());
    let mut process = service().spawn();
    process.wait_until_started();
    service().args(["check"]).run_ok();
    drop(process);
    service().set("admin.listen", http.as_str()).args(["check"]).run().assert_code(75);
}

#[test]
fn the_sql_that_nobody_wrote_is_called_the_default() {
    let dataset = Dataset::new();
    let refused = dataset.small_events().unset("transform.sql").args(["check"]).run();
    refused.assert_refused(78, &["transform.sql", "default", "SELECT * FROM events"]);
}

#[test]
fn what_the_sql_returns_is_held_against_the_sink_also_where_the_sql_is_refused() {
    let dataset = Dataset::new();
    let check = |sql: &str| {
        let run =
            dataset.simulator(10).set("transform.sql", sql).set("sink.partition_by", json!(["shop"])).set("sink.sort_by", json!(["nope"]));
        run.set("monitor.group_by", "region").args(["check"]).run()
    };
    let twice = check("SELECT epoch_ms(timestamp) AS ts, amount, amount FROM events");
    twice.assert_refused(78, &["`amount` twice", "`shop`", "`nope`"]);
    assert_eq!(twice.errors().matches("`amount` twice").count(), 1, "{}", twice.errors());
    let coupled = check("SELECT epoch_ms(max(timestamp)) AS ts, region, region FROM events GROUP BY region");
    coupled.assert_refused(78, &["per_batch", "`region` twice", "`shop`", "`nope`"]);
    // Where the sink itself cannot be read, names are all that can be asked.
    let run = dataset.simulator(10).set("transform.sql", "SELECT amount, amount FROM events").set("sink.compresion", "zstd(1)");
    run.args(["check"]).run().assert_refused(78, &["compresion", "`amount` twice"]);
}

#[test]
fn a_lookup_that_is_missing_hides_nothing_that_is_not_for_want_of_it() {
    let dataset = Dataset::new();
    let check = |sql: &str| {
        let tables = "[[transform.lookup]]\nname = \"a\"\npath = \"a.csv\"\n";
        dataset.simulator(10).set("transform.sql", sql).set("sink.partition_by", json!(["shop"])).tables(tables).args(["check"]).run()
    };
    check("SELECT epoch_ms(timestamp) AS ts, amount FROM events").assert_refused(78, &["a.csv", "`shop`"]);
    check("SELECT amuont FROM events").assert_refused(78, &["a.csv", "amuont"]);
    let in_want = check("SELECT name FROM events JOIN a ON a.id = events.sku");
    in_want.assert_refused(78, &["a.csv"]);
    assert!(!in_want.errors().contains("transform.sql"), "{}", in_want.errors());
}

#[test]
fn a_dataset_of_another_source_is_named_also_where_the_sql_is_refused() {
    let dataset = Dataset::new();
    dataset.simulator(10).run_ok();
    let run = dataset.small_events().set("source.type", "stdin").set("transform.sql", "SELECT idd FROM events");
    run.args(["check"]).run().assert_refused(78, &["`simulator`", "`stdin`", "idd"]);
}

#[test]
fn partition_columns_and_columns_that_do_not_fit_the_dataset_are_named_together_in_the_words_of_sql() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..100));
    dataset.file("a.ndjson").run_ok();
    let sql = "SELECT id::VARCHAR AS id, ts, region FROM events";
    let run = dataset.file("a.ndjson").set("transform.sql", sql).set("sink.partition_by", json!([]));
    let refused = run.args(["check"]).run();
    refused.assert_refused(78, &["partition_by", "column `id` is VARCHAR", "BIGINT in the dataset", "CAST(\"id\" AS BIGINT) AS \"id\""]);
}

#[test]
fn columns_of_the_simulator_for_another_source_are_noted() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..3));
    let check = |pintail: crate::common::process::Pintail<'_>| pintail.args(["check"]).run_ok().stdout;
    let told = check(dataset.pintail().set("source.type", "file").set("source.path", dataset.root().join("a.ndjson").to_str().unwrap()));
    assert!(told.contains("`schema.columns` is the default") && told.contains("infer"), "{told}");
    assert!(!check(dataset.file("a.ndjson")).contains("schema.columns"));
    assert!(!check(dataset.simulator(3)).contains("schema.columns"));
}

/// Checks that `check` refuses what `run` ends with, with the same exit code, and leaves everything as it is.
fn assert_seen(dataset: &Dataset, pintail: &crate::common::process::Pintail<'_>, code: i32, words: &[&str]) {
    let before = walk(dataset.root()).into_iter().map(|path| (fs::read(&path).unwrap_or_default(), path)).collect::<BTreeSet<_>>();
    let checked = pintail.clone().args(["check"]).run();
    checked.assert_refused(code, words);
    let after = walk(dataset.root()).into_iter().map(|path| (fs::read(&path).unwrap_or_default(), path)).collect::<BTreeSet<_>>();
    let is_config = |(_, path): &&(Vec<u8>, std::path::PathBuf)| path.extension().is_some_and(|extension| extension == "toml");
    let changed: Vec<_> = before.symmetric_difference(&after).filter(|entry| !is_config(entry)).map(|(_, path)| path).collect();
    assert!(changed.is_empty(), "{changed:?}");
    pintail.clone().run().assert_refused(code, words);
}

#[test]
fn a_file_that_is_not_what_was_read_any_more_is_seen() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..100));
    dataset.file("a.ndjson").run_ok();
    dataset.file("a.ndjson").args(["check"]).run_ok();
    dataset.replace("a.ndjson", lines(0..50));
    assert_seen(&dataset, &dataset.file("a.ndjson"), 65, &["a.ndjson", "source.on_gap"]);
    dataset.file("a.ndjson").set("source.on_gap", "record").args(["check"]).run_ok();
}

#[test]
fn an_input_that_cannot_be_read_is_a_fault_where_it_is_read_once_and_a_note_where_it_is_followed() {
    let dataset = Dataset::new();
    dataset.append("in/a.ndjson", lines(0..100));
    symlink("loop.ndjson", dataset.root().join("in/loop.ndjson")).unwrap();
    assert_seen(&dataset, &dataset.file("in/*"), 74, &["loop.ndjson", "symbolic links"]);
    let told = dataset.follow("in/*").args(["check"]).run_ok().stdout;
    assert!(told.contains("loop.ndjson") && told.contains("would wait"), "{told}");
}

#[test]
fn a_ledger_that_contradicts_itself_is_seen() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..100));
    dataset.file("a.ndjson").run_ok();
    let newest = walk(&dataset.internal("commits")).into_iter().max().unwrap();
    let whole = fs::read(&newest).unwrap();
    fs::write(&newest, &whole[..whole.len() / 2]).unwrap();
    assert_seen(&dataset, &dataset.file("a.ndjson"), 65, &["commit record"]);
}

#[test]
fn a_directory_in_which_nothing_can_be_made_is_seen() {
    let dataset = Dataset::new();
    for place in ["/proc/pintail", "/proc/self/fd/../pintail"] {
        assert_seen(&dataset, &dataset.simulator(10).set("pipeline.out_path", place), 74, &["/proc"]);
    }
}

#[test]
fn a_type_that_arrow_lacks_is_refused_with_the_cast_also_within_others() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..10));
    for (sql, name) in [
        ("'10:00:00+02:00'::TIMETZ", "TIMETZ"),
        ("[{'a': '10:00:00+02:00'::TIMETZ}]", "TIMETZ"),
        ("md5_number('x')", "UHUGEINT"),
        ("{'a': md5_number('x')}", "UHUGEINT"),
        ("MAP {'a': '101'::BIT}", "BIT"),
        ("'12345678901234567890'::BIGNUM", "BIGNUM"),
    ] {
        let unplaced = || dataset.file("a.ndjson").set("sink.event_time", "").set("sink.partition_by", json!([]));
        let pintail = unplaced().set("transform.sql", format!("SELECT id, {sql} AS v FROM events"));
        assert_seen(&dataset, &pintail, 78, &["`v`", name, "`v::VARCHAR AS v`"]);
        unplaced().set("transform.sql", format!("SELECT id, ({sql})::VARCHAR AS v FROM events")).args(["check"]).run_ok();
    }
}

#[test]
fn a_type_that_spark_refuses_is_noted_with_the_cast() {
    let dataset = Dataset::new();
    dataset.write("a.ndjson", lines(0..10));
    let sql = "SELECT id, '10:00'::TIME AS t, '2026-01-01'::TIMESTAMP_NS AS n, '2026-01-01'::TIMESTAMP AS u FROM events";
    let unplaced = dataset.file("a.ndjson").set("sink.event_time", "").set("sink.partition_by", json!([]));
    let told = unplaced.set("transform.sql", sql).args(["check"]).run_ok().stdout;
    let notes: Vec<&str> = told.lines().filter(|line| line.contains("Spark")).collect();
    assert!(notes.len() == 2 && notes[0].contains("`t::VARCHAR AS t`") && notes[1].contains("`n::TIMESTAMP AS n`"), "{told}");
}
