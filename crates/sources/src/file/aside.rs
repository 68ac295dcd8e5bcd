//! Aside: inputs that cannot be read for now, each set aside alone.
//!
//! Owns: which files and directories wait, why, the growing pauses after which each is tried again, and saying so: in the log once a pause, and for
//! whoever asks.
//! Does not own: what a fault is (an error of kind `Io` on the way to one file), trying again (see `follow`; what is read once is tried once).
//!
//! Nothing of it is kept: after a restart what cannot be read is found anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use pintail_core::error::{Error, ErrorKind};
use pintail_core::escape;
use tracing::{info, warn};

use super::identity::{Inode, Place};
use super::names;
use super::plan::Name;
use super::positions::Known;
use crate::waiting::{NAMED_MAX, Waiting, WaitingInput, WaitingInputs};

#[cfg(test)]
mod tests;

/// The first pause: what was half written or locked is often well again at once.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longer ones would only delay what somebody has fixed.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// What has changed is tried again sooner, though not at each look: a large archive that comes in slowly is decompressed from its beginning each time.
const LONGEST_PAUSE_CHANGED: Duration = Duration::from_secs(10);

/// How long behind its pause what was only met in search of another file is kept: such searches are made each minute.
const ABANDONED: Duration = Duration::from_secs(150);

/// Lines of the log in a second; what waits beyond them is counted in the next one.
const LINES_MAX: u32 = 10;
const LINES_EVERY: Duration = Duration::from_secs(1);

/// Bytes of a line that names several inputs, as far as they fit.
const NAMES_BYTES_MAX: usize = 4096;

/// Bytes of a reason.
const WHY_BYTES_MAX: usize = 200;

/// The inputs that wait.
#[derive(Debug)]
pub(super) struct Aside {
    inputs: BTreeMap<PathBuf, Input>,
    /// Whether what waits is tried again: not where everything is read once.
    follow: bool,
    /// Files that went from their names while a directory could not be searched for them.
    strays: Vec<Stray>,
    shared: WaitingInputs,
    /// Lines of the log since a moment, and those that were left out.
    lines: (Instant, u32, u64),
}

/// An input that waits.
#[derive(Debug)]
struct Input {
    what: What,
    why: String,
    since: DateTime<Utc>,
    tried: Instant,
    pause: Duration,
    seen: Option<Stamp>,
    /// Whether it had a name that matches: it is to be read, wherever it is by now.
    matched: bool,
    /// Whether its content is at fault, and not the way to it.
    damaged: bool,
    /// Whether a line of the log has named it.
    named: bool,
}

/// What may lie behind the inputs that wait, to be looked up at once for many positions.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    directories: HashSet<PathBuf>,
    places: HashMap<Inode, Place>,
    names: names::Related<()>,
}

/// A file that waited and went from its name.
#[derive(Debug)]
pub(super) struct Stray {
    pub(super) path: PathBuf,
    pub(super) place: Place,
    pub(super) why: String,
    /// Whether its content was at fault, and not the way to it.
    pub(super) damaged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    File,
    /// Nothing below it is known.
    Directory,
    /// A symbolic link that leads to nothing: it hides nothing, either.
    Link,
}

/// What tells that a file was written, replaced, or allowed to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    place: Place,
    length: u64,
    modified: Option<SystemTime>,
    /// Seconds and nanoseconds: when permissions were changed, too.
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self { place: Place::of(metadata), length: metadata.len(), modified: metadata.modified().ok(), changed }
    }
}

/// Returns whether an error is one of a single input, and not of the line or of what it is asked to do.
pub(super) fn is_of_input(error: &Error) -> bool {
    error.kind() == ErrorKind::Io
}

