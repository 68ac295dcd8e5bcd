//! Decoding held against the rule.
//!
//! Owns: the schemas, the comparison of records one by one, and of different cuttings of the same bytes.
//! Does not own: the rule (`crates/decode/src/tests/rule.rs`, shared with the tests of the decoder), the bytes (see the targets).

use std::sync::Arc;

use bytes::Bytes;
use pintail_core::batch::{Batch, Chunk, DeadLetter, OffsetUnit, Phase, Records};
use pintail_decode::{Decode as _, Decoded, Ndjson};
use pintail_core::offsets::{OffsetRange, Partition, PartitionId};
use pintail_core::schema::{Column, ColumnType, EventSchema};

#[path = "../../../crates/decode/src/tests/rule.rs"]
mod rule;

use rule::{Fate, cells, fate};

/// How many schemas there are.
pub const SCHEMAS: u8 = 4;

/// Keys that lead somewhere in one of the schemas, and some that do not.
pub const KEYS: &[&str] = &[
    "timestamp",
    "user_id",
    "region",
    "amount",
    "sku",
    "a",
    "b",
    "c",
    "json",
    "v",
    "w",
    "größe",
    "boolean",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
    "decimal",
    "text",
    "dictionary",
    "ts_s",
    "ts_ms",
    "ts_us",
    "ts_ns",
    "ts",
    "date",
    "unknown",
    "",
    "a\"b\\",
];

fn schema(which: u8) -> EventSchema {
    match which % SCHEMAS {
        0 => EventSchema::simulator(),
        // Every type once.
        1 => columns(&[
            ("boolean", "boolean"),
            ("int8", "int8"),
            ("int16", "int16"),
            ("int32", "int32"),
            ("int64", "int64"),
            ("uint8", "uint8"),
            ("uint16", "uint16"),
            ("uint32", "uint32"),
            ("uint64", "uint64"),
            ("float32", "float32"),
            ("float64", "float64"),
            ("decimal", "decimal(6,2)"),
            ("text", "text"),
            ("dictionary", "dictionary"),
            ("ts_s", "timestamp_s"),
            ("ts_ms", "timestamp_ms"),
            ("ts_us", "timestamp_us"),
            ("ts_ns", "timestamp_ns"),
            ("ts", "timestamp"),
            ("date", "date"),
            ("json", "json"),
            ("größe", "decimal(38,0)"),
        ]),
        // A value wanted whole and in parts, paths that share a beginning, required ones among them.
        2 => columns(&[
            ("a", "json"),
            ("a.a", "int64"),
            ("a.b", "json"),
            ("a.b.c", "text"),
            ("a.b.a.a", "float64"),
            ("b.a", "dictionary"),
            ("b.a\"b\\", "decimal(38,38)"),
            ("v", "int64!"),
        ]),
        // Two columns of one value, and nothing else.
        _ => columns(&[("v", "float64"), ("v", "json"), ("v", "text"), ("w.v", "decimal(4,0)"), ("w.v", "int8")]),
    }
}

fn columns(columns: &[(&str, &str)]) -> EventSchema {
    let column = |(index, (path, column_type)): (usize, &(&str, &str))| {
        let (column_type, required) = column_type.strip_suffix('!').map_or((*column_type, false), |named| (named, true));
        let column_type: ColumnType = column_type.parse().expect("a type of ours");
        Column { name: format!("{index}_{path}"), path: path.split('.').map(Into::into).collect(), column_type, required }
    };
    EventSchema::new(columns.iter().enumerate().map(column).collect())
}

