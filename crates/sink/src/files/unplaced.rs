//! Rows that a checkpoint has no hive partition left for.
//!
//! Owns: their form as dead letters.
//! Does not own: the limit (see `set`), the source records that they came from (see [`pintail_core::batch::Frame::origins`]).

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use pintail_core::batch::PartitionedRows;
use pintail_core::error::{Error, Result};
use pintail_core::json_rows;

use crate::layout::OutputLayout;

/// A row that was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced {
    /// Which row of the frame it is, counted over all its partitions.
    pub row: usize,
    /// Why, naming the limit.
    pub reason: String,
    /// The output row as a JSON object with all its columns, the partition columns among them; nulls are written.
    pub row_json: Vec<u8>,
}

/// Makes a letter of each row. `first` is the number of the first in its frame.
pub(super) fn letters(layout: &OutputLayout, rows: &PartitionedRows, first: usize, partitions_max: usize) -> Result<Vec<Unplaced>> {
    // One for all: the row has the values of its partition.
    let reason = format!("its hive partition is one more than the {partitions_max} of sink.partitions_max in one checkpoint");
    let json = with_partition_columns(layout, rows)
        .and_then(|whole| json_rows::lines(&whole))
        .map_err(|e| Error::internal("cannot write a row as JSON").with_source(e))?;
    let lines = json.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    Ok((first..).zip(lines).map(|(row, line)| Unplaced { row, reason: reason.clone(), row_json: line.to_vec() }).collect())
}

/// Undoes the split: the columns are those of the SQL again, in its order.
fn with_partition_columns(layout: &OutputLayout, rows: &PartitionedRows) -> Result<RecordBatch, ArrowError> {
    let output = layout.output_schema();
    let values: Vec<_> = rows.partition.values().collect();
    let mut kept = rows.rows.columns().iter();
    let mut columns: Vec<(Field, ArrayRef)> = Vec::with_capacity(output.fields().len());
    for (index, field) in output.fields().iter().enumerate() {
        let column = match layout.partition_indices().iter().position(|&partition| partition == index) {
            Some(level) => constant(values[level].1.as_deref(), field.data_type(), rows.rows.num_rows())?,
            None => kept.next().expect("a column is in the path or in the file").clone(),
        };
        columns.push((Field::new(field.name(), column.data_type().clone(), true), column));
    }
    let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn constant(value: Option<&str>, data_type: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
    let text: ArrayRef = Arc::new(StringArray::from(vec![value; rows]));
    match data_type {
        DataType::Dictionary(_, _) | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(text),
        other => cast(&text, other),
    }
}
