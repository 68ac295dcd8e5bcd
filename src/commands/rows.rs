//! Rows as JSON, compared: which are missing, which are too many, and what differs between two that are nearly alike.
//!
//! Owns: when two values are the same: numbers by value, a null as a missing key; the order of rows does not count.
//! Does not own: where rows come from (see `tried`, `fixtures`), the report.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use itertools::Itertools;
use pintail_core::escape;
use serde_json::{Map, Number, Value};

/// Rows on either side that are looked at for one that is nearly alike: each is held against all others.
const PAIRED_MAX: usize = 500;
/// Whole numbers up to this are exact in a double.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// Bytes of a row that are shown.
const SHOWN_BYTES: usize = 400;

/// A row.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// As it was written.
    pub text: String,
    fields: Map<String, Value>,
}

/// What differs between two sets of rows, by their places in them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Rows that are nearly alike: one expected, one that came.
    pub changed: Vec<(usize, usize)>,
    /// Rows that were expected and did not come.
    pub missing: Vec<usize>,
    /// Rows that came and were not expected.
    pub unexpected: Vec<usize>,
}

/// A field that differs: its name, what was expected and what came, as JSON; `None` where there is no value.
pub(crate) type FieldChange = (String, Option<String>, Option<String>);

impl Row {
    /// Reads a line.
    ///
    /// # Errors
    /// Why it is no JSON object, as a clause.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(line).map_err(|e| e.to_string())?.trim().to_owned();
        match serde_json::from_str(&text) {
            Ok(Value::Object(fields)) => Ok(Self { text, fields }),
            Ok(_) => Err("a JSON object is wanted".to_owned()),
            Err(e) => Err(e.to_string()),
        }
    }

    /// Makes a row of fields.
    pub(crate) fn of(fields: Map<String, Value>) -> Self {
        Self { text: Value::Object(fields.clone()).to_string(), fields }
    }

    /// Returns what is the same of all rows that are the same.
    fn canonical(&self) -> String {
        canonical_object(&self.fields)
    }

    /// Returns the row with these fields alone.
    pub(crate) fn only(&self, names: &BTreeSet<String>) -> Self {
        Self::of(self.fields.iter().filter(|(name, _)| names.contains(*name)).map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// Returns the number in a field.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.fields.get(name)?.as_u64()
    }

    /// Returns whether all that this row says is said by another.
    pub(crate) fn is_part_of(&self, whole: &Self) -> bool {
        self.fields.iter().all(|(name, value)| same(Some(value), whole.fields.get(name)))
    }

    /// Returns how many fields there are in either, and how many of them are the same.
    fn likeness(&self, other: &Self) -> (usize, usize) {
        let names: BTreeSet<&String> = self.fields.keys().chain(other.fields.keys()).collect();
        let alike = names.iter().filter(|name| same(self.fields.get(**name), other.fields.get(**name))).count();
        (names.len(), alike)
    }

    /// Returns the fields that differ from those of a row that came instead of this one.
    pub(crate) fn changes(&self, came: &Self) -> Vec<FieldChange> {
        let names = self.fields.keys().chain(came.fields.keys()).unique();
        let differing = names.filter(|name| !same(self.fields.get(*name), came.fields.get(*name)));
        let text = |value: Option<&Value>| value.filter(|value| !value.is_null()).map(ToString::to_string);
        differing.map(|name| (name.clone(), text(self.fields.get(name)), text(came.fields.get(name)))).collect()
    }

    /// Returns it as a person sees it: on one line, and not endless.
    pub(crate) fn shown(&self) -> String {
        escape::beginning(&self.text, SHOWN_BYTES)
    }
}

/// Says what differs in a field.
pub(crate) fn told((name, expected, came): &FieldChange) -> String {
    let value =
        |value: &Option<String>| value.as_deref().map_or(Cow::Borrowed("null"), |value| escape::beginning(value, SHOWN_BYTES).into());
    format!("{}: expected {}, got {}", escape::line(name), value(expected), value(came))
}

impl Difference {
    pub(crate) fn is_none(&self) -> bool {
        self.changed.is_empty() && self.missing.is_empty() && self.unexpected.is_empty()
    }
}

/// Compares rows, whatever order they come in.
pub(crate) fn compare(expected: &[Row], came: &[Row]) -> Difference {
    let mut unclaimed: HashMap<String, Vec<usize>> = HashMap::new();
    // The first that came is taken first.
    came.iter().enumerate().rev().for_each(|(at, row)| unclaimed.entry(row.canonical()).or_default().push(at));
    let missing = expected.iter().positions(|row| unclaimed.get_mut(&row.canonical()).and_then(Vec::pop).is_none()).collect();
    let unexpected: Vec<usize> = unclaimed.into_values().flatten().sorted().collect();
    pair(expected, came, missing, unexpected)
}

