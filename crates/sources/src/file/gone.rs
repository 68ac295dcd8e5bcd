//! Gone: files that were found, and were not there any more when another one was compared with them.
//!
//! Owns: telling one that is gone from one whose name changes at that moment, in a rotation or by being compressed.
//! Does not own: what follows for what was to be compared (see `survey`).

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::mem;

use pintail_core::offsets::PartitionId;

use super::discover::Found;
use super::identity::{Inode, Place};
use super::positions::Known;

/// What was found at a look, and which of that was missed then. A new name is there before the old one goes: the next look finds it.
#[derive(Debug, Default)]
pub(super) struct Gone {
    found: HashMap<Inode, Place>,
    missed: RefCell<HashSet<PartitionId>>,
    missed_before: HashSet<PartitionId>,
}

impl Gone {
    pub(super) fn begin_look(&mut self, found: &Found) {
        self.found = found.places();
        self.missed_before = mem::take(self.missed.get_mut());
    }

    /// Returns the files that were found.
    pub(super) fn found(&self) -> &HashMap<Inode, Place> {
        &self.found
    }

    /// Takes that a known file was missed under its name. Returns whether it is gone: it was not found under any before, or was missed at the look before, too.
    pub(super) fn miss(&self, known: &Known) -> bool {
        let was_found = |place: Place| self.found.get(&place.inode).is_some_and(|found| place.may_be(found));
        if !known.place().is_some_and(was_found) {
            return true;
        }
        self.missed.borrow_mut().insert(known.id().clone());
        self.missed_before.contains(known.id())
    }
}
