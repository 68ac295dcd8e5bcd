//! The condition: which files a statement may need, as far as its text proves it.
//!
//! Owns: turning the `WHERE` of each reference to `events` into a condition over directories and bounds of times.
//! Does not own: evaluating it (see [`super::overview`]), what a statement means (DuckDB says).
//!
//! A condition is true of every file that holds a row for which the `WHERE` is true; it may be true of others. So what is not understood is
//! true. Only `AND` and `OR` are looked into: below them, a row passes only where the whole is true, never where a part is NULL.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// The name of the table whose files are asked for.
const EVENTS: &str = "events";

/// Functions of the time at which a query runs. That of this condition is a little earlier than that of the query.
pub(super) const NOW: [&str; 6] = ["now", "get_current_timestamp", "current_timestamp", "transaction_timestamp", "today", "current_date"];
/// Functions that return a time, and no text, whatever they are given.
const TIMES: [&str; 6] = ["make_timestamp", "make_timestamptz", "make_date", "to_timestamp", "epoch_ms", "date_trunc"];

/// What a file has that a condition can be about.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The names of the partition columns.
    pub partitions: Vec<String>,
    /// The names of the columns of times.
    pub times: Vec<String>,
}

/// A condition over files.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    /// True of each file.
    Any,
    /// An expression over partition columns alone.
    Partition(Value),
    /// A column of times, maybe inside an expression that grows with it, against a value.
    Time {
        /// The place among [`Known::times`].
        column: usize,
        /// The expression, with the column.
        of: Value,
        /// How they are compared: the column's side first.
        compared: Compared,
        /// The value.
        with: Value,
    },
    /// All of them.
    All(Vec<Self>),
    /// One of them.
    Either(Vec<Self>),
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
    /// `>`
    Greater,
}

impl Compared {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "COMPARE_LESSTHAN" => Self::Less,
            "COMPARE_LESSTHANOREQUALTO" => Self::AtMost,
            "COMPARE_EQUAL" => Self::Equal,
            "COMPARE_GREATERTHANOREQUALTO" => Self::AtLeast,
            "COMPARE_GREATERTHAN" => Self::Greater,
            _ => return None,
        })
    }

    /// Returns that of the sides exchanged.
    fn turned(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::AtMost => Self::AtLeast,
            Self::Equal => Self::Equal,
            Self::AtLeast => Self::AtMost,
            Self::Greater => Self::Less,
        }
    }
}

/// Returns the condition of a statement's tree, with the functions that it calls; [`Condition::Any`] if nothing can be said.
pub(super) fn of(tree: &str, known: &Known) -> (Condition, BTreeSet<String>) {
    // A statement deeper than the parser goes is run over all files.
    let Ok(tree) = serde_json::from_str::<Value>(tree) else { return (Condition::Any, BTreeSet::new()) };
    let mut references = References { known, conditions: Vec::new(), functions: BTreeSet::new(), unclear: false };
    references.visit(&tree);
    let condition = if references.unclear || references.conditions.is_empty() { Condition::Any } else { either(references.conditions) };
    (condition, references.functions)
}

struct References<'a> {
    known: &'a Known,
    /// Of each reference to `events` that stands alone in a `FROM`.
    conditions: Vec<Condition>,
    functions: BTreeSet<String>,
    /// Whether `events` is read where no `WHERE` narrows it.
    unclear: bool,
}

