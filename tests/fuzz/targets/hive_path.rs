//! Values → hive partitions → the values again, by themselves and by way of the rows of a batch.
//!
//! What DuckDB and pyarrow read back from such paths is tried by `tests/proof/hive_paths.py`.
#![no_main]

use std::collections::HashMap;
use std::path::{Component, Path};
use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use arrow::array::{ArrayRef, BooleanArray, Date32Array, Int64Array, RecordBatch, StringArray, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema};
use libfuzzer_sys::fuzz_target;
use pintail_config::Config;
use pintail_core::hive::{COMPONENT_BYTES_MAX, HivePartition, NULL_VALUE};
use pintail_sink::layout::{OutputLayout, SplitError, Splitter};

#[derive(Debug, Arbitrary)]
struct Input {
    rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Arbitrary)]
struct Row {
    text: Option<Text>,
    view: Option<Text>,
    number: Option<i64>,
    flag: Option<bool>,
    date: Option<i32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Arbitrary)]
enum Text {
    Any(String),
    /// What stands for NULL, with a character in another case or another place.
    NearNull(u8, u8),
    Long(char, u8),
    Odd(u8),
}

const ODD: [&str; 13] =
    ["", "a.parquet", ".", "..", "../..", "/", "%2F", "%", "a=b", "\0", "\u{feff}", "__HIVE_DEFAULT_PARTITION__", "NULL"];

impl Text {
    fn text(&self) -> String {
        match self {
            Self::Any(text) => text.clone(),
            Self::NearNull(at, how) => {
                let mut text: Vec<char> = NULL_VALUE.chars().collect();
                let at = usize::from(*at) % text.len();
                text[at] = if how % 2 == 0 { text[at].to_ascii_lowercase() } else { text[at] };
                match how / 2 % 4 {
                    0 => text.push('_'),
                    1 => drop(text.remove(at)),
                    _ => {}
                }
                text.into_iter().collect()
            }
            Self::Long(c, count) => c.to_string().repeat(usize::from(*count)),
            Self::Odd(which) => ODD[usize::from(*which) % ODD.len()].to_owned(),
        }
    }
}

/// The partition columns, in the order of the directories.
const COLUMNS: [&str; 5] = ["flag", "text", "number", "view", "date"];

static SPLITTED: LazyLock<Arc<OutputLayout>> = LazyLock::new(|| {
    let sets = [format!("sink.partition_by={COLUMNS:?}"), "sink.event_time=".to_owned()];
    let config = Config::load(None, std::iter::empty(), &sets).expect("settings of ours");
    Arc::new(OutputLayout::new(&schema(), &config.sink).expect("columns of ours"))
});

fn schema() -> Arc<Schema> {
    let field = |(name, data_type)| Field::new(name, data_type, true);
    let types = [
        ("row", DataType::Int64),
        ("text", DataType::Utf8),
        ("view", DataType::Utf8View),
        ("number", DataType::Int64),
        ("flag", DataType::Boolean),
        ("date", DataType::Date32),
    ];
    Arc::new(Schema::new(types.map(field).to_vec()))
}

/// Returns the directory of values and checks it; or why there is none.
fn partition(values: &[(&str, Option<String>)]) -> Result<HivePartition, String> {
    let mut partition = HivePartition::root();
    for (column, value) in values {
        partition.push(column, value.as_deref()).inspect_err(|why| assert!(why.contains(&format!("`{column}`")), "{why}"))?;
    }
    let dir = partition.dir();
    let path = partition.file_path("events-2026-01-01-00-1.parquet");
    assert!(Path::new(&path).components().all(|part| matches!(part, Component::Normal(_))), "{path:?} leaves the dataset");
    let parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    assert_eq!(parts.len(), values.len(), "a level for each column: {dir}");
    for (part, (column, _)) in parts.iter().zip(values) {
        assert!(part.len() <= COMPONENT_BYTES_MAX && part.strip_prefix(column).is_some_and(|rest| rest.starts_with('=')), "{part}");
        assert!(!part.to_ascii_lowercase().ends_with(".parquet"), "{part} looks like a file");
        let encoded = part[column.len() + 1..].bytes();
        assert!({ encoded }.all(|byte| byte.is_ascii_alphanumeric() || b"_-~.%".contains(&byte)), "{part}");
    }
    let back: Vec<_> = partition.values().map(|(column, value)| (column, value.map(|value| value.into_owned()))).collect();
    assert_eq!(back, values, "values read back from {dir}");
    Ok(partition)
}

