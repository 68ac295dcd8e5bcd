//! Iceberg tables: what pyiceberg finds in a dataset, whatever happened to whoever published it.
//!
//! Owns: `[[table]] format = "iceberg"`, by the binary; the table is read from its directory, by the hint.
//! Does not own: what is the same for Delta (see [`super`]); other readers (see `tests/proof/tables.py`).

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Read, TYPES, events, hostile, over};
use crate::common::Dataset;
use crate::upgrade::fixture::Fixture;

const TABLE: &str = "[[table]]\nname = \"events\"\nformat = \"iceberg\"\ninterval = \"1s\"\n";

/// Prints what pyiceberg reads of a table as JSON.
const READ: &str = r#"
from pyiceberg.table import StaticTable
table = StaticTable.from_metadata(os.path.join(out, "_iceberg"))
read = table.scan().to_arrow()
# pyiceberg 0.12 reads a NULL list of structs as an empty one.
compare(read, lambda of: {**of, "nested": of["nested"] or []} if "nested" in of else of)
names = [task.file.file_path for task in table.scan().plan_files()]
assert len(set(names)) == len(names), "a file is there twice"
assert set(names) == {os.path.join(os.path.realpath(out), path) for path in paths}, (names, paths)
def pruned(text):
    scan = table.scan(row_filter=text)
    return [scan.to_arrow().num_rows, len(list(scan.plan_files()))]
print(json.dumps({"version": int(open(os.path.join(out, "_iceberg/metadata/version-hint.text")).read()), "rows": read.num_rows, "files": len(names),
    "snapshots": len(table.metadata.snapshots), "pruned": {text: pruned(text) for text in sys.argv[3:]},
    "total": int(table.current_snapshot().summary["total-records"])}))
"#;

/// Reads the table by pyiceberg, and asserts that it has the rows of the files and no other.
fn by_pyiceberg(dataset: &Dataset, filters: &[&str]) -> Read {
    Read::by(READ, dataset, filters)
}

fn publish(dataset: &Dataset) -> String {
    dataset.pintail().tables(TABLE).args(["publish"]).run_ok().stdout
}

#[test]
fn a_published_table_has_the_rows_of_the_files_in_every_type_and_partition() {
    let dataset = Dataset::new();
    let types = TYPES.replace("FROM events", ", make_time((id % 24)::BIGINT, 2, 3.5) AS clock FROM events");
    over(&dataset, &types, &events(1..100, hostile)).run_ok();
    assert!(publish(&dataset).contains("version 1"));
    let read = by_pyiceberg(&dataset, &[]);
    assert_eq!((read.number("version"), read.number("rows"), read.number("files"), read.number("total")), (1, 99, 7, 99));
    // Filters leave files out and lose no row.
    over(&dataset, &types, &events(100..200, |_| json!("eu west"))).run_ok();
    over(&dataset, &types, &events(200..300, |_| json!("eu west"))).run_ok();
    publish(&dataset);
    let filters = [
        ("id >= 200 and id < 300", [100, 1]),
        ("id = 100", [1, 1]),
        ("int >= 300", [0, 0]),
        ("region = 'a%20b'", [14, 1]),
        ("region = 'ü/ö=ß'", [14, 1]),
        ("region is null", [14, 1]),
    ];
    let read = by_pyiceberg(&dataset, &filters.map(|(text, _)| text));
    assert_eq!((read.number("version"), read.number("rows"), read.number("files")), (2, 299, 9));
    for (text, expected) in &filters {
        assert_eq!(read.0["pruned"][text], json!(expected), "{text}");
    }
    assert!(publish(&dataset).contains("has everything"));
    assert_eq!(by_pyiceberg(&dataset, &[]).number("version"), 2);
    let verified = dataset.pintail().args(["verify"]).run_ok();
    assert!(verified.stdout.contains("Iceberg table: version 2 with 9 committed files\n"), "{}", verified.stdout);
    // A new column: files without it have nulls.
    let more = types.replace("FROM events", ", make_timestamp(id) AS later, [{'deep': id}] AS deep FROM events");
    over(&dataset, &more, &events(300..310, hostile)).set("sink.allow_new_columns", true).run_ok();
    publish(&dataset);
    let read = by_pyiceberg(&dataset, &["later is not null"]);
    assert_eq!((read.number("rows"), &read.0["pruned"]["later is not null"][0]), (309, &json!(10)));
}

/// A table of each format.
const BOTH: &str = "[[table]]\nname = \"d\"\nformat = \"delta\"\n[[table]]\nname = \"i\"\nformat = \"iceberg\"\n";

#[test]
fn a_dataset_has_a_table_of_each_format_and_one_that_0_1_left_is_published_as_it_is() {
    let fixture = Fixture::unpack("simulator");
    let dataset = &fixture.dataset;
    let published = dataset.pintail().tables(BOTH).args(["publish"]).run_ok().stdout;
    assert_eq!(published.matches("with 300 rows joined").count(), 2, "{published}");
    fixture.pintail().set("source.limit", 800).run_ok();
    dataset.pintail().tables(BOTH).args(["publish", "--table", "i"]).run_ok();
    let read = by_pyiceberg(dataset, &[]);
    assert_eq!(read.number("rows"), 800);
    let verified = dataset.pintail().args(["verify"]).run_ok().stdout;
    assert!(verified.contains("Delta table: version 0") && verified.contains("Iceberg table: version 2"), "{verified}");
    dataset.assert_clean();
    dataset
        .pintail()
        .tables(&format!("{TABLE}{}", TABLE.replace("events", "others")))
        .args(["check"])
        .run()
        .assert_refused(78, &["both Iceberg tables"]);
}

