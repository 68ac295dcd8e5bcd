//! Probe: finds the records that the SQL is likely to fail on in a few passes, where the shape of the SQL allows.
//!
//! Owns: the queries that do it, and which of their answers stand for each other.
//! Does not own: making an expression ready for them (see `rewrite`), which rows it is computed for (see `flat`), what is done about a suspect (see
//! `search`).
//!
//! An expression that fails ends its query, and with it the batch: to run the SQL again for each culprit is a hundred times slower than
//! the SQL itself. So the expressions of the SQL are put into forms that do not fail, and asked which of the records they fail on. The first
//! query looks at all records, in forms that DuckDB computes a vector at a time (`TRY_CAST`), and may name a record too many. Others look at
//! those with `TRY`, which evaluates an expression as it was written and record by record: one query for all expressions, then for halves of
//! them until it is known which one fails on which record.
//!
//! The forms stand in a `WHERE`: in a select list, DuckDB computes what stands there twice once and *before* it, which takes it out of
//! its `TRY`.
//!
//! Whether a record that an expression fails on fails the SQL hangs on DuckDB's plan: it may ask a condition before or after it computes the
//! expression, and several conditions in any order, also those within an `OR`, which it changes as it runs. But the plan is the same for each record
//! that is run alone. So records for which each condition, and each part of an `OR`, has the same answer (holds, does not, fails) and the same
//! expression fails first have the same fate: they are *alike*, and a few of them tell what becomes of the others. It counts, too, whether the record finds a partner in a join behind the expression, or has an empty list
//! there. That holds where the whole SQL is understood, and where a record has one row. Of a record with several
//! (joined, unnested) it holds if one of them passes all conditions, and the expression fails on that one. At first only such records are
//! looked for, and those that the last condition lets pass; with [`Scope::All`] those as well that a condition may keep away.
//!
//! What the probe misses (expressions that `TRY` does not take, errors of other kinds) is left to the search.

mod arithmetic;
mod faults;
mod flat;
mod rewrite;
mod shape;
mod tree;

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
use flat::Stage;
use rewrite::{Forms, Rewriter};

/// The view that a probe reads: `events` and the number of each record.
const NUMBERED: &str = "pintail_numbered";
/// The column of the numbers.
const ROW: &str = "pintail_row";
/// Expressions of one `SELECT` that are looked at.
const CHECKS_MAX: usize = 1_000;
/// Conditions whose answers tell records apart: three for each, and one bit more, in 64 bits.
const CONDITIONS_MAX: usize = 39;
/// Bytes that the answers of a query may take: eight for each row.
const ANSWER_BYTES_MAX: usize = 1 << 28;

/// A record that the SQL is likely to fail on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspect {
    /// Its row in the batch.
    pub row: usize,
    /// What is known of it. Suspects of one class have the same cause.
    pub class: Class,
    /// Whether all of its class have the same fate.
    pub is_alike: bool,
}

/// The `FROM` and the expression that fails there, and what the conditions say, a digit of three for each, and whether the record has a row in the
/// last `FROM`.
pub type Class = (usize, usize, u64);

/// Which records are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those that pass the conditions.
    Likely,
    /// Those, too, that the SQL may never compute the failing expression for.
    All,
}

/// The queries of one SQL.
#[derive(Debug)]
pub(crate) struct Probe {
    /// The columns of `events` and the number.
    schema: SchemaRef,
    answer: SchemaRef,
    stages: Vec<Queries>,
    /// Names the records that have rows in the last `FROM`, where there are several.
    reached: Option<String>,
    /// Names the record of each row that the SQL returns, in order.
    lineage: Option<String>,
}

/// The queries about one `FROM`.
#[derive(Debug)]
struct Queries {
    /// Reads the numbered records.
    from: String,
    /// Whether each record has one row.
    is_single: bool,
    /// Whether all is known that decides what is computed.
    is_known: bool,
    /// Whether another `FROM` comes behind it: what finds no partner there, or has an empty list, may never be computed.
    is_before: bool,
    /// Hold for records that may be culprits: for those that pass the conditions, and for all.
    narrow: [String; 2],
    /// What rows must pass.
    conditions: Vec<Condition>,
    /// What stands in an `OR` or an inner `AND`: DuckDB asks it in any order, and not all of it.
    operands: Vec<Condition>,
    /// Hold for the records that an expression fails on.
    items: Vec<String>,
    /// Holds for rows that pass all conditions.
    passes: String,
}

