use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use pintail_core::error::ErrorKind;
use pintail_core::transform::{LookupConfig, TransformConfig};
use pintail_duckdb::Engine;

use super::transform;

const JOIN: &str = "SELECT id, label FROM events JOIN labels USING (id) ORDER BY id";

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]))
}

fn ids(rows: i64) -> RecordBatch {
    RecordBatch::try_new(input(), vec![Arc::new(Int64Array::from_iter_values(0..rows))]).unwrap()
}

fn with_lookup(path: &Path) -> TransformConfig {
    TransformConfig { lookups: vec![LookupConfig { name: "labels".into(), path: path.to_owned() }], ..transform(JOIN) }
}

fn labels(engine: &Engine) -> Vec<String> {
    let rows = engine.workers().unwrap()[0].run(&ids(3)).unwrap();
    rows.column(1).as_string_view().iter().map(|label| label.unwrap().to_owned()).collect()
}

#[test]
fn a_lookup_is_read_from_each_format_that_its_ending_tells() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("l.csv"), "id,label\n0,zero\n2,two\n").unwrap();
    fs::write(dir.path().join("l.tsv"), "id\tlabel\n0\tzero\n2\ttwo\n").unwrap();
    fs::write(dir.path().join("l.ndjson"), "{\"id\":0,\"label\":\"zero\"}\n{\"id\":2,\"label\":\"two\"}\n").unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![0, 2]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["zero", "two"]));
    let batch = RecordBatch::try_from_iter([("id", ids), ("label", texts)]).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(dir.path().join("l.parquet")).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    for file in ["l.csv", "l.tsv", "l.ndjson", "l.parquet"] {
        let engine = Engine::open(&with_lookup(&dir.path().join(file)), input()).unwrap();
        assert_eq!(labels(&engine), ["zero", "two"], "{file}");
    }
}

#[test]
fn a_large_lookup_is_loaded_to_its_last_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l.csv");
    let lines: String = (0..100_000).map(|id| format!("{id},a label beyond twelve bytes {id}\n")).collect();
    fs::write(&path, format!("id,label\n{lines}")).unwrap();
    let engine = Engine::open(&with_lookup(&path), input()).unwrap();
    assert_eq!(engine.workers().unwrap()[0].run(&ids(200_000)).unwrap().num_rows(), 100_000);
}

#[test]
fn the_version_is_the_sha_256_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l.csv");
    fs::write(&path, "id,label\n0,zero\n").unwrap();
    let engine = Engine::open(&with_lookup(&path), input()).unwrap();
    let versions = engine.lookups();
    assert_eq!(versions[0].name, "labels");
    // printf 'id,label\n0,zero\n' | sha256sum
    assert_eq!(versions[0].sha256, "e3063fbe766a732a4c5719c51193616af0e91ec34879d419869c7a066970cb9e");
}

#[test]
fn a_changed_file_is_taken_by_a_reload_also_by_workers_that_ran_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l.csv");
    fs::write(&path, "id,label\n0,zero\n").unwrap();
    let mut engine = Engine::open(&with_lookup(&path), input()).unwrap();
    let mut workers = engine.workers().unwrap();
    assert_eq!(workers[0].run(&ids(3)).unwrap().num_rows(), 1);
    let before = engine.lookups();

    fs::write(&path, "id,label\n0,null\n1,one\n").unwrap();
    let after = engine.reload_lookups().unwrap();
    assert_ne!(before, after);
    assert_eq!(engine.lookups(), after);
    assert_eq!(workers[0].run(&ids(3)).unwrap().column(1).as_string_view().value(1), "one");
}

#[test]
fn a_reload_that_fails_keeps_every_old_table() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("a.csv"), dir.path().join("b.csv"));
    fs::write(&first, "id,label\n0,zero\n").unwrap();
    fs::write(&second, "id,label\n0,nought\n").unwrap();
    let lookup = |name: &str, path: &Path| LookupConfig { name: name.into(), path: path.to_owned() };
    let sql = "SELECT id, a.label AS label, b.label AS other FROM events JOIN a USING (id) JOIN b USING (id)";
    let config = TransformConfig { lookups: vec![lookup("a", &first), lookup("b", &second)], ..transform(sql) };
    let mut engine = Engine::open(&config, input()).unwrap();
    let before = engine.lookups();
    fs::write(&first, "id,label\n0,changed\n").unwrap();

    // A file that is gone, one whose columns no longer suit the SQL, one that would change the output's type.
    for content in [None, Some("id,title\n0,nought\n"), Some("id,label\n0,17\n")] {
        match content {
            Some(content) => fs::write(&second, content).unwrap(),
            None => fs::remove_file(&second).unwrap(),
        }
        let error = engine.reload_lookups().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert_eq!(engine.lookups(), before);
        assert_eq!(labels(&engine), ["zero"], "{content:?}");
    }
    fs::write(&second, "id,label\n0,nil\n").unwrap();
    engine.reload_lookups().unwrap();
    assert_eq!(labels(&engine), ["changed"]);
}

#[test]
fn a_lookup_that_is_missing_or_takes_a_name_that_is_taken_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Engine::open(&with_lookup(&dir.path().join("nowhere.csv")), input()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Config);
    assert!(missing.to_string().starts_with("lookup `labels`: cannot read `") && missing.to_string().contains("nowhere.csv`"), "{missing}");

    let path = dir.path().join("l.csv");
    fs::write(&path, "id,label\n0,zero\n").unwrap();
    for names in [["events", "labels"], ["labels", "LABELS"]] {
        let lookups = names.map(|name| LookupConfig { name: name.into(), path: path.clone() }).to_vec();
        let error = Engine::open(&TransformConfig { lookups, ..transform(JOIN) }, input()).unwrap_err();
        assert!(error.to_string().contains("the name is taken"), "{error}");
    }
}
