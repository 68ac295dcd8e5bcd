//! A bucket seen as a directory tree, for those who only read.
//!
//! Owns: [`ReadFs`] over the requests of a reader, so that whatever reads a dataset in a directory reads one in a bucket; lists with lengths; records
//! read ahead; copies of files on a local disk.
//! Does not own: what is read and in which order (see [`crate::checkpoint::reader`]), where copies lie (the caller says), the credentials (the bucket's).
//!
//! Blocking, on a runtime of its own. Nothing is written to the bucket.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use pintail_core::error::{Error, Result};
use tokio::runtime::Runtime;

use super::copies::Copies;
use super::listing;
use super::requests::{Patience, Requests, failed};
use super::unseen::{self, Looks, Unseen};
use crate::blob::{Fault, ObjectKey, Shelf};
use crate::checkpoint::log;
use crate::checkpoint::paths::{self, Paths, sequence_of};
use crate::checkpoint::process::Process;
use crate::checkpoint::record::{CommitRecord, FileEntry};
use crate::checkpoint::store::{Visible, check_not_older};
use crate::durable::disk_state::DiskState;
use crate::durable::fs::{Entry, EntryKind, ReadFs};

/// Bytes of a piece: of a file no more are in memory.
const CHUNK_BYTES: u64 = 8 << 20;

/// Files that are copied side by side.
const FETCHES_SIDE_BY_SIDE: usize = 4;

/// Records that are asked for side by side where they are read one after another. One has a few kilobytes.
const AHEAD: u64 = 64;

/// Requests for records at the same time: small ones, which wait for the way.
const AHEAD_SIDE_BY_SIDE: usize = 32;

/// A dataset in a bucket, open for reading.
pub struct BucketTree {
    shelf: Arc<dyn Shelf>,
    requests: Requests,
    runtime: Runtime,
    ahead: Mutex<Ahead>,
    listed: Mutex<HashMap<String, u64>>,
    /// Where copies go.
    scratch: PathBuf,
    /// Made for the first of them.
    copies: Mutex<Option<Arc<Copies>>>,
    fetched: Fetches,
    looks: Looks,
}

/// A file of a dataset on a local disk. A copy goes with it.
#[derive(Debug)]
pub struct Local {
    path: PathBuf,
    /// Keeps the directory of a copy; `None` where the file lies in its place.
    copies: Option<Arc<Copies>>,
}

impl Local {
    /// Takes a file that lies there.
    pub fn in_place(path: PathBuf) -> Self {
        Self { path, copies: None }
    }
}

impl Deref for Local {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if self.copies.is_some() {
            // Whatever stays goes with the directory.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Files of data that were fetched.
#[derive(Debug, Default)]
struct Fetches {
    files: AtomicU64,
    bytes: AtomicU64,
}

/// Records that were read ahead. They never change.
#[derive(Default)]
struct Ahead {
    records: HashMap<PathBuf, Bytes>,
    /// The greatest sequence number that a list has shown, by the directory of a chain.
    last: HashMap<PathBuf, u64>,
}

impl fmt::Debug for BucketTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketTree").field("root", &self.requests.paths.root()).finish_non_exhaustive()
    }
}

