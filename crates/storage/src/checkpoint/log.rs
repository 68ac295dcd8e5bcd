//! The commit log: FORMAT and the records of a dataset as they lie on the disk.
//!
//! Owns: finding the last record without looking at all, reading one, and FORMAT, which the first one names.
//! Does not own: writing them (see `store`), what they say (see `format` and `record`).

use std::io;
use std::path::Path;

use pintail_core::error::{Error, Result};
use pintail_core::evidence::Key;
use pintail_core::invocation::{command, service_command};

use super::format::Format;
use super::paths::{self, Paths};
use super::record::CommitRecord;
use super::relaid;
use crate::durable::fs::{Entry, EntryKind, ReadFs};

/// Says what a person can do about a ledger that cannot be trusted, given any path of its dataset.
pub(crate) fn way_out(of: &Path) -> String {
    if paths::is_in_bucket(of) {
        return "restore it by the versions of the bucket, or from any copy of the dataset that has it: a record never changes; without one, set another \
                `pipeline.out_path`, which begins a dataset with what the source still has"
            .to_owned();
    }
    format!(
        "restore it from any copy of the dataset that has it: a record never changes; without one, move `_pintail` out of the dataset and run {}, \
         which begins a ledger of the files that are there (what the source still has is read again)",
        service_command("adopt")
    )
}

/// Says what a person can do about a ledger of so many records that has lost its FORMAT.
pub(super) fn format_missing(paths: &Paths, records: u64) -> Error {
    Error::state(format!("`{}` is missing, but there are {records} commit records: {}", paths.format().display(), way_out(paths.root())))
}

/// Returns the sequence number of the last record; `None` if there is none. Lists only the last directory, whatever the length of the log.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if a record is missing in the last directory, or before it when it is still empty.
pub fn last_sequence(fs: &dyn ReadFs, paths: &Paths) -> Result<Option<u64>> {
    let dirs = list(fs, &paths.commits())?;
    let numbers = dirs.iter().filter(|entry| entry.kind == EntryKind::Dir).filter_map(|entry| number(&entry.path));
    let mut emptied_first = None;
    for dir in numbers.rev() {
        let found = records(fs, paths, dir)?;
        let Some(&last) = found.last() else {
            emptied_first = Some(dir);
            continue;
        };
        let first = paths::first_of_dir(last);
        let complete = found.iter().copied().eq(first..=last);
        // A directory is made for its first record: an empty one says that the one before is full.
        let joins = emptied_first.is_none_or(|empty| paths.commit_dir(last + 1) == paths.commits().join(format!("{empty:06}")));
        if !complete || !joins {
            let missing = (first..).find(|sequence| !found.contains(sequence)).unwrap_or(first);
            return Err(self::missing(paths, missing));
        }
        return Ok(Some(last));
    }
    Ok(None)
}

/// Reads a record. Returns it with its checksum.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if it is missing, torn or does not hold together.
pub fn read(fs: &dyn ReadFs, paths: &Paths, sequence: u64) -> Result<(CommitRecord, String)> {
    let path = paths.record(sequence);
    parse(bytes(fs, &path)?.as_deref(), &path, sequence)
}

/// Reads the bytes that lie in the place of a record, `path`. Returns it with its checksum.
///
/// # Errors
/// As [`read`].
pub(crate) fn parse(bytes: Option<&[u8]>, path: &Path, sequence: u64) -> Result<(CommitRecord, String)> {
    let parsed = bytes.ok_or_else(|| "it is missing".to_owned()).and_then(|bytes| CommitRecord::parse(bytes, sequence));
    parsed.map_err(|why| Error::state(format!("commit record `{}` cannot be trusted: {why}; {}", path.display(), way_out(path))))
}

/// Returns the error that says that a record is missing although there are later ones, or were.
pub(crate) fn missing(paths: &Paths, sequence: u64) -> Error {
    Error::state(format!(
        "commit record {sequence} is missing although later ones were written: which files it names and where reading stood is lost with `{}`; {}",
        paths.record(sequence).display(),
        way_out(paths.root())
    ))
}

