//! Stored: what a dataset holds a configuration to once it has rows, and that it takes another one before.
//!
//! Owns: the refusal of other partition columns and of columns that the files cannot stand beside; taking up others where there are no files.
//! Does not own: which change of the columns is one (see `columns`), the file that names other partition columns (see `relaid`).

use arrow::datatypes::SchemaRef;
use pintail_core::error::{Error, Result};

use super::Store;
use super::draft::Sealed;
use super::expected::Expected;
use super::head::Head;
use super::named::{self, Written};
use crate::checkpoint::columns::{self, NewColumns};
use crate::checkpoint::format::{Format, PartitionColumn};
use crate::checkpoint::log;
use crate::checkpoint::paths::Paths;
use crate::checkpoint::record::FileKind;
use crate::checkpoint::relaid::{self, Opened};
use crate::checkpoint::take_over::TakeOver;
use crate::durable::fs::Fs;

/// Refuses other partition columns and columns that the dataset cannot take. One without any rows takes all.
pub(super) fn check_stored(
    fs: &dyn Fs,
    paths: &Paths,
    format: &Format,
    take_over: Option<&TakeOver>,
    head: &Head,
    expected: &Expected,
) -> Result<()> {
    match check_fits(paths, format, head, expected) {
        // Of several instances each would have to know that none of the others has any.
        Err(_) if format.instances == 1 && take_over.is_none() && !has_rows(fs, paths, head)? => Ok(()),
        checked => checked,
    }
}

/// Refuses other partition columns than those of the dataset, and columns that it cannot take.
pub(crate) fn check_fits(paths: &Paths, format: &Format, head: &Head, expected: &Expected) -> Result<()> {
    let Some(schema) = &expected.schema else { return Ok(()) };
    let fits = format.check_partitions(&paths.root().display().to_string(), &partition_columns(expected));
    match (fits, check_columns(head, schema, expected.allow_new_columns)) {
        (Err(partitions), Err(columns)) => Err(Error::config(format!("{partitions}\n{columns}"))),
        (partitions, columns) => partitions.and(columns),
    }
}

/// Returns whether a record names a file with rows.
fn has_rows(fs: &dyn Fs, paths: &Paths, head: &Head) -> Result<bool> {
    let last = head.last.as_ref().map_or(0, |last| last.sequence);
    for sequence in 1..=last {
        if log::read(fs, paths, sequence)?.0.files.iter().any(|file| file.kind == FileKind::Parquet) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Refuses columns that the dataset cannot take.
fn check_columns(head: &Head, schema: &SchemaRef, allow_new_columns: bool) -> Result<()> {
    let new_columns = if allow_new_columns { NewColumns::Allow } else { NewColumns::Refuse };
    match head.state.rest().columns.as_slice() {
        [] => Ok(()),
        columns => columns::check_evolution(columns, &columns::describe(schema), new_columns),
    }
}

/// Returns the partition columns that a configuration asks for, as FORMAT has them.
pub(crate) fn partition_columns(expected: &Expected) -> Vec<PartitionColumn> {
    let column = |(name, data_type): &(String, String)| PartitionColumn { name: name.clone(), data_type: data_type.clone() };
    expected.partition_by.iter().map(column).collect()
}

impl Store {
    /// Writes that other partition columns hold from an open record on, if the ones that are asked for are others. They hold if that record comes to
    /// be: whoever stores rows in the meantime takes its number. [`Written::Taken`] if another process writes the same at this moment.
    pub(super) fn lay_out(&mut self, open_record: &Sealed, format_sha256: &str, expected: &Expected) -> Result<Written> {
        let partition_by = partition_columns(expected);
        if expected.schema.is_none() || self.tip.format.partition_by == partition_by {
            return Ok(Written::Now);
        }
        let opened = Opened { sequence: open_record.record.sequence, sha256: open_record.sha256.clone() };
        let last = relaid::last(&*self.fs, &self.paths, format_sha256)?;
        let (number, bytes) = last.next(opened, partition_by.clone(), expected.now, expected.process.clone());
        self.tip.format.partition_by = partition_by;
        named::write(&*self.fs, &self.paths, &self.tip.process.nonce, &self.paths.relaid(number), &bytes)
    }
}
