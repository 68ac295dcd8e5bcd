//! The swap: the directory of a hive partition is exchanged for another one in one step, so that no reader sees files beside those that they replace.
//!
//! Owns: building the new directory (hard links to what stays, and to the staged files), the exchange, what becomes of the old one; completing all
//! that at a start.
//! Does not own: the record that decides (see `rewrite`), the bytes of the files.
//!
//! The new directory is built beside the dataset's, not in it: readers with `**` look everywhere below. It holds the very names that are to appear, so
//! until the exchange it must be where nobody looks, and so must the old one after it.
//!
//! The record is durable before the exchange; before that the old files are what counts, and a start that finds the exchange not done builds anew from
//! what lies there then. The staged files stay until the exchange is durable: with them goes the last that it could be done again from.
//!
//! A process that was stopped between its record and its exchange must not do that later, when another has published files to the directory since. So
//! each builds under a name of its own, and whoever completes a rewrite takes the directories of all others away first, by renaming them. One that
//! was taken away cannot be exchanged any more. Two that start at the same time may take away each other's, and begin again.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use pintail_core::error::{Error, Result};

use super::named::{entry, undisturbed};
use crate::checkpoint::directories::{Directories, sync_dir};
use crate::checkpoint::paths::{Paths, StagedBy};
use crate::checkpoint::record::{CommitRecord, Rewrite};
use crate::checkpoint::recovery::Step;
use crate::durable::fs::{EntryKind, Fs};

/// How often another process may disturb a completion.
const DISTURBED_MAX: usize = 8;

/// A rewrite about to be seen.
pub(super) struct Swap<'a> {
    fs: &'a dyn Fs,
    paths: &'a Paths,
    record: &'a CommitRecord,
    replaced: HashSet<&'a OsStr>,
    /// The directory of the hive partition.
    dir: PathBuf,
    workspace: PathBuf,
    /// Where the new one is built, and the old one is after the exchange.
    beside: PathBuf,
}

impl<'a> Swap<'a> {
    /// Prepares what a record asks for; `None` if it is no rewrite.
    pub(super) fn of(fs: &'a dyn Fs, paths: &'a Paths, record: &'a CommitRecord, nonce: &str) -> Option<Self> {
        let Rewrite { replaces, .. } = record.rewrite.as_ref()?;
        let dir = paths.published(&replaces.first()?.path).parent()?.to_path_buf();
        let replaced = replaces.iter().filter_map(|file| Path::new(&file.path).file_name()).collect();
        let workspace = paths.workspace()?;
        let beside = workspace.join(format!("{}.{nonce}", record.staged_by()));
        Some(Self { fs, paths, record, replaced, dir, workspace, beside })
    }

    /// Builds the new directory, durable, from what lies in the old one.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if something lies there that cannot be in two directories. What was built is left.
    pub(super) fn build(&self) -> Result<()> {
        make_workspace(self.fs, &self.workspace)?;
        let failed = |e| Error::io(format_args!("build `{}` anew in `{}`", self.dir.display(), self.beside.display()), e);
        self.fs.create_dir_like(&self.beside, &self.dir).map_err(failed)?;
        // First what is new: by it a directory that was built in part is told from an old one.
        let mut linked = HashSet::new();
        for (name, staged) in self.added() {
            self.fs.link(&staged, &self.beside.join(name)).map_err(failed)?;
            linked.insert(name);
        }
        for entry in self.fs.list(&self.dir).map_err(failed)? {
            let name = entry.path.file_name().expect("an entry of a directory has a name").to_owned();
            if entry.kind == EntryKind::Dir {
                return Err(Error::config(format!("`{}` is a directory, and cannot be in two", entry.path.display())));
            }
            if self.replaced.contains(name.as_os_str()) || linked.contains(name.as_os_str()) {
                continue;
            }
            match self.fs.link(&entry.path, &self.beside.join(&name)) {
                // Somebody's retention was faster. That it was all of this directory is found at the exchange.
                Err(error) if error.kind() == ErrorKind::NotFound && self.is_gone(&entry.path)? => continue,
                made => made.map_err(failed)?,
            }
        }
        sync_dir(self.fs, &self.beside)
    }

