//! Shapes: the `SELECT`s of a SQL that read `events`, and what of them is sure to be evaluated.
//!
//! Owns: finding them in DuckDB's syntax tree, also the sides of a join's condition, which are probed as if they were selected.
//! Does not own: the queries that are made of them (see `probe`).
//!
//! DuckDB computes no column that nobody reads, and no row that a filter above leaves out. So what stands in an inner `SELECT` is sure to be
//! evaluated only if the outer one has no filter and hands the column on; of a condition, each side is if it is the only comparison.

use arrow::datatypes::Schema;
use serde_json::{Value, json};

use super::rewrite;

/// A `SELECT` that reads `events` once.
pub(super) struct Shape {
    /// Its syntax tree.
    pub node: Value,
    /// What of it is evaluated for each of its records.
    pub sure: Sure,
}

/// What is evaluated for each record of a `SELECT`.
pub(super) enum Sure {
    /// Nothing that could be named.
    Nothing,
    /// Everything.
    All,
    /// Its conditions, and of its columns those of these names.
    Columns(Vec<String>),
}

impl Sure {
    /// Returns whether the conditions are.
    pub(super) fn conditions(&self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// Returns whether an expression of a select list is.
    pub(super) fn item(&self, item: &Value) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Columns(names) => item["alias"].as_str().is_some_and(|alias| names.contains(&alias.to_lowercase())),
        }
    }
}

/// Finds the shapes of a tree. `is_plain` says that `events` is read once in all, and no list unnested: where one is empty, nothing else of
/// the record is evaluated.
pub(super) fn shapes(top: &Value, is_plain: bool, schema: &Schema) -> Vec<Shape> {
    let mut nodes = Vec::new();
    find_selects(top, &mut nodes);
    let mut shapes = Vec::new();
    for node in nodes {
        let is_top = std::ptr::eq(node, top);
        let sure = match is_plain && has_no_ctes(node) {
            true if is_top => Sure::All,
            true => read_by(top, node, schema),
            false => Sure::Nothing,
        };
        if let Some(sides) = sides_of_join(node) {
            let is_sure = is_top && matches!(sure, Sure::All) && evaluates_its_join(node);
            shapes.push(Shape { node: sides, sure: if is_sure { Sure::All } else { Sure::Nothing } });
        }
        shapes.push(Shape { node: node.clone(), sure });
    }
    shapes
}

/// Finds the `SELECT`s that read `events` themselves, exactly once.
fn find_selects<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(members) => {
            if value["type"] == "SELECT_NODE" && reads_events_once(&value["from_table"]) {
                found.push(value);
            }
            members.values().for_each(|member| find_selects(member, found));
        }
        Value::Array(elements) => elements.iter().for_each(|element| find_selects(element, found)),
        _ => {}
    }
}

fn reads_events_once(from: &Value) -> bool {
    fn count(table: &Value) -> usize {
        match table["type"].as_str() {
            Some("JOIN") => count(&table["left"]) + count(&table["right"]),
            Some("BASE_TABLE") => usize::from(rewrite::is_events(table)),
            _ => 0,
        }
    }
    count(from) == 1
}

fn has_no_ctes(node: &Value) -> bool {
    node["cte_map"]["map"].as_array().is_none_or(Vec::is_empty)
}