/// Reads FORMAT, with the partition columns that the dataset has now; `None` if it is missing. Returns it with its checksum.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if it is torn or does not hold together.
pub fn format(fs: &dyn ReadFs, paths: &Paths) -> Result<Option<(Format, String)>> {
    let path = paths.format();
    let read = bytes(fs, &path)?.map(|bytes| Format::parse(&bytes)).transpose();
    let read = read.map_err(|why| Error::state(format!("`{}` cannot be trusted: {why}; {}", path.display(), way_out(&path))))?;
    let Some((mut format, sha256)) = read else { return Ok(None) };
    if let Some(relaid) = relaid::last(fs, paths, &sha256)?.relaid {
        format.partition_by = relaid.partition_by;
    }
    Ok(Some((format, sha256)))
}

/// Reads the key of a dataset; `None` if it is missing.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if it is none.
pub fn key(fs: &dyn ReadFs, paths: &Paths) -> Result<Option<Key>> {
    let path = paths.key();
    let refuse =
        || Error::state(format!("`{}` is no key of a dataset: restore it from a copy, or run {}", path.display(), command("repair --key")));
    bytes(fs, &path)?.map(|bytes| Key::parse(&bytes).ok_or_else(refuse)).transpose()
}

/// Reads a whole small file; `None` if it is missing.
pub fn bytes(fs: &dyn ReadFs, path: &Path) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match fs.open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        // A file where a directory is expected: there is nothing at that path either.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Error::io(format_args!("read `{}`", path.display()), error)),
    }
}

/// Returns the sequence numbers in a directory of records, ascending.
fn records(fs: &dyn ReadFs, paths: &Paths, dir: u64) -> Result<Vec<u64>> {
    let entries = list(fs, &paths.commits().join(format!("{dir:06}")))?;
    let mut found: Vec<u64> = entries.iter().filter_map(|entry| paths::sequence_of(&entry.path)).collect();
    found.sort_unstable();
    Ok(found)
}

fn list(fs: &dyn ReadFs, dir: &Path) -> Result<Vec<Entry>> {
    match fs.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|e| Error::io(format_args!("list `{}`", dir.display()), e)),
    }
}

fn number(dir: &Path) -> Option<u64> {
    let name = dir.file_name()?.to_str()?;
    (name.len() >= 6).then(|| name.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::posix::Posix;

    /// Lays empty files in the places of records.
    fn log(sequences: impl IntoIterator<Item = u64>) -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        for sequence in sequences {
            std::fs::create_dir_all(paths.commit_dir(sequence)).unwrap();
            std::fs::write(paths.record(sequence), "").unwrap();
        }
        (dir, paths)
    }

    fn last(paths: &Paths) -> Result<Option<u64>> {
        last_sequence(&Posix::default(), paths)
    }

    #[test]
    fn a_dataset_without_records_has_no_last_one() {
        let (_dir, paths) = log([]);
        assert_eq!(last(&paths).unwrap(), None);
        std::fs::create_dir_all(paths.commit_dir(1)).unwrap();
        assert_eq!(last(&paths).unwrap(), None);
    }

    #[test]
    fn what_was_being_written_is_no_record() {
        let (_dir, paths) = log([1, 2]);
        std::fs::write(paths::in_progress(&paths.record(3)), "").unwrap();
        assert_eq!(last(&paths).unwrap(), Some(2));
    }

    #[test]
    fn a_new_directory_that_is_still_empty_is_no_end_of_the_log() {
        let (_dir, paths) = log(1..10_000);
        std::fs::create_dir_all(paths.commit_dir(10_000)).unwrap();
        assert_eq!(last(&paths).unwrap(), Some(9_999));
        std::fs::write(paths.record(10_000), "").unwrap();
        assert_eq!(last(&paths).unwrap(), Some(10_000));
    }

    #[test]
    fn a_hole_in_the_log_is_named() {
        let (_dir, paths) = log([1, 2, 4]);
        assert!(last(&paths).unwrap_err().to_string().contains("commit record 3 is missing"));
        let (_dir, paths) = log([2]);
        assert!(last(&paths).unwrap_err().to_string().contains("commit record 1 is missing"));
        let (_dir, paths) = log([1, 2]);
        std::fs::create_dir_all(paths.commit_dir(10_000)).unwrap();
        assert!(last(&paths).unwrap_err().to_string().contains("commit record 3 is missing"));
    }
}
