//! A dataset that Pintail 0.1 left, from its archive.
//!
//! Owns: unpacking it, what its `fixture.json` says, filing its offsets under other ids as 0.1 would have done here.
//! Does not own: how the archives were made (see `tests/v1/make.py`).

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::common::lines::{ids, line};
use crate::common::process::Pintail;
use crate::common::readers::Row;
use crate::common::{Dataset, checkout, sha256, walk};

/// The version of the commit records that the binary under test writes.
const RECORD_VERSION: u64 = 2;

/// What was in an archive.
pub(crate) struct Fixture {
    pub dataset: Dataset,
    /// Its `fixture.json`.
    pub told: Value,
    /// The records that 0.1 wrote.
    left: BTreeSet<PathBuf>,
}

impl Fixture {
    /// Unpacks `tests/v1/<name>.tar.gz` into a new directory.
    pub(crate) fn unpack(name: &str) -> Self {
        let dataset = Dataset::new();
        let archive = checkout(&format!("tests/v1/{name}.tar.gz"));
        let status = Command::new("tar").args(["-xzf", &archive, "-C"]).arg(dataset.root()).status().expect("tar is there");
        assert!(status.success(), "{archive} cannot be unpacked");
        let told = serde_json::from_str(&fs::read_to_string(dataset.root().join("fixture.json")).unwrap()).unwrap();
        let left = records(&dataset);
        Self { dataset, told, left }
    }

    /// Returns a number of its `fixture.json`.
    pub(super) fn number(&self, key: &str) -> i64 {
        self.told[key].as_i64().unwrap_or_else(|| panic!("no number `{key}` in {}", self.told))
    }

    /// Returns how many events 0.1 had been given, read or not.
    pub(super) fn given(&self) -> i64 {
        self.number("ids")
    }

