//! Statistics of a file, as JSON in a text (Delta protocol, "Per-file Statistics").
//!
//! Owns: which bounds are told, and that none is narrower than the values.
//! Does not own: the bounds of the ledger (see [`crate::facts`]).

use std::fmt::Write as _;

use arrow::datatypes::DataType;
use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat};
use serde_json::{Value, json};

use crate::facts::{Bound, DataFile, Dataset, Side};

/// Digits that a reader keeps which takes every number for a double.
const DIGITS_MAX: u32 = 15;
/// Characters of the greatest text.
const TEXT_CHARS: usize = 64;

/// Writes what is known of a file of a dataset.
///
/// Bounds are told of all its columns, or its rows alone: from statistics that bound some columns, delta-rs (1.6) makes conditions on the others that no row
/// meets. A column without bounds gets those of its type.
pub(super) fn of(file: &DataFile, dataset: &Dataset) -> String {
    let columns = file.columns.iter().filter_map(|(name, known)| {
        let column = dataset.columns.iter().find(|column| column.name == *name)?;
        (!dataset.partition_by.contains(name)).then_some((name, known, &column.data_type))
    });
    let list = |side: Side| {
        let mut list = String::new();
        for (name, known, data_type) in columns.clone() {
            let has_bounds =
                !data_type.is_nested() && !matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
            if !has_bounds || known.nulls == Some(file.rows) {
                continue;
            }
            let bound = if side == Side::Min { &known.min } else { &known.max };
            let value = match bound {
                Some(bound) => text(bound, side, matches!(data_type, DataType::Timestamp(_, Some(_))))?,
                None => of_type(data_type, side)?,
            };
            let comma = if list.is_empty() { "" } else { "," };
            let _ = write!(list, "{comma}{}:{value}", Value::from(name.as_str()));
        }
        Some(list)
    };
    let Some((min, max)) = list(Side::Min).zip(list(Side::Max)).filter(|_| !file.columns.is_empty()) else {
        // With its nulls it would be taken for one of bounds that are null.
        return json!({ "numRecords": file.rows }).to_string();
    };
    let nulls: serde_json::Map<String, Value> = columns.filter_map(|(name, known, _)| Some((name.clone(), json!(known.nulls?)))).collect();
    // By hand: a decimal must not pass through a double.
    format!(r#"{{"numRecords":{},"minValues":{{{min}}},"maxValues":{{{max}}},"nullCount":{}}}"#, file.rows, Value::from(nulls))
}

/// Returns the bounds of all values of a type; `None` for one that has none in JSON.
fn of_type(data_type: &DataType, side: Side) -> Option<String> {
    let text = match side {
        Side::Min => String::new(),
        // No character is greater, and none that stands for something is as great.
        Side::Max => char::MAX.to_string().repeat(TEXT_CHARS),
    };
    match data_type {
        DataType::Boolean => Some((side == Side::Max).to_string()),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(Value::from(text).to_string()),
        DataType::Dictionary(_, value) => of_type(value, side),
        _ => None,
    }
}

/// Writes a bound as JSON; `None` where that would be no bound any more.
fn text(bound: &Bound, side: Side, with_zone: bool) -> Option<String> {
    Some(match bound {
        Bound::Integer(number) => number.to_string(),
        Bound::Decimal(unscaled, scale) => decimal(*unscaled, *scale, side),
        Bound::Date(days) => {
            let date = NaiveDate::default().checked_add_signed(chrono::TimeDelta::days((*days).into()))?;
            quoted(date.year(), date.format("%Y-%m-%d").to_string())?
        }
        Bound::Timestamp(micros) => {
            // Readers keep milliseconds.
            let millis = match side {
                Side::Min => micros.div_euclid(1_000),
                Side::Max => micros.checked_add(999)?.div_euclid(1_000),
            };
            let time = DateTime::from_timestamp_millis(millis)?;
            let text = time.to_rfc3339_opts(SecondsFormat::Millis, true);
            quoted(time.year(), if with_zone { text } else { text.trim_end_matches('Z').to_owned() })?
        }
        Bound::Double(number) => serde_json::Number::from_f64(*number)?.to_string(),
        Bound::Text(text) => Value::from(text.as_str()).to_string(),
    })
}

/// Readers agree on the years of four digits.
fn quoted(year: i32, text: String) -> Option<String> {
    (1..=9_999).contains(&year).then(|| format!("\"{text}\""))
}

/// Writes a number, rounded outwards to the digits that readers keep.
fn decimal(unscaled: i128, scale: u8, side: Side) -> String {
    let more = unscaled.unsigned_abs().checked_ilog10().map_or(0, |digits| (digits + 1).saturating_sub(DIGITS_MAX));
    let unit = 10_i128.pow(more);
    let rounded = match side {
        Side::Min => unscaled.div_euclid(unit) * unit,
        Side::Max => -((-unscaled).div_euclid(unit) * unit),
    };
    let (sign, digits, width) = (if rounded < 0 { "-" } else { "" }, rounded.unsigned_abs(), usize::from(scale) + 1);
    let mut text = format!("{digits:0>width$}");
    if scale > 0 {
        text.insert(text.len() - usize::from(scale), '.');
    }
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Field;

    use super::*;
    use crate::facts::{Column, Known, Settled};

    #[test]
    fn no_bound_is_narrower_than_the_values_and_what_readers_would_round_is_left_out() {
        for (bound, min, max) in [
            (Bound::Integer(i64::MIN), Some("-9223372036854775808"), Some("-9223372036854775808")),
            (Bound::Decimal(-5, 2), Some("-0.05"), Some("-0.05")),
            (Bound::Decimal(123_456, 2), Some("1234.56"), Some("1234.56")),
            (Bound::Decimal(7, 0), Some("7"), Some("7")),
            (Bound::Decimal(10_i128.pow(15), 2), Some("10000000000000.00"), Some("10000000000000.00")),
            (Bound::Decimal(1_234_567_890_123_456, 2), Some("12345678901234.50"), Some("12345678901234.60")),
            (Bound::Decimal(-1_234_567_890_123_456, 2), Some("-12345678901234.60"), Some("-12345678901234.50")),
            (
                Bound::Decimal(10_i128.pow(38) - 1, 0),
                Some("99999999999999900000000000000000000000"),
                Some("100000000000000000000000000000000000000"),
            ),
            (Bound::Double(-0.0), Some("-0.0"), Some("-0.0")),
            (Bound::Double(1e300), Some("1e+300"), Some("1e+300")),
            (Bound::Double(f64::INFINITY), None, None),
            (Bound::Date(-1), Some("\"1969-12-31\""), Some("\"1969-12-31\"")),
            (Bound::Date(i32::MAX), None, None),
            (Bound::Timestamp(1_001), Some("\"1970-01-01T00:00:00.001Z\""), Some("\"1970-01-01T00:00:00.002Z\"")),
            (Bound::Timestamp(-1), Some("\"1969-12-31T23:59:59.999Z\""), Some("\"1970-01-01T00:00:00.000Z\"")),
            (Bound::Timestamp(i64::MAX), None, None),
            (Bound::Timestamp(i64::MIN), None, None),
            (Bound::Text("a\"ü".into()), Some("\"a\\\"ü\""), Some("\"a\\\"ü\"")),
        ] {
            assert_eq!(text(&bound, Side::Min, true).as_deref(), min, "{bound:?}");
            assert_eq!(text(&bound, Side::Max, true).as_deref(), max, "{bound:?}");
        }
        assert_eq!(text(&Bound::Timestamp(0), Side::Min, false).as_deref(), Some("\"1970-01-01T00:00:00.000\""));
    }

    fn stats(columns: &[(&str, DataType, Known)]) -> Value {
        let column = |(at, (name, data_type, _)): (usize, &(&str, DataType, Known))| Column {
            id: at as u32 + 1,
            name: (*name).into(),
            data_type: data_type.clone(),
            settled: Settled::InFiles,
        };
        let dataset = Dataset {
            id: "d".into(),
            partition_by: vec!["hive".into()],
            columns: columns.iter().enumerate().map(column).collect(),
            clash: None,
        };
        let file = DataFile {
            path: "a.parquet".into(),
            bytes: 1,
            rows: 3,
            committed: DateTime::UNIX_EPOCH,
            misnumbered: None,
            columns: columns.iter().map(|(name, _, known)| ((*name).to_owned(), known.clone())).collect(),
        };
        serde_json::from_str(&of(&file, &dataset)).unwrap()
    }

    fn known(nulls: u64, bounds: Option<(Bound, Bound)>) -> Known {
        let (min, max) = bounds.unzip();
        Known { bytes: None, nulls: Some(nulls), min, max }
    }

    #[test]
    fn each_column_that_has_bounds_in_a_table_has_some_or_none_has() {
        let number = ("n\"", DataType::Int64, known(1, Some((Bound::Integer(1), Bound::Integer(2)))));
        let nested = ("l", DataType::List(Arc::new(Field::new("item", DataType::Int64, true))), known(0, None));
        let others = [
            ("t", DataType::Utf8View, known(0, None)),
            ("b", DataType::Boolean, known(2, None)),
            ("all nulls", DataType::Float64, known(3, None)),
            ("f", DataType::Float64, known(0, Some((Bound::Double(0.5), Bound::Double(2.0))))),
            ("hive", DataType::Utf8, known(0, None)),
        ];
        let all = [&[number.clone(), nested.clone()][..], &others].concat();
        let expected = json!({
            "numRecords": 3,
            "minValues": { "n\"": 1, "t": "", "b": false, "f": 0.5 },
            "maxValues": { "n\"": 2, "t": char::MAX.to_string().repeat(64), "b": true, "f": 2.0 },
            "nullCount": { "n\"": 1, "l": 0, "t": 0, "b": 2, "all nulls": 3, "f": 0 },
        });
        assert_eq!(stats(&all), expected);
        assert_eq!(stats(&[]), json!({ "numRecords": 3 }));
        let with_nan = ("nan", DataType::Float64, known(0, None));
        let far = ("far", DataType::Date32, known(0, Some((Bound::Date(0), Bound::Date(i32::MAX)))));
        for unbounded in [with_nan, far] {
            assert_eq!(stats(&[number.clone(), unbounded]), json!({ "numRecords": 3 }));
        }
    }
}
