//! The store: commits checkpoints, in the one order that a crash cannot break.
//!
//! Owns: the commit order (every operation of it is a crash point), the last record, the state, the committed offsets.
//! Does not own: what happens at start (see `open`), writing the files before the commit (see `staging`), when to commit (the writer).
//!
//! A commit makes the staged files durable, prepares their places, creates the record (the commit point: a name that another process has taken
//! fences this one), publishes the files, and removes their staging.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};

use super::columns;
use super::directories::{Directories, sync_dir};
use super::format::Format;
use super::log;
use super::paths::{Paths, StagedBy};
use super::process::Process;
use super::record::{self, Action, ColumnStatistics, CommitRecord, EventTimes, FileEntry, FileKind, SnapshotName, SourceRange};
use super::recovery::Step;
use super::snapshot::{self, Since};
use super::staging::{self, Staged, Staging};
use super::state::State;
use crate::batch::{Counts, LookupVersion, Trigger};
use crate::durable::fs::{FileIdentity, Fs};
use crate::error::{Error, Result};
use crate::evidence::Key;
use crate::invocation::command;
use crate::offsets::Offsets;

mod ground;
mod head;
mod missing;
mod named;
mod open;
mod share_out;

pub use head::{check_beside, rebuild_snapshot};
pub use open::{Allow, Expected, Remember, Sharing};
pub use share_out::{instances, share_out};

use named::{Written, check_written, entry, parents, publish, remove_staging};

/// A dataset open for writing. The caller holds its [`super::lock::Lock`]; its open record fences whoever holds none.
#[derive(Debug)]
pub struct Store {
    fs: Arc<dyn Fs>,
    paths: Paths,
    directories: Directories,
    format: Format,
    key: Key,
    process: Process,
    remember: Remember,
    /// Records between two snapshots.
    records_max: u64,
    last: Option<CommitRecord>,
    /// Checksum of the last record; of FORMAT before the first.
    previous: String,
    state: State,
    offsets: Offsets,
    /// The sequence number of the open record of this process.
    epoch: u64,
    snapshot: Option<SnapshotName>,
    since: Since,
    /// Snapshots that no record but old ones names.
    stale: Vec<u64>,
    /// What must be said of committed files that are gone.
    missing: Option<String>,
    /// A commit that began and did not end. Only the recovery of a new start can tell what became of it.
    in_doubt: Option<u64>,
}

/// What a checkpoint is to commit.
#[derive(Debug)]
pub struct Draft {
    /// The spans since the last commit.
    pub offsets: Offsets,
    /// What became of the records.
    pub counts: Counts,
    /// The staged files.
    pub files: Vec<NewFile>,
    /// The columns of the SQL's output, with the partition columns.
    pub schema: SchemaRef,
    /// What caused the checkpoint.
    pub trigger: Trigger,
    /// The lookup tables that its batches saw.
    pub lookups: Vec<LookupVersion>,
    /// Lower-case hexadecimal SHA-256 of all settings.
    pub config_sha256: String,
    /// Lower-case hexadecimal SHA-256 of the SQL.
    pub sql_sha256: String,
    /// The time to record.
    pub time: DateTime<Utc>,
}

/// Refuses a directory in which Parquet files lie without a ledger, before anything is made in it.
///
/// # Errors
/// [`crate::error::ErrorKind::Config`], naming a file and the ways out.
pub fn check_ground(fs: &dyn Fs, paths: &Paths) -> Result<()> {
    let has_ledger = || Ok(log::format(fs, paths)?.is_some() || log::last_sequence(fs, paths)?.is_some());
    if has_ledger()? {
        return Ok(());
    }
    let visible = ground::visible(fs, paths)?;
    // Another process may have made the dataset since, with files.
    if has_ledger()? { Ok(()) } else { ground::check_empty(paths, &visible) }
}

