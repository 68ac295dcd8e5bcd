//! Read once: each file to its end, one after another.
//!
//! Owns: the turns, and reading a file whole. A file is open only in its turn, so ten thousand files need one descriptor.
//! Does not own: files that appear later; the list is made at the start.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;

use tracing::warn;

use super::positions::{Gap, Position};
use super::reader::{Compression, FileReader, Opened};
use super::{Files, Found, look, open_file};
use crate::error::Result;
use crate::source::lines::Unterminated;
use crate::source::thread::{ChunkSender, Exit};

/// Files to be read.
#[derive(Debug)]
pub(super) struct ReadOnce {
    files: Files,
    turns: VecDeque<Turn>,
}

/// A file to be read whole.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    name: Name,
    /// The length up to which its bytes are counted as unread.
    seen: u64,
}

/// How a path was come by.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name {
    /// It matches the configuration: whatever is there is read.
    Matches,
    /// It does not: only the known file is read.
    Renamed,
}

impl ReadOnce {
    /// Looks at each file before any is read: what was lost is said at the start, not after an hour. Renamed files come first, they are
    /// older.
    pub(super) fn start(mut files: Files, renamed: Vec<PathBuf>, found: Found) -> Result<Self> {
        let renamed = renamed.into_iter().map(|path| Turn::new(path, Name::Renamed));
        let named = found.files.into_iter().map(|(path, _)| Turn::new(path, Name::Matches));
        let mut turns: VecDeque<Turn> = renamed.chain(named).collect();
        files.patterns.check_count(turns.len())?;
        for turn in &mut turns {
            files.open_turn(turn)?;
        }
        Ok(Self { files, turns })
    }

    /// Reads them all.
    pub(super) fn run(mut self, sender: &ChunkSender) -> Result<(), Exit> {
        for turn in self.turns {
            self.files.read_whole(turn, sender)?;
        }
        Ok(())
    }
}

impl Turn {
    pub(super) fn new(path: PathBuf, name: Name) -> Self {
        Self { path, name, seen: 0 }
    }
}

impl Files {
    /// Reads what is left of a file to its end, where an unterminated last line is a record.
    pub(super) fn read_whole(&mut self, mut turn: Turn, sender: &ChunkSender) -> Result<(), Exit> {
        while let Some((file, position)) = self.open_turn(&mut turn)? {
            match FileReader::open(file, &turn.path, &position, self.record_bytes_max)? {
                Opened::Ready(reader) => return self.read_to_end(turn, &position, *reader, sender),
                // Known only now if the file is compressed. Recorded, it is opened again as a new one.
                Opened::Short(length) => self.positions.lose(&turn.path, position.identity.inode, Gap::Truncated { length })?,
            }
        }
        Ok(())
    }

    /// Opens a file and finds where to go on; `None` if there is nothing in it, or it is gone.
    fn open_turn(&mut self, turn: &mut Turn) -> Result<Option<(File, Position)>> {
        let Some(file) = open_file(&turn.path)? else {
            warn!(path = %turn.path.display(), "the file vanished before it was read");
            return Ok(None);
        };
        let observed = look(&file, &turn.path)?;
        let position = match turn.name {
            Name::Matches => self.positions.place(&turn.path, &observed)?,
            Name::Renamed => self.positions.place_renamed(&observed).cloned(),
        };
        let Some(position) = position else { return Ok(None) };
        if Compression::of(&position.partition.label) == Compression::None {
            turn.seen = turn.seen.max(position.next);
            self.unread.see(&mut turn.seen, observed.length);
        }
        Ok(Some((file, position)))
    }

    fn read_to_end(&mut self, mut turn: Turn, position: &Position, mut reader: FileReader, sender: &ChunkSender) -> Result<(), Exit> {
        let compression = Compression::of(&position.partition.label);
        while let Some(chunk) = reader.next_chunk(Unterminated::Record)? {
            if compression == Compression::None {
                self.unread.see(&mut turn.seen, chunk.range.to);
            }
            sender.send(chunk)?;
        }
        self.unread.sub(turn.seen.saturating_sub(reader.next()));
        self.positions.advance(position.identity.inode, reader.next());
        Ok(())
    }
}
