//! A segment: a file of the journal.
//!
//! Owns: its name, its header, and reading its frames in order.
//! Does not own: which segments there are (see `open`), when one ends (see `log`).
//!
//! The header is two lines of sealed JSON, so that `head -1` and `jq` read it. It says where the segment before it ends: what stands
//! there behind that was never answered.

use std::io::{self, BufRead, BufReader, Read, Take};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::frame::{Frame, Mark, Unreadable, first};
use crate::checkpoint::{paths, sealed};
use crate::durable::fs::Fs;
use crate::error::{Error, Result};

/// The version that this Pintail writes and reads.
const VERSION: u32 = 1;

/// The ending of a segment's name.
const ENDING: &str = "segment";

/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;

/// A line of a header is no longer; the two together neither.
pub const HEADER_BYTES: u64 = 512;

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    version: u32,
    /// The dataset that it belongs to.
    pub dataset_id: String,
    /// Its number, also in its name. Numbers grow; some are left out.
    pub segment: u64,
    /// Offset of its first record.
    pub first_offset: u64,
    /// The segment before it; none if it is the first of all. A segment whose number lies between the two was replaced by this one.
    pub previous: Option<Previous>,
}

/// The segment before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// Its number.
    pub segment: u64,
    /// Its length in bytes, as far as it counts.
    pub bytes: u64,
}

impl Header {
    /// Makes the header of a new segment.
    pub fn new(dataset_id: &str, segment: u64, first_offset: u64, previous: Option<Previous>) -> Self {
        Self { version: VERSION, dataset_id: dataset_id.to_owned(), segment, first_offset, previous }
    }

    /// Writes it as bytes.
    pub fn encode(&self) -> Vec<u8> {
        sealed::seal(self).0
    }

    /// Returns what the frames of the segment begin with. It follows from the dataset's random id, which no client knows.
    pub fn mark(&self) -> Mark {
        let hash = Sha256::new_with_prefix("pintail journal ").chain_update(&self.dataset_id).chain_update(self.segment.to_le_bytes());
        first(&hash.finalize())
    }
}

/// Returns the path of a segment.
pub fn path(dir: &Path, segment: u64) -> PathBuf {
    dir.join(format!("{segment:010}.{ENDING}"))
}

/// Returns the number in the name of a segment.
pub fn number(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    let ours = path.extension()? == ENDING && stem.len() >= 10 && stem.bytes().all(|byte| byte.is_ascii_digit());
    ours.then(|| stem.parse().ok()).flatten()
}

/// Returns whether a path is a segment that did not get its name.
pub fn is_in_progress(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == paths::IN_PROGRESS)
}

/// The frames of a segment, read in order up to a limit that may grow.
pub struct Frames {
    input: BufReader<Take<Box<dyn Read + Send>>>,
    path: PathBuf,
    /// What the header says.
    pub header: Header,
    mark: Mark,
    at: u64,
    end: u64,
}

/// Why the next frame could not be read.
#[derive(Debug)]
pub struct BadFrame {
    /// Its position in the segment.
    pub at: u64,
    /// What is wrong.
    pub why: String,
}

impl Frames {
    /// Opens a segment and reads its header. `end` is where it ends, in bytes.
    ///
    /// # Errors
    /// `State` if the header is not that of the segment `number` of the dataset.
    pub fn open(fs: &dyn Fs, dir: &Path, dataset_id: &str, number: u64, end: u64) -> Result<Self> {
        let path = path(dir, number);
        let file = fs.open(&path).map_err(|e| Error::io(format_args!("open `{}`", path.display()), e))?;
        let mut input = BufReader::with_capacity(READ_BYTES, file.take(end));
        let lines = read_two_lines(&mut input).map_err(|e| Error::io(format_args!("read `{}`", path.display()), e))?;
        let refuse = |why: String| Error::state(format!("journal segment `{}` cannot be trusted, at byte 0: {why}", path.display()));
        let (header, _) = sealed::unseal::<Header>(&lines).map_err(refuse)?;
        if header.version != VERSION {
            return Err(refuse(format!("it has version {}, this pintail reads version {VERSION}", header.version)));
        }
        if header.segment != number {
            return Err(refuse(format!("it is segment {}", header.segment)));
        }
        if header.dataset_id != dataset_id {
            return Err(refuse(format!("it belongs to the dataset {}, this is {dataset_id}", header.dataset_id)));
        }
        let mark = header.mark();
        Ok(Self { input, path, mark, header, at: lines.len() as u64, end })
    }

    /// Returns the position of the next frame.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Returns the segment's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets it be read further.
    pub fn extend(&mut self, end: u64) {
        let take = self.input.get_mut();
        take.set_limit(take.limit() + (end - self.end));
        self.end = end;
    }

    /// Reads the next frame; `None` at the end.
    ///
    /// # Errors
    /// The inner one says that the bytes are no frame.
    pub fn read(&mut self) -> Result<Result<Option<Frame>, BadFrame>> {
        if self.at == self.end {
            return Ok(Ok(None));
        }
        match Frame::read(&mut self.input, self.mark, self.end.saturating_sub(self.at)) {
            Ok(frame) => {
                self.at += frame.head.frame_bytes();
                Ok(Ok(Some(frame)))
            }
            Err(Unreadable::Bad(why)) => Ok(Err(BadFrame { at: self.at, why })),
            Err(Unreadable::Io(error)) => Err(Error::io(format_args!("read `{}` at byte {}", self.path.display(), self.at), error)),
        }
    }

    /// Makes the refusal of a bad frame. `offset` is that of its first record.
    pub fn refuse(&self, bad: &BadFrame, offset: u64) -> Error {
        Error::state(format!(
            "journal segment `{}` cannot be trusted, at byte {} (offset {offset}): {}; records there were accepted and are lost: \
             restore the file from a copy",
            self.path.display(),
            bad.at,
            bad.why
        ))
    }
}

/// Reads up to the second line end, no further.
fn read_two_lines(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for _ in 0..2 {
        input.by_ref().take(HEADER_BYTES).read_until(b'\n', &mut lines)?;
    }
    Ok(lines)
}
