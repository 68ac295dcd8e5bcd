//! A crash at every operation of the commit protocol.
//!
//! Owns: an `Fs` over the real disk that numbers its operations and dies before or after a given one, by SIGKILL in a process of its
//! own or, for crashes within recovery, by refusing everything from there on.
//! Does not own: power cuts, where what was visible may be gone (see `recovery`).

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use pintail_storage::durable::fs::{Entry, EntryKind, FileIdentity, Fs, FsFile, ReadFs};
use pintail_storage::durable::posix::Posix;

use crate::script;

/// The durable steps. One that no crash hits means that the protocol no longer does it.
const STEPS: [&str; 11] = ["create", "write", "sync", "mkdir", "sync_file", "sync_dir", "rename", "link", "exchange", "remove", "rmdir"];

/// Where a run dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// The operation is not done; of a write, half is.
    Before,
    /// The operation is done, and nothing after it.
    After,
}

/// How it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// SIGKILL. What the process had in memory, destructors included, is gone.
    Kill,
    /// Every further operation fails: the same to the disk, within this process.
    Refuse,
}

/// A crash to come.
#[derive(Debug)]
pub(crate) struct Crash {
    at: u64,
    when: When,
    how: How,
    done: AtomicU64,
    dead: AtomicBool,
    /// The step it died at.
    hit: Mutex<Option<&'static str>>,
    /// Where to leave the name of that step if the process dies.
    note: Option<PathBuf>,
}

impl Crash {
    /// Plans a crash at the operation numbered `at`, from 1.
    pub(crate) fn new(at: u64, when: When, how: How, note: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self { at, when, how, done: AtomicU64::new(0), dead: AtomicBool::new(false), hit: Mutex::new(None), note })
    }

    /// Returns the step that it died at; `None` if it lives.
    pub(crate) fn hit(&self) -> Option<&'static str> {
        *self.hit.lock().unwrap()
    }

    fn alive(&self) -> io::Result<()> {
        if self.dead.load(Ordering::SeqCst) { Err(io::Error::other("dead")) } else { Ok(()) }
    }

    fn die(&self, step: &'static str) -> io::Error {
        if let Some(note) = &self.note {
            std::fs::write(note, step).unwrap();
        }
        if self.how == How::Kill {
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::KILL).unwrap();
        }
        *self.hit.lock().unwrap() = Some(step);
        self.dead.store(true, Ordering::SeqCst);
        io::Error::other("dead")
    }

    /// Does a numbered operation, of which `half` is what a crash in its middle leaves.
    fn step<T>(&self, step: &'static str, half: impl FnOnce(), whole: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.alive()?;
        let hit = self.done.fetch_add(1, Ordering::SeqCst) + 1 == self.at;
        match (hit, self.when) {
            (true, When::Before) => {
                half();
                Err(self.die(step))
            }
            (true, When::After) => {
                whole()?;
                Err(self.die(step))
            }
            (false, _) => whole(),
        }
    }
}

/// A file system that numbers its operations and dies at one.
#[derive(Debug)]
pub(crate) struct CrashingFs {
    disk: Arc<dyn Fs>,
    crash: Arc<Crash>,
}

impl CrashingFs {
    /// Puts the crash between the caller and `disk`.
    pub(crate) fn over(disk: Arc<dyn Fs>, crash: &Arc<Crash>) -> Arc<dyn Fs> {
        Arc::new(Self { disk, crash: crash.clone() })
    }
}

impl ReadFs for CrashingFs {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        self.crash.alive()?;
        self.disk.open(path)
    }

    fn entry(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        self.crash.alive()?;
        self.disk.entry(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.crash.alive()?;
        self.disk.list(dir)
    }
}

