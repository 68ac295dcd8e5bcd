//! The commit record: what one step of a dataset changed, and where the source goes on.
//!
//! Owns: its content, its two lines of text, and what must hold inside one.
//! Does not own: where records lie and how they are written (see `store`), what they add up to and whether one follows another (see
//! [`super::state`]), whether the files they name are there (see `recovery`).
//!
//! Version 2 holds what *changed*, the snapshot that it builds on, and the hash of the whole state after it. A record is one of four: a
//! checkpoint; the *open record* that every start writes, which takes the next sequence number and so fences whoever still runs; an action of
//! an operator; or a *rewrite*, whose files hold the rows of earlier ones in their place. A rewrite has version 3: who does not know that files are
//! replaced would count their rows as lost, and refuses a version that it does not know. Version 1, which held every position in every record, is
//! read and never written.

use std::collections::HashSet;
use std::path::{Component, Path};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pintail_core::batch::{Counts, LookupVersion, Trigger};
use pintail_core::evidence::{Evidence, Mark};
use pintail_core::offsets::{NoteKind, Offsets, PartitionId, Span};
use serde::{Deserialize, Serialize};

use super::columns::OutputColumn;
use super::paths::{self, StagedBy};
use super::process::Process;
use super::sealed::{self, rfc3339, rfc3339_optional};
use super::take_over::Origin;
use crate::blob::{PartTag, UploadId};

/// The version that this Pintail writes.
pub const VERSION: u32 = 2;
/// The version of a rewrite.
pub const REWRITE_VERSION: u32 = 3;
/// The oldest version that it reads.
const OLDEST: u32 = 1;

/// What one step added. Immutable once written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRecord {
    /// The version of the record.
    pub version: u32,
    /// Counts the records of an instance from 1.
    pub sequence: u64,
    /// Take-overs before it: 0 in a dataset that never had another number of instances.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// The checksum of the record before; of FORMAT for the first.
    pub previous: String,
    /// The sequence number of the open record of the process that wrote it. 0 in version 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u64,
    /// The snapshot that this record and those between build on; `None` before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotName>,
    /// The hash of the whole state after it. `None` in version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_sha256: Option<String>,
    /// The mark that tells the key which its evidence was made with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Mark>,
    /// In an open record: who opened the dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<Process>,
    /// What an operator asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// In a rewrite: which files its own take the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// What was read.
    pub source: SourceRange,
    /// What became of the records.
    #[serde(default)]
    pub counts: Counts,
    /// What was written.
    #[serde(default)]
    pub files: Vec<FileEntry>,
    /// The columns that the SQL returned, with the partition columns; empty if they are those of the record before.
    #[serde(default)]
    pub schema: Vec<OutputColumn>,
    /// Counts changes of the columns from 1. 0 in version 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub schema_version: u64,
    /// What caused the checkpoint; `None` if it is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// The settings that a checkpoint was made with.
    #[serde(default)]
    pub config_sha256: String,
    /// The SQL that a checkpoint was made with.
    #[serde(default)]
    pub sql_sha256: String,
    /// The lookup tables that its batches saw.
    #[serde(default)]
    pub lookups: Vec<LookupVersion>,
    /// When it was committed.
    #[serde(with = "rfc3339")]
    pub time: DateTime<Utc>,
    /// The version of Pintail that wrote it.
    pub pintail: String,
}

/// Names a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotName {
    /// The record after which the state was as it says.
    pub sequence: u64,
    /// Its checksum.
    pub sha256: String,
}

/// What a rewrite replaces. Its own files are all in the directory of these, and hold their rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// How often a row of its files was written anew, at most: 1 where all that it replaces is of checkpoints.
    pub generation: u32,
    /// The files that are replaced, of earlier records of this chain.
    pub replaces: Vec<Replaced>,
}

/// A file that a rewrite replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Its place below the dataset's directory.
    pub path: String,
    /// Its rows.
    pub rows: u64,
}

/// What an operator asked for, and who that was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// What it was.
    pub kind: ActionKind,
    /// The process that carried it out, with user and host.
    pub by: Process,
    /// What it did, in words.
    pub text: String,
    /// For [`ActionKind::Expire`]: files whose rows are all older than this may be gone. For [`ActionKind::TakeBack`]: this alone holds from then
    /// on; nothing if there was no declaration before.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339_optional")]
    pub before: Option<DateTime<Utc>>,
    /// For [`ActionKind::AcceptRejected`]: rejected records below these offsets may pass, however many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub up_to: Vec<UpTo>,
}

