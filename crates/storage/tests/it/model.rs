//! A file system in memory that knows what is visible, what is durable, and what is neither lost nor safe.
//!
//! Owns: the trait `Fs` over the modelled disk (see `disk`), and the moments of a run: the disk after each operation.
//! Does not own: when a process or the machine dies, and what must hold afterwards (see `states`).
//!
//! What it assumes of a real file system, and nothing more:
//! - A rename, and an exchange, is one atomic step: a power cut leaves both of its sides or neither, and so the fsync of either directory makes both
//!   durable.
//!   (The fallback of `durable::posix` where the file system has no such rename is a link, an fsync and an unlink: see [`Renames`].)
//! - Making, linking, removing and renaming a name become durable by the fsync of the directory, and of nothing else. Each such change that is not
//!   durable may have reached the disk or not, in any combination: only changes of the *same name* keep their order. A directory may
//!   lose its name while a file has already moved into it, and a directory may be gone while the file that was to leave it has not left.
//! - Bytes become durable by the fsync of their file. Until then a power cut leaves none of them, half, their length filled with zeros, or
//!   all; bytes once durable stay. The fsync of a file says nothing about its name, nor does that of a directory about the bytes in it.
//! - After a failed fsync the kernel has forgotten the pages: a later one succeeds and writes nothing.
//! - A killed process leaves all that it did visible, durable or not, the last write perhaps by half.
//! - Directory entries and bytes at rest do not rot: what is durable is read back as it was written.

use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use pintail_storage::durable::fs::{Entry, EntryKind, FileIdentity, Fs, FsFile, ReadFs};

mod content;
pub(crate) mod cuts;
pub(crate) mod disk;
mod identity;

use content::Content;
use disk::{Disk, Node, NodeId};

/// An operation that changes the disk, or makes a change durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Step {
    Create,
    Write,
    Sync,
    Mkdir,
    SyncFile,
    SyncDir,
    Rename,
    Link,
    Exchange,
    Remove,
    Rmdir,
}

/// How a rename without replacing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renames {
    /// In one step.
    Atomic,
    /// As on file systems that cannot: link, fsync of the directory, unlink.
    Linked,
}

/// The disk after an operation.
#[derive(Debug, Clone)]
pub(crate) struct Moment {
    pub disk: Disk,
    /// What was done; `None` if checkpoints were acknowledged since.
    pub step: Option<(Step, PathBuf)>,
    /// Checkpoints that were acknowledged by then.
    pub acknowledged: u64,
}

#[derive(Debug)]
struct State {
    disk: Disk,
    acknowledged: u64,
    /// All since the last time that they were taken; `None` if nobody will take them.
    moments: Option<Vec<Moment>>,
    renames: Renames,
}

/// The file system. Clones of the handle are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    state: Arc<Mutex<State>>,
}

impl Model {
    /// Mounts a disk, with so many checkpoints acknowledged.
    pub(crate) fn over(disk: Disk, acknowledged: u64, renames: Renames) -> Self {
        Self { state: Arc::new(Mutex::new(State { disk, acknowledged, moments: Some(vec![]), renames })) }
    }

    /// Mounts an empty disk.
    pub(crate) fn new() -> Self {
        Self::over(Disk::new(), 0, Renames::Atomic)
    }

    /// Keeps no moments: a copy of the disk at each operation takes a fifth of the time.
    pub(crate) fn without_moments(self) -> Self {
        self.state().moments = None;
        self
    }

    pub(crate) fn handle(&self) -> Arc<dyn Fs> {
        Arc::new(self.clone())
    }

    /// Returns the disk as it is now.
    pub(crate) fn disk(&self) -> Disk {
        self.state().disk.clone()
    }

    /// Returns the moments since they were last taken.
    pub(crate) fn take_moments(&self) -> Vec<Moment> {
        self.state().moments.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Returns the checkpoints that are acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.state().acknowledged
    }

    /// Records that checkpoints were acknowledged to the source: from now on they must not be lost.
    pub(crate) fn announce(&self, checkpoints: u64) {
        let mut state = self.state();
        if checkpoints > state.acknowledged {
            state.acknowledged = checkpoints;
            state.note(None);
        }
    }

    /// Makes a file that is to be called `path` and has no name yet.
    pub(crate) fn unnamed_file(&self, path: &Path) -> ModelFile {
        let node = self.state().disk.add(Node::File(Arc::new(Content::default())));
        ModelFile { model: self.clone(), node, path: path.to_path_buf() }
    }

    /// Gives a file made by [`Model::unnamed_file`] its name.
    pub(crate) fn name(&self, path: &Path, node: NodeId) -> io::Result<()> {
        self.act(Step::Create, path, |disk| disk.make(path, node))
    }

