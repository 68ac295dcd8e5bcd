//! Parts: a file that was cut, beside another that holds all that was read of it.
//!
//! Owns: finding out that what is left of such a file is the beginning of the other.
//! Does not own: a file whose original is still in its place (see `whole`), what becomes of a part (see `plan`, `copies`).

use pintail_core::error::{Error, Result};
use pintail_core::evidence::{Verdict, Why};

use super::Facts;
use crate::file::Files;
use crate::file::plan::{Pair, SeenFile};
use crate::file::positions::Known;

impl Files {
    /// Finds out which files hold a first part of what was read and is in another file now. Below a KiB it was read in their place or under their name.
    pub(super) fn tell_parts(&self, known: &[&Known], facts: &[Facts], seen: &mut [SeenFile]) -> Result<()> {
        let mut parts = Vec::new();
        for (at, file) in seen.iter().enumerate().filter(|(_, file)| !file.pairs.iter().any(|pair| pair.prefix)) {
            for pair in file.pairs.iter().filter(|pair| matches!(pair.verdict, Verdict::Other(Why::Shorter { .. }))) {
                let position = known[pair.known];
                let own = position.place().is_some_and(|place| place.may_be(&file.place)) || *position.partition.label == *file.label;
                let holds = |other: &SeenFile| other.pairs.iter().any(|other| other.known == pair.known && is_held(other));
                let holder = seen.iter().position(|other| (own || pair.shares) && other.place.inode != file.place.inode && holds(other));
                let Some(holder) = holder else { continue };
                if self.is_beginning_of(&facts[at], &facts[holder], position.next)? {
                    // Its own position is over; what stays is the one that the other file is read on at.
                    let stays =
                        seen[holder].pairs.iter().find(|other| other.verdict == Verdict::Same).map_or(pair.known, |same| same.known);
                    parts.push((at, Pair { known: stays, prefix: true, ..*pair }));
                }
            }
        }
        parts.into_iter().for_each(|(at, part)| seen[at].pairs.push(part));
        Ok(())
    }

    /// Returns whether a file ends before an offset, up to which another one holds the same.
    fn is_beginning_of(&self, part: &Facts, whole: &Facts, offset: u64) -> Result<bool> {
        let walk = |facts: &Facts, offset| facts.with_file(|file| self.walk(file, facts.place, facts.compression, offset));
        let compare = || {
            let part = walk(part, offset)?;
            Ok::<_, Error>(part.at > 0 && part.at < offset && part == walk(whole, part.at)?)
        };
        match compare() {
            // What is wrong with a damaged file is said when it is read.
            Err(e) if e.os_error().is_none() => Ok(false),
            compared => compared,
        }
    }
}

fn is_held(pair: &Pair) -> bool {
    matches!(pair.verdict, Verdict::Same | Verdict::Moved)
}
