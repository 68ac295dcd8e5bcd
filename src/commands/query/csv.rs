//! CSV: <https://www.rfc-editor.org/rfc/rfc4180>, with lines that end as others of this system do; a null is nothing, an empty text is `""`.
//!
//! Where a row is one null, it is `""` too: readers leave empty lines out.
//!
//! Owns: quoting.
//! Does not own: how a value is written (Arrow's own way), nested values (see [`pintail_core::json_rows`]).

use std::borrow::Cow;
use std::io::Write;

use arrow::array::{Array as _, RecordBatch};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use itertools::Itertools as _;

use super::with_nested_as_text;

/// Writes a header, and a line for each row.
pub(super) fn write(batches: &[RecordBatch], to: &mut dyn Write) -> Result<(), ArrowError> {
    if let Some(first) = batches.first() {
        line(to, first.schema().fields().iter().map(|field| Some(field.name().clone())))?;
    }
    batches.iter().try_for_each(|batch| rows(&with_nested_as_text(batch)?, to))
}

fn rows(batch: &RecordBatch, to: &mut dyn Write) -> Result<(), ArrowError> {
    let options = FormatOptions::default();
    let columns = batch.columns().iter().map(|column| Ok((column, ArrayFormatter::try_new(column, &options)?)));
    let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
    for row in 0..batch.num_rows() {
        let cells = columns.iter().map(|(column, shown)| match column.is_null(row) {
            true => Ok(None),
            false => shown.value(row).try_to_string().map(Some),
        });
        line(to, cells.collect::<Result<Vec<_>, _>>()?)?;
    }
    Ok(())
}

fn line(to: &mut dyn Write, cells: impl IntoIterator<Item = Option<String>>) -> Result<(), ArrowError> {
    let cells: Vec<_> = cells.into_iter().collect();
    let line = match &cells[..] {
        [None] => quoted("").into_owned(),
        cells => cells.iter().map(|cell| cell.as_deref().map_or(Cow::Borrowed(""), quoted)).join(","),
    };
    Ok(writeln!(to, "{line}")?)
}

/// Returns a text as it stands in a cell.
fn quoted(text: &str) -> Cow<'_, str> {
    if text.is_empty() || text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")).into() } else { text.into() }
}
