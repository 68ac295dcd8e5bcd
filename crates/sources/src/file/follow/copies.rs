//! Copies of followed files, while both grow.
//!
//! Owns: when a copy is read on, and what is passed over in it.
//! Does not own: finding out that a file is a copy (see `plan`).

use std::fs::Metadata;
use std::time::Instant;

use pintail_core::error::Result;
use pintail_core::evidence::{Verdict, Why};
use pintail_core::offsets::PartitionId;

use super::tail::{Stage, Tail};
use super::{Compression, Facts, Follow, Inode, Known, QUIET};
use crate::file::plan::Name;
use crate::file::reader::{FileReader, Opened};
use crate::file::sight::Sight;
use crate::file::survey::end_of_lines;
use crate::file::trail::EDGE_BYTES;

/// A file that holds a part of another, or may.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    length: u64,
    /// When it was written last, as far as that was seen.
    pub(super) since: Instant,
    /// Whether it may be one that vanished, on its way back: nothing but its own length decides.
    returns: bool,
}

impl Follow {
    /// Finds out whether a copy that has changed is to be read now. What its original holds is read there first; what both hold is passed over.
    pub(super) fn may_read_copy(&mut self, at: usize) -> Result<bool> {
        let tail = &self.tails[at];
        let (Some(of), Some(own), Some(next)) = (tail.copy_of.clone(), tail.known().cloned(), tail.next()) else { return Ok(true) };
        if tail.length() <= Some(next) {
            return Ok(true);
        }
        if !self.may_be_read_elsewhere(&of, &own, next) && self.may_be_copied_from(at, &of).is_none() {
            return Ok(true);
        }
        let facts = self.examine_tail(at)?;
        // Reading says that it was rewritten.
        if facts.judged(&own).is_some_and(|judged| matches!(judged.verdict, Verdict::Other(_))) {
            return Ok(true);
        }
        let Some(original) = self.files.positions.get(&of).cloned() else { return Ok(self.is_new(at, next, &facts)) };
        if original.next <= next {
            if let Some(ahead) = self.may_be_copied_from(at, &of) {
                self.tails[at].copy_of = Some(ahead);
                if !self.is_first_in_circle(at) {
                    return Ok(false);
                }
            }
            return Ok(self.is_new(at, next, &facts));
        }
        match facts.judged(&of).map(|judged| judged.verdict) {
            Some(Verdict::Same | Verdict::Moved) => self.pass_over(at, &original, &facts)?,
            Some(Verdict::Other(Why::Shorter { .. })) if facts.is_part_of(&of) => self.pass_over_part(at, &of, &facts)?,
            // What became of the original is found out first: what both hold may be in another file now.
            _ if self.is_changing(&original)? => {}
            // Both may have grown alike, and parted then.
            _ if self.pass_over_common(&own, &of, &facts)? => {
                let next = self.files.positions.get(&own).map(|known| known.next);
                if self.tails[at].holds_line_behind(next) {
                    self.tails[at].copy_of = None;
                }
                self.tails[at].forget_unread(&self.files);
                self.reopen(at, &own, &facts)?;
            }
            _ => return Ok(self.is_new(at, next, &facts)),
        }
        Ok(false)
    }

    /// Returns whether nothing of what stands behind the position in a copy was read elsewhere. Otherwise it is a copy of that: since it was found, more
    /// of it may have been read in another file. And what it has more now, another one may get as well, as long as the two have not parted.
    fn is_new(&mut self, at: usize, next: u64, facts: &Facts) -> bool {
        let further = self.files.read_further_elsewhere(facts, next);
        let is_new = further.is_none();
        self.relate(at, further.or_else(|| self.files.longest_within(facts, self.tails[at].known())));
        is_new
    }

    /// Takes of which file one is a copy. Either of them may get more first.
    pub(super) fn relate(&mut self, at: usize, of: Option<PartitionId>) {
        let own = self.tails[at].known().cloned();
        if let Some(original) = self.tails.iter_mut().find(|tail| of.is_some() && tail.known() == of.as_ref())
            && original.copy_of.is_none()
        {
            original.copy_of = own;
        }
        self.tails[at].copy_of = of;
    }

    /// Returns whether a file is a copy of another that was read further: it waits for what becomes of that.
    pub(super) fn is_read_further(&self, tail: &Tail) -> bool {
        let next = |id: &PartitionId| self.files.positions.get(id).map(|known| known.next);
        tail.copy_of.as_ref().is_some_and(|of| next(of) > tail.next())
    }

    /// Returns whether more than a copy was read to may have been read elsewhere. Most of the time none was, and nothing need be compared.
    fn may_be_read_elsewhere(&self, of: &PartitionId, own: &PartitionId, next: u64) -> bool {
        let (Some(_), Some(own)) = (self.files.positions.get(of), self.files.positions.get(own)) else { return true };
        // Below a KiB another one that got more begins otherwise.
        next < EDGE_BYTES || self.files.positions.alike(own).iter().any(|other| other.next > next)
    }

    /// Returns whether a file holds no more what was read of it, and that is still to be taken up: in its turn, or at the next look.
    fn is_changing(&self, known: &Known) -> Result<bool> {
        if self.lost.contains(known.id()) {
            return Ok(true);
        }
        let Some(tail) = self.tails.iter().find(|tail| tail.known() == Some(known.id())) else {
            return Ok(self.idle.has_changed(known.id()));
        };
        if tail.changed()?.is_none() {
            return Ok(false);
        }
        let sight = Sight::look(tail.try_clone()?, &tail.path, tail.name)?;
        let judged = sight.judge(&self.files.positions.key, known).map_err(|e| tail.failed("look at", e))?;
        Ok(matches!(judged.verdict, Verdict::Other(_)))
    }

