//! The open Parquet files of the checkpoint being written.
//!
//! Owns: which file the rows of an hour go to, when files open, flush, roll and close, what they are called, and how much memory they hold together.
//! Does not own: which hive partition and hour a row belongs to (see `layout`), the staging directory (see `pintail_storage::checkpoint::staging`), when a checkpoint
//! ends, what makes its files visible (see `pintail_storage::checkpoint::store`).

use std::sync::Arc;

use chrono::{DateTime, Utc};
use pintail_core::batch::PartitionedRows;
use pintail_core::error::{Error, Result};
use pintail_storage::checkpoint::columns::OutputColumn;
use pintail_storage::checkpoint::staging::Staging;
use pintail_storage::checkpoint::store::NewFile;

use crate::config::SinkConfig;
use crate::layout::OutputLayout;
use crate::layout::event_time::EventTime;

mod collected;
mod crowd;
mod encoders;
mod footer;
mod format;
mod open_file;
mod set;
mod statistics;
#[cfg(test)]
pub(crate) mod tests;
mod unplaced;

pub use statistics::of as column_statistics;

pub use crowd::Crowd;
use encoders::Encoders;
use format::FileFormat;
use set::FileSet;
pub use unplaced::Unplaced;

/// The Parquet files of one checkpoint after the other.
#[derive(Debug)]
pub struct OpenFiles {
    rules: Arc<Rules>,
    checkpoint: Option<FileSet>,
}

/// What is the same for every checkpoint.
#[derive(Debug)]
struct Rules {
    layout: Arc<OutputLayout>,
    format: FileFormat,
    event_time: EventTime,
    encoders: Encoders,
    open_files_max: usize,
    partitions_max: usize,
    crowd: Crowd,
    buffer_bytes_max: usize,
}

impl OpenFiles {
    /// Prepares for files of a layout, whose `columns` have the ids that the ledger knows them by.
    ///
    /// # Errors
    /// If the threads of `sink.threads` cannot be started.
    pub fn new(layout: Arc<OutputLayout>, sink: &SinkConfig, columns: &[OutputColumn]) -> Result<Self> {
        let rules = Rules {
            encoders: Encoders::new(sink.threads)?,
            format: FileFormat::new(&layout, sink, columns),
            event_time: EventTime::of(&layout),
            layout,
            open_files_max: sink.open_files_max.max(1),
            crowd: Crowd::new(sink.partitions_max),
            partitions_max: sink.partitions_max,
            buffer_bytes_max: sink.buffer_bytes_max,
        };
        Ok(Self { rules: Arc::new(rules), checkpoint: None })
    }

    /// Returns the hive partitions of the open checkpoint, for those who make rows.
    pub fn crowd(&self) -> Crowd {
        self.rules.crowd.clone()
    }

    /// Begins a checkpoint, which files are named after; the time when it was `opened` stands in for missing event times. Files left from one before are dropped.
    pub fn begin(&mut self, staging: Staging, name: impl ToString, opened: DateTime<Utc>) {
        self.checkpoint = Some(FileSet::new(self.rules.clone(), staging, name.to_string(), opened));
    }

    /// Writes the rows of a frame, and returns those that the checkpoint has no hive partition left for.
    ///
    /// # Errors
    /// The checkpoint cannot be finished then: [`OpenFiles::discard`] it.
    pub fn append(&mut self, frame: Vec<PartitionedRows>) -> Result<Vec<Unplaced>> {
        let checkpoint = self.checkpoint.as_mut().ok_or_else(no_checkpoint)?;
        let (mut placed, mut unplaced) = (Vec::with_capacity(frame.len()), Vec::new());
        let mut first = 0;
        for rows in frame.into_iter().filter(|rows| rows.rows.num_rows() > 0) {
            let count = rows.rows.num_rows();
            if checkpoint.admits(&rows.partition) {
                placed.push(rows);
            } else {
                unplaced.extend(unplaced::letters(&self.rules.layout, &rows, first, self.rules.partitions_max)?);
            }
            first += count;
        }
        checkpoint.append(placed)?;
        Ok(unplaced)
    }

    /// Completes every file and gives back the staging with what is in it, in the order of the paths' directories and hours.
    ///
    /// # Errors
    /// The checkpoint is discarded then.
    pub fn finish(&mut self) -> Result<(Staging, Vec<NewFile>)> {
        self.checkpoint.take().ok_or_else(no_checkpoint)?.finish()
    }

    /// Returns the staging of the checkpoint that was begun, for files of another kind.
    pub fn staging_mut(&mut self) -> Result<&mut Staging> {
        self.checkpoint.as_mut().map(FileSet::staging_mut).ok_or_else(no_checkpoint)
    }

    /// Closes every file without completing it. What is staged stays there for the recovery to remove.
    pub fn discard(&mut self) {
        self.checkpoint = None;
    }

    /// Returns whether the checkpoint should end, since only its commit frees the memory that it takes.
    pub fn is_due(&self) -> bool {
        self.checkpoint.as_ref().is_some_and(FileSet::is_due)
    }

    /// Returns the bytes that is kept in memory of complete files, for the commit record.
    pub fn written_bytes(&self) -> usize {
        self.checkpoint.as_ref().map_or(0, FileSet::written_bytes)
    }

    /// Returns the bytes that the open files hold in memory.
    pub fn held_bytes(&self) -> usize {
        self.checkpoint.as_ref().map_or(0, FileSet::held)
    }
}

fn no_checkpoint() -> Error {
    Error::internal("the files of a checkpoint were used before `begin`")
}
