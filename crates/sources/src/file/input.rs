//! Input: the content of a file, from an offset on.
//!
//! Owns: walking to an offset of decompressed content, and noticing that what was read has changed: each read of a plain file begins up to a KiB before
//! its offset, so that nothing lies between the check and the read.
//! Does not own: how a file is compressed (see [`Compression`]), decompression (see `archive`), what a change means (see `plan`), lines (see
//! [`crate::lines`]).

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, IoSliceMut, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use pintail_core::evidence::{Body, Key};

use super::archive::Archive;
use crate::compression::Compression;
use crate::lines::{TAIL_BYTES_MAX, keep_last};

/// Bytes of a compressed file read at a time.
pub(super) const COMPRESSED_BUFFER_BYTES: usize = 128 << 10;

/// What was read of a file is not what it holds there now.
#[derive(Debug)]
pub(super) struct Rewritten;

impl Rewritten {
    /// Returns whether a failed read says so.
    pub(super) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|error| error.is::<Self>())
    }
}

impl fmt::Display for Rewritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what was read of it is not there any more")
    }
}

impl std::error::Error for Rewritten {}

/// The content of a file.
pub(super) enum Input {
    Plain(Plain),
    Archive(Archive),
}

impl Input {
    /// Opens the content at its beginning.
    pub(super) fn open(file: File, compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::plain(file, 0, Vec::new()),
            Compression::Gzip | Compression::Zstd => {
                let file = BufReader::with_capacity(COMPRESSED_BUFFER_BYTES, At { file: Arc::new(file), at: 0 });
                Self::Archive(Archive::new(file, compression))
            }
        })
    }

    /// Opens a plain file at `at`, before which `last` stands.
    pub(super) fn plain(file: File, at: u64, last: Vec<u8>) -> Self {
        Self::Plain(Plain { file, at, to: u64::MAX, last })
    }

    /// Returns the file.
    pub(super) fn file(&self) -> &File {
        match self {
            Self::Plain(plain) => &plain.file,
            Self::Archive(archive) => archive.file(),
        }
    }

    /// Goes back in a plain file to `at`, before which `last` was read.
    pub(super) fn go_back(&mut self, at: u64, last: Vec<u8>) {
        if let Self::Plain(plain) = self {
            (plain.at, plain.last) = (at, last);
        }
    }

    /// Ends a plain file before `to` until that is said again, if it is longer.
    pub(super) fn end_at(&mut self, to: u64) {
        if let Self::Plain(plain) = self {
            plain.to = to;
        }
    }

    /// Returns the offset of the next read of a plain file; `None` for a compressed one.
    pub(super) fn at(&self) -> Option<u64> {
        match self {
            Self::Plain(plain) => Some(plain.at),
            Self::Archive(_) => None,
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.read(buffer),
            Self::Archive(archive) => archive.read(buffer),
        }
    }
}

/// A plain file that is read at an offset of its own.
#[derive(Debug)]
pub(super) struct Plain {
    file: File,
    at: u64,
    /// Nothing is read from here on.
    to: u64,
    /// The bytes before `at`, as they were read.
    last: Vec<u8>,
}

impl Read for Plain {
    /// Reads the bytes before the offset again, in the same system call.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut before = [0; TAIL_BYTES_MAX];
        let before = &mut before[..self.last.len()];
        let from = self.at - before.len() as u64;
        let left = usize::try_from(self.to.saturating_sub(self.at)).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..left];
        let read = rustix::io::preadv(&self.file, &mut [IoSliceMut::new(before), IoSliceMut::new(buffer)], from)?;
        // Fewer bytes than before: it was cut.
        let Some(new) = read.checked_sub(before.len()).filter(|_| before == &self.last[..]) else {
            return Err(io::Error::other(Rewritten));
        };
        self.at += new as u64;
        keep_last(&mut self.last, &buffer[..new]);
        Ok(new)
    }
}

/// A file that is read at an offset of its own, whoever else reads it.
#[derive(Debug)]
pub(super) struct At {
    pub(super) file: Arc<File>,
    at: u64,
}

impl At {
    /// Makes another reader, of what begins `buffered` bytes before the place that is read next.
    pub(super) fn clone_at(&self, buffered: usize) -> Self {
        Self { file: self.file.clone(), at: self.at - buffered as u64 }
    }
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Reads `[from, to)` of a file as it lies on the disk; less at its end.
pub(super) fn read_range(file: &File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX)];
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], from + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

/// A walk through content to an offset, which keeps what evidence is made of.
pub(super) struct Walk {
    pub(super) input: Input,
    pub(super) at: u64,
    /// The first bytes, at most 1 KiB.
    pub(super) head: Vec<u8>,
    /// The bytes before `at`, at most 1 KiB.
    pub(super) tail: Vec<u8>,
    /// The body of compressed content, where that is asked for. In a plain file the walk is a jump.
    pub(super) body: Option<Body>,
}