impl Aside {
    pub(super) fn new(shared: WaitingInputs, follow: bool) -> Self {
        Self { inputs: BTreeMap::new(), follow, strays: Vec::new(), shared, lines: (Instant::now(), 0, 0) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Sets a file aside, and keeps whether it was found by a name that matches.
    pub(super) fn file(&mut self, path: &Path, name: Name, error: &Error) {
        self.put(path, What::File, error);
        if let Some(input) = self.inputs.get_mut(path) {
            input.matched |= name == Name::Matches;
        }
    }

    /// Takes which file that was set aside has this name, or had it.
    pub(super) fn see(&mut self, path: &Path, metadata: &Metadata) {
        if let Some(input) = self.inputs.get_mut(path) {
            input.seen = Some(Stamp::of(metadata));
        }
    }

    /// Sets a directory aside that cannot be listed.
    pub(super) fn directory(&mut self, path: &Path, error: &Error) {
        self.put(path, What::Directory, error);
    }

    /// Sets a symbolic link aside that leads to nothing.
    pub(super) fn link(&mut self, path: &Path) {
        if !self.inputs.contains_key(path) {
            let error = io::Error::new(io::ErrorKind::NotFound, "it is a symbolic link, and nothing is where it leads to");
            self.put(path, What::Link, &Error::io(format_args!("read `{}`", names::label_of(path)), error));
        }
    }

    fn put(&mut self, path: &Path, what: What, error: &Error) {
        let (now, seen) = (Instant::now(), fs::metadata(path).ok().as_ref().map(Stamp::of));
        let why = escape::beginning(&error.to_string(), WHY_BYTES_MAX);
        let before = self.inputs.get(path);
        let matched = before.is_some_and(|before| before.matched);
        let damaged = error.os_error().is_none();
        let named = before.is_some_and(|before| before.named);
        // A directory is tried at each look.
        if let Some(before) = before.filter(|before| what == What::Directory && now.duration_since(before.tried) < before.pause) {
            let (tried, pause, since) = (before.tried, before.pause, before.since);
            self.inputs.insert(path.to_owned(), Input { what, why, since, tried, pause, seen, matched, damaged, named });
            return;
        }
        let pause = before.map_or(FIRST_PAUSE, |before| (before.pause * 2).min(LONGEST_PAUSE));
        let since = before.map_or_else(Utc::now, |before| before.since);
        let may_log = self.may_log(now);
        let named = named || may_log;
        self.inputs.insert(path.to_owned(), Input { what, why, since, tried: now, pause, seen, matched, damaged, named });
        let waiting = self.inputs.len();
        if may_log {
            let path = names::label_of(path);
            match self.follow {
                true => {
                    warn!(%path, %error, again_in_s = pause.as_secs(), waiting, "an input cannot be read: it waits, the others go on");
                }
                false => warn!(%path, %error, left_out = waiting, "an input cannot be read: it is left out, the others are read"),
            }
        }
        self.publish();
    }

    /// Records that a file or a directory can be read.
    pub(super) fn well(&mut self, path: &Path) {
        self.end(path, "an input that waited can be read again");
    }

    fn end(&mut self, path: &Path, how: &str) {
        if self.inputs.remove(path).is_none() {
            return;
        }
        let waiting = self.inputs.len();
        if self.may_log(Instant::now()) {
            info!(path = %names::label_of(path), waiting, "{how}");
        }
        self.publish();
    }

    /// Returns whether one more line may be written now.
    fn may_log(&mut self, now: Instant) -> bool {
        let (since, lines, left_out) = self.lines;
        if now.duration_since(since) >= LINES_EVERY {
            if left_out > 0 {
                warn!(inputs = left_out, waiting = self.inputs.len(), "further inputs changed state; log lines suppressed");
            }
            self.lines = (now, 1, 0);
            return true;
        }
        let may = lines < LINES_MAX;
        self.lines = if may { (since, lines + 1, left_out) } else { (since, lines, left_out + 1) };
        may
    }

    fn publish(&self) {
        let named = self.inputs.iter().take(NAMED_MAX).map(|(path, input)| WaitingInput {
            path: escape::line(&names::label_of(path)).into_owned(),
            why: input.why.clone(),
            since: input.since,
        });
        self.shared.set(Waiting { count: self.inputs.len(), named: named.collect() });
    }

    /// Returns whether a file that was found is to be left alone for now.
    pub(super) fn waits(&self, path: &Path, metadata: &Metadata) -> bool {
        self.inputs.get(path).is_some_and(|input| !input.is_due(Stamp::of(metadata), Instant::now()))
    }

    pub(super) fn holds(&self, path: &Path) -> bool {
        self.inputs.contains_key(path)
    }

    /// Returns by what a known file can be told that may be one of those that wait.
    pub(super) fn hidden(&self) -> Hidden {
        let mut hidden = Hidden::default();
        for (path, input) in &self.inputs {
            match input.what {
                What::Directory => {
                    hidden.directories.insert(path.clone());
                }
                What::File => {
                    hidden.places.extend(input.seen.map(|seen| (seen.place.inode, seen.place)));
                    hidden.names.add(&names::label_of(path), ());
                }
                What::Link => {}
            }
        }
        hidden
    }

    /// Takes a look at everything: what is no input any more does not wait.
    pub(super) fn look(&mut self, found: &[(PathBuf, Metadata)], failed: &HashSet<&Path>) {
        if self.inputs.is_empty() {
            return;
        }
        let now = Instant::now();
        let files: BTreeMap<&Path, Inode> = found.iter().map(|(path, metadata)| (path.as_path(), Inode::of(metadata))).collect();
        let over: Vec<(PathBuf, What)> = self
            .inputs
            .iter()
            .filter(|(path, _)| !failed.contains(path.as_path()))
            .filter(|(path, input)| input.what == What::Link || !files.contains_key(path.as_path()))
            .filter(|(path, input)| match input.what {
                What::Directory => fs::read_dir(path).is_ok() || !path.exists(),
                What::File => input.is_abandoned(now) || !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()),
                What::Link => true,
            })
            .map(|(path, input)| (path.clone(), input.what))
            .collect();
        for (path, what) in over {
            match what {
                What::Directory | What::Link if path.exists() => self.well(&path),
                What::File if path.exists() => self.end(&path, "an input that waited is not looked for any more"),
                _ => self.end(&path, "an input that waited is gone"),
            }
        }
    }

    /// Takes out the files that matched and are not in their place any more, and returns those that were found under no other name.
    pub(super) fn take_strays(&mut self, found: &[(PathBuf, Metadata)]) -> Vec<Stray> {
        let mut strays = std::mem::take(&mut self.strays);
        if self.inputs.is_empty() {
            return strays;
        }
        let files: HashMap<&Path, Place> = found.iter().map(|(path, metadata)| (path.as_path(), Place::of(metadata))).collect();
        let went = self.inputs.extract_if(.., |path, input| {
            let Some(seen) = input.seen.filter(|_| input.what == What::File) else { return false };
            let now = files.get(path.as_path()).copied().or_else(|| fs::metadata(path).ok().as_ref().map(Place::of));
            input.matched && seen.length > 0 && !now.is_some_and(|now| now.may_be(&seen.place))
        });
        strays.extend(went.filter_map(|(path, Input { seen, why, damaged, .. })| Some(Stray { path, place: seen?.place, why, damaged })));
        if !strays.is_empty() {
            self.publish();
        }
        let found: HashMap<Inode, &Place> = files.values().map(|place| (place.inode, place)).collect();
        strays.retain(|stray| !found.get(&stray.place.inode).is_some_and(|place| place.may_be(&stray.place)));
        strays
    }

    /// Keeps a file that could not be searched for everywhere until the next look.
    pub(super) fn keep_stray(&mut self, stray: Stray) {
        self.strays.push(stray);
    }

    /// Returns the files that matched, have another name now, and are to be tried again.
    pub(super) fn due_strays(&self, found: &[(PathBuf, Metadata)]) -> Vec<PathBuf> {
        if !self.inputs.values().any(|input| input.matched) {
            return Vec::new();
        }
        let files: HashSet<&Path> = found.iter().map(|(path, _)| path.as_path()).collect();
        let strayed = self.inputs.iter().filter(|(path, input)| input.matched && !files.contains(path.as_path()));
        let due = strayed.filter(|(path, _)| fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && !self.waits(path, &metadata)));
        due.map(|(path, _)| path.clone()).collect()
    }

