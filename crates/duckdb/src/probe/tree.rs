//! Tree: DuckDB's syntax tree of a SQL, as JSON.
//!
//! Owns: what stands in it, and where.
//! Does not own: what is made of that (see `flat` and `shape` for whole `SELECT`s, `rewrite` for expressions).

use serde_json::{Value, json};

/// Returns whether a table of a `FROM` is `events`.
pub(super) fn is_events(table: &Value) -> bool {
    table["table_name"].as_str().is_some_and(|name| name.eq_ignore_ascii_case("events"))
}

/// Returns the conditions of a clause, all of which must hold.
pub(super) fn conditions(clause: &Value) -> Vec<&Value> {
    match clause {
        Value::Null => Vec::new(),
        _ if clause["type"] == "CONJUNCTION_AND" => clause["children"].as_array().into_iter().flatten().flat_map(conditions).collect(),
        _ => vec![clause],
    }
}

/// Returns what stands in a conjunction anywhere in an expression.
pub(super) fn operands(value: &Value) -> Vec<&Value> {
    let of_conjunction = if value["class"] == "CONJUNCTION" { value["children"].as_array() } else { None };
    let inner: Vec<&Value> = match value {
        Value::Object(members) => members.values().flat_map(operands).collect(),
        Value::Array(elements) => elements.iter().flat_map(operands).collect(),
        _ => Vec::new(),
    };
    of_conjunction.into_iter().flatten().chain(inner).collect()
}

/// Returns whether a class of expression stands anywhere in one.
pub(super) fn mentions(value: &Value, class: &str) -> bool {
    match value {
        Value::Object(members) => value["class"] == class || members.values().any(|member| mentions(member, class)),
        Value::Array(elements) => elements.iter().any(|element| mentions(element, class)),
        _ => false,
    }
}

/// Returns whether a list of orders stands anywhere in a SQL.
pub(super) fn orders(value: &Value) -> bool {
    match value {
        Value::Object(members) => value["orders"].as_array().is_some_and(|orders| !orders.is_empty()) || members.values().any(orders),
        Value::Array(elements) => elements.iter().any(orders),
        _ => false,
    }
}

/// Makes the expression that reads a column.
pub(super) fn reference(path: &[&str]) -> Value {
    json!({ "class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "column_names": path })
}

/// Returns whether a list has nothing in it, or is none.
pub(super) fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

/// Returns a name in lower case, as DuckDB compares names.
pub(super) fn lower(name: &Value) -> Option<String> {
    name.as_str().map(str::to_lowercase)
}
