//! The breaker: when so much of a stream is rejected that going on would eat it.
//!
//! Owns: what counts as a unit, the usual share of rejections, the decision.
//! Does not own: what follows from it (see `stages::writer`), keeping the usual share (see `pintail_storage::checkpoint::state`).
//!
//! A wrong schema rejects what everybody sends; a client with a fault of its own rejects what it sends. Only the first may hold the line up, so
//! the share alone is not enough: the rejections must come from several units, and be far above what is usual.
//!
//! A batch is judged whole, before any of it is written. One that comes in parts is written before all of it is known: it is taken, and what was
//! rejected of it counts for the batch behind it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::batch::{Batch, Chunk, DeadLetter, OffsetUnit};
use crate::offsets::PartitionId;

/// Units that must have rejections, where clients could have sent them.
pub const UNITS_MIN: u64 = 8;
/// Records of a partition that are one unit, where no requests are known.
const UNIT_RECORDS: u64 = 1_000;
/// How many times the usual share is too much.
const USUAL_FACTOR: u64 = 20;
/// Records that the usual share is taken of.
const USUAL_RECORDS: u64 = 1_000_000;

/// `[dead_letters]`
#[derive(Debug, Clone)]
pub struct DeadLetterConfig {
    /// Share of rejected records of a checkpoint above which the line stops or pauses (see [`is_too_much`]); 1.0 = never.
    pub ratio_max: f64,
    /// Records of a checkpoint below which the share is not looked at.
    pub ratio_records_min: u64,
    /// Bytes of dead letters after which a checkpoint is ended before its time.
    pub bytes_max: u64,
}

impl DeadLetterConfig {
    /// Returns whether so many rejected of so many records are a larger share than is allowed, and enough to tell.
    pub fn is_exceeded(&self, rejected: u64, records: u64) -> bool {
        records >= self.ratio_records_min && self.is_above(rejected, records)
    }

    /// Returns whether so many rejected of so many records are a larger share than is allowed.
    pub fn is_above(&self, rejected: u64, records: u64) -> bool {
        rejected as f64 > self.ratio_max * records as f64
    }
}

/// What is to be done when too much is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenRejected {
    /// The input ends by itself, and whoever started the line wants to hear: it stops with an error.
    Stop,
    /// The input is endless and others write to it: the line pauses and keeps what is suspect.
    Pause,
    /// The input is what was rejected before: it goes on.
    GoOn,
}

/// How many of the last million records were rejected. Those that there were not yet count as good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usual {
    /// Records, up to a million.
    pub records: u64,
    /// How many of them were rejected.
    pub rejected: u64,
}

impl Usual {
    /// Takes in records. The older ones fade in whole numbers, so that everybody who adds up the records comes to the same.
    pub fn add(&mut self, records: u64, rejected: u64) {
        let (new, new_rejected) =
            if records > USUAL_RECORDS { (USUAL_RECORDS, scaled(rejected, USUAL_RECORDS, records)) } else { (records, rejected) };
        let kept = self.records.min(USUAL_RECORDS - new);
        self.rejected = scaled(self.rejected, kept, self.records.max(1)) + new_rejected;
        self.records = kept + new;
    }

    /// Returns whether it knows nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Returns `count * numerator / denominator`, which is no larger than `count`.
fn scaled(count: u64, numerator: u64, denominator: u64) -> u64 {
    let scaled = u128::from(count) * u128::from(numerator) / u128::from(denominator);
    u64::try_from(scaled).expect("a part of a count fits where the count did")
}

/// Rejections among records that are not committed yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Records.
    pub records: u64,
    /// How many were rejected.
    pub rejected: u64,
    /// Units that the rejected ones are from.
    pub units: u64,
}

impl Tally {
    /// Returns the sum.
    pub fn plus(self, more: Self) -> Self {
        Self { records: self.records + more.records, rejected: self.rejected + more.rejected, units: self.units + more.units }
    }
}

/// Returns whether so many rejections are too many, whoever caused them.
pub fn is_too_much(tally: Tally, config: &DeadLetterConfig, usual: Usual) -> bool {
    let above_usual = u128::from(tally.rejected) * u128::from(USUAL_RECORDS)
        > u128::from(USUAL_FACTOR) * u128::from(usual.rejected) * u128::from(tally.records);
    config.is_exceeded(tally.rejected, tally.records) && above_usual
}

/// Counts the units that the rejected records of a batch are from: requests where they are known, else about a thousand records of a partition.
pub fn units(batch: &Batch, letters: &[DeadLetter]) -> u64 {
    if letters.is_empty() {
        return 0;
    }
    let mut chunks: Vec<(&Chunk, u64)> = batch.chunks.iter().map(|chunk| (chunk, unit_length(chunk))).collect();
    chunks.sort_by_key(|(chunk, _)| (&chunk.range.partition.id, chunk.range.from));
    let units: HashSet<_> = letters.iter().filter_map(|letter| unit(&chunks, letter)).collect();
    units.len() as u64
}

/// Returns what a unit of a chunk is long, where no requests are known. To know it the records are counted, so it is asked once for a chunk.
fn unit_length(chunk: &Chunk) -> u64 {
    match chunk.unit {
        OffsetUnit::Records => UNIT_RECORDS,
        OffsetUnit::Bytes if chunk.requests.is_some() => 1,
        OffsetUnit::Bytes => {
            let length = (chunk.range.to - chunk.range.from).max(1) * UNIT_RECORDS / (chunk.records() as u64).max(1);
            length.max(1)
        }
    }
}

/// Counts the units that all records of a batch are from: requests where they are known, else full thousands of records.
pub fn whole_units(batch: &Batch) -> u64 {
    let (mut requests, mut records) = (0, 0);
    for chunk in &batch.chunks {
        match &chunk.requests {
            Some(begins) => requests += begins.iter().filter(|begin| (chunk.range.from..chunk.range.to).contains(begin)).count() as u64,
            None => records += chunk.records() as u64,
        }
    }
    requests + records / UNIT_RECORDS
}

/// Names the unit of a record: its partition, and where about in it the unit begins. A request that began before the batch is a unit of the one
/// before, however many batches it makes.
fn unit<'a>(chunks: &[(&'a Chunk, u64)], letter: &DeadLetter) -> Option<(&'a PartitionId, u64)> {
    let place = (&letter.partition, letter.offset);
    let before = chunks.partition_point(|(chunk, _)| (&chunk.range.partition.id, chunk.range.from) <= place);
    let (chunk, unit_length) = *chunks.get(before.checked_sub(1)?)?;
    let range = &chunk.range;
    let number = match &chunk.requests {
        Some(requests) => {
            let first = chunks.partition_point(|(chunk, _)| chunk.range.partition.id < letter.partition);
            let begin = *requests[..requests.partition_point(|begin| *begin <= letter.offset)].last()?;
            (begin >= chunks[first].0.range.from).then_some(begin)?
        }
        None => letter.offset / unit_length,
    };
    (range.partition.id == letter.partition).then_some((&range.partition.id, number))
}

#[cfg(test)]
mod tests;
