//! The protocol of publication, on a log in memory that fails at every step.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, TimeUnit};
use pintail_core::error::ErrorKind;

use super::log::Entry;
use super::*;
use crate::facts::{Bound, Chain, Column, DataFile, Dataset, Known, Portion};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// A ledger in memory: each record has some files.
#[derive(Debug, Clone)]
struct Records {
    dataset: Dataset,
    chains: Vec<Chain>,
    files: BTreeMap<(u32, u64), Vec<DataFile>>,
    gone: BTreeSet<String>,
}

impl Records {
    /// Makes chains of records that have one file each, and of the second instance two.
    fn new(records: &[u64]) -> Self {
        let column = |id, name: &str, data_type| Column { id, name: name.into(), data_type };
        let columns = vec![column(1, "n", DataType::Int64), column(2, "region", DataType::Utf8)];
        let dataset = Dataset { id: "0123456789abcdef0123456789abcdef".into(), partition_by: vec!["region".into()], columns };
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

    fn paths(&self) -> BTreeSet<String> {
        self.files.values().flatten().map(|file| file.path.clone()).filter(|path| !self.gone.contains(path)).collect()
    }
}

fn file(path: &str, rows: u64) -> DataFile {
    let bound = |number| Some(Bound::Integer(number));
    let known = Known { nulls: Some(0), min: bound(1), max: bound(2) };
    DataFile { path: path.into(), bytes: 100 + rows, rows, committed: now(), columns: vec![("n".into(), known)] }
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
}

/// What a name holds, and when it was put there.
type Stored = (Vec<u8>, Option<DateTime<Utc>>);

/// A log in memory.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<BTreeMap<String, Stored>>>);

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
    fn age(&self, written: DateTime<Utc>) {
        self.0.lock().unwrap().values_mut().for_each(|file| file.1 = Some(written));
    }

    fn table(&self) -> Snapshot {
        Snapshot::read(self, Depth::Files, None).unwrap()
    }

    fn publish(&self, records: &Records) -> Result<Published> {
        Publisher::new(Arc::new(self.clone()), "events").publish(records, Expired::Remove, now())
    }

    /// Writes a commit as somebody else does.
    fn commit(&self, version: u64, lines: &str) {
        assert_eq!(self.create(&log::commit(version), lines.as_bytes()).unwrap(), Made::Now);
    }
}

