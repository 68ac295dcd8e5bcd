//! The scan against a value-by-value oracle: every declared type × nulls × slices × row counts × dictionaries × projections.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use pintail_core::schema::{Column, ColumnType, EventSchema};
use pintail_core::transform::TransformConfig;

use super::{per_batch, transform, worker};

const ROWS: [usize; 6] = [0, 1, 2047, 2048, 2049, 50_000];
const OFFSETS: [usize; 5] = [0, 1, 7, 2048, 2049];

#[derive(Debug, Clone, Copy)]
enum Nulls {
    None,
    Some,
    All,
}

const NULLS: [Nulls; 3] = [Nulls::None, Nulls::Some, Nulls::All];

/// A value, apart from any library that carries it.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Bool(bool),
    Int(i128),
    Float(u64),
    Text(String),
}

/// One column for each declared type, and what an output must call it.
fn columns() -> Vec<(&'static str, ColumnType)> {
    vec![
        ("boolean", ColumnType::Boolean),
        ("int8", ColumnType::Int8),
        ("int16", ColumnType::Int16),
        ("int32", ColumnType::Int32),
        ("int64", ColumnType::Int64),
        ("uint8", ColumnType::UInt8),
        ("uint16", ColumnType::UInt16),
        ("uint32", ColumnType::UInt32),
        ("uint64", ColumnType::UInt64),
        ("float32", ColumnType::Float32),
        ("float64", ColumnType::Float64),
        ("decimal4", ColumnType::Decimal { precision: 4, scale: 1 }),
        ("decimal9", ColumnType::Decimal { precision: 9, scale: 2 }),
        ("decimal18", ColumnType::Decimal { precision: 18, scale: 9 }),
        ("decimal38", ColumnType::Decimal { precision: 38, scale: 10 }),
        ("text", ColumnType::Text),
        ("few", ColumnType::Dictionary),
        ("many", ColumnType::Dictionary),
        ("seconds", ColumnType::Timestamp(TimeUnit::Second)),
        ("millis", ColumnType::Timestamp(TimeUnit::Millisecond)),
        ("micros", ColumnType::Timestamp(TimeUnit::Microsecond)),
        ("nanos", ColumnType::Timestamp(TimeUnit::Nanosecond)),
        ("rfc3339", ColumnType::TimestampText),
        ("date", ColumnType::Date),
        ("json", ColumnType::Json),
    ]
}

fn schema() -> SchemaRef {
    let column =
        |(name, column_type): (&str, ColumnType)| Column { name: name.into(), path: vec![name.into()], column_type, required: false };
    EventSchema::new(columns().into_iter().map(column).collect()).arrow()
}

