//! Generated records, decoded and compared with an oracle over `serde_json::Value`.

use chrono::{DateTime, Datelike, NaiveDate};
use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

use super::*;

/// Declared columns: every type, nested paths that share a prefix, a value wanted whole and in parts, a required one.
const COLUMNS: &[(&str, &str)] = &[
    ("boolean", "boolean"),
    ("int8", "int8"),
    ("int32", "int32"),
    ("int64", "int64"),
    ("uint8", "uint8"),
    ("uint64", "uint64"),
    ("float32", "float32"),
    ("float64", "float64"),
    ("decimal", "decimal(6,2)"),
    ("text", "text"),
    ("dictionary", "dictionary"),
    ("ts_s", "timestamp_s"),
    ("ts_ms", "timestamp_ms"),
    ("ts", "timestamp"),
    ("date", "date"),
    ("json", "json"),
    ("a.int64", "int64"),
    ("a.text", "text"),
    ("a.b.float64", "float64"),
    ("json.text", "json"),
    ("größe", "int64"),
    ("id", "int64!"),
];

/// Keys as they are written: declared, escaped, unknown.
const KEYS: &[&str] = &[
    "boolean",
    "int8",
    "int32",
    "int64",
    "uint8",
    "uint64",
    "float32",
    "float64",
    "decimal",
    "text",
    "dictionary",
    "ts_s",
    "ts_ms",
    "ts",
    "date",
    "json",
    "a",
    "größe",
    "gr\\u00f6\\u00dfe",
    "te\\u0078t",
    "id",
    "unknown",
    "",
    "b",
];

/// Values as they are written.
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "7",
    "-7",
    "127",
    "128",
    "-128",
    "-129",
    "255",
    "256",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "5.0",
    "5.5",
    "1e3",
    "12E-1",
    "0.10",
    "12.3456",
    "-1234.56",
    "99999.99",
    "1.7976931348623157e308",
    "5e-324",
    "3.4028236e38",
    "0.30000000000000004",
    "1767225600",
    "1767225600123",
    "253402300800",
    "\"\"",
    "\"us\"",
    "\"eu\"",
    "\"SKU-00042\"",
    "\"é😀\"",
    r#""\u00e9\ud83d\ude00""#,
    r#""a\"b\\\/\n""#,
    "\"12.30\"",
    "\"x12\"",
    "\"2026-01-31\"",
    "\"2026-02-30\"",
    "\"2026-01-31T23:59:59.123456789+01:00\"",
    "\"2026-01-31 23:59:59\"",
    "\"2026-01-31T23:59:59Z\"",
    "[]",
    "{}",
    "[1,[2,{\"a\":null}]]",
    r#"{"int64":7}"#,
    r#"{"int64":"x"}"#,
    r#"{"text":"t","int64":1.0}"#,
    r#"{"b":{"float64":1.5},"text":null}"#,
    r#"{"b":null}"#,
    r#"{"b":[]}"#,
    r#"{"b":{"float64":1},"b":{}}"#,
    r#"{"text":"a","text":"b"}"#,
    r#"{"a":{"b":{"c":[{}]}}}"#,
];

/// What breaks or bends a record when it is put into it.
const DAMAGE: &[&str] = &["", "\"", "\\", "{", "}", "[", "]", ",", ":", " ", "\t", "0", "-", ".", "e", "\u{1}", "\u{feff}", "nul", "\r"];

prop_compose! {
    fn record()(
        fields in prop::collection::vec((0..KEYS.len(), 0..VALUES.len(), prop::bool::weighted(0.2)), 0..9),
        id in prop::option::weighted(0.9, 0..1000u32),
        damage in prop::option::weighted(0.2, (any::<prop::sample::Index>(), 0..DAMAGE.len())),
        odd_line_end in prop::bool::weighted(0.1),
        mark in prop::bool::weighted(0.05),
    ) -> String {
        let mut fields: Vec<String> = fields
            .into_iter()
            .map(|(key, value, spaced)| {
                let (key, value) = (KEYS[key], VALUES[value]);
                if spaced { format!(" \"{key}\" :\t{value} ") } else { format!("\"{key}\":{value}") }
            })
            .collect();
        fields.extend(id.map(|id| format!("\"id\":{id}")));
        let mut text = format!("{{{}}}", fields.join(","));
        if let Some((at, with)) = damage {
            let starts: Vec<usize> = text.char_indices().map(|(start, _)| start).collect();
            let at = *at.get(&starts);
            let end = at + text[at..].chars().next().map_or(0, char::len_utf8);
            text.replace_range(at..end, DAMAGE[with]);
        }
        let mark = if mark { "\u{feff}" } else { "" };
        format!("{mark}{text}{}", if odd_line_end { "\r" } else { "" })
    }
}

