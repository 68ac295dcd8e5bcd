//! Integer arithmetic that gives NULL where it would overflow.
//!
//! Owns: which arithmetic that is, and the wider type that it is computed in.
//! Does not own: what becomes of the form (see `rewrite`).
//!
//! To catch an overflow with `TRY` takes twenty microseconds a record, and the other records of its vector are evaluated one by one. In a
//! type that holds whatever the operation makes of any two operands, nothing has to be caught: `TRY_CAST` to the type that DuckDB gives the
//! result says which records overflow, a vector at a time.

use duckdb::core::LogicalTypeId;
use serde_json::{Value, json};

use crate::session::Session;

/// Where the types of an arithmetic, a cast or a comparison are noted in its tree: its own, then those of its operands. DuckDB ignores the key.
const TYPES: &str = "pintail_types";
/// Where it is noted that an arithmetic cannot overflow.
const IS_WIDE: &str = "pintail_is_wide";
/// The integers of at most 64 bits.
const INTEGERS: [&str; 8] = ["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"];

/// Notes the types in an expression that stands in a `SELECT` with this `FROM`. An expression that DuckDB does not bind there stays as it is.
pub(super) fn note_types(session: &Session, expression: &mut Value, from: &str, sql: impl Fn(&Value) -> Option<String>) {
    let mut typed = Vec::new();
    each_typed(expression, &mut |node| {
        typed.push(node.clone());
        typed.extend(operands(node).into_iter().cloned());
    });
    let Some(columns) = typed.iter().map(sql).collect::<Option<Vec<_>>>().filter(|columns| !columns.is_empty()) else { return };
    let Ok(types) = session.column_types(&format!("SELECT {} {from}", columns.join(", ")), columns.len()) else { return };
    let mut types = types.into_iter().map(name);
    each_typed(expression, &mut |node| {
        let count = 1 + operands(node).len();
        node[TYPES] = types.by_ref().take(count).collect();
    });
}

/// Visits the arithmetic, the casts and the comparisons of an expression, from the outermost. Names within lambdas and subqueries are not those outside.
fn each_typed(value: &mut Value, visit: &mut dyn FnMut(&mut Value)) {
    if matches!(value["class"].as_str(), Some("LAMBDA" | "SUBQUERY")) {
        return;
    }
    if !operands(value).is_empty() {
        visit(value);
    }
    match value {
        Value::Object(members) => members.values_mut().for_each(|member| each_typed(member, visit)),
        Value::Array(elements) => elements.iter_mut().for_each(|element| each_typed(element, visit)),
        _ => {}
    }
}

/// Returns the operands of an arithmetic, a cast or a comparison.
fn operands(node: &Value) -> Vec<&Value> {
    match (node["class"].as_str(), node["function_name"].as_str(), node["arguments"].as_array()) {
        (Some("CAST"), ..) => vec![&node["child"]],
        (Some("COMPARISON"), ..) => vec![&node["left"], &node["right"]],
        (Some("FUNCTION"), Some("+" | "-" | "*"), Some(arguments)) if arguments.len() == 2 => {
            arguments.iter().map(|argument| &argument["expression"]).collect()
        }
        _ => Vec::new(),
    }
}

fn name(id: LogicalTypeId) -> &'static str {
    use LogicalTypeId as Duck;
    match id {
        Duck::Tinyint => "TINYINT",
        Duck::Smallint => "SMALLINT",
        Duck::Integer => "INTEGER",
        Duck::Bigint => "BIGINT",
        Duck::UTinyint => "UTINYINT",
        Duck::USmallint => "USMALLINT",
        Duck::UInteger => "UINTEGER",
        Duck::UBigint => "UBIGINT",
        Duck::Varchar => "VARCHAR",
        Duck::Boolean => "BOOLEAN",
        Duck::Double => "DOUBLE",
        Duck::Date => "DATE",
        Duck::Timestamp => "TIMESTAMP",
        _ => "",
    }
}

/// Returns the types that were noted, if each is an integer.
fn integers(node: &Value) -> Option<Vec<&str>> {
    node[TYPES].as_array()?.iter().map(|name| name.as_str().filter(|name| INTEGERS.contains(name))).collect()
}

/// Returns whether an expression is a cast of an integer to another.
pub(super) fn is_integer_cast(node: &Value) -> bool {
    node["class"] == "CAST" && integers(node).is_some()
}

/// Returns the types of both sides of a comparison, where they are known.
fn sides(node: &Value) -> Option<(&str, &str)> {
    let side = |of: usize| node[TYPES][of].as_str().filter(|name| !name.is_empty());
    (node["class"] == "COMPARISON").then_some((side(1)?, side(2)?))
}

/// Returns whether a comparison is of one type, so that DuckDB casts neither side.
pub(super) fn compares_one_type(node: &Value) -> bool {
    sides(node).is_some_and(|(left, right)| left == right)
}

/// Returns whether a comparison is of types that DuckDB casts to each other without failing.
pub(super) fn compares_without_failing(node: &Value) -> bool {
    sides(node).is_some_and(|(left, right)| left == right || [left, right].iter().all(|side| INTEGERS.contains(side)))
}

/// Returns the type of an arithmetic, and one that holds whatever it makes of two operands; `None` where there is none.
pub(super) fn types(node: &Value) -> Option<(&str, &'static str)> {
    let types = integers(node).filter(|types| types.len() == 3)?;
    let wide = match (types[0], node["function_name"].as_str()) {
        // The greatest product is greater than a HUGEINT.
        ("UBIGINT", Some("*")) => return None,
        ("BIGINT" | "UBIGINT" | "UINTEGER", _) => "HUGEINT",
        _ => "BIGINT",
    };
    Some((types[0], wide))
}

/// Returns an arithmetic over operands of a wide type, which does not overflow.
pub(super) fn wide(node: &Value, operands: [Value; 2]) -> Value {
    let mut wide = node.clone();
    for (argument, operand) in operands.into_iter().enumerate() {
        wide["arguments"][argument]["expression"] = operand;
    }
    wide[IS_WIDE] = json!(true);
    wide
}

/// Returns whether an arithmetic was made by [`wide`].
pub(super) fn is_wide(node: &Value) -> bool {
    node[IS_WIDE] == json!(true)
}
