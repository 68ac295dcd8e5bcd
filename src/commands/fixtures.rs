//! `pintail test`: fixtures through the schema and the SQL of a configuration.
//!
//! Owns: where fixtures are, what each expects, the report, and writing what came as what is expected.
//! Does not own: running records (see `tried`), comparing rows (see `rows`).
//!
//! A fixture is a directory with `input.ndjson`. `expected.ndjson` has the rows, in any order, `dead_letters.ndjson` what is rejected, a line each:
//! `{"line": 2, "phase": "decode", "reason": "…"}`, where a key that is left out is not compared. A file that is not there is an empty one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use itertools::Itertools;
use pintail_config::Config;
use pintail_core::batch::{DeadLetter, Phase};
use pintail_core::error::{Error, Result};
use pintail_core::invocation::command;
use pintail_core::quantity::counted;
use pintail_core::schema::Format;
use serde_json::{Map, Value};

use super::advise;
use super::rows::{Row, compare, told};
use super::tried::{Made, Tried, records_of};
use crate::pipeline::Plan;

/// Where fixtures are, beside the configuration.
const DIRECTORY: &str = "tests";
const INPUT: &str = "input.ndjson";
const EXPECTED: &str = "expected.ndjson";
const DEAD_LETTERS: &str = "dead_letters.ndjson";

/// Exit code where a fixture fails.
const FAILED: u8 = 1;
/// Differences of a fixture that are shown.
const SHOWN_MAX: usize = 10;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fixtures {
    /// Which of them; all if there is no name.
    pub names: Vec<String>,
    /// Where they are.
    pub directory: Option<PathBuf>,
    /// Whether what comes is to be written as what is expected.
    pub update: bool,
}

/// One of them.
struct Fixture {
    name: String,
    directory: PathBuf,
}

/// What it expects.
struct Expected {
    /// With the numbers of their lines.
    rows: Vec<(usize, Row)>,
    letters: Vec<(usize, Row)>,
    /// Whether there is any file that says so.
    is_said: bool,
}

/// What has become of its input.
struct Came {
    rows: Vec<Row>,
    letters: Vec<Row>,
}

/// Runs fixtures, and returns the exit code: 0, or 1 if one fails.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`] if there is no fixture, or a file of one cannot be understood; those of the SQL.
pub(crate) fn run(config: &Config, asked: &Fixtures, to: &mut dyn Write) -> Result<u8> {
    if let Format::Avro(_) = config.schema.format {
        return Err(Error::config(
            "fixtures are lines of JSON, and `schema.format` is \"avro\": `pintail check` binds the SQL to the Avro schema without any",
        ));
    }
    let fixtures = find(config, asked)?;
    let mut tried = Tried::new(config, Plan::new(config)?)?;
    let (mut passed, mut failed) = (0, 0);
    let width = fixtures.iter().map(|fixture| fixture.name.chars().count()).max().unwrap_or(0);
    for fixture in &fixtures {
        let came = fixture.run(&mut tried, config)?;
        let what = format!(
            "{}, {}",
            counted(came.rows.len() as u64, "row", "rows"),
            counted(came.letters.len() as u64, "dead letter", "dead letters")
        );
        let expected = fixture.expected()?;
        let differences = differences(&expected, &came);
        let verdict = match (differences.is_empty() && expected.is_said, asked.update) {
            (true, _) => "ok",
            (false, true) => {
                fixture.update(&came)?;
                "wrote"
            }
            (false, false) => "FAILED",
        };
        if verdict == "FAILED" {
            failed += 1
        } else {
            passed += 1
        };
        let shown = if verdict == "FAILED" { &differences[..] } else { &[] };
        write(to, verdict, &format!("{:width$}  {what}", fixture.name), shown).map_err(|e| Error::io("write the report", e))?;
        if verdict == "FAILED" && !expected.is_said {
            let why = format!("it has neither {EXPECTED} nor {DEAD_LETTERS}: --update writes them");
            writeln!(to, "        {why}").map_err(|e| Error::io("write the report", e))?;
        }
    }
    conclude(asked, passed, failed, to).map_err(|e| Error::io("write the report", e))?;
    Ok(if failed > 0 { FAILED } else { 0 })
}

