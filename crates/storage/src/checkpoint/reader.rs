//! Reading a dataset beside the service, without the lock.
//!
//! Owns: the view of what is committed and visible, for `query`, `verify` and `dead-letters`.
//! Does not own: writing or repairing anything.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pintail_core::batch::Counts;
use pintail_core::error::{Error, Result};
use pintail_core::invocation::{command, forgotten};
use pintail_core::quantity::counted;
use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::columns::OutputColumn;
use super::format::Format;
use super::index::{Backwards, Bounds, Comparison, Index, IndexedFile, Replaced, Time};
use super::log;
use super::nothing::Nothing;
use super::paths::Paths;
use super::process::Process;
use super::record::{CommitRecord, FileEntry, FileKind};
use super::store;
use super::take_over;
use crate::bucket::{BucketTree, Local, Unseen};
use crate::durable::fs::ReadFs;
use crate::durable::posix::Posix;

/// How often all is looked at anew because files were replaced meanwhile. A hive partition is rewritten once an hour or so.
const REPLACED_MAX: usize = 8;
/// Directories that are held open while files are looked at.
const OPEN_DIRS_MAX: usize = 64;

/// A dataset open for reading. The service may write to it meanwhile.
#[derive(Debug)]
pub struct Dataset {
    place: Place,
    paths: Paths,
    format: Format,
    format_sha256: String,
}

/// What a dataset lies in.
#[derive(Debug, Clone)]
enum Place {
    Directory(Arc<Posix>),
    Bucket(Arc<BucketTree>),
}

/// The data of a dataset: what a query reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The partition columns and their types, outermost first. Readers that guess them from the paths guess wrong.
    pub partition_by: Vec<(String, String)>,
    /// The directories of the files, relative to the dataset.
    pub dirs: Vec<String>,
    /// The Parquet files that are committed and in their places, in the order of their commits.
    pub files: Vec<DataFile>,
    /// The sets of columns that files have.
    pub classes: Vec<Vec<OutputColumn>>,
    /// The Parquet files that are committed and not in their places yet: an answer lacks their rows.
    pub unpublished: Vec<Unpublished>,
    /// Why there is no file, where there is none.
    pub nothing: Nothing,
}

/// A committed Parquet file that is not visible yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpublished {
    /// Its path, relative to the dataset.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// What becomes of it, in words.
    pub told: String,
}

/// A committed Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// The place of its directory.
    pub dir: usize,
    /// Its name there.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// The place of the set of columns that it has; `None` if that is not known.
    pub class: Option<usize>,
    /// The bounds of its columns of times, as far as they are known.
    pub bounds: Vec<Bounds>,
}

impl Committed {
    /// Returns the path of a file, relative to the dataset.
    pub fn path(&self, file: &DataFile) -> PathBuf {
        Path::new(&self.dirs[file.dir]).join(&file.name)
    }
}

impl Dataset {
    /// Opens the dataset, as one of its instances sees it.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if there is none.
    pub fn open(paths: impl Into<Paths>) -> Result<Self> {
        let (fs, paths) = (Arc::new(Posix::default()), paths.into());
        let Some((format, format_sha256)) = log::format(&*fs, &paths)? else { return Err(no_dataset(&paths)) };
        Ok(Self { place: Place::Directory(fs), paths, format, format_sha256 })
    }

    /// As [`Self::open`], of a dataset in a bucket.
    ///
    /// # Errors
    /// Also [`pintail_core::error::ErrorKind::TryAgain`] if the bucket does not answer.
    pub fn open_in_bucket(tree: Arc<BucketTree>) -> Result<Self> {
        let paths = tree.paths().clone();
        let Some((format, format_sha256)) = log::format(&*tree, &paths)? else {
            let root = paths.root().display();
            return Err(Error::config(format!(
                "`{root}` is no dataset of pintail: it has no `_pintail/FORMAT`{}",
                forgotten("pipeline.out_path")
            )));
        };
        Ok(Self { place: Place::Bucket(tree), paths, format, format_sha256 })
    }

    fn fs(&self) -> &dyn ReadFs {
        match &self.place {
            Place::Directory(fs) => &**fs,
            Place::Bucket(tree) => &**tree,
        }
    }

