//! The plan: what becomes of each known position and of each file that was found.
//!
//! Owns: the decision, from what is known and what was seen, purely: where reading goes on, what is a copy, what is new, what is a gap and what has
//! vanished.
//! Does not own: looking (see `sight`), acting, and what `source.on_gap` makes of a gap (see `survey`).

use std::collections::HashMap;

use pintail_core::evidence::{Verdict, Why};

use super::config::Copies;
use super::identity::Place;
use super::names::{Group, are_related, groups_of, groups_related_to};
use super::prefixes::Prefixes;
use super::trail::EDGE_BYTES;

#[cfg(test)]
mod tests;

/// How a path was come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// It matches the configuration: whatever is there is read.
    Matches,
    /// It does not: only a known file is read.
    Renamed,
}

/// A known position.
#[derive(Debug, Clone)]
pub(super) struct KnownFile {
    pub(super) label: String,
    pub(super) place: Option<Place>,
    pub(super) next: u64,
    /// The end as it was seen last, if it lay behind `next`.
    pub(super) end: Option<u64>,
    /// Whether another position has its name.
    pub(super) shares_name: bool,
    pub(super) holder: Holder,
}

/// Who holds a known position's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// An open file that was checked, and is still there.
    Open,
    /// Nobody that is known: what was found decides. If nothing of it was found, it has vanished.
    Wanted,
    /// An open file that was checked and has no name any more. Its writer may still add to it.
    Nameless,
    /// Nobody that is known, but it was not searched for everywhere.
    Unsearched,
}

/// A file that was found.
#[derive(Debug, Clone)]
pub(super) struct SeenFile {
    pub(super) label: String,
    pub(super) name: Name,
    pub(super) place: Place,
    /// Whether nothing is in it.
    pub(super) empty: bool,
    /// Its first bytes, at most a KiB; where many files share that, followed by a sketch of the content. A beginning of its content has a beginning of it.
    pub(super) beginning: Vec<u8>,
    /// The known positions that it was compared with: those that lie in its place, have its name, or begin as it does.
    pub(super) pairs: Vec<Pair>,
}

/// What a known position is worth in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    /// Its index.
    pub(super) known: usize,
    pub(super) verdict: Verdict,
    /// Whether the file holds a KiB of what was read: the first one at its beginning, or the last one near where it was read.
    pub(super) shares: bool,
    /// Whether it is that one, edited.
    pub(super) edited: Edited,
    /// Whether all of the file stands at the beginning of the known one, which is longer.
    pub(super) prefix: bool,
    /// Whether the file holds what was read at the position, and nothing else.
    pub(super) whole: bool,
}

/// Whether a file that differs from a known one is that one, edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edited {
    /// The last line that was read is there, or no other file holds what was read, to compare it with.
    Maybe,
    /// Most of the lines that were read are there.
    Yes,
    /// Few of them are there: it took the name in a rotation.
    No,
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Reading of a known position goes on here. If the file holds all that was read at `beyond` as well, that is passed over.
    GoesOn { known: usize, beyond: Option<usize> },
    /// What was read as `of` stands here too, and is passed over.
    Copy { of: usize },
    /// It holds a part of what was read as `of`, from the beginning: a copy in the making, or one that was cut.
    PartOf { of: usize },
    /// Another file that was found begins as this one does, and is read first.
    After { other: usize },
    /// It is read from its beginning.
    New,
    /// It is empty, or a stranger under a name that is not wanted.
    Nothing,
}

/// What becomes of a known position that no file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Its file was cut or rewritten: this one, which holds something else now.
    Rewritten { file: usize, why: Why },
    /// Its file is gone, and was longer than what was read.
    Unread { end: u64 },
    /// Its file is gone. It was read to its end.
    Vanished,
    /// The same, and its name was taken by this file, which holds nothing of what was read.
    Replaced { file: usize },
    /// Its content stands in a file that another position goes on in.
    Elsewhere { file: usize },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// By file.
    pub(super) fates: Vec<Fate>,
    /// By known position: those that are over.
    pub(super) losses: Vec<(usize, Loss)>,
}

