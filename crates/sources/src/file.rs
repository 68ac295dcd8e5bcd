//! Files: NDJSON in files, read once or followed.
//!
//! Owns: the start, and the figure of what is unread.
//! Does not own: what is known (`positions`), what a look shows (`sight`), what becomes of it (`plan`, carried out by `survey`), the two ways of
//! reading (`read_once`, `follow`).
//!
//! A file is a partition of the source; its offsets are bytes of its decompressed content. A position is never believed: the first KiB of a file, the
//! KiB before the offset and the body between are marked as they are read. The ends are compared before reading goes on, and the body as well wherever
//! that content lies in another place by then. An edit between the ends of a file that nobody follows and that has no copy is not seen: that would take
//! reading all files whole at every start. Nor is an edited copy of which nothing is known: it is a new file.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use pintail_core::batch::{Chunk, OffsetUnit};
use pintail_core::breaker::WhenRejected;
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::offsets::{Offsets, PartitionId};
use pintail_core::quantity::counted;
use pintail_storage::durable::disk_state::DiskState;
use rustix::io::Errno;
use tracing::info;

use super::thread::{ChunkSender, Exit, ReadThread};
use super::{OnGap, Resume, Source};
use crate::kind::Surroundings;
use crate::meters::SourceMeters;
use crate::waiting::WaitingInputs;
pub(crate) use config::KIND;
use config::{Copies, FileConfig};

mod archive;
mod aside;
mod bodies;
pub mod config;
mod crowd;
mod discover;
mod fingerprints;
mod follow;
mod foreign;
mod gone;
mod identity;
mod input;
mod names;
mod plan;
mod positions;
mod prefixes;
mod read_once;
mod reader;
mod sight;
mod sketch;
mod survey;
pub(crate) mod trail;
mod walk;

#[cfg(test)]
mod tests;

use aside::Aside;
use bodies::Bodies;
use discover::{Found, Pattern, Patterns, gone_is_none};
use follow::{Behind, Follow};
use gone::Gone;
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
    waiting: WaitingInputs,
    left: Left,
}

/// What is to be said at the end of the input.
type Left = Arc<Mutex<Option<Error>>>;

/// Files that were found and compared with what is committed: nothing is read yet.
struct Ready {
    reading: Reading,
    unread: Unread,
    behind: Behind,
    waiting: WaitingInputs,
    left: Left,
}

/// How they will be read.
enum Reading {
    Follow(Box<Follow>),
    Once(Box<ReadOnce>),
}