    /// Returns the bucket that the dataset lies in; `None` if it lies in a directory.
    pub fn bucket(&self) -> Option<&Arc<BucketTree>> {
        match &self.place {
            Place::Directory(_) => None,
            Place::Bucket(tree) => Some(tree),
        }
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
    /// [`pintail_core::error::ErrorKind::State`] if the log of take-overs cannot be trusted.
    pub fn instances(&self) -> Result<Vec<Self>> {
        let take_overs = self.take_overs()?;
        let counts = take_overs.iter().map(|sealed| sealed.take_over.to_instances);
        let most = counts.chain([self.format.instances]).max().unwrap_or(1);
        let of = |instance| Self {
            place: self.place.clone(),
            paths: self.paths.of_instance(instance),
            format: self.format.clone(),
            format_sha256: self.format_sha256.clone(),
        };
        Ok((0..most).map(of).collect())
    }

    /// Returns the changes of the number of instances, oldest first.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::State`] if they cannot be trusted.
    pub fn take_overs(&self) -> Result<Vec<take_over::Sealed>> {
        take_over::all(self.fs(), &self.paths, &self.format_sha256)
    }

    /// Returns the sequence number of the instance's last record at this moment, 0 if there is none.
    pub fn last_sequence(&self) -> Result<u64> {
        Ok(log::last_sequence(self.fs(), &self.paths)?.unwrap_or(0))
    }

    /// Reads a record. Returns it with its checksum.
    pub fn record(&self, sequence: u64) -> Result<(CommitRecord, String)> {
        log::read(self.fs(), &self.paths, sequence)
    }

    /// Reads all records of the instance of this moment, in order.
    pub fn records(&self) -> Result<impl Iterator<Item = Result<CommitRecord>>> {
        Ok((1..=self.last_sequence()?).map(|sequence| Ok(self.record(sequence)?.0)))
    }

    /// Checks what a start needs beside the records, of which `last` is the last: the key and the snapshot that it names.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::State`], naming what is missing or torn and the way out.
    pub fn check_beside(&self, last: &CommitRecord) -> Result<()> {
        store::check_beside(self.fs(), &self.paths, &self.format.dataset_id, last)
    }

    /// Begins to hold the stored index against the records.
    pub fn index_comparison(&self) -> Comparison<'_> {
        Comparison::new(self.fs(), &self.paths, &self.format.dataset_id, &self.format_sha256)
    }

    /// Returns what all records say of files and counts: from the index as far as it reaches, and from the records after it.
    ///
    /// # Errors
    /// Those of `go_on`, which is asked before each record; [`pintail_core::error::ErrorKind::State`] if a record cannot be trusted.
    pub fn index(&self, go_on: &dyn Fn() -> Result<()>) -> Result<Index> {
        let last = self.last_sequence()?;
        let mut index = Index::load(self.fs(), &self.paths, &self.format.dataset_id, &self.format_sha256);
        for sequence in index.end() + 1..=last {
            go_on()?;
            let (record, sha256) = self.record(sequence)?;
            index.push(&record, sha256)?;
        }
        Ok(index)
    }

    /// Returns what the records up to `last` say of files and counts, the newest first: from the index where it reaches.
    pub fn backwards(&self, last: u64) -> Backwards<'_> {
        Backwards::new(self.fs(), &self.paths, &self.format.dataset_id, &self.format_sha256, last)
    }

    /// Returns the length of a file; `None` if it is not there: in the moment between commit and publication, or after somebody's retention.
    ///
    /// # Errors
    /// If that is not known.
    pub fn length(&self, file: &FileEntry) -> Result<Option<u64>> {
        match &self.place {
            Place::Directory(_) => {
                let place = self.paths.published(&file.path);
                Ok(place.metadata().ok().filter(Metadata::is_file).map(|metadata| metadata.len()))
            }
            Place::Bucket(tree) => match tree.listed(&file.path) {
                Some(bytes) => Ok(Some(bytes)),
                None => tree.length(&file.path),
            },
        }
    }

    /// Returns the place of a file of a dataset in a directory if it is there, as [`Self::length`] says.
    pub fn visible(&self, file: &FileEntry) -> Option<PathBuf> {
        Some(self.paths.published(&file.path)).filter(|place| place.is_file())
    }

    /// Returns a file on a local disk if it is there, as [`Self::length`] says: in its place, or a copy of one in a bucket, which goes with what is
    /// returned.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn local(&self, file: &FileEntry) -> Result<Option<Local>> {
        match &self.place {
            Place::Directory(_) => Ok(self.visible(file).map(Local::in_place)),
            Place::Bucket(tree) => tree.local(&file.path),
        }
    }
}

