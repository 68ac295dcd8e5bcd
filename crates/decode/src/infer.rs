//! Inference: a sample of NDJSON → a schema to begin with.
//!
//! Owns: what is guessed from which values, and the TOML that shows it.
//! Does not own: what a type takes (a guess is made only of values that the decoder takes for it), opening files (see `commands::infer`).
//!
//! A guess is careful where a wrong one would reject records: every column is nullable, an integer stays an integer whatever its name
//! says, and values of different kinds become `json`. What a person might know better stands in a comment.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Write};
use std::io::{BufRead, Read};

use arrow::datatypes::TimeUnit;
use itertools::Itertools;
use pintail_core::error::{Error, Result};
use pintail_core::schema::{Column, ColumnType, EventSchema};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::column::shown;
use super::depth::{self, DEPTH_MAX};
use super::time::{date_days, timestamp_micros};

/// Bytes of a line of the sample: far more than a record has, and what a file that is not NDJSON may cost.
const LINE_BYTES_MAX: u64 = 16 << 20;
/// Distinct values of a column that may become a dictionary.
const DICTIONARY_VALUES_MAX: usize = 256;
/// How often each value of a dictionary occurs on average, at least.
const DICTIONARY_REPEATS_MIN: usize = 10;
/// Keys of a nested object that is taken apart. One with more is a map of data, not a record.
const FLAT_KEYS_MAX: usize = 64;
/// Of so many values of a column one is of another kind, at most, where the others make its type: that one is a mistake, and becomes a dead letter.
const STRAY: u64 = 100;
/// Digits of the longest decimal.
const DIGITS_MAX: u8 = 38;
/// Of so many texts of a column one is no time, at most, where it is worth saying that the others are.
const NEAR_MISS: u64 = 10;
/// 2000-01-01 and 2100-01-01 in seconds: integers in between may be times.
const LIKELY_SECONDS: std::ops::Range<i64> = 946_684_800..4_102_444_800;

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

/// The members of a JSON object in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// What was seen of all objects at one path.
#[derive(Debug, Default)]
struct Objects {
    count: u64,
    keys: Vec<String>,
    values: HashMap<String, Seen>,
}

/// What was seen of all values at one path, nulls aside.
#[derive(Debug, Default)]
struct Seen {
    count: u64,
    booleans: u64,
    integers: Integers,
    /// Numbers that are no 64-bit integer.
    floats: u64,
    /// Those of `floats` that are whole, and exact in a double.
    whole_floats: u64,
    texts: Texts,
    objects: Objects,
}

#[derive(Debug, Default)]
struct Integers {
    count: u64,
    /// Those above the largest `int64`.
    unsigned: u64,
    /// Those that no type of 64 bits takes.
    long: u64,
    negative: u64,
    smallest: Option<i64>,
    largest: Option<i64>,
}

#[derive(Debug, Default)]
struct Texts {
    count: u64,
    timestamps: u64,
    /// Those with digits behind the microsecond that are not zero.
    nanoseconds: u64,
    dates: u64,
    /// The first that is no timestamp, and the first that is no date.
    odd: [Option<String>; 2],
    /// At most one more than a dictionary may have.
    distinct: BTreeSet<String>,
}

impl Objects {
    fn observe(&mut self, members: Members<'_>) {
        self.count += 1;
        for (key, value) in members.0 {
            if !self.values.contains_key(&key) {
                self.keys.push(key.clone());
            }
            self.values.entry(key).or_default().observe(value.get());
        }
    }

    /// Returns whether its keys are names of fields: few, and most of them in most of the objects.
    fn is_record(&self) -> bool {
        let members: u64 = self.values.values().map(|seen| seen.count).sum();
        let all = self.count * self.keys.len() as u64;
        (1..=FLAT_KEYS_MAX).contains(&self.keys.len()) && members * 4 >= all
    }
}

impl Seen {
    fn observe(&mut self, json: &str) {
        if json == "null" {
            return;
        }
        self.count += 1;
        match json.as_bytes().first() {
            Some(b't' | b'f') => self.booleans += 1,
            Some(b'-' | b'0'..=b'9') => self.observe_number(json),
            Some(b'"') => {
                // A text that cannot be unescaped fits no type; it counts, so that no other type is guessed for it.
                if let Ok(text) = serde_json::from_str(json) {
                    self.texts.observe(text);
                }
            }
            Some(b'{') => {
                if let Ok(members) = serde_json::from_str(json) {
                    self.objects.observe(members);
                }
            }
            _ => {}
        }
    }