/// A condition, in forms that do not fail.
#[derive(Debug)]
struct Condition {
    /// Holds where it fails.
    fails: String,
    /// Holds where it does.
    holds: String,
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
        let columns: Vec<&str> = session.schema().fields().iter().map(|field| field.name().as_str()).collect();
        let names_of = |table: &Value| session.column_names(&format!("SELECT * {}", rewriter.from(table, "events")?)).ok();
        let flat = (select.references("events") == 1).then(|| flat::flatten(top, &columns, &names_of)).flatten();
        let lineage = flat.as_deref().and_then(|stages| lineage(session, &rewriter, &schema, top, stages));
        let last =
            flat.as_deref().and_then(|stages| stages.last().filter(|_| stages.len() > 1)).map(|stage| rewriter.loosen_from(&stage.from));
        let reached = last.and_then(|from| Some(naming(session, &rewriter.from(&from, NUMBERED)?, "true")));
        let reached = reached.filter(|query| session.can_prepare(query, &schema));
        let (stages, is_known) = flat.map_or_else(|| (shape::selects(top), false), |stages| (stages, true));
        let last = stages.len().saturating_sub(1);
        let stages: Vec<Queries> = stages
            .iter()
            .enumerate()
            .filter_map(|(at, stage)| {
                let is_before = is_known && at < last;
                let queries = Queries::new(session, &rewriter, &schema, stage, is_known && (!is_before || reached.is_some()))?;
                Some(Queries { is_before, ..queries })
            })
            .collect();
        let answer = Schema::new(vec![Field::new("r", DataType::Int64, true)]);
        (lineage.is_some() || !stages.is_empty()).then(|| Self { schema, answer: Arc::new(answer), stages, reached, lineage })
    }

    /// Returns the record of each row that the SQL makes of a batch, in order.
    pub(crate) fn lineage(&self, session: &mut Session, batch: &RecordBatch) -> Option<Vec<usize>> {
        let numbered = self.numbered(batch)?;
        self.rows(session, self.lineage.as_ref()?, &numbered)
    }

    /// Names the suspects of a batch, each once, in their order. Those that it cannot find it leaves out.
    pub(crate) fn suspects(&self, session: &mut Session, batch: &RecordBatch, scope: Scope) -> Vec<Suspect> {
        let Some(numbered) = self.numbered(batch) else { return Vec::new() };
        let mut found = BTreeMap::new();
        for (index, queries) in self.stages.iter().enumerate() {
            let narrow = &queries.narrow[usize::from(scope == Scope::All)];
            let Some(few) = pick(&numbered, &self.ask(session, &queries.query(session, narrow), &numbered)) else { continue };
            for (row, (check, signature, is_alike)) in self.name(session, queries, &few, scope) {
                // Where a record is alike others, that says more of it.
                let suspect = Suspect { row, class: (index, check, signature), is_alike };
                let known = found.entry(row).or_insert(suspect);
                if is_alike && !known.is_alike {
                    *known = suspect;
                }
            }
        }
        found.into_values().collect()
    }

    /// Names those of a few records that fail here: the first expression that does, what the conditions say, and whether that tells all.
    fn name(&self, session: &mut Session, queries: &Queries, few: &RecordBatch, scope: Scope) -> BTreeMap<usize, (usize, u64, bool)> {
        let answers: Vec<[BTreeSet<usize>; 2]> = queries
            .conditions
            .iter()
            .chain(&queries.operands)
            .map(|condition| {
                let fails = self.ask(session, &queries.query(session, &condition.fails), few);
                // Where it fails, what else it does is not asked: to catch an error takes twenty microseconds.
                let holds = match without(few, &fails) {
                    Some(others) => self.ask(session, &queries.query(session, &condition.holds), &others),
                    None => BTreeSet::new(),
                };
                [fails, holds]
            })
            .collect();
        let single = if queries.is_single { None } else { Some(self.once(session, queries, few)) };
        let is_single = |row: &usize| single.as_ref().is_none_or(|single| single.contains(row));
        let signature = |row: &usize| {
            answers
                .iter()
                .fold(0, |sum: u64, [fails, holds]| sum * 3 + if fails.contains(row) { 2 } else { u64::from(holds.contains(row)) })
        };
        let reached = self.reached.as_ref().filter(|_| queries.is_before).map(|query| self.rows(session, query, few));
        let is_known = queries.is_known && reached != Some(None);
        let reached: BTreeSet<usize> = reached.flatten().into_iter().flatten().collect();
        let signature = |row: &usize| signature(row) * 2 + u64::from(reached.contains(row));
        let mut named = BTreeMap::new();
        let mut sure = BTreeMap::new();
        self.name_items(session, queries, (0..queries.items.len(), true), few, &mut sure);
        for (row, item) in sure {
            // Whatever its other rows are, this one fails.
            let signature = if is_single(&row) { signature(&row) } else { u64::MAX };
            named.insert(row, (queries.conditions.len() + item, signature, is_known));
        }
        let is_named = |named: &BTreeMap<usize, _>, row: &usize| named.contains_key(row);
        for (condition, [fails, _]) in answers.iter().take(queries.conditions.len()).enumerate() {
            for row in fails.iter().filter(|row| !is_named(&named, row)).copied().collect::<Vec<_>>() {
                named.insert(row, (condition, signature(&row), is_known && is_single(&row)));
            }
        }
        if scope == Scope::All && !queries.conditions.is_empty() {
            let mut maybe = BTreeMap::new();
            self.name_items(session, queries, (0..queries.items.len(), false), few, &mut maybe);
            for (row, item) in maybe {
                let is_alike = is_known && is_single(&row);
                named.entry(row).or_insert((queries.conditions.len() + item, signature(&row), is_alike));
            }
        }
        named
    }

    /// Names the records that expressions of a range fail on, with the first that does: of rows that pass the conditions, or of all.
    fn name_items(
        &self,
        session: &mut Session,
        queries: &Queries,
        (range, must_pass): (Range<usize>, bool),
        records: &RecordBatch,
        named: &mut BTreeMap<usize, usize>,
    ) {
        if range.is_empty() {
            return;
        }
        let failing = self.ask(session, &queries.query(session, &queries.fails(range.clone(), must_pass)), records);
        if failing.is_empty() {
            return;
        }
        if range.len() == 1 {
            named.extend(failing.into_iter().map(|row| (row, range.start)));
            return;
        }
        let middle = range.start + range.len() / 2;
        if let Some(records) = pick(records, &failing) {
            self.name_items(session, queries, (range.start..middle, must_pass), &records, named);
        }
        let rest = failing.into_iter().filter(|row| !named.contains_key(row)).collect();
        if let Some(records) = pick(records, &rest) {
            self.name_items(session, queries, (middle..range.end, must_pass), &records, named);
        }
    }

    /// Returns the records that have one row.
    fn once(&self, session: &mut Session, queries: &Queries, few: &RecordBatch) -> BTreeSet<usize> {
        let rows = self.rows(session, &queries.query(session, "true"), few).unwrap_or_default();
        let mut counts = BTreeMap::new();
        rows.into_iter().for_each(|row| *counts.entry(row).or_insert(0) += 1);
        counts.into_iter().filter(|(_, count)| *count == 1).map(|(row, _)| row).collect()
    }

    fn numbered(&self, batch: &RecordBatch) -> Option<RecordBatch> {
        let rows: ArrayRef = Arc::new(Int64Array::from_iter_values(0..i64::try_from(batch.num_rows()).ok()?));
        let columns = batch.columns().iter().cloned().chain([rows]).collect();
        RecordBatch::try_new(self.schema.clone(), columns).ok()
    }

    /// Runs a query; returns the records that it names. A query that fails names none.
    fn ask(&self, session: &mut Session, query: &str, records: &RecordBatch) -> BTreeSet<usize> {
        self.rows(session, query, records).into_iter().flatten().collect()
    }

    /// Runs a query; returns the record of each of its rows, unless it fails.
    fn rows(&self, session: &mut Session, query: &str, records: &RecordBatch) -> Option<Vec<usize>> {
        let columns = Columns::new(&self.answer, records.num_rows(), ANSWER_BYTES_MAX);
        let (columns, ran) = session.gather(query, (&self.schema, records), Pace::default(), columns);
        let answers = ran.ok().and_then(|()| columns.finish().ok())?;
        let rows = answers.column(0).as_primitive::<Int64Type>();
        Some(rows.values().iter().filter_map(|row| usize::try_from(*row).ok()).collect())
    }
}