/// Says what a directory lacks to be a dataset.
fn no_dataset(paths: &Paths) -> Error {
    let root = paths.root();
    let what = match root.metadata() {
        Ok(found) if found.is_dir() => "is no dataset of pintail: it has no `_pintail/FORMAT`",
        Ok(_) => "is no dataset of pintail: it is no directory",
        Err(_) => "does not exist",
    };
    Error::config(format!("`{}` {what}{}", root.display(), forgotten("pipeline.out_path")))
}

/// Returns the committed data of the dataset at `out`.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if a committed file is gone that was not declared expired, or has another length than its record says.
pub fn committed(out: &Path) -> Result<Committed> {
    committed_while(out, || Ok(()))
}

/// As [`committed`]; asks before each record whether to go on.
pub fn committed_while(out: &Path, go_on: impl Fn() -> Result<()>) -> Result<Committed> {
    committed_in(&Dataset::open(out)?, go_on)
}

/// Returns the committed data of a dataset. Asks before each record whether to go on.
///
/// # Errors
/// As [`committed`].
pub fn committed_in(dataset: &Dataset, go_on: impl Fn() -> Result<()>) -> Result<Committed> {
    let instances = dataset.instances()?;
    for _ in 0..REPLACED_MAX {
        let (gathered, ends) = gather(dataset, &instances, &go_on)?;
        let checked = gathered.check(dataset.paths.root());
        if checked.is_err() && was_rewritten(&instances, &gathered, &ends)? {
            continue;
        }
        return checked.map(|()| gathered.committed);
    }
    let root = dataset.paths.root().display();
    Err(Error::try_again(format!("files of `{root}` are replaced all the time: try again")))
}

/// Returns whether files were replaced since all was looked at, up to these records of the instances.
fn was_rewritten(instances: &[Dataset], gathered: &Gathered, ends: &[u64]) -> Result<bool> {
    for (instance, end) in instances.iter().zip(ends) {
        for sequence in end + 1..=instance.last_sequence()? {
            if instance.record(sequence)?.0.rewrite.is_some() {
                return Ok(true);
            }
        }
    }
    Ok(gathered.is_replacing)
}

/// Looks at everything once. Returns it with the last record of each instance that was taken in.
fn gather(dataset: &Dataset, instances: &[Dataset], go_on: &impl Fn() -> Result<()>) -> Result<(Gathered, Vec<u64>)> {
    let indexes = instances.iter().map(|instance| instance.index(go_on)).collect::<Result<Vec<_>>>()?;
    let ends = indexes.iter().map(Index::end).collect();
    let expired_before = indexes.iter().filter_map(|index| index.declared_expired().into_iter().max()).max();
    if let Some(tree) = dataset.bucket() {
        // Behind the records: only files of the last one may be under way.
        tree.list_data()?;
        instances.iter().zip(&indexes).try_for_each(|(instance, index)| tree.check_not_older(&instance.paths, index.end()))?;
    }
    let mut gathered = Gathered { expired_before, ..Gathered::default() };
    for (instance, index) in instances.iter().zip(indexes) {
        go_on()?;
        gathered.add(instance, &index)?;
    }
    let partition_by = dataset.format.partition_by.iter();
    gathered.committed.partition_by = partition_by.map(|column| (column.name.clone(), column.data_type.clone())).collect();
    if gathered.committed.files.is_empty() && gathered.missing.is_none() {
        // Records that somebody removed named files that may still be there.
        instances.iter().try_for_each(|instance| store::check_ledger(instance.fs(), &instance.paths))?;
        gathered.committed.nothing = gathered.nothing();
    }
    Ok((gathered, ends))
}

