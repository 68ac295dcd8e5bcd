//! Beside: what a file is that differs from one which was read, where another file that was found holds all of that.
//!
//! Owns: finding out that such a file is a first part of what was read, or has nothing of it and only took its name.
//! Does not own: a file whose original is still in its place (see `whole`), what becomes of a part (see `plan`, `copies`).

use std::collections::HashMap;

use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::evidence::{Verdict, Why};
use pintail_core::offsets::PartitionId;

use super::{Facts, empty_chunk, gap};
use crate::compression::Compression;
use crate::file::plan::{Edited, Name, Pair, SeenFile};
use crate::file::positions::{Known, Left};
use crate::file::prefixes::Prefixes;
use crate::file::sight::{begins_as, holds_end_of};
use crate::file::trail::EDGE_BYTES;
use crate::file::{Files, names};

/// By known position: the files that hold all that was read of it.
type Holders = HashMap<usize, Vec<(usize, Verdict)>>;

impl Files {
    /// Compares files with those that hold all of what they differ from. Returns those that could not be compared: nothing follows of what they may hold.
    pub(super) fn compare_beside(&self, known: &[Known], facts: &[Facts], seen: &mut [SeenFile]) -> Result<Vec<(usize, Error)>> {
        let mut failed = self.tell_rewritten(known, facts, seen);
        pair_parts(known, facts, seen);
        let holders = holders_of(seen);
        for at in 0..seen.len() {
            let told = self.tell_part(known, facts, seen, &holders, at).and_then(|()| self.tell_edited(known, facts, seen, &holders, at));
            match told {
                Err(error) if error.kind() == ErrorKind::Io => failed.push((at, error)),
                told => told?,
            }
        }
        Ok(failed)
    }

    /// Takes files out of the plan that could not be compared, and sets them aside unless they are gone.
    pub(super) fn leave_out(&mut self, failed: &[(usize, Error)], facts: &[Facts], seen: &mut [SeenFile]) {
        for (at, error) in failed {
            let may_hold = facts[*at].compared.iter().map(|compared| compared.known.clone());
            self.unsettled.get_or_insert_default().extend(may_hold);
            if facts[*at].path.exists() {
                self.aside.file(&facts[*at].path, facts[*at].name, error);
            }
            seen[*at].leave_out();
        }
    }

    /// Takes files out of the plan that nothing is known of but that they are in the place, or have the name, of a position which is not settled yet: whether
    /// they are new is told with that. Returns them.
    pub(super) fn leave_unsettled(&self, known: &[Known], seen: &mut [SeenFile]) -> Vec<usize> {
        let waits = |file: &SeenFile, pair: &Pair| {
            let position = &known[pair.known];
            let own = is_own(position, file);
            own && self.is_unsettled(position.id())
        };
        let left = seen.iter_mut().enumerate().filter(|(_, file)| {
            let is_other = file.pairs.iter().all(|pair| matches!(pair.verdict, Verdict::Other(_)) && !pair.prefix);
            is_other && file.pairs.iter().any(|pair| waits(file, pair))
        });
        left.map(|(at, file)| {
            file.leave_out();
            at
        })
        .collect()
    }

    /// Leaves files that were compared with a position to the next look: nothing follows of what they may hold.
    pub(in crate::file) fn put_off(&mut self, known: &PartitionId, facts: &mut Vec<Facts>) {
        let off = facts.extract_if(.., |facts| facts.compared.iter().any(|compared| compared.known == *known));
        let may_hold = off.flat_map(|facts| facts.compared).map(|compared| compared.known);
        self.unsettled.get_or_insert_default().extend(may_hold);
    }

