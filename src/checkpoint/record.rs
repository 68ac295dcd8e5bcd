//! The commit record: what a checkpoint added, and where the source goes on.
//!
//! Owns: its content, its two lines of text, and what must hold inside one and between two of them.
//! Does not own: where records lie and how they are written (see `store`), whether the files they name are there (see `recovery`).

use std::collections::HashSet;
use std::path::{Component, Path};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::columns::OutputColumn;
use super::paths;
use super::sealed::{self, rfc3339};
use super::take_over::Origin;
use crate::batch::{Counts, LookupVersion, Trigger};
use crate::offsets::{Offsets, PartitionId, Span};

/// The version that this Pintail writes and reads.
pub const VERSION: u32 = 1;

/// What one checkpoint added. Immutable once written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRecord {
    /// The version of the record.
    pub version: u32,
    /// Counts checkpoints of an instance from 1.
    pub sequence: u64,
    /// Take-overs before it: 0 in a dataset that never had another number of instances.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// The checksum of the record before; of FORMAT for the first.
    pub previous: String,
    /// What was read.
    pub source: SourceRange,
    /// What became of the records.
    pub counts: Counts,
    /// What was written.
    pub files: Vec<FileEntry>,
    /// The columns that the SQL returned, with the partition columns.
    pub schema: Vec<OutputColumn>,
    /// What caused the checkpoint.
    pub trigger: Trigger,
    /// The settings it was made with.
    pub config_sha256: String,
    /// The SQL it was made with.
    pub sql_sha256: String,
    /// The lookup tables that its batches saw.
    pub lookups: Vec<LookupVersion>,
    /// When it was committed.
    #[serde(with = "rfc3339")]
    pub time: DateTime<Utc>,
    /// The version of Pintail that wrote it.
    pub pintail: String,
}

/// The part of the source that a checkpoint stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRange {
    /// `simulator`, `file`, `stdin`, …
    pub kind: String,
    /// Every partition that is known, also those that did not move.
    pub partitions: Vec<PartitionSpan>,
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
    /// In the first record after a take-over: where `from` stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_over: Option<Origin>,
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

    /// Returns the offsets: the spans of this checkpoint.
    pub fn offsets(&self) -> Offsets {
        let span = |p: &PartitionSpan| {
            let standing = Span::standing(Arc::from(p.label.as_str()), p.to, None);
            let span = Span { from: p.from, new: p.new, unchanged: p.to == p.from && !p.new, ..standing };
            (PartitionId::new(p.id.as_str()), span)
        };
        Offsets::from_spans(self.source.partitions.iter().map(span))
    }

    fn check(&self) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!("it has version {}, this pintail reads version {VERSION}: use the pintail that wrote it", self.version));
        }
        if !self.counts.balance() {
            return Err(format!("its counts do not add up: {:?}", self.counts));
        }
        self.check_rows(FileKind::Parquet, self.counts.rows_out)?;
        self.check_rows(FileKind::DeadLetters, self.counts.dead_letters.total())?;
        for hash in [&self.previous, &self.config_sha256, &self.sql_sha256] {
            check_sha256(hash)?;
        }
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
        let path = &self.path;
        // A record is trusted with renames: it must not lead out of the dataset.
        let inside = !path.contains('\0') && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
        let place = match self.kind {
            FileKind::Parquet => path.ends_with(".parquet") && !path.starts_with(['_', '.']),
            FileKind::DeadLetters => paths::is_for_dead_letters(path),
        };
        if path.is_empty() || !inside || !place {
            return Err(format!("it names `{path}`, which is no place for a {:?} file", self.kind));
        }
        check_sha256(&self.sha256)
    }
}

fn check_sha256(text: &str) -> Result<(), String> {
    let is_hash = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if is_hash { Ok(()) } else { Err(format!("`{text}` is not a SHA-256")) }
}

/// Returns the spans as a record keeps them.
pub fn spans(offsets: &Offsets) -> Vec<PartitionSpan> {
    let span = |(id, span): (&PartitionId, &Span)| PartitionSpan {
        id: id.as_str().into(),
        label: span.label.as_ref().into(),
        from: span.from,
        to: span.to,
        new: span.new,
        taken_over: None,
    };
    offsets.spans().map(span).collect()
}

/// Checks that the spans `next` begin where the spans `previous` end, and that no partition is forgotten.
///
/// # Errors
/// Says in words which partition does not join.
pub fn check_join(previous: &Offsets, next: &Offsets) -> Result<(), String> {
    for (id, span) in next.spans() {
        match (previous.next_offset(id), span.new) {
            (Some(to), false) if to == span.from => {}
            (None, true) => {}
            (Some(to), _) => {
                let new = if span.new { " and calls it new" } else { "" };
                return Err(format!("{} is committed up to {to}, this checkpoint begins at {}{new}", span.label, span.from));
            }
            (None, false) => return Err(format!("{} is known to no earlier checkpoint, but not called new", span.label)),
        }
    }
    match previous.spans().find(|(id, _)| next.next_offset(id).is_none()) {
        Some((_, span)) => Err(format!("{} is committed up to {}, this checkpoint forgets it", span.label, span.to)),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
