//! The commands, one file each. The reading ones take no lock and run beside the service; the others take it, and leave a record that says who ran
//! them.

pub(crate) mod accept;
pub(crate) mod adopt;
pub(crate) mod check;
pub(crate) mod compact;
pub(crate) mod config;
pub(crate) mod dead_letters;
pub(crate) mod demo;
pub(crate) mod draft;
pub(crate) mod expire;
pub(crate) mod fixtures;
pub mod health;
pub(crate) mod infer;
pub(crate) mod init;
pub(crate) mod installed;
pub(crate) mod load;
pub(crate) mod plan;
pub(crate) mod publish;
pub(crate) mod query;
pub(crate) mod repair;
mod rows;
pub(crate) mod run;
mod tried;
pub mod verify;

use std::fmt;
use std::io::{self, IsTerminal, Write};

/// Says what to do next, to a person: whoever reads standard output by a program did not ask.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn advise(to: &mut dyn Write, what: impl fmt::Display) -> io::Result<()> {
    // A command in a message stands in backticks; here it stands alone.
    if io::stdout().is_terminal() { writeln!(to, "\nNext: {}", what.to_string().replace('`', "")) } else { Ok(()) }
}