    /// Finds out whether a file holds no more what was read between its ends, where all of that stands in one that appeared since: who copies a file may
    /// have written it anew, with the same ends.
    fn tell_rewritten(&self, known: &[Known], facts: &[Facts], seen: &mut [SeenFile]) -> Vec<(usize, Error)> {
        let (mut rewritten, mut failed) = (Vec::new(), Vec::new());
        let is_new = |at: usize| !seen[at].pairs.iter().any(|pair| pair.verdict == Verdict::Same);
        for (position, files) in holders_of(seen) {
            let body = known[position].evidence.as_ref().and_then(|evidence| evidence.body);
            let is_copied = files.iter().any(|(at, verdict)| *verdict == Verdict::Moved && is_new(*at));
            let Some((at, _)) = files.iter().find(|(_, verdict)| *verdict == Verdict::Same).filter(|_| is_copied && body.is_some()) else {
                continue;
            };
            let own = &facts[*at];
            if own.compression == Compression::None {
                match own.with_file(|file| self.body_before(file, own.place, known[position].next)) {
                    Ok(now) if now == body => {}
                    Ok(_) => rewritten.push((*at, position)),
                    Err(error) => failed.push((*at, error)),
                }
            }
        }
        for (at, position) in rewritten {
            for pair in seen[at].pairs.iter_mut().filter(|pair| pair.known == position) {
                (pair.verdict, pair.shares) = (Verdict::Other(Why::Differs { at: EDGE_BYTES }), true);
            }
        }
        failed
    }

    /// Finds out whether a file only begins or ends as one that was read, and is not that one, edited: few of its lines are there. It took the name in a
    /// rotation.
    fn tell_edited(&self, known: &[Known], facts: &[Facts], seen: &mut [SeenFile], holders: &Holders, at: usize) -> Result<()> {
        let is_part = seen[at].pairs.iter().any(|pair| pair.prefix);
        let (place, label) = (seen[at].place, seen[at].label.clone());
        for pair in seen[at].pairs.iter_mut().filter(|pair| matches!(pair.verdict, Verdict::Other(_))) {
            let position = &known[pair.known];
            // Another one than that was, edited, only has its beginning in common with it.
            let own = position.place().is_some_and(|known| known.may_be(&place)) || *position.partition.label == *label;
            if !own {
                continue;
            }
            let holder = holders.get(&pair.known).and_then(|holders| holders.iter().find(|(_, verdict)| *verdict == Verdict::Moved));
            if let Some((holder, _)) = holder {
                pair.edited = if is_part { Edited::No } else { facts[at].compare_lines(&facts[*holder], position.next, pair.shares)? };
                pair.shares |= pair.edited == Edited::Yes;
            }
        }
        Ok(())
    }

    /// Checks that a file which is read as new is not one that was edited in several steps: cut first, when all that was read of it was in another file,
    /// and now most of that is there again.
    ///
    /// # Errors
    /// `State` if it is, and `source.on_gap` is `refuse`.
    pub(super) fn check_left(&mut self, facts: &Facts) -> Result<()> {
        let Some(Left { of, was: Some(was), .. }) = self.positions.left_in(&facts.place).cloned() else { return Ok(()) };
        if let Some(holder) = self.positions.get(&of).cloned()
            && self.was_edited(facts, &was, &holder)?
        {
            let gap = self.gap_of(&was, &gap(Why::Differs { at: 0 }, facts.length))?;
            self.pending.push(empty_chunk(&holder, holder.next, vec![gap]));
        }
        self.positions.forget_left(&facts.place);
        Ok(())
    }

    /// Returns whether a file is one, edited, that was known as `was` and of which all that was read stands in the file of `holder`.
    fn was_edited(&self, facts: &Facts, was: &Known, holder: &Known) -> Result<bool> {
        let key = &self.positions.key;
        let shares = begins_as(key, &facts.head, was) || facts.with_file(|file| holds_end_of(key, file, facts.compression, was))?;
        if !facts.may_be_edited(was.next, shares) {
            return Ok(false);
        }
        let path = names::path_of(&holder.partition.label);
        let Some(read) = self.open_file(&path)? else { return Ok(false) };
        let read = self.examine_open(read, &path, Name::Renamed)?;
        let is_there = read.judged(holder.id()).is_some_and(|judged| judged.verdict == Verdict::Same);
        Ok(is_there && facts.compare_lines(&read, was.next, shares)? != Edited::No)
    }

