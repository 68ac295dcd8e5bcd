//! Rows: one JSON object → one row of the declared columns.
//!
//! Owns: whether a record is good, and the reason if it is not.
//! Does not own: lines and payloads (see `ndjson`), the values (see `column` and what it is made of).
//!
//! A record is read twice only if it is odd. The *usual* reading goes from front to back, guesses each key from the record before and
//! appends every value to its column at once. It never refuses: at the first thing out of the ordinary (a value that does not fit, a key
//! twice, a required value missing, bad JSON) the columns are cut back to the rows they had, and the *careful* reading, plain `serde_json`,
//! says what the record is: a row, or the reason for the dead letters. So a bad record leaves no trace, and there is one place that refuses.

use std::collections::{BTreeMap, HashMap};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use pintail_core::error::{Error, Result};
use pintail_core::schema::EventSchema;
use serde_json::value::RawValue;

use super::Odd;
use super::column::{Column, shown};
use super::cursor::Cursor;
use super::depth::{self, DEPTH_MAX};
use super::fields::{Fields, Place, Target};

/// A record as the careful reading sees it; of a key that occurs twice, the last.
type Object<'a> = BTreeMap<String, &'a RawValue>;

/// Objects of a record by the keys that lead to them.
type Nested<'a> = HashMap<Vec<String>, Object<'a>>;

/// Collects the rows of a batch.
#[derive(Debug)]
pub(super) struct Rows {
    schema: SchemaRef,
    fields: Fields,
    columns: Vec<Column>,
    rows: usize,
    /// Counts records, to tell a key's second occurrence from its first.
    record: u64,
    odd: Odd,
}

impl Rows {
    /// Prepares for a schema.
    pub(super) fn new(schema: &EventSchema) -> Self {
        let columns: Vec<_> = schema.columns.iter().map(Column::new).collect();
        let paths: Vec<_> = columns.iter().map(Column::path).enumerate().collect();
        Self { schema: schema.arrow_columns(), fields: Fields::new(&paths), columns, rows: 0, record: 0, odd: Odd::default() }
    }

    /// Returns the rows so far.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Appends the record at `start` of a text of lines if it has a usual form, and returns where its line ends.
    #[inline]
    pub(super) fn push_usual(&mut self, text: &str, start: usize) -> Option<usize> {
        self.record += 1;
        let mut cursor = Cursor::new(text, start);
        let end = self.read(&mut cursor);
        match end {
            Some(()) => self.rows += 1,
            None => self.cut_back(),
        }
        end.map(|()| cursor.at())
    }

    /// Appends a record in any form.
    ///
    /// # Errors
    /// The reason why it is none, or does not fit.
    pub(super) fn push_careful(&mut self, text: &str) -> Result<(), String> {
        let pushed = self.read_carefully(text);
        match pushed {
            Ok(()) => self.rows += 1,
            Err(_) => self.cut_back(),
        }
        pushed
    }

    /// Appends a row without values, where nobody has to be told of it.
    ///
    /// # Errors
    /// The reason why there can be none.
    pub(super) fn push_nothing(&mut self) -> Result<(), String> {
        let told = self.odd.without_values;
        let pushed = self.push_careful("{}");
        self.odd.without_values = told;
        pushed
    }

    /// Returns what is odd of the rows since this was asked last.
    pub(super) fn take_odd(&mut self) -> Odd {
        std::mem::take(&mut self.odd)
    }

    /// Hands out the rows, and is empty again.
    pub(super) fn finish(&mut self) -> Result<RecordBatch> {
        self.rows = 0;
        for column in self.columns.iter().filter_map(Column::take_cut) {
            self.odd.cut.get_or_insert_with(|| column.to_owned());
        }
        let arrays = self.columns.iter_mut().map(Column::finish).collect();
        RecordBatch::try_new(self.schema.clone(), arrays)
            .map_err(|e| Error::internal("decoded columns do not fit their own schema").with_source(e))
    }

    #[inline]
    fn read(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let mut reader = Reader { columns: &mut self.columns, record: self.record, filled: 0 };
        cursor.skip_whitespace();
        reader.object(&mut self.fields, cursor)?;
        let filled = reader.filled;
        if !cursor.is_at_end() {
            return None;
        }
        if filled < self.columns.len() {
            for column in self.columns.iter_mut().filter(|column| column.len() == self.rows) {
                column.push_missing()?;
            }
            self.odd.without_values += u64::from(filled == 0);
        }
        Some(())
    }

    fn read_carefully(&mut self, text: &str) -> Result<(), String> {
        if depth::exceeds(text, DEPTH_MAX) {
            return Err(format!("nested deeper than {DEPTH_MAX} objects and arrays"));
        }
        let record: Object<'_> = serde_json::from_str(text).map_err(|error| no_object(text, &error))?;
        let mut nested = Nested::new();
        let mut is_without_values = !self.columns.is_empty();
        for column in &mut self.columns {
            match look_up(&record, &mut nested, column.path()) {
                Found::Value(json) => {
                    is_without_values &= json == "null";
                    column.push_json(json)?;
                }
                Found::Nothing => column.push_null("is missing")?,
                Found::NoObject { at, json, why } => return Err(column.no_object(&at, json, why)),
            }
        }
        self.odd.without_values += u64::from(is_without_values);
        Ok(())
    }

