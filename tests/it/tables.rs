//! Tables: what readers of Delta find in a dataset, whatever happened to whoever published it.
//!
//! Owns: `pintail publish`, `[[table]]` and what `check` and `verify` say of a table, by the binary; the table is read by delta-rs. Of Iceberg tables
//! see [`iceberg`].
//! Does not own: every order of steps of two publishers (see `crates/tables/src/model.rs`).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::common::lines::lines;
use crate::common::process::Pintail;
use crate::common::readers::python;
use crate::common::{Dataset, walk};
use crate::upgrade::fixture::Fixture;

mod iceberg;

/// What reading a table begins with: the rows of the files as pyarrow reads them, and how they are compared with those of the table.
const COMPARE: &str = r#"
import json, os, sys, urllib.parse
import pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
out, paths = sys.argv[1], json.loads(sys.argv[2])
files = []
for path in paths:
    # The file alone: pyarrow would take the directories above for columns.
    rows = pq.ParquetFile(os.path.join(out, path)).read()
    for part in path.split("/")[:-1]:
        name, value = part.split("=", 1)
        value = None if value == "__HIVE_DEFAULT_PARTITION__" else urllib.parse.unquote(value)
        rows = rows.append_column(name, pa.array([value] * rows.num_rows, pa.string()))
    files.append(rows)
files = pa.concat_tables(files, promote_options="default")
def plain(value):
    if isinstance(value, dict): return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)): return [plain(inner) for inner in value]
    return str(value) if value is not None else None
def compare(read, row=lambda of: of):
    assert sorted(read.column_names) == sorted(files.column_names), (read.column_names, files.column_names)
    def rows(table): return sorted(json.dumps(plain(row(of)), sort_keys=True) for of in table.select(sorted(files.column_names)).to_pylist())
    expected, found = rows(files), rows(read)
    differ = [(a, b) for a, b in zip(expected, found) if a != b]
    assert len(expected) == len(found) and not differ, (len(expected), len(found), differ[:2])
"#;

/// Prints what delta-rs reads of a table as JSON.
const READ: &str = r#"
import deltalake
table = deltalake.DeltaTable(out)
read = table.to_pyarrow_table()
compare(read)
uris = [urllib.parse.unquote(urllib.parse.urlparse(uri).path) for uri in table.file_uris()]
assert len(set(uris)) == len(uris), "a file is there twice"
# By a condition on each column, whatever the log says of it.
for name in files.column_names:
    kind = read.schema.field(name).type
    values = [value for value in read[name].to_pylist() if value is not None and value == value]
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or not values: continue
    for value in (values[0], values[-1]):
        counts = [table.to_pyarrow_dataset().filter(pc.field(name) == pa.scalar(value, kind)).count_rows(), values.count(value)]
        assert counts[0] == counts[1], (name, value, counts)
pruned = {}
for text in sys.argv[3:]:
    column, low, high = text.split(":")
    dataset = table.to_pyarrow_dataset()
    condition = (pc.field(column) >= int(low)) & (pc.field(column) < int(high))
    fragments = list(dataset.get_fragments(filter=condition))
    pruned[text] = [dataset.filter(condition).count_rows(), len(fragments)]
print(json.dumps({"version": table.version(), "rows": read.num_rows, "files": len(uris), "name": table.metadata().name, "pruned": pruned,
    "schema": {field.name: str(field.type) for field in read.schema}}), flush=True)
# Without the end of the interpreter, at which threads of the readers may still run, and abort it.
os._exit(0)
"#;

/// A table as a reader reads it.
struct Read(Value);

impl Read {
    /// Reads the table by delta-rs, and asserts that it has the rows of the files and no other.
    fn of(dataset: &Dataset, filters: &[&str]) -> Self {
        Self::by(READ, dataset, filters)
    }

    /// As [`Self::of`], by a script that goes on from [`COMPARE`].
    fn by(script: &str, dataset: &Dataset, filters: &[&str]) -> Self {
        let files: Vec<PathBuf> = dataset.data_files();
        let (out, files) = (dataset.out().to_str().unwrap().to_owned(), serde_json::to_string(&files).unwrap());
        let args: Vec<&str> = [out.as_str(), files.as_str()].into_iter().chain(filters.iter().copied()).collect();
        Self(serde_json::from_str(&python(&(COMPARE.to_owned() + script), &args)).unwrap())
    }