impl Walk {
    pub(super) fn begin(file: File, compression: Compression) -> io::Result<Self> {
        Ok(Self { input: Input::open(file, compression)?, at: 0, head: Vec::new(), tail: Vec::new(), body: None })
    }

    /// Sums up the content on the way.
    pub(super) fn summing(self, key: &Key) -> Self {
        Self { body: matches!(self.input, Input::Archive(_)).then(|| Body::new(key)), ..self }
    }

    /// Returns what stands in a range, if it is at one of both ends.
    pub(super) fn holds(&self, from: u64, to: u64) -> Option<&[u8]> {
        let within = |bytes: &'_ [u8], start: u64| {
            let (from, to) = (from.checked_sub(start)?, to.checked_sub(start)?);
            let range = usize::try_from(from).ok()?..usize::try_from(to).ok()?;
            (range.start <= range.end && range.end <= bytes.len()).then_some(range)
        };
        let tail_start = self.at - self.tail.len() as u64;
        within(&self.head, 0).map(|range| &self.head[range]).or_else(|| within(&self.tail, tail_start).map(|range| &self.tail[range]))
    }

    /// Walks to `offset`, or to the end if it comes before. An error leaves the walk where it struck.
    pub(super) fn to(&mut self, offset: u64) -> io::Result<()> {
        if let Input::Plain(plain) = &self.input {
            let near = |offset: u64| offset.saturating_sub(TAIL_BYTES_MAX as u64);
            let file = plain.file.try_clone()?;
            let length = file.metadata()?.len();
            let offset = offset.min(length);
            self.head = read_range(&file, 0, offset.min(TAIL_BYTES_MAX as u64))?;
            self.tail = read_range(&file, near(offset), offset)?;
            self.at = near(offset) + self.tail.len() as u64;
            self.input = Input::plain(file, self.at, self.tail.clone());
            return Ok(());
        }
        let mut scratch = vec![0; COMPRESSED_BUFFER_BYTES];
        while self.at < offset {
            let wanted = usize::try_from(offset - self.at).unwrap_or(usize::MAX).min(scratch.len());
            match self.input.read(&mut scratch[..wanted]) {
                Ok(0) => break,
                Ok(bytes) => {
                    let bytes = &scratch[..bytes];
                    self.head.extend_from_slice(&bytes[..bytes.len().min(TAIL_BYTES_MAX - self.head.len())]);
                    keep_last(&mut self.tail, bytes);
                    if let Some(body) = &mut self.body {
                        body.push(bytes);
                    }
                    self.at += bytes.len() as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_read_notices_any_change_of_the_kilobyte_before_it_and_a_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let content: Vec<u8> = (0..3000_u32).map(|n| (n % 251) as u8).collect();
        let mut buffer = [0; 2000];
        for (change, seen) in [(1999, true), (976, true), (975, false), (0, false)] {
            fs::write(&path, &content).unwrap();
            let mut input = Input::open(File::open(&path).unwrap(), Compression::None).unwrap();
            assert_eq!(input.read(&mut buffer).unwrap(), 2000);
            assert_eq!(buffer[..], content[..2000]);
            let mut changed = content.clone();
            changed[change] ^= 1;
            fs::write(&path, &changed).unwrap();
            assert_eq!(input.read(&mut buffer).is_err_and(|e| Rewritten::is(&e)), seen, "at {change}");
            fs::write(&path, &content[..1999]).unwrap();
            assert!(Rewritten::is(&input.read(&mut buffer).unwrap_err()));
        }
    }

    #[test]
    fn a_plain_file_ends_where_that_was_said_until_it_is_said_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "0123456789").unwrap();
        let mut input = Input::open(File::open(&path).unwrap(), Compression::None).unwrap();
        let mut read = |to: u64| {
            let mut text = String::new();
            input.end_at(to);
            input.read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!([4, 4, 2, 6, u64::MAX].map(&mut read), ["0123", "", "", "45", "6789"]);
    }

    #[test]
    fn a_walk_has_the_same_beginning_and_end_whether_or_not_it_is_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..500_000_u32).map(|n| (n % 251) as u8).collect();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("a"), &content).unwrap();
        fs::write(path("a.zst"), zstd::encode_all(&content[..], 1).unwrap()).unwrap();
        for name in ["a", "a.zst"] {
            let mut walk = Walk::begin(File::open(path(name)).unwrap(), Compression::named(name)).unwrap();
            for offset in [5, 1024, 2000, 400_000, 900_000_usize] {
                walk.to(offset as u64).unwrap();
                let read = &content[..offset.min(content.len())];
                assert_eq!(walk.at, read.len() as u64);
                assert_eq!(walk.head, read[..read.len().min(1024)]);
                assert_eq!(walk.tail, read[read.len().saturating_sub(1024)..]);
            }
        }
    }
}
