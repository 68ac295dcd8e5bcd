//! From a source to Parquet, without any accident.

use std::fs;
use std::path::Path;

use arrow::datatypes::DataType;
use serde_json::{Value, json};

use crate::common::lines::{gzip, ids, lines};
use crate::common::process::messages;
use crate::common::readers::{Row, hive_values, read_parquet};
use crate::common::{Dataset, sha256};

const REGIONS: [&str; 5] = ["africa", "apac", "eu", "latam", "us"];

#[test]
fn simulated_events_arrive_as_the_default_sql_says() {
    let dataset = Dataset::new();
    dataset.simulator(200_000).run_ok();
    dataset.assert_simulated(200_000);
    dataset.assert_clean();
    let counts = dataset.counts();
    assert_eq!((counts.records_in, counts.rows_out), (200_000, 200_000));
    assert_eq!(dataset.last_commit().trigger(), "end");
}

#[test]
fn a_finished_dataset_gains_nothing_from_a_second_start_and_goes_on_when_its_limit_is_raised() {
    let dataset = Dataset::new();
    dataset.simulator(20_000).run_ok();
    let (commits, files) = (dataset.commits_len(), dataset.data_files());
    dataset.simulator(20_000).run_ok();
    assert_eq!((dataset.commits_len(), dataset.data_files()), (commits, files));

    dataset.simulator(30_000).run_ok();
    dataset.assert_simulated(30_000);
    dataset.assert_clean();
    let sequences: Vec<_> = dataset.records().iter().map(|record| (record.seq, record.is_open_record())).collect();
    assert_eq!(
        sequences,
        [(1, true), (2, false), (3, true), (4, true), (5, false)],
        "each start takes a number, also one that reads nothing"
    );
    for pair in dataset.commits().windows(2) {
        assert_eq!(pair[1].spans(), [(pair[0].next_offset(), pair[1].next_offset())], "a checkpoint begins where the one before ended");
    }
    assert_eq!(dataset.last_commit().next_offset(), 30_000);
}

#[test]
fn files_are_named_after_region_hour_and_checkpoint() {
    let dataset = Dataset::new();
    dataset.simulator(20_000).run_ok();
    let commits: Vec<_> = dataset.commits().iter().map(|commit| commit.seq).collect();
    let mut regions = Vec::new();
    for file in dataset.data_files() {
        let [(column, Some(region))] = &hive_values(&file)[..] else { panic!("one hive column in {file:?}") };
        assert_eq!(column, "region");
        regions.push(region.clone());
        let rest = file.file_name().unwrap().to_str().unwrap().strip_prefix("events-2026-01-01-00-").expect("the hour of the events");
        let numbers: Vec<u64> = rest.strip_suffix(".parquet").unwrap().split('-').map(|n| n.parse().unwrap()).collect();
        assert!(commits.contains(&numbers[0]) && numbers.len() <= 2, "{file:?} names no checkpoint of {commits:?}");
        let batches = read_parquet(&dataset.out().join(&file));
        assert!(batches[0].column_by_name("region").is_none(), "the partition column is in the path and must not be in the file");
    }
    regions.sort();
    regions.dedup();
    assert_eq!(regions, REGIONS);
}

#[test]
fn a_busy_checkpoint_makes_one_file_a_hive_partition() {
    let dataset = Dataset::new();
    dataset.simulator(100_000).set("pipeline.batch_rows", 1000).run_ok();
    assert_eq!(dataset.commits_len(), 1, "a finite input below the interval is one checkpoint");
    assert_eq!(dataset.data_files().len(), REGIONS.len(), "batches must not make files of their own");
}

#[test]
fn a_large_checkpoint_rolls_its_files_at_the_target_size() {
    let dataset = Dataset::new();
    dataset.simulator(200_000).set("sink.target_file_bytes", "100KiB").set("sink.row_group_rows", 5000).run_ok();
    assert!(dataset.data_files().len() > REGIONS.len(), "some hive partition has a second file");
    dataset.assert_clean();
    dataset.assert_simulated(200_000);
}

