//! The derived index: what the records say of files, statistics and counts, in a form that is quick to read.
//!
//! Owns: the segments in `index/`, when one is trusted, writing them.
//! Does not own: the records, which alone are the truth (see [`super::log`]); who asks (see [`super::reader`]).
//!
//! Everything in it is in the records too: it may be deleted, and is written again. A segment holds [`SMALL`] records, and [`LARGE`] once there are
//! so many. It is written once, whole, by whoever comes first: the same records are the same bytes. It names the checksum of the record before it
//! and that of its last one, so a chain of segments whose end is the checksum of a record that is there stands for exactly these records.
//! What does not hold is passed over, and the records are read instead. Nothing is fsynced: after a power cut, a checksum tells.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::str::FromStr;

use arrow::datatypes::DataType;
use chrono::{DateTime, Utc};
use pintail_core::batch::{Counts, Trigger};
use pintail_core::error::{Error, Result};
use pintail_core::invocation::command;
use serde::{Deserialize, Serialize};

use super::columns::{self, OutputColumn};
use super::log;
use super::paths::Paths;
use super::record::{ActionKind, ColumnStatistics, CommitRecord, FileEntry, FileKind, Rewrite};
use super::sealed;
use crate::durable::fs::ReadFs;

mod backwards;
mod comparison;
mod keeper;

pub use backwards::{Backwards, Part};
pub use comparison::Comparison;
pub use keeper::{start, update};

const VERSION: u32 = 1;
/// The version of a segment with rewrites: who does not know them reads the records, and refuses those.
const REWRITTEN_VERSION: u32 = 2;

/// Records of a new segment: as many as are read one by one at most.
pub const SMALL: u64 = 64;
/// Records of a segment that replaces small ones.
pub const LARGE: u64 = 16 * SMALL;

/// What the records of an instance say, up to one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// The directories of the files.
    pub dirs: Vec<String>,
    /// The records from the first on; without those that the keeper has written already.
    pub records: Vec<Indexed>,
    written: u64,
    /// The sets of columns that the files have.
    pub classes: Vec<Vec<OutputColumn>>,
    /// The checksum of the last record; of FORMAT before the first.
    seal: String,
    places: HashMap<String, u32>,
}

/// What is kept of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Indexed {
    /// When it was committed.
    #[serde(rename = "t")]
    pub time: Time,
    /// What caused the checkpoint.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// What became of the records.
    #[serde(rename = "n", default, skip_serializing_if = "nothing")]
    pub counts: Counts,
    /// Files whose rows are all older than this were declared expired.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub expired_before: Option<Time>,
    /// Whether what was declared before holds no more.
    #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
    pub took_back: bool,
    /// The columns from this record on, if they changed.
    #[serde(rename = "c", default, skip_serializing_if = "Vec::is_empty")]
    columns: Vec<OutputColumn>,
    /// Whether its files were adopted: what they hold was not written by Pintail.
    #[serde(rename = "a", default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// What was written.
    #[serde(rename = "f", default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<IndexedFile>,
    /// In a rewrite: what its files take the place of.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<IndexedRewrite>,
    /// The place of its columns among the classes; `None` if they are unknown.
    #[serde(skip)]
    pub class: Option<u32>,
}

/// What is kept of a rewrite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedRewrite {
    /// How often a row of its files was written anew, at most.
    #[serde(rename = "g")]
    pub generation: u32,
    /// The files that it replaces: directory and name.
    #[serde(rename = "f")]
    pub replaces: Vec<(u32, Box<str>)>,
}

/// Seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Time(i64, u32);

impl From<DateTime<Utc>> for Time {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.timestamp(), time.timestamp_subsec_nanos())
    }
}

impl From<Time> for DateTime<Utc> {
    fn from(time: Time) -> Self {
        Self::from_timestamp(time.0, time.1).unwrap_or_default()
    }
}

/// What is kept of a file: directory, name, kind, rows, bytes, event times, bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedFile(u32, Box<str>, Kind, u64, u64, Option<(Time, Time)>, Vec<Bounds>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    #[serde(rename = "p")]
    Parquet,
    #[serde(rename = "d")]
    DeadLetters,
}

/// The id of a column of times, with its least and greatest value in the column's unit since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds(pub u32, pub i64, pub i64);

impl IndexedFile {
    /// Returns the place of its directory among those of the index.
    pub fn dir(&self) -> u32 {
        self.0
    }

    /// Returns its name in the directory.
    pub fn name(&self) -> &str {
        &self.1
    }

