//! When two disks are one: nothing that a process or a power cut can do tells them apart.
//!
//! Owns: the key by which a disk is not tried twice, and the essence, by which one is not tried deeper. Numbers of nodes do not count, and
//! identities are renamed (see `content`).
//! Does not own: what a disk is tried for.
//!
//! Every start adds a record, so no recovery ever leads back to the same disk. What a later start makes of a disk depends on less than all of
//! it. The *essence* leaves out: how many records came before the snapshot that the last one names, and what they and older snapshots say
//! (they are not read); what is in files that were being written and that no record can reach any more (they are removed by name); and it
//! counts sequence numbers back from the last record.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use super::content::Renaming;
use super::disk::{Change, Disk, Name, Node, NodeId, Place};

/// What the essence is seen from.
#[derive(Debug, Clone, Copy, Default)]
struct View {
    /// The last record that is visible.
    last: u64,
    /// The epoch of its process.
    epoch: u64,
    /// The snapshot that it names.
    snapshot: u64,
}

/// What a directory holds, as far as that decides what counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Records,
    Snapshots,
    /// What the last record may still need.
    Staged,
    Other,
}

/// Numbers nodes in the order they are met, and feeds what they hold to the hasher.
struct Walk<'a> {
    disk: &'a Disk,
    /// By node; none met yet has `usize::MAX`.
    met: Vec<usize>,
    next: usize,
    renaming: Renaming,
    hasher: DefaultHasher,
    /// `None` if all counts.
    view: Option<View>,
}

impl Disk {
    /// Returns the same number for disks that are one.
    pub(crate) fn key(&self) -> u64 {
        self.walk(None)
    }

    /// Returns the same number for disks that are one to every later start at `root`.
    pub(crate) fn essence(&self, root: &Path) -> u64 {
        self.walk(Some(self.view(root).unwrap_or_default()))
    }

    fn walk(&self, view: Option<View>) -> u64 {
        let mut walk = Walk {
            disk: self,
            met: vec![usize::MAX; self.visible.len()],
            next: 0,
            renaming: Renaming::default(),
            hasher: DefaultHasher::new(),
            view,
        };
        walk.node(0, Holds::Other);
        for change in &self.pending {
            walk.change(change);
        }
        walk.hasher.finish()
    }

    fn view(&self, root: &Path) -> Option<View> {
        let commits = self.names(self.find(&root.join("_pintail/commits/000000")).ok()?).ok()?;
        let (last, node) = commits.iter().rev().find_map(|(name, node)| Some((record(name)?, *node)))?;
        let line = self.content(node).ok()?.bytes().split(|byte| *byte == b'\n').next()?;
        let json: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
        Some(View { last, epoch: json["epoch"].as_u64().unwrap_or(0), snapshot: json["snapshot"]["sequence"].as_u64().unwrap_or(0) })
    }
}

/// Returns the sequence number in the name of a record or a snapshot.
fn record(name: &str) -> Option<u64> {
    name.strip_suffix(".json").filter(|number| number.len() == 10)?.parse().ok()
}

impl Walk<'_> {
    /// Feeds a node as it is visible and as it is durable, if it was not met before.
    fn node(&mut self, node: NodeId, holds: Holds) {
        if !self.meet(node) {
            return;
        }
        let (visible, durable) = (&self.disk.visible[node], &self.disk.durable[node]);
        self.side(visible, holds);
        let same = match (&**visible, &**durable) {
            (Node::File(visible), Node::File(durable)) => Arc::ptr_eq(visible, durable) || visible.bytes() == durable.bytes(),
            (visible, durable) => matches!((visible, durable), (Node::Dir(a), Node::Dir(b)) if a == b),
        };
        same.hash(&mut self.hasher);
        if !same {
            self.side(durable, holds);
        }
        self.disk.forgotten.contains(&node).hash(&mut self.hasher);
    }

    /// Feeds the number of a node. Returns whether it was not met before.
    fn meet(&mut self, node: NodeId) -> bool {
        let new = self.met[node] == usize::MAX;
        if new {
            self.met[node] = self.next;
            self.next += 1;
        }
        self.met[node].hash(&mut self.hasher);
        new
    }

    fn side(&mut self, node: &Node, holds: Holds) {
        match node {
            Node::File(content) => content.hash(&mut self.renaming, self.view.map(|view| view.last), &mut self.hasher),
            Node::Dir(names) => names.iter().for_each(|(name, node)| self.named(name, *node, holds)),
        }
        u64::MAX.hash(&mut self.hasher);
    }

    /// Feeds what has a name, as far as it counts.
    fn named(&mut self, name: &Name, node: NodeId, holds: Holds) {
        if let (Some(view), Some(sequence)) = (self.view, record(name))
            && sequence < view.snapshot
        {
            // A record or a snapshot that is not read any more. That there are old snapshots counts: they are removed.
            if holds == Holds::Snapshots {
                "old".hash(&mut self.hasher);
            }
            return;
        }
        self.name(name);
        if self.view.is_some() && name.ends_with(".inprogress") && holds != Holds::Staged {
            self.meet(node);
            return;
        }
        let inner = match &**name {
            "commits" => Holds::Records,
            "snapshots" => Holds::Snapshots,
            _ if self.is_staging_of_last(name) => Holds::Staged,
            _ => Holds::Other,
        };
        // Records lie two deep.
        self.node(node, if holds == Holds::Records { Holds::Records } else { inner });
    }

    fn is_staging_of_last(&self, name: &str) -> bool {
        self.view.is_some_and(|view| name == format!("{:010}-{}", view.last, view.epoch))
    }

    /// Feeds a name: as it is, or with sequence numbers counted back and the random bits of processes renamed.
    fn name(&mut self, name: &str) {
        let Some(view) = self.view.filter(|_| !name.ends_with(".ndjson")) else { return name.hash(&mut self.hasher) };
        let mut numbered = false;
        for piece in name.split(['.', '-']) {
            match piece.parse::<u64>() {
                Ok(number) if piece.len() == 10 || numbered => {
                    numbered = true;
                    view.last.wrapping_sub(number).hash(&mut self.hasher);
                }
                _ if piece.len() == 16 => self.renaming.number_of(piece.as_bytes()).hash(&mut self.hasher),
                _ => piece.hash(&mut self.hasher),
            }
        }
    }

    fn change(&mut self, change: &Change) {
        std::mem::discriminant(change).hash(&mut self.hasher);
        match change {
            Change::Make(place, node) => {
                self.place(place);
                self.node(*node, Holds::Other);
            }
            Change::Remove(place) => self.place(place),
            Change::Move { from, to, node } => {
                self.place(from);
                self.place(to);
                self.node(*node, Holds::Other);
            }
            Change::Exchange(places) => {
                for (place, node) in places {
                    self.place(place);
                    self.node(*node, Holds::Other);
                }
            }
        }
    }

    fn place(&mut self, place: &Place) {
        self.node(place.dir, Holds::Other);
        self.name(&place.name);
    }
}