/// A place in a source partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpTo {
    /// The partition.
    pub id: String,
    /// What messages call it: a file without a committed position has another id at each start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The offset.
    pub to: u64,
}

/// Actions of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// Files that no record named are named by this one.
    Adopt,
    /// Something was repaired that a start refused.
    Repair,
    /// A start was told to accept what contradicts its positions.
    Accept,
    /// The removal of old files was declared.
    Expire,
    /// Such a declaration was taken back.
    TakeBack,
    /// Records that the line paused over may pass as dead letters.
    AcceptRejected,
}

impl Action {
    /// Makes what this process does in an operator's name, told in words.
    pub fn new(kind: ActionKind, text: impl Into<String>) -> Self {
        Self { kind, by: Process::this(), text: text.into(), before: None, up_to: Vec::new() }
    }
}

/// The part of the source that a checkpoint stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRange {
    /// `simulator`, `file`, `stdin`, …
    pub kind: String,
    /// The partitions that moved, or of which something was found out. In version 1 all that are known.
    #[serde(default)]
    pub partitions: Vec<PartitionSpan>,
    /// What the source noted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<PartitionNote>,
    /// Fingerprints of vanished partitions that were forgotten before this time, in seconds since 1970, are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget_before: Option<u32>,
}

/// The half-open range `[from, to)` of one source partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionSpan {
    /// What offsets are filed under.
    pub id: String,
    /// What messages call it.
    pub label: String,
    /// First offset.
    pub from: u64,
    /// Next offset: where reading goes on.
    pub to: u64,
    /// Whether no earlier record knows the partition.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new: bool,
    /// Whether it vanished: it is forgotten, but for its fingerprint.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vanished: bool,
    /// In the first record after a take-over: where `from` stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_over: Option<Origin>,
    /// What stands right before `to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

/// What the source noted of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionNote {
    /// The partition.
    pub id: String,
    /// What it is.
    pub kind: NoteKind,
    /// The sentence that was logged.
    pub text: String,
    /// How much is surely lost, in the unit of the offsets; `None` if that cannot be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its place below the dataset's directory.
    pub path: String,
    /// Its number in the staging directory, from where recovery publishes it.
    pub staged: u32,
    /// What it holds.
    pub kind: FileKind,
    /// Rows, or rejected records.
    pub rows: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Earliest and latest event time; `None` if no row has one.
    pub event_time: Option<EventTimes>,
    /// What its footer says of its columns; empty in version 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ColumnStatistics>,
    /// In a bucket: the upload that becomes the file once it is completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Upload>,
}

/// An upload all of whose parts are there. Completing it makes the file visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// What the provider calls it; empty where uploads have no names of their own (Azure).
    pub id: UploadId,
    /// What the provider calls its parts, in their order.
    pub parts: Vec<PartTag>,
}

/// What the footer of a file says of one column, of all row groups together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnStatistics {
    /// The column's id (see [`OutputColumn::id`]).
    pub id: u32,
    /// Compressed bytes.
    pub bytes: u64,
    /// Nulls; `None` if the footer does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nulls: Option<u64>,
    /// Least value, as Parquet's plain encoding in hexadecimal; `None` if there is none or the footer does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    /// Greatest value, in the same form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// Rows, as Parquet.
    Parquet,
    /// Rejected records, as NDJSON.
    DeadLetters,
}

/// Earliest and latest event time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTimes {
    /// Earliest.
    #[serde(with = "rfc3339")]
    pub min: DateTime<Utc>,
    /// Latest.
    #[serde(with = "rfc3339")]
    pub max: DateTime<Utc>,
}

impl CommitRecord {
    /// Writes the record as bytes. Returns them with their checksum, which the next record names.
    ///
    /// # Errors
    /// Says in words what does not hold inside the record: such a one must never be written.
    pub fn encode(&self) -> Result<(Vec<u8>, String), String> {
        self.check()?;
        Ok(sealed::seal(self))
    }

