//! The note that a journal was begun, outside of its directory.
//!
//! Owns: an empty file beside the directory, whose name is all that counts.
//! Does not own: when a journal without a segment is refused (see `open`).
//!
//! Until the first commit record that names an offset nothing else tells a journal that was lost from one that never was. The note is made
//! behind the first segment and before the first request: killed between the two, there is a segment without a note, never a note without
//! a segment. Journals of older versions have none, and get it at their next start. One whose directory is a volume may stand in a directory that
//! nobody may write: it goes without.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;

use pintail_core::error::{Error, Result};
use tracing::warn;

use super::Settings;
use crate::durable::fs::Fs;

/// Returns the file. Journals of several datasets may lie side by side.
pub fn path(settings: &Settings) -> PathBuf {
    let name = settings.dir.file_name().unwrap_or_default();
    if name == "journal" {
        return settings.dir.with_file_name("JOURNALED");
    }
    settings.dir.with_file_name([name, OsStr::new(".JOURNALED")].into_iter().collect::<OsString>())
}

/// Returns whether the journal was begun before.
pub fn is_there(fs: &dyn Fs, settings: &Settings) -> Result<bool> {
    let path = path(settings);
    fs.entry(&path).map(|entry| entry.is_some()).map_err(|e| Error::io(format_args!("look at `{}`", path.display()), e))
}

/// Makes it, durably, if it is not there. One that is there was made durable with the name of the journal's directory.
pub fn make(fs: &dyn Fs, settings: &Settings) -> Result<()> {
    if is_there(fs, settings)? {
        return Ok(());
    }
    let path = path(settings);
    let made = fs.create_new(&path).map(drop).and_then(|()| fs.sync_dir(path.parent().expect("the journal lies in a dataset")));
    match made {
        Err(error) if matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) => {
            let dir = settings.dir.display();
            warn!(
                note = %path.display(), why = %error,
                "cannot note beside the journal that it was begun: if it is lost before the first commit, nobody will know. To have the note, let \
                 `source.journal_path` be a directory within the volume, such as `{dir}/journal`"
            );
            Ok(())
        }
        made => made.map_err(|e| Error::io(format_args!("make `{}`", path.display()), e)),
    }
}