/// Finds rows that are nearly alike among those that did not come and those that were not expected.
fn pair(expected: &[Row], came: &[Row], missing: Vec<usize>, mut unexpected: Vec<usize>) -> Difference {
    let mut difference = Difference::default();
    for (number, at) in missing.into_iter().enumerate() {
        let candidates = unexpected.iter().enumerate().take(if number < PAIRED_MAX { PAIRED_MAX } else { 0 });
        let alike = candidates.filter_map(|(place, other)| {
            let (all, alike) = expected[at].likeness(&came[*other]);
            (alike * 2 >= all).then_some((alike, place))
        });
        // Of those that are equally alike the first one.
        match alike.max_by_key(|(alike, place)| (*alike, Reverse(*place))) {
            Some((_, place)) => difference.changed.push((at, unexpected.remove(place))),
            None => difference.missing.push(at),
        }
    }
    difference.unexpected = unexpected;
    difference
}

/// Returns whether two values are the same; `None` is as good as null.
fn same(one: Option<&Value>, other: Option<&Value>) -> bool {
    canonical(one.unwrap_or(&Value::Null)) == canonical(other.unwrap_or(&Value::Null))
}

fn canonical(value: &Value) -> String {
    match value {
        Value::Number(number) => canonical_number(number),
        Value::Array(values) => format!("[{}]", values.iter().map(canonical).join(",")),
        Value::Object(fields) => canonical_object(fields),
        other => other.to_string(),
    }
}

fn canonical_object(fields: &Map<String, Value>) -> String {
    let there = fields.iter().filter(|(_, value)| !value.is_null()).sorted_by_key(|(name, _)| *name);
    format!("{{{}}}", there.map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value))).join(","))
}

fn canonical_number(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT => (float as i64).to_string(),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lines: &[&str]) -> Vec<Row> {
        lines.iter().map(|line| Row::parse(line.as_bytes()).unwrap()).collect()
    }

    fn difference(expected: &[&str], came: &[&str]) -> Difference {
        compare(&rows(expected), &rows(came))
    }

    #[test]
    fn order_blanks_nulls_and_the_looks_of_numbers_make_no_difference() {
        let expected = [r#"{"a":1,"b":"x"}"#, r#"{ "a": 2.50, "c": [1.0, {"d": null}] }"#, "{\"a\":-0.0}"];
        let came = [r#"{"c":[1,{}],"b":null,"a":2.5}"#, r#"{"a":0}"#, r#"{"b":"x","a":1.0}"#];
        assert!(difference(&expected, &came).is_none());
        assert!(difference(&["{}"], &[r#"{"a":null}"#]).is_none());
        for (one, other) in [("{\"a\":1}", "{\"a\":\"1\"}"), ("{\"a\":9007199254740993}", "{\"a\":9007199254740992}"), ("{\"a\":[]}", "{}")]
        {
            assert!(!difference(&[one], &[other]).is_none(), "{one} and {other}");
        }
    }

    #[test]
    fn rows_count_as_often_as_they_are_there() {
        let difference = difference(&["{\"a\":1}", "{\"a\":1}", "{\"b\":7}"], &["{\"a\":1}", "{\"c\":true}", "{\"c\":true}"]);
        assert_eq!(difference, Difference { changed: vec![], missing: vec![1, 2], unexpected: vec![1, 2] });
    }

    #[test]
    fn of_a_row_that_is_nearly_there_the_fields_that_differ_are_told() {
        let expected = [r#"{"id":1,"shop":"berlin","price":10}"#, r#"{"id":2,"shop":"bern","price":3}"#];
        let came = [r#"{"id":2,"shop":"bern","price":3}"#, r#"{"id":1,"shop":"berlin","price":null}"#];
        assert_eq!(difference(&expected, &came), Difference { changed: vec![(0, 1)], ..Difference::default() });
        let changes = rows(&expected)[0].changes(&rows(&came)[1]);
        assert_eq!(changes.iter().map(told).collect::<Vec<_>>(), ["price: expected 10, got null"]);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(Row::parse(b"[1]").unwrap_err().contains("object"));
        assert!(Row::parse(b"{").is_err() && Row::parse(b"\xff").is_err());
    }
}
