//! The end of the newest segment, where a group is not whole: torn by a crash, or damaged.
//!
//! Owns: that judgement, from the bytes alone, and the count of sectors of zeros that it rests on.
//! Does not own: what is known from elsewhere (commit records, headers of segments), what is then done (see `open`, `repair`).
//!
//! # What a crash leaves of a group that was never answered
//!
//! A killed process leaves the beginning of what it wrote: the file is *short*. A power cut leaves any subset of the sectors that were
//! not synced; those that are missing read as zeros, or the file is short. So a group that a crash has torn is short, or it has more
//! sectors of zeros than were written. The opening of a group says how long it is, and with how many of them it was written (bodies may
//! hold zeros). A group of full length in which no sector is missing has been written whole: if its checksums do not fit, its bytes changed
//! afterwards, and it may have been answered. That is *damage*. So is every other thing that is not whole where something follows: nothing is
//! written behind a group that was not synced.

use memchr::memmem;

use super::frame::{HEADER, Head, Mark, first};
use super::opening::Opening;
use super::segment::Version;

/// The least that a disk writes.
const SECTOR: u64 = 512;

/// What the end of a segment is, behind the last whole group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// A group that was never answered.
    Torn,
    /// Something that may have been answered, and why.
    Damaged(&'static str),
}

/// Judges `tail`, which begins at byte `at` of a segment and is no whole group.
pub fn judge(tail: &[u8], at: u64, mark: Mark, version: Version) -> Tail {
    if is_followed(tail, at, mark) {
        return Tail::Damaged("it was synced: a later group follows");
    }
    // Of what version 1 wrote no more can be told.
    if version == Version::One {
        return Tail::Torn;
    }
    let Some(header) = tail.first_chunk::<HEADER>() else { return Tail::Torn };
    if lacks_sector(tail, at) {
        return Tail::Torn;
    }
    let Ok(opening) = Opening::decode(header, mark) else { return Tail::Damaged("its opening was written, and is damaged") };
    let length = HEADER as u64 + opening.length;
    match (tail.len() as u64).cmp(&length) {
        std::cmp::Ordering::Less => Tail::Torn,
        std::cmp::Ordering::Greater => Tail::Damaged("it was synced: something follows"),
        std::cmp::Ordering::Equal => {
            let mut zeros = Zeros::behind(at + HEADER as u64);
            zeros.take(&tail[HEADER..]);
            let missing = zeros.count() > opening.zeros;
            if missing { Tail::Torn } else { Tail::Damaged("it was written whole, and its checksum does not fit") }
        }
    }
}

/// Returns whether a sector in which the opening lies is missing. As they were written, none of these is zeros: the opening's mark or
/// the one of the frame behind it lies in each.
fn lacks_sector(tail: &[u8], at: u64) -> bool {
    let end = at + tail.len() as u64;
    let mut from = at;
    while from < at + HEADER as u64 {
        let to = (from / SECTOR + 1) * SECTOR;
        let part = &tail[index(from - at)..index(to.min(end) - at)];
        if part.iter().all(|byte| *byte == 0) {
            return true;
        }
        from = to;
    }
    false
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("a position in memory")
}

/// Returns whether a group was begun behind the one at `at`: then that one had been synced, and was whole.
fn is_followed(tail: &[u8], at: u64, mark: Mark) -> bool {
    headers(tail, mark).any(|(_, header)| match Opening::decode(header, mark) {
        Ok(opening) => opening.group > at,
        Err(_) => Head::decode(header, mark).is_ok_and(|head| head.group > at),
    })
}

/// Returns everything in `bytes` that looks like a header, with its position.
pub fn headers(bytes: &[u8], mark: Mark) -> impl Iterator<Item = (usize, &[u8; HEADER])> {
    let found = memmem::find_iter(bytes, &mark).collect::<Vec<_>>();
    found.into_iter().filter_map(|at| Some((at, bytes.get(at..)?.first_chunk::<HEADER>()?)))
}

/// Returns the offsets of the records of a frame, and its length, from its header; `None` if it is none, or holds no records.
pub fn records_of(header: &[u8; HEADER], mark: Mark) -> Option<(u64, u64, u64)> {
    let head = Head::decode(header, mark).ok()?;
    head.holds_records().then(|| (head.offset, head.offset + head.records, head.frame_bytes()))
}

/// Counts the sectors of a file that hold nothing but zeros, of those that begin behind a position; the last one may be cut.
#[derive(Debug)]
pub struct Zeros {
    at: u64,
    /// Whether there was nothing but zeros since the last begin of a sector; `None` before the first.
    blank: Option<bool>,
    count: u32,
}

impl Zeros {
    /// Counts from the first sector on that begins at `at` or behind it.
    pub fn behind(at: u64) -> Self {
        Self { at, blank: at.is_multiple_of(SECTOR).then_some(true), count: 0 }
    }

    /// Takes the bytes that come next.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = SECTOR - self.at % SECTOR;
            let (part, rest) = bytes.split_at(bytes.len().min(index(room)));
            if let Some(blank) = &mut self.blank {
                *blank = *blank && part.iter().all(|byte| *byte == 0);
            }
            self.at += part.len() as u64;
            if self.at.is_multiple_of(SECTOR) {
                self.count += u32::from(self.blank == Some(true));
                self.blank = Some(true);
            }
            bytes = rest;
        }
    }

    /// Returns how many there were.
    pub fn count(&self) -> u32 {
        let begun = !self.at.is_multiple_of(SECTOR);
        self.count + u32::from(begun && self.blank == Some(true))
    }
}

/// Returns the first bytes of a hash without a zero among them: a sector in which they lie is never one of zeros.
pub fn mark_without_zeros(hash: &[u8]) -> Mark {
    first::<8>(hash).map(|byte| byte.max(1))
}

#[cfg(test)]
mod tests;
