//! `pintail query`: SQL over what is committed.
//!
//! Owns: the output formats. In a table every value stays in its cell: line ends and control characters are escaped. In a table and in CSV, nested values
//! are JSON.
//! Does not own: the SQL (see [`pintail_duckdb::query`]), which files are committed (the records say).

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches;
use itertools::Itertools as _;
use pintail_core::error::{Error, Result};
use pintail_core::escape::{self, Form, Writer};
use pintail_core::json_rows;
use pintail_core::quantity::{counted, thousands};
use pintail_duckdb::query::{Answer, query, query_copies};
use pintail_duckdb::shown;
use pintail_storage::bucket::BucketTree;
use pintail_storage::checkpoint::reader::{self, Dataset, Unpublished};

use crate::cli::QueryFormat;

mod csv;

/// Rows of a table: each is held until all of them are known, for the widths of the columns.
const TABLE_ROWS_MAX: usize = 10_000;

/// Runs the SQL and writes its result. Of a dataset in a bucket at most `fetch_max` bytes are fetched.
pub(crate) fn run(dataset: &Dataset, fetch_max: u64, sql: &str, format: QueryFormat, to: &mut dyn Write) -> Result<()> {
    let committed = reader::committed_in(dataset, || Ok(()))?;
    tell_unpublished(dataset, &committed.unpublished)?;
    let rows_max = if format == QueryFormat::Table { TABLE_ROWS_MAX } else { usize::MAX };
    let answer = match dataset.bucket() {
        None => query(dataset.paths().root(), &committed, sql, rows_max),
        Some(tree) => {
            query_copies(dataset.paths().root(), &tree.copies()?, &|names| fetch(tree, names, fetch_max), &committed, sql, rows_max)
        }
    };
    let Answer { schema, mut batches, truncated, .. } = answer?;
    if let Some(twice) = schema.fields().iter().map(|field| field.name()).duplicates().next().filter(|_| format == QueryFormat::Json) {
        return Err(Error::config(format!(
            "two columns of the result are called `{}`, and of two keys of that name a reader of JSON takes one: give one another name with `AS`",
            escape::line(twice)
        )));
    }
    if batches.is_empty() {
        // A header without rows is an answer too.
        batches.push(RecordBatch::new_empty(schema));
    }
    let shown: Result<Vec<_>, _> = batches.iter().map(shown::batch).collect();
    let told = shown.and_then(|batches| {
        write(&batches, format, to)?;
        if truncated {
            writeln!(to, "the first {} rows; `--format csv` and `--format json` have them all", thousands(rows_max as u64))?;
        }
        Ok(())
    });
    told.map_err(|error| match error {
        ArrowError::IoError(_, source) => Error::io("write the result", source),
        other => Error::internal("cannot write the result").with_source(other),
    })
}

/// Says on standard error what an answer lacks: files that are committed and not visible yet.
fn tell_unpublished(dataset: &Dataset, unpublished: &[Unpublished]) -> Result<()> {
    let Some(first) = unpublished.first() else { return Ok(()) };
    let rows: u64 = unpublished.iter().map(|file| file.rows).sum();
    let told = writeln!(
        Writer::new(io::stderr(), Form::Lines),
        "pintail: the answer lacks {} of {} of `{}`, not visible yet; the first is `{}`: {}",
        counted(rows, "row", "rows"),
        counted(unpublished.len() as u64, "committed file", "committed files"),
        dataset.paths().root().display(),
        first.path,
        first.told
    );
    told.map_err(|e| Error::io("write to standard error", e))
}

/// Copies files of a bucket to where the query reads them.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`] if they have more bytes than may be fetched, before any is.
fn fetch(tree: &BucketTree, names: &[String], bytes_max: u64) -> Result<()> {
    let bytes: u64 = names.iter().filter_map(|name| tree.listed(name)).sum();
    if bytes > bytes_max {
        return Err(Error::config(format!(
            "the query needs {} with {} bytes from the bucket, and may fetch {}: let its WHERE name values of the partition columns or a span of a \
             column of times, or set `storage.query_bytes_max`",
            counted(names.len() as u64, "file", "files"),
            thousands(bytes),
            thousands(bytes_max)
        )));
    }
    let copies = tree.copies()?;
    let missing = || names.iter().filter(|name| !copies.join(name).is_file());
    tree.fetch_all(missing().cloned())?;
    match missing().next() {
        None => Ok(()),
        Some(gone) => Err(Error::state(format!("`{}` was removed at this moment: ask again", tree.paths().published(gone).display()))),
    }
}

