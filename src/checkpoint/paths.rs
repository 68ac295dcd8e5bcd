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

/// The paths of one dataset, as one of the instances that share it sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
    instance: u32,
}

impl From<&Path> for Paths {
    fn from(root: &Path) -> Self {
        Self::new(root)
    }
}

impl From<&PathBuf> for Paths {
    fn from(root: &PathBuf) -> Self {
        Self::new(root)
    }
}

impl Paths {
    /// Takes the dataset's directory, `out_path`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), instance: 0 }
    }

    /// Returns the paths of another instance.
    pub fn of_instance(&self, instance: u32) -> Self {
        Self { root: self.root.clone(), instance }
    }

    /// Returns the same from the root of the file system on.
    pub fn absolute(&self) -> std::io::Result<Self> {
        Ok(Self { root: std::path::absolute(&self.root)?, instance: self.instance })
    }

    /// Returns which instance it is, counted from 0.
    pub fn instance(&self) -> u32 {
        self.instance
    }

    /// Returns the dataset's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns `_pintail`, the directory of everything that is not data.
    pub fn private(&self) -> PathBuf {
        self.root.join("_pintail")
    }

    /// Returns the directory of what only this instance writes: the first has that of the dataset, which most are alone in.
    pub fn own(&self) -> PathBuf {
        match self.instance {
            0 => self.private(),
            instance => self.instances().join(instance.to_string()),
        }
    }

    /// Returns the directory of the directories of all instances but the first.
    pub fn instances(&self) -> PathBuf {
        self.private().join("instances")
    }

    /// Returns the file of a change of the number of instances.
    pub fn take_over(&self, number: u64) -> PathBuf {
        self.instances().join(format!("take-over-{number:010}.json"))
    }

    /// Returns how the names of visible files tell a checkpoint: by its sequence number, and by its instance where that is not the first.
    pub fn checkpoint_name(&self, sequence: u64) -> String {
        match self.instance {
            0 => sequence.to_string(),
            instance => format!("i{instance}-{sequence}"),
        }
    }

    /// Returns the file that says what the dataset is.
    pub fn format(&self) -> PathBuf {
        self.private().join("FORMAT")
    }

    /// Returns the file of the key that evidence is made with. It is not for those who may read the records.
    pub fn key(&self) -> PathBuf {
        self.private().join("KEY")
    }

    /// Returns the file that the running process holds.
    pub fn lock(&self) -> PathBuf {
        self.own().join("LOCK")
    }

    /// Returns the directory of the directories of commit records.
    pub fn commits(&self) -> PathBuf {
        self.own().join("commits")
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
        self.own().join("staging")
    }

    /// Returns the staging directory of `sequence`.
    pub fn staging_of(&self, sequence: u64) -> PathBuf {
        self.staging().join(format!("{sequence:010}"))
    }

    /// Returns a staged file.
    pub fn staged(&self, sequence: u64, index: u32) -> PathBuf {
        self.staging_of(sequence).join(format!("{index}.{IN_PROGRESS}"))
    }

    /// Returns the directory of rejected records.
    pub fn dead_letters(&self) -> PathBuf {
        self.own().join("dead_letters")
    }

    /// Returns the name, relative to the dataset, of the rejected records of checkpoint `sequence`.
    pub fn dead_letters_of(&self, sequence: u64) -> String {
        match self.instance {
            0 => format!("_pintail/dead_letters/{sequence:010}.ndjson"),
            instance => format!("_pintail/instances/{instance}/dead_letters/{sequence:010}.ndjson"),
        }
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

/// Returns whether a path, relative to the dataset, is a place for rejected records, of whichever instance.
pub fn is_for_dead_letters(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("_pintail/").and_then(|rest| rest.strip_suffix(".ndjson")) else { return false };
    let rest = match rest.strip_prefix("instances/") {
        Some(of_instance) => match of_instance.split_once('/') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) && !number.is_empty() => rest,
            _ => return false,
        },
        None => rest,
    };
    rest.strip_prefix("dead_letters/").is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

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
    fn each_instance_but_the_first_has_a_directory_of_its_own_and_all_share_format() {
        let (first, third) = (Paths::new("out"), Paths::new("out").of_instance(2));
        assert_eq!(third.record(42), Path::new("out/_pintail/instances/2/commits/000000/0000000042.json"));
        assert_eq!(third.lock(), Path::new("out/_pintail/instances/2/LOCK"));
        assert_eq!(third.format(), first.format());
        assert_eq!((first.checkpoint_name(42), third.checkpoint_name(42)), ("42".into(), "i2-42".into()));
        for paths in [first, third] {
            assert_eq!(paths.published(&paths.dead_letters_of(7)), paths.dead_letters().join("0000000007.ndjson"));
            assert!(is_for_dead_letters(&paths.dead_letters_of(7)));
        }
        let others = [
            "dead_letters/1.ndjson",
            "_pintail/dead_letters/a/1.ndjson",
            "_pintail/instances/x/dead_letters/1.ndjson",
            "_pintail/1.ndjson",
        ];
        assert!(!others.iter().any(|path| is_for_dead_letters(path)));
    }

    #[test]
    fn other_names_hold_no_sequence() {
        for name in ["0000000042.json.inprogress", "42.json", "00000000x2.json", "0000000042.txt", "notes"] {
            assert_eq!(sequence_of(Path::new(name)), None, "{name}");
        }
    }
}
