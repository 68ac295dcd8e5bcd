//! The keeper: writes the segments that the records have outgrown.
//!
//! Owns: the thread of a service that does so, off the path of a commit; removing segments that are of no use.
//! Does not own: what a segment says and when it is trusted (see [`super`]).

use std::io::{self, ErrorKind};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use pintail_core::error::{Error, Result};
use tracing::{debug, warn};

use super::{Found, Index, LARGE, SMALL, Segment, segments};
use crate::checkpoint::columns::OutputColumn;
use crate::checkpoint::paths::{self, Paths};
use crate::checkpoint::{log, sealed};
use crate::durable::fs::{Fs, ReadFs};
use crate::durable::posix::Posix;

/// Time between two looks at whether there are enough new records. The thread rests as long as it works.
const LOOK: Duration = Duration::from_secs(1);

/// Starts keeping the index of an instance. `last` tells the last record that is written, and nothing when the service ends. Nobody waits for it.
pub fn start(paths: Paths, last: impl Fn() -> Option<u64> + Send + 'static) {
    if let Err(error) = thread::Builder::new().name("pintail-index".to_owned()).spawn(move || keep(&paths, &last)) {
        warn!(%error, "the index is not kept: queries read the records");
    }
}

fn keep(paths: &Paths, last: &dyn Fn() -> Option<u64>) {
    let mut keeper: Option<Keeper> = None;
    while let Some(reached) = last() {
        let done = match &mut keeper {
            None if reached < SMALL => Ok(()),
            None => Keeper::open(paths).map(|opened| keeper = Some(opened)),
            Some(keeper) => keeper.catch_up(reached, &|| last().is_some()),
        };
        if let Err(error) = done {
            return debug!(%error, "the index cannot be written: queries read the records");
        }
        thread::sleep(LOOK);
    }
}

/// Writes all segments that are due.
///
/// # Errors
/// If a record cannot be read or nothing can be written: a reader goes by the records then.
pub fn update(paths: &Paths) -> Result<()> {
    let mut keeper = Keeper::open(paths)?;
    let last = log::last_sequence(&keeper.fs, paths)?.unwrap_or(0);
    keeper.catch_up(last, &|| true)
}

/// Where the segments of an instance end.
struct Keeper {
    fs: Posix,
    paths: Paths,
    dataset_id: String,
    /// Without the records that have a segment.
    index: Index,
    nonce: String,
}

impl Keeper {
    fn open(paths: &Paths) -> Result<Self> {
        let (fs, paths) = (Posix::default(), paths.clone());
        let missing = || Error::state(format!("`{}` is not there", paths.format().display()));
        let (format, format_sha256) = log::format(&fs, &paths)?.ok_or_else(missing)?;
        let dataset_id = format.dataset_id;
        let index = Index::load_end(&fs, &paths, &dataset_id, &format_sha256);
        remove_useless(&fs, &paths, &index, &dataset_id)?;
        Ok(Self { fs, paths, dataset_id, index, nonce: format!("{:016x}", rand::random::<u64>()) })
    }

    fn catch_up(&mut self, last: u64, go_on: &dyn Fn() -> bool) -> Result<()> {
        let (begun, before) = (Instant::now(), self.index.end());
        while self.index.end() + SMALL <= last && go_on() {
            let working = Instant::now();
            let block = Block { from: self.index.end() + 1, previous: self.index.seal.clone(), columns: self.index.columns().to_vec() };
            for sequence in block.from..block.from + SMALL {
                let (record, sha256) = log::read(&self.fs, &self.paths, sequence)?;
                self.index.push(&record, sha256)?;
            }
            self.write(block)?;
            self.index.forget();
            if self.index.end().is_multiple_of(LARGE) {
                self.merge(self.index.end())?;
            }
            thread::sleep(working.elapsed());
        }
        if self.index.end() == before {
            return Ok(());
        }
        debug!(records = self.index.end(), took_ms = begun.elapsed().as_millis() as u64, "index written");
        Ok(())
    }
}

/// Where a segment begins.
struct Block {
    from: u64,
    previous: String,
    columns: Vec<OutputColumn>,
}

