//! The look at a dataset that a service takes when it starts: whether every committed file is there with its length, without reading any.
//!
//! Owns: the thread, and telling what was found, in the log and in the meters.
//! Does not own: what is looked at (see [`super`]), who asks for it (the admin server).

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use chrono::Utc;
use pintail_core::error::Result;
use pintail_core::invocation::command;
use pintail_storage::checkpoint::reader::Dataset;
use tracing::{error, info, warn};

use super::{Depth, Report, look};
use crate::meters::{Meters, Verified};

/// Starts looking at the dataset at `out`, which is open. Nobody waits for it.
pub fn start(out: PathBuf, meters: Arc<Meters>) {
    let run = move || {
        let found = Dataset::open(&out).and_then(|dataset| look(&dataset, None, Depth::Length));
        meters.set_verified(tell(found));
    };
    if let Err(error) = thread::Builder::new().name("pintail-verify".to_owned()).spawn(run) {
        warn!(%error, "the dataset is not verified at this start");
    }
}

fn tell(found: Result<Report>) -> Verified {
    let at = Utc::now();
    match found {
        Ok(report) => match report.contradictions.first() {
            None => {
                info!(records = report.records, files = report.files, "dataset verified: all committed files are there");
                Verified::Sound { at, files: report.files }
            }
            Some(first) => {
                let contradictions = report.contradictions.len() as u64;
                let run = command("verify");
                error!(contradictions, first, "the dataset contradicts its commit records: run {run}");
                Verified::Contradicted { at, contradictions, first: first.clone() }
            }
        },
        Err(error) => {
            warn!(%error, "the dataset could not be verified at this start");
            Verified::Failed(error.to_string())
        }
    }
}
