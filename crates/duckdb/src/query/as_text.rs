//! Types that Arrow lacks: their values are fetched as DuckDB's own text.
//!
//! Owns: which types those are, and the `SELECT` that casts the columns that hold one.
//! Does not own: how text is shown (see `commands::query`), what files can hold (see `pintail_sink`).

use std::borrow::Cow;

use duckdb::Connection;
use duckdb::core::{LogicalTypeHandle, LogicalTypeId};
use itertools::Itertools;

use crate::sql::{collect_texts, quoted};

/// The view with the statement, whose columns have numbers for names: names may come twice.
const VIEW: &str = "pintail_answer";

/// Returns a `SELECT` with the same rows as `sql`, in which each column of a type that Arrow lacks is text.
///
/// # Errors
/// Those of DuckDB: the statement does not bind.
pub(super) fn with_lossy_columns_as_text<'a>(connection: &Connection, sql: &'a str) -> duckdb::Result<Cow<'a, str>> {
    let lossy: Vec<bool> = {
        let statement = connection.prepare(sql)?;
        (0..statement.column_count()).map(|index| lossy(&statement.column_logical_type(index)).is_some()).collect()
    };
    if !lossy.contains(&true) {
        return Ok(Cow::Borrowed(sql));
    }
    let described = collect_texts(connection, &format!("DESCRIBE {sql}"))?;
    let columns = (0..lossy.len()).map(|index| format!("c{index}")).join(", ");
    connection.execute_batch(&format!("CREATE OR REPLACE TEMPORARY VIEW {VIEW}({columns}) AS {sql}"))?;
    let selected = described.iter().zip(&lossy).enumerate().map(|(index, (column, is_lossy))| {
        let cast = if *is_lossy { "::VARCHAR" } else { "" };
        format!("c{index}{cast} AS {}", quoted(&column[0]))
    });
    Ok(Cow::Owned(format!("SELECT {} FROM {VIEW}", selected.collect::<Vec<_>>().join(", "))))
}

/// Returns the name of a type, or of one within it, that has no counterpart in Arrow: it would come without its zone (`TIMETZ`), with another value
/// (`UHUGEINT`), as DuckDB's own bytes (`BIT`, `BIGNUM`), or not at all (`VARIANT`).
pub(crate) fn lossy(of: &LogicalTypeHandle) -> Option<&'static str> {
    use LogicalTypeId::{Bignum, Bit, TimeTZ, UHugeint, Variant};
    match of.id() {
        Bit => Some("BIT"),
        TimeTZ => Some("TIMETZ"),
        UHugeint => Some("UHUGEINT"),
        Bignum => Some("BIGNUM"),
        Variant => Some("VARIANT"),
        _ => (0..of.num_children()).find_map(|child| lossy(&of.child(child))),
    }
}
