//! Values that become directories.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::{Dataset, walk};

const TS: i64 = 1_767_225_600_000;

#[test]
fn every_text_comes_back_as_it_was_or_is_a_dead_letter_and_nothing_leaves_the_dataset() {
    let long = "r".repeat(300);
    let values = [
        "../../etc",
        "",
        "%",
        "%2F",
        "=",
        "a=b",
        "a\nb",
        "a\tb",
        "🦆",
        "007",
        "1e5",
        "2026-01-01",
        "a/b",
        "/etc/passwd",
        " ",
        " a ",
        "+",
        ".",
        "..",
        "~",
        "*",
        "?",
        "[a]",
        "{a}",
        "'",
        "\"",
        "\\",
        "#",
        "&",
        ":",
        "null",
        "NULL",
        "true",
        "Ł",
        "_pintail",
        "x.parquet",
        "us",
        "US",
    ];
    let dead = ["__HIVE_DEFAULT_PARTITION__", "a\u{0}b", "\u{0}", &long];
    let mut events: Vec<_> = values.iter().chain(&dead).map(|value| json!({ "region": value })).collect();
    events.extend([json!({ "region": null }), json!({})]);
    let mut input = String::new();
    let mut expected = BTreeMap::new();
    for (id, event) in (0..).zip(&mut events) {
        expected.insert(id, event["region"].as_str().map(str::to_owned));
        event.as_object_mut().unwrap().extend([("id".to_owned(), json!(id)), ("ts".to_owned(), json!(TS))]);
        input += &format!("{event}\n");
    }

    let dataset = Dataset::new();
    dataset.write("work/events.ndjson", input);
    let before = outside(&dataset);
    dataset.file("work/events.ndjson").run_ok();
    assert_eq!(outside(&dataset), before, "nothing is written outside the dataset");
    dataset.assert_clean();

    let rejected: BTreeSet<i64> = dataset.dead_letters().iter().map(id_of).collect();
    for (id, value) in &expected {
        // The empty text may go either way: some readers cannot tell it from null.
        let must_be_dead = value.as_deref().is_some_and(|value| dead.contains(&value));
        let may_be_dead = must_be_dead || value.as_deref() == Some("");
        assert!(rejected.contains(id) || !must_be_dead, "{value:?} must be a dead letter");
        assert!(!rejected.contains(id) || may_be_dead, "{value:?} must not be a dead letter");
    }
    expected.retain(|id, _| !rejected.contains(id));
    for back in dataset.read_back(&[("region", "VARCHAR")]) {
        let rows = back.rows();
        let found = rows.iter().map(|row| (row["id"].as_i64().unwrap(), row.get("region").map(|v| v.as_str().unwrap().to_owned())));
        assert_eq!(found.collect::<BTreeMap<_, _>>(), expected, "{}", back.reader);
        assert_eq!(rows.len(), expected.len(), "{}", back.reader);
    }
    assert_eq!(dataset.counts().sink as usize, rejected.len());
}

/// Returns the id in the original bytes of a dead letter.
fn id_of(letter: &Value) -> i64 {
    let originals = letter.as_object().unwrap().values().filter_map(|value| serde_json::from_str::<Value>(value.as_str()?).ok());
    originals.filter_map(|original| original["id"].as_i64()).next().unwrap_or_else(|| panic!("the original in {letter}"))
}

/// Returns what is next to the dataset, but for the configuration files of the runs.
fn outside(dataset: &Dataset) -> BTreeSet<std::path::PathBuf> {
    let ours = |path: &Path| path.starts_with(dataset.out()) || path.extension().is_some_and(|ending| ending == "toml");
    walk(dataset.root()).into_iter().filter(|path| !ours(path)).collect()
}

#[test]
fn columns_of_other_types_come_back_with_the_types_given() {
    let dataset = Dataset::new();
    let events = [
        json!({ "id": 0, "ts": TS, "n": -5, "flag": true, "day": "2026-01-01" }),
        json!({ "id": 1, "ts": TS, "n": 0, "flag": false, "day": "1969-12-31" }),
        json!({ "id": 2, "ts": TS, "n": i64::MAX, "flag": null, "day": null }),
        json!({ "id": 3, "ts": TS, "n": null, "flag": true, "day": "2026-01-01" }),
    ];
    dataset.write("events.ndjson", events.iter().map(|event| format!("{event}\n")).collect::<String>());
    let columns = json!([
        { "name": "id", "type": "int64" },
        { "name": "ts", "type": "timestamp_ms" },
        { "name": "n", "type": "int64" },
        { "name": "flag", "type": "boolean" },
        { "name": "day", "type": "date" },
    ]);
    let pintail = dataset.file("events.ndjson").set("schema.columns", columns).set("sink.partition_by", json!(["day", "flag", "n"]));
    pintail.set("transform.sql", "SELECT * FROM events").run_ok();
    dataset.assert_clean();
    assert!(fs::metadata(dataset.out().join("day=2026-01-01/flag=true/n=-5")).unwrap().is_dir(), "nested in the order of partition_by");
    for back in dataset.read_back(&[("day", "DATE"), ("flag", "BOOLEAN"), ("n", "BIGINT")]) {
        let mut rows = back.rows();
        rows.sort_by_key(|row| row["id"].as_i64());
        for (row, event) in rows.iter().zip(&events) {
            for column in ["n", "flag", "day"] {
                assert_eq!(row.get(column).unwrap_or(&Value::Null), &event[column], "{}: `{column}` of {event}", back.reader);
            }
        }
        assert_eq!(rows.len(), events.len());
    }
}