    fn number(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_else(|| panic!("{name} of {}", self.0))
    }
}

/// All types that a Delta table has, with nulls, from a number.
const TYPES: &str = r"SELECT id, region,
    nullif(id % 3 = 0, id % 5 = 0) AS flag, (id % 200 - 100)::TINYINT AS tiny, (id * 100 - 3000)::SMALLINT AS small,
    CASE WHEN id % 7 = 0 THEN NULL ELSE (id - 50)::INTEGER END AS int, (id * 1000000007)::BIGINT AS big,
    (id / 7)::FLOAT AS real, CASE WHEN id % 11 = 0 THEN 'nan'::DOUBLE ELSE id / 3 END AS double,
    (id * 1.25 - 40)::DECIMAL(9, 2) AS money, (id * 12345.678901 - 1)::DECIMAL(18, 6) AS rate, (id * 1e20)::DECIMAL(38, 4) AS huge,
    'text ü ' || id AS text, encode('bytes ' || id) AS blob, DATE '1969-12-01' + id::INTEGER AS day,
    make_timestamp(id * 1234567 - 50000000) AS local, to_timestamp(id * 1234.567) AS at,
    [id, NULL, id + 1] AS list, {'a': id, 'b': 'x' || id} AS pair, MAP {'k': id} AS map,
    CASE WHEN id % 2 = 0 THEN [{'at': make_timestamp(id), 'n': id::INTEGER}] END AS nested
    FROM events";

/// Runs the service over lines of its standard input.
fn over<'a>(dataset: &'a Dataset, sql: &str, lines: &str) -> Pintail<'a> {
    let columns = "[[schema.columns]]\nname = \"id\"\ntype = \"int64\"\n[[schema.columns]]\nname = \"region\"\ntype = \"text\"\n";
    let pintail = dataset.pintail().set("source.type", "stdin").set("transform.sql", sql).set("sink.event_time", "");
    pintail.set("monitor.group_by", "region").set("monitor.value", "id").tables(columns).stdin(lines)
}

fn events(ids: std::ops::Range<i64>, region: impl Fn(i64) -> Value) -> String {
    ids.map(|id| json!({ "id": id, "region": region(id) }).to_string() + "\n").collect()
}

fn hostile(id: i64) -> Value {
    let regions = [json!("eu west"), json!("100%"), json!("a%20b"), json!("ü/ö=ß"), Value::Null, json!("a+b&c?d#e"), json!("'\"\\:*")];
    regions[usize::try_from(id).unwrap() % regions.len()].clone()
}

fn publish(dataset: &Dataset) -> String {
    dataset.pintail().args(["publish"]).run_ok().stdout
}

#[test]
fn a_published_table_has_the_rows_of_the_files_in_every_type_and_partition() {
    let dataset = Dataset::new();
    over(&dataset, TYPES, &events(1..100, hostile)).run_ok();
    assert!(publish(&dataset).contains("version 0"));
    let read = Read::of(&dataset, &[]);
    assert_eq!((read.number("version"), read.number("rows"), read.number("files")), (0, 99, 7));
    assert_eq!(read.0["name"], "out");
    // Filters leave files out and lose no row.
    over(&dataset, TYPES, &events(100..200, |_| json!("eu west"))).run_ok();
    over(&dataset, TYPES, &events(200..300, |_| json!("eu west"))).run_ok();
    publish(&dataset);
    let read = Read::of(&dataset, &["id:200:300", "id:100:101", "int:300:400", "day:0:1"][..3]);
    assert_eq!((read.number("version"), read.number("rows"), read.number("files")), (1, 299, 9));
    assert_eq!(read.0["pruned"], json!({ "id:200:300": [100, 1], "id:100:101": [1, 1], "int:300:400": [0, 0] }));
    assert!(publish(&dataset).contains("has everything"));
    assert_eq!(Read::of(&dataset, &[]).number("version"), 1);
    let verified = dataset.pintail().args(["verify"]).run_ok();
    assert!(verified.stdout.contains("Delta table: version 1 with 9 committed files\n"), "{}", verified.stdout);
    // A new column: files without it have nulls.
    let more = TYPES.replace("FROM events", ", make_timestamp(id) AS later FROM events");
    over(&dataset, &more, &events(300..310, hostile)).set("sink.allow_new_columns", true).run_ok();
    publish(&dataset);
    assert_eq!(Read::of(&dataset, &[]).number("rows"), 309);
}

