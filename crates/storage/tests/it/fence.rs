//! Two processes on one dataset, and no lock that works: the fence alone keeps them apart.
//!
//! Owns: what the processes do, the schedules that are tried (every kind of operation of one against every kind of the other, drawn beyond), the
//! oracle.
//! Does not own: carrying out a schedule (see `fence::turns`), processes that ask for other partition columns (see `fence::layouts`), the disk (see
//! `model`).
//!
//! The oracle: every visible file is exactly what the records say, written by the process whose record names it; the ranges of the checkpoints
//! join, so that each record of the source is there once; what was acknowledged is there; whoever was not fenced by a younger open record ends
//! well; whoever was ends with [`ErrorKind::TryAgain`] or an error of the disk.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use chrono::DateTime;
use pintail_core::batch::DeadLetterCounts;
use pintail_core::error::{ErrorKind, Result};
use pintail_storage::checkpoint::record::{CommitRecord, FileEntry, Replaced, Rewrite};
use pintail_storage::checkpoint::store::{NewFile, Rewriting, Store};
use pintail_storage::durable::fs::{Fs, ReadFs};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::model::{Model, Renames};
use crate::script::{Checked, commit_files, committed, named, open_as, stage, tree};
use crate::sequences::{Event, Faulty};
use crate::states::ROOT;

mod layouts;
mod turns;

use turns::{Done, Kind, NONCES, Scheduled, Turn, Turns};

/// Opens the dataset as the process of a nonce.
fn open(fs: Arc<dyn Fs>, nonce: &str, records_max: u64) -> Result<Store> {
    open_as(named(nonce), fs, Path::new(ROOT), records_max)
}

/// What the file at `path` holds if the process of `nonce` writes the records from `from` to it: of the same length whoever writes it.
fn content(nonce: &str, from: u64, path: &str) -> Vec<u8> {
    format!("{nonce} {from:06} {path}\n").repeat(3).into_bytes()
}

/// Commits a checkpoint of two files, of which one is in a new directory.
fn commit(store: &mut Store, nonce: &str) -> Result<()> {
    let (from, sequence, mut staging) = (committed(store), store.next_sequence(), store.staging());
    let mut files = Vec::new();
    for region in ["us".to_owned(), format!("r{sequence}")] {
        let path = format!("region={region}/events-2026-01-01-00-{sequence}.parquet");
        let content = content(nonce, from, &path);
        files.push(stage(&mut staging, path, &content)?);
    }
    commit_files(store, staging, files, DeadLetterCounts::default())
}

/// Rewrites the files that the two processes share a directory for: all that the records before name there become one.
fn rewrite(store: &mut Store, nonce: &str, chain: &[CommitRecord]) -> Result<()> {
    let (sequence, mut staging) = (store.next_sequence(), store.staging());
    let mut replaces = BTreeMap::new();
    for record in chain.iter().filter(|record| record.sequence < sequence) {
        for file in record.files.iter().filter(|file| file.path.starts_with("region=us/")) {
            replaces.insert(file.path.clone(), file.rows);
        }
        record.rewrite.iter().flat_map(|rewrite| &rewrite.replaces).for_each(|file| _ = replaces.remove(&file.path));
    }
    let path = format!("region=us/events-2026-01-01-00-{sequence}.parquet");
    let staged = stage(&mut staging, path.clone(), &content(nonce, 0, &path))?;
    let merged = NewFile { rows: replaces.values().sum(), ..staged };
    let replaces = replaces.into_iter().map(|(path, rows)| Replaced { path, rows }).collect();
    let rewriting = Rewriting { rewrite: Rewrite { generation: 1, replaces }, files: vec![merged], time: DateTime::UNIX_EPOCH };
    store.rewrite(staging, rewriting).map(|_| ())
}

/// How a process ended.
#[derive(Debug)]
struct End {
    result: Result<()>,
    killed: bool,
    /// Records of the source that it acknowledged.
    acknowledged: u64,
    done: Vec<Done>,
}

/// What two processes do at the same time: the first is open already, or opens too; each commits so many checkpoints.
#[derive(Debug, Clone, Copy)]
struct Scene {
    first_is_open: bool,
    commits: [usize; 2],
    /// Whether each rewrites behind its first commit.
    rewrites: [bool; 2],
    records_max: u64,
}

