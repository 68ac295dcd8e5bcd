//! Opening a dataset: FORMAT, the last record, recovery.
//!
//! Owns: looking (facts) and acting (carrying out the plan) at start. What is seen here may be visible without being durable: it is
//! made durable before anything is built on it.
//! Does not own: the decision (see `recovery`), the lock, which is held before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};

use super::{Store, entry, publish, remove_staging, write_named};
use crate::checkpoint::columns::{self, NewColumns};
use crate::checkpoint::directories::{Directories, cannot, sync_dir};
use crate::checkpoint::format::{Format, PartitionColumn};
use crate::checkpoint::log;
use crate::checkpoint::paths::{self, Paths};
use crate::checkpoint::record::{CommitRecord, FileEntry};
use crate::checkpoint::recovery::{self, Facts, FileFacts, Found, LastRecord, Step};
use crate::checkpoint::take_over::{self, Origin, TakeOver};
use crate::digest::{hex, sha256_of};
use crate::durable::fs::{EntryKind, Fs};
use crate::error::{Error, Result};
use crate::evidence::Key;
use crate::offsets::{Offsets, PartitionId, Span};
use crate::source::SourceIdentity;

/// What the configuration asks of the dataset.
#[derive(Clone)]
pub struct Expected<'a> {
    /// Identifies the source, given the time that the dataset was made.
    pub source: &'a dyn Fn(DateTime<Utc>) -> SourceIdentity,
    /// The partition columns and their types, outermost first.
    pub partition_by: Vec<(String, String)>,
    /// The columns of the SQL's output, with the partition columns.
    pub schema: SchemaRef,
    /// Whether nullable columns may join the dataset.
    pub allow_new_columns: bool,
    /// The time to record if the dataset is made now.
    pub now: DateTime<Utc>,
    /// The key of the dataset if it is made now, or has none yet.
    pub new_key: Key,
    /// How many instances share the dataset, and which source partitions are whose.
    pub sharing: Sharing<'a>,
}

/// How instances share the source partitions of a dataset.
#[derive(Clone, Copy)]
pub struct Sharing<'a> {
    /// How many they are.
    pub instances: u32,
    /// Returns whether a source partition is that of instance `index` of `count`.
    pub owns: &'a dyn Fn(u32, u32, &PartitionId) -> bool,
}

impl Sharing<'_> {
    /// Returns that of a dataset with one instance.
    pub fn alone() -> Self {
        Self { instances: 1, owns: &|_, _, _| true }
    }
}

impl Store {
    /// Opens the dataset as one of its instances, makes it if there is none, and completes what a crash interrupted. The caller holds the
    /// lock.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Config`] if the dataset is not what `expected` asks for, [`crate::error::ErrorKind::State`] if what
    /// lies there contradicts itself: nothing is skipped silently.
    pub fn open(fs: Arc<dyn Fs>, paths: impl Into<Paths>, expected: &Expected) -> Result<Self> {
        let paths = paths.into();
        let absolute = paths.absolute();
        let paths = absolute.map_err(|e| Error::io(format_args!("use `{}` as `pipeline.out_path`", paths.root().display()), e))?;
        let mut directories = Directories::open(fs.clone(), &paths)?;
        probe(&*fs, &paths)?;

        let sequence = log::last_sequence(&*fs, &paths)?;
        let (format, format_sha256) = open_format(&*fs, &paths, sequence, expected)?;
        let key = open_key(&*fs, &paths, &expected.new_key)?;
        let take_over = take_over::last(&*fs, &paths, &format_sha256)?.map(|sealed| sealed.take_over);
        check_instances(&paths, &format, take_over.as_ref(), expected.sharing.instances)?;
        let (last, previous) = match sequence {
            Some(sequence) => {
                let (record, sha256) = last_record(&*fs, &paths, sequence, &format_sha256)?;
                (Some(record), sha256)
            }
            None => (None, format_sha256),
        };
        if let Some(last) = &last {
            let new_columns = if expected.allow_new_columns { NewColumns::Allow } else { NewColumns::Refuse };
            columns::check_evolution(&last.schema, &columns::describe(&expected.schema), new_columns)?;
        }
        let warnings = recover(&*fs, &paths, &mut directories, last.as_ref())?;
        let generation = take_over.as_ref().map_or(0, |take_over| take_over.number);
        if let Some(last) = last.as_ref().filter(|last| last.generation > generation) {
            return Err(Error::state(format!(
                "commit record {} was made after take-over {}, of which there is none in `{}`: refusing to start; run `pintail verify`",
                last.sequence,
                last.generation,
                paths.instances().display()
            )));
        }
        let (offsets, taken_over) = match &take_over {
            Some(take_over) if last.as_ref().is_none_or(|last| last.generation < generation) => {
                taken_over(&paths, take_over, last.as_ref(), expected.sharing)
            }
            _ => (last.as_ref().map_or_else(Offsets::default, |last| last.offsets().committed()), BTreeMap::new()),
        };
        Ok(Self { fs, paths, directories, format, key, last, previous, offsets, generation, taken_over, warnings, in_doubt: None })
    }
}

