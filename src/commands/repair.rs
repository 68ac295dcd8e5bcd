//! `pintail repair`: makes a dataset usable again that no start accepts, by giving up what cannot be trusted.
//!
//! Owns: the lock meanwhile, and the report of what is given up.
//! Does not own: how much that is (see [`crate::source::http::journal::repair`]).

use std::io::{self, Write};

use chrono::Utc;

use crate::checkpoint::lock::Lock;
use crate::checkpoint::log;
use crate::checkpoint::reader::Dataset;
use crate::config::{Config, SourceKind};
use crate::durable::posix::Posix;
use crate::error::{Error, Result};
use crate::evidence::Key;
use crate::offsets::Offsets;
use crate::source::http::journal::repair::{self, Outcome, Repair};
use crate::source::http::{journal_committed, journal_settings};

/// Repairs the journal of HTTP push. Prints what is given up, or that nothing is.
///
/// # Errors
/// [`crate::error::ErrorKind::TryAgain`] while a service holds the dataset, `Config` if it has no journal, `State` if the commit records
/// cannot be trusted, or the journal is another dataset's.
pub fn journal(config: &Config, to: &mut dyn Write) -> Result<()> {
    let SourceKind::Http(http) = &config.source.kind else {
        return Err(Error::config("`source.type` is not \"http\": only events over HTTP have a journal"));
    };
    let dataset = Dataset::open(config.paths())?;
    let _lock = Lock::take(config.paths(), Utc::now(), None)?;
    let offsets = match dataset.last_sequence()? {
        0 => Offsets::default(),
        last => dataset.record(last)?.0.offsets(),
    };
    let fs = Posix::default();
    let key = key(&fs, &dataset)?;
    let settings = journal_settings(config, http, &dataset.format().dataset_id, &key);
    let outcome = repair::repair(&fs, &settings, &journal_committed(&offsets))?;
    let report = match &outcome {
        Outcome::Sound => writeln!(to, "The journal `{}` is sound: nothing was changed.", settings.dir.display()),
        Outcome::Repaired(repair) => print(repair, to),
    };
    report.map_err(|e| Error::io("write the report", e))
}

/// Reads the key that evidence was made with. Without one, there is no evidence either.
fn key(fs: &Posix, dataset: &Dataset) -> Result<Key> {
    let path = dataset.paths().key();
    match log::bytes(fs, &path)? {
        Some(bytes) => {
            Key::parse(&bytes).ok_or_else(|| Error::state(format!("`{}` is no key of a dataset: restore it from a copy", path.display())))
        }
        None => Ok(Key::random()),
    }
}

fn print(repair: &Repair, to: &mut dyn Write) -> io::Result<()> {
    let Repair { why, committed, kept_to, lost, requests, dropped } = repair;
    writeln!(to, "The journal was repaired. Before, {why}.")?;
    writeln!(to, "  committed up to offset {committed}, kept up to offset {kept_to}; it goes on at offset {}", lost.to)?;
    for (path, at) in dropped {
        match at {
            0 => writeln!(to, "  given up: `{}`", path.display())?,
            at => writeln!(to, "  given up: `{}` from byte {at} on", path.display())?,
        }
    }
    if lost.from < *committed {
        writeln!(to, "  offsets {} to {} were given up and are committed: they are in the output", lost.from, lost.to.min(*committed))?;
    }
    match repair.gap() {
        None => writeln!(to, "  No accepted record is lost. Idempotency keys of what was given up are forgotten."),
        Some(gap) => {
            let count = if gap.counted { "" } else { "at least " };
            let records = gap.to - gap.from;
            writeln!(
                to,
                "  LOST: offsets {} to {}, {count}{records} accepted records ({requests} requests can be recognized). The next checkpoint notes \
                 them as a gap; clients that have them can send them again.",
                gap.from, gap.to
            )
        }
    }
}
