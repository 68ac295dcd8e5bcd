//! Staged files: written and durable, not yet visible.
//!
//! Owns: `staging/N-E/` of the checkpoint being written (E is the epoch of the process): creating it, its files (`O_EXCL`), hashing while writing, the fsync of each file.
//! Does not own: the commit (see `store`), what the bytes mean (see `pintail_sink::files`).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pintail_core::digest::hex;
use pintail_core::error::{Error, Result};
use sha2::{Digest, Sha256};

use crate::durable::fs::{FileIdentity, Fs, FsFile};

/// The staging directory of one checkpoint. Made on the first file: an empty checkpoint touches no disk.
#[derive(Debug)]
pub struct Staging {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    made: bool,
    next: u32,
}

impl Staging {
    /// Prepares staging in `dir` (`_pintail/staging/0000000043-41`), which must not exist.
    pub fn new(fs: Arc<dyn Fs>, dir: PathBuf) -> Self {
        Self { fs, dir, made: false, next: 0 }
    }

    /// Returns the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns whether anything was staged.
    pub fn is_made(&self) -> bool {
        self.made
    }

    /// Opens the next file, `<index>.inprogress`.
    pub fn create(&mut self) -> Result<StagedFile> {
        if !self.made {
            let made = self.fs.create_dir(&self.dir);
            made.map_err(|e| failed(&*self.fs, &self.dir, format_args!("make the staging directory `{}`", self.dir.display()), e))?;
            self.made = true;
        }
        let index = self.next;
        let path = self.dir.join(format!("{index}.inprogress"));
        let file = self.fs.create_new(&path).map_err(|e| failed(&*self.fs, &self.dir, format_args!("make `{}`", path.display()), e))?;
        self.next += 1;
        Ok(StagedFile { file, index, path, bytes: 0, hasher: Sha256::new() })
    }
}

/// Returns the error of an operation on staging before the commit point. What is not found was removed by somebody else, such as another process
/// that started: this one must not go on, and a start reads the records again.
pub(crate) fn failed(fs: &dyn Fs, dir: &Path, doing: impl fmt::Display, error: io::Error) -> Error {
    if error.kind() != io::ErrorKind::NotFound {
        return Error::io(doing, error);
    }
    // No start removes what the staging directories lie in.
    if let Some(gone) = dir.ancestors().skip(1).take_while(|above| matches!(fs.entry(above), Ok(None))).last() {
        return Error::try_again(format!(
            "cannot {doing}: the directory `{}` is gone, somebody removed or moved it; nothing of the checkpoint was published, what was read is \
             read again; put it back, or check `pipeline.out_path`",
            gone.display()
        ));
    }
    Error::try_again(format!(
        "cannot {doing}: what this process staged was removed, as the start of another process does; nothing of the checkpoint was published, what \
         was read is read again; run one process on a dataset"
    ))
}

/// A staged file being written. Counts and hashes what passes.
pub struct StagedFile {
    file: Box<dyn FsFile>,
    index: u32,
    path: PathBuf,
    bytes: u64,
    hasher: Sha256,
}

/// A staged file that is complete and durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Its number in the staging directory.
    pub index: u32,
    /// Its length in bytes.
    pub bytes: u64,
    /// Lower-case hexadecimal SHA-256 of its bytes.
    pub sha256: String,
    /// Which file it is: what is renamed at the commit must be this one.
    pub identity: FileIdentity,
}

impl StagedFile {
    /// Returns the bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the file durable and closes it.
    pub fn finish(mut self) -> Result<Staged> {
        self.file.sync().map_err(|e| Error::io(format_args!("fsync `{}`", self.path.display()), e))?;
        let identity = self.file.identity().map_err(|e| Error::io(format_args!("look at `{}`", self.path.display()), e))?;
        let sha256 = hex(&self.hasher.finalize());
        Ok(Staged { index: self.index, bytes: self.bytes, sha256, identity })
    }
}

impl io::Write for StagedFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        // Named here: the writers above know of no path. The kind stays, it says what the operator must do.
        let named = |e: io::Error| io::Error::new(e.kind(), format!("`{}`: {e}", self.path.display()));
        let written = self.file.write(buf).map_err(named)?;
        self.hasher.update(&buf[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl fmt::Debug for StagedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedFile").field("path", &self.path).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::posix::Posix;

    #[test]
    fn a_directory_that_is_gone_is_told_from_staging_that_another_process_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("out");
        let staged = root.join("_pintail/staging/0000000001-1");
        let told = || Staging { made: true, ..Staging::new(Arc::new(Posix::default()), staged.clone()) }.create().unwrap_err().to_string();
        std::fs::create_dir_all(staged.parent().unwrap()).unwrap();
        assert!(told().contains("start of another process"), "{}", told());
        std::fs::remove_dir_all(&root).unwrap();
        assert!(told().contains(&format!("the directory `{}` is gone", root.display())), "{}", told());
    }
}
