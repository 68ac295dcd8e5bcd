//! Statements: what a text of SQL is, before anything of it is prepared.
//!
//! Owns: insisting on exactly one statement, a `SELECT`.
//! Does not own: whether its rows depend on each other (see `plan`), whether it binds (see `session`).
//!
//! `duckdb-rs` *executes* every statement of a text but the last when it prepares it, so the text is looked at first. DuckDB's
//! parser does that through `json_serialize_sql`, which binds and runs nothing and takes only `SELECT`; its tree also tells what
//! a plan does not show.

use duckdb::Connection;
use duckdb::core::{LogicalTypeHandle, LogicalTypeId};
use serde_json::value::RawValue;

use super::raw::RawConnection;
use super::sql::{collect_texts, literal};
use super::sql_error::{message, one_line};

/// A text that is exactly one `SELECT`.
#[derive(Debug, Clone)]
pub(crate) struct Select {
    sql: String,
    /// DuckDB's syntax tree, compact JSON.
    tree: String,
}

/// Returns why what a `SELECT` returns cannot be read out of DuckDB, with the cast to write; `None` if it can, or does not bind.
pub(crate) fn unreadable(connection: &Connection, sql: &str) -> Option<String> {
    fn holds_variant(of: &LogicalTypeHandle) -> bool {
        of.id() == LogicalTypeId::Variant || (0..of.num_children()).any(|child| holds_variant(&of.child(child)))
    }
    let statement = connection.prepare(sql).ok()?;
    let index = (0..statement.column_count()).find(|index| holds_variant(&statement.column_logical_type(*index)))?;
    let described = collect_texts(connection, &format!("DESCRIBE {sql}")).ok()?;
    let name = described.get(index)?.first()?;
    Some(format!("returns the column `{name}` of the type VARIANT, which only DuckDB can read: write `{name}::VARCHAR AS {name}`"))
}

#[derive(serde::Deserialize)]
struct Parsed<'a> {
    error: bool,
    #[serde(default)]
    error_type: String,
    #[serde(default)]
    error_message: String,
    #[serde(default, borrow)]
    statements: Vec<&'a RawValue>,
}

impl Select {
    /// Parses a text. Nothing of it is prepared, let alone run.
    ///
    /// # Errors
    /// What is wrong with the text, as the end of a sentence that begins with its name.
    pub(crate) fn parse(connection: &Connection, extraction: &RawConnection, sql: &str) -> Result<Self, String> {
        let rows = collect_texts(connection, &format!("SELECT json_serialize_sql({})::VARCHAR", literal(sql)));
        let rows = rows.map_err(|e| format!("cannot be parsed: {}", message(&e)))?;
        let tree = rows.concat().pop().unwrap_or_default();
        let parsed: Parsed<'_> = serde_json::from_str(&tree).map_err(|e| format!("cannot be parsed: {e}"))?;
        // What DuckDB can parse and not write as a tree is another statement.
        if parsed.error && parsed.error_type == "not implemented" {
            return Err("is not a SELECT: exactly one SELECT statement is allowed".to_owned());
        }
        if parsed.error {
            return Err(format!("cannot be parsed: {}", one_line(&parsed.error_message)));
        }
        // A second opinion: what is extracted is what will be prepared, and it may be more than was written (PIVOT).
        let extracted = extraction.count_statements(sql).map_err(|e| format!("cannot be parsed: {}", one_line(&e)))?;
        match (parsed.statements.len(), extracted) {
            (1, 1) => Ok(Self { sql: sql.to_owned(), tree }),
            (0, _) => Err("is empty: exactly one SELECT statement is needed".to_owned()),
            (1, _) => Err("is more than one statement to DuckDB: give PIVOT its values with IN (…)".to_owned()),
            (count, _) => Err(format!("holds {count} statements: exactly one SELECT statement is allowed")),
        }
    }

    /// Returns the text.
    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// Returns DuckDB's syntax tree, as JSON.
    pub(crate) fn tree(&self) -> &str {
        &self.tree
    }

    /// Returns how often a table is named in a `FROM`.
    pub(crate) fn references(&self, table: &str) -> usize {
        let name = serde_json::to_string(&table).expect("a text can always be written as JSON");
        self.tree.to_lowercase().matches(&format!("\"table_name\":{}", name.to_lowercase())).count()
    }

    /// Returns whether a function is called.
    pub(crate) fn calls(&self, function: &str) -> bool {
        self.tree.to_lowercase().contains(&format!("\"function_name\":\"{function}\""))
    }

    /// Returns whether any join keeps the rows of its right side that have no partner.
    pub(crate) fn has_right_or_full_join(&self) -> bool {
        ["RIGHT", "OUTER", "FULL"].iter().any(|join| self.tree.contains(&format!("\"join_type\":\"{join}\"")))
    }
}
