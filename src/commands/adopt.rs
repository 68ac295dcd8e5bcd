//! `pintail adopt`: begins or repairs a ledger so that it names the files that are there.
//!
//! Owns: finding the Parquet files that no record names, and what of them a record says.
//! Does not own: the record (see `store`), the configuration's fit with them beyond the names of their columns.
//!
//! For a directory whose ledger is gone, or older than its files. Where reading goes on is what the ledger says: what the files hold of later
//! records is read again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::Utc;
use itertools::Itertools;
use parquet::file::reader::{FileReader, SerializedFileReader};
use pintail_config::Config;
use pintail_core::digest::sha256_of;
use pintail_core::error::{Error, Result};
use pintail_core::invocation::quoted;
use pintail_core::quantity::counted;
use pintail_sink::files::column_statistics;
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::checkpoint::record::{Action, ActionKind, ColumnStatistics, FileEntry, FileKind};
use pintail_storage::checkpoint::store::{Adopted, Allow};
use pintail_storage::checkpoint::{lock, log, visible};
use pintail_storage::durable::posix::Posix;

use crate::pipeline::Plan;
use crate::tables;

/// Records that may be needed so that new files do not get the names of adopted ones.
const RECORDS_MAX: u64 = 100_000;
/// Files, and records, that are listed by name.
const LISTED_MAX: usize = 20;

/// Names every visible Parquet file that no record names.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`] if a file cannot be one of this dataset.
pub(crate) fn run(config: &Config, to: &mut dyn Write) -> Result<()> {
    let plan = Plan::new(config)?;
    let paths = config.paths();
    // Before anything is made: what cannot be adopted leaves no half-made ledger.
    let Found { strays, named } = find(paths.root())?;
    // Tables are read only where there is something to adopt.
    let of_others = if strays.is_empty() { BTreeSet::new() } else { tables::of_others(paths.root()) };
    if let Some(file) = of_others.into_iter().find(|file| strays.contains(file)) {
        return Err(Error::config(format!(
            "`{}` was added to a table by another writer, and its rows may be those of other files (`OPTIMIZE`): read the table; or move the log of \
             the table and such files away, and publish anew; nothing was adopted",
            file.display()
        )));
    }
    let partitions: BTreeSet<String> = plan.layout.partition_columns().into_iter().map(|(name, _)| name).collect();
    let output: BTreeSet<&String> = plan.engine.output().fields().iter().map(|field| field.name()).collect();
    if strays.is_empty() {
        // A dataset, or a directory with files, that is not there must not be made.
        Dataset::open(paths.clone())?;
        // A service publishes what its next record names.
        lock::check_free(paths.clone())?;
        return writeln!(to, "nothing to adopt: every Parquet file of `{}` is named by a record", paths.root().display()).map_err(failed);
    }
    let mut files = Vec::with_capacity(strays.len());
    for (index, path) in strays.iter().enumerate() {
        let index = u32::try_from(index).map_err(|_| Error::config("there are too many files to adopt"))?;
        let (file, statistics) = describe(paths.root(), path, index)?;
        check_fits(&file.path, &statistics, &output, &partitions)?;
        files.push((file, statistics));
    }
    check_no_copy(&files, named, |path| paths.checkpoint_of(path).is_some())?;
    let newest = strays.iter().filter_map(|path| paths.checkpoint_of(path)).max().unwrap_or(0);
    let is_new = log::format(&Posix::default(), &paths)?.is_none();
    let (_lock, mut store) = plan.open_for(config, None, Allow { strangers: true, ..Allow::default() }, Arc::new(Posix::default()))?;
    if newest > store.next_sequence() + RECORDS_MAX {
        return Err(Error::config(format!(
            "the newest file is of checkpoint {newest}, the ledger is at {}: restore the ledger, or rename the files",
            store.next_sequence() - 1
        )));
    }
    announce(&files, to).map_err(failed)?;
    let (count, rows) = (counted(files.len() as u64, "file", "files"), counted(rows(&files), "row", "rows"));
    let act = |text: String| Action::new(ActionKind::Adopt, text);
    let schema = Some(plan.engine.output().clone());
    let adopted = store.act(act(format!("{count} with {rows}, named as they are")), Adopted { files, schema }, Utc::now())?;
    let sequence = adopted.sequence;
    while store.next_sequence() <= newest {
        // The files of later checkpoints must not be given names that are taken.
        store.act(act("passes over the number of a file that was adopted".into()), Adopted::default(), Utc::now())?;
    }
    let told = writeln!(to, "record {sequence}: {count} with {rows}, named as they are");
    let first = if is_new { None } else { Some(store.epoch()) };
    told.and_then(|()| writeln!(to, "{}", way_back(store.paths(), first, store.next_sequence() - 1))).map_err(failed)
}

