//! The ground: what lies in a directory before a process relies on it.
//!
//! Owns: what the file system must be able to do, files without a ledger, and a ledger older than its files.
//! Does not own: the ledger itself (see `head`), which files readers take for data (see [`crate::checkpoint::visible`]), whether each is right (see
//! `commands::verify`).

use std::path::{Path, PathBuf};

use pintail_core::error::{Error, Result};
use pintail_core::invocation::service_command;

use super::named::{create, entry, remove_if_there, undisturbed};
use crate::checkpoint::directories::cannot;
use crate::checkpoint::format::Format;
use crate::checkpoint::log;
use crate::checkpoint::paths::{self, Paths};
use crate::checkpoint::visible::{self, Readers};
use crate::durable::fs::{Fs, ReadFs};

/// What the name of a probe begins with.
const PROBE: &str = "probe";

/// Does once, at start, what a commit needs: better refused here than after a day of records.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`] if two names that differ are one to the file system: hive partitions `US` and `us` would be one.
pub(super) fn probe(fs: &dyn Fs, paths: &Paths, nonce: &str) -> Result<()> {
    let own = paths.own();
    // é as one character: file systems that fold Unicode know it by two, e and an accent, as well.
    let named = own.join(format!("{PROBE}-{nonce}-\u{e9}"));
    let temporary = paths::in_progress(&named);
    let failed = |e| cannot(paths.root(), format!("write, rename and remove a file in `{}`", own.display()), e);
    undisturbed(|| create(fs, &temporary, &named, b"probe")).map_err(failed)?;
    let folded = [
        ("letters of another case", own.join(format!("{}-{nonce}-\u{e9}", PROBE.to_uppercase()))),
        ("Unicode of another form", own.join(format!("{PROBE}-{nonce}-e\u{301}"))),
    ];
    let mut found = None;
    for (how, other) in &folded {
        if entry(fs, other)?.is_some() {
            found = Some(*how);
        }
    }
    remove_if_there(fs, &named)?;
    found.map_or(Ok(()), |how| {
        Err(Error::config(format!(
            "the file system of `{}` takes a name in {how} for the same name, so that files of two hive partitions would meet in one place: set \
             `pipeline.out_path` to one that tells all names apart",
            paths.root().display()
        )))
    })
}

/// Returns whether a path is a probe.
pub(super) fn is_probe(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PROBE.as_bytes()))
}

/// What lies in a directory before anything is made in it.
#[derive(Debug)]
pub(super) struct Ground {
    visible: Visible,
    /// The sequence number of the last record; `None` if there is none.
    pub last: Option<u64>,
    /// FORMAT with its checksum; `None` if it is missing.
    pub format: Option<(Format, String)>,
}

impl Ground {
    /// Looks at a directory.
    pub(super) fn look(fs: &dyn ReadFs, paths: &Paths) -> Result<Self> {
        // Before the records: what is visible now has its record already.
        let visible = visible(fs, paths)?;
        let last = log::last_sequence(fs, paths)?;
        Ok(Self { visible, last, format: log::format(fs, paths)? })
    }

    /// Refuses Parquet files that no record of a dataset can name: they lie there without a ledger, or are younger than it.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] or [`pintail_core::error::ErrorKind::State`], naming a file and the ways out.
    pub(super) fn check(&self, paths: &Paths) -> Result<()> {
        match (self.last, &self.format) {
            (None, None) => check_empty(paths, self.visible.any.as_deref()),
            _ => check_not_older(paths, &self.visible, self.last),
        }
    }
}

/// Refuses a directory in which Parquet files lie without a ledger, before anything is made in it.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`], naming a file and the ways out.
pub fn check_ground(fs: &dyn Fs, paths: &Paths) -> Result<()> {
    // A large dataset is listed once, when it is opened.
    if log::format(fs, paths)?.is_some() {
        return Ok(());
    }
    let ground = Ground::look(fs, paths)?;
    if ground.last.is_some() { Ok(()) } else { ground.check(paths) }
}

/// Refuses a ledger that is older than the files beside it, or without records beside files.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`], naming the newest file and the ways out.
pub fn check_ledger(fs: &dyn ReadFs, paths: &Paths) -> Result<()> {
    Ground::look(fs, paths)?.check(paths)
}

/// The Parquet files that are visible in a dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Visible {
    /// One of them.
    any: Option<PathBuf>,
    /// The newest checkpoint of this instance that one is named after, with the file.
    newest: Option<(u64, PathBuf)>,
}

impl Visible {
    /// Takes in an object or file, if every reader takes it for data.
    pub(crate) fn see(&mut self, paths: &Paths, path: &Path) {
        let below = path.strip_prefix(paths.root()).unwrap_or(path);
        if Readers::of(below) == Readers::All {
            self.add(paths, path);
        }
    }

    fn add(&mut self, paths: &Paths, path: &Path) {
        if let Some(sequence) = paths.checkpoint_of(path)
            && self.newest.as_ref().is_none_or(|(newest, _)| *newest < sequence)
        {
            self.newest = Some((sequence, path.to_owned()));
        }
        self.any.get_or_insert_with(|| path.to_owned());
    }
}

/// Lists what every reader takes for data below `paths`: nothing of the dataset's own directory, nor of the logs of tables.
fn visible(fs: &dyn ReadFs, paths: &Paths) -> Result<Visible> {
    let mut visible = Visible::default();
    let listed = visible::each(fs, paths.root(), Readers::All, &mut |path| visible.add(paths, &path));
    listed.map_err(|(dir, e)| cannot(paths.root(), format!("list `{}`", dir.display()), e))?;
    Ok(visible)
}

/// Refuses a place in which Parquet files lie without a ledger, given one of them: a new ledger would go on among them.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`], naming the file and the ways out.
pub(crate) fn check_empty(paths: &Paths, file: Option<&Path>) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    Err(Error::config(format!(
        "`{}` has Parquet files and no ledger (`_pintail/FORMAT`), for instance `{}`: restore `_pintail` from a copy{}",
        paths.root().display(),
        file.display(),
        match paths.is_in_bucket() {
            true => " or by the versions of the bucket, or set another `pipeline.out_path`".to_owned(),
            false => format!(
                ", set another `pipeline.out_path`, or run {} to begin a ledger that names the files that are there",
                service_command("adopt")
            ),
        }
    )))
}

/// Refuses a ledger that is older than the files beside it.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`], naming the newest file and the ways out.
pub(crate) fn check_not_older(paths: &Paths, visible: &Visible, last: Option<u64>) -> Result<()> {
    match &visible.newest {
        Some((sequence, file)) if *sequence > last.unwrap_or(0) => Err(Error::state(format!(
            "`{}` is of checkpoint {sequence}, and the last commit record is {}: the ledger is older than the files; restore `{}` as it was with \
             them, or {}",
            file.display(),
            last.map_or_else(|| "missing".to_owned(), |last| last.to_string()),
            paths.private().display(),
            match paths.is_in_bucket() {
                true => format!(
                    "move the files of the checkpoints {} to {sequence} away, whose names end in these numbers (what the source still has of them is \
                     read again)",
                    last.unwrap_or(0) + 1
                ),
                false => format!(
                    "move newer files away, or run {} to name them as they are (what they hold is read again)",
                    service_command("adopt")
                ),
            }
        ))),
        _ => Ok(()),
    }
}
