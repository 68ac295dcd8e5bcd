//! Idle files: known, read to their ends, and without a descriptor.
//!
//! Owns: how many files are open, which of them are closed to make room for others, and noticing that one of those has changed.
//! Does not own: opening it again, which is done as at a start: what was read is compared before reading continues (see `survey`).
//!
//! First a file is closed that has its name and is read to its last byte: what is not read better stays open, since a deleted file is gone for whoever
//! does not hold it. If that makes no room, rotated files that have stood still are closed, which are looked at each minute from then on; and files
//! whose last line has no end, or as many of them as there are descriptors would keep all others from being read: if one is deleted before its line is
//! finished, that is a gap. Files for which there is no descriptor wait for one; a position that waits remembers how much was seen.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use pintail_core::error::{Error, Result};
use pintail_core::offsets::PartitionId;
use tracing::{info, warn};

use super::tail::{Stage, Tail};
use super::{Facts, Follow};
use crate::file::discover::gone_is_none;
use crate::file::identity::{Inode, Place};
use crate::file::plan::Name;

/// The part of the open files that is closed at once: each search for the longest unused looks at all of them.
const CLOSED_PART: usize = 4;

/// How long a rotated file must have stood still, or one in the middle of a line, for others to get its descriptor.
const STILL: Duration = Duration::from_secs(2);

/// The files without a descriptor.
#[derive(Debug)]
pub(super) struct Idle {
    /// Files that may be open at the same time.
    open_max: usize,
    files: HashMap<Inode, IdleFile>,
    /// Whether none of the open files could be closed, since the last turns were read.
    all_in_use: bool,
    /// Whether files wait for a descriptor.
    waiting: bool,
    /// Whether that was said.
    told: bool,
}

/// A file as it was when it was closed.
#[derive(Debug, PartialEq, Eq)]
struct IdleFile {
    path: PathBuf,
    place: Place,
    length: u64,
    modified: Option<SystemTime>,
    /// Its position; none of an empty file.
    known: Option<PartitionId>,
}

impl IdleFile {
    fn new(path: &Path, metadata: &Metadata, known: Option<PartitionId>) -> Self {
        Self { path: path.to_owned(), place: Place::of(metadata), length: metadata.len(), modified: metadata.modified().ok(), known }
    }

    /// Returns whether a file is this one, unchanged.
    fn is_as(&self, path: &Path, metadata: &Metadata) -> bool {
        *self == Self::new(path, metadata, self.known.clone())
    }
}

impl Idle {
    pub(super) fn new(open_max: usize) -> Self {
        Self { open_max, files: HashMap::new(), all_in_use: false, waiting: false, told: false }
    }

    /// Returns how many files may be open at the same time.
    pub(super) fn open_max(&self) -> usize {
        self.open_max
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Returns whether a file that was found is one of these and has not changed. One that has is none of these any more.
    pub(super) fn holds(&mut self, path: &Path, metadata: &Metadata) -> bool {
        let inode = Inode::of(metadata);
        let Some(file) = self.files.get(&inode) else { return false };
        let holds = file.is_as(path, metadata);
        if !holds {
            self.files.remove(&inode);
        }
        holds
    }

    /// Returns the position of one of these.
    pub(super) fn known(&self, inode: &Inode) -> Option<PartitionId> {
        self.files.get(inode)?.known.clone()
    }

    /// Returns whether one of these is not there any more as it was.
    pub(super) fn has_changed(&self, known: &PartitionId) -> bool {
        let file = self.files.values().find(|file| file.known.as_ref() == Some(known));
        let is_as_closed = |file: &IdleFile| fs::metadata(&file.path).is_ok_and(|metadata| file.is_as(&file.path, &metadata));
        file.is_some_and(|file| !is_as_closed(file))
    }

    /// Takes out the files that were not found, and returns their positions.
    pub(super) fn take_missing(&mut self, found: &HashMap<Inode, Place>) -> Vec<PartitionId> {
        // Another file may have the inode by now.
        let missing = self.files.extract_if(|inode, file| !found.get(inode).is_some_and(|found| found.may_be(&file.place)));
        missing.filter_map(|(_, file)| file.known).collect()
    }

    /// Says once that files wait, and once that none does any more.
    pub(super) fn tell(&mut self) {
        match (self.waiting, self.told) {
            (true, false) => warn!(
                open_max = self.open_max,
                "files wait for a descriptor: all open ones have bytes that are not read; raise the limit of open files (ulimit -n)"
            ),
            (false, true) => info!("every file has been read"),
            _ => {}
        }
        self.told = self.waiting;
    }
}

impl Follow {
    /// Returns whether one more file may be open. Closes the longest unused ones if need be.
    pub(super) fn make_room(&mut self) -> bool {
        let open_max = self.idle.open_max;
        for rest in [Rest::Read, Rest::Rotated, Rest::Unfinished] {
            // Each attempt looks at all of them: thousands of files that appear at once cannot have one each.
            if self.tails.len() >= open_max && !self.idle.all_in_use {
                self.close_at(rest);
            }
        }
        self.idle.all_in_use = self.tails.len() >= open_max;
        !self.idle.all_in_use
    }