fn run(input: &Input) {
    let texts = |of: fn(&Row) -> &Option<Text>| input.rows.iter().map(move |row| of(row).as_ref().map(Text::text));
    // By themselves: a value is refused or comes back, and no two have the same directory, ignoring case where NULL is concerned.
    let mut dirs: HashMap<String, Option<String>> = HashMap::new();
    for value in texts(|row| &row.text).chain(texts(|row| &row.view)).chain([None]) {
        match partition(&[("region", value.clone())]) {
            Ok(partition) => {
                assert!(
                    value.is_none() || !partition.dir().eq_ignore_ascii_case(&format!("region={NULL_VALUE}")),
                    "{value:?} looks like NULL"
                );
                let other = dirs.insert(partition.dir().to_owned(), value.clone());
                assert!(other.is_none_or(|other| other == value), "two values in {}", partition.dir());
            }
            Err(why) => {
                let value = value.expect("NULL has its directory");
                let refused = value.contains('\0') || value == NULL_VALUE || "region=".len() + encoded_length(&value) > COMPONENT_BYTES_MAX;
                assert!(refused, "{value:?}: {why}");
            }
        }
    }

    // By way of rows: each is in the partition of its values.
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(0..input.rows.len() as i64)),
        Arc::new(StringArray::from_iter(texts(|row| &row.text))),
        Arc::new(StringViewArray::from_iter(texts(|row| &row.view))),
        Arc::new(Int64Array::from_iter(input.rows.iter().map(|row| row.number))),
        Arc::new(BooleanArray::from_iter(input.rows.iter().map(|row| row.flag))),
        Arc::new(Date32Array::from_iter(input.rows.iter().map(|row| row.date))),
    ];
    let batch = RecordBatch::try_new(schema(), columns).expect("columns of one length");
    let mut splitter = Splitter::new(SPLITTED.clone());
    let expected: Vec<_> = input.rows.iter().map(values_of).collect();
    match splitter.split(&batch) {
        Ok(parts) => {
            let mut seen = 0;
            for part in parts {
                let rows = part.rows.column(0).as_any().downcast_ref::<Int64Array>().expect("the numbers of the rows");
                for row in rows.values() {
                    let expected = expected[*row as usize].as_ref().expect("a row without a place was placed");
                    assert_eq!(partition(expected).as_ref(), Ok(&*part.partition));
                    seen += 1;
                }
            }
            assert_eq!(seen, input.rows.len(), "rows lost or doubled");
        }
        Err(SplitError::Unplaceable(row)) => {
            let expected = expected[row.row].as_ref();
            assert!(expected.is_none_or(|values| partition(values).is_err()), "{}", row.reason);
        }
        Err(SplitError::Failed(error)) => panic!("{error}"),
    }
}

/// Returns the values of a row as texts, in the order of the directories; `None` if its date has no text.
fn values_of(row: &Row) -> Option<Vec<(&'static str, Option<String>)>> {
    let date = match row.date {
        None => None,
        Some(days) => {
            let date = chrono::NaiveDate::default().checked_add_signed(chrono::Duration::days(days.into()))?;
            let text = date.to_string();
            // Years of other than four digits have a sign.
            Some((text.len() == 10 && !text.starts_with("0000")).then_some(text)?)
        }
    };
    let text = |text: &Option<Text>| text.as_ref().map(Text::text);
    let values = [row.flag.map(|flag| flag.to_string()), text(&row.text), row.number.map(|n| n.to_string()), text(&row.view), date];
    Some(COLUMNS.into_iter().zip(values).collect())
}

fn encoded_length(text: &str) -> usize {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-~.".contains(&byte);
    let has_one_more = text.eq_ignore_ascii_case(NULL_VALUE) || text.to_ascii_lowercase().ends_with(".parquet");
    text.bytes().map(|byte| if plain(byte) { 1 } else { 3 }).sum::<usize>() + if has_one_more { 2 } else { 0 }
}

fuzz_target!(|input: Input| run(&input));
