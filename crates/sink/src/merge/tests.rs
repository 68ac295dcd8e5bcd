use std::fs;

use arrow::array::{Array, AsArray, Float64Array, Int64Array, StringArray, StructArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Fields, Int64Type, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use pintail_storage::durable::posix::Posix;

use super::*;
use crate::config::SortColumn;

const HOUR: &str = "2026-01-01T05:00:00Z";

fn hour() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(HOUR).unwrap().to_utc()
}

fn sink(sort_by: &[&str]) -> SinkConfig {
    let sort = |name: &&str| SortColumn { name: (*name).into(), descending: false };
    SinkConfig {
        event_time: Some("ts".into()),
        sort_by: sort_by.iter().map(sort).collect(),
        allow_new_columns: true,
        ..crate::files::tests::sink()
    }
}

fn inner() -> Fields {
    vec![Field::new("x", DataType::Float64, true)].into()
}

/// The output, with a column of each kind that is stored in its own way.
fn output() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("text", DataType::Utf8View, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("nested", DataType::Struct(inner()), true),
        Field::new("region", DataType::Utf8, true),
    ]))
}

/// A file as Pintail writes it: without the partition column, text as text.
fn write(path: &Path, ids: std::ops::Range<i64>, with_nested: bool) {
    let count = ids.clone().count();
    let text = StringArray::from_iter(ids.clone().map(|id| (id % 3 != 0).then(|| format!("text {id}"))));
    let ts = TimestampMicrosecondArray::from_iter_values(ids.clone().map(|id| hour().timestamp_micros() + 1_000 * id));
    let x: ArrayRef = Arc::new(Float64Array::from_iter_values(ids.clone().map(|id| id as f64 / 7.0)));
    let id: ArrayRef = Arc::new(Int64Array::from_iter_values(ids.rev()));
    let mut columns: Vec<(&str, ArrayRef)> = vec![("id", id), ("text", Arc::new(text)), ("ts", Arc::new(ts))];
    if with_nested {
        columns.push(("nested", Arc::new(StructArray::new(inner(), vec![x], None))));
    }
    let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, values)| (name, values, true))).unwrap();
    assert_eq!(rows.num_rows(), count);
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

struct Merged {
    dir: tempfile::TempDir,
    inputs: Vec<PathBuf>,
    outputs: Vec<PathBuf>,
    files: Vec<NewFile>,
}

fn merged(sink: &SinkConfig) -> Merged {
    let dir = tempfile::tempdir().unwrap();
    let inputs: Vec<PathBuf> = (0..3).map(|n| dir.path().join(format!("{n}.parquet"))).collect();
    write(&inputs[0], 0..5_000, true);
    write(&inputs[1], 5_000..5_010, false);
    write(&inputs[2], 5_010..9_000, true);
    let layout = Arc::new(OutputLayout::new(&output(), sink).unwrap());
    let staging = Staging::new(Arc::new(Posix::default()), dir.path().join("0000000007-1"));
    let place = Place { dir: "region=us".into(), hour: hour(), name: "7".into() };
    let (staging, files) = merge(&inputs, &layout, (sink, &[]), place, staging, &|| Ok(())).unwrap();
    let outputs = files.iter().map(|file| staging.dir().join(format!("{}.inprogress", file.staged.index))).collect();
    Merged { dir, inputs, outputs, files }
}

fn read(paths: &[PathBuf]) -> Vec<RecordBatch> {
    paths.iter().flat_map(|path| reader(path).unwrap().map(Result::unwrap)).collect()
}

#[test]
fn files_become_one_with_all_their_rows_in_their_order_and_null_where_a_column_was_not_there_yet() {
    let merged = merged(&sink(&[]));
    let names: Vec<_> = merged.files.iter().map(|file| (file.path.as_str(), file.rows)).collect();
    assert_eq!(names, [("region=us/events-2026-01-01-05-7.parquet", 9_000)]);
    let (first, last) = merged.files[0].event_time.unwrap();
    assert_eq!((first, last.timestamp_micros()), (hour(), hour().timestamp_micros() + 8_999_000));
    let rows = read(&merged.outputs);
    let nulls: usize = rows.iter().map(|rows| rows.column_by_name("nested").unwrap().null_count()).sum();
    assert_eq!(nulls, 10);
    assert_eq!(rows[0].column_by_name("id").unwrap().as_primitive::<Int64Type>().value(0), 4_999);
    check_same(&merged.inputs, &merged.outputs, &|| Ok(())).unwrap();
}

#[test]
fn rows_are_sorted_if_that_is_asked_and_a_large_result_is_several_files() {
    let sink = SinkConfig { target_file_bytes: 20_000, row_group_rows: 1_000, ..sink(&["id"]) };
    let merged = merged(&sink);
    assert!(merged.files.len() > 1, "{:?}", merged.files.len());
    assert!(merged.files[1].path.ends_with("-05-7-1.parquet"), "{}", merged.files[1].path);
    let rows = read(&merged.outputs);
    let ids: Vec<i64> = rows[0].column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec();
    assert!(ids[..1_000].is_sorted(), "{:?}", &ids[..10]);
    check_same(&merged.inputs, &merged.outputs, &|| Ok(())).unwrap();
}

#[test]
fn a_row_that_is_lost_doubled_or_changed_is_noticed() {
    let merged = merged(&sink(&[]));
    let differs = |before: &[PathBuf], after: &[PathBuf]| {
        let error = check_same(before, after, &|| Ok(())).unwrap_err().to_string();
        assert!(error.contains("do not hold the rows"), "{error}");
    };
    differs(&merged.inputs[..2], &merged.outputs);
    differs(&[&merged.inputs[..], &merged.inputs[1..2]].concat(), &merged.outputs);
    // As many rows, one value of one of them in another row's place.
    let other = merged.dir.path().join("other.parquet");
    write(&other, 5_011..5_021, false);
    fs::rename(&other, &merged.inputs[1]).unwrap();
    differs(&merged.inputs, &merged.outputs);
}
