//! The store: commits checkpoints, in the one order that a crash cannot break.
//!
//! Owns: the commit order (every operation of it is a crash point), the last record, the committed offsets.
//! Does not own: what happens at start (see `open`), writing the files before the commit (see `staging`), when to commit (the writer).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};

use super::columns;
use super::directories::{Directories, cannot, sync_dir};
use super::format::Format;
use super::paths::{self, Paths};
use super::record::{self, CommitRecord, EventTimes, FileEntry, FileKind, SourceRange};
use super::recovery::Step;
use super::staging::{Staged, Staging};
use super::take_over::Origin;
use crate::batch::{Counts, LookupVersion, Trigger};
use crate::durable::fs::{EntryKind, Fs};
use crate::error::{Error, Result};
use crate::evidence::Key;
use crate::offsets::{Offsets, PartitionId};

mod open;
mod share_out;

pub use open::{Expected, Sharing};
pub use share_out::{instances, share_out};

/// A dataset open for writing. The caller holds its [`super::lock::Lock`].
#[derive(Debug)]
pub struct Store {
    fs: Arc<dyn Fs>,
    paths: Paths,
    directories: Directories,
    format: Format,
    key: Key,
    last: Option<CommitRecord>,
    /// Checksum of the last record; of FORMAT before the first.
    previous: String,
    offsets: Offsets,
    /// Take-overs so far.
    generation: u64,
    /// Where the offsets stand that came from elsewhere, until the first commit tells it.
    taken_over: BTreeMap<PartitionId, Origin>,
    warnings: Vec<String>,
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

    /// Returns the sequence number of the next checkpoint; the first is 1.
    pub fn next_sequence(&self) -> u64 {
        self.last.as_ref().map_or(1, |last| last.sequence + 1)
    }

    /// Returns the staging of the next checkpoint. Ask once a checkpoint.
    pub fn staging(&self) -> Staging {
        Staging::new(self.fs.clone(), self.paths.staging_of(self.next_sequence()))
    }

    /// Returns what was odd at start and lost nothing: published files that somebody else has removed.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Commits the next checkpoint: makes everything durable, writes the record, publishes the files.
    ///
    /// # Errors
    /// After an error nothing more can be committed: the process ends, and the next start rolls the checkpoint forward or back.
    /// Nothing is discarded here.
    pub fn commit(&mut self, staging: Staging, draft: Draft) -> Result<&CommitRecord> {
        if let Some(sequence) = self.in_doubt {
            return Err(Error::internal(format!("checkpoint {sequence} did not complete: only a restart can go on")));
        }
        let record = self.record(&staging, draft)?;
        let refuse = |why| Error::internal(format!("checkpoint {} must not be committed: {why}", record.sequence));
        record::check_join(&self.offsets, &record.offsets()).map_err(refuse)?;
        let (bytes, sha256) = record.encode().map_err(refuse)?;

        self.in_doubt = Some(record.sequence);
        self.make_staging_durable(&staging)?;
        self.prepare_places(&record)?;
        write_named(&*self.fs, &self.paths, &self.paths.record(record.sequence), &bytes)?;
        // The commit point. From here on nothing is discarded.
        let steps = record.files.iter().map(|file| (file, Step::Publish));
        publish(&*self.fs, &self.paths, &mut self.directories, record.sequence, steps)?;
        if staging.is_made() {
            remove_staging(&*self.fs, &self.paths, [record.sequence])?;
        }
        self.in_doubt = None;
        self.taken_over.clear();

        self.offsets = record.offsets().committed();
        self.previous = sha256;
        Ok(self.last.insert(record))
    }