/// Returns what of a `SELECT` is evaluated for each of its records, where the top one reads it and nothing else.
fn read_by(top: &Value, node: &Value, schema: &Schema) -> Sure {
    let from = &top["from_table"];
    let read = match from["type"].as_str() {
        Some("SUBQUERY") if has_no_ctes(top) => Some(&from["subquery"]["node"]),
        Some("BASE_TABLE") => top["cte_map"]["map"].as_array().and_then(|ctes| match ctes.as_slice() {
            [cte] if cte["key"] == from["table_name"] && is_empty(&cte["value"]["aliases"]) => Some(&cte["value"]["query_node"]),
            _ => None,
        }),
        _ => None,
    };
    let filters = ["where_clause", "having", "qualify", "sample"].iter().any(|filter| !top[filter].is_null());
    let is_read = read.is_some_and(|read| std::ptr::eq(read, node)) && is_empty(&from["column_name_alias"]);
    if !is_read || filters || !is_empty(&top["group_expressions"]) {
        return Sure::Nothing;
    }
    let list = top["select_list"].as_array().map(Vec::as_slice).unwrap_or_default();
    if list.iter().any(is_whole_star) {
        return Sure::All;
    }
    let inner = node["select_list"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut names = Vec::new();
    list.iter().for_each(|item| needed(item, &mut names));
    // A name that stands for another column as well, or may by a star, is not known to be that of the expression.
    let is_of_events = |name: &str| schema.fields().iter().any(|field| field.name().eq_ignore_ascii_case(name));
    let may_stand = |item: &Value, name: &str| match item["class"] == "STAR" {
        true => !rewrite::is_events(&node["from_table"]) || !is_empty(&item["rename_list"]) || is_of_events(name),
        false => may_be_named(item, name),
    };
    names.retain(|name| inner.iter().filter(|item| may_stand(item, name)).count() == 1);
    Sure::Columns(names)
}

fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

fn may_be_named(item: &Value, name: &str) -> bool {
    let last = item["column_names"].as_array().and_then(|names| names.last());
    [Some(&item["alias"]), last].into_iter().flatten().filter_map(Value::as_str).any(|other| other.eq_ignore_ascii_case(name))
}

/// Returns whether an expression is a star for all columns.
fn is_whole_star(item: &Value) -> bool {
    let lists = ["exclude_list", "replace_list", "qualified_exclude_list"];
    item["class"] == "STAR" && item["columns"] == json!(false) && lists.iter().all(|list| is_empty(&item[list]))
}

/// Collects the columns without which an expression has no value, whatever the others are.
fn needed(item: &Value, names: &mut Vec<String>) {
    match (item["class"].as_str(), item["function_name"].as_str()) {
        (Some("COLUMN_REF"), _) => {
            if let Some([name]) = item["column_names"].as_array().map(Vec::as_slice) {
                names.extend(name.as_str().map(str::to_lowercase));
            }
        }
        (Some("CAST"), _) => needed(&item["child"], names),
        (Some("FUNCTION"), Some("+" | "-" | "*")) => {
            item["arguments"].as_array().into_iter().flatten().for_each(|argument| needed(&argument["expression"], names));
        }
        _ => {}
    }
}

/// Returns a `SELECT` of what the condition of a join compares; `None` if there is none. A side that is not of `events` alone does not bind.
fn sides_of_join(node: &Value) -> Option<Value> {
    let join = &node["from_table"];
    let events = [&join["left"], &join["right"]].into_iter().find(|side| rewrite::is_events(side))?;
    let mut sides = Vec::new();
    for comparison in rewrite::conditions(&join["condition"]) {
        if comparison["class"] == "COMPARISON" {
            sides.extend([comparison["left"].clone(), comparison["right"].clone()]);
        }
    }
    let of = |list: Vec<Value>| {
        let mut select = node.clone();
        select["from_table"] = events.clone();
        select["where_clause"] = Value::Null;
        select["select_list"] = list.into();
        select
    };
    (!sides.is_empty()).then(|| of(sides))
}

/// Returns whether the sides of a join's condition are evaluated for each record or for none, whatever the others hold.
fn evaluates_its_join(node: &Value) -> bool {
    let join = &node["from_table"];
    let is_kept = rewrite::is_events(&join["left"]) && matches!(join["join_type"].as_str(), Some("INNER" | "LEFT"));
    is_kept && join["ref_type"] == "REGULAR" && join["condition"]["class"] == "COMPARISON" && node["where_clause"].is_null()
}
