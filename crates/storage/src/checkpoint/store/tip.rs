//! The tip of a chain: the last record, the state after it, and what the next record follows from.
//!
//! Owns: what a process knows of its chain from its open record on, the same whether the records lie in a directory or in a bucket.
//! Does not own: what a record says (see `draft`), where it lies and how it gets there (see [`super`] and `crate::bucket`).

use pintail_core::error::{Error, Result};
use pintail_core::evidence::Key;
use pintail_core::offsets::Offsets;

use super::draft::{Draft, Sealed, check_join};
use super::expected::{Expected, Remember};
use super::head::Head;
use crate::checkpoint::format::Format;
use crate::checkpoint::paths::{Paths, StagedBy};
use crate::checkpoint::process::Process;
use crate::checkpoint::record::{CommitRecord, SnapshotName};
use crate::checkpoint::snapshot::{self, Since};
use crate::checkpoint::staging::Staging;
use crate::checkpoint::state::State;

/// Where the chain of an instance ends, for the process that goes on with it.
#[derive(Debug)]
pub struct Tip {
    pub(crate) format: Format,
    pub(crate) key: Key,
    pub(crate) process: Process,
    pub(crate) remember: Remember,
    /// Records between two snapshots.
    pub(crate) records_max: u64,
    pub(crate) last: Option<CommitRecord>,
    /// Checksum of the last record; of FORMAT before the first.
    pub(crate) previous: String,
    pub(crate) state: State,
    /// What is committed: every span empty, at its end.
    pub(crate) offsets: Offsets,
    /// The sequence number of the open record of this process; 0 before it.
    pub(crate) epoch: u64,
    pub(crate) snapshot: Option<SnapshotName>,
    pub(crate) since: Since,
    /// A record that began to be written, and did not end. Only the recovery of a new start can tell what became of it.
    in_doubt: Option<u64>,
}

/// A snapshot that the next record needs before it.
#[derive(Debug)]
pub(crate) struct DueSnapshot {
    pub name: SnapshotName,
    pub bytes: Vec<u8>,
}

impl Tip {
    /// Goes on from a head.
    pub(crate) fn new(format: Format, key: Key, head: Head, expected: &Expected) -> Self {
        Self {
            format,
            key,
            process: expected.process.clone(),
            remember: expected.remember,
            records_max: expected.records_max.clamp(1, snapshot::RECORDS_MAX),
            last: head.last,
            previous: head.previous,
            offsets: head.state.offsets(),
            state: head.state,
            epoch: 0,
            snapshot: head.snapshot,
            since: head.since,
            in_doubt: None,
        }
    }

    /// Returns what is committed: every span empty, at its end.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// Returns what the dataset is.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Returns the key that evidence is made with.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Returns what the records add up to.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns the last record; `None` before the first commit.
    pub fn last(&self) -> Option<&CommitRecord> {
        self.last.as_ref()
    }

    /// Returns the sequence number of the open record of this process.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns the sequence number of the next record.
    pub fn next_sequence(&self) -> u64 {
        self.last.as_ref().map_or(1, |last| last.sequence + 1)
    }

    /// Returns what the files of the next checkpoint are staged as.
    pub(crate) fn next_staged(&self) -> StagedBy {
        StagedBy { sequence: self.next_sequence(), epoch: self.epoch }
    }

    /// Takes the next sequence number for this process. Returns the record that says so; with it the process has an epoch, if it comes to be.
    pub(crate) fn open_record(&mut self, expected: &Expected) -> CommitRecord {
        self.epoch = self.next_sequence();
        let next = self.next_record(expected.now);
        CommitRecord { opened: Some(expected.process.clone()), action: expected.action.clone(), ..next }
    }

