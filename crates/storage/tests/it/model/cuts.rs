//! What a power cut may leave of a disk.
//!
//! Owns: every subset of what is pending, and where there are too many of them, a choice that says that it is one.
//! Does not own: when the power goes (see `states`).

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::content::Content;
use super::disk::{Disk, Name, Node, NodeId};

/// Up to so many pending changes of names, all their subsets are tried.
const CHANGES_MAX: usize = 12;
/// Up to so many files with pending bytes, all combinations of what may have become of these are tried.
const FILES_MAX: usize = 3;
/// Beyond either: so many drawn at random.
const DRAWN: usize = 64;

/// The disks that a power cut may leave.
#[derive(Debug)]
pub(crate) struct Cuts {
    pub disks: Vec<Disk>,
    /// Whether there are no others.
    pub exhaustive: bool,
}

/// Which subsets of the pending changes to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subsets {
    All,
    /// Those with the last change: the others were taken before it was made.
    WithLast,
    None,
}

/// What became of the bytes of a file that were not made durable.
#[derive(Debug, Clone, Copy)]
enum Bytes {
    None,
    /// The first half: a torn write.
    Half,
    /// The length was written, the bytes were not.
    Zeros,
    All,
}

const BYTES: [Bytes; 4] = [Bytes::None, Bytes::Half, Bytes::Zeros, Bytes::All];

impl Disk {
    /// Returns what a power cut may leave. Some may be equal.
    pub(crate) fn cuts(&self, which: Subsets) -> Cuts {
        if which == Subsets::None {
            return Cuts { disks: vec![], exhaustive: true };
        }
        let (mut subsets, all_subsets) = self.subsets();
        subsets.retain(|subset| which == Subsets::All || subset.last() == Some(&true));
        let mut cuts = Cuts { disks: Vec::new(), exhaustive: all_subsets };
        for subset in subsets {
            let (mut kept, torn) = self.names_left(&subset);
            cuts.exhaustive &= torn.len() <= FILES_MAX;
            for choice in choices(torn.len()) {
                for ((new, old), bytes) in torn.iter().zip(choice) {
                    kept[*new] = Arc::new(Node::File(self.bytes_left(*old, bytes)));
                }
                cuts.disks.push(Self::at_rest(kept.clone()));
            }
        }
        cuts
    }

    /// Returns one that is drawn.
    pub(crate) fn drawn_cut(&self, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let subset = self.without_baseless(self.pending.iter().map(|_| random.random()).collect());
        let (mut kept, torn) = self.names_left(&subset);
        for (new, old) in torn {
            kept[new] = Arc::new(Node::File(self.bytes_left(old, BYTES[random.random_range(..BYTES.len())])));
        }
        Self::at_rest(kept)
    }

    /// Returns the one that leaves nothing but what is durable.
    pub(crate) fn barest_cut(&self) -> Self {
        Self::at_rest(self.reachable(&self.durable).0)
    }

    fn at_rest(nodes: Vec<Arc<Node>>) -> Self {
        Self { visible: nodes.clone(), durable: nodes, pending: vec![], forgotten: BTreeSet::new() }
    }

    /// Copies what has a name if these of the pending changes reached the disk, as [`Self::reachable`].
    fn names_left(&self, reached: &[bool]) -> (Vec<Arc<Node>>, Vec<(NodeId, NodeId)>) {
        let mut nodes = self.durable.clone();
        self.pending.iter().zip(reached).filter(|(_, reached)| **reached).for_each(|(change, _)| change.apply(&mut nodes));
        self.reachable(&nodes)
    }

    /// Returns subsets of the pending changes, each closed under what its changes need, and whether these are all.
    fn subsets(&self) -> (Vec<Vec<bool>>, bool) {
        let count = self.pending.len();
        if count <= CHANGES_MAX {
            let mut subsets = vec![Vec::with_capacity(count)];
            for later in 0..count {
                let with = subsets.iter().filter(|subset| self.may_join(later, subset)).map(|subset| [&subset[..], &[true]].concat());
                let with: Vec<_> = with.collect();
                subsets.iter_mut().for_each(|subset| subset.push(false));
                subsets.extend(with);
            }
            return (subsets, true);
        }
        let mut random = StdRng::seed_from_u64(count as u64);
        let pairs = (0..count).flat_map(|a| (a..count).map(move |b| [a, b]));
        let few: Vec<Vec<bool>> = pairs.map(|pair| (0..count).map(|at| pair.contains(&at)).collect()).collect();
        let many = few.iter().map(|subset| subset.iter().map(|reached| !reached).collect());
        let drawn: Vec<Vec<bool>> = (0..DRAWN).map(|_| (0..count).map(|_| random.random()).collect()).collect();
        let many = many.chain(drawn).chain([vec![true; count], vec![false; count]]).map(|subset| self.without_baseless(subset));
        (many.chain(few.iter().cloned().map(|subset| self.with_needed(subset))).collect(), false)
    }