/// What the decoder should make of a record: its cells, a dead letter, or nothing (blank).
#[derive(Debug, PartialEq)]
enum Fate {
    Row(Vec<Option<String>>),
    Dead,
    Blank,
}

fn oracle(schema: &EventSchema, line: &str) -> Fate {
    let text = line.strip_suffix('\r').unwrap_or(line);
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_matches([' ', '\t', '\r']).is_empty() {
        return Fate::Blank;
    }
    let Ok(record @ Value::Object(_)) = serde_json::from_str::<Value>(text) else { return Fate::Dead };
    let mut row = Vec::new();
    for column in &schema.columns {
        let (mut value, mut raw) = (&record, text.to_owned());
        for key in &column.path {
            match value {
                Value::Object(object) => value = object.get(key).unwrap_or(&Value::Null),
                Value::Null => {}
                _ => return Fate::Dead,
            }
            if !value.is_null() {
                raw = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(&raw).unwrap()[key].get().to_owned();
            }
        }
        if value.is_null() && column.required {
            return Fate::Dead;
        }
        row.push(if value.is_null() {
            None
        } else {
            let Some(cell) = expected(column.column_type, value, &raw) else { return Fate::Dead };
            Some(cell)
        });
    }
    Fate::Row(row)
}

fn expected(column_type: ColumnType, value: &Value, raw: &str) -> Option<String> {
    let integer = |min: i128, max: i128| {
        let double = || value.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 9e15).map(|n| n as i128);
        let number = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from)).or_else(double)?;
        (min <= number && number <= max).then_some(number)
    };
    let in_years = |time: Option<DateTime<chrono::Utc>>| time.is_some_and(|time| (1..=9999).contains(&time.year()));
    match column_type {
        ColumnType::Boolean => value.as_bool().map(|b| b.to_string()),
        ColumnType::Int8 => integer(-128, 127).map(|n| n.to_string()),
        ColumnType::Int32 => integer(i32::MIN.into(), i32::MAX.into()).map(|n| n.to_string()),
        ColumnType::Int64 => integer(i64::MIN.into(), i64::MAX.into()).map(|n| n.to_string()),
        ColumnType::UInt8 => integer(0, 255).map(|n| n.to_string()),
        ColumnType::UInt64 => integer(0, u64::MAX.into()).map(|n| n.to_string()),
        ColumnType::Float32 => value.as_f64().and_then(|_| raw.parse().ok()).filter(|n: &f32| n.is_finite()).map(|n| format!("{n:?}")),
        ColumnType::Float64 => value.as_f64().and_then(|_| raw.parse::<f64>().ok()).map(|n| format!("{n:?}")),
        ColumnType::Decimal { precision, scale } => {
            let text = if value.is_number() { Some(raw) } else { value.as_str() };
            text.and_then(|text| spelled_decimal(text, precision.into(), scale.into())).map(|n| n.to_string())
        }
        ColumnType::Text | ColumnType::Dictionary => value.as_str().map(Into::into),
        ColumnType::Timestamp(TimeUnit::Second) => {
            integer(i64::MIN.into(), i64::MAX.into()).filter(|n| in_years(DateTime::from_timestamp_secs(*n as i64))).map(|n| n.to_string())
        }
        ColumnType::Timestamp(_) => integer(i64::MIN.into(), i64::MAX.into())
            .filter(|n| in_years(DateTime::from_timestamp_millis(*n as i64)))
            .map(|n| n.to_string()),
        ColumnType::TimestampText => {
            let text = value.as_str()?;
            let time = DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_rfc3339(&format!("{text}Z"))).ok()?;
            Some(time.timestamp_micros().to_string())
        }
        ColumnType::Date => {
            let date = NaiveDate::parse_from_str(value.as_str()?, "%Y-%m-%d").ok()?;
            Some(date.signed_duration_since(NaiveDate::default()).num_days().to_string())
        }
        ColumnType::Json => Some(raw.to_owned()),
        other => panic!("the oracle does not know {other}"),
    }
}

