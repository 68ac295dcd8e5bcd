use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use parquet::arrow::ArrowWriter;
use pintail_core::error::{ErrorKind, Result};
use pintail_duckdb::query::{Answer, query};
use pintail_duckdb::shown;
use pintail_storage::checkpoint::reader::{Committed, DataFile};

/// A dataset of two partitions with one row each, beside a file that no record names.
fn dataset(out: &Path) -> Committed {
    let mut files = Vec::new();
    for (region, value) in [("007", 1), ("us", 2)] {
        files.push(PathBuf::from(format!("region={region}/events-2026-01-01-00-1.parquet")));
        write(&out.join(&files[files.len() - 1]), value);
    }
    write(&out.join("region=us/orphan.parquet"), 99);
    fs::create_dir_all(out.join("_pintail")).unwrap();
    fs::write(out.join("_pintail/FORMAT"), "{}").unwrap();
    committed(files)
}

/// The files as the ledger would list them; what columns they have is not known.
fn committed(files: Vec<PathBuf>) -> Committed {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let dirs: Vec<String> = files.iter().map(|file| text(file.parent().unwrap())).collect();
    let file = |(dir, path): (usize, &PathBuf)| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        DataFile { dir, name, rows: 1, class: Some(0), bounds: Vec::new() }
    };
    let files = files.iter().enumerate().map(file).collect();
    Committed { partition_by: vec![("region".into(), "VARCHAR".into())], dirs, files, classes: vec![Vec::new()], ..Committed::default() }
}

fn write(path: &Path, value: i64) {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![value]));
    let batch = RecordBatch::try_from_iter([("value", column)]).unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Runs a query; its result as CSV.
fn answer(out: &Path, committed: &Committed, sql: &str) -> Result<String> {
    let Answer { batches, .. } = query(out, committed, sql, usize::MAX)?;
    let mut text = Vec::new();
    let mut writer = arrow::csv::Writer::new(&mut text);
    batches.iter().for_each(|batch| writer.write(&shown::batch(batch).unwrap()).unwrap());
    drop(writer);
    Ok(String::from_utf8(text).unwrap())
}

fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(snapshot(&path));
            files.insert(path, Vec::new());
        } else {
            let content = fs::read(&path).unwrap();
            files.insert(path, content);
        }
    }
    files
}

#[test]
fn the_committed_files_are_read_with_the_types_given_and_no_other_file_is() {
    let dir = tempfile::tempdir().unwrap();
    let committed = dataset(dir.path());
    let sql = "SELECT region, value FROM events ORDER BY value";
    assert_eq!(answer(dir.path(), &committed, sql).unwrap(), "region,value\n007,1\nus,2\n");
}

#[test]
fn an_answer_without_rows_still_has_its_columns() {
    let dir = tempfile::tempdir().unwrap();
    let committed = dataset(dir.path());
    let Answer { schema, batches, .. } = query(dir.path(), &committed, "SELECT region, value FROM events WHERE value > 5", 9).unwrap();
    assert!(batches.is_empty());
    assert_eq!(schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>(), ["region", "value"]);
}

#[test]
fn aggregates_windows_and_joins_are_free_here() {
    let dir = tempfile::tempdir().unwrap();
    let committed = dataset(dir.path());
    let sql = "SELECT count(*) AS n, sum(a.value) AS s FROM events a, events b";
    assert_eq!(answer(dir.path(), &committed, sql).unwrap(), "n,s\n4,6\n");
}

#[test]
fn a_dataset_in_a_directory_with_wildcards_in_its_name_is_read_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (out, link) = (dir.path().join("a [x] *?"), dir.path().join("it's a link"));
    let committed = dataset(&out);
    let error = answer(&out, &committed, "SELECT sum(value) AS s FROM events").unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
    std::os::unix::fs::symlink(&out, &link).unwrap();
    assert_eq!(answer(&link, &committed, "SELECT sum(value) AS s FROM events").unwrap(), "s\n3\n");
}

#[test]
fn a_time_with_a_zone_can_be_shown() {
    let dir = tempfile::tempdir().unwrap();
    let committed = dataset(dir.path());
    let text = answer(dir.path(), &committed, "SELECT to_timestamp(value) AS t FROM events WHERE value = 1").unwrap();
    assert_eq!(text, "t\n1970-01-01T00:00:01Z\n");
}

#[test]
fn what_only_duckdb_can_read_is_fetched_as_its_text() {
    let dir = tempfile::tempdir().unwrap();
    let committed = dataset(dir.path());
    for (sql, expected) in [
        ("SELECT value::VARIANT AS v FROM events ORDER BY value", "v\n1\n2\n"),
        ("SELECT 1 AS v, [region::VARIANT] AS v FROM events ORDER BY region LIMIT 1; -- a comment", "v,v\n1,[007]\n"),
        ("SELECT '10101'::BIT AS \"b\"\"c\", '12:00:00+02'::TIMETZ AS t", "\"b\"\"c\",t\n10101,12:00:00+02\n"),
        ("SELECT 340282366920938463463374607431768211455::UHUGEINT AS u", "u\n340282366920938463463374607431768211455\n"),
        ("SELECT max(value::VARIANT::VARCHAR) AS v FROM events", "v\n2\n"),
    ] {
        assert_eq!(answer(dir.path(), &committed, sql).unwrap(), expected, "{sql}");
    }
}

#[test]
fn nothing_committed_is_said_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let error = answer(dir.path(), &Committed::default(), "SELECT 1").unwrap_err();
    assert!(error.to_string().ends_with("nothing is committed yet"), "{error}");
}

#[test]
fn whatever_writes_or_looks_elsewhere_is_refused_and_leaves_every_byte_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let committed = dataset(dir.path());
    let out = dir.path().display();
    let before = snapshot(dir.path());
    for sql in [
        format!("COPY (SELECT 1) TO '{out}/region=us/new.parquet'"),
        format!("COPY (SELECT 1 AS value) TO '{out}/region=us/events-2026-01-01-00-1.parquet' (FORMAT parquet)"),
        format!("COPY (SELECT 1) TO '{out}/region=us/new.parquet'; SELECT 1"),
        format!("SELECT 1; COPY (SELECT 1) TO '{out}/region=us/new.parquet'"),
        format!("EXPORT DATABASE '{out}/export'"),
        format!("IMPORT DATABASE '{out}'"),
        format!("ATTACH '{out}/new.db'"),
        "INSTALL httpfs".to_owned(),
        "LOAD httpfs".to_owned(),
        "SET enable_external_access = true".to_owned(),
        "CREATE TABLE t AS SELECT 1".to_owned(),
        "DROP VIEW events".to_owned(),
        "SELECT 1; SELECT 2".to_owned(),
        "SELECT * FROM read_text('/etc/passwd')".to_owned(),
        "SELECT * FROM '/etc/passwd.csv'".to_owned(),
        format!("SELECT * FROM read_text('{out}/_pintail/FORMAT')"),
        format!("SELECT * FROM read_parquet('{out}/region=us/orphan.parquet')"),
        format!("SELECT * FROM read_text('{out}/region=us/../_pintail/FORMAT')"),
        format!("SELECT * FROM glob('{out}/**')"),
        format!("FROM query('COPY (SELECT 1) TO ''{out}/new.csv''')"),
        String::new(),
    ] {
        let error = answer(dir.path(), &committed, &sql).expect_err(&sql);
        assert_eq!(error.kind(), ErrorKind::Config, "{sql}: {error}");
        assert!(error.to_string().starts_with("the query "), "{sql}: {error}");
    }
    assert_eq!(snapshot(dir.path()), before);
}
