//! What the log of a table adds up to.
//!
//! Owns: finding the newest checkpoint, replaying the commits after it, and that there is no hole between.
//! Does not own: the form of actions (see `action`) and of checkpoints (see `checkpoint`).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use pintail_core::error::{Error, Result};

use super::action::{self, Add, Line, MetaData, Protocol, Remove, Txn};
use super::checkpoint;
use super::log::{self, Kind};
use crate::log::{Entry, Log, unreadable};

/// How much of a table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// What it is, and how far its writers are.
    Head,
    /// Its files, too.
    Files,
}

/// A table at one of its versions.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Snapshot {
    /// The last commit; `None` if there is no table.
    pub version: Option<u64>,
    /// The newest checkpoint.
    pub checkpoint: Option<u64>,
    /// Commits that lie there, with when they were written.
    pub entries: Vec<Entry>,
    /// What readers and writers must know.
    pub protocol: Option<Protocol>,
    /// What the table is.
    pub meta_data: Option<MetaData>,
    /// How far applications are.
    pub txns: BTreeMap<String, Txn>,
    /// The files by their decoded paths; empty with [`Depth::Head`].
    pub live: BTreeMap<String, Add>,
    /// Files that left.
    pub removed: BTreeMap<String, Remove>,
    /// Files that joined although they were there: by a writer that is none of ours.
    pub doubled: Vec<String>,
}

impl Snapshot {
    /// Reads the log, up to the commit `to` if that is given.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::State`] if it has a hole or cannot be read.
    pub(super) fn read(of: &dyn Log, depth: Depth, to: Option<u64>) -> Result<Self> {
        // Somebody may clean the log up between the listing and the reading.
        let mut last = None;
        for _ in 0..3 {
            match Self::try_read(of, depth, to)? {
                Ok(snapshot) => return Ok(snapshot),
                Err(missing) => last = Some(missing),
            }
        }
        let missing = last.unwrap_or_default();
        Err(Error::state(format!(
            "`{}` has no `{missing}`, though later versions are there: the table cannot be read; a table is made anew from the dataset once the \
             directory is moved away",
            of.place()
        )))
    }

    /// Returns the name of a file that is missing instead, if one is.
    fn try_read(of: &dyn Log, depth: Depth, to: Option<u64>) -> Result<std::result::Result<Self, String>> {
        let entries = of.list()?;
        let within = |version: &u64| to.is_none_or(|to| *version <= to);
        let commits: Vec<u64> = entries.iter().filter_map(|entry| as_commit(&entry.name)).filter(within).collect();
        let newest = newest_checkpoint(&entries, to);
        let mut snapshot = Self { checkpoint: newest.as_ref().map(|(version, _)| *version), ..Self::default() };
        if let Some((_, parts)) = &newest {
            for part in parts {
                let Some(bytes) = of.read(part)? else { return Ok(Err(part.clone())) };
                let refuse = |why: String| unreadable(part, of, &why);
                checkpoint::read(bytes, depth, |line| snapshot.take(line, depth)).map_err(refuse)?;
            }
        }
        snapshot.version = commits.iter().max().copied().max(snapshot.checkpoint);
        let first = snapshot.checkpoint.map_or(0, |checkpoint| checkpoint + 1);
        let last = snapshot.version.map_or(0, |version| version + 1);
        for version in first..last {
            let name = log::commit(version);
            let Some(bytes) = of.read(&name)? else { return Ok(Err(name)) };
            let lines = action::parse(&bytes).map_err(|why| unreadable(&name, of, &why))?;
            lines.into_iter().for_each(|line| snapshot.take(line, depth));
        }
        snapshot.entries = entries;
        Ok(Ok(snapshot))
    }

    fn take(&mut self, line: Line, depth: Depth) {
        let Line { protocol, meta_data, txn, add, remove, commit_info: _ } = line;
        self.protocol = protocol.or(self.protocol.take());
        self.meta_data = meta_data.or(self.meta_data.take());
        if let Some(txn) = txn {
            self.txns.insert(txn.app_id.clone(), txn);
        }
        if depth == Depth::Head {
            return;
        }
        if let Some(remove) = remove {
            let path = action::decode(&remove.path);
            self.live.remove(&path);
            self.removed.insert(path, remove);
        }
        if let Some(add) = add {
            let path = action::decode(&add.path);
            self.removed.remove(&path);
            // Without new rows it is the same file with other statistics.
            let is_new = add.data_change;
            if self.live.insert(path.clone(), add).is_some() && is_new {
                self.doubled.push(path);
            }
        }
    }

    /// Returns how far an application is; 0 if it never wrote.
    pub(super) fn txn(&self, app_id: &str) -> u64 {
        self.txns.get(app_id).map_or(0, |txn| u64::try_from(txn.version).unwrap_or(0))
    }

    /// Returns the time after which files that left are told no more.
    pub(super) fn tombstones_from(now: DateTime<Utc>) -> i64 {
        (now - super::TOMBSTONES).timestamp_millis()
    }
}

fn as_commit(name: &str) -> Option<u64> {
    match log::kind(name) {
        Kind::Commit(version) => Some(version),
        _ => None,
    }
}

/// Returns the newest checkpoint all of whose parts are there, with their names.
fn newest_checkpoint(entries: &[Entry], to: Option<u64>) -> Option<(u64, Vec<String>)> {
    let mut found: BTreeMap<(u64, u32), Vec<String>> = BTreeMap::new();
    for entry in entries {
        if let Kind::Checkpoint { version, parts } = log::kind(&entry.name)
            && to.is_none_or(|to| version <= to)
        {
            found.entry((version, parts)).or_default().push(entry.name.clone());
        }
    }
    let whole = found.into_iter().rev().find(|((_, parts), names)| usize::try_from(*parts) == Ok(names.len()));
    whole.map(|((version, _), names)| (version, names))
}
