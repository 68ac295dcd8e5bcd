//! A dataset in a temporary directory, and what anybody can see of it from outside.
//!
//! Owns: the directory, looking at its files and commit records, bounded waiting.
//! Does not own: running the binary (see [`process`]), reading rows with other programs (see [`readers`]).

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) mod broker;
pub(crate) mod http;
pub(crate) mod kafka;
#[cfg(feature = "bucket")]
pub(crate) mod lake;
pub(crate) mod lines;
pub(crate) mod nats;
pub(crate) mod payloads;
pub(crate) mod process;
pub(crate) mod readers;
pub(crate) mod wire;

use process::Pintail;

/// How long anything here may take before the test fails: far beyond what it needs, on a machine with two busy cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The time of simulated event 0 in every test: fixed, so that the oracle knows it before the dataset exists.
pub(crate) const START_TIME: &str = "2026-01-01T00:00:00Z";

/// Returns a file of this checkout. Cargo says where that is when it runs the tests, not when it compiles them: checkouts may share a target
/// directory, and so a test binary that was compiled in another.
pub(crate) fn checkout(file: &str) -> String {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    format!("{root}/{file}")
}

/// Waits until `done` holds; fails the test, naming `what`, when it does not come.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A dataset `out/` and its inputs, in a directory that goes away with it.
pub(crate) struct Dataset {
    dir: TempDir,
}

impl Dataset {
    /// Makes an empty directory; the dataset itself is made by Pintail.
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::Builder::new().prefix("pintail-").tempdir().unwrap() }
    }

    /// Returns the directory around the dataset.
    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the dataset.
    pub(crate) fn out(&self) -> PathBuf {
        self.root().join("out")
    }

    /// Returns `_pintail/<path>` of the dataset.
    pub(crate) fn internal(&self, path: &str) -> PathBuf {
        self.out().join("_pintail").join(path)
    }

    /// Writes an input file next to the dataset.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Appends to an input file, made if need be.
    pub(crate) fn append(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(content.as_ref()).unwrap();
    }

    /// Replaces an input file in one step, as a careful producer of a lookup table does.
    pub(crate) fn replace(&self, name: &str, content: impl AsRef<[u8]>) {
        let new = self.write(&format!("{name}.new"), content);
        fs::rename(new, self.root().join(name)).unwrap();
    }

    /// Prepares a run of the binary on this dataset, without any setting but its place.
    pub(crate) fn pintail(&self) -> Pintail<'_> {
        Pintail::new(self)
    }

    /// Prepares a run on `limit` simulated events, as fast as the line takes them.
    pub(crate) fn simulator(&self, limit: u64) -> Pintail<'_> {
        let pintail = self.pintail().set("source.type", "simulator").set("source.start_time", START_TIME);
        pintail.set("source.seed", 42).set("source.limit", limit).set("source.rate", 0)
    }

    /// Returns the visible data files, relative to the dataset, sorted: what a plain `**/*.parquet` finds, but for the log of a Delta table.
    pub(crate) fn data_files(&self) -> Vec<PathBuf> {
        let log = self.out().join("_delta_log");
        let files = walk(&self.out()).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "parquet"));
        let files = files.filter(|path| !path.starts_with(&log));
        let mut files: Vec<_> = files.map(|path| path.strip_prefix(self.out()).unwrap().to_owned()).collect();
        files.sort();
        files
    }

    /// Returns all commit records in their order: checkpoints, the one that each start wrote, actions of an operator.
    pub(crate) fn records(&self) -> Vec<Commit> {
        let mut records: Vec<_> = walk(&self.internal("commits")).iter().filter_map(|path| Commit::read(path)).collect();
        records.sort_by_key(|record| record.seq);
        let mut positions = BTreeMap::new();
        for record in &mut records {
            record.add_to(&mut positions);
            record.positions.clone_from(&positions);
        }
        records
    }

    /// Returns the commit records of the checkpoints in their order.
    pub(crate) fn commits(&self) -> Vec<Commit> {
        self.records().into_iter().filter(Commit::is_checkpoint).collect()
    }

    /// Returns the number of checkpoints.
    pub(crate) fn commits_len(&self) -> usize {
        walk(&self.internal("commits")).iter().filter_map(|path| Commit::read(path)).filter(Commit::is_checkpoint).count()
    }

    /// Returns the commit record of the last checkpoint.
    pub(crate) fn last_commit(&self) -> Commit {
        self.commits().pop().expect("a checkpoint")
    }

    /// Returns the counts of all commit records together, each found to balance.
    pub(crate) fn counts(&self) -> Counts {
        self.records().iter().map(Commit::counts).fold(Counts::default(), Counts::plus)
    }

    /// Returns the dead letters of all checkpoints, in the order of files and lines.
    pub(crate) fn dead_letters(&self) -> Vec<Value> {
        let mut files = walk(&self.internal("dead_letters"));
        files.sort();
        let lines = files.iter().flat_map(|file| fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>());
        lines.flat_map(|line| one_each(serde_json::from_str(&line).expect("a dead letter is a line of JSON"))).collect()
    }

    /// Asserts that `pintail verify` finds nothing wrong, and that a glob sees the files of the records and no other.
    pub(crate) fn assert_clean(&self) {
        self.pintail().args(["verify"]).run().assert_code(0);
        let mut recorded: Vec<_> = self.records().iter().flat_map(Commit::data_files).collect();
        recorded.sort();
        assert_eq!(self.data_files(), recorded, "visible files (left) against the files of the commit records (right)");
        let staged = walk(&self.internal("staging"));
        assert!(staged.is_empty(), "staging is not empty: {staged:?}");
    }
}

