//! What is appended to the journal, and what must be there afterwards.
//!
//! Owns: a fixed script of groups and releases with its oracle, and a client that does as clients do when they are refused.
//! Does not own: what goes wrong meanwhile (see `journal`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pintail_core::error::Result;
use pintail_core::evidence::Key;
use pintail_storage::durable::fs::Fs;
use pintail_storage::journal::log::Log;
use pintail_storage::journal::time::{Clocks, Reading};
use pintail_storage::journal::{AppendError, Form, Receipt, Request, Settings, note};

use crate::model::disk::Disk;
use crate::model::{Model, Renames};
use crate::script::Checked;

/// Where the journal's directory is made.
const PARENT: &str = "/data";

/// Returns a disk with nothing but the directory that the journal is made in.
pub(super) fn empty_disk(renames: Renames) -> Model {
    let made = Model::over(Disk::new(), 0, renames);
    made.create_dir(Path::new(PARENT)).unwrap();
    made.sync_dir(Path::new("/")).unwrap();
    Model::over(made.disk(), 0, renames)
}

fn settings() -> Settings {
    Settings {
        dir: PathBuf::from(PARENT).join("journal"),
        dataset_id: "the dataset".into(),
        segment_bytes: 900,
        bytes_max: 1 << 20,
        key_ttl: Duration::from_secs(3600),
        keys_max: 1_000,
        queue: 1,
        key: Key::new([7; 32]),
        clocks: Arc::new(Still),
    }
}

/// Clocks that stand still: the same run leaves the same bytes.
#[derive(Debug)]
struct Still;

impl Clocks for Still {
    fn read(&self) -> Reading {
        Reading { boot: 1, up_ms: 1, wall_ms: 1 }
    }
}

/// What is done at once.
enum Doing {
    /// Requests: name, records, and whether they have a key (their name).
    Append(&'static [(&'static str, u64, bool)]),
    /// The line has committed everything before.
    Release(u64),
    /// Another process takes over, after an orderly end.
    Reopen,
    /// Another process takes over.
    ReopenUnclosed,
}

use Doing::{Append, Release, Reopen, ReopenUnclosed};

/// The script. A name that comes again is the same request again: it must be answered as the first time.
const SCRIPT: &[Doing] = &[
    Append(&[("a", 2, true), ("b", 1, false)]),
    Append(&[("c", 1, true)]),
    Append(&[("d", 2, true), ("a", 2, true)]),
    Release(2),
    Append(&[("e", 1, false), ("f", 0, true), ("g", 1, true)]),
    Release(7),
    Append(&[("h", 3, false)]),
    Reopen,
    Append(&[("c", 1, true), ("i", 1, true)]),
    Release(11),
    Append(&[("j", 1, false)]),
    ReopenUnclosed,
    Release(13),
];

/// Steps of the script.
pub(super) const STEPS: u64 = SCRIPT.len() as u64;

fn request(name: &str, records: u64, keyed: bool) -> Request {
    Request::new(Form::Lines, records, lines(name, records).concat().into(), keyed.then_some(name.as_bytes()))
}

fn lines(name: &str, records: u64) -> Vec<String> {
    (0..records).map(|line| format!("{name}.{line}\n")).collect()
}

/// Returns each request of the first `steps` steps once, with its offset.
fn accepted(steps: u64) -> Vec<(&'static str, u64, bool, u64)> {
    let mut accepted: Vec<(&str, u64, bool, u64)> = Vec::new();
    let mut offset = 0;
    for doing in &SCRIPT[..usize::try_from(steps).unwrap()] {
        let Append(requests) = doing else { continue };
        for (name, records, keyed) in *requests {
            if accepted.iter().all(|known| known.0 != *name) {
                accepted.push((*name, *records, *keyed, offset));
                offset += records;
            }
        }
    }
    accepted
}

fn end(steps: u64) -> u64 {
    accepted(steps).last().map_or(0, |(_, records, _, offset)| offset + records)
}

/// Returns what the line has committed when `steps` are done and the next one has begun: it commits before it releases.
fn committed(steps: u64) -> u64 {
    let begun = SCRIPT.len().min(usize::try_from(steps).unwrap() + 1);
    let releases = SCRIPT[..begun].iter().filter_map(|doing| if let Release(offset) = doing { Some(*offset) } else { None });
    releases.max().unwrap_or(0)
}

