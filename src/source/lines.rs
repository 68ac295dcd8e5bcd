//! Line reader: cuts a stream of bytes into chunks of whole lines.
//!
//! Owns: the read buffer, the unfinished line at its end, and records that are too long to keep.
//! Does not own: where the stream comes from, what an offset counts (see `source::file`, `source::stdin`), parsing.
//!
//! Bytes are copied once, out of the reused read buffer: a chunk owns exactly its bytes, so a slow pipe's chunk of 80 bytes does not keep
//! a large buffer alive, and the buffer needs no clearing before each read.

use std::io::{self, Read};

use bytes::Bytes;
use memchr::{memchr, memchr_iter, memrchr};

use crate::batch::Records;

#[cfg(test)]
mod tests;

/// Bytes of one read, and so of a chunk. It stays in a core's second-level cache, and a thousand reads of it make up 256 MiB.
const BUFFER_BYTES: usize = 256 << 10;

/// Bytes kept of a record that is too long.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// What to make of a last line without a line end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unterminated {
    /// It is a record: nothing will be added to the input.
    Record,
    /// It waits: the rest of it is still to be written.
    Wait,
}

/// Records cut from a stream.
#[derive(Debug)]
pub struct Piece {
    /// The records: `Lines` or `TooLong`.
    pub records: Records,
    /// The bytes of the stream that they stand for, line ends included.
    pub bytes: u64,
}

impl Piece {
    /// Counts the lines, blank ones too.
    pub fn lines(&self) -> u64 {
        match &self.records {
            Records::Lines(lines) => {
                let ends = memchr_iter(b'\n', lines).count() as u64;
                ends + u64::from(lines.last().is_some_and(|&byte| byte != b'\n'))
            }
            Records::TooLong { .. } => 1,
            Records::Arrow(rows) => rows.num_rows() as u64,
        }
    }
}

/// Reads whole lines. Every byte of the stream is in exactly one piece, in order.
#[derive(Debug)]
pub struct LineReader<R> {
    input: R,
    record_bytes_max: usize,
    /// Empty while there is nothing to read: a thousand followed files that stand still must not hold a buffer each.
    buffer: Vec<u8>,
    /// The part of `buffer` that is read and not yet cut: `[start, end)`.
    start: usize,
    end: usize,
    open: Open,
}

/// The line whose end was not yet read.
#[derive(Debug)]
enum Open {
    /// At most `record_bytes_max` bytes.
    Kept(Vec<u8>),
    /// Longer: only its head is kept.
    TooLong { head: Vec<u8>, length: u64 },
}

impl<R: Read> LineReader<R> {
    /// Makes a reader of the lines of `input`, which begins at the start of a line.
    pub fn new(input: R, record_bytes_max: usize) -> Self {
        Self { input, record_bytes_max, buffer: Vec::new(), start: 0, end: 0, open: Open::Kept(Vec::new()) }
    }

    /// Returns the stream.
    pub fn input(&self) -> &R {
        &self.input
    }

    /// Returns whether bytes are read and not yet cut: then `next` may give lines without reading.
    pub fn is_ahead(&self) -> bool {
        self.start < self.end
    }

    /// Reads on until a line is whole; `None` at the end of the stream, where a growing one may be asked again.
    ///
    /// Returns as soon as one `read` brings the end of a line: what has arrived is not held back to fill a buffer.
    pub fn next(&mut self, unterminated: Unterminated) -> io::Result<Option<Piece>> {
        loop {
            if self.start == self.end && self.fill()? == 0 {
                self.buffer = Vec::new();
                return Ok(if unterminated == Unterminated::Record { self.take_open() } else { None });
            }
            if let Some(piece) = self.cut() {
                return Ok(Some(piece));
            }
        }
    }

    /// Reads into the buffer, whose bytes are all cut, and returns how many there are now.
    fn fill(&mut self) -> io::Result<usize> {
        (self.start, self.end) = (0, 0);
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER_BYTES];
        }
        loop {
            match self.input.read(&mut self.buffer) {
                Ok(bytes) => {
                    self.end = bytes;
                    return Ok(bytes);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Cuts whole lines off the bytes read; `None` if they hold no line end, and then they are part of the open line.
    fn cut(&mut self) -> Option<Piece> {
        let bytes = &self.buffer[self.start..self.end];
        match &mut self.open {
            Open::Kept(kept) => {
                let whole = whole_lines(bytes, self.record_bytes_max - kept.len(), self.record_bytes_max);
                if whole > 0 {
                    self.start += whole;
                    return Some(lines_piece(kept, &bytes[..whole]));
                }
                if kept.len() + bytes.len() <= self.record_bytes_max {
                    kept.extend_from_slice(bytes);
                    self.start = self.end;
                    return None;
                }
                let length = kept.len() as u64;
                kept.truncate(HEAD_BYTES_MAX);
                self.open = Open::TooLong { head: std::mem::take(kept), length };
                None
            }
            Open::TooLong { head, length } => {
                let line_end = memchr(b'\n', bytes);
                let line = &bytes[..line_end.unwrap_or(bytes.len())];
                head.extend_from_slice(&line[..line.len().min(HEAD_BYTES_MAX - head.len())]);
                *length += line.len() as u64;
                self.start += line.len() + usize::from(line_end.is_some());
                let mut piece = line_end.and_then(|_| self.take_open())?;
                piece.bytes += 1;
                Some(piece)
            }
        }
    }

    /// Takes the open line as it is.
    fn take_open(&mut self) -> Option<Piece> {
        match std::mem::replace(&mut self.open, Open::Kept(Vec::new())) {
            Open::Kept(line) if line.is_empty() => None,
            Open::Kept(mut line) => Some(lines_piece(&mut line, &[])),
            Open::TooLong { head, length } => Some(Piece { records: Records::TooLong { head: Bytes::from(head), length }, bytes: length }),
        }
    }
}

/// Returns how many bytes at the start of `bytes` are whole lines, the first of at most `room` bytes, the others of at most `line_max`.
///
/// Looks for the *last* line end of each window, so lines in between are not looked at one by one.
fn whole_lines(bytes: &[u8], room: usize, line_max: usize) -> usize {
    let mut whole = 0_usize;
    let mut room = room;
    loop {
        let window_end = bytes.len().min(whole.saturating_add(room).saturating_add(1));
        let Some(line_end) = memrchr(b'\n', &bytes[whole..window_end]) else { return whole };
        whole += line_end + 1;
        if window_end == bytes.len() {
            return whole;
        }
        room = line_max;
    }
}

/// Joins what was kept of the first line with the lines just read.
fn lines_piece(kept: &mut Vec<u8>, read: &[u8]) -> Piece {
    let mut lines = std::mem::take(kept);
    lines.reserve_exact(read.len());
    lines.extend_from_slice(read);
    Piece { bytes: lines.len() as u64, records: Records::Lines(Bytes::from(lines)) }
}
