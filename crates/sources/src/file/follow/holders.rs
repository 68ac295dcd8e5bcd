//! Holders: files that hold what was read of a file which does not hold it any more.
//!
//! Owns: looking for copies that have a position of their own, and passing over in them what was read in the file that is gone.
//! Does not own: the search by inodes and names (see `survey`), whether the file was edited or the copy is all that is left of it (see `plan`).

use std::collections::HashSet;

use pintail_core::error::Result;
use pintail_core::evidence::Verdict;
use pintail_core::offsets::PartitionId;

use super::{Facts, Follow, Known};
use crate::file::config::Copies;
use crate::file::names;
use crate::file::plan::Name;
use crate::file::sight::Sight;
use crate::file::survey::held;

/// Files that are looked at for one that is lost. Thousands may begin alike, with the same header.
const LOOKS_MAX: usize = 1000;

impl Follow {
    /// Finds files that hold what was read at positions of which nothing was found yet. Where one may have another name at the next look, what becomes of
    /// such a position, and of the files that were compared with it, is left to that.
    pub(super) fn find_holders<'a>(&mut self, lost: impl IntoIterator<Item = &'a PartitionId>, facts: &mut Vec<Facts>) -> Result<()> {
        let held: HashSet<PartitionId> = held(facts).into_iter().cloned().collect();
        let missing: Vec<Known> =
            lost.into_iter().filter(|id| !held.contains(*id)).filter_map(|id| self.files.positions.get(id)).cloned().collect();
        for known in missing {
            let mut alike: Vec<Known> = self.files.positions.alike(&known).into_iter().cloned().collect();
            // What is the same as far as it was read most likely holds it.
            alike.sort_by_key(|other| other.next.abs_diff(known.next));
            let mut found = false;
            for other in alike.iter().take(LOOKS_MAX) {
                found |= self.look_for_holder(&known, other, found, facts)?;
            }
            if !found && self.files.is_unsettled(known.id()) {
                self.files.put_off(known.id(), facts);
            }
        }
        Ok(())
    }

    /// Looks whether the file of a position holds what was read at another one. One is enough, but for those in which that is not passed over yet.
    fn look_for_holder(&mut self, lost: &Known, other: &Known, found: bool, facts: &mut Vec<Facts>) -> Result<bool> {
        let tail = self.tails.iter().position(|tail| tail.known() == Some(other.id()));
        if found && !(tail.is_some() && other.next < lost.next) {
            return Ok(false);
        }
        let path = tail.map_or_else(|| names::path_of(&other.partition.label), |at| self.tails[at].path.clone());
        let looked = match tail {
            Some(at) => self.tails[at].try_clone().map(Some),
            None => self.files.open_file(&path),
        };
        let sight = looked.and_then(|file| file.map(|file| Sight::look(file, &path, Name::Renamed)).transpose());
        let Some(sight) = self.files.or_set_aside(&path, Name::Renamed, sight)?.flatten() else { return Ok(false) };
        let is_there = other.place().is_some_and(|place| place.may_be(&sight.place));
        let holds = |verdict: Verdict| !matches!(verdict, Verdict::Other(_));
        if !is_there || !sight.judge(&self.files.positions.key, lost).is_ok_and(|judged| holds(judged.verdict)) {
            return Ok(false);
        }
        let examined = self.files.examine_in_steps(sight.file, &path, Name::Renamed);
        let Some(found) = self.files.or_set_aside(&path, Name::Renamed, examined)?.flatten() else { return Ok(false) };
        let verdict = |known: &Known| found.judged(known.id()).map(|judged| judged.verdict);
        if verdict(other) != Some(Verdict::Same) || !verdict(lost).is_some_and(holds) {
            return Ok(false);
        }
        if let Some(at) = tail {
            let is_deleted = self.tails[at].is_deleted();
            if other.next < lost.next && self.files.copies == Copies::Skip {
                self.pass_over(at, lost, &found)?;
            }
            // What no name leads to is not there any more.
            if is_deleted {
                if !self.files.gone.miss(other) {
                    self.files.unsettled.get_or_insert_default().extend([lost.id().clone(), other.id().clone()]);
                }
                return Ok(false);
            }
        }
        if facts.iter().all(|facts| facts.place.inode != found.place.inode) {
            // Its name may be another one by now.
            facts.push(self.within_open_max(found, facts.len()));
        }
        Ok(true)
    }
}
