//! `pintail expire`: declares that files with old rows may be gone, and takes such a declaration back.
//!
//! Owns: the records of both, what is said of the files that are covered, and removing them behind the record if that is asked for. Killed at any step,
//! it is run again.
//! Does not own: what follows from the declaration (see `verify`, `query`).

use std::io::{self, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use pintail_config::Config;
use pintail_core::error::{Error, Result};
use pintail_core::invocation::command;
use pintail_core::quantity::counted;
use pintail_storage::checkpoint::index::Time;
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::checkpoint::record::{Action, ActionKind, FileKind};
use pintail_storage::checkpoint::store::Allow;

use crate::pipeline::{open_to_act, open_to_read};

/// Declares files expired whose rows are all older than `before`; one in the future only with `force`. Then removes them, if `remove` is set.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::TryAgain`] while a service holds the dataset; [`pintail_core::error::ErrorKind::Config`] if the time is in the future.
pub(crate) fn declare(config: &Config, before: DateTime<Utc>, force: bool, remove: bool, to: &mut dyn Write) -> Result<()> {
    // One that is not there must not be made.
    let dataset = open_to_read(config)?;
    let at = shown(before);
    if before > Utc::now() && !force {
        return Err(Error::config(format!(
            "{at} is in the future, so that all files which are written until then may be gone, too: write another year, or add `--force`"
        )));
    }
    let covered = Covered::look(&dataset, before)?;
    let wider = dataset.index(&|| Ok(()))?.declared_expired().into_iter().map(DateTime::from).max().filter(|wider| *wider > before);
    let allow = Allow { gone_before: Some(before), ..Allow::default() };
    let store = open_to_act(config, &dataset, allow)?;
    let text = format!("files whose rows are all older than {at} may be gone");
    let action = Action { before: Some(before), ..Action::new(ActionKind::Expire, text.clone()) };
    let sequence = store.act(action)?;
    let told = writeln!(to, "record {sequence}: {text}").and_then(|()| covered.print("it covers", to));
    let told = told.and_then(|()| match wider {
        None => Ok(()),
        Some(wider) => writeln!(to, "  an earlier declaration covers more, and holds still: files older than {} may be gone", shown(wider)),
    });
    let told = told.and_then(|()| match remove {
        true => Ok(()),
        false => writeln!(to, "{} takes it back", command("expire --take-back")),
    });
    told.map_err(failed)?;
    if !remove {
        return Ok(());
    }
    remove_all(config, &covered.there)?;
    covered.print_removed(to).map_err(failed)
}

/// Takes the last declaration back: from then on the one before it holds, if there was one.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`] if nothing was declared; [`pintail_core::error::ErrorKind::TryAgain`] while a service holds the dataset.
pub(crate) fn take_back(config: &Config, to: &mut dyn Write) -> Result<()> {
    let dataset = open_to_read(config)?;
    let mut declared = dataset.index(&|| Ok(()))?.declared_expired();
    let Some(last) = declared.pop().map(DateTime::from) else {
        return Err(Error::config(format!(
            "no files of `{}` were declared expired: there is nothing to take back",
            dataset.paths().root().display()
        )));
    };
    let covered = Covered::look(&dataset, last)?;
    let store = open_to_act(config, &dataset, Allow::default())?;
    let before: Option<DateTime<Utc>> = declared.into_iter().max().map(DateTime::from);
    let rest =
        before.map_or_else(|| "no file may be gone".to_owned(), |before| format!("only files older than {} may be gone", shown(before)));
    let text = format!("that files older than {} may be gone is taken back: {rest}", shown(last));
    let action = Action { before, ..Action::new(ActionKind::TakeBack, text.clone()) };
    let sequence = store.act(action)?;
    writeln!(to, "record {sequence}: {text}").and_then(|()| covered.print("what is taken back covered", to)).map_err(failed)
}

/// Removes files, named by their paths below the root.
fn remove_all(config: &Config, names: &[String]) -> Result<()> {
    #[cfg(feature = "bucket")]
    if let Some(lake) = &config.lake {
        return crate::pipeline::lake::discard(config, lake, names);
    }
    let paths = config.paths();
    names.iter().map(|name| paths.published(name)).try_for_each(|place| match std::fs::remove_file(&place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(format_args!("remove `{}`", place.display()), error)),
        _ => Ok(()),
    })
}

/// The Parquet files whose rows are all older than a time.
#[derive(Debug, Default)]
struct Covered {
    files: u64,
    rows: u64,
    bytes: u64,
    /// Files that are not there any more.
    gone: u64,
    /// Those that are there and may be removed, with their bytes.
    there: Vec<String>,
    there_bytes: u64,
    /// Those of the last checkpoint of an instance: a process that was fenced while it made them visible could upload one again.
    stay: u64,
    /// Their oldest and newest row.
    range: Option<(Time, Time)>,
    /// All files of the dataset.
    of: u64,
}

impl Covered {
    fn look(dataset: &Dataset, before: DateTime<Utc>) -> Result<Self> {
        let mut covered = Self::default();
        if let Some(tree) = dataset.bucket() {
            tree.list_data()?;
        }
        for instance in dataset.instances()? {
            let index = instance.index(&|| Ok(()))?;
            let replaced = index.replaced();
            let last = index.records.iter().rposition(|record| !record.files.is_empty());
            for (at, record) in index.records.iter().enumerate() {
                for file in record.files.iter().filter(|file| file.kind() == FileKind::Parquet && !replaced.contains(file)) {
                    covered.of += 1;
                    let (oldest, newest) = file.times().unwrap_or((record.time, record.time));
                    if newest >= before.into() {
                        continue;
                    }
                    covered.files += 1;
                    covered.rows += file.rows();
                    covered.bytes += file.bytes();
                    let path = index.path(file);
                    let is_there = match dataset.bucket() {
                        Some(tree) => tree.listed(&path).is_some(),
                        None => instance.paths().published(&path).is_file(),
                    };
                    match (is_there, Some(at) == last) {
                        (false, _) => covered.gone += 1,
                        (true, true) => covered.stay += 1,
                        (true, false) => {
                            covered.there.push(path);
                            covered.there_bytes += file.bytes();
                        }
                    }
                    let range = covered.range.get_or_insert((oldest, newest));
                    *range = (range.0.min(oldest), range.1.max(newest));
                }
            }
        }
        Ok(covered)
    }

    /// Says what `covers` that: the words that the line begins with.
    fn print(&self, covers: &str, to: &mut dyn Write) -> io::Result<()> {
        let Some((oldest, newest)) = self.range else {
            return writeln!(to, "  {covers} none of {}", counted(self.of, "file", "files"));
        };
        writeln!(
            to,
            "  {covers} {} of {}, with {} and {}, from {} to {}; {} of these {} gone",
            self.files,
            counted(self.of, "file", "files"),
            counted(self.rows, "row", "rows"),
            counted(self.bytes, "byte", "bytes"),
            shown(oldest.into()),
            shown(newest.into()),
            self.gone,
            if self.gone == 1 { "is" } else { "are" }
        )
    }
}

impl Covered {
    fn print_removed(&self, to: &mut dyn Write) -> io::Result<()> {
        let files = counted(self.there.len() as u64, "file", "files");
        writeln!(to, "  removed {files} with {}", counted(self.there_bytes, "byte", "bytes"))?;
        match self.stay {
            0 => Ok(()),
            stay => writeln!(
                to,
                "  {} of the last checkpoint stay: once there is another one, they can be removed",
                counted(stay, "file", "files")
            ),
        }
    }
}

fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn failed(error: io::Error) -> Error {
    Error::io("write to standard output", error)
}
