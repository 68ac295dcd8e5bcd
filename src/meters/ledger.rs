//! Ledger: what is committed, as the commit records say it.
//!
//! Owns: sums over records, of this process and of those before it; the newest checkpoints; rows and bytes by hive partition; rejected
//! records by reason; what is open.
//! Does not own: the records (see `pintail_storage::checkpoint::record`), reading the old ones (see `admin::earlier`).
//!
//! Everything in it changes together, under one lock: whoever reads it sees a state between two commits.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use pintail_core::batch::{Counts, Trigger};
use pintail_core::reasons::Reasons;
use pintail_storage::checkpoint::index::Part;
use pintail_storage::checkpoint::record::{CommitRecord, FileKind};

use super::Opened;

/// Checkpoints that are listed one by one: a day of the default interval is 2,880.
pub(crate) const CHECKPOINTS_KEPT: usize = 1_000;
/// Hive partitions that are told apart; a dataset by day and region has some thousand.
const PARTITIONS_KEPT: usize = 10_000;

/// What was committed, and what is open.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Of this process.
    pub process: Sums,
    /// Of the processes before it.
    pub before: Before,
    /// Newest first.
    pub checkpoints: VecDeque<Checkpoint>,
    /// By the directory of the partition, as `region=us`.
    pub partitions: BTreeMap<String, Partition>,
    /// Files of partitions beyond the limit.
    pub partition_files_beyond: u64,
    /// Rejected records by reason: those that this process committed, and the newest from before it.
    pub reasons: Reasons,
    /// What became of the records that the writer has and has not committed.
    pub open: Counts,
    /// When the last checkpoint of this process was committed.
    pub last_at: Option<Instant>,
    opened: VecDeque<Opened>,
}

/// What the processes before this one committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Before {
    /// Not yet known.
    #[default]
    Unread,
    /// Their sums.
    Read(Sums),
    /// The records could not be read.
    Failed,
}

/// Sums over commit records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// What became of the records.
    pub counts: Counts,
    /// Data files.
    pub files: u64,
    /// Bytes of the data files.
    pub bytes: u64,
    /// Checkpoints, in the order of [`TRIGGERS`].
    pub checkpoints: [u64; TRIGGERS.len()],
}

/// What causes checkpoints.
pub(crate) const TRIGGERS: [Trigger; 3] = [Trigger::Interval, Trigger::End, Trigger::Shutdown];

/// One checkpoint, as a line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its sequence number.
    pub sequence: u64,
    /// What caused it.
    pub trigger: Trigger,
    /// When it was committed.
    pub at: DateTime<Utc>,
    /// What became of its records.
    pub counts: Counts,
    /// Data files.
    pub files: u64,
    /// Bytes of the data files.
    pub bytes: u64,
    /// From the barrier to the end of the commit, if this process made it.
    pub took: Option<Duration>,
}

/// What a hive partition holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Partition {
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// Files.
    pub files: u64,
}

impl Ledger {
    /// Says that a record was read with which the checkpoint of barrier `epoch` begins.
    pub fn opened(&mut self, epoch: u64, at: Instant) {
        self.opened.push_back(Opened { epoch, at });
    }

    /// Returns when the oldest record was read that is not committed.
    pub fn oldest(&self) -> Option<Instant> {
        self.opened.front().map(|opened| opened.at)
    }

    /// Takes in what became of a batch that is not committed yet.
    pub fn appended(&mut self, counts: &Counts) {
        self.open.add(counts);
    }

    /// Closes the checkpoint of barrier `epoch`: nothing before it is open any more.
    pub fn closed(&mut self, epoch: u64) {
        self.open = Counts::default();
        self.opened.retain(|opened| opened.epoch > epoch);
    }

    /// Takes in a checkpoint of this process.
    pub fn committed(&mut self, record: &CommitRecord, epoch: u64, took: Duration, reasons: Reasons) {
        self.closed(epoch);
        self.last_at = Some(Instant::now());
        let data = record.files.iter().filter(|file| file.kind == FileKind::Parquet);
        let data = data.map(|file| (file.path.rsplit_once('/').map_or("", |(dir, _)| dir), file.rows, file.bytes));
        let (files, bytes) = self.sort_in(data);
        self.process.add(record.trigger, &record.counts, files, bytes);
        if let Some(trigger) = record.trigger {
            let (sequence, at, counts) = (record.sequence, record.time, record.counts);
            self.checkpoints.push_front(Checkpoint { sequence, trigger, at, counts, files, bytes, took: Some(took) });
            self.checkpoints.truncate(CHECKPOINTS_KEPT);
        }
        self.reasons.merge(reasons);
    }

    /// Takes in records from before this process, the newest ones first; adds them to `sums`.
    pub fn found(&mut self, part: &Part, sums: &mut Sums) {
        // The rows of a rewrite were counted when they were committed.
        for (sequence, record) in part.newest_first().filter(|(_, record)| record.rewrite.is_none()) {
            let data = record.files.iter().filter(|file| file.kind() == FileKind::Parquet);
            let (files, bytes) = self.sort_in(data.map(|file| (part.dir(file), file.rows(), file.bytes())));
            sums.add(record.trigger, &record.counts, files, bytes);
            if let Some(trigger) = record.trigger.filter(|_| self.checkpoints.len() < CHECKPOINTS_KEPT) {
                let (at, counts) = (record.time.into(), record.counts);
                self.checkpoints.push_back(Checkpoint { sequence, trigger, at, counts, files, bytes, took: None });
            }
        }
    }