/// Returns all files below a directory that may be missing, or may change meanwhile.
pub(crate) fn walk(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// A commit record. The only place in these tests that knows its JSON.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    /// Where it is.
    pub path: PathBuf,
    /// Its sequence number, as its name says.
    pub seq: u64,
    /// Its first line.
    pub value: Value,
    /// Where each source partition goes on after it, by id.
    pub positions: BTreeMap<String, u64>,
}

/// The counts of a commit record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Records read.
    pub records_in: u64,
    /// Rows written.
    pub rows_out: u64,
    /// Records that the SQL took away.
    pub filtered: u64,
    /// Rows that the SQL added.
    pub expanded: u64,
    /// Rejected by the decoder.
    pub decode: u64,
    /// Rejected by the SQL.
    pub sql: u64,
    /// Rejected by the sink.
    pub sink: u64,
}

impl Counts {
    fn plus(self, other: Self) -> Self {
        Self {
            records_in: self.records_in + other.records_in,
            rows_out: self.rows_out + other.rows_out,
            filtered: self.filtered + other.filtered,
            expanded: self.expanded + other.expanded,
            decode: self.decode + other.decode,
            sql: self.sql + other.sql,
            sink: self.sink + other.sink,
        }
    }
}

impl Commit {
    fn seq_of(path: &Path) -> Option<u64> {
        (path.extension()? == "json").then(|| path.file_stem()?.to_str()?.parse().ok())?
    }

    fn read(path: &Path) -> Option<Self> {
        let seq = Self::seq_of(path)?;
        let text = fs::read_to_string(path).unwrap();
        let value = serde_json::from_str(text.lines().next().expect("a record has a first line")).expect("which is JSON");
        Some(Self { path: path.to_owned(), seq, value, positions: BTreeMap::new() })
    }

    /// Takes what the record changed into the positions before it. A record of version 1 holds them all.
    fn add_to(&self, positions: &mut BTreeMap<String, u64>) {
        for span in self.value["source"]["partitions"].as_array().expect("a list of source partitions") {
            let id = span["id"].as_str().expect("a partition has an id").to_owned();
            match span["vanished"] == true {
                true => positions.remove(&id),
                false => positions.insert(id, span["to"].as_u64().expect("a partition has an end")),
            };
        }
    }

