//! What a record should become, said slowly, by `serde_json`, `chrono` and the standard library.
//!
//! Owns: the rule of agreement, exact for any bytes, and the cells of a batch as text. The tests here and the fuzz target of the decoder
//! (`tests/fuzz`) both hold the decoder to this file.
//! Does not own: the records (each makes its own), and the words of the reasons.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrowPrimitiveType, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use chrono::{DateTime, NaiveDate};
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{ColumnType, EventSchema};

/// What the decoder should make of a line.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fate {
    /// A row of these cells, `None` = null.
    Row(Vec<Option<String>>),
    /// A dead letter.
    Dead,
    /// Nothing: a blank line is no record.
    Blank,
}

/// Says what becomes of a line, which has no line end.
pub(super) fn fate(schema: &EventSchema, line: &[u8]) -> Fate {
    let Ok(text) = std::str::from_utf8(line) else { return Fate::Dead };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_matches([' ', '\t', '\r']).is_empty() {
        return Fate::Blank;
    }
    row(schema, text).map_or(Fate::Dead, Fate::Row)
}

fn row(schema: &EventSchema, text: &str) -> Option<Vec<Option<String>>> {
    let valid = serde_json::from_str::<IgnoredAny>(text).is_ok();
    if !valid || depth(text) > 127 {
        return None;
    }
    // Of a key that occurs twice the last counts: a map keeps that one.
    let record: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    schema
        .columns
        .iter()
        .map(|column| {
            let value = at(&record, &column.path)?.filter(|value| *value != "null");
            match value {
                None => (!column.required).then_some(None),
                Some(value) => cell_of(column.column_type, value).map(Some),
            }
        })
        .collect()
}

/// Follows a path: `None` = something on the way refuses the record, `Some(None)` = nothing is there.
fn at<'a>(object: &BTreeMap<String, &'a RawValue>, path: &[String]) -> Option<Option<&'a str>> {
    let (key, rest) = path.split_first()?;
    let Some(value) = object.get(key).map(|value| value.get()) else { return Some(None) };
    match value {
        _ if rest.is_empty() => Some(Some(value)),
        "null" => Some(None),
        // What is no object, or has a key that is no text.
        _ => at(&serde_json::from_str(value).ok()?, rest),
    }
}

/// Returns the cell that a value makes; `None` = it does not fit.
fn cell_of(column_type: ColumnType, value: &str) -> Option<String> {
    let number = value.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then_some(value);
    let text = || serde_json::from_str::<String>(value).ok();
    let integer = |min: i128, max: i128| units(number?, 0).filter(|n| (min..=max).contains(n));
    match column_type {
        ColumnType::Boolean => matches!(value, "true" | "false").then(|| value.to_owned()),
        ColumnType::Int8 => integer(i8::MIN.into(), i8::MAX.into()).map(|n| n.to_string()),
        ColumnType::Int16 => integer(i16::MIN.into(), i16::MAX.into()).map(|n| n.to_string()),
        ColumnType::Int32 => integer(i32::MIN.into(), i32::MAX.into()).map(|n| n.to_string()),
        ColumnType::Int64 => integer(i64::MIN.into(), i64::MAX.into()).map(|n| n.to_string()),
        ColumnType::UInt8 => integer(0, u8::MAX.into()).map(|n| n.to_string()),
        ColumnType::UInt16 => integer(0, u16::MAX.into()).map(|n| n.to_string()),
        ColumnType::UInt32 => integer(0, u32::MAX.into()).map(|n| n.to_string()),
        ColumnType::UInt64 => integer(0, u64::MAX.into()).map(|n| n.to_string()),
        ColumnType::Float32 => number?.parse().ok().filter(|n: &f32| n.is_finite()).map(|n| format!("{n:?}")),
        ColumnType::Float64 => number?.parse().ok().filter(|n: &f64| n.is_finite()).map(|n| format!("{n:?}")),
        ColumnType::Decimal { precision, scale } => {
            let text = number.map(str::to_owned).or_else(text)?;
            let fits = |n: &i128| n.unsigned_abs() < 10u128.pow(precision.into());
            units(&text, scale.into()).filter(fits).map(|n| n.to_string())
        }
        ColumnType::Text | ColumnType::Dictionary => text(),
        ColumnType::Timestamp(unit) => {
            let per_second = match unit {
                TimeUnit::Second => 1,
                TimeUnit::Millisecond => 1_000,
                TimeUnit::Microsecond => 1_000_000,
                TimeUnit::Nanosecond => 1_000_000_000,
            };
            let second = |text: &str| i128::from(DateTime::parse_from_rfc3339(text).expect("a time of ours").timestamp());
            let first = second("0001-01-01T00:00:00Z") * per_second;
            let last = (second("9999-12-31T23:59:59Z") + 1) * per_second - 1;
            // The outermost 64-bit nanoseconds are infinity to DuckDB.
            integer(first.max(2 - (1 << 63)), last.min((1 << 63) - 2)).map(|n| n.to_string())
        }
        ColumnType::TimestampText => micros(&text()?).map(|n| n.to_string()),
        ColumnType::Date => date(&text()?).map(|date| date.signed_duration_since(NaiveDate::default()).num_days().to_string()),
        ColumnType::Json => strings(value).all(|text| serde_json::from_str::<String>(text).is_ok()).then(|| value.to_owned()),
    }
}

