//! A Delta table over the dataset: a log beside the files, written by hand.
//!
//! Owns: the loop that brings a table up to the ledger: each committed file in it once, however often a publisher is killed, repeated or run
//! beside another; checkpoints of the log, and its clean-up.
//! Does not own: the ledger, which never waits for it.
//!
//! The protocol: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>. How far a publisher is stands in the commit that adds the files
//! (`txn`, one for each instance, its version the sequence number of the last record). So there is one question to ask before a commit, and the
//! answer cannot be stale: the commit takes the next version by create-if-absent, and whoever is late reads the table again.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use pintail_core::error::{Error, Result};
use serde_json::json;

mod action;
mod audit;
mod checkpoint;
pub mod log;
mod plan;
mod snapshot;
mod stats;
#[cfg(test)]
mod tests;

pub use audit::{Audit, audit};
pub use plan::faults;

use self::log::{Kind, Log, Made};
use self::snapshot::{Depth, Snapshot};
use crate::facts::Dataset;
use crate::ledger::Ledger;

/// The table feature of timestamps without a time zone.
const WITHOUT_ZONE: &str = "timestampNtz";
/// The property that says which dataset a table belongs to.
const OWNER: &str = "pintail.dataset_id";
/// Files of a commit, about: a reader takes a commit into memory at once.
const FILES_MAX: usize = 10_000;
/// Commits that others may get in before this one within a publication.
const CONFLICTS_MAX: u32 = 100;
/// Commits between two checkpoints of a small table. A checkpoint holds the whole table, so of a large one there are fewer.
const CHECKPOINT_COMMITS: u64 = 10;
const CHECKPOINT_COMMITS_MAX: u64 = 100;
/// Files of a table for each further commit between checkpoints.
const FILES_A_COMMIT: u64 = 1_000;
/// How long it is told that a file has left (`delta.deletedFileRetentionDuration`).
const TOMBSTONES: TimeDelta = TimeDelta::days(7);
/// How long commits stay that a checkpoint stands for (`delta.logRetentionDuration`).
const LOG_RETENTION: TimeDelta = TimeDelta::days(30);
/// After that what a publisher has not finished is none of a running one.
const UNFINISHED: TimeDelta = TimeDelta::days(1);

/// Publishes a dataset as a Delta table.
#[derive(Debug, Clone)]
pub struct Publisher {
    log: Arc<dyn LogOfTable>,
    name: String,
}

/// A log that publishers of several threads may use.
pub trait LogOfTable: Log + Send + Sync {}

impl<T: Log + Send + Sync> LogOfTable for T {}

/// What a publication did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// The version that the table has now; `None` if there is none, for want of columns.
    pub version: Option<u64>,
    /// Commits.
    pub commits: u64,
    /// Files that joined.
    pub files: u64,
    /// Their rows.
    pub rows: u64,
    /// Expired files that left.
    pub removed: u64,
    /// Commits of others that came in before.
    pub conflicts: u64,
    /// The version of the checkpoint that was written.
    pub checkpoint: Option<u64>,
    /// How far each chain is in the table, by instance.
    pub chains: BTreeMap<u32, u64>,
}

/// Whether expired files are looked for, which takes a look at each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// They stay in the table.
    Keep,
    /// Those that are gone leave it.
    Remove,
}

impl Publisher {
    /// Publishes to a log, as the table `name`, which is what catalogs and people call it.
    pub fn new(log: Arc<dyn LogOfTable>, name: impl Into<String>) -> Self {
        Self { log, name: name.into() }
    }

