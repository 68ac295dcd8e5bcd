//! File reader: the lines of one file, from a known position on.
//!
//! Owns: judging the position before it reads, the evidence that each chunk carries, what a read error says.
//! Does not own: which file, from where (see `plan`), and whether its last line is whole (the caller says).

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pintail_core::batch::{Chunk, OffsetUnit};
use pintail_core::error::{Error, Result};
use pintail_core::evidence::{Body, Evidence, Key, Look, Seen, Verdict, Why, judge};
use pintail_core::offsets::{Note, OffsetRange, Partition};

use super::identity::Place;
use super::input::{Input, Rewritten, Walk, read_range};
use super::positions::Known;
use super::sight::present;
use super::trail::{Trail, archive_of};
use crate::compression::Compression;
use crate::lines::{LineReader, Unterminated, keep_last};
use crate::resume::carried;

/// Bytes that are read again with each chunk of a file whose position has no body yet: others have their turns in between.
const CATCH_UP_BYTES: u64 = 4 << 20;

/// Reads one file, from an offset to its end.
pub(super) struct FileReader {
    path: PathBuf,
    partition: Arc<Partition>,
    compression: Compression,
    place: String,
    key: Key,
    lines: LineReader<Input>,
    trail: Trail,
    /// The body of what an earlier version read, until it reaches the offset.
    behind: Option<Body>,
    next: u64,
    /// The length on the disk as it was seen last.
    length: u64,
    /// Whether the evidence that was handed on last says that the file was longer.
    told_end: bool,
    /// The end of the zeros that stand behind what was taken.
    padded_to: Option<u64>,
}

impl fmt::Debug for FileReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileReader").field("path", &self.path).field("next", &self.next).finish_non_exhaustive()
    }
}

/// What opening a file at a position gives.
#[derive(Debug)]
pub(super) enum Opened {
    Ready(Box<FileReader>),
    /// Something else stands before the position.
    Other(Why),
}

/// What reading gives.
#[derive(Debug)]
pub(super) enum Lines {
    Chunk(Chunk),
    /// The end; a growing file may be asked again.
    End,
    /// What was read of the file is not there any more.
    Rewritten,
}

impl FileReader {
    /// Opens a file at a position, if what was read stands before it.
    pub(super) fn open(
        file: File,
        path: &Path,
        compression: Compression,
        known: &Known,
        key: &Key,
        record_bytes_max: usize,
    ) -> Result<Opened> {
        let failed = |e| Error::io(format_args!("open `{}`", path.display()), e);
        let metadata = file.metadata().map_err(failed)?;
        let mut walk = Walk::begin(file, compression).map_err(failed)?.summing(key);
        if let Err(e) = walk.to(known.next) {
            return Err(read_error(path, walk.at, e));
        }
        let seen: Vec<Seen> = known
            .evidence
            .iter()
            .flat_map(|evidence| &evidence.witnesses)
            .map(|witness| walk.holds(witness.from, witness.to).map_or(Seen::Gone, |bytes| present(key, bytes)))
            .collect();
        let look = Look { place: None, end: Some(walk.at), seen: &seen, newest_before: None };
        if let Verdict::Other(why) = judge(known.next, known.evidence.as_deref(), &look) {
            return Ok(Opened::Other(why));
        }
        let known_body = known.evidence.as_ref().and_then(|evidence| evidence.body);
        let body = walk.body.take().or_else(|| Body::resume(key, known_body, known.next, &walk.tail));
        let mut trail = Trail::new(key, walk.head, walk.tail, known.next);
        trail.take_body(body.as_ref());
        let mut lines = LineReader::new(walk.input, record_bytes_max);
        let behind = body.is_none().then(|| Body::new(key));
        body.into_iter().for_each(|body| lines.watch(body));
        Ok(Opened::Ready(Box::new(Self {
            path: path.to_owned(),
            partition: known.partition.clone(),
            compression,
            place: Place::of(&metadata).to_string(),
            key: key.clone(),
            trail,
            lines,
            behind,
            next: known.next,
            length: metadata.len(),
            told_end: known.evidence.as_ref().is_some_and(|evidence| evidence.end.is_some()),
            padded_to: None,
        })))
    }

    /// Returns the file.
    pub(super) fn file(&self) -> &File {
        self.lines.input().file()
    }

    pub(super) fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// Returns what messages call the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes another name of the file.
    pub(super) fn rename(&mut self, path: &Path, partition: Arc<Partition>) {
        self.path = path.to_owned();
        self.partition = partition;
    }

    /// Reads no further than to an offset of a plain file, until that is said again.
    pub(super) fn end_at(&mut self, to: u64) {
        self.lines.input_mut().end_at(to);
    }

    /// Returns how long the file was when it was seen last.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Takes how long the file is now.
    pub(super) fn see(&mut self, length: u64) {
        self.length = length;
    }

    /// Returns the offset behind the last chunk.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Returns how much of the file is read, an unfinished line included; `None` if it is compressed.
    pub(super) fn taken(&self) -> Option<u64> {
        self.lines.input().at()
    }

