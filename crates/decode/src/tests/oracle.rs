//! Generated records, decoded and compared with what the rule says of each.

use proptest::prelude::*;

use super::rule::{Fate, fate};
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
    "\\ud800",
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
    "1e400",
    "1e-400",
    "1e99999999999999999999",
    "0e99999999999999999999",
    "1234567890123456789012345678901234567890",
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
    r#""\ud800""#,
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
    r#"{"int64":7,"\ud800":1}"#,
    r#"{"int64":7,"b":{"float64":1.5,"\udc00":2}}"#,
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

fn check(decoder: &mut Ndjson, schema: &EventSchema, records: &[String], unit: OffsetUnit, cut: usize) {
    let (mut rows, mut dead) = (Vec::new(), Vec::new());
    let mut position = 1_000;
    for (index, line) in records.iter().enumerate() {
        match fate(schema, line.as_bytes()) {
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
    let decoded = decoder.decode(&Batch::new(chunks)).unwrap();
    let (expected_cells, row_lines): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
    assert_eq!(cells(&decoded.batch), expected_cells);
    let letters: Vec<_> = decoded.dead_letters.iter().map(|letter| (letter.offset, letter.bytes.clone())).collect();
    let bytes = |line: &str| Bytes::copy_from_slice(line.strip_suffix('\r').unwrap_or(line).as_bytes());
    assert_eq!(letters, dead.into_iter().map(|(offset, line)| (offset, bytes(line))).collect::<Vec<_>>());
    assert!(decoded.dead_letters.iter().all(|letter| !letter.reason.is_empty() && letter.phase == Phase::Decode));
    assert_eq!(decoded.records_in, (decoded.batch.num_rows() + decoded.dead_letters.len()) as u64);
    for (row, line) in row_lines.iter().enumerate() {
        assert_eq!(decoded.origins.dead_letter(row, Phase::Sql, "".into()).bytes, bytes(line));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_records_decode_as_the_rule_says_in_every_batch_of_one_decoder(
        batches in prop::collection::vec((prop::collection::vec(record(), 1..12), any::<bool>(), any::<prop::sample::Index>()), 1..4),
    ) {
        let schema = schema(COLUMNS);
        let mut decoder = Ndjson::new(&schema);
        for (records, in_bytes, cut) in batches {
            let unit = if in_bytes { OffsetUnit::Bytes } else { OffsetUnit::Records };
            let cut = cut.index(records.len() + 1);
            check(&mut decoder, &schema, &records, unit, cut);
        }
    }
}

#[test]
fn every_value_in_every_column_decodes_as_the_rule_says() {
    let schema = schema(COLUMNS);
    let mut decoder = Ndjson::new(&schema);
    for key in KEYS {
        let records: Vec<_> = VALUES.iter().map(|value| format!("{{\"id\":1,\"{key}\":{value}}}")).collect();
        check(&mut decoder, &schema, &records, OffsetUnit::Bytes, 0);
    }
}