    fn pass_over_common(&mut self, own: &PartitionId, of: &PartitionId, facts: &Facts) -> Result<bool> {
        let original = self.tails.iter().find(|tail| tail.known() == Some(of));
        let open = original.map(Tail::try_clone).transpose()?;
        self.files.pass_over_common(own, of, facts, open)
    }

    fn examine_tail(&self, at: usize) -> Result<Facts> {
        let tail = &self.tails[at];
        self.files.examine_open(tail.try_clone()?, &tail.path, tail.name)
    }

    /// Returns an open file with more in it that a copy may have been made of: the one that is known for that, or another of which the same was read.
    fn may_be_copied_from(&self, at: usize, of: &PartitionId) -> Option<PartitionId> {
        let known = |tail: &Tail| tail.known().and_then(|id| self.files.positions.get(id));
        let read = |tail: &Tail| {
            let (known, evidence) = (known(tail)?, known(tail)?.evidence.as_ref()?);
            Some((known.next, &evidence.witnesses, evidence.body))
        };
        let own = read(&self.tails[at]);
        // An open line is never given: a file without a whole one may be a part of another, and wait for that.
        let has_more = |tail: &Tail| tail.has_more() && tail.holds_line_behind(self.tails[at].next());
        let others = self.tails.iter().enumerate().filter(|(other, _)| *other != at);
        let same = others.filter(|(_, tail)| tail.known() == Some(of) || (own.is_some() && read(tail) == own));
        same.filter(|(_, tail)| has_more(tail)).max_by_key(|(_, tail)| tail.known() == Some(of)).and_then(|(_, tail)| tail.known().cloned())
    }

    /// Returns whether files are copies of each other in a circle, of which this one is read first: by the order of their ids.
    fn is_first_in_circle(&self, at: usize) -> bool {
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
    pub(super) fn pass_over(&mut self, at: usize, original: &Known, facts: &Facts) -> Result<()> {
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

    /// Passes over what stands in a file that holds a part of its original, once its length stands still: one in the making grows from look to look.
    /// The original may go before there is more.
    fn pass_over_part(&mut self, at: usize, of: &PartitionId, facts: &Facts) -> Result<()> {
        let tail = &mut self.tails[at];
        if tail.part_length.replace(facts.length) != Some(facts.length) {
            return Ok(());
        }
        let Some(own) = tail.known().cloned() else { return Ok(()) };
        if !self.files.pass_over_part(&own, of, facts)? {
            return Ok(());
        }
        tail.forget_unread(&self.files);
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

    /// Waits with a file that holds the beginning of another and nothing else: it may be a copy in the making. What stands still is a copy; below a KiB
    /// it may be another file whose second line is still to come.
    pub(super) fn wait_with_part(&mut self, facts: Facts, of: PartitionId) -> Result<()> {
        if facts.compression != Compression::None {
            let start = self.files.take_part(&of, &facts)?;
            return self.begin(facts, start);
        }
        let now = Instant::now();
        let Some(Part { length, since, .. }) = self.parts.get(&facts.place.inode).copied().filter(|part| part.length == facts.length)
        else {
            self.parts.insert(facts.place.inode, Part { length: facts.length, since: written_at(&facts, now), returns: false });
            return Ok(());
        };
        if (length >= EDGE_BYTES || now.duration_since(since) >= QUIET) && facts.name == Name::Matches {
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
        let seen = || Part { length: facts.length, since: written_at(&facts, now), returns: true };
        let part = self.parts.entry(facts.place.inode).or_insert_with(seen);
        (part.length, part.returns) = (facts.length, true);
        if now.duration_since(part.since) < QUIET {
            return Ok(());
        }
        self.parts.remove(&facts.place.inode);
        facts.warn_of_part();
        self.open_tail(facts, None, None)
    }

    /// Returns whether a file that begins as one that vanished is to be waited for, and has not changed.
    pub(super) fn waits_for_return_still(&self, inode: &Inode, metadata: &Metadata) -> bool {
        let part = self.parts.get(inode).filter(|part| part.returns && part.length == metadata.len());
        part.is_some_and(|part| part.since.elapsed() < QUIET)
    }
}

/// Returns when a file was written last, as far as that is of interest: what has stood still for long need not do so again after each start.
fn written_at(facts: &Facts, now: Instant) -> Instant {
    // A time in the future says nothing.
    let still = facts.with_file(|file| file.metadata()?.modified()).ok().and_then(|modified| modified.elapsed().ok());
    now.checked_sub(still.unwrap_or_default().min(QUIET)).unwrap_or(now)
}

impl Tail {
    /// Returns its length; `None` if it cannot be told.
    fn length(&self) -> Option<u64> {
        self.file().metadata().ok().map(|metadata| metadata.len())
    }

    /// Returns whether it holds more than was read of it.
    pub(super) fn has_more(&self) -> bool {
        let Stage::Open(reader) = &self.stage else { return false };
        reader.is_ahead() || self.length() > reader.taken()
    }

    /// Returns whether a whole line ends behind an offset; also if that cannot be told.
    fn holds_line_behind(&self, offset: Option<u64>) -> bool {
        let end = self.length().map(|length| end_of_lines(self.file(), length));
        end.is_none_or(|end| end.map_or(true, |end| Some(end) > offset))
    }

    /// Returns the next offset, once it is open.
    fn next(&self) -> Option<u64> {
        match &self.stage {
            Stage::Empty(_) => None,
            Stage::Open(reader) => Some(reader.next()),
        }
    }
}
