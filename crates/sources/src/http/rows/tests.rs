use std::sync::Arc;

use arrow::array::{DictionaryArray, Float64Array, Int64Array, LargeStringArray, StringArray, StringViewArray};
use arrow::datatypes::{Field, Int8Type, Schema, TimeUnit, UInt64Type};
use arrow::ipc::writer::StreamWriter;
use pintail_core::schema::{Column, ColumnType};

use super::*;

fn schema() -> EventSchema {
    let column = |name: &str, column_type, required| Column { name: name.into(), path: vec![name.into()], column_type, required };
    EventSchema::new(vec![
        column("id", ColumnType::Int64, true),
        column("region", ColumnType::Dictionary, false),
        column("name", ColumnType::Text, false),
        column("at", ColumnType::TimestampText, false),
    ])
}

fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(name, column)| (*name, column.clone(), true))).unwrap()
}

fn stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

fn ids(ids: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(ids.to_vec()))
}

fn texts_of(kind: &str) -> ArrayRef {
    let texts = vec![Some("eu"), None, Some("us")];
    match kind {
        "plain" => Arc::new(StringArray::from(texts)),
        "large" => Arc::new(LargeStringArray::from(texts)),
        "view" => Arc::new(StringViewArray::from(texts)),
        "narrow" => Arc::new(texts.into_iter().collect::<DictionaryArray<Int8Type>>()),
        "wide" => Arc::new(texts.into_iter().collect::<DictionaryArray<UInt64Type>>()),
        other => panic!("{other}"),
    }
}

fn at(zone: Option<&str>) -> ArrayRef {
    let values: ArrayRef = ids(&[Some(1_767_225_600_000_000), None, Some(0)]);
    cast(&values, &DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into))).unwrap()
}

fn usual(region: &str, name: &str) -> RecordBatch {
    // In another order than declared.
    let columns =
        [("at", at(Some("UTC"))), ("name", texts_of(name)), ("id", ids(&[Some(1), Some(2), Some(3)])), ("region", texts_of(region))];
    batch(&columns)
}

fn accept(batches: &[RecordBatch]) -> Result<u64, Refusal> {
    check(&stream(batches), &schema(), 1 << 20, 1 << 10, &Panics::default())
}

#[test]
fn texts_of_every_kind_and_times_with_a_zone_come_out_as_declared() {
    let declared = schema().arrow();
    for region in ["plain", "large", "view", "narrow", "wide"] {
        for name in ["plain", "large", "view", "narrow", "wide"] {
            let batch = usual(region, name);
            assert_eq!(accept(std::slice::from_ref(&batch)), Ok(3), "{region} {name}");
            let runs = runs(&batch, &schema()).unwrap();
            let [Run::Rows(rows)] = runs.as_slice() else { panic!("{runs:?}") };
            assert_eq!(rows.schema(), declared);
            let text = |column: usize| cast(rows.column(column), &DataType::Utf8).unwrap();
            assert_eq!(text(1).as_string::<i32>(), texts_of("plain").as_string::<i32>(), "{region}");
            assert_eq!(text(2).as_string::<i32>(), texts_of("plain").as_string::<i32>(), "{name}");
            assert_eq!(rows.column(3).as_ref(), at(None).as_ref());
        }
    }
}

#[test]
fn rows_that_lack_a_required_value_go_on_as_json_and_the_others_as_rows() {
    let mut batch = usual("plain", "plain");
    let columns = vec![batch.column(0).clone(), batch.column(1).clone(), ids(&[Some(1), None, Some(3)]), batch.column(3).clone()];
    batch = RecordBatch::try_new(batch.schema(), columns).unwrap();
    let runs = runs(&batch, &schema()).unwrap();
    let [Run::Rows(first), Run::Lines(second), Run::Rows(third)] = runs.as_slice() else { panic!("{runs:?}") };
    let nothing = b"{\"at\":null,\"name\":null,\"id\":null,\"region\":null}\n";
    assert_eq!((first.num_rows(), &second[..], third.num_rows()), (1, &nothing[..], 1));
    // Of a slice, as the line reads it after a restart.
    let runs = super::runs(&batch.slice(1, 2), &schema()).unwrap();
    assert!(matches!(runs.as_slice(), [Run::Lines(_), Run::Rows(rows)] if rows.num_rows() == 1), "{runs:?}");
}

#[test]
fn another_schema_is_refused_by_name_and_type() {
    let id = ("id", ids(&[Some(1), Some(2), Some(3)]));
    let (region, name, at) = (("region", texts_of("plain")), ("name", texts_of("plain")), ("at", at(None)));
    let float: ArrayRef = Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0]));
    let cases = [
        (vec![id.clone(), region.clone(), name.clone()], "no column `at`"),
        (vec![("id", float.clone()), region.clone(), name.clone(), at.clone()], "`id` has the type Float64, declared is Int64"),
        (vec![id.clone(), region.clone(), name.clone(), at.clone(), ("more", float)], "`more` is not declared"),
    ];
    for (columns, expected) in cases {
        let refused = format!("{:?}", accept(&[batch(&columns)]).unwrap_err());
        assert!(refused.contains(expected), "{refused}");
    }
    let twice = Schema::new(["id", "id", "region", "name", "at"].map(|name| Field::new(name, DataType::Int64, true)).to_vec());
    let refused = check(&stream(&[RecordBatch::new_empty(Arc::new(twice))]), &schema(), 1, 1, &Panics::default()).unwrap_err();
    assert!(format!("{refused:?}").contains("two columns `id`"));
}

