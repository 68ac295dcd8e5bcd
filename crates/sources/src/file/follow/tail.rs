//! Tail: one followed file.
//!
//! Owns: its descriptor, noticing that it changed, its turn.
//! Does not own: what becomes of a position that lost its file (see `follow`).

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pintail_core::error::{Error, Result};
use pintail_core::offsets::{Partition, PartitionId};

use super::QUIET;
use crate::file::identity::Place;
use crate::file::plan::Name;
use crate::file::reader::{FileReader, Lines, empty_chunk};
use crate::file::{Files, names};
use crate::lines::Unterminated;
use crate::thread::{ChunkSender, Exit};

/// Bytes read of a file before the others have their turn: a fast writer must not hold up the rest.
pub(in crate::file) const TURN_BYTES: u64 = 64 << 20;

/// How long a file that was written must stand still for its length to be of that time, too: the time changes first.
const STILL: Duration = Duration::from_secs(1);

/// An open file.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) path: PathBuf,
    pub(super) place: Place,
    pub(super) name: Name,
    pub(super) stage: Stage,
    /// The length up to which its bytes are counted as unread.
    pub(super) seen: u64,
    pub(super) last_read: Instant,
    /// What it is a copy of, as far as it was read.
    pub(super) copy_of: Option<PartitionId>,
    /// How long it was when it held a part of that, and nothing else.
    pub(super) part_length: Option<u64>,
    /// When it was written last, as its last turn saw it.
    modified: Option<SystemTime>,
    /// When it was written last, as it was seen with nothing behind what was read.
    ended: Option<SystemTime>,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Without a byte it cannot be told which file it is. Held open: it may be rotated away before the next look.
    Empty(File),
    Open(Box<FileReader>),
}

/// How a file's turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TurnEnd {
    AtEnd,
    More,
    /// What was read of it is not there any more.
    Lost,
    /// It cannot be read, and is set aside.
    Failed,
}

impl Tail {
    pub(super) fn new(path: PathBuf, place: Place, name: Name, stage: Stage) -> Self {
        Self { path, place, name, stage, seen: 0, last_read: Instant::now(), copy_of: None, part_length: None, modified: None, ended: None }
    }

    pub(super) fn file(&self) -> &File {
        match &self.stage {
            Stage::Empty(file) => file,
            Stage::Open(reader) => reader.file(),
        }
    }

    pub(super) fn try_clone(&self) -> Result<File> {
        self.file().try_clone().map_err(|e| self.failed("open", e))
    }

    fn metadata(&self) -> Result<Metadata> {
        self.file().metadata().map_err(|e| self.failed("look at", e))
    }

    /// Returns its partition, once something was read of it.
    pub(super) fn known(&self) -> Option<&PartitionId> {
        match &self.stage {
            Stage::Empty(_) => None,
            Stage::Open(reader) => Some(&reader.partition().id),
        }
    }

    /// Looks whether it was empty and is no more. What cannot be looked at is said when it is opened.
    pub(super) fn begun(&self) -> Option<Metadata> {
        let Stage::Empty(file) = &self.stage else { return None };
        file.metadata().ok().filter(|metadata| metadata.len() > 0)
    }

