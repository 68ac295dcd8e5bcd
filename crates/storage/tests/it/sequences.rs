//! Random sequences of writes, fsyncs, kills, power cuts, a full disk and a broken one.
//!
//! Owns: what goes wrong, when, and what is held afterwards; and the model itself held against the real disk.
//! Does not own: the walk over every crash (see `recovery`), which is exhaustive where this is random and knows no errors.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pintail_storage::durable::fs::{Entry, EntryKind, FileIdentity, Fs, FsFile, ReadFs};
use pintail_storage::durable::posix::Posix;
use proptest::prelude::*;

use crate::model::cuts::Subsets;
use crate::model::{Model, ModelFile, Renames};
use crate::script;
use crate::states::ROOT;

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The process is killed: all that it did stays visible.
    Kill,
    /// The power goes: a drawn subset of what was not durable is there afterwards.
    PowerCut(u64),
    /// ENOSPC, and the process does not wait. Of a write, half went out.
    Full,
    /// EIO. What an fsync was to make durable never will be.
    Broken,
}

/// A model whose call numbered `at` goes wrong.
#[derive(Debug, Clone)]
pub(crate) struct Faulty {
    model: Model,
    at: u64,
    event: Event,
    calls: Arc<AtomicU64>,
    dead: Arc<AtomicBool>,
}

impl Faulty {
    pub(crate) fn over(model: &Model, at: u64, event: Event) -> Self {
        Self { model: model.clone(), at, event, calls: Arc::default(), dead: Arc::default() }
    }

    fn alive(&self) -> io::Result<()> {
        if self.dead.load(Ordering::Relaxed) { Err(io::Error::other("dead")) } else { Ok(()) }
    }

    /// Counts a call. Returns its error if this is the one.
    fn step(&self) -> io::Result<()> {
        self.alive()?;
        if self.calls.fetch_add(1, Ordering::Relaxed) + 1 != self.at {
            return Ok(());
        }
        match self.event {
            Event::Full => Err(ErrorKind::StorageFull.into()),
            Event::Broken => Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())),
            Event::Kill | Event::PowerCut(_) => {
                self.dead.store(true, Ordering::Relaxed);
                self.alive()
            }
        }
    }
}

impl ReadFs for Faulty {
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        self.alive()?;
        self.model.open(path)
    }

    fn entry(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        self.alive()?;
        self.model.entry(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.alive()?;
        self.model.list(dir)
    }
}

impl Fs for Faulty {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        self.step()?;
        let file = self.model.unnamed_file(path);
        self.model.name(path, file.node)?;
        Ok(Box::new(FaultyFile { faulty: self.clone(), file }))
    }

    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        self.alive()?;
        self.model.identity(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.model.create_dir(path)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.model.sync_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step()?;
        self.model.sync_dir(dir)
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        self.model.rename_noreplace(from, to)
    }

    fn create_dir_like(&self, path: &Path, like: &Path) -> io::Result<()> {
        self.step()?;
        self.model.create_dir_like(path, like)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        self.model.link(from, to)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.step()?;
        self.model.exchange(one, other)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.model.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.model.remove_dir(path)
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        self.alive()?;
        self.model.device(path)
    }
}

#[derive(Debug)]
struct FaultyFile {
    faulty: Faulty,
    file: ModelFile,
}