    /// Removes what was built, before its record: nothing has changed.
    pub(super) fn leave_unchanged(&self) -> Result<()> {
        remove(self.fs, &self.beside)
    }

    fn is_gone(&self, path: &Path) -> Result<bool> {
        Ok(entry(self.fs, path)?.is_none())
    }

    /// Exchanges the two, durable. Not found, if another process has taken the new one away.
    pub(super) fn exchange(&self) -> io::Result<()> {
        self.fs.exchange(&self.dir, &self.beside)?;
        self.fs.sync_dir(self.above())
    }

    fn above(&self) -> &Path {
        self.dir.parent().expect("a hive partition lies below the dataset")
    }

    /// Removes the old directory. What somebody put there since the new one was built goes to that.
    pub(super) fn leave(&self) -> Result<()> {
        self.leave_at(&self.beside)
    }

    fn leave_at(&self, old: &Path) -> Result<()> {
        let failed = |e| Error::io(format_args!("move what is left in `{}` to `{}`", old.display(), self.dir.display()), e);
        let entries = match self.fs.list(old) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            listed => listed.map_err(failed)?,
        };
        let name = |path: &Path| path.file_name().map(OsStr::to_owned).unwrap_or_default();
        // One that was built and never exchanged holds nothing of its own.
        let is_new = self.added().any(|(added, _)| entries.iter().any(|entry| name(&entry.path) == added));
        let mut moved = false;
        for entry in entries.iter().filter(|_| !is_new) {
            let name = name(&entry.path);
            let place = self.dir.join(&name);
            if self.replaced.contains(name.as_os_str()) || !self.is_gone(&place)? {
                continue;
            }
            let done = if entry.kind == EntryKind::Dir {
                self.fs.rename_noreplace(&entry.path, &place)
            } else {
                self.fs.link(&entry.path, &place)
            };
            match done {
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) => {}
                done => done.map_err(failed)?,
            }
            moved = true;
        }
        if moved {
            sync_dir(self.fs, &self.dir)?;
        }
        remove(self.fs, old)
    }

    /// Completes the rewrite at a start, where `steps` say what is to be done about each of its files. May be killed at any step and run again, and
    /// beside others who do the same.
    pub(super) fn complete(&self, directories: &mut Directories, steps: &[Step]) -> Result<()> {
        if steps.contains(&Step::Publish) {
            directories.ensure([self.dir.clone()])?;
            self.exchange_once(steps)?;
        } else if !self.is_gone(&self.dir)? {
            // It may be the visible trace of a process that was killed.
            directories.ensure([self.dir.clone()])?;
        }
        let taken = self.take_others()?;
        if !self.is_gone(&self.dir)? {
            sync_dir(self.fs, &self.dir)?;
        }
        sync_dir(self.fs, self.above())?;
        taken.iter().try_for_each(|old| self.leave_at(old))?;
        self.leave()
    }

    fn exchange_once(&self, steps: &[Step]) -> Result<()> {
        for _ in 0..DISTURBED_MAX {
            if self.has_come()? {
                return self.add_missing(steps);
            }
            self.leave()?;
            match self.build() {
                // Another start has taken it away meanwhile.
                Err(_) if self.is_gone(&self.beside)? => continue,
                built => built?,
            }
            let taken = self.take_others()?;
            // One of these may have been exchanged already.
            let has_come = self.has_come()?;
            let exchanged = if has_come { Ok(()) } else { self.exchange() };
            match exchanged {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                exchanged => exchanged.map_err(|e| Error::io(format_args!("exchange `{}`", self.dir.display()), e))?,
            }
            if self.has_come()? {
                sync_dir(self.fs, self.above())?;
            }
            taken.iter().try_for_each(|old| self.leave_at(old))?;
        }
        Err(Error::try_again(format!("other processes open `{}` all the time: run one process on a dataset", self.paths.root().display())))
    }

    /// Returns whether the exchange was done: all files of the record come by it at once.
    fn has_come(&self) -> Result<bool> {
        for (name, _) in self.added() {
            if !self.is_gone(&self.dir.join(name))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Publishes again what somebody removed of the files since they came.
    fn add_missing(&self, steps: &[Step]) -> Result<()> {
        for ((name, staged), _) in self.added().zip(steps).filter(|(_, step)| **step == Step::Publish) {
            match self.fs.link(&staged, &self.dir.join(name)) {
                Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => {}
                made => made.map_err(|e| Error::io(format_args!("publish `{}`", self.dir.join(name).display()), e))?,
            }
        }
        Ok(())
    }

    /// Takes away what other processes have built for this record, or exchanged. Returns where it is now.
    fn take_others(&self) -> Result<Vec<PathBuf>> {
        let of_this = format!("{}.", self.record.staged_by());
        let mut taken = Vec::new();
        for (path, _) in listed(self.fs, &self.workspace)? {
            let is_of_this = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(of_this.as_bytes()));
            if !is_of_this || path == self.beside {
                continue;
            }
            let place = self.free_place()?;
            match self.fs.rename_noreplace(&path, &place) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                renamed => {
                    renamed.map_err(|e| Error::io(format_args!("rename `{}`", path.display()), e))?;
                    taken.push(place);
                }
            }
        }
        Ok(taken)
    }

    fn free_place(&self) -> Result<PathBuf> {
        for number in 0_u64.. {
            let mut place = OsString::from(&self.beside);
            place.push(format!("-{number}"));
            let place = PathBuf::from(place);
            if self.is_gone(&place)? {
                return Ok(place);
            }
        }
        unreachable!("the numbers do not end")
    }

    /// Returns the names of the record's own files, with the staged ones.
    fn added(&self) -> impl Iterator<Item = (&'a OsStr, PathBuf)> {
        let staged_by = self.record.staged_by();
        let (paths, files) = (self.paths, &self.record.files);
        files.iter().filter_map(move |file| Some((Path::new(&file.path).file_name()?, paths.staged(staged_by, file.staged))))
    }
}