    /// Returns whether bytes are read and not yet given as chunks, beside an unfinished line.
    pub(super) fn is_ahead(&self) -> bool {
        self.lines.is_ahead()
    }

    /// Returns whether the file still begins with what was read of it. What stands before the offset is checked by each read.
    pub(super) fn begins_as_read(&self) -> Result<bool> {
        let head = self.trail.head();
        let bytes = read_range(self.file(), head.from, head.to.min(self.next)).map_err(|e| read_error(&self.path, 0, e))?;
        Ok(self.key.mark(&[&bytes]) == head.mark)
    }

    /// Reads the next lines.
    pub(super) fn next_lines(&mut self, unterminated: Unterminated) -> Result<Lines> {
        let piece = match self.lines.next(unterminated) {
            Ok(Some(piece)) => piece,
            Ok(None) => {
                self.leave_padding();
                return Ok(Lines::End);
            }
            Err(e) if Rewritten::is(&e) => return Ok(Lines::Rewritten),
            Err(e) => return Err(read_error(&self.path, self.next, e)),
        };
        self.trail.push(&piece);
        let from = self.next;
        self.next += piece.bytes;
        self.catch_up()?;
        self.trail.take_body(self.lines.body());
        let evidence = self.evidence();
        self.told_end = evidence.end.is_some();
        let range = OffsetRange::new(self.partition.clone(), from, self.next).with_evidence(Arc::new(evidence));
        Ok(Lines::Chunk(Chunk::new(piece.records, range, OffsetUnit::Bytes)))
    }

    /// Sums up some of what an earlier version read, which kept no body.
    fn catch_up(&mut self) -> Result<()> {
        let Some(body) = &mut self.behind else { return Ok(()) };
        let from = body.length();
        let to = self.next.min(from + CATCH_UP_BYTES);
        let bytes = read_range(self.lines.input().file(), from, to).map_err(|e| read_error(&self.path, from, e))?;
        body.push(&bytes);
        if let Some(body) = self.behind.take_if(|body| body.length() == self.next) {
            self.lines.watch(body);
        }
        Ok(())
    }

    /// Goes back before zeros that end a plain file. Who reserves room in advance writes over them, which would not be seen behind them.
    fn leave_padding(&mut self) {
        let Some(taken) = self.taken() else { return };
        let padding = self.lines.forget_padding();
        self.padded_to = (padding > 0).then_some(taken);
        if padding > 0 {
            let mut last = self.trail.tail().to_vec();
            keep_last(&mut last, self.lines.open());
            self.lines.input_mut().go_back(taken - padding, last);
        }
    }

    /// Returns whether a plain file of a length is read to its end, but for an unfinished line and zeros that pad it.
    pub(super) fn has_reached(&self, length: u64) -> bool {
        self.taken() == Some(length) || self.padded_to == Some(length)
    }

    /// Returns whether an unfinished line was read.
    pub(super) fn holds_open_line(&self) -> bool {
        self.taken().is_some_and(|taken| taken > self.next)
    }

    /// Makes an empty chunk of the evidence whether the file is longer than what was handed on, unless that was said: if it is gone before its line is
    /// finished, that is a gap; zeros are none. `None` where no line was read yet.
    pub(super) fn open_line(&mut self) -> Option<Chunk> {
        let (is_longer, evidence) = (self.holds_open_line(), self.evidence());
        if self.told_end == is_longer || self.next == 0 || evidence.end.is_some() != is_longer {
            return None;
        }
        self.told_end = is_longer;
        let range = OffsetRange::new(self.partition.clone(), self.next, self.next).with_evidence(Arc::new(evidence));
        Some(Chunk::empty(range, OffsetUnit::Bytes))
    }

    /// Returns the evidence of the offset behind the last chunk.
    pub(super) fn evidence(&self) -> Evidence {
        let taken = self.taken().unwrap_or(0);
        let end = if self.padded_to.is_some_and(|to| to >= self.length) { taken } else { self.length.max(taken) };
        let length = (self.compression == Compression::None).then_some(end);
        self.trail.evidence(&self.place, length)
    }

    /// Returns the evidence of a compressed file that was read to its end.
    pub(super) fn finished(&self) -> Result<Arc<Evidence>> {
        let archive = archive_of(&self.key, self.file()).map_err(|e| read_error(&self.path, self.next, e))?;
        Ok(Arc::new(Evidence { archive: Some(archive), ..self.evidence() }))
    }
}

/// Makes a chunk in which nothing was read: it carries evidence and notes into the commit record.
pub(super) fn empty_chunk(known: &Known, from: u64, notes: Vec<Note>) -> Chunk {
    carried(known.partition.clone(), (from, known.next), OffsetUnit::Bytes, known.evidence.clone(), notes)
}

fn read_error(path: &Path, at: u64, error: io::Error) -> Error {
    Error::io(format_args!("read `{}` after byte {at} of its content", path.display()), error)
}