impl BucketTree {
    /// Takes a bucket. The root of `paths` is how messages call the dataset; copies of files go to a directory of their own in `scratch`. Nothing is
    /// asked or made yet.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Io`] if the system has no room for a runtime.
    pub fn new(shelf: Arc<dyn Shelf>, paths: Paths, patience: Patience, scratch: PathBuf) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| Error::io("start the runtime", e))?;
        let requests = Requests::new(shelf.clone(), paths, patience, DiskState::default());
        let (ahead, listed, copies) = (Mutex::default(), Mutex::default(), Mutex::default());
        Ok(Self { shelf, requests, runtime, ahead, listed, scratch, copies, fetched: Fetches::default(), looks: Looks::default() })
    }

    /// Returns the names in the bucket.
    pub fn paths(&self) -> &Paths {
        &self.requests.paths
    }

    /// Returns how many files were fetched so far, with their bytes.
    pub fn fetched(&self) -> (u64, u64) {
        (self.fetched.files.load(Ordering::Relaxed), self.fetched.bytes.load(Ordering::Relaxed))
    }

    /// Lists all objects: [`Self::listed`] tells their lengths from now on. Returns their names below the root.
    ///
    /// # Errors
    /// If the bucket does not say.
    pub fn list_all(&self) -> Result<Vec<String>> {
        let mut found = HashMap::new();
        let take = |key: &ObjectKey, bytes| {
            found.insert(key.as_str().to_owned(), bytes);
        };
        self.runtime.block_on(listing::below(&self.requests, "", take))?;
        let names = found.keys().cloned().collect();
        *self.listed.lock() = found;
        Ok(names)
    }

    /// Lists the objects of data, as [`Self::list_all`] does with all: without what lies below `_pintail`.
    ///
    /// # Errors
    /// If the bucket does not say.
    pub fn list_data(&self) -> Result<()> {
        let found = Mutex::new(HashMap::new());
        let take = |key: &ObjectKey, bytes| {
            found.lock().insert(key.as_str().to_owned(), bytes);
        };
        self.runtime.block_on(listing::data(&self.requests, take))?;
        *self.listed.lock() = found.into_inner();
        Ok(())
    }

    /// Refuses a ledger of `paths` whose last record is `last` if the last list has shown files that are younger, and that is still the last one.
    ///
    /// # Errors
    /// As [`check_ledger`](crate::checkpoint::store::check_ledger).
    pub(crate) fn check_not_older(&self, paths: &Paths, last: u64) -> Result<()> {
        let mut visible = Visible::default();
        self.listed.lock().keys().for_each(|name| visible.see(paths, &paths.published(name)));
        let checked = check_not_older(paths, &visible, Some(last).filter(|last| *last > 0));
        match checked {
            // The service may have gone on since the records were read.
            Err(_) => check_not_older(paths, &visible, log::last_sequence(self, paths)?),
            Ok(()) => Ok(()),
        }
    }

    /// Returns the length of an object that the last list has shown.
    pub fn listed(&self, name: &str) -> Option<u64> {
        self.listed.lock().get(name).copied()
    }

    /// Returns the length of an object; `None` if there is none. Asks for it, whatever a list has shown.
    ///
    /// # Errors
    /// If the bucket does not say.
    pub fn length(&self, name: &str) -> Result<Option<u64>> {
        let path = self.requests.paths.published(name);
        Ok(self.runtime.block_on(self.requests.look(&path))?.map(|meta| meta.bytes))
    }

    /// Finds out why a file of the last record is not seen. One that has become visible is listed from now on.
    ///
    /// # Errors
    /// If the bucket does not say.
    pub fn unseen(&self, paths: &Paths, record: &CommitRecord, file: &FileEntry) -> Result<Unseen> {
        let why = self.runtime.block_on(self.looks.at(&self.requests, &*self.shelf, paths, record, file))?;
        if let Unseen::There(bytes) = why {
            self.listed.lock().insert(file.path.clone(), bytes);
        }
        Ok(why)
    }

    /// Returns the process that wrote a record, as far as its open record says so.
    ///
    /// # Errors
    /// If the bucket does not say.
    pub fn process(&self, paths: &Paths, record: &CommitRecord) -> Result<Option<Process>> {
        self.runtime.block_on(unseen::process(&self.requests, paths, record))
    }

    /// Returns the directory that copies lie in, each under its name below the root.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn copies(&self) -> Result<PathBuf> {
        self.made().map(|copies| copies.dir().to_owned())
    }

    fn made(&self) -> Result<Arc<Copies>> {
        let mut copies = self.copies.lock();
        if let Some(made) = &*copies {
            return Ok(made.clone());
        }
        Ok(copies.insert(Arc::new(Copies::make(&self.scratch)?)).clone())
    }

    /// Copies files to a local disk, a few side by side, each with one piece in memory. Those that are not there are passed over.
    ///
    /// # Errors
    /// If one cannot be read or written.
    pub fn fetch_all(&self, names: impl IntoIterator<Item = String>) -> Result<()> {
        let made = self.made()?;
        let fetches = names.into_iter().map(|name| {
            let to = made.dir().join(&name);
            async move { self.copy(&name, &to).await.map(drop) }
        });
        self.runtime.block_on(stream::iter(fetches).buffer_unordered(FETCHES_SIDE_BY_SIDE).try_collect())
    }

    /// Returns a copy of a file: the one that [`Self::fetch_all`] has made, or one that is made now; `None` if there is no file.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn local(&self, name: &str) -> Result<Option<Local>> {
        let copies = self.made()?;
        let path = copies.dir().join(name);
        let is_there = path.is_file() || self.runtime.block_on(self.copy(name, &path))?;
        Ok(is_there.then(|| Local { path, copies: Some(copies) }))
    }

    /// Copies a file. Returns whether it is there.
    async fn copy(&self, name: &str, to: &Path) -> Result<bool> {
        let from = self.requests.paths.published(name);
        let cannot = |e: io::Error| Error::io(format_args!("write `{}`, a copy of `{}`", to.display(), from.display()), e);
        let mut chunks = Chunks::of(&self.requests, &from);
        let mut file = None;
        loop {
            let chunk = chunks.next().await.map_err(|fault| failed(format_args!("read `{}`", from.display()), fault))?;
            let Some(chunk) = chunk else { return Ok(false) };
            let file = match &mut file {
                Some(file) => file,
                None => {
                    to.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(cannot)?;
                    file.insert(File::create(to).map_err(cannot)?)
                }
            };
            if chunk.is_empty() {
                self.fetched.files.fetch_add(1, Ordering::Relaxed);
                self.fetched.bytes.fetch_add(chunks.next, Ordering::Relaxed);
                return Ok(true);
            }
            file.write_all(&chunk).map_err(cannot)?;
        }
    }

    /// Returns a record whose number a list has shown, and reads those behind it ahead; `None` for what is none.
    fn record(&self, path: &Path) -> io::Result<Option<Bytes>> {
        let (Some(sequence), Some(commits)) = (sequence_of(path), path.parent().and_then(Path::parent)) else { return Ok(None) };
        let last = {
            let mut ahead = self.ahead.lock();
            if let Some(bytes) = ahead.records.remove(path) {
                return Ok(Some(bytes));
            }
            // Whoever reads in another order does not come back for them.
            ahead.records.clear();
            ahead.last.get(commits).copied().unwrap_or(0)
        };
        let paths = (sequence..=last.min(sequence + AHEAD - 1)).map(|sequence| paths::record_in(commits, sequence));
        let read = |path: PathBuf| async move {
            let (key, requests) = (self.requests.key(&path), &self.requests);
            let object = requests.persist(|| requests.blob().get(&key, 0..CHUNK_BYTES)).await?;
            // A longer one is read by whoever asks for it.
            Ok(object.filter(|object| object.bytes.len() as u64 == object.meta.bytes).map(|object| (path, object.bytes)))
        };
        let read = stream::iter(paths.map(read)).buffered(AHEAD_SIDE_BY_SIDE).try_collect::<Vec<_>>();
        let read = self.runtime.block_on(read).map_err(system)?;
        let mut ahead = self.ahead.lock();
        ahead.records.extend(read.into_iter().flatten());
        Ok(ahead.records.remove(path))
    }
}

