//! The state of the modelled disk: what is visible, what is durable, and the changes between the two.
//!
//! Owns: each operation's effect on both, and what an fsync makes durable.
//! Does not own: which of the pending changes a power cut lets through (see `cuts`), the trait that the product calls (see `model`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Component, Path};
use std::sync::Arc;

use super::content::Content;

pub(crate) type NodeId = usize;
pub(crate) type Name = Arc<str>;

#[derive(Debug, Clone)]
pub(crate) enum Node {
    File(Arc<Content>),
    Dir(BTreeMap<Name, NodeId>),
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub dir: NodeId,
    pub name: Name,
}

/// A change of names that is visible and not durable. Each reaches the disk whole or not at all.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// A new file or directory.
    Make(Place, NodeId),
    /// A file or directory that is gone.
    Remove(Place),
    /// A rename, on both sides.
    Move { from: Place, to: Place, node: NodeId },
    /// An exchange: what is then in each place.
    Exchange([(Place, NodeId); 2]),
}

impl Change {
    /// Returns the places that it writes to.
    fn places(&self) -> impl Iterator<Item = &Place> {
        let (one, other) = match self {
            Self::Make(place, _) | Self::Remove(place) => (place, None),
            Self::Move { from, to, .. } => (from, Some(to)),
            Self::Exchange([(one, _), (other, _)]) => (one, Some(other)),
        };
        std::iter::once(one).chain(other)
    }

    /// Returns whether it cannot be there without `earlier`: they write to the same name.
    pub(crate) fn needs(&self, earlier: &Self) -> bool {
        self.places().any(|place| earlier.places().any(|other| place == other))
    }

    fn touches(&self, dir: NodeId) -> bool {
        self.places().any(|place| place.dir == dir)
    }

    pub(crate) fn apply(&self, nodes: &mut [Arc<Node>]) {
        match self {
            Self::Make(place, node) => drop(names_mut(nodes, place.dir).insert(place.name.clone(), *node)),
            Self::Remove(place) => drop(names_mut(nodes, place.dir).remove(&place.name)),
            Self::Move { from, to, node } => {
                names_mut(nodes, from.dir).remove(&from.name);
                names_mut(nodes, to.dir).insert(to.name.clone(), *node);
            }
            Self::Exchange(places) => {
                places.iter().for_each(|(place, node)| _ = names_mut(nodes, place.dir).insert(place.name.clone(), *node));
            }
        }
    }
}

fn names_mut(nodes: &mut [Arc<Node>], dir: NodeId) -> &mut BTreeMap<Name, NodeId> {
    match Arc::make_mut(&mut nodes[dir]) {
        Node::Dir(names) => names,
        Node::File(_) => panic!("a file has no names"),
    }
}

/// A disk. Cheap to clone: contents and directories are shared until they change.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    /// What a process sees. Node 0 is the root.
    pub visible: Vec<Arc<Node>>,
    /// What is durable for certain, by the same numbers.
    pub durable: Vec<Arc<Node>>,
    /// The changes of names between the two, in their order. Of a file, all bytes past the durable ones are pending.
    pub pending: Vec<Change>,
    /// Files whose fsync failed: the kernel has forgotten their pages, and later ones succeed without writing them.
    pub forgotten: BTreeSet<NodeId>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let root = vec![Arc::new(Node::Dir(BTreeMap::new()))];
        Self { visible: root.clone(), durable: root, pending: vec![], forgotten: BTreeSet::new() }
    }

    pub(crate) fn find(&self, path: &Path) -> io::Result<NodeId> {
        let names = path.components().filter_map(|component| match component {
            Component::Normal(name) => name.to_str(),
            _ => None,
        });
        let mut at = 0;
        for name in names {
            at = *self.names(at)?.get(name).ok_or(ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    pub(crate) fn names(&self, dir: NodeId) -> io::Result<&BTreeMap<Name, NodeId>> {
        match &*self.visible[dir] {
            Node::Dir(names) => Ok(names),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    pub(crate) fn content(&self, file: NodeId) -> io::Result<&Arc<Content>> {
        match &*self.visible[file] {
            Node::File(content) => Ok(content),
            Node::Dir(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    /// Returns the place of a path, and what is there.
    fn place(&self, path: &Path) -> io::Result<(Place, Option<NodeId>)> {
        let dir = self.find(path.parent().ok_or(ErrorKind::AlreadyExists)?)?;
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(ErrorKind::AlreadyExists)?;
        let there = self.names(dir)?.get(name).copied();
        Ok((Place { dir, name: name.into() }, there))
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.visible);
        self.pending.push(change);
    }

    /// Adds a node that has no name yet.
    pub(crate) fn add(&mut self, node: Node) -> NodeId {
        let node = Arc::new(node);
        self.visible.push(node.clone());
        self.durable.push(node);
        self.visible.len() - 1
    }

    /// Gives a new node its name.
    pub(crate) fn make(&mut self, path: &Path, node: NodeId) -> io::Result<()> {
        match self.place(path)? {
            (_, Some(_)) => Err(ErrorKind::AlreadyExists.into()),
            (place, None) => {
                self.change(Change::Make(place, node));
                Ok(())
            }
        }
    }

    pub(crate) fn append(&mut self, file: NodeId, bytes: &[u8]) {
        match Arc::make_mut(&mut self.visible[file]) {
            Node::File(content) => *content = content.with(bytes),
            Node::Dir(_) => panic!("a directory has no bytes"),
        }
    }

    pub(crate) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let (place, there) = self.place(path)?;
        self.content(there.ok_or(ErrorKind::NotFound)?)?;
        self.change(Change::Remove(place));
        Ok(())
    }

    pub(crate) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let (place, there) = self.place(path)?;
        if !self.names(there.ok_or(ErrorKind::NotFound)?)?.is_empty() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(Change::Remove(place));
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        let ((from, node), (to, there)) = (self.place(from)?, self.place(to)?);
        let node = node.ok_or(ErrorKind::NotFound)?;
        if there.is_some() && !replace {
            return Err(ErrorKind::AlreadyExists.into());
        }
        self.change(Change::Move { from, to, node });
        Ok(())
    }

    pub(crate) fn exchange(&mut self, one: &Path, other: &Path) -> io::Result<()> {
        let ((one, here), (other, there)) = (self.place(one)?, self.place(other)?);
        let (here, there) = (here.ok_or(ErrorKind::NotFound)?, there.ok_or(ErrorKind::NotFound)?);
        self.change(Change::Exchange([(one, there), (other, here)]));
        Ok(())
    }

    /// Makes a file's bytes durable, or the names in a directory with what those changes cannot be without.
    pub(crate) fn sync(&mut self, node: NodeId) {
        if let Node::File(_) = *self.visible[node] {
            if !self.forgotten.contains(&node) {
                self.durable[node] = self.visible[node].clone();
            }
            return;
        }
        let reached = self.with_needed(self.pending.iter().map(|change| change.touches(node)).collect());
        let mut reached = reached.into_iter();
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let reached = reached.next().expect("one for each change");
            if reached {
                change.apply(durable);
            }
            !reached
        });
    }

    /// Fails to make a file's bytes durable.
    pub(crate) fn forget(&mut self, file: NodeId) {
        self.forgotten.insert(file);
    }
}
