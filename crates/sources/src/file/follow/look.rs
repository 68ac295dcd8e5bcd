//! Look: which files have the names now, and what that makes of those that are open.
//!
//! Owns: taking what was found, file by file; which positions are searched for; which open files are over.
//! Does not own: when a look is due and how a file is begun (see [`super`]), the decision on a position (see `survey`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::Metadata;
use std::path::PathBuf;
use std::time::Instant;

use pintail_core::error::Result;
use pintail_core::offsets::PartitionId;

use super::archives::{Archive, ArchiveState};
use super::{Compression, Facts, Follow, Found, Holder, Inode, Name, QUIET, Start, Stray};

/// What a look at the names has come by so far.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) facts: Vec<Facts>,
    pub(super) archives: HashMap<PathBuf, Archive>,
    /// Positions of files that are as they were.
    pub(super) held: HashSet<PartitionId>,
    /// Files that are open, or to be opened.
    pub(super) followed: HashSet<Inode>,
    /// Files that were looked at.
    pub(super) examined: HashSet<Inode>,
    pub(super) to_open: usize,
}

impl Follow {
    /// Looks at the names, and at what became of positions that lost their file.
    pub(super) fn look_again(&mut self) -> Result<()> {
        let found = self.files.find()?;
        // What waited has another name now, or is gone: that is found out before its old name is taken by another file.
        let strays = self.files.aside.take_strays(&found.files);
        self.files.take_failed(&found);
        if self.searched.elapsed() >= QUIET {
            self.searched = Instant::now();
            self.miss_closed(&found)?;
        }
        self.take_found(found, strays)
    }

    /// Takes what a look at the names has found.
    pub(super) fn take_found(&mut self, found: Found, strays: Vec<Stray>) -> Result<()> {
        self.files.begin_look(&found);
        self.files.sketch_crowds();
        let mut look = Look::default();
        look.facts = self.take_begun(&mut look.archives)?;
        self.look_for_strays(strays, &found, &mut look.facts)?;
        look.examined = look.facts.iter().map(|facts| facts.place.inode).collect();
        let named = self.take_names(&found);
        look.followed = self.tails.iter().map(|tail| tail.place.inode).collect();
        self.forget_waiting();
        self.lost.extend(self.idle.take_missing(self.files.gone.found()));
        for (path, metadata) in found.files {
            self.take_file(path, &metadata, &mut look)?;
        }
        // The time in which its writer may leave a file begins when its name goes, however long nothing was written before.
        let rotated = self.tails.iter_mut().zip(named).filter(|(tail, named)| *named && tail.name == Name::Renamed);
        rotated.for_each(|(tail, _)| tail.last_read = self.looked);
        self.archives = look.archives;
        self.parts.retain(|inode, _| look.examined.contains(inode));
        self.take_facts(look.facts, look.held)?;
        self.check_count()
    }

    /// Takes under which names the open files were found: what is compared with them is looked for there. Returns which of them had a name that matches
    /// before.
    fn take_names(&mut self, found: &Found) -> Vec<bool> {
        let named = self.tails.iter_mut().map(|tail| std::mem::replace(&mut tail.name, Name::Renamed) == Name::Matches).collect();
        let tails: HashMap<Inode, usize> = self.tails.iter().enumerate().map(|(at, tail)| (tail.place.inode, at)).collect();
        for (path, metadata) in &found.files {
            if let Some(tail) = tails.get(&Inode::of(metadata)).and_then(|at| self.tails.get_mut(*at)) {
                tail.take_name(path, &mut self.files);
            }
        }
        named
    }