    /// Records that turns were read: what is read to its end by now may be closed.
    pub(super) fn may_close_again(&mut self) {
        self.idle.all_in_use = false;
    }

    /// Closes files that are at rest in one way, the longest unused first.
    fn close_at(&mut self, rest: Rest) {
        let mut unused: Vec<usize> = (0..self.tails.len()).collect();
        unused.sort_by_key(|at| self.tails[*at].last_read);
        let now = Instant::now();
        let at_rest = unused.into_iter().filter_map(|at| Some((at, self.tails[at].at_rest(rest, now)?)));
        let mut closed: HashMap<usize, IdleFile> = at_rest.take(self.idle.open_max.div_ceil(CLOSED_PART)).collect();
        for (at, mut tail) in std::mem::take(&mut self.tails).into_iter().enumerate() {
            let Some(file) = closed.remove(&at) else {
                self.tails.push(tail);
                continue;
            };
            tail.forget_unread(&self.files);
            // What is found by no name is none of the idle files: whether it has grown is looked up by its inode.
            if tail.name == Name::Matches {
                self.idle.files.insert(file.place.inode, file);
            }
        }
    }

    /// Returns whether a file that waits for a descriptor may have one now.
    pub(super) fn has_room_for_waiting(&mut self) -> bool {
        self.idle.waiting && self.make_room()
    }

    /// Begins a look, which finds out whether files still wait.
    pub(super) fn forget_waiting(&mut self) {
        self.idle.waiting = false;
    }

    /// Leaves a file to the next look for which there is a descriptor.
    pub(super) fn let_wait(&mut self) {
        self.idle.waiting = true;
    }

    /// Does without opening a file for which there is no descriptor.
    pub(super) fn leave_closed(&mut self, facts: &Facts, known: Option<PartitionId>) -> Result<()> {
        let path = &facts.path;
        let looked = gone_is_none(fs::metadata(path)).map_err(|e| Error::io(format_args!("look at `{}`", path.display()), e))?;
        let Some(metadata) = looked.filter(|metadata| Place::of(metadata) == facts.place) else {
            self.lost.extend(known);
            return Ok(());
        };
        let position = known.and_then(|known| self.files.positions.get(&known)).cloned();
        if metadata.len() == position.as_ref().map_or(0, |known| known.next) {
            let file = IdleFile::new(path, &metadata, position.map(|known| known.id().clone()));
            self.idle.files.insert(file.place.inode, file);
            self.files.aside.well(path);
            return Ok(());
        }
        self.idle.waiting = true;
        if let Some(known) = position {
            // If it goes before it is opened, that much is lost.
            self.files.positions.put(known.ending(metadata.len()));
        }
        Ok(())
    }
}

/// How a file may be at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Read to its last byte, under its name.
    Read,
    /// The same without a name that matches, for a while.
    Rotated,
    /// Under its name, in the middle of a line, for a while.
    Unfinished,
}

impl Tail {
    /// Returns what is remembered of the file without its descriptor, if it is at rest so.
    fn at_rest(&self, rest: Rest, now: Instant) -> Option<IdleFile> {
        let metadata = self.file().metadata().ok()?;
        let is_whole = match &self.stage {
            Stage::Empty(_) => metadata.len() == 0,
            Stage::Open(reader) => reader.has_reached(metadata.len()) && !reader.holds_open_line() && self.is_as_read(&metadata),
        };
        let is_taken = matches!(&self.stage, Stage::Open(reader) if reader.has_reached(metadata.len()) && self.is_as_read(&metadata));
        let still = now.saturating_duration_since(self.last_read) >= STILL;
        let read = match rest {
            Rest::Read => is_whole && self.name == Name::Matches,
            // Of an empty one no position is kept: what its writer adds could not be found again.
            Rest::Rotated => is_whole && still && self.name == Name::Renamed && self.known().is_some(),
            // A copy waits for its original, and is not seen to change by itself.
            Rest::Unfinished => is_taken && still && self.name == Name::Matches && self.copy_of.is_none(),
        };
        (read && !self.is_deleted()).then(|| IdleFile::new(&self.path, &metadata, self.known().cloned()))
    }
}