/// Decodes lines and holds every record against the rule; then decodes them cut in other ways, which must come to the same.
///
/// # Panics
/// If the decoder and the rule do not agree.
pub fn check(which: u8, cuts: u32, text: &[u8]) {
    let schema = schema(which);
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    // What ends with a line end has no further line; an unterminated last line is a record.
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let mut decoder = Ndjson::new(&schema);
    let whole = decode(&mut decoder, vec![chunk(text, 1_000, OffsetUnit::Bytes)]);
    compare(&schema, &lines, &whole);

    // In two chunks, by the decoder that has seen all of it already.
    let cut = cuts as usize % (lines.len() + 1);
    let at = lines[..cut].iter().map(|line| line.len() + 1).sum::<usize>().min(text.len());
    let chunks = || {
        let (front, back) = text.split_at(at);
        [(front, 1_000), (back, 1_000 + at as u64)].into_iter().filter(|(part, _)| !part.is_empty())
    };
    let in_two = decode(&mut decoder, chunks().map(|(part, from)| chunk(part, from, OffsetUnit::Bytes)).collect());
    same(&cells(&whole.batch), &whole.dead_letters, &[in_two]);

    // In two batches, each by a decoder that has seen nothing.
    let batches = chunks().map(|(part, from)| decode(&mut Ndjson::new(&schema), vec![chunk(part, from, OffsetUnit::Bytes)]));
    same(&cells(&whole.batch), &whole.dead_letters, &batches.collect::<Vec<_>>());
}

fn chunk(text: &[u8], from: u64, unit: OffsetUnit) -> Chunk {
    let partition = Arc::new(Partition { id: PartitionId::new("p"), label: "p".into() });
    Chunk::new(Records::Lines(Bytes::copy_from_slice(text)), OffsetRange::new(partition, from, from + text.len() as u64), unit)
}

fn decode(decoder: &mut Ndjson, chunks: Vec<Chunk>) -> Decoded {
    let decoded = decoder.decode(&Batch::new(chunks)).expect("bad records are dead letters, not errors");
    let records = decoded.batch.num_rows() + decoded.dead_letters.len();
    assert_eq!(decoded.records_in, records as u64, "every record is a row or a dead letter");
    for letter in &decoded.dead_letters {
        assert!(!letter.reason.is_empty() && letter.phase == Phase::Decode && letter.length == letter.bytes.len() as u64, "{letter:?}");
        // Shown to people, in tables and logs: a reason must not grow with the record.
        assert!(letter.reason.len() < 1_000 && !letter.reason.contains('\n'), "{:?}", letter.reason);
    }
    decoded
}

fn compare(schema: &EventSchema, lines: &[&[u8]], decoded: &Decoded) {
    let (mut row, mut letters, mut position) = (0, decoded.dead_letters.iter(), 1_000);
    let cells = cells(&decoded.batch);
    for line in lines {
        let original = line.strip_suffix(b"\r").unwrap_or(line);
        let shown = String::from_utf8_lossy(line);
        match fate(schema, line) {
            Fate::Row(expected) => {
                assert_eq!(cells.get(row), Some(&expected), "row {row} of {shown}");
                let letter = decoded.origins.dead_letter(row, Phase::Sql, String::new().into());
                assert_eq!((letter.offset, &letter.bytes[..]), (position, original), "the origin of row {row}");
                row += 1;
            }
            Fate::Dead => {
                let letter = letters.next().unwrap_or_else(|| panic!("was taken: {shown}"));
                assert_eq!((letter.offset, &letter.bytes[..]), (position, original), "{}: {shown}", letter.reason);
            }
            Fate::Blank => {}
        }
        position += line.len() as u64 + 1;
    }
    assert_eq!((row, letters.next()), (cells.len(), None), "more than there was");
}

fn same(rows_expected: &[Vec<Option<String>>], letters_expected: &[DeadLetter], batches: &[Decoded]) {
    let rows: Vec<_> = batches.iter().flat_map(|decoded| cells(&decoded.batch)).collect();
    assert_eq!(rows, rows_expected, "rows depend on where batches are cut");
    let letters: Vec<_> = batches.iter().flat_map(|decoded| decoded.dead_letters.clone()).collect();
    assert_eq!(letters, letters_expected, "dead letters depend on where batches are cut");
}