impl Ready {
    fn new(config: &FileConfig, around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Self> {
        let patterns = Patterns::parse(&config.paths, config.files_max, around.out_path, around.disk.clone())?;
        let positions = Positions::new(resume, config.remember_max)?;
        let (unread, behind) = (Unread::default(), Behind::default());
        let found = patterns.find(|path| positions.is_name(path))?;
        check_all_files(&found)?;
        if !config.follow {
            check_all_matched(&found, &positions)?;
        }
        if found.met_own {
            info!(out_path = %around.out_path.display(), "the directory of the dataset lies among the inputs: it is passed over");
        }
        let (waiting, left) = (WaitingInputs::default(), Left::default());
        behind.watch(around.disk.clone());
        let files = Files {
            patterns,
            bodies: RefCell::new(Bodies::new(resume.key)),
            unsettled: None,
            gone: Gone::default(),
            touched: HashSet::new(),
            positions,
            unread: unread.clone(),
            aside: Aside::new(waiting.clone(), config.follow),
            record_bytes_max: around.record_bytes_max,
            on_gap: config.on_gap,
            copies: config.copies,
            pending: Vec::new(),
        };
        let reading = if config.follow {
            Reading::Follow(Follow::start(files, config, behind.clone(), found)?.into())
        } else {
            Reading::Once(ReadOnce::start(files, found, left.clone())?.into())
        };
        Ok(Self { reading, unread, behind, waiting, left })
    }
}

impl FileSource {
    /// Finds the files, compares them with what is committed, and begins to read.
    ///
    /// # Errors
    /// `Config` if a name is wrong, too many files match, or (read once) nothing matches; `State` if a file was truncated or replaced and
    /// `source.on_gap` is `refuse`. A file that cannot be read is none: it waits, or is named at the end.
    pub fn open(config: &FileConfig, around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Self> {
        let Ready { reading, unread, behind, waiting, left } = Ready::new(config, around, resume)?;
        let thread = match reading {
            Reading::Follow(follow) => ReadThread::spawn(NAME, move |sender| follow.run(sender))?,
            Reading::Once(once) => ReadThread::spawn(NAME, move |sender| once.run(sender))?,
        };
        let when_rejected = if config.follow { WhenRejected::Pause } else { WhenRejected::Stop };
        Ok(Self { thread, unread, when_rejected, behind, waiting, left })
    }

    /// Checks that the files could be read now, and returns what is worth a line: what is not there yet, is passed over, or cannot be read.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn check(config: &FileConfig, around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Vec<String>> {
        let ready = Ready::new(config, around, resume)?;
        let found = Patterns::parse(&config.paths, config.files_max, around.out_path, around.disk.clone())?.find(|_| false)?;
        let mut notes = vec![counted(found.files.len() as u64, "file", "files")];
        notes.extend(found.unmatched.iter().map(|pattern| format!("no file matches `{pattern}` yet: it is waited for")));
        if found.met_own {
            let own = around.out_path.display();
            notes.push(format!(
                "`{own}` lies among the inputs: it is where the dataset is written (`pipeline.out_path`), and nothing there is read"
            ));
        }
        let waiting = ready.waiting.get();
        if let Some(first) = waiting.named.first().filter(|_| !config.follow) {
            let others = if waiting.count > 1 { format!(", and {} more", waiting.count - 1) } else { String::new() };
            let text = format!(
                "`{}` cannot be read now{others}: `run` would commit everything else and then end with that: {}",
                first.path, first.why
            );
            return Err(Error::new(ErrorKind::Io, text));
        }
        notes.extend(waiting.named.iter().map(|input| format!("cannot be read now, and would wait: {}", input.why)));
        if waiting.count > waiting.named.len() {
            notes.push(format!("cannot be read now: {} more", waiting.count - waiting.named.len()));
        }
        Ok(notes)
    }
}

#[async_trait]
impl Source for FileSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let chunk = self.thread.recv().await?;
        if let Some(chunk) = &chunk {
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

    fn meters(&self) -> SourceMeters {
        SourceMeters { reading: Some(self.thread.work()), waiting: Some(self.waiting.clone()), ..SourceMeters::default() }
    }

    fn left(&mut self) -> Option<Error> {
        self.left.lock().take()
    }

    fn when_rejected(&self) -> WhenRejected {
        self.when_rejected
    }

    fn unit(&self) -> OffsetUnit {
        OffsetUnit::Bytes
    }
}

/// Returns the files that names and globs lead to now, with their lengths, in the order in which they would be read. Nothing at or below `out_path` is one.
///
/// # Errors
/// `Config` if a name is wrong or nothing matches one; what cannot be looked at is an error of the system.
pub fn matching(paths: &[String], out_path: &Path, files_max: usize) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Patterns::parse(paths, files_max, out_path, DiskState::default())?.find(|_| false)?;
    check_all_files(&found)?;
    if let Some((_, error)) = found.failed.pop() {
        return Err(error);
    }
    if let Some(link) = found.dangling.first() {
        return Err(Error::config(format!("`{}` is a link that leads to nothing", names::label_of(link))));
    }
    match found.unmatched.first() {
        Some(pattern) => {
            Err(Error::config(format!("no file matches `{pattern}`: is the name right, and this the directory that it is relative to?")))
        }
        None => Ok(found.files.into_iter().map(|(path, metadata)| (path, metadata.len())).collect()),
    }
}

