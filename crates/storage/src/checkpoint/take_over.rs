//! Take-overs: the source partitions of a dataset are shared out anew among another number of instances.
//!
//! Owns: the log of take-overs, which says how many instances there are since, and where each source partition goes on.
//! Does not own: making one (see `store::share_out`), which partitions are whose (the source says).
//!
//! One file a take-over, `_pintail/instances/take-over-0000000001.json`, sealed and chained like the commit records and never changed: its name
//! appearing is the moment of the change. Each instance begins its first checkpoint after it where this file says, and the record of that
//! checkpoint names the chain, the record and the hash that each offset comes from.

use chrono::{DateTime, Utc};
use pintail_core::error::{Error, Result};
use pintail_core::evidence::Evidence;
use serde::{Deserialize, Serialize};

use super::log;
use super::paths::Paths;
use super::process::Process;
use super::sealed::{self, rfc3339};
use crate::durable::fs::ReadFs;

/// The version that this Pintail writes. It reads 1 as well, which has no evidence.
const VERSION: u32 = 2;

/// A change of the number of instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOver {
    /// The version of the file.
    pub version: u32,
    /// Counts take-overs from 1.
    pub number: u64,
    /// The checksum of the take-over before; of FORMAT for the first.
    pub previous: String,
    /// Instances before.
    pub from_instances: u32,
    /// Instances since.
    pub to_instances: u32,
    /// Where each source partition goes on.
    pub partitions: Vec<HandedOver>,
    /// When it was made.
    #[serde(with = "rfc3339")]
    pub time: DateTime<Utc>,
    /// The version of Pintail that made it.
    pub pintail: String,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Process>,
}

/// A source partition that goes on in another chain, or in the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOver {
    /// What offsets are filed under.
    pub id: String,
    /// What messages call it.
    pub label: String,
    /// Next offset.
    pub offset: u64,
    /// Where that stands.
    pub from: Origin,
    /// What stands right before the offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

/// The commit record that an offset comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The instance whose chain it is in.
    pub instance: u32,
    /// Its sequence number.
    pub sequence: u64,
    /// Its checksum.
    pub sha256: String,
}

impl TakeOver {
    /// Makes the one behind `before`, or the first.
    pub fn new(
        before: Option<&Sealed>,
        format_sha256: &str,
        instances: (u32, u32),
        partitions: Vec<HandedOver>,
        time: DateTime<Utc>,
        by: Process,
    ) -> Self {
        Self {
            version: VERSION,
            number: before.map_or(1, |before| before.take_over.number + 1),
            previous: before.map_or(format_sha256, |before| &before.sha256).to_owned(),
            from_instances: instances.0,
            to_instances: instances.1,
            partitions,
            time,
            pintail: env!("CARGO_PKG_VERSION").into(),
            by: Some(by),
        }
    }

    /// Writes it as bytes.
    pub fn encode(&self) -> Vec<u8> {
        sealed::seal(self).0
    }
}

/// A take-over with its checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// What it says.
    pub take_over: TakeOver,
    /// The checksum, which the next one names.
    pub sha256: String,
}

/// Reads all take-overs, oldest first.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if one is missing, torn or does not follow the one before.
pub fn all(fs: &dyn ReadFs, paths: &Paths, format_sha256: &str) -> Result<Vec<Sealed>> {
    let mut found: Vec<Sealed> = Vec::new();
    loop {
        let number = found.len() as u64 + 1;
        let path = paths.take_over(number);
        let Some(bytes) = log::bytes(fs, &path)? else { return Ok(found) };
        let refuse = |why: String| Error::state(format!("`{}` cannot be trusted: {why}: {}", path.display(), log::way_out(&path)));
        let (take_over, sha256) = sealed::unseal::<TakeOver>(&bytes).map_err(refuse)?;
        let previous = found.last().map_or(format_sha256, |before| &before.sha256);
        if !(1..=VERSION).contains(&take_over.version) {
            return Err(refuse(format!("it has version {}, this pintail reads versions 1 to {VERSION}", take_over.version)));
        }
        if take_over.number != number || take_over.previous != previous {
            return Err(refuse(format!("it is number {} behind {}, not {number} behind {previous}", take_over.number, take_over.previous)));
        }
        found.push(Sealed { take_over, sha256 });
    }
}

/// Returns the last take-over, if there was one.
///
/// # Errors
/// As [`all`].
pub fn last(fs: &dyn ReadFs, paths: &Paths, format_sha256: &str) -> Result<Option<Sealed>> {
    Ok(all(fs, paths, format_sha256)?.pop())
}