    /// Returns whether no name leads to it any more.
    pub(super) fn is_deleted(&self) -> bool {
        self.file().metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    pub(super) fn stands_still(&self) -> Result<bool> {
        let modified = self.metadata()?.modified().map_err(|e| self.failed("look at", e))?;
        // A time in the future says nothing: such a file is opened.
        Ok(modified.elapsed().is_ok_and(|time| time >= QUIET))
    }

    /// Sets the file aside, which cannot be read. If nothing of it was read yet, only that it matched says that it is to be, whatever it is called by now.
    pub(super) fn set_aside(&self, files: &mut Files, error: &Error) {
        let is_known = self.known().is_some_and(|known| files.positions.get(known).is_some());
        let name = if is_known { self.name } else { Name::Matches };
        files.aside.file(&self.path, name, error);
        if let Ok(metadata) = self.metadata() {
            files.aside.see(&self.path, &metadata);
        }
    }

    /// Takes the name that it has now.
    pub(super) fn take_name(&mut self, path: &Path, files: &mut Files) {
        self.name = Name::Matches;
        if self.path == path {
            return;
        }
        if let Stage::Open(reader) = &mut self.stage {
            let partition = Arc::new(Partition { id: reader.partition().id.clone(), label: names::label_of(path).into() });
            if let Some(mut known) = files.positions.get(&partition.id).cloned() {
                known.partition = partition.clone();
                files.pending.push(empty_chunk(&known, known.next, Vec::new()));
                files.positions.put(known);
            }
            reader.rename(path, partition);
        }
        self.path = path.to_owned();
    }

    /// Looks at the file, with one system call; `None` if nothing has changed since its last turn.
    pub(super) fn changed(&self) -> Result<Option<Metadata>> {
        let Stage::Open(reader) = &self.stage else { return Ok(None) };
        let metadata = self.metadata()?;
        let still = reader.has_reached(metadata.len()) && !reader.is_ahead() && self.is_as_read(&metadata);
        Ok((!still).then_some(metadata))
    }

    /// Returns whether nothing was written since its last turn.
    pub(super) fn is_as_read(&self, metadata: &Metadata) -> bool {
        self.modified == metadata.modified().ok()
    }

    /// Reads what was appended, up to [`TURN_BYTES`].
    pub(super) fn read_turn(&mut self, metadata: &Metadata, files: &mut Files, sender: &ChunkSender) -> Result<TurnEnd, Exit> {
        let Stage::Open(reader) = &mut self.stage else { return Ok(TurnEnd::AtEnd) };
        let length = metadata.len();
        if reader.taken().is_some_and(|taken| length < taken) || !reader.begins_as_read()? {
            return Ok(TurnEnd::Lost);
        }
        let is_written = reader.taken() == Some(length) && self.is_written_without_growth(metadata, files);
        // A time in the future says nothing.
        if is_written && metadata.modified().is_ok_and(|time| time.elapsed().map_or(true, |still| still >= STILL)) {
            files.touched.extend(self.known().cloned());
            files.bodies.get_mut().forget(&self.place.inode);
            return Ok(TurnEnd::Lost);
        }
        if !is_written {
            // What is written from here on shows another time.
            self.modified = metadata.modified().ok();
        }
        let Stage::Open(reader) = &mut self.stage else { return Ok(TurnEnd::AtEnd) };
        reader.see(length);
        // What a copy gets from here on may be read elsewhere first.
        reader.end_at(if self.copy_of.is_some() { length } else { u64::MAX });
        files.unread.see(&mut self.seen, length);
        let turn_end = reader.next() + TURN_BYTES;
        loop {
            match reader.next_lines(Unterminated::Wait)? {
                Lines::Chunk(chunk) => {
                    files.unread.see(&mut self.seen, chunk.range.to);
                    files.positions.advance(reader.partition(), chunk.range.to, chunk.range.evidence.clone());
                    self.last_read = Instant::now();
                    sender.send(chunk)?;
                }
                Lines::End => {
                    if let Some(chunk) = reader.open_line() {
                        files.positions.advance(reader.partition(), chunk.range.to, chunk.range.evidence.clone());
                        sender.send(chunk)?;
                    }
                    if !is_written {
                        self.ended = self.end(metadata)?;
                    }
                    return Ok(TurnEnd::AtEnd);
                }
                Lines::Rewritten => return Ok(TurnEnd::Lost),
            }
            if reader.next() >= turn_end {
                return Ok(TurnEnd::More);
            }
        }
    }

    /// Returns whether it was written since it was read to its end, and is as long as then, so that what was read of it may have been changed. What has
    /// no name here is not opened again, and what an earlier version read has no mark to compare with.
    fn is_written_without_growth(&self, metadata: &Metadata, files: &Files) -> bool {
        let is_written = self.ended.is_some_and(|ended| metadata.modified().is_ok_and(|modified| modified != ended));
        let known = || self.known().and_then(|id| files.positions.get(id));
        let has_body = || known().and_then(|known| known.evidence.as_ref()).is_some_and(|evidence| evidence.body.is_some());
        is_written && self.name == Name::Matches && metadata.nlink() > 0 && has_body()
    }

    /// Returns when the file was written last, if nothing stands behind what was read. It is looked at again if it grew while it was read.
    fn end(&self, metadata: &Metadata) -> Result<Option<SystemTime>> {
        let Stage::Open(reader) = &self.stage else { return Ok(None) };
        let is_end = |metadata: &Metadata| reader.taken() == Some(metadata.len());
        if is_end(metadata) {
            return Ok(metadata.modified().ok());
        }
        Ok(Some(self.metadata()?).filter(is_end).and_then(|metadata| metadata.modified().ok()))
    }

    /// Counts its unread bytes no more.
    pub(super) fn forget_unread(&mut self, files: &Files) {
        if let Stage::Open(reader) = &self.stage {
            files.unread.sub(self.seen.saturating_sub(reader.next()));
            self.seen = reader.next();
        }
    }

    pub(super) fn failed(&self, doing: &str, error: io::Error) -> Error {
        Error::io(format_args!("{doing} `{}`", self.path.display()), error)
    }
}
