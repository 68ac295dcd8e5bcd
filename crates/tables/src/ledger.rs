//! The ledger as the publisher of a table reads it.
//!
//! Owns: reading records of a dataset on a disk as [`facts`](crate::facts), without the lock; what of the last checkpoint is not in its place yet.
//! Does not own: the records and their order (see `pintail_storage`), how far a table is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use pintail_core::error::{Error, Result};
use pintail_core::invocation::command;
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::reader::Dataset as Stored;
use pintail_storage::checkpoint::record::{ActionKind, CommitRecord, FileEntry, FileKind};

use crate::facts::{Chain, Column, DataFile, Dataset, Portion};

/// What a publisher asks of a ledger.
pub trait Ledger {
    /// Returns what the dataset is at this moment.
    fn dataset(&self) -> &Dataset;

    /// Returns the chains that are to be published, as far as they reached when they were last looked at.
    fn chains(&self) -> &[Chain];

    /// Returns files of the records after `after`, none of them after `to`: of as many as have about `files_max`, and of one at least.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::State`] if a record cannot be trusted, or a file is gone that was not declared expired.
    fn after(&self, instance: u32, after: u64, to: u64, files_max: usize) -> Result<Portion>;

    /// Returns the files that are gone as it was declared.
    ///
    /// # Errors
    /// As [`Self::after`].
    fn expired(&self) -> Result<BTreeSet<String>>;

    /// Returns the files that are there and of which `is_told` says no, of the records up to that which is `published` of each instance.
    ///
    /// # Errors
    /// As [`Self::after`].
    fn lacking(&self, published: &BTreeMap<u32, u64>, is_told: &dyn Fn(&str) -> bool) -> Result<BTreeSet<String>>;
}

/// The ledger of a dataset on a disk.
#[derive(Debug)]
pub struct OnDisk {
    dataset: Dataset,
    stored: Vec<Stored>,
    chains: Vec<Chain>,
    /// By chain: records whose columns and declarations are known.
    read: Vec<u64>,
    columns: Vec<Vec<Column>>,
    expired_before: Vec<Option<DateTime<Utc>>>,
}

impl OnDisk {
    /// Opens the ledger of a dataset: of all its instances, or of the `only` one that this process is.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if there is none.
    pub fn open(root: PathBuf, only: Option<u32>) -> Result<Self> {
        let opened = Stored::open(Paths::new(root))?;
        let all = opened.instances()?;
        let stored: Vec<Stored> = all.into_iter().filter(|stored| only.is_none_or(|only| stored.paths().instance() == only)).collect();
        let format = opened.format();
        let partition_by = format.partition_by.iter().map(|column| column.name.clone()).collect();
        let dataset = Dataset { id: format.dataset_id.clone(), partition_by, columns: Vec::new(), clash: None };
        let (mut read, mut columns, mut expired_before) = (Vec::new(), Vec::new(), Vec::new());
        for stored in &stored {
            let index = stored.index(&|| Ok(()))?;
            if index.records.iter().any(|record| record.rewrite.is_some()) {
                return Err(refuse_rewrite(stored));
            }
            read.push(index.end());
            columns.push(index.classes.last().map_or(&[][..], Vec::as_slice).iter().map(Column::of).collect::<Result<_>>()?);
            expired_before.push(index.declared_expired().into_iter().max().map(DateTime::from));
        }
        let mut ledger = Self { dataset, stored, chains: Vec::new(), read, columns, expired_before };
        ledger.refresh()?;
        Ok(ledger)
    }

    /// Looks how far the chains reach now.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::State`] if a record cannot be trusted.
    pub fn refresh(&mut self) -> Result<()> {
        self.chains.clear();
        for place in 0..self.stored.len() {
            let last = self.stored[place].last_sequence()?;
            for sequence in self.read[place] + 1..=last {
                let record = self.stored[place].record(sequence)?.0;
                self.take_in(place, &record)?;
            }
            self.read[place] = last;
            let stored = &self.stored[place];
            // Of the last record the files may still be staged: it is published the next time.
            let is_whole = match last {
                0 => true,
                _ => stored
                    .record(last)?
                    .0
                    .files
                    .iter()
                    .filter(|file| file.kind == FileKind::Parquet)
                    .all(|file| !self.is_staged(place, last, file)),
            };
            self.chains.push(Chain { instance: stored.paths().instance(), last: if is_whole { last } else { last - 1 } });
        }
        self.dataset.columns = united(&self.columns)?;
        self.dataset.clash = clash(&self.columns, &self.dataset.columns);
        Ok(())
    }

    /// Returns whether somebody declared that files may be gone.
    pub fn may_expire(&self) -> bool {
        self.expired_before().is_some()
    }

    fn expired_before(&self) -> Option<DateTime<Utc>> {
        self.expired_before.iter().flatten().max().copied()
    }

    fn take_in(&mut self, place: usize, record: &CommitRecord) -> Result<()> {
        if record.rewrite.is_some() {
            return Err(refuse_rewrite(&self.stored[place]));
        }
        if !record.schema.is_empty() {
            self.columns[place] = record.schema.iter().map(Column::of).collect::<Result<_>>()?;
        }
        let expired_before = &mut self.expired_before[place];
        match record.action.as_ref().map(|action| (action.kind, action.before)) {
            Some((ActionKind::Expire, before)) => *expired_before = (*expired_before).max(before),
            Some((ActionKind::TakeBack, before)) => *expired_before = before,
            _ => {}
        }
        Ok(())
    }

    fn is_staged(&self, place: usize, sequence: u64, file: &FileEntry) -> bool {
        let stored = &self.stored[place];
        let by = |record: &CommitRecord| stored.paths().staged(record.staged_by(), file.staged).exists();
        stored.visible(file).is_none() && stored.record(sequence).is_ok_and(|(record, _)| by(&record)) && stored.visible(file).is_none()
    }