/// Compares a dataset with what a configuration asks of it, without changing anything. A directory without a dataset fits every one.
///
/// # Errors
/// As [`Store::open`].
pub fn check_dataset(fs: &dyn Fs, paths: &Paths, expected: &Expected) -> Result<()> {
    check_ground(fs, paths)?;
    let visible = ground::visible(fs, paths)?;
    let sequence = log::last_sequence(fs, paths)?;
    let Some((format, sha256)) = log::format(fs, paths)? else { return Ok(()) };
    ground::check_not_older(paths, &visible, sequence)?;
    format.check(&paths.root().display().to_string(), &(expected.source)(format.created_at), &open::partition_columns(expected))?;
    let take_over = super::take_over::last(fs, paths, &sha256)?.map(|sealed| sealed.take_over);
    open::check_instances(paths, &format, take_over.as_ref(), expected.sharing.instances)?;
    let head = head::read(fs, paths, sequence, &sha256, &format.dataset_id)?;
    head::check_key(paths, head.last.as_ref(), log::key(fs, paths)?.as_ref())?;
    open::check_columns(&head, expected)
}

/// Returns whether the chain of an instance ends in a record of version 1.
pub fn is_version_1(fs: &dyn Fs, paths: &Paths) -> Result<bool> {
    match log::last_sequence(fs, paths)? {
        Some(last) => Ok(log::read(fs, paths, last)?.0.version == 1),
        None => Ok(false),
    }
}

/// A staged file and where it is to appear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// The staged file.
    pub staged: Staged,
    /// Its place below the dataset's directory.
    pub path: String,
    /// What it holds.
    pub kind: FileKind,
    /// Rows, or rejected records.
    pub rows: u64,
    /// Earliest and latest event time; `None` if no row has one.
    pub event_time: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// What its footer says of its columns, by name.
    pub columns: Vec<(String, ColumnStatistics)>,
}

/// Files that are there already, and that no record names yet (see [`record::ActionKind::Adopt`]).
#[derive(Debug, Default)]
pub struct Adopted {
    /// The files, with what their footers say of their columns, by name.
    pub files: Vec<(FileEntry, Vec<(String, ColumnStatistics)>)>,
    /// The columns of the output, with the partition columns, if the dataset has none yet.
    pub schema: Option<SchemaRef>,
}

/// What a record is made of, beside what the store knows.
struct Content {
    epoch: u64,
    generation: u64,
    opened: Option<Process>,
    action: Option<Action>,
    source: SourceRange,
    counts: Counts,
    files: Vec<FileEntry>,
    schema: SchemaChange,
    trigger: Option<Trigger>,
    lookups: Vec<LookupVersion>,
    config_sha256: String,
    sql_sha256: String,
    time: DateTime<Utc>,
}

/// The columns of a record.
enum SchemaChange {
    /// Those of the record before.
    None,
    /// These, with their ids.
    To(Vec<columns::OutputColumn>),
}

impl Store {
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

    /// Returns where things lie.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Returns the last record; `None` before the first commit.
    pub fn last(&self) -> Option<&CommitRecord> {
        self.last.as_ref()
    }

    /// Returns the sequence number of the next record.
    pub fn next_sequence(&self) -> u64 {
        self.last.as_ref().map_or(1, |last| last.sequence + 1)
    }

    /// Returns the sequence number of the open record of this process.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns what the records add up to.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns the staging of the next checkpoint. Ask once a checkpoint.
    pub fn staging(&self) -> Staging {
        Staging::new(self.fs.clone(), self.paths.staging_of(self.next_staged()))
    }