/// Decides.
pub(super) fn plan(known: &[KnownFile], files: &[SeenFile], copies: Copies) -> Plan {
    let edited = edited(known, files, &assign(known, files, &vec![false; known.len()]));
    let owners = assign(known, files, &edited);
    let mut owned = vec![None; known.len()];
    for (file, owner) in owners.iter().enumerate() {
        if let Some(owner) = *owner {
            owned[owner] = Some(file);
        }
    }
    let compared = compared(known.len(), files);
    let stays = |at: usize| staying(known, &compared[at], &owners, owned[at].is_some(), at);
    let mut fates: Vec<Fate> = Vec::with_capacity(files.len());
    let mut before = Before::default();
    for (at, file) in files.iter().enumerate() {
        let fate = match owners[at] {
            Some(owner) => Fate::GoesOn { known: owner, beyond: beyond(known, file, owner, copies) },
            None if file.name == Name::Renamed || file.empty || is_open(known, file) => Fate::Nothing,
            None if copies == Copies::Read => Fate::New,
            None => before.unowned(known, files, at, stays),
        };
        before.take(files, at, fate);
        fates.push(fate);
    }
    let over = known.iter().enumerate().filter(|(at, _)| owned[*at].is_none());
    let losses = over.filter_map(|(at, known_file)| {
        let loss = match known_file.holder {
            Holder::Wanted => loss(known, &compared[at], &owners, at, edited[at]),
            Holder::Nameless => {
                let rewritten = rewritten(known, &compared[at])?;
                elsewhere(known, &compared[at], edited[at]).unwrap_or(rewritten)
            }
            Holder::Open | Holder::Unsearched => return None,
        };
        Some((at, loss))
    });
    Plan { losses: losses.collect(), fates }
}

/// Gives each file at most one known position, and each position at most one file: the surest pairs first.
fn assign(known: &[KnownFile], files: &[SeenFile], edited: &[bool]) -> Vec<Option<usize>> {
    let mut pairs = Vec::new();
    for (at, file) in files.iter().enumerate().filter(|(_, file)| !is_open(known, file)) {
        for pair in file.pairs.iter().filter(|pair| known[pair.known].holder != Holder::Open && holds(known, file, pair)) {
            if pair.verdict != Verdict::Same && edited[pair.known] {
                continue;
            }
            let position = &known[pair.known];
            let same_place = position.place.is_some_and(|place| place.may_be(&file.place));
            let rank = (!same_place, position.label != file.label, file.name == Name::Renamed);
            pairs.push((rank, std::cmp::Reverse(position.next), at, pair.known));
        }
    }
    pairs.sort_unstable();
    let mut owners = vec![None; files.len()];
    let mut taken = vec![false; known.len()];
    for (_, _, file, known) in pairs {
        if owners[file].is_none() && !taken[known] {
            owners[file] = Some(known);
            taken[known] = true;
        }
    }
    owners
}