    /// Returns the sums since the dataset began; `None` while they are unknown.
    pub fn sums(&self) -> Option<Sums> {
        match &self.before {
            Before::Read(before) => Some(before.plus(&self.process)),
            Before::Unread | Before::Failed => None,
        }
    }

    /// Sorts data files, each with directory, rows and bytes, into their partitions. Returns how many they are, and their bytes.
    fn sort_in<'a>(&mut self, data: impl Iterator<Item = (&'a str, u64, u64)>) -> (u64, u64) {
        let (mut files, mut all_bytes) = (0, 0);
        for (name, rows, bytes) in data {
            files += 1;
            all_bytes += bytes;
            let room = self.partitions.len() < PARTITIONS_KEPT;
            let partition = match self.partitions.get_mut(name) {
                Some(known) => known,
                None if room => self.partitions.entry(name.to_owned()).or_default(),
                None => {
                    self.partition_files_beyond += 1;
                    continue;
                }
            };
            partition.rows += rows;
            partition.bytes += bytes;
            partition.files += 1;
        }
        (files, all_bytes)
    }
}

impl Sums {
    fn add(&mut self, trigger: Option<Trigger>, counts: &Counts, files: u64, bytes: u64) {
        self.counts.add(counts);
        self.files += files;
        self.bytes += bytes;
        // A record that is no checkpoint has none.
        if let Some(place) = TRIGGERS.iter().position(|known| Some(*known) == trigger) {
            self.checkpoints[place] += 1;
        }
    }

    fn plus(mut self, other: &Self) -> Self {
        self.counts.add(&other.counts);
        self.files += other.files;
        self.bytes += other.bytes;
        self.checkpoints.iter_mut().zip(other.checkpoints).for_each(|(sum, more)| *sum += more);
        self
    }
}

#[cfg(test)]
mod tests {
    use pintail_storage::checkpoint::record::{FileEntry, SourceRange};
    use pintail_storage::samples::checkpoint;

    use super::*;

    fn record(sequence: u64, trigger: Trigger, files: &[(&str, u64)]) -> CommitRecord {
        let files: Vec<_> = files
            .iter()
            .map(|(path, rows)| FileEntry {
                path: (*path).into(),
                staged: 0,
                kind: if path.ends_with(".parquet") { FileKind::Parquet } else { FileKind::DeadLetters },
                rows: *rows,
                bytes: rows * 10,
                sha256: String::new(),
                event_time: None,
                columns: Vec::new(),
                upload: None,
            })
            .collect();
        let rows_out = files.iter().filter(|file| file.kind == FileKind::Parquet).map(|file| file.rows).sum();
        let counts = Counts { records_in: rows_out, rows_out, ..Counts::default() };
        let source = SourceRange { kind: "simulator".into(), partitions: Vec::new(), notes: Vec::new(), forget_before: None };
        CommitRecord { counts, files, source, trigger: Some(trigger), ..checkpoint(sequence) }
    }

    #[test]
    fn the_sums_are_unknown_until_the_old_records_were_read_and_then_hold_both() {
        let mut ledger = Ledger::default();
        let new = record(3, Trigger::Interval, &[("region=us/c.parquet", 5), ("_pintail/dead_letters/3.ndjson", 2)]);
        ledger.committed(&new, 1, Duration::from_secs(1), Reasons::default());
        assert_eq!(ledger.sums(), None);
        let mut sums = Sums::default();
        let older = [
            record(1, Trigger::Interval, &[("region=eu/a.parquet", 11), ("region=us/a.parquet", 1)]),
            record(2, Trigger::Shutdown, &[("region=us/b.parquet", 7)]),
        ];
        ledger.found(&Part::of(&older), &mut sums);
        ledger.before = Before::Read(sums);
        let sums = ledger.sums().unwrap();
        assert_eq!((sums.counts.rows_out, sums.files, sums.bytes, sums.checkpoints), (24, 4, 240, [2, 0, 1]));
        assert_eq!(ledger.process.counts.rows_out, 5);
        assert_eq!(ledger.checkpoints.iter().map(|checkpoint| checkpoint.sequence).collect::<Vec<_>>(), [3, 2, 1]);
        assert_eq!(ledger.partitions["region=us"], Partition { rows: 13, bytes: 130, files: 3 });
        assert_eq!(ledger.partitions.len(), 2);
    }

    #[test]
    fn the_oldest_open_record_is_that_of_the_first_checkpoint_not_committed() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        assert_eq!(ledger.oldest(), None);
        ledger.opened(1, start);
        ledger.opened(2, start + Duration::from_secs(1));
        assert_eq!(ledger.oldest(), Some(start));
        ledger.closed(1);
        assert_eq!(ledger.oldest(), Some(start + Duration::from_secs(1)));
        ledger.closed(3);
        assert_eq!(ledger.oldest(), None);
    }
}
