//! Progress: what the writer tells the monitor.
//!
//! Owns: merging, so that a monitor that is slow gets fewer messages and still exact figures.
//! Does not own: the counting (writer), the looks (monitor, `terminal`).

use std::time::{Duration, Instant};

use pintail_core::batch::{Counts, Trigger};
use pintail_core::totals::Totals;

/// A checkpoint that was committed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckpointDone {
    /// Its sequence number.
    pub sequence: u64,
    /// What caused it.
    pub trigger: Trigger,
    /// Data files.
    pub files: u64,
    /// Bytes of the data files.
    pub bytes: u64,
    /// What became of its records.
    pub counts: Counts,
    /// From the barrier to the end of the commit.
    pub took: Duration,
    /// When it was committed.
    pub at: Instant,
    /// Its count and sum by group.
    pub totals: Totals,
}

/// What happened since the message before.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Progress {
    /// Records that came in, committed or not.
    pub records: u64,
    /// Records rejected, committed or not.
    pub dead_letters: u64,
    /// Totals of the rows committed since, if there was a checkpoint.
    pub committed: Option<Totals>,
    /// The checkpoints since; the last one if there were more than 64.
    pub checkpoints: Vec<CheckpointDone>,
    /// Totals of the rows behind the last checkpoint: all that is open.
    pub open: Totals,
}

/// Checkpoints that a message lists one by one: a monitor that stands still for a day must not eat the memory.
const CHECKPOINTS_MAX: usize = 64;

impl Progress {
    /// Takes in what happened next.
    pub(crate) fn merge(&mut self, next: Self, groups_max: usize) {
        self.records += next.records;
        self.dead_letters += next.dead_letters;
        self.open = next.open;
        if let Some(committed) = next.committed {
            self.committed.get_or_insert_default().merge(&committed, groups_max);
        }
        self.checkpoints.extend(next.checkpoints);
        let surplus = self.checkpoints.len().saturating_sub(CHECKPOINTS_MAX);
        self.checkpoints.drain(..surplus);
    }
}