/// Returns the position that stays of a known one: itself, or where it is over, that of the file which holds its content.
fn staying(known: &[KnownFile], compared: &[Compared<'_>], owners: &[Option<usize>], is_owned: bool, at: usize) -> Option<usize> {
    if is_owned || matches!(known[at].holder, Holder::Open | Holder::Unsearched) {
        return Some(at);
    }
    let holders = compared.iter().filter(|(_, seen, pair)| holds(known, seen, pair));
    let same = |seen: &SeenFile| seen.pairs.iter().find(|pair| pair.verdict == Verdict::Same).map(|pair| pair.known);
    holders.filter_map(|(file, seen, _)| owners[*file].or_else(|| same(seen))).next()
}

/// Returns whether a file is one that is held open: the search for another one has found it under its name.
fn is_open(known: &[KnownFile], file: &SeenFile) -> bool {
    file.pairs.iter().any(|pair| pair.verdict == Verdict::Same && known[pair.known].holder == Holder::Open)
}

/// Returns whether a file holds what was read at a known position.
fn holds(known: &[KnownFile], file: &SeenFile, pair: &Pair) -> bool {
    let position = &known[pair.known];
    match pair.verdict {
        Verdict::Same => true,
        // Several files may hold the same few lines by chance: the name tells them apart.
        Verdict::Moved => position.next >= EDGE_BYTES || are_related(&position.label, &file.label),
        // Version 1 kept the beginning alone: a KiB of it, or less and the name.
        Verdict::CannotBeSeen => {
            let same_place = position.place.is_some_and(|place| place.may_be(&file.place));
            same_place || pair.shares || are_related(&position.label, &file.label)
        }
        Verdict::Other(_) => false,
    }
}

/// Returns the position farthest on of which all stands in a file that goes on at another one: a copy that was made again.
fn beyond(known: &[KnownFile], file: &SeenFile, owner: usize, copies: Copies) -> Option<usize> {
    let further = |pair: &&Pair| known[pair.known].next > known[owner].next && pair.verdict == Verdict::Moved;
    let further = file.pairs.iter().filter(|pair| copies == Copies::Skip && holds(known, file, pair)).filter(further);
    further.map(|pair| pair.known).max_by_key(|known_at| known[*known_at].next)
}

/// The files that were decided on so far, as far as later ones depend on them. Thousands may appear at once: each is looked up.
#[derive(Debug, Default)]
struct Before<'a> {
    /// The first copy of each known position that holds more.
    copies: HashMap<usize, usize>,
    /// New files of a KiB or more, by their beginnings.
    heads: Prefixes<&'a [u8], Vec<usize>>,
    /// New files by their names, and by their beginnings.
    names: HashMap<Group, Prefixes<&'a [u8], Vec<usize>>>,
}

impl<'a> Before<'a> {
    fn take(&mut self, files: &'a [SeenFile], at: usize, fate: Fate) {
        let file = &files[at];
        match fate {
            Fate::Copy { of } if !file.pairs.iter().any(|pair| pair.known == of && pair.whole) => {
                self.copies.entry(of).or_insert(at);
            }
            Fate::New => {
                if file.beginning.len() as u64 >= EDGE_BYTES {
                    self.heads.entry(&file.beginning).push(at);
                }
                groups_of(&file.label).for_each(|group| self.names.entry(group).or_default().entry(&file.beginning).push(at));
            }
            _ => {}
        }
    }

    /// Decides on a file that no known position goes on in.
    fn unowned(&self, known: &[KnownFile], files: &[SeenFile], at: usize, stays: impl Fn(usize) -> Option<usize>) -> Fate {
        let file = &files[at];
        let next = |pair: &&Pair| known[pair.known].next;
        let copy = file.pairs.iter().filter(|pair| pair.verdict != Verdict::CannotBeSeen && holds(known, file, pair)).max_by_key(next);
        let part = file.pairs.iter().filter(|pair| pair.prefix).max_by_key(next);
        // Of copies of different ages the longest tells most: what another one holds beyond a shorter one was read there. One that holds nothing beyond it is
        // a copy of that, whatever the longest gets next.
        let part = part.filter(|part| copy.is_none_or(|copy| !copy.whole && next(part) > next(&copy)));
        if let Some(of) = part.and_then(|part| stays(part.known)) {
            return Fate::PartOf { of };
        }
        if let Some(copy) = copy {
            // Two of them may hold the same beyond what is read, too.
            let first = self.copies.get(&copy.known).filter(|_| !copy.whole);
            return first.map_or(Fate::Copy { of: copy.known }, |other| Fate::After { other: *other });
        }
        self.first_alike(files, at).map_or(Fate::New, |other| Fate::After { other })
    }

    /// Returns the first new file that may be one content with another: they share a KiB of it, or all of it under names that may be of one file.
    fn first_alike(&self, files: &[SeenFile], at: usize) -> Option<usize> {
        let file = &files[at];
        if file.beginning.is_empty() {
            return None;
        }
        let same_head = (file.beginning.len() as u64 >= EDGE_BYTES).then(|| self.heads.alike(&file.beginning));
        let groups: Vec<Group> = groups_related_to(&file.label).collect();
        let named = groups.iter().filter_map(|group| self.names.get(group)).flat_map(|named| named.alike(&file.beginning));
        // An empty one is the beginning of any.
        let is_begun = |other: &&usize| !files[**other].beginning.is_empty();
        named.chain(same_head.into_iter().flatten()).flatten().filter(is_begun).min().copied()
    }
}