/// Refuses a number of instances that is not the dataset's: two of them would read the same partitions.
fn check_instances(paths: &Paths, format: &Format, take_over: Option<&TakeOver>, asked: u32) -> Result<()> {
    let instances = take_over.map_or(format.instances, |take_over| take_over.to_instances);
    if instances == asked {
        return Ok(());
    }
    Err(Error::config(format!(
        "`{}` is shared by {instances} instances, `source.instance.count` asks for {asked}: go back to {instances}, or stop all instances and \
         start one of the {asked} with `--take-over`",
        paths.root().display()
    )))
}

/// Returns where this instance begins after a take-over, and where that stands. Its rejected records stay its own.
fn taken_over(
    paths: &Paths,
    take_over: &TakeOver,
    last: Option<&CommitRecord>,
    sharing: Sharing,
) -> (Offsets, BTreeMap<PartitionId, Origin>) {
    let (mut spans, mut origins) = (Vec::new(), BTreeMap::new());
    for handed in &take_over.partitions {
        let id = PartitionId::new(handed.id.as_str());
        if (sharing.owns)(paths.instance(), take_over.to_instances, &id) {
            spans.push((id.clone(), Span::standing(handed.label.as_str().into(), handed.offset, None)));
            origins.insert(id, handed.from.clone());
        }
    }
    let last = last.map(|last| last.offsets().committed()).unwrap_or_default();
    let replays = last.spans().filter(|(id, _)| crate::source::dead_letters::owns(id));
    spans.extend(replays.map(|(id, span)| (id.clone(), span.clone())));
    (Offsets::from_spans(spans), origins)
}

/// Does once, at start, what a commit needs: better refused here than after a day of records.
fn probe(fs: &dyn Fs, paths: &Paths) -> Result<()> {
    let named = paths.own().join("probe");
    let temporary = paths::in_progress(&named);
    remove_leftovers(fs, [&named, &temporary])?;
    let probed = fs.create_new(&temporary).and_then(|mut file| {
        file.write_all(b"probe")?;
        file.sync()?;
        fs.rename_noreplace(&temporary, &named)?;
        fs.remove_file(&named)
    });
    probed.map_err(|e| cannot(paths.root(), format!("write, rename and remove a file in `{}`", paths.private().display()), e))
}

/// Removes what a killed process was writing.
pub(super) fn remove_leftovers<'a>(fs: &dyn Fs, files: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
    for file in files {
        if entry(fs, file)?.is_some() {
            fs.remove_file(file).map_err(|e| Error::io(format_args!("remove `{}`", file.display()), e))?;
        }
    }
    Ok(())
}

fn open_format(fs: &dyn Fs, paths: &Paths, last: Option<u64>, expected: &Expected) -> Result<(Format, String)> {
    let path = paths.format();
    if paths.instance() == 0 {
        // The others leave it alone: the first may be writing it.
        remove_leftovers(fs, [&paths::in_progress(&path)])?;
    }
    let partition_by: Vec<_> = expected
        .partition_by
        .iter()
        .map(|(name, data_type)| PartitionColumn { name: name.clone(), data_type: data_type.clone() })
        .collect();
    match (log::format(fs, paths)?, last) {
        (Some((format, sha256)), _) => {
            format.check(&paths.root().display().to_string(), &(expected.source)(format.created_at), &partition_by)?;
            // Who made it may have been killed before its name was durable: `Directories::open` has just fsynced `_pintail`.
            Ok((format, sha256))
        }
        (None, Some(sequence)) => Err(Error::state(format!(
            "`{}` is missing, but there are {sequence} commit records: restore it, or set another `pipeline.out_path`",
            path.display()
        ))),
        (None, None) if paths.instance() > 0 => {
            Err(Error::try_again(format!("`{}` is not there yet: instance 0 makes it, start that first", path.display())))
        }
        (None, None) => {
            let format = Format::new(expected.now, expected.source, partition_by).for_instances(expected.sharing.instances);
            let (bytes, sha256) = format.encode();
            write_named(fs, paths, &path, &bytes)?;
            Ok((format, sha256))
        }
    }
}

/// Reads the key, or makes it: a dataset of version 1 has none.
fn open_key(fs: &dyn Fs, paths: &Paths, new: &Key) -> Result<Key> {
    let path = paths.key();
    remove_leftovers(fs, [&paths::in_progress(&path)])?;
    let Some(bytes) = log::bytes(fs, &path)? else {
        write_named(fs, paths, &path, format!("{}\n", hex(new.bytes())).as_bytes())?;
        return Ok(new.clone());
    };
    Key::parse(&bytes).ok_or_else(|| Error::state(format!("`{}` is no key of a dataset: restore it from a copy", path.display())))
}

