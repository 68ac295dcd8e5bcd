//! Two processes that run by turns: each operation of either waits until a plan says so.
//!
//! Owns: the plan, whose turn it is, kills, and the kinds of operations by which a plan says where a process stands.
//! Does not own: what the processes do, which plans are tried (see `fence`).

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use pintail_storage::durable::fs::{Entry, EntryKind, FileIdentity, Fs, FsFile, ReadFs};

use crate::model::{Model, Step};

/// The nonces of the two processes.
pub(super) const NONCES: [&str; 2] = ["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"];

/// What a process does to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Operation {
    Change(Step),
    Open,
    Entry,
    Identity,
    List,
    /// What no other process notices, nor changes: the bytes of a file that it is writing, a device.
    Unseen,
}

/// An operation of a process.
#[derive(Debug, Clone)]
pub(super) struct Done {
    /// Whether the process has its open record.
    opened: bool,
    operation: Operation,
    path: PathBuf,
}

/// A kind of operation: what is done to a file of which role, before or after the process has its open record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    opened: bool,
    operation: Operation,
    role: String,
}

impl Kind {
    /// Returns the kind of an operation; `None` if no other process has to do with it.
    pub(super) fn of(done: &Done) -> Option<Self> {
        let seen = done.operation != Operation::Unseen;
        seen.then(|| Self { opened: done.opened, operation: done.operation, role: role(&done.path) })
    }

    /// Returns whether it changes what another process, or the next start, finds.
    pub(super) fn is_change(&self) -> bool {
        matches!(self.operation, Operation::Change(_))
    }

    fn is_of(&self, done: &Done) -> bool {
        (self.opened, self.operation) == (done.opened, done.operation) && self.role == role(&done.path)
    }
}

/// Returns a path without what differs from process to process and from checkpoint to checkpoint.
fn role(path: &Path) -> String {
    let path = NONCES.iter().fold(path.display().to_string(), |path, nonce| path.replace(nonce, "0"));
    path.chars().filter(|character| !character.is_ascii_digit()).collect()
}

/// A part of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    /// A process does so many operations, or all that it has.
    Run(usize, usize),
    /// A process goes on until it is about to do an operation of a kind, or ends.
    Before(usize, Kind),
    /// A process goes on until it has done an operation of a kind, or ends.
    After(usize, Kind),
    /// A process does nothing more.
    Kill(usize),
}

#[derive(Debug, Default)]
struct State {
    /// What is left of the plan, the next part last.
    plan: Vec<Turn>,
    begun: bool,
    free: [bool; 2],
    ended: [bool; 2],
    killed: [bool; 2],
    opened: [bool; 2],
    done: [Vec<Done>; 2],
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

impl Turns {
    /// Takes a plan. After it the first process runs to its end, then the second.
    pub(super) fn new(plan: &[Turn]) -> Arc<Self> {
        let rest = [Turn::Run(0, usize::MAX), Turn::Run(1, usize::MAX)];
        let plan = plan.iter().cloned().chain(rest).rev().collect();
        Arc::new(Self { state: Mutex::new(State { plan, ..State::default() }), changed: Condvar::new() })
    }

    /// Lets a process do what it wants, uncounted.
    pub(super) fn free(&self, who: usize) {
        self.state().free[who] = true;
    }

    /// Makes a process wait for its turns.
    pub(super) fn bind(&self, who: usize) {
        self.state().free[who] = false;
    }

    /// Begins the plan: both processes are there.
    pub(super) fn begin(&self) {
        self.state().begun = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits for the turn of `who`. Holds the turn until the guard goes: no operation runs beside another.
    fn turn(&self, who: usize, operation: Operation, path: &Path) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if state.free[who] {
            return Ok(state);
        }
        let next = Done { opened: state.opened[who], operation, path: path.to_path_buf() };
        loop {
            if state.begun && state.advance() {
                self.changed.notify_all();
            }
            if state.killed[who] {
                return Err(io::Error::other("killed"));
            }
            if state.begun && state.lets(who, &next) {
                state.done[who].push(next);
                return Ok(state);
            }
            // It may stand where it was to stand.
            if state.begun && state.advance() {
                self.changed.notify_all();
            } else {
                state = self.changed.wait(state).unwrap();
            }
        }
    }