    /// Looks at a file that was found, unless it is open or as it was.
    fn take_file(&mut self, path: PathBuf, metadata: &Metadata, look: &mut Look) -> Result<()> {
        let inode = Inode::of(metadata);
        if look.followed.contains(&inode) {
            return Ok(());
        }
        if self.archives.get(&path).is_some_and(|archive| archive.inode == inode) {
            return self.take_archive(path, metadata, look);
        }
        if self.idle.holds(&path, metadata) {
            look.held.extend(self.idle.known(&inode));
            return Ok(());
        }
        if self.files.aside.waits(&path, metadata) || look.examined.contains(&inode) {
            return Ok(());
        }
        if self.waits_for_return_still(&inode, metadata) {
            look.examined.insert(inode);
            return Ok(());
        }
        if self.lost.is_empty() && look.to_open >= self.idle.open_max() {
            // As many as could be opened at once: the others need not be looked at again each time.
            self.let_wait();
            return Ok(());
        }
        let Some(found) = self.files.examine_or_set_aside(&path, Name::Matches)? else { return Ok(()) };
        // Between the look and the opening the name may have passed to a file that is followed already.
        if look.followed.contains(&found.place.inode) {
            return Ok(());
        }
        if found.compression != Compression::None {
            look.archives.insert(path, Archive { inode, length: metadata.len(), state: ArchiveState::Settling });
            // What was lost may be in it.
            look.facts.extend((!self.lost.is_empty()).then(|| found.closed()));
            return Ok(());
        }
        look.followed.insert(found.place.inode);
        look.examined.insert(found.place.inode);
        // One that waits for what it may be a part of takes no descriptor.
        look.to_open += usize::from(!self.parts.contains_key(&found.place.inode));
        look.facts.push(self.within_open_max(found, look.facts.len()));
        Ok(())
    }

    /// Decides on files that nobody holds open, and begins to read them.
    fn take_facts(&mut self, mut facts: Vec<Facts>, mut held: HashSet<PartitionId>) -> Result<()> {
        if facts.is_empty() && self.lost.is_empty() {
            return Ok(());
        }
        let mut lost = std::mem::take(&mut self.lost);
        lost.extend(self.written_again(&facts).into_iter().filter(|known| !held.contains(known)));
        if !lost.is_empty() {
            self.files.search_missing(&mut facts, Some(&lost))?;
            // One that was passed over, since its length does not stand still yet, has a name that matches.
            let passed_over = facts.iter_mut().filter(|facts| self.archives.contains_key(&facts.path));
            passed_over.for_each(|facts| facts.name = Name::Matches);
            self.find_holders(&lost, &mut facts)?;
        }
        for tail in self.tails.iter().filter(|tail| tail.name == Name::Matches || !tail.is_deleted()) {
            held.extend(tail.known().cloned());
        }
        let nameless = self.replaced(&facts);
        if !nameless.is_empty() {
            self.look_at_settling(&mut facts)?;
            self.files.search_missing(&mut facts, Some(&nameless))?;
            self.find_holders(&nameless, &mut facts)?;
        }
        let mut holders: HashMap<PartitionId, Holder> = nameless.iter().map(|id| (id.clone(), Holder::Nameless)).collect();
        holders.extend(lost.iter().map(|id| (id.clone(), Holder::Wanted)));
        holders.extend(held.into_iter().map(|id| (id, Holder::Open)));
        let starts = self.files.decide(&mut facts, &holders, Holder::Unsearched)?;
        // What was found for them is compared further at the next look, which is at once.
        self.lost.extend(lost.into_iter().filter(|lost| self.files.is_unsettled(lost)));
        self.drop_edited(&nameless);
        self.drop_found_again(&starts);
        facts.into_iter().zip(starts).try_for_each(|(facts, start)| self.begin(facts, start))
    }

    /// Returns the open files that have no name any more, since these took them.
    fn replaced(&self, by: &[Facts]) -> BTreeSet<PartitionId> {
        let by: HashSet<&PathBuf> = by.iter().map(|facts| &facts.path).collect();
        let nameless = self.tails.iter().filter(|tail| by.contains(&tail.path) && tail.is_deleted());
        nameless.filter_map(|tail| tail.known().cloned()).collect()
    }

    /// Closes those of some open files whose positions are over: an edited file took their place.
    fn drop_edited(&mut self, some: &BTreeSet<PartitionId>) {
        let over: HashSet<PartitionId> = some.iter().filter(|known| self.files.positions.get(known).is_none()).cloned().collect();
        self.drop_tails(&over.iter().collect());
    }

    /// Closes open files that were deleted and whose content is in a file that is begun now.
    fn drop_found_again(&mut self, starts: &[Start]) {
        let known = starts.iter().filter_map(|start| match start {
            Start::At { known, .. } | Start::Finished(known) => Some(known),
            _ => None,
        });
        self.drop_tails(&known.collect());
    }

    fn drop_tails(&mut self, over: &HashSet<&PartitionId>) {
        let files = &self.files;
        self.tails
            .extract_if(.., |tail| tail.known().is_some_and(|known| over.contains(known)))
            .for_each(|mut tail| tail.forget_unread(files));
    }
}