    /// Prepares a run with the configuration that 0.1 had.
    pub(crate) fn pintail(&self) -> Pintail<'_> {
        self.on(&self.dataset)
    }

    /// As [`Self::pintail`], on another dataset.
    pub(super) fn on<'a>(&self, dataset: &'a Dataset) -> Pintail<'a> {
        let settings = self.told["settings"].as_object().unwrap().iter().filter(|(key, _)| *key != "pipeline.out_path");
        settings.fold(dataset.pintail(), |pintail, (key, value)| pintail.set(key, value.clone()))
    }

    /// Asserts that each of these rows is there once, with its content, and so many dead letters, each of another place; and what
    /// [`Self::assert_upgraded`] does.
    #[track_caller]
    pub(super) fn assert_holds(&self, expected: Range<i64>, dead_letters: usize) {
        let mut rows = self.dataset.rows();
        rows.sort_by_key(|row| row["id"].as_i64());
        assert_eq!(self.dataset.ids(), ids(expected));
        rows.iter().for_each(|row| assert_as_sent(row));
        let letters = self.dataset.dead_letters();
        let places: BTreeSet<_> = letters.iter().map(|letter| format!("{} {}", letter["partition"], letter["offset"])).collect();
        assert_eq!((letters.len(), places.len()), (dead_letters, dead_letters), "{letters:?}");
        self.assert_upgraded();
    }

    /// Asserts that the dataset is clean, that the records of 0.1 are still there, and that those behind them are of this binary's version.
    #[track_caller]
    pub(super) fn assert_upgraded(&self) {
        self.dataset.pintail().args(["verify"]).run().assert_code(0);
        let staged = walk(&self.dataset.internal("staging"));
        assert!(staged.is_empty(), "staging is not empty: {staged:?}");
        let now = records(&self.dataset);
        assert!(self.left.is_subset(&now), "records of 0.1 are gone: {:?}", self.left.difference(&now));
        assert!(now.len() > self.left.len(), "nothing was committed");
        for path in now.difference(&self.left) {
            let record: Value = serde_json::from_str(&first_line(path)).unwrap();
            assert_eq!(record["version"], RECORD_VERSION, "{}", path.display());
        }
    }

    /// Files the offsets of files under the inodes that they have here, as if they had always been here: an archive cannot keep those.
    pub(super) fn put_in_place(&self) {
        let inodes = self.told["inodes"].as_object().expect("inodes");
        let here = |name: &str| {
            let metadata = fs::metadata(self.dataset.root().join(name)).unwrap();
            format!("{:x}-{:x}-", metadata.dev(), metadata.ino())
        };
        self.rename_all(&inodes.iter().map(|(name, was)| (format!("{}-", was.as_str().unwrap()), here(name))).collect::<Vec<_>>());
    }

    /// Dates the requests in the journal to now, so that their keys are as old as they were when 0.1 had just written them.
    pub(super) fn keys_are_new(&self) {
        let now = u64::try_from(Utc::now().timestamp_millis()).unwrap().to_le_bytes();
        for path in walk(&self.dataset.internal("journal")) {
            let mut bytes = fs::read(&path).unwrap();
            // Behind the two lines of the segment's header: frames of 96 bytes and a body, as `pintail_storage::journal::frame` says.
            let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
            let mut at = ends.take(2).last().unwrap();
            while let Some(frame) = bytes.get_mut(at..at + 96) {
                frame[48..56].copy_from_slice(&now);
                let check = Sha256::new_with_prefix(&frame[..8]).chain_update(&frame[16..]).finalize();
                frame[8..16].copy_from_slice(&check[..8]);
                at += 96 + u64::from_le_bytes(frame[88..].try_into().unwrap()) as usize;
            }
            fs::write(path, bytes).unwrap();
        }
    }

    /// Replaces texts in all records, which are sealed again.
    pub(super) fn rename_all(&self, renamed: &[(String, String)]) {
        let paths = walk(&self.dataset.internal("")).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "json"));
        let lines: Vec<_> = paths.map(|path| (first_line(&path), path)).collect();
        let mut seals: Vec<(String, String)> = Vec::new();
        // Those that come later name the seals of earlier ones: until nothing changes any more.
        loop {
            let replaced = |line: &String| renamed.iter().chain(&seals).fold(line.clone(), |line, (was, is)| line.replace(was, is));
            let sealed: Vec<_> = lines.iter().map(|(line, _)| replaced(line)).collect();
            let found: Vec<_> =
                lines.iter().zip(&sealed).map(|((line, _), new)| (sha256(line.as_bytes()), sha256(new.as_bytes()))).collect();
            if found == seals {
                let write = |((_, path), line): (&(String, PathBuf), String)| {
                    fs::write(path, format!("{line}\n{{\"sha256\":\"{}\"}}\n", sha256(line.as_bytes()))).unwrap();
                };
                return lines.iter().zip(sealed).for_each(write);
            }
            seals = found;
        }
    }
}

/// Returns events as the client of `make.py` sent them: byte for byte, since a key is remembered with its body.
pub(super) fn sent(ids: Range<i64>) -> String {
    let region = |id: i64| if id % 2 == 0 { "eu" } else { "us" };
    ids.map(|id| format!("{{\"id\":{id},\"ts\":{},\"region\":\"{}\"}}\n", 1_767_225_600_000 + id, region(id))).collect()
}

#[track_caller]
fn assert_as_sent(row: &Row) {
    let sent: Value = serde_json::from_str(&line(row["id"].as_i64().unwrap())).unwrap();
    let ts: DateTime<Utc> = format!("{}Z", row["ts"].as_str().unwrap()).parse().unwrap();
    assert_eq!((Some(ts.timestamp_millis()), &row["region"]), (sent["ts"].as_i64(), &sent["region"]));
}

/// Returns the commit records of all instances.
fn records(dataset: &Dataset) -> BTreeSet<PathBuf> {
    let is_record = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "json") && path.iter().any(|part| part == "commits");
    walk(&dataset.internal("")).into_iter().filter(is_record).collect()
}

fn first_line(path: &Path) -> String {
    fs::read_to_string(path).unwrap().lines().next().expect("a sealed file has a first line").to_owned()
}
