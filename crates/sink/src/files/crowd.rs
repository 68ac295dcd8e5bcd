//! The hive partitions of the open checkpoint.
//!
//! Owns: which there are and how many there may be; telling those who make rows whether some of theirs may find no place.
//! Does not own: what becomes of such rows (see `unplaced`).

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use pintail_core::batch::PartitionedRows;
use pintail_core::hive::HivePartition;

/// The hive partitions that have rows, also if their files are closed. Clones are the same.
#[derive(Debug, Clone)]
pub struct Crowd {
    partitions: Arc<Mutex<HashSet<Arc<HivePartition>>>>,
    most: usize,
}

impl Crowd {
    pub(super) fn new(most: usize) -> Self {
        Self { partitions: Arc::default(), most }
    }

    pub(super) fn clear(&self) {
        self.partitions.lock().clear();
    }

    /// Returns whether there is room for a hive partition, and keeps that room.
    pub(super) fn admits(&self, partition: &Arc<HivePartition>) -> bool {
        let mut partitions = self.partitions.lock();
        if partitions.contains(partition) {
            return true;
        }
        let room = partitions.len() < self.most;
        if room {
            partitions.insert(partition.clone());
        }
        room
    }

    /// Returns whether rows may find no place if so many others like them are on their way.
    pub fn may_be_full(&self, rows: &[PartitionedRows], others: usize) -> bool {
        let partitions = self.partitions.lock();
        let new = rows.iter().filter(|rows| !partitions.contains(&rows.partition)).count();
        new > 0 && partitions.len() + new * (1 + others) > self.most
    }
}
