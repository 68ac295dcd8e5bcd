//! An Iceberg table over the dataset, without a catalog: metadata beside the files, version 2 of the format, written by hand.
//!
//! Owns: what a version of the metadata says; what points to the last one, and the clean-up of old ones.
//! Does not own: the ledger, and how a table is brought up to it (see [`crate::publisher`]).
//!
//! The format: <https://iceberg.apache.org/spec/>. How far a publisher is stands in a property, one for each instance, set by the version that adds
//! the files: what a snapshot says of itself would go with the snapshot. Data files are named by absolute paths and lie outside of the table's
//! `location`, where other tools remove what they do not know.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use pintail_core::error::{Error, Result};

mod avro;
mod manifest;
mod names;
mod plan;
mod state;
#[cfg(test)]
pub(crate) mod tests;

pub use plan::faults;

use self::avro::Record;
use self::manifest::{listed, long, text};
use self::names::Kind;
use self::state::State;
use crate::audit::View;
use crate::facts::Dataset;
use crate::ledger::Ledger;
use crate::log::{Log, Made};
use crate::publisher::{Depth, Plan, Published, Table};

/// The directory of the metadata, below that of the dataset.
pub const DIR: &str = "_iceberg/metadata";
/// The directory of the table, below that of the dataset.
pub const TABLE_DIR: &str = "_iceberg";

/// How long what a table does not name any more stays for those who read it as it was.
const GRACE: TimeDelta = TimeDelta::days(1);
/// Versions between two clean-ups, which read the lists of all snapshots.
const CLEAN_EVERY: u64 = 50;

/// What of a table is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Small manifests from which on they become one.
    pub manifests: usize,
    /// Files of a manifest that is written anew; one with half of them is not small.
    pub entries: usize,
    /// Snapshots.
    pub snapshots: usize,
    /// Old versions of the metadata, which the newest one names.
    pub versions: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self { manifests: 100, entries: 10_000, snapshots: 100, versions: 100 }
    }
}

/// What is particular about an Iceberg table.
#[derive(Debug, Clone)]
pub(crate) struct Iceberg {
    /// The dataset's directory: an absolute path.
    root: String,
    policy: Policy,
}

/// The next version, and what it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    version: u64,
    /// New manifests and the list of them.
    files: Vec<(String, Vec<u8>)>,
    metadata: Vec<u8>,
}

impl Iceberg {
    pub(crate) fn new(root: String) -> Self {
        Self::with_policy(root, Policy::default())
    }

    pub(crate) fn with_policy(root: String, policy: Policy) -> Self {
        Self { root, policy }
    }

    /// Where the table is, as it says itself.
    fn location(&self) -> String {
        format!("{}/{TABLE_DIR}", self.root)
    }

    /// Returns the path of a file of the metadata.
    fn path(&self, name: &str) -> String {
        format!("{}/{DIR}/{name}", self.root)
    }

    /// Returns the places of the manifests that the next commit makes one of.
    fn merged(&self, state: &State) -> BTreeSet<usize> {
        let files = |of: &Record| [listed::ADDED, listed::EXISTING].iter().filter_map(|id| long(of, *id)).sum::<i64>();
        let is_small = |of: &Record| usize::try_from(files(of)).is_ok_and(|files| files > 0 && files < self.policy.entries / 2);
        let small = state.manifests.iter().enumerate().filter(|(_, of)| self.is_our_spec(state, of) && is_small(of));
        let small: BTreeSet<usize> = small.map(|(place, _)| place).collect();
        if small.len() >= self.policy.manifests { small } else { BTreeSet::new() }
    }

    /// Returns whether a manifest has data files partitioned as they are now.
    fn is_our_spec(&self, state: &State, manifest: &Record) -> bool {
        long(manifest, listed::CONTENT).unwrap_or(0) == 0 && long(manifest, listed::SPEC) == state.metadata["default-spec-id"].as_i64()
    }