impl Scene {
    /// Runs it on an empty disk. Returns the disk and how each ended.
    fn run(self, plan: &[Turn]) -> (Model, [End; 2]) {
        let model = Model::new().without_moments();
        let opened = self.first_is_open.then(|| {
            let mut store = open(model.handle(), "0000000000000000", self.records_max).unwrap();
            commit(&mut store, "0000000000000000").unwrap();
            drop(store);
        });
        let turns = Turns::new(plan);
        let ends = std::thread::scope(|scope| {
            let start = |who: usize| {
                let scheduled = Scheduled::over(&model, &turns, who);
                // What the first does before the plan begins is nobody's turn.
                let held = (who == 0 && opened.is_some()).then(|| turns.free(who));
                let store = held.map(|()| open(Arc::new(scheduled.clone()), NONCES[who], self.records_max).unwrap());
                turns.bind(who);
                scope.spawn(move || {
                    let mut acknowledged = 0;
                    let result = self.process(who, store, &scheduled, &mut acknowledged);
                    let (killed, done) = scheduled.end();
                    End { result, killed, acknowledged, done }
                })
            };
            let threads = [start(0), start(1)];
            turns.begin();
            threads.map(|thread| thread.join().unwrap())
        });
        (model, ends)
    }

    fn process(self, who: usize, store: Option<Store>, fs: &Scheduled, acknowledged: &mut u64) -> Result<()> {
        let mut store = match store {
            Some(store) => store,
            None => open(Arc::new(fs.clone()), NONCES[who], self.records_max)?,
        };
        *acknowledged = committed(&store);
        let mut rewrites = self.rewrites[who];
        for _ in 0..self.commits[who] {
            commit(&mut store, NONCES[who])?;
            *acknowledged = committed(&store);
            if std::mem::take(&mut rewrites) {
                rewrite(&mut store, NONCES[who], &chain(fs.model()).unwrap())?;
            }
        }
        Ok(())
    }

    /// Runs it and holds the end against the oracle. Returns what each did.
    fn check(self, plan: &[Turn]) -> Checked<[Vec<Done>; 2]> {
        let (model, ends) = self.run(plan);
        let chain = chain(&model)?;
        let youngest = chain.iter().rev().find_map(|record| record.opened.as_ref()).map(|process| process.nonce.clone());
        for (nonce, end) in NONCES.iter().zip(&ends) {
            match &end.result {
                _ if end.killed => {}
                Ok(()) => {}
                // One that began to open the dataset has taken its rewrite over, and was killed before its own record.
                Err(error)
                    if error.kind() == ErrorKind::TryAgain && self.rewrites != [false, false] && ends.iter().any(|end| end.killed) => {}
                Err(error) if youngest.as_deref() == Some(nonce) => return Err(format!("{nonce} was not fenced and ended: {error}")),
                Err(error) if !chain.iter().any(|record| record.opened.as_ref().is_some_and(|by| by.nonce == *nonce)) => {
                    return Err(format!("{nonce} could not open the dataset: {error}"));
                }
                Err(error) if matches!(error.kind(), ErrorKind::TryAgain | ErrorKind::Io) => {}
                Err(error) => return Err(format!("{nonce} was fenced and says {:?}: {error}", error.kind())),
            }
        }
        let acknowledged = ends.iter().map(|end| end.acknowledged).max().unwrap_or(0);
        let all_ended = ends.iter().all(|end| end.result.is_ok());
        check_disk(&model, acknowledged, all_ended)?;
        // Whatever was left behind, the next start goes on, and so it does after a power cut.
        let cuts = [model.disk().barest_cut(), model.disk().drawn_cut(acknowledged)];
        let cuts = cuts.map(|disk| Model::over(disk, 0, Renames::Atomic).without_moments());
        for disk in std::iter::once(model).chain(cuts) {
            let mut store =
                open(disk.handle(), "cccccccccccccccc", self.records_max).map_err(|error| format!("no start is possible: {error}"))?;
            if committed(&store) < acknowledged {
                return Err(format!("{acknowledged} records were acknowledged, {} are there", committed(&store)));
            }
            check_disk(&disk, acknowledged, true)?;
            commit(&mut store, "cccccccccccccccc").map_err(|error| format!("the next start does not go on: {error}"))?;
            check_disk(&disk, committed(&store), true)?;
        }
        Ok(ends.map(|end| end.done))
    }

    /// Returns what each does if `first` runs to its end before the other begins.
    fn trace(self, first: usize) -> [Vec<Done>; 2] {
        self.check(&[Turn::Run(first, usize::MAX)]).unwrap()
    }

    /// Returns the kinds of operations before which `stands` may stand while the other goes on, each with a kind of change after which that one may
    /// be stopped.
    fn kinds(self, stands: usize) -> impl Iterator<Item = (Kind, Kind)> {
        let goes = 1 - stands;
        let first = self.trace(stands);
        // It does one thing or another, by what it finds.
        let changes = [kinds(&first[goes]), kinds(&self.trace(goes)[goes])].concat();
        let changes: Vec<_> = changes.into_iter().filter(Kind::is_change).collect();
        kinds(&first[stands]).into_iter().flat_map(move |kind| changes.clone().into_iter().map(move |change| (kind.clone(), change)))
    }
}

