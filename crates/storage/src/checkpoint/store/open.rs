//! Opening a dataset: FORMAT, the head, recovery, and the open record that fences whoever still runs.
//!
//! Owns: looking (facts) and acting (carrying out the plan) at start. What is seen here may be visible without being durable: it is
//! made durable before anything is built on it.
//! Does not own: the decision (see `recovery`), the lock, which is held before.
//!
//! The order: what the last process left undone is completed; then the *open record* takes the next sequence number, by creating it if it is
//! absent. Whoever still runs finds that number taken at its next commit, whatever the lock says. Only then is anything removed, and only what
//! older processes left. If the number is taken first by another, all is looked at anew.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use itertools::Itertools;
use pintail_core::digest::{hex, sha256_of};
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::evidence::Key;
use pintail_core::invocation::{quoted, service_command};
use pintail_core::offsets::{Offsets, PartitionId};

use super::expected::{Expected, Sharing};
use super::ground::{self, Ground};
use super::head::{self, Head};
use super::named::{self, Written, entry, publish, remove_leftovers, remove_staging};
use super::stored::{check_stored, partition_columns};
use super::swap::{self, Swap};
use super::tip::Tip;
use super::{Store, missing};
use crate::checkpoint::directories::{Directories, sync_dir};
use crate::checkpoint::format::Format;
use crate::checkpoint::log;
use crate::checkpoint::paths::{self, Paths, StagedBy};
use crate::checkpoint::process::Process;
use crate::checkpoint::record::{CommitRecord, FileEntry, PartitionSpan};
use crate::checkpoint::recovery::{self, Facts, FileFacts, Found, LastRecord};
use crate::checkpoint::take_over::{self, TakeOver};
use crate::durable::fs::{EntryKind, Fs};

/// Starts that may come between this one's looking and its open record. More at the same time is a mistake of whoever starts them.
const OPENINGS_MAX: usize = 8;

