//! `pintail compact`: makes few files of the many small ones of each hour that is closed, in a dataset at rest.
//!
//! Owns: what is refused, the order of hours, checking files before and rows after, what is told. Killed at any step, it is run again.
//! Does not own: the choice (see [`pintail_storage::checkpoint::compaction`]), merging (see [`pintail_sink::merge`]), the rewrite (see
//! `pintail_storage::checkpoint::store`).

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use pintail_config::Config;
use pintail_core::digest::sha256_of;
use pintail_core::error::{Error, Result};
use pintail_core::invocation::command;
use pintail_core::quantity::counted;
use pintail_sink::merge::{Place, check_same, merge};
use pintail_storage::checkpoint::compaction::{Candidate, Job, Rules, candidates, plan};
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::checkpoint::record::{FileEntry, Replaced, Rewrite};
use pintail_storage::checkpoint::store::{Allow, Rewriting, Store};
use pintail_storage::durable::posix::Posix;

use crate::pipeline::Plan;
use crate::tables;

/// How far the newest event must be behind the end of an hour for that to be closed.
const AFTER: TimeDelta = TimeDelta::minutes(15);

/// Compacts the dataset of a configuration once, or says what would be done.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`] if it is a dataset that cannot be compacted, naming why; [`pintail_core::error::ErrorKind::TryAgain`]
/// while a service holds it; [`pintail_core::error::ErrorKind::State`] if a file is not what its record says.
pub(crate) fn run(config: &Config, dry_run: bool, to: &mut dyn Write) -> Result<()> {
    refuse(config)?;
    // One that is not there must not be made.
    let dataset = Dataset::open(config.paths())?;
    refuse_dataset(config, &dataset)?;
    let jobs = jobs(config, &dataset)?;
    if jobs.is_empty() {
        return writeln!(to, "nothing to compact: no closed hour of a hive partition has files that would become fewer").map_err(failed);
    }
    let planned = Sum::of(&jobs);
    if dry_run {
        jobs.iter().try_for_each(|job| writeln!(to, "  {}", told(job))).map_err(failed)?;
        return writeln!(to, "{} would be rewritten", planned.text()).map_err(failed);
    }
    let layout = Plan::new(config)?;
    let (_lock, mut store) = layout.open_for(config, None, Allow::default(), Arc::new(Posix::unwaiting()))?;
    store.check_swaps()?;
    refuse_new_columns(&layout, &store)?;
    // Another process may have gone on before the lock was taken.
    let jobs = self::jobs(config, &dataset)?;
    let (mut done, mut files, count) = (Sum::default(), 0, jobs.len());
    for (number, job) in (1..).zip(&jobs) {
        if let Some(why) = store.unswappable(&job.dir)? {
            writeln!(to, "  {number} of {count}: {} is left as it is: {why}", job.dir).map_err(failed)?;
            continue;
        }
        let made = compact(config, &layout, &dataset, &mut store, job)?;
        done.add(job);
        files += made;
        writeln!(to, "  {number} of {count}: {} into {made}", told(job)).map_err(failed)?;
    }
    store.leave_workspace();
    writeln!(to, "{} became {}", done.text(), counted(files, "file", "files")).map_err(failed)
}

/// Refuses by the configuration alone.
fn refuse(config: &Config) -> Result<()> {
    let out = config.pipeline.out_path.display();
    if config.is_in_bucket() {
        return Err(Error::config(format!(
            "`{out}` is in a bucket, where many files cannot be replaced by one in one step: a reader by glob would count rows twice, or not at all; \
             nothing was changed"
        )));
    }
    if config.instance().count > 1 {
        return Err(Error::config(format!(
            "`{out}` is shared by several instances, whose files are not compacted yet: nothing was changed"
        )));
    }
    if let Some(table) = config.tables.first() {
        return Err(Error::config(format!(
            "`{out}` is published as the table `{}`, and tables do not follow files that are replaced yet: nothing was changed",
            table.name
        )));
    }
    Ok(())
}

/// Refuses by what the dataset is.
fn refuse_dataset(config: &Config, dataset: &Dataset) -> Result<()> {
    let out = config.pipeline.out_path.as_path();
    if dataset.instances()?.len() > 1 {
        return Err(Error::config(format!(
            "`{}` was shared by several instances, whose files are not compacted yet: nothing was changed",
            out.display()
        )));
    }
    if let Some((_, called, dir)) = tables::FORMATS.iter().find(|(.., dir)| out.join(dir).is_dir()) {
        return Err(Error::config(format!(
            "`{}` is published as a {called} table (`{dir}`), and tables do not follow files that are replaced yet: nothing was changed",
            out.display()
        )));
    }
    if dataset.format().partition_by.is_empty() {
        return Err(Error::config(format!(
            "`{}` has no hive partitions: its files lie beside the ledger, in a directory that cannot be exchanged for another; nothing was changed",
            out.display()
        )));
    }
    Ok(())
}