#[test]
fn a_commit_record_is_a_line_of_json_and_its_digest() {
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    dataset.simulator(2000).run_ok();
    let records = dataset.records();
    assert_eq!((records.len(), dataset.commits_len()), (4, 2), "of each start its open record and a checkpoint");
    let mut previous = sha256(fs::read_to_string(dataset.internal("FORMAT")).unwrap().lines().next().unwrap().as_bytes());
    for commit in &records {
        let text = fs::read_to_string(&commit.path).unwrap();
        assert_eq!(commit.value["previous"], previous, "the digest of the record before, of FORMAT for the first");
        previous = sha256(text.lines().next().unwrap().as_bytes());
        let parent = commit.path.parent().unwrap().file_name().unwrap();
        assert_eq!(parent, "000000", "10,000 records a directory");
        assert_eq!(commit.path.file_name().unwrap().to_str().unwrap(), format!("{:010}.json", commit.seq));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        let digest: Value = serde_json::from_str(lines[1]).unwrap();
        assert_eq!(digest["sha256"], previous);
        let files = commit.value["files"].as_array().unwrap();
        for file in files {
            let bytes = fs::read(dataset.out().join(file["path"].as_str().unwrap())).unwrap();
            assert_eq!((file["bytes"].as_u64(), file["sha256"].as_str()), (Some(bytes.len() as u64), Some(&*sha256(&bytes))));
        }
        let rows: u64 = files.iter().map(|file| file["rows"].as_u64().unwrap()).sum();
        assert_eq!(rows, commit.counts().rows_out);
    }
}

#[test]
fn each_checkpoint_is_one_line_of_the_log() {
    let dataset = Dataset::new();
    let outcome = dataset.simulator(40_000).set("source.rate", 50_000).set("pipeline.checkpoint_interval", "200ms").run_ok();
    let logged: Vec<_> = messages(&outcome.stderr, "checkpoint committed").iter().map(|fields| fields["seq"].clone()).collect();
    let commits: Vec<_> = dataset.commits().iter().map(|commit| json!(commit.seq)).collect();
    assert!(commits.len() >= 3, "an interval of 200 ms in 800 ms of events: {commits:?}");
    assert_eq!(logged, commits);
}

#[test]
fn a_query_gives_the_same_counts_in_all_formats() {
    let dataset = Dataset::new();
    dataset.simulator(20_000).run_ok();
    let mut expected = REGIONS.map(|region| (region.to_owned(), 0));
    for row in dataset.rows() {
        expected.iter_mut().find(|(region, _)| row["region"] == *region).unwrap().1 += 1;
    }
    let sql = "SELECT region, count(*) AS n FROM events GROUP BY region ORDER BY region";
    let query = |format: &str| dataset.pintail().args(["query", sql, "--format", format]).run_ok().stdout;

    let csv: Vec<_> = query("csv").lines().map(str::to_owned).collect();
    let rows = expected.iter().map(|(region, n)| format!("{region},{n}"));
    assert_eq!(csv, ["region,n".to_owned()].into_iter().chain(rows).collect::<Vec<_>>());

    let json: Vec<_> = json_rows(&query("json")).iter().map(|row| (row["region"].clone(), row["n"].clone())).collect();
    assert_eq!(json, expected.each_ref().map(|(region, n)| (json!(region), json!(n))));

    for table in [query("table"), dataset.pintail().args(["query", sql]).run_ok().stdout] {
        for (region, n) in &expected {
            let words = |line: &str| line.split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect::<Vec<_>>();
            let named = |line: &&str| words(line).contains(region) && words(line).contains(&n.to_string());
            assert!(table.lines().any(|line| named(&line)), "{region} {n} in\n{table}");
        }
    }
}

/// Takes JSON as one array or as one object a line.
fn json_rows(text: &str) -> Vec<Value> {
    match serde_json::from_str(text) {
        Ok(Value::Array(rows)) => rows,
        _ => text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect(),
    }
}

#[test]
fn a_query_can_neither_write_nor_read_elsewhere() {
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    let secret = dataset.write("secret.csv", "word\nheron\n");
    let target = dataset.root().join("stolen.csv");
    for sql in [
        format!("COPY (SELECT 1) TO '{}'", target.display()),
        format!("COPY (SELECT 1) TO '{}'", dataset.out().join("region=us/extra.parquet").display()),
        format!("SELECT * FROM read_csv('{}')", secret.display()),
        "SELECT * FROM no_such_table".to_owned(),
    ] {
        let outcome = dataset.pintail().args(["query", &sql]).run();
        assert_ne!(outcome.code(), 0, "`{sql}` went through");
        assert!(!outcome.stdout.contains("heron"));
    }
    assert!(!target.exists());
    dataset.assert_clean();
}

