//! Sight: what a look at a file shows, and what that says of a known position.
//!
//! Owns: looking at a file, and gathering what [`judge`] is asked with, for plain and for compressed files.
//! Does not own: which positions a file is compared with (see `positions`), what follows (see `plan`).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::identity::Place;
use super::input::{Compression, Walk, read_range};
use super::plan::Name;
use super::positions::Known;
use super::trail::EDGE_BYTES;
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Key, Look, Seen, Verdict, Why, Witness, judge};

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
}

impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, finished: false }
    }
}

impl Sight {
    /// Looks at an open file.
    pub(super) fn look(file: File, path: &Path, name: Name, compression: Compression) -> Result<Self> {
        let failed = |e| Error::io(format_args!("look at `{}`", path.display()), e);
        let metadata = file.metadata().map_err(failed)?;
        let disk_head = read_range(&file, 0, EDGE_BYTES).map_err(failed)?;
        let head = match compression {
            Compression::None => disk_head.clone(),
            // What is wrong with a damaged file is said when it is read.
            Compression::Gzip | Compression::Zstd => begin(&file, compression).unwrap_or_default(),
        };
        // The length was asked first: a file that grew in between shows a beginning that is longer, never one that is missing.
        let length = metadata.len().max(disk_head.len() as u64);
        Ok(Self { path: path.to_owned(), name, place: Place::of(&metadata), file, length, compression, head, disk_head })
    }

    /// Returns what messages call the file.
    pub(super) fn label(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Judges a known position by what the file holds.
    pub(super) fn judge(&self, key: &Key, known: &Known) -> io::Result<Judged> {
        let Some(evidence) = known.evidence.as_deref() else { return Ok(self.judge_v1(known).into()) };
        match self.compression {
            Compression::None => self.judge_plain(key, known, evidence).map(Judged::from),
            Compression::Gzip | Compression::Zstd => self.judge_compressed(key, known, evidence),
        }
    }

    /// By the first bytes and the length alone: version 1 kept no more.
    fn judge_v1(&self, known: &Known) -> Verdict {
        if !known.v1.is_some_and(|identity| identity.recognizes(&self.disk_head)) {
            return match self.compression == Compression::None && self.length < known.next {
                true => Verdict::Other(Why::Shorter { end: self.length }),
                false => Verdict::Other(Why::Differs { at: 0 }),
            };
        }
        let end = (self.compression == Compression::None).then_some(self.length);
        judge(known.next, None, &Look { place: None, end, seen: &[], newest_before: None })
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
            if matches!(verdict, Verdict::Same | Verdict::Moved) {
                return Ok(Judged { verdict, finished: true });
            }
        }
        // Without the same beginning nothing need be decompressed.
        if let Some(head) = evidence.witnesses.first()
            && self.head_holds(head).is_none_or(|bytes| key.mark(&[bytes]) != head.mark)
        {
            return Ok(Verdict::Other(Why::Differs { at: head.from }).into());
        }
        let mut walk = Walk::begin(self.file.try_clone()?, self.compression)?;
        walk.to(known.next)?;
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
        Ok(Judged { verdict, finished: walk.at == known.next })
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

fn begin(file: &File, compression: Compression) -> io::Result<Vec<u8>> {
    let mut walk = Walk::begin(file.try_clone()?, compression)?;
    walk.to(EDGE_BYTES)?;
    Ok(walk.head)
}

/// Says what stands in the place of a witness.
pub(super) fn present(key: &Key, bytes: &[u8]) -> Seen {
    Seen::Present { mark: key.mark(&[bytes]), time: None, epoch: None }
}
