//! Files: NDJSON in files, read once or followed.
//!
//! Owns: the start (which files there are, which of them are known, which have vanished), and the figure of what is unread.
//! Does not own: the two ways of reading (`read_once`, `follow`), identities and positions (`identity`, `positions`).
//!
//! A file is a partition of the source; its offsets are bytes of its decompressed content. A file that is gone together with data that
//! was not read cannot be told from one that was deleted after it was read: a vanished file is a warning, its offset stays.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tracing::warn;

use super::thread::ReadThread;
use super::{Resume, Source, SourceIdentity};
use crate::batch::{Chunk, OffsetUnit};
use crate::clock::Clock;
use crate::config::FileConfig;
use crate::error::{Error, Result};

mod discover;
mod follow;
mod identity;
mod positions;
mod read_once;
mod reader;

#[cfg(test)]
mod tests;

use discover::{Found, Pattern, Patterns, find_inodes, gone_is_none};
use follow::Follow;
use identity::{Inode, Observed};
use positions::Positions;
use read_once::ReadOnce;
use reader::Compression;

/// The kind in the identity.
const NAME: &str = "file";

/// Lines of files, read on a thread of its own.
#[derive(Debug)]
pub struct FileSource {
    thread: ReadThread,
    unread: Unread,
}

impl FileSource {
    /// Finds the files, compares them with what is committed, and begins to read.
    ///
    /// # Errors
    /// `Config` if a name is wrong, too many files match, or (read once) nothing matches; `State` if a file was truncated or replaced and
    /// `source.on_gap` is `refuse`; `Io` if a file cannot be read.
    pub fn open(config: &FileConfig, record_bytes_max: usize, resume: &Resume<'_>) -> Result<Self> {
        let offsets = resume.offsets;
        let patterns = Patterns::parse(&config.paths, config.files_max)?;
        let positions = Positions::new(offsets, config.on_gap)?;
        let found = patterns.find()?;
        if !config.follow {
            check_all_matched(&found, &positions)?;
        }
        let renamed = find_renamed(&patterns, &positions, &found)?;
        let unread = Unread::default();
        let files = Files { patterns, positions, unread: unread.clone(), record_bytes_max };
        let thread = if config.follow {
            let follow = Follow::start(files, config.poll_interval, renamed, found)?;
            ReadThread::spawn(NAME, move |sender| follow.run(sender))?
        } else {
            let read_once = ReadOnce::start(files, renamed, found)?;
            ReadThread::spawn(NAME, move |sender| read_once.run(sender))?
        };
        Ok(Self { thread, unread })
    }

    /// Returns what makes offsets comparable: nothing but the kind, each file carries its own identity.
    pub fn identity() -> SourceIdentity {
        SourceIdentity { kind: NAME.to_owned(), properties: Default::default() }
    }
}

#[async_trait]
impl Source for FileSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let chunk = self.thread.recv().await?;
        if let Some(chunk) = chunk.as_ref().filter(|chunk| Compression::of(&chunk.range.partition.label) == Compression::None) {
            self.unread.sub(chunk.range.to - chunk.range.from);
        }
        Ok(chunk)
    }

    /// Returns the bytes of uncompressed files that were seen and not yet read, an unfinished last line included.
    fn remaining(&self) -> Option<u64> {
        Some(self.unread.get())
    }

    fn unit(&self) -> OffsetUnit {
        OffsetUnit::Bytes
    }

    fn work(&self) -> Option<Arc<Clock>> {
        Some(self.thread.work())
    }
}

/// What both ways of reading share.
#[derive(Debug)]
struct Files {
    patterns: Patterns,
    positions: Positions,
    unread: Unread,
    record_bytes_max: usize,
}

/// Counts the bytes of uncompressed files that are known and not yet handed on.
#[derive(Debug, Clone, Default)]
struct Unread(Arc<AtomicU64>);

impl Unread {
    /// Takes up that a file of which `seen` bytes were counted now has `length`.
    fn see(&self, seen: &mut u64, length: u64) {
        self.0.fetch_add(length.saturating_sub(*seen), Ordering::Relaxed);
        *seen = length.max(*seen);
    }

    fn sub(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Opens a file to look at it; `None` if it is gone.
fn open_file(path: &Path) -> Result<Option<File>> {
    gone_is_none(File::open(path)).map_err(|e| Error::io(format_args!("open `{}`", path.display()), e))
}

fn look(file: &File, path: &Path) -> Result<Observed> {
    Observed::look(file).map_err(|e| Error::io(format_args!("look at `{}`", path.display()), e))
}

/// Checks that each name exists and each glob matches something, or did when it was read.
fn check_all_matched(found: &Found, positions: &Positions) -> Result<()> {
    let read_before = |pattern: &&Pattern| positions.iter().any(|known| pattern.matches(Path::new(&*known.partition.label)));
    match found.unmatched.iter().find(|pattern| !read_before(pattern)) {
        None => Ok(()),
        Some(pattern) => Err(Error::config(format!(
            "`source.path`: no file matches `{pattern}`: correct it, or set `source.follow = true` to wait for one"
        ))),
    }
}

/// Looks for the known files that no pattern leads to (rotated while nobody looked), and warns of those that are nowhere.
fn find_renamed(patterns: &Patterns, positions: &Positions, found: &Found) -> Result<Vec<PathBuf>> {
    let named: HashSet<Inode> = found.files.iter().map(|(_, metadata)| Inode::of(metadata)).collect();
    let missing: Vec<_> = positions.iter().filter(|known| !named.contains(&known.identity.inode)).collect();
    let inodes: Vec<Inode> = missing.iter().map(|known| known.identity.inode).collect();
    if inodes.is_empty() {
        return Ok(Vec::new());
    }
    let paths = found.files.iter().map(|(path, _)| path.as_path()).chain(missing.iter().map(|known| Path::new(&*known.partition.label)));
    let paths = find_inodes(&patterns.directories(paths), &inodes)?;
    let mut renamed = Vec::new();
    let mut vanished = Vec::new();
    for known in missing {
        match paths.get(&known.identity.inode) {
            Some(path) if is_known(path, positions)? => renamed.push(path.clone()),
            _ => vanished.push(&known.partition.label),
        }
    }
    vanished.sort();
    if let Some(first) = vanished.first() {
        warn!(files = vanished.len(), first = &***first, "known files have vanished: if anything in them was not read, it is lost");
    }
    renamed.sort();
    Ok(renamed)
}

fn is_known(path: &Path, positions: &Positions) -> Result<bool> {
    let Some(file) = open_file(path)? else { return Ok(false) };
    Ok(positions.place_renamed(&look(&file, path)?).is_some())
}
