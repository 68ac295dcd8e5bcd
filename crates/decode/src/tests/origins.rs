//! Positions, original bytes, and chunks that are not lines.

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};

use super::*;

fn arrow_rows(from: i64, count: i64) -> RecordBatch {
    let schema = schema(&[("v", "int64!"), ("w", "text")]).arrow();
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + count));
    let texts: ArrayRef = Arc::new((from..from + count).map(|n| (n % 2 == 0).then(|| n.to_string())).collect::<StringArray>());
    RecordBatch::try_new(schema, vec![values, texts]).unwrap()
}

fn decoder() -> Ndjson {
    Ndjson::new(&schema(&[("v", "int64!"), ("w", "text")]))
}

#[test]
fn a_row_finds_its_way_back_past_blank_lines_and_dead_letters() {
    let text = "{\"v\":1}\r\n\n{\"v\":\"x\"}\n{\"v\":2}\n";
    for (unit, dead, second) in [(OffsetUnit::Bytes, 110, 120), (OffsetUnit::Records, 102, 103)] {
        let batch = Batch::new(vec![chunk(Records::Lines("{\"v\":0}".into()), 50, unit), chunk(Records::Lines(text.into()), 100, unit)]);
        let decoded = decoder().decode(&batch).unwrap();
        assert_eq!(decoded.dead_letters.len(), 1);
        assert_eq!((decoded.dead_letters[0].offset, &decoded.dead_letters[0].bytes[..]), (dead, &b"{\"v\":\"x\"}"[..]));
        for (row, offset, bytes) in [(0, 50, "{\"v\":0}"), (1, 100, "{\"v\":1}"), (2, second, "{\"v\":2}")] {
            let letter = decoded.origins.dead_letter(row, Phase::Sql, "why".into());
            assert_eq!((letter.offset, &letter.bytes[..]), (offset, bytes.as_bytes()), "{unit:?}");
            assert_eq!((letter.phase, &*letter.reason, letter.length), (Phase::Sql, "why", 7));
            assert_eq!(letter.partition.as_str(), "p");
        }
    }
}

#[test]
fn a_record_that_is_too_long_is_a_dead_letter_of_its_head() {
    let records = Records::TooLong { head: "{\"v\":".into(), length: 5_000_000, message: None };
    let batch = Batch::new(vec![
        chunk(Records::Lines("{\"v\":1}\n".into()), 0, OffsetUnit::Bytes),
        chunk(records, 8, OffsetUnit::Bytes),
        chunk(Records::Lines("{\"v\":2}\n".into()), 5_000_009, OffsetUnit::Bytes),
    ]);
    let decoded = decoder().decode(&batch).unwrap();
    assert_eq!((decoded.records_in, decoded.batch.num_rows()), (3, 2));
    let letter = &decoded.dead_letters[0];
    assert_eq!((letter.offset, letter.length, &letter.bytes[..]), (8, 5_000_000, &b"{\"v\":"[..]));
    assert_eq!(&*letter.reason, "a record of 5000000 bytes is longer than `source.record_bytes_max`");
    assert_eq!(decoded.origins.dead_letter(1, Phase::Sql, "".into()).offset, 5_000_009);
}

#[test]
fn one_arrow_chunk_passes_through_without_a_copy() {
    let rows = arrow_rows(10, 3);
    let batch = Batch::new(vec![chunk(Records::Arrow(rows.clone()), 7, OffsetUnit::Records)]);
    let decoded = decoder().decode(&batch).unwrap();
    assert_eq!(decoded.records_in, 3);
    for (ours, theirs) in decoded.batch.columns().iter().zip(rows.columns()) {
        assert!(ours.to_data().ptr_eq(&theirs.to_data()));
    }
    let letter = decoded.origins.dead_letter(1, Phase::Sink, "why".into());
    assert_eq!((letter.offset, &letter.bytes[..]), (8, &b"{\"v\":11,\"w\":null}"[..]));
}

#[test]
fn arrow_and_line_chunks_keep_their_order() {
    let lines = |text: &'static str, from| chunk(Records::Lines(text.into()), from, OffsetUnit::Records);
    let arrow = |rows, from| chunk(Records::Arrow(rows), from, OffsetUnit::Records);
    let batch = Batch::new(vec![
        lines("{\"v\":0}\n{}\n", 0),
        arrow(arrow_rows(1, 2), 2),
        arrow(arrow_rows(0, 0), 4),
        arrow(arrow_rows(3, 1), 4),
        lines("\n", 5),
        lines("{\"v\":4,\"w\":\"4\"}\n", 6),
    ]);
    let decoded = decoder().decode(&batch).unwrap();
    let firsts: Vec<_> = cells(&decoded.batch).into_iter().map(|row| row[0].clone().unwrap()).collect();
    assert_eq!(firsts, ["0", "1", "2", "3", "4"]);
    assert_eq!((decoded.records_in, decoded.dead_letters[0].offset), (6, 1));
    let offsets: Vec<_> = (0..5).map(|row| decoded.origins.dead_letter(row, Phase::Sql, "".into()).offset).collect();
    assert_eq!(offsets, [0, 2, 3, 4, 6]);
    let last = decoded.origins.dead_letter(4, Phase::Sql, "".into());
    assert_eq!(last.bytes, "{\"v\":4,\"w\":\"4\"}");
}

#[test]
fn an_arrow_chunk_of_another_schema_is_an_error() {
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    let rows = RecordBatch::try_from_iter([("v", floats)]).unwrap();
    let batch = Batch::new(vec![chunk(Records::Arrow(rows), 0, OffsetUnit::Records)]);
    let error = decoder().decode(&batch).unwrap_err().to_string();
    assert!(error.starts_with("Arrow records from p have the schema"), "{error}");
}

#[test]
fn a_batch_without_records_has_the_schema_and_no_row() {
    for batch in [Batch::new(Vec::new()), lines(""), lines("\n\n"), lines("{}\n")] {
        let decoded = decoder().decode(&batch).unwrap();
        assert_eq!(decoded.batch.num_rows(), 0);
        assert_eq!(decoded.batch.schema(), schema(&[("v", "int64!"), ("w", "text")]).arrow());
    }
}
