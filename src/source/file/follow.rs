//! Follow: what is appended, what appears, what is rotated away.
//!
//! Owns: the polling, the open descriptors, noticing truncation and replacement while they are open, letting go of rotated files.
//! Does not own: what a gap means for the line (see `positions`).
//!
//! A file is followed by its descriptor, not by its name: after a rotation the old file is read on, before the new one, until its writer
//! has left it. Compressed files do not grow: each is read whole once its length has stood still from one look to the next.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::identity::{Identity, Inode};
use super::positions::Gap;
use super::read_once::{Name, Turn};
use super::reader::{Compression, FileReader, Opened};
use super::{Files, Found, look, open_file};
use crate::error::{Error, Result};
use crate::source::lines::Unterminated;
use crate::source::thread::{ChunkSender, Exit};

#[cfg(test)]
mod tests;

/// Bytes read of a file before the others have their turn: a fast writer must not hold up the rest.
const TURN_BYTES: u64 = 64 << 20;

/// How long a rotated file must stand still before its descriptor is closed. Loggers reopen within seconds; what comes later is read at
/// the next start, by the file's identity.
const QUIET: Duration = Duration::from_secs(60);

/// Follows files until nobody listens.
#[derive(Debug)]
pub(super) struct Follow {
    files: Files,
    poll_interval: Duration,
    looked: Instant,
    /// In the order in which they were first seen, which puts a rotated file before its successor.
    tails: Vec<Tail>,
    archives: HashMap<PathBuf, Archive>,
    /// Compressed files to be read next.
    ready: Vec<Turn>,
}

/// An open file.
#[derive(Debug)]
struct Tail {
    path: PathBuf,
    inode: Inode,
    name: Name,
    stage: Stage,
    /// The length up to which its bytes are counted as unread.
    seen: u64,
    last_read: Instant,
}

#[derive(Debug)]
enum Stage {
    /// Without a byte there is no identity. Held open: it may be rotated away before the next look.
    Empty(File),
    Open(Identity, Box<FileReader>),
}

/// What happened to an open file since its last turn.
#[derive(Debug)]
enum Change {
    None,
    /// It was empty and has an identity now.
    Begun,
    /// It has so many bytes, some of them not read.
    Grown(u64),
    Gap(Gap),
}

/// A compressed file.
#[derive(Debug)]
struct Archive {
    inode: Inode,
    length: u64,
    state: ArchiveState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ArchiveState {
    /// Seen with this length once: it may still be written.
    Settling,
    /// Read, or about to be.
    Taken,
}

/// How a file's turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TurnEnd {
    AtEnd,
    More,
}

impl Follow {
    /// Opens the files that are there.
    pub(super) fn start(files: Files, poll_interval: Duration, renamed: Vec<PathBuf>, found: Found) -> Result<Self> {
        let mut follow =
            Self { files, poll_interval, looked: Instant::now(), tails: Vec::new(), archives: HashMap::new(), ready: Vec::new() };
        for path in renamed {
            follow.take_renamed(path)?;
        }
        follow.take_found(found)?;
        Ok(follow)
    }

    /// Reads what is there and what comes.
    pub(super) fn run(mut self, sender: &ChunkSender) -> Result<(), Exit> {
        loop {
            let turns = self.read_round(sender)?;
            if turns == TurnEnd::AtEnd {
                sender.sleep(self.poll_interval)?;
            }
            if self.looked.elapsed() >= self.poll_interval {
                self.looked = Instant::now();
                let found = self.files.patterns.find()?;
                self.take_found(found)?;
            }
        }
    }

    /// Gives each file its turn.
    fn read_round(&mut self, sender: &ChunkSender) -> Result<TurnEnd, Exit> {
        let mut end = TurnEnd::AtEnd;
        for tail in &mut self.tails {
            if tail.read_turn(&mut self.files, sender)? == TurnEnd::More {
                end = TurnEnd::More;
            }
        }
        for turn in std::mem::take(&mut self.ready) {
            self.files.read_whole(turn, sender)?;
        }
        self.let_go(Instant::now())?;
        Ok(end)
    }

