//! Where everything of a dataset lies.
//!
//! Owns: the names below `_pintail/`.
//! Does not own: the visible files (see `sink::layout`), what is in any of them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Records of one directory: a listing of the last one finds the last record, however many there are.
const RECORDS_PER_DIR: u64 = 10_000;

/// The ending of what is being written. Never `.parquet`, so that no reader's glob takes it.
pub const IN_PROGRESS: &str = "inprogress";

/// The paths of one dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// Takes the dataset's directory, `out_path`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns the dataset's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns `_pintail`, the directory of everything that is not data.
    pub fn private(&self) -> PathBuf {
        self.root.join("_pintail")
    }

    /// Returns the file that says what the dataset is.
    pub fn format(&self) -> PathBuf {
        self.private().join("FORMAT")
    }

    /// Returns the file that the running process holds.
    pub fn lock(&self) -> PathBuf {
        self.private().join("LOCK")
    }

    /// Returns the directory of the directories of commit records.
    pub fn commits(&self) -> PathBuf {
        self.private().join("commits")
    }

    /// Returns the directory that holds the commit record of `sequence`.
    pub fn commit_dir(&self, sequence: u64) -> PathBuf {
        self.commits().join(format!("{:06}", sequence / RECORDS_PER_DIR))
    }

    /// Returns the commit record of `sequence`.
    pub fn record(&self, sequence: u64) -> PathBuf {
        self.commit_dir(sequence).join(format!("{sequence:010}.json"))
    }

    /// Returns the directory of the staging directories.
    pub fn staging(&self) -> PathBuf {
        self.private().join("staging")
    }

    /// Returns the staging directory of `sequence`.
    pub fn staging_of(&self, sequence: u64) -> PathBuf {
        self.staging().join(format!("{sequence:010}"))
    }

    /// Returns a staged file.
    pub fn staged(&self, sequence: u64, index: u32) -> PathBuf {
        self.staging_of(sequence).join(format!("{index}.{IN_PROGRESS}"))
    }

    /// Returns the directory of what was pushed and may not be committed yet.
    pub fn journal(&self) -> PathBuf {
        self.private().join("journal")
    }

    /// Returns the path that a commit record names, below the dataset's directory.
    pub fn published(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }
}

/// Returns the name, relative to the dataset, of the rejected records of checkpoint `sequence`.
pub fn dead_letters(sequence: u64) -> String {
    format!("{DEAD_LETTERS}{sequence:010}.ndjson")
}

/// The directory of rejected records, relative to the dataset.
pub const DEAD_LETTERS: &str = "_pintail/dead_letters/";

/// Returns the sequence number in the name of a commit record or, without an ending, of a staging directory.
pub fn sequence_of(path: &Path) -> Option<u64> {
    let ending = path.extension();
    let stem = path.file_stem()?.to_str()?;
    let written_by_us =
        stem.len() >= 10 && stem.bytes().all(|b| b.is_ascii_digit()) && (ending.is_none() || ending == Some(OsStr::new("json")));
    written_by_us.then(|| stem.parse().ok()).flatten()
}

/// Returns the name beside `path` under which it is written before it gets its own.
pub fn in_progress(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(IN_PROGRESS);
    name.into()
}

/// Returns the first sequence number that the directory of `sequence` may hold. The first of all is 1.
pub fn first_of_dir(sequence: u64) -> u64 {
    (sequence / RECORDS_PER_DIR * RECORDS_PER_DIR).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_the_sequence_and_give_it_back() {
        let paths = Paths::new("out");
        assert_eq!(paths.record(42), Path::new("out/_pintail/commits/000000/0000000042.json"));
        assert_eq!(paths.record(120_000), Path::new("out/_pintail/commits/000012/0000120000.json"));
        assert_eq!(sequence_of(&paths.record(120_000)), Some(120_000));
        assert_eq!(sequence_of(&paths.staging_of(43)), Some(43));
        assert_eq!((first_of_dir(9_999), first_of_dir(10_000), first_of_dir(10_001)), (1, 10_000, 10_000));
    }

    #[test]
    fn other_names_hold_no_sequence() {
        for name in ["0000000042.json.inprogress", "42.json", "00000000x2.json", "0000000042.txt", "notes"] {
            assert_eq!(sequence_of(Path::new(name)), None, "{name}");
        }
    }
}