/// Returns what operations are of, as far as another process has to do with them.
fn kinds(done: &[Done]) -> Vec<Kind> {
    done.iter().filter_map(Kind::of).collect()
}

/// Reads the records, oldest first.
fn chain(model: &Model) -> Checked<Vec<CommitRecord>> {
    let files = tree(model, &Path::new(ROOT).join("_pintail/commits"));
    let read = |(path, bytes): (PathBuf, Vec<u8>)| {
        let sequence = path.file_stem()?.to_str()?.parse().ok()?;
        Some(CommitRecord::parse(&bytes, sequence).map(|(record, _)| record).map_err(|why| format!("{}: {why}", path.display())))
    };
    files.into_iter().filter(|(path, _)| path.extension().is_some_and(|ending| ending == "json")).filter_map(read).collect()
}

/// Holds the visible files against the records. `complete` says that no commit is under way: then each file that a record names is there.
fn check_disk(model: &Model, acknowledged: u64, complete: bool) -> Checked<()> {
    let chain = chain(model)?;
    let writer = |epoch: u64| chain.iter().find(|record| record.sequence == epoch).and_then(|record| record.opened.as_ref());
    let (mut named, mut next) = (BTreeMap::new(), 0);
    for (at, record) in chain.iter().enumerate() {
        if record.sequence != at as u64 + 1 {
            return Err(format!("record {} is in the place of {}", record.sequence, at + 1));
        }
        for span in &record.source.partitions {
            if span.from != next {
                return Err(format!("record {} begins at {}, the one before it ended at {next}", record.sequence, span.from));
            }
            next = span.to;
        }
        let nonce = writer(record.epoch).map(|by| by.nonce.clone()).ok_or(format!("record {} is of no process", record.sequence))?;
        for file in &record.files {
            let from = record.source.partitions.first().map_or(0, |span| span.from);
            named.insert(Path::new(ROOT).join(&file.path), content(&nonce, from, &file.path));
        }
        // Of the last record, the exchange may still be to come.
        let has_come = |file: &FileEntry| matches!(model.entry(&Path::new(ROOT).join(&file.path)), Ok(Some(_)));
        let is_to_come = !complete && at + 1 == chain.len() && !record.files.iter().any(has_come);
        for file in record.rewrite.iter().flat_map(|rewrite| &rewrite.replaces) {
            let path = Path::new(ROOT).join(&file.path);
            if !is_to_come {
                named.remove(&path);
            } else if !matches!(model.entry(&path), Ok(Some(_))) {
                return Err(format!("{} is gone before others are in its place", path.display()));
            }
        }
    }
    if next < acknowledged {
        return Err(format!("{acknowledged} records were acknowledged, the chain has {next}"));
    }
    let mut files = tree(model, Path::new(ROOT));
    files.retain(|path, _| path.extension().is_some_and(|ending| ending == "parquet"));
    for (path, bytes) in &files {
        match named.get(path) {
            Some(right) if right == bytes => {}
            Some(_) => return Err(format!("{} is not the file of the process whose record names it", path.display())),
            None => return Err(format!("{} is visible, and no record names it", path.display())),
        }
    }
    let missing = named.keys().find(|path| !files.contains_key(*path));
    missing.filter(|_| complete).map_or(Ok(()), |path| Err(format!("{} is named by a record and is not there", path.display())))
}

/// A process that was at work when another one opened the dataset, with a snapshot due at each moment that there is.
fn scenes() -> Vec<Scene> {
    let one = Scene { first_is_open: true, commits: [2, 1], rewrites: [false, false], records_max: 64 };
    let rewriting = Scene { rewrites: [true, false], ..one };
    let both = Scene { rewrites: [true, true], ..one };
    vec![Scene { first_is_open: false, commits: [1, 1], records_max: 2, ..one }, one, Scene { records_max: 3, ..one }, rewriting, both]
}

/// Tries all of `plans`. Panics with the first findings, each named once.
fn try_all(scene: Scene, plans: impl Iterator<Item = Vec<Turn>>) -> usize {
    let (mut tried, mut found) = (0, BTreeMap::new());
    for plan in plans {
        tried += 1;
        if let Err(why) = scene.check(&plan) {
            found.entry(why).or_insert_with(Vec::new).push(plan);
        }
    }
    let shown: BTreeSet<String> =
        found.iter().map(|(why, plans)| format!("{why} ({} times, for instance {:?})", plans.len(), plans[0])).collect();
    assert!(found.is_empty(), "{scene:?}: {shown:#?}");
    tried
}

