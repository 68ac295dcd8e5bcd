//! Probe: finds the records that the SQL is likely to fail on in one pass, where the shape of the SQL allows.
//!
//! Owns: the queries that do it, and which of their answers are certain.
//! Does not own: making an expression ready for them (see `rewrite`), what is done about a suspect (see `search`).
//!
//! An expression that fails ends its query, and with it the batch: to run the SQL again for each culprit is a hundred times slower than
//! the SQL itself. So the expressions of the `SELECT` that reads `events` are put into forms that do not fail, and asked which of the
//! records they fail on. Two queries do that. The first looks at all records, in forms that DuckDB computes a vector at a time
//! (`TRY_CAST`), and may name a record too many. The second looks at those with `TRY`, which evaluates the expression as it was written
//! and record by record, and names only records that it fails on.
//!
//! A named record is a culprit for certain only if the whole SQL is that one `SELECT`: where another stands around it, or a list is
//! unnested, DuckDB may never evaluate the expression for it. What the probe misses (expressions that `TRY` does not take, further `SELECT`s, errors of other kinds) is left to
//! the search.

mod rewrite;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int16Type, Int64Type, Schema, SchemaRef};
use serde_json::Value;

use super::gather::Columns;
use super::scan::Pace;
use super::session::Session;
use super::statement::Select;
use rewrite::Rewriter;

/// The view that a probe reads: `events` and the number of each record.
const NUMBERED: &str = "pintail_numbered";
/// The column of the numbers.
const ROW: &str = "pintail_row";
/// Expressions of one `SELECT` that are looked at.
const CHECKS_MAX: usize = 1_000;
/// Bytes that the answers of a query may take: ten for each record.
const ANSWER_BYTES_MAX: usize = 1 << 30;

/// A record that the SQL is likely to fail on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspect {
    /// Its row in the batch.
    pub row: usize,
    /// The expression that fails on it. Suspects of one expression have the same cause.
    pub check: Check,
    /// Whether the SQL is sure to fail on it.
    pub is_certain: bool,
}

/// An expression: which `SELECT` of the SQL, and which of its expressions.
pub type Check = (usize, i16);

/// The queries of one SQL.
#[derive(Debug)]
pub struct Probe {
    /// The columns of `events` and the number.
    schema: SchemaRef,
    answer: SchemaRef,
    selects: Vec<Queries>,
}

/// The queries for one `SELECT`.
#[derive(Debug)]
struct Queries {
    /// Names the records that may be culprits, of all.
    narrow: String,
    /// Names the culprits, of those.
    confirm: String,
    /// The first expression that is no condition of the `WHERE`, if what the queries name is certain.
    certain_from: Option<i16>,
}

impl Probe {
    /// Makes the queries; `None` if the shape of the SQL allows none.
    pub fn new(session: &Session, select: &Select) -> Option<Self> {
        let mut fields = session.schema().fields().to_vec();
        fields.push(Arc::new(Field::new(ROW, DataType::Int64, false)));
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let is_taken = session.schema().fields().iter().any(|field| field.name().eq_ignore_ascii_case(ROW));
        // Beyond the parser's depth there is no probe: whatever fails is found without it.
        let tree: Value = serde_json::from_str(select.tree()).ok().filter(|_| !is_taken)?;
        session.make_view(NUMBERED, &schema).ok()?;
        let rewriter = Rewriter::new(session)?;
        let top = &tree["statements"][0]["node"];
        let mut nodes = Vec::new();
        find_selects(top, &mut nodes);
        // Where a list is unnested that is empty, nothing else of the record is evaluated.
        let is_plain = select.references("events") == 1 && !select.calls("unnest");
        let is_whole = |node: &Value| is_plain && std::ptr::eq(node, top) && has_no_ctes(node);
        let queries = nodes.iter().filter_map(|node| Queries::new(session, &rewriter, &schema, node, is_whole(node)));
        let selects: Vec<Queries> = queries.collect();
        let answer = Schema::new(vec![Field::new("r", DataType::Int64, true), Field::new("c", DataType::Int16, true)]);
        (!selects.is_empty()).then(|| Self { schema, answer: Arc::new(answer), selects })
    }

    /// Names the suspects of a batch, each once, in their order. Those that it cannot find it leaves out.
    pub fn suspects(&self, session: &mut Session, batch: &RecordBatch) -> Vec<Suspect> {
        let Some(numbered) = self.numbered(batch) else { return Vec::new() };
        let mut found = BTreeMap::new();
        for (index, queries) in self.selects.iter().enumerate() {
            let rows = UInt32Array::from_iter_values(self.ask(session, &queries.narrow, &numbered).into_keys().map(|row| row as u32));
            let Some(few) = take_record_batch(&numbered, &rows).ok().filter(|few| few.num_rows() > 0) else { continue };
            for (row, check) in self.ask(session, &queries.confirm, &few) {
                let is_certain = queries.certain_from.is_some_and(|from| check >= from);
                found.entry(row).or_insert(Suspect { row, check: (index, check), is_certain });
            }
        }
        found.into_values().collect()
    }