/// Moves the point by spelling: only for the few shapes that the generator makes.
fn spelled_decimal(text: &str, precision: usize, scale: usize) -> Option<i128> {
    let (text, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !digits.chars().all(|c| c.is_ascii_digit() || c == '.') || (digits.contains('.') && fraction.is_empty()) {
        return None;
    }
    let point = whole.len() as i32 + exponent + scale as i32;
    let mut all = format!("{whole}{fraction}");
    if !(0..=400).contains(&point) {
        return (all.trim_matches('0').is_empty()).then_some(0);
    }
    while all.len() < point as usize {
        all.push('0');
    }
    let (kept, lost) = all.split_at(point as usize);
    let kept = kept.trim_start_matches('0');
    if !lost.trim_matches('0').is_empty() || kept.len() > precision {
        return None;
    }
    let size: i128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    Some(if text.starts_with('-') { -size } else { size })
}

/// Damage can split a surrogate pair or make an endless number; there the decoder is deliberately not like `Value` (see `corners`).
fn is_beyond_the_oracle(line: &str) -> bool {
    serde_json::from_str::<Value>(line.trim_start_matches('\u{feff}'))
        .is_err_and(|e| ["surrogate", "hex escape", "out of range"].iter().any(|kind| e.to_string().contains(kind)))
}

fn check(decoder: &mut Decoder, schema: &EventSchema, records: &[String], unit: OffsetUnit, cut: usize) {
    let (mut rows, mut dead) = (Vec::new(), Vec::new());
    let mut position = 1_000;
    for (index, line) in records.iter().enumerate() {
        match oracle(schema, line) {
            Fate::Row(row) => rows.push((row, line)),
            Fate::Dead => dead.push((if unit == OffsetUnit::Bytes { position } else { 1_000 + index as u64 }, line)),
            Fate::Blank => {}
        }
        position += line.len() as u64 + 1;
    }
    let mut from = 1_000;
    let mut chunks = Vec::new();
    for part in [&records[..cut], &records[cut..]] {
        let text: String = part.iter().map(|line| format!("{line}\n")).collect();
        chunks.push(chunk(Records::Lines(text.clone().into()), from, unit));
        from += if unit == OffsetUnit::Bytes { text.len() } else { part.len() } as u64;
    }
    let decoded = decoder.decode(&Batch { chunks }).unwrap();
    let (expected_cells, row_lines): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    assert_eq!(cells(&decoded.batch), expected_cells);
    let letters: Vec<_> = decoded.dead_letters.iter().map(|letter| (letter.offset, letter.bytes.clone())).collect();
    let bytes = |line: &str| Bytes::copy_from_slice(line.strip_suffix('\r').unwrap_or(line).as_bytes());
    assert_eq!(letters, dead.into_iter().map(|(offset, line)| (offset, bytes(line))).collect::<Vec<_>>());
    assert!(decoded.dead_letters.iter().all(|letter| !letter.reason.is_empty() && letter.phase == Phase::Decode));
    assert_eq!(decoded.records_in, (decoded.batch.num_rows() + decoded.dead_letters.len()) as u64);
    for (row, line) in row_lines.iter().enumerate() {
        assert_eq!(decoded.origins.dead_letter(row, Phase::Sql, String::new()).bytes, bytes(line));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_records_decode_as_the_oracle_says_in_every_batch_of_one_decoder(
        batches in prop::collection::vec((prop::collection::vec(record(), 1..12), any::<bool>(), any::<prop::sample::Index>()), 1..4),
    ) {
        let schema = schema(COLUMNS);
        let mut decoder = Decoder::new(&schema);
        for (mut records, in_bytes, cut) in batches {
            records.retain(|line| !is_beyond_the_oracle(line));
            let unit = if in_bytes { OffsetUnit::Bytes } else { OffsetUnit::Records };
            let cut = cut.index(records.len() + 1);
            check(&mut decoder, &schema, &records, unit, cut);
        }
    }
}

#[test]
fn every_value_in_every_column_decodes_as_the_oracle_says() {
    let schema = schema(COLUMNS);
    let mut decoder = Decoder::new(&schema);
    for key in KEYS {
        let records: Vec<_> = VALUES.iter().map(|value| format!("{{\"id\":1,\"{key}\":{value}}}")).collect();
        check(&mut decoder, &schema, &records, OffsetUnit::Bytes, 0);
    }
}
