//! The directory in which a table says what it is: the log of a Delta table, the metadata of an Iceberg table.
//!
//! Owns: the few operations that a publisher needs, their contract, and how they are carried out on a disk.
//! Does not own: the names in the directory and what is in the files (see [`crate::delta`] and [`crate::iceberg`]).

use std::fmt;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pintail_core::error::{Error, Result};
use pintail_storage::durable::fs::{EntryKind, Fs};

/// The ending of what is being written: no reader looks at it.
const IN_PROGRESS: &str = ".pintail.tmp";

/// Returns whether a name is of what a publisher of ours has not finished.
pub fn is_unfinished(name: &str) -> bool {
    name.ends_with(IN_PROGRESS)
}

/// What became of a file that was to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It is there, durable.
    Now,
    /// The name was taken. Nothing was changed.
    Taken,
}

/// A file of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// When it was written; `None` if that cannot be told.
    pub written: Option<DateTime<Utc>>,
}

/// The directory as a publisher uses it. Whoever gets an error knows nothing of what became of the operation.
pub trait Log: fmt::Debug {
    /// Returns where it is, for messages.
    fn place(&self) -> String;

    /// Lists the files; none if there is no such directory.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Io`]
    fn list(&self) -> Result<Vec<Entry>>;

    /// Reads a file; `None` if it is not there.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Io`]
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Makes a file that appears whole or not at all, and never in the place of another.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Io`]
    fn create(&self, name: &str, bytes: &[u8]) -> Result<Made>;

    /// Makes a file in the place of the one that may be there. A reader may find none for a moment.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Io`]
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Io`]
    fn remove(&self, name: &str) -> Result<()>;
}

/// The directory on a disk.
#[derive(Debug)]
pub struct OnDisk {
    fs: Arc<dyn Fs>,
    root: PathBuf,
    dir: PathBuf,
}

impl OnDisk {
    /// Takes the directory `dir` below that of the dataset. It is made when the first file is.
    pub fn new(fs: Arc<dyn Fs>, root: &Path, dir: &str) -> Self {
        Self { fs, root: root.to_owned(), dir: root.join(dir) }
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let Some(parent) = dir.parent().filter(|_| dir != self.root) else { return Ok(()) };
        match self.fs.create_dir(dir) {
            Ok(()) => self.fs.sync_dir(parent),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound && parent != self.root => {
                self.make_dir(parent)?;
                self.make_dir(dir)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes a file under a name of this process' own, durable.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let failed = |what: &Path, e| Error::io(format_args!("write `{}`", what.display()), e);
        self.make_dir(&self.dir).map_err(|e| failed(&self.dir, e))?;
        let temporary = self.dir.join(format!(".{name}.{:016x}{IN_PROGRESS}", rand::random::<u64>()));
        fill(&*self.fs, &temporary, bytes).map_err(|e| {
            let _ = self.fs.remove_file(&temporary);
            failed(&temporary, e)
        })?;
        Ok(temporary)
    }

    fn sync(&self) -> Result<()> {
        self.fs.sync_dir(&self.dir).map_err(|e| Error::io(format_args!("fsync `{}`", self.dir.display()), e))
    }
}

impl Log for OnDisk {
    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    fn list(&self) -> Result<Vec<Entry>> {
        let listed = match self.fs.list(&self.dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(|e| Error::io(format_args!("list `{}`", self.dir.display()), e))?,
        };
        let files = listed.into_iter().filter(|entry| matches!(entry.kind, EntryKind::File(_)));
        let entry = |entry: pintail_storage::durable::fs::Entry| {
            let name = entry.path.file_name()?.to_str()?.to_owned();
            // Of a commit nobody asks but when the log is cleaned up.
            Some(Entry { name, written: entry.path.metadata().ok()?.modified().ok().map(DateTime::from) })
        };
        Ok(files.filter_map(entry).collect())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let (path, mut bytes) = (self.dir.join(name), Vec::new());
        match self.fs.open(&path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format_args!("read `{}`", path.display()), error)),
        }
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<Made> {
        let (temporary, path) = (self.write(name, bytes)?, self.dir.join(name));
        let made = match self.fs.rename_noreplace(&temporary, &path) {
            Ok(()) => Made::Now,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.fs.remove_file(&temporary).map_err(|e| Error::io(format_args!("remove `{}`", temporary.display()), e))?;
                Made::Taken
            }
            Err(error) => {
                let _ = self.fs.remove_file(&temporary);
                return Err(Error::io(format_args!("write `{}`", path.display()), error));
            }
        };
        self.sync()?;
        Ok(made)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (temporary, path) = (self.write(name, bytes)?, self.dir.join(name));
        let replaced = remove_if_there(&*self.fs, &path).and_then(|()| match self.fs.rename_noreplace(&temporary, &path) {
            // Another publisher was as fast: its file is as good.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.fs.remove_file(&temporary),
            renamed => renamed,
        });
        replaced.map_err(|e| Error::io(format_args!("write `{}`", path.display()), e))?;
        self.sync()
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.dir.join(name);
        remove_if_there(&*self.fs, &path).map_err(|e| Error::io(format_args!("remove `{}`", path.display()), e))
    }
}

fn fill(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs.create_new(path)?;
    file.write_all(bytes)?;
    file.sync()
}

fn remove_if_there(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    match fs.remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
/// Says that a file of a table cannot be read, and the way out.
pub(crate) fn unreadable(name: &str, of: &dyn Log, why: &str) -> Error {
    Error::state(format!(
        "`{name}` in `{}` cannot be read: {why}; a table is made anew from the dataset once the directory is moved away",
        of.place()
    ))
}
