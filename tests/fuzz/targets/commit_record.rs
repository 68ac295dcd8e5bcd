//! Bytes of a commit record → the record, or words that say what is wrong with them.
//!
//! The input is the first line; the line with its checksum is added, or else no input would ever come further than the checksum. Then:
//! what was read is written and read back as it was, and with one byte changed anywhere, or cut off anywhere, it is refused. What follows from the
//! empty state is kept as a snapshot and read back as it was. The same bytes are read as a snapshot, too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pintail_storage::checkpoint::record::CommitRecord;
use pintail_storage::checkpoint::snapshot;
use pintail_storage::checkpoint::state::State;
use pintail_core::digest::sha256_hex;

fn run(data: &[u8]) {
    // As it stands.
    let sequence = sequence_of(data);
    let _ = CommitRecord::parse(data, sequence).map(|(record, _)| round_trip(&record, data));

    // As the first line.
    let json = data.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let sealed = [json, b"\n{\"sha256\":\"", sha256_hex(json).as_bytes(), b"\"}\n"].concat();
    match CommitRecord::parse(&sealed, sequence_of(json)) {
        Ok((record, _)) => round_trip(&record, data),
        Err(why) => assert!(!why.is_empty()),
    }
    let dataset_id = dataset_of(json);
    if let Ok((state, _)) = snapshot::parse(&sealed, &dataset_id, sequence_of(json)) {
        snapshot_round_trip(&state);
    }
}

fn round_trip(record: &CommitRecord, entropy: &[u8]) {
    let (bytes, sha256) = record.encode().expect("what was read holds together, so it can be written");
    let back = CommitRecord::parse(&bytes, record.sequence);
    assert_eq!(back.as_ref(), Ok(&(record.clone(), sha256)), "it reads back as it was");
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 2, "two lines");
    let offsets = record.offsets();
    assert_eq!(offsets.spans().count(), record.source.partitions.len(), "no span is lost");
    // No input would ever come to the right hash.
    let mut state = State::default();
    if state.apply(&CommitRecord { state_sha256: None, ..record.clone() }).is_ok() {
        let named = CommitRecord { state_sha256: record.state_sha256.as_ref().map(|_| state.sha256()), ..record.clone() };
        assert_eq!(State::default().apply(&named), Ok(()), "the hash is that of the state");
        snapshot_round_trip(&state);
    }

    // A byte of it changed, at places and to values that follow from the input.
    let sum = entropy.iter().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    for step in 0..8 {
        let (at, with) = (sum.wrapping_mul(2 * step + 1) % bytes.len(), (sum >> (8 * (step % 4))) as u8 | 1);
        let mut flipped = bytes.clone();
        flipped[at] ^= with;
        assert!(
            CommitRecord::parse(&flipped, record.sequence).is_err(),
            "byte {at} of {} changed by {with:#x}",
            String::from_utf8_lossy(&bytes)
        );
        assert!(CommitRecord::parse(&bytes[..at], record.sequence).is_err(), "cut at {at}");
    }
    assert!(CommitRecord::parse(&bytes, record.sequence.wrapping_add(1)).is_err(), "in the place of another");
}

fn snapshot_round_trip(state: &State) {
    let (bytes, sha256) = snapshot::encode("d", 42, state);
    let back = snapshot::parse(&bytes, "d", 42);
    assert_eq!(back.as_ref(), Ok(&(state.clone(), sha256)), "it reads back as it was");
    assert_eq!(back.map(|(back, _)| back.sha256()), Ok(state.sha256()), "and has the same hash");
    assert!(snapshot::parse(&bytes, "d", 43).is_err() && snapshot::parse(&bytes, "e", 42).is_err(), "in the place of another");
}

/// Returns the dataset that a snapshot says it is of.
fn dataset_of(json: &[u8]) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(json).ok();
    value.and_then(|value| Some(value.get("dataset_id")?.as_str()?.to_owned())).unwrap_or_default()
}

/// Returns the number that the record says it has: another one would be refused at once.
fn sequence_of(data: &[u8]) -> u64 {
    let line = data.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let value: Option<serde_json::Value> = serde_json::from_slice(line).ok();
    value.and_then(|value| value.get("sequence")?.as_u64()).unwrap_or(1)
}

fuzz_target!(|data: &[u8]| run(data));