impl Keeper {
    /// Writes the records of the index, which begins with `block`.
    fn write(&self, block: Block) -> Result<()> {
        self.put(&Segment {
            version: Segment::version_of(&self.index.records),
            dataset_id: self.dataset_id.clone(),
            from: block.from,
            to: self.index.end(),
            previous: block.previous,
            seal: self.index.seal.clone(),
            columns: block.columns,
            dirs: self.index.dirs.clone(),
            records: self.index.records.clone(),
        })
    }

    /// Replaces the small segments up to `to` by a large one.
    fn merge(&self, to: u64) -> Result<()> {
        let from = to - LARGE + 1;
        let small: Vec<Found> = segments(&self.fs, &self.paths).into_iter().filter(|found| found.from >= from && found.to <= to).collect();
        let read: Option<Vec<Segment>> = small.iter().map(|found| found.read(&self.fs, &self.dataset_id)).collect();
        let joined = read.and_then(|read| read.into_iter().reduce(Segment::join));
        let Some(large) = joined.filter(|large| (large.from, large.to) == (from, to) && large.records.len() as u64 == LARGE) else {
            return Ok(());
        };
        self.put(&large.with_dirs_once())?;
        small.iter().try_for_each(|found| remove(&self.fs, &found.path))
    }

    fn put(&self, segment: &Segment) -> Result<()> {
        let path = self.paths.index().join(format!("{:010}-{:010}.json", segment.from, segment.to));
        let temporary = paths::written_by(&path, &self.nonce);
        let (bytes, _) = sealed::seal(segment);
        let made = match self.fs.create_dir(&self.paths.index()) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            made => made,
        };
        let written = made.and_then(|()| self.fs.create_new(&temporary)).and_then(|mut file| file.write_all(&bytes));
        match written.and_then(|()| self.fs.rename_noreplace(&temporary, &path)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => remove(&self.fs, &temporary),
            done => done.map_err(|e| cannot("write", &path, e)),
        }
    }
}

impl Segment {
    fn join(mut self, next: Self) -> Self {
        let shift = self.dirs.len() as u32;
        self.dirs.extend(next.dirs);
        (self.to, self.seal, self.version) = (next.to, next.seal, self.version.max(next.version));
        for mut record in next.records {
            record.each_dir(|dir| *dir += shift);
            self.records.push(record);
        }
        self
    }

    /// Names each directory once.
    fn with_dirs_once(mut self) -> Self {
        let all = std::mem::take(&mut self.dirs);
        let mut own = Index::default();
        for record in &mut self.records {
            record.each_dir(|dir| *dir = own.dir(&all[*dir as usize]));
        }
        self.dirs = own.dirs;
        self
    }
}

/// Removes what no reader uses: segments that a larger one replaces, that are damaged, or of records that are not there, and what was being written.
fn remove_useless(fs: &Posix, paths: &Paths, index: &Index, dataset_id: &str) -> Result<()> {
    let names = fs.names(&paths.index()).unwrap_or_default();
    let unfinished = names.into_iter().map(|(path, _)| path).filter(|path| paths::is_in_progress(path));
    unfinished.into_iter().try_for_each(|path| remove(fs, &path))?;
    let mut end = 0;
    for found in segments(fs, paths).chunk_by(|a, b| a.from == b.from).filter_map(|same| same.last().map(|longest| (longest, same))) {
        let (longest, same) = found;
        let used = longest.from == end + 1 && longest.to <= index.end() && longest.read(fs, dataset_id).is_some();
        end = if used { longest.to } else { end };
        let useless = same.iter().filter(|segment| !used || *segment != longest);
        useless.into_iter().try_for_each(|segment| remove(fs, &segment.path))?;
    }
    Ok(())
}

fn remove(fs: &dyn Fs, path: &Path) -> Result<()> {
    match fs.remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|e| cannot("remove", path, e)),
    }
}

fn cannot(what: &str, path: &Path, error: io::Error) -> Error {
    Error::io(format_args!("{what} `{}`", path.display()), error)
}
