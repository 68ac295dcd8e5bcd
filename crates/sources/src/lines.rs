//! Line reader: cuts a stream of bytes into chunks of whole lines.
//!
//! Owns: the read buffer, the unfinished line at its end, zeros before a line, and records that are too long to keep.
//! Does not own: where the stream comes from, what an offset counts (see `file`, `stdin`), parsing.
//!
//! A chunk that fills its read buffer keeps it, and gives it back when its lines are done with: nothing is copied, and the kernel need not find
//! fresh memory for each read. A smaller one is copied out, so a slow pipe's chunk of 80 bytes does not keep a large buffer alive.

use std::collections::VecDeque;
use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr_iter, memrchr};
use pintail_core::batch::Records;
use pintail_core::evidence::Body;

#[cfg(test)]
mod tests;

/// Bytes of one read, and so of a chunk: each wakes two stages, which smaller ones would do too often.
const BUFFER_BYTES: usize = 512 << 10;

/// Buffers that are waited for: about what the line holds on its way with its usual limits (16 reads, and seven batches of at most 32). Beyond,
/// they are not used again.
const RETIRED_MAX: usize = 256;

/// Bytes kept of a record that is too long.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// Bytes kept of the end of a record that is too long.
pub const TAIL_BYTES_MAX: usize = 1024;

/// Zeros, as they are handed on where a line begins behind more of them than are kept: a hole in a file, or what a disk had not written yet.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

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
    /// The last bytes of a record that is too long, its line end included, at most [`TAIL_BYTES_MAX`]; empty for whole lines.
    pub tail: Vec<u8>,
}

impl Piece {
    /// Returns whether it is nothing but zeros before a line. No line begins with one.
    pub fn is_padding(&self) -> bool {
        matches!(&self.records, Records::Lines(lines) if lines.first() == Some(&0))
    }

    /// Counts the lines, blank ones too.
    pub fn lines(&self) -> u64 {
        match &self.records {
            Records::Lines(lines) => {
                let ends = memchr_iter(b'\n', lines).count() as u64;
                ends + u64::from(lines.last().is_some_and(|&byte| byte != b'\n'))
            }
            Records::TooLong { .. } => 1,
            Records::Arrow(rows) => rows.num_rows() as u64,
            Records::Payloads(payloads) => payloads.len() as u64,
        }
    }
}

/// Reads whole lines. Every byte of the stream is in exactly one piece, in order.
#[derive(Debug)]
pub struct LineReader<R> {
    input: R,
    record_bytes_max: usize,
    /// What is read and not yet cut; begins at the start of a line, unless one is too long.
    buffer: BytesMut,
    /// The other ends of buffers that were handed on, to be used again when their lines are done with.
    retired: VecDeque<BytesMut>,
    /// The line in front of `buffer`, if it is too long.
    too_long: Option<TooLong>,
    /// Zeros before `buffer`. They are no content of the line that follows, and at the end of the stream nothing.
    zeros: u64,
    /// Takes what is cut, where that is asked for.
    body: Option<Body>,
}

/// A line that is too long, as far as it was read.
#[derive(Debug, Default)]
struct TooLong {
    head: Vec<u8>,
    tail: Vec<u8>,
    length: u64,
}

impl TooLong {
    fn extend(&mut self, bytes: &[u8]) {
        self.head.extend_from_slice(&bytes[..bytes.len().min(HEAD_BYTES_MAX - self.head.len())]);
        keep_last(&mut self.tail, bytes);
        self.length += bytes.len() as u64;
    }
}

impl<R: Read> LineReader<R> {
    /// Makes a reader of the lines of `input`, which begins at the start of a line.
    pub fn new(input: R, record_bytes_max: usize) -> Self {
        Self { input, record_bytes_max, buffer: BytesMut::new(), retired: VecDeque::new(), too_long: None, zeros: 0, body: None }
    }

    /// Sums up what is cut from here on.
    pub fn watch(&mut self, body: Body) {
        self.body = Some(body);
    }

    /// Returns the sum of all that was cut; within a record that is too long, of what was read of that as well.
    pub fn body(&self) -> Option<&Body> {
        self.body.as_ref()
    }

    /// Returns the stream.
    pub fn input(&self) -> &R {
        &self.input
    }

    /// Returns the stream, to be read elsewhere than where it stands.
    pub fn input_mut(&mut self) -> &mut R {
        &mut self.input
    }

    /// Returns what was read of a line that has no end yet.
    pub fn open(&self) -> &[u8] {
        &self.buffer
    }

    /// Forgets the zeros behind the last content, and returns how many there were: they may be written over.
    pub fn forget_padding(&mut self) -> u64 {
        if self.too_long.is_some() {
            return 0;
        }
        let content = self.content();
        let padding = self.zeros + (self.buffer.len() - content) as u64;
        self.buffer.truncate(content);
        self.zeros = 0;
        padding
    }

    /// Returns how many bytes of the buffer there are before zeros that end it.
    fn content(&self) -> usize {
        self.buffer.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    }

    /// Returns whether the end of a line is read and not yet cut: then `next` gives a piece without reading.
    pub fn is_ahead(&self) -> bool {
        memchr(b'\n', &self.buffer).is_some()
    }

    /// Reads on until a line is whole; `None` at the end of the stream, where a growing one may be asked again.
    ///
    /// Returns as soon as one `read` brings the end of a line: what has arrived is not held back to fill a buffer.
    pub fn next(&mut self, unterminated: Unterminated) -> io::Result<Option<Piece>> {
        loop {
            if let Some(piece) = self.cut() {
                return Ok(Some(piece));
            }
            if self.fill()? == 0 {
                // A thousand followed files that stand still must not hold a buffer each.
                self.buffer = BytesMut::from(&self.buffer[..]);
                self.retired = VecDeque::new();
                return Ok(if unterminated == Unterminated::Record { self.take_open() } else { None });
            }
        }
    }

