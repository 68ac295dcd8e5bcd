//! The service of a demonstration: this program, as a child.
//!
//! Owns: its settings, its start and its end, and what can be seen of it from outside: its records and what it has staged.
//! Does not own: when it is killed.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;
use std::{fmt, fs};

use pintail_core::error::{Error, Result};
use pintail_core::quantity::thousands;
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::reader::Dataset;

use super::Demo;
use crate::child::{self, Reaped};

/// Time between two checkpoints.
pub(super) const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(250);

/// The variables that a child keeps: a configuration that stands in others is not for a demonstration.
const KEPT: [&str; 5] = ["TERM", "COLUMNS", "LINES", "NO_COLOR", "TMPDIR"];

/// What is needed to start it.
pub(super) struct Service {
    out: PathBuf,
    arguments: Vec<OsString>,
}

/// A service that runs. Dropping it kills it.
pub(super) struct Running(Reaped);

/// What its records say.
pub(super) struct Watched<'a> {
    out: &'a Path,
    dataset: Option<Dataset>,
    sequence: u64,
    seen: Seen,
}

/// What is committed.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub events: u64,
    pub checkpoints: u64,
}

/// Files that no record names.
pub(super) struct Staged {
    files: u64,
    bytes: u64,
}

impl Service {
    /// Prepares a service that commits its dataset at `out` at `rate` events a second; 0 is as fast as it goes.
    pub(super) fn new(out: &Path, demo: &Demo, rate: u64) -> Result<Self> {
        let text = |value: &str| serde_json::to_string(value).map_err(|e| Error::internal("cannot quote a setting").with_source(e));
        let out_path = out.to_str().ok_or_else(|| Error::config(format!("`{}` is no UTF-8: name another directory", out.display())))?;
        let sets = [
            format!("pipeline.out_path={}", text(out_path)?),
            format!("pipeline.checkpoint_interval=\"{}ms\"", CHECKPOINT_INTERVAL.as_millis()),
            format!("source.limit={}", demo.events),
            format!("source.seed={}", demo.seed),
            // Two datasets of the same events: neither may begin at its own time.
            "source.start_time=\"2026-01-01T00:00:00Z\"".to_owned(),
            format!("source.rate={rate}"),
            "admin.listen=\"\"".to_owned(),
            "log.level=\"warn\"".to_owned(),
        ];
        // Nobody would ever end it, should the demonstration be killed.
        let run = ["run".to_owned(), "--child-of".to_owned(), std::process::id().to_string()];
        let sets = sets.into_iter().flat_map(|set| ["--set".to_owned(), set]);
        let arguments = run.into_iter().chain(sets).map(OsString::from).collect();
        Ok(Self { out: out.to_owned(), arguments })
    }

    /// Starts it. Its live table is shown if somebody looks.
    pub(super) fn start(&self, shown: bool) -> Result<Running> {
        let kept = KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        let stdout = if shown { Stdio::inherit() } else { Stdio::null() };
        let mut command = child::again_bare();
        command.args(&self.arguments).envs(kept).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::inherit());
        // Ctrl-C is for the demonstration, which then ends it.
        command.process_group(0);
        command.spawn().map(|child: Child| Running(Reaped(child))).map_err(|e| Error::io("start the service", e))
    }

    pub(super) fn watch(&self) -> Watched<'_> {
        Watched { out: &self.out, dataset: None, sequence: 0, seen: Seen::default() }
    }

    /// Looks what it has written and not committed.
    pub(super) fn staged(&self) -> Staged {
        let mut staged = Staged { files: 0, bytes: 0 };
        let mut dirs = vec![Paths::new(&self.out).staging()];
        while let Some(dir) = dirs.pop() {
            // What is committed meanwhile is gone when it is looked at.
            let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
            for (entry, metadata) in entries.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))) {
                if metadata.is_dir() {
                    dirs.push(entry);
                } else {
                    staged.files += 1;
                    staged.bytes += metadata.len();
                }
            }
        }
        staged
    }
}

impl Running {
    /// Returns how it ended, if it did.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.0.0.try_wait().map_err(|e| Error::io("wait for the service", e))
    }

    pub(super) fn kill(mut self) {
        self.0.end();
    }
}

impl Watched<'_> {
    /// Looks at the records that are new.
    pub(super) fn look(&mut self) -> Result<&Seen> {
        let paths = Paths::new(self.out);
        if self.dataset.is_none() && paths.format().exists() {
            self.dataset = Some(Dataset::open(paths)?);
        }
        let Some(dataset) = &self.dataset else { return Ok(&self.seen) };
        for sequence in self.sequence + 1..=dataset.last_sequence()? {
            let (record, _) = dataset.record(sequence)?;
            self.seen.events += record.counts.records_in;
            self.seen.checkpoints += u64::from(record.trigger.is_some());
            self.sequence = sequence;
        }
        Ok(&self.seen)
    }
}

impl Staged {
    pub(super) fn is_none(&self) -> bool {
        self.files == 0
    }
}

impl fmt::Display for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.files {
            0 => f.write_str("no file was begun that is not committed"),
            1 => write!(f, "1 file was begun and not committed, {} bytes", thousands(self.bytes)),
            files => write!(f, "{files} files were begun and not committed, {} bytes", thousands(self.bytes)),
        }
    }
}
