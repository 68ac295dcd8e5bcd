//! `pintail expire`: declares that files with old rows may be gone, and takes such a declaration back.
//!
//! Owns: the records of both, and what is said of the files that are covered.
//! Does not own: removing files (retention is somebody else's until `sink.keep`), what follows from the declaration (see `verify`, `query`).

use std::io::{self, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use pintail_config::Config;
use pintail_core::error::{Error, Result};
use pintail_core::invocation::command;
use pintail_core::quantity::counted;
use pintail_storage::checkpoint::index::Time;
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::checkpoint::record::{Action, ActionKind, FileKind};
use pintail_storage::checkpoint::store::{Adopted, Allow};

use crate::pipeline::open_as_it_is;

/// Declares files expired whose rows are all older than `before`; one in the future only with `force`.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::TryAgain`] while a service holds the dataset; [`pintail_core::error::ErrorKind::Config`] if the time is in the future.
pub(crate) fn declare(config: &Config, before: DateTime<Utc>, force: bool, to: &mut dyn Write) -> Result<()> {
    // One that is not there must not be made.
    let dataset = Dataset::open(config.paths())?;
    let at = shown(before);
    if before > Utc::now() && !force {
        return Err(Error::config(format!(
            "{at} is in the future, so that all files which are written until then may be gone, too: write another year, or add `--force`"
        )));
    }
    let covered = Covered::look(&dataset, before)?;
    let wider = dataset.index(&|| Ok(()))?.declared_expired().into_iter().map(DateTime::from).max().filter(|wider| *wider > before);
    let allow = Allow { gone_before: Some(before), ..Allow::default() };
    let (_lock, mut store) = open_as_it_is(config, None, allow)?;
    let text = format!("files whose rows are all older than {at} may be gone");
    let action = Action { before: Some(before), ..Action::new(ActionKind::Expire, text.clone()) };
    let sequence = store.act(action, Adopted::default(), Utc::now())?.sequence;
    let told = writeln!(to, "record {sequence}: {text}").and_then(|()| covered.print("it covers", to));
    let told = told.and_then(|()| match wider {
        None => Ok(()),
        Some(wider) => writeln!(to, "  an earlier declaration covers more, and holds still: files older than {} may be gone", shown(wider)),
    });
    let told = told.and_then(|()| writeln!(to, "{} takes it back", command("expire --take-back")));
    told.map_err(failed)
}

/// Takes the last declaration back: from then on the one before it holds, if there was one.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`] if nothing was declared; [`pintail_core::error::ErrorKind::TryAgain`] while a service holds the dataset.
pub(crate) fn take_back(config: &Config, to: &mut dyn Write) -> Result<()> {
    let dataset = Dataset::open(config.paths())?;
    let mut declared = dataset.index(&|| Ok(()))?.declared_expired();
    let Some(last) = declared.pop().map(DateTime::from) else {
        return Err(Error::config(format!(
            "no files of `{}` were declared expired: there is nothing to take back",
            dataset.paths().root().display()
        )));
    };
    let covered = Covered::look(&dataset, last)?;
    let (_lock, mut store) = open_as_it_is(config, None, Allow::default())?;
    let before: Option<DateTime<Utc>> = declared.into_iter().max().map(DateTime::from);
    let rest =
        before.map_or_else(|| "no file may be gone".to_owned(), |before| format!("only files older than {} may be gone", shown(before)));
    let text = format!("that files older than {} may be gone is taken back: {rest}", shown(last));
    let action = Action { before, ..Action::new(ActionKind::TakeBack, text.clone()) };
    let sequence = store.act(action, Adopted::default(), Utc::now())?.sequence;
    writeln!(to, "record {sequence}: {text}").and_then(|()| covered.print("what is taken back covered", to)).map_err(failed)
}

/// The Parquet files whose rows are all older than a time.
#[derive(Debug, Default)]
struct Covered {
    files: u64,
    rows: u64,
    bytes: u64,
    /// Files that are not there any more.
    gone: u64,
    /// Their oldest and newest row.
    range: Option<(Time, Time)>,
    /// All files of the dataset.
    of: u64,
}

impl Covered {
    fn look(dataset: &Dataset, before: DateTime<Utc>) -> Result<Self> {
        let mut covered = Self::default();
        for instance in dataset.instances()? {
            let index = instance.index(&|| Ok(()))?;
            for record in &index.records {
                for file in record.files.iter().filter(|file| file.kind() == FileKind::Parquet) {
                    covered.of += 1;
                    let (oldest, newest) = file.times().unwrap_or((record.time, record.time));
                    if newest >= before.into() {
                        continue;
                    }
                    covered.files += 1;
                    covered.rows += file.rows();
                    covered.bytes += file.bytes();
                    covered.gone += u64::from(!instance.paths().published(&index.path(file)).is_file());
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

fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn failed(error: io::Error) -> Error {
    Error::io("write to standard output", error)
}
