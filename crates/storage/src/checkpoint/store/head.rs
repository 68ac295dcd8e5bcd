//! The head: the last record, and the state that the records up to it add up to.
//!
//! Owns: what they are at a start: the last record, the snapshot that it names, the records between; reading them from a disk.
//! Does not own: what a record does to a state (see `state`), recovery.

use pintail_core::error::{Error, Result};
use pintail_core::evidence::Key;
use pintail_core::invocation::command;
use pintail_core::offsets::{PartitionId, Remembered, Span};

use super::named;
use crate::checkpoint::columns;
use crate::checkpoint::log;
use crate::checkpoint::paths::Paths;
use crate::checkpoint::record::{CommitRecord, SnapshotName};
use crate::checkpoint::snapshot::{self, RECORDS_MAX, Since};
use crate::checkpoint::state::{Position, Rest, State};
use crate::durable::fs::{EntryKind, Fs, ReadFs};

/// Where a chain ends.
#[derive(Debug)]
pub(crate) struct Head {
    /// The last record; `None` before the first.
    pub last: Option<CommitRecord>,
    /// Its checksum; of FORMAT before the first.
    pub previous: String,
    /// What the records add up to.
    pub state: State,
    /// The snapshot that the last record names.
    pub snapshot: Option<SnapshotName>,
    /// What was written since.
    pub since: Since,
}

/// Reads the head: the record of `sequence`.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if anything contradicts anything.
pub(super) fn read(fs: &dyn Fs, paths: &Paths, sequence: Option<u64>, format_sha256: &str, dataset_id: &str) -> Result<Head> {
    let Some(sequence) = sequence else { return Ok(Chain::new(paths, format_sha256).end(None)) };
    let (last, sha256) = log::read(fs, paths, sequence)?;
    if last.version == 1 {
        let before = if sequence == 1 { format_sha256.to_owned() } else { log::read(fs, paths, sequence - 1)?.1 };
        check_follows(paths, &last, &before)?;
        // It needs a snapshot before anything else: no record of version 2 could name what it builds on.
        let since = Since { records: RECORDS_MAX, ..Since::default() };
        let state = state_of_version_1(&last);
        return Ok(Head { last: Some(last), previous: sha256, state, snapshot: None, since });
    }
    let mut chain = match &last.snapshot {
        Some(name) => Chain::after(paths, name, read_snapshot(fs, paths, name, dataset_id)?, log::read(fs, paths, name.sequence)?.1),
        None => Chain::new(paths, format_sha256),
    };
    for number in chain.sequence + 1..sequence {
        let (record, sha256) = log::read(fs, paths, number)?;
        chain.follow(&record, sha256)?;
        chain.since.add(record_bytes(fs, paths, number)?);
    }
    chain.follow(&last, sha256)?;
    chain.since.add(record_bytes(fs, paths, sequence)?);
    Ok(chain.end(Some(last)))
}

/// Records one after another, and what they add up to. Where they are read from is not its business.
pub(crate) struct Chain {
    paths: Paths,
    /// The last record taken in; 0 before the first.
    pub sequence: u64,
    /// Its checksum; of FORMAT before the first.
    previous: String,
    state: State,
    /// What was written since the snapshot that it began with: whoever reads a record counts it.
    pub since: Since,
}

impl Chain {
    /// Begins before the first record.
    pub(crate) fn new(paths: &Paths, format_sha256: &str) -> Self {
        Self { paths: paths.clone(), sequence: 0, previous: format_sha256.to_owned(), state: State::default(), since: Since::default() }
    }

    /// Begins after the record that a snapshot was made of, whose checksum is `previous`.
    pub(crate) fn after(paths: &Paths, name: &SnapshotName, (state, snapshot_bytes): (State, u64), previous: String) -> Self {
        let since = Since { snapshot_bytes, ..Since::default() };
        Self { paths: paths.clone(), sequence: name.sequence, previous, state, since }
    }

    /// Takes in the next record.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::State`] if it does not follow.
    pub(crate) fn follow(&mut self, record: &CommitRecord, sha256: String) -> Result<()> {
        check_follows(&self.paths, record, &self.previous)?;
        self.state.apply(record).map_err(|why| {
            let sequence = record.sequence;
            Error::state(format!(
                "commit record {sequence} does not follow from the state before it: {why}; {}",
                log::way_out(self.paths.root())
            ))
        })?;
        (self.sequence, self.previous) = (record.sequence, sha256);
        Ok(())
    }

    /// Returns the snapshot of the state as it is, which a record has named.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::State`] if it is another.
    pub(crate) fn snapshot(&self, dataset_id: &str, name: &SnapshotName) -> Result<Vec<u8>> {
        let (bytes, sha256) = snapshot::encode(dataset_id, name.sequence, &self.state);
        if sha256 == name.sha256 {
            return Ok(bytes);
        }
        Err(Error::state(format!("the records lead to a snapshot with checksum {sha256}, the last one names {}", name.sha256)))
    }

    /// Ends in `last`, which was the last to be taken in.
    pub(crate) fn end(self, last: Option<CommitRecord>) -> Head {
        let Self { previous, state, since, .. } = self;
        let snapshot = last.as_ref().and_then(|last| last.snapshot.clone());
        Head { last, previous, state, snapshot, since }
    }
}

