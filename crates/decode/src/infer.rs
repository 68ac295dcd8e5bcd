//! Inference: a sample of NDJSON → a schema to begin with.
//!
//! Owns: reading the sample, which columns there are and what they are called, and the TOML that shows them.
//! Does not own: what is guessed from which values (see `seen`), what a type takes (a guess is made only of values that the decoder takes for it),
//! opening files (see `commands::infer`).
//!
//! A guess is careful where a wrong one would reject records: every column is nullable, an integer stays an integer whatever its name
//! says, and values of different kinds become `json`. What a person might know better stands in a comment.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::io::{BufRead, Read};

use itertools::Itertools;
use pintail_core::error::{Error, Result};
use pintail_core::schema::{Column, ColumnType, EventSchema};

use super::column::shown;
use super::depth::{self, DEPTH_MAX};

mod seen;

use seen::Objects;

/// Bytes of a line of the sample: far more than a record has, and what a file that is not NDJSON may cost.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// A guessed schema. [`fmt::Display`] writes it as TOML for the configuration.
#[derive(Debug, Clone)]
pub struct Inferred {
    /// The columns.
    pub schema: EventSchema,
    /// Records that were looked at.
    pub records: u64,
    /// Lines that are no JSON objects.
    pub skipped: u64,
    /// What the sample says of each column beyond its type.
    pub hints: Vec<Hint>,
    /// What is worth knowing of each column.
    notes: Vec<Vec<Note>>,
}

/// What is worth knowing of a column.
#[derive(Debug, Clone)]
enum Note {
    /// For whoever reads the schema.
    Fact(String),
    /// For whoever uses it unread, too: values are rejected, changed or not what they look like.
    Warning(String),
}

impl Note {
    fn text(&self) -> &str {
        let (Self::Fact(text) | Self::Warning(text)) = self;
        text
    }
}

/// What a sample says of a column beyond its type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hint {
    /// Records in which it is there, and not null.
    pub present: u64,
    /// How many different texts it has, where they are few and come again and again.
    pub values: Option<usize>,
    /// The type that makes times of its integers, where its name and all of them speak for that.
    pub time: Option<ColumnType>,
}

impl Inferred {
    /// Makes times of a column of integers that are likely to be some.
    pub fn take_for_time(&mut self, column: usize) {
        if let Some(column_type) = self.hints[column].time {
            self.schema.columns[column].column_type = column_type;
        }
    }

    /// Puts columns that are known already before those that are new. A known one stays as it is, whatever the sample says of it.
    pub fn beside(mut self, known: &[Column]) -> Self {
        let (mut columns, mut hints, mut notes) = (known.to_vec(), Vec::new(), Vec::new());
        for column in known {
            let at = self.schema.columns.iter().position(|new| new.name.eq_ignore_ascii_case(&column.name));
            hints.push(at.map_or(Hint::default(), |at| self.hints[at]));
            notes.push(Vec::new());
            if let Some(at) = at {
                self.schema.columns.remove(at);
                self.hints.remove(at);
                self.notes.remove(at);
            }
        }
        columns.append(&mut self.schema.columns);
        hints.append(&mut self.hints);
        notes.append(&mut self.notes);
        Self { schema: EventSchema::new(columns), hints, notes, ..self }
    }

    /// Returns a column as an inline table of TOML.
    pub fn entry(&self, column: usize) -> String {
        let Column { name, path, column_type, required } = &self.schema.columns[column];
        let path = if is_own_name(name, path) { String::new() } else { format!(", path = {}", Path(path)) };
        let required = if *required { ", required = true" } else { "" };
        format!("{{ name = {}{path}, type = {}{required} }}", Quoted(name), Quoted(&column_type.to_string()))
    }

    /// Returns what is worth knowing of a column, as a comment says it; empty if there is nothing.
    pub fn note(&self, column: usize) -> String {
        let time = self.hints[column].time.filter(|time| self.schema.columns[column].column_type != *time);
        let time = time.map(|time| format!("perhaps a time: then `{time}`"));
        self.notes[column].iter().map(Note::text).chain(time.as_deref()).join("; ")
    }

    /// Returns what also somebody should know who does not read the schema, with the column's name.
    pub fn warnings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.schema.columns.iter().zip(&self.notes).flat_map(|(column, notes)| {
            let warnings = notes.iter().filter(|note| matches!(note, Note::Warning(_)));
            warnings.map(|note| (column.name.as_str(), note.text()))
        })
    }
}

/// Returns whether a path is what a column has that names none.
fn is_own_name(name: &str, path: &[String]) -> bool {
    matches!(path, [key] if key == name)
}