/// Pairs of numbers of operations of two processes that are drawn of each scene, beside all pairs of kinds.
const DRAWN: usize = 200;

/// Returns whether all pairs of numbers of operations are tried, which takes minutes.
fn all() -> bool {
    std::env::var_os("PINTAIL_TEST_FENCE_ALL").is_some()
}

/// Tries schedules in which one process stands somewhere while the other goes some way, and `then` happens. Which these are follows from what the
/// two do, not from how much: of each scene all pairs of kinds of operations that none before it had.
fn try_stands(then: impl Fn(usize, usize) -> Turn) -> usize {
    let (mut tried, mut random, mut pairs) = (0, StdRng::seed_from_u64(1), HashSet::new());
    for scene in scenes() {
        for (stands, goes) in [(0, 1), (1, 0)] {
            let plans = scene.kinds(stands).filter(|pair| pairs.insert(pair.clone()));
            let plans = plans.map(|(at, after)| vec![Turn::Before(stands, at), Turn::After(goes, after), then(stands, goes)]);
            tried += try_all(scene, plans);
            let (at_most, up_to) = (scene.trace(stands)[stands].len(), scene.trace(goes)[goes].len());
            let numbers: Vec<_> = if all() {
                (0..=at_most).flat_map(|at| (0..=up_to).map(move |up_to| (at, up_to))).collect()
            } else {
                (0..DRAWN).map(|_| (random.random_range(..=at_most), random.random_range(..=up_to))).collect()
            };
            let plans = numbers.into_iter().map(|(at, up_to)| vec![Turn::Run(stands, at), Turn::Run(goes, up_to), then(stands, goes)]);
            tried += try_all(scene, plans);
        }
    }
    tried
}

#[test]
fn an_old_process_stopped_anywhere_while_a_new_one_goes_any_distance_publishes_nothing_under_a_record_of_the_other() {
    let begin = Instant::now();
    let tried = try_stands(|stands, _| Turn::Run(stands, usize::MAX));
    writeln!(std::io::stderr(), "fence: {tried} schedules of two processes; {:.1?}", begin.elapsed()).unwrap();
}

#[test]
fn either_process_killed_anywhere_beside_the_other_leaves_what_the_records_say() {
    let begin = Instant::now();
    let tried = try_stands(|_, goes| Turn::Kill(goes));
    writeln!(std::io::stderr(), "fence: {tried} schedules with a kill; {:.1?}", begin.elapsed()).unwrap();
}

#[test]
fn a_start_that_looks_at_the_disk_while_the_other_process_changes_it_takes_nothing_for_lost() {
    let (begin, mut tried) = (Instant::now(), 0);
    for scene in scenes().into_iter().filter(|scene| scene.first_is_open) {
        let changes: HashSet<Kind> = kinds(&scene.trace(0)[0]).into_iter().filter(Kind::is_change).collect();
        for change in changes {
            let before = Turn::Before(0, change.clone());
            let done = scene.check(&[before.clone(), Turn::Run(1, usize::MAX)]).unwrap();
            let looks: HashSet<Kind> = kinds(&done[1]).into_iter().filter(|kind| !kind.is_change()).collect();
            let amid = |look| vec![before.clone(), Turn::Before(1, look), Turn::After(0, change.clone()), Turn::Run(1, usize::MAX)];
            tried += try_all(scene, looks.into_iter().map(amid));
        }
    }
    writeln!(std::io::stderr(), "fence: {tried} schedules of a look amid a change; {:.1?}", begin.elapsed()).unwrap();
}

#[test]
fn a_process_alone_whose_disk_fails_anywhere_is_never_told_that_another_one_writes() {
    for at in 1.. {
        let model = Model::new();
        let fs: Arc<dyn Fs> = Arc::new(Faulty::over(&model, at, Event::Broken));
        match open(fs, NONCES[0], 2).and_then(|mut store| (0..2).try_for_each(|_| commit(&mut store, NONCES[0]))) {
            Ok(()) => return assert!(at > 80, "{at} calls"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "call {at}: {error}"),
        }
    }
}

#[test]
fn two_processes_that_take_turns_at_random_never_mix_their_files() {
    let begin = Instant::now();
    let mut tried = 0;
    for scene in scenes() {
        let drawn = |seed: u64| {
            let mut random = StdRng::seed_from_u64(seed);
            let longest = 1 << random.random_range(0..6);
            (0..200).map(|_| Turn::Run(random.random_range(0..2), random.random_range(1..=longest))).collect()
        };
        tried += try_all(scene, (0..if all() { 1000 } else { 350 }).map(drawn));
    }
    writeln!(std::io::stderr(), "fence: {tried} drawn schedules; {:.1?}", begin.elapsed()).unwrap();
}
