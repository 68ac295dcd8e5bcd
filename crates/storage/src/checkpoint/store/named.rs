//! Files that appear whole or not at all, and the staging that they come from.
//!
//! Owns: writing under a name of the process' own and renaming, publishing staged files, removing what is not needed any more.
//! Does not own: in which order (see [`super`]), whether a file is the right one (see `recovery`).
//!
//! Another process may do the same at the same time where no lock keeps it away: both carry out the same plan, so what the other one did
//! already is done.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use pintail_core::error::{Error, Result};
use pintail_core::invocation::command;

use crate::checkpoint::directories::{Directories, cannot, sync_dir};
use crate::checkpoint::paths::{self, Paths, StagedBy};
use crate::checkpoint::record::FileEntry;
use crate::checkpoint::recovery::Step;
use crate::durable::fs::{EntryKind, FileIdentity, Fs, FsFile};

/// How often another process may disturb one operation before that is an error.
const DISTURBED_MAX: usize = 8;

/// What became of a file that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is there, durable.
    Now,
    /// The name was taken: another process was first. Nothing was changed.
    Taken,
}

/// Writes a file that appears whole or not at all, and never in the place of another. It is durable, also one that was there.
pub(super) fn write(fs: &dyn Fs, paths: &Paths, nonce: &str, path: &Path, bytes: &[u8]) -> Result<Written> {
    let temporary = paths::written_by(path, nonce);
    write_by(fs, paths, &temporary, path, || create(fs, &temporary, path, bytes))
}

/// Writes a file as [`write()`] does, which only its owner may read.
pub(super) fn write_private(fs: &dyn Fs, paths: &Paths, nonce: &str, path: &Path, bytes: &[u8]) -> Result<Written> {
    let temporary = paths::written_by(path, nonce);
    write_by(fs, paths, &temporary, path, || fill(fs, fs.create_new_private(&temporary)?, &temporary, path, bytes))
}

fn write_by(fs: &dyn Fs, paths: &Paths, temporary: &Path, path: &Path, create: impl Fn() -> io::Result<()>) -> Result<Written> {
    let written = match undisturbed(create) {
        Ok(()) => Written::Now,
        Err(error) if error.kind() == ErrorKind::AlreadyExists && entry(fs, path)?.is_some() => {
            remove_if_there(fs, temporary)?;
            Written::Taken
        }
        Err(error) => return Err(cannot(paths.root(), format!("write `{}`", path.display()), error)),
    };
    // A name that was taken may be the visible trace of a process that was killed before its fsync.
    sync_dir(fs, path.parent().expect("every file of a dataset lies below its root"))?;
    Ok(written)
}

/// Writes `bytes` under the name `temporary` and renames that to `path`.
pub(super) fn create(fs: &dyn Fs, temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fill(fs, fs.create_new(temporary)?, temporary, path, bytes)
}

fn fill(fs: &dyn Fs, mut file: Box<dyn FsFile>, temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync()?;
    fs.rename_noreplace(temporary, path)
}

/// Tries again what another process that starts at this moment has disturbed: it removes left-overs, and cannot tell whose they are.
pub(super) fn undisturbed(operation: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let again = |error: &io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty);
    (1..DISTURBED_MAX).map(|_| operation()).find(|done| !done.as_ref().is_err_and(again)).unwrap_or_else(operation)
}

/// Renames what is to be published, and makes durable what is in its place, also what was there before. May be repeated. `written` tells which
/// file was staged, where this process staged it.
pub(super) fn publish<'a>(
    fs: &dyn Fs,
    paths: &Paths,
    directories: &mut Directories,
    staged_by: StagedBy,
    steps: impl IntoIterator<Item = (&'a FileEntry, Step)>,
    written: &[FileIdentity],
) -> Result<()> {
    let steps: Vec<_> = steps.into_iter().filter(|(_, step)| *step != Step::Missing).collect();
    let dirs = parents(paths, steps.iter().map(|(file, _)| file.path.as_str()));
    directories.ensure(dirs.clone())?;
    for (index, (file, _)) in steps.iter().enumerate().filter(|(_, (_, step))| *step == Step::Publish) {
        let (from, to) = (paths.staged(staged_by, file.staged), paths.published(&file.path));
        check_written(fs, &from, written.get(index))?;
        match fs.rename_noreplace(&from, &to) {
            Err(error) if is_done_already(fs, &error, &from, &to, file)? => {}
            Err(error) if error.kind() == ErrorKind::NotFound && entry(fs, &from)?.is_none() => {
                return Err(Error::state(format!(
                    "`{}` of checkpoint {} is committed, and its staged copy is gone: somebody removed it; run {}, which names all that is lost",
                    file.path,
                    staged_by.sequence,
                    command("verify")
                )));
            }
            renamed => renamed.map_err(|e| {
                let sequence = staged_by.sequence;
                Error::io(format_args!("publish `{}` of checkpoint {sequence}, which is committed: start again", file.path), e)
            })?,
        }
    }
    dirs.iter().try_for_each(|dir| sync_dir(fs, dir))
}