/// Makes the query that names the record of each row, in the order of the SQL: of one that orders or joins nothing.
fn lineage(session: &Session, rewriter: &Rewriter<'_>, schema: &SchemaRef, top: &Value, stages: &[Stage]) -> Option<String> {
    let last = stages.last()?;
    let is_in_order = last.from["type"] != "JOIN" && !tree::orders(top);
    let from = rewriter.from(&last.from, NUMBERED).filter(|_| is_in_order)?;
    let conditions = last.conditions.iter().map(|condition| rewriter.sql(condition)).collect::<Option<Vec<_>>>()?;
    let passing = if conditions.is_empty() { String::new() } else { format!(" WHERE ({})", conditions.join(") AND (")) };
    let query = session.gather_from(&["r".to_owned()], &format!("(SELECT {ROW} AS r {from}{passing})"));
    session.can_prepare(&query, schema).then_some(query)
}

/// Returns the records of these numbers out of some that have theirs in the last column; `None` if there are none.
fn pick(records: &RecordBatch, numbers: &BTreeSet<usize>) -> Option<RecordBatch> {
    those(records, |number| numbers.contains(&number))
}

/// Returns the other records; `None` if there are none.
fn without(records: &RecordBatch, numbers: &BTreeSet<usize>) -> Option<RecordBatch> {
    if numbers.is_empty() {
        return Some(records.clone());
    }
    those(records, |number| !numbers.contains(&number))
}

