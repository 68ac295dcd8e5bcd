//! File reader: the lines of one file, from an offset on.
//!
//! Owns: decompression, resuming at a decompressed offset, what a read error says.
//! Does not own: which file, from where (see `positions`), and whether its last line is whole (the caller says).

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use super::positions::Position;
use crate::batch::{Chunk, OffsetUnit};
use crate::error::{Error, Result};
use crate::offsets::{OffsetRange, Partition};
use crate::source::lines::{LineReader, Unterminated};

/// Bytes of a compressed file read at a time.
const COMPRESSED_BUFFER_BYTES: usize = 128 << 10;

/// How a file is compressed: its name's ending says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// Tells by the ending: `.gz`, `.zst`.
    pub(super) fn of(name: &str) -> Self {
        match name.rsplit_once('.') {
            Some((_, "gz")) => Self::Gzip,
            Some((_, "zst")) => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Reads one file, from an offset to its end.
pub(super) struct FileReader {
    path: PathBuf,
    partition: Arc<Partition>,
    lines: LineReader<Input>,
    next: u64,
}

impl fmt::Debug for FileReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileReader").field("path", &self.path).field("next", &self.next).finish_non_exhaustive()
    }
}

/// What opening a file at an offset gives.
#[derive(Debug)]
pub(super) enum Opened {
    Ready(Box<FileReader>),
    /// The content ends before the offset, at this one.
    Short(u64),
}

impl FileReader {
    /// Opens a file where reading goes on. How it is compressed is told by the partition's label: the name may have changed since.
    pub(super) fn open(file: File, path: &Path, position: &Position, record_bytes_max: usize) -> Result<Opened> {
        let partition = position.partition.clone();
        let opened = Input::open(file, Compression::of(&partition.label));
        let mut input = opened.map_err(|e| Error::io(format_args!("open `{}`", path.display()), e))?;
        let skipped = input.skip(position.next).map_err(|(at, e)| read_error(path, at, e))?;
        if skipped < position.next {
            return Ok(Opened::Short(skipped));
        }
        let lines = LineReader::new(input, record_bytes_max);
        Ok(Opened::Ready(Box::new(Self { path: path.to_owned(), partition, lines, next: position.next })))
    }

    /// Returns the file.
    pub(super) fn file(&self) -> &File {
        match self.lines.input() {
            Input::Plain(file) => file,
            Input::Gzip(decoder) => decoder.get_ref().get_ref(),
            Input::Zstd(decoder) => decoder.get_ref().get_ref(),
        }
    }

    /// Returns the offset behind the last chunk.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Returns whether bytes are read and not yet given as chunks, beside an unfinished line.
    pub(super) fn is_ahead(&self) -> bool {
        self.lines.is_ahead()
    }

    /// Reads the next lines; `None` at the end, where a growing file may be asked again.
    pub(super) fn next_chunk(&mut self, unterminated: Unterminated) -> Result<Option<Chunk>> {
        let piece = self.lines.next(unterminated).map_err(|e| read_error(&self.path, self.next, e))?;
        Ok(piece.map(|piece| {
            let range = OffsetRange::new(self.partition.clone(), self.next, self.next + piece.bytes);
            self.next = range.to;
            Chunk { records: piece.records, range, unit: OffsetUnit::Bytes }
        }))
    }
}

fn read_error(path: &Path, at: u64, error: io::Error) -> Error {
    Error::io(format_args!("read `{}` after byte {at} of its content", path.display()), error)
}

enum Input {
    Plain(File),
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
    Zstd(zstd::Decoder<'static, BufReader<File>>),
}

impl Input {
    fn open(file: File, compression: Compression) -> io::Result<Self> {
        let buffered = |file| BufReader::with_capacity(COMPRESSED_BUFFER_BYTES, file);
        Ok(match compression {
            Compression::None => Self::Plain(file),
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(buffered(file)))),
            Compression::Zstd => Self::Zstd(zstd::Decoder::with_buffer(buffered(file))?),
        })
    }

    /// Moves to an offset of the content, and returns where it is then: less at a content's end. An error comes with where it struck.
    fn skip(&mut self, offset: u64) -> Result<u64, (u64, io::Error)> {
        if let Self::Plain(file) = self {
            let length = file.metadata().map_err(|e| (0, e))?.len();
            return file.seek(SeekFrom::Start(offset.min(length))).map_err(|e| (offset, e));
        }
        let mut scratch = vec![0; COMPRESSED_BUFFER_BYTES];
        let mut at = 0;
        while at < offset {
            let wanted = usize::try_from(offset - at).unwrap_or(usize::MAX).min(scratch.len());
            match self.read(&mut scratch[..wanted]) {
                Ok(0) => break,
                Ok(bytes) => at += bytes as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err((at, e)),
            }
        }
        Ok(at)
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}
