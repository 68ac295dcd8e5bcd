//! Columns of text: plain, dictionary, JSON; and booleans.
//!
//! Owns: collecting strings in one buffer, and remembering the values of a dictionary from batch to batch.
//! Does not own: the JSON text itself (see `cursor`).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, DictionaryArray, Int32Array, StringArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::Int32Type;

use super::cursor::Cursor;
use super::values::Values;

/// Values that a dictionary keeps for the next batch. Past it the column has many values: those of old batches would only be weight, and
/// the engine takes larger dictionaries as plain text anyway.
const REMEMBERED_VALUES_MAX: usize = 256;

/// Slots of the guess that spares the hash table.
const GUESSES: usize = 64;

/// Booleans, from `true` and `false`.
#[derive(Debug, Default)]
pub(super) struct Booleans {
    values: Vec<bool>,
}

impl Values for Booleans {
    fn len(&self) -> usize {
        self.values.len()
    }

    fn push_usual(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let value = if cursor.eat_text("true").is_some() {
            true
        } else {
            cursor.eat_text("false")?;
            false
        };
        self.values.push(value);
        Some(())
    }

    fn push_json(&mut self, json: &str) -> Option<()> {
        self.values.push(match json {
            "true" => true,
            "false" => false,
            _ => return None,
        });
        Some(())
    }

    fn push_null(&mut self) {
        self.values.push(false);
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let array = BooleanArray::new(BooleanBuffer::from(self.values.as_slice()), nulls);
        self.values.clear();
        Arc::new(array)
    }
}

/// Strings one behind the other.
#[derive(Debug)]
struct Strings {
    bytes: String,
    /// Where each string begins, and behind them where the last one ends.
    offsets: Vec<i32>,
}

impl Strings {
    fn new() -> Self {
        Self { bytes: String::new(), offsets: vec![0] }
    }

    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    #[inline]
    fn push(&mut self, text: &str) {
        self.bytes.push_str(text);
        self.offsets.push(i32::try_from(self.bytes.len()).expect("a column is not longer than its batch, which was measured first"));
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        let end = self.offsets.last().copied().unwrap_or_default();
        self.bytes.truncate(usize::try_from(end).expect("offsets count up from 0"));
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> StringArray {
        let next = Self { bytes: String::with_capacity(self.bytes.len()), offsets: Vec::with_capacity(self.offsets.len()) };
        let Self { bytes, offsets } = std::mem::replace(self, next);
        self.offsets.push(0);
        StringArray::new(OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(bytes.into_bytes()), nulls)
    }
}

/// Text.
#[derive(Debug)]
pub(super) struct Texts {
    strings: Strings,
}

impl Texts {
    /// Makes an empty column.
    pub(super) fn new() -> Self {
        Self { strings: Strings::new() }
    }
}

impl Values for Texts {
    fn len(&self) -> usize {
        self.strings.len()
    }

    #[inline]
    fn push_usual(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        self.strings.push(cursor.plain_string()?);
        Some(())
    }

    fn push_json(&mut self, json: &str) -> Option<()> {
        self.strings.push(&serde_json::from_str::<String>(json).ok()?);
        Some(())
    }

    fn push_null(&mut self) {
        self.strings.push("");
    }

    fn truncate(&mut self, rows: usize) {
        self.strings.truncate(rows);
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        Arc::new(self.strings.finish(nulls))
    }
}

/// JSON values, as their text.
#[derive(Debug)]
pub(super) struct Jsons {
    strings: Strings,
}

impl Jsons {
    /// Makes an empty column.
    pub(super) fn new() -> Self {
        Self { strings: Strings::new() }
    }
}

impl Values for Jsons {
    fn len(&self) -> usize {
        self.strings.len()
    }

    fn push_usual(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        self.push_json(cursor.value()?)
    }

    fn push_json(&mut self, json: &str) -> Option<()> {
        // `serde_json` lets half a surrogate pair pass in a value that it does not unescape; every JSON function of the SQL would fail on it.
        if has_lone_surrogate(json) {
            return None;
        }
        self.strings.push(json);
        Some(())
    }

    fn push_null(&mut self) {
        self.strings.push("");
    }

    fn truncate(&mut self, rows: usize) {
        self.strings.truncate(rows);
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        Arc::new(self.strings.finish(nulls))
    }
}

/// Text of few distinct values. A batch's dictionary may hold values that only earlier batches used.
#[derive(Debug)]
pub(super) struct Dictionary {
    keys: Vec<i32>,
    values: Vec<Arc<str>>,
    index: HashMap<Arc<str>, i32>,
    /// Keys by a cheap hash of their value: nearly always right, always checked.
    guesses: Box<[i32; GUESSES]>,
    /// The array of `values`, shared by all batches until a new value comes.
    array: Arc<StringArray>,
}

impl Dictionary {
    /// Makes an empty column.
    pub(super) fn new() -> Self {
        Self {
            keys: Vec::new(),
            values: Vec::new(),
            index: HashMap::new(),
            guesses: Box::new([0; GUESSES]),
            array: Arc::new(StringArray::from(Vec::<&str>::new())),
        }
    }

    #[inline]
    fn key(&mut self, text: &str) -> i32 {
        let guess = self.guesses[guess_slot(text)];
        if self.values.get(guess as usize).is_some_and(|value| **value == *text) {
            return guess;
        }
        let key = match self.index.get(text) {
            Some(key) => *key,
            None => self.add(text),
        };
        self.guesses[guess_slot(text)] = key;
        key
    }