#[test]
fn rows_accepted_under_another_schema_go_on_as_json() {
    let old = batch(&[("id", ids(&[Some(1)])), ("gone", ids(&[Some(2)]))]);
    assert_eq!(runs(&old, &schema()).unwrap(), [Run::Lines(Bytes::from_static(b"{\"id\":1,\"gone\":2}\n"))]);
}

#[test]
fn a_row_with_a_time_that_the_decoder_would_refuse_goes_on_as_json() {
    let times = ids(&[Some(0), Some(i64::MAX), None]);
    let times = cast(&times, &DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into()))).unwrap();
    let usual = usual("plain", "plain");
    let columns = [("at", times), ("name", usual.column(1).clone()), ("id", usual.column(2).clone()), ("region", usual.column(3).clone())];
    let runs = runs(&batch(&columns), &schema()).unwrap();
    let [Run::Rows(first), Run::Lines(second), Run::Rows(third)] = runs.as_slice() else { panic!("{runs:?}") };
    let late = b"{\"at\":9223372036854775807,\"name\":null,\"id\":2,\"region\":null}\n";
    assert_eq!((first.num_rows(), &second[..], third.num_rows()), (1, &late[..], 1));

    let mut dates = schema();
    dates.columns[3].column_type = ColumnType::Date;
    let date: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![0, i32::MAX, 1]));
    let columns = [("at", date), columns[1].clone(), columns[2].clone(), columns[3].clone()];
    let runs = super::runs(&batch(&columns), &dates).unwrap();
    assert!(matches!(runs.as_slice(), [Run::Rows(_), Run::Lines(_), Run::Rows(_)]), "{runs:?}");
}

#[test]
fn a_stream_cut_short_or_with_something_behind_it_is_refused() {
    let whole = stream(&[usual("plain", "plain"), usual("plain", "plain")]);
    assert_eq!(check(&whole, &schema(), 1 << 20, 1 << 10, &Panics::default()), Ok(6));
    let counts: Vec<_> =
        (0..whole.len()).filter_map(|length| check(&whole[..length], &schema(), 1 << 20, 1 << 10, &Panics::default()).ok()).collect();
    // An end between two messages is one as well, says the format.
    assert!(counts.iter().all(|rows| [0, 3, 6].contains(rows)), "{counts:?}");
    assert!(counts.len() < 16, "cut within a message: {}", counts.len());
    let more = check(&[&whole[..], b"more"].concat(), &schema(), 1 << 20, 1 << 10, &Panics::default()).unwrap_err();
    assert_eq!(more.status(), StatusCode::BAD_REQUEST);
}

#[test]
fn a_value_that_is_meant_a_million_times_is_too_large_however_small_the_stream() {
    let value = "x".repeat(1000);
    let region: ArrayRef = Arc::new((0..3000).map(|_| Some(value.as_str())).collect::<DictionaryArray<Int8Type>>());
    let other: ArrayRef = Arc::new(StringArray::new_null(3000));
    let at = arrow::array::new_null_array(&DataType::Timestamp(TimeUnit::Microsecond, None), 3000);
    let batch = batch(&[("id", ids(&vec![Some(1); 3000])), ("region", region), ("name", other), ("at", at)]);
    let bytes = stream(std::slice::from_ref(&batch));
    assert!(bytes.len() < 100_000);
    assert_eq!(
        check(&bytes, &schema(), 1 << 20, 1 << 10, &Panics::default()).unwrap_err().status(),
        StatusCode::PAYLOAD_TOO_LARGE,
        "all together"
    );
    assert_eq!(check(&bytes, &schema(), 1 << 30, 999, &Panics::default()).unwrap_err().status(), StatusCode::PAYLOAD_TOO_LARGE, "one");
    assert_eq!(check(&bytes, &schema(), 1 << 30, 1000, &Panics::default()), Ok(3000));
}

#[test]
fn no_changed_byte_of_a_stream_ends_the_thread_but_by_a_panic_that_is_caught() {
    let whole = stream(&[usual("narrow", "view")]);
    for at in 0..whole.len() {
        for flip in [1, 0x80] {
            let mut changed = whole.clone();
            changed[at] ^= flip;
            let _ = std::panic::catch_unwind(|| check(&changed, &schema(), 1 << 20, 1 << 10, &Panics::default()));
        }
    }
}

#[test]
fn a_damaged_stream_is_refused_also_where_its_reader_panics() {
    let sound = stream(&[usual("narrow", "view")]);
    let mut panicked = 0;
    for place in 0..sound.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = sound.clone();
            damaged[place] = value;
            if let Err(refusal) = check(&damaged, &schema(), 1 << 20, 1 << 10, &Panics::default()) {
                assert!([StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE].contains(&refusal.status()), "{refusal:?}");
                panicked += usize::from(format!("{refusal:?}").contains("contradict each other"));
            }
        }
    }
    assert!(panicked > 0, "no damage made the reader panic");
}

#[test]
fn a_stream_whose_buffers_are_compressed_is_refused_as_what_it_is() {
    for stream in [&include_bytes!("lz4.arrows")[..], include_bytes!("zstd.arrows")] {
        let refused = check(stream, &schema(), 1 << 20, 1 << 10, &Panics::default()).unwrap_err();
        assert_eq!(refused.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{refused:?}");
    }
    assert!(!is_compressed(&stream(&[usual("plain", "plain")])));
}
