//! The running hash: one value for everything that the journal accepted up to an offset.
//!
//! Owns: what goes into it. A request with records does, wherever it lies; carried keys and requests without records don't, so that the
//! hash follows from the offset.
//! Does not own: where it is kept (in headers of segments, in openings of groups, and as an HMAC in commit records).

use pintail_core::evidence::{Key, Mark};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

use super::frame::{Head, first};

/// The running hash: 128 bits, written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running(pub [u8; 16]);

impl Running {
    /// Returns the hash before the first record that is hashed, at `offset`: 0, or where a journal of version 1 was taken over, or where
    /// records were given up.
    pub fn from(dataset_id: &str, offset: u64) -> Self {
        let hash = Sha256::new_with_prefix("pintail journal from ").chain_update(dataset_id).chain_update(offset.to_le_bytes());
        Self(first(&hash.finalize()))
    }

    /// Returns the hash behind a frame.
    #[must_use]
    pub fn behind(self, head: &Head) -> Self {
        if !head.holds_records() || head.records == 0 {
            return self;
        }
        // All of the frame but its place: it is copied from segment to segment.
        let content = Head { group: 0, left: 0, ..*head }.encode([0; 8]);
        Self(first(&Sha256::new_with_prefix(self.0).chain_update(&content[16..]).finalize()))
    }

    /// Returns what a commit record says of it at `offset`.
    pub fn mark(self, key: &Key, offset: u64) -> Mark {
        key.mark(&[b"journal", &offset.to_le_bytes(), &self.0])
    }
}

impl Serialize for Running {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Mark(self.0))
    }
}

impl<'de> Deserialize<'de> for Running {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map(|Mark(bytes)| Self(bytes)).map_err(de::Error::custom)
    }
}