/// SplitMix64: each cell is a function of its column and row.
fn mix(column: usize, row: usize) -> u64 {
    let mut z = (column as u64).wrapping_mul(0xD1B5_4A32_D192_ED03) ^ (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn cell(column: usize, row: usize, nulls: Nulls) -> Cell {
    let (name, column_type) = columns()[column];
    let bits = mix(column, row);
    let null = match nulls {
        Nulls::None => false,
        Nulls::Some => bits.is_multiple_of(3),
        Nulls::All => true,
    };
    if null {
        return Cell::Null;
    }
    let signed = bits as i64;
    match column_type {
        ColumnType::Boolean => Cell::Bool(bits & 8 != 0),
        ColumnType::Int8 => Cell::Int((signed as i8).into()),
        ColumnType::Int16 => Cell::Int((signed as i16).into()),
        ColumnType::Int32 => Cell::Int((signed as i32).into()),
        ColumnType::Int64 => Cell::Int(signed.into()),
        ColumnType::UInt8 => Cell::Int((bits as u8).into()),
        ColumnType::UInt16 => Cell::Int((bits as u16).into()),
        ColumnType::UInt32 => Cell::Int((bits as u32).into()),
        ColumnType::UInt64 => Cell::Int(bits.into()),
        ColumnType::Float32 => Cell::Float(f64::from(signed as f32 / 3.0).to_bits()),
        ColumnType::Float64 => Cell::Float((signed as f64 / 3.0).to_bits()),
        ColumnType::Decimal { precision, .. } => Cell::Int((i128::from(signed) * 0x1_0000_0001_0001) % 10i128.pow(precision.into())),
        ColumnType::Text | ColumnType::Json => Cell::Text(text(bits)),
        ColumnType::Dictionary if name == "few" => Cell::Text(text(bits % 200)),
        ColumnType::Dictionary => Cell::Text(text(bits % 1000)),
        ColumnType::Timestamp(TimeUnit::Second) => Cell::Int((signed % 10_000_000_000).into()),
        ColumnType::Timestamp(TimeUnit::Millisecond) => Cell::Int((signed % 10_000_000_000_000).into()),
        ColumnType::Timestamp(_) | ColumnType::TimestampText => Cell::Int((signed % 4_000_000_000_000_000_000).into()),
        ColumnType::Date => Cell::Int((signed % 1_000_000).into()),
    }
}

/// Empty, short enough to be inlined, long, and beyond ASCII.
fn text(bits: u64) -> String {
    match bits % 5 {
        0 if bits < 5 => String::new(),
        0 => format!("{bits:x}"),
        1 => format!("t{}", bits % 1000),
        2 => format!("twelve{:06}", bits % 1_000_000),
        3 => format!("a longer text that no header holds {bits}"),
        _ => format!("ünï¢ødé 🦆 {bits}"),
    }
}

fn batch(rows: usize, nulls: Nulls) -> RecordBatch {
    let arrays = (0..columns().len()).map(|column| array(column, rows, nulls)).collect();
    RecordBatch::try_new(schema(), arrays).unwrap()
}

fn array(column: usize, rows: usize, nulls: Nulls) -> ArrayRef {
    let cells = (0..rows).map(|row| cell(column, row, nulls));
    let int = |cell| match cell {
        Cell::Int(value) => Some(value),
        _ => None,
    };
    let float = |cell| match cell {
        Cell::Float(bits) => Some(f64::from_bits(bits)),
        _ => None,
    };
    let text = |cell| match cell {
        Cell::Text(text) => Some(text),
        _ => None,
    };
    macro_rules! ints {
        ($array:ty) => {
            Arc::new(cells.map(|c| int(c).map(|v| v.try_into().unwrap())).collect::<$array>())
        };
    }
    match columns()[column].1 {
        ColumnType::Boolean => Arc::new(
            cells
                .map(|c| match c {
                    Cell::Bool(value) => Some(value),
                    _ => None,
                })
                .collect::<BooleanArray>(),
        ),
        ColumnType::Int8 => ints!(Int8Array),
        ColumnType::Int16 => ints!(Int16Array),
        ColumnType::Int32 => ints!(Int32Array),
        ColumnType::Int64 => ints!(Int64Array),
        ColumnType::UInt8 => ints!(UInt8Array),
        ColumnType::UInt16 => ints!(UInt16Array),
        ColumnType::UInt32 => ints!(UInt32Array),
        ColumnType::UInt64 => ints!(UInt64Array),
        ColumnType::Float32 => Arc::new(cells.map(|c| float(c).map(|v| v as f32)).collect::<Float32Array>()),
        ColumnType::Float64 => Arc::new(cells.map(float).collect::<Float64Array>()),
        ColumnType::Decimal { precision, scale } => {
            Arc::new(cells.map(int).collect::<Decimal128Array>().with_precision_and_scale(precision, scale as i8).unwrap())
        }
        ColumnType::Text | ColumnType::Json => Arc::new(cells.map(text).collect::<StringArray>()),
        ColumnType::Dictionary => Arc::new(dictionary(cells.map(text))),
        ColumnType::Timestamp(TimeUnit::Second) => ints!(TimestampSecondArray),
        ColumnType::Timestamp(TimeUnit::Millisecond) => ints!(TimestampMillisecondArray),
        ColumnType::Timestamp(TimeUnit::Microsecond) | ColumnType::TimestampText => ints!(TimestampMicrosecondArray),
        ColumnType::Timestamp(TimeUnit::Nanosecond) => ints!(TimestampNanosecondArray),
        ColumnType::Date => ints!(Date32Array),
    }
}

/// A dictionary whose nulls are null keys and keys of a null value, by turns.
fn dictionary(cells: impl Iterator<Item = Option<String>>) -> DictionaryArray<Int32Type> {
    let mut values: Vec<Option<String>> = vec![None];
    let mut known = std::collections::HashMap::new();
    let mut nulls = 0;
    let mut key = |cell: Option<String>| match cell {
        Some(text) => Some(*known.entry(text.clone()).or_insert_with(|| {
            values.push(Some(text));
            values.len() as i32 - 1
        })),
        None => {
            nulls += 1;
            (nulls % 2 == 0).then_some(0)
        }
    };
    let keys: Int32Array = cells.map(&mut key).collect();
    DictionaryArray::new(keys, Arc::new(StringArray::from(values)))
}

fn read(array: &ArrayRef, row: usize) -> Cell {
    if array.is_null(row) {
        return Cell::Null;
    }
    macro_rules! int {
        ($type:ty) => {
            Cell::Int(array.as_primitive::<$type>().value(row).into())
        };
    }
    match array.data_type() {
        DataType::Boolean => Cell::Bool(array.as_boolean().value(row)),
        DataType::Int8 => int!(Int8Type),
        DataType::Int16 => int!(Int16Type),
        DataType::Int32 => int!(Int32Type),
        DataType::Int64 => int!(Int64Type),
        DataType::UInt8 => int!(UInt8Type),
        DataType::UInt16 => int!(UInt16Type),
        DataType::UInt32 => int!(UInt32Type),
        DataType::UInt64 => int!(UInt64Type),
        DataType::Float32 => Cell::Float(f64::from(array.as_primitive::<Float32Type>().value(row)).to_bits()),
        DataType::Float64 => Cell::Float(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Decimal128(..) => int!(Decimal128Type),
        DataType::Utf8View => Cell::Text(array.as_string_view().value(row).to_owned()),
        DataType::Timestamp(TimeUnit::Second, None) => int!(TimestampSecondType),
        DataType::Timestamp(TimeUnit::Millisecond, None) => int!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, None) => int!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, None) => int!(TimestampNanosecondType),
        DataType::Date32 => int!(Date32Type),
        other => panic!("no declared type comes back as {other}"),
    }
}

fn expected_type(column: usize) -> DataType {
    match columns()[column].1.arrow() {
        DataType::Utf8 | DataType::Dictionary(..) => DataType::Utf8View,
        other => other,
    }
}

/// Runs the SQL over every slice and compares each cell with what it was made from. The result's columns are those of `outputs`,
/// and the slice comes `repeats` times.
fn hold(transform: &TransformConfig, outputs: &[usize], repeats: usize) {
    let mut worker = worker(transform, &schema());
    for nulls in NULLS {
        let base = batch(ROWS[5] + OFFSETS[4], nulls);
        for rows in ROWS {
            for offset in OFFSETS {
                let result = worker.run(&base.slice(offset, rows)).unwrap();
                assert_eq!(result.num_rows(), rows * repeats, "{nulls:?} nulls, {rows} rows from {offset}");
                assert_eq!(result.num_columns(), outputs.len());
                for (array, column) in result.columns().iter().zip(outputs) {
                    assert_eq!(array.data_type(), &expected_type(*column));
                    for row in 0..result.num_rows() {
                        let (found, expected) = (read(array, row), cell(*column, offset + row % rows, nulls));
                        assert_eq!(found, expected, "{}, {nulls:?} nulls, {rows} rows from {offset}, row {row}", columns()[*column].0);
                    }
                }
            }
        }
    }
}

fn index(name: &str) -> usize {
    columns().iter().position(|(column, _)| *column == name).unwrap()
}

#[test]
fn every_column_comes_back_as_it_went_in() {
    hold(&transform("SELECT * FROM events"), &(0..columns().len()).collect::<Vec<_>>(), 1);
}

#[test]
fn a_reordered_subset_reads_the_columns_that_it_names() {
    let names = ["many", "boolean", "decimal18", "float64", "text", "int8", "few"];
    let sql = format!("SELECT {} FROM events", names.join(", "));
    hold(&transform(&sql), &names.map(index), 1);
}

#[test]
fn a_query_that_reads_the_events_twice_sees_all_of_them_twice() {
    hold(
        &transform("SELECT few, int64, text FROM events UNION ALL SELECT few, int64, text FROM events"),
        &["few", "int64", "text"].map(index),
        2,
    );
}

#[test]
fn a_query_that_names_no_column_still_sees_every_row() {
    let mut counting = worker(&per_batch("SELECT count(*) AS n FROM events"), &schema());
    let mut constant = worker(&transform("SELECT 1 AS one FROM events"), &schema());
    let base = batch(ROWS[5] + OFFSETS[4], Nulls::Some);
    for rows in ROWS {
        for offset in OFFSETS {
            let slice = base.slice(offset, rows);
            let counted = counting.run(&slice).unwrap();
            assert_eq!(counted.column(0).as_primitive::<Int64Type>().value(0), rows as i64);
            assert_eq!(constant.run(&slice).unwrap().num_rows(), rows);
        }
    }
}

#[test]
fn a_sum_adds_up_the_column_that_it_names() {
    let schema = EventSchema::simulator().arrow();
    let rows = 10_000;
    let regions: DictionaryArray<Int32Type> = (0..rows).map(|row| Some(["us", "eu"][row % 2])).collect();
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(Int64Array::from_iter_values((0..rows as i64).map(|row| row << 40))),
            Arc::new(Int64Array::from_iter_values(0..rows as i64)),
            Arc::new(regions),
            Arc::new(Float64Array::from_iter_values((0..rows).map(|row| row as f64))),
            Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("sku-{row}")))),
        ],
    )
    .unwrap();
    let result = worker(&per_batch("SELECT sum(amount) AS s FROM events"), &schema).run(&batch).unwrap();
    assert_eq!(result.column(0).as_primitive::<Float64Type>().value(0), 49_995_000.0);
}
