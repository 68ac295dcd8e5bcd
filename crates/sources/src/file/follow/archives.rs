//! Compressed files that are followed: when one is read.
//!
//! Owns: waiting until its length stands still, and noticing that it was written again.
//! Does not own: reading it (see `read_once`), one that is damaged (see `aside`).

use std::collections::HashSet;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use pintail_core::error::Result;
use pintail_core::offsets::PartitionId;

use super::{Compression, Facts, Follow, Inode, Known, Look, Name, Place, Turn};
use crate::file::names;

/// A compressed file.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) inode: Inode,
    pub(super) length: u64,
    pub(super) state: ArchiveState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ArchiveState {
    /// Seen with this length once: it may still be written.
    Settling,
    /// Read, or about to be.
    Taken,
}

impl Follow {
    /// Takes a compressed file for reading if its length stands still. Returns whether it is to be looked at: it was not yet, or it could not be read
    /// and its pause is over, or what was lost may be in it.
    fn settle(&self, path: &Path, metadata: &Metadata) -> (Archive, bool) {
        let (inode, length) = (Inode::of(metadata), metadata.len());
        let known = self.archives.get(path).filter(|known| known.inode == inode && known.length == length);
        let state = known.map_or(ArchiveState::Settling, |_| ArchiveState::Taken);
        let is_new = known.is_some_and(|known| known.state == ArchiveState::Settling);
        let is_due = match self.files.aside.holds(path) {
            true => known.is_some() && !self.files.aside.waits(path, metadata),
            false => is_new || (!self.lost.is_empty() && state == ArchiveState::Settling),
        };
        (Archive { inode, length, state }, is_due)
    }

    /// Looks at a compressed file that was found again, if that is due.
    pub(super) fn take_archive(&mut self, path: PathBuf, metadata: &Metadata, look: &mut Look) -> Result<()> {
        let (archive, is_due) = self.settle(&path, metadata);
        if is_due {
            look.facts.extend(self.files.examine_or_set_aside(&path, Name::Matches)?.map(Facts::closed));
        } else if archive.state == ArchiveState::Taken {
            look.held.extend(self.files.positions.at(&Place::of(metadata)).map(|known| known.id().clone()));
        }
        look.archives.insert(path, archive);
        Ok(())
    }

    /// Looks at compressed files before their lengths stand still: what has no name any more may be in one.
    pub(super) fn look_at_settling(&mut self, facts: &mut Vec<Facts>) -> Result<()> {
        let seen: HashSet<Inode> = facts.iter().map(|facts| facts.place.inode).collect();
        let is_settling = |archive: &Archive| archive.state == ArchiveState::Settling && !seen.contains(&archive.inode);
        let paths: Vec<PathBuf> = self.archives.iter().filter(|(_, archive)| is_settling(archive)).map(|(path, _)| path.clone()).collect();
        for path in paths {
            facts.extend(self.files.examine_or_set_aside(&path, Name::Matches)?.map(Facts::closed));
        }
        Ok(())
    }

    /// Returns whether what a compressed file is a copy of is open and has more in it, which is read there first.
    pub(super) fn waits_for_original(&self, turn: &Turn) -> bool {
        let Some(of) = turn.copy_of() else { return false };
        let original = self.tails.iter().find(|tail| tail.known() == Some(of));
        original.is_some_and(|tail| tail.has_more() && !self.is_read_further(tail))
    }

    /// Looks again later at a compressed file that another one begins as.
    pub(super) fn settle_again(&mut self, facts: &Facts) -> Result<()> {
        if let Some(archive) = self.archives.get_mut(&facts.path) {
            archive.state = ArchiveState::Settling;
        }
        Ok(())
    }

    /// Returns what was read of compressed files that have other bytes now, or whose names others have: nobody holds those open.
    pub(super) fn written_again(&self, files: &[Facts]) -> Vec<PartitionId> {
        let named = |facts: &Facts| {
            let known = self.files.positions.named(&names::label_of(&facts.path)).into_iter();
            let was_compressed = |known: &&Known| known.evidence.as_ref().is_some_and(|evidence| evidence.archive.is_some());
            known.filter(|known| facts.compression != Compression::None || was_compressed(known)).map(|known| known.id().clone()).collect()
        };
        files.iter().flat_map(|facts| -> Vec<PartitionId> { named(facts) }).collect()
    }
}
