//! Reading a whole segment, at start and for a repair.
//!
//! Owns: what makes frames groups, and groups a segment; how the segment ends.
//! Does not own: what is then done (see `open`, `repair`), torn or damaged (see [`super::tail`]).

use std::io::{self, Read};
use std::path::Path;

use pintail_core::error::{Error, Result};

use super::frame::{HEADER, Head};
use super::opening::Opening;
use super::position::Watch;
use super::running::Running;
use super::segment::{BadFrame, Frames, Header, Version};
use super::tail::{self, Tail};
use super::time::Stamp;
use crate::durable::fs::Fs;

/// A segment that counts, as its header and the one after it describe it.
#[derive(Debug, Clone)]
pub(super) struct Link {
    /// What it says of itself.
    pub header: Header,
    /// Its end, as the next one names it, or that of the file.
    pub end: u64,
    /// What it takes on the disk.
    pub bytes: u64,
    /// Whether no other follows: only then may it end in a group that was never answered.
    pub newest: bool,
}

/// What a scan of a segment found.
#[derive(Debug)]
pub(super) struct Scanned {
    /// What the segment says of itself.
    pub header: Header,
    /// Where its whole groups end, in bytes.
    pub end: u64,
    /// The offset behind its last record.
    pub offset: u64,
    /// The hash of all records before that.
    pub running: Option<Running>,
    /// Its frames, and their bytes.
    pub frames: u32,
    /// Bytes of the frames.
    pub length: u64,
    /// The frames that have a key.
    pub keyed: Vec<Head>,
    /// The last moment that it names.
    pub stamp: Option<Stamp>,
    /// What stands behind the whole groups.
    pub ending: Ending,
}

/// How a segment ends.
#[derive(Debug)]
pub(super) enum Ending {
    /// With a whole group.
    Whole,
    /// With so many bytes of a group that was never answered.
    Torn(u64),
    /// With something that cannot be trusted, which may have been answered. The offset is that of the first record there.
    Damaged(BadFrame, u64),
    /// With the word that another segment follows, which does not.
    Followed,
}

impl Ending {
    /// Returns whether the segment ends with a whole group, or with one that was never answered.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole | Self::Torn(_))
    }
}

/// Reads all frames of a segment, and tells `watch` where they stand.
///
/// # Errors
/// If the disk refuses, or its header cannot be trusted.
pub(super) fn scan(fs: &dyn Fs, dir: &Path, link: &Link, watch: &mut Watch<'_>) -> Result<Scanned> {
    let mut frames = Frames::open(fs, dir, &link.header.dataset_id, link.header.segment, link.end)?;
    let begin = frames.at();
    let mut groups = Groups::new(&frames, link);
    watch.stand(groups.whole.offset, groups.whole.running.filter(|_| link.header.lost.is_none()));
    let bad = loop {
        let at = frames.at();
        match frames.read()? {
            Ok(Some(frame)) => {
                if let Err(why) = groups.take(&frames, frame.head, watch) {
                    // Its checksum fits: no crash has made it.
                    let place = frames.at() - frame.head.frame_bytes();
                    return Ok(groups.end(Ending::Damaged(BadFrame { at: place, why }, frame.head.offset)));
                }
            }
            Ok(None) if frames.at() == groups.whole.end && at >= begin + link.header.copied => break None,
            Ok(None) if groups.is_followed(&frames) && link.newest => return Ok(groups.end(Ending::Followed)),
            Ok(None) => break Some(BadFrame { at, why: "a group of frames is not whole".into() }),
            Err(bad) => break Some(bad),
        }
    };
    let Some(bad) = bad else { return Ok(groups.end(Ending::Whole)) };
    let offset = groups.offset;
    let damaged = |why: &str| Ending::Damaged(BadFrame { at: bad.at, why: format!("{}; {why}", bad.why) }, offset);
    let ending = if !link.newest {
        damaged("the segment after it says that it is whole up to here")
    } else if groups.whole.end < begin + link.header.copied {
        damaged("it was durable when the segment got its name")
    } else {
        let rest = read_from(fs, frames.path(), groups.whole.end)?;
        match tail::judge(&rest, groups.whole.end, frames.header.mark(), frames.header.version) {
            Tail::Torn => Ending::Torn(rest.len() as u64),
            Tail::Damaged(why) => damaged(why),
        }
    };
    Ok(groups.end(ending))
}

