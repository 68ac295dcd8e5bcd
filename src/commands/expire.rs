//! `pintail expire`: declares that files with old rows may be gone.
//!
//! Owns: the record of the declaration.
//! Does not own: removing files (retention is somebody else's until `sink.keep`), what follows from the declaration (see `verify`, `query`).

use std::io::Write;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::checkpoint::reader::Dataset;
use crate::checkpoint::record::{Action, ActionKind};
use crate::checkpoint::store::{Adopted, Allow};
use crate::config::Config;
use crate::durable::posix::Posix;
use crate::error::{Error, Result};
use crate::pipeline::Plan;

/// Declares files expired whose rows are all older than `before`.
///
/// # Errors
/// [`crate::error::ErrorKind::TryAgain`] while a service holds the dataset.
pub fn run(config: &Config, before: DateTime<Utc>, to: &mut dyn Write) -> Result<()> {
    // One that is not there must not be made.
    Dataset::open(config.paths())?;
    let allow = Allow { gone_before: Some(before), ..Allow::default() };
    let (_lock, mut store) = Plan::new(config)?.open_for(config, None, allow, Arc::new(Posix::default()))?;
    let at = before.to_rfc3339_opts(SecondsFormat::Secs, true);
    let text = format!("files whose rows are all older than {at} may be gone");
    let action = Action { before: Some(before), ..Action::new(ActionKind::Expire, text.clone()) };
    let sequence = store.act(action, Adopted::default(), Utc::now())?.sequence;
    writeln!(to, "record {sequence}: {text}").map_err(|e| Error::io("write to standard output", e))
}
