//! The index from its end: what the records say, the newest first, in parts that are read one at a time.
//!
//! Owns: the walk, and when a segment stands for its records: here the checksum comes from the record behind, down to FORMAT.
//! Does not own: what a segment says (see [`super`]).

use pintail_core::error::{Error, Result};
use pintail_core::invocation::command;

use super::{Found, Index, Indexed, IndexedFile, segments};
use crate::checkpoint::log;
use crate::checkpoint::paths::Paths;
use crate::checkpoint::record::CommitRecord;
use crate::durable::fs::ReadFs;

/// Some records one after another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The sequence number of the first.
    pub from: u64,
    /// The directories of their files.
    pub dirs: Vec<String>,
    records: Vec<Indexed>,
}

impl Part {
    /// Returns the records with their sequence numbers, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = (u64, &Indexed)> {
        self.records.iter().enumerate().rev().map(|(place, record)| (self.from + place as u64, record))
    }

    /// Takes records that are at hand, and follow each other.
    #[doc(hidden)]
    pub fn of(records: &[CommitRecord]) -> Self {
        let from = records[0].sequence;
        let mut index = Index { written: from - 1, seal: records[0].previous.clone(), ..Index::default() };
        records.iter().for_each(|record| index.push(record, record.previous.clone()).expect("records of a test follow each other"));
        Self { from, dirs: index.dirs, records: index.records }
    }

    /// Returns the directory of a file, below the dataset.
    pub fn dir(&self, file: &IndexedFile) -> &str {
        &self.dirs[file.dir() as usize]
    }
}

/// The walk over the records of an instance. Holds one part at a time, and ends after an error.
#[derive(Debug)]
pub struct Backwards<'a> {
    fs: &'a dyn ReadFs,
    paths: &'a Paths,
    dataset_id: &'a str,
    format_sha256: &'a str,
    segments: Vec<Found>,
    /// The record that comes next; 0 at the end.
    next: u64,
    /// Its checksum, as the record behind it has it; `None` for the last one.
    seal: Option<String>,
}

impl<'a> Backwards<'a> {
    /// Begins with the record of `last`.
    pub fn new(fs: &'a dyn ReadFs, paths: &'a Paths, dataset_id: &'a str, format_sha256: &'a str, last: u64) -> Self {
        Self { fs, paths, dataset_id, format_sha256, segments: segments(fs, paths), next: last, seal: None }
    }

    /// Reads the longest segment that ends with the next record, or that record alone.
    fn part(&mut self) -> Result<Part> {
        let seal = match self.seal.take() {
            Some(seal) => seal,
            None => log::read(self.fs, self.paths, self.next)?.1,
        };
        let ending = self.segments.iter().filter(|found| found.to == self.next);
        let segment = ending.filter_map(|found| found.read(self.fs, self.dataset_id)).find(|segment| segment.seal == seal);
        let (part, previous) = match segment {
            Some(segment) => (Part { from: segment.from, dirs: segment.dirs, records: segment.records }, segment.previous),
            None => self.record(&seal)?,
        };
        if part.from == 1 && previous != self.format_sha256 {
            return Err(follows_not(1));
        }
        (self.next, self.seal) = (part.from - 1, Some(previous));
        Ok(part)
    }

    /// Reads the next record alone. Returns it with the checksum of the one before.
    fn record(&self, seal: &str) -> Result<(Part, String)> {
        let (record, sha256) = log::read(self.fs, self.paths, self.next)?;
        if sha256 != *seal {
            return Err(follows_not(self.next + 1));
        }
        let previous = record.previous.clone();
        let mut alone = Index { written: self.next - 1, seal: previous.clone(), ..Index::default() };
        alone.push(&record, sha256)?;
        Ok((Part { from: self.next, dirs: alone.dirs, records: alone.records }, previous))
    }
}

impl Iterator for Backwards<'_> {
    type Item = Result<Part>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == 0 {
            return None;
        }
        let part = self.part();
        if part.is_err() {
            self.next = 0;
        }
        Some(part)
    }
}

fn follows_not(sequence: u64) -> Error {
    Error::state(format!("commit record {sequence} does not follow the one before it: {} says more", command("verify")))
}
