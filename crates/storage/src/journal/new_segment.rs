//! A segment in the making.
//!
//! Owns: that it appears whole or not at all, its bytes durable before its name.
//! Does not own: what is in it (see `log`, `open`).

use std::io;
use std::path::{Path, PathBuf};

use super::frame::{HEADER, Head};
use super::opening::Opening;
use super::segment::{self, Header};
use crate::checkpoint::paths;
use crate::durable::fs::{Fs, FsFile};

/// A segment that has no name yet: after a crash it is not there.
#[derive(Debug)]
pub(super) struct NewSegment<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    path: PathBuf,
    file: Box<dyn FsFile>,
    mark: super::frame::Mark,
    end: u64,
    /// Position of the group, and frames of it that are to come.
    group: (u64, u32),
}

impl<'a> NewSegment<'a> {
    /// Makes it, with its header. What an earlier try left is removed.
    pub(super) fn begin(fs: &'a dyn Fs, dir: &'a Path, header: &Header) -> io::Result<Self> {
        let path = segment::path(dir, header.segment);
        let temporary = paths::in_progress(&path);
        if fs.entry(&temporary)?.is_some() {
            fs.remove_file(&temporary)?;
        }
        let mut file = fs.create_new(&temporary)?;
        let bytes = header.encode();
        file.write_all(&bytes)?;
        Ok(Self { fs, dir, path, file, mark: header.mark(), end: bytes.len() as u64, group: (0, 0) })
    }

    /// Opens the group of all frames that are added. What it says of its place is filled in.
    pub(super) fn open(&mut self, opening: Opening) -> io::Result<()> {
        self.group = (self.end, opening.frames);
        self.file.write_all(&Opening { group: self.end, ..opening }.encode(self.mark))?;
        self.end += HEADER as u64;
        Ok(())
    }

    /// Adds a frame.
    pub(super) fn add(&mut self, head: &Head, body: &[u8]) -> io::Result<()> {
        let (group, left) = self.group;
        let head = Head { group, left: left - 1, ..*head };
        self.group.1 = left - 1;
        self.file.write_all(&head.encode(self.mark))?;
        self.file.write_all(body)?;
        self.end += head.frame_bytes();
        Ok(())
    }

    /// Makes its bytes durable.
    pub(super) fn sync(mut self) -> io::Result<Self> {
        self.file.sync()?;
        Ok(self)
    }

    /// Gives it its name, durably. Returns the file, to be written further, and its length.
    pub(super) fn name(self) -> io::Result<(Box<dyn FsFile>, u64)> {
        self.fs.rename_noreplace(&paths::in_progress(&self.path), &self.path)?;
        self.fs.sync_dir(self.dir)?;
        Ok((self.file, self.end))
    }
}
