//! Where everything of a dataset lies.
//!
//! Owns: the names below `_pintail/`.
//! Does not own: the visible files (see `pintail_sink::layout`), what is in any of them.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// Records of one directory: a listing of the last one finds the last record, however many there are.
const RECORDS_PER_DIR: u64 = 10_000;

/// The form of the hour in the name of a visible file.
const HOUR: &str = "YYYY-MM-DD-HH";

/// The ending of what is being written. Never `.parquet`, so that no reader's glob takes it.
pub const IN_PROGRESS: &str = "inprogress";

/// The paths of one dataset, as one of the instances that share it sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    root: PathBuf,
    instance: u32,
}

/// Which checkpoint of which process a staging directory is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StagedBy {
    /// The checkpoint's sequence number.
    pub sequence: u64,
    /// The epoch of the process; 0 for one of version 1, which had none.
    pub epoch: u64,
}

impl StagedBy {
    /// Reads the name of a staging directory.
    pub fn parse(dir: &Path) -> Option<Self> {
        let name = dir.file_name()?.to_str()?;
        let (sequence, epoch) = name.split_once('-').unwrap_or((name, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let written_by_us = sequence.len() >= 10 && digits(sequence) && digits(epoch);
        written_by_us.then(|| Some(Self { sequence: sequence.parse().ok()?, epoch: epoch.parse().ok()? })).flatten()
    }
}

impl fmt::Display for StagedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            0 => write!(f, "{:010}", self.sequence),
            epoch => write!(f, "{:010}-{epoch}", self.sequence),
        }
    }
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

    /// Returns whether it lies in a bucket: then its root is what messages call it, such as `s3://lake/events`.
    pub fn is_in_bucket(&self) -> bool {
        is_in_bucket(&self.root)
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

    /// Returns the file of a change of the partition columns.
    pub fn relaid(&self, number: u64) -> PathBuf {
        self.private().join(format!("layout-{number:010}.json"))
    }

    /// Returns how the names of visible files tell a checkpoint: by its sequence number, and by its instance where that is not the first.
    pub fn checkpoint_name(&self, sequence: u64) -> String {
        match self.instance {
            0 => sequence.to_string(),
            instance => format!("i{instance}-{sequence}"),
        }
    }

    /// Returns the configuration that `pintail load` has inferred, and goes by again.
    pub fn loaded(&self) -> PathBuf {
        self.private().join("load.toml")
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

    /// Returns the object that shows that a process still holds the dataset, and where a start begins to look for the last record.
    pub fn beat(&self) -> PathBuf {
        self.own().join("BEAT")
    }

    /// Returns the object that tells the time of the server: it is written to be looked at.
    pub fn clock(&self) -> PathBuf {
        self.own().join("CLOCK")
    }

    /// Returns the file that says which records the running process holds back.
    pub fn held(&self) -> PathBuf {
        self.own().join("HELD")
    }

    /// Returns the file that counts starts which come to no commit.
    pub fn attempts(&self) -> PathBuf {
        self.own().join("ATTEMPTS")
    }

    /// Returns the file that tells it which of them may pass.
    pub fn accepted(&self) -> PathBuf {
        self.own().join("ACCEPTED")
    }

    /// Returns the directory of the directories of commit records.
    pub fn commits(&self) -> PathBuf {
        self.own().join("commits")
    }

    /// Returns the directory that holds the commit record of `sequence`.
    pub fn commit_dir(&self, sequence: u64) -> PathBuf {
        dir_in(&self.commits(), sequence)
    }

    /// Returns the commit record of `sequence`.
    pub fn record(&self, sequence: u64) -> PathBuf {
        record_in(&self.commits(), sequence)
    }

    /// Returns the directory of the staging directories.
    pub fn staging(&self) -> PathBuf {
        self.own().join("staging")
    }

    /// Returns the staging directory of a checkpoint. No other process has one of that name: an epoch is given once.
    pub fn staging_of(&self, checkpoint: StagedBy) -> PathBuf {
        self.staging().join(checkpoint.to_string())
    }

    /// Returns the name of a staged file in its directory.
    pub fn staged_name(index: u32) -> String {
        format!("{index}.{IN_PROGRESS}")
    }

    /// Returns a staged file.
    pub fn staged(&self, checkpoint: StagedBy, index: u32) -> PathBuf {
        self.staging_of(checkpoint).join(Self::staged_name(index))
    }

    /// Returns the directory in which those of hive partitions are built anew, beside that of the dataset: whatever lies below that one, a reader's
    /// `**` finds. `None` if nothing is beside it.
    pub fn workspace(&self) -> Option<PathBuf> {
        let mut name = OsString::from(".");
        name.push(self.root.file_name()?);
        name.push(".compaction");
        Some(self.root.parent()?.join(name))
    }

    /// Returns the directory of the snapshots of the state.
    pub fn snapshots(&self) -> PathBuf {
        self.own().join("snapshots")
    }

    /// Returns the snapshot of the state after the record of `sequence`.
    pub fn snapshot(&self, sequence: u64) -> PathBuf {
        self.snapshots().join(format!("{sequence:010}.json"))
    }

    /// Returns the directory of the derived index, which may be deleted.
    pub fn index(&self) -> PathBuf {
        self.own().join("index")
    }

    /// Returns the checkpoint of this instance that a visible file is named after, `events-<hour>-[i<instance>-]<checkpoint>[-<further>].parquet`;
    /// `None` if the name is of another form or another instance.
    pub fn checkpoint_of(&self, file: &Path) -> Option<u64> {
        let (_, rest) = hour_and_rest(file.file_name()?.to_str()?)?;
        let mut numbers = rest.strip_prefix('-')?.split('-').peekable();
        let instance = numbers.next_if(|number| number.starts_with('i')).map_or(Some(0), |number| number[1..].parse().ok());
        let sequence = numbers.next()?.parse().ok()?;
        (instance == Some(self.instance)).then_some(sequence)
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

/// Returns the hour in the name of a visible file, `YYYY-MM-DD-HH`; `None` if the name is of another form.
pub fn hour_of(name: &str) -> Option<&str> {
    Some(hour_and_rest(name)?.0)
}

fn hour_and_rest(name: &str) -> Option<(&str, &str)> {
    let (hour, rest) = name.strip_suffix(".parquet")?.strip_prefix("events-")?.split_at_checked(HOUR.len())?;
    let is_hour = hour.bytes().zip(HOUR.bytes()).all(|(byte, form)| if form == b'-' { byte == b'-' } else { byte.is_ascii_digit() });
    is_hour.then_some((hour, rest))
}

/// Returns whether a path is one in a bucket: it begins with a scheme.
pub(crate) fn is_in_bucket(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.contains("://"))
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

fn dir_in(commits: &Path, sequence: u64) -> PathBuf {
    commits.join(format!("{:06}", sequence / RECORDS_PER_DIR))
}

/// Returns the commit record of `sequence` of the chain in `commits`.
pub(crate) fn record_in(commits: &Path, sequence: u64) -> PathBuf {
    dir_in(commits, sequence).join(format!("{sequence:010}.json"))
}

/// Returns the sequence number in the name of a commit record or a snapshot.
pub fn sequence_of(path: &Path) -> Option<u64> {
    let ending = path.extension();
    let stem = path.file_stem()?.to_str()?;
    let written_by_us = stem.len() >= 10 && stem.bytes().all(|b| b.is_ascii_digit()) && ending == Some(OsStr::new("json"));
    written_by_us.then(|| stem.parse().ok()).flatten()
}

/// Returns the name beside `path` under which this process writes it before it gets its own.
pub fn written_by(path: &Path, nonce: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(nonce);
    in_progress(Path::new(&name))
}

/// Returns whether a name is of something being written.
pub fn is_in_progress(path: &Path) -> bool {
    path.extension() == Some(OsStr::new(IN_PROGRESS))
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
        for (staged, name) in [(StagedBy { sequence: 43, epoch: 0 }, "0000000043"), (StagedBy { sequence: 43, epoch: 41 }, "0000000043-41")]
        {
            assert_eq!(paths.staging_of(staged), Path::new("out/_pintail/staging").join(name));
            assert_eq!(StagedBy::parse(&paths.staging_of(staged)), Some(staged));
        }
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
    fn the_name_of_a_visible_file_tells_its_checkpoint_to_its_own_instance() {
        let (first, third) = (Paths::new("out"), Paths::new("out").of_instance(2));
        for (name, of_first, of_third) in [
            ("events-2026-01-05-00-42.parquet", Some(42), None),
            ("events-2026-01-05-00-42-1.parquet", Some(42), None),
            ("events-2026-01-05-00-i2-42.parquet", None, Some(42)),
            ("events-2026-01-05-00-i2-42-17.parquet", None, Some(42)),
            ("events-42.parquet", None, None),
            ("events-2026-01-05-00-x.parquet", None, None),
            ("events-2026-01-05-00-.parquet", None, None),
            ("other-2026-01-05-00-42.parquet", None, None),
            ("events-2026-01-05-00-42.json", None, None),
            ("events-2026-01-05-00-99999999999999999999.parquet", None, None),
        ] {
            let path = Path::new("region=us").join(name);
            assert_eq!((first.checkpoint_of(&path), third.checkpoint_of(&path)), (of_first, of_third), "{name}");
        }
    }

    #[test]
    fn other_names_hold_no_sequence() {
        for name in ["0000000042", "0000000042.json.inprogress", "42.json", "00000000x2.json", "0000000042.txt", "notes"] {
            assert_eq!(sequence_of(Path::new(name)), None, "{name}");
        }
    }
}
