//! Index: partitions by something that several may share.
//!
//! Owns: the sets, and which of them have a beginning in common with a file.
//! Does not own: what is indexed by what (see [`super::Positions`]).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

use pintail_core::evidence::Mark;
use pintail_core::offsets::PartitionId;

/// Partitions by something that several may share.
#[derive(Debug)]
pub(super) struct Index<K>(HashMap<K, HashSet<PartitionId>>);

impl<K: Hash + Eq> Index<K> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    pub(super) fn insert(&mut self, key: K, id: &PartitionId) {
        self.0.entry(key).or_default().insert(id.clone());
    }

    pub(super) fn remove(&mut self, key: &K, id: &PartitionId) {
        if let Some(ids) = self.0.get_mut(key) {
            ids.remove(id);
            if ids.is_empty() {
                self.0.remove(key);
            }
        }
    }

    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> impl Iterator<Item = &PartitionId>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.get(key).into_iter().flatten()
    }

    pub(super) fn count<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> usize
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.get(key).map_or(0, HashSet::len)
    }
}

/// Partitions by their first bytes: how many, and their mark.
#[derive(Debug, Default)]
pub(super) struct Heads(BTreeMap<usize, Index<Mark>>);

impl Heads {
    pub(super) fn insert(&mut self, head: Option<(usize, Mark)>, id: &PartitionId) {
        if let Some((length, mark)) = head {
            self.0.entry(length).or_insert_with(Index::new).insert(mark, id);
        }
    }

    pub(super) fn remove(&mut self, head: Option<(usize, Mark)>, id: &PartitionId) {
        let Some((length, mark)) = head else { return };
        if let Some(index) = self.0.get_mut(&length) {
            index.remove(&mark, id);
            if index.0.is_empty() {
                self.0.remove(&length);
            }
        }
    }

    /// Returns the partitions with these first bytes.
    pub(super) fn with(&self, head: Option<(usize, Mark)>) -> impl Iterator<Item = &PartitionId> {
        head.and_then(|(length, mark)| Some(self.0.get(&length)?.get(&mark).collect::<Vec<_>>())).into_iter().flatten()
    }

    /// Returns the partitions that begin as `head` does, by the bytes that they were recognized by.
    pub(super) fn of(&self, head: &[u8], marks: impl Fn(&[usize]) -> Vec<Mark>) -> Vec<((usize, Mark), &HashSet<PartitionId>)> {
        let lengths: Vec<usize> = self.0.range(..=head.len()).map(|(length, _)| *length).collect();
        let marks = lengths.iter().copied().zip(marks(&lengths));
        self.0.values().zip(marks).filter_map(|(index, (length, mark))| Some(((length, mark), index.0.get(&mark)?))).collect()
    }

    pub(super) fn count(&self, (length, mark): (usize, Mark)) -> usize {
        self.0.get(&length).map_or(0, |index| index.count(&mark))
    }
}
