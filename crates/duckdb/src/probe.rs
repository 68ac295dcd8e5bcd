//! Probe: finds the records that the SQL is likely to fail on in one pass, where the shape of the SQL allows.
//!
//! Owns: the queries that do it, and which of their answers are certain.
//! Does not own: making an expression ready for them (see `rewrite`), which `SELECT`s are looked at (see `shape`), what is done about a suspect (see `search`).
//!
//! An expression that fails ends its query, and with it the batch: to run the SQL again for each culprit is a hundred times slower than
//! the SQL itself. So the expressions of the `SELECT` that reads `events` are put into forms that do not fail, and asked which of the
//! records they fail on. The first query looks at all records, in forms that DuckDB computes a vector at a time (`TRY_CAST`), and may name
//! a record too many. Others look at those with `TRY`, which evaluates an expression as it was written and record by record: one query
//! for all expressions, then for halves of them until it is known which one fails on which record.
//!
//! The forms stand in a `WHERE`: in a select list, DuckDB computes what stands there twice once and *before* it, which takes it out of
//! its `TRY`.
//!
//! A named record is a culprit for certain only if DuckDB cannot but evaluate the expression for it (see `shape`). What the probe misses (expressions that `TRY` does not take, further
//! `SELECT`s, errors of other kinds) is left to the search.

mod arithmetic;
mod rewrite;
mod shape;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use serde_json::Value;

use super::gather::Columns;
use super::scan::Pace;
use super::session::Session;
use super::statement::Select;
use rewrite::Rewriter;
use shape::Shape;

/// The view that a probe reads: `events` and the number of each record.
const NUMBERED: &str = "pintail_numbered";
/// The column of the numbers.
const ROW: &str = "pintail_row";
/// Expressions of one `SELECT` that are looked at.
const CHECKS_MAX: usize = 1_000;
/// Bytes that the answers of a query may take: eight for each record.
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
pub type Check = (usize, usize);

/// The queries of one SQL.
#[derive(Debug)]
pub(crate) struct Probe {
    /// The columns of `events` and the number.
    schema: SchemaRef,
    answer: SchemaRef,
    selects: Vec<Queries>,
}

/// The queries for one `SELECT`.
#[derive(Debug)]
struct Queries {
    /// Reads the numbered records.
    from: String,
    /// Holds for records that may be culprits.
    narrow: String,
    /// The expressions that may fail, in order: conditions of the `WHERE` first.
    checks: Vec<Form>,
    /// How many of them are conditions.
    conditions: usize,
    /// What a record must pass to come to the other expressions, as the beginning of a `CASE`.
    guard: String,
}

/// An expression that may fail.
#[derive(Debug)]
struct Form {
    /// Holds for the records that it fails on.
    fails: String,
    /// Whether it is sure to be evaluated for those that are named.
    is_certain: bool,
}

impl Probe {
    /// Makes the queries; `None` if the shape of the SQL allows none.
    pub(crate) fn new(session: &Session, select: &Select) -> Option<Self> {
        let mut fields = session.schema().fields().to_vec();
        fields.push(Arc::new(Field::new(ROW, DataType::Int64, false)));
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let is_taken = session.schema().fields().iter().any(|field| field.name().eq_ignore_ascii_case(ROW));
        // Beyond the parser's depth there is no probe: whatever fails is found without it.
        let tree: Value = serde_json::from_str(select.tree()).ok().filter(|_| !is_taken)?;
        session.make_view(NUMBERED, &schema).ok()?;
        let rewriter = Rewriter::new(session)?;
        let top = &tree["statements"][0]["node"];
        let shapes = shape::shapes(top, select.references("events") == 1 && !select.calls("unnest"), session.schema());
        let selects: Vec<Queries> = shapes.iter().filter_map(|shape| Queries::new(session, &rewriter, &schema, shape)).collect();
        let answer = Schema::new(vec![Field::new("r", DataType::Int64, true)]);
        (!selects.is_empty()).then(|| Self { schema, answer: Arc::new(answer), selects })
    }

    /// Names the suspects of a batch, each once, in their order. Those that it cannot find it leaves out.
    pub(crate) fn suspects(&self, session: &mut Session, batch: &RecordBatch) -> Vec<Suspect> {
        let Some(numbered) = self.numbered(batch) else { return Vec::new() };
        let mut found = BTreeMap::new();
        for (index, queries) in self.selects.iter().enumerate() {
            let Some(few) = pick(&numbered, &self.ask(session, &queries.query(session, &queries.narrow), &numbered)) else { continue };
            let mut named = BTreeMap::new();
            self.name(session, queries, 0..queries.checks.len(), &few, &mut named);
            for (row, check) in named {
                let is_certain = queries.checks[check].is_certain;
                found.entry(row).or_insert(Suspect { row, check: (index, check), is_certain });
            }
        }
        found.into_values().collect()
    }

    /// Names the records that expressions of a range fail on, with the first that does.
    fn name(
        &self,
        session: &mut Session,
        queries: &Queries,
        range: Range<usize>,
        records: &RecordBatch,
        named: &mut BTreeMap<usize, usize>,
    ) {
        let failing = self.ask(session, &queries.query(session, &queries.fails(range.clone())), records);
        if failing.is_empty() {
            return;
        }
        if range.len() == 1 {
            named.extend(failing.into_iter().map(|row| (row, range.start)));
            return;
        }
        let middle = range.start + range.len() / 2;
        if let Some(records) = pick(records, &failing) {
            self.name(session, queries, range.start..middle, &records, named);
        }
        let rest = failing.into_iter().filter(|row| !named.contains_key(row)).collect();
        if let Some(records) = pick(records, &rest) {
            self.name(session, queries, middle..range.end, &records, named);
        }
    }

