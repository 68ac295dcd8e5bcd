//! The disk as staging uses it, counting open files.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use pintail_storage::durable::fs::{Entry, EntryKind, FileIdentity, Fs, FsFile, ReadFs};

/// A disk on which only staging works.
#[derive(Debug, Default)]
pub(super) struct Disk(Arc<State>);

#[derive(Debug, Default)]
struct State {
    open: AtomicUsize,
    open_max: AtomicUsize,
    broken: AtomicBool,
    failed: AtomicUsize,
}

impl Disk {
    /// Returns how many files are open.
    pub(super) fn open_now(&self) -> usize {
        self.0.open.load(SeqCst)
    }

    /// Returns how many files were open at the same time.
    pub(super) fn open_max(&self) -> usize {
        self.0.open_max.load(SeqCst)
    }

    /// Returns how many writes have failed.
    pub(super) fn failed_writes(&self) -> usize {
        self.0.failed.load(SeqCst)
    }

    /// Lets every write fail from now on.
    pub(super) fn fail_writes(&self) {
        self.0.broken.store(true, SeqCst);
    }
}

#[derive(Debug)]
struct DiskFile(File, Arc<State>);

impl Drop for DiskFile {
    fn drop(&mut self) {
        self.1.open.fetch_sub(1, SeqCst);
    }
}

impl Write for DiskFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.1.broken.load(SeqCst) {
            self.1.failed.fetch_add(1, SeqCst);
            return Err(io::Error::other("the disk of the test is broken"));
        }
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FsFile for DiskFile {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        Ok(FileIdentity { device: 0, inode: 0, bytes: self.0.metadata()?.len() })
    }
}

impl ReadFs for Disk {
    fn open(&self, _: &Path) -> io::Result<Box<dyn Read + Send>> {
        unreachable!("staging only writes")
    }

    fn entry(&self, _: &Path) -> io::Result<Option<EntryKind>> {
        unreachable!("staging only writes")
    }

    fn list(&self, _: &Path) -> io::Result<Vec<Entry>> {
        unreachable!("staging only writes")
    }
}

impl Fs for Disk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = File::create_new(path)?;
        let open = self.0.open.fetch_add(1, SeqCst) + 1;
        self.0.open_max.fetch_max(open, SeqCst);
        Ok(Box::new(DiskFile(file, self.0.clone())))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn identity(&self, _: &Path) -> io::Result<Option<FileIdentity>> {
        unreachable!("the store asks for identities")
    }

    fn sync_file(&self, _: &Path) -> io::Result<()> {
        unreachable!("staging syncs what it has open")
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("the store syncs directories")
    }

    fn rename_noreplace(&self, _: &Path, _: &Path) -> io::Result<()> {
        unreachable!("the store renames")
    }

    fn create_dir_like(&self, _: &Path, _: &Path) -> io::Result<()> {
        unreachable!("the store makes directories")
    }

    fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
        unreachable!("the store links")
    }

    fn exchange(&self, _: &Path, _: &Path) -> io::Result<()> {
        unreachable!("the store exchanges")
    }

    fn remove_file(&self, _: &Path) -> io::Result<()> {
        unreachable!("the store removes")
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!("the store removes")
    }

    fn device(&self, _: &Path) -> io::Result<u64> {
        unreachable!("the store asks for devices")
    }
}
