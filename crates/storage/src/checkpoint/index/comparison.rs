//! The stored index held against the records, one segment at a time.
//!
//! Owns: which segment a record is compared with, and the first record of which that says something else.
//! Does not own: reading the records, what follows from a difference (see `commands::verify`).

use pintail_core::error::Result;

use super::{Found, Index, segments};
use crate::checkpoint::paths::Paths;
use crate::checkpoint::record::CommitRecord;
use crate::durable::fs::ReadFs;

/// A comparison that takes in the records from the first on.
pub struct Comparison<'a> {
    fs: &'a dyn ReadFs,
    dataset_id: &'a str,
    segments: Vec<Found>,
    /// What the records say since the last segment ended.
    told: Index,
    /// What the segment says that the next record belongs to; `None` once there is none.
    stored: Option<Index>,
}

impl<'a> Comparison<'a> {
    /// Begins before the first record.
    pub fn new(fs: &'a dyn ReadFs, paths: &Paths, dataset_id: &'a str, format_sha256: &str) -> Self {
        let mut begun = Self { fs, dataset_id, segments: segments(fs, paths), told: Index::new(format_sha256), stored: None };
        begun.stored = begun.next_stored();
        begun
    }

    /// Takes in the next record. Returns the first record of which its segment says something else, when that ends.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::State`] if it is not the next.
    pub fn push(&mut self, record: &CommitRecord, sha256: String) -> Result<Option<u64>> {
        self.told.push(record, sha256)?;
        let Some(stored) = &self.stored else {
            self.told.forget();
            return Ok(None);
        };
        if self.told.end() < stored.end() {
            return Ok(None);
        }
        // No reader trusts a segment whose last record has another checksum.
        let differs = if stored.seal == self.told.seal { stored.first_difference(&self.told) } else { None };
        self.told.forget();
        self.stored = self.next_stored();
        Ok(differs)
    }

    fn next_stored(&self) -> Option<Index> {
        let segment = self.told.next_segment(self.fs, &self.segments, self.dataset_id)?;
        let mut stored = self.told.clone();
        stored.append(segment);
        Some(stored)
    }
}
