//! Copies of a bucket's files on a local disk, for one who reads them.
//!
//! Owns: their directory, private to one process and gone with it, and removing those that killed processes left.
//! Does not own: what is copied (see `super::tree`), how much of it may be (the reader's).

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use pintail_core::error::{Error, Result};

/// Names that are tried until one is free.
const NAMES_MAX: usize = 16;

/// The directory of the copies of one reader. It goes with it.
#[derive(Debug)]
pub(super) struct Copies {
    dir: PathBuf,
    /// Locked as long as the directory is in use.
    _lock: File,
}

impl Copies {
    /// Makes a directory in `above`, and removes those there that nobody uses any more.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Io`] if it cannot be made.
    pub(super) fn make(above: &Path) -> Result<Self> {
        let cannot = |e| Error::io(format_args!("make a directory in `{}` for copies of files in a bucket", above.display()), e);
        fs::create_dir_all(above).map_err(cannot)?;
        sweep(above);
        for _ in 0..NAMES_MAX {
            let dir = above.join(format!("{:016x}", rand::random::<u64>()));
            // Only its owner may read the rows.
            DirBuilder::new().mode(0o700).create(&dir).map_err(cannot)?;
            let lock = File::create_new(lock_of(&dir)).map_err(cannot)?;
            // Who sweeps at this moment may have taken it for a killed process' own.
            if lock.try_lock().is_ok() && lock_of(&dir).exists() {
                return Ok(Self { dir, _lock: lock });
            }
        }
        Err(cannot(io::ErrorKind::WouldBlock.into()))
    }

    /// Returns the directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        // What stays is swept by the next reader.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Removes the directories whose processes are gone. What cannot be removed stays.
fn sweep(above: &Path) {
    for dir in fs::read_dir(above).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let Ok(lock) = File::open(lock_of(&dir)) else { continue };
        match lock.try_lock() {
            Ok(()) => _ = fs::remove_dir_all(&dir),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

fn lock_of(dir: &Path) -> PathBuf {
    dir.join("LOCK")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_go_with_their_reader_and_those_of_a_killed_one_with_the_next() {
        let above = tempfile::tempdir().unwrap();
        let (used, left) = (Copies::make(above.path()).unwrap(), above.path().join("0"));
        fs::write(used.dir().join("a"), "rows").unwrap();
        fs::create_dir(&left).unwrap();
        fs::write(lock_of(&left), "").unwrap();
        let second = Copies::make(above.path()).unwrap();
        assert!(!left.exists(), "its process is gone");
        assert!(used.dir().join("a").exists() && second.dir().exists(), "another reader is at work");
        let dirs = [used.dir().to_owned(), second.dir().to_owned()];
        drop((used, second));
        assert!(dirs.iter().all(|dir| !dir.exists()));
    }
}