    /// Begins the next checkpoint: from here on it is in doubt, until [`Self::take_checkpoint`]. Refuses files that recovery would not look for
    /// where they are, and a draft that does not go on where the last commit ended.
    pub(crate) fn begin(&mut self, staging: &Staging, its_place: &Staging, draft: &Draft) -> Result<()> {
        self.check_certain()?;
        self.check_staging(staging, its_place)?;
        self.check_draft(draft)?;
        self.in_doubt = Some(self.next_sequence());
        Ok(())
    }

    /// Refuses files that recovery would not look for where they are.
    pub(crate) fn check_staging(&self, staging: &Staging, its_place: &Staging) -> Result<()> {
        if staging.dir() == its_place.dir() {
            return Ok(());
        }
        let (staging, sequence) = (staging.dir().display(), self.next_sequence());
        Err(Error::internal(format!("`{staging}` is not the staging of checkpoint {sequence}")))
    }

    /// Begins the next record: from here on it is in doubt, until [`Self::take_record`].
    pub(crate) fn begin_record(&mut self) -> Result<()> {
        self.check_certain()?;
        self.in_doubt = Some(self.next_sequence());
        Ok(())
    }

    pub(crate) fn check_certain(&self) -> Result<()> {
        match self.in_doubt {
            None => Ok(()),
            Some(sequence) => Err(Error::internal(format!("checkpoint {sequence} did not complete: only a restart can go on"))),
        }
    }

    /// Returns whether all that began has ended.
    pub(crate) fn is_certain(&self) -> bool {
        self.in_doubt.is_none()
    }

    fn check_draft(&self, draft: &Draft) -> Result<()> {
        let sequence = self.next_sequence();
        if !draft.offsets.moved() {
            return Err(Error::internal(format!("checkpoint {sequence} stands for no records: it must not be committed")));
        }
        check_join(&self.offsets, &draft.offsets)
            .map_err(|why| Error::internal(format!("checkpoint {sequence} must not be committed: {why}")))
    }

    /// Returns whether the next record needs a snapshot before it.
    pub(crate) fn needs_snapshot(&self) -> bool {
        self.last.is_some() && self.since.is_due(self.records_max)
    }

    /// Returns the snapshot that the next record needs before it, if one is due.
    pub(crate) fn due_snapshot(&self) -> Option<DueSnapshot> {
        let sequence = self.last.as_ref().filter(|_| self.needs_snapshot())?.sequence;
        let (bytes, sha256) = snapshot::encode(&self.format.dataset_id, sequence, &self.state);
        Some(DueSnapshot { name: SnapshotName { sequence, sha256 }, bytes })
    }

    /// Takes up that a snapshot is there. Returns the one before, which a record that was written by then names.
    pub(crate) fn take_snapshot(&mut self, due: DueSnapshot) -> Option<SnapshotName> {
        self.since = Since { snapshot_bytes: due.bytes.len() as u64, ..Since::default() };
        self.snapshot.replace(due.name)
    }

    /// Takes up that a record is there.
    pub(crate) fn take(&mut self, sealed: Sealed) {
        self.since.add(sealed.bytes.len());
        self.previous = sealed.sha256;
        self.last = Some(sealed.record);
    }

    /// Takes up that what a checkpoint stands for is committed: its record is the last one.
    pub(crate) fn take_checkpoint(&mut self, committed: Offsets) -> &CommitRecord {
        self.offsets = committed.with_remembered(self.state.remembered().clone());
        self.take_record()
    }

    /// Takes up that the record that began is there, with all that belongs to it.
    pub(crate) fn take_record(&mut self) -> &CommitRecord {
        self.in_doubt = None;
        self.last.as_ref().expect("it was just written")
    }
}

/// Returns the error that says that another process took the next sequence number, by its record.
pub(crate) fn fenced_by(record: &CommitRecord, paths: &Paths) -> Error {
    let who = record.opened.as_ref().map_or_else(|| "another process".to_owned(), ToString::to_string);
    Error::try_again(format!(
        "{who} writes to `{}` since record {}, this process has to stop: nothing of its checkpoint was published, what it read is read again; run one \
         process on a dataset",
        paths.root().display(),
        record.sequence
    ))
}
