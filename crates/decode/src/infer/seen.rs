//! Seen: what the values of a sample have in common, path by path.
//!
//! Owns: counting the kinds of values, the type that a column is guessed to have, what a person should know beyond it.
//! Does not own: which columns there are and what they are called (see [`super`]), what a type takes (the decoder does).

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use arrow::datatypes::TimeUnit;
use itertools::Itertools;
use pintail_core::schema::ColumnType;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Hint, Note, Quoted};
use crate::column::shown;
use crate::time::{date_days, timestamp};

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

/// The members of a JSON object in their order.
pub(super) struct Members<'a>(Vec<(String, &'a RawValue)>);

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
pub(super) struct Objects {
    pub(super) count: u64,
    pub(super) keys: Vec<String>,
    pub(super) values: HashMap<String, Seen>,
}

/// What was seen of all values at one path, nulls aside.
#[derive(Debug, Default)]
pub(super) struct Seen {
    count: u64,
    booleans: u64,
    integers: Integers,
    /// Numbers that are no 64-bit integer.
    floats: u64,
    /// Those of `floats` that are whole, and exact in a double.
    whole_floats: u64,
    texts: Texts,
    pub(super) objects: Objects,
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
    pub(super) fn observe(&mut self, members: Members<'_>) {
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
    pub(super) fn guess(&self) -> Option<ColumnType> {
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
    pub(super) fn hint(&self, name: &str, guess: ColumnType) -> Hint {
        let time = (guess == ColumnType::Int64).then(|| self.integers.likely_time(name)).flatten();
        let values = (guess == ColumnType::Dictionary).then_some(self.texts.distinct.len());
        Hint { present: self.count, values, time: time.map(ColumnType::Timestamp) }
    }

    /// Says what a person may know better than the guess.
    pub(super) fn notes(&self, guess: ColumnType, records: u64) -> Vec<Note> {
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
            notes.extend(self.texts.notes());
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
        let timestamp = timestamp(&text);
        let (is_timestamp, is_date) = (timestamp.is_some(), date_days(&text).is_some());
        self.timestamps += u64::from(is_timestamp);
        self.nanoseconds += u64::from(timestamp.is_some_and(|timestamp| timestamp.is_cut));
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
    fn notes(&self) -> Vec<Note> {
        let near = |fits: u64| fits < self.count && (self.count - fits) * NEAR_MISS <= self.count;
        let mut notes = Vec::new();
        for (what, fits, column_type, odd) in
            [("times", self.timestamps, "timestamp", &self.odd[0]), ("dates", self.dates, "date", &self.odd[1])]
        {
            if let Some(odd) = odd.as_ref().filter(|_| near(fits)) {
                let (all, others) = (self.count, self.count - fits);
                let note = format!("{fits} of {all} are {what}: `{column_type}` takes them and rejects the other {others}, as {odd}");
                notes.push(Note::Fact(note));
            }
        }
        if self.nanoseconds > 0 {
            let note = format!("nanoseconds in {}: `timestamp` cuts them to microseconds, `text` keeps them", self.nanoseconds);
            // A column of text keeps them already.
            notes.push(if self.timestamps == self.count { Note::Warning(note) } else { Note::Fact(note) });
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