#[test]
fn every_declared_type_arrives_as_declared() {
    let dataset = Dataset::new();
    let full = r#"{"id":1,"at":"2026-03-01T12:30:00.5+02:00","day":"2026-02-28","ms":1767225600123,"price":"12.30","ok":true,
        "user":{"address":{"city":"Łódź"}},"tags":{"a":[1,2]},"ratio":0.1,"small":-7,"region":"eu","unknown":1}"#;
    let exact = r#"{"id":2,"at":"2026-03-01T00:00:00Z","day":"0001-01-01","ms":0,"price":9999999.99,"region":"eu"}"#;
    let nulls = r#"{"id":3,"at":null,"user":{"address":null},"price":null,"region":"eu"}"#;
    dataset.write("events.ndjson", format!("{}\n{exact}\n\n\n{nulls}\n", full.replace('\n', " ")));
    let columns = json!([
        { "name": "id", "type": "int64", "required": true },
        { "name": "at", "type": "timestamp" },
        { "name": "day", "type": "date" },
        { "name": "ms", "type": "timestamp_ms" },
        { "name": "price", "type": "decimal(9, 2)" },
        { "name": "ok", "type": "boolean" },
        { "name": "city", "type": "text", "path": "user.address.city" },
        { "name": "tags", "type": "json" },
        { "name": "ratio", "type": "float64" },
        { "name": "small", "type": "int16" },
        { "name": "region", "type": "dictionary" },
    ]);
    let pintail = dataset.file("events.ndjson").set("schema.columns", columns).set("sink.event_time", "at");
    pintail.set("transform.sql", "SELECT * FROM events").run_ok();
    dataset.assert_clean();
    assert_eq!(dataset.counts().records_in, 3, "blank lines are no records");
    assert!(dataset.dead_letters().is_empty(), "{:?}", dataset.dead_letters());

    let schema = read_parquet(&dataset.out().join(&dataset.data_files()[0]))[0].schema();
    assert_eq!(schema.field_with_name("price").unwrap().data_type(), &DataType::Decimal128(9, 2));
    for back in dataset.read_back(&[("region", "VARCHAR")]) {
        let number = |text: &str| text.parse::<f64>().unwrap();
        let mut rows = back.rows();
        rows.sort_by_key(|row| row["id"].as_i64());
        let text = |row: &Row, column: &str| row.get(column).map(|value| value.to_string().trim_matches('"').to_owned());
        let first = |column: &str| text(&rows[0], column).unwrap_or_else(|| panic!("{}: `{column}` is null", back.reader));
        assert!(first("at").starts_with("2026-03-01T10:30:00.5"), "{}: {}", back.reader, first("at"));
        assert!(first("ms").starts_with("2026-01-01T00:00:00.123"), "{}: {}", back.reader, first("ms"));
        assert_eq!((&*first("day"), &*first("ok")), ("2026-02-28", "true"), "{}", back.reader);
        assert_eq!((&*first("city"), &*first("ratio"), &*first("small")), ("Łódź", "0.1", "-7"), "{}", back.reader);
        assert_eq!(serde_json::from_str::<Value>(rows[0]["tags"].as_str().unwrap()).unwrap(), json!({ "a": [1, 2] }));
        assert_eq!((number(&first("price")), number(&text(&rows[1], "price").unwrap())), (12.3, 9_999_999.99));
        assert_eq!(text(&rows[1], "day").as_deref(), Some("0001-01-01"));
        let present: Vec<_> = rows[2].keys().map(String::as_str).collect();
        assert_eq!(present, ["id", "region"], "{}: everything else of the third row is null", back.reader);
    }
}

#[test]
fn standard_input_is_read_to_its_end() {
    let dataset = Dataset::new();
    // Without a line end behind the last record: it is one all the same.
    let input = lines(0..3000) + lines(3000..3001).trim_end();
    dataset.small_events().set("source.type", "stdin").set("pipeline.batch_rows", 700).stdin(input).run_ok();
    assert_eq!(dataset.ids(), ids(0..3001));
    assert_eq!(dataset.last_commit().trigger(), "end");
    dataset.assert_clean();
}

