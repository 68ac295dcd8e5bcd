use arrow::array::{Int64Array, StringArray, StringViewArray};

use super::*;
use crate::messages::{Message, PayloadsBuilder};
use crate::offsets::Partition;

fn lines(text: &'static str, from: u64, to: u64, unit: OffsetUnit) -> Chunk {
    let partition = Arc::new(Partition { id: PartitionId::new("p"), label: "p".into() });
    Chunk::new(Records::Lines(Bytes::from_static(text.as_bytes())), OffsetRange::new(partition, from, to), unit)
}

fn text(chunk: &Chunk) -> &str {
    match &chunk.records {
        Records::Lines(bytes) => std::str::from_utf8(bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cut_by_lines_moves_byte_offsets_by_bytes() {
    let mut rest = lines("a\nbb\n\nccc", 100, 109, OffsetUnit::Bytes);
    assert_eq!(rest.records(), 4);
    let front = rest.split_off_front(2);
    assert_eq!((text(&front), front.range.from, front.range.to), ("a\nbb\n", 100, 105));
    assert_eq!((text(&rest), rest.range.from, rest.range.to), ("\nccc", 105, 109));
}

#[test]
fn a_cut_by_lines_moves_record_offsets_by_lines() {
    let mut rest = lines("a\nbb\n\nccc", 10, 14, OffsetUnit::Records);
    let front = rest.split_off_front(3);
    assert_eq!((text(&front), front.range.from, front.range.to), ("a\nbb\n\n", 10, 13));
    assert_eq!((text(&rest), rest.range.from, rest.range.to), ("ccc", 13, 14));
}

#[test]
fn a_batch_is_halved_down_to_single_records() {
    let unit = OffsetUnit::Records;
    let batch = Batch::new(vec![lines("a\nb\nc\n", 0, 3, unit), lines("", 3, 3, unit), lines("d\ne", 3, 5, unit)]);
    let mut parts = vec![batch];
    let mut singles = Vec::new();
    while let Some(part) = parts.pop() {
        match part.halve() {
            Ok((front, back)) => parts.extend([back, front]),
            Err(single) => singles.push(single),
        }
    }
    let texts: Vec<String> = singles.iter().map(|single| single.chunks.iter().map(text).collect()).collect();
    assert_eq!(texts, ["a\n", "b\n", "c\n", "d\n", "e"]);
    let ranges: Vec<_> = singles.iter().flat_map(Batch::ranges).map(|range| (range.from, range.to)).collect();
    assert_eq!(ranges, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]);
}

#[test]
fn ranges_of_neighbouring_chunks_are_joined() {
    let unit = OffsetUnit::Records;
    let batch = Batch::new(vec![lines("a\n", 0, 1, unit), lines("b\n", 1, 2, unit)]);
    let ranges = batch.ranges();
    assert_eq!((ranges.len(), ranges[0].from, ranges[0].to), (1, 0, 2));
}

#[test]
fn a_slice_of_rows_counts_for_what_is_in_use_of_it() {
    let text = |n: usize| format!("a text of more than twelve bytes: {n:04}");
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..1_000).map(text)));
    let views: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..1_000).map(text)));
    let rows = RecordBatch::try_from_iter([("n", numbers), ("t", texts), ("v", views)]).unwrap();
    let (all, part) = (slice_bytes(&rows), slice_bytes(&rows.slice(500, 100)));
    assert!((100_000..110_000).contains(&all), "{all}");
    assert!((10_000..11_000).contains(&part), "{part}");
}

#[test]
fn a_cut_between_payloads_leaves_each_in_its_own_range_also_across_a_hole() {
    let mut builder = PayloadsBuilder::default();
    for position in [5, 6, 40] {
        builder.push(position, &Message { payload: Some(b"{\n}"), ..Message::default() });
    }
    let partition = Arc::new(Partition { id: PartitionId::new("p"), label: "p".into() });
    let range = OffsetRange::new(partition, 3, 90);
    let mut rest = Chunk::new(Records::Payloads(builder.finish()), range, OffsetUnit::Records);
    let front = rest.split_off_front(2);
    assert_eq!((front.records(), front.range.from, front.range.to), (2, 3, 7));
    assert_eq!((rest.records(), rest.range.from, rest.range.to), (1, 7, 90));
}
