//! The store: commits checkpoints, in the one order that a crash cannot break.
//!
//! Owns: the commit order (every operation of it is a crash point), the last record, the state, the committed offsets.
//! Does not own: what happens at start (see `open`), writing the files before the commit (see `staging`), when to commit (the writer).
//!
//! A commit makes the staged files durable, prepares their places, creates the record (the commit point: a name that another process has taken
//! fences this one), publishes the files, and removes their staging.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pintail_core::error::{Error, Result};
use pintail_core::invocation::service_command;

use super::directories::{Directories, sync_dir};
use super::log;
use super::paths::Paths;
use super::record::{Action, CommitRecord};
use super::recovery::Step;
use super::staging::{self, Staging};
use crate::durable::fs::{FileIdentity, Fs};

mod draft;
mod expected;
mod ground;
mod head;
mod missing;
mod named;
mod open;
mod rewrite;
mod share_out;
mod stored;
mod swap;
mod tip;

pub use draft::{Adopted, Draft, NewFile, Rewriting};
pub use expected::{Allow, Expected, Remember, Sharing};
pub use ground::{check_ground, check_ledger};
pub use head::{check_beside, is_version_1, rebuild_snapshot};
pub use open::{Standing, check_dataset, check_key};
pub use share_out::{instances, share_out};
pub use tip::Tip;

use named::{Written, entry, parents, publish};

pub(crate) use draft::Sealed;
pub(crate) use ground::{Visible, check_empty, check_not_older};
pub(crate) use head::{Chain, Head, check_made_with, parse_snapshot};
pub(crate) use missing::{may_be_gone, ways_out};
pub(crate) use named::{check_written, remove_staging};
pub(crate) use open::{check_instances, check_source, compare, staging as staging_dirs};
pub(crate) use stored::{check_fits, partition_columns};
pub(crate) use tip::fenced_by;

/// A dataset open for writing. The caller holds its [`super::lock::Lock`]; its open record fences whoever holds none.
#[derive(Debug)]
pub struct Store {
    fs: Arc<dyn Fs>,
    paths: Paths,
    directories: Directories,
    tip: Tip,
    /// Snapshots that only older records name.
    stale: Vec<u64>,
    /// What must be said of committed files that are gone.
    missing: Option<String>,
}

/// What is known of the chain, the same whether it lies in a directory or in a bucket.
impl Deref for Store {
    type Target = Tip;

    fn deref(&self) -> &Tip {
        &self.tip
    }
}

impl Store {
    /// Returns where things lie.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Returns the staging of the next checkpoint. Ask once a checkpoint.
    pub fn staging(&self) -> Staging {
        Staging::new(self.fs.clone(), self.paths.staging_of(self.tip.next_staged()))
    }

    /// Returns the names of the last checkpoint's files that were gone at start, with the ways out; `None` if all were there, or declared to be gone.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// Commits the next checkpoint: makes everything durable, creates the record, publishes the files.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::TryAgain`] if another process has opened the dataset since: nothing was published. After any error
    /// nothing more can be committed: the process ends, and the next start rolls the checkpoint forward or back. Nothing is discarded here.
    pub fn commit(&mut self, staging: Staging, draft: Draft) -> Result<&CommitRecord> {
        self.tip.begin(&staging, &self.staging(), &draft)?;
        let committed = draft.offsets.committed();
        let done = self.write_checkpoint(&staging, draft);
        done.map_err(|error| self.fenced().or_else(|| self.ledger_gone()).unwrap_or(error))?;
        Ok(self.tip.take_checkpoint(committed))
    }