/// What happens to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
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
struct Steps {
    all: u64,
    changes: u64,
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
fn publish(log: &Memory, records: &Records, fails: Option<(u64, Fate)>, paused: Option<u64>) -> Steps {
    let steps = Arc::<Mutex<Steps>>::default();
    let failing = Failing { log: log.clone(), steps: steps.clone(), fails, paused };
    let done = Publisher::new(Arc::new(failing), "events").publish(records, Expired::Remove, now());
    if fails.is_none() {
        done.unwrap();
    }
    std::mem::take(&mut *steps.lock().unwrap())
}

/// Holds a table against what is committed.
fn assert_exact(log: &Memory, records: &Records, told: &str) {
    let table = log.table();
    assert_eq!(table.live.keys().cloned().collect::<BTreeSet<_>>(), records.paths(), "{told}");
    assert_eq!(table.doubled, Vec::<String>::new(), "{told}");
    let audit = audit(log, records).unwrap();
    assert_eq!((audit.faults, audit.behind, audit.foreign), (Vec::new(), Vec::new(), 0), "{told}");
    // The same from a checkpoint as from the commits, as long as they are all there.
    if log.read(&log::commit(0)).unwrap().is_some() {
        let commits = Memory::default();
        for (name, file) in log.0.lock().unwrap().iter().filter(|(name, _)| matches!(log::kind(name), Kind::Commit(_))) {
            commits.0.lock().unwrap().insert(name.clone(), file.clone());
        }
        let from_commits = commits.table();
        assert_eq!(from_commits.live.keys().collect::<Vec<_>>(), table.live.keys().collect::<Vec<_>>(), "{told}");
        assert_eq!((from_commits.txns, from_commits.meta_data), (table.txns, table.meta_data), "{told}");
    }
}

/// A table that is about to have its next checkpoint: the steps after it are among those that fail.
fn almost_checkpointed(records: &Records) -> Memory {
    let log = Memory::default();
    for last in 1..CHECKPOINT_COMMITS {
        let mut some = records.clone();
        some.chains.iter_mut().for_each(|chain| chain.last = last.min(chain.last));
        log.publish(&some).unwrap();
    }
    log
}

#[test]
fn a_publisher_that_is_killed_before_or_after_any_step_doubles_and_loses_nothing() {
    let all = Records::new(&[12, 11]);
    let mut cases = 0;
    for start in [Memory::default(), almost_checkpointed(&all)] {
        let clean = Memory(Arc::new(Mutex::new(start.0.lock().unwrap().clone())));
        let steps = publish(&clean, &all, None, None).changes;
        assert_exact(&clean, &all, "without a failure");
        for fate in [Fate::Before, Fate::After] {
            for at in 1..=steps {
                let log = Memory(Arc::new(Mutex::new(start.0.lock().unwrap().clone())));
                publish(&log, &all, Some((at, fate)), None);
                // It is killed again at each step of the next run.
                let again = Memory(Arc::new(Mutex::new(log.0.lock().unwrap().clone())));
                let more = publish(&again, &all, None, None).changes;
                assert_exact(&again, &all, &format!("{fate:?} {at}"));
                for (second, fate_of_second) in (1..=more).flat_map(|at| [(at, Fate::Before), (at, Fate::After)]) {
                    let log = Memory(Arc::new(Mutex::new(log.0.lock().unwrap().clone())));
                    publish(&log, &all, Some((second, fate_of_second)), None);
                    publish(&log, &all, None, None);
                    assert_exact(&log, &all, &format!("{fate:?} {at}, then {fate_of_second:?} {second}"));
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
    for start in [Memory::default(), almost_checkpointed(&all)] {
        let copy = |of: &Memory| Memory(Arc::new(Mutex::new(of.0.lock().unwrap().clone())));
        let steps = publish(&copy(&start), &all, None, None);
        let of_other = publish(&copy(&start), &some, None, None).changes;
        let fates =
            |steps: u64| (1..=steps).flat_map(|at| [Some((at, Fate::Before)), Some((at, Fate::After))]).chain([None]).collect::<Vec<_>>();
        for paused in 1..=steps.all {
            for other in fates(of_other) {
                for own in fates(steps.changes + of_other) {
                    let log = copy(&start);
                    let (between, records) = (log.clone(), some.clone());
                    BETWEEN.set(Some(Box::new(move || _ = publish(&between, &records, other, None))));
                    publish(&log, &all, own, Some(paused));
                    BETWEEN.set(None);
                    publish(&log, &all, None, None);
                    assert_exact(&log, &all, &format!("paused at {paused}, the other {other:?}, this one {own:?}"));
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
    let mut records = Records::new(&[3]);
    let log = Memory::default();
    log.publish(&records).unwrap();
    records.gone.insert("region=a%20b/events-i0-1-0.parquet".into());
    let steps = publish(&Memory(Arc::new(Mutex::new(log.0.lock().unwrap().clone()))), &records, None, None).changes;
    for fate in [Fate::Before, Fate::After] {
        for at in 1..=steps {
            let log = Memory(Arc::new(Mutex::new(log.0.lock().unwrap().clone())));
            publish(&log, &records, Some((at, fate)), None);
            let published = log.publish(&records).unwrap();
            assert!(published.removed <= 1);
            assert_exact(&log, &records, &format!("{fate:?} {at}"));
            assert_eq!(log.table().removed.len(), 1);
            assert_eq!(log.publish(&records).unwrap().commits, 0);
        }
    }
}

#[test]
fn a_table_of_another_dataset_or_with_what_is_not_known_is_refused() {
    let log = Memory::default();
    log.publish(&Records::new(&[1])).unwrap();
    let mut other = Records::new(&[1]);
    other.dataset.id = "f".repeat(32);
    let refusal = |log: &Memory, records: &Records| {
        let error = log.publish(records).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    assert!(refusal(&log, &other).contains("belongs to the dataset 0123456789abcdef0123456789abcdef"));
    let with = |lines: &str| {
        let log = Memory(Arc::new(Mutex::new(log.0.lock().unwrap().clone())));
        log.commit(1, lines);
        log
    };
    let feature = with(
        r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}}"#,
    );
    assert!(refusal(&feature, &Records::new(&[1])).contains("`deletionVectors`"));
    assert!(
        refusal(&with(r#"{"protocol":{"minReaderVersion":2,"minWriterVersion":5}}"#), &Records::new(&[1]))
            .contains("reader 2 and writer 5")
    );
    let foreign = Memory::default();
    foreign.commit(0, "{\"protocol\":{\"minReaderVersion\":1,\"minWriterVersion\":2}}\n{\"metaData\":{\"id\":\"x\",\"format\":{\"provider\":\"parquet\"},\"schemaString\":\"{}\",\"partitionColumns\":[]}}");
    assert!(refusal(&foreign, &Records::new(&[1])).contains("was not made by pintail"));
    let mut moved = Records::new(&[1]);
    moved.dataset.partition_by.clear();
    assert!(refusal(&log, &moved).contains("is partitioned by"));
    let hole = Memory::default();
    hole.commit(1, "{}");
    assert_eq!(hole.publish(&Records::new(&[1])).unwrap_err().kind(), ErrorKind::State);
}

#[test]
fn a_new_column_joins_the_table_with_the_first_commit_after_it_and_what_others_added_stays() {
    let (log, mut records) = (Memory::default(), Records::new(&[2]));
    records.chains[0].last = 1;
    log.publish(&records).unwrap();
    assert_eq!(log.table().protocol.unwrap().min_reader_version, 1);
    let mut meta_data = log.table().meta_data.unwrap();
    let mut schema: serde_json::Value = serde_json::from_str(&meta_data.schema_string).unwrap();
    schema["fields"].as_array_mut().unwrap().push(crate::types::delta_field("theirs", "long".into()));
    meta_data.schema_string = schema.to_string();
    let line = action::Line { meta_data: Some(meta_data), ..action::Line::default() };
    log.commit(1, &serde_json::to_string(&line).unwrap());
    records.chains[0].last = 2;
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    records.dataset.columns.push(Column { id: 3, name: "at".into(), data_type: time });
    log.publish(&records).unwrap();
    let table = log.table();
    let schema: serde_json::Value = serde_json::from_str(&table.meta_data.unwrap().schema_string).unwrap();
    let names: Vec<_> = schema["fields"].as_array().unwrap().iter().map(|field| field["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["n", "region", "theirs", "at"]);
    let protocol = table.protocol.unwrap();
    assert_eq!((protocol.min_reader_version, protocol.min_writer_version), (3, 7));
    assert_eq!(protocol.writer_features.unwrap(), ["timestampNtz", "appendOnly", "invariants"]);
    assert_eq!(log.publish(&records).unwrap().commits, 0);
    records.dataset.columns[0].data_type = DataType::Float64;
    assert!(log.publish(&records).unwrap_err().to_string().contains("make the table anew"));
}

#[test]
fn a_column_that_a_table_cannot_have_is_refused_before_anything_is_written() {
    let (log, mut records) = (Memory::default(), Records::new(&[1]));
    records.dataset.columns[0].data_type = DataType::UInt64;
    let text = log.publish(&records).unwrap_err().to_string();
    assert!(text.contains("CAST(\"n\" AS DECIMAL(20,0))"), "{text}");
    assert!(log.list().unwrap().is_empty());
}

#[test]
fn what_others_compacted_is_not_published_again_and_their_files_are_counted_as_foreign() {
    let (log, mut records) = (Memory::default(), Records::new(&[4]));
    records.chains[0].last = 2;
    log.publish(&records).unwrap();
    let path = action::encode("region=a%20b/events-i0-1-0.parquet");
    log.commit(
        1,
        &format!(
            "{{\"remove\":{{\"path\":\"{path}\",\"dataChange\":false}}}}\n{{\"add\":{{\"path\":\"theirs.parquet\",\"partitionValues\":{{\"region\":\"a b\"}},\
             \"size\":1,\"modificationTime\":1,\"dataChange\":false}}}}"
        ),
    );
    records.chains[0].last = 4;
    assert_eq!(log.publish(&records).unwrap().files, 2);
    assert_eq!(log.table().live.len(), 4);
    let audit = audit(&log, &records).unwrap();
    assert_eq!((audit.files, audit.foreign), (3, 1));
    assert_eq!(audit.faults, ["`region=a%20b/events-i0-1-0.parquet` was taken out of the table"]);
}

#[test]
fn old_commits_go_once_two_checkpoints_stand_for_them_and_the_table_stays_the_same() {
    let all = Records::new(&[35]);
    let log = Memory::default();
    for last in 1..=35 {
        let mut some = all.clone();
        some.chains[0].last = last;
        if last == 30 {
            log.age(now() - LOG_RETENTION - TimeDelta::seconds(1));
        }
        log.publish(&some).unwrap();
        assert_eq!(log.table().live.len() as u64, last);
    }
    let names: Vec<String> = log.list().unwrap().into_iter().map(|entry| entry.name).collect();
    let checkpoints = names.iter().filter(|name| matches!(log::kind(name), Kind::Checkpoint { .. })).count();
    assert_eq!(checkpoints, 2, "{names:?}");
    assert!(!names.contains(&log::commit(0)) && names.contains(&log::commit(30)), "{names:?}");
    assert_exact(&log, &all, "after the clean-up");
}

#[test]
fn a_null_partition_value_survives_a_checkpoint() {
    let mut records = Records::new(&[1]);
    records.files.get_mut(&(0, 1)).unwrap()[0].path = "region=__HIVE_DEFAULT_PARTITION__/events-1.parquet".into();
    let log = Memory::default();
    log.publish(&records).unwrap();
    let table = log.table();
    let (bytes, rows) = checkpoint::write(&table, 0).unwrap();
    assert_eq!(rows, 4);
    let mut adds = Vec::new();
    checkpoint::read(bytes, Depth::Files, |line| adds.extend(line.add)).unwrap();
    assert_eq!(adds.len(), 1);
    assert_eq!(adds[0].partition_values, [("region".to_owned(), None)].into());
    assert_eq!(adds[0].stats, table.live.values().next().unwrap().stats);
}

#[test]
fn a_log_on_a_disk_makes_each_file_once_and_leaves_nothing_unfinished() {
    let dir = tempfile::tempdir().unwrap();
    let log = log::OnDisk::new(Arc::new(pintail_storage::durable::posix::Posix::default()), dir.path());
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
