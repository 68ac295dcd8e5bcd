//! Whole contents: a file is one with another only if all that was read stands in it, not its ends alone.
//!
//! Owns: comparing the bodies of files with those that are known, and with files that are still there.
//! Does not own: the ends (see `sight`), reading bodies (see `bodies`), what follows (see `plan`).

use std::collections::BTreeSet;
use std::fs::File;
use std::io;

use pintail_core::error::Error;
use pintail_core::evidence::{Mark, Verdict, Why};

use crate::compression::Compression;
use crate::file::bodies::{Marks, Patience, end_of_body};
use crate::file::discover::open;
use crate::file::identity::Place;
use crate::file::input::{Walk, read_range};
use crate::file::plan::Name;
use crate::file::positions::Known;
use crate::file::sight::{Judged, Sight};
use crate::file::trail::EDGE_BYTES;
use crate::file::walk::is_missing;
use crate::file::{Files, names};

impl Files {
    /// Returns the bodies of a plain file before the offsets up to which it may hold what was read elsewhere; `None` if it takes more than one look.
    pub(super) fn bodies_of(&self, sight: &Sight, judged: &[(&Known, Judged)], patience: Patience) -> io::Result<Option<Marks>> {
        if sight.compression != Compression::None {
            return Ok(Some(Marks::new()));
        }
        let known = judged.iter().filter(|(known, judged)| judged.verdict == Verdict::Moved || self.touched.contains(known.id()));
        let known = known.map(|(known, _)| known.next).filter(|next| *next <= sight.length);
        let remembered = self.positions.fingerprints.begun_as(&sight.head).into_iter().map(|(_, fingerprint)| fingerprint.to);
        let offsets: BTreeSet<u64> = known.chain(remembered.filter(|to| *to <= sight.length)).collect();
        self.bodies.borrow_mut().before(&sight.file, sight.place, &offsets, patience)
    }

    /// Returns what a position is worth in a file in another place: all that was read must stand there. `None` if it takes more than one look.
    pub(super) fn confirm(
        &self,
        sight: &Sight,
        known: &Known,
        judged: Judged,
        bodies: &Marks,
        patience: Patience,
    ) -> io::Result<Option<Judged>> {
        // The first KiB is all of what is shorter. Compressed content has its body from the walk through it.
        let is_touched = judged.verdict == Verdict::Same && self.touched.contains(known.id());
        let is_suspect = judged.verdict == Verdict::Moved || judged.body.is_some() || is_touched;
        if !is_suspect || known.next < EDGE_BYTES {
            return Ok(Some(judged));
        }
        let body = judged.body.or_else(|| bodies.get(&end_of_body(known.next)).copied());
        let read = known.evidence.as_ref().and_then(|evidence| evidence.body);
        let confirmed = Judged { body, ..judged };
        if body.is_some() && body == read {
            return Ok(Some(confirmed));
        }
        // One that was edited in its place without being noticed, or read by an earlier version, is compared as it is now.
        let differs = Judged::from(Verdict::Other(Why::Differs { at: 0 }));
        Ok(match self.body_of_original(sight, known, patience)? {
            Original::Unsettled => None,
            Original::There(original) => Some(if original.is_some() && original == body { confirmed } else { differs }),
            Original::Gone if read.is_none() => Some(confirmed),
            Original::Gone => Some(differs),
        })
    }

    /// Returns the body of a known file, if it is still in its place, and plain.
    fn body_of_original(&self, sight: &Sight, known: &Known, patience: Patience) -> io::Result<Original> {
        let path = names::path_of(&known.partition.label);
        let original = match open(&path, &self.patterns.disk) {
            Err(e) if is_missing(&e) => return Ok(if self.is_gone(known, patience) { Original::Gone } else { Original::Unsettled }),
            Err(e) if e.raw_os_error().is_none() => return Ok(Original::Gone),
            original => original?,
        };
        let place = Place::of(&original.metadata()?);
        let is_it = place.inode != sight.place.inode && known.place().is_some_and(|known| known.may_be(&place));
        let head = read_range(&original, 0, EDGE_BYTES)?;
        if !is_it || Compression::tell(&head, &known.partition.label) != Compression::None {
            return Ok(Original::Gone);
        }
        let marks = self.bodies.borrow_mut().before(&original, place, &[known.next].into(), patience)?;
        Ok(marks.map_or(Original::Unsettled, |marks| Original::There(marks.values().next().copied())))
    }