    /// Returns what it holds.
    pub fn kind(&self) -> FileKind {
        match self.2 {
            Kind::Parquet => FileKind::Parquet,
            Kind::DeadLetters => FileKind::DeadLetters,
        }
    }

    /// Returns its rows, or rejected records.
    pub fn rows(&self) -> u64 {
        self.3
    }

    /// Returns its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.4
    }

    /// Returns the times of its oldest and newest row; `None` if no row has one.
    pub fn times(&self) -> Option<(Time, Time)> {
        self.5
    }

    /// Returns the time of its newest row; `None` if no row has one.
    pub fn newest(&self) -> Option<Time> {
        self.5.map(|(_, newest)| newest)
    }

    /// Returns the bounds of its columns of times, as far as the footer says.
    pub fn bounds(&self) -> &[Bounds] {
        &self.6
    }
}

impl Indexed {
    /// Returns the directories that it names, as places among those of its index.
    fn dirs(&self) -> impl Iterator<Item = u32> {
        let replaced = self.rewrite.iter().flat_map(|rewrite| &rewrite.replaces).map(|(dir, _)| *dir);
        self.files.iter().map(IndexedFile::dir).chain(replaced)
    }

    fn each_dir(&mut self, mut change: impl FnMut(&mut u32)) {
        self.files.iter_mut().for_each(|file| change(&mut file.0));
        self.rewrite.iter_mut().flat_map(|rewrite| &mut rewrite.replaces).for_each(|(dir, _)| change(dir));
    }
}

/// Files that others have taken the place of, by directory and name.
#[derive(Debug, Default)]
pub struct Replaced<'a>(HashSet<(u32, &'a str)>);

impl<'a> Replaced<'a> {
    /// Takes in what rewrites replace.
    pub fn by(rewrites: impl Iterator<Item = &'a IndexedRewrite>) -> Self {
        Self(rewrites.flat_map(|rewrite| &rewrite.replaces).map(|(dir, name)| (*dir, &**name)).collect())
    }

    /// Returns whether a file is one of them.
    pub fn contains(&self, file: &IndexedFile) -> bool {
        !self.0.is_empty() && self.0.contains(&(file.0, &*file.1))
    }
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

fn nothing(counts: &Counts) -> bool {
    *counts == Counts::default()
}

/// The file of a segment.
#[derive(Serialize, Deserialize)]
struct Segment {
    version: u32,
    dataset_id: String,
    from: u64,
    to: u64,
    /// The checksum of the record before; of FORMAT for the first.
    previous: String,
    /// The checksum of the last record.
    seal: String,
    /// The columns before the first record.
    columns: Vec<OutputColumn>,
    dirs: Vec<String>,
    records: Vec<Indexed>,
}

impl Segment {
    fn version_of(records: &[Indexed]) -> u32 {
        if records.iter().any(|record| record.rewrite.is_some()) { REWRITTEN_VERSION } else { VERSION }
    }
}

impl Index {
    /// Begins before the first record.
    pub fn new(format_sha256: &str) -> Self {
        Self { seal: format_sha256.to_owned(), ..Self::default() }
    }

    /// Reads the index of an instance as far as it can be trusted. Never fails: what cannot be read is passed over.
    pub fn load(fs: &dyn ReadFs, paths: &Paths, dataset_id: &str, format_sha256: &str) -> Self {
        Self::load_each(fs, paths, dataset_id, format_sha256, |_| ())
    }

    /// As [`Self::load`], without the records: where the index ends.
    fn load_end(fs: &dyn ReadFs, paths: &Paths, dataset_id: &str, format_sha256: &str) -> Self {
        Self::load_each(fs, paths, dataset_id, format_sha256, Self::forget)
    }

    /// As [`Self::load`]; tells `loaded` of each segment that was taken in.
    fn load_each(fs: &dyn ReadFs, paths: &Paths, dataset_id: &str, format_sha256: &str, loaded: impl Fn(&mut Self)) -> Self {
        let found = segments(fs, paths);
        let mut index = Self::new(format_sha256);
        while let Some(segment) = index.next_segment(fs, &found, dataset_id) {
            index.append(segment);
            loaded(&mut index);
        }
        let end = index.end();
        let holds = end == 0 || log::read(fs, paths, end).is_ok_and(|(_, sha256)| sha256 == index.seal);
        if holds { index } else { Self::new(format_sha256) }
    }

    /// Returns the sequence number of the last record in it.
    pub fn end(&self) -> u64 {
        self.written + self.records.len() as u64
    }