    /// Returns the names of the last checkpoint's files that were gone at start, with the ways out; `None` if all were there, or declared to be gone.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    fn next_staged(&self) -> StagedBy {
        StagedBy { sequence: self.next_sequence(), epoch: self.epoch }
    }

    /// Commits the next checkpoint: makes everything durable, creates the record, publishes the files.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::TryAgain`] if another process has opened the dataset since: nothing was published. After any error
    /// nothing more can be committed: the process ends, and the next start rolls the checkpoint forward or back. Nothing is discarded here.
    pub fn commit(&mut self, staging: Staging, draft: Draft) -> Result<&CommitRecord> {
        if let Some(sequence) = self.in_doubt {
            return Err(Error::internal(format!("checkpoint {sequence} did not complete: only a restart can go on")));
        }
        self.check_draft(&staging, &draft)?;
        let identities: Vec<FileIdentity> = draft.files.iter().map(|file| file.staged.identity).collect();
        let committed = draft.offsets.committed();
        let content = self.content(draft);
        self.in_doubt = Some(self.next_sequence());
        let done = self.write_checkpoint(&staging, content, &identities);
        done.map_err(|error| self.fenced().or_else(|| self.ledger_gone()).unwrap_or(error))?;
        self.in_doubt = None;
        self.offsets = committed.with_remembered(self.state.remembered().clone());
        Ok(self.last.as_ref().expect("it was just written"))
    }

    /// Writes the record of an action of an operator.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn act(&mut self, action: Action, adopted: Adopted, time: DateTime<Utc>) -> Result<&CommitRecord> {
        let columns = adopted.schema.map(|schema| columns::number(&self.state.rest().columns, &columns::describe(&schema)));
        let columns = columns.unwrap_or_else(|| self.state.rest().columns.clone());
        let mut files = Vec::with_capacity(adopted.files.len());
        for (file, statistics) in adopted.files {
            let place = self.paths.published(&file.path);
            self.fs.sync_file(&place).map_err(|e| Error::io(format_args!("fsync `{}`", place.display()), e))?;
            files.push(FileEntry { columns: with_ids(statistics, &columns), ..file });
        }
        parents(&self.paths, files.iter().map(|file| file.path.as_str())).iter().try_for_each(|dir| sync_dir(&*self.fs, dir))?;
        let rows = files.iter().map(|file| file.rows).sum();
        // They come from no record of the source: the SQL has, so to speak, expanded none to these.
        let counts = Counts { rows_out: rows, expanded: rows, ..Counts::default() };
        let source = SourceRange { kind: self.format.source.kind.clone(), partitions: Vec::new(), notes: Vec::new(), forget_before: None };
        let content = Content {
            epoch: self.epoch,
            generation: self.state.rest().generation,
            opened: None,
            action: Some(action),
            source,
            counts,
            files,
            schema: if columns == self.state.rest().columns { SchemaChange::None } else { SchemaChange::To(columns) },
            trigger: None,
            lookups: Vec::new(),
            config_sha256: String::new(),
            sql_sha256: String::new(),
            time,
        };
        self.in_doubt = Some(self.next_sequence());
        self.write_due_snapshot()?;
        let (record, bytes, sha256) = self.record(content)?;
        self.directories.ensure([self.paths.commit_dir(record.sequence)])?;
        let path = self.paths.record(record.sequence);
        if named::write(&*self.fs, &self.paths, &self.process.nonce, &path, &bytes)? == Written::Taken {
            return Err(self.fenced().unwrap_or_else(|| Error::internal("the record is there and is ours")));
        }
        self.take(record, bytes.len(), sha256);
        self.in_doubt = None;
        Ok(self.last.as_ref().expect("it was just written"))
    }

    fn check_draft(&self, staging: &Staging, draft: &Draft) -> Result<()> {
        let sequence = self.next_sequence();
        if staging.dir() != self.paths.staging_of(self.next_staged()) {
            return Err(Error::internal(format!("`{}` is not the staging of checkpoint {sequence}", staging.dir().display())));
        }
        if !draft.offsets.moved() {
            return Err(Error::internal(format!("checkpoint {sequence} stands for no records: it must not be committed")));
        }
        check_join(&self.offsets, &draft.offsets)
            .map_err(|why| Error::internal(format!("checkpoint {sequence} must not be committed: {why}")))
    }

    fn write_checkpoint(&mut self, staging: &Staging, content: Content, identities: &[FileIdentity]) -> Result<()> {
        if let Some(gone) = self.ledger_gone() {
            return Err(gone);
        }
        self.write_due_snapshot()?;
        let (record, bytes, sha256) = self.record(content)?;
        self.make_staging_durable(staging, &record, identities)?;
        self.prepare_places(&record)?;
        let path = self.paths.record(record.sequence);
        if named::write(&*self.fs, &self.paths, &self.process.nonce, &path, &bytes)? == Written::Taken {
            return Err(Error::try_again(format!("`{}` is there already: another process writes to this dataset", path.display())));
        }
        // The commit point. From here on nothing is discarded.
        let steps = record.files.iter().map(|file| (file, Step::Publish));
        publish(&*self.fs, &self.paths, &mut self.directories, record.staged_by(), steps, identities)?;
        if staging.is_made() {
            remove_staging(&*self.fs, &self.paths, [record.staged_by()])?;
        }
        self.take(record, bytes.len(), sha256);
        self.remove_stale_snapshots()
    }

    /// Takes up that a record is durable.
    fn take(&mut self, record: CommitRecord, bytes: usize, sha256: String) {
        self.since.add(bytes);
        self.previous = sha256;
        self.last = Some(record);
    }

    /// Returns the error that says so if the record that the next one follows is gone. Directories that are gone would be made again, and the next
    /// record would lie in a ledger without its past.
    fn ledger_gone(&self) -> Option<Error> {
        let path = self.paths.record(self.last.as_ref()?.sequence);
        match entry(&*self.fs, &path) {
            // Where it cannot be looked at, whatever comes next says why.
            Ok(Some(_)) | Err(_) => None,
            Ok(None) => Some(Error::state(format!(
                "`{}`, which this process wrote, is gone: somebody removed the ledger while it ran; nothing more is committed; restore `{}` from a \
                 copy, or run {} to name the files as they are (what they hold is read again)",
                path.display(),
                self.paths.private().display(),
                command("adopt")
            ))),
        }
    }

    /// Returns the error that says who took the next sequence number, if another process did. A record of this one's epoch is its own, of a
    /// commit that failed behind its commit point.
    fn fenced(&self) -> Option<Error> {
        let sequence = self.next_sequence();
        entry(&*self.fs, &self.paths.record(sequence)).ok().flatten()?;
        let (record, _) = log::read(&*self.fs, &self.paths, sequence).ok()?;
        if record.epoch == self.epoch {
            return None;
        }
        let who = record.opened.map_or_else(|| "another process".to_owned(), |by| by.to_string());
        Some(Error::try_again(format!(
            "{who} writes to `{}` since record {sequence}, this process has to stop: nothing of its checkpoint was published, what it read is \
             read again; run one process on a dataset",
            self.paths.root().display()
        )))
    }

    /// Makes a content the next record, and the state that of after it.
    fn record(&mut self, content: Content) -> Result<(CommitRecord, Vec<u8>, String)> {
        let (schema, schema_version) = match content.schema {
            SchemaChange::None => (Vec::new(), self.state.rest().schema_version),
            SchemaChange::To(columns) => (columns, self.state.rest().schema_version + 1),
        };
        let mut record = CommitRecord {
            version: record::VERSION,
            sequence: self.next_sequence(),
            generation: content.generation,
            previous: self.previous.clone(),
            epoch: content.epoch,
            snapshot: self.snapshot.clone(),
            state_sha256: None,
            key: Some(self.key.fingerprint()),
            opened: content.opened,
            action: content.action,
            source: content.source,
            counts: content.counts,
            files: content.files,
            schema,
            schema_version,
            trigger: content.trigger,
            config_sha256: content.config_sha256,
            sql_sha256: content.sql_sha256,
            lookups: content.lookups,
            time: content.time,
            pintail: env!("CARGO_PKG_VERSION").into(),
        };
        let sequence = record.sequence;
        let refuse = |why| Error::internal(format!("record {sequence} must not be written: {why}"));
        self.state.apply(&record).map_err(refuse)?;
        record.state_sha256 = Some(self.state.sha256());
        let (bytes, sha256) = record.encode().map_err(refuse)?;
        Ok((record, bytes, sha256))
    }

    fn content(&self, draft: Draft) -> Content {
        let columns = columns::number(&self.state.rest().columns, &columns::describe(&draft.schema));
        let files = draft.files.into_iter().map(|file| file_entry(file, &columns)).collect();
        Content {
            epoch: self.epoch,
            generation: self.state.rest().generation,
            opened: None,
            action: None,
            source: SourceRange {
                kind: self.format.source.kind.clone(),
                partitions: record::spans(&draft.offsets),
                notes: record::notes(&draft.offsets),
                forget_before: self.remember.forget_before(self.state.remembered(), draft.time),
            },
            counts: draft.counts,
            files,
            schema: if columns == self.state.rest().columns { SchemaChange::None } else { SchemaChange::To(columns) },
            trigger: Some(draft.trigger),
            lookups: draft.lookups,
            config_sha256: draft.config_sha256,
            sql_sha256: draft.sql_sha256,
            time: draft.time,
        }
    }

    /// Writes the snapshot of the state as it is, if the next record needs one.
    fn write_due_snapshot(&mut self) -> Result<()> {
        let Some(last) = self.last.as_ref().filter(|_| self.since.is_due(self.records_max)) else { return Ok(()) };
        let sequence = last.sequence;
        let (bytes, sha256) = snapshot::encode(&self.format.dataset_id, sequence, &self.state);
        let path = self.paths.snapshot(sequence);
        if named::write(&*self.fs, &self.paths, &self.process.nonce, &path, &bytes)? == Written::Taken {
            // Of a process that was killed before its record, or of one that does the same now: the same state is the same bytes.
            if log::bytes(&*self.fs, &path)?.is_none_or(|there| there != bytes) {
                return Err(Error::state(format!("`{}` is there and holds another state: move it away, and start again", path.display())));
            }
            self.fs.sync_file(&path).map_err(|e| Error::io(format_args!("fsync `{}`", path.display()), e))?;
            sync_dir(&*self.fs, &self.paths.snapshots())?;
        }
        // The one before stays: a record that was written by then names it.
        self.stale.extend(self.snapshot.replace(SnapshotName { sequence, sha256 }).map(|before| before.sequence));
        self.since = Since { snapshot_bytes: bytes.len() as u64, ..Since::default() };
        Ok(())
    }

    /// Removes snapshots that are named by neither of the last two that name one. They are missed by nobody.
    fn remove_stale_snapshots(&mut self) -> Result<()> {
        let kept = self.stale.pop();
        for sequence in self.stale.drain(..) {
            named::remove_if_there(&*self.fs, &self.paths.snapshot(sequence))?;
        }
        self.stale.extend(kept);
        Ok(())
    }

    /// Makes the names of the staged files durable; their bytes are.
    fn make_staging_durable(&self, staging: &Staging, record: &CommitRecord, identities: &[FileIdentity]) -> Result<()> {
        if staging.is_made() {
            for dir in [staging.dir(), &self.paths.staging()] {
                self.fs.sync_dir(dir).map_err(|e| staging::failed(format_args!("fsync `{}`", dir.display()), e))?;
            }
        }
        for (file, identity) in record.files.iter().zip(identities) {
            let staged = self.paths.staged(record.staged_by(), file.staged);
            check_written(&*self.fs, &staged, Some(identity))?;
            if entry(&*self.fs, &staged)?.is_none() {
                return Err(staging::failed(format_args!("publish `{}`", staged.display()), std::io::ErrorKind::NotFound.into()));
            }
        }
        Ok(())
    }

    /// Makes the directories of all that the record names, and of the record. Refuses here what must not fail after the commit point.
    fn prepare_places(&mut self, record: &CommitRecord) -> Result<()> {
        let dirs = parents(&self.paths, record.files.iter().map(|file| file.path.as_str()));
        self.directories.ensure(dirs.into_iter().chain([self.paths.commit_dir(record.sequence)]))?;
        for file in &record.files {
            let place = self.paths.published(&file.path);
            if entry(&*self.fs, &place)?.is_some() {
                return Err(Error::state(format!(
                    "`{}` is in the place of a file of checkpoint {}, and no commit record names it: move it out of the dataset",
                    place.display(),
                    record.sequence
                )));
            }
        }
        Ok(())
    }
}

