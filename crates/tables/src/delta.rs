//! A Delta table over the dataset: a log beside the files, written by hand.
//!
//! Owns: what a commit of the log says; checkpoints of the log, and its clean-up.
//! Does not own: the ledger, and how a table is brought up to it (see [`crate::publisher`]).
//!
//! The protocol: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>. How far a publisher is stands in a `txn`, one for each instance, its
//! version the sequence number of the last record.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use pintail_core::error::{Error, Result};
use serde_json::{Value, json};

mod action;
mod checkpoint;
pub mod log;
mod plan;
mod snapshot;
mod stats;
#[cfg(test)]
pub(crate) mod tests;

pub use plan::faults;

use self::action::Line;
use self::log::Kind;
use self::snapshot::{Depth, Snapshot};
use crate::audit::{Told, View};
use crate::facts::Dataset;
use crate::ledger::Ledger;
use crate::log::{Log, Made};
use crate::publisher::{self, OWNER, Plan, Published, Table, app_id};

/// The table feature of timestamps without a time zone.
const WITHOUT_ZONE: &str = "timestampNtz";
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

/// What is particular about a Delta table.
#[derive(Debug, Clone)]
pub(crate) struct Delta {
    /// Its name.
    pub name: String,
}

/// The next version of the log, and its lines.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Commit {
    version: u64,
    lines: Vec<Line>,
}

impl Table for Delta {
    type State = Snapshot;
    type Commit = Commit;

    fn read(&self, log: &dyn Log, depth: publisher::Depth<'_>) -> Result<Snapshot> {
        let depth = if depth == publisher::Depth::Head { Depth::Head } else { Depth::Files };
        Snapshot::read(log, depth, None)
    }

    fn version(state: &Snapshot) -> Option<u64> {
        state.version
    }

    fn check(&self, state: &Snapshot, dataset: &Dataset, place: &str) -> Result<()> {
        plan::check(state, dataset, place)
    }

    fn plan(
        &self,
        state: &Snapshot,
        ledger: &dyn Ledger,
        gone: &BTreeSet<String>,
        files_max: usize,
        now: DateTime<Utc>,
    ) -> Result<Plan<Commit>> {
        plan::plan(state, ledger, &self.name, gone, files_max, now)
    }

    fn commit(&self, log: &dyn Log, commit: &Commit) -> Result<Made> {
        log.create(&log::commit(commit.version), &action::to_bytes(&commit.lines))
    }

    // Writes the checkpoint that is due, and removes what it stands for once that is old.
    fn keep(&self, log: &dyn Log, table: &Snapshot, published: &mut Published, now: DateTime<Utc>) -> Result<()> {
        let Some(version) = table.version else { return Ok(()) };
        let since = table.checkpoint.map_or(version + 1, |checkpoint| version - checkpoint);
        if since < CHECKPOINT_COMMITS || since < commits_between(log)? {
            return Ok(());
        }
        let whole = Snapshot::read(log, Depth::Files, Some(version))?;
        let cannot = |why| Error::internal(format!("cannot write a checkpoint of `{}`: {why}", log.place()));
        let (bytes, rows) = checkpoint::write(&whole, Snapshot::tombstones_from(now)).map_err(cannot)?;
        log.create(&log::checkpoint(version), &bytes)?;
        log.replace(log::LAST_CHECKPOINT, json!({ "version": version, "size": rows }).to_string().as_bytes())?;
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
                log.remove(&entry.name)?;
            }
        }
        Ok(())
    }

    fn view(&self, state: &Snapshot, dataset: &Dataset) -> View {
        let rows = |stats: &str| serde_json::from_str::<Value>(stats).ok()?["numRecords"].as_u64();
        let told = |add: &action::Add| Told { bytes: add.size, rows: add.stats.as_deref().and_then(rows) };
        let standing = state.txns.keys().filter_map(|name| {
            let instance = name.strip_prefix(&format!("pintail.{}.", dataset.id))?.parse().ok()?;
            Some((instance, state.txn(&app_id(&dataset.id, instance))))
        });
        View {
            live: state.live.iter().map(|(path, add)| (path.clone(), told(add))).collect(),
            removed: state.removed.keys().cloned().collect(),
            standing: standing.collect(),
            faults: state.doubled.iter().map(|path| format!("`{path}` was added to the table twice")).collect(),
        }
    }
}

/// Returns the commits between two checkpoints of a table of its size.
fn commits_between(log: &dyn Log) -> Result<u64> {
    let last = log.read(log::LAST_CHECKPOINT)?;
    let last: Option<Value> = last.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let size = last.and_then(|last| last.get("size")?.as_u64()).unwrap_or(0);
    Ok((size / FILES_A_COMMIT).clamp(CHECKPOINT_COMMITS, CHECKPOINT_COMMITS_MAX))
}
