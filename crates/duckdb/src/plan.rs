//! The plan of a `SELECT`: whether each output row comes from one event alone.
//!
//! Owns: reading DuckDB's plan and refusing what would give other rows if the batches were cut elsewhere.
//! Does not own: parsing (see `statement`), running (see `session`).
//!
//! The plan looked at is the *unoptimized* logical one. It says what was asked for, whatever the tables hold: the optimizer may
//! turn a join with an empty lookup table into nothing, or swap the sides of a join, and the answer must not depend on that.
//!
//! Every operator's rows are either [`Rows::Fixed`] (they come from lookup tables and constants, and are the same for each batch)
//! or [`Rows::PerEvent`] (each comes from one event). What is done to fixed rows alone is free; rows of events may be filtered,
//! projected, unnested, ordered, concatenated, and joined *from* (never to: a right join adds the partnerless rows once a batch).

use std::collections::BTreeMap;

use duckdb::Connection;
use serde_json::Value;
use serde_json::value::RawValue;

use super::scan::FUNCTION;
use super::sql::collect_texts;
use super::sql_error::message;
use super::statement::Select;

/// Where an operator's rows come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// From lookup tables and constants.
    Fixed,
    /// Each from one event.
    PerEvent,
}

/// An operator. The children are parsed when they are visited: a deep plan must not meet the JSON parser's limit.
#[derive(serde::Deserialize)]
struct Operator<'a> {
    name: String,
    #[serde(default, borrow)]
    children: Vec<&'a RawValue>,
    #[serde(default)]
    extra_info: BTreeMap<String, Value>,
}

/// Why a `SELECT` is not row by row. Each is the end of a sentence that begins with the SQL's name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It cannot be planned at all.
    Plan(String),
    /// Its rows depend on how the events are cut into batches.
    Coupled(String),
}

/// Checks that each row that `select` returns comes from one event.
pub(crate) fn check_row_by_row(connection: &Connection, select: &Select) -> Result<(), Fault> {
    let explain = format!("EXPLAIN (FORMAT json) {}", select.sql());
    let plan = logical_plan(connection, &explain).map_err(|e| Fault::Plan(format!("fails: {}", message(&e))))?;
    let [root]: [&RawValue; 1] = serde_json::from_str(&plan).map_err(unreadable)?;
    let mut walk = Walk { select, ctes: BTreeMap::new(), scans: 0 };
    if walk.rows(root)? == Rows::Fixed {
        return Err(coupled("reads no `events`"));
    }
    // A subquery in a join's condition is planned only later: the plan does not show what it reads, but the text does.
    if select.references("events") > walk.scans {
        return Err(coupled("reads `events` in a subquery of a join's condition, or in a table expression that is not used"));
    }
    Ok(())
}

fn coupled(reason: impl Into<String>) -> Fault {
    Fault::Coupled(reason.into())
}

fn unreadable(error: serde_json::Error) -> Fault {
    Fault::Plan(format!("has a plan that cannot be read: {error}"))
}

fn logical_plan(connection: &Connection, explain: &str) -> duckdb::Result<String> {
    let plans = collect_texts(connection, explain)?;
    let plan = plans.into_iter().find_map(|row| <[String; 2]>::try_from(row).ok().filter(|[key, _]| key == "logical_plan"));
    plan.map(|[_, plan]| plan).ok_or(duckdb::Error::QueryReturnedNoRows)
}

struct Walk<'a> {
    select: &'a Select,
    ctes: BTreeMap<String, Rows>,
    scans: usize,
}