/// A file that was compared with a known position.
type Compared<'a> = (usize, &'a SeenFile, &'a Pair);

/// Returns the files that were compared with each known position.
fn compared(known: usize, files: &[SeenFile]) -> Vec<Vec<Compared<'_>>> {
    let mut compared = vec![Vec::new(); known];
    for (file, seen) in files.iter().enumerate() {
        seen.pairs.iter().for_each(|pair| compared[pair.known].push((file, seen, pair)));
    }
    compared
}

/// Returns which positions have an edited file: that its old content lies in a copy too changes nothing, what was not edited would be read twice. Where
/// lines do not tell, one in which another position goes on is none, however alike both begin: two files have changed places.
fn edited(known: &[KnownFile], files: &[SeenFile], owners: &[Option<usize>]) -> Vec<bool> {
    let mut edited = vec![false; known.len()];
    for (file, owner, pair) in files.iter().zip(owners).flat_map(|(file, owner)| file.pairs.iter().map(move |pair| (file, owner, pair))) {
        let is_another = owner.is_some_and(|owner| owner != pair.known);
        if pair.edited == Edited::No || (pair.edited == Edited::Maybe && is_another) {
            continue;
        }
        let differs = matches!(pair.verdict, Verdict::Other(Why::Differs { .. } | Why::Shorter { .. })) && !pair.prefix;
        edited[pair.known] |= pair.shares && differs && is_rewritten(known, file, pair);
    }
    edited
}

/// Decides on a position that no file holds.
fn loss(known: &[KnownFile], compared: &[Compared<'_>], owners: &[Option<usize>], at: usize, is_edited: bool) -> Loss {
    let position = &known[at];
    if let Some(elsewhere) = elsewhere(known, compared, is_edited) {
        return elsewhere;
    }
    if let Some(rewritten) = rewritten(known, compared) {
        return rewritten;
    }
    if let Some(end) = position.end {
        return Loss::Unread { end };
    }
    let is_new = |file: usize, seen: &SeenFile| owners[file].is_none() && !is_open(known, seen);
    let taken = compared.iter().find(|(file, seen, _)| seen.label == position.label && is_new(*file, seen));
    taken.map_or(Loss::Vanished, |(file, ..)| Loss::Replaced { file: *file })
}

/// Returns the loss of a position whose content stands in another file.
fn elsewhere(known: &[KnownFile], compared: &[Compared<'_>], is_edited: bool) -> Option<Loss> {
    let holder = compared.iter().find(|(_, seen, pair)| !is_edited && holds(known, seen, pair));
    holder.map(|(file, ..)| Loss::Elsewhere { file: *file })
}

/// Returns the loss of a position whose file was cut, rewritten or edited.
fn rewritten(known: &[KnownFile], compared: &[Compared<'_>]) -> Option<Loss> {
    compared.iter().find_map(|&(file, seen, pair)| {
        let Verdict::Other(why) = pair.verdict else { return None };
        is_rewritten(known, seen, pair).then_some(Loss::Rewritten { file, why })
    })
}

/// Returns whether a file with other content is the known one, changed; and not one that took its name or its inode.
///
/// A name is taken after a rotation, an inode soon after its file is deleted; neither is a change of what was read. What was edited and put in its
/// place still holds what was not edited.
fn is_rewritten(known: &[KnownFile], file: &SeenFile, pair: &Pair) -> bool {
    let position = &known[pair.known];
    let same_name = position.label == file.label;
    let Some(place) = position.place.filter(|place| place.may_be(&file.place)) else {
        // One that is open as another known file has changed its name, and nothing else.
        return same_name && pair.shares && !is_open(known, file);
    };
    // Made at the same moment, it is the same file, whatever it is called.
    if place.born.is_some() && file.place.born.is_some() {
        return true;
    }
    same_name && !position.shares_name
}