#[test]
fn a_column_that_cannot_be_a_directory_is_refused() {
    let dataset = Dataset::new();
    dataset.write("events.ndjson", json!({ "id": 0, "ts": TS, "region": "eu" }).to_string());
    let refused = |sql: &str, by: &str| {
        let outcome = dataset.file("events.ndjson").set("transform.sql", sql).set("sink.partition_by", json!([by])).run();
        outcome.assert_refused(78, &[by]);
    };
    refused("SELECT id, ts, region AS _region FROM events", "_region");
    refused("SELECT id, ts, region AS \".region\" FROM events", ".region");
    refused("SELECT id, ts, id / 3.5 AS share FROM events", "share");
    refused("SELECT id, ts, region FROM events", "regoin");
    assert_eq!(dataset.commits_len(), 0);
}

#[test]
fn rows_past_the_most_hive_partitions_of_a_checkpoint_are_dead_letters() {
    let dataset = Dataset::new();
    let event = |id: i64| json!({ "id": id, "ts": TS, "region": format!("r{}", id % 5) }).to_string() + "\n";
    dataset.write("events.ndjson", (0..50).map(event).collect::<String>());
    dataset.file("events.ndjson").set("sink.partitions_max", 3).run_ok();
    let counts = dataset.counts();
    assert_eq!((counts.rows_out, counts.sink), (30, 20));
    let regions: BTreeSet<_> = dataset.rows().iter().map(|row| row["region"].as_str().unwrap().to_owned()).collect();
    assert_eq!(regions.len(), 3);
    dataset.assert_clean();

    // They are rows of the output, which no replay can send through the SQL: it says so once, and they are listed as before.
    let listed = || dataset.pintail().args(["dead-letters"]).run_ok().stdout;
    let (before, commits) = (listed(), dataset.commits_len());
    let replay = || dataset.file("events.ndjson").set("sink.partitions_max", 100).args(["dead-letters", "--replay"]).run_ok();
    for _ in 0..2 {
        let warned = replay().stderr.lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect::<Vec<_>>();
        assert!(warned.len() == 1 && warned[0].contains("\"rows\":20"), "{warned:?}");
        assert_eq!((listed(), dataset.commits_len(), dataset.rows_len()), (before.clone(), commits, 30));
    }
    assert!(before.contains("20 dead letters"), "{before}");
}

#[test]
fn a_row_past_the_most_hive_partitions_names_the_place_of_its_own_record() {
    let event = |id: i64| {
        json!({ "id": id, "ts": TS, "region": if id % 17 == 3 { "x".to_owned() } else { (id % 5).to_string() } }).to_string() + "\n"
    };
    let lines: String = (0..500).map(event).collect();
    for (select, knows) in [
        ("SELECT * FROM events", true),
        ("SELECT * FROM events WHERE id % 3 > 0", true),
        ("SELECT *, unnest([1, 2]) AS k FROM events WHERE id % 3 > 0", true),
        ("WITH p AS (SELECT * EXCLUDE (region), region::INTEGER AS region FROM events) SELECT * FROM p WHERE id % 3 > 0", true),
        ("SELECT e.* FROM events e JOIN (VALUES (0), (1)) w(k) ON e.id % 2 = w.k", false),
    ] {
        let dataset = Dataset::new();
        dataset.write("events.ndjson", &lines);
        let run = dataset.file("events.ndjson").set("sink.partitions_max", 3).set("pipeline.batch_rows", 100).set("transform.sql", select);
        run.set("dead_letters.ratio_max", 1.0).run_ok();
        let letters = dataset.dead_letters();
        let past: Vec<_> = letters.iter().filter(|letter| letter.get("output_row").is_some()).collect();
        assert!(past.len() > 100, "{select}: {} letters", past.len());
        for letter in past {
            let row: Value = serde_json::from_str(letter["output_row"].as_str().unwrap()).unwrap();
            let offset = usize::try_from(letter["offset"].as_u64().unwrap()).unwrap();
            let record: Value = serde_json::from_str(lines[offset..].lines().next().unwrap()).unwrap();
            let says_so = letter["reason"].as_str().unwrap().contains("the place is that of its batch");
            assert_eq!((record["id"] == row["id"], says_so), (knows, !knows), "{select}: {letter}");
        }
        dataset.assert_clean();
    }
}