/// Opens the journal when `steps` are done.
pub(super) fn open(fs: &Arc<dyn Fs>, steps: u64) -> Result<Log> {
    Log::open(fs.clone(), settings(), Some(committed(steps)))
}

/// Checks that the journal is noted as begun if a request was accepted: were it gone, it must be missed.
pub(super) fn check_noted(fs: &Arc<dyn Fs>, steps: u64) -> Checked<()> {
    let noted = note::is_there(&**fs, &settings()).map_err(|error| error.to_string())?;
    if noted || steps == 0 { Ok(()) } else { Err("a request was accepted, and nothing notes the journal".into()) }
}

/// Opens the journal and does the script from behind `steps` to its end.
pub(super) fn run(fs: &Arc<dyn Fs>, steps: u64, announce: &mut dyn FnMut(u64)) -> Checked<()> {
    let log = open(fs, steps).map_err(|error| error.to_string())?;
    go_on(log, fs, steps, announce).map(|_| ())
}

/// Does the script from behind `steps` to its end. What the crash left of the next step is tried again, as a client with a key does.
pub(super) fn go_on(mut log: Log, fs: &Arc<dyn Fs>, steps: u64, announce: &mut dyn FnMut(u64)) -> Checked<Log> {
    for step in steps..STEPS {
        match &SCRIPT[usize::try_from(step).unwrap()] {
            Append(requests) => append(&mut log, requests, step)?,
            Release(offset) => log.release(*offset),
            Reopen | ReopenUnclosed => {
                if matches!(SCRIPT[usize::try_from(step).unwrap()], Reopen) {
                    log.close();
                }
                drop(log);
                log = open(fs, step).map_err(|error| error.to_string())?;
            }
        }
        if let Some(error) = log.shared().stopped() {
            return Err(error.to_string());
        }
        announce(step + 1);
    }
    Ok(log)
}