    /// Lets the hint name the last version. Who writes it looks again: of two that do so at the same time, the later one must not go back.
    fn point(&self, log: &dyn Log, mut version: u64) -> Result<()> {
        loop {
            let hint = log.read(names::HINT)?.and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse::<u64>().ok());
            if hint == Some(version) {
                return Ok(());
            }
            log.replace(names::HINT, version.to_string().as_bytes())?;
            let newest = log.list()?.iter().filter_map(|entry| version_of(&entry.name)).max();
            version = newest.unwrap_or(version);
        }
    }

    /// Removes what this pintail wrote and no version that is kept names.
    ///
    /// Whoever still writes a version that would name such a file read the table before the version `version` was made, which has the files that it
    /// wants to make: so it comes too late. Hence only what is older than that version goes, and what is older than the time that readers are given.
    fn clean(&self, log: &dyn Log, state: &State, version: u64, now: DateTime<Utc>) -> Result<()> {
        let mut named: BTreeSet<String> = BTreeSet::new();
        for snapshot in state.metadata["snapshots"].as_array().into_iter().flatten() {
            let list = snapshot["manifest-list"].as_str().and_then(|path| file_name(&self.root, path));
            // What cannot be read names what nobody knows.
            let Some(list) = list else { return Ok(()) };
            let Some(Ok(manifests)) = log.read(list)?.map(|bytes| avro::read(&bytes)) else { return Ok(()) };
            named.insert(list.to_owned());
            let paths = manifests.records.iter().filter_map(|of| file_name(&self.root, text(of, listed::PATH)?));
            named.extend(paths.map(str::to_owned));
        }
        let made = state.entries.iter().find(|entry| entry.name == names::metadata(version)).and_then(|entry| entry.written);
        let Some(made) = made else { return Ok(()) };
        for entry in &state.entries {
            let Some(written) = entry.written.filter(|written| *written < made && now - *written > GRACE) else { continue };
            let goes = match names::kind(&entry.name) {
                Kind::Metadata(of) => of + u64::try_from(self.policy.versions).unwrap_or(u64::MAX) < version,
                Kind::Manifest => !named.contains(&entry.name),
                Kind::Unfinished => true,
                Kind::Compressed(_) | Kind::Other => false,
            };
            if goes {
                debug_assert!(written < now, "what was written is in the past");
                log.remove(&entry.name)?;
            }
        }
        Ok(())
    }
}

impl Table for Iceberg {
    type State = State;
    type Commit = Commit;

    fn read(&self, log: &dyn Log, depth: Depth<'_>) -> Result<State> {
        State::read(self, log, depth)
    }

    fn version(state: &State) -> Option<u64> {
        state.version
    }

    fn check(&self, state: &State, dataset: &Dataset, place: &str) -> Result<()> {
        plan::check(self, state, dataset, place)
    }

    fn plan(
        &self,
        state: &State,
        ledger: &dyn Ledger,
        gone: &BTreeSet<String>,
        files_max: usize,
        now: DateTime<Utc>,
    ) -> Result<Plan<Commit>> {
        plan::plan(self, state, ledger, gone, files_max, now)
    }

    fn commit(&self, log: &dyn Log, commit: &Commit) -> Result<Made> {
        for (name, bytes) in &commit.files {
            if log.create(name, bytes)? == Made::Taken {
                return Err(Error::internal(format!("`{name}` in `{}` is there, though its name is random", log.place())));
            }
        }
        log.create(&names::metadata(commit.version), &commit.metadata)
    }

    fn keep(&self, log: &dyn Log, state: &State, published: &mut Published, now: DateTime<Utc>) -> Result<()> {
        let Some(version) = state.version else { return Ok(()) };
        self.point(log, version)?;
        let before = version.saturating_sub(published.commits);
        if version / CLEAN_EVERY == before / CLEAN_EVERY { Ok(()) } else { self.clean(log, state, version, now) }
    }

    fn view(&self, state: &State, dataset: &Dataset) -> View {
        let mut view = View::default();
        for (path, told) in &state.files {
            if view.live.insert(path.clone(), *told).is_some() {
                view.faults.push(format!("`{path}` is in the table twice"));
            }
        }
        let names_deletes = |of: &Record| long(of, listed::CONTENT) == Some(1) && long(of, listed::ADDED) != Some(0);
        if state.manifests.iter().any(names_deletes) {
            view.faults.push("another writer took rows out of files (the table has delete files)".into());
        }
        let properties = state.metadata["properties"].as_object().into_iter().flatten();
        let instance = |name: &str| name.strip_prefix(&format!("pintail.{}.", dataset.id))?.strip_suffix(".sequence")?.parse().ok();
        view.standing = properties
            .filter_map(|(name, _)| instance(name))
            .map(|instance| (instance, plan::standing(state, &dataset.id, instance)))
            .collect();
        view
    }
}

/// Returns the name of a file of the metadata that a table names by its path; `None` if it lies elsewhere.
fn file_name<'a>(root: &str, path: &'a str) -> Option<&'a str> {
    let path = path.strip_prefix("file://").unwrap_or(path);
    path.strip_prefix(root)?.strip_prefix('/')?.strip_prefix(DIR)?.strip_prefix('/').filter(|name| !name.contains('/'))
}

fn version_of(name: &str) -> Option<u64> {
    match names::kind(name) {
        Kind::Metadata(version) => Some(version),
        _ => None,
    }
}