    /// Takes up a known file that was rotated away before the start.
    fn take_renamed(&mut self, path: PathBuf) -> Result<()> {
        let Some(file) = open_file(&path)? else { return Ok(()) };
        let observed = look(&file, &path)?;
        let Some(position) = self.files.positions.place_renamed(&observed).cloned() else { return Ok(()) };
        if Compression::of(&position.partition.label) != Compression::None {
            self.ready.push(Turn::new(path, Name::Renamed));
            return Ok(());
        }
        // Years of rotated files may lie there: one that is read to its end and has stood still is left closed.
        if observed.length == position.next && stands_still(&file, &path)? {
            return Ok(());
        }
        info!(path = %path.display(), known_as = &*position.partition.label, "found a renamed file");
        if let Opened::Ready(reader) = FileReader::open(file, &path, &position, self.files.record_bytes_max)? {
            let stage = Stage::Open(position.identity, reader);
            self.tails.push(Tail::new(path, observed.inode, Name::Renamed, position.next, stage));
        }
        Ok(())
    }

    /// Takes up what a look at the names has found.
    fn take_found(&mut self, found: Found) -> Result<()> {
        self.tails.iter_mut().for_each(|tail| tail.name = Name::Renamed);
        let mut tails: HashMap<Inode, usize> = self.tails.iter().enumerate().map(|(at, tail)| (tail.inode, at)).collect();
        let mut archives = HashMap::new();
        for (path, metadata) in found.files {
            let inode = Inode::of(&metadata);
            if Compression::of(&path.to_string_lossy()) != Compression::None {
                let archive = self.take_archive(&path, inode, metadata.len());
                archives.insert(path, archive);
            } else if let Some(&at) = tails.get(&inode) {
                self.tails[at].name = Name::Matches;
                self.tails[at].path = path;
            } else if let Some(tail) = self.open_tail(path)? {
                tails.insert(tail.inode, self.tails.len());
                self.tails.push(tail);
            }
        }
        self.archives = archives;
        self.files.patterns.check_count(self.tails.len() + self.archives.len())
    }

    /// Takes a compressed file for reading if its length stands still.
    fn take_archive(&mut self, path: &Path, inode: Inode, length: u64) -> Archive {
        let known = self.archives.get(path).filter(|known| known.inode == inode && known.length == length);
        let state = match known.map(|known| known.state) {
            None => ArchiveState::Settling,
            Some(ArchiveState::Settling) => {
                self.ready.push(Turn::new(path.to_owned(), Name::Matches));
                ArchiveState::Taken
            }
            Some(ArchiveState::Taken) => ArchiveState::Taken,
        };
        Archive { inode, length, state }
    }

    fn open_tail(&mut self, path: PathBuf) -> Result<Option<Tail>> {
        let Some(file) = open_file(&path)? else { return Ok(None) };
        let inode = look(&file, &path)?.inode;
        // Between the look and the opening the name may have passed to a file that is followed already.
        if self.tails.iter().any(|tail| tail.inode == inode) {
            return Ok(None);
        }
        let mut tail = Tail::new(path, inode, Name::Matches, 0, Stage::Empty(file));
        tail.begin(&mut self.files)?;
        Ok(Some(tail))
    }

    /// Closes files that have no matching name any more and have stood still. The length of time is what tells that their writer left.
    fn let_go(&mut self, now: Instant) -> Result<()> {
        for tail in std::mem::take(&mut self.tails) {
            let quiet = now.saturating_duration_since(tail.last_read) >= QUIET;
            if !quiet || matches!(tail.name, Name::Matches) {
                self.tails.push(tail);
            } else {
                tail.close(&mut self.files)?;
            }
        }
        Ok(())
    }
}

fn stands_still(file: &File, path: &Path) -> Result<bool> {
    let modified = file.metadata().and_then(|metadata| metadata.modified());
    let modified = modified.map_err(|e| Error::io(format_args!("look at `{}`", path.display()), e))?;
    // A time in the future says nothing: such a file is opened.
    Ok(modified.elapsed().is_ok_and(|time| time >= QUIET))
}

impl Tail {
    fn new(path: PathBuf, inode: Inode, name: Name, seen: u64, stage: Stage) -> Self {
        Self { path, inode, name, stage, seen, last_read: Instant::now() }
    }

    fn file(&self) -> &File {
        match &self.stage {
            Stage::Empty(file) => file,
            Stage::Open(_, reader) => reader.file(),
        }
    }