    fn cut_back(&mut self) {
        for column in &mut self.columns {
            column.truncate(self.rows);
        }
    }
}

/// Reads one record in the usual way; `None` anywhere = leave it to the careful way.
struct Reader<'r> {
    columns: &'r mut [Column],
    record: u64,
    /// Columns that have got a value.
    filled: usize,
}

impl Reader<'_> {
    #[inline]
    fn object(&mut self, fields: &mut Fields, cursor: &mut Cursor<'_>) -> Option<()> {
        let mut field = match fields.first_as_before(cursor) {
            Some(field) => field,
            None => {
                cursor.eat(b'{')?;
                cursor.skip_whitespace();
                if cursor.eat(b'}').is_some() {
                    return Some(());
                }
                fields.key(cursor, Place::Start)?
            }
        };
        cursor.enter()?;
        loop {
            cursor.skip_whitespace();
            match fields.target(field, self.record)? {
                Target::Column(index) if cursor.peek() != Some(b'n') => {
                    self.columns[*index].push(cursor)?;
                    self.filled += 1;
                }
                target => self.value(target, cursor)?,
            }
            field = match fields.next_as_before(cursor, field) {
                Some(field) => field,
                None => {
                    cursor.skip_whitespace();
                    if cursor.eat(b',').is_none() {
                        cursor.leave();
                        return cursor.eat(b'}');
                    }
                    cursor.skip_whitespace();
                    fields.key(cursor, Place::Behind(field))?
                }
            };
        }
    }

    fn value(&mut self, target: &mut Target, cursor: &mut Cursor<'_>) -> Option<()> {
        if cursor.peek() == Some(b'n') {
            return cursor.eat_text("null");
        }
        match target {
            Target::Column(index) => {
                self.columns[*index].push(cursor)?;
                self.filled += 1;
                Some(())
            }
            Target::Unknown => cursor.skip_value(),
            Target::Object(fields) => self.object(fields, cursor),
            Target::Several(targets) => {
                let value = cursor.value()?;
                targets.iter_mut().try_for_each(|target| self.value(target, &mut cursor.within(value)))
            }
        }
    }
}

/// What stands at a path.
enum Found<'a> {
    /// This JSON value.
    Value(&'a str),
    /// No value, or null on the way to it.
    Nothing,
    /// Something on the way, at these keys, that is neither null nor an object to look into, and why if it looks like one.
    NoObject { at: String, json: &'a str, why: &'static str },
}

/// Follows a path. Objects on the way are parsed once for all columns: an odd record may be long, and have many columns below one key.
fn look_up<'a>(record: &Object<'a>, nested: &mut Nested<'a>, path: &[String]) -> Found<'a> {
    let Some((last, way)) = path.split_last() else { return Found::Nothing };
    for depth in 0..way.len() {
        let (outer, here) = (&way[..depth], &way[..=depth]);
        if nested.contains_key(here) {
            continue;
        }
        let outer = if outer.is_empty() { record } else { &nested[outer] };
        let Some(json) = outer.get(&way[depth]).map(|value| value.get()) else { return Found::Nothing };
        let no_object = |why| Found::NoObject { at: here.join("."), json, why };
        let object = match json {
            "null" => return Found::Nothing,
            _ if json.starts_with('{') => match serde_json::from_str(json) {
                Ok(object) => object,
                // The record is valid JSON, and half of a surrogate pair all that a valid key may have and its text not.
                Err(_) => return no_object(" (half of a surrogate pair is no character of a key)"),
            },
            _ => return no_object(""),
        };
        nested.insert(here.to_vec(), object);
    }
    let object = if way.is_empty() { record } else { &nested[way] };
    object.get(last).map_or(Found::Nothing, |value| Found::Value(value.get()))
}

/// Says why a text is not a JSON object.
fn no_object(text: &str, error: &serde_json::Error) -> String {
    if error.is_data() {
        return format!("expected a JSON object, got {}", shown(text));
    }
    let message = error.to_string();
    let what = message.split(" at line ").next().unwrap_or(&message);
    format!("not a JSON object: {what} at byte {}: {}", error.column(), shown(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_in_any_ordinary_form_is_read_only_once() {
        let mut rows = Rows::new(&EventSchema::simulator());
        for text in [
            r#"{"timestamp":1767225600123,"user_id":123456,"region":"us","amount":12.3456,"sku":"SKU-00042"}"#,
            r#"{"timestamp": 1, "user_id": null, "region": "é", "amount": 100, "sku": "a\"b\u00e9"}"#,
            r#" { "sku" : "" , "timestamp" : 5.0 , "unknown" : { "a" : [ 1 , "x\n" ] } , "region" : null } "#,
            r#"{"timestamp":-1,"amount":0.30000000000000004,"\u0072egion":"eu"}"#,
        ] {
            assert_eq!(rows.push_usual(text, 0), Some(text.len()), "{text}");
            let lines = format!("{text}\n{text}\r\n");
            assert_eq!(rows.push_usual(&lines, 0), Some(text.len()), "{text}");
            assert_eq!(rows.push_usual(&lines, text.len() + 1), Some(lines.len() - 1), "{text}");
        }
        assert_eq!(rows.push_usual(r#"{"timestamp":1,"timestamp":2}"#, 0), None);
        assert_eq!(rows.len(), 12);
    }
}