    /// Writes the record of an action of an operator.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn act(&mut self, action: Action, adopted: Adopted, time: DateTime<Utc>) -> Result<&CommitRecord> {
        self.tip.begin_record()?;
        for (file, _) in &adopted.files {
            let place = self.paths.published(&file.path);
            self.fs.sync_file(&place).map_err(|e| Error::io(format_args!("fsync `{}`", place.display()), e))?;
        }
        // With the directories above: whoever put the files there may have made them a moment ago.
        let dirs = parents(&self.paths, adopted.files.iter().map(|(file, _)| file.path.as_str()));
        let above = dirs.iter().flat_map(|dir| dir.ancestors().take_while(|above| above.starts_with(self.paths.root())));
        above.collect::<BTreeSet<_>>().into_iter().try_for_each(|dir| sync_dir(&*self.fs, dir))?;
        self.write_due_snapshot()?;
        let record = CommitRecord { action: Some(action), ..self.tip.adopting(adopted, time) };
        if self.write_record(record)? == Written::Taken {
            return Err(self.fenced().unwrap_or_else(|| Error::internal("the record is there and is ours")));
        }
        Ok(self.tip.take_record())
    }

    /// Writes a record that publishes nothing: one that is no checkpoint.
    fn write_record(&mut self, record: CommitRecord) -> Result<Written> {
        let sealed = self.tip.seal(record)?;
        self.write_sealed(sealed)
    }

    fn write_sealed(&mut self, sealed: Sealed) -> Result<Written> {
        self.directories.ensure([self.paths.commit_dir(sealed.record.sequence)])?;
        let written = self.create_record(&sealed)?;
        if written == Written::Now {
            self.tip.take(sealed);
        }
        Ok(written)
    }

    /// Creates a record in its place, durable.
    fn create_record(&self, sealed: &Sealed) -> Result<Written> {
        named::write(&*self.fs, &self.paths, &self.tip.process.nonce, &self.paths.record(sealed.record.sequence), &sealed.bytes)
    }

    fn write_checkpoint(&mut self, staging: &Staging, draft: Draft) -> Result<()> {
        if let Some(gone) = self.ledger_gone() {
            return Err(gone);
        }
        self.write_due_snapshot()?;
        let identities: Vec<FileIdentity> = draft.files.iter().map(|file| file.staged.identity).collect();
        let sealed = self.tip.seal(self.tip.checkpoint(draft))?;
        let record = &sealed.record;
        self.make_staging_durable(staging, record, &identities)?;
        self.prepare_places(record)?;
        if self.create_record(&sealed)? == Written::Taken {
            let path = self.paths.record(record.sequence);
            return Err(Error::try_again(format!("`{}` is there already: another process writes to this dataset", path.display())));
        }
        // The commit point. From here on nothing is discarded.
        let steps = record.files.iter().map(|file| (file, Step::Publish));
        publish(&*self.fs, &self.paths, &mut self.directories, record.staged_by(), steps, &identities)?;
        if staging.is_made() {
            remove_staging(&*self.fs, &self.paths, [record.staged_by()])?;
        }
        self.tip.take(sealed);
        self.remove_stale_snapshots()
    }

    /// Returns the error that says so if the record that the next one follows is gone. Directories that are gone would be made again, and the next
    /// record would lie in a ledger without its past.
    fn ledger_gone(&self) -> Option<Error> {
        let path = self.paths.record(self.tip.last.as_ref()?.sequence);
        match entry(&*self.fs, &path) {
            // Where it cannot be looked at, whatever comes next says why.
            Ok(Some(_)) | Err(_) => None,
            Ok(None) => Some(Error::state(format!(
                "`{}`, which this process wrote, is gone: somebody removed the ledger while it ran; nothing more is committed; restore `{}` from a \
                 copy, or run {} to name the files as they are (what they hold is read again)",
                path.display(),
                self.paths.private().display(),
                service_command("adopt")
            ))),
        }
    }

    /// Returns the error that says who took the next sequence number, if another process did. A record of this one's epoch is its own, of a
    /// commit that failed behind its commit point: the one behind that tells, if what was to be published is published and replaced by now.
    fn fenced(&self) -> Option<Error> {
        let next = self.next_sequence();
        [next, next + 1].into_iter().find_map(|sequence| {
            entry(&*self.fs, &self.paths.record(sequence)).ok().flatten()?;
            let (record, _) = log::read(&*self.fs, &self.paths, sequence).ok()?;
            (record.epoch != self.tip.epoch).then(|| fenced_by(&record, &self.paths))
        })
    }

    /// Writes the snapshot of the state as it is, if the next record needs one.
    fn write_due_snapshot(&mut self) -> Result<()> {
        let Some(due) = self.tip.due_snapshot() else { return Ok(()) };
        let path = self.paths.snapshot(due.name.sequence);
        if named::write(&*self.fs, &self.paths, &self.tip.process.nonce, &path, &due.bytes)? == Written::Taken {
            // Of a process that was killed before its record, or of one that does the same now: the same state is the same bytes.
            if log::bytes(&*self.fs, &path)?.is_none_or(|there| there != due.bytes) {
                return Err(Error::state(format!("`{}` is there and holds another state: move it away, and start again", path.display())));
            }
            self.fs.sync_file(&path).map_err(|e| Error::io(format_args!("fsync `{}`", path.display()), e))?;
            sync_dir(&*self.fs, &self.paths.snapshots())?;
        }
        // The one before stays: a record that was written by then names it.
        self.stale.extend(self.tip.take_snapshot(due).map(|before| before.sequence));
        Ok(())
    }

    /// Removes snapshots that no start needs: all stale ones but the newest, which a record may name that was written by then.
    fn remove_stale_snapshots(&mut self) -> Result<()> {
        let kept = self.stale.pop();
        for sequence in self.stale.drain(..) {
            named::remove_if_there(&*self.fs, &self.paths.snapshot(sequence))?;
        }
        self.stale.extend(kept);
        Ok(())
    }

    /// Makes the names of the staged files durable; their bytes are.
    fn make_staging_durable(&self, staging: &Staging, record: &CommitRecord, identities: &[FileIdentity]) -> Result<()> {
        if staging.is_made() {
            for dir in [staging.dir(), &self.paths.staging()] {
                self.fs
                    .sync_dir(dir)
                    .map_err(|e| staging::failed(&*self.fs, staging.dir(), format_args!("fsync `{}`", dir.display()), e))?;
            }
        }
        for (file, identity) in record.files.iter().zip(identities) {
            let staged = self.paths.staged(record.staged_by(), file.staged);
            check_written(&*self.fs, &staged, Some(identity))?;
            if entry(&*self.fs, &staged)?.is_none() {
                let doing = format_args!("publish `{}`", staged.display());
                return Err(staging::failed(&*self.fs, staging.dir(), doing, std::io::ErrorKind::NotFound.into()));
            }
        }
        Ok(())
    }

    /// Makes the directories of all that the record names, and of the record. Refuses here what must not fail after the commit point.
    fn prepare_places(&mut self, record: &CommitRecord) -> Result<()> {
        let dirs = parents(&self.paths, record.files.iter().map(|file| file.path.as_str()));
        self.directories.ensure(dirs.into_iter().chain([self.paths.commit_dir(record.sequence)]))?;
        for file in &record.files {
            let place = self.paths.published(&file.path);
            if entry(&*self.fs, &place)?.is_some() {
                return Err(Error::state(format!(
                    "`{}` is in the place of a file of checkpoint {}, and no commit record names it: move it out of the dataset",
                    place.display(),
                    record.sequence
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