    fn observe_number(&mut self, json: &str) {
        if let Ok(value) = json.parse::<i64>() {
            let integers = &mut self.integers;
            integers.count += 1;
            integers.negative += u64::from(value < 0);
            integers.smallest = Some(integers.smallest.map_or(value, |smallest| smallest.min(value)));
            integers.largest = Some(integers.largest.map_or(value, |largest| largest.max(value)));
        } else if json.parse::<u64>().is_ok() {
            self.integers.count += 1;
            self.integers.unsigned += 1;
        } else if is_integer(json) && json.len() <= usize::from(DIGITS_MAX) + usize::from(json.starts_with('-')) {
            self.integers.count += 1;
            self.integers.long += 1;
        } else if let Some(value) = json.parse::<f64>().ok().filter(|value| value.is_finite()) {
            self.floats += 1;
            self.whole_floats += u64::from(value.fract() == 0.0 && value.abs() < 9e15);
            self.integers.long += u64::from(is_integer(json));
        }
    }

    /// Guesses the type; `None` = an object to take apart.
    fn guess(&self) -> Option<ColumnType> {
        let all = |count| count == self.count;
        Some(match self {
            Self { count: 0, .. } => ColumnType::Json,
            _ if all(self.objects.count) && self.objects.is_record() => return None,
            _ if all(self.booleans) => ColumnType::Boolean,
            _ if all(self.integers.count + self.floats) => self.numbers(),
            _ if all(self.texts.count) => self.texts.guess(),
            _ if self.are_strays(self.count - self.integers.count - self.floats) => self.numbers(),
            _ => ColumnType::Json,
        })
    }

    /// Guesses the type that takes all numbers.
    fn numbers(&self) -> ColumnType {
        let Integers { unsigned, negative, long, .. } = self.integers;
        match (self.floats, long, unsigned, negative) {
            (0, 0, 0, _) => ColumnType::Int64,
            (0, 0, _, 0) => ColumnType::UInt64,
            (0, ..) => ColumnType::Decimal { precision: DIGITS_MAX, scale: 0 },
            _ => ColumnType::Float64,
        }
    }

    /// Returns whether so many values of another kind are few enough to be mistakes.
    fn are_strays(&self, others: u64) -> bool {
        others * STRAY <= self.count
    }

    /// Returns what may help to choose the column for a purpose.
    fn hint(&self, name: &str, guess: ColumnType) -> Hint {
        let time = (guess == ColumnType::Int64).then(|| self.integers.likely_time(name)).flatten();
        let values = (guess == ColumnType::Dictionary).then_some(self.texts.distinct.len());
        Hint { present: self.count, values, time: time.map(ColumnType::Timestamp) }
    }

    /// Says what a person may know better than the guess.
    fn notes(&self, guess: ColumnType, records: u64) -> Vec<Note> {
        let mut notes = Vec::new();
        if self.count == 0 {
            notes.push(Note::Fact("only nulls in the sample".to_owned()));
        } else if self.count < records {
            notes.push(Note::Fact(format!("null or missing in {} of {records} records", records - self.count)));
        }
        if guess == ColumnType::Float64 && self.floats == self.whole_floats {
            notes.push(Note::Fact("only whole numbers in the sample: `int64` takes them, also when written with `.0`".to_owned()));
        }
        if self.texts.count == self.count {
            notes.extend(self.texts.notes().into_iter().map(Note::Fact));
        }
        let kinds = self.kinds();
        if guess == ColumnType::Json && self.objects.count < self.count && kinds.len() > 1 {
            let kinds = kinds.iter().map(|(kind, count)| format!("{kind} in {count}"));
            notes.push(Note::Warning(format!("values of different kinds: {}", kinds.format(", "))));
        }
        let strays = kinds.iter().filter(|(kind, _)| *kind != "numbers").map(|(kind, count)| format!("{kind} in {count}"));
        if matches!(guess, ColumnType::Int64 | ColumnType::UInt64 | ColumnType::Float64) && kinds.len() > 1 {
            notes.push(Note::Warning(format!("rejects the values that are no numbers: {}", strays.format(", "))));
        }
        if guess == ColumnType::Float64 && self.integers.are_cut_by_doubles() {
            notes.push(Note::Warning("integers above 2^53 lose digits in it: `decimal(38, 9)` keeps those of up to 29".to_owned()));
        }
        notes
    }

