//! Reading a dataset beside the service, without the lock.
//!
//! Owns: the view of what is committed and visible, for `query`, `verify` and `dead-letters`.
//! Does not own: writing or mending anything.

use std::path::{Path, PathBuf};

use super::format::Format;
use super::log;
use super::paths::Paths;
use super::record::{CommitRecord, FileEntry, FileKind};
use super::store;
use super::take_over;
use crate::durable::posix::Posix;
use crate::error::{Error, Result};

/// A dataset open for reading. The service may write to it meanwhile.
#[derive(Debug)]
pub struct Dataset {
    fs: Posix,
    paths: Paths,
    format: Format,
    format_sha256: String,
}

/// The data of a dataset: what a query reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The partition columns and their types, outermost first. Readers that guess them from the paths guess wrong.
    pub partition_by: Vec<(String, String)>,
    /// The Parquet files that are committed and in their places, relative to the dataset, in the order of their commits.
    pub files: Vec<PathBuf>,
}

impl Dataset {
    /// Opens the dataset, as one of its instances sees it.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Config`] if there is none.
    pub fn open(paths: impl Into<Paths>) -> Result<Self> {
        let (fs, paths) = (Posix::default(), paths.into());
        let Some((format, format_sha256)) = log::format(&fs, &paths)? else {
            let out = paths.root().display();
            return Err(Error::config(format!("`{out}` is no dataset of pintail: it has no `_pintail/FORMAT`")));
        };
        Ok(Self { fs, paths, format, format_sha256 })
    }

    /// Returns what the dataset is.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Returns the checksum of FORMAT, which the first record names.
    pub fn format_sha256(&self) -> &str {
        &self.format_sha256
    }

    /// Returns where things lie.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Returns the dataset as each of the instances sees it that it ever had.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::State`] if the log of take-overs cannot be trusted.
    pub fn instances(&self) -> Result<Vec<Self>> {
        let take_overs = self.take_overs()?;
        let counts = take_overs.iter().map(|sealed| sealed.take_over.to_instances);
        let most = counts.chain([self.format.instances]).max().unwrap_or(1);
        let of = |instance| Self {
            fs: Posix::default(),
            paths: self.paths.of_instance(instance),
            format: self.format.clone(),
            format_sha256: self.format_sha256.clone(),
        };
        Ok((0..most).map(of).collect())
    }

    /// Returns the changes of the number of instances, oldest first.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::State`] if they cannot be trusted.
    pub fn take_overs(&self) -> Result<Vec<take_over::Sealed>> {
        take_over::all(&self.fs, &self.paths, &self.format_sha256)
    }

    /// Returns the sequence number of the instance's last record at this moment, 0 if there is none.
    pub fn last_sequence(&self) -> Result<u64> {
        Ok(log::last_sequence(&self.fs, &self.paths)?.unwrap_or(0))
    }

    /// Reads a record. Returns it with its checksum.
    pub fn record(&self, sequence: u64) -> Result<(CommitRecord, String)> {
        log::read(&self.fs, &self.paths, sequence)
    }

    /// Reads all records of the instance of this moment, in order.
    pub fn records(&self) -> Result<impl Iterator<Item = Result<CommitRecord>>> {
        Ok((1..=self.last_sequence()?).map(|sequence| Ok(self.record(sequence)?.0)))
    }

    /// Checks what a start needs beside the records, of which `last` is the last: the key and the snapshot that it names.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::State`], naming what is missing or torn and the way out.
    pub fn check_beside(&self, last: &CommitRecord) -> Result<()> {
        store::check_beside(&self.fs, &self.paths, &self.format.dataset_id, last)
    }

    /// Returns the place of `file` if it is there: it is not in the moment between commit and publication, nor after somebody's retention.
    pub fn visible(&self, file: &FileEntry) -> Option<PathBuf> {
        Some(self.paths.published(&file.path)).filter(|place| place.is_file())
    }
}

/// Returns the committed data of the dataset at `out`.
pub fn committed(out: &Path) -> Result<Committed> {
    committed_while(out, || Ok(()))
}

/// As [`committed`]; asks before each record whether to go on.
pub fn committed_while(out: &Path, go_on: impl Fn() -> Result<()>) -> Result<Committed> {
    let dataset = Dataset::open(out)?;
    let mut files = Vec::new();
    for instance in dataset.instances()? {
        for record in instance.records()? {
            go_on()?;
            let record = record?;
            let parquet = record.files.iter().filter(|file| file.kind == FileKind::Parquet);
            files.extend(parquet.filter(|file| instance.visible(file).is_some()).map(|file| PathBuf::from(&file.path)));
        }
    }
    let partition_by = dataset.format.partition_by.into_iter().map(|column| (column.name, column.data_type)).collect();
    Ok(Committed { partition_by, files })
}
