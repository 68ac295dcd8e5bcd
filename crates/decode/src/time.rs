//! Timestamps and dates from text, and the span of time that is believed.
//!
//! Owns: the calendar grammar (RFC 3339, `YYYY-MM-DD`) and the limits: years 1 to 9999, which catches integers declared in a wrong unit
//! before they become a directory or a file name of the year 57970.
//! Does not own: time zones. An offset is applied and forgotten: everything is UTC.

use std::cell::Cell;
use std::ops::RangeInclusive;

use arrow::datatypes::{ArrowPrimitiveType, Date32Type, TimeUnit, TimestampMicrosecondType};
use chrono::{Datelike, NaiveDate};

use super::cursor::Cursor;
use super::number::Integer;
use super::primitive::Scalar;

/// Days from 0001-01-01 to 1970-01-01.
const EPOCH_DAYS: i32 = 719_163;
/// 0001-01-01T00:00:00Z in seconds.
const FIRST_SECOND: i64 = -62_135_596_800;
/// 10000-01-01T00:00:00Z in seconds.
const END_SECOND: i64 = 253_402_300_800;
const MICROS: i64 = 1_000_000;

/// Returns the integers that are taken as a timestamp of `unit`.
pub fn timestamp_range(unit: TimeUnit) -> RangeInclusive<i64> {
    let per_second = match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => MICROS,
        TimeUnit::Nanosecond => 1_000_000_000,
    };
    // Nanoseconds end with the integers, in 2262; DuckDB reads the outermost as infinity.
    let first = FIRST_SECOND.saturating_mul(per_second).max(-i64::MAX + 1);
    let last = (END_SECOND.saturating_mul(per_second) - 1).min(i64::MAX - 1);
    first..=last
}

/// Returns the days since 1970 that are taken as a date.
pub fn date_range() -> RangeInclusive<i32> {
    let end = i32::try_from(END_SECOND / 86_400).expect("millions of days");
    1 - EPOCH_DAYS..=end - 1
}

/// Makes the column of timestamps of `unit` that are integers.
pub(super) fn timestamps<T: ArrowPrimitiveType<Native = i64>>(unit: TimeUnit) -> Integer<T> {
    let (first, last) = timestamp_range(unit).into_inner();
    Integer::between(first, last)
}

/// Timestamps from RFC 3339 text.
#[derive(Debug, Default)]
pub(super) struct TimestampText {
    /// Whether one lost digits.
    is_cut: Cell<bool>,
}

impl TimestampText {
    fn read(&self, text: &str) -> Option<i64> {
        let Timestamp { micros, is_cut } = timestamp(text)?;
        if is_cut {
            self.is_cut.set(true);
        }
        Some(micros)
    }
}

impl Scalar for TimestampText {
    type Arrow = TimestampMicrosecondType;

    fn usual(&self, cursor: &mut Cursor<'_>) -> Option<i64> {
        self.read(cursor.plain_string()?)
    }

    fn careful(&self, json: &str) -> Option<i64> {
        self.read(&serde_json::from_str::<String>(json).ok()?)
    }

    fn take_cut(&self) -> bool {
        self.is_cut.take()
    }
}

/// Dates from `YYYY-MM-DD`.
#[derive(Debug)]
pub(super) struct Date;

impl Scalar for Date {
    type Arrow = Date32Type;

    fn usual(&self, cursor: &mut Cursor<'_>) -> Option<i32> {
        date_days(cursor.plain_string()?)
    }

    fn careful(&self, json: &str) -> Option<i32> {
        date_days(&serde_json::from_str::<String>(json).ok()?)
    }
}

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timestamp {
    /// Since 1970 UTC.
    pub(super) micros: i64,
    /// Whether digits behind the microsecond, not all of them zero, were cut.
    pub(super) is_cut: bool,
}

/// Reads RFC 3339 text. A space may stand for the `T`; without an offset it is UTC; an offset of whole
/// hours may lack its minutes. Digits behind the
/// microsecond are cut; the leap second `:60` is the first of the next minute, as in PostgreSQL.
pub(super) fn timestamp(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_at_checked(10)?;
    let time = time.strip_prefix(['T', 't', ' '])?;
    let clock = time.get(..8)?.as_bytes();
    if clock[2] != b':' || clock[5] != b':' {
        return None;
    }
    let (hour, minute, second) = (two_digits(clock, 0)?, two_digits(clock, 3)?, two_digits(clock, 6)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (micros, is_cut, zone) = fraction_micros(&time[8..])?;
    let seconds = i64::from(date_days(date)?) * 86_400 + hour * 3_600 + minute * 60 + second - zone_seconds(zone)?;
    (FIRST_SECOND..END_SECOND).contains(&seconds).then_some(Timestamp { micros: seconds * MICROS + micros, is_cut })
}

/// Reads `YYYY-MM-DD` as days since 1970; years 1 to 9999.
pub(super) fn date_days(text: &str) -> Option<i32> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let year = two_digits(bytes, 0)? * 100 + two_digits(bytes, 2)?;
    let (month, day) = (two_digits(bytes, 5)?, two_digits(bytes, 8)?);
    let part = |value| u32::try_from(value).ok();
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok().filter(|year| *year > 0)?, part(month)?, part(day)?)?;
    Some(date.num_days_from_ce() - EPOCH_DAYS)
}

