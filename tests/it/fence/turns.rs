//! Two processes that run by turns: each operation of either waits until a plan says so.
//!
//! Owns: the plan, whose turn it is, kills.
//! Does not own: what the processes do, which plans are tried (see `fence`).

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use pintail::durable::fs::{Entry, EntryKind, FileIdentity, Fs, FsFile};

use crate::model::Model;

/// A part of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A process does so many operations, or all that it has.
    Run(usize, usize),
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
    operations: [usize; 2],
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

impl Turns {
    /// Takes a plan. After it the first process runs to its end, then the second.
    pub fn new(plan: &[Turn]) -> Arc<Self> {
        let rest = [Turn::Run(0, usize::MAX), Turn::Run(1, usize::MAX)];
        let plan = plan.iter().copied().chain(rest).rev().collect();
        Arc::new(Self { state: Mutex::new(State { plan, ..State::default() }), changed: Condvar::new() })
    }

    /// Lets a process do what it wants, uncounted.
    pub fn free(&self, who: usize) {
        self.state().free[who] = true;
    }

    /// Makes a process wait for its turns.
    pub fn bind(&self, who: usize) {
        self.state().free[who] = false;
    }

    /// Begins the plan: both processes are there.
    pub fn begin(&self) {
        self.state().begun = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits for the turn of `who`. Holds the turn until the guard goes: no operation runs beside another.
    fn turn(&self, who: usize) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        loop {
            if state.free[who] {
                return Ok(state);
            }
            if state.begun && state.advance() {
                self.changed.notify_all();
            }
            if state.killed[who] {
                return Err(io::Error::other("killed"));
            }
            match state.plan.last().copied() {
                Some(Turn::Run(whose, left)) if state.begun && whose == who => {
                    *state.plan.last_mut().expect("there is one") = Turn::Run(who, left - 1);
                    state.operations[who] += 1;
                    return Ok(state);
                }
                _ => state = self.changed.wait(state).unwrap(),
            }
        }
    }

    fn end(&self, who: usize) -> (bool, usize) {
        let mut state = self.state();
        state.ended[who] = true;
        state.advance();
        self.changed.notify_all();
        (state.killed[who], state.operations[who])
    }
}

impl State {
    /// Passes over what is done of the plan. Returns whether anything was.
    fn advance(&mut self) -> bool {
        let before = self.plan.len();
        while let Some(turn) = self.plan.last().copied() {
            match turn {
                Turn::Run(who, left) if left > 0 && !self.ended[who] && !self.killed[who] => break,
                Turn::Run(..) => {}
                Turn::Kill(who) => self.killed[who] = !self.ended[who],
            }
            self.plan.pop();
        }
        self.plan.len() != before
    }
}

/// The model as one process sees it.
#[derive(Debug, Clone)]
pub struct Scheduled {
    model: Model,
    turns: Arc<Turns>,
    who: usize,
}

impl Scheduled {
    pub fn over(model: &Model, turns: &Arc<Turns>, who: usize) -> Self {
        Self { model: model.clone(), turns: turns.clone(), who }
    }

    /// Ends the process. Returns whether it was killed, and how many operations it did.
    pub fn end(&self) -> (bool, usize) {
        self.turns.end(self.who)
    }

    fn act<T>(&self, operation: impl FnOnce(&Model) -> io::Result<T>) -> io::Result<T> {
        let turn = self.turns.turn(self.who)?;
        let done = operation(&self.model);
        drop(turn);
        done
    }
}

impl Fs for Scheduled {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = self.act(|model| model.create_new(path))?;
        Ok(Box::new(ScheduledFile { fs: self.clone(), file }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        self.act(|model| model.open(path))
    }

    fn entry(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        self.act(|model| model.entry(path))
    }

    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        self.act(|model| model.identity(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.act(|model| model.list(dir))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.act(|model| model.create_dir(path))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.act(|model| model.sync_file(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.act(|model| model.sync_dir(dir))
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.act(|model| model.rename_noreplace(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.act(|model| model.remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.act(|model| model.remove_dir(path))
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        self.act(|model| model.device(path))
    }
}

#[derive(Debug)]
struct ScheduledFile {
    fs: Scheduled,
    file: Box<dyn FsFile>,
}

impl Write for ScheduledFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let file = &mut self.file;
        self.fs.act(|_| file.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FsFile for ScheduledFile {
    fn sync(&mut self) -> io::Result<()> {
        let file = &mut self.file;
        self.fs.act(|_| file.sync())
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        self.fs.act(|_| self.file.identity())
    }
}