#[test]
fn files_of_a_glob_are_read_once_whatever_their_compression() {
    let dataset = Dataset::new();
    dataset.write("in/a.ndjson", lines(0..1000) + lines(1000..1001).trim_end());
    dataset.write("in/b.ndjson.gz", gzip(lines(1001..2000)));
    dataset.write("in/c.ndjson.zst", zstd::encode_all(lines(2000..3000).as_bytes(), 1).unwrap());
    dataset.write("in/d.ndjson", "");
    dataset.write("in/e.ndjson", lines(3000..3001));
    let run = || dataset.file("in/*.ndjson*").set("pipeline.batch_rows", 300).run_ok();
    run();
    assert_eq!(dataset.ids(), ids(0..3001));
    dataset.assert_clean();
    let commits = dataset.commits_len();
    run();
    assert_eq!((dataset.ids().len(), dataset.commits_len()), (3001, commits), "a second start reads nothing twice");
}

#[test]
fn rows_that_the_sql_takes_away_or_multiplies_are_counted() {
    let dataset = Dataset::new();
    dataset.write("events.ndjson", lines(0..100));
    let sql = "SELECT id, ts, region FROM events WHERE id < 10";
    dataset.file("events.ndjson").set("transform.sql", sql).run_ok();
    let counts = dataset.counts();
    assert_eq!((counts.records_in, counts.rows_out, counts.filtered, counts.expanded), (100, 10, 90, 0));

    let dataset = Dataset::new();
    dataset.write("events.ndjson", lines(0..100));
    let sql = "SELECT id, ts, region, unnest([1, 2, 3]) AS part FROM events";
    dataset.file("events.ndjson").set("transform.sql", sql).run_ok();
    let counts = dataset.counts();
    assert_eq!((counts.records_in, counts.rows_out, counts.filtered, counts.expanded), (100, 300, 0, 200));
    dataset.assert_clean();
}

#[test]
fn a_file_has_the_hour_of_its_earliest_event() {
    let dataset = Dataset::new();
    let event = |id: i64, time: &str| json!({ "id": id, "at": time, "region": "eu" }).to_string() + "\n";
    dataset.write("events.ndjson", event(0, "2026-01-01T00:30:00+02:00") + &event(1, "2025-12-31T23:10:00Z"));
    let columns = json!([
        { "name": "id", "type": "int64" }, { "name": "at", "type": "timestamp" }, { "name": "region", "type": "text" },
    ]);
    let pintail = dataset.file("events.ndjson").set("schema.columns", columns).set("sink.event_time", "at");
    pintail.set("transform.sql", "SELECT id, \"at\", region FROM events").run_ok();
    let hours: Vec<_> =
        dataset.data_files().iter().map(|file| file.to_str().unwrap()[.."region=eu/events-2025-12-31-22-".len()].to_owned()).collect();
    assert_eq!(hours, ["region=eu/events-2025-12-31-22-", "region=eu/events-2025-12-31-23-"]);
}

#[test]
fn arguments_go_before_environment_before_file() {
    let dataset = Dataset::new();
    let pintail = dataset.simulator(1000).set("pipeline.batch_rows", 400).env("PINTAIL_SOURCE__LIMIT", "2000");
    pintail.args(["--set", "source.limit=3000"]).run_ok();
    assert_eq!(dataset.last_commit().next_offset(), 3000);

    let dataset = Dataset::new();
    dataset.simulator(1000).env("PINTAIL_SOURCE__LIMIT", "2000").run_ok();
    assert_eq!(dataset.last_commit().next_offset(), 2000);
}

#[test]
fn the_short_variables_are_understood() {
    let dataset = Dataset::new();
    let pintail = dataset.simulator(300_000).set("source.rate", 200_000).unset("pipeline.out_path");
    let pintail = pintail.env("OUT_PATH", dataset.out().to_str().unwrap()).env("CHECKPOINT_SECONDS", "1");
    pintail.env("BATCH_ROWS", "1000").run_ok();
    assert!(dataset.commits_len() >= 2, "a checkpoint after a second, and the last");
    dataset.assert_clean();
}

