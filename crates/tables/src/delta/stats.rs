//! Statistics of a file, as JSON in a text (Delta protocol, "Per-file Statistics").
//!
//! Owns: which bounds are told, and that none is narrower than the values.
//! Does not own: the bounds of the ledger (see [`crate::facts`]).

use std::fmt::Write as _;

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat};
use serde_json::{Value, json};

use crate::facts::{Bound, DataFile, Known};

/// Digits that a reader keeps which takes every number for a double.
const DIGITS_MAX: u32 = 15;

/// Which of the two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Min,
    Max,
}

/// Writes what is known of a file. `with_zone` tells of the columns of timestamps whether they are of UTC.
pub(super) fn of(file: &DataFile, with_zone: impl Fn(&str) -> bool) -> String {
    let list = |side: Side| {
        let bound = |known: &Known| if side == Side::Min { known.min.clone() } else { known.max.clone() };
        let told = file.columns.iter().filter_map(|(name, known)| Some((name, text(&bound(known)?, side, with_zone(name))?)));
        let mut list = String::new();
        for (name, value) in told {
            let comma = if list.is_empty() { "" } else { "," };
            let _ = write!(list, "{comma}{}:{value}", Value::from(name.as_str()));
        }
        list
    };
    let nulls: serde_json::Map<String, Value> =
        file.columns.iter().filter_map(|(name, known)| Some((name.clone(), json!(known.nulls?)))).collect();
    let (min, max, nulls) = (list(Side::Min), list(Side::Max), Value::from(nulls));
    // By hand: a decimal must not pass through a double.
    format!(r#"{{"numRecords":{},"minValues":{{{min}}},"maxValues":{{{max}}},"nullCount":{nulls}}}"#, file.rows)
}

/// Writes a bound as JSON; `None` where that would be no bound any more.
fn text(bound: &Bound, side: Side, with_zone: bool) -> Option<String> {
    Some(match bound {
        Bound::Integer(number) => number.to_string(),
        Bound::Decimal(unscaled, scale) => decimal(*unscaled, *scale)?,
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
        Bound::Text(text) => Value::from(text.as_str()).to_string(),
    })
}

/// Readers agree on the years of four digits.
fn quoted(year: i32, text: String) -> Option<String> {
    (1..=9_999).contains(&year).then(|| format!("\"{text}\""))
}

fn decimal(unscaled: i128, scale: u8) -> Option<String> {
    let digits = unscaled.unsigned_abs();
    if digits >= 10_u128.pow(DIGITS_MAX) {
        return None;
    }
    let (sign, width) = (if unscaled < 0 { "-" } else { "" }, usize::from(scale) + 1);
    let mut text = format!("{digits:0>width$}");
    if scale > 0 {
        text.insert(text.len() - usize::from(scale), '.');
    }
    Some(format!("{sign}{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bound_is_narrower_than_the_values_and_what_readers_would_round_is_left_out() {
        for (bound, min, max) in [
            (Bound::Integer(i64::MIN), Some("-9223372036854775808"), Some("-9223372036854775808")),
            (Bound::Decimal(-5, 2), Some("-0.05"), Some("-0.05")),
            (Bound::Decimal(123_456, 2), Some("1234.56"), Some("1234.56")),
            (Bound::Decimal(7, 0), Some("7"), Some("7")),
            (Bound::Decimal(10_i128.pow(15), 2), None, None),
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

    #[test]
    fn statistics_are_json_with_the_names_of_the_columns() {
        let known = |nulls, min, max| Known { bytes: None, nulls, min, max };
        let file = DataFile {
            path: "a.parquet".into(),
            bytes: 1,
            rows: 3,
            committed: DateTime::UNIX_EPOCH,
            misnumbered: None,
            columns: vec![
                ("n\"".into(), known(Some(1), Some(Bound::Integer(1)), Some(Bound::Integer(2)))),
                ("f".into(), known(Some(0), None, None)),
                ("t".into(), known(None, None, None)),
            ],
        };
        let stats: Value = serde_json::from_str(&of(&file, |_| true)).unwrap();
        let expected = json!({ "numRecords": 3, "minValues": { "n\"": 1 }, "maxValues": { "n\"": 2 }, "nullCount": { "n\"": 1, "f": 0 } });
        assert_eq!(stats, expected);
    }
}
