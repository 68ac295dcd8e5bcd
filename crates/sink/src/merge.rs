//! Merging: the rows of several files of one hive partition and hour, into as few as their size allows.
//!
//! Owns: reading the rows, a batch at a time; that what was written holds the same rows as what was read, value by value.
//! Does not own: how a file is written (see [`crate::files`]), which files are merged, putting the result in their place (see
//! `pintail_storage::checkpoint::store`).
//!
//! Rows are compared as they come from the files, not as they went to the writer: both sides are read again, each row is hashed with all its columns,
//! and the hashes are added up, since sorting may have changed the order.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchReader, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use chrono::{DateTime, Utc};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use pintail_core::batch::PartitionedRows;
use pintail_core::error::{Error, Result};
use pintail_core::hive::HivePartition;
use pintail_storage::checkpoint::columns::OutputColumn;
use pintail_storage::checkpoint::staging::Staging;
use pintail_storage::checkpoint::store::NewFile;

use crate::config::SinkConfig;
use crate::files::OpenFiles;
use crate::layout::OutputLayout;
use crate::layout::event_time::hour_of;

/// Rows that are read at once: what a column of wide text has of them stays some megabytes.
const BATCH_ROWS: usize = 2048;

/// Where merged rows belong.
#[derive(Debug)]
pub struct Place {
    /// The directory of the hive partition, below that of the dataset.
    pub dir: String,
    /// The beginning of the hour.
    pub hour: DateTime<Utc>,
    /// What the files are named after.
    pub name: String,
}

/// Merges files into new ones in `staging`. Asks `go_on` before each batch.
///
/// # Errors
/// If a file cannot be read, or has a column in another form than the layout. Nothing but the staging has changed.
pub fn merge(
    inputs: &[PathBuf],
    layout: &Arc<OutputLayout>,
    (sink, columns): (&SinkConfig, &[OutputColumn]),
    place: Place,
    staging: Staging,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<(Staging, Vec<NewFile>)> {
    let mut files = OpenFiles::new(layout.clone(), sink, columns)?;
    let partition = Arc::new(HivePartition::of_dir(place.dir));
    files.begin(staging, place.name, place.hour);
    for path in inputs {
        for rows in reader(path)? {
            go_on()?;
            let rows = fit(&rows.map_err(|e| unread(path, &e))?, layout.file_schema()).map_err(|e| unread(path, &e))?;
            let hours = vec![(Some(hour_of(place.hour)), rows.num_rows())];
            files.append(vec![PartitionedRows { partition: partition.clone(), rows, hours }])?;
        }
    }
    files.finish()
}

/// Gives rows the columns of a schema, by name. Those that a file has not are null, as they are for whoever reads it beside others.
fn fit(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let column = |field: &arrow::datatypes::FieldRef| match rows.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
        Some(column) => cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), rows.num_rows())),
    };
    if let Some(more) = rows.schema_ref().fields().iter().find(|field| schema.index_of(field.name()).is_err()) {
        return Err(ArrowError::SchemaError(format!("it has the column `{}`, which the output has not", more.name())));
    }
    RecordBatch::try_new(schema.clone(), schema.fields().iter().map(column).collect::<Result<_, _>>()?)
}

/// Checks that files hold the same rows as others, in whatever order.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Internal`] if they do not; if a file cannot be read.
pub fn check_same(before: &[PathBuf], after: &[PathBuf], go_on: &dyn Fn() -> Result<()>) -> Result<()> {
    // The columns of what was written: it has all.
    let mut columns = Vec::new();
    if let Some(first) = after.first() {
        columns = reader(first)?.schema().fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect();
    }
    let sum =
        |paths: &[PathBuf]| paths.iter().try_fold(Sum::default(), |sum, path| Ok::<_, Error>(sum.plus(&Sum::of(path, &columns, go_on)?)));
    let (before, after) = (sum(before)?, sum(after)?);
    if before == after {
        return Ok(());
    }
    Err(Error::internal(format!(
        "merged files do not hold the rows of those that they were made of ({} rows of {}, with other values): nothing was replaced",
        after.rows, before.rows
    )))
}

/// Rows, and the sum of their hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    hashes: u128,
}

impl Sum {
    fn of(path: &Path, columns: &[(String, DataType)], go_on: &dyn Fn() -> Result<()>) -> Result<Self> {
        let mut sum = Self::default();
        for rows in reader(path)? {
            go_on()?;
            let rows = rows.map_err(|e| unread(path, &e))?;
            sum.rows += rows.num_rows() as u64;
            sum.hashes = sum.hashes.wrapping_add(hashes(&rows, columns).map_err(|e| unread(path, &e))?);
        }
        Ok(sum)
    }

    fn plus(self, other: &Self) -> Self {
        Self { rows: self.rows + other.rows, hashes: self.hashes.wrapping_add(other.hashes) }
    }
}

/// Adds up the hashes of rows: of each, all columns in this order.
fn hashes(rows: &RecordBatch, columns: &[(String, DataType)]) -> Result<u128, ArrowError> {
    let column = |(name, data_type): &(String, DataType)| -> ArrayRef {
        rows.column_by_name(name).cloned().unwrap_or_else(|| new_null_array(data_type, rows.num_rows()))
    };
    let values: Vec<ArrayRef> = columns.iter().map(column).collect();
    let types = values.iter().map(|values| SortField::new(values.data_type().clone())).collect();
    let encoded = RowConverter::new(types)?.convert_columns(&values)?;
    let hash = |row: &[u8], seed: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(seed);
        hasher.write(row);
        u128::from(hasher.finish())
    };
    Ok(encoded.iter().fold(0, |sum: u128, row| sum.wrapping_add((hash(row.data(), 0) << 64) | hash(row.data(), 1))))
}

fn reader(path: &Path) -> Result<ParquetRecordBatchReader> {
    let file = File::open(path).map_err(|e| Error::io(format_args!("open `{}`", path.display()), e))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| unread(path, &e))?;
    builder.with_batch_size(BATCH_ROWS).build().map_err(|e| unread(path, &e))
}

fn unread(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::state(format!("`{}` cannot be merged with others: {why}", path.display()))
}

#[cfg(test)]
mod tests;