    fn is_expired(&self, record: &CommitRecord, file: &FileEntry) -> bool {
        let newest = file.event_time.map_or(record.time, |times| times.max);
        self.expired_before().is_some_and(|before| newest < before)
    }
}

/// Refuses a dataset whose files were replaced: a table would need a snapshot that replaces them, too.
fn refuse_rewrite(stored: &Stored) -> Error {
    Error::config(format!(
        "files of `{}` were replaced by larger ones (`pintail compact`), and tables do not follow that yet: read the files, or publish another dataset",
        stored.paths().root().display()
    ))
}

/// Puts the columns of the chains together, those of the first in front.
fn united(chains: &[Vec<Column>]) -> Result<Vec<Column>> {
    let mut all: Vec<Column> = Vec::new();
    for column in chains.iter().flatten() {
        match all.iter_mut().find(|known| known.name == column.name) {
            None => all.push(column.clone()),
            Some(known) if known.data_type == column.data_type => known.id = if known.id == 0 { column.id } else { known.id },
            Some(known) => {
                return Err(Error::config(format!(
                    "column `{}` is {} in the files of one instance and {} in those of another: a table has one type for it",
                    column.name, known.data_type, column.data_type
                )));
            }
        }
    }
    Ok(all)
}

/// Says which columns have not one number of their own in all chains.
fn clash(chains: &[Vec<Column>], united: &[Column]) -> Option<String> {
    let mut numbered = chains.iter().flatten().filter(|column| column.id > 0);
    numbered.find_map(|column| {
        let other = united.iter().find(|other| (other.name == column.name) != (other.id == column.id))?;
        Some(match other.name == column.name {
            true => format!(
                "column `{}` is number {} in the files of one instance and {} in those of another",
                column.name, other.id, column.id
            ),
            false => format!(
                "number {} is column `{}` in the files of one instance and `{}` in those of another",
                column.id, other.name, column.name
            ),
        })
    })
}

/// Returns the column of a file that was adopted to which somebody gave another number than the dataset has for it.
fn misnumbered(path: &Path, columns: &[Column]) -> Result<Option<String>> {
    let cannot = |e: &dyn std::fmt::Display| Error::state(format!("`{}` cannot be read: {e}", path.display()));
    let file = File::open(path).map_err(|e| Error::io(format_args!("open `{}`", path.display()), e))?;
    let footer = SerializedFileReader::new(file).map_err(|e| cannot(&e))?;
    let fields = footer.metadata().file_metadata().schema().get_fields().to_vec();
    let number = |name: &str| columns.iter().find(|column| column.name == name).and_then(|column| i32::try_from(column.id).ok());
    let differs = fields.iter().map(|field| field.get_basic_info()).find(|of| of.has_id() && number(of.name()) != Some(of.id()));
    Ok(differs.map(|of| of.name().to_owned()))
}

impl Ledger for OnDisk {
    fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    fn chains(&self) -> &[Chain] {
        &self.chains
    }

    fn after(&self, instance: u32, after: u64, to: u64, files_max: usize) -> Result<Portion> {
        let place = self.chains.iter().position(|chain| chain.instance == instance);
        let place = place.ok_or_else(|| Error::internal(format!("there is no chain of instance {instance}")))?;
        let (stored, columns) = (&self.stored[place], &self.columns[place]);
        let mut portion = Portion { to: after, files: Vec::new() };
        for sequence in after + 1..=to.min(self.chains[place].last) {
            let record = stored.record(sequence)?.0;
            let files = DataFile::of_record(&record, columns);
            let entries = record.files.iter().filter(|file| file.kind == FileKind::Parquet);
            for (mut file, entry) in files.into_iter().zip(entries) {
                match stored.visible(entry) {
                    Some(path) => {
                        if record.trigger.is_none() {
                            file.misnumbered = misnumbered(&path, columns)?;
                        }
                        portion.files.push(file);
                    }
                    None if self.is_expired(&record, entry) => {}
                    None => {
                        return Err(Error::state(format!(
                            "`{}` of commit record {} is missing: no table can name it; run {}, which names all that is lost",
                            stored.paths().published(&entry.path).display(),
                            stored.paths().checkpoint_name(sequence),
                            command("verify")
                        )));
                    }
                }
            }
            portion.to = sequence;
            if portion.files.len() >= files_max {
                break;
            }
        }
        Ok(portion)
    }

    fn expired(&self) -> Result<BTreeSet<String>> {
        let mut expired = BTreeSet::new();
        let Some(before) = self.expired_before() else { return Ok(expired) };
        for stored in &self.stored {
            let index = stored.index(&|| Ok(()))?;
            for record in &index.records {
                for file in record.files.iter().filter(|file| file.kind() == FileKind::Parquet) {
                    let newest = file.newest().unwrap_or(record.time);
                    let path = index.path(file);
                    if DateTime::from(newest) < before && !stored.paths().published(&path).is_file() {
                        expired.insert(path);
                    }
                }
            }
        }
        Ok(expired)
    }
    fn lacking(&self, published: &BTreeMap<u32, u64>, is_told: &dyn Fn(&str) -> bool) -> Result<BTreeSet<String>> {
        let mut lacking = BTreeSet::new();
        for stored in &self.stored {
            let Some(last) = published.get(&stored.paths().instance()) else { continue };
            let index = stored.index(&|| Ok(()))?;
            for (_, record) in (1..=*last).zip(&index.records) {
                let paths = record.files.iter().filter(|file| file.kind() == FileKind::Parquet).map(|file| index.path(file));
                lacking.extend(paths.filter(|path| !is_told(path) && stored.paths().published(path).is_file()));
            }
        }
        Ok(lacking)
    }
}
