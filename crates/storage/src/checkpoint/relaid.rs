//! Relaid: other partition columns than FORMAT names, for a dataset in which no rows are stored yet.
//!
//! Owns: the files that say so, that each follows the one before, and which of them hold.
//! Does not own: when that may be (see `store::stored`), FORMAT itself, which never changes: the first record names its checksum.
//!
//! One file a change, `_pintail/layout-0000000001.json`, sealed and chained like the commit records and never changed. It is written before the
//! open record of the process that makes the change, names that record by its checksum, and holds only if that is the record in its place: if
//! another process took the number, which may have stored rows since, the change came to nothing.

use chrono::{DateTime, Utc};
use pintail_core::error::{Error, Result};
use serde::{Deserialize, Serialize};

use super::format::PartitionColumn;
use super::log;
use super::paths::Paths;
use super::process::Process;
use super::sealed::{self, rfc3339};
use crate::durable::fs::ReadFs;

/// A change of the partition columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relaid {
    /// Counts changes from 1.
    pub number: u64,
    /// The checksum of the change before; of FORMAT for the first.
    pub previous: String,
    /// The open record that the change comes with.
    pub opened: Opened,
    /// The partition columns since, outermost first.
    pub partition_by: Vec<PartitionColumn>,
    /// When it was made.
    #[serde(with = "rfc3339")]
    pub time: DateTime<Utc>,
    /// The process that made it.
    pub by: Process,
}

/// Names an open record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Its sequence number. It is one of the first instance: where there are several, nothing is changed.
    pub sequence: u64,
    /// Its checksum.
    pub sha256: String,
}

/// Where the changes end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// The last change that holds; `None` if none does.
    pub relaid: Option<Relaid>,
    /// The number of the last file; 0 before the first.
    number: u64,
    /// Its checksum, which the next one names; of FORMAT before the first.
    sha256: String,
}

impl Last {
    /// Makes the next one, as bytes with its number.
    pub fn next(&self, opened: Opened, partition_by: Vec<PartitionColumn>, time: DateTime<Utc>, by: Process) -> (u64, Vec<u8>) {
        let number = self.number + 1;
        let relaid = Relaid { number, previous: self.sha256.clone(), opened, partition_by, time, by };
        (number, sealed::seal(&relaid).0)
    }
}

/// Reads the changes.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if one is torn or does not follow the one before.
pub fn last(fs: &dyn ReadFs, paths: &Paths, format_sha256: &str) -> Result<Last> {
    let mut last = Last { relaid: None, number: 0, sha256: format_sha256.to_owned() };
    for number in 1.. {
        let path = paths.relaid(number);
        let Some(bytes) = log::bytes(fs, &path)? else { break };
        let refuse = |why: String| Error::state(format!("`{}` cannot be trusted: {why}: restore it from a copy", path.display()));
        let (relaid, sha256) = sealed::unseal::<Relaid>(&bytes).map_err(refuse)?;
        if (relaid.number, &relaid.previous) != (number, &last.sha256) {
            return Err(refuse(format!("it is number {} behind {}, not {number} behind {}", relaid.number, relaid.previous, last.sha256)));
        }
        let relaid = if holds(fs, paths, &relaid.opened)? { Some(relaid) } else { last.relaid };
        last = Last { relaid, number, sha256 };
    }
    Ok(last)
}

/// Returns whether a record is the one in its place.
fn holds(fs: &dyn ReadFs, paths: &Paths, opened: &Opened) -> Result<bool> {
    let paths = paths.of_instance(0);
    let path = paths.record(opened.sequence);
    let is_there = fs.entry(&path).map_err(|e| Error::io(format_args!("look at `{}`", path.display()), e))?.is_some();
    Ok(is_there && log::read(fs, &paths, opened.sequence)?.1 == opened.sha256)
}
