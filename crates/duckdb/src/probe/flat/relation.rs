//! Relation: the columns that a `FROM` or a `SELECT` gives, each as an expression over those of `events`.
//!
//! Owns: what a name or a star stands for among them.
//! Does not own: which relations a SQL has (see [`super`]).

use serde_json::{Value, json};

use crate::probe::tree::{is_empty, lower};

/// What a `FROM` or a `SELECT` gives.
pub(super) struct Relation {
    pub(super) from: Value,
    /// The name that the columns of `events` have in `from`; `None` if it does not read `events`.
    pub(super) events: Option<String>,
    /// Whether `from` has nothing but columns of `events` and of lists.
    pub(super) is_alone: bool,
    /// Whether its columns are those of tables, under their names.
    pub(super) is_raw: bool,
    pub(super) conditions: Vec<Value>,
    pub(super) columns: Vec<Column>,
}

#[derive(Clone)]
pub(super) struct Column {
    /// The table's name, lower case.
    pub(super) table: String,
    /// Its own, lower case; empty if it cannot be named.
    pub(super) name: String,
    pub(super) expression: Value,
}

/// Names that stand for something besides the columns of a `FROM`.
#[derive(Default)]
pub(super) struct Names {
    /// Of the select list.
    pub(super) aliases: Vec<(String, Value)>,
    /// Parameters of lambdas.
    parameters: Vec<String>,
}

/// Writes an expression over the columns of a relation by what those are; `None` if it holds a name that is none of them.
pub(super) fn resolve(expression: &Value, relation: &Relation, names: &mut Names) -> Option<Value> {
    match expression {
        Value::Object(members) => match expression["class"].as_str() {
            Some("COLUMN_REF") => {
                let mut resolved = named(expression, relation, names)?;
                if resolved["class"] == "COLUMN_REF" || expression["alias"] != "" {
                    resolved["alias"] = expression["alias"].clone();
                }
                Some(resolved)
            }
            // Its own tables have columns, too: what it names outside must have the same name here.
            Some("SUBQUERY") => relation.is_raw.then(|| expression.clone()),
            Some("STAR" | "WINDOW") => None,
            Some("LAMBDA") => {
                let known = names.parameters.len();
                collect_names(&expression["lhs"], &mut names.parameters);
                let body = resolve(&expression["expr"], relation, names);
                names.parameters.truncate(known);
                let mut lambda = expression.clone();
                lambda["expr"] = body?;
                Some(lambda)
            }
            Some("TYPE") => Some(expression.clone()),
            _ => {
                let resolved = members.iter().map(|(key, member)| Some((key.clone(), resolve(member, relation, names)?)));
                resolved.collect::<Option<serde_json::Map<_, _>>>().map(Value::Object)
            }
        },
        Value::Array(elements) => {
            elements.iter().map(|element| resolve(element, relation, names)).collect::<Option<Vec<_>>>().map(Value::Array)
        }
        other => Some(other.clone()),
    }
}

/// Returns what a name stands for.
fn named(reference: &Value, relation: &Relation, names: &Names) -> Option<Value> {
    let path: Vec<&str> = reference["column_names"].as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
    let [first, second] = [path.first().map(|name| name.to_lowercase())?, path.get(1).map(|name| name.to_lowercase()).unwrap_or_default()];
    if names.parameters.contains(&first) {
        return Some(reference.clone());
    }
    let of_table = relation.columns.iter().find(|column| path.len() > 1 && column.table == first && column.name == second);
    let of_column = || relation.columns.iter().find(|column| column.name == first);
    let of_alias = || names.aliases.iter().find(|(alias, _)| *alias == first).map(|(_, expression)| expression);
    let (expression, fields) = match of_table {
        Some(column) => (&column.expression, &path[2..]),
        None => (of_column().map(|column| &column.expression).or_else(of_alias)?, &path[1..]),
    };
    let plain = |expression: &Value| {
        let mut expression = expression.clone();
        expression["alias"] = json!("");
        expression
    };
    Some(fields.iter().fold(plain(expression), |of, field| {
        let field = json!({ "class": "CONSTANT", "type": "VALUE_CONSTANT", "alias": "", "literal": { "kind": "STRING", "text": field } });
        json!({
            "class": "FUNCTION", "type": "FUNCTION", "alias": "", "function_name": "struct_extract", "schema": "", "catalog": "", "filter": null,
            "order_bys": { "type": "ORDER_MODIFIER", "orders": [] }, "distinct": false, "is_operator": false, "export_state": false,
            "arguments": [{ "name": "", "expression": of }, { "name": "", "expression": field }],
            "qualified_name": { "path": ["struct_extract"] }, "is_legacy_function_call": false,
        })
    }))
}

/// Adds the columns that a star stands for.
pub(super) fn star(item: &Value, relation: &Relation, names: &mut Names, columns: &mut Vec<Column>) -> Option<()> {
    let is_plain = item["columns"] == json!(false) && item["expr"].is_null();
    if !is_plain || !is_empty(&item["qualified_exclude_list"]) || !is_empty(&item["rename_list"]) {
        return None;
    }
    let of = lower(&item["relation_name"]).unwrap_or_default();
    let excluded: Vec<String> = item["exclude_list"].as_array().into_iter().flatten().filter_map(lower).collect();
    let replaced = item["replace_list"].as_array().map(Vec::as_slice).unwrap_or_default();
    for column in &relation.columns {
        if (!of.is_empty() && column.table != of) || excluded.contains(&column.name) {
            continue;
        }
        let replacement = replaced.iter().find(|replaced| lower(&replaced["key"]).as_ref() == Some(&column.name));
        let expression = match replacement {
            Some(replacement) => resolve(&replacement["value"], relation, names)?,
            None => column.expression.clone(),
        };
        columns.push(Column { table: String::new(), name: column.name.clone(), expression });
    }
    Some(())
}

/// Gives the first columns of a relation other names.
pub(super) fn renamed(mut relation: Relation, names: &Value) -> Option<Relation> {
    for (column, name) in relation.columns.iter_mut().zip(names.as_array().map(Vec::as_slice).unwrap_or_default()) {
        column.name = lower(name)?;
    }
    Some(relation)
}

fn collect_names(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(_) if value["class"] == "COLUMN_REF" => names.extend(lower(&value["column_names"][0])),
        Value::Object(members) => members.values().for_each(|member| collect_names(member, names)),
        Value::Array(elements) => elements.iter().for_each(|element| collect_names(element, names)),
        _ => {}
    }
}