impl References<'_> {
    fn visit(&mut self, node: &Value) {
        match node {
            Value::Array(nodes) => nodes.iter().for_each(|node| self.visit(node)),
            Value::Object(node) => self.visit_object(node),
            _ => {}
        }
    }

    fn visit_object(&mut self, node: &Map<String, Value>) {
        // Those that a `WHERE` narrows are not visited.
        if is_reference(node) {
            self.unclear = true;
        }
        // A common table expression of that name is what a reference may mean.
        if node.get("key").is_some_and(is_events) {
            self.unclear = true;
        }
        // These read a table by a name in a text.
        if matches!(text(node, "function_name"), "query" | "query_table") {
            self.unclear = true;
        }
        let from = node.get("from_table").and_then(Value::as_object).filter(|from| is_reference(from));
        let narrowed = match from {
            Some(from) if text(node, "type") == "SELECT_NODE" && is_plain(from) && node.get("sample").is_none_or(Value::is_null) => {
                let condition = node.get("where_clause").map_or(Condition::Any, |condition| self.condition(condition, alias(from)));
                self.conditions.push(condition);
                true
            }
            _ => false,
        };
        for (name, child) in node {
            if name == "from_table" && narrowed {
                continue;
            }
            self.visit(child);
        }
    }

    fn condition(&mut self, node: &Value, alias: &str) -> Condition {
        let Some(object) = node.as_object() else { return Condition::Any };
        let mut children = || {
            let children = object.get("children").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            children.iter().map(|child| self.condition(child, alias)).collect::<Vec<_>>()
        };
        match text(object, "type") {
            "CONJUNCTION_AND" => all(children()),
            "CONJUNCTION_OR" => either(children()),
            _ => self.leaf(object, node, alias),
        }
    }

    fn leaf(&mut self, object: &Map<String, Value>, node: &Value, alias: &str) -> Condition {
        let mut functions = BTreeSet::new();
        let mut plain = node.clone();
        if is_over(&mut plain, &self.known.partitions, alias, &mut functions) == Some(Over::Columns) && !functions.iter().any(|f| is_now(f))
        {
            self.functions.extend(functions);
            return Condition::Partition(plain);
        }
        match text(object, "type") {
            "COMPARE_BETWEEN" => {
                let [input, lower, upper] = ["input", "lower", "upper"].map(|side| object.get(side).unwrap_or(&Value::Null));
                all(vec![self.time(input, Compared::AtLeast, lower, alias), self.time(input, Compared::AtMost, upper, alias)])
            }
            kind => {
                let Some(compared) = Compared::parse(kind) else { return Condition::Any };
                let [left, right] = ["left", "right"].map(|side| object.get(side).unwrap_or(&Value::Null));
                match self.time(left, compared, right, alias) {
                    Condition::Any => self.time(right, compared.turned(), left, alias),
                    found => found,
                }
            }
        }
    }

    fn time(&mut self, of: &Value, compared: Compared, with: &Value, alias: &str) -> Condition {
        let (mut of, mut with, mut functions) = (of.clone(), with.clone(), BTreeSet::new());
        let grows_from_above = matches!(compared, Compared::AtLeast | Compared::Greater);
        let Some(column) = growing(&of).and_then(|column| position(&self.known.times, column, alias)) else { return Condition::Any };
        let fits = is_over(&mut with, &[], alias, &mut functions) == Some(Over::Nothing)
            && (is_text(&with) || is_time(&with))
            && (!functions.iter().any(|function| is_now(function)) || (grows_from_above && is_rising(&with)))
            && is_over(&mut of, &self.known.times, alias, &mut functions) == Some(Over::Columns);
        if !fits {
            return Condition::Any;
        }
        self.functions.extend(functions);
        Condition::Time { column, of, compared, with }
    }
}

fn all(conditions: Vec<Condition>) -> Condition {
    let told: Vec<_> = conditions.into_iter().filter(|condition| *condition != Condition::Any).collect();
    if told.is_empty() { Condition::Any } else { Condition::All(told) }
}

fn either(conditions: Vec<Condition>) -> Condition {
    if conditions.contains(&Condition::Any) { Condition::Any } else { Condition::Either(conditions) }
}

fn text<'a>(node: &'a Map<String, Value>, name: &str) -> &'a str {
    node.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn is_events(name: &Value) -> bool {
    name.as_str().is_some_and(|name| name.eq_ignore_ascii_case(EVENTS))
}

fn is_reference(node: &Map<String, Value>) -> bool {
    node.get("table_name").is_some_and(is_events)
}

/// Returns whether all rows of the table are meant, with its columns under their own names.
fn is_plain(from: &Map<String, Value>) -> bool {
    let is_empty = |name: &str| from.get(name).and_then(Value::as_array).is_none_or(Vec::is_empty);
    let is_null = |name: &str| from.get(name).is_none_or(Value::is_null);
    text(from, "type") == "BASE_TABLE" && is_empty("column_name_alias") && is_null("sample") && is_null("at_clause")
}

fn alias(from: &Map<String, Value>) -> &str {
    match text(from, "alias") {
        "" => EVENTS,
        alias => alias,
    }
}

/// What the columns of an expression are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Nothing,
    Columns,
}

/// Returns whether an expression is over `columns` alone, or over none; `None` if it has anything else, such as a subquery. Takes the name of the
/// table off each column, notes the functions.
fn is_over(node: &mut Value, columns: &[String], alias: &str, functions: &mut BTreeSet<String>) -> Option<Over> {
    let node = node.as_object_mut()?;
    match text(node, "class") {
        "COLUMN_REF" => {
            let name = columns[position_of(columns, node, alias)?].clone();
            node.insert("column_names".into(), Value::Array(vec![name.into()]));
            return Some(Over::Columns);
        }
        "CONSTANT" => return Some(Over::Nothing),
        "FUNCTION" => {
            // A name in a schema may be another function than the one that is looked up.
            if !text(node, "schema").is_empty() || !text(node, "catalog").is_empty() {
                return None;
            }
            functions.insert(text(node, "function_name").to_lowercase());
        }
        "COMPARISON" | "CONJUNCTION" | "BETWEEN" | "OPERATOR" | "CAST" | "CASE" | "COLLATE" => {}
        _ => return None,
    }
    let mut over = Over::Nothing;
    for (name, child) in node.iter_mut() {
        // A type, or the order inside an aggregate, which has none.
        if name == "type_expr" || name == "order_bys" || name == "qualified_name" {
            continue;
        }
        for_each_expression(child, &mut |child| {
            if is_over(child, columns, alias, functions)? == Over::Columns {
                over = Over::Columns;
            }
            Some(())
        })?;
    }
    Some(over)
}

