//! The directory `_delta_log`: the names in it, and the few operations that a publisher needs.
//!
//! Owns: the contract of the operations, and how they are carried out on a disk.
//! Does not own: what is in the files.

use std::fmt;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pintail_core::error::{Error, Result};
use pintail_storage::durable::fs::{EntryKind, Fs};

/// The name of the directory.
pub const DIR: &str = "_delta_log";
/// The file that names the last checkpoint.
pub const LAST_CHECKPOINT: &str = "_last_checkpoint";
/// The ending of what is being written: no reader looks at it.
const IN_PROGRESS: &str = ".pintail.tmp";

/// What became of a file that was to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It is there, durable.
    Now,
    /// The name was taken. Nothing was changed.
    Taken,
}

/// A file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// When it was written; `None` if that cannot be told.
    pub written: Option<DateTime<Utc>>,
}

/// The log as a publisher uses it. Whoever gets an error knows nothing of what became of the operation.
pub trait Log: fmt::Debug {
    /// Returns where it is, for messages.
    fn place(&self) -> String;

    /// Lists the files; none if there is no log.
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

/// Returns the name of a commit.
pub fn commit(version: u64) -> String {
    format!("{version:020}.json")
}

/// Returns the name of a checkpoint of one part.
pub fn checkpoint(version: u64) -> String {
    format!("{version:020}.checkpoint.parquet")
}

/// What a file of the log is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A commit.
    Commit(u64),
    /// A checkpoint, or one of the parts of one.
    Checkpoint {
        /// The commit that it stands after.
        version: u64,
        /// Its parts.
        parts: u32,
    },
    /// What a publisher of ours has not finished.
    Unfinished,
    /// Anything else.
    Other,
}

/// Reads a name.
pub fn kind(name: &str) -> Kind {
    if name.ends_with(IN_PROGRESS) {
        return Kind::Unfinished;
    }
    let mut pieces = name.split('.');
    let version = pieces.next().filter(|digits| digits.len() == 20).and_then(|digits| digits.parse().ok());
    let Some(version) = version else { return Kind::Other };
    match *pieces.collect::<Vec<_>>() {
        ["json"] => Kind::Commit(version),
        ["checkpoint", "parquet"] => Kind::Checkpoint { version, parts: 1 },
        ["checkpoint", part, parts, "parquet"] if part.len() == 10 => {
            parts.parse().map_or(Kind::Other, |parts| Kind::Checkpoint { version, parts })
        }
        _ => Kind::Other,
    }
}

/// The log of a table on a disk.
#[derive(Debug)]
pub struct OnDisk {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
}

impl OnDisk {
    /// Takes the directory of the table.
    pub fn new(fs: Arc<dyn Fs>, root: &Path) -> Self {
        Self { fs, dir: root.join(DIR) }
    }

    /// Writes a file under a name of this process' own, durable.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let failed = |what: &Path, e| Error::io(format_args!("write `{}`", what.display()), e);
        match self.fs.create_dir(&self.dir) {
            Ok(()) => self.fs.sync_dir(self.dir.parent().unwrap_or(&self.dir)).map_err(|e| failed(&self.dir, e))?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&self.dir, error)),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_commits_from_checkpoints_and_from_everything_else() {
        assert_eq!(kind(&commit(7)), Kind::Commit(7));
        assert_eq!(kind(&checkpoint(20)), Kind::Checkpoint { version: 20, parts: 1 });
        let part = "00000000000000000020.checkpoint.0000000001.0000000003.parquet";
        assert_eq!(kind(part), Kind::Checkpoint { version: 20, parts: 3 });
        let by_id = "00000000000000000020.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet";
        for other in [LAST_CHECKPOINT, "00000000000000000007.crc", "7.json", "00000000000000000007.json.tmp", by_id] {
            assert_eq!(kind(other), Kind::Other, "{other}");
        }
        assert_eq!(kind(&format!(".{}.0123{IN_PROGRESS}", commit(7))), Kind::Unfinished);
    }
}