    fn numbered(&self, batch: &RecordBatch) -> Option<RecordBatch> {
        let rows: ArrayRef = Arc::new(Int64Array::from_iter_values(0..i64::try_from(batch.num_rows()).ok()?));
        let columns = batch.columns().iter().cloned().chain([rows]).collect();
        RecordBatch::try_new(self.schema.clone(), columns).ok()
    }

    /// Runs a query; returns the records that it names, with the expression. A query that fails names none.
    fn ask(&self, session: &mut Session, query: &str, records: &RecordBatch) -> BTreeMap<usize, i16> {
        let columns = Columns::new(&self.answer, records.num_rows(), ANSWER_BYTES_MAX);
        let (columns, ran) = session.gather(query, (&self.schema, records), Pace::default(), columns);
        let Some(answers) = ran.ok().and_then(|()| columns.finish().ok()) else { return BTreeMap::new() };
        let (rows, checks) = (answers.column(0).as_primitive::<Int64Type>(), answers.column(1).as_primitive::<Int16Type>());
        let named = rows.values().iter().zip(checks.iter());
        named.filter_map(|(row, check)| Some((usize::try_from(*row).ok()?, check?))).collect()
    }
}

impl Queries {
    fn new(session: &Session, rewriter: &Rewriter<'_>, schema: &SchemaRef, node: &Value, is_whole: bool) -> Option<Self> {
        let from = rewriter.from(&node["from_table"], NUMBERED)?;
        let takes = |check: &str| session.can_prepare(&format!("SELECT {check} {from}"), schema);
        let (mut narrow, mut confirm) = (String::new(), String::new());
        let (mut number, mut where_is_known) = (0, true);
        let conditions = conditions(&node["where_clause"]);
        for condition in &conditions {
            number += 1;
            let Some(forms) =
                rewriter.forms(condition).filter(|forms| takes(&forms.narrow) && takes(&forms.confirm) && takes(&forms.loose))
            else {
                where_is_known = false;
                continue;
            };
            narrow += &format!(" WHEN {} THEN {number} WHEN NOT coalesce(({})::BOOLEAN, false) THEN NULL", forms.narrow, forms.loose);
            confirm += &format!(" WHEN {} THEN {number} WHEN NOT coalesce(({})::BOOLEAN, false) THEN NULL", forms.confirm, forms.plain);
        }
        let first = number + 1;
        let before = number;
        for item in items(&node["select_list"]).take(CHECKS_MAX) {
            number += 1;
            // A star within an expression makes several of it.
            let forms = rewriter.forms(item).filter(|forms| forms.can_fail && !rewrite::mentions(item, "STAR"));
            let Some(forms) = forms.filter(|forms| takes(&forms.narrow) && takes(&forms.confirm)) else { continue };
            narrow += &format!(" WHEN {} THEN {number}", forms.narrow);
            confirm += &format!(" WHEN {} THEN {number}", forms.confirm);
        }
        if narrow.is_empty() || (number == before && conditions.is_empty()) {
            return None;
        }
        let query = |checks: &str| {
            let inner = format!("(SELECT {ROW} AS r, (CASE{checks} ELSE NULL END)::SMALLINT AS c {from})");
            session.gather_from(&["r".to_owned(), "c".to_owned()], &inner)
        };
        // DuckDB may evaluate the conditions of a WHERE in any order, and then one never, so what fails in one of several is not certain;
        // a record that passes them all does come to the other expressions.
        let lone = conditions.len() == 1 && !rewrite::mentions(conditions[0], "CONJUNCTION");
        let certain_from = (is_whole && where_is_known).then_some(if lone { 1 } else { first });
        let (narrow, confirm) = (query(&narrow), query(&confirm));
        let can_ask = session.can_prepare(&narrow, schema) && session.can_prepare(&confirm, schema);
        can_ask.then_some(Self { narrow, confirm, certain_from })
    }
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

/// Returns the conditions of a `WHERE`, all of which must hold.
fn conditions(clause: &Value) -> Vec<&Value> {
    match clause {
        Value::Null => Vec::new(),
        _ if clause["type"] == "CONJUNCTION_AND" => {
            clause["children"].as_array().map(|children| children.iter().collect()).unwrap_or_default()
        }
        _ => vec![clause],
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

#[cfg(test)]
mod tests;