    /// Renames, also onto a name that is taken.
    pub(crate) fn rename_replacing(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act(Step::Rename, to, |disk| disk.rename(from, to, true))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn act<T>(&self, step: Step, path: &Path, operation: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        let done = operation(&mut state.disk)?;
        state.note(Some((step, path.to_path_buf())));
        Ok(done)
    }

    fn look<T>(&self, operation: impl FnOnce(&Disk) -> io::Result<T>) -> io::Result<T> {
        operation(&self.state().disk)
    }
}

impl State {
    fn note(&mut self, step: Option<(Step, PathBuf)>) {
        if let Some(moments) = &mut self.moments {
            moments.push(Moment { disk: self.disk.clone(), step, acknowledged: self.acknowledged });
        }
    }
}

impl Disk {
    fn kind(&self, node: NodeId) -> EntryKind {
        match &*self.visible[node] {
            Node::File(content) => EntryKind::File(content.bytes().len() as u64),
            Node::Dir(_) => EntryKind::Dir,
        }
    }

    fn identity(&self, node: NodeId) -> FileIdentity {
        let bytes = if let EntryKind::File(bytes) = self.kind(node) { bytes } else { 0 };
        FileIdentity { device: 0, inode: node as u64, bytes }
    }
}

impl ReadFs for Model {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        let node = self.look(|disk| {
            let node = disk.find(path)?;
            disk.content(node).map(|_| node)
        })?;
        Ok(Box::new(Reading { model: self.clone(), node, at: 0 }))
    }

    fn entry(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        match self.look(|disk| disk.find(path).map(|node| disk.kind(node))) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            found => found.map(Some),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.look(|disk| {
            let names = disk.names(disk.find(dir)?)?;
            Ok(names.iter().map(|(name, node)| Entry { path: dir.join(&**name), kind: disk.kind(*node) }).collect())
        })
    }
}

impl Fs for Model {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = self.unnamed_file(path);
        self.name(path, file.node)?;
        Ok(Box::new(file))
    }

    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        match self.look(|disk| disk.find(path).map(|node| disk.identity(node))) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            found => found.map(Some),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.act(Step::Mkdir, path, |disk| {
            let node = disk.add(Node::Dir(std::collections::BTreeMap::new()));
            disk.make(path, node)
        })
    }

    fn create_dir_like(&self, path: &Path, _like: &Path) -> io::Result<()> {
        self.create_dir(path)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.act(Step::SyncFile, path, |disk| disk.find(path).map(|node| disk.sync(node)))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.act(Step::SyncDir, dir, |disk| disk.find(dir).map(|node| disk.sync(node)))
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        // No directory has two names.
        if self.state().renames == Renames::Atomic || self.entry(from)? == Some(EntryKind::Dir) {
            return self.act(Step::Rename, to, |disk| disk.rename(from, to, false));
        }
        self.act(Step::Rename, to, |disk| {
            let node = disk.find(from)?;
            disk.make(to, node)
        })?;
        self.sync_dir(to.parent().expect("a file lies in a directory"))?;
        self.remove_file(from)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act(Step::Link, to, |disk| {
            let node = disk.find(from)?;
            disk.content(node)?;
            disk.make(to, node)
        })
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.act(Step::Exchange, one, |disk| disk.exchange(one, other))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.act(Step::Remove, path, |disk| disk.remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.act(Step::Rmdir, path, |disk| disk.remove_dir(path))
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        self.look(|disk| disk.find(path).map(|_| 0))
    }
}

/// A file open for reading: it sees what is appended meanwhile, and goes on when its name is removed.
#[derive(Debug)]
struct Reading {
    model: Model,
    node: NodeId,
    at: usize,
}

impl Read for Reading {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let content = self.model.look(|disk| disk.content(self.node).cloned())?;
        let read = (&content.bytes()[self.at..]).read(buf)?;
        self.at += read;
        Ok(read)
    }
}

/// A file open for writing.
#[derive(Debug)]
pub(crate) struct ModelFile {
    model: Model,
    pub node: NodeId,
    path: PathBuf,
}

impl ModelFile {
    /// Fails to make the bytes durable: they never will be.
    pub(crate) fn forget(&self) {
        self.model.state().disk.forget(self.node);
    }
}

impl Write for ModelFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // Two moments: a kill may come in the middle.
        for half in [&buf[..buf.len() / 2], &buf[buf.len() / 2..]] {
            self.model.act(Step::Write, &self.path, |disk| {
                disk.append(self.node, half);
                Ok(())
            })?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FsFile for ModelFile {
    fn sync(&mut self) -> io::Result<()> {
        self.model.act(Step::Sync, &self.path, |disk| {
            disk.sync(self.node);
            Ok(())
        })
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        self.model.look(|disk| Ok(disk.identity(self.node)))
    }
}
