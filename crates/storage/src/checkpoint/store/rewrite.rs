//! Rewrites: a record by which files take the place of others in a hive partition.
//!
//! Owns: the order of a rewrite's steps, what a file system must be able to do for one, and which directories cannot be swapped.
//! Does not own: the steps of the swap (see `swap`), which files are rewritten (see [`crate::checkpoint::compaction`]), their bytes.
//!
//! The staged files and the new directory are durable; then the record is created, which is the commit point; then the directories are exchanged, durable;
//! then the old one goes, and last what was staged. The next record is not created before: so only the last one may have to be completed.

use std::io::ErrorKind;
use std::path::Path;

use pintail_core::error::{Error, Result};

use super::Store;
use super::draft::Rewriting;
use super::named::{Written, remove_staging};
use super::swap::{self, Swap};
use crate::checkpoint::record::CommitRecord;
use crate::checkpoint::staging::Staging;
use crate::durable::fs::{EntryKind, FileIdentity};

impl Store {
    /// Commits a rewrite: makes everything durable, creates the record, exchanges the directories.
    ///
    /// # Errors
    /// As [`Store::commit`]. An error before the record leaves nothing, and the store can be used on.
    pub fn rewrite(&mut self, staging: Staging, draft: Rewriting) -> Result<&CommitRecord> {
        self.tip.check_certain()?;
        self.tip.check_staging(&staging, &self.staging())?;
        let identities: Vec<FileIdentity> = draft.files.iter().map(|file| file.staged.identity).collect();
        self.write_due_snapshot()?;
        let record = self.tip.rewriting(draft);
        let (fs, paths, nonce) = (self.fs.clone(), self.paths.clone(), self.tip.process.nonce.clone());
        let of = record.clone();
        let swap = Swap::of(&*fs, &paths, &of, &nonce).ok_or_else(|| Error::internal("a rewrite replaces files in a directory"))?;
        let prepared = self.make_staging_durable(&staging, &record, &identities).and_then(|()| self.prepare_places(&record));
        if let Err(error) = prepared.and_then(|()| swap.build()) {
            swap.leave_unchanged()?;
            if staging.is_made() {
                remove_staging(&*fs, &paths, [of.staged_by()])?;
            }
            return Err(error);
        }
        self.tip.begin_record()?;
        let done = self.write_rewrite(record, &swap, &staging);
        done.map_err(|error| self.fenced().or_else(|| self.ledger_gone()).unwrap_or(error))?;
        Ok(self.tip.take_record())
    }

    fn write_rewrite(&mut self, record: CommitRecord, swap: &Swap<'_>, staging: &Staging) -> Result<()> {
        if let Some(gone) = self.ledger_gone() {
            return Err(gone);
        }
        let sealed = self.tip.seal(record)?;
        if self.create_record(&sealed)? == Written::Taken {
            let path = self.paths.record(sealed.record.sequence);
            return Err(Error::try_again(format!("`{}` is there already: another process writes to this dataset", path.display())));
        }
        // The commit point. From here on a start completes it.
        swap.exchange().map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::try_again(format!(
                "another process completes rewrite {} of `{}`: this one has to stop; run one process on a dataset",
                sealed.record.sequence,
                self.paths.root().display()
            )),
            _ => Error::io(
                format_args!("exchange the directory of rewrite {}, which is committed: start again", sealed.record.sequence),
                error,
            ),
        })?;
        swap.leave()?;
        if staging.is_made() {
            remove_staging(&*self.fs, &self.paths, [sealed.record.staged_by()])?;
        }
        self.tip.take(sealed);
        self.remove_stale_snapshots()
    }

    /// Says why the directory of a hive partition cannot be swapped; `None` if nothing is known that speaks against it.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub fn unswappable(&self, dir: &str) -> Result<Option<String>> {
        let path = self.paths.published(dir);
        let list = |dir: &Path| self.fs.list(dir).map_err(|e| Error::io(format_args!("list `{}`", dir.display()), e));
        let above = list(path.parent().expect("a directory of the dataset lies below its root"))?;
        if !above.iter().any(|entry| entry.path == path && entry.kind == EntryKind::Dir) {
            return Ok(Some(format!("`{}` is no directory itself, but a link", path.display())));
        }
        let inner = list(&path)?.into_iter().find(|entry| entry.kind == EntryKind::Dir);
        Ok(inner.map(|inner| format!("`{}` is a directory, which cannot be in two places: move it out of there", inner.path.display())))
    }

    /// Does once what a rewrite needs of the file system: a directory beside the dataset's, a second name for a file, the exchange of two
    /// directories across.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`], saying what it cannot do.
    pub fn check_swaps(&self) -> Result<()> {
        let (fs, root) = (&*self.fs, self.paths.root().display());
        let Some(workspace) = self.paths.workspace() else {
            return Err(Error::config(format!(
                "`{root}` has no directory above it, in which files could be prepared: nothing was compacted"
            )));
        };
        let nonce = &self.tip.process.nonce;
        let (here, there) = (self.paths.own().join(format!("probe-{nonce}")), workspace.join(format!("probe-{nonce}")));
        let (file, name) = (here.join("a"), there.join("b"));
        let tried = (|| {
            swap::make_workspace(fs, &workspace).map_err(|error| error.to_string())?;
            let io = |what: &'static str| move |e: std::io::Error| format!("{what}: {e}");
            fs.create_dir(&here).map_err(io("make a directory"))?;
            fs.create_dir(&there).map_err(io("make a directory"))?;
            drop(fs.create_new(&file).map_err(io("make a file"))?);
            fs.link(&file, &name).map_err(io("give a file a second name there"))?;
            fs.exchange(&here, &there).map_err(io("exchange two directories in one step"))
        })();
        let removed = [&here, &there].into_iter().try_for_each(|dir| swap::remove(fs, dir));
        tried.map_err(|why: String| {
            self.leave_workspace();
            Error::config(format!(
                "files of `{root}` cannot be replaced: their directories are prepared in `{}`, where no reader looks for them, and exchanged in one step, \
                 but cannot {why}; nothing was compacted. It needs a file system such as ext4, XFS, Btrfs or ZFS, and `pipeline.out_path` in a directory of it \
                 that this user may write to, not on its top",
                workspace.display()
            ))
        })?;
        removed
    }

    /// Removes the directory beside the dataset's, once nothing is in it.
    pub fn leave_workspace(&self) {
        if let Some(workspace) = self.paths.workspace() {
            // Not there, or of another process still: the next one does.
            let _ = self.fs.remove_dir(&workspace);
        }
    }
}

#[cfg(test)]
mod tests;
