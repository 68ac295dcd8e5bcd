//! Files: NDJSON in files, read once or followed.
//!
//! Owns: the start, and the figure of what is unread.
//! Does not own: what is known (`positions`), what a look shows (`sight`), what becomes of it (`plan`, carried out by `survey`), the two ways of
//! reading (`read_once`, `follow`).
//!
//! A file is a partition of the source; its offsets are bytes of its decompressed content. A position is never believed: the first KiB of a file and the
//! KiB before the offset are marked as they are read, and compared before reading goes on, wherever that content lies by then.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::thread::{ChunkSender, Exit, ReadThread};
use super::{Resume, Source, SourceIdentity};
use crate::batch::{Chunk, OffsetUnit};
use crate::breaker::WhenRejected;
use crate::clock::Clock;
use crate::config::{Copies, FileConfig, OnGap};
use crate::durable::disk_state::DiskState;
use crate::error::{Error, Result};
use crate::offsets::Offsets;

mod discover;
mod follow;
mod identity;
mod input;
mod names;
mod plan;
mod positions;
mod read_once;
mod reader;
mod sight;
mod survey;
mod trail;

#[cfg(test)]
mod tests;

use discover::{Found, Pattern, Patterns, gone_is_none};
use follow::{Behind, Follow};
use input::Compression;
use positions::Positions;
use read_once::ReadOnce;

/// The kind in the identity.
const NAME: &str = "file";

/// Lines of files, read on a thread of its own.
#[derive(Debug)]
pub struct FileSource {
    thread: ReadThread,
    unread: Unread,
    when_rejected: WhenRejected,
    behind: Behind,
}

impl FileSource {
    /// Finds the files, compares them with what is committed, and begins to read.
    ///
    /// # Errors
    /// `Config` if a name is wrong, too many files match, or (read once) nothing matches; `State` if a file was truncated or replaced and
    /// `source.on_gap` is `refuse`; `Io` if a file cannot be read.
    pub fn open(config: &FileConfig, record_bytes_max: usize, resume: &Resume<'_>) -> Result<Self> {
        let patterns = Patterns::parse(&config.paths, config.files_max)?;
        let positions = Positions::new(resume, config.remember_max)?;
        let found = patterns.find()?;
        if !config.follow {
            check_all_matched(&found, &positions)?;
        }
        let (unread, behind) = (Unread::default(), Behind::default());
        let files = Files {
            patterns,
            positions,
            unread: unread.clone(),
            record_bytes_max,
            on_gap: config.on_gap,
            copies: config.copies,
            pending: Vec::new(),
        };
        let thread = if config.follow {
            let follow = Follow::start(files, config, behind.clone(), found)?;
            ReadThread::spawn(NAME, move |sender| follow.run(sender))?
        } else {
            let read_once = ReadOnce::start(files, found)?;
            ReadThread::spawn(NAME, move |sender| read_once.run(sender))?
        };
        let when_rejected = if config.follow { WhenRejected::Pause } else { WhenRejected::Stop };
        Ok(Self { thread, unread, when_rejected, behind })
    }

    /// Takes up whether writing waits for room: deleted files keep some.
    pub fn watching(self, disk: DiskState) -> Self {
        self.behind.watch(disk);
        self
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

    async fn committed(&mut self, offsets: &Offsets) -> Result<()> {
        self.behind.commit(offsets);
        Ok(())
    }

    /// Returns the bytes of uncompressed files that were seen and not yet read, an unfinished last line included.
    fn remaining(&self) -> Option<u64> {
        Some(self.unread.get())
    }

    fn when_rejected(&self) -> WhenRejected {
        self.when_rejected
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
    on_gap: OnGap,
    copies: Copies,
    /// What was found out and not yet handed on.
    pending: Vec<Chunk>,
}

impl Files {
    /// Hands on what was found out.
    fn tell(&mut self, sender: &ChunkSender) -> Result<(), Exit> {
        self.pending.drain(..).try_for_each(|chunk| sender.send(chunk))
    }
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

    /// Takes up that bytes of a file are handed on although they were not counted.
    fn pass(&self, label: &str, bytes: u64) {
        if Compression::of(label) == Compression::None {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
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
    gone_is_none(discover::open(path)).map_err(|e| Error::io(format_args!("open `{}`", path.display()), e))
}

/// Checks that each name exists and each glob matches something, or did when it was read.
fn check_all_matched(found: &Found, positions: &Positions) -> Result<()> {
    // What vanished is forgotten by name.
    let read_before =
        |pattern: &&Pattern| positions.remembers_any() || positions.iter().any(|known| pattern.may_match(&known.partition.label));
    match found.unmatched.iter().find(|pattern| !read_before(pattern)) {
        None => Ok(()),
        Some(pattern) => Err(Error::config(format!(
            "`source.path`: no file matches `{pattern}`: correct it, or set `source.follow = true` to wait for one"
        ))),
    }
}