/// Reads the last record and checks that it follows the one before.
fn last_record(fs: &dyn Fs, paths: &Paths, sequence: u64, format_sha256: &str) -> Result<(CommitRecord, String)> {
    let (record, sha256) = log::read(fs, paths, sequence)?;
    let before = match sequence {
        1 => format_sha256.to_owned(),
        _ => log::read(fs, paths, sequence - 1)?.1,
    };
    if record.previous != before {
        return Err(Error::state(format!(
            "commit record {sequence} follows one with checksum {}, but the one before it has {before}: \
             refusing to start; run `pintail verify`",
            record.previous
        )));
    }
    Ok((record, sha256))
}

/// Completes the last commit and clears what no record needs. May be killed at any step and run again. Returns warnings.
fn recover(fs: &dyn Fs, paths: &Paths, directories: &mut Directories, last: Option<&CommitRecord>) -> Result<Vec<String>> {
    let next = last.map_or(1, |last| last.sequence + 1);
    let written = [paths.record(next), paths.record(next - 1)];
    remove_leftovers(fs, &written.map(|record| paths::in_progress(&record)))?;

    let facts = look(fs, paths, last)?;
    let plan = recovery::plan(&facts)?;
    let mut warnings = Vec::new();
    if let Some(last) = last {
        make_durable(fs, directories, paths, last.sequence)?;
        publish(fs, paths, directories, last.sequence, last.files.iter().zip(plan.steps.iter().copied()))?;
        let missing = last.files.iter().zip(&plan.steps).filter(|(_, step)| **step == Step::Missing);
        warnings.extend(missing.map(|(file, _)| {
            format!("`{}` of checkpoint {} was published and is gone: somebody else removed it", file.path, last.sequence)
        }));
    }
    remove_staging(fs, paths, plan.remove)?;
    Ok(warnings)
}

/// Makes the last record durable before it is acted upon: a killed process leaves names that a power cut still takes away.
fn make_durable(fs: &dyn Fs, directories: &mut Directories, paths: &Paths, sequence: u64) -> Result<()> {
    let record = paths.record(sequence);
    directories.ensure([paths.commit_dir(sequence)])?;
    fs.sync_file(&record).map_err(|e| Error::io(format_args!("fsync `{}`", record.display()), e))?;
    sync_dir(fs, &paths.commit_dir(sequence))
}

fn look(fs: &dyn Fs, paths: &Paths, last: Option<&CommitRecord>) -> Result<Facts> {
    let listed = fs.list(&paths.staging()).map_err(|e| Error::io(format_args!("list `{}`", paths.staging().display()), e))?;
    let dirs = listed.iter().filter(|entry| entry.kind == EntryKind::Dir);
    let staging: Vec<u64> = dirs.filter_map(|entry| paths::sequence_of(&entry.path)).collect();
    let Some(last) = last else {
        return Ok(Facts { last: None, staging });
    };
    let staged = staging.contains(&last.sequence);
    let files = last.files.iter().map(|file| look_at(fs, paths, last.sequence, staged, file)).collect::<Result<_>>()?;
    Ok(Facts { last: Some(LastRecord { sequence: last.sequence, files }), staging })
}

fn look_at(fs: &dyn Fs, paths: &Paths, sequence: u64, staged: bool, file: &FileEntry) -> Result<FileFacts> {
    let place = paths.published(&file.path);
    // Files are hashed only if the commit was interrupted: an ordinary start reads none.
    let (at_final, at_staged) = match staged {
        true => (compare(fs, &place, file)?, compare(fs, &paths.staged(sequence, file.staged), file)?),
        false => (compare_length(entry(fs, &place)?, file), Found::Absent),
    };
    Ok(FileFacts { path: file.path.clone(), staged_index: file.staged, at_final, at_staged })
}

fn compare_length(found: Option<EntryKind>, file: &FileEntry) -> Found {
    match found {
        None => Found::Absent,
        Some(EntryKind::File(bytes)) if bytes == file.bytes => Found::Right,
        Some(_) => Found::Wrong,
    }
}

fn compare(fs: &dyn Fs, path: &Path, file: &FileEntry) -> Result<Found> {
    match compare_length(entry(fs, path)?, file) {
        Found::Right => {}
        different => return Ok(different),
    }
    let read = fs.open(path).and_then(sha256_of).map_err(|e| Error::io(format_args!("read `{}`", path.display()), e))?;
    Ok(if read == file.sha256 { Found::Right } else { Found::Wrong })
}