    fn record(&self, staging: &Staging, draft: Draft) -> Result<CommitRecord> {
        let sequence = self.next_sequence();
        if staging.dir() != self.paths.staging_of(sequence) {
            return Err(Error::internal(format!("`{}` is not the staging of checkpoint {sequence}", staging.dir().display())));
        }
        if !draft.offsets.moved() {
            return Err(Error::internal(format!("checkpoint {sequence} stands for no records: it must not be committed")));
        }
        let mut partitions = record::spans(&draft.offsets);
        for span in &mut partitions {
            span.taken_over = self.taken_over.get(&PartitionId::new(span.id.as_str())).cloned();
        }
        Ok(CommitRecord {
            version: record::VERSION,
            sequence,
            generation: self.generation,
            previous: self.previous.clone(),
            source: SourceRange { kind: self.format.source.kind.clone(), partitions },
            counts: draft.counts,
            files: draft.files.into_iter().map(file_entry).collect(),
            schema: columns::describe(&draft.schema),
            trigger: draft.trigger,
            config_sha256: draft.config_sha256,
            sql_sha256: draft.sql_sha256,
            lookups: draft.lookups,
            time: draft.time,
            pintail: env!("CARGO_PKG_VERSION").into(),
        })
    }

    /// Makes the names of the staged files durable; their bytes are.
    fn make_staging_durable(&self, staging: &Staging) -> Result<()> {
        if staging.is_made() {
            sync_dir(&*self.fs, staging.dir())?;
            sync_dir(&*self.fs, &self.paths.staging())?;
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

fn file_entry(file: NewFile) -> FileEntry {
    FileEntry {
        path: file.path,
        staged: file.staged.index,
        kind: file.kind,
        rows: file.rows,
        bytes: file.staged.bytes,
        sha256: file.staged.sha256,
        event_time: file.event_time.map(|(min, max)| EventTimes { min, max }),
    }
}

/// Renames what is to be published, and makes durable what is in its place, also what was there before. May be repeated.
fn publish<'a>(
    fs: &dyn Fs,
    paths: &Paths,
    directories: &mut Directories,
    sequence: u64,
    steps: impl IntoIterator<Item = (&'a FileEntry, Step)>,
) -> Result<()> {
    let steps: Vec<_> = steps.into_iter().filter(|(_, step)| *step != Step::Missing).collect();
    let dirs = parents(paths, steps.iter().map(|(file, _)| file.path.as_str()));
    directories.ensure(dirs.clone())?;
    for (file, _) in steps.iter().filter(|(_, step)| *step == Step::Publish) {
        let (from, to) = (paths.staged(sequence, file.staged), paths.published(&file.path));
        fs.rename_noreplace(&from, &to)
            .map_err(|e| Error::io(format_args!("publish `{}` of checkpoint {sequence}, which is committed: start again", file.path), e))?;
    }
    dirs.iter().try_for_each(|dir| sync_dir(fs, dir))
}

/// Removes staging directories. The durable absence of one says that its checkpoint is published: it is made durable also where a killed
/// process had removed it before.
fn remove_staging(fs: &dyn Fs, paths: &Paths, sequences: impl IntoIterator<Item = u64>) -> Result<()> {
    for dir in sequences.into_iter().map(|sequence| paths.staging_of(sequence)) {
        let cleared = fs.list(&dir).and_then(|entries| entries.iter().try_for_each(|entry| fs.remove_file(&entry.path)));
        cleared.and_then(|()| fs.remove_dir(&dir)).map_err(|e| Error::io(format_args!("remove `{}`", dir.display()), e))?;
    }
    sync_dir(fs, &paths.staging())
}

/// Writes a file that appears whole or not at all, and never in the place of another.
fn write_named(fs: &dyn Fs, paths: &Paths, path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = paths::in_progress(path);
    let written = fs.create_new(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync()
    });
    let renamed = written.and_then(|()| fs.rename_noreplace(&temporary, path));
    renamed.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::state(format!(
            "`{}` is there already: another process writes to this dataset, nothing was published; stop one of the two",
            path.display()
        )),
        _ => cannot(paths.root(), format!("write `{}`", path.display()), error),
    })?;
    sync_dir(fs, path.parent().expect("every file of a dataset lies below its root"))
}

fn parents<'a>(paths: &Paths, files: impl Iterator<Item = &'a str>) -> BTreeSet<PathBuf> {
    files.filter_map(|file| paths.published(file).parent().map(Path::to_path_buf)).collect()
}

fn entry(fs: &dyn Fs, path: &Path) -> Result<Option<EntryKind>> {
    fs.entry(path).map_err(|e| Error::io(format_args!("look at `{}`", path.display()), e))
}

#[cfg(test)]
pub(crate) mod tests;