    /// Returns what is to be said at the end of an input that was read once; nothing if all of it was read. What no line of the log has named yet is named.
    pub(super) fn unread(&self) -> Option<Error> {
        lines_of(self.inputs.iter().filter(|(_, input)| !input.named)).for_each(|(inputs, left_out)| {
            warn!(inputs, left_out, "further inputs cannot be read: they are left out");
        });
        let (path, first) = self.inputs.first_key_value()?;
        let why = &first.why;
        let others = match self.inputs.len() - 1 {
            0 => String::new(),
            others => format!(", and {others} more"),
        };
        let path = escape::line(&names::label_of(path)).into_owned();
        Some(Error::new(
            ErrorKind::Io,
            format!("`{path}` could not be read{others}; everything else is committed, start again when that is fixed: {why}"),
        ))
    }
}

/// Names inputs in lines of bounded length: how many, and each with its reason.
fn lines_of<'a>(inputs: impl Iterator<Item = (&'a PathBuf, &'a Input)>) -> impl Iterator<Item = (usize, String)> {
    let mut named = inputs.map(|(path, input)| format!("`{}`: {}", escape::line(&names::label_of(path)), input.why)).peekable();
    std::iter::from_fn(move || {
        let (mut inputs, mut line) = (1, named.next()?);
        while let Some(next) = named.next_if(|next| line.len() + next.len() < NAMES_BYTES_MAX) {
            line.push_str("; ");
            line.push_str(&next);
            inputs += 1;
        }
        Some((inputs, line))
    })
}

impl Input {
    fn is_due(&self, stamp: Stamp, now: Instant) -> bool {
        let pause = if self.seen == Some(stamp) { self.pause } else { self.pause.min(LONGEST_PAUSE_CHANGED) };
        now.duration_since(self.tried) >= pause
    }

    /// Returns whether it was only met in search of another file, and that is not searched for any more: it would have been tried again.
    fn is_abandoned(&self, now: Instant) -> bool {
        !self.matched && now.saturating_duration_since(self.tried) >= self.pause + ABANDONED
    }
}

impl Hidden {
    /// Returns whether the file of a known position may be one that waits: nothing follows from not having seen it.
    pub(super) fn may_hold(&self, known: &Known) -> bool {
        let label = &*known.partition.label;
        let path = names::path_of(label);
        let same_place = |place: Place| self.places.get(&place.inode).is_some_and(|seen| seen.may_be(&place));
        known.place().is_some_and(same_place)
            || self.names.has_any_to(label)
            || path.ancestors().any(|above| self.directories.contains(above))
    }
}