    /// Finds where to read from, unless the file is empty.
    fn begin(&mut self, files: &mut Files) -> Result<()> {
        loop {
            let observed = look(self.file(), &self.path)?;
            let Some(position) = files.positions.place(&self.path, &observed)? else { return Ok(()) };
            let file = self.file().try_clone().map_err(|e| self.failed("open", e))?;
            match FileReader::open(file, &self.path, &position, files.record_bytes_max)? {
                Opened::Ready(reader) => {
                    self.seen = position.next;
                    files.unread.see(&mut self.seen, observed.length);
                    self.stage = Stage::Open(position.identity, reader);
                    return Ok(());
                }
                Opened::Short(length) => files.positions.lose(&self.path, self.inode, Gap::Truncated { length })?,
            }
        }
    }

    /// Reads what was appended, up to [`TURN_BYTES`].
    fn read_turn(&mut self, files: &mut Files, sender: &ChunkSender) -> Result<TurnEnd, Exit> {
        match self.look()? {
            Change::None => return Ok(TurnEnd::AtEnd),
            Change::Gap(gap) => {
                self.lose(files, gap)?;
                self.begin(files)?;
            }
            Change::Begun => self.begin(files)?,
            Change::Grown(length) => files.unread.see(&mut self.seen, length),
        }
        let Stage::Open(_, reader) = &mut self.stage else { return Ok(TurnEnd::AtEnd) };
        let turn_end = reader.next() + TURN_BYTES;
        while let Some(chunk) = reader.next_chunk(Unterminated::Wait)? {
            files.unread.see(&mut self.seen, chunk.range.to);
            files.positions.advance(self.inode, chunk.range.to);
            self.last_read = Instant::now();
            sender.send(chunk)?;
            if reader.next() >= turn_end {
                return Ok(TurnEnd::More);
            }
        }
        Ok(TurnEnd::AtEnd)
    }

    /// Compares the file with what was read of it.
    fn look(&self) -> Result<Change> {
        let length = self.file().metadata().map_err(|e| self.failed("look at", e))?.len();
        let Stage::Open(identity, reader) = &self.stage else {
            return Ok(if length > 0 { Change::Begun } else { Change::None });
        };
        let mut file = reader.file();
        let taken = file.stream_position().map_err(|e| self.failed("look at", e))?;
        if length < taken {
            return Ok(Change::Gap(Gap::Truncated { length }));
        }
        if length == taken && !reader.is_ahead() {
            return Ok(Change::None);
        }
        // A file that was cut and has outgrown its old length since begins differently: lines carry times. Looked at only when there is
        // something to read, so an idle file costs two system calls.
        let recognized = identity.recognizes(&look(file, &self.path)?);
        Ok(if recognized { Change::Grown(length) } else { Change::Gap(Gap::Replaced { length }) })
    }

    /// Takes up that the file was cut or rewritten: it begins anew.
    fn lose(&mut self, files: &mut Files, gap: Gap) -> Result<()> {
        files.positions.lose(&self.path, self.inode, gap)?;
        if let Stage::Open(_, reader) = &self.stage {
            files.unread.sub(self.seen.saturating_sub(reader.next()));
            let file = reader.file().try_clone().map_err(|e| self.failed("open", e))?;
            self.stage = Stage::Empty(file);
        }
        self.seen = 0;
        Ok(())
    }

    /// Closes the file. A deleted one frees its inode: what is on it next is another file, and nothing is missed by that.
    fn close(self, files: &mut Files) -> Result<()> {
        let metadata = self.file().metadata().map_err(|e| self.failed("look at", e))?;
        if metadata.nlink() == 0 {
            files.positions.end(self.inode);
        }
        if let Stage::Open(_, reader) = &self.stage {
            let unread = self.seen.saturating_sub(reader.next());
            files.unread.sub(unread);
            if unread > 0 {
                warn!(path = %self.path.display(), bytes = unread, "a rotated file ends in an unfinished line: left unread");
            }
        }
        info!(path = %self.path.display(), "closed a rotated file");
        Ok(())
    }

    fn failed(&self, doing: &str, error: io::Error) -> Error {
        Error::io(format_args!("{doing} `{}`", self.path.display()), error)
    }
}