    /// Returns the kinds of values that there are, and how many of each.
    fn kinds(&self) -> Vec<(&'static str, u64)> {
        let numbers = self.integers.count + self.floats;
        let arrays = self.count.saturating_sub(self.booleans + numbers + self.texts.count + self.objects.count);
        let kinds = [
            ("booleans", self.booleans),
            ("numbers", numbers),
            ("texts", self.texts.count),
            ("objects", self.objects.count),
            ("arrays", arrays),
        ];
        kinds.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

impl Integers {
    /// Returns whether some have more digits than a double keeps.
    fn are_cut_by_doubles(&self) -> bool {
        let cut = |value: Option<i64>| value.is_some_and(|value| value.unsigned_abs() > 1 << f64::MANTISSA_DIGITS);
        self.unsigned > 0 || self.long > 0 || cut(self.smallest) || cut(self.largest)
    }

    /// Returns the unit that would make times of our days of them, if the name speaks for it.
    fn likely_time(&self, name: &str) -> Option<TimeUnit> {
        let name = name.to_lowercase();
        let named = ["time", "date", "created", "updated"].iter().any(|word| name.contains(word))
            || ["ts", "_at", "_ms"].iter().any(|ending| name.ends_with(ending));
        let (smallest, largest) = self.smallest.zip(self.largest).filter(|_| named)?;
        let units = [
            (1, TimeUnit::Second),
            (1_000, TimeUnit::Millisecond),
            (1_000_000, TimeUnit::Microsecond),
            (1_000_000_000, TimeUnit::Nanosecond),
        ];
        let likely =
            |per_second: i64| LIKELY_SECONDS.contains(&(smallest / per_second)) && LIKELY_SECONDS.contains(&(largest / per_second));
        units.into_iter().find(|(per_second, _)| likely(*per_second)).map(|(_, unit)| unit)
    }
}

impl Texts {
    fn observe(&mut self, text: String) {
        self.count += 1;
        let (is_timestamp, is_date) = (timestamp_micros(&text).is_some(), date_days(&text).is_some());
        self.timestamps += u64::from(is_timestamp);
        self.nanoseconds += u64::from(is_timestamp && has_nanoseconds(&text));
        self.dates += u64::from(is_date);
        for (odd, fits) in self.odd.iter_mut().zip([is_timestamp, is_date]) {
            if !fits && odd.is_none() {
                *odd = Some(shown(&Quoted(&text).to_string()));
            }
        }
        if self.distinct.len() <= DICTIONARY_VALUES_MAX {
            self.distinct.insert(text);
        }
    }

    /// Says what of the texts a person may want otherwise.
    fn notes(&self) -> Vec<String> {
        let near = |fits: u64| fits < self.count && (self.count - fits) * NEAR_MISS <= self.count;
        let mut notes = Vec::new();
        for (what, fits, column_type, odd) in
            [("times", self.timestamps, "timestamp", &self.odd[0]), ("dates", self.dates, "date", &self.odd[1])]
        {
            if let Some(odd) = odd.as_ref().filter(|_| near(fits)) {
                let (all, others) = (self.count, self.count - fits);
                notes.push(format!("{fits} of {all} are {what}: `{column_type}` takes them and rejects the other {others}, as {odd}"));
            }
        }
        if self.nanoseconds > 0 {
            notes.push(format!("nanoseconds in {}: `timestamp` cuts them to microseconds, `text` keeps them", self.nanoseconds));
        }
        notes
    }

    fn guess(&self) -> ColumnType {
        let repeated = (self.distinct.len() * DICTIONARY_REPEATS_MIN) as u64 <= self.count;
        match self {
            _ if self.timestamps == self.count => ColumnType::TimestampText,
            _ if self.dates == self.count => ColumnType::Date,
            _ if self.distinct.len() <= DICTIONARY_VALUES_MAX && repeated => ColumnType::Dictionary,
            _ => ColumnType::Text,
        }
    }
}

/// Returns whether a number is written as an integer.
fn is_integer(json: &str) -> bool {
    json.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// Returns whether a time has digits behind the microsecond that are not zero.
fn has_nanoseconds(time: &str) -> bool {
    let fraction = time.split_once('.').map_or("", |(_, fraction)| fraction);
    fraction.bytes().take_while(u8::is_ascii_digit).skip(6).any(|digit| digit != b'0')
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
