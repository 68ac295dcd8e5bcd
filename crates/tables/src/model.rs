//! The protocol of publication, on a directory in memory that fails at every step: the same for every format.
//!
//! Owns: the ledger and the directory in memory, kills and two publishers in every order of their steps.
//! Does not own: what is particular to a format (see the tests of [`crate::delta`] and [`crate::iceberg`]).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use arrow::datatypes::DataType;
use chrono::{DateTime, Utc};
use pintail_core::error::{Error, Result};

use crate::audit::Audit;
use crate::facts::{Bound, Chain, Column, DataFile, Dataset, Known, Portion, Settled};
use crate::iceberg::{Iceberg, Policy};
use crate::ledger::Ledger;
use crate::log::{Entry, Log, Made, OnDisk};
use crate::publisher::{Expired, Published, Publisher};

pub(crate) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// A ledger in memory: each record has some files.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    pub dataset: Dataset,
    pub chains: Vec<Chain>,
    pub files: BTreeMap<(u32, u64), Vec<DataFile>>,
    pub gone: BTreeSet<String>,
}

impl Records {
    /// Makes chains of records that have one file each, and of the second instance two.
    pub(crate) fn new(records: &[u64]) -> Self {
        let column = |id, name: &str, data_type| Column { id, name: name.into(), data_type, settled: Settled::InFiles };
        let columns = vec![column(1, "n", DataType::Int64), column(2, "region", DataType::Utf8)];
        let dataset = Dataset { id: "0123456789abcdef0123456789abcdef".into(), partition_by: vec!["region".into()], columns, clash: None };
        let chains = (0..).zip(records).map(|(instance, last)| Chain { instance, last: *last }).collect();
        let mut files = BTreeMap::new();
        for (instance, last) in (0_u32..).zip(records) {
            for sequence in 1..=*last {
                let file = |number: u32| file(&format!("region=a%20b/events-i{instance}-{sequence}-{number}.parquet"), sequence);
                files.insert((instance, sequence), (0..=instance).map(file).collect());
            }
        }
        Self { dataset, chains, files, gone: BTreeSet::new() }
    }

    pub(crate) fn paths(&self) -> BTreeSet<String> {
        let is_committed = |instance: u32, sequence: u64| self.chains.iter().any(|of| of.instance == instance && sequence <= of.last);
        let committed =
            self.files.iter().filter(|((instance, sequence), _)| is_committed(*instance, *sequence)).flat_map(|(_, files)| files);
        committed.map(|file| file.path.clone()).filter(|path| !self.gone.contains(path)).collect()
    }
}

fn file(path: &str, rows: u64) -> DataFile {
    let bound = |number| Some(Bound::Integer(number));
    let known = Known { bytes: Some(9), nulls: Some(0), min: bound(1), max: bound(2) };
    DataFile { path: path.into(), bytes: 100 + rows, rows, committed: now(), columns: vec![("n".into(), known)], misnumbered: None }
}

impl Ledger for Records {
    fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    fn chains(&self) -> &[Chain] {
        &self.chains
    }

    fn after(&self, instance: u32, after: u64, to: u64, files_max: usize) -> Result<Portion> {
        let mut portion = Portion { to: after, files: Vec::new() };
        for sequence in after + 1..=to {
            let files = self.files[&(instance, sequence)].iter().filter(|file| !self.gone.contains(&file.path));
            portion.files.extend(files.cloned());
            portion.to = sequence;
            if portion.files.len() >= files_max {
                break;
            }
        }
        Ok(portion)
    }

    fn expired(&self) -> Result<BTreeSet<String>> {
        Ok(self.gone.clone())
    }

    fn lacking(&self, published: &BTreeMap<u32, u64>, is_told: &dyn Fn(&str) -> bool) -> Result<BTreeSet<String>> {
        let of = |(instance, sequence): &(u32, u64)| published.get(instance).is_some_and(|last| sequence <= last);
        let files = self.files.iter().filter(|(at, _)| of(at)).flat_map(|(_, files)| files.iter().map(|file| &file.path));
        Ok(files.filter(|path| !self.gone.contains(*path) && !is_told(path)).cloned().collect())
    }
}

