//! Lookup tables: files joined to the events.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use rustix::process::Signal;
use serde_json::json;

use crate::common::lines::{line, lines};
use crate::common::process::{Pintail, Process, log_lines};
use crate::common::{Dataset, sha256};

const SQL: &str = "SELECT e.id, e.ts, e.region, p.place FROM events e LEFT JOIN places p ON p.region = e.region";

fn with_lookup<'a>(pintail: Pintail<'a>, path: &str) -> Pintail<'a> {
    pintail.set("transform.sql", SQL).set("transform.lookup", json!([{ "name": "places", "path": path }]))
}

/// Returns `(id, place)` of all rows, sorted.
fn places(dataset: &Dataset) -> Vec<(i64, Option<String>)> {
    let place = |row: &crate::common::readers::Row| row.get("place").map(|place| place.as_str().unwrap().to_owned());
    let mut places: Vec<_> = dataset.rows().iter().map(|row| (row["id"].as_i64().unwrap(), place(row))).collect();
    places.sort();
    places
}

fn write_parquet(path: &Path, regions: &[&str], places: &[&str]) {
    let column = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("region", column(regions)), ("place", column(places))]).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn csv_ndjson_and_parquet_are_joined() {
    for file in ["places.csv", "places.ndjson", "places.parquet"] {
        let dataset = Dataset::new();
        dataset.write("events.ndjson", lines(0..4));
        match file {
            "places.csv" => drop(dataset.write(file, "region,place\neu,Łódź\nap,Tokyo\n")),
            "places.ndjson" => {
                drop(dataset.write(file, "{\"region\":\"eu\",\"place\":\"Łódź\"}\n{\"region\":\"ap\",\"place\":\"Tokyo\"}\n"))
            }
            _ => write_parquet(&dataset.root().join(file), &["eu", "ap"], &["Łódź", "Tokyo"]),
        }
        with_lookup(dataset.file("events.ndjson"), file).run_ok();
        let lodz = || Some("Łódź".to_owned());
        assert_eq!(places(&dataset), [(0, lodz()), (1, None), (2, lodz()), (3, None)], "{file}");
        let content = std::fs::read(dataset.root().join(file)).unwrap();
        assert_eq!(dataset.last_commit().lookup("places"), Some(sha256(&content)), "{file}");
        dataset.assert_clean();
    }
}

#[test]
fn a_lookup_that_cannot_be_read_at_the_start_is_named() {
    let dataset = Dataset::new();
    dataset.write("events.ndjson", lines(0..4));
    let run = || with_lookup(dataset.file("events.ndjson"), "places.parquet").run();
    let outcome = run();
    assert_ne!(outcome.code(), 0);
    outcome.assert_refused(outcome.code(), &["places"]);
    dataset.write("places.parquet", "this is no parquet");
    let outcome = run();
    assert_ne!(outcome.code(), 0);
    outcome.assert_refused(outcome.code(), &["places"]);
    assert_eq!(dataset.commits_len(), 0);
}

/// Appends an event of region `eu` and waits until it is visible.
fn event(dataset: &Dataset, process: &mut Process<'_>, id: i64) {
    dataset.append("events.ndjson", line(id));
    process.wait_for_rows(id as usize / 2 + 1);
}

/// Sends SIGHUP and lets a few barriers pass: an idle one leaves no trace outside.
fn reload(process: &Process<'_>) {
    process.signal(Signal::HUP);
    thread::sleep(Duration::from_millis(1000));
}

#[test]
fn a_changed_file_is_taken_at_sighup_and_not_before() {
    let dataset = Dataset::new();
    let (old, new) = ("region,place\neu,Riga\n", "region,place\neu,Turku\n");
    dataset.write("places.csv", old);
    dataset.append("events.ndjson", "");
    let mut process = with_lookup(dataset.follow("events.ndjson"), "places.csv").spawn();
    event(&dataset, &mut process, 0);
    dataset.replace("places.csv", new);
    event(&dataset, &mut process, 2);
    reload(&process);
    event(&dataset, &mut process, 4);
    process.stop(Signal::TERM).assert_code(0);

    let place = |id, name: &str| (id, Some(name.to_owned()));
    assert_eq!(places(&dataset), [place(0, "Riga"), place(2, "Riga"), place(4, "Turku")]);
    let seen: Vec<_> = dataset.commits().iter().map(|commit| commit.lookup("places").unwrap()).collect();
    assert_eq!(seen, [sha256(old.as_bytes()), sha256(old.as_bytes()), sha256(new.as_bytes())]);
    dataset.assert_clean();
}

#[test]
fn a_broken_new_file_is_a_warning_and_the_old_table_stays() {
    let dataset = Dataset::new();
    let path = dataset.root().join("places.parquet");
    write_parquet(&path, &["eu"], &["Riga"]);
    let old = sha256(&std::fs::read(&path).unwrap());
    dataset.append("events.ndjson", "");
    let mut process = with_lookup(dataset.follow("events.ndjson"), "places.parquet").spawn();
    event(&dataset, &mut process, 0);

    dataset.replace("places.parquet", "this is no parquet");
    reload(&process);
    event(&dataset, &mut process, 2);
    assert!(log_lines(&process.log(), &["WARN"]).contains("places"), "{}", process.log());

    write_parquet(&dataset.root().join("good.parquet"), &["eu"], &["Turku"]);
    std::fs::rename(dataset.root().join("good.parquet"), &path).unwrap();
    reload(&process);
    event(&dataset, &mut process, 4);
    process.stop(Signal::TERM).assert_code(0);
    let place = |id, name: &str| (id, Some(name.to_owned()));
    assert_eq!(places(&dataset), [place(0, "Riga"), place(2, "Riga"), place(4, "Turku")]);
    assert_eq!(dataset.commits()[1].lookup("places"), Some(old));
}

#[test]
fn sighup_without_lookups_stops_nothing() {
    let dataset = Dataset::new();
    dataset.append("events.ndjson", "");
    let mut process = dataset.follow("events.ndjson").spawn();
    event(&dataset, &mut process, 0);
    process.signal(Signal::HUP);
    event(&dataset, &mut process, 2);
    process.stop(Signal::TERM).assert_code(0);
}
