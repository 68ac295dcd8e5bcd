//! Journals of version 1: read as they were, with their torn tails; what is written to them is of version 2.

use serde::Serialize;

use super::frame::{Fingerprint, Head, Kind};
use super::*;
use crate::checkpoint::sealed;

/// A header as version 1 wrote it.
#[derive(Serialize)]
struct Header {
    version: u32,
    dataset_id: &'static str,
    segment: u64,
    first_offset: u64,
    previous: Option<segment::Previous>,
}

/// Returns the bytes of a segment of groups of requests of one record, with the position of each group.
fn segment(number: u64, first_offset: u64, previous: Option<segment::Previous>, groups: &[&[(&str, u64)]]) -> (Vec<u8>, Vec<usize>) {
    let (mut bytes, _) = sealed::seal(&Header { version: 1, dataset_id: DATASET, segment: number, first_offset, previous });
    let (mark, mut offset, mut positions) = (segment::Header::marks(DATASET, number)[0], first_offset, vec![]);
    for group in groups {
        let begin = bytes.len() as u64;
        positions.push(bytes.len());
        for (at, (name, at_ms)) in group.iter().enumerate() {
            let body = format!("{name}.0\n");
            let digest = Fingerprint::of(body.as_bytes());
            let (left, key) = (u32::try_from(group.len() - 1 - at).unwrap(), Some(Fingerprint::of(name.as_bytes())));
            let (kind, length) = (Kind::Records(Form::Lines), body.len() as u64);
            let head = Head { group: begin, left, kind, offset, records: 1, at_ms: *at_ms, key, digest, length };
            bytes.extend_from_slice(&head.encode(mark));
            bytes.extend_from_slice(body.as_bytes());
            offset += 1;
        }
    }
    (bytes, positions)
}

/// Two segments; the second one holds two groups. Returns these, and the positions in the second.
fn journal() -> (Vec<u8>, Vec<u8>, Vec<usize>) {
    let (first, _) = segment(1, 0, None, &[&[("a", 1000)], &[("b", 1001), ("c", 1001)]]);
    let previous = segment::Previous { segment: 1, bytes: first.len() as u64 };
    let (second, positions) = segment(2, 3, Some(previous), &[&[("d", 1002)], &[("e", 1003), ("f", 1004)]]);
    (first, second, positions)
}

fn dir(first: &[u8], second: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("journal")).unwrap();
    fs::write(dir.path().join("journal/0000000001.segment"), first).unwrap();
    fs::write(dir.path().join("journal/0000000002.segment"), second).unwrap();
    dir
}

#[test]
fn a_journal_of_version_1_is_read_goes_on_in_version_2_and_keeps_its_keys() {
    let (first, second, _) = journal();
    let dir = dir(&first, &second);
    for from in [0, 2, 4] {
        let mut log = open(dir.path(), from);
        assert_eq!(lines(&log, from).len(), 6 - usize::try_from(from).unwrap());
        for (offset, name) in ["a", "b", "c", "d", "e", "f"].iter().enumerate() {
            assert_eq!(append(&mut log, name, 1, Some(name)), receipt(offset as u64, 1));
        }
    }
    let newest = fs::read(segments(dir.path()).pop().unwrap()).unwrap();
    assert!(newest.starts_with(br#"{"version":2,"#));
}

#[test]
fn the_tail_of_a_journal_of_version_1_is_cut_as_it_was_wherever_it_is_not_whole() {
    let (first, second, positions) = journal();
    for cut in positions[1]..second.len() {
        for zeros in [0, second.len() - cut] {
            let dir = dir(&first, &[&second[..cut], &vec![0; zeros]].concat());
            assert_eq!(lines(&open(dir.path(), 0), 0), ["a.0", "b.0", "c.0", "d.0"], "cut at {cut}");
        }
        let mut flipped = second.clone();
        flipped[cut] ^= 1;
        assert_eq!(lines(&open(dir(&first, &flipped).path(), 0), 0).len(), 4);
    }
    for at in positions[0]..positions[1] {
        let mut flipped = second.clone();
        flipped[at] ^= 1;
        refusal(dir(&first, &flipped).path(), 0);
    }
    for cut in 0..first.len() {
        refusal(dir(&first[..cut], &second).path(), 0);
    }
}

#[test]
fn what_is_committed_of_it_has_evidence_from_then_on_also_while_segments_of_version_1_are_left() {
    let (first, second, _) = journal();
    let dir = dir(&first, &second);
    let mut record = Committed { offset: Some(1), evidence: None };
    for committed_to in [1, 2, 3, 4, 6, 7, 8] {
        let mut log = try_open_at(dir.path(), &record).unwrap_or_else(|error| panic!("{committed_to}: {error}"));
        let end = log.shared().end();
        if end < committed_to {
            append(&mut log, "more", 1, None).unwrap();
        }
        record = committed(&log, record.offset.unwrap(), committed_to);
        log.release(committed_to);
    }
    let old = self::dir(&first, &second);
    assert!(try_open_at(old.path(), &record).is_err(), "the journal of before");
}

#[test]
fn a_damaged_journal_of_version_1_can_be_repaired() {
    let (mut first, second, _) = journal();
    *first.last_mut().unwrap() ^= 1;
    let dir = dir(&first, &second);
    refusal(dir.path(), 0);
    repair::repair(&Posix::default(), &settings(dir.path()), &Some(0).into()).unwrap();
    let log = open(dir.path(), 0);
    assert_eq!((lines(&log, 0), log.shared().end()), (vec!["a.0".to_owned()], 6));
}