/// What a name holds, and when it was put there.
pub(crate) type Stored = (Vec<u8>, Option<DateTime<Utc>>);

/// A log in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(pub Arc<Mutex<BTreeMap<String, Stored>>>);

impl Log for Memory {
    fn place(&self) -> String {
        "memory".into()
    }

    fn list(&self) -> Result<Vec<Entry>> {
        let files = self.0.lock().unwrap();
        Ok(files.iter().map(|(name, (_, written))| Entry { name: name.clone(), written: *written }).collect())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().get(name).map(|(bytes, _)| bytes.clone()))
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<Made> {
        let mut files = self.0.lock().unwrap();
        if files.contains_key(name) {
            return Ok(Made::Taken);
        }
        files.insert(name.into(), (bytes.to_vec(), Some(now())));
        Ok(Made::Now)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.0.lock().unwrap().insert(name.into(), (bytes.to_vec(), Some(now())));
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.0.lock().unwrap().remove(name);
        Ok(())
    }
}

impl Memory {
    pub(crate) fn age(&self, written: DateTime<Utc>) {
        self.0.lock().unwrap().values_mut().for_each(|file| file.1 = Some(written));
    }

    pub(crate) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().unwrap().clone())))
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().keys().cloned().collect()
    }

    pub(crate) fn publish(&self, of: Of, records: &Records) -> Result<Published> {
        of.publisher(self.clone()).publish(records, Expired::Remove, now())
    }

    pub(crate) fn audit(&self, of: Of, records: &Records) -> Audit {
        of.publisher(self.clone()).audit(records).unwrap()
    }
}

/// A format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Delta,
    Iceberg,
}

/// Where the dataset is, to an Iceberg table.
pub(crate) const ROOT: &str = "/lake/a b";

impl Of {
    pub(crate) const ALL: [Self; 2] = [Self::Delta, Self::Iceberg];

    /// Publishes to a directory. Of an Iceberg table so little is kept that a few commits meet every limit.
    pub(crate) fn publisher(self, log: impl Log + Send + Sync + 'static) -> Publisher {
        let policy = Policy { manifests: 3, entries: 20, snapshots: 4, versions: 4 };
        match self {
            Self::Delta => Publisher::delta(Arc::new(log), "events"),
            Self::Iceberg => Publisher::of_iceberg(Arc::new(log), Iceberg::with_policy(ROOT.into(), policy)),
        }
    }

    /// Commits after which the next one does more than to add files: it writes a checkpoint, or one manifest of many.
    fn commits_before(self) -> u64 {
        match self {
            Self::Delta => 9,
            Self::Iceberg => 3,
        }
    }
}

/// What happens to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The publisher is killed before it.
    Before,
    /// It is done, and the publisher is killed, or never hears of it.
    After,
}

thread_local! {
    /// What another publisher does in between.
    static BETWEEN: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
}

/// Operations so far: all of them, and those that change something. A kill at any other is one before the next of these.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    pub all: u64,
    pub changes: u64,
}

/// A log one of whose changes fails; before one of its operations, another publisher runs.
#[derive(Debug)]
struct Failing {
    log: Memory,
    steps: Arc<Mutex<Steps>>,
    fails: Option<(u64, Fate)>,
    paused: Option<u64>,
}

impl Failing {
    /// Counts an operation, and lets the other publisher run before it if it is its turn.
    fn step(&self) {
        let number = {
            let mut steps = self.steps.lock().unwrap();
            steps.all += 1;
            steps.all
        };
        if self.paused == Some(number)
            && let Some(other) = BETWEEN.take()
        {
            other();
        }
    }

    fn change<T>(&self, operation: impl FnOnce() -> Result<T>) -> Result<T> {
        self.step();
        let number = {
            let mut steps = self.steps.lock().unwrap();
            steps.changes += 1;
            steps.changes
        };
        match self.fails {
            Some((at, Fate::Before)) if at <= number => Err(Error::try_again("killed")),
            Some((at, Fate::After)) if at < number => Err(Error::try_again("killed")),
            Some((at, Fate::After)) if at == number => operation().and_then(|_| Err(Error::try_again("killed"))),
            _ => operation(),
        }
    }
}

