//! SQL: a query that is run to its end, and names and texts within one.
//!
//! Owns: the rows of a query as Arrow and as text, quoting.
//! Does not own: connections (see `session`), the user's SQL (see `statement`).

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use duckdb::Connection;

/// Runs a query to its end.
pub(crate) fn collect(connection: &Connection, sql: &str) -> duckdb::Result<(SchemaRef, Vec<RecordBatch>)> {
    stream(connection, sql, |_| true)
}

/// Runs a query as long as `take` takes its rows; returns those that it took.
pub(crate) fn stream(
    connection: &Connection,
    sql: &str,
    mut take: impl FnMut(&RecordBatch) -> bool,
) -> duckdb::Result<(SchemaRef, Vec<RecordBatch>)> {
    let mut statement = connection.prepare(sql)?;
    // Not `query_arrow`, which panics where this yields an error.
    let stream = statement.stream_arrow([])?;
    let schema = stream.get_schema();
    let mut pieces = Vec::new();
    for piece in stream {
        let piece = piece?;
        if !take(&piece) {
            break;
        }
        pieces.push(piece);
    }
    Ok((schema, pieces))
}

/// Runs a query to its end; returns its rows as text, NULL as nothing. `duckdb-rs` cannot read text out of views itself.
pub(crate) fn collect_texts(connection: &Connection, sql: &str) -> duckdb::Result<Vec<Vec<String>>> {
    let (_, batches) = collect(connection, sql)?;
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter().map(|column| cast(column, &DataType::Utf8View));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|e| duckdb::Error::ToSqlConversionFailure(e.into()))?;
        let row = |row| columns.iter().map(|column| column.as_string_view().value(row).to_owned()).collect();
        rows.extend((0..batch.num_rows()).map(row));
    }
    Ok(rows)
}

/// Writes a name so that SQL takes it as it is.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Writes a text as SQL.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