#[test]
fn a_dataset_that_0_1_left_is_published_as_it_is_and_goes_on_with_this_version() {
    let fixture = Fixture::unpack("simulator");
    // 0.1 was killed while it published its second checkpoint: what there is of that is no whole one yet.
    assert!(publish(&fixture.dataset).contains("with 300 rows joined"));
    fixture.pintail().set("source.limit", 800).run_ok();
    publish(&fixture.dataset);
    assert_eq!(Read::of(&fixture.dataset, &[]).number("rows"), 800);
    fixture.dataset.assert_clean();
}

#[test]
fn a_service_that_is_killed_at_any_moment_has_each_file_in_its_table_once() {
    let dataset = Dataset::new();
    let table = "[[table]]\nname = \"events\"\nformat = \"delta\"\ninterval = \"1s\"\n";
    let service = |limit: u64| {
        let pintail = dataset.simulator(limit).set("source.rate", 40_000).set("pipeline.checkpoint_interval", "100ms");
        pintail.set("pipeline.batch_rows", 2_000).tables(table)
    };
    let log = dataset.out().join("_delta_log");
    for round in 0..8_u64 {
        let mut process = service(0).spawn();
        let commits = dataset.commits_len();
        process.wait_for_commits(commits + 3);
        thread::sleep(Duration::from_millis(round * 137));
        process.kill();
        if log.is_dir() {
            dataset.pintail().args(["publish", "--table", "events"]).run_ok();
        }
    }
    let mut process = service(0).spawn();
    let commits = dataset.commits_len();
    process.wait_for_commits(commits + 5);
    process.stop(Signal::TERM).assert_code(0);
    // The last publication has what was committed last: nothing is left for a command to do.
    let read = Read::of(&dataset, &[]);
    assert_eq!(read.number("rows"), dataset.last_commit().next_offset());
    assert!(publish(&dataset).contains("has everything"));
    dataset.assert_clean();
    dataset.assert_simulated(dataset.last_commit().next_offset());
}