    /// Finds out whether a file holds a first part of what was read. Below a KiB it was read in its place or under its name.
    fn tell_part(&self, known: &[Known], facts: &[Facts], seen: &mut [SeenFile], holders: &Holders, at: usize) -> Result<()> {
        let file = &seen[at];
        if file.pairs.iter().any(|pair| pair.prefix) {
            return Ok(());
        }
        for pair in file.pairs.iter().filter(|pair| matches!(pair.verdict, Verdict::Other(Why::Shorter { .. }))) {
            let position = &known[pair.known];
            let own = is_own(position, file);
            let others = holders.get(&pair.known).into_iter().flatten();
            let mut others = others.filter(|_| own || pair.shares);
            let Some((holder, _)) = others.find(|(other, _)| seen[*other].place.inode != file.place.inode) else { continue };
            if self.is_beginning_of(&facts[at], &facts[*holder], position.next)? {
                // Its own position is over; what stays is the one that the other file is read on at.
                let stays = seen[*holder].pairs.iter().find(|other| other.verdict == Verdict::Same).map_or(pair.known, |same| same.known);
                let part = Pair { known: stays, prefix: true, ..*pair };
                seen[at].pairs.push(part);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Returns whether a file ends before an offset, up to which another one holds the same.
    fn is_beginning_of(&self, part: &Facts, whole: &Facts, offset: u64) -> Result<bool> {
        let walk = |facts: &Facts, offset| facts.with_file(|file| self.walk(file, facts.place, facts.compression, offset));
        let compare = || {
            let seen = if part.compression == Compression::None { part.length } else { u64::MAX };
            let part = walk(part, offset.min(seen))?;
            Ok::<_, Error>(part.at > 0 && part.at < offset && part == walk(whole, part.at)?)
        };
        match compare() {
            // What is wrong with a damaged file is said when it is read.
            Err(e) if e.os_error().is_none() => Ok(false),
            compared => compared,
        }
    }
}

/// Pairs files with positions of which they may hold a first part, where many begin alike: as long as the file of a position is gone, nobody can tell what
/// else it begins as (see `alike`); now the one that holds it shows that.
fn pair_parts(known: &[Known], facts: &[Facts], seen: &mut [SeenFile]) {
    let mut held: Prefixes<Vec<u8>, Vec<usize>> = Prefixes::default();
    for (file, _) in seen.iter().zip(facts).filter(|(_, facts)| facts.sketch.is_some()) {
        let moved = file.pairs.iter().filter(|pair| pair.verdict == Verdict::Moved);
        moved.for_each(|pair| held.entry(file.beginning.clone()).push(pair.known));
    }
    for (file, facts) in seen.iter_mut().zip(facts).filter(|(_, facts)| facts.sketch.is_some()) {
        let is_over = |pair: &Pair| pair.prefix || !matches!(pair.verdict, Verdict::Other(_));
        if file.pairs.iter().any(is_over) {
            continue;
        }
        let is_longer = |position: usize| facts.compression != Compression::None || known[position].next > facts.length;
        let held = held.beginning_with(&file.beginning).flatten().copied();
        let longest = held.filter(|position| is_longer(*position)).max_by_key(|position| known[*position].next);
        if let Some(position) = longest.filter(|position| !file.pairs.iter().any(|pair| pair.known == *position)) {
            let verdict = Verdict::Other(Why::Shorter { end: facts.length });
            file.pairs.push(Pair { known: position, verdict, shares: true, edited: Edited::Maybe, prefix: false, whole: false });
        }
    }
}

/// Returns whether a file lies in the place of a position, or has its name.
fn is_own(position: &Known, file: &SeenFile) -> bool {
    position.place().is_some_and(|place| place.may_be(&file.place)) || *position.partition.label == *file.label
}

impl SeenFile {
    /// Takes it out of the plan: nothing follows of what it may hold.
    fn leave_out(&mut self) {
        self.pairs.clear();
        self.name = Name::Renamed;
    }
}

fn holders_of(seen: &[SeenFile]) -> Holders {
    let mut holders = Holders::new();
    for (at, file) in seen.iter().enumerate() {
        for pair in file.pairs.iter().filter(|pair| matches!(pair.verdict, Verdict::Same | Verdict::Moved)) {
            holders.entry(pair.known).or_default().push((at, pair.verdict));
        }
    }
    holders
}
