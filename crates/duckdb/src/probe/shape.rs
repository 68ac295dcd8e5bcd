//! Shapes: the `SELECT`s of a SQL that read `events`, where it cannot be written as one.
//!
//! Owns: finding them in DuckDB's syntax tree.
//! Does not own: the queries that are made of them (see `probe`), writing a SQL as one `SELECT` (see `flat`).

use serde_json::Value;

use super::flat::Stage;
use super::tree;

/// Finds the `SELECT`s that read `events` themselves, exactly once. What is computed of them for which record is not known.
pub(super) fn selects(top: &Value) -> Vec<Stage> {
    let mut found = Vec::new();
    find(top, &mut found);
    found.into_iter().map(stage).collect()
}

fn find<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(members) => {
            if value["type"] == "SELECT_NODE" && reads_events_once(&value["from_table"]) {
                found.push(value);
            }
            members.values().for_each(|member| find(member, found));
        }
        Value::Array(elements) => elements.iter().for_each(|element| find(element, found)),
        _ => {}
    }
}

fn reads_events_once(from: &Value) -> bool {
    fn count(table: &Value) -> usize {
        match table["type"].as_str() {
            Some("JOIN") => count(&table["left"]) + count(&table["right"]),
            Some("BASE_TABLE") => usize::from(tree::is_events(table)),
            _ => 0,
        }
    }
    count(from) == 1
}

fn stage(node: &Value) -> Stage {
    let conditions: Vec<Value> = tree::conditions(&node["where_clause"]).into_iter().cloned().collect();
    Stage {
        from: node["from_table"].clone(),
        own: conditions.len(),
        conditions,
        items: items(&node["select_list"]).cloned().collect(),
        is_known: false,
    }
}

/// Returns the expressions of a select list: of a star, those that replace a column.
fn items(list: &Value) -> impl Iterator<Item = &Value> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().flat_map(|item| match item["class"].as_str() {
        Some("STAR") => {
            let replaced = item["replace_list"].as_array().map(Vec::as_slice).unwrap_or_default();
            replaced.iter().map(|replaced| &replaced["value"]).collect::<Vec<_>>()
        }
        _ => vec![item],
    })
}
