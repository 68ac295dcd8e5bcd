//! Drafts: what a checkpoint or an action is to commit, and the record that this makes.
//!
//! Owns: the content of the next record, the ids of its columns, the state after it, the check that spans go on where others end.
//! Does not own: writing the record (see [`super`]), what a process knows of its chain (see `tip`).

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};
use pintail_core::batch::{Counts, LookupVersion, Trigger};
use pintail_core::error::{Error, Result};
use pintail_core::offsets::Offsets;

use super::Tip;
use crate::checkpoint::columns::{self, OutputColumn};
use crate::checkpoint::record::{self, ColumnStatistics, CommitRecord, EventTimes, FileEntry, FileKind, Rewrite, SourceRange};
use crate::checkpoint::staging::Staged;

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

/// What a rewrite is to commit: staged files in the place of others, all in one directory.
#[derive(Debug)]
pub struct Rewriting {
    /// What they take the place of.
    pub rewrite: Rewrite,
    /// The staged files.
    pub files: Vec<NewFile>,
    /// The time to record.
    pub time: DateTime<Utc>,
}

/// A record as it is written.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// What it says.
    pub record: CommitRecord,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its checksum, which the next record names.
    pub sha256: String,
}

impl Tip {
    /// Returns the next record without anything that it is about: the columns are those of the record before, the source stands still.
    pub(crate) fn next_record(&self, time: DateTime<Utc>) -> CommitRecord {
        CommitRecord {
            version: record::VERSION,
            sequence: self.next_sequence(),
            generation: self.state.rest().generation,
            previous: self.previous.clone(),
            epoch: self.epoch,
            snapshot: self.snapshot.clone(),
            state_sha256: None,
            key: Some(self.key.fingerprint()),
            opened: None,
            action: None,
            rewrite: None,
            source: SourceRange { kind: self.format.source.kind.clone(), partitions: Vec::new(), notes: Vec::new(), forget_before: None },
            counts: Counts::default(),
            files: Vec::new(),
            schema: Vec::new(),
            schema_version: self.state.rest().schema_version,
            trigger: None,
            config_sha256: String::new(),
            sql_sha256: String::new(),
            lookups: Vec::new(),
            time,
            pintail: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// Returns the record of a checkpoint.
    pub(crate) fn checkpoint(&self, draft: Draft) -> CommitRecord {
        let columns = self.columns_of(&draft.schema);
        let next = self.next_record(draft.time);
        let record = CommitRecord {
            source: SourceRange {
                partitions: record::spans(&draft.offsets),
                notes: record::notes(&draft.offsets),
                forget_before: self.remember.forget_before(self.state.remembered(), draft.time),
                ..next.source
            },
            counts: draft.counts,
            files: draft.files.into_iter().map(|file| file_entry(file, &columns)).collect(),
            trigger: Some(draft.trigger),
            lookups: draft.lookups,
            config_sha256: draft.config_sha256,
            sql_sha256: draft.sql_sha256,
            ..next
        };
        self.with_columns(record, columns)
    }

    /// Returns a record that names files which are in their places.
    pub(crate) fn adopting(&self, adopted: Adopted, time: DateTime<Utc>) -> CommitRecord {
        let columns = adopted.schema.map_or_else(|| self.state.rest().columns.clone(), |schema| self.columns_of(&schema));
        let named = |(file, statistics): (FileEntry, _)| FileEntry { columns: with_ids(statistics, &columns), ..file };
        let files: Vec<FileEntry> = adopted.files.into_iter().map(named).collect();
        let rows = files.iter().map(|file| file.rows).sum();
        // No record of the source stands behind these rows: all of them count as expanded.
        let counts = Counts { rows_out: rows, expanded: rows, ..Counts::default() };
        self.with_columns(CommitRecord { counts, files, ..self.next_record(time) }, columns)
    }

    /// Returns the record of a rewrite.
    pub(crate) fn rewriting(&self, draft: Rewriting) -> CommitRecord {
        let columns = &self.state.rest().columns;
        let files = draft.files.into_iter().map(|file| file_entry(file, columns)).collect();
        CommitRecord { version: record::REWRITE_VERSION, rewrite: Some(draft.rewrite), files, ..self.next_record(draft.time) }
    }

    /// Gives each column of the output its id.
    pub fn columns_of(&self, schema: &SchemaRef) -> Vec<OutputColumn> {
        columns::number(&self.state.rest().columns, &columns::describe(schema))
    }

    /// Adds the columns to a record, if they are not those of the record before.
    fn with_columns(&self, record: CommitRecord, columns: Vec<OutputColumn>) -> CommitRecord {
        if columns == self.state.rest().columns {
            return record;
        }
        CommitRecord { schema: columns, schema_version: record.schema_version + 1, ..record }
    }

    /// Completes the next record with the hash of the state after it, which becomes the state. A record that does not follow must not be written.
    pub(crate) fn seal(&mut self, mut record: CommitRecord) -> Result<Sealed> {
        let sequence = record.sequence;
        let refuse = |why| Error::internal(format!("record {sequence} must not be written: {why}"));
        self.state.apply(&record).map_err(refuse)?;
        record.state_sha256 = Some(self.state.sha256());
        let (bytes, sha256) = record.encode().map_err(refuse)?;
        Ok(Sealed { record, bytes, sha256 })
    }
}

fn file_entry(file: NewFile, columns: &[OutputColumn]) -> FileEntry {
    FileEntry {
        path: file.path,
        staged: file.staged.index,
        kind: file.kind,
        rows: file.rows,
        bytes: file.staged.bytes,
        sha256: file.staged.sha256,
        event_time: file.event_time.map(|(min, max)| EventTimes { min, max }),
        columns: with_ids(file.columns, columns),
        upload: None,
    }
}

fn with_ids(statistics: Vec<(String, ColumnStatistics)>, columns: &[OutputColumn]) -> Vec<ColumnStatistics> {
    let id = |name: &str| columns.iter().find(|column| column.name == name).map(|column| column.id);
    let with_id = |(name, statistics): (String, ColumnStatistics)| Some(ColumnStatistics { id: id(&name)?, ..statistics });
    statistics.into_iter().filter_map(with_id).collect()
}

/// Checks that the spans `next` begin where the offsets `committed` end.
///
/// # Errors
/// Says in words which partition does not join.
pub(super) fn check_join(committed: &Offsets, next: &Offsets) -> std::result::Result<(), String> {
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