impl Store {
    /// Opens the dataset as one of its instances, makes it if there is none, completes what a crash interrupted, and fences whoever still
    /// writes to it. The caller holds the lock.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if the dataset is not what `expected` asks for, [`pintail_core::error::ErrorKind::State`] if what
    /// lies there contradicts itself: nothing is skipped silently. [`pintail_core::error::ErrorKind::TryAgain`] if others open it all the time.
    pub fn open(fs: Arc<dyn Fs>, paths: impl Into<Paths>, expected: &Expected) -> Result<Self> {
        let paths = paths.into();
        let absolute = paths.absolute();
        let paths = absolute.map_err(|e| Error::io(format_args!("use `{}` as `pipeline.out_path`", paths.root().display()), e))?;
        for _ in 0..OPENINGS_MAX {
            let ground = Ground::look(&*fs, &paths);
            let last = ground.as_ref().ok().map(|ground| ground.last);
            let opened = ground.and_then(|ground| Self::open_once(&fs, &paths, ground, expected));
            match opened {
                Ok(Some(mut store)) => {
                    store.clear_older()?;
                    return Ok(store);
                }
                // The number of the open record was taken.
                Ok(None) => {}
                // What was looked at is not what is there now.
                Err(_) if went_on(&*fs, &paths, last, &expected.process) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::try_again(format!("other processes open `{}` all the time: run one process on a dataset", paths.root().display())))
    }

    /// Opens the dataset as it lies on `ground`; `None` if another process takes the next sequence number first.
    fn open_once(fs: &Arc<dyn Fs>, paths: &Paths, ground: Ground, expected: &Expected) -> Result<Option<Self>> {
        if !expected.allow.strangers {
            ground.check(paths)?;
        }
        let mut directories = Directories::open(fs.clone(), paths)?;
        ground::probe(&**fs, paths, &expected.process.nonce)?;
        let sequence = ground.last;
        let (format, format_sha256) = open_format(&**fs, paths, ground, expected)?;
        let take_over = take_over::last(&**fs, paths, &format_sha256)?.map(|sealed| sealed.take_over);
        check_instances(paths, &format, take_over.as_ref(), expected.sharing.instances)?;
        let head = head::read(&**fs, paths, sequence, &format_sha256, &format.dataset_id)?;
        let key = open_key(&**fs, paths, &head, expected)?;
        check_stored(&**fs, paths, &format, take_over.as_ref(), &head, expected)?;
        check_generation(paths, head.last.as_ref(), take_over.as_ref())?;
        let expired_before = head.state.rest().expired_before.max(expected.allow.gone_before);
        let missing = recover(&**fs, paths, &mut directories, (head.last.as_ref(), &expected.process.nonce), expired_before)?;
        let mut store = Self {
            fs: fs.clone(),
            paths: paths.clone(),
            directories,
            tip: Tip::new(format, key, head, expected),
            stale: Vec::new(),
            missing,
        };
        if store.write_open_record(take_over.as_ref(), &format_sha256, expected)? == Written::Taken {
            return Ok(None);
        }
        Ok(Some(store))
    }

    /// Takes the next sequence number for this process. After a take-over the record says where each partition that is now its own stands.
    fn write_open_record(&mut self, take_over: Option<&TakeOver>, format_sha256: &str, expected: &Expected) -> Result<Written> {
        self.write_due_snapshot()?;
        let mut record = self.tip.open_record(expected);
        if let Some(take_over) = take_over.filter(|take_over| take_over.number > record.generation) {
            record.generation = take_over.number;
            record.source.partitions = taken_over(&self.paths, take_over, expected.sharing);
        }
        let sealed = self.tip.seal(record)?;
        if self.lay_out(&sealed, format_sha256, expected)? == Written::Taken {
            return Ok(Written::Taken);
        }
        let written = self.write_sealed(sealed)?;
        self.tip.offsets = self.tip.state.offsets();
        Ok(written)
    }

    #[cfg(test)]
    pub(super) fn clear_older_for_test(&mut self) {
        self.clear_older().expect("the test has a disk that works");
    }

    /// Removes what older processes left. Whoever still runs is fenced by now, and what it misses it cannot commit.
    fn clear_older(&mut self) -> Result<()> {
        let staging = staging(&*self.fs, &self.paths)?;
        remove_staging(&*self.fs, &self.paths, recovery::garbage(&staging, self.tip.epoch))?;
        // A process writes its open record before it stages: without one, an older copy of the dataset was put back under it.
        for staged in staging.into_iter().filter(|staged| staged.epoch > self.tip.epoch) {
            if entry(&*self.fs, &self.paths.record(staged.epoch))?.is_none() {
                remove_staging(&*self.fs, &self.paths, [staged])?;
            }
        }
        swap::clear(&*self.fs, &self.paths, |staged| {
            let is_older = !recovery::garbage(&[staged], self.tip.epoch).is_empty();
            Ok(is_older || entry(&*self.fs, &self.paths.record(staged.epoch))?.is_none())
        })?;
        let nonce = &self.tip.process.nonce;
        let mut dirs = vec![self.paths.own(), self.paths.snapshots(), self.paths.commit_dir(self.tip.epoch)];
        dirs.extend((self.tip.epoch > 1).then(|| self.paths.commit_dir(self.tip.epoch - 1)));
        dirs.dedup();
        dirs.iter().try_for_each(|dir| remove_leftovers(&*self.fs, dir, nonce))?;
        let snapshots = self.fs.names(&self.paths.snapshots());
        let snapshots = snapshots.map_err(|e| Error::io(format_args!("list `{}`", self.paths.snapshots().display()), e))?;
        let mut old: Vec<u64> = snapshots.iter().filter_map(|(path, _)| paths::sequence_of(path)).collect();
        old.retain(|sequence| self.tip.snapshot.as_ref().is_none_or(|current| *sequence < current.sequence));
        old.sort_unstable();
        self.stale = old;
        self.remove_stale_snapshots()
    }
}

/// Where a dataset stands.
#[derive(Debug)]
pub struct Standing {
    /// What it is.
    pub format: Format,
    /// What is committed.
    pub offsets: Offsets,
    /// What its evidence is made with; `None` if there is no evidence yet.
    pub key: Option<Key>,
}

/// Compares a dataset with what a configuration asks of it, and with itself, without changing anything. A directory without a dataset fits every
/// one. Returns where it stands.
///
/// # Errors
/// As [`Store::open`], but with all of the configuration that does not fit, a line each.
pub fn check_dataset(fs: &dyn Fs, paths: &Paths, expected: &Expected) -> Result<Option<Standing>> {
    let ground = Ground::look(fs, paths)?;
    let last = ground.last;
    let checked = check_once(fs, paths, ground, expected);
    // What was looked at is not what is there now.
    if checked.is_err() && went_on(fs, paths, Some(last), &expected.process) {
        return check_once(fs, paths, Ground::look(fs, paths)?, expected);
    }
    checked
}

fn check_once(fs: &dyn Fs, paths: &Paths, ground: Ground, expected: &Expected) -> Result<Option<Standing>> {
    ground.check(paths)?;
    let Some((format, sha256)) = &ground.format else {
        return match ground.last {
            Some(last) => Err(log::format_missing(paths, last)),
            None if paths.instance() > 0 => Err(not_made_yet(paths)),
            None => Ok(None),
        };
    };
    let take_over = take_over::last(fs, paths, sha256)?.map(|sealed| sealed.take_over);
    let head = head::read(fs, paths, ground.last, sha256, &format.dataset_id)?;
    let key = log::key(fs, paths);
    let is_right = |key: &Option<Key>| head::check_made_with(paths, head.last.as_ref(), key.as_ref());
    let expired_before = head.state.rest().expired_before.max(expected.allow.gone_before);
    let checked = [
        check_format(fs, paths, (format, sha256), ground.last, expected),
        check_instances(paths, format, take_over.as_ref(), expected.sharing.instances),
        key.as_ref().map_err(|error| Error::new(error.kind(), error.to_string())).and_then(is_right),
        check_stored(fs, paths, format, take_over.as_ref(), &head, expected),
        check_generation(paths, head.last.as_ref(), take_over.as_ref()),
        check_recovery(fs, paths, head.last.as_ref(), expired_before),
    ];
    let faults: Vec<Error> = checked.into_iter().filter_map(Result::err).collect();
    match faults.first() {
        None => Ok(Some(Standing { format: format.clone(), offsets: head.state.offsets(), key: key? })),
        Some(first) => Err(Error::new(first.kind(), faults.iter().join("\n"))),
    }
}

/// Checks that a start could complete the last commit.
fn check_recovery(fs: &dyn Fs, paths: &Paths, last: Option<&CommitRecord>, expired_before: Option<DateTime<Utc>>) -> Result<()> {
    let Some(last) = last else { return Ok(()) };
    let steps = recovery::plan(&look(fs, paths, last, expired_before)?);
    missing::judge(last, &steps, expired_before).map(drop)
}

fn not_made_yet(paths: &Paths) -> Error {
    Error::try_again(format!("`{}` is not there yet: instance 0 makes it, start that first", paths.format().display()))
}

/// Checks that a dataset has the key that its evidence was made with, without changing anything.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if it has not, or its records cannot be read.
pub fn check_key(fs: &dyn Fs, paths: &Paths) -> Result<()> {
    let last = match log::last_sequence(fs, paths)? {
        Some(last) => Some(log::read(fs, paths, last)?.0),
        None => None,
    };
    let key = log::key(fs, paths)?;
    if key.is_none() {
        return Err(Error::state(format!("`{}` is missing", paths.key().display())));
    }
    head::check_made_with(paths, last.as_ref(), key.as_ref())
}

/// Returns whether another process than this wrote records since `before` was the last one.
fn went_on(fs: &dyn Fs, paths: &Paths, before: Option<Option<u64>>, process: &Process) -> bool {
    let Ok(now) = log::last_sequence(fs, paths) else { return false };
    let by_this = |last| log::read(fs, paths, last).is_ok_and(|(record, _)| record.opened.as_ref() == Some(process));
    before != Some(now) && !now.is_some_and(by_this)
}

/// Refuses a dataset of another source.
pub(crate) fn check_source(paths: &Paths, format: &Format, expected: &Expected) -> Result<()> {
    format.check_source(&paths.root().display().to_string(), &(expected.source)(format.created_at))
}

/// As [`check_source`]. A dataset that nothing was ever read into is in nobody's way, but for what a journal may hold, and the refusal says so.
fn check_format(fs: &dyn Fs, paths: &Paths, (format, sha256): (&Format, &str), last: Option<u64>, expected: &Expected) -> Result<()> {
    check_source(paths, format, expected).map_err(|refusal| {
        let head = head::read(fs, paths, last, sha256, &format.dataset_id);
        let is_unread = head.is_ok_and(|head| head.state.offsets().spans().len() == 0);
        match is_unread && entry(fs, &paths.journal()).is_ok_and(|journal| journal.is_none()) {
            true => {
                let private = quoted(&paths.private().display().to_string());
                Error::config(format!("{refusal}; nothing was ever committed there, so `rm -r {private}` makes it free for another"))
            }
            false => refusal,
        }
    })
}

/// Refuses a record from after a take-over that is not there.
fn check_generation(paths: &Paths, last: Option<&CommitRecord>, take_over: Option<&TakeOver>) -> Result<()> {
    let generation = take_over.map_or(0, |take_over| take_over.number);
    let Some(last) = last.filter(|last| last.generation > generation) else { return Ok(()) };
    Err(Error::state(format!(
        "commit record {} was made after take-over {}, of which there is none in `{}`: {}",
        last.sequence,
        last.generation,
        paths.instances().display(),
        log::way_out(paths.root())
    )))
}

/// Refuses a number of instances that is not the dataset's: two of them would read the same partitions.
pub(crate) fn check_instances(paths: &Paths, format: &Format, take_over: Option<&TakeOver>, asked: u32) -> Result<()> {
    let instances = take_over.map_or(format.instances, |take_over| take_over.to_instances);
    if instances == asked {
        return Ok(());
    }
    Err(Error::config(format!(
        "`{}` is shared by {instances} instances, `source.instance.count` asks for {asked}: go back to {instances}, or stop all instances and \
         start one of the {asked} with {}",
        paths.root().display(),
        service_command("run --take-over")
    )))
}

/// Returns where this instance begins after a take-over, and where that stands.
fn taken_over(paths: &Paths, take_over: &TakeOver, sharing: Sharing) -> Vec<PartitionSpan> {
    let owned = take_over.partitions.iter().filter(|handed| {
        let id = PartitionId::new(handed.id.as_str());
        (sharing.owns)(paths.instance(), take_over.to_instances, &id)
    });
    let span = |handed: &take_over::HandedOver| PartitionSpan {
        id: handed.id.clone(),
        label: handed.label.clone(),
        from: handed.offset,
        to: handed.offset,
        new: false,
        vanished: false,
        taken_over: Some(handed.from.clone()),
        evidence: handed.evidence.clone(),
    };
    owned.map(span).collect()
}

/// Returns FORMAT as it was found, or makes it.
fn open_format(fs: &dyn Fs, paths: &Paths, ground: Ground, expected: &Expected) -> Result<(Format, String)> {
    let path = paths.format();
    match (ground.format, ground.last) {
        (Some((format, sha256)), last) => {
            check_format(fs, paths, (&format, &sha256), last, expected)?;
            // Who made it may have been killed before its name was durable: `open_key` fsyncs `_pintail`.
            Ok((format, sha256))
        }
        (None, Some(sequence)) => Err(log::format_missing(paths, sequence)),
        (None, None) if paths.instance() > 0 => Err(not_made_yet(paths)),
        (None, None) => {
            let partition_by = partition_columns(expected);
            let format = Format::new(expected.now, expected.source, partition_by).for_instances(expected.sharing.instances);
            let (bytes, sha256) = format.encode();
            match named::write(fs, paths, &expected.process.nonce, &path, &bytes)? {
                Written::Now => Ok((format, sha256)),
                // Another process makes the dataset at this moment.
                Written::Taken => open_format(fs, paths, Ground::look(fs, paths)?, expected),
            }
        }
    }
}

/// Reads the key, or makes it: a dataset of version 1 has none.
fn open_key(fs: &dyn Fs, paths: &Paths, head: &Head, expected: &Expected) -> Result<Key> {
    let (path, any) = (paths.key(), expected.allow.another_key);
    let found = match log::key(fs, paths) {
        // The operator said that there is no copy of the right one.
        Err(error) if any && error.kind() == ErrorKind::State => {
            named::remove_if_there(fs, &path)?;
            None
        }
        found => found?,
    };
    if !any {
        // Before one is made: it would lie in the way of whoever restores the right one.
        head::check_made_with(paths, head.last.as_ref(), found.as_ref())?;
    }
    let key = match found {
        Some(key) => key,
        None => make_key(fs, paths, expected)?,
    };
    // Also one that is there may be visible and not durable, and FORMAT beside it: of a process that was killed, or that starts at this moment.
    fs.sync_file(&path).map_err(|e| Error::io(format_args!("fsync `{}`", path.display()), e))?;
    sync_dir(fs, &paths.private())?;
    Ok(key)
}

/// Makes the key. Returns that of another process if one was faster.
fn make_key(fs: &dyn Fs, paths: &Paths, expected: &Expected) -> Result<Key> {
    let (path, key) = (paths.key(), &expected.new_key);
    match named::write_private(fs, paths, &expected.process.nonce, &path, format!("{}\n", hex(key.bytes())).as_bytes())? {
        Written::Now => Ok(key.clone()),
        Written::Taken => {
            let made = log::key(fs, paths)?;
            made.ok_or_else(|| Error::try_again(format!("`{}` was removed at this moment: start again", path.display())))
        }
    }
}

/// Completes the last commit. May be killed at any step and run again. Returns what must be said of files that are gone.
fn recover(
    fs: &dyn Fs,
    paths: &Paths,
    directories: &mut Directories,
    (last, nonce): (Option<&CommitRecord>, &str),
    expired_before: Option<DateTime<Utc>>,
) -> Result<Option<String>> {
    let Some(last) = last else { return Ok(None) };
    let steps = recovery::plan(&look(fs, paths, last, expired_before)?);
    let missing = missing::judge(last, &steps, expired_before)?;
    make_durable(fs, directories, paths, last.sequence)?;
    if let Some(swap) = Swap::of(fs, paths, last, nonce) {
        swap.complete(directories, &steps)?;
        return Ok(missing);
    }
    publish(fs, paths, directories, last.staged_by(), last.files.iter().zip(steps.iter().copied()), &[])?;
    Ok(missing)
}

/// Makes the last record durable before it is acted upon: a killed process leaves names that a power cut still takes away.
fn make_durable(fs: &dyn Fs, directories: &mut Directories, paths: &Paths, sequence: u64) -> Result<()> {
    let record = paths.record(sequence);
    directories.ensure([paths.commit_dir(sequence)])?;
    fs.sync_file(&record).map_err(|e| Error::io(format_args!("fsync `{}`", record.display()), e))?;
    sync_dir(fs, &paths.commit_dir(sequence))
}

pub(crate) fn staging(fs: &dyn Fs, paths: &Paths) -> Result<Vec<StagedBy>> {
    let listed = fs.list(&paths.staging()).map_err(|e| Error::io(format_args!("list `{}`", paths.staging().display()), e))?;
    let dirs = listed.iter().filter(|entry| entry.kind == EntryKind::Dir);
    Ok(dirs.filter_map(|entry| StagedBy::parse(&entry.path)).collect())
}

fn look(fs: &dyn Fs, paths: &Paths, last: &CommitRecord, expired_before: Option<DateTime<Utc>>) -> Result<Facts> {
    let staging = staging(fs, paths)?;
    let staged = staging.contains(&last.staged_by());
    let look = |file| {
        let (at_final, at_staged) = look_at(fs, paths, last.staged_by(), staged, file)?;
        let may_be_gone = missing::may_be_gone(last, file, expired_before);
        Ok(FileFacts { path: file.path.clone(), staged_index: file.staged, at_final, at_staged, may_be_gone })
    };
    let files = last.files.iter().map(look).collect::<Result<_>>()?;
    Ok(Facts { last: Some(LastRecord { staged_by: last.staged_by(), files }), staging })
}

/// Returns what lies in the place of a file, and staged.
fn look_at(fs: &dyn Fs, paths: &Paths, staged_by: StagedBy, staged: bool, file: &FileEntry) -> Result<(Found, Found)> {
    let place = paths.published(&file.path);
    // Files are hashed only if the commit was interrupted: an ordinary start reads none.
    if !staged {
        return Ok((compare_length(entry(fs, &place)?, file), Found::Absent));
    }
    // The staged one first: another process may publish it at this moment.
    let at_staged = compare(fs, &paths.staged(staged_by, file.staged), file)?;
    Ok((compare(fs, &place, file)?, at_staged))
}

fn compare_length(found: Option<EntryKind>, file: &FileEntry) -> Found {
    match found {
        None => Found::Absent,
        Some(EntryKind::File(bytes)) if bytes == file.bytes => Found::Right,
        Some(_) => Found::Wrong,
    }
}

pub(crate) fn compare(fs: &dyn Fs, path: &std::path::Path, file: &FileEntry) -> Result<Found> {
    match compare_length(entry(fs, path)?, file) {
        Found::Right => {}
        different => return Ok(different),
    }
    match fs.open(path).and_then(sha256_of) {
        // Renamed since by another process.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Found::Absent),
        Err(error) => Err(Error::io(format_args!("read `{}`", path.display()), error)),
        Ok(read) => Ok(if read == file.sha256 { Found::Right } else { Found::Wrong }),
    }
}