    fn add(&mut self, text: &str) -> i32 {
        let key = i32::try_from(self.values.len()).expect("a batch that was measured first has fewer values than bytes");
        let value: Arc<str> = text.into();
        self.values.push(value.clone());
        self.index.insert(value, key);
        key
    }
}

impl Values for Dictionary {
    fn len(&self) -> usize {
        self.keys.len()
    }

    #[inline]
    fn push_usual(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let key = self.key(cursor.plain_string()?);
        self.keys.push(key);
        Some(())
    }

    fn push_json(&mut self, json: &str) -> Option<()> {
        let key = self.key(&serde_json::from_str::<String>(json).ok()?);
        self.keys.push(key);
        Some(())
    }

    fn push_null(&mut self) {
        self.keys.push(0);
    }

    fn truncate(&mut self, rows: usize) {
        self.keys.truncate(rows);
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let next = Vec::with_capacity(self.keys.len());
        let keys = Int32Array::new(ScalarBuffer::from(std::mem::replace(&mut self.keys, next)), nulls);
        if self.array.len() != self.values.len() {
            self.array = Arc::new(StringArray::from_iter_values(&self.values));
        }
        let array = DictionaryArray::<Int32Type>::new(keys, self.array.clone());
        if self.values.len() > REMEMBERED_VALUES_MAX {
            let keys = std::mem::take(&mut self.keys);
            *self = Self { keys, ..Self::new() };
        }
        Arc::new(array)
    }
}

/// Returns where the key of `text` is guessed to be.
#[inline]
fn guess_slot(text: &str) -> usize {
    let bytes = text.as_bytes();
    let first = bytes.first().copied().unwrap_or_default();
    let last = bytes.last().copied().unwrap_or_default();
    (bytes.len() ^ usize::from(first) ^ (usize::from(last) << 2)) % GUESSES
}

/// Returns whether a valid JSON text holds an escaped half of a surrogate pair without the other.
fn has_lone_surrogate(json: &str) -> bool {
    let unit = |at: usize| json.get(at..at + 6)?.strip_prefix("\\u").and_then(|digits| u16::from_str_radix(digits, 16).ok());
    let mut at = 0;
    while let Some(next) = memchr::memchr(b'\\', &json.as_bytes()[at..]) {
        at += next;
        match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => at += 12,
            Some(0xd800..=0xdfff) => return true,
            Some(_) => at += 6,
            None => at += 2,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(array: &ArrayRef) -> Vec<Option<String>> {
        let array = arrow::compute::cast(array, &arrow::datatypes::DataType::Utf8).unwrap();
        let array = array.as_any().downcast_ref::<StringArray>().unwrap().clone();
        array.iter().map(|value| value.map(str::to_owned)).collect()
    }

    fn batch(column: &mut Dictionary, values: &[&str]) -> ArrayRef {
        for value in values {
            column.push_json(&serde_json::to_string(value).unwrap()).unwrap();
        }
        column.finish(None)
    }

    fn values(array: &ArrayRef) -> ArrayRef {
        array.as_any().downcast_ref::<DictionaryArray<Int32Type>>().unwrap().values().clone()
    }

    #[test]
    fn a_dictionary_without_new_values_is_the_same_array_in_the_next_batch() {
        let mut column = Dictionary::new();
        let first = batch(&mut column, &["us", "eu", "us"]);
        let second = batch(&mut column, &["eu", "eu"]);
        assert_eq!(decoded(&second), [Some("eu".into()), Some("eu".into())]);
        assert!(Arc::ptr_eq(&values(&first), &values(&second)));
        let third = batch(&mut column, &["apac", "eu"]);
        assert_eq!(decoded(&third), [Some("apac".into()), Some("eu".into())]);
        assert_eq!(decoded(&first), [Some("us".into()), Some("eu".into()), Some("us".into())]);
    }

    #[test]
    fn a_dictionary_of_many_values_is_forgotten_after_the_batch() {
        let mut column = Dictionary::new();
        let many: Vec<String> = (0..1_000).map(|n| format!("v{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(decoded(&batch(&mut column, &many)), many.iter().map(|v| Some((*v).into())).collect::<Vec<_>>());
        let after = batch(&mut column, &["v7"]);
        assert_eq!(values(&after).len(), 1);
        assert_eq!(decoded(&after), [Some("v7".into())]);
    }

    #[test]
    fn a_dictionary_of_nulls_only_needs_no_value() {
        let mut column = Dictionary::new();
        column.push_null();
        assert_eq!(decoded(&column.finish(Some(NullBuffer::new_null(1)))), [None]);
    }

    #[test]
    fn a_lone_surrogate_is_found_and_a_pair_and_an_escaped_backslash_are_not() {
        for good in [r#""\ud83d\ude00""#, r#""\\ud800""#, r#""\u00e9\n""#, "1", r#"["\"", "\uD83D\uDE00x"]"#, "\"é\""] {
            assert!(!has_lone_surrogate(good), "{good}");
        }
        for bad in [r#""\ud800""#, r#""\ud800x\udc00""#, r#""\udc00""#, r#"{"a":"\\\ud83d\\ude00"}"#, r#""\ud800\ud800\udc00""#] {
            assert!(has_lone_surrogate(bad), "{bad}");
        }
    }
}
