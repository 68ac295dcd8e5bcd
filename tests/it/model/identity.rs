//! When two disks are one: nothing that a process or a power cut can do tells them apart.
//!
//! Owns: the key by which a disk is not tried twice. Numbers of nodes do not count, and identities are renamed (see `content`).
//! Does not own: what a disk is tried for.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::content::Renaming;
use super::disk::{Change, Disk, Node, NodeId, Place};

/// Numbers nodes in the order they are met, and feeds what they hold to the hasher.
struct Walk<'a> {
    disk: &'a Disk,
    /// By node; none met yet has `usize::MAX`.
    met: Vec<usize>,
    next: usize,
    renaming: Renaming,
    hasher: DefaultHasher,
}

impl Disk {
    /// Returns the same number for disks that are one.
    pub fn key(&self) -> u64 {
        let mut walk = Walk {
            disk: self,
            met: vec![usize::MAX; self.visible.len()],
            next: 0,
            renaming: Renaming::default(),
            hasher: DefaultHasher::new(),
        };
        walk.node(0);
        for change in &self.pending {
            walk.change(change);
        }
        walk.hasher.finish()
    }
}

impl Walk<'_> {
    /// Feeds a node as it is visible and as it is durable, if it was not met before.
    fn node(&mut self, node: NodeId) {
        if self.met[node] != usize::MAX {
            self.met[node].hash(&mut self.hasher);
            return;
        }
        self.met[node] = self.next;
        self.next.hash(&mut self.hasher);
        self.next += 1;
        let (visible, durable) = (&self.disk.visible[node], &self.disk.durable[node]);
        self.side(visible);
        let same = match (&**visible, &**durable) {
            (Node::File(visible), Node::File(durable)) => Arc::ptr_eq(visible, durable) || visible.bytes() == durable.bytes(),
            (visible, durable) => matches!((visible, durable), (Node::Dir(a), Node::Dir(b)) if a == b),
        };
        same.hash(&mut self.hasher);
        if !same {
            self.side(durable);
        }
        self.disk.forgotten.contains(&node).hash(&mut self.hasher);
    }

    fn side(&mut self, node: &Node) {
        match node {
            Node::File(content) => content.hash(&mut self.renaming, &mut self.hasher),
            Node::Dir(names) => {
                names.len().hash(&mut self.hasher);
                for (name, node) in names {
                    name.hash(&mut self.hasher);
                    self.node(*node);
                }
            }
        }
    }

    fn change(&mut self, change: &Change) {
        std::mem::discriminant(change).hash(&mut self.hasher);
        match change {
            Change::Make(place, node) => {
                self.place(place);
                self.node(*node);
            }
            Change::Remove(place) => self.place(place),
            Change::Move { from, to, node } => {
                self.place(from);
                self.place(to);
                self.node(*node);
            }
        }
    }

    fn place(&mut self, place: &Place) {
        self.node(place.dir);
        place.name.hash(&mut self.hasher);
    }
}
