//! Fingerprints: what is remembered of files that were read and are gone, to know them again if they come back.
//!
//! Owns: the fingerprints, their limit (`source.remember_max`; the oldest go first), and looking them up by the beginning of a file.
//! Does not own: what a file that is back is worth (see `survey::returns`), where fingerprints are kept (the commit records do).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pintail_core::evidence::{Key, Mark};
use pintail_core::offsets::Fingerprint;

use super::positions::{FEW, Known};
use crate::Resume;
use crate::lines::TAIL_BYTES_MAX;

/// Files that vanished after they were read.
#[derive(Debug)]
pub(super) struct Fingerprints {
    key: Key,
    /// By the mark of their first bytes.
    by_mark: BTreeMap<Mark, Fingerprint>,
    /// Lengths of the beginnings that they are known by.
    heads: BTreeSet<usize>,
    /// The same by age.
    ages: BTreeSet<(u32, Mark)>,
    /// Of those that began with a KiB, by the beginning of their marks: up to which offsets they were read, and how many up to each.
    ends: HashMap<Mark, BTreeMap<u64, usize>>,
    /// Those of them that were cut or rewritten since the start: what begins alike is not one on its way back.
    rewritten: BTreeSet<Mark>,
    max: usize,
}

impl Fingerprints {
    /// Reads what is committed; remembers `max` at most.
    pub(super) fn new(resume: &Resume<'_>, max: usize) -> Self {
        let mut vanished = Self {
            key: resume.key.clone(),
            by_mark: BTreeMap::new(),
            heads: BTreeSet::new(),
            ages: BTreeSet::new(),
            ends: HashMap::new(),
            rewritten: BTreeSet::new(),
            max,
        };
        for (mark, fingerprint) in resume.offsets.remembered().iter() {
            vanished.insert(*mark, *fingerprint);
        }
        vanished
    }

    /// Returns whether there are any.
    pub(super) fn is_any(&self) -> bool {
        !self.by_mark.is_empty()
    }

    /// Returns the fingerprints that the beginning of a file has, but for many that share its first KiB (see [`Self::many_begun_as`]).
    pub(super) fn begun_as(&self, head: &[u8]) -> Vec<(Mark, Fingerprint)> {
        let lengths: Vec<usize> = self.heads.range(..=head.len()).copied().collect();
        let marks = lengths.iter().copied().zip(self.key.marks_of_beginnings(head, &lengths));
        let known = marks.flat_map(|(length, head)| {
            let is_few = length < TAIL_BYTES_MAX || self.ends_of(head).is_none_or(|ends| !is_many(ends));
            let keys = if is_few { Fingerprint::keys_of(head) } else { head..=head };
            let begun = self.by_mark.range(keys);
            begun.filter(move |(key, fingerprint)| usize::from(fingerprint.head_bytes) == length && fingerprint.begins_with(head, **key))
        });
        known.map(|(key, fingerprint)| (*key, *fingerprint)).collect()
    }

    /// Returns the mark of a first KiB that many files share which vanished, and the offsets up to which they were read.
    pub(super) fn many_begun_as(&self, head: &[u8]) -> Option<(Mark, impl DoubleEndedIterator<Item = u64>)> {
        if head.len() < TAIL_BYTES_MAX || self.by_mark.is_empty() {
            return None;
        }
        let head = self.key.mark(&[head]);
        let ends = self.ends_of(head).filter(|ends| is_many(ends))?;
        Some((head, ends.keys().copied()))
    }

    /// Returns whether a file may be a first part of one of these. Where one was cut or rewritten, what begins alike is none on its way back.
    pub(super) fn may_be_part_of_many(&self, head: &[u8], length: u64) -> bool {
        let longest = self.many_begun_as(head).and_then(|(head, mut ends)| Some((head, ends.next_back()?)));
        longest.is_some_and(|(head, to)| to > length && self.rewritten.range(Fingerprint::keys_of(head)).next().is_none())
    }