fn write(to: &mut dyn Write, verdict: &str, what: &str, differences: &[String]) -> io::Result<()> {
    writeln!(to, "{verdict:<6}  {}", what.trim_end())?;
    differences.iter().take(SHOWN_MAX).try_for_each(|difference| writeln!(to, "        {difference}"))?;
    match differences.len().saturating_sub(SHOWN_MAX) {
        0 => Ok(()),
        more => writeln!(to, "        and {more} more"),
    }
}

fn conclude(asked: &Fixtures, passed: usize, failed: usize, to: &mut dyn Write) -> io::Result<()> {
    writeln!(to, "\n{passed} passed, {failed} failed")?;
    match failed {
        0 if asked.update => advise(to, "git diff, to look at what was written"),
        0 => advise(to, command("run")),
        _ => advise(to, format_args!("{} takes what came for what is expected", command(format_args!("test {}--update", names(asked))))),
    }
}

fn names(asked: &Fixtures) -> String {
    asked.names.iter().fold(String::new(), |mut names, name| {
        write!(names, "{} ", pintail_core::invocation::word(name)).expect("a String takes what is written to it");
        names
    })
}

/// Finds the fixtures that are asked for.
fn find(config: &Config, asked: &Fixtures) -> Result<Vec<Fixture>> {
    let beside = || config.given.file.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).join(DIRECTORY);
    let directory = asked.directory.clone().unwrap_or_else(beside);
    let shown = directory.display();
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(none(&directory)),
        Err(e) => return Err(Error::io(format_args!("list `{shown}`"), e)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io(format_args!("list `{shown}`"), e))?.path();
        let has = |file: &str| path.join(file).is_file();
        let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()).filter(|_| path.is_dir()) else { continue };
        match has(INPUT) {
            true => all.push(Fixture { name, directory: path }),
            false if has(EXPECTED) || has(DEAD_LETTERS) => {
                return Err(Error::config(format!("`{}` says what is expected and has no {INPUT}: add it", path.display())));
            }
            // Whatever else lies there.
            false => {}
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    if all.is_empty() {
        return Err(none(&directory));
    }
    let known: BTreeSet<&str> = all.iter().map(|fixture| fixture.name.as_str()).collect();
    if let Some(unknown) = asked.names.iter().find(|name| !known.contains(name.as_str())) {
        return Err(Error::config(format!("there is no fixture `{unknown}` in `{shown}`: there are {}", known.iter().join(", "))));
    }
    all.retain(|fixture| asked.names.is_empty() || asked.names.contains(&fixture.name));
    Ok(all)
}

fn none(directory: &Path) -> Error {
    let first = directory.join("first").join(INPUT);
    Error::config(format!(
        "no fixtures in `{}`: write some records to `{}`, and {} writes what comes of them beside it",
        directory.display(),
        first.display(),
        command("test --update")
    ))
}

