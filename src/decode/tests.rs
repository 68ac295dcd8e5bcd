//! The decoder against a slow oracle, and the corners of JSON one by one.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Int16Type, UInt16Type, UInt32Type};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt64Type,
};
use bytes::Bytes;

use super::{Decoded, Decoder};
use crate::batch::{Batch, Chunk, OffsetUnit, Phase, Records};
use crate::offsets::{OffsetRange, Partition, PartitionId};
use crate::schema::{Column, ColumnType, EventSchema};

mod corners;
mod oracle;
mod origins;

fn chunk(records: Records, from: u64, unit: OffsetUnit) -> Chunk {
    let partition = Arc::new(Partition { id: PartitionId::new("p"), label: "p".into() });
    let units = match (&records, unit) {
        (Records::Lines(bytes), OffsetUnit::Bytes) => bytes.len() as u64,
        (Records::Lines(bytes), OffsetUnit::Records) => bytes.split(|byte| *byte == b'\n').count() as u64,
        (Records::Arrow(rows), _) => rows.num_rows() as u64,
        (Records::TooLong { length, .. }, OffsetUnit::Bytes) => length + 1,
        (Records::TooLong { .. }, OffsetUnit::Records) => 1,
    };
    Chunk { records, range: OffsetRange { partition, from, to: from + units }, unit }
}

fn lines(text: impl Into<Bytes>) -> Batch {
    Batch { chunks: vec![chunk(Records::Lines(text.into()), 0, OffsetUnit::Bytes)] }
}

fn column(path: &str, column_type: &str) -> Column {
    let path: Vec<String> = path.split('.').map(Into::into).collect();
    let (column_type, required) = column_type.strip_suffix('!').map_or((column_type, false), |name| (name, true));
    Column { name: path.join("_"), path, column_type: column_type.parse().unwrap(), required }
}

fn schema(columns: &[(&str, &str)]) -> EventSchema {
    EventSchema { columns: columns.iter().map(|(path, column_type)| column(path, column_type)).collect() }
}

fn decode(columns: &[(&str, &str)], text: impl Into<Bytes>) -> Decoded {
    Decoder::new(&schema(columns)).decode(&lines(text)).unwrap()
}

/// Decodes `{"v":<json>}` into one column: the cell (`None` = null), or the reason.
fn one(column_type: &str, json: &str) -> Result<Option<String>, String> {
    let mut decoded = decode(&[("v", column_type)], format!("{{\"v\":{json}}}\n"));
    match decoded.dead_letters.pop() {
        Some(letter) => {
            assert_eq!(decoded.batch.num_rows(), 0);
            Err(letter.reason)
        }
        None => Ok(cell(&decoded.batch, 0, 0)),
    }
}

/// A cell as text in the precision that its type has.
fn cell(batch: &RecordBatch, column: usize, row: usize) -> Option<String> {
    fn raw<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> String {
        format!("{:?}", array.as_primitive::<T>().value(row))
    }
    let array = batch.column(column);
    let array: &dyn Array = array;
    (!array.is_null(row)).then(|| match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int8 => raw::<Int8Type>(array, row),
        DataType::Int16 => raw::<Int16Type>(array, row),
        DataType::Int32 => raw::<Int32Type>(array, row),
        DataType::Int64 => raw::<Int64Type>(array, row),
        DataType::UInt8 => raw::<UInt8Type>(array, row),
        DataType::UInt16 => raw::<UInt16Type>(array, row),
        DataType::UInt32 => raw::<UInt32Type>(array, row),
        DataType::UInt64 => raw::<UInt64Type>(array, row),
        DataType::Float32 => raw::<Float32Type>(array, row),
        DataType::Float64 => raw::<Float64Type>(array, row),
        DataType::Decimal128(..) => raw::<Decimal128Type>(array, row),
        DataType::Date32 => raw::<Date32Type>(array, row),
        DataType::Timestamp(TimeUnit::Second, _) => raw::<TimestampSecondType>(array, row),
        DataType::Timestamp(TimeUnit::Millisecond, _) => raw::<TimestampMillisecondType>(array, row),
        DataType::Timestamp(TimeUnit::Microsecond, _) => raw::<TimestampMicrosecondType>(array, row),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => raw::<TimestampNanosecondType>(array, row),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Dictionary(..) => {
            let dictionary = array.as_dictionary::<Int32Type>();
            dictionary.values().as_string::<i32>().value(dictionary.key(row).unwrap()).to_owned()
        }
        other => panic!("no column has the type {other}"),
    })
}

/// All cells, row by row.
fn cells(batch: &RecordBatch) -> Vec<Vec<Option<String>>> {
    (0..batch.num_rows()).map(|row| (0..batch.num_columns()).map(|column| cell(batch, column, row)).collect()).collect()
}