/// Guesses a schema from the first `records_max` records.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Io`] if the sample cannot be read; [`pintail_core::error::ErrorKind::Config`] if it holds no JSON object.
pub fn infer(mut sample: impl BufRead, records_max: usize) -> Result<Inferred> {
    let mut root = Objects::default();
    let mut line = Vec::new();
    let mut skipped = 0;
    let mut first_skipped = None;
    while root.count + skipped < records_max as u64 && read_line(&mut sample, &mut line)? {
        let text = String::from_utf8_lossy(&line);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim();
        if text.is_empty() {
            continue;
        }
        match serde_json::from_str(text) {
            Ok(members) if !depth::exceeds(text, DEPTH_MAX) => root.observe(members),
            _ => {
                skipped += 1;
                first_skipped.get_or_insert_with(|| shown(text));
            }
        }
    }
    let records = root.count;
    let mut guess = Guess { records, columns: Vec::new(), hints: Vec::new(), notes: Vec::new(), names: BTreeSet::new() };
    guess.object(&root, &[]);
    let Guess { columns, hints, notes, .. } = guess;
    if columns.is_empty() {
        let found = first_skipped.map_or_else(|| "it has none".to_owned(), |line| format!("the first line is {line}"));
        return Err(Error::config(format!("no JSON object with a key in the sample, which should have one a line: {found}")));
    }
    Ok(Inferred { schema: EventSchema::new(columns), records, skipped, hints, notes })
}

/// Reads the next line; `false` at the end.
fn read_line(sample: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool> {
    line.clear();
    let mut limited = sample.take(LINE_BYTES_MAX);
    let length = limited.read_until(b'\n', line).map_err(|e| Error::io("read the sample", e))?;
    if length as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
        return Err(Error::config(format!(
            "a line of the sample is longer than {LINE_BYTES_MAX} bytes: NDJSON has one JSON object a line"
        )));
    }
    Ok(length > 0)
}

/// The columns so far.
struct Guess {
    records: u64,
    columns: Vec<Column>,
    hints: Vec<Hint>,
    notes: Vec<Vec<Note>>,
    /// Names given, in lower case: SQL does not tell `ID` from `id`.
    names: BTreeSet<String>,
}

impl Guess {
    fn object(&mut self, objects: &Objects, path: &[String]) {
        for key in &objects.keys {
            let seen = &objects.values[key];
            let path: Vec<String> = path.iter().chain([key]).cloned().collect();
            match seen.guess() {
                None => self.object(&seen.objects, &path),
                Some(column_type) => {
                    let name = self.free_name(&path);
                    self.hints.push(seen.hint(&name, column_type));
                    self.notes.push(seen.notes(column_type, self.records));
                    self.columns.push(Column { name, path, column_type, required: false });
                }
            }
        }
    }

    fn free_name(&mut self, path: &[String]) -> String {
        let joined = path.join("_");
        let joined = if joined.is_empty() { "unnamed".to_owned() } else { joined };
        let numbered = (2u64..).map(|number| format!("{joined}_{number}"));
        let mut names = std::iter::once(joined.clone()).chain(numbered);
        let name = names.find(|name| self.names.insert(name.to_lowercase()));
        name.expect("numbers do not end before names do")
    }
}

impl fmt::Display for Inferred {
    /// Writes `[[schema.columns]]` entries, each with what is worth knowing as a comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Inferred from {} records.", self.records)?;
        if self.skipped > 0 {
            writeln!(f, "# Lines that are no JSON objects, and would be dead letters: {}.", self.skipped)?;
        }
        writeln!(f, "# A sample cannot prove that a value is always there: add `required = true` to reject records without it.")?;
        for (index, column) in self.schema.columns.iter().enumerate() {
            writeln!(f, "\n[[schema.columns]]")?;
            writeln!(f, "name = {}", Quoted(&column.name))?;
            if !is_own_name(&column.name, &column.path) {
                writeln!(f, "path = {}", Path(&column.path))?;
            }
            write!(f, "type = {}", Quoted(&column.column_type.to_string()))?;
            let note = self.note(index);
            let comment = if note.is_empty() { note } else { format!(" # {note}") };
            writeln!(f, "{comment}")?;
        }
        Ok(())
    }
}

/// A path as the configuration has it: keys joined by dots; a key that holds a dot or a quote, or is empty, in quotes of its own.
struct Path<'a>(&'a [String]);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |key: &str| !key.is_empty() && !key.contains(['.', '"']);
        let mut keys = self.0.iter().map(|key| if plain(key) { key.clone() } else { Quoted(key).to_string() });
        Quoted(&keys.join(".")).fmt(f)
    }
}

/// A basic string of TOML.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\0'..='\u{1f}' | '\u{7f}' => write!(f, "\\u{:04X}", u32::from(c))?,
                _ => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests;