/// Returns whether the chain of an instance ends in a record of version 1.
pub fn is_version_1(fs: &dyn Fs, paths: &Paths) -> Result<bool> {
    match log::last_sequence(fs, paths)? {
        Some(last) => Ok(log::read(fs, paths, last)?.0.version == 1),
        None => Ok(false),
    }
}

/// Checks that the evidence of the state was made with `key`; `None` if there is none.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if it was another.
pub(crate) fn check_made_with(paths: &Paths, last: Option<&CommitRecord>, key: Option<&Key>) -> Result<()> {
    let made_with = last.and_then(|last| last.key);
    if made_with.is_none() || made_with == key.map(Key::fingerprint) {
        return Ok(());
    }
    Err(Error::state(format!(
        "`{}` is {}, so no position can be checked: restore it {}",
        paths.key().display(),
        if key.is_some() { "not the key that the records were made with" } else { "missing, and the records were made with it" },
        match paths.is_in_bucket() {
            true => "by the versions of the bucket or from a copy; without one, set another `pipeline.out_path`, which begins a dataset with what the \
                     source still has"
                .to_owned(),
            false => format!("from a copy; without one, run {}, which accepts all positions as they are", command("repair --key")),
        }
    )))
}

/// Checks what a start needs beside the records, of which `last` is the last: the key and the snapshot that it names.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`], naming what is missing or torn and the way out.
pub fn check_beside(fs: &dyn ReadFs, paths: &Paths, dataset_id: &str, last: &CommitRecord) -> Result<()> {
    check_made_with(paths, Some(last), log::key(fs, paths)?.as_ref())?;
    last.snapshot.iter().try_for_each(|name| read_snapshot(fs, paths, name, dataset_id).map(drop))
}

/// Reads a snapshot. Returns the state with the length of the file.
fn read_snapshot(fs: &dyn ReadFs, paths: &Paths, name: &SnapshotName, dataset_id: &str) -> Result<(State, u64)> {
    let path = paths.snapshot(name.sequence);
    let refuse = |why: String| {
        Error::state(format!(
            "the snapshot `{}` cannot be trusted: {why}: run {}, which makes it again from the records",
            path.display(),
            command("repair --snapshot")
        ))
    };
    let bytes = log::bytes(fs, &path)?.ok_or_else(|| refuse("it is missing".into()))?;
    parse_snapshot(&bytes, name, dataset_id).map_err(refuse)
}

/// Reads the bytes of the snapshot that a record names. Returns the state with their number.
///
/// # Errors
/// Says in words what is wrong with the bytes.
pub(crate) fn parse_snapshot(bytes: &[u8], name: &SnapshotName, dataset_id: &str) -> std::result::Result<(State, u64), String> {
    let (state, sha256) = snapshot::parse(bytes, dataset_id, name.sequence)?;
    if sha256 != name.sha256 {
        return Err(format!("its checksum is {sha256}, the record that names it says {}", name.sha256));
    }
    Ok((state, bytes.len() as u64))
}

/// Makes the snapshot again that the last record names, from all records before it. Returns its name, or `None` if no record names one. The
/// caller holds the lock.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if the records do not lead to it.
pub fn rebuild_snapshot(fs: &dyn Fs, paths: &Paths, nonce: &str) -> Result<Option<SnapshotName>> {
    let Some((format, format_sha256)) = log::format(fs, paths)? else { return Ok(None) };
    let Some(last) = log::last_sequence(fs, paths)? else { return Ok(None) };
    let Some(name) = log::read(fs, paths, last)?.0.snapshot else { return Ok(None) };
    let mut chain = Chain::new(paths, &format_sha256);
    for number in 1..=name.sequence {
        let (record, sha256) = log::read(fs, paths, number)?;
        chain.follow(&record, sha256)?;
        if number == name.sequence && record.version == 1 {
            chain.state = state_of_version_1(&record);
        }
    }
    let bytes = chain.snapshot(&format.dataset_id, &name)?;
    let path = paths.snapshot(name.sequence);
    named::remove_if_there(fs, &path)?;
    named::write(fs, paths, nonce, &path, &bytes)?;
    Ok(Some(name))
}

fn check_follows(paths: &Paths, record: &CommitRecord, before: &str) -> Result<()> {
    if record.previous == before {
        return Ok(());
    }
    Err(Error::state(format!(
        "commit record {} follows one with checksum {}, but the one before it has {before}: one of the two is not what was written; {}",
        record.sequence,
        record.previous,
        log::way_out(paths.root())
    )))
}

/// Returns the state of a chain that ends in a record of version 1, which holds all of it.
fn state_of_version_1(last: &CommitRecord) -> State {
    let offsets = last.offsets();
    let position = |(id, span): (&PartitionId, &Span)| (id.clone(), Position { label: span.label.clone(), to: span.to, evidence: None });
    let rest = Rest { generation: last.generation, columns: columns::number(&[], &last.schema), schema_version: 1, ..Rest::default() };
    State::new(offsets.spans().map(position).collect(), Remembered::new(), rest)
}

fn record_bytes(fs: &dyn Fs, paths: &Paths, sequence: u64) -> Result<usize> {
    match named::entry(fs, &paths.record(sequence))? {
        Some(EntryKind::File(bytes)) => Ok(usize::try_from(bytes).unwrap_or(usize::MAX)),
        _ => Ok(0),
    }
}