/// Refuses an output with columns that no record has yet: files would have them that are older than they are.
fn refuse_new_columns(plan: &Plan, store: &Store) -> Result<()> {
    let known = &store.state().rest().columns;
    let output = store.columns_of(plan.layout.output_schema());
    match output.iter().find(|column| known.iter().all(|known| known.name != column.name)) {
        None => Ok(()),
        Some(new) => Err(Error::config(format!(
            "no checkpoint has the column `{}` of the SQL yet: let the service commit one with it, and compact then; nothing was changed",
            new.name
        ))),
    }
}

/// Chooses what is to be done, by the records of this moment.
fn jobs(config: &Config, dataset: &Dataset) -> Result<Vec<Job>> {
    let index = dataset.index(&|| Ok(()))?;
    let files: Vec<Candidate> = candidates(&index);
    let last = (1..).zip(&index.records).filter(|(_, record)| !record.files.is_empty()).map(|(sequence, _)| sequence).last();
    // What is named with an event of next year closes no hour of today.
    let watermark = files.iter().map(|file| file.newest).max().map_or(DateTime::UNIX_EPOCH, |newest| newest.min(Utc::now()));
    let rules = Rules {
        target_bytes: config.sink.target_file_bytes,
        closed_by: watermark - AFTER,
        last: last.unwrap_or(0),
        expired_before: index.declared_expired().into_iter().max().map(DateTime::from),
    };
    Ok(plan(&files, rules))
}

/// Rewrites the files of one hour of a hive partition. Returns how many they are then.
fn compact(config: &Config, plan: &Plan, dataset: &Dataset, store: &mut Store, job: &Job) -> Result<u64> {
    let inputs = check_inputs(dataset, job)?;
    let name = store.paths().checkpoint_name(store.next_sequence());
    let place = Place { dir: job.dir.clone(), hour: job.begin(), name };
    let columns = store.columns_of(plan.layout.output_schema());
    let go_on = || Ok(());
    let (staging, files) = merge(&inputs, &plan.layout, (&config.sink, &columns), place, store.staging(), &go_on)?;
    let outputs: Vec<PathBuf> = files.iter().map(|file| staging.dir().join(Paths::staged_name(file.staged.index))).collect();
    check_same(&inputs, &outputs, &go_on)?;
    let made = files.len() as u64;
    let replaces = job.files.iter().map(|file| Replaced { path: file.path.clone(), rows: file.rows }).collect();
    let rewrite = Rewrite { generation: job.generation(), replaces };
    store.rewrite(staging, Rewriting { rewrite, files, time: Utc::now() })?;
    Ok(made)
}

/// Checks that files are what their records say: what is damaged must not get a hash of its own. Returns their places.
fn check_inputs(dataset: &Dataset, job: &Job) -> Result<Vec<PathBuf>> {
    let mut places = Vec::with_capacity(job.files.len());
    for file in &job.files {
        let (record, _) = dataset.record(file.sequence)?;
        let entry = record.files.iter().find(|entry| entry.path == file.path);
        let entry: &FileEntry = entry.ok_or_else(|| Error::internal(format!("record {} does not name `{}`", file.sequence, file.path)))?;
        let place = dataset.paths().published(&file.path);
        let read = File::open(&place).and_then(sha256_of).map_err(|e| Error::io(format_args!("read `{}`", place.display()), e))?;
        if read != entry.sha256 {
            return Err(Error::state(format!(
                "`{}` is not what commit record {} says, and is not merged with others: {} names all that differ, and the ways out",
                place.display(),
                file.sequence,
                command("verify")
            )));
        }
        places.push(place);
    }
    Ok(places)
}

/// Files of several jobs.
#[derive(Debug, Default)]
struct Sum {
    files: u64,
    rows: u64,
    bytes: u64,
}

impl Sum {
    fn of(jobs: &[Job]) -> Self {
        let mut sum = Self::default();
        jobs.iter().for_each(|job| sum.add(job));
        sum
    }

    fn add(&mut self, job: &Job) {
        self.files += job.files.len() as u64;
        self.rows += job.rows();
        self.bytes += job.bytes();
    }

    fn text(&self) -> String {
        let files = counted(self.files, "file", "files");
        format!("{files} with {} and {}", counted(self.rows, "row", "rows"), counted(self.bytes, "byte", "bytes"))
    }
}

fn told(job: &Job) -> String {
    format!("{} {}:00, {}", job.dir, job.begin().format("%Y-%m-%d %H"), Sum::of(std::slice::from_ref(job)).text())
}

fn failed(error: io::Error) -> Error {
    Error::io("write to standard output", error)
}