    fn may_join(&self, later: usize, earlier: &[bool]) -> bool {
        earlier.iter().enumerate().all(|(at, reached)| *reached || !self.pending[later].needs(&self.pending[at]))
    }

    /// Takes away what lacks something that it needs.
    fn without_baseless(&self, mut subset: Vec<bool>) -> Vec<bool> {
        for later in 0..subset.len() {
            subset[later] = subset[later] && self.may_join(later, &subset[..later]);
        }
        subset
    }

    /// Adds what is needed by something in it.
    pub(crate) fn with_needed(&self, mut subset: Vec<bool>) -> Vec<bool> {
        for earlier in (0..subset.len()).rev() {
            let needed = |later: usize| subset[later] && self.pending[later].needs(&self.pending[earlier]);
            subset[earlier] = subset[earlier] || (earlier + 1..subset.len()).any(needed);
        }
        subset
    }

    /// Copies what has a name. Returns it with the files that have pending bytes: their new numbers and the old ones.
    fn reachable(&self, nodes: &[Arc<Node>]) -> (Vec<Arc<Node>>, Vec<(NodeId, NodeId)>) {
        fn copy(nodes: &[Arc<Node>], old: NodeId, kept: &mut Vec<Arc<Node>>, olds: &mut Vec<NodeId>) -> NodeId {
            let new = kept.len();
            kept.push(nodes[old].clone());
            olds.push(old);
            if let Node::Dir(names) = &*nodes[old] {
                let names: Vec<(Name, NodeId)> = names.iter().map(|(name, node)| (name.clone(), *node)).collect();
                let names = names.into_iter().map(|(name, node)| (name, copy(nodes, node, kept, olds))).collect();
                kept[new] = Arc::new(Node::Dir(names));
            }
            new
        }
        let (mut kept, mut olds) = (Vec::new(), Vec::new());
        copy(nodes, 0, &mut kept, &mut olds);
        let pending = |old: NodeId| match (&*self.visible[old], &*self.durable[old]) {
            (Node::File(visible), Node::File(durable)) => visible.bytes().len() > durable.bytes().len(),
            _ => false,
        };
        let torn = olds.into_iter().enumerate().filter(|(_, old)| pending(*old)).collect();
        (kept, torn)
    }

    fn bytes_left(&self, file: NodeId, left: Bytes) -> Arc<Content> {
        let (Node::File(visible), Node::File(durable)) = (&*self.visible[file], &*self.durable[file]) else {
            panic!("a directory has no bytes");
        };
        let (kept, len) = (durable.bytes().len(), visible.bytes().len());
        match left {
            Bytes::None => durable.clone(),
            Bytes::All => visible.clone(),
            Bytes::Half => Content::new(visible.bytes()[..kept + (len - kept) / 2].to_vec()),
            Bytes::Zeros => Content::new([durable.bytes(), &vec![0; len - kept]].concat()),
        }
    }
}

/// Returns what may have become of so many files: every combination, or if these are too many, the same of all and one different from it.
fn choices(files: usize) -> Vec<Vec<Bytes>> {
    if files <= FILES_MAX {
        let mut choices = vec![vec![]];
        for _ in 0..files {
            choices = choices.iter().flat_map(|choice: &Vec<Bytes>| BYTES.map(|bytes| [&choice[..], &[bytes]].concat())).collect();
        }
        return choices;
    }
    let same = BYTES.iter().map(|bytes| vec![*bytes; files]);
    let but_one = (0..files).flat_map(|at| {
        BYTES.into_iter().flat_map(move |all| {
            BYTES.map(|other| {
                let mut choice = vec![all; files];
                choice[at] = other;
                choice
            })
        })
    });
    same.chain(but_one).collect()
}