    /// Forgets the records, not where it ends.
    fn forget(&mut self) {
        (self.written, self.records) = (self.end(), Vec::new());
        self.dirs.clear();
        self.places.clear();
    }

    /// Takes in the next record.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::State`] if it is not the next.
    pub fn push(&mut self, record: &CommitRecord, sha256: String) -> Result<()> {
        if record.sequence != self.end() + 1 || record.previous != self.seal {
            let sequence = record.sequence;
            return Err(Error::state(format!(
                "commit record {sequence} does not follow the one before it: {} says more",
                command("verify")
            )));
        }
        let mut before = self.columns().to_vec();
        if record.version > 1 && before.iter().any(|column| column.id == 0) {
            before = columns::number(&[], &before);
        }
        let now = if record.schema.is_empty() { &before } else { &record.schema };
        let changed = now.as_slice() != self.columns();
        let timed = timed(now);
        let files = record.files.iter().map(|file| self.file(file, &timed)).collect();
        let expire = record.action.as_ref().filter(|action| matches!(action.kind, ActionKind::Expire | ActionKind::TakeBack));
        let indexed = Indexed {
            time: record.time.into(),
            trigger: record.trigger,
            counts: record.counts,
            expired_before: expire.and_then(|action| action.before).map(Time::from),
            took_back: expire.is_some_and(|action| action.kind == ActionKind::TakeBack),
            columns: if changed { now.clone() } else { Vec::new() },
            adopted: record.trigger.is_none() && record.rewrite.is_none() && !record.files.is_empty(),
            files,
            rewrite: record.rewrite.as_ref().map(|rewrite| self.rewrite(rewrite)),
            class: None,
        };
        self.seal = sha256;
        self.add(indexed);
        Ok(())
    }

    /// Returns the first record of which this index says something else than `other`, which holds the same records.
    fn first_difference(&self, other: &Self) -> Option<u64> {
        let same = |(ours, theirs): (&Indexed, &Indexed)| {
            let paths = |index: &Self, record: &Indexed| record.files.iter().map(|file| index.path(file)).collect::<Vec<_>>();
            let replaced = |index: &Self, record: &Indexed| {
                let rewrite = record.rewrite.iter().flat_map(|rewrite| &rewrite.replaces);
                rewrite.map(|(dir, name)| join(&index.dirs[*dir as usize], name)).collect::<Vec<_>>()
            };
            let without_dirs = |record: &Indexed| {
                let mut record = record.clone();
                record.each_dir(|dir| *dir = 0);
                record
            };
            without_dirs(ours) == without_dirs(theirs)
                && paths(self, ours) == paths(other, theirs)
                && replaced(self, ours) == replaced(other, theirs)
        };
        let differs = self.records.iter().zip(&other.records).position(|pair| !same(pair));
        differs.map(|place| self.written + place as u64 + 1)
    }

    /// Returns the times before which files were declared expired, as they were declared, as far as that was not taken back: the latest time counts.
    pub fn declared_expired(&self) -> Vec<Time> {
        let mut declared: Vec<Time> = Vec::new();
        for record in &self.records {
            if record.took_back {
                declared.pop();
                if declared.iter().max() != record.expired_before.as_ref() {
                    // It took back the latest time, as earlier versions did, whichever was declared last.
                    declared.retain(|time| record.expired_before.is_some_and(|still| *time <= still));
                }
            } else if let Some(before) = record.expired_before
                && declared.last() != Some(&before)
            {
                declared.push(before);
            }
        }
        declared
    }

    /// Returns the path of a file below the dataset.
    pub fn path(&self, file: &IndexedFile) -> String {
        join(&self.dirs[file.0 as usize], &file.1)
    }

    /// Returns the files that others have taken the place of: their rows are in those.
    pub fn replaced(&self) -> Replaced<'_> {
        Replaced::by(self.records.iter().filter_map(|record| record.rewrite.as_ref()))
    }

    fn columns(&self) -> &[OutputColumn] {
        self.classes.last().map_or(&[], Vec::as_slice)
    }