fn append(log: &mut Log, requests: &[(&str, u64, bool)], step: u64) -> Checked<()> {
    // One without a key is tried again only by who does not know that it is there; the oracle knows.
    let there = log.shared().end() == end(step + 1);
    let tried: Vec<_> = requests.iter().filter(|(_, _, keyed)| *keyed || !there).collect();
    let group: Vec<_> = tried.iter().map(|(name, records, keyed)| request(name, *records, *keyed)).collect();
    let answers = log.append(&group);
    let known = accepted(step + 1);
    for ((name, records, _), answer) in tried.iter().zip(answers) {
        let offset = known.iter().find(|known| known.0 == *name).unwrap().3;
        same(name, answer, Ok(Receipt { offset, records: *records }))?;
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Checked<()> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

/// Holds a journal that was just opened against the script: everything of the done steps is there, and of the next one everything or
/// nothing; each key that was answered has its answer.
pub(super) fn check(log: &mut Log, steps: u64) -> Checked<()> {
    let found = log.shared().end();
    let next = end(STEPS.min(steps + 1));
    if found != end(steps) && found != next {
        return Err(format!("the journal ends at {found}, lawful are {} and {next}", end(steps)));
    }
    check_content(log, if found == end(steps) { steps } else { steps + 1 }, committed(steps))?;
    check_keys(log, steps)
}

/// Holds a journal at the end of the script against it.
pub(super) fn check_end(log: &mut Log) -> Checked<()> {
    check(log, STEPS)?;
    check_keys(log, STEPS)
}

fn check_content(log: &Log, steps: u64, from: u64) -> Checked<()> {
    let expected: Vec<_> = accepted(steps).iter().flat_map(|(name, records, _, _)| lines(name, *records)).collect();
    let found = read(log, from)?;
    same("records", found, expected[usize::try_from(from).unwrap()..].to_vec())
}

fn check_keys(log: &mut Log, steps: u64) -> Checked<()> {
    let before = log.shared().end();
    for (name, records, keyed, offset) in accepted(steps) {
        if keyed {
            same(name, log.append(&[request(name, records, true)]), vec![Ok(Receipt { offset, records })])?;
            let other = Request::new(Form::Lines, 1, "other\n".into(), Some(name.as_bytes()));
            same(name, log.append(&[other]), vec![Err(AppendError::Conflict)])?;
        }
    }
    same("the end", log.shared().end(), before)
}

/// Reads all lines from an offset on.
fn read(log: &Log, from: u64) -> Checked<Vec<String>> {
    let mut reader = log.reader(from);
    let mut found = Vec::new();
    while let Some(recorded) = reader.read(Duration::ZERO).map_err(|error| error.to_string())? {
        let text = String::from_utf8(recorded.body.to_vec()).map_err(|error| error.to_string())?;
        found.extend(text.split_inclusive('\n').skip(usize::try_from(recorded.skip).unwrap()).map(str::to_owned));
    }
    Ok(found)
}

/// Requests that a client sends if nothing is in the way.
const REQUESTS: u64 = 30;

/// A client, and the line behind the journal. Every request is another one.
#[derive(Debug, Default)]
pub(super) struct Client {
    sent: u64,
    /// What was answered, by offset.
    accepted: Vec<(String, Receipt, bool)>,
    refused: Vec<String>,
    /// Has a key, and no answer: it is sent again.
    in_doubt: Option<String>,
    /// Has no key, and no answer: it may be there or not.
    lost: Vec<String>,
    committed: u64,
}

impl Client {
    /// Opens the journal, sends requests and commits, until something stops it. After a refusal only `more` are sent: what was torn is
    /// still there then.
    pub(super) fn run(&mut self, fs: &Arc<dyn Fs>, more: u64) -> Checked<()> {
        let Ok(mut log) = Log::open(fs.clone(), settings(), Some(self.committed)) else { return Ok(()) };
        let (mut turn, mut left) = (0, REQUESTS);
        while left > 0 {
            (turn, left) = (turn + 1, left - 1);
            let retried = self.in_doubt.take();
            let keyed = retried.is_some() || !self.sent.is_multiple_of(3);
            let name = retried.unwrap_or_else(|| format!("r{}", self.sent));
            self.sent += 1;
            match log.append(&[request(&name, 1, keyed)])[0] {
                Ok(receipt) => self.accepted.push((name, receipt, keyed)),
                Err(AppendError::NoRoom) => {
                    self.refused.push(name);
                    left = left.min(more);
                }
                Err(AppendError::Stopped) if keyed => self.in_doubt = Some(name),
                Err(AppendError::Stopped) => self.lost.push(name),
                Err(error) => return Err(format!("{name}: {error:?}")),
            }
            if log.shared().stopped().is_some() {
                return Ok(());
            }
            if turn % 5 == 0 {
                self.committed = self.committed.max(log.shared().end().saturating_sub(self.sent % 4));
                log.release(self.committed);
            }
        }
        Ok(())
    }

    /// Checks that all that was accepted and not committed is there once, what was refused is not, and that each key has its answer.
    pub(super) fn check(&self, fs: &Arc<dyn Fs>) -> Checked<()> {
        let mut log = Log::open(fs.clone(), settings(), Some(self.committed)).map_err(|error| format!("no start is possible: {error}"))?;
        let found = read(&log, self.committed)?;
        let at = |receipt: &Receipt| receipt.offset.checked_sub(self.committed).and_then(|at| found.get(usize::try_from(at).unwrap()));
        for (name, receipt, keyed) in &self.accepted {
            if receipt.offset >= self.committed {
                same(name, at(receipt), Some(&format!("{name}.0\n")))?;
                same(name, found.iter().filter(|line| **line == format!("{name}.0\n")).count(), 1)?;
            }
            if *keyed {
                same(name, log.append(&[request(name, 1, true)])[0], Ok(*receipt))?;
            }
        }
        let known = |line: &String| {
            let name = line.trim_end().trim_end_matches(".0");
            self.accepted.iter().any(|(accepted, _, _)| accepted == name)
                || self.lost.iter().any(|lost| lost == name)
                || self.in_doubt.as_deref() == Some(name)
        };
        same("neither accepted nor in doubt", found.iter().find(|line| !known(line)), None)?;
        let refused = self.refused.iter().find(|name| found.contains(&format!("{name}.0\n")));
        same("refused, and there", refused, None)
    }
}