/// Visits the expressions right below a node: those are objects with a class.
fn for_each_expression(node: &mut Value, visit: &mut dyn FnMut(&mut Value) -> Option<()>) -> Option<()> {
    match node {
        Value::Array(nodes) => nodes.iter_mut().try_for_each(|node| for_each_expression(node, visit)),
        Value::Object(object) if object.contains_key("class") => visit(node),
        Value::Object(object) => object.values_mut().try_for_each(|node| for_each_expression(node, visit)),
        _ => Some(()),
    }
}

fn position(columns: &[String], node: &Value, alias: &str) -> Option<usize> {
    position_of(columns, node.as_object()?, alias)
}

/// Returns the place among `columns` of the one that is named: alone, or after the table.
fn position_of(columns: &[String], node: &Map<String, Value>, alias: &str) -> Option<usize> {
    let names: Vec<&str> = node.get("column_names")?.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
    let name = match names.as_slice() {
        [name] => name,
        [table, name] if table.eq_ignore_ascii_case(alias) => name,
        _ => return None,
    };
    columns.iter().position(|column| column.eq_ignore_ascii_case(name))
}

/// Returns the column inside an expression that grows with it: itself, its date, or it cut to a unit.
fn growing(node: &Value) -> Option<&Value> {
    let object = node.as_object()?;
    match text(object, "class") {
        "COLUMN_REF" => Some(node),
        "CAST" if is_cast_to(object, &["date", "timestamp"]) => growing(object.get("child")?),
        "FUNCTION" if text(object, "function_name").eq_ignore_ascii_case("date_trunc") => match arguments(object).as_slice() {
            [unit, of] if is_text(unit) => growing(of),
            _ => None,
        },
        _ => None,
    }
}

fn arguments(function: &Map<String, Value>) -> Vec<&Value> {
    let arguments = function.get("arguments").or_else(|| function.get("children")).and_then(Value::as_array);
    arguments.into_iter().flatten().map(|argument| argument.get("expression").unwrap_or(argument)).collect()
}

fn is_cast_to(cast: &Map<String, Value>, types: &[&str]) -> bool {
    let name = cast.get("type_expr").and_then(|of| of.get("type_name")).and_then(Value::as_str);
    name.is_some_and(|name| types.iter().any(|of| name.eq_ignore_ascii_case(of)))
}

fn is_text(node: &Value) -> bool {
    let literal = |node: &Value| node.get("literal").and_then(|literal| literal.get("kind")) == Some(&Value::from("STRING"));
    node.get("class") == Some(&Value::from("CONSTANT")) && literal(node)
}

fn is_now(function: &str) -> bool {
    NOW.iter().any(|now| function.eq_ignore_ascii_case(now))
}

/// Returns whether an expression is a time to DuckDB, and not a text that is compared as one.
fn is_time(node: &Value) -> bool {
    let Some(object) = node.as_object() else { return false };
    let function = text(object, "function_name");
    match text(object, "class") {
        "CAST" => is_cast_to(object, &["date", "timestamp", "timestamp with time zone", "timestamptz"]),
        "FUNCTION" if is_now(function) => true,
        "FUNCTION" if TIMES.iter().any(|time| function.eq_ignore_ascii_case(time)) => true,
        "FUNCTION" if matches!(function, "+" | "-") => arguments(object).first().is_some_and(|first| is_time(first)),
        _ => false,
    }
}

/// Returns whether an expression that holds the time of the query grows with it.
fn is_rising(node: &Value) -> bool {
    let Some(object) = node.as_object() else { return false };
    let function = text(object, "function_name");
    let arguments = arguments(object);
    match text(object, "class") {
        "CAST" => is_cast_to(object, &["date", "timestamp"]) && object.get("child").is_some_and(is_rising),
        "FUNCTION" if is_now(function) => arguments.is_empty(),
        "FUNCTION" if matches!(function, "+" | "-") => {
            matches!(arguments.as_slice(), [first, second] if is_rising(first) && !has_now(second))
        }
        "FUNCTION" if function.eq_ignore_ascii_case("date_trunc") => {
            matches!(arguments.as_slice(), [unit, of] if is_text(unit) && is_rising(of))
        }
        _ => false,
    }
}

fn has_now(node: &Value) -> bool {
    match node {
        Value::Array(nodes) => nodes.iter().any(has_now),
        Value::Object(object) => is_now(text(object, "function_name")) || object.values().any(has_now),
        _ => false,
    }
}
