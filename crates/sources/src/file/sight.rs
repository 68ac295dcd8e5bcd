//! Sight: what a look at a file shows, and what that says of a known position.
//!
//! Owns: looking at a file, and gathering what [`judge`] is asked with, for plain and for compressed files.
//! Does not own: which positions a file is compared with (see `positions`), what follows (see `plan`).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use pintail_core::error::{Error, Result};
use pintail_core::evidence::{Body, Evidence, Key, Look, Mark, Seen, Verdict, Why, Witness, judge};

use super::foreign;
use super::identity::{IdentityV1, Place};
use super::input::{Walk, read_range};
use super::names;
use super::plan::Name;
use super::positions::Known;
use super::trail::EDGE_BYTES;
use crate::compression::Compression;
use crate::lines::TAIL_BYTES_MAX;

/// How far around its place the end of what was read is searched for. An edit by hand moves it by less, and more would take long.
const MOVED_BYTES_MAX: u64 = 4 << 20;

/// An open file, as it was seen.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) path: PathBuf,
    pub(super) name: Name,
    pub(super) file: File,
    pub(super) place: Place,
    /// The length on the disk.
    pub(super) length: u64,
    pub(super) compression: Compression,
    /// The first bytes of the content, at most a KiB.
    pub(super) head: Vec<u8>,
    /// The first bytes on the disk, at most a KiB.
    pub(super) disk_head: Vec<u8>,
}

/// What a position is worth in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// Whether the file is compressed and holds nothing behind the position.
    pub(super) finished: bool,
    /// The body of the file before the position, if it was looked at.
    pub(super) body: Option<Mark>,
}

impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, finished: false, body: None }
    }
}

impl Sight {
    /// Looks at an open file.
    pub(super) fn look(file: File, path: &Path, name: Name) -> Result<Self> {
        let failed = |e| Error::io(format_args!("look at `{}`", path.display()), e);
        let metadata = file.metadata().map_err(failed)?;
        let disk_head = read_range(&file, 0, EDGE_BYTES).map_err(failed)?;
        let foreign = |e| Error::io(format_args!("read `{}`", names::label_of(path)), e);
        foreign::check(&disk_head).map_err(foreign)?;
        let compression = Compression::tell(&disk_head, &names::label_of(path));
        let head = match compression {
            Compression::None => disk_head.clone(),
            // What is wrong with a damaged file is said when it is read.
            Compression::Gzip | Compression::Zstd => match begin(&file, compression) {
                Err(e) if compression.is_damage(&e) => Vec::new(),
                head => head.map_err(failed)?,
            },
        };
        foreign::check(&head).map_err(foreign)?;
        // The length was asked first. A file that grew in between shows a longer beginning; one that was cut in between is as long as that.
        let begun = disk_head.len() as u64;
        let length = if begun < EDGE_BYTES { begun } else { metadata.len().max(begun) };
        Ok(Self { path: path.to_owned(), name, place: Place::of(&metadata), file, length, compression, head, disk_head })
    }

    /// Returns what messages call the file.
    pub(super) fn label(&self) -> String {
        names::label_of(&self.path).into_owned()
    }

    /// Returns how far the content is compared: what a plain file got since it was looked at counts at the next look.
    pub(super) fn seen_to(&self) -> u64 {
        if self.compression == Compression::None { self.length } else { u64::MAX }
    }

    /// Returns whether a known file may be this one, by its place or its name.
    pub(super) fn may_be(&self, known: &Known) -> bool {
        known.place().is_some_and(|place| place.may_be(&self.place)) || *known.partition.label == *self.label()
    }

    /// Returns whether the file holds what was read at a position, and nothing else.
    pub(super) fn holds_only(&self, known: &Known, judged: Judged) -> bool {
        let ends = judged.finished || (self.compression == Compression::None && self.length == known.next);
        ends && matches!(judged.verdict, Verdict::Same | Verdict::Moved)
    }