fn failed(error: io::Error) -> Error {
    Error::io("write to standard output", error)
}

fn rows(files: &[Described]) -> u64 {
    files.iter().map(|(file, _)| file.rows).sum()
}

/// Says what is about to be done.
fn announce(files: &[Described], to: &mut dyn Write) -> io::Result<()> {
    let (count, rows) = (counted(files.len() as u64, "file", "files"), counted(rows(files), "row", "rows"));
    writeln!(to, "adopting {count} with {rows}, which count as committed from now on:")?;
    for (file, _) in files.iter().take(LISTED_MAX) {
        writeln!(to, "  {}  {}", file.path, counted(file.rows, "row", "rows"))?;
    }
    if files.len() > LISTED_MAX {
        writeln!(to, "  and {} more", files.len() - LISTED_MAX)?;
    }
    writeln!(to, "they are not compared with the source: what it gives from the last position on is read, also if they hold it already")
}

/// Says how an adoption is undone: the records that it wrote, from `first` on, go, or all of a ledger that it has begun.
fn way_back(paths: &Paths, first: Option<u64>, last: u64) -> String {
    let quoted = |path: &Path| quoted(&path.display().to_string());
    let gone = match first {
        None => quoted(&paths.private()),
        Some(first) if last - first < LISTED_MAX as u64 => (first..=last).map(|sequence| quoted(&paths.record(sequence))).join(" "),
        Some(first) => {
            return format!(
                "to undo it before anything else writes, move the commit records {first} to {last} out of `{}`",
                paths.commits().display()
            );
        }
    };
    let undone = free_name("undone");
    format!("to undo it before anything else writes: `mkdir {undone} && mv {gone} {undone}/`")
}

/// Returns a name that nothing in the working directory has: an adoption may be undone more than once.
fn free_name(name: &str) -> String {
    let names = std::iter::once(name.to_owned()).chain((2..).map(|n: u64| format!("{name}-{n}")));
    names.into_iter().find(|name| Path::new(name).symlink_metadata().is_err()).expect("the numbers do not end")
}

/// What lies in the directory.
struct Found {
    /// The visible Parquet files that no record names, in the order of their paths.
    strays: Vec<PathBuf>,
    /// Those that records name: hive partition and SHA-256, with the path.
    named: BTreeMap<Content, String>,
}

fn find(root: &Path) -> Result<Found> {
    let visible = if root.is_dir() { visible::list(root)? } else { BTreeSet::new() };
    let (mut paths, mut named) = (BTreeSet::new(), BTreeMap::new());
    if log::format(&Posix::default(), &root.into())?.is_some() {
        for instance in Dataset::open(root)?.instances()? {
            for record in instance.records()? {
                for file in record?.files {
                    paths.insert(root.join(&file.path));
                    named.insert(content(&file), file.path);
                }
            }
        }
    }
    Ok(Found { strays: visible.into_iter().filter(|path| !paths.contains(path)).collect(), named })
}

/// What makes two files the same: what they hold, in one hive partition. Others may hold the same columns of other rows.
type Content = (BTreeSet<String>, String);

fn content(file: &FileEntry) -> Content {
    (dirs(&file.path).filter(|dir| dir.contains('=')).map(str::to_owned).collect(), file.sha256.clone())
}

/// Returns the directories of a path below the dataset.
fn dirs(path: &str) -> impl Iterator<Item = &str> {
    path.rsplit_once('/').into_iter().flat_map(|(dirs, _)| dirs.split('/'))
}