/// Checks that a staged file is the one that was written.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`]: somebody replaced it or wrote to it.
pub(crate) fn check_written(fs: &dyn Fs, staged: &Path, written: Option<&FileIdentity>) -> Result<()> {
    let Some(written) = written else { return Ok(()) };
    match fs.identity(staged).map_err(|e| Error::io(format_args!("look at `{}`", staged.display()), e))? {
        Some(found) if found != *written => {
            Err(Error::state(format!("`{}` is not the file that was written there: somebody replaced it; start again", staged.display())))
        }
        _ => Ok(()),
    }
}

/// Returns whether a file could not be renamed because another process had done it, or is about to: where a rename is a link and an unlink,
/// both names are there between the two.
fn is_done_already(fs: &dyn Fs, error: &io::Error, from: &Path, to: &Path, file: &FileEntry) -> Result<bool> {
    if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) || entry(fs, to)? != Some(EntryKind::File(file.bytes)) {
        return Ok(false);
    }
    let identity = |path: &Path| fs.identity(path).map_err(|e| Error::io(format_args!("look at `{}`", path.display()), e));
    let staged = identity(from)?;
    Ok(staged.is_none() || staged == identity(to)?)
}

/// Removes staging directories. The durable absence of one says that its checkpoint is published: it is made durable also where a killed
/// process had removed it before.
pub(crate) fn remove_staging(fs: &dyn Fs, paths: &Paths, staged: impl IntoIterator<Item = StagedBy>) -> Result<()> {
    for dir in staged.into_iter().map(|staged| paths.staging_of(staged)) {
        let remove = || match fs.list(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            listed => {
                listed?.iter().try_for_each(|entry| gone(fs.remove_file(&entry.path)))?;
                gone(fs.remove_dir(&dir))
            }
        };
        undisturbed(remove).map_err(|e| Error::io(format_args!("remove `{}`", dir.display()), e))?;
    }
    let staging = paths.staging();
    match fs.sync_dir(&staging) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Error::try_again(format!("`{}` is gone: somebody removed it; start again, which makes it anew", staging.display())))
        }
        synced => synced.map_err(|e| Error::io(format_args!("fsync the directory `{}`", staging.display()), e)),
    }
}

/// Removes a file, if it is there.
pub(super) fn remove_if_there(fs: &dyn Fs, path: &Path) -> Result<()> {
    if entry(fs, path)?.is_some() {
        gone(fs.remove_file(path)).map_err(|e| Error::io(format_args!("remove `{}`", path.display()), e))?;
    }
    Ok(())
}

/// Removes from `dir` what killed processes were writing.
pub(super) fn remove_leftovers(fs: &dyn Fs, dir: &Path, nonce: &str) -> Result<()> {
    let listed = match fs.names(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        listed => listed.map_err(|e| Error::io(format_args!("list `{}`", dir.display()), e))?,
    };
    let ours = |path: &Path| path.as_os_str().to_string_lossy().contains(nonce);
    let mut left: Vec<PathBuf> = listed.into_iter().filter(|(_, is_dir)| !is_dir).map(|(path, _)| path).collect();
    left.retain(|path| (paths::is_in_progress(path) || super::ground::is_probe(path)) && !ours(path));
    left.sort();
    left.iter().try_for_each(|path| remove_if_there(fs, path))
}

/// Returns the directories of visible files.
pub(super) fn parents<'a>(paths: &Paths, files: impl Iterator<Item = &'a str>) -> BTreeSet<PathBuf> {
    files.filter_map(|file| paths.published(file).parent().map(Path::to_path_buf)).collect()
}

/// Tells what is at a path.
pub(super) fn entry(fs: &dyn Fs, path: &Path) -> Result<Option<EntryKind>> {
    fs.entry(path).map_err(|e| Error::io(format_args!("look at `{}`", path.display()), e))
}

/// What is removed already needs no removing.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