    /// Judges a known position by what the file holds.
    pub(super) fn judge(&self, key: &Key, known: &Known) -> io::Result<Judged> {
        let Some(evidence) = known.evidence.as_deref() else { return self.judge_v1(known).map(Judged::from) };
        match self.compression {
            Compression::None => self.judge_plain(key, known, evidence).map(Judged::from),
            Compression::Gzip | Compression::Zstd => self.judge_compressed(key, known, evidence),
        }
    }

    /// Returns whether a file begins with a KiB that a known one began with.
    pub(super) fn begins_as(&self, key: &Key, known: &Known) -> bool {
        match known.evidence {
            Some(_) => begins_as(key, &self.head, known),
            None => self.recognized_v1(known).is_some_and(|identity| identity.prefix().0 as u64 == EDGE_BYTES),
        }
    }

    /// See [`holds_end_of`].
    pub(super) fn holds_end_of(&self, key: &Key, known: &Known) -> io::Result<bool> {
        holds_end_of(key, &self.file, self.compression, known)
    }

    /// Returns the identity that version 1 kept of a known file, if this one begins so.
    fn recognized_v1(&self, known: &Known) -> Option<IdentityV1> {
        // It is of the bytes on the disk: those of a file that was compressed since are its content.
        let compressed_since = self.compression != Compression::None && Compression::named(&known.partition.label) == Compression::None;
        let head = if compressed_since { &self.head } else { &self.disk_head };
        known.v1.filter(|identity| identity.recognizes(head))
    }

    /// By the first bytes and the length: version 1 kept no more. In another place and under another name, the position must be the end of a line, too.
    fn judge_v1(&self, known: &Known) -> io::Result<Verdict> {
        if self.recognized_v1(known).is_none() {
            return Ok(match self.compression == Compression::None && self.length < known.next {
                true => Verdict::Other(Why::Shorter { end: self.length }),
                false => Verdict::Other(Why::Differs { at: 0 }),
            });
        }
        if !self.may_be(known) && !self.has_line_end_before(known.next)? {
            return Ok(Verdict::Other(Why::Differs { at: known.next }));
        }
        let end = (self.compression == Compression::None).then_some(self.length);
        Ok(judge(known.next, None, &Look { place: None, end, seen: &[], newest_before: None }))
    }

    fn has_line_end_before(&self, offset: u64) -> io::Result<bool> {
        let mut walk = Walk::begin(self.file.try_clone()?, self.compression)?;
        walk.to(offset)?;
        Ok(walk.at == offset && walk.tail.last() == Some(&b'\n'))
    }

    fn judge_plain(&self, key: &Key, known: &Known, evidence: &Evidence) -> io::Result<Verdict> {
        let mut end = self.length;
        let mut seen = Vec::with_capacity(evidence.witnesses.len());
        for witness in &evidence.witnesses {
            seen.push(match self.head_holds(witness) {
                Some(bytes) => present(key, bytes),
                None => {
                    let bytes = read_range(&self.file, witness.from, witness.to)?;
                    // It was cut since its length was asked.
                    if (bytes.len() as u64) < witness.to - witness.from {
                        end = end.min(witness.from + bytes.len() as u64);
                    }
                    present(key, &bytes)
                }
            });
        }
        Ok(self.verdict(known, evidence, Some(end), &seen))
    }