fn write(batches: &[RecordBatch], format: QueryFormat, to: &mut dyn Write) -> Result<(), ArrowError> {
    match format {
        QueryFormat::Table => table(batches, to)?,
        QueryFormat::Csv => csv::write(batches, to)?,
        QueryFormat::Json => json_rows::write(batches, to)?,
    }
    to.flush()?;
    Ok(())
}

/// Returns a batch in which nested values are JSON.
fn with_nested_as_text(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| json_rows::nested_as_text(field, column));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| field.as_ref().clone().with_data_type(column.data_type().clone()).with_nullable(true))
        .collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Draws a table. Its cells are escaped before it is laid out: an escape takes more room than the character.
fn table(batches: &[RecordBatch], to: &mut dyn Write) -> Result<(), ArrowError> {
    let cells = batches.iter().map(cells).collect::<Result<Vec<_>, _>>()?;
    writeln!(to, "{}", pretty_format_batches(&cells)?)?;
    Ok(())
}

/// Returns a batch as text, escaped.
fn cells(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let batch = with_nested_as_text(batch)?;
    let (options, schema) = (FormatOptions::default().with_null("NULL"), batch.schema());
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let shown = ArrayFormatter::try_new(column, &options)?;
        let cells = (0..column.len()).map(|row| Ok(Some(escape::line(&shown.value(row).try_to_string()?).into_owned())));
        Ok((escape::line(field.name()).into_owned(), Arc::new(cells.collect::<Result<StringArray, ArrowError>>()?) as ArrayRef))
    });
    RecordBatch::try_from_iter(columns.collect::<Result<Vec<_>, ArrowError>>()?)
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

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
    fn an_empty_text_is_no_null_in_any_format() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some(""), None, Some("NULL"), Some("a\"b,\nc")]));
        let batch = RecordBatch::try_from_iter([("x", texts.clone()), ("a,b", texts)]).unwrap();
        let text = |format| {
            let mut text = Vec::new();
            write(std::slice::from_ref(&batch), format, &mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        let quoted = "\"a\"\"b,\nc\"";
        assert_eq!(text(QueryFormat::Csv), format!("x,\"a,b\"\n\"\",\"\"\n,\nNULL,NULL\n{quoted},{quoted}\n"));
        let table = text(QueryFormat::Table);
        let rows: Vec<_> = table.lines().filter(|line| line.starts_with('|')).map(|line| line.split('|').nth(1).unwrap().trim()).collect();
        assert_eq!(rows[1..3], ["", "NULL"], "{table}");
        assert!(text(QueryFormat::Json).starts_with("{\"x\":\"\",\"a,b\":\"\"}\n{\"x\":null"));
    }

    #[test]
    fn a_value_stays_in_its_cell_of_a_table() {
        let hostile: ArrayRef = Arc::new(StringArray::from(vec!["a\nb\x1b[2J\u{202e}", "é"]));
        let batch = RecordBatch::try_from_iter([("x\x1b[2J", hostile)]).unwrap();
        let mut text = Vec::new();
        write(&[batch], QueryFormat::Table, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().all(|line| line.chars().count() == text.lines().next().unwrap().chars().count()), "{text}");
        assert!(text.contains("| a\\nb\\u{1b}[2J\\u{202e} |") && !text.contains(|c: char| c.is_control() && c != '\n'), "{text}");
    }

    #[test]
    fn an_answer_without_rows_still_has_its_header() {
        assert_eq!(text(0, QueryFormat::Csv), "region,value\n");
        assert_eq!(text(0, QueryFormat::Json), "");
        assert!(text(0, QueryFormat::Table).contains("| region | value |"));
    }
}