    /// Reads the bytes of the record that lies in the place of `sequence`. Returns it with its checksum.
    ///
    /// # Errors
    /// Says in words what is wrong with the bytes; the caller names the file.
    pub fn parse(bytes: &[u8], sequence: u64) -> Result<(Self, String), String> {
        let (record, sha256) = sealed::unseal::<Self>(bytes)?;
        if record.sequence != sequence {
            return Err(format!("it says it is record {}, its name says {sequence}", record.sequence));
        }
        record.check()?;
        Ok((record, sha256))
    }

    /// Returns the spans of this checkpoint: of the partitions that moved; in version 1 of all that are known.
    pub fn offsets(&self) -> Offsets {
        let span = |p: &PartitionSpan| {
            let evidence = p.evidence.clone().map(Arc::new);
            let standing = Span::standing(Arc::from(p.label.as_str()), p.to, evidence);
            let unchanged = self.version == 1 && p.to == p.from && !p.new;
            (PartitionId::new(p.id.as_str()), Span { from: p.from, new: p.new, vanished: p.vanished, unchanged, ..standing })
        };
        Offsets::from_spans(self.source.partitions.iter().map(span))
    }

    /// Returns where its files were staged.
    pub fn staged_by(&self) -> StagedBy {
        StagedBy { sequence: self.sequence, epoch: self.epoch }
    }

    fn check(&self) -> Result<(), String> {
        if !(OLDEST..=REWRITE_VERSION).contains(&self.version) {
            return Err(format!(
                "it has version {}, this pintail reads versions {OLDEST} to {REWRITE_VERSION}: use the pintail that wrote it",
                self.version
            ));
        }
        self.check_kind()?;
        if !self.counts.balance() {
            return Err(format!("its counts do not add up: {:?}", self.counts));
        }
        match &self.rewrite {
            Some(rewrite) => self.check_rewrite(rewrite)?,
            None => self.check_rows(FileKind::Parquet, self.counts.rows_out)?,
        }
        self.check_rows(FileKind::DeadLetters, self.counts.dead_letters.total())?;
        check_sha256(&self.previous)?;
        if self.trigger.is_some() {
            [&self.config_sha256, &self.sql_sha256].into_iter().try_for_each(|hash| check_sha256(hash))?;
        }
        let named = self.snapshot.iter().map(|snapshot| &snapshot.sha256);
        named.chain(&self.state_sha256).try_for_each(|hash| check_sha256(hash))?;
        self.check_spans()?;
        let (mut names, mut indexes) = (HashSet::new(), HashSet::new());
        for file in &self.files {
            file.check()?;
            if !names.insert(&file.path) || !indexes.insert(file.staged) {
                return Err(format!("it names the file `{}`, staged as {}, twice", file.path, file.staged));
            }
        }
        Ok(())
    }

    /// Checks that it is one of the things that a record of its version may be.
    fn check_kind(&self) -> Result<(), String> {
        let kinds = (self.opened.is_some(), self.trigger.is_some(), self.action.is_some());
        let epoch_fits = match kinds {
            (true, false, _) => self.epoch == self.sequence,
            _ => self.epoch < self.sequence,
        };
        let snapshot_fits = self.snapshot.as_ref().is_none_or(|snapshot| snapshot.sequence < self.sequence);
        let is_of_epoch = epoch_fits && snapshot_fits && self.state_sha256.is_some() && self.key.is_some();
        match (self.version, kinds, self.rewrite.is_some()) {
            (1, (false, true, false), false) if self.epoch == 0 && self.state_sha256.is_none() && self.snapshot.is_none() => Ok(()),
            // An open record may carry the action that its start was told to take.
            (VERSION, (true, false, _) | (false, true, false) | (false, false, true), false) if is_of_epoch => Ok(()),
            (REWRITE_VERSION, (false, false, false), true) if is_of_epoch => Ok(()),
            _ => Err("it is neither a checkpoint, nor an open record, nor an action, nor a rewrite".into()),
        }
    }

