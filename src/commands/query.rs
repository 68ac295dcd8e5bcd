//! `pintail query`: SQL over what is committed.
//!
//! Owns: the looks of the result.
//! Does not own: the SQL (see [`crate::engine::query`]), which files are committed (the records say).

use std::io::Write;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::util::pretty::pretty_format_batches;
use arrow::{csv, json};

use crate::checkpoint::reader;
use crate::cli::QueryFormat;
use crate::engine::query::query;
use crate::error::{Error, Result};

/// Runs the SQL and writes its result.
pub fn run(out: &Path, sql: &str, format: QueryFormat, to: &mut dyn Write) -> Result<()> {
    let committed = reader::committed(out)?;
    let (schema, mut batches) = query(out, &committed.partition_by, &committed.files, sql)?;
    if batches.is_empty() {
        // A header without rows is an answer too.
        batches.push(RecordBatch::new_empty(schema));
    }
    write(&batches, format, to).map_err(|error| match error {
        ArrowError::IoError(_, source) => Error::io("write the result", source),
        other => Error::internal("cannot write the result").with_source(other),
    })
}

fn write(batches: &[RecordBatch], format: QueryFormat, to: &mut dyn Write) -> Result<(), ArrowError> {
    match format {
        QueryFormat::Table => writeln!(to, "{}", pretty_format_batches(batches)?)?,
        QueryFormat::Csv => {
            let mut writer = csv::WriterBuilder::new().with_header(true).build(&mut *to);
            batches.iter().try_for_each(|batch| writer.write(batch))?;
        }
        QueryFormat::Json => {
            let writer = json::WriterBuilder::new().with_explicit_nulls(true);
            let mut writer = writer.build::<_, json::writer::LineDelimited>(&mut *to);
            batches.iter().try_for_each(|batch| writer.write(batch))?;
            writer.finish()?;
        }
    }
    to.flush()?;
    Ok(())
}