impl Fixture {
    /// Puts the input through schema and SQL, as one batch.
    fn run(&self, tried: &mut Tried, config: &Config) -> Result<Came> {
        let input = self.read(INPUT)?.unwrap_or_default();
        let batch = records_of(&input, INPUT, config.source.record_bytes_max);
        let Made { rows, dead_letters, .. } =
            tried.run(&batch).map_err(|error| Error::new(error.kind(), format!("fixture `{}`: {error}", self.name)))?;
        let letter = |letter: &DeadLetter| {
            let before = &input[..usize::try_from(letter.offset).unwrap_or(usize::MAX).min(input.len())];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            let phase = match letter.phase {
                Phase::Decode => "decode",
                Phase::Sql => "sql",
                Phase::Sink => "sink",
            };
            let fields = [("line", Value::from(line)), ("phase", phase.into()), ("reason", letter.reason.to_string().into())];
            Row::of(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
        };
        Ok(Came { letters: dead_letters.iter().map(letter).collect(), rows })
    }

    /// Reads a file of it; `None` if it is not there.
    fn read(&self, file: &str) -> Result<Option<Vec<u8>>> {
        let path = self.directory.join(file);
        match fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(format_args!("read `{}`", path.display()), e)),
        }
    }

    fn expected(&self) -> Result<Expected> {
        let lines = |file: &str| -> Result<Option<Vec<(usize, Row)>>> {
            let Some(content) = self.read(file)? else { return Ok(None) };
            let lines = (1..).zip(content.split(|byte| *byte == b'\n')).filter(|(_, line)| !line.trim_ascii().is_empty());
            let row = |(number, line): (usize, &[u8])| {
                let place = self.directory.join(file);
                Row::parse(line).map(|row| (number, row)).map_err(|why| Error::config(format!("`{}`:{number}: {why}", place.display())))
            };
            lines.map(row).collect::<Result<_>>().map(Some)
        };
        let (rows, letters) = (lines(EXPECTED)?, lines(DEAD_LETTERS)?);
        let is_said = rows.is_some() || letters.is_some();
        Ok(Expected { rows: rows.unwrap_or_default(), letters: letters.unwrap_or_default(), is_said })
    }

    /// Writes what came as what is expected.
    fn update(&self, came: &Came) -> Result<()> {
        for (file, rows) in [(EXPECTED, &came.rows), (DEAD_LETTERS, &came.letters)] {
            let path = self.directory.join(file);
            let failed = |e| Error::io(format_args!("write `{}`", path.display()), e);
            if file == DEAD_LETTERS && rows.is_empty() {
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
                    _ => continue,
                }
            }
            let text: String = rows.iter().map(|row| row.text.clone() + "\n").collect();
            fs::write(&path, text).map_err(failed)?;
        }
        Ok(())
    }
}

/// Says what differs, a line each.
fn differences(expected: &Expected, came: &Came) -> Vec<String> {
    let rows: Vec<Row> = expected.rows.iter().map(|(_, row)| row.clone()).collect();
    let difference = compare(&rows, &came.rows);
    let place = |at: usize| format!("{EXPECTED}:{}", expected.rows[at].0);
    let changed = difference.changed.iter().flat_map(|(at, other)| {
        let changes = rows[*at].changes(&came.rows[*other]);
        changes.into_iter().map(|change| format!("{}  {}", place(*at), told(&change))).collect::<Vec<_>>()
    });
    let missing = difference.missing.iter().map(|at| format!("{}  did not come: {}", place(*at), rows[*at].shown()));
    let unexpected = difference.unexpected.iter().map(|at| format!("not expected: {}", came.rows[*at].shown()));
    changed.chain(missing).chain(unexpected).chain(differing_letters(expected, came)).collect()
}

/// Compares dead letters: each that is expected is one that came.
fn differing_letters(expected: &Expected, came: &Came) -> Vec<String> {
    let mut unclaimed: Vec<&Row> = came.letters.iter().collect();
    let mut missing = Vec::new();
    for (number, letter) in &expected.letters {
        match unclaimed.iter().position(|came| letter.is_part_of(came)) {
            Some(at) => drop(unclaimed.remove(at)),
            None => missing.push((number, letter)),
        }
    }
    let mut differences = Vec::new();
    for (number, letter) in missing {
        let place = format!("{DEAD_LETTERS}:{number}");
        let same_line = unclaimed.iter().position(|came| letter.number("line").is_some() && letter.number("line") == came.number("line"));
        match same_line.map(|at| unclaimed.remove(at)) {
            Some(came) => {
                // What it leaves out is not compared.
                let changes = letter.changes(came).into_iter().filter(|(_, expected, _)| expected.is_some());
                differences.extend(changes.map(|change| format!("{place}  {}", told(&change))));
            }
            None => differences.push(format!("{place}  was not rejected: {}", letter.shown())),
        }
    }
    differences.extend(unclaimed.iter().map(|came| format!("rejected, and not expected: {}", came.shown())));
    differences
}
