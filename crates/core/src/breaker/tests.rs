use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::batch::{LetterForm, Phase, Records};
use crate::offsets::{OffsetRange, Partition};

const CONFIG: DeadLetterConfig = DeadLetterConfig { ratio_max: 0.1, ratio_records_min: 1_000, bytes_max: u64::MAX };

fn tally(records: u64, rejected: u64) -> Tally {
    Tally { records, rejected, units: UNITS_MIN }
}

fn usual(batches: &[(u64, u64)]) -> Usual {
    let mut usual = Usual::default();
    batches.iter().for_each(|(records, rejected)| usual.add(*records, *rejected));
    usual
}

#[test]
fn a_new_dataset_goes_by_the_configured_share_alone() {
    assert!(is_too_much(tally(1_000, 101), &CONFIG, Usual::default()));
    assert!(!is_too_much(tally(1_000, 100), &CONFIG, Usual::default()));
    assert!(!is_too_much(tally(999, 999), &CONFIG, Usual::default()));
}

#[test]
fn what_is_usual_is_not_too_much() {
    let two_in_a_hundred = usual(&[(1_000_000, 20_000)]);
    assert!(!is_too_much(tally(1_000, 400), &CONFIG, two_in_a_hundred));
    assert!(is_too_much(tally(1_000, 401), &CONFIG, two_in_a_hundred));
    // A dataset that rejected a twentieth rejects what it likes.
    assert!(!is_too_much(tally(1_000, 1_000), &CONFIG, usual(&[(1_000_000, 50_000)])));
}

#[test]
fn the_usual_share_is_of_the_last_million_records_and_the_first_ones_fade() {
    assert_eq!(usual(&[(10, 1), (20, 2)]), Usual { records: 30, rejected: 3 });
    assert_eq!(usual(&[(5_000_000, 50)]), Usual { records: 1_000_000, rejected: 10 });
    assert_eq!(usual(&[(1_000_000, 1_000), (500_000, 0)]), Usual { records: 1_000_000, rejected: 500 });
    assert_eq!(usual(&[(1_000_000, 1_000), (u64::MAX, u64::MAX)]), Usual { records: 1_000_000, rejected: 1_000_000 });
    assert_eq!(usual(&[(0, 0)]), Usual::default());
}

fn chunk(partition: &str, lines: u64, from: u64, unit: OffsetUnit) -> Chunk {
    let partition = Arc::new(Partition { id: PartitionId::new(partition), label: partition.into() });
    let text = "12345678\n".repeat(usize::try_from(lines).unwrap());
    let length = if unit == OffsetUnit::Bytes { text.len() as u64 } else { lines };
    Chunk::new(Records::Lines(Bytes::from(text)), OffsetRange::new(partition, from, from + length), unit)
}

fn letter(partition: &str, offset: u64) -> DeadLetter {
    DeadLetter {
        phase: Phase::Decode,
        reason: "".into(),
        partition: PartitionId::new(partition),
        offset,
        form: LetterForm::Record,
        bytes: Bytes::new(),
        length: 0,
        message: None,
    }
}

fn units_of(chunks: Vec<Chunk>, letters: impl IntoIterator<Item = (&'static str, u64)>) -> u64 {
    let letters: Vec<_> = letters.into_iter().map(|(partition, offset)| letter(partition, offset)).collect();
    units(&Batch::new(chunks), &letters)
}

#[test]
fn a_request_is_one_unit_however_many_records_it_has_and_however_it_is_cut() {
    let requests = Some([90_u64, 150, 20_000].into());
    let mut whole = Chunk { requests, ..chunk("http", 30_000, 100, OffsetUnit::Records) };
    let all = || (100..30_100).map(|offset| ("http", offset));
    // The first of them began in the batch before.
    assert_eq!(units_of(vec![whole.clone()], all()), 2);
    let front = whole.split_off_front(10_000);
    assert_eq!(units_of(vec![whole.clone(), front.clone()], all()), 2);
    let of = |range: std::ops::Range<u64>| range.map(|offset| ("http", offset));
    let one_after_the_other = [units_of(vec![front], of(100..10_100)), units_of(vec![whole], of(10_100..30_100))];
    assert_eq!(one_after_the_other, [1, 1]);
}

#[test]
fn without_requests_a_thousand_records_of_a_partition_are_a_unit() {
    let records = |partition| chunk(partition, 10_000, 5_000, OffsetUnit::Records);
    let all = |partition| (5_000..15_000).map(move |offset| (partition, offset));
    assert_eq!(units_of(vec![records("a"), records("b")], all("a").chain(all("b"))), 20);
    assert_eq!(units_of(vec![records("a"), records("b")], [("a", 5_000), ("a", 5_999), ("b", 5_000)]), 2);
    let bytes = chunk("a", 10_000, 9_000, OffsetUnit::Bytes);
    assert_eq!(units_of(vec![bytes], (0..10_000).map(|line| ("a", 9_000 + line * 9))), 10);
    assert_eq!(units_of(vec![records("a")], []), 0);
}