    fn ends_of(&self, head: Mark) -> Option<&BTreeMap<u64, usize>> {
        self.ends.get(Fingerprint::keys_of(head).start())
    }

    /// Returns the fingerprint of what begins with a KiB of this mark and has these marks before an offset.
    pub(super) fn with(&self, head: Mark, to: u64, tail: Mark, body: Mark) -> Option<(Mark, Fingerprint)> {
        let tail = tail.with(body);
        let key = Fingerprint { head_bytes: 0, tail, to, at: 0 }.key(head);
        self.by_mark.get(&key).filter(|fingerprint| fingerprint.to == to && fingerprint.tail == tail).map(|fingerprint| (key, *fingerprint))
    }

    /// Forgets a fingerprint: its file is back.
    pub(super) fn recall(&mut self, mark: &Mark) {
        self.rewritten.remove(mark);
        let Some(fingerprint) = self.by_mark.remove(mark) else { return };
        self.ages.remove(&(fingerprint.at, *mark));
        if usize::from(fingerprint.head_bytes) < TAIL_BYTES_MAX {
            return;
        }
        let head = *Fingerprint::keys_of(*mark).start();
        if let Some(ends) = self.ends.get_mut(&head) {
            if let Some(count) = ends.get_mut(&fingerprint.to) {
                *count -= 1;
                if *count == 0 {
                    ends.remove(&fingerprint.to);
                }
            }
            if ends.is_empty() {
                self.ends.remove(&head);
            }
        }
    }

    /// Records that a file that is remembered was cut or rewritten.
    pub(super) fn note_rewritten(&mut self, known: &Known) {
        let key = known.evidence.as_ref().and_then(|evidence| Fingerprint::of(evidence, known.next, 0)).map(|(key, _)| key);
        self.rewritten.extend(key.filter(|key| self.by_mark.contains_key(key)));
    }

    /// Returns whether a file that is remembered was cut or rewritten.
    pub(super) fn was_rewritten(&self, mark: &Mark) -> bool {
        self.rewritten.contains(mark)
    }

    /// Remembers a file that is forgotten, to know it if it comes back.
    pub(super) fn remember(&mut self, known: &Known, at: u32) {
        if let Some((key, fingerprint)) = known.evidence.as_ref().and_then(|evidence| Fingerprint::of(evidence, known.next, at)) {
            self.insert(key, fingerprint);
        }
    }

    fn insert(&mut self, mark: Mark, fingerprint: Fingerprint) {
        if self.max == 0 {
            return;
        }
        self.recall(&mark);
        if self.by_mark.len() >= self.max
            && let Some((_, oldest)) = self.ages.first().copied()
        {
            self.recall(&oldest);
        }
        self.heads.insert(usize::from(fingerprint.head_bytes));
        self.ages.insert((fingerprint.at, mark));
        if usize::from(fingerprint.head_bytes) == TAIL_BYTES_MAX {
            *self.ends.entry(*Fingerprint::keys_of(mark).start()).or_default().entry(fingerprint.to).or_default() += 1;
        }
        self.by_mark.insert(mark, fingerprint);
    }
}

/// Returns whether files that vanished and began alike are many.
fn is_many(ends: &BTreeMap<u64, usize>) -> bool {
    ends.len() > FEW || ends.values().sum::<usize>() > FEW
}

#[cfg(test)]
mod tests {
    use pintail_core::offsets::Offsets;

    use super::*;

    #[test]
    fn what_is_remembered_has_a_limit_and_the_oldest_goes_first() {
        let resume = (Offsets::default(), Key::new([7; 32]));
        let mut vanished = Fingerprints::new(&Resume { offsets: &resume.0, key: &resume.1 }, 10);
        for at in 0..20_u8 {
            vanished.insert(Mark([at; 16]), Fingerprint { head_bytes: 1, tail: Mark([0; 16]), to: 1, at: u32::from(at) });
        }
        let oldest = vanished.by_mark.keys().next();
        assert_eq!((vanished.by_mark.len(), oldest), (10, Some(&Mark([10; 16]))));
    }
}
