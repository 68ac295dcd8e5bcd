//! The heartbeat of the process that holds a dataset, which is also the hint where its last record is.
//!
//! Owns: its content, and how little of it is believed.
//! Does not own: when it is written (its process does, at an interval), what follows from it (see `super::entry` and `super::search`).
//!
//! It is the one object that is written again and again, by whoever holds the dataset or believes to. So nothing is committed on its word: a sequence
//! number in it is where a search begins, and a mark that its process stopped counts only from the process that wrote the last record. One thing it
//! proves: whoever wrote a number has seen that record, so where it is missing, records were removed, and the start is refused.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a process says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beat {
    /// The last record that it knows.
    pub sequence: u64,
    /// The sequence number of its open record.
    pub epoch: u64,
    /// The time between its heartbeats, in milliseconds.
    pub every_ms: u64,
    /// Whether it stopped, with everything committed and visible.
    #[serde(default)]
    pub stopped: bool,
}

impl Beat {
    /// Writes it as bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("our own structs have text keys and no failing serializer")
    }

    /// Reads it; `None` if it is anything else, which is no fault.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Returns the time between its heartbeats.
    pub(super) fn every(&self) -> Duration {
        Duration::from_millis(self.every_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_reads_back_and_anything_else_is_none() {
        let beat = Beat { sequence: 42, epoch: 41, every_ms: 15_000, stopped: true };
        assert_eq!(Beat::parse(&beat.encode()), Some(beat));
        for bytes in [b"".as_slice(), b"42", b"{\"sequence\":-1,\"epoch\":1,\"every_ms\":1}", b"\xff"] {
            assert_eq!(Beat::parse(bytes), None);
        }
    }
}