/// What both ways of reading share.
#[derive(Debug)]
struct Files {
    patterns: Patterns,
    positions: Positions,
    bodies: RefCell<Bodies>,
    /// The positions for which it is not known yet whether a file holds them that was met at this look; `None` if all is known.
    unsettled: Option<HashSet<PartitionId>>,
    gone: Gone,
    /// Positions whose file was written and did not grow: all that was read of it is compared before it is read on.
    touched: HashSet<PartitionId>,
    aside: Aside,
    unread: Unread,
    record_bytes_max: usize,
    on_gap: OnGap,
    copies: Copies,
    /// What was found out and not yet handed on.
    pending: Vec<Chunk>,
}

impl Files {
    /// Opens a file to look at it; `None` if it is gone.
    fn open_file(&self, path: &Path) -> Result<Option<File>> {
        let open = gone_is_none(discover::open(path, &self.patterns.disk));
        open.map_err(|e| Error::io(format_args!("open `{}`", names::label_of(path)), e))
    }

    /// Lists the files that match now.
    fn find(&self) -> Result<Found> {
        self.patterns.find(|path| self.positions.is_name(path))
    }

    /// Takes what could not be looked at.
    fn take_failed(&mut self, found: &Found) {
        // Not everything in it has vanished: it is moved away, or not mounted.
        let is_known = |directory: &&PathBuf| self.positions.iter().any(|known| Path::new(&*known.partition.label).starts_with(directory));
        let missing: Vec<&PathBuf> = found.missing.iter().filter(is_known).collect();
        for directory in &missing {
            let doing = format!("find `{}`, of which files were read", names::label_of(directory));
            self.aside.directory(directory, &Error::io(doing, Errno::NOENT.into()));
        }
        let failed = found.failed.iter().map(|(path, _)| path).chain(&found.dangling).chain(missing).map(PathBuf::as_path).collect();
        for (path, error) in &found.failed {
            // What is below a directory is not known; what is below a name that cannot be looked at neither.
            self.aside.directory(path, error);
        }
        found.dangling.iter().for_each(|path| self.aside.link(path));
        self.aside.look(&found.files, &failed);
    }

    /// Hands on what was found out.
    fn tell(&mut self, sender: &ChunkSender) -> Result<(), Exit> {
        self.pending.drain(..).try_for_each(|chunk| sender.send(chunk))
    }
}

/// Counts the bytes of uncompressed files that are known and not yet handed on.
#[derive(Debug, Clone, Default)]
struct Unread(Arc<AtomicU64>);

impl Unread {
    /// Records that a file of which `seen` bytes were counted now has `length`.
    fn see(&self, seen: &mut u64, length: u64) {
        self.0.fetch_add(length.saturating_sub(*seen), Ordering::Relaxed);
        *seen = length.max(*seen);
    }

    /// Records that bytes are handed on that were not counted.
    fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sub(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Checks that each name is that of a file that may be read, and each glob leads out of the dataset. While files are followed, what becomes of a name is
/// waited for.
fn check_all_files(found: &Found) -> Result<()> {
    match found.failed.iter().find(|(_, error)| error.kind() == ErrorKind::Config) {
        Some((_, error)) => Err(Error::config(error.to_string())),
        None => Ok(()),
    }
}

/// Checks that each name exists and each glob matches something, or did when it was read.
fn check_all_matched(found: &Found, positions: &Positions) -> Result<()> {
    // What vanished is forgotten by name.
    let read_before =
        |pattern: &&Pattern| positions.fingerprints.is_any() || positions.iter().any(|known| pattern.may_match(&known.partition.label));
    // What could not be looked at is named at the end, when everything else is committed.
    let is_hidden = |pattern: &&Pattern| found.failed.iter().any(|(path, _)| pattern.may_lie_at(path));
    match found.unmatched.iter().find(|pattern| !read_before(pattern) && !is_hidden(pattern)) {
        None => Ok(()),
        Some(pattern) => Err(Error::config(format!(
            "`source.path`: no file matches `{pattern}`: correct it, or set `source.follow = true` to wait for one"
        ))),
    }
}
