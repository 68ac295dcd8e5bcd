//! Relaid: other partition columns than FORMAT names, for a dataset in which no rows are stored yet.
//!
//! Owns: the files that say so, and that each follows the one before.
//! Does not own: when that may be (see `store::open`), FORMAT itself, which never changes: the first record names its checksum.
//!
//! One file a change, `_pintail/layout-0000000001.json`, sealed and chained like the commit records and never changed.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::format::PartitionColumn;
use super::log;
use super::paths::Paths;
use super::process::Process;
use super::sealed::{self, rfc3339};
use crate::durable::fs::Fs;
use crate::error::{Error, Result};

/// A change of the partition columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relaid {
    /// Counts changes from 1.
    pub number: u64,
    /// The checksum of the change before; of FORMAT for the first.
    pub previous: String,
    /// The partition columns since, outermost first.
    pub partition_by: Vec<PartitionColumn>,
    /// When it was made.
    #[serde(with = "rfc3339")]
    pub time: DateTime<Utc>,
    /// The process that made it.
    pub by: Process,
}

/// The last change, with its checksum; of FORMAT before the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Last {
    /// What it says; `None` if there was none.
    pub relaid: Option<Relaid>,
    /// The checksum, which the next one names.
    pub sha256: String,
}

impl Last {
    /// Makes the next one, as bytes with its number.
    pub fn next(&self, partition_by: Vec<PartitionColumn>, time: DateTime<Utc>, by: Process) -> (u64, Vec<u8>) {
        let number = self.relaid.as_ref().map_or(1, |relaid| relaid.number + 1);
        let relaid = Relaid { number, previous: self.sha256.clone(), partition_by, time, by };
        (number, sealed::seal(&relaid).0)
    }
}

/// Reads the last change.
///
/// # Errors
/// [`crate::error::ErrorKind::State`] if one is torn or does not follow the one before.
pub fn last(fs: &dyn Fs, paths: &Paths, format_sha256: &str) -> Result<Last> {
    let mut last = Last { relaid: None, sha256: format_sha256.to_owned() };
    for number in 1.. {
        let path = paths.relaid(number);
        let Some(bytes) = log::bytes(fs, &path)? else { break };
        let refuse = |why: String| Error::state(format!("`{}` cannot be trusted: {why}: restore it from a copy", path.display()));
        let (relaid, sha256) = sealed::unseal::<Relaid>(&bytes).map_err(refuse)?;
        if (relaid.number, &relaid.previous) != (number, &last.sha256) {
            return Err(refuse(format!("it is number {} behind {}, not {number} behind {}", relaid.number, relaid.previous, last.sha256)));
        }
        last = Last { relaid: Some(relaid), sha256 };
    }
    Ok(last)
}
