//! Facts: what lies on the disk when a journal is opened, checked or repaired.
//!
//! Owns: looking. Nothing is changed.
//! Does not own: what it means (see [`super::plan`]), reading a segment (see [`super::scan`]).

use std::collections::BTreeMap;
use std::path::PathBuf;

use pintail_core::error::{Error, Result};

use super::chain::chain;
use super::position::Watch;
use super::scan::{Link, Scanned, scan};
use super::segment::{self, Frames, Header};
use super::time::Reading;
use super::{Committed, Settings, note};
use crate::durable::fs::{EntryKind, Fs};

/// What lies on the disk.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// The segments with their lengths in bytes.
    pub files: BTreeMap<u64, u64>,
    /// Segments that did not get their names.
    pub in_progress: Vec<PathBuf>,
    /// Whether there is no segment, and it is noted that the journal was begun.
    pub is_gone: bool,
    /// The segments that count, oldest first, read up to the first that is not whole.
    pub scanned: Vec<(Link, Scanned)>,
    /// What stands where the last commit record says that something was.
    pub watch: Watch<'a>,
    /// What the clocks show.
    pub now: Reading,
}

impl<'a> Facts<'a> {
    /// Looks at a journal. No process may write to it.
    ///
    /// # Errors
    /// If the disk refuses, or the segments do not follow each other (see [`chain`]).
    pub(super) fn look(fs: &dyn Fs, settings: &'a Settings, committed: &'a Committed) -> Result<Self> {
        let (files, in_progress) = list(fs, settings)?;
        let is_gone = files.is_empty() && note::is_there(fs, settings)?;
        let mut watch = Watch::new(&settings.key, committed.evidence.as_deref());
        let mut scanned = Vec::new();
        for link in chain(settings, &files, headers(fs, settings, &files))? {
            let found = scan(fs, &settings.dir, &link, &mut watch)?;
            let is_whole = found.ending.is_whole();
            scanned.push((link, found));
            if !is_whole {
                break;
            }
        }
        Ok(Self { files, in_progress, is_gone, scanned, watch, now: settings.clocks.read() })
    }
}

/// Lists the segments with their lengths.
pub(super) fn segments(fs: &dyn Fs, settings: &Settings) -> Result<BTreeMap<u64, u64>> {
    list(fs, settings).map(|(files, _)| files)
}

/// Lists the segments, and those that did not get their names. Without the directory there are none.
fn list(fs: &dyn Fs, settings: &Settings) -> Result<(BTreeMap<u64, u64>, Vec<PathBuf>)> {
    let (mut files, mut in_progress) = (BTreeMap::new(), Vec::new());
    let dir = fs.entry(&settings.dir).map_err(|e| Error::io(format_args!("look for `{}`", settings.dir.display()), e))?;
    if dir.is_none() {
        return Ok((files, in_progress));
    }
    for entry in fs.list(&settings.dir).map_err(|e| Error::io(format_args!("list `{}`", settings.dir.display()), e))? {
        match (entry.kind, segment::number(&entry.path)) {
            (EntryKind::File(bytes), Some(number)) => drop(files.insert(number, bytes)),
            (EntryKind::File(_), None) if segment::is_in_progress(&entry.path) => in_progress.push(entry.path),
            _ => {}
        }
    }
    Ok((files, in_progress))
}

/// Reads the header of each segment. Of one that does not count, it may be anything.
fn headers(fs: &dyn Fs, settings: &Settings, files: &BTreeMap<u64, u64>) -> BTreeMap<u64, Result<Header>> {
    let read = |number, bytes| Frames::open(fs, &settings.dir, &settings.dataset_id, number, bytes).map(|frames| frames.header);
    files.iter().map(|(number, bytes)| (*number, read(*number, *bytes))).collect()
}
