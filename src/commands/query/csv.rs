//! CSV: <https://www.rfc-editor.org/rfc/rfc4180>, with lines that end as others of this system do; a null is nothing, an empty text is `""`.
//!
//! Where a row is one null, it is `""` too: readers leave empty lines out.
//!
//! Owns: quoting.
//! Does not own: how a value is written (Arrow's own way), nested values (see [`pintail_core::json_rows`]).

use std::borrow::Cow;
use std::io::Write;

use arrow::array::{Array as _, RecordBatch};
use arrow::datatypes::DataType;
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
        // A column without a type has no list of its nulls.
        let cells = columns.iter().map(|(column, shown)| match column.is_null(row) || *column.data_type() == DataType::Null {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, NullArray, StringArray};

    use super::*;

    #[test]
    fn a_null_is_nothing_and_an_empty_text_is_quoted_but_no_line_is_empty() {
        let column = |values: &[Option<&str>]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
        let written = |columns: Vec<(&str, ArrayRef)>| {
            let mut to = Vec::new();
            let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap();
            write(&[rows], &mut to).unwrap();
            String::from_utf8(to).unwrap()
        };
        let (a, b) = (column(&[None, Some(""), Some("x,\"y\"")]), column(&[Some("1"), None, None]));
        assert_eq!(written(vec![("a", a.clone()), ("b", b)]), "a,b\n,1\n\"\",\n\"x,\"\"y\"\"\",\n");
        let untyped: ArrayRef = Arc::new(NullArray::new(3));
        assert_eq!(written(vec![("a", a.clone()), ("x", untyped)]), "a,x\n,\n\"\",\n\"x,\"\"y\"\"\",\n");
        assert_eq!(written(vec![("a", a)]), "a\n\"\"\n\"\"\n\"x,\"\"y\"\"\"\n");
    }
}