    /// Checks that a rewrite moves rows from files to others beside them, and changes nothing else.
    fn check_rewrite(&self, rewrite: &Rewrite) -> Result<(), String> {
        let is_still = self.source.partitions.is_empty() && self.source.notes.is_empty() && self.source.forget_before.is_none();
        if !is_still || self.counts != Counts::default() || !self.schema.is_empty() {
            return Err("it is a rewrite, and changes more than files".into());
        }
        if rewrite.generation == 0
            || rewrite.replaces.is_empty()
            || self.files.is_empty()
            || self.files.iter().any(|file| file.kind != FileKind::Parquet)
        {
            return Err("it is a rewrite that replaces nothing, or by other files than data".into());
        }
        let (mut dirs, mut paths) = (HashSet::new(), HashSet::new());
        for path in rewrite.replaces.iter().map(|file| &file.path).chain(self.files.iter().map(|file| &file.path)) {
            check_place(path, FileKind::Parquet)?;
            dirs.insert(path.rsplit_once('/').map(|(dir, _)| dir));
            if !paths.insert(path) {
                return Err(format!("it names `{path}` twice"));
            }
        }
        if dirs.len() > 1 || dirs.contains(&None) {
            return Err("it is a rewrite of files that are not all in one hive partition".into());
        }
        let sum = |mut rows: Box<dyn Iterator<Item = u64> + '_>| rows.try_fold(0_u64, u64::checked_add);
        let replaced = sum(Box::new(rewrite.replaces.iter().map(|file| file.rows)));
        let added = sum(Box::new(self.files.iter().map(|file| file.rows)));
        match (replaced, added) {
            (Some(replaced), Some(added)) if replaced == added => Ok(()),
            _ => Err(format!("the files that it replaces have {replaced:?} rows, its own {added:?}")),
        }
    }

    fn check_rows(&self, kind: FileKind, counted: u64) -> Result<(), String> {
        let mut files = self.files.iter().filter(|file| file.kind == kind);
        let rows = files.try_fold(0_u64, |sum, file| sum.checked_add(file.rows));
        if rows == Some(counted) {
            return Ok(());
        }
        Err(format!(
            "its counts have {counted} rows in {kind:?}, its files have {}",
            rows.map_or_else(|| "too many".into(), |n| n.to_string())
        ))
    }

    fn check_spans(&self) -> Result<(), String> {
        let mut ids = HashSet::new();
        for span in &self.source.partitions {
            if span.to < span.from {
                return Err(format!("its offsets of {} run backwards: [{}, {})", span.label, span.from, span.to));
            }
            if !ids.insert(&span.id) {
                return Err(format!("it has the source partition `{}` twice", span.id));
            }
        }
        Ok(())
    }
}

impl FileEntry {
    fn check(&self) -> Result<(), String> {
        check_place(&self.path, self.kind)?;
        check_sha256(&self.sha256)
    }
}

fn check_place(path: &str, kind: FileKind) -> Result<(), String> {
    // A record is trusted with renames: it must not lead out of the dataset.
    let inside = !path.contains('\0') && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    let place = match kind {
        FileKind::Parquet => path.ends_with(".parquet") && !path.starts_with(['_', '.']),
        FileKind::DeadLetters => paths::is_for_dead_letters(path),
    };
    if path.is_empty() || !inside || !place {
        return Err(format!("it names `{path}`, which is no place for a {kind:?} file"));
    }
    Ok(())
}

fn check_sha256(text: &str) -> Result<(), String> {
    let is_hash = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_hash { Ok(()) } else { Err(format!("`{text}` is not a SHA-256")) }
}

/// Returns the spans that a record keeps: those that changed.
pub fn spans(offsets: &Offsets) -> Vec<PartitionSpan> {
    let span = |(id, span): (&PartitionId, &Span)| PartitionSpan {
        id: id.as_str().into(),
        label: span.label.as_ref().into(),
        from: span.from,
        to: span.to,
        new: span.new,
        vanished: span.vanished,
        taken_over: None,
        evidence: span.evidence.as_deref().cloned(),
    };
    offsets.spans().filter(|(_, span)| !span.unchanged).map(span).collect()
}

/// Returns the notes as a record keeps them.
pub fn notes(offsets: &Offsets) -> Vec<PartitionNote> {
    let note = |(id, note): &(PartitionId, pintail_core::offsets::Note)| PartitionNote {
        id: id.as_str().into(),
        kind: note.kind,
        text: note.text.clone(),
        lost: note.lost,
    };
    offsets.notes().iter().map(note).collect()
}

#[cfg(test)]
pub(crate) mod tests;
