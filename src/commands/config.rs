//! `pintail config`: what there is to know of the keys of the configuration, in the terminal and in an editor.
//!
//! Does not own: what that is (see [`Reference`]).

use std::io::Write;

use pintail_config::Examined;
use pintail_config::reference::Reference;
use pintail_core::error::{Error, Result};
use pintail_sources::registry::KINDS;

use crate::cli::HELP_COLUMNS;
use crate::terminal::broken;

/// Explains a key, or lists those of a section. `here` is the configuration of this invocation, whose faults do not matter.
///
/// # Errors
/// `Config` if there is no such key.
pub(crate) fn explain(key: &str, here: &Examined, to: &mut dyn Write) -> Result<()> {
    let text = Reference::new(KINDS).explain(key, |key| here.given(key).map(str::to_owned))?;
    text.lines().flat_map(|line| broken(line, HELP_COLUMNS)).try_for_each(|line| writeln!(to, "{line}")).map_err(failed)
}

/// Prints the JSON Schema of a configuration file.
pub(crate) fn schema(to: &mut dyn Write) -> Result<()> {
    let schema = Reference::new(KINDS).schema();
    writeln!(to, "{schema:#}").map_err(failed)
}

fn failed(error: std::io::Error) -> Error {
    Error::io("write to standard output", error)
}