#[test]
fn publishers_that_run_at_the_same_time_and_are_killed_publish_each_file_once() {
    let dataset = Dataset::new();
    for limit in (1..=25).map(|n| n * 100) {
        dataset.simulator(limit).run_ok();
    }
    for round in 0..6_u64 {
        let publishers: Vec<_> = (0..3).map(|_| dataset.pintail().args(["publish"]).spawn()).collect();
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
    assert_eq!(Read::of(&dataset, &[]).number("rows"), 3_100);
    dataset.assert_clean();
    let unfinished = walk(&dataset.out().join("_delta_log")).into_iter().filter(|path| path.to_string_lossy().ends_with(".json")).count();
    assert!((1..=7).contains(&unfinished), "{unfinished}");
}

#[test]
fn a_table_of_many_commits_is_read_from_its_checkpoints() {
    let dataset = Dataset::new();
    for limit in (1..=22).map(|n| n * 10) {
        dataset.simulator(limit).run_ok();
        publish(&dataset);
    }
    let log = dataset.out().join("_delta_log");
    let last: Value = serde_json::from_slice(&fs::read(log.join("_last_checkpoint")).unwrap()).unwrap();
    assert_eq!(last["version"], 19);
    // The commits that it stands for are not needed.
    (0..19).for_each(|version| fs::remove_file(log.join(format!("{version:020}.json"))).unwrap());
    let read = Read::of(&dataset, &[]);
    assert_eq!((read.number("version"), read.number("rows")), (21, 220));
    dataset.simulator(230).run_ok();
    publish(&dataset);
    assert_eq!(Read::of(&dataset, &[]).number("rows"), 230);
    // Its checkpoints are no data.
    dataset.assert_clean();
    let count = dataset.pintail().args(["query", "SELECT count(*) AS n FROM events", "--format", "csv"]).run_ok();
    assert_eq!(count.stdout, "n\n230\n");
    dataset.pintail().set("source.type", "simulator").args(["adopt"]).run_ok();
}

#[test]
fn what_a_table_cannot_have_is_refused_for_the_table_alone_with_the_cast_to_write() {
    let dataset = Dataset::new();
    let sql = "SELECT id::UBIGINT AS id, region, make_time(1, 2, 3) AS clock FROM events";
    let table = "[[table]]\nname = \"events\"\nformat = \"delta\"\n";
    let words = ["table `events`", "CAST(\"id\" AS DECIMAL(20,0)) AS \"id\"", "CAST(\"clock\" AS VARCHAR) AS \"clock\""];
    let lines = events(0..10, hostile);
    over(&dataset, sql, &lines).tables(table).args(["check"]).run().assert_refused(78, &words);
    over(&dataset, sql, &lines).tables(table).run().assert_refused(78, &words);
    over(&dataset, sql, &lines).run_ok();
    // From now on the dataset keeps its columns: to cast them is of no use.
    let kept = [words[1], "keeps its columns", "new dataset (another `pipeline.out_path`)"];
    dataset.pintail().args(["publish"]).run().assert_refused(78, &kept);
    over(&dataset, sql, &lines).tables(table).args(["check"]).run().assert_refused(78, &kept);
    assert!(!dataset.out().join("_delta_log").exists());
    let two = format!("{table}[[table]]\nname = \"others\"\nformat = \"delta\"\n");
    dataset.pintail().tables(&two).args(["check"]).run().assert_refused(78, &["both Delta tables"]);
    dataset
        .pintail()
        .tables("[[table]]\nname = \"a b\"\nformat = \"hudi\"\n")
        .args(["check"])
        .run()
        .assert_refused(78, &["table[0].name", "table[0].format"]);
}

#[test]
fn the_table_of_another_dataset_is_refused_and_verify_names_what_contradicts() {
    let (dataset, other) = (Dataset::new(), Dataset::new());
    let copy = |from: &Dataset, to: &Dataset| {
        for file in walk(&from.out().join("_delta_log")) {
            let place = to.out().join("_delta_log").join(file.file_name().unwrap());
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy(file, place).unwrap();
        }
    };
    dataset.simulator(100).run_ok();
    other.simulator(100).run_ok();
    publish(&dataset);
    copy(&dataset, &other);
    other.pintail().args(["publish"]).run().assert_refused(78, &["belongs to the dataset"]);
    let table = "[[table]]\nname = \"events\"\nformat = \"delta\"\n";
    other.simulator(200).tables(table).args(["check"]).run().assert_refused(78, &["belongs to the dataset"]);
    other.simulator(200).tables(table).run().assert_refused(78, &["belongs to the dataset"]);
    let verified = other.pintail().args(["verify"]).run();
    verified.assert_refused(78, &["Delta table: ", "belongs to the dataset"]);
    assert!(
        verified.stdout.contains("Delta table: refused by `pintail publish") && !verified.stdout.contains("\nclean"),
        "{}",
        verified.stdout
    );
    // One that is there before there is a dataset.
    let none = Dataset::new();
    copy(&dataset, &none);
    none.simulator(100).tables(table).args(["check"]).run().assert_refused(78, &["is there before its dataset"]);
    none.simulator(100).tables(table).run().assert_refused(78, &["is there before its dataset"]);
    // Whoever becomes another's while the service runs holds nothing up.
    fs::remove_dir_all(other.out().join("_delta_log")).unwrap();
    let service = other.simulator(0).set("source.rate", 1_000).set("pipeline.checkpoint_interval", "100ms");
    let mut running = service.tables(&format!("{table}interval = \"1s\"\n")).spawn();
    let commits = other.commits_len();
    running.wait_for_commits(commits + 1);
    let _ = fs::rename(other.out().join("_delta_log"), other.root().join("aside"));
    copy(&dataset, &other);
    running.wait_for_commits(commits + 3);
    let ran = running.stop(Signal::TERM);
    ran.assert_code(0);
    assert!(ran.errors().contains("belongs to the dataset"), "{}", ran.stderr);
    fs::remove_dir_all(other.out().join("_delta_log")).unwrap();
    other.assert_clean();

    // A commit of somebody who took a file out, and one that is lost.
    let log = dataset.out().join("_delta_log");
    let commit = fs::read_to_string(log.join(format!("{:020}.json", 0))).unwrap();
    let add = commit.lines().find_map(|line| serde_json::from_str::<Value>(line).unwrap().get("add").cloned()).unwrap();
    let remove = json!({ "remove": { "path": add["path"], "dataChange": true, "deletionTimestamp": 1 } });
    fs::write(log.join(format!("{:020}.json", 1)), remove.to_string()).unwrap();
    dataset.pintail().args(["verify"]).run().assert_refused(65, &["Delta table", "was taken out of the table", "pintail publish"]);
    let published = publish(&dataset);
    let said = format!("another writer took 1 file of the dataset out of it, the first is `{}`", add["path"].as_str().unwrap());
    assert!(published.contains("nothing joined") && published.contains(&said) && !published.contains("everything"), "{published}");
    fs::remove_dir_all(&log).unwrap();
    publish(&dataset);
    dataset.assert_clean();
}

#[test]
fn files_that_expired_leave_the_table() {
    let dataset = Dataset::new();
    dataset.simulator(1_000).run_ok();
    publish(&dataset);
    let files = dataset.data_files();
    let late = dataset.simulator(1_100).set("source.start_time", "2026-01-01T00:00:00Z");
    late.run_ok();
    dataset.pintail().args(["expire", "--before", "2027-01-01", "--force"]).run_ok();
    fs::remove_file(dataset.out().join(&files[0])).unwrap();
    assert!(publish(&dataset).contains("1 expired ones left"));
    let left: BTreeMap<String, Value> = BTreeMap::from([("rows".to_owned(), json!(dataset.rows_len()))]);
    assert_eq!(Read::of(&dataset, &[]).0["rows"], left["rows"]);
    dataset.pintail().args(["verify"]).run_ok();
}

#[test]
fn files_that_expired_and_that_an_append_only_table_does_not_let_go_are_told() {
    let dataset = Dataset::new();
    dataset.simulator(1_000).run_ok();
    publish(&dataset);
    let files = dataset.data_files();
    let log = dataset.out().join("_delta_log");
    let commit = fs::read_to_string(log.join(format!("{:020}.json", 0))).unwrap();
    let mut meta_data = commit.lines().find_map(|line| serde_json::from_str::<Value>(line).unwrap().get("metaData").cloned()).unwrap();
    let mut set = |version: u64, value: &str| {
        meta_data["configuration"]["delta.appendOnly"] = value.into();
        fs::write(log.join(format!("{version:020}.json")), json!({ "metaData": meta_data }).to_string()).unwrap();
    };
    set(1, "true");
    dataset.simulator(1_100).set("source.start_time", "2026-01-01T00:00:00Z").run_ok();
    dataset.pintail().args(["expire", "--before", "2027-01-01", "--force"]).run_ok();
    fs::remove_file(dataset.out().join(&files[0])).unwrap();
    let words = ["1 file declared expired and gone had to stay", "`delta.appendOnly`", "set that to false"];
    for joined in ["with 100 rows joined", "nothing joined"] {
        let published = dataset.pintail().args(["publish"]).run();
        published.assert_refused(78, &words);
        assert!(published.stdout.contains(joined), "{}", published.stdout);
    }
    dataset.pintail().args(["verify"]).run().assert_refused(65, &["still in the table"]);
    set(3, "false");
    assert!(publish(&dataset).contains("1 expired ones left"));
    dataset.pintail().args(["verify"]).run_ok();
}

#[test]
fn files_that_another_writer_has_added_to_the_table_are_told_as_such_and_not_adopted() {
    let dataset = Dataset::new();
    for (file, ids) in [("a.ndjson", 0..100), ("b.ndjson", 100..200)] {
        dataset.write(file, lines(ids));
        dataset.pintail().bare().args(["load", file, "--to", "out", "--sql", "SELECT id, region FROM events"]).run_ok();
    }
    dataset.pintail().bare().args(["publish", "out"]).run_ok();
    let before = dataset.data_files().len();
    python("import deltalake, sys; deltalake.DeltaTable(sys.argv[1]).optimize.compact()", &[dataset.out().to_str().unwrap()]);
    assert!(dataset.data_files().len() > before, "the rows of several files are in others");
    dataset.pintail().bare().args(["verify", "out"]).run().assert_refused(65, &["was added to a table by another writer"]);
    let adopted = dataset.pintail().bare().args(["adopt", "--set", "pipeline.out_path=out"]).run();
    adopted.assert_refused(78, &["was added to a table by another writer", "OPTIMIZE", "nothing was adopted"]);
    assert_eq!(
        dataset
            .pintail()
            .bare()
            .args(["query", "--set", "pipeline.out_path=out", "--format", "csv", "SELECT count(*) AS n FROM events"])
            .run_ok()
            .stdout,
        "n\n200\n"
    );
}
