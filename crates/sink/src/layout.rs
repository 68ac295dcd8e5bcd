//! The layout of the output: which columns become directories, which time gives a file its hour.
//!
//! Owns: everything that can be said about the output before a row is written, and splitting batches by it. Pure, no disk.
//! Does not own: the open files and their names within a checkpoint (see `files`), the SQL that makes the output.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use chrono::{DateTime, Utc};
use pintail_core::hive;

use crate::config::SinkConfig;

mod check;
pub(crate) mod event_time;
mod split;
mod storable;
#[cfg(test)]
mod tests;
mod values;

pub use check::name_faults;
pub use split::{SplitError, Splitter, Unplaceable};

/// The layout of an output schema: checked, so that its rows can be written.
#[derive(Debug, Clone)]
pub struct OutputLayout {
    output: SchemaRef,
    file: SchemaRef,
    /// Indices in `output`, in the order of the directories.
    partition: Vec<usize>,
    /// Indices in `output` of the columns in the files.
    kept: Vec<usize>,
    /// Index in `file`.
    event_time: Option<usize>,
    /// Indices in `file` of the columns whose values do not all come back.
    doubtful: Vec<usize>,
}

impl OutputLayout {
    /// Holds an output schema against the configuration.
    ///
    /// # Errors
    /// All faults, each naming the column and what to write instead.
    pub fn new(output: &SchemaRef, sink: &SinkConfig) -> Result<Self, Vec<String>> {
        let faults = check::faults(output, sink);
        if !faults.is_empty() {
            return Err(faults);
        }
        let index = |name: &String| output.index_of(name).expect("`check::faults` has found the column");
        let partition: Vec<usize> = sink.partition_by.iter().map(index).collect();
        let kept: Vec<usize> = (0..output.fields().len()).filter(|i| !partition.contains(i)).collect();
        let file = Arc::new(output.project(&kept).expect("the indices are those of the schema"));
        let event_time = sink.event_time.as_ref().map(|name| file.index_of(name).expect("the event time is no partition column"));
        let doubtful = values::doubtful(&file);
        Ok(Self { output: output.clone(), file, partition, kept, event_time, doubtful })
    }

    /// Returns the schema of the files: without the partition columns.
    pub fn file_schema(&self) -> &SchemaRef {
        &self.file
    }

    /// Returns the whole output schema, as the SQL returns it.
    pub fn output_schema(&self) -> &SchemaRef {
        &self.output
    }

    /// Returns the partition columns with the names of their types in DuckDB (`VARCHAR`, `BIGINT`, …): what `hive_types` needs, since readers
    /// otherwise guess types from paths.
    pub fn partition_columns(&self) -> Vec<(String, String)> {
        let column =
            |field: &Field| (field.name().clone(), hive::duckdb_type(field.data_type()).expect("`check::faults` allows no other").into());
        self.partition_fields().map(column).collect()
    }

    /// Returns what the path of a file of the first checkpoint looks like, with the values of partition columns in angle brackets.
    pub fn example_path(&self, hour: DateTime<Utc>) -> String {
        let dirs: String = self.partition_fields().map(|field| format!("{0}=<{0}>/", field.name())).collect();
        format!("{dirs}events-{}-2.parquet", hour.format("%Y-%m-%d-%H"))
    }

    /// Returns the index of the event time in the file schema.
    pub(super) fn event_time(&self) -> Option<usize> {
        self.event_time
    }

    /// Returns the partition columns' indices in the output schema, in the order of the directories.
    pub(super) fn partition_indices(&self) -> &[usize] {
        &self.partition
    }

    /// Returns the partition columns, in the order of the directories.
    pub(super) fn partition_fields(&self) -> impl Iterator<Item = &Field> {
        self.partition.iter().map(|&index| self.output.field(index))
    }

    /// Returns the first of the rows for a file that would not come back from it, and why.
    pub(super) fn value_fault(&self, file_rows: &RecordBatch) -> Option<(usize, String)> {
        values::fault(file_rows, &self.doubtful)
    }

    /// Returns the columns that go into files. Nothing is copied.
    ///
    /// # Errors
    /// If the batch has not the output schema.
    pub(super) fn file_rows(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let expected = &self.output;
        if rows.num_columns() != expected.fields().len() {
            return Err(ArrowError::SchemaError(format!(
                "the batch has {} columns, the layout {}",
                rows.num_columns(),
                expected.fields().len()
            )));
        }
        RecordBatch::try_new(self.file.clone(), self.kept.iter().map(|&index| rows.column(index).clone()).collect())
    }
}

/// Returns the names of the columns of a schema, for messages.
fn names(schema: &Schema) -> String {
    let names: Vec<_> = schema.fields().iter().map(|field| format!("`{}`", field.name())).collect();
    names.join(", ")
}