fn those(records: &RecordBatch, is_one: impl Fn(usize) -> bool) -> Option<RecordBatch> {
    let column = records.column(records.num_columns() - 1).as_primitive::<Int64Type>();
    let is_picked = |number: &i64| usize::try_from(*number).is_ok_and(&is_one);
    let picked = BooleanArray::from_iter(column.values().iter().map(|number| Some(is_picked(number))));
    filter_record_batch(records, &picked).ok().filter(|picked| picked.num_rows() > 0)
}

impl Condition {
    fn new(Forms { confirm, plain, .. }: Forms) -> Self {
        Self { holds: format!("(CASE WHEN {confirm} THEN false ELSE coalesce(({plain})::BOOLEAN, false) END)"), fails: confirm }
    }
}

/// What is asked of the expressions of one `FROM`, and with what.
struct Asking<'a> {
    session: &'a Session,
    rewriter: &'a Rewriter<'a>,
    schema: &'a SchemaRef,
    /// Reads the numbered records.
    from: String,
    /// Reads the records, for the types of expressions.
    typed_by: String,
}

impl<'a> Asking<'a> {
    fn new(session: &'a Session, rewriter: &'a Rewriter<'a>, schema: &'a SchemaRef, stage: &Stage) -> Option<Self> {
        let loose = rewriter.loosen_from(&stage.from);
        Some(Self { session, rewriter, schema, from: rewriter.from(&loose, NUMBERED)?, typed_by: rewriter.from(&loose, "events")? })
    }

    /// Returns whether DuckDB takes a condition.
    fn takes(&self, check: &str) -> bool {
        self.session.can_prepare(&format!("SELECT 1 {} WHERE {check}", self.from), self.schema)
    }

    /// Returns the forms of the expressions that can fail.
    fn items(&self, stage: &Stage) -> Vec<Forms> {
        let forms = stage.items.iter().take(CHECKS_MAX).filter_map(|item| {
            // A star within an expression makes several of it.
            self.rewriter.forms(item, &self.typed_by).filter(|forms| forms.can_fail && !tree::mentions(item, "STAR"))
        });
        forms.filter(|forms| self.takes(&forms.narrow) && self.takes(&forms.confirm)).collect()
    }

    /// Returns the forms of the conditions, with their indexes.
    fn conditions(&self, stage: &Stage) -> Vec<(usize, Forms)> {
        let conditions = stage.conditions.iter().enumerate().take(CONDITIONS_MAX);
        let forms = conditions.filter_map(|(at, condition)| Some((at, self.rewriter.forms(condition, &self.typed_by)?)));
        forms.filter(|(_, forms)| [&forms.narrow, &forms.confirm, &forms.loose].iter().all(|form| self.takes(form))).collect()
    }

    /// Returns what is asked of the parts of conditions, up to the first of which nothing can be asked.
    fn operands(&self, parts: &[&Value], most: usize) -> Vec<Condition> {
        let operand = |part: &&Value| {
            let operand = self.rewriter.forms(part, &self.typed_by).map(Condition::new)?;
            (self.takes(&operand.fails) && self.takes(&operand.holds)).then_some(operand)
        };
        parts.iter().map_while(operand).take(most).collect()
    }
}

