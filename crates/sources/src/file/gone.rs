//! Gone: files that were found, and were not there any more when another one was compared with them.
//!
//! Owns: telling one that is gone from one whose name changes at that moment, in a rotation or by being compressed.
//! Does not own: what follows for what was to be compared (see `survey`).

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::path::Path;

use pintail_core::offsets::PartitionId;

use super::discover::Found;
use super::identity::{Inode, Place};
use super::names;
use super::positions::Known;

/// What was found at a look, and which of that was missed then. A new name is there before the old one goes: the next look finds it.
#[derive(Debug, Default)]
pub(super) struct Gone {
    found: HashMap<Inode, Place>,
    /// Hashes of the inodes with their names. Thousands of paths take longer to copy.
    names: HashSet<u64>,
    hasher: RandomState,
    missed: RefCell<HashSet<PartitionId>>,
    missed_before: HashSet<PartitionId>,
}

impl Gone {
    pub(super) fn begin_look(&mut self, found: &Found) {
        let hasher = &self.hasher;
        self.found = found.places();
        self.names = found.files.iter().map(|(path, metadata)| hash(hasher, path, Inode::of(metadata))).collect();
        self.missed_before = mem::take(self.missed.get_mut());
    }

    /// Returns the files that were found.
    pub(super) fn found(&self) -> &HashMap<Inode, Place> {
        &self.found
    }

    /// Takes that a known file was missed. Returns whether it is gone: it was not found under its name before that, or was missed at the look before, too.
    pub(super) fn miss(&self, known: &Known) -> bool {
        let path = names::path_of(&known.partition.label);
        let was_found = |place: Place| {
            self.found.get(&place.inode).is_some_and(|found| place.may_be(found))
                && self.names.contains(&hash(&self.hasher, &path, place.inode))
        };
        if !known.place().is_some_and(was_found) {
            return true;
        }
        self.missed.borrow_mut().insert(known.id().clone());
        self.missed_before.contains(known.id())
    }
}

fn hash(hasher: &RandomState, path: &Path, inode: Inode) -> u64 {
    hasher.hash_one((path.as_os_str(), inode))
}