#[test]
fn a_service_that_is_killed_at_any_moment_has_each_file_in_its_table_once() {
    let dataset = Dataset::new();
    let service = |limit: u64| {
        let pintail = dataset.simulator(limit).set("source.rate", 40_000).set("pipeline.checkpoint_interval", "100ms");
        pintail.set("pipeline.batch_rows", 2_000).tables(TABLE)
    };
    for round in 0..8_u64 {
        let mut process = service(0).spawn();
        let commits = dataset.commits_len();
        process.wait_for_commits(commits + 3);
        thread::sleep(Duration::from_millis(round * 137));
        process.kill();
        if dataset.out().join("_iceberg").is_dir() {
            dataset.pintail().tables(TABLE).args(["publish", "--table", "events"]).run_ok();
        }
    }
    let mut process = service(0).spawn();
    let commits = dataset.commits_len();
    process.wait_for_commits(commits + 5);
    process.stop(Signal::TERM).assert_code(0);
    // The last publication has what was committed last: nothing is left for a command to do.
    let read = by_pyiceberg(&dataset, &[]);
    assert_eq!(read.number("rows"), dataset.last_commit().next_offset());
    assert!(publish(&dataset).contains("has everything"));
    dataset.assert_clean();
}

#[test]
fn publishers_that_run_at_the_same_time_and_are_killed_publish_each_file_once() {
    let dataset = Dataset::new();
    for limit in (1..=25).map(|n| n * 100) {
        dataset.simulator(limit).run_ok();
    }
    for round in 0..6_u64 {
        let publishers: Vec<_> = (0..3).map(|_| dataset.pintail().tables(TABLE).args(["publish"]).spawn()).collect();
        for (n, publisher) in (0..).zip(publishers) {
            match n {
                0 => drop(publisher.kill()),
                1 => {
                    thread::sleep(Duration::from_millis(round * 9));
                    publisher.kill();
                }
                _ => publisher.wait().assert_code(0),
            }
        }
        dataset.simulator(2_500 + (round + 1) * 100).run_ok();
    }
    publish(&dataset);
    let read = by_pyiceberg(&dataset, &[]);
    assert_eq!((read.number("rows"), read.number("total")), (3_100, 3_100));
    dataset.assert_clean();
}

#[test]
fn what_a_table_cannot_have_is_refused_for_the_table_alone_and_a_moved_dataset_is_named() {
    let dataset = Dataset::new();
    let sql = "SELECT id::UBIGINT AS id, region, make_timestamp_ns(id) AS exact FROM events";
    let words = ["table `events`", "CAST(\"id\" AS DECIMAL(20,0)) AS \"id\"", "CAST(\"exact\" AS TIMESTAMP) AS \"exact\""];
    let lines = events(0..10, hostile);
    over(&dataset, sql, &lines).tables(TABLE).args(["check"]).run().assert_refused(78, &words);
    over(&dataset, sql, &lines).tables(TABLE).run().assert_refused(78, &words);
    over(&dataset, sql, &lines).run_ok();
    let kept = [words[1], "keeps its columns", "new dataset (another `pipeline.out_path`)"];
    dataset.pintail().tables(TABLE).args(["publish"]).run().assert_refused(78, &kept);
    assert!(!dataset.out().join("_iceberg").exists());

    let moved = Dataset::new();
    moved.simulator(100).run_ok();
    publish(&moved);
    fs::rename(moved.out(), moved.root().join("elsewhere")).unwrap();
    let elsewhere = moved.root().join("elsewhere");
    let place = elsewhere.to_str().unwrap();
    moved.pintail().tables(TABLE).args(["publish", place]).run().assert_refused(78, &["names its files by absolute paths"]);
    let verified = moved.pintail().args(["verify", place]).run();
    verified.assert_refused(78, &["Iceberg table: ", "names its files by absolute paths"]);
    assert!(
        verified.stdout.contains("Iceberg table: refused by `pintail publish") && !verified.stdout.contains("\nclean"),
        "{}",
        verified.stdout
    );
    fs::remove_dir_all(elsewhere.join("_iceberg")).unwrap();
    moved.pintail().tables(TABLE).args(["publish", place]).run_ok();
}

#[test]
fn files_that_expired_leave_the_table_and_verify_names_what_contradicts() {
    let dataset = Dataset::new();
    dataset.simulator(1_000).run_ok();
    publish(&dataset);
    let files = dataset.data_files();
    let late = dataset.simulator(1_100).set("source.start_time", "2026-01-01T00:00:00Z");
    late.run_ok();
    dataset.pintail().args(["expire", "--before", "2027-01-01", "--force"]).run_ok();
    fs::remove_file(dataset.out().join(&files[0])).unwrap();
    assert!(publish(&dataset).contains("1 expired ones left"));
    let read = by_pyiceberg(&dataset, &[]);
    assert_eq!((read.number("rows"), read.number("total")), (dataset.rows_len() as u64, dataset.rows_len() as u64));
    dataset.pintail().args(["verify"]).run_ok();
    // A version of somebody who went back to the first snapshot: it has the file that is gone, and not the late ones.
    let metadata = dataset.out().join("_iceberg/metadata");
    let mut said: Value = serde_json::from_slice(&fs::read(metadata.join("v2.metadata.json")).unwrap()).unwrap();
    said["current-snapshot-id"] = said["snapshots"][0]["snapshot-id"].clone();
    fs::write(metadata.join("v3.metadata.json"), said.to_string()).unwrap();
    let words = ["Iceberg table", "is not in the table, which says that it is published", "still in the table", "pintail publish"];
    dataset.pintail().args(["verify"]).run().assert_refused(65, &words);
}