fn file_entry(file: NewFile, columns: &[columns::OutputColumn]) -> FileEntry {
    FileEntry {
        path: file.path,
        staged: file.staged.index,
        kind: file.kind,
        rows: file.rows,
        bytes: file.staged.bytes,
        sha256: file.staged.sha256,
        event_time: file.event_time.map(|(min, max)| EventTimes { min, max }),
        columns: with_ids(file.columns, columns),
    }
}

fn with_ids(statistics: Vec<(String, ColumnStatistics)>, columns: &[columns::OutputColumn]) -> Vec<ColumnStatistics> {
    let id = |name: &str| columns.iter().find(|column| column.name == name).map(|column| column.id);
    let with_id = |(name, statistics): (String, ColumnStatistics)| Some(ColumnStatistics { id: id(&name)?, ..statistics });
    statistics.into_iter().filter_map(with_id).collect()
}

/// Checks that the spans `next` begin where the offsets `committed` end.
///
/// # Errors
/// Says in words which partition does not join.
fn check_join(committed: &Offsets, next: &Offsets) -> std::result::Result<(), String> {
    for (id, span) in next.spans().filter(|(_, span)| !span.unchanged) {
        match committed.next_offset(id) {
            Some(to) if to != span.from || span.new => {
                let new = if span.new { " and calls it new" } else { "" };
                return Err(format!("{} is committed up to {to}, this checkpoint begins at {}{new}", span.label, span.from));
            }
            None if !span.new => return Err(format!("{} is known to no earlier checkpoint, but not called new", span.label)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