impl Fs for CrashingFs {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = self.crash.step("create", || (), || self.disk.create_new(path))?;
        Ok(Box::new(CrashingFile { file, crash: self.crash.clone() }))
    }

    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        self.crash.alive()?;
        self.disk.identity(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.crash.step("mkdir", || (), || self.disk.create_dir(path))
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.crash.step("sync_file", || (), || self.disk.sync_file(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.crash.step("sync_dir", || (), || self.disk.sync_dir(dir))
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.crash.step("rename", || (), || self.disk.rename_noreplace(from, to))
    }

    fn create_dir_like(&self, path: &Path, like: &Path) -> io::Result<()> {
        self.crash.step("mkdir", || (), || self.disk.create_dir_like(path, like))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.crash.step("link", || (), || self.disk.link(from, to))
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.crash.step("exchange", || (), || self.disk.exchange(one, other))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.crash.step("remove", || (), || self.disk.remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.crash.step("rmdir", || (), || self.disk.remove_dir(path))
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        self.crash.alive()?;
        self.disk.device(path)
    }
}

#[derive(Debug)]
struct CrashingFile {
    file: Box<dyn FsFile>,
    crash: Arc<Crash>,
}

impl Write for CrashingFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let file = std::cell::RefCell::new(&mut self.file);
        let half = || file.borrow_mut().write_all(&buf[..buf.len() / 2]).unwrap();
        self.crash.step("write", half, || file.borrow_mut().write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.crash.alive()
    }
}

impl FsFile for CrashingFile {
    fn sync(&mut self) -> io::Result<()> {
        self.crash.step("sync", || (), || self.file.sync())
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        self.crash.alive()?;
        self.file.identity()
    }
}

const CHILD: &str = "PINTAIL_TEST_CRASH";

/// The process that dies: `<at> <before|after> <root>`. Run as a test of its own, it lives to the end of the script.
#[test]
fn the_script_without_a_crash_runs_to_its_end() {
    let Ok(order) = std::env::var(CHILD) else {
        let dir = script::scratch();
        let fs: Arc<dyn Fs> = Arc::new(Posix::default());
        script::check_completes(&fs, &dir.path().join("out")).unwrap();
        return;
    };
    let mut words = order.splitn(3, ' ');
    let at = words.next().unwrap().parse().unwrap();
    let when = if words.next() == Some("before") { When::Before } else { When::After };
    let root = PathBuf::from(words.next().unwrap());
    let crash = Crash::new(at, when, How::Kill, Some(root.with_extension("step")));
    script::run(&CrashingFs::over(Arc::new(Posix::default()), &crash), &root, &mut |_| ()).unwrap();
}

/// Runs the script in a process that dies at operation `at`. Returns the step it died at; `None` if it lived.
fn killed_at(at: u64, when: When, root: &Path) -> Option<String> {
    let word = if when == When::Before { "before" } else { "after" };
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["the_script_without_a_crash_runs_to_its_end", "--test-threads=1"])
        .env(CHILD, format!("{at} {word} {}", root.display()))
        .output()
        .unwrap();
    let step = std::fs::read_to_string(root.with_extension("step")).ok();
    assert_eq!(child.status.success(), step.is_none(), "at {at} {word}: {}", String::from_utf8_lossy(&child.stderr));
    step
}

#[test]
fn a_kill_before_or_after_any_operation_leaves_exactly_the_committed_checkpoints() {
    let fs: Arc<dyn Fs> = Arc::new(Posix::default());
    let mut hit = BTreeSet::new();
    for when in [When::Before, When::After] {
        let mut records = 0;
        for at in 1.. {
            let dir = script::scratch();
            let root = dir.path().join("out");
            let Some(step) = killed_at(at, when, &root) else { break };
            hit.insert(step);
            let seen = script::check_crashed(&*fs, &root).unwrap();
            assert!(seen >= records, "at {at} {when:?}: {seen} records, {records} one operation earlier");
            records = seen;
            assert_eq!(script::check_recovered(&fs, &root), Ok(records), "at {at} {when:?}: recovery neither adds nor takes away");
            script::check_completes(&fs, &root).unwrap();
        }
        assert_eq!(records, script::STEPS, "the last crash comes after the last commit");
    }
    assert_eq!(hit, STEPS.map(str::to_owned).into(), "the steps that a crash hit");
}

#[test]
fn a_recovery_that_crashes_at_every_one_of_its_operations_still_completes() {
    let disk: Arc<dyn Fs> = Arc::new(Posix::default());
    let mut hit = BTreeSet::new();
    'script: for at in 1.. {
        // Each recovery dies one operation later than the one before, until one lives.
        for when in [When::Before, When::After] {
            let dir = script::scratch();
            let root = dir.path().join("out");
            let crash = Crash::new(at, When::After, How::Refuse, None);
            if script::run(&CrashingFs::over(disk.clone(), &crash), &root, &mut |_| ()).is_ok() {
                break 'script;
            }
            let records = script::check_crashed(&*disk, &root).unwrap();
            for later in 1.. {
                let crash = Crash::new(later, when, How::Refuse, None);
                match script::open(CrashingFs::over(disk.clone(), &crash), &root) {
                    Ok(_) => break,
                    Err(error) => hit.insert(crash.hit().unwrap_or_else(|| panic!("recovery refused on its own: {error}"))),
                };
                script::check_crashed(&*disk, &root).unwrap();
            }
            assert_eq!(script::check_recovered(&disk, &root), Ok(records), "script killed at {at}, recoveries {when:?}");
        }
    }
    assert_eq!(hit, STEPS.into(), "the steps of recovery that a crash hit");
}
