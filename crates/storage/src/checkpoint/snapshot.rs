//! Snapshots: the state after a record, in a file of its own.
//!
//! Owns: the form of the file, and when the next one is due.
//! Does not own: what a state is (see [`super::state`]), writing the file and naming it in a record (see `store`).
//!
//! A start reads the last record, the snapshot that it names, and the records between: at most [`RECORDS_MAX`], however long the log is. A
//! snapshot says nothing that the records do not say, so old ones are removed.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pintail_core::evidence::{Evidence, Mark};
use pintail_core::offsets::{Fingerprint, PartitionId, Remembered};
use serde::{Deserialize, Serialize};

use super::sealed;
use super::state::{Position, Rest, State};

const VERSION: u32 = 2;
/// The version once files were replaced.
const REWRITTEN_VERSION: u32 = 3;

/// Records between two snapshots.
pub const RECORDS_MAX: u64 = 64;
/// Bytes of records that are always worth less than a snapshot.
const BYTES_MIN: u64 = 1 << 20;

/// Bytes of a fingerprint: its key, mark of the end, offset, time, length of the beginning, two zeros.
const PACKED: usize = 48;

/// The file.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    version: u32,
    dataset_id: String,
    sequence: u64,
    positions: Vec<Entry>,
    /// The fingerprints of vanished partitions, 48 bytes each, in base 64.
    remembered: String,
    rest: Rest,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    id: String,
    label: String,
    to: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evidence: Option<Evidence>,
}

/// Writes the state after the record of `sequence` as bytes. The same state is the same bytes. Returns them with their checksum.
pub fn encode(dataset_id: &str, sequence: u64, state: &State) -> (Vec<u8>, String) {
    let entry = |(id, position): (&PartitionId, &Position)| Entry {
        id: id.as_str().into(),
        label: position.label.as_ref().into(),
        to: position.to,
        evidence: position.evidence.as_deref().cloned(),
    };
    let remembered: Vec<u8> = state.remembered().iter().flat_map(|(head, fingerprint)| pack(head, fingerprint)).collect();
    sealed::seal(&Snapshot {
        version: version_of(state),
        dataset_id: dataset_id.to_owned(),
        sequence,
        positions: state.positions().map(entry).collect(),
        remembered: BASE64_STANDARD.encode(remembered),
        rest: state.rest().clone(),
    })
}

fn version_of(state: &State) -> u32 {
    if state.rest().rewrites > 0 { REWRITTEN_VERSION } else { VERSION }
}

/// Reads the bytes of the snapshot that lies in the place of `sequence`. Returns the state with the checksum.
///
/// # Errors
/// Says in words what is wrong with the bytes; the caller names the file.
pub fn parse(bytes: &[u8], dataset_id: &str, sequence: u64) -> Result<(State, String), String> {
    let (snapshot, sha256) = sealed::unseal::<Snapshot>(bytes)?;
    if !(VERSION..=REWRITTEN_VERSION).contains(&snapshot.version) {
        return Err(format!(
            "it has version {}, this pintail reads versions {VERSION} and {REWRITTEN_VERSION}: use the pintail that wrote it",
            snapshot.version
        ));
    }
    if snapshot.dataset_id != dataset_id || snapshot.sequence != sequence {
        return Err(format!("it is of record {} of dataset {}", snapshot.sequence, snapshot.dataset_id));
    }
    let position = |entry: Entry| {
        let position = Position { label: entry.label.into(), to: entry.to, evidence: entry.evidence.map(Arc::new) };
        (PartitionId::new(entry.id), position)
    };
    let positions: BTreeMap<PartitionId, Position> = snapshot.positions.into_iter().map(position).collect();
    let packed = BASE64_STANDARD.decode(&snapshot.remembered).map_err(|e| format!("its fingerprints are not base 64: {e}"))?;
    if packed.len() % PACKED != 0 {
        return Err(format!("its fingerprints have {} bytes, which is no multiple of {PACKED}", packed.len()));
    }
    let remembered: Remembered = packed.chunks_exact(PACKED).map(unpack).collect();
    Ok((State::new(positions, remembered, snapshot.rest), sha256))
}

/// Writes a fingerprint as bytes.
pub(super) fn pack(head: &Mark, fingerprint: &Fingerprint) -> [u8; PACKED] {
    let mut bytes = [0; PACKED];
    bytes[0..16].copy_from_slice(&head.0);
    bytes[16..32].copy_from_slice(&fingerprint.tail.0);
    bytes[32..40].copy_from_slice(&fingerprint.to.to_le_bytes());
    bytes[40..44].copy_from_slice(&fingerprint.at.to_le_bytes());
    bytes[44..46].copy_from_slice(&fingerprint.head_bytes.to_le_bytes());
    bytes
}

fn unpack(bytes: &[u8]) -> (Mark, Fingerprint) {
    fn at<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
        bytes[from..from + N].try_into().expect("the range has that many bytes")
    }
    let fingerprint = Fingerprint {
        tail: Mark(at(bytes, 16)),
        to: u64::from_le_bytes(at(bytes, 32)),
        at: u32::from_le_bytes(at(bytes, 40)),
        head_bytes: u16::from_le_bytes(at(bytes, 44)),
    };
    (Mark(at(bytes, 0)), fingerprint)
}

/// Tells when a snapshot is due: what was written since the last one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Since {
    /// Records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the last snapshot.
    pub snapshot_bytes: u64,
}

impl Since {
    /// Counts a record.
    pub fn add(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
    }

    /// Returns whether the next record needs a snapshot before it: there are many records, or they outweigh the last one.
    pub fn is_due(&self, records_max: u64) -> bool {
        self.records >= records_max || self.bytes > self.snapshot_bytes.max(BYTES_MIN)
    }
}