    fn file(&mut self, file: &FileEntry, timed: &[u32]) -> IndexedFile {
        let (dir, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
        let kind = match file.kind {
            FileKind::Parquet => Kind::Parquet,
            FileKind::DeadLetters => Kind::DeadLetters,
        };
        let times = file.event_time.map(|times| (times.min.into(), times.max.into()));
        let bounds = file.columns.iter().filter(|column| timed.contains(&column.id)).filter_map(bounds).collect();
        IndexedFile(self.dir(dir), name.into(), kind, file.rows, file.bytes, times, bounds)
    }

    fn rewrite(&mut self, rewrite: &Rewrite) -> IndexedRewrite {
        let mut place = |path: &str| {
            let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
            (self.dir(dir), name.into())
        };
        let replaces = rewrite.replaces.iter().map(|file| place(&file.path)).collect();
        IndexedRewrite { generation: rewrite.generation, replaces }
    }

    fn dir(&mut self, dir: &str) -> u32 {
        if let Some(place) = self.places.get(dir) {
            return *place;
        }
        let place = u32::try_from(self.dirs.len()).expect("a dataset has fewer directories than files, and those fit the memory");
        self.dirs.push(dir.to_owned());
        self.places.insert(dir.to_owned(), place);
        place
    }

    /// Adds a record whose directories are those of this index.
    fn add(&mut self, mut record: Indexed) {
        if !record.columns.is_empty() {
            self.classes.push(record.columns.clone());
        }
        record.class = if record.adopted { None } else { (self.classes.len() as u32).checked_sub(1) };
        self.records.push(record);
    }

    fn append(&mut self, segment: Segment) {
        let dirs: Vec<u32> = segment.dirs.iter().map(|dir| self.dir(dir)).collect();
        self.seal = segment.seal;
        self.records.reserve(segment.records.len());
        for mut record in segment.records {
            record.each_dir(|dir| *dir = dirs[*dir as usize]);
            self.add(record);
        }
    }

    /// Reads the longest segment that goes on where this index ends.
    fn next_segment(&self, fs: &dyn ReadFs, found: &[Found], dataset_id: &str) -> Option<Segment> {
        let next = self.end() + 1;
        let start = found.partition_point(|segment| segment.from < next);
        let candidates = found[start..].partition_point(|segment| segment.from == next);
        let fits = |segment: &Segment| segment.previous == self.seal && segment.columns == self.columns();
        found[start..start + candidates].iter().rev().filter_map(|found| found.read(fs, dataset_id)).find(fits)
    }
}

/// A segment's file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    from: u64,
    to: u64,
    path: PathBuf,
}

impl Found {
    fn parse(path: PathBuf) -> Option<Self> {
        let (from, to) = path.file_name()?.to_str()?.strip_suffix(".json")?.split_once('-')?;
        Some(Self { from: from.parse().ok()?, to: to.parse().ok()?, path })
    }

    /// Reads the segment if it holds together.
    fn read(&self, fs: &dyn ReadFs, dataset_id: &str) -> Option<Segment> {
        let bytes = log::bytes(fs, &self.path).ok()??;
        let (segment, _) = sealed::unseal::<Segment>(&bytes).ok()?;
        let dirs = segment.dirs.len();
        let holds = segment.version == Segment::version_of(&segment.records)
            && segment.dataset_id == dataset_id
            && (segment.from, segment.to) == (self.from, self.to)
            && segment.to.checked_sub(segment.from).and_then(|more| more.checked_add(1)) == Some(segment.records.len() as u64)
            && segment.records.iter().all(|record| record.dirs().all(|dir| (dir as usize) < dirs));
        holds.then_some(segment)
    }
}

/// Returns the segments that are there, in their order.
fn segments(fs: &dyn ReadFs, paths: &Paths) -> Vec<Found> {
    let names = fs.names(&paths.index()).unwrap_or_default();
    let mut found: Vec<Found> = names.into_iter().filter_map(|(path, _)| Found::parse(path)).collect();
    found.sort_unstable();
    found
}

/// Returns the ids of the columns of times.
fn timed(columns: &[OutputColumn]) -> Vec<u32> {
    let of_times = |column: &&OutputColumn| matches!(DataType::from_str(&column.data_type), Ok(DataType::Timestamp(..)));
    columns.iter().filter(of_times).map(|column| column.id).filter(|id| *id > 0).collect()
}

/// Reads the bounds of a column of times: eight bytes each, the lowest first.
fn bounds(column: &ColumnStatistics) -> Option<Bounds> {
    let number = |hex: &Option<String>| {
        let hex = hex.as_deref().filter(|hex| hex.len() == 16)?;
        Some(u64::from_str_radix(hex, 16).ok()?.swap_bytes().cast_signed())
    };
    Some(Bounds(column.id, number(&column.min)?, number(&column.max)?))
}

#[cfg(test)]
mod tests;
