//! Copies of followed files, while both grow.
//!
//! Owns: when a copy is read on, and what is passed over in it.
//! Does not own: finding out that a file is a copy (see `plan`).

use std::time::Instant;

use pintail_core::error::Result;
use pintail_core::evidence::{Verdict, Why};
use pintail_core::offsets::{NoteKind, PartitionId};

use super::tail::{Stage, Tail};
use super::{Compression, Facts, Follow, Known, QUIET};
use crate::file::plan::Name;
use crate::file::reader::{FileReader, Opened};
use crate::file::survey::note;

impl Follow {
    /// Finds out whether a copy that has changed is to be read now. What its original holds is read there first; what both hold is passed over.
    pub(super) fn may_read_copy(&mut self, at: usize) -> Result<bool> {
        let Some(of) = self.tails[at].copy_of.clone() else { return Ok(true) };
        let (Some(original), Some(next)) = (self.files.positions.get(&of).cloned(), self.tails[at].next()) else {
            self.tails[at].copy_of = None;
            return Ok(true);
        };
        if self.tails[at].length() <= Some(next) {
            return Ok(true);
        }
        if original.next <= next {
            if let Some(ahead) = self.may_be_copied_from(at, &of) {
                self.tails[at].copy_of = Some(ahead);
                if !self.wait_for_each_other(at) {
                    return Ok(false);
                }
            }
            // Since it was found, more of what stands here may have been read in another file.
            let further = self.files.read_further_elsewhere(&self.examine_tail(at)?, next);
            let is_copy = further.is_some();
            self.tails[at].copy_of = further;
            return Ok(!is_copy);
        }
        let facts = self.examine_tail(at)?;
        match facts.judged(&of).map(|judged| judged.verdict) {
            Some(Verdict::Same | Verdict::Moved) => self.pass_over(at, &original, &facts).map(|()| false),
            Some(Verdict::Other(Why::Shorter { .. })) if facts.is_part_of(&of) => Ok(false),
            _ => {
                self.tails[at].copy_of = None;
                let Some(own) = self.tails[at].known().cloned() else { return Ok(true) };
                // Both may have grown alike, and parted then.
                if !self.files.pass_over_common(&own, &of, &facts)? {
                    return Ok(true);
                }
                self.tails[at].forget_unread(&self.files);
                self.reopen(at, &own, &facts).map(|()| false)
            }
        }
    }

    fn examine_tail(&self, at: usize) -> Result<Facts> {
        let tail = &self.tails[at];
        self.files.examine_open(tail.try_clone()?, &tail.path, tail.name)
    }

    /// Returns an open file with more in it that a copy may have been made of: the one that is known for that, or another of which the same was read.
    fn may_be_copied_from(&self, at: usize, of: &PartitionId) -> Option<PartitionId> {
        let known = |tail: &Tail| tail.known().and_then(|id| self.files.positions.get(id));
        let read = |tail: &Tail| Some((known(tail)?.next, &known(tail)?.evidence.as_ref()?.witnesses));
        let own = read(&self.tails[at]);
        let others = self.tails.iter().enumerate().filter(|(other, tail)| *other != at && tail.has_more());
        let same = others.filter(|(_, tail)| tail.known() == Some(of) || (own.is_some() && read(tail) == own));
        same.max_by_key(|(_, tail)| tail.known() == Some(of)).and_then(|(_, tail)| tail.known().cloned())
    }

    /// Returns whether a copy waits for one that waits for it, and is the one of them that goes first.
    fn wait_for_each_other(&self, at: usize) -> bool {
        let own = self.tails[at].known();
        let mut met = vec![own];
        let mut of = self.tails[at].copy_of.as_ref();
        while let Some(tail) = of.and_then(|of| self.tails.iter().find(|tail| tail.known() == Some(of))) {
            if met.contains(&tail.known()) {
                return tail.known() == own && met.iter().all(|other| own <= *other);
            }
            met.push(tail.known());
            of = tail.copy_of.as_ref();
        }
        false
    }

    /// Passes over what a copy holds of its original, and goes on behind it.
    fn pass_over(&mut self, at: usize, original: &Known, facts: &Facts) -> Result<()> {
        let tail = &mut self.tails[at];
        let known = tail.known().and_then(|id| self.files.positions.get(id)).cloned();
        let (Some(mut known), Some(judged)) = (known, facts.judged(original.id())) else { return Ok(()) };
        let evidence = self.files.placed(original.evidence.as_ref(), facts, judged)?;
        tail.forget_unread(&self.files);
        self.files.pass_over(&mut known, original, evidence);
        self.files.positions.put(known.clone());
        let own = known.id().clone();
        self.reopen(at, &own, facts)
    }

