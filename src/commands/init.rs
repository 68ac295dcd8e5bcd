//! `pintail init FILE`: a configuration for the user's own data, checked, in one step.
//!
//! Owns: the order (look, choose, check, write) and the file, which is written only if what it would say is sound, and never over another.
//! Does not own: the choices and the text (see `draft`), the checks (see `check`).

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};

use pintail_config::Config;
use pintail_core::error::{Error, Result};
use pintail_core::invocation::{quoted, word};
use pintail_sources::file;
use pintail_sources::registry::KINDS;

use super::draft::{Draft, Input, Person};
use super::{check, infer};
use crate::cli::Wishes;

/// Files of a glob that are counted.
const FILES_MAX: usize = 1_000_000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Init {
    /// The sample: a file, a glob, or `-`.
    pub file: PathBuf,
    /// The configuration; `-` prints it.
    pub output: PathBuf,
    /// Whether it may replace another.
    pub force: bool,
    /// The dataset.
    pub to: PathBuf,
    /// What the user said of the columns.
    pub wishes: Wishes,
    /// Records to look at.
    pub records: NonZero<usize>,
}

/// Writes a configuration that fits the sample, and says what to do with it.
///
/// # Errors
/// As `infer` and `check`, and [`pintail_core::error::ErrorKind::Config`] if there is a configuration already. Nothing is written then.
pub(crate) fn run(init: &Init, to: &mut dyn Write) -> Result<()> {
    let Init { file, output, force, to: out, wishes, records } = init;
    let is_printed = output == Path::new(infer::STDIN);
    // Before a pipe is read that cannot be read again.
    if !is_printed && !force && output.symlink_metadata().is_ok() {
        return Err(exists(output));
    }
    let (input, inferred) = look(file, out, records.get())?;
    let is_person = io::stdin().is_terminal() && io::stderr().is_terminal() && input != Input::Stdin;
    let (mut from, mut questions) = (io::stdin().lock(), io::stderr().lock());
    let person = is_person.then_some(Person { from: &mut from, to: &mut questions });
    let draft = Draft::new(input, out, inferred, wishes, person)?;
    drop((from, questions));
    let mut checked = Vec::new();
    check::run(&Config::examine(KINDS, None, pintail_config::environment(), &draft.settings()), &mut checked)?;
    let failed = |e| Error::io("write to standard output", e);
    if is_printed {
        return to.write_all(draft.text().as_bytes()).map_err(failed);
    }
    write(output, *force, draft.text().as_bytes())?;
    report(&draft, init, &checked, to).map_err(failed)
}

/// Looks at a sample.
fn look(file: &Path, out: &Path, records: usize) -> Result<(Input, pintail_decode::infer::Inferred)> {
    if file == Path::new(infer::STDIN) {
        return Ok((Input::Stdin, infer::look_at_stdin(records)?.0));
    }
    if file.is_dir() {
        return Err(infer::sample::directory(file));
    }
    let name = file.to_str().ok_or_else(|| Error::config(format!("`{}` is no UTF-8, which a configuration needs", file.display())))?;
    let names = vec![name.to_owned()];
    let files: Vec<PathBuf> = file::matching(&names, out, FILES_MAX)?.into_iter().map(|(path, _)| path).collect();
    Ok((Input::Files(names), infer::look_at_files(&files, records)?))
}

fn exists(output: &Path) -> Error {
    Error::config(format!(
        "`{}` exists: nothing was written. Name another file with --output, or replace it with --force",
        output.display()
    ))
}

fn write(output: &Path, force: bool, text: &[u8]) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let opened = options.open(output).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => exists(output),
        _ => Error::io(format_args!("write `{}`", output.display()), e),
    });
    opened?.write_all(text).map_err(|e| Error::io(format_args!("write `{}`", output.display()), e))
}

fn report(draft: &Draft, init: &Init, checked: &[u8], to: &mut dyn Write) -> io::Result<()> {
    let output = word(&init.output.display().to_string()).into_owned();
    writeln!(to, "{}: {}", init.output.display(), draft.seen())?;
    draft.chosen().iter().chain(&draft.notes()).try_for_each(|line| writeln!(to, "  {line}"))?;
    writeln!(to)?;
    to.write_all(checked)?;
    let from = if init.file == Path::new(infer::STDIN) { " < FILE" } else { "" };
    writeln!(to, "\nNext: pintail run --config {output}{from}")?;
    writeln!(to, "then: pintail query --config {output} \\\n      {}", quoted(&draft.first_query()))
}