/// The data of the instances so far.
#[derive(Default)]
struct Gathered {
    committed: Committed,
    places: HashMap<String, usize>,
    /// The directories of the files that were looked at; `None` where there is none.
    opened: HashMap<usize, Option<File>>,
    expired_before: Option<Time>,
    /// The files that are gone, as was declared.
    expired: u64,
    /// Whether files of the last commit are not yet in their places.
    publishing: bool,
    /// Whether the last record is a rewrite whose files are not yet in the place of others: those still count.
    is_replacing: bool,
    /// The last record of a dataset in a bucket with its process, once it was needed.
    last: Option<(CommitRecord, Option<Process>)>,
    /// What became of all records.
    counts: Counts,
    /// The first file that is gone, and how many are.
    missing: Option<(String, u64)>,
    /// The first file of another length than its record says, with both, and how many there are.
    replaced: Option<(String, u64)>,
}

impl Gathered {
    fn add(&mut self, instance: &Dataset, index: &Index) -> Result<()> {
        let dirs: Vec<usize> = index.dirs.iter().map(|dir| self.dir(dir)).collect();
        let classes: Vec<usize> = index.classes.iter().map(|columns| self.class(columns)).collect();
        let records = match self.is_replacing(instance, index, &dirs)? {
            true => &index.records[..index.records.len() - 1],
            false => &index.records[..],
        };
        let replaced = Replaced::by(records.iter().filter_map(|record| record.rewrite.as_ref()));
        for (sequence, record) in (1..).zip(records) {
            self.counts.add(&record.counts);
            for file in record.files.iter().filter(|file| file.kind() == FileKind::Parquet && !replaced.contains(file)) {
                let dir = dirs[file.dir() as usize];
                match self.length(instance, dir, file.name())? {
                    None if !self.has_come(instance, index, sequence, file)? => continue,
                    None => {}
                    Some(bytes) if bytes != file.bytes() => {
                        let first = || (format!("`{}` has {bytes} bytes, its record says {}", index.path(file), file.bytes()), 0);
                        self.replaced.get_or_insert_with(first).1 += 1;
                    }
                    Some(_) => {}
                }
                let class = record.class.map(|class| classes[class as usize]);
                let (name, rows, bounds) = (file.name().to_owned(), file.rows(), file.bounds().to_vec());
                self.committed.files.push(DataFile { dir, name, rows, class, bounds });
            }
        }
        Ok(())
    }

    /// Returns whether the last record is a rewrite whose files did not come yet: they come all at once, and then the others are gone.
    fn is_replacing(&mut self, instance: &Dataset, index: &Index, dirs: &[usize]) -> Result<bool> {
        let last = index.records.last().filter(|last| last.rewrite.is_some());
        let Some(file) = last.and_then(|last| last.files.first()) else { return Ok(false) };
        let is_to_come = self.length(instance, dirs[file.dir() as usize], file.name())?.is_none();
        self.is_replacing |= is_to_come;
        Ok(is_to_come)
    }

    fn dir(&mut self, dir: &str) -> usize {
        let dirs = &mut self.committed.dirs;
        *self.places.entry(dir.to_owned()).or_insert_with(|| {
            dirs.push(dir.to_owned());
            dirs.len() - 1
        })
    }

    /// Returns the place of a set of columns. Their order counts: it is that of the columns of `SELECT *`.
    fn class(&mut self, columns: &[OutputColumn]) -> usize {
        let classes = &mut self.committed.classes;
        let same = |known: &&Vec<OutputColumn>| {
            known.len() == columns.len() && known.iter().zip(columns).all(|(a, b)| (&a.name, &a.data_type) == (&b.name, &b.data_type))
        };
        classes.iter().position(|known| same(&known)).unwrap_or_else(|| {
            classes.push(columns.to_vec());
            classes.len() - 1
        })
    }

