//! A segment: a file of the journal.
//!
//! Owns: its name, its header, and reading its frames in order.
//! Does not own: which segments there are (see `open`), when one ends (see `log`).
//!
//! The header is two lines of sealed JSON, so that `head -1` and `jq` read it. It says where the segment before it ends (what stands
//! there behind that was never answered), what the running hash was before it, and how much of it was durable when it got its name.
//!
//! Version 1 knew neither hashes nor openings of groups. Its segments are read, and never written.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Take};
use std::path::{Path, PathBuf};

use pintail_core::error::{Error, Result};
use pintail_core::invocation::service_command;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::frame::{Frame, HEADER, Mark, Unreadable, first, read_header};
use super::opening::Opening;
use super::running::Running;
use super::tail::mark_without_zeros;
use super::time::Stamp;
use crate::checkpoint::{paths, sealed};
use crate::durable::fs::Fs;

/// The versions of segments: this Pintail reads both and writes the newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u32", try_from = "u32")]
pub enum Version {
    /// Frames alone.
    One,
    /// Groups with openings, and the running hash.
    Two,
}

impl From<Version> for u32 {
    fn from(version: Version) -> Self {
        match version {
            Version::One => 1,
            Version::Two => 2,
        }
    }
}

impl TryFrom<u32> for Version {
    type Error = String;

    fn try_from(version: u32) -> Result<Self, String> {
        match version {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            _ => Err(format!("it has version {version}, this pintail reads versions 1 and 2: use the pintail that wrote it")),
        }
    }
}

/// The ending of a segment's name.
const ENDING: &str = "segment";

/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;

/// A line of a header is no longer; the two together neither.
pub const HEADER_BYTES: u64 = 1024;

/// Makes the error of a journal that cannot be trusted, with what a person can do about it.
pub fn untrusted(what: impl fmt::Display) -> Error {
    let repair = service_command("repair --journal");
    Error::state(format!("{what}: restore it from a copy, or give up what is lost with {repair}"))
}

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of everything behind it.
    pub version: Version,
    /// The dataset that it belongs to.
    pub dataset_id: String,
    /// Its number, also in its name. Numbers grow; some are left out.
    pub segment: u64,
    /// Offset of its first record.
    pub first_offset: u64,
    /// The segment before it; none if it is the first of all. A segment whose number lies between the two was replaced by this one.
    pub previous: Option<Previous>,
    /// The hash of all records before it. A segment of version 1 has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// Bytes behind the header that were durable when the segment got its name: copied from the one that it replaced.
    #[serde(default)]
    pub copied: u64,
    /// When it was begun. A segment of version 1 does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Stamp>,
    /// Records between the segment before it and this one that were given up by a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
}

/// Records that were accepted, and that a repair gave up: their offsets are not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The first offset.
    pub from: u64,
    /// The first offset behind them: that of the segment's first record.
    pub to: u64,
    /// Whether so many records are lost. Else it is not known how many they were.
    pub counted: bool,
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
    pub fn new(dataset_id: &str, segment: u64, first_offset: u64, previous: Option<Previous>, running: Running, begun: Stamp) -> Self {
        let (version, dataset_id) = (Version::Two, dataset_id.to_owned());
        Self { version, dataset_id, segment, first_offset, previous, running: Some(running), copied: 0, begun: Some(begun), lost: None }
    }

    /// Returns the first offset that the segment answers for: that of its first record, or of the lost ones before it.
    pub fn begin(&self) -> u64 {
        self.lost.map_or(self.first_offset, |lost| lost.from)
    }

    /// Writes it as bytes.
    pub fn encode(&self) -> Vec<u8> {
        sealed::seal(self).0
    }

    /// Returns what the frames of the segment begin with. It follows from the dataset's random id, which no client knows.
    pub fn mark(&self) -> Mark {
        mark(&self.dataset_id, self.segment, self.version)
    }

    /// Returns what the frames of a segment begin with whose header cannot be read: one of these.
    pub fn marks(dataset_id: &str, segment: u64) -> Vec<Mark> {
        [Version::One, Version::Two].map(|version| mark(dataset_id, segment, version)).to_vec()
    }
}

fn mark(dataset_id: &str, segment: u64, version: Version) -> Mark {
    let hash = Sha256::new_with_prefix("pintail journal ").chain_update(dataset_id).chain_update(segment.to_le_bytes()).finalize();
    match version {
        Version::One => first(&hash),
        Version::Two => mark_without_zeros(&hash),
    }
}