    /// Returns whether it is a checkpoint, and not the open record of a start or an action of an operator.
    pub(crate) fn is_checkpoint(&self) -> bool {
        self.value["trigger"].is_string()
    }

    /// Returns whether it is the open record of a start.
    pub(crate) fn is_open_record(&self) -> bool {
        self.value["opened"].is_object()
    }

    /// Returns `interval`, `end` or `shutdown`.
    pub(crate) fn trigger(&self) -> &str {
        self.value["trigger"].as_str().expect("a trigger")
    }

    /// Returns the counts; fails the test if they do not balance.
    pub(crate) fn counts(&self) -> Counts {
        let counts = &self.value["counts"];
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("a count is missing in {counts}"));
        let letters = &counts["dead_letters"];
        let counts = Counts {
            records_in: number(&counts["records_in"]),
            rows_out: number(&counts["rows_out"]),
            filtered: number(&counts["filtered"]),
            expanded: number(&counts["expanded"]),
            decode: number(&letters["decode"]),
            sql: number(&letters["sql"]),
            sink: number(&letters["sink"]),
        };
        let gone = counts.filtered + counts.decode + counts.sql + counts.sink;
        assert_eq!(counts.records_in + counts.expanded, counts.rows_out + gone, "record {} does not balance: {counts:?}", self.seq);
        counts
    }

    /// Returns the paths of its data files, relative to the dataset.
    pub(crate) fn data_files(&self) -> Vec<PathBuf> {
        let files = self.value["files"].as_array().expect("a list of files").iter();
        let paths = files.map(|file| PathBuf::from(file["path"].as_str().expect("a file has a path")));
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "parquet")).collect()
    }

    /// Returns `(from, to)` of the source partitions that it changed.
    pub(crate) fn spans(&self) -> Vec<(u64, u64)> {
        let partitions = self.value["source"]["partitions"].as_array().expect("a list of source partitions").iter();
        let offset = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("an offset is missing in record {}", self.seq));
        partitions.map(|span| (offset(&span["from"]), offset(&span["to"]))).collect()
    }

    /// Returns where the only source partition goes on.
    pub(crate) fn next_offset(&self) -> u64 {
        assert_eq!(self.positions.len(), 1, "source partitions up to record {}: {:?}", self.seq, self.positions);
        *self.positions.values().next().expect("there is one")
    }

    /// Returns the SHA-256 of a lookup table.
    pub(crate) fn lookup(&self, name: &str) -> Option<String> {
        let mut found = None;
        each_object(&self.value, &mut |object| {
            if object["name"] == name && object["sha256"].is_string() {
                found = object["sha256"].as_str().map(str::to_owned);
            }
        });
        found
    }
}

fn each_object(value: &Value, visit: &mut impl FnMut(&Value)) {
    match value {
        Value::Object(object) => {
            visit(value);
            object.values().for_each(|value| each_object(value, visit));
        }
        Value::Array(values) => values.iter().for_each(|value| each_object(value, visit)),
        _ => {}
    }
}

/// Returns the lower-case hexadecimal SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the dead letters that a line stands for: one at each of its places.
fn one_each(mut letter: Value) -> Vec<Value> {
    let then = letter.as_object_mut().unwrap().remove("then").unwrap_or_default();
    let mut places = vec![letter["offset"].as_u64().expect("a place")];
    for run in then.as_array().into_iter().flatten() {
        let (step, times) = (run[0].as_u64().unwrap(), run[1].as_u64().unwrap());
        (0..times).for_each(|_| places.push(places[places.len() - 1] + step));
    }
    let at = |place| {
        let mut one = letter.clone();
        one["offset"] = Value::from(place);
        one
    };
    places.into_iter().map(at).collect()
}