    /// Opens a copy at the position that it has now.
    fn reopen(&mut self, at: usize, own: &PartitionId, facts: &Facts) -> Result<()> {
        let Some(known) = self.files.positions.get(own).cloned() else { return Ok(()) };
        let tail = &mut self.tails[at];
        let (file, key) = (tail.try_clone()?, &self.files.positions.key);
        match FileReader::open(file, &tail.path, facts.compression, &known, key, self.files.record_bytes_max)? {
            Opened::Ready(reader) => {
                tail.seen = known.next;
                self.files.unread.see(&mut tail.seen, reader.length());
                tail.stage = Stage::Open(reader);
            }
            Opened::Other(_) => {
                self.lost.insert(known.id().clone());
                self.tails.remove(at);
            }
        }
        Ok(())
    }

    /// Lets go of lost positions whose content is in a copy that is open.
    pub(super) fn settle_copies_of_lost(&mut self) -> Result<()> {
        for lost in self.lost.clone() {
            let Some(known) = self.files.positions.get(&lost).cloned() else { continue };
            let mut at = 0;
            while at < self.tails.len() {
                if self.tails[at].copy_of.as_ref() != Some(&lost) {
                    at += 1;
                    continue;
                }
                self.tails[at].copy_of = None;
                let (path, name) = (self.tails[at].path.clone(), self.tails[at].name);
                let settled = self.settle_copy(at, &known);
                if self.files.or_set_aside(&path, name, settled)?.is_none() {
                    self.tails.remove(at).forget_unread(&self.files);
                }
            }
        }
        Ok(())
    }

    /// Lets go of a lost position if its content is in an open file that was a copy of it.
    fn settle_copy(&mut self, at: usize, lost: &Known) -> Result<()> {
        let facts = self.examine_tail(at)?;
        let holds = facts.judged(lost.id()).is_some_and(|judged| !matches!(judged.verdict, Verdict::Other(_)));
        if !holds || !self.lost.contains(lost.id()) {
            return Ok(());
        }
        if self.tails[at].next().is_some_and(|next| next < lost.next) {
            self.pass_over(at, lost, &facts)?;
        }
        let text = format!("`{}` holds no more what was read of it; its content is in `{}`", lost.partition.label, facts.path.display());
        self.files.forget(lost, vec![note(NoteKind::Vanished, text, None)]);
        self.lost.remove(lost.id());
        Ok(())
    }

    /// Waits with a file that holds the beginning of another and nothing else: it may be a copy in the making. What stands still is a copy.
    pub(super) fn wait_with_part(&mut self, facts: Facts, of: PartitionId) -> Result<()> {
        if facts.compression != Compression::None {
            let start = self.files.take_part(&of, &facts)?;
            return self.begin(facts, start);
        }
        let now = Instant::now();
        let (length, since) = *self.parts.entry(facts.place.inode).or_insert((facts.length, now));
        if length != facts.length {
            self.parts.insert(facts.place.inode, (facts.length, now));
        } else if now.duration_since(since) >= QUIET && facts.name == Name::Matches {
            self.parts.remove(&facts.place.inode);
            let start = self.files.take_part(&of, &facts)?;
            return self.begin(facts, start);
        }
        Ok(())
    }
}

impl Follow {
    /// Waits with a file that begins as one that vanished, and is shorter: it may be on its way back.
    pub(super) fn wait_for_return(&mut self, facts: Facts) -> Result<()> {
        let now = Instant::now();
        let (_, since) = *self.parts.entry(facts.place.inode).or_insert((facts.length, now));
        if now.duration_since(since) < QUIET {
            return Ok(());
        }
        self.parts.remove(&facts.place.inode);
        facts.warn_of_part();
        self.open_tail(facts, None, None)
    }
}

impl Tail {
    /// Returns its length; `None` if it cannot be told.
    fn length(&self) -> Option<u64> {
        self.file().metadata().ok().map(|metadata| metadata.len())
    }

    /// Returns whether it holds more than was read of it.
    fn has_more(&self) -> bool {
        let Stage::Open(reader) = &self.stage else { return false };
        reader.is_ahead() || self.length() > reader.taken()
    }

    /// Returns the next offset, once it is open.
    fn next(&self) -> Option<u64> {
        match &self.stage {
            Stage::Empty(_) => None,
            Stage::Open(reader) => Some(reader.next()),
        }
    }
}