/// Refuses a copy that somebody made: its rows would be there twice. What has a name of Pintail's was written by it, however alike.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`], naming the copy and what it is one of.
fn check_no_copy(files: &[Described], mut named: BTreeMap<Content, String>, is_own: impl Fn(&Path) -> bool) -> Result<()> {
    let (own, foreign): (Vec<_>, Vec<_>) = files.iter().map(|(file, _)| file).partition(|file| is_own(Path::new(&file.path)));
    named.extend(own.into_iter().map(|file| (content(file), file.path.clone())));
    for file in foreign {
        if let Some(other) = named.insert(content(file), file.path.clone()) {
            return Err(Error::config(format!(
                "`{}` is a copy of `{other}`: its rows would be there twice; move it out of the directory; nothing was adopted",
                file.path
            )));
        }
    }
    Ok(())
}

/// A file, with what its footer says of its columns.
type Described = (FileEntry, Vec<(String, ColumnStatistics)>);

/// Reads what a record says of a file.
fn describe(root: &Path, path: &Path, index: u32) -> Result<Described> {
    let failed = |e| Error::io(format_args!("read `{}`", path.display()), e);
    let refuse = |why: &str| Error::config(format!("`{}` cannot be adopted: {why}; move it out of the directory", path.display()));
    let relative = path.strip_prefix(root).ok().and_then(Path::to_str).ok_or_else(|| refuse("its path is not UTF-8"))?;
    if relative.starts_with(['_', '.']) {
        return Err(refuse("no reader looks for data there"));
    }
    let open = || File::open(path).map_err(failed);
    let bytes = open()?.metadata().map_err(failed)?.len();
    let sha256 = sha256_of(open()?).map_err(failed)?;
    let reader = SerializedFileReader::new(open()?).map_err(|e| refuse(&format!("it is no Parquet file: {e}")))?;
    let metadata = reader.metadata();
    let rows = u64::try_from(metadata.file_metadata().num_rows()).map_err(|_| refuse("its number of rows is negative"))?;
    let file = FileEntry {
        path: relative.to_owned(),
        staged: index,
        kind: FileKind::Parquet,
        rows,
        bytes,
        sha256,
        event_time: None,
        columns: Vec::new(),
        upload: None,
    };
    Ok((file, column_statistics(metadata)))
}

/// Checks that a file has the columns of the output, some in its path and the others in itself.
fn check_fits(
    path: &str,
    statistics: &[(String, ColumnStatistics)],
    output: &BTreeSet<&String>,
    partitions: &BTreeSet<String>,
) -> Result<()> {
    let refuse = |why: String| Err(Error::config(format!("`{path}` does not fit the configuration: {why}; nothing was adopted")));
    let misplaced = |dir: &str| {
        refuse(format!(
            "the directory `{dir}` in its path is no hive partition of `sink.partition_by`; move it into its partition, or out of the dataset"
        ))
    };
    let named = dirs(path).map(|dir| dir.split_once('=').map(|(name, _)| name).ok_or(dir));
    let dirs: Vec<&str> = match named.collect() {
        Ok(dirs) => dirs,
        Err(dir) => return misplaced(dir),
    };
    if let Some(missing) = partitions.iter().find(|partition| !dirs.contains(&partition.as_str())) {
        return refuse(format!("its path has no `{missing}=…`, which `sink.partition_by` asks for"));
    }
    if let Some(more) = dirs.iter().find(|dir| !partitions.contains(**dir)) {
        return refuse(format!("its path has `{more}=…`, which is not in `sink.partition_by`"));
    }
    if let Some(twice) = dirs.iter().duplicates().next() {
        return refuse(format!("its path has `{twice}=…` twice; move it into its partition, or out of the dataset"));
    }
    if let Some((more, _)) = statistics.iter().find(|(name, _)| !output.contains(name)) {
        return refuse(format!("it has the column `{more}`, which the SQL does not return"));
    }
    match output.iter().find(|name| !partitions.contains(name.as_str()) && statistics.iter().all(|(column, _)| column != **name)) {
        Some(missing) => refuse(format!("it has no column `{missing}`, which the SQL returns")),
        None => Ok(()),
    }
}