impl Log for Failing {
    fn place(&self) -> String {
        self.log.place()
    }

    fn list(&self) -> Result<Vec<Entry>> {
        self.step();
        self.log.list()
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.step();
        self.log.read(name)
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<Made> {
        self.change(|| self.log.create(name, bytes))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.change(|| self.log.replace(name, bytes))
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.change(|| self.log.remove(name))
    }
}

/// Publishes with a failure. Returns the operations that it came to.
pub(crate) fn publish(of: Of, log: &Memory, records: &Records, fails: Option<(u64, Fate)>, paused: Option<u64>) -> Steps {
    let steps = Arc::<Mutex<Steps>>::default();
    let failing = Failing { log: log.clone(), steps: steps.clone(), fails, paused };
    let done = of.publisher(failing).publish(records, Expired::Remove, now());
    if fails.is_none() {
        done.unwrap();
    }
    std::mem::take(&mut *steps.lock().unwrap())
}

/// Holds a table against what is committed.
pub(crate) fn assert_exact(of: Of, log: &Memory, records: &Records, told: &str) {
    let audit = log.audit(of, records);
    assert_eq!((audit.faults, audit.behind, audit.foreign.len()), (Vec::new(), Vec::new(), 0), "{of:?} {told}");
    assert_eq!(audit.files, records.paths().len() as u64, "{of:?} {told}");
    match of {
        Of::Delta => crate::delta::tests::assert_checkpoints_agree(log, told),
        Of::Iceberg => crate::iceberg::tests::assert_whole(log, told),
    }
}

/// A table whose next commit does more than to add files: the steps of that are among those that fail.
fn almost_full(of: Of, records: &Records) -> Memory {
    let log = Memory::default();
    for last in 1..=of.commits_before() {
        let mut some = records.clone();
        some.chains.iter_mut().for_each(|chain| chain.last = last.min(chain.last));
        log.publish(of, &some).unwrap();
    }
    log
}

/// The states from which publishers are killed: of each format a table that is not there, and one that is almost full.
fn starts(all: &Records) -> Vec<(Of, Memory)> {
    Of::ALL.into_iter().flat_map(|of| [(of, Memory::default()), (of, almost_full(of, all))]).collect()
}

#[test]
fn a_publisher_that_is_killed_before_or_after_any_step_doubles_and_loses_nothing() {
    let all = Records::new(&[12, 11]);
    let mut cases = 0;
    for (of, start) in starts(&all) {
        let clean = start.copy();
        let steps = publish(of, &clean, &all, None, None).changes;
        assert_exact(of, &clean, &all, "without a failure");
        for fate in [Fate::Before, Fate::After] {
            for at in 1..=steps {
                let log = start.copy();
                publish(of, &log, &all, Some((at, fate)), None);
                // It is killed again at each step of the next run.
                let again = log.copy();
                let more = publish(of, &again, &all, None, None).changes;
                assert_exact(of, &again, &all, &format!("{fate:?} {at}"));
                for (second, fate_of_second) in (1..=more).flat_map(|at| [(at, Fate::Before), (at, Fate::After)]) {
                    let log = log.copy();
                    publish(of, &log, &all, Some((second, fate_of_second)), None);
                    publish(of, &log, &all, None, None);
                    assert_exact(of, &log, &all, &format!("{fate:?} {at}, then {fate_of_second:?} {second}"));
                    cases += 1;
                }
            }
        }
    }
    assert!(cases >= 16, "{cases}");
}

#[test]
fn two_publishers_in_any_order_of_their_steps_double_and_lose_nothing_also_when_both_are_killed() {
    let all = Records::new(&[12, 11]);
    let mut some = all.clone();
    some.chains = vec![Chain { instance: 0, last: 9 }, Chain { instance: 1, last: 11 }];
    let mut cases = 0;
    for (of, start) in starts(&all) {
        let steps = publish(of, &start.copy(), &all, None, None);
        let of_other = publish(of, &start.copy(), &some, None, None).changes;
        let fates =
            |steps: u64| (1..=steps).flat_map(|at| [Some((at, Fate::Before)), Some((at, Fate::After))]).chain([None]).collect::<Vec<_>>();
        for paused in 1..=steps.all {
            for other in fates(of_other) {
                for own in fates(steps.changes + of_other) {
                    let log = start.copy();
                    let (between, records) = (log.clone(), some.clone());
                    BETWEEN.set(Some(Box::new(move || _ = publish(of, &between, &records, other, None))));
                    publish(of, &log, &all, own, Some(paused));
                    BETWEEN.set(None);
                    publish(of, &log, &all, None, None);
                    assert_exact(of, &log, &all, &format!("paused at {paused}, the other {other:?}, this one {own:?}"));
                    cases += 1;
                }
            }
        }
    }
    assert!(cases > 1_000, "{cases}");
    println!("{cases} cases");
}

#[test]
fn expired_files_leave_the_table_once_and_the_rest_stays() {
    for of in Of::ALL {
        let mut records = Records::new(&[3]);
        let log = Memory::default();
        log.publish(of, &records).unwrap();
        records.gone.insert("region=a%20b/events-i0-1-0.parquet".into());
        let steps = publish(of, &log.copy(), &records, None, None);
        for fate in [Fate::Before, Fate::After] {
            for at in 1..=steps.changes {
                let log = log.copy();
                publish(of, &log, &records, Some((at, fate)), None);
                assert!(log.publish(of, &records).unwrap().removed <= 1);
                assert_exact(of, &log, &records, &format!("{fate:?} {at}"));
                assert_eq!(log.publish(of, &records).unwrap().commits, 0);
            }
        }
        // Another publisher takes them out, too.
        for paused in 1..=steps.all {
            let log = log.copy();
            let (between, same) = (log.clone(), records.clone());
            BETWEEN.set(Some(Box::new(move || _ = publish(of, &between, &same, None, None))));
            publish(of, &log, &records, None, Some(paused));
            BETWEEN.set(None);
            assert_exact(of, &log, &records, &format!("paused at {paused}"));
        }
    }
}

#[test]
fn a_log_on_a_disk_makes_each_file_once_and_leaves_nothing_unfinished() {
    let dir = tempfile::tempdir().unwrap();
    let log = OnDisk::new(Arc::new(pintail_storage::durable::posix::Posix::default()), dir.path(), "_of/it");
    assert_eq!(log.list().unwrap(), []);
    assert_eq!(log.create("a", b"1").unwrap(), Made::Now);
    assert_eq!(log.create("a", b"2").unwrap(), Made::Taken);
    log.replace("b", b"3").unwrap();
    log.replace("b", b"4").unwrap();
    log.remove("c").unwrap();
    assert_eq!(log.read("a").unwrap().unwrap(), b"1");
    assert_eq!(log.read("b").unwrap().unwrap(), b"4");
    let names: Vec<String> = log.list().unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn a_dataset_that_was_put_back_and_went_on_is_not_published_behind_what_the_table_has() {
    for of in [Of::Delta, Of::Iceberg] {
        let (log, records) = (Memory::default(), Records::new(&[2]));
        let check = |records: &Records, now| of.publisher(log.clone()).check_history(records, now);
        check(&records, now()).unwrap();
        log.publish(of, &records).unwrap();
        check(&records, now()).unwrap();
        // The same number, and another file, or one of another length.
        let mut others = [records.clone(), records.clone()];
        let last = |records: &mut Records| records.files.get_mut(&(0, 2)).unwrap()[0].clone();
        let (mut renamed, mut longer) = (last(&mut others[0]), last(&mut others[1]));
        renamed.path = "region=b/events-i0-2-0.parquet".into();
        longer.bytes += 1;
        others[0].files.insert((0, 2), vec![renamed]);
        others[1].files.insert((0, 2), vec![longer]);
        for mut other in others {
            other.chains[0].last = 3;
            other.files.insert((0, 3), Vec::new());
            let error = check(&other, now()).unwrap_err();
            assert!(error.to_string().contains("was put back to an older copy") && error.to_string().contains("events-i0-2-0"), "{error}");
        }
        // What was declared expired may have left long ago.
        let mut expired = records.clone();
        expired.gone.extend(records.paths());
        check(&expired, now()).unwrap();
    }
}