    /// Returns the name of the table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks that a dataset may write to the table, if there is one.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn check(&self, dataset: &Dataset) -> Result<()> {
        plan::check(&Snapshot::read(&*self.log, Depth::Head, None)?, dataset, &self.log.place())
    }

    /// Returns where the table's log is.
    pub fn place(&self) -> String {
        self.log.place()
    }

    /// Brings the table up to the ledger as it is. May be repeated, by any number of processes.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if the dataset cannot be such a table, or the log belongs to another or asks for what is not
    /// known here; [`pintail_core::error::ErrorKind::TryAgain`] if others committed all the time. After any error the next publication
    /// decides anew; nothing is ever doubled.
    pub fn publish(&self, ledger: &dyn Ledger, expired: Expired, now: DateTime<Utc>) -> Result<Published> {
        let mut published = Published::default();
        let gone = if expired == Expired::Remove { ledger.expired()? } else { Default::default() };
        loop {
            let depth = if gone.is_empty() { Depth::Head } else { Depth::Files };
            let table = Snapshot::read(&*self.log, depth, None)?;
            plan::check(&table, ledger.dataset(), &self.log.place())?;
            let plan = plan::plan(&table, ledger, &self.name, &gone, FILES_MAX, now)?;
            published.chains = plan.chains.iter().copied().collect();
            let Some(version) = plan.version else {
                published.version = table.version;
                self.keep_log(&table, &mut published, now)?;
                return Ok(published);
            };
            match self.log.create(&log::commit(version), &action::to_bytes(&plan.lines))? {
                Made::Now => {
                    published.commits += 1;
                    published.files += plan.files;
                    published.rows += plan.rows;
                    published.removed += plan.removed;
                }
                Made::Taken => {
                    published.conflicts += 1;
                    if published.conflicts > u64::from(CONFLICTS_MAX) {
                        return Err(Error::try_again(format!("others commit to `{}` all the time: publish later", self.log.place())));
                    }
                }
            }
        }
    }

    /// Writes the checkpoint that is due, and removes what it stands for once that is old.
    fn keep_log(&self, table: &Snapshot, published: &mut Published, now: DateTime<Utc>) -> Result<()> {
        let Some(version) = table.version else { return Ok(()) };
        let since = table.checkpoint.map_or(version + 1, |checkpoint| version - checkpoint);
        if since < CHECKPOINT_COMMITS || since < self.commits_between()? {
            return Ok(());
        }
        let whole = Snapshot::read(&*self.log, Depth::Files, Some(version))?;
        let cannot = |why| Error::internal(format!("cannot write a checkpoint of `{}`: {why}", self.log.place()));
        let (bytes, rows) = checkpoint::write(&whole, Snapshot::tombstones_from(now)).map_err(cannot)?;
        self.log.create(&log::checkpoint(version), &bytes)?;
        self.log.replace(log::LAST_CHECKPOINT, json!({ "version": version, "size": rows }).to_string().as_bytes())?;
        published.checkpoint = Some(version);
        // Whoever reads the table as it was needs a checkpoint and the commits after it: of the old ones, those go that the one before this
        // stands for.
        let Some(before) = table.checkpoint else { return Ok(()) };
        for entry in &table.entries {
            let Some(age) = entry.written.map(|written| now - written) else { continue };
            let is_old = match log::kind(&entry.name) {
                Kind::Commit(of) | Kind::Checkpoint { version: of, .. } => of < before && age > LOG_RETENTION,
                Kind::Unfinished => age > UNFINISHED,
                Kind::Other => false,
            };
            if is_old {
                self.log.remove(&entry.name)?;
            }
        }
        Ok(())
    }

    /// Returns the commits between two checkpoints of a table of its size.
    fn commits_between(&self) -> Result<u64> {
        let last = self.log.read(log::LAST_CHECKPOINT)?;
        let last: Option<serde_json::Value> = last.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let size = last.and_then(|last| last.get("size")?.as_u64()).unwrap_or(0);
        Ok((size / FILES_A_COMMIT).clamp(CHECKPOINT_COMMITS, CHECKPOINT_COMMITS_MAX))
    }
}

/// Returns the name that a chain of a dataset has in the table.
pub fn app_id(dataset_id: &str, instance: u32) -> String {
    format!("pintail.{dataset_id}.{instance}")
}
