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
use crate::engine::query::{Answer, query};
use crate::error::{Error, Result};

/// Runs the SQL and writes its result.
pub fn run(out: &Path, sql: &str, format: QueryFormat, to: &mut dyn Write) -> Result<()> {
    let committed = reader::committed(out)?;
    let Answer { schema, mut batches, .. } = query(out, &committed, sql)?;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn batch(rows: usize) -> RecordBatch {
        let regions: ArrayRef = Arc::new(StringArray::from(vec![Some("007"), None]));
        let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        RecordBatch::try_from_iter([("region", regions), ("value", values)]).unwrap().slice(0, rows)
    }

    fn text(rows: usize, format: QueryFormat) -> String {
        let mut text = Vec::new();
        write(&[batch(rows)], format, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn each_format_shows_every_row_and_every_null() {
        assert_eq!(text(2, QueryFormat::Csv), "region,value\n007,1\n,2\n");
        assert_eq!(text(2, QueryFormat::Json), "{\"region\":\"007\",\"value\":1}\n{\"region\":null,\"value\":2}\n");
        let table = text(2, QueryFormat::Table);
        assert!(table.contains("| region | value |") && table.contains("| 007    | 1     |"), "{table}");
    }

    #[test]
    fn an_answer_without_rows_still_has_its_header() {
        assert_eq!(text(0, QueryFormat::Csv), "region,value\n");
        assert_eq!(text(0, QueryFormat::Json), "");
        assert!(text(0, QueryFormat::Table).contains("| region | value |"));
    }
}