/// Reads a file from a position to its end.
pub(super) fn read_from(fs: &dyn Fs, path: &Path, at: u64) -> Result<Vec<u8>> {
    let failed = |e| Error::io(format_args!("read `{}`", path.display()), e);
    let mut input = fs.open(path).map_err(failed)?;
    io::copy(&mut input.by_ref().take(at), &mut io::sink()).map_err(failed)?;
    let mut rest = Vec::new();
    input.read_to_end(&mut rest).map_err(failed)?;
    Ok(rest)
}

/// Puts frames together to groups.
struct Groups {
    /// The whole groups.
    whole: Scanned,
    /// Frames of the group that is not whole yet.
    group: Vec<Head>,
    /// The offset behind the last frame, and the hash.
    offset: u64,
    running: Option<Running>,
}

impl Groups {
    fn new(frames: &Frames, link: &Link) -> Self {
        let header = frames.header.clone();
        // The newest one is taken over as one of version 2: the hash begins with it.
        let taken_over = (header.version == Version::One && link.newest).then(|| Running::from(&header.dataset_id, header.first_offset));
        let (offset, running, stamp) = (header.first_offset, header.running.or(taken_over), header.begun);
        let (end, keyed, ending) = (frames.at(), vec![], Ending::Whole);
        let whole = Scanned { header, end, offset, running, frames: 0, length: 0, keyed, stamp, ending };
        Self { whole, group: vec![], offset, running }
    }

    fn end(self, ending: Ending) -> Scanned {
        Scanned { ending, ..self.whole }
    }

    fn is_followed(&self, frames: &Frames) -> bool {
        let ends = |opening: &Opening| opening.frames == 0 && opening.group == self.whole.end;
        self.group.is_empty() && frames.at() == self.whole.end + HEADER as u64 && frames.opening().is_some_and(ends)
    }

    /// Takes a frame that was just read. Says in words what is wrong with its place.
    fn take(&mut self, frames: &Frames, head: Head, watch: &mut Watch<'_>) -> Result<(), String> {
        let at = frames.at() - head.frame_bytes();
        if self.group.is_empty() && self.whole.header.version == Version::Two {
            self.check_opening(frames.opening(), &head, at)?;
        } else {
            self.check_place(&head, at)?;
        }
        if head.holds_records() {
            if head.offset != self.offset {
                return Err(format!("the frame begins at offset {}", head.offset));
            }
            self.offset += head.records;
            self.running = self.running.map(|running| running.behind(&head));
            watch.pass(head.offset, self.offset);
            if head.records > 0 {
                watch.stand(self.offset, self.running);
            }
        }
        self.group.push(head);
        if head.left == 0 {
            self.close(frames)?;
        }
        Ok(())
    }

    fn check_opening(&self, opening: Option<&Opening>, head: &Head, at: u64) -> Result<(), String> {
        let Some(opening) = opening.filter(|opening| opening.group == self.whole.end && at == opening.group + HEADER as u64) else {
            return Err("the group has no opening".into());
        };
        if head.group != opening.group || head.left.checked_add(1) != Some(opening.frames) {
            return Err("the frame belongs to another group".into());
        }
        if self.running.is_some_and(|running| running != opening.running) {
            return Err("something else was accepted before it than stands there".into());
        }
        Ok(())
    }

    fn check_place(&self, head: &Head, at: u64) -> Result<(), String> {
        let (group, left) = self.group.last().map_or((at, None), |before| (before.group, Some(before.left - 1)));
        if head.group != group || left.is_some_and(|left| left != head.left) {
            return Err("the frame belongs to another group".into());
        }
        Ok(())
    }

    fn close(&mut self, frames: &Frames) -> Result<(), String> {
        let whole = &mut self.whole;
        let length: u64 = self.group.iter().map(Head::frame_bytes).sum();
        if whole.header.version == Version::Two {
            let opening = frames.opening().expect("the group has one");
            if opening.length != length {
                return Err(format!("the group has {length} bytes, its opening says {}", opening.length));
            }
            whole.stamp = whole.stamp.max(Some(opening.stamp));
        }
        whole.frames += u32::try_from(self.group.len()).map_err(|_| "the group has too many frames")?;
        whole.length += length;
        whole.keyed.extend(self.group.drain(..).filter(|head| head.key.is_some()));
        (whole.end, whole.offset, whole.running) = (frames.at(), self.offset, self.running);
        Ok(())
    }
}