#[test]
fn a_complete_configuration_is_inferred_that_runs_as_it_is() {
    let dataset = Dataset::new();
    let event = |n: i64| format!("{{\"n\":{n},\"at\":\"2026-01-05T10:00:00Z\",\"say \\\"shop\\\"\":\"berlin\"}}\n");
    let input = dataset.write("an event's.ndjson", (0..100).map(event).collect::<String>());
    let config = dataset.pintail().args(["infer".as_ref(), "--complete".as_ref(), input.as_os_str()]).run_ok().stdout;
    dataset.pintail().tables(&config).args(["check"]).run_ok();
    let run = dataset.pintail().tables(&config).run_ok();
    assert!(!run.stderr.contains("monitor."), "nobody asked for the simulator's groups: {}", run.stderr);
    assert_eq!(dataset.rows_len(), 100);
    let files = dataset.data_files();
    assert!(files.len() == 1 && files[0].to_str().unwrap().starts_with("events-2026-01-05-10-"), "{files:?}");
}

#[test]
fn an_inferred_schema_runs_as_it_is() {
    let dataset = Dataset::new();
    let input = dataset.write("events.ndjson", lines(0..100) + "{\"id\":100,\"ts\":1767225600100}\n");
    let schema = dataset.pintail().args(["infer".as_ref(), input.as_os_str()]).run_ok().stdout;
    for column in ["id", "ts", "region"] {
        assert!(schema.contains(&format!("\"{column}\"")), "`{column}` in\n{schema}");
    }
    let sql = "SELECT id, epoch_ms(ts) AS ts, region FROM events";
    // Whether it takes the integers for numbers or for milliseconds is a guess it may make either way.
    let sql = if schema.contains("type = \"timestamp_ms\"") { "SELECT id, ts, region FROM events" } else { sql };
    let pintail = dataset.pintail().set("source.type", "file").set("source.path", "events.ndjson");
    pintail.set("transform.sql", sql).tables(&schema).run_ok();
    assert_eq!(dataset.ids(), ids(0..101));
    assert_eq!(dataset.rows().iter().filter(|row| !row.contains_key("region")).count(), 1);
}

#[test]
fn a_check_shows_the_output_and_an_example_path_and_writes_no_data() {
    let dataset = Dataset::new();
    let checked = dataset.simulator(1000).args(["check"]).run_ok().stdout;
    for word in ["ts", "user_id", "amount", "sku", "bucket", "region=", "events-", ".parquet"] {
        assert!(checked.contains(word), "`{word}` in\n{checked}");
    }
    assert_eq!((dataset.commits_len(), dataset.data_files().len()), (0, 0));
}

#[test]
fn verify_finds_a_changed_byte_and_can_leave_out_the_past() {
    let dataset = Dataset::new();
    dataset.simulator(1000).run_ok();
    dataset.simulator(2000).run_ok();
    let commits = dataset.commits();
    let damaged = &commits[0].data_files()[0];
    flip_a_byte(&dataset.out().join(damaged));

    let outcome = dataset.pintail().args(["verify"]).run();
    outcome.assert_code(65);
    let said = outcome.stdout + &outcome.stderr;
    assert!(said.contains(damaged.to_str().unwrap()), "`{damaged:?}` in\n{said}");
    // By name, without any configuration of ours.
    dataset.pintail().unset("pipeline.out_path").args(["verify".as_ref(), dataset.out().as_os_str()]).run().assert_code(65);
    dataset.pintail().args(["verify", "--since", &commits[1].seq.to_string()]).run_ok();
}

#[test]
fn verify_finds_a_record_that_is_missing_in_the_chain() {
    let dataset = Dataset::new();
    [1000, 2000, 3000].into_iter().for_each(|limit| drop(dataset.simulator(limit).run_ok()));
    fs::remove_file(&dataset.commits()[1].path).unwrap();
    dataset.pintail().args(["verify"]).run().assert_code(65);
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn health_is_good_only_while_the_service_runs() {
    let dataset = Dataset::new();
    let health = || dataset.pintail().args(["health"]).run().code();
    assert_ne!(health(), 0, "no dataset yet");
    let mut service = dataset.simulator(0).set("source.rate", 1000).set("pipeline.checkpoint_interval", "100ms").spawn();
    service.wait_for_commits(1);
    assert_eq!(health(), 0);
    // The reading commands take no lock.
    dataset.pintail().args(["verify"]).run_ok();
    dataset.pintail().args(["query", "SELECT count(*) FROM events"]).run_ok();
    assert!(service.is_running());
    service.kill();
    assert_ne!(health(), 0, "nobody holds the lock");
}