/// Reads `.digits` if there, and returns its microseconds, whether there is more behind them, and what follows.
fn fraction_micros(text: &str) -> Option<(i64, bool, &str)> {
    let Some(fraction) = text.strip_prefix('.') else { return Some((0, false, text)) };
    let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, zone) = fraction.split_at(length);
    let padded = digits.bytes().chain(std::iter::repeat(b'0')).take(6);
    let is_cut = digits.bytes().skip(6).any(|digit| digit != b'0');
    (length > 0).then(|| (padded.fold(0, |micros, digit| micros * 10 + i64::from(digit - b'0')), is_cut, zone))
}

/// Reads `Z`, `±HH:MM`, `±HH` or nothing as seconds east of UTC.
fn zone_seconds(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first() {
        None => return Some(0),
        Some(b'Z' | b'z') => return (zone.len() == 1).then_some(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    let (hours, minutes) = match zone.as_bytes() {
        zone @ [_, _, _, b':', _, _] => (two_digits(zone, 1)?, two_digits(zone, 4)?),
        // DuckDB and PostgreSQL write whole hours so.
        zone @ [_, _, _] => (two_digits(zone, 1)?, 0),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// Reads two digits.
fn two_digits(bytes: &[u8], at: usize) -> Option<i64> {
    let digit = |at: usize| bytes.get(at).filter(|byte| byte.is_ascii_digit()).map(|byte| i64::from(byte - b'0'));
    Some(digit(at)? * 10 + digit(at + 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp_micros(text: &str) -> Option<i64> {
        timestamp(text).map(|timestamp| timestamp.micros)
    }

    #[test]
    fn digits_behind_the_microsecond_are_cut_and_told_unless_they_are_zero() {
        for (text, is_cut) in [
            ("2026-01-01T00:00:00Z", false),
            ("2026-01-01T00:00:00.123456Z", false),
            ("2026-01-01T00:00:00.123456000Z", false),
            ("2026-01-01T00:00:00.1234560001", true),
            ("2026-01-01 00:00:00.123456789+01", true),
        ] {
            assert_eq!(timestamp(text).unwrap().is_cut, is_cut, "{text}");
        }
        let column = TimestampText::default();
        column.careful("\"2026-01-01T00:00:00.123456789Z\"").unwrap();
        column.careful("\"2026-01-01T00:00:00Z\"").unwrap();
        assert_eq!((column.take_cut(), column.take_cut()), (true, false));
    }

    #[test]
    fn timestamps_agree_with_chrono() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2026-01-01T00:00:00.123456Z",
            "2026-02-28T23:59:59.999999999+05:30",
            "2024-02-29t12:00:00z",
            "1969-12-31T23:59:59.5-08:00",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999Z",
        ] {
            let expected = chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
            assert_eq!(timestamp_micros(text), Some(expected), "{text}");
            assert_eq!(timestamp_micros(&text.replacen(['T', 't'], " ", 1)), Some(expected), "{text}");
        }
        assert_eq!(timestamp_micros("2013-01-01 10:00:00-05"), timestamp_micros("2013-01-01T15:00:00Z"));
        assert_eq!(timestamp_micros("2026-01-01T00:00:01"), timestamp_micros("2026-01-01T00:00:01Z"));
        assert_eq!(timestamp_micros("2016-12-31T23:59:60Z"), timestamp_micros("2017-01-01T00:00:00Z"));
    }

    #[test]
    fn what_is_no_timestamp_is_refused() {
        for text in [
            "",
            "2026-01-01",
            "2026-01-01T00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00Zx",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "0000-12-31T00:00:00Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-01:00",
            "2026-01-01_00:00:00Z",
            "２026-01-01T00:00:00Z",
            "2026-01-01T0é:00:00Z",
            " 2026-01-01T00:00:00Z",
        ] {
            assert_eq!(timestamp_micros(text), None, "{text:?}");
        }
    }

    #[test]
    fn dates_count_days_from_1970() {
        assert_eq!(date_days("1970-01-01"), Some(0));
        assert_eq!(date_days("1969-12-31"), Some(-1));
        assert_eq!(date_days("2024-02-29"), Some(19_782));
        for text in ["2023-02-29", "2023-2-09", "2023-02-9 ", "20230209", "0000-01-01", "2023-00-01", "2023-01-01T", "２３-01-01"] {
            assert_eq!(date_days(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_integer_in_a_wrong_unit_is_out_of_the_believed_years() {
        use arrow::datatypes::{TimestampNanosecondType, TimestampSecondType};
        let seconds = timestamps::<TimestampSecondType>(TimeUnit::Second);
        assert_eq!(seconds.careful("1767225600"), Some(1_767_225_600));
        assert_eq!(seconds.careful("1767225600123"), None);
        assert_eq!(seconds.careful("253402300799"), Some(253_402_300_799));
        assert_eq!(seconds.careful("253402300800"), None);
        let nanos = timestamps::<TimestampNanosecondType>(TimeUnit::Nanosecond);
        assert_eq!(nanos.careful("9223372036854775806"), Some(i64::MAX - 1));
        assert_eq!(nanos.careful("9223372036854775807"), None);
    }
}