/// Removes the directories that processes have built, or exchanged, as far as `is_to_go` says so. Nothing in them is needed.
pub(super) fn clear(fs: &dyn Fs, paths: &Paths, is_to_go: impl Fn(StagedBy) -> Result<bool>) -> Result<()> {
    let Some(workspace) = paths.workspace() else { return Ok(()) };
    let found = listed(fs, &workspace)?;
    for (path, _) in &found {
        let staged_by = path.file_stem().and_then(|name| StagedBy::parse(Path::new(name)));
        if staged_by.map_or(Ok(false), &is_to_go)? {
            remove(fs, path)?;
        }
    }
    Ok(())
}

/// Makes the directory that others are built in.
pub(super) fn make_workspace(fs: &dyn Fs, workspace: &Path) -> Result<()> {
    if entry(fs, workspace)?.is_some() {
        return Ok(());
    }
    match fs.create_dir(workspace) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(|e| Error::io(format_args!("make the directory `{}`", workspace.display()), e)),
    }
}

/// Removes a directory with the names in it.
pub(super) fn remove(fs: &dyn Fs, dir: &Path) -> Result<()> {
    let gone = |removed: io::Result<()>| match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    let remove = || match fs.list(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        listed => {
            listed?.iter().try_for_each(|entry| gone(fs.remove_file(&entry.path)))?;
            gone(fs.remove_dir(dir))
        }
    };
    undisturbed(remove).map_err(|e| Error::io(format_args!("remove `{}`", dir.display()), e))
}

fn listed(fs: &dyn Fs, dir: &Path) -> Result<Vec<(PathBuf, bool)>> {
    match fs.list(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        listed => {
            let listed = listed.map_err(|e| Error::io(format_args!("list `{}`", dir.display()), e))?;
            Ok(listed.into_iter().map(|entry| (entry.path, entry.kind == EntryKind::Dir)).collect())
        }
    }
}
