//! A file system in memory that knows what is visible and what a power cut leaves.
//!
//! Owns: the worst that POSIX allows: a name is durable when its directory was fsynced, bytes when their file was. A rename is one step,
//! durable on both sides when either directory is fsynced.
//! Does not own: when the power goes (see `recovery`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Component, Path};
use std::sync::{Arc, Mutex};

use pintail::durable::fs::{Entry, EntryKind, Fs, FsFile};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

#[derive(Debug, Clone)]
enum Node {
    File { visible: Vec<u8>, durable: Vec<u8> },
    Dir { visible: BTreeMap<OsString, usize>, durable: BTreeMap<OsString, usize> },
}

impl Node {
    fn dir() -> Self {
        Self::Dir { visible: BTreeMap::new(), durable: BTreeMap::new() }
    }

    fn names(&mut self) -> io::Result<&mut BTreeMap<OsString, usize>> {
        match self {
            Self::Dir { visible, .. } => Ok(visible),
            Self::File { .. } => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn durable_names(&mut self) -> &mut BTreeMap<OsString, usize> {
        match self {
            Self::Dir { durable, .. } => durable,
            Self::File { .. } => panic!("a file has no names"),
        }
    }
}

/// A name in a directory.
type Place = (usize, OsString);

#[derive(Debug, Clone)]
struct Disk {
    nodes: Vec<Node>,
    /// Renames between directories that are visible and not durable.
    renames: Vec<(Place, Place)>,
}

/// The file system. Clones of the handle are the same disk.
#[derive(Debug, Clone)]
pub struct Model {
    disk: Arc<Mutex<Disk>>,
}

impl Model {
    /// Makes an empty disk.
    pub fn new() -> Self {
        Self { disk: Arc::new(Mutex::new(Disk { nodes: vec![Node::dir()], renames: vec![] })) }
    }

    /// Returns another disk: what a power cut leaves if nothing was written that nobody asked to be.
    pub fn after_power_cut(&self) -> Self {
        let mut disk = self.disk.lock().unwrap().clone();
        disk.cut();
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    /// Returns another disk: what a power cut leaves if the kernel had written some files and directories on its own.
    pub fn after_late_power_cut(&self, seed: u64) -> Self {
        let (mut disk, mut random) = (self.disk.lock().unwrap().clone(), StdRng::seed_from_u64(seed));
        for node in 0..disk.nodes.len() {
            if random.random() {
                disk.sync(node);
            }
        }
        disk.cut();
        Self { disk: Arc::new(Mutex::new(disk)) }
    }

    fn with<T>(&self, operation: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        operation(&mut self.disk.lock().unwrap())
    }
}

impl Disk {
    fn find(&mut self, path: &Path) -> io::Result<usize> {
        let names = path.components().filter(|component| matches!(component, Component::Normal(_)));
        let mut at = 0;
        for name in names {
            at = *self.nodes[at].names()?.get(name.as_os_str()).ok_or(ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    fn place(&mut self, path: &Path) -> io::Result<Place> {
        let dir = self.find(path.parent().ok_or(ErrorKind::AlreadyExists)?)?;
        Ok((dir, path.file_name().ok_or(ErrorKind::AlreadyExists)?.to_owned()))
    }

    fn make(&mut self, path: &Path, node: Node) -> io::Result<usize> {
        let (dir, name) = self.place(path)?;
        let new = self.nodes.len();
        let names = self.nodes[dir].names()?;
        if names.contains_key(&name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        names.insert(name, new);
        self.nodes.push(node);
        Ok(new)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        self.nodes[dir].names()?.remove(&name).map(|_| ()).ok_or(ErrorKind::NotFound.into())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        if self.nodes[to.0].names()?.contains_key(&to.1) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let node = self.nodes[from.0].names()?.remove(&from.1).ok_or(ErrorKind::NotFound)?;
        self.nodes[to.0].names()?.insert(to.1.clone(), node);
        self.renames.push((from, to));
        Ok(())
    }

    fn sync(&mut self, node: usize) {
        match &mut self.nodes[node] {
            Node::File { visible, durable } => durable.clone_from(visible),
            Node::Dir { visible, durable } => durable.clone_from(visible),
        }
        let (now, later) = std::mem::take(&mut self.renames).into_iter().partition(|(from, to)| from.0 == node || to.0 == node);
        self.renames = later;
        for (from, to) in Vec::from_iter::<Vec<(Place, Place)>>(now) {
            self.nodes[from.0].durable_names().remove(&from.1);
            if let Some(&renamed) = self.nodes[to.0].names().expect("a rename ends in a directory").get(&to.1) {
                self.nodes[to.0].durable_names().insert(to.1, renamed);
            }
        }
    }

    fn cut(&mut self) {
        self.renames.clear();
        for node in &mut self.nodes {
            match node {
                Node::File { visible, durable } => visible.clone_from(durable),
                Node::Dir { visible, durable } => visible.clone_from(durable),
            }
        }
    }

    fn kind(&self, node: usize) -> EntryKind {
        match &self.nodes[node] {
            Node::File { visible, .. } => EntryKind::File(visible.len() as u64),
            Node::Dir { .. } => EntryKind::Dir,
        }
    }
}

impl Fs for Model {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let node = self.with(|disk| disk.make(path, Node::File { visible: vec![], durable: vec![] }))?;
        Ok(Box::new(ModelFile { model: self.clone(), node }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        self.with(|disk| {
            let node = disk.find(path)?;
            match &disk.nodes[node] {
                Node::File { visible, .. } => Ok(Box::new(io::Cursor::new(visible.clone())) as Box<dyn Read + Send>),
                Node::Dir { .. } => Err(ErrorKind::IsADirectory.into()),
            }
        })
    }

    fn entry(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        match self.with(|disk| disk.find(path).map(|node| disk.kind(node))) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            found => found.map(Some),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.with(|disk| {
            let node = disk.find(dir)?;
            let names = disk.nodes[node].names()?.clone();
            Ok(names.into_iter().map(|(name, node)| Entry { path: dir.join(name), kind: disk.kind(node) }).collect())
        })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.with(|disk| disk.make(path, Node::dir()).map(|_| ()))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.sync_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.with(|disk| disk.find(dir).map(|node| disk.sync(node)))
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.with(|disk| disk.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.with(|disk| disk.remove(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        if self.list(path)?.is_empty() { self.with(|disk| disk.remove(path)) } else { Err(ErrorKind::DirectoryNotEmpty.into()) }
    }

    fn device(&self, _path: &Path) -> io::Result<u64> {
        Ok(0)
    }
}

#[derive(Debug)]
struct ModelFile {
    model: Model,
    node: usize,
}

impl Write for ModelFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.model.with(|disk| match &mut disk.nodes[self.node] {
            Node::File { visible, .. } => visible.write(buf),
            Node::Dir { .. } => Err(ErrorKind::IsADirectory.into()),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FsFile for ModelFile {
    fn sync(&mut self) -> io::Result<()> {
        self.model.with(|disk| {
            disk.sync(self.node);
            Ok(())
        })
    }
}