    fn end(&self, who: usize) -> (bool, Vec<Done>) {
        let mut state = self.state();
        state.ended[who] = true;
        state.advance();
        self.changed.notify_all();
        (state.killed[who], std::mem::take(&mut state.done[who]))
    }
}

impl State {
    /// Passes over what is done of the plan. Returns whether anything was.
    fn advance(&mut self) -> bool {
        let before = self.plan.len();
        while let Some(turn) = self.plan.last() {
            match *turn {
                Turn::Run(_, 0) => {}
                Turn::Run(who, _) | Turn::Before(who, _) | Turn::After(who, _) if !self.ended[who] && !self.killed[who] => break,
                Turn::Run(..) | Turn::Before(..) | Turn::After(..) => {}
                Turn::Kill(who) => self.killed[who] = !self.ended[who],
            }
            self.plan.pop();
        }
        self.plan.len() != before
    }

    /// Returns whether the plan lets a process do this now.
    fn lets(&mut self, who: usize, next: &Done) -> bool {
        let Some(turn) = self.plan.last_mut() else { return false };
        match turn {
            Turn::Run(whose, left) if *whose == who => *left -= 1,
            Turn::Before(whose, kind) if *whose == who => {
                if kind.is_of(next) {
                    *turn = Turn::Run(who, 0);
                    return false;
                }
            }
            Turn::After(whose, kind) if *whose == who => {
                if kind.is_of(next) {
                    *turn = Turn::Run(who, 0);
                }
            }
            _ => return false,
        }
        true
    }
}

/// The model as one process sees it.
#[derive(Debug, Clone)]
pub(super) struct Scheduled {
    model: Model,
    turns: Arc<Turns>,
    who: usize,
}

impl Scheduled {
    pub(super) fn over(model: &Model, turns: &Arc<Turns>, who: usize) -> Self {
        Self { model: model.clone(), turns: turns.clone(), who }
    }

    /// Returns what it goes by, to be looked at out of turn.
    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    /// Ends the process. Returns whether it was killed, and what it did.
    pub(super) fn end(&self) -> (bool, Vec<Done>) {
        self.turns.end(self.who)
    }

    fn act<T>(&self, operation: Operation, path: &Path, act: impl FnOnce(&Model) -> io::Result<T>) -> io::Result<T> {
        let mut turn = self.turns.turn(self.who, operation, path)?;
        let done = act(&self.model);
        let is_record = path.extension().is_some_and(|ending| ending == "json");
        turn.opened[self.who] |= operation == Operation::Change(Step::Rename) && is_record && done.is_ok();
        done
    }
}

impl ReadFs for Scheduled {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        self.act(Operation::Open, path, |model| model.open(path))
    }

    fn entry(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        self.act(Operation::Entry, path, |model| model.entry(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.act(Operation::List, dir, |model| model.list(dir))
    }
}

impl Fs for Scheduled {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = self.act(Operation::Change(Step::Create), path, |model| model.create_new(path))?;
        Ok(Box::new(ScheduledFile { fs: self.clone(), file, path: path.to_path_buf() }))
    }

    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        self.act(Operation::Identity, path, |model| model.identity(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.act(Operation::Change(Step::Mkdir), path, |model| model.create_dir(path))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.act(Operation::Change(Step::SyncFile), path, |model| model.sync_file(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.act(Operation::Change(Step::SyncDir), dir, |model| model.sync_dir(dir))
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act(Operation::Change(Step::Rename), to, |model| model.rename_noreplace(from, to))
    }

    fn create_dir_like(&self, path: &Path, like: &Path) -> io::Result<()> {
        self.act(Operation::Change(Step::Mkdir), path, |model| model.create_dir_like(path, like))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act(Operation::Change(Step::Link), to, |model| model.link(from, to))
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.act(Operation::Change(Step::Exchange), one, |model| model.exchange(one, other))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.act(Operation::Change(Step::Remove), path, |model| model.remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.act(Operation::Change(Step::Rmdir), path, |model| model.remove_dir(path))
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        self.act(Operation::Unseen, path, |model| model.device(path))
    }
}

#[derive(Debug)]
struct ScheduledFile {
    fs: Scheduled,
    file: Box<dyn FsFile>,
    path: PathBuf,
}

impl Write for ScheduledFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let file = &mut self.file;
        self.fs.act(Operation::Unseen, &self.path, |_| file.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FsFile for ScheduledFile {
    fn sync(&mut self) -> io::Result<()> {
        let file = &mut self.file;
        self.fs.act(Operation::Unseen, &self.path, |_| file.sync())
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        self.fs.act(Operation::Unseen, &self.path, |_| self.file.identity())
    }
}