impl Write for FaultyFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let step = self.faulty.step();
        if step.is_err() {
            self.file.write_all(&buf[..buf.len() / 2])?;
        }
        step.map_or_else(Err, |()| self.file.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FsFile for FaultyFile {
    fn sync(&mut self) -> io::Result<()> {
        let step = self.faulty.step();
        if step.is_err() && self.faulty.event == Event::Broken {
            self.file.forget();
        }
        step.and_then(|()| self.file.sync())
    }

    fn identity(&self) -> io::Result<FileIdentity> {
        self.file.identity()
    }
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let event = prop_oneof![
        2 => Just(Event::Kill),
        3 => any::<u64>().prop_map(Event::PowerCut),
        2 => Just(Event::Full),
        2 => Just(Event::Broken),
    ];
    // Most within the script's first run or a recovery, some far into a run.
    let at = prop_oneof![1..60_u64, 1..200_u64];
    prop::collection::vec((at, event), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_goes_wrong_in_whatever_order_each_row_is_there_once_in_the_end(events in events(), last in any::<u64>()) {
        let root = Path::new(ROOT);
        let mut model = Model::new();
        for (at, event) in events {
            let faulty = Faulty::over(&model, at, event);
            let acknowledging = model.clone();
            let fs: Arc<dyn Fs> = Arc::new(faulty);
            let ended = script::run(&fs, root, &mut |checkpoints| acknowledging.announce(checkpoints));
            if let (Err(_), Event::PowerCut(seed)) = (ended, event) {
                model = Model::over(model.disk().drawn_cut(seed), model.acknowledged(), Renames::Atomic);
            }
            let seen = script::check_crashed(&model, root).map_err(TestCaseError::fail)?;
            let lawful = model.acknowledged()..=model.acknowledged() + 1;
            prop_assert!(lawful.contains(&seen), "{seen} checkpoints, lawful are {lawful:?}");
        }
        script::check_completes(&model.handle(), root).map_err(TestCaseError::fail)?;
        let cut = Model::over(model.disk().drawn_cut(last), script::STEPS, Renames::Atomic);
        prop_assert_eq!(script::check_recovered(&cut.handle(), root), Ok(script::STEPS));
    }
}

/// A call on a few names in a few directories.
#[derive(Debug, Clone)]
enum Call {
    Mkdir(u8),
    Rmdir(u8),
    Write(u8, u8, Vec<u8>),
    SyncFile(u8, u8),
    SyncDir(u8),
    SyncRoot,
    Rename((u8, u8), (u8, u8)),
    Link((u8, u8), (u8, u8)),
    Exchange(u8, u8),
    Remove(u8, u8),
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let (dir, name) = (0..2_u8, 0..3_u8);
    let place = (dir.clone(), name.clone());
    let call = prop_oneof![
        dir.clone().prop_map(Call::Mkdir),
        dir.clone().prop_map(Call::Rmdir),
        (dir.clone(), name.clone(), prop::collection::vec(any::<u8>(), 0..5)).prop_map(|(d, n, bytes)| Call::Write(d, n, bytes)),
        place.clone().prop_map(|(d, n)| Call::SyncFile(d, n)),
        dir.prop_map(Call::SyncDir),
        Just(Call::SyncRoot),
        (place.clone(), place.clone()).prop_map(|(from, to)| Call::Rename(from, to)),
        (place.clone(), place.clone()).prop_map(|(from, to)| Call::Link(from, to)),
        Just(Call::Exchange(0, 1)),
        place.prop_map(|(d, n)| Call::Remove(d, n)),
    ];
    prop::collection::vec(call, 1..24)
}

fn dir(root: &Path, dir: u8) -> PathBuf {
    root.join(format!("d{dir}"))
}

fn file(root: &Path, (d, name): (u8, u8)) -> PathBuf {
    dir(root, d).join(format!("f{name}"))
}

fn carry_out(call: &Call, fs: &dyn Fs, root: &Path) -> io::Result<()> {
    match call {
        Call::Mkdir(d) => fs.create_dir(&dir(root, *d)),
        Call::Rmdir(d) => fs.remove_dir(&dir(root, *d)),
        Call::Write(d, name, bytes) => fs.create_new(&file(root, (*d, *name)))?.write_all(bytes),
        Call::SyncFile(d, name) => fs.sync_file(&file(root, (*d, *name))),
        Call::SyncDir(d) => fs.sync_dir(&dir(root, *d)),
        Call::SyncRoot => fs.sync_dir(root),
        Call::Rename(from, to) => fs.rename_noreplace(&file(root, *from), &file(root, *to)),
        Call::Link(from, to) => fs.link(&file(root, *from), &file(root, *to)),
        Call::Exchange(one, other) => fs.exchange(&dir(root, *one), &dir(root, *other)),
        Call::Remove(d, name) => fs.remove_file(&file(root, (*d, *name))),
    }
}

/// What POSIX promises after a power cut, kept beside the model in the plainest way.
#[derive(Debug, Default)]
struct Promises {
    synced: BTreeSet<(u8, u8)>,
    dirs: BTreeSet<u8>,
    files: BTreeSet<(u8, u8)>,
}

impl Promises {
    fn note(&mut self, call: &Call) {
        match call {
            Call::Mkdir(d) | Call::Rmdir(d) => drop(self.dirs.remove(d)),
            Call::Write(d, name, _) | Call::Remove(d, name) => self.unsafe_now((*d, *name)),
            Call::SyncFile(d, name) => drop(self.synced.insert((*d, *name))),
            Call::SyncDir(d) => self.files.extend(self.synced.iter().filter(|place| place.0 == *d)),
            Call::SyncRoot => self.dirs.extend([0, 1]),
            Call::Rename(from, to) => {
                let synced = self.synced.contains(from);
                self.unsafe_now(*from);
                self.unsafe_now(*to);
                if synced {
                    self.synced.insert(*to);
                }
            }
            Call::Link(from, to) => {
                let synced = self.synced.contains(from);
                self.unsafe_now(*to);
                if synced {
                    self.synced.insert(*to);
                }
            }
            Call::Exchange(..) => {
                let other = |(dir, name): &(u8, u8)| (1 - dir, *name);
                self.synced = self.synced.iter().map(other).collect();
                self.files = self.files.iter().map(other).collect();
                self.dirs.clear();
            }
        }
    }

    fn unsafe_now(&mut self, place: (u8, u8)) {
        self.synced.remove(&place);
        self.files.remove(&place);
    }

    fn kept(&self) -> impl Iterator<Item = (u8, u8)> {
        self.files.iter().copied().filter(|place| self.dirs.contains(&place.0))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_model_does_what_the_disk_does_and_keeps_through_any_power_cut_what_was_fsynced(calls in calls()) {
        let (scratch, posix, model) = (script::scratch(), Posix::default(), Model::new());
        let (real, modelled, mut promises) = (scratch.path(), Path::new("/"), Promises::default());
        for call in &calls {
            let (by_disk, by_model) = (carry_out(call, &posix, real), carry_out(call, &model, modelled));
            prop_assert_eq!(by_disk.is_ok(), by_model.is_ok(), "{:?}: {:?}, {:?}", call, by_disk, by_model);
            if by_model.is_ok() {
                promises.note(call);
            }
        }
        let relative = |fs: &dyn Fs, root: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
            script::tree(fs, root).into_iter().map(|(path, bytes)| (path.strip_prefix(root).unwrap().to_owned(), bytes)).collect()
        };
        let visible = relative(&model, modelled);
        prop_assert_eq!(&relative(&posix, real), &visible);
        for cut in model.disk().cuts(Subsets::All).disks {
            let after = relative(&Model::over(cut, 0, Renames::Atomic), modelled);
            for place in promises.kept() {
                let path = file(Path::new(""), place);
                prop_assert_eq!(after.get(&path), visible.get(&path), "{}", path.display());
            }
        }
    }
}