    /// Returns the length of a file; `None` if it is not there. Its directory stays open: a look from there costs a third of one from the root.
    fn length(&mut self, instance: &Dataset, dir: usize, name: &str) -> Result<Option<u64>> {
        if let Place::Bucket(tree) = &instance.place {
            let dir = &self.committed.dirs[dir];
            return Ok(if dir.is_empty() { tree.listed(name) } else { tree.listed(&format!("{dir}/{name}")) });
        }
        let path = || instance.paths.published(&self.committed.dirs[dir]);
        let cannot = |e: io::Error| Error::io(format_args!("look at `{}`", path().join(name).display()), e);
        if !self.opened.contains_key(&dir) {
            if self.opened.len() >= OPEN_DIRS_MAX {
                self.opened.clear();
            }
            let opened = match File::open(path()) {
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
                opened => Some(opened.map_err(cannot)?),
            };
            self.opened.insert(dir, opened);
        }
        let Some(opened) = &self.opened[&dir] else { return Ok(None) };
        match statat(opened, name, AtFlags::empty()) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile => Ok(Some(found.st_size.cast_unsigned())),
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(cannot(errno.into())),
        }
    }

    /// Tells why a file is not there: it expired as was declared, it is not published yet, or it is missing. Returns whether it has come since.
    fn has_come(&mut self, instance: &Dataset, index: &Index, sequence: u64, file: &IndexedFile) -> Result<bool> {
        let (record, path) = (&index.records[usize::try_from(sequence - 1).unwrap_or(usize::MAX)], index.path(file));
        let newest = file.newest().unwrap_or(record.time);
        if self.expired_before.is_some_and(|before| newest < before) {
            self.expired += 1;
            return Ok(false);
        }
        if let Place::Bucket(tree) = &instance.place {
            let unseen = match sequence < index.end() {
                // Looked at again: it may have become visible between the list and the records.
                true => tree.length(&path)?.map_or(Unseen::Removed, Unseen::There),
                false => self.unseen(instance, tree, sequence, &path)?,
            };
            if matches!(unseen, Unseen::There(_)) {
                return Ok(true);
            }
            match unseen.outlook(self.last.as_ref().and_then(|(_, process)| process.as_ref())) {
                Some(told) => {
                    self.publishing = true;
                    self.committed.unpublished.push(Unpublished { path, rows: file.rows(), told });
                }
                None => self.missing.get_or_insert((path, 0)).1 += 1,
            }
            return Ok(false);
        }
        let place = instance.paths.published(&path);
        // Only the last commit may still be under way. Looked at again last: it may have been published meanwhile.
        if sequence >= instance.last_sequence()? {
            let (record, _) = instance.record(sequence)?;
            let entry = record.files.iter().find(|entry| entry.path == path);
            if entry.is_some_and(|entry| instance.paths.staged(record.staged_by(), entry.staged).exists()) {
                self.publishing = true;
                return Ok(false);
            }
        }
        if place.is_file() {
            // Published since the directory was listed: this answer is from before.
            self.publishing = true;
            return Ok(false);
        }
        self.missing.get_or_insert((path, 0)).1 += 1;
        Ok(false)
    }

    /// Finds out why a file of the last record is not in its bucket.
    fn unseen(&mut self, instance: &Dataset, tree: &BucketTree, sequence: u64, path: &str) -> Result<Unseen> {
        if self.last.is_none() {
            let (last, _) = instance.record(sequence)?;
            let process = tree.process(&instance.paths, &last)?;
            self.last = Some((last, process));
        }
        let named = self.last.as_ref().and_then(|(last, _)| Some((last, last.files.iter().find(|file| file.path == path)?)));
        named.map_or(Ok(Unseen::Removed), |(last, file)| tree.unseen(&instance.paths, last, file))
    }

    /// Says why there is no file.
    fn nothing(&self) -> Nothing {
        match (self.publishing, self.expired, self.counts.records_in) {
            (true, ..) => Nothing::Published,
            (false, 0, 0) => Nothing::Committed,
            (false, 0, records) => Nothing::Rows { records, rejected: self.counts.dead_letters.total() },
            (false, expired, _) => Nothing::Left { expired },
        }
    }

    /// Refuses what a query would answer wrongly from.
    fn check(&self, out: &Path) -> Result<()> {
        let (out, verify) = (out.display(), command("verify"));
        let missing = self.missing.as_ref().map(|(first, files)| {
            format!(
                "{} of `{out}` {} missing, the first is `{first}`: an answer would leave their rows out; restore them, or declare them expired: \
                 {verify} names each, and how",
                counted(*files, "committed file", "committed files"),
                if *files == 1 { "is" } else { "are" }
            )
        });
        let replaced = self.replaced.as_ref().map(|(first, files)| {
            format!(
                "{} of `{out}` {} from what was committed, the first: {first}: an answer would have rows that no record accounts for; restore them: \
                 {verify} names each",
                counted(*files, "committed file", "committed files"),
                if *files == 1 { "differs" } else { "differ" }
            )
        });
        match missing.into_iter().chain(replaced).collect::<Vec<_>>() {
            faults if faults.is_empty() => Ok(()),
            faults => Err(Error::state(faults.join("\n"))),
        }
    }
}