    /// Reads once, and returns how many bytes came.
    fn fill(&mut self) -> io::Result<usize> {
        let filled = self.buffer.len();
        let room = self.buffer.capacity().max(BUFFER_BYTES) - filled;
        self.buffer.resize(filled + room.max(BUFFER_BYTES / 4), 0);
        let read = loop {
            match self.input.read(&mut self.buffer[filled..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(filled + read.as_ref().copied().unwrap_or_default());
        read
    }

    /// Cuts whole lines off the bytes read; `None` if they hold no line end.
    fn cut(&mut self) -> Option<Piece> {
        if let Some(zeros) = self.pass_zeros() {
            return Some(zeros);
        }
        let Some(too_long) = &mut self.too_long else {
            let whole = whole_lines(&self.buffer, self.record_bytes_max);
            if whole > 0 {
                return Some(lines_piece(self.take(whole)));
            }
            if self.buffer.len() <= self.record_bytes_max {
                return None;
            }
            self.too_long = Some(TooLong::default());
            return self.cut();
        };
        let line_end = memchr(b'\n', &self.buffer);
        let line = &self.buffer[..line_end.unwrap_or(self.buffer.len())];
        too_long.extend(line);
        if let Some(body) = &mut self.body {
            body.push(line);
            body.push(&b"\n"[..usize::from(line_end.is_some())]);
        }
        self.buffer.advance(line.len() + usize::from(line_end.is_some()));
        let mut piece = line_end.and_then(|_| self.take_open())?;
        piece.bytes += 1;
        keep_last(&mut piece.tail, b"\n");
        Some(piece)
    }

    /// Takes zeros off the front of a line. Returns some of them once it is known that something stands behind.
    fn pass_zeros(&mut self) -> Option<Piece> {
        if self.too_long.is_some() {
            return None;
        }
        if self.buffer.first() == Some(&0) {
            let zeros = self.buffer.iter().position(|byte| *byte != 0).unwrap_or(self.buffer.len());
            self.zeros += zeros as u64;
            self.buffer.advance(zeros);
        }
        if self.zeros == 0 || self.buffer.is_empty() {
            return None;
        }
        let bytes = self.zeros.min(ZEROS.len() as u64);
        self.zeros -= bytes;
        let zeros = &ZEROS[..usize::try_from(bytes).expect("at most as long as the zeros are")];
        if let Some(body) = &mut self.body {
            body.push(zeros);
        }
        Some(lines_piece(Bytes::from_static(zeros)))
    }

    /// Takes the open line as it is, but for zeros that pad it.
    fn take_open(&mut self) -> Option<Piece> {
        match self.too_long.take() {
            Some(TooLong { head, tail, length }) => {
                Some(Piece { records: Records::TooLong { head: Bytes::from(head), length, message: None }, bytes: length, tail })
            }
            None => match self.content() {
                0 => None,
                content => Some(lines_piece(self.take(content))),
            },
        }
    }

    /// Takes bytes off the front of the buffer.
    fn take(&mut self, bytes: usize) -> Bytes {
        if let Some(body) = &mut self.body {
            body.push(&self.buffer[..bytes]);
        }
        if bytes < BUFFER_BYTES / 2 {
            let lines = Bytes::copy_from_slice(&self.buffer[..bytes]);
            self.buffer.advance(bytes);
            return lines;
        }
        let mut next = self.empty_buffer();
        next.extend_from_slice(&self.buffer[bytes..]);
        self.buffer.truncate(bytes);
        let mut lines = std::mem::replace(&mut self.buffer, next);
        self.retired.push_back(lines.split_off(bytes));
        lines.freeze()
    }

    /// Returns the oldest buffer whose lines are done with, or a new one.
    fn empty_buffer(&mut self) -> BytesMut {
        if let Some(mut oldest) = self.retired.pop_front() {
            if oldest.try_reclaim(BUFFER_BYTES) {
                return oldest;
            }
            if self.retired.len() < RETIRED_MAX {
                self.retired.push_front(oldest);
            }
        }
        BytesMut::with_capacity(BUFFER_BYTES)
    }
}

/// Returns how many bytes at the start of `bytes` are whole lines of at most `line_max` bytes.
///
/// Looks for the *last* line end of each window, so lines in between are not looked at one by one.
pub(super) fn whole_lines(bytes: &[u8], line_max: usize) -> usize {
    let mut whole = 0_usize;
    loop {
        let window_end = bytes.len().min(whole.saturating_add(line_max).saturating_add(1));
        let Some(line_end) = memrchr(b'\n', &bytes[whole..window_end]) else { return whole };
        whole += line_end + 1;
        if window_end == bytes.len() {
            return whole;
        }
    }
}

fn lines_piece(lines: Bytes) -> Piece {
    Piece { bytes: lines.len() as u64, records: Records::Lines(lines), tail: Vec::new() }
}

/// Appends `bytes` to `tail`, and keeps the last [`TAIL_BYTES_MAX`] bytes of both.
pub(super) fn keep_last(tail: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[bytes.len().saturating_sub(TAIL_BYTES_MAX)..];
    let over = (tail.len() + bytes.len()).saturating_sub(TAIL_BYTES_MAX);
    tail.drain(..over.min(tail.len()));
    tail.extend_from_slice(bytes);
}