    fn numbered(&self, batch: &RecordBatch) -> Option<RecordBatch> {
        let rows: ArrayRef = Arc::new(Int64Array::from_iter_values(0..i64::try_from(batch.num_rows()).ok()?));
        let columns = batch.columns().iter().cloned().chain([rows]).collect();
        RecordBatch::try_new(self.schema.clone(), columns).ok()
    }

    /// Runs a query; returns the records that it names. A query that fails names none.
    fn ask(&self, session: &mut Session, query: &str, records: &RecordBatch) -> BTreeSet<usize> {
        let columns = Columns::new(&self.answer, records.num_rows(), ANSWER_BYTES_MAX);
        let (columns, ran) = session.gather(query, (&self.schema, records), Pace::default(), columns);
        let Some(answers) = ran.ok().and_then(|()| columns.finish().ok()) else { return BTreeSet::new() };
        let rows = answers.column(0).as_primitive::<Int64Type>();
        rows.values().iter().filter_map(|row| usize::try_from(*row).ok()).collect()
    }
}

/// Returns the records of these numbers out of some that have theirs in the last column; `None` if there are none.
fn pick(records: &RecordBatch, numbers: &BTreeSet<usize>) -> Option<RecordBatch> {
    let column = records.column(records.num_columns() - 1).as_primitive::<Int64Type>();
    let is_picked = |number: &i64| usize::try_from(*number).is_ok_and(|number| numbers.contains(&number));
    let picked = BooleanArray::from_iter(column.values().iter().map(|number| Some(is_picked(number))));
    filter_record_batch(records, &picked).ok().filter(|picked| picked.num_rows() > 0)
}

impl Queries {
    fn new(session: &Session, rewriter: &Rewriter<'_>, schema: &SchemaRef, Shape { node, sure }: &Shape) -> Option<Self> {
        let from = rewriter.from(&node["from_table"], NUMBERED)?;
        let typed_by = rewriter.from(&node["from_table"], "events")?;
        let takes = |check: &str| session.can_prepare(&format!("SELECT 1 {from} WHERE {check}"), schema);
        let (mut checks, mut narrow, mut guard, mut loose_guard) = (Vec::new(), Vec::new(), String::new(), String::new());
        let conditions = rewrite::conditions(&node["where_clause"]);
        // DuckDB may evaluate the conditions of a WHERE in any order, and then one never, so what fails in one of several is not certain;
        // a record that passes them all does come to the other expressions.
        let is_lone = conditions.len() == 1 && !rewrite::mentions(conditions[0], "CONJUNCTION");
        for condition in &conditions {
            let forms =
                rewriter.forms(condition, &typed_by).filter(|forms| takes(&forms.narrow) && takes(&forms.confirm) && takes(&forms.loose));
            let Some(forms) = forms else { continue };
            narrow.push(guarded(&loose_guard, &forms.narrow));
            checks.push(Form { fails: guarded(&guard, &forms.confirm), is_certain: is_lone && sure.conditions() });
            let passes =
                |fails: &str, form: &str| format!(" WHEN {fails} THEN false WHEN NOT coalesce(({form})::BOOLEAN, false) THEN false");
            loose_guard += &passes(&forms.narrow, &forms.loose);
            guard += &passes(&forms.confirm, &forms.plain);
        }
        let known = checks.len();
        let mut others = Vec::new();
        for item in items(&node["select_list"]).take(CHECKS_MAX) {
            // A star within an expression makes several of it.
            let forms = rewriter.forms(item, &typed_by).filter(|forms| forms.can_fail && !rewrite::mentions(item, "STAR"));
            let Some(forms) = forms.filter(|forms| takes(&forms.narrow) && takes(&forms.confirm)) else { continue };
            others.push(forms.narrow);
            checks.push(Form { fails: forms.confirm, is_certain: known == conditions.len() && sure.item(item) });
        }
        if !others.is_empty() {
            narrow.push(guarded(&loose_guard, &others.join(" OR ")));
        }
        let queries = Self { from, narrow: narrow.join(" OR "), checks, conditions: known, guard };
        let can_ask = |check: &str| session.can_prepare(&queries.query(session, check), schema);
        let is_useful = !queries.checks.is_empty() && can_ask(&queries.narrow) && can_ask(&queries.fails(0..queries.checks.len()));
        is_useful.then_some(queries)
    }

    /// Returns the condition that holds for the records that expressions of a range fail on.
    fn fails(&self, range: Range<usize>) -> String {
        let forms = |range: Range<usize>| self.checks[range].iter().map(|form| form.fails.as_str()).collect::<Vec<_>>();
        let (conditions, others) = (range.start..range.end.min(self.conditions), range.start.max(self.conditions)..range.end);
        let mut any: Vec<String> =
            if conditions.is_empty() { Vec::new() } else { forms(conditions).into_iter().map(str::to_owned).collect() };
        if !others.is_empty() {
            any.push(guarded(&self.guard, &forms(others).join(" OR ")));
        }
        any.join(" OR ")
    }

    /// Returns the query that names the records for which a condition holds.
    fn query(&self, session: &Session, condition: &str) -> String {
        session.gather_from(&["r".to_owned()], &format!("(SELECT {ROW} AS r {} WHERE {condition})", self.from))
    }
}

/// Returns a condition that holds where the guard lets a record through and `condition` holds.
fn guarded(guard: &str, condition: &str) -> String {
    if guard.is_empty() { format!("({condition})") } else { format!("(CASE{guard} ELSE ({condition}) END)") }
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
