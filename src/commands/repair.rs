//! `pintail repair`: makes a dataset usable again that no start accepts, by giving up what cannot be trusted.
//!
//! Owns: the lock meanwhile, the record that says who asked for it, and the report of what is given up.
//! Does not own: how much that is (see [`pintail_storage::journal::repair`], [`pintail_storage::checkpoint::state`]).

use std::io::{self, Write};
use std::sync::Arc;

use chrono::Utc;
use pintail_config::Config;
use pintail_core::error::{Error, Result};
use pintail_core::invocation::forgotten;
use pintail_sources::http::config::{HttpConfig, journal_committed};
use pintail_storage::checkpoint::lock::Lock;
use pintail_storage::checkpoint::process::Process;
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::checkpoint::record::{Action, ActionKind};
use pintail_storage::checkpoint::store::{Adopted, Allow, check_key, rebuild_snapshot};
use pintail_storage::durable::disk_state::DiskState;
use pintail_storage::durable::posix::Posix;
use pintail_storage::journal::repair::{self, Outcome, Repair};
use tokio::runtime::Runtime;

use crate::meters::Meters;
#[cfg(feature = "bucket")]
use crate::pipeline::lake;
use crate::pipeline::{Opened, Plan, Start, open_as_it_is, open_to_read, runtime_of_bucket, surroundings};

/// Repairs the journal of HTTP push. Prints what is given up, or that nothing is.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::TryAgain`] while a service holds the dataset, `Config` if it has no journal, `State` if the commit records
/// cannot be trusted, or the journal is another dataset's.
pub(crate) fn journal(config: &Config, to: &mut dyn Write) -> Result<()> {
    let Some(http) = config.source.settings::<HttpConfig>() else {
        let forgotten = forgotten("source.type");
        return Err(Error::config(format!("`source.type` is not \"http\": only events over HTTP have a journal{forgotten}")));
    };
    // One that is not there must not be made.
    open_to_read(config)?;
    let runtime = runtime_of_bucket(config)?;
    let _inside = runtime.as_ref().map(Runtime::enter);
    // In a bucket it waits, as a start does, until no other process may hold the dataset.
    let opened =
        Plan::new(config)?.open_store(config, Start::Usual, Arc::new(Posix::default()), &Meters::new(DiskState::default()), None)?;
    let Opened { lock: _lock, mut store, lost: _ } = opened;
    let settings =
        http.journal_settings(&surroundings(config, &config.local_paths(), Some(store.format()), &DiskState::default()), store.key());
    let outcome = repair::repair(&Posix::default(), &settings, &journal_committed(store.offsets()))?;
    let report = match &outcome {
        Outcome::Sound => writeln!(to, "The journal `{}` is sound: nothing was changed.", settings.dir.display()),
        Outcome::Repaired(repair) => {
            let text = format!("the journal was repaired: {}; it goes on at offset {}", repair.why, repair.lost.to);
            store.act(action(text), Adopted::default(), Utc::now())?;
            print(repair, to)
        }
    };
    store.close();
    report.map_err(failed)
}

/// Makes a new key, if the one that the evidence was made with is lost; changes nothing if it is sound. The next start accepts all positions as they are, once.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::TryAgain`] while a service holds the dataset.
pub(crate) fn key(config: &Config, to: &mut dyn Write) -> Result<()> {
    Dataset::open(config.paths())?;
    if check_key(&Posix::default(), &config.paths()).is_ok() {
        return writeln!(to, "The key `{}` is sound: nothing was changed.", config.paths().key().display()).map_err(failed);
    }
    let allow = Allow { another_key: true, ..Allow::default() };
    let action = action("the evidence of all positions is given up: the key that it was made with is lost".into());
    let (_lock, store) = open_as_it_is(config, Some(action), allow)?;
    writeln!(to, "record {}: the next start accepts all positions as they are", store.epoch()).map_err(failed)
}

/// Makes the last snapshot again.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if the records do not lead to it.
pub(crate) fn snapshot(config: &Config, to: &mut dyn Write) -> Result<()> {
    #[cfg(feature = "bucket")]
    if let Some(lake) = &config.lake {
        open_to_read(config)?;
        let told = match lake::rebuild_snapshot(config, lake)? {
            None => writeln!(to, "no record names a snapshot: nothing was changed"),
            // It is what a record names, byte for byte: there is nothing to be recorded.
            Some(sequence) => writeln!(to, "the snapshot of record {sequence} was made again from the records"),
        };
        return told.map_err(failed);
    }
    Dataset::open(config.paths())?;
    let lock = Lock::take(config.paths(), Utc::now(), None)?;
    let made = rebuild_snapshot(&Posix::default(), &config.paths(), &Process::this().nonce)?;
    drop(lock);
    let told = match made {
        None => writeln!(to, "no record names a snapshot: nothing was changed"),
        Some(name) => {
            let action = action(format!("the snapshot of record {} was made again from the records", name.sequence));
            let (_lock, store) = open_as_it_is(config, Some(action), Allow::default())?;
            writeln!(to, "record {}: the snapshot of record {} was made again from the records", store.epoch(), name.sequence)
        }
    };
    told.map_err(failed)
}

fn action(text: String) -> Action {
    Action::new(ActionKind::Repair, text)
}

fn failed(error: io::Error) -> Error {
    Error::io("write the report", error)
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
