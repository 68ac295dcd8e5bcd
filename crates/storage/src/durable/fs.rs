//! The operations that a commit is made of.
//!
//! Owns: the contract, operation by operation, of what is visible and what is durable afterwards.
//! Does not own: the order of operations (see `checkpoint::store`). Two implementations: the disk (`durable::posix`), and a model in
//! the tests that knows what a crash leaves. A bucket is read as one (`bucket::tree`), and written in another way (see [`crate::blob`]).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A file being written. Dropping it closes it; nothing is durable without [`FsFile::sync`].
pub trait FsFile: io::Write + Send + fmt::Debug {
    /// Makes the file's bytes durable, through the descriptor that wrote them.
    ///
    /// # Errors
    /// Never to be tried again on the same file: the kernel forgets the pages that it could not write.
    fn sync(&mut self) -> io::Result<()>;

    /// Returns which file it is, with its length.
    fn identity(&self) -> io::Result<FileIdentity>;
}

/// Which file it is, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    /// The device that it lies on.
    pub device: u64,
    /// Its number there, which another file gets once it is removed.
    pub inode: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file, with its length in bytes.
    File(u64),
    /// A directory.
    Dir,
    /// Anything else.
    Other,
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The whole path: the directory joined with the name.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
}

/// What can be looked at without changing anything: a file system, or a bucket that is seen as one.
pub trait ReadFs: Send + Sync + fmt::Debug {
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>>;

    /// Tells what is there; `None` if nothing is.
    fn entry(&self, path: &Path) -> io::Result<Option<EntryKind>>;

    /// Lists a directory by names alone, in any order: whether each is a directory is all that is asked of it.
    fn names(&self, dir: &Path) -> io::Result<Vec<(PathBuf, bool)>> {
        Ok(self.list(dir)?.into_iter().map(|entry| (entry.path, entry.kind == EntryKind::Dir)).collect())
    }

    /// Lists a directory, in the order of names.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
}

/// The file system as the commit protocol uses it. All paths are absolute or relative to the process, never to a handle.
pub trait Fs: ReadFs {
    /// Makes a file that must not exist (`O_EXCL`) and opens it for writing.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;

    /// Creates a file that only its owner may read, as [`Self::create_new`] does.
    fn create_new_private(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.create_new(path)
    }

    /// Tells which file is there; `None` if nothing is.
    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>>;

    /// Makes a directory whose parent exists; an error of kind `AlreadyExists` if the name is taken.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// As [`Self::create_dir`], with the owner, the group and the mode of another directory.
    fn create_dir_like(&self, path: &Path, like: &Path) -> io::Result<()>;

    /// Makes the bytes of a file durable that another process may have written (recovery).
    fn sync_file(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Renames in one atomic step; an error of kind `AlreadyExists` if `to` is taken.
    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives what is called `from`, which is no directory, a second name; an error of kind `AlreadyExists` if `to` is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Exchanges what two names stand for in one atomic step; an error of kind `NotFound` if nothing has one of them.
    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Returns the device that a path lies on: a rename cannot cross it.
    fn device(&self, path: &Path) -> io::Result<u64>;
}