/// Returns what holds for records that may be culprits: for those that pass the conditions, and for all.
fn narrow(conditions: &[(usize, Forms)], items: &[Forms]) -> [String; 2] {
    let (mut passing, mut guard) = (Vec::new(), String::new());
    for (_, forms) in conditions {
        passing.push(guarded(&guard, &forms.narrow));
        guard += &format!(" WHEN {} THEN false WHEN NOT coalesce(({})::BOOLEAN, false) THEN false", forms.narrow, forms.loose);
    }
    let items: Vec<&str> = items.iter().map(|forms| &*forms.narrow).collect();
    if !items.is_empty() {
        passing.push(guarded(&guard, &items.join(" OR ")));
    }
    let all: Vec<&str> = conditions.iter().map(|(_, forms)| &*forms.narrow).chain(items).collect();
    [passing.join(" OR "), all.join(" OR ")]
}

/// Returns what holds where one of the parts of a condition fails; `None` if that is not known of each.
fn fails_in_part(condition: &Value, parts: &[&Value], operands: &[Condition]) -> Option<String> {
    let fails = |part: &Value| parts.iter().zip(operands).find(|(other, _)| **other == part).map(|(_, operand)| operand.fails.clone());
    let leaves = tree::operands(condition).into_iter().filter(|part| part["class"] != "CONJUNCTION");
    Some(format!("({})", leaves.map(fails).collect::<Option<Vec<_>>>()?.join(" OR ")))
}

impl Queries {
    fn new(session: &Session, rewriter: &Rewriter<'_>, schema: &SchemaRef, stage: &Stage, is_known: bool) -> Option<Self> {
        let asking = Asking::new(session, rewriter, schema, stage)?;
        let (items, conditions) = (asking.items(stage), asking.conditions(stage));
        let parts: Vec<&Value> = stage.conditions.iter().chain(&stage.items).flat_map(tree::operands).collect();
        let operands = asking.operands(&parts, CONDITIONS_MAX - conditions.len());
        let own = conditions.iter().filter(|(at, _)| *at < stage.own).count();
        let is_known = is_known && stage.is_known && own == stage.own && operands.len() == parts.len();
        let narrow = narrow(&conditions, &items);
        let is_filter = items.is_empty();
        let conditions: Vec<_> = conditions
            .into_iter()
            .map(|(at, forms)| {
                let condition = &stage.conditions[at];
                // What the parts answer tells records apart: of those on which one fails, a few show whether DuckDB asks it. To see that of each would
                // take catching an error.
                let is_told = is_known && is_filter && condition["class"] == "CONJUNCTION";
                let in_part = is_told.then(|| fails_in_part(condition, &parts, &operands)).flatten();
                Condition::new(Forms { confirm: in_part.unwrap_or(forms.confirm), ..forms })
            })
            .collect();
        let (from, items) = (asking.from, items.into_iter().map(|forms| forms.confirm).collect());
        let passes = conditions.iter().map(|condition| format!(" WHEN NOT {} THEN false", condition.holds)).collect();
        let queries = Self { from, is_single: stage.is_single(), is_known, is_before: false, narrow, conditions, operands, items, passes };
        let can_ask = |check: &str| session.can_prepare(&queries.query(session, check), schema);
        let all = queries.fails(0..queries.items.len(), true);
        let is_useful =
            queries.narrow.iter().all(|narrow| !narrow.is_empty() && can_ask(narrow)) && (queries.items.is_empty() || can_ask(&all));
        is_useful.then_some(queries)
    }

    /// Returns the condition that holds for the rows that expressions of a range fail on, of those that pass the conditions or of all.
    fn fails(&self, range: Range<usize>, must_pass: bool) -> String {
        let any = self.items[range].join(" OR ");
        guarded(if must_pass { &self.passes } else { "" }, &any)
    }

    /// Returns the query that names the record of each row for which a condition holds.
    fn query(&self, session: &Session, condition: &str) -> String {
        naming(session, &self.from, condition)
    }
}

/// Returns the query that names the record of each row of a `FROM` for which a condition holds.
fn naming(session: &Session, from: &str, condition: &str) -> String {
    session.gather_from(&["r".to_owned()], &format!("(SELECT {ROW} AS r {from} WHERE {condition})"))
}

/// Returns a condition that holds where the guard lets a record through and `condition` holds.
fn guarded(guard: &str, condition: &str) -> String {
    if guard.is_empty() { format!("({condition})") } else { format!("(CASE{guard} ELSE ({condition}) END)") }
}

#[cfg(test)]
mod tests;