impl ReadFs for BucketTree {
    /// Opens an object of the ledger: it is read whole.
    fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        if let Some(bytes) = self.record(path)? {
            return Ok(Box::new(Cursor::new(bytes)));
        }
        let read = async {
            let (mut chunks, mut bytes) = (Chunks::of(&self.requests, path), Vec::new());
            while let Some(chunk) = chunks.next().await? {
                if chunk.is_empty() {
                    return Ok(Some(bytes));
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(None)
        };
        match self.runtime.block_on(read).map_err(system)? {
            Some(bytes) => Ok(Box::new(Cursor::new(bytes))),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn entry(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        let key = self.requests.key(path);
        let looked = self.runtime.block_on(self.requests.persist(|| self.requests.blob().head(&key))).map_err(system)?;
        Ok(looked.map(|meta| EntryKind::File(meta.bytes)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let root = self.requests.paths.root();
        let level = self.runtime.block_on(listing::level(&self.requests, self.requests.key(dir).as_str())).map_err(system)?;
        let file = |(key, bytes): (ObjectKey, u64)| Entry { path: root.join(key.as_str()), kind: EntryKind::File(bytes) };
        let files = level.objects.into_iter().map(file);
        let dirs = level.dirs.into_iter().map(|dir| Entry { path: root.join(dir.as_str()), kind: EntryKind::Dir });
        let mut entries: Vec<Entry> = files.chain(dirs).collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        if let (Some(last), Some(chain)) = (entries.iter().filter_map(|entry| sequence_of(&entry.path)).max(), dir.parent()) {
            self.ahead.lock().last.insert(chain.to_owned(), last);
        }
        Ok(entries)
    }
}

/// An object that is read piece by piece.
struct Chunks<'a> {
    requests: &'a Requests,
    key: ObjectKey,
    /// Where the next piece begins.
    next: u64,
    /// The length of the object, once a piece was read.
    length: Option<u64>,
}

impl<'a> Chunks<'a> {
    fn of(requests: &'a Requests, path: &Path) -> Self {
        Self { requests, key: requests.key(path), next: 0, length: None }
    }

    /// Reads the next piece, which is empty behind the last one; `None` if there is no object.
    async fn next(&mut self) -> std::result::Result<Option<Bytes>, Fault> {
        if self.length.is_some_and(|length| self.next >= length) {
            return Ok(Some(Bytes::new()));
        }
        let (key, range) = (&self.key, self.next..self.next + CHUNK_BYTES);
        let object = self.requests.persist(|| self.requests.blob().get(key, range.clone())).await?;
        let changed = || Fault::Refused("somebody replaced it while it was read".to_owned());
        let Some(object) = object else { return if self.next == 0 { Ok(None) } else { Err(changed()) } };
        let length = *self.length.get_or_insert(object.meta.bytes);
        if object.meta.bytes != length || object.bytes.len() as u64 != CHUNK_BYTES.min(length - self.next) {
            return Err(changed());
        }
        self.next += object.bytes.len() as u64;
        Ok(Some(object.bytes))
    }
}

/// Returns a fault as an error of a file system.
fn system(fault: Fault) -> io::Error {
    let kind = if fault.may_pass() { io::ErrorKind::TimedOut } else { io::ErrorKind::Other };
    io::Error::new(kind, fault)
}