/// Returns whether a segment whose header is refused belongs to another dataset or was written by a newer Pintail: it is not damaged.
pub fn is_foreign(fs: &dyn Fs, settings: &super::Settings, number: u64) -> Result<bool> {
    let path = path(&settings.dir, number);
    let failed = |e| Error::io(format_args!("read `{}`", path.display()), e);
    let lines = read_two_lines(&mut BufReader::new(fs.open(&path).map_err(failed)?)).map_err(failed)?;
    let Ok((header, _)) = sealed::unseal::<Claim>(&lines) else { return Ok(false) };
    Ok(header.dataset_id != settings.dataset_id || Version::try_from(header.version).is_err())
}

/// What every version says of itself.
#[derive(Deserialize)]
struct Claim {
    version: u32,
    dataset_id: String,
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
    opening: Option<Opening>,
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
        let named = |why: &str| format!("journal segment `{}` cannot be trusted, at byte 0: {why}", path.display());
        let refuse = |why: String| Error::state(named(&why));
        let unsealed = sealed::unseal::<Header>(&lines).map_err(|why| match sealed::unseal::<Claim>(&lines) {
            // It is whole: that of a newer Pintail.
            Ok(_) => refuse(why),
            Err(_) => untrusted(named(&why)),
        });
        let (header, _) = unsealed?;
        if header.segment != number {
            return Err(untrusted(named(&format!("it is segment {}", header.segment))));
        }
        if header.dataset_id != dataset_id {
            return Err(refuse(format!("it belongs to the dataset {}, this is {dataset_id}", header.dataset_id)));
        }
        let mark = header.mark();
        Ok(Self { input, path, mark, header, at: lines.len() as u64, end, opening: None })
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

    /// Returns the opening of the group that the last frame belongs to, or of the one that was begun at the end.
    pub fn opening(&self) -> Option<&Opening> {
        self.opening.as_ref()
    }

    /// Reads the next frame; `None` at the end. Openings before it are passed (see [`Frames::opening`]).
    ///
    /// # Errors
    /// The inner one says that the bytes are no frame.
    pub fn read(&mut self) -> Result<Result<Option<Frame>, BadFrame>> {
        while self.at != self.end {
            match self.read_item() {
                Ok(Some(frame)) => {
                    self.at += frame.head.frame_bytes();
                    return Ok(Ok(Some(frame)));
                }
                Ok(None) => self.at += HEADER as u64,
                Err(Unreadable::Bad(why)) => return Ok(Err(BadFrame { at: self.at, why })),
                Err(Unreadable::Io(error)) => {
                    return Err(Error::io(format_args!("read `{}` at byte {}", self.path.display(), self.at), error));
                }
            }
        }
        Ok(Ok(None))
    }

    /// Reads a frame; `None` if it was an opening.
    fn read_item(&mut self) -> Result<Option<Frame>, Unreadable> {
        let available = self.end.saturating_sub(self.at);
        let head = read_header(&mut self.input, available)?;
        if self.header.version == Version::Two && Opening::is_one(&head) {
            self.opening = Some(Opening::decode(&head, self.mark).map_err(Unreadable::Bad)?);
            return Ok(None);
        }
        Frame::read_behind(&head, &mut self.input, self.mark, available).map(Some)
    }

    /// Makes the refusal of a bad frame. `offset` is that of its first record.
    pub fn refuse(&self, bad: &BadFrame, offset: u64) -> Error {
        refuse(self.path.parent().expect("a segment lies in a directory"), self.header.segment, bad, offset)
    }
}

/// Makes the refusal of something in a segment. `offset` is that of the first record there.
pub fn refuse(dir: &Path, segment: u64, bad: &BadFrame, offset: u64) -> Error {
    untrusted(format_args!(
        "journal segment `{}` cannot be trusted, at byte {} (offset {offset}): {}; records there were accepted and are lost",
        path(dir, segment).display(),
        bad.at,
        bad.why
    ))
}

/// Reads up to the second line end, no further.
fn read_two_lines(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for _ in 0..2 {
        input.by_ref().take(HEADER_BYTES).read_until(b'\n', &mut lines)?;
    }
    Ok(lines)
}
