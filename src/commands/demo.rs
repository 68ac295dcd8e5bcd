//! `pintail demo`: the promise, tried before the reader's eyes. A service is killed twice, and what it wrote is compared with what one wrote that
//! nobody killed.
//!
//! Owns: the two datasets, the moments of the kills, the report; that nothing is left behind unless it is to be kept.
//! Does not own: what a killed demonstration has left (see `left`), the service, which is this program as its child (see `service`), the comparison (see `content`).

mod content;
mod left;
mod service;

use std::io::{self, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use pintail_core::error::{Error, Result};
use pintail_core::quantity::thousands;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use tempfile::TempDir;

use self::content::Content;
use self::service::{CHECKPOINT_INTERVAL, Running, Service};
use super::verify;
use crate::child::LOOK;

/// Kills on the way.
const KILLS: u64 = 2;
/// Time between two looks for a moment that is soon over.
const SHORTEST_LOOK: Duration = Duration::from_micros(200);
/// Time that a commit takes, about.
const COMMIT: Duration = Duration::from_millis(20);
/// Room on the disk: for an event in two datasets, and for what does not grow with them.
const EVENT_BYTES: u64 = 32;
const FIXED_BYTES: u64 = 16 << 20;
/// Exit code where the two datasets differ.
const DIFFERS: u8 = 1;

/// What a demonstration is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Demo {
    /// How many events.
    pub events: u64,
    /// What they, and the moments of the kills, are drawn from.
    pub seed: u64,
    /// How long the stream takes.
    pub seconds: u64,
    /// Where the datasets stay; without it, they are removed.
    pub keep: Option<PathBuf>,
}

/// Where the datasets lie.
enum Place {
    Kept(PathBuf),
    /// With the lock that says that it is in use.
    Temporary(TempDir, #[expect(dead_code, reason = "held until the directory is removed")] OwnedFd),
}

/// Runs a demonstration and returns the exit code: 0, 1 if the datasets differ, 130 or 143 after a signal.
///
/// # Errors
/// Those of the service and of `verify`; [`pintail_core::error::ErrorKind::Config`] if the directory to keep is not empty.
pub(crate) fn run(demo: &Demo, to: &mut dyn Write) -> Result<u8> {
    let signals = Signals::install()?;
    let place = Place::make(demo.keep.as_deref())?;
    place.check_room(demo.events)?;
    let mut show = Show { demo, place: &place, signals: &signals, to };
    match show.run() {
        Ok(code) => Ok(code),
        Err(Ended::Signal(code)) => show
            .line(format_args!("\ninterrupted{}", if demo.keep.is_some() { "" } else { ": its files are removed" }))
            .map_or(Ok(code), |()| Ok(code)),
        Err(Ended::Error(error)) => Err(error),
    }
}

/// Why a demonstration ends early.
enum Ended {
    Signal(u8),
    Error(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

struct Show<'a> {
    demo: &'a Demo,
    place: &'a Place,
    signals: &'a Signals,
    to: &'a mut dyn Write,
}

impl Show<'_> {
    fn run(&mut self) -> Result<u8, Ended> {
        let events = thousands(self.demo.events);
        let (lake, files) = (self.place.path().join("lake"), self.place.path().display().to_string());
        self.line(format_args!("{events} simulated events go through a service that is killed {KILLS} times."))?;
        let stays = if matches!(self.place, Place::Kept(_)) { "" } else { ", removed at the end" };
        self.line(format_args!("Its files: {files}{stays}\n"))?;
        let rate = (self.demo.events / self.demo.seconds).max(1);
        self.kill_on_the_way(&Service::new(&lake, self.demo, rate)?)?;
        self.step("verify", format_args!("reading every file …"))?;
        verify::run(&lake, None, verify::Depth::Content, &mut io::sink())?;
        self.step("", format_args!("each is there and holds what its record says"))?;
        self.compare(&lake)
    }

    /// Lets the service run to the end of its events, and kills it before that.
    fn kill_on_the_way(&mut self, service: &Service) -> Result<(), Ended> {
        let mut chance = StdRng::seed_from_u64(self.demo.seed);
        let mut watched = service.watch();
        for kill in 1..=KILLS {
            let mut running = service.start(io::stdout().is_terminal())?;
            while watched.look()?.events < self.demo.events * kill / (KILLS + 1) {
                self.is_killable(&mut running)?;
                thread::sleep(LOOK);
            }
            if kill < KILLS {
                // Anywhere between two commits.
                thread::sleep(CHECKPOINT_INTERVAL.mul_f64(chance.random()));
            } else {
                // Amid a commit.
                while service.staged().is_none() {
                    self.is_killable(&mut running)?;
                    thread::sleep(SHORTEST_LOOK);
                }
                thread::sleep(COMMIT.mul_f64(chance.random()));
            }
            self.is_killable(&mut running)?;
            running.kill();
            let at = watched.look()?.clone();
            let left = service.staged();
            self.line(format_args!(""))?;
            self.step("SIGKILL", format_args!("{} events are committed", thousands(at.events)))?;
            self.step("", format_args!("{left}"))?;
            self.step("start", format_args!("goes on with event {}\n", thousands(at.events + 1)))?;
        }
        self.to_the_end(service.start(io::stdout().is_terminal())?)?;
        let at = watched.look()?.clone();
        self.line(format_args!(""))?;
        self.step("end", format_args!("{} events are committed, in {} checkpoints", thousands(at.events), at.checkpoints))?;
        self.step("", format_args!("{}", service.staged()))?;
        Ok(())
    }

