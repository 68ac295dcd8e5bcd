//! The directories of a dataset: made, durable and on one device.
//!
//! Owns: `mkdir`, and the fsync without which a directory is not there after a power cut.
//! Does not own: which directories (see `store`), what lies in them.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pintail_core::error::{Error, Result};
use tracing::debug;

use super::paths::Paths;
use super::permission;
use crate::durable::fs::{EntryKind, Fs};

/// Directories remembered as durable. Forgetting them costs one fsync each.
const REMEMBERED_MAX: usize = 10_000;

/// Makes directories below a dataset's root.
#[derive(Debug)]
pub struct Directories {
    fs: Arc<dyn Fs>,
    root: PathBuf,
    device: u64,
    /// Directories whose name this process knows to be durable. One that is only *seen* may be the visible trace of a killed process.
    durable: HashSet<PathBuf>,
}

impl Directories {
    /// Makes what a dataset stands on: its root with every directory above, and the private directories.
    pub fn open(fs: Arc<dyn Fs>, paths: &Paths) -> Result<Self> {
        let root = paths.root().to_path_buf();
        let mut above: Vec<_> = root.ancestors().collect();
        above.reverse();
        for dir in above {
            make(&*fs, &root, dir)?;
        }
        let device = device(&*fs, &root)?;
        let mut directories = Self { fs, root, device, durable: HashSet::new() };
        directories.ensure([paths.commits(), paths.snapshots(), paths.staging(), paths.dead_letters()])?;
        directories.anchor()?;
        Ok(directories)
    }

    /// Makes each of `dirs` with what is missing above it, below the root, and makes their names durable.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] for a directory on another device: no rename reaches it.
    pub fn ensure(&mut self, dirs: impl IntoIterator<Item = PathBuf>) -> Result<()> {
        let mut parents = BTreeSet::new();
        let mut made = Vec::new();
        for dir in dirs {
            let mut below: Vec<_> = dir.ancestors().take_while(|above| *above != self.root).collect();
            below.reverse();
            for dir in below {
                let made_now = make(&*self.fs, &self.root, dir)?;
                if made_now == Made::Now || !self.durable.contains(dir) {
                    self.check_device(dir)?;
                    parents.extend(dir.parent().map(Path::to_path_buf));
                    made.push(dir.to_path_buf());
                }
            }
        }
        // One fsync a parent, however many directories were made in it.
        for parent in parents {
            sync_dir(&*self.fs, &parent)?;
        }
        if self.durable.len() + made.len() > REMEMBERED_MAX {
            self.durable.clear();
        }
        self.durable.extend(made);
        Ok(())
    }

    /// Makes the root's own name durable, and those above it: who was killed right after making them left them visible, not durable.
    fn anchor(&self) -> Result<()> {
        for dir in self.root.ancestors() {
            let not_ours = |e: &io::Error| {
                use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
                dir != self.root && matches!(e.kind(), InvalidInput | PermissionDenied | ReadOnlyFilesystem | Unsupported)
            };
            match self.fs.sync_dir(dir) {
                // A mount point's parent, a directory of somebody else: it was there before the dataset.
                Err(error) if not_ours(&error) => {
                    debug!(dir = %dir.display(), %error, "left unsynced");
                    break;
                }
                synced => synced.map_err(|e| Error::io(format_args!("fsync `{}`", dir.display()), e))?,
            }
        }
        Ok(())
    }

    fn check_device(&self, dir: &Path) -> Result<()> {
        if device(&*self.fs, dir)? == self.device {
            return Ok(());
        }
        Err(Error::config(format!(
            "`{}` lies on another device than `{}`: files are published by renaming, which cannot cross devices; \
             mount one device for the whole of `pipeline.out_path`",
            dir.display(),
            self.root.display()
        )))
    }
}

#[derive(PartialEq, Eq)]
enum Made {
    Now,
    Before,
}

fn make(fs: &dyn Fs, root: &Path, dir: &Path) -> Result<Made> {
    let doing = || format!("make the directory `{}`", dir.display());
    match fs.entry(dir).map_err(|e| cannot(root, doing(), e))? {
        Some(EntryKind::Dir) => return Ok(Made::Before),
        Some(_) => {
            return Err(Error::config(format!("`{}` is no directory: remove it, or set another `pipeline.out_path`", dir.display())));
        }
        None => {}
    }
    match fs.create_dir(dir) {
        // Made since by nobody else than a reader's tool; it is there.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Made::Now),
        made => made.map(|()| Made::Now).map_err(|e| cannot(root, doing(), e)),
    }
}

fn device(fs: &dyn Fs, dir: &Path) -> Result<u64> {
    fs.device(dir).map_err(|e| Error::io(format_args!("look at `{}`", dir.display()), e))
}

/// Makes the names in `dir` durable.
pub fn sync_dir(fs: &dyn Fs, dir: &Path) -> Result<()> {
    fs.sync_dir(dir).map_err(|e| Error::io(format_args!("fsync the directory `{}`", dir.display()), e))
}

/// Makes the error of an operation below `root`. A refused permission names the user, and what keeps it out.
pub fn cannot(root: &Path, doing: String, error: io::Error) -> Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return Error::io(doing, error);
    }
    let uid = rustix::process::geteuid().as_raw();
    Error::io(format_args!("{doing} as user {uid}: {}", permission::way_out(root)), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::posix::Posix;

    #[test]
    fn all_directories_on_the_way_are_made_and_may_be_asked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path().join("a/b/out"));
        let mut directories = Directories::open(Arc::new(Posix::default()), &paths).unwrap();
        let wanted = [paths.published("region=us/day=1"), paths.published("region=us/day=2")];
        directories.ensure(wanted.clone()).unwrap();
        assert!(wanted.iter().all(|dir| dir.is_dir()) && paths.staging().is_dir());
        // Somebody's retention took an empty directory away.
        std::fs::remove_dir(&wanted[0]).unwrap();
        directories.ensure(wanted.clone()).unwrap();
        assert!(wanted[0].is_dir());
    }

    #[test]
    fn a_file_in_the_place_of_a_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        let mut directories = Directories::open(Arc::new(Posix::default()), &paths).unwrap();
        std::fs::write(paths.published("region=us"), "").unwrap();
        let error = directories.ensure([paths.published("region=us/day=1")]).unwrap_err();
        assert!(error.to_string().contains("region=us` is no directory"), "{error}");
    }

    #[test]
    fn a_refused_permission_names_the_user_and_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let error = cannot(dir.path(), "write".into(), io::ErrorKind::PermissionDenied.into()).to_string();
        let uid = rustix::process::geteuid().as_raw();
        assert!(error.contains(&format!("as user {uid}")), "{error}");
        assert!(error.contains("would allow it") && !error.contains("chown"), "neither its owner nor its mode is at fault: {error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_directory_on_another_device_is_refused() {
        let (dir, shm) = (tempfile::tempdir_in(".").unwrap(), Path::new("/dev/shm"));
        let (Ok(here), Ok(there)) = (Posix::default().device(dir.path()), Posix::default().device(shm)) else { return };
        assert_ne!(here, there, "the test needs two devices");
        let other = tempfile::tempdir_in(shm).unwrap();
        let paths = Paths::new(dir.path());
        let mut directories = Directories::open(Arc::new(Posix::default()), &paths).unwrap();
        std::os::unix::fs::symlink(other.path(), paths.published("region=us")).unwrap();
        let error = directories.ensure([paths.published("region=us")]).unwrap_err();
        assert!(error.to_string().contains("another device"), "{error}");
    }
}