    /// Returns whether all that a file holds stands at the beginning of a known one; `None` if that one may have another name at the next look.
    ///
    /// # Errors
    /// The system's: whether it does cannot be known then. A known file that is gone or damaged holds nothing.
    pub(super) fn is_prefix(&self, sight: &Sight, known: &Known, patience: Patience) -> io::Result<Option<bool>> {
        match self.compare_as_prefix(sight, known) {
            // What became of one is found out first of which this one held a part before.
            Err(e) if is_missing(&e) && patience == Patience::Step && self.positions.is_part(&sight.place, known.id()) => Ok(None),
            Err(e) if is_missing(&e) => Ok(self.is_gone(known, patience).then_some(false)),
            Err(e) if e.raw_os_error().is_none() => Ok(Some(false)),
            compared => compared.map(Some),
        }
    }

    /// Returns whether a file that is missed under its name has no other.
    fn is_gone(&self, known: &Known, patience: Patience) -> bool {
        patience == Patience::All || self.gone.miss(known)
    }

    fn compare_as_prefix(&self, sight: &Sight, known: &Known) -> io::Result<bool> {
        let label = &*known.partition.label;
        let other = open(&names::path_of(label), &self.patterns.disk)?;
        let place = Place::of(&other.metadata()?);
        if place.inode == sight.place.inode {
            return Ok(false);
        }
        if !known.place().is_some_and(|known| known.may_be(&place)) {
            // Another file has its name: saved by an editor, or restored, it holds the same.
            let saved = Sight::look(other.try_clone()?, &names::path_of(label), Name::Matches)
                .map_err(|e: Error| e.os_error().map_or_else(|| io::Error::other(e), io::Error::from_raw_os_error))?;
            if matches!(saved.judge(&self.positions.key, known)?.verdict, Verdict::Other(_)) {
                return Ok(false);
            }
        }
        let own = self.walk(&sight.file, sight.place, sight.compression, known.next.min(sight.seen_to()))?;
        let compression = Compression::tell(&read_range(&other, 0, EDGE_BYTES)?, label);
        let other = self.walk(&other, place, compression, own.at)?;
        Ok(own.at > 0 && own.at < known.next && own == other)
    }

    /// Walks to an offset, or to the end if that comes before.
    pub(super) fn walk(&self, file: &File, place: Place, compression: Compression, offset: u64) -> io::Result<Walked> {
        let mut walk = Walk::begin(file.try_clone()?, compression)?.summing(&self.positions.key);
        walk.to(offset)?;
        let body = match &walk.body {
            Some(body) => body.mark(),
            None => self.body_before(file, place, walk.at)?,
        };
        Ok(Walked { at: walk.at, head: walk.head, tail: walk.tail, body })
    }

    /// Returns the body of a plain file before an offset, however long that takes.
    pub(in crate::file) fn body_before(&self, file: &File, place: Place, offset: u64) -> io::Result<Option<Mark>> {
        let marks = self.bodies.borrow_mut().before(file, place, &[offset].into(), Patience::All)?;
        Ok(marks.and_then(|marks| marks.values().next().copied()))
    }
}

/// The content of a file up to an offset.
#[derive(PartialEq, Eq)]
pub(super) struct Walked {
    pub(super) at: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
    body: Option<Mark>,
}

/// A known file, looked for in its place.
enum Original {
    Gone,
    /// It is there, with this body before the position; without one it is shorter.
    There(Option<Mark>),
    /// It takes more than one look.
    Unsettled,
}