    fn judge_compressed(&self, key: &Key, known: &Known, evidence: &Evidence) -> io::Result<Judged> {
        if let Some(archive) = evidence.archive.as_ref().filter(|archive| archive.bytes == self.length) {
            let mut seen = Vec::with_capacity(archive.witnesses.len());
            for witness in &archive.witnesses {
                seen.push(present(key, &read_range(&self.file, witness.from, witness.to)?));
            }
            let on_disk = Evidence { place: evidence.place.clone(), witnesses: archive.witnesses.clone(), ..Evidence::default() };
            let look = Look { place: self.place_for(evidence), end: Some(self.length), seen: &seen, newest_before: None };
            let verdict = judge(archive.bytes, Some(&on_disk), &look);
            // In another place its ends say as little as those of a plain file.
            if verdict == Verdict::Same || (verdict == Verdict::Moved && evidence.body.is_none()) {
                return Ok(Judged { verdict, finished: true, body: None });
            }
        }
        // Without the same beginning nothing need be decompressed.
        if let Some(head) = evidence.witnesses.first() {
            let end = self.head.len() as u64;
            match self.head_holds(head) {
                Some(bytes) if key.mark(&[bytes]) == head.mark => {}
                // It may be a part of what was read.
                None if end > 0 => return Ok(Verdict::Other(Why::Shorter { end }).into()),
                _ => return Ok(Verdict::Other(Why::Differs { at: head.from }).into()),
            }
        }
        let mut walk = Walk::begin(self.file.try_clone()?, self.compression)?.summing(key);
        walk.to(known.next)?;
        let body = walk.body.as_ref().and_then(Body::mark);
        let seen: Vec<Seen> = evidence
            .witnesses
            .iter()
            .map(|witness| match self.head_holds(witness) {
                Some(bytes) => present(key, bytes),
                None => walk.holds(witness.from, witness.to).map_or(Seen::Gone, |bytes| present(key, bytes)),
            })
            .collect();
        let end = walk.at;
        walk.to(known.next.saturating_add(1))?;
        let verdict = self.verdict(known, evidence, Some(end), &seen);
        let body = body.filter(|_| matches!(verdict, Verdict::Same | Verdict::Moved));
        Ok(Judged { verdict, finished: walk.at == known.next, body })
    }

    fn verdict(&self, known: &Known, evidence: &Evidence, end: Option<u64>, seen: &[Seen]) -> Verdict {
        judge(known.next, Some(evidence), &Look { place: self.place_for(evidence), end, seen, newest_before: None })
    }

    /// Returns the place of the evidence if this may be it: a time of birth that one side does not know is no other place.
    fn place_for<'a>(&self, evidence: &'a Evidence) -> Option<&'a str> {
        let place = evidence.place.as_deref();
        place.filter(|place| Place::parse(place).is_some_and(|place| place.may_be(&self.place)))
    }

    fn head_holds(&self, witness: &Witness) -> Option<&[u8]> {
        let (from, to) = (usize::try_from(witness.from).ok()?, usize::try_from(witness.to).ok()?);
        self.head.get(from..to)
    }
}

/// Returns whether `head` is a KiB that a known file began with.
pub(super) fn begins_as(key: &Key, head: &[u8], known: &Known) -> bool {
    let known = known.evidence.as_ref().and_then(|evidence| evidence.witnesses.first());
    known.is_some_and(|known| known.to == EDGE_BYTES && head.len() as u64 == EDGE_BYTES && key.mark(&[head]) == known.mark)
}

/// Returns whether a plain file holds, at the end of a line near a known position, the KiB that was read last there: lines before it were added, taken
/// or changed.
pub(super) fn holds_end_of(key: &Key, file: &File, compression: Compression, known: &Known) -> io::Result<bool> {
    let last = known.evidence.as_ref().and_then(|evidence| evidence.witnesses.last());
    let Some(last) = last.filter(|last| last.to - last.from == EDGE_BYTES && compression == Compression::None) else {
        return Ok(false);
    };
    let bytes = read_range(file, last.from.saturating_sub(MOVED_BYTES_MAX), last.to.saturating_add(MOVED_BYTES_MAX))?;
    let ends = memchr::memchr_iter(b'\n', &bytes).map(|at| at + 1);
    let mut ends = ends.filter_map(|end| Some(end.checked_sub(TAIL_BYTES_MAX)?..end));
    Ok(ends.any(|range| key.mark(&[&bytes[range]]) == last.mark))
}

fn begin(file: &File, compression: Compression) -> io::Result<Vec<u8>> {
    let mut walk = Walk::begin(file.try_clone()?, compression)?;
    walk.to(EDGE_BYTES)?;
    Ok(walk.head)
}

/// Says what stands in the place of a witness.
pub(super) fn present(key: &Key, bytes: &[u8]) -> Seen {
    Seen::Present { mark: key.mark(&[bytes]), time: None, epoch: None }
}