    /// Checks that a service still runs, which is to be killed.
    fn is_killable(&self, running: &mut Running) -> Result<(), Ended> {
        self.signals.check()?;
        running.ended()?.map_or(Ok(()), |status| Err(ended(status, "before it was killed").into()))
    }

    /// Waits for the end of a service.
    fn to_the_end(&self, mut running: Running) -> Result<(), Ended> {
        loop {
            self.signals.check()?;
            match running.ended()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(ended(status, "before all events were committed").into()),
                None => thread::sleep(LOOK),
            }
        }
    }

    /// Compares the dataset with one that nobody disturbs.
    fn compare(&mut self, lake: &Path) -> Result<u8, Ended> {
        let undisturbed = self.place.path().join("undisturbed");
        self.step("compare", format_args!("the same events, as fast as they go, and no kill …"))?;
        let service = Service::new(&undisturbed, self.demo, 0)?;
        let begun = Instant::now();
        self.to_the_end(service.start(false)?)?;
        let rate = self.demo.events as f64 / begun.elapsed().as_secs_f64();
        self.step("", format_args!("{} events a second, start and end included", thousands(rate as u64)))?;
        let (ours, theirs) = (Content::of(lake)?, Content::of(&undisturbed)?);
        let difference = ours.difference(&theirs);
        self.step("", format_args!("content {} and {}", ours.hash(), theirs.hash()))?;
        let equal = difference.is_none() && ours.rows() as u64 == self.demo.events;
        self.line(format_args!(
            "\n{} in · {} out · {} lost · {} doubled · {KILLS} kills",
            thousands(self.demo.events),
            thousands(ours.rows() as u64),
            thousands(difference.lost),
            thousands(difference.too_many)
        ))?;
        if !equal {
            self.line(format_args!("The two differ: please report it, with --seed {} --events {}.", self.demo.seed, self.demo.events))?;
            return Ok(DIFFERS);
        }
        self.advise(lake)?;
        Ok(0)
    }

    /// Says what to try next, to a person.
    fn advise(&mut self, lake: &Path) -> Result<(), Ended> {
        if !io::stdout().is_terminal() {
            return Ok(());
        }
        match self.place {
            Place::Kept(_) => self.line(format_args!(
                "Next: pintail query --set pipeline.out_path={} \\\n        'SELECT region, count(*) FROM events GROUP BY region'",
                lake.display()
            )),
            Place::Temporary(..) => self.line(format_args!("Next, with events of your own: pintail load events.ndjson --to lake")),
        }
    }

    fn step(&mut self, name: &str, what: fmt::Arguments<'_>) -> Result<(), Ended> {
        self.line(format_args!("  {name:<8} {what}"))
    }

    fn line(&mut self, line: fmt::Arguments<'_>) -> Result<(), Ended> {
        let written = writeln!(self.to, "{line}").and_then(|()| self.to.flush());
        written.map_err(|e| Error::io("write the report", e).into())
    }
}

/// Returns what a service that ends by itself comes to. It has said why.
fn ended(status: ExitStatus, when: &str) -> Error {
    Error::try_again(format!("the service of the demonstration ended by itself {when} ({status})"))
}

impl Place {
    fn make(keep: Option<&Path>) -> Result<Self> {
        let Some(keep) = keep else {
            left::remove();
            let failed = |e| Error::io("make a temporary directory", e);
            let made = tempfile::Builder::new().prefix(left::PREFIX).tempdir().map_err(failed)?;
            let lock = left::lock(made.path()).map_err(failed)?;
            return Ok(Self::Temporary(made, lock));
        };
        let failed = |e| Error::io(format_args!("make `{}`", keep.display()), e);
        std::fs::create_dir_all(keep).map_err(failed)?;
        if std::fs::read_dir(keep).map_err(failed)?.next().is_some() {
            return Err(Error::config(format!("`{}` is not empty: name a directory that is, or does not exist", keep.display())));
        }
        std::path::absolute(keep).map(Self::Kept).map_err(failed)
    }

    /// Refuses a disk without room for two datasets: a service waits for room, and nobody would make any.
    fn check_room(&self, events: u64) -> Result<()> {
        let wanted = events * EVENT_BYTES + FIXED_BYTES;
        let disk =
            rustix::fs::statvfs(self.path()).map_err(|e| Error::io(format_args!("look at `{}`", self.path().display()), e.into()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free >= wanted {
            return Ok(());
        }
        Err(Error::try_again(format!(
            "`{}` has room for {} bytes, a demonstration takes up to {}: set TMPDIR, or name another directory with --keep",
            self.path().display(),
            thousands(free),
            thousands(wanted)
        )))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(dir, _) => dir.path(),
        }
    }
}

/// Signals that end a demonstration: what it has started and made goes first.
struct Signals([(u8, Arc<AtomicBool>); 3]);

impl Signals {
    fn install() -> Result<Self> {
        let signals = Self([(130, Arc::default()), (143, Arc::default()), (129, Arc::default())]);
        for (number, (_, came)) in [SIGINT, SIGTERM, SIGHUP].into_iter().zip(&signals.0) {
            flag::register(number, came.clone()).map_err(|e| Error::io("install the signal handlers", e))?;
        }
        Ok(signals)
    }

    fn check(&self) -> Result<(), Ended> {
        let came = self.0.iter().find(|(_, came)| came.load(Ordering::Relaxed));
        came.map_or(Ok(()), |(code, _)| Err(Ended::Signal(*code)))
    }
}