impl Walk<'_> {
    fn rows(&mut self, operator: &RawValue) -> Result<Rows, Fault> {
        let operator: Operator<'_> = serde_json::from_str(operator.get()).map_err(unreadable)?;
        match operator.name.as_str() {
            "CTE" => return self.cte(&operator),
            "CTE_SCAN" => return Ok(self.ctes.get(&operator.text("CTE Index")).copied().unwrap_or(Rows::Fixed)),
            name if name.eq_ignore_ascii_case(FUNCTION) => {
                self.scans += 1;
                return Ok(Rows::PerEvent);
            }
            _ => {}
        }
        let children = operator.children.iter().map(|child| self.rows(child)).collect::<Result<Vec<_>, _>>()?;
        if children.iter().all(|rows| *rows == Rows::Fixed) {
            return Ok(Rows::Fixed);
        }
        match (operator.name.as_str(), children.as_slice()) {
            ("PROJECTION" | "FILTER" | "ORDER_BY" | "UNNEST", [rows]) => Ok(*rows),
            ("UNION", sides) if sides.iter().all(|rows| *rows == Rows::PerEvent) => Ok(Rows::PerEvent),
            ("UNION", _) => Err(coupled("unites `events` with rows that would come once for each batch")),
            ("CROSS_PRODUCT", [left, right]) => joined(*left, *right, Join::Inner),
            // A subquery or LATERAL: DuckDB knows no form of it that keeps partnerless rows of the inner side.
            ("DEPENDENT_JOIN", [left, right]) => joined(*left, *right, Join::Left),
            ("COMPARISON_JOIN" | "DELIM_JOIN" | "ASOF_JOIN" | "ANY_JOIN", [left, right]) => joined(*left, *right, self.join(&operator)),
            (name, _) => Err(coupled(coupling(name))),
        }
    }

    /// A common table expression: the definition, then what uses it.
    fn cte(&mut self, operator: &Operator<'_>) -> Result<Rows, Fault> {
        let [definition, user] = operator.children.as_slice() else {
            return Err(Fault::Plan("has a common table expression whose plan cannot be read".to_owned()));
        };
        let rows = self.rows(definition)?;
        self.ctes.insert(operator.text("Table Index"), rows);
        self.rows(user)
    }

    fn join(&self, operator: &Operator<'_>) -> Join {
        match operator.text("Join Type").as_str() {
            "INNER" => Join::Inner,
            "LEFT" | "SEMI" | "ANTI" | "MARK" | "SINGLE" => Join::Left,
            "RIGHT" | "RIGHT_SEMI" | "RIGHT_ANTI" => Join::Right,
            // A join by any condition does not show its type; what was written tells whether it may keep its right side.
            "" if !self.select.has_right_or_full_join() => Join::Left,
            _ => Join::Full,
        }
    }
}

impl Operator<'_> {
    fn text(&self, key: &str) -> String {
        self.extra_info.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// Which side of a join keeps rows that have no partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Join {
    Inner,
    Left,
    Right,
    Full,
}

fn joined(left: Rows, right: Rows, join: Join) -> Result<Rows, Fault> {
    match (left, right, join) {
        (Rows::Fixed, Rows::Fixed, _) => Ok(Rows::Fixed),
        (Rows::PerEvent, Rows::Fixed, Join::Inner | Join::Left) | (Rows::Fixed, Rows::PerEvent, Join::Inner | Join::Right) => {
            Ok(Rows::PerEvent)
        }
        (Rows::PerEvent, Rows::PerEvent, _) => Err(coupled("joins `events` with `events`")),
        _ => Err(coupled("joins `events` to a table whose rows without an event would come once for each batch")),
    }
}

fn coupling(operator: &str) -> String {
    match operator {
        "AGGREGATE" => "aggregates over `events`".to_owned(),
        "WINDOW" => "has a window function over `events`".to_owned(),
        "DISTINCT" => "has a DISTINCT over `events`".to_owned(),
        "LIMIT" | "TOP_N" => "has a LIMIT over `events`".to_owned(),
        "SAMPLE" => "takes a sample of `events`".to_owned(),
        "EXCEPT" | "INTERSECT" => format!("has an {operator} over `events`"),
        "REC_CTE" => "reads `events` in a recursive common table expression".to_owned(),
        other => format!("does to `events` what may couple their rows ({other})"),
    }
}

#[cfg(test)]
mod tests;
