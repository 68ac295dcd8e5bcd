//! Scratch: the files of a checkpoint on a local disk, from where they are uploaded.
//!
//! Owns: reading them part by part, and removing them once they are not needed.
//! Does not own: writing them (see `checkpoint::staging`, which a dataset on a disk stages in), the upload (see `super::publish`).
//!
//! Files stay until the bucket has acknowledged that they are visible, and longer if the process is killed: an upload may expire between its record
//! and its completion, and then they are all that is left of it. Scratch that is lost otherwise costs nothing: the source is read again.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use pintail_core::error::{Error, Result};

use crate::checkpoint::directories::Directories;
use crate::checkpoint::paths::{Paths, StagedBy};
use crate::checkpoint::record::FileEntry;
use crate::checkpoint::recovery::{self, Found};
use crate::checkpoint::staging::{Staging, failed};
use crate::checkpoint::store::{check_written, compare, remove_staging, staging_dirs};
use crate::durable::fs::{FileIdentity, Fs};

/// The scratch of a dataset. It may be shared by processes that follow each other on this host.
#[derive(Debug, Clone)]
pub struct Scratch {
    fs: Arc<dyn Fs>,
    paths: Paths,
    part_bytes: usize,
}

impl Scratch {
    /// Names the directory; an opening makes it. Each part of an upload but the last has `part_bytes` bytes: at least 5 MiB with a provider, all alike.
    pub fn open(fs: Arc<dyn Fs>, paths: impl Into<Paths>, part_bytes: usize) -> Result<Self> {
        let paths = paths.into();
        let absolute = paths.absolute();
        let paths = absolute.map_err(|e| Error::io(format_args!("use `{}` as scratch", paths.root().display()), e))?;
        Ok(Self { fs, paths, part_bytes })
    }

    /// Makes the directory.
    pub(super) fn make(&self) -> Result<()> {
        Directories::open(self.fs.clone(), &self.paths).map(drop)
    }

    /// Returns the directory of the files of a checkpoint.
    pub(super) fn staging(&self, staged_by: StagedBy) -> Staging {
        Staging::new(self.fs.clone(), self.paths.staging_of(staged_by))
    }

    /// Returns whether the very bytes of a file lie there.
    pub(super) fn holds(&self, staged_by: StagedBy, file: &FileEntry) -> Result<bool> {
        Ok(compare(&*self.fs, &self.paths.staged(staged_by, file.staged), file)? == Found::Right)
    }

    /// Checks that a file is the one that was written there.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::State`]: somebody replaced it or wrote to it.
    pub(super) fn check_written(&self, staged_by: StagedBy, file: &FileEntry, written: &FileIdentity) -> Result<()> {
        check_written(&*self.fs, &self.paths.staged(staged_by, file.staged), Some(written))
    }

    /// Opens a file to be read part by part.
    pub(super) fn parts(&self, staged_by: StagedBy, file: &FileEntry) -> Result<Parts> {
        let path = self.paths.staged(staged_by, file.staged);
        let named = path.display().to_string();
        let open = self.fs.open(&path);
        let open = open.map_err(|e| failed(&*self.fs, &self.paths.staging_of(staged_by), format_args!("read `{named}`"), e))?;
        Ok(Parts { open, named, left: file.bytes, part_bytes: self.part_bytes, first: true })
    }

    /// Removes the files of a checkpoint.
    pub(super) fn remove(&self, staged_by: StagedBy) -> Result<()> {
        remove_staging(&*self.fs, &self.paths, [staged_by])
    }

    /// Removes what processes before that of `epoch` left.
    pub(super) fn remove_older(&self, epoch: u64) -> Result<()> {
        let staging = staging_dirs(&*self.fs, &self.paths)?;
        remove_staging(&*self.fs, &self.paths, recovery::garbage(&staging, epoch))
    }
}

/// The parts of a file. One without any bytes has one, which is empty.
pub(super) struct Parts {
    open: Box<dyn Read + Send>,
    named: String,
    left: u64,
    part_bytes: usize,
    first: bool,
}

impl Parts {
    /// Reads the next part; `None` behind the last one.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>> {
        if self.left == 0 && !self.first {
            return Ok(None);
        }
        self.first = false;
        let mut part = vec![0; usize::try_from(self.left).unwrap_or(usize::MAX).min(self.part_bytes)];
        self.open.read_exact(&mut part).map_err(|e| Error::io(format_args!("read `{}`", self.named), e))?;
        self.left -= part.len() as u64;
        Ok(Some(part.into()))
    }
}
