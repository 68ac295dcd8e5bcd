//! Held: what is said of records that the line holds back, between the process that holds them and the command that lets them pass.
//!
//! Owns: the two files, `HELD` of the process and `ACCEPTED` of the command, and what they say. Neither is part of the ledger: what was let pass
//! is in a record (see [`super::record::ActionKind::AcceptRejected`]).
//! Does not own: when records are held (see `breaker`), writing that record.

use std::io::ErrorKind;
use std::path::Path;
use std::{fmt, fs};

use chrono::{DateTime, Utc};
use pintail_core::breaker::{Tally, Usual};
use pintail_core::error::{Error, Result};
use pintail_core::quantity::{percent, thousands};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::paths::Paths;
use super::process::Process;
use super::record::UpTo;
use super::sealed::{self, rfc3339};
use crate::durable::posix;

/// Ranges that a message names.
const RANGES_SHOWN: usize = 3;

/// Says what a person can do about them, given the command that lets them pass.
pub fn ways_out(accept: &str) -> String {
    format!("fix the schema or the SQL and start again, or let all of it pass, what fails as dead letters, with {accept}")
}

/// Records that the line holds back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Since when.
    #[serde(with = "rfc3339")]
    pub since: DateTime<Utc>,
    /// Which records.
    pub ranges: Vec<HeldRange>,
    /// How many of the open checkpoint were rejected.
    pub tally: Tally,
    /// How many usually are.
    pub usual: Usual,
    /// Why the first one was rejected.
    pub reason: String,
}

/// The half-open range `[from, to)` of a source partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRange {
    /// The partition.
    pub id: String,
    /// What messages call it.
    pub label: String,
    /// Its first offset.
    pub from: u64,
    /// The offset behind it.
    pub to: u64,
}

/// What an operator lets pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// Who does so.
    pub by: Process,
    /// Up to where.
    pub up_to: Vec<UpTo>,
}

impl Held {
    /// Returns what lets these records pass.
    pub fn acceptance(&self, by: Process) -> Acceptance {
        Acceptance { by, up_to: self.ranges.iter().map(HeldRange::up_to).collect() }
    }

    /// Names the records; the first few ranges of many.
    pub fn places(&self) -> String {
        let ranges = self.ranges.iter().map(|range| format!("{} from {} to {}", range.label, thousands(range.from), thousands(range.to)));
        let more = self.ranges.len().checked_sub(RANGES_SHOWN).filter(|more| *more > 0).map(|more| format!("{more} more ranges"));
        ranges.take(RANGES_SHOWN).chain(more).collect::<Vec<_>>().join(", ")
    }
}

impl HeldRange {
    fn up_to(&self) -> UpTo {
        UpTo { id: self.id.clone(), label: Some(self.label.clone()), to: self.to }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { records, rejected, .. } = self.tally;
        let share = percent(rejected, records);
        write!(f, "{} of the {} records since the last good checkpoint ({share}", thousands(rejected), thousands(records))?;
        match self.usual {
            Usual { records: 0, .. } => write!(f, ")")?,
            Usual { records, rejected } => {
                write!(f, "; of the {} committed before them, {})", thousands(records), percent(rejected, records))?;
            }
        }
        write!(f, " were rejected, so {} is held back; the first reason: {}", self.places(), self.reason)
    }
}

impl Acceptance {
    /// Returns whether it lets all of these records pass.
    pub fn covers(&self, held: &Held) -> bool {
        held.ranges.iter().all(|range| self.up_to.iter().any(|up_to| up_to.id == range.id && up_to.to >= range.to))
    }
}

/// Says what is held back.
pub fn announce(paths: &Paths, held: &Held) -> Result<()> {
    write(&paths.held(), held)
}

/// Returns what a process holds back, or held back when it ended.
pub fn announced(paths: &Paths) -> Result<Option<Held>> {
    read(&paths.held())
}

/// Says that nothing is held back any more. If that fails, somebody may accept what is held back no more, which lets nothing pass.
pub fn withdraw(paths: &Paths) {
    if let Err(error) = remove(&paths.held()) {
        warn!(%error, "records are still said to be held back");
    }
}

/// Tells a running process what may pass.
pub fn accept(paths: &Paths, acceptance: &Acceptance) -> Result<()> {
    write(&paths.accepted(), acceptance)
}

/// Takes what an operator lets pass.
pub fn take_acceptance(paths: &Paths) -> Result<Option<Acceptance>> {
    let acceptance = read(&paths.accepted());
    // A damaged one is told once, too.
    remove(&paths.accepted())?;
    acceptance
}

/// Not made durable: after a power cut the same records are held back again.
fn write(path: &Path, content: &impl Serialize) -> Result<()> {
    posix::tell(path, &sealed::seal(content).0).map_err(|e| Error::io(format_args!("write `{}`", path.display()), e))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(format_args!("read `{}`", path.display()), error)),
    };
    let content = sealed::unseal(&bytes).map_err(|why| Error::state(format!("`{}` is damaged: {why}; remove it", path.display())))?;
    Ok(Some(content.0))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(format_args!("remove `{}`", path.display()), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(ranges: &[(&str, u64, u64)]) -> Held {
        let range = |&(id, from, to): &(&str, u64, u64)| HeldRange { id: id.into(), label: id.to_uppercase(), from, to };
        Held {
            since: DateTime::UNIX_EPOCH,
            ranges: ranges.iter().map(range).collect(),
            tally: Tally { records: 10_000, rejected: 9_000, units: 9 },
            usual: Usual { records: 100, rejected: 1 },
            reason: "column `a`".into(),
        }
    }

    #[test]
    fn what_is_held_back_is_read_as_it_was_announced_until_it_is_withdrawn() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        fs::create_dir(paths.own()).unwrap();
        assert_eq!(announced(&paths).unwrap(), None);
        let held = held(&[("a", 5, 9)]);
        announce(&paths, &held).unwrap();
        assert_eq!(announced(&paths).unwrap(), Some(held));
        withdraw(&paths);
        withdraw(&paths);
        assert_eq!(announced(&paths).unwrap(), None);
    }

    #[test]
    fn an_acceptance_is_taken_once_and_lets_pass_no_more_than_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        fs::create_dir(paths.own()).unwrap();
        let two = held(&[("a", 5, 9), ("b", 0, 3)]);
        accept(&paths, &two.acceptance(Process::this())).unwrap();
        let acceptance = take_acceptance(&paths).unwrap().unwrap();
        assert_eq!(take_acceptance(&paths).unwrap(), None);
        assert!(acceptance.covers(&two) && acceptance.covers(&held(&[("b", 2, 3)])));
        assert!(!acceptance.covers(&held(&[("a", 5, 10)])) && !acceptance.covers(&held(&[("c", 0, 1)])));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        fs::create_dir(paths.own()).unwrap();
        fs::write(paths.accepted(), "{}").unwrap();
        assert!(take_acceptance(&paths).unwrap_err().to_string().contains("ACCEPTED"));
    }
}