/// Reads a number as an integer of units of `10^-scale` by moving its point; `None` if it is no number, digits are left behind the point, or
/// it is far beyond 38 digits.
fn units(text: &str, scale: i64) -> Option<i128> {
    let (size, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)) {
        return None;
    }
    let sign = if size.starts_with('-') { "-" } else { "" };
    let size = size.strip_prefix(['+', '-']).unwrap_or(size);
    let (whole, fraction) = size.split_once('.').unwrap_or((size, "0"));
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    if digits.bytes().all(|digit| digit == b'0') {
        return Some(0);
    }
    // An exponent beyond 64 bits moves the point further than any text is long.
    let exponent = exponent.parse().unwrap_or(if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 });
    let zeros = digits.len() - digits.trim_end_matches('0').len();
    let end = exponent + scale - fraction.len() as i64 + zeros as i64;
    let digits = digits.trim_matches('0');
    if end < 0 || digits.len() as i64 + end > 39 {
        return None;
    }
    format!("{sign}{digits}{}", "0".repeat(end as usize)).parse().ok()
}

/// Reads a time: RFC 3339 by `chrono`, once what it lacks has been added and what it takes beyond that was refused.
fn micros(text: &str) -> Option<i64> {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c.to_ascii_uppercase() }).collect();
    let rest = shape.strip_prefix("0000-00-00")?.strip_prefix(['T', ' '])?.strip_prefix("00:00:00")?;
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => fraction.strip_prefix('0')?.trim_start_matches('0'),
        None => rest,
    };
    let add = match zone {
        "" => "Z",
        "+00" | "-00" => ":00",
        "Z" | "+00:00" | "-00:00" => "",
        _ => return None,
    };
    if text.starts_with("0000") {
        return None;
    }
    let micros = DateTime::parse_from_rfc3339(&format!("{text}{add}")).ok()?.timestamp_micros();
    let year_1 = DateTime::parse_from_rfc3339("0001-01-01T00:00:00Z").expect("a time of ours").timestamp_micros();
    let year_10000 = DateTime::parse_from_rfc3339("9999-12-31T23:59:59Z").expect("a time of ours").timestamp_micros() + 1_000_000;
    (year_1..year_10000).contains(&micros).then_some(micros)
}

fn date(text: &str) -> Option<NaiveDate> {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    (shape == "0000-00-00" && !text.starts_with("0000")).then(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok())?
}

/// Returns how deep objects and arrays of a valid JSON text lie in each other.
fn depth(text: &str) -> usize {
    let (mut outside, mut end) = (String::new(), 0);
    for string in strings(text) {
        let start = string.as_ptr().addr() - text.as_ptr().addr();
        outside += &text[end..start];
        end = start + string.len();
    }
    outside += &text[end..];
    let step = |depth: &mut usize, c: char| {
        match c {
            '{' | '[' => *depth += 1,
            '}' | ']' => *depth -= 1,
            _ => {}
        }
        Some(*depth)
    };
    outside.chars().scan(0, step).max().unwrap_or(0)
}

/// Returns the strings of a valid JSON text with their quotes, keys too.
fn strings(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = &rest[rest.find('"')?..];
        let mut end = 1;
        while !rest[end..].starts_with('"') {
            end += if rest[end..].starts_with('\\') { 2 } else { rest[end..].chars().next()?.len_utf8() };
        }
        let string = &rest[..=end];
        rest = &rest[end + 1..];
        Some(string)
    })
}

/// A cell as text in the precision that its type has.
pub(super) fn cell(batch: &RecordBatch, column: usize, row: usize) -> Option<String> {
    fn raw<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> String {
        format!("{:?}", array.as_primitive::<T>().value(row))
    }
    let array = batch.column(column);
    let array: &dyn Array = array;
    (!array.is_null(row)).then(|| match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int8 => raw::<Int8Type>(array, row),
        DataType::Int16 => raw::<Int16Type>(array, row),
        DataType::Int32 => raw::<Int32Type>(array, row),
        DataType::Int64 => raw::<Int64Type>(array, row),
        DataType::UInt8 => raw::<UInt8Type>(array, row),
        DataType::UInt16 => raw::<UInt16Type>(array, row),
        DataType::UInt32 => raw::<UInt32Type>(array, row),
        DataType::UInt64 => raw::<UInt64Type>(array, row),
        DataType::Float32 => raw::<Float32Type>(array, row),
        DataType::Float64 => raw::<Float64Type>(array, row),
        DataType::Decimal128(..) => raw::<Decimal128Type>(array, row),
        DataType::Date32 => raw::<Date32Type>(array, row),
        DataType::Timestamp(TimeUnit::Second, _) => raw::<TimestampSecondType>(array, row),
        DataType::Timestamp(TimeUnit::Millisecond, _) => raw::<TimestampMillisecondType>(array, row),
        DataType::Timestamp(TimeUnit::Microsecond, _) => raw::<TimestampMicrosecondType>(array, row),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => raw::<TimestampNanosecondType>(array, row),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Dictionary(..) => {
            let dictionary = array.as_dictionary::<Int32Type>();
            dictionary.values().as_string::<i32>().value(dictionary.key(row).expect("the row is not null")).to_owned()
        }
        other => panic!("no column has the type {other}"),
    })
}

/// All cells, row by row.
pub(super) fn cells(batch: &RecordBatch) -> Vec<Vec<Option<String>>> {
    (0..batch.num_rows()).map(|row| (0..batch.num_columns()).map(|column| cell(batch, column, row)).collect()).collect()
}
