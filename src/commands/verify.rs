//! `pintail verify`: holds every record against every file.
//!
//! Owns: what must be true of a dataset at rest, and looking whether it is.
//! Does not own: how a file is compared (see `compare`), what is said of what was found (see `report`), repairing. Runs beside the service, without
//! the lock.

use std::collections::btree_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::offsets::PartitionId;
use pintail_core::quantity::counted;
use pintail_storage::bucket::{BucketTree, Unseen};
use pintail_storage::checkpoint::index::Comparison;
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::checkpoint::record::{CommitRecord, FileEntry, FileKind, Rewrite};
use pintail_storage::checkpoint::state::State;
use pintail_storage::checkpoint::visible::{self, Readers};

use compare::{Fault, compare, same_length};
use report::Report;

pub mod background;
mod compare;
mod report;
#[cfg(test)]
mod tests;

pub use compare::Depth;

/// Checks the dataset at `out`: all records and their chain, and the content of the files of checkpoint `since` and later. Prints a summary.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if anything contradicts the records, naming the first contradictions, a line each, and a way out;
/// [`pintail_core::error::ErrorKind::Config`] if nothing does, and there is a table that cannot be published.
pub fn run(out: &Path, since: Option<u64>, depth: Depth, to: &mut dyn Write) -> Result<()> {
    run_on(&Dataset::open(out)?, since, depth, to)
}

/// As [`run`], of a dataset that is open.
///
/// # Errors
/// As [`run`]; [`pintail_core::error::ErrorKind::TryAgain`] if its bucket does not answer.
pub(crate) fn run_on(dataset: &Dataset, since: Option<u64>, depth: Depth, to: &mut dyn Write) -> Result<()> {
    let out = dataset.paths().root();
    let mut report = look(dataset, since, depth)?;
    if !report.is_in_bucket {
        report.tables(out);
    }
    report.print(dataset, depth, to).map_err(|e| Error::io("write the report", e))?;
    match report.contradictions.len() {
        0 if !report.unread.is_empty() => Err(report.refusal(out)),
        0 if let Some(why) = &report.to_come.unknown => Err(Error::new(
            ErrorKind::Io,
            format!(
                "cannot tell whether {} will become visible: {why}",
                counted(report.to_come.files, "committed file", "committed files")
            ),
        )),
        0 if !report.refused.is_empty() => Err(Error::config(report.refused.join("\n"))),
        0 => Ok(()),
        places => Err(Error::state(format!(
            "`{}` contradicts its commit records in {}:\n  {}",
            out.display(),
            counted(places as u64, "place", "places"),
            report.told().join("\n  ")
        ))),
    }
}

/// Looks at everything.
fn look(dataset: &Dataset, since: Option<u64>, depth: Depth) -> Result<Report> {
    let instances = dataset.instances()?;
    // Before the records: what is visible now has its record already, however fast the service commits.
    let mut report = Report { unnamed: list_visible(dataset)?, is_in_bucket: dataset.bucket().is_some(), ..Report::default() };
    for instance in &instances {
        let mut check =
            Check { dataset: instance, instances: &instances, since: since.unwrap_or(1), depth, last: 0, live: HashMap::new(), report };
        check.records()?;
        report = check.report;
    }
    report.judge_missing();
    report.judge_unnamed(dataset.paths().root());
    Ok(report)
}

struct Check<'a> {
    dataset: &'a Dataset,
    instances: &'a [Dataset],
    since: u64,
    depth: Depth,
    /// The last record.
    last: u64,
    /// The data files of the records so far that no rewrite has replaced, with their rows: each row is in one of them.
    live: HashMap<String, u64>,
    report: Report,
}

impl Check<'_> {
    fn records(&mut self) -> Result<()> {
        self.last = match self.dataset.last_sequence() {
            Ok(last) => last,
            Err(error) => return self.refuse(error),
        };
        // After a record that cannot be read, nothing is known of what the next one follows.
        let mut before = Some((self.dataset.format_sha256().to_owned(), State::default()));
        let mut index = Some(self.dataset.index_comparison());
        for sequence in 1..=self.last {
            before = match self.dataset.record(sequence) {
                Ok((record, sha256)) => {
                    let state = before.and_then(|(previous, state)| self.chain(&record, &previous, state));
                    self.files(&record)?;
                    index = index.and_then(|index| self.index(index, &record, sha256.clone()));
                    state.map(|state| (sha256, state))
                }
                Err(error) => {
                    self.refuse(error)?;
                    None
                }
            };
        }
        if self.last > 0
            && let Ok((record, _)) = self.dataset.record(self.last)
            && let Err(why) = self.dataset.check_beside(&record)
        {
            self.refuse(why)?;
        }
        self.rewritten_since()?;
        if let Some((_, state)) = before {
            self.report.expired_before = self.report.expired_before.max(state.rest().expired_before);
        }
        Ok(())
    }

    /// Takes an error for a contradiction, unless it is a bucket that does not answer: nothing is known then.
    fn refuse(&mut self, error: Error) -> Result<()> {
        if self.report.is_in_bucket && error.kind() != ErrorKind::State {
            return Err(error);
        }
        self.report.contradictions.push(error.to_string());
        Ok(())
    }

    /// Holds the stored index against the next record. Returns what goes on with the one after it; `None` if that is of no use any more.
    fn index<'i>(&mut self, mut index: Comparison<'i>, record: &CommitRecord, sha256: String) -> Option<Comparison<'i>> {
        let sequence = match index.push(record, sha256) {
            Ok(None) => return Some(index),
            Ok(Some(sequence)) => sequence,
            // It does not follow, which was said already.
            Err(_) => return None,
        };
        let place = self.dataset.paths().index();
        self.report.contradictions.push(format!(
            "the index in `{}` says of record {sequence} what that does not say: delete the directory, it is made again from the records",
            place.display()
        ));
        None
    }

    /// Holds a record against what is before it. Returns the state after it; `None` if it does not follow.
    fn chain(&mut self, record: &CommitRecord, previous: &str, mut state: State) -> Option<State> {
        let sequence = self.dataset.paths().checkpoint_name(record.sequence);
        if record.previous != previous {
            let what = format!("commit record {sequence} follows {}, but what is before it has checksum {previous}", record.previous);
            self.report.contradictions.push(what);
        }
        let taken_over = match record.generation == state.rest().generation {
            true => Ok(()),
            false => self.taken_over(record, &state),
        };
        match taken_over.and_then(|()| state.apply(record)) {
            Ok(()) => Some(state),
            Err(why) => {
                self.report.contradictions.push(format!("commit record {sequence} does not go on where the one before ends: {why}"));
                None
            }
        }
    }

    /// Checks that the first record after a take-over begins where that says, and that it says so truly. Says in words what does not join.
    fn taken_over(&mut self, record: &CommitRecord, before: &State) -> Result<(), String> {
        let take_overs = self.dataset.take_overs().map_err(|e| e.to_string())?;
        let index = usize::try_from(record.generation).ok().and_then(|number| number.checked_sub(1));
        let take_over = index.and_then(|index| take_overs.get(index)).map(|sealed| &sealed.take_over);
        let take_over = take_over.ok_or_else(|| format!("there is no take-over {}", record.generation))?;
        for span in record.source.partitions.iter().filter(|span| !span.new) {
            let id = PartitionId::new(span.id.as_str());
            let Some(origin) = &span.taken_over else {
                if before.position(&id).is_some_and(|position| position.to == span.from) && id.is_of_dead_letters() {
                    continue;
                }
                return Err(format!("{} is neither new nor taken over", span.label));
            };
            let handed = take_over.partitions.iter().find(|handed| handed.id == span.id);
            if !handed.is_some_and(|handed| handed.offset == span.from && handed.from == *origin) {
                return Err(format!("take-over {} does not hand {} over at {}", record.generation, span.label, span.from));
            }
            if !self.report.handed_over.insert((record.generation, span.id.clone())) {
                return Err(format!("{} was taken over by two instances", span.label));
            }
            let chain = self.instances.get(origin.instance as usize).ok_or_else(|| format!("there is no instance {}", origin.instance))?;
            let (left, sha256) = self.left(chain, origin.sequence)?;
            if *sha256 != origin.sha256 || left.position(&id).is_none_or(|position| position.to != span.from) {
                let name = chain.paths().checkpoint_name(origin.sequence);
                return Err(format!("{} does not stand at {} in commit record {name}", span.label, span.from));
            }
        }
        Ok(())
    }

    /// Returns the state after a record of another chain, which partitions were handed over from, with the checksum of the record.
    fn left(&mut self, chain: &Dataset, sequence: u64) -> Result<&(State, String), String> {
        match self.report.left.entry((chain.paths().instance(), sequence)) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(place) => {
                let (mut state, mut sha256) = (State::default(), String::new());
                for number in 1..=sequence {
                    let (record, seal) = chain.record(number).map_err(|e| e.to_string())?;
                    state.apply(&record)?;
                    sha256 = seal;
                }
                Ok(place.insert((state, sha256)))
            }
        }
    }

    /// Holds a rewrite against the files that it replaces: each must be one that an earlier record names, and that no rewrite replaced before.
    fn rewrite(&mut self, record: &CommitRecord, rewrite: &Rewrite) -> Result<()> {
        let sequence = record.sequence;
        self.report.rewritten.add(rewrite.replaces.len() as u64, record.files.len() as u64);
        for file in &rewrite.replaces {
            let why = match self.live.remove(&file.path) {
                Some(rows) if rows == file.rows => continue,
                Some(rows) => format!("with {} rows, and it has {rows}", file.rows),
                None => "which no earlier record names, or another has replaced".to_owned(),
            };
            self.report.contradictions.push(format!("commit record {sequence} replaces `{}`, {why}", file.path));
        }
        self.not_missing(rewrite);
        // The files of the last one may still be to come. They come all at once, in the place of the others.
        let first = record.files.first();
        let has_come = sequence < self.last || first.map_or(Ok(None), |file| self.dataset.length(file))?.is_some();
        for file in rewrite.replaces.iter().filter(|_| has_come) {
            let place = self.dataset.paths().published(&file.path);
            if place.exists() {
                let what = "was replaced by commit record";
                let twice = format!(
                    "`{}` {what} {sequence}, and is there: a glob counts its rows twice; move it out of the dataset",
                    place.display()
                );
                self.report.contradictions.push(twice);
            }
        }
        Ok(())
    }

    /// What was replaced is not missing.
    fn not_missing(&mut self, rewrite: &Rewrite) {
        let replaced: HashSet<PathBuf> = rewrite.replaces.iter().map(|file| self.dataset.paths().published(&file.path)).collect();
        self.report.missing.retain(|(_, place)| !replaced.contains(place));
    }

    /// Takes in what the service has replaced since the last record was looked for.
    fn rewritten_since(&mut self) -> Result<()> {
        if self.report.missing.is_empty() {
            return Ok(());
        }
        let Ok(last) = self.dataset.last_sequence() else { return Ok(()) };
        for sequence in self.last + 1..=last {
            if let Ok((CommitRecord { rewrite: Some(rewrite), .. }, _)) = self.dataset.record(sequence) {
                self.not_missing(&rewrite);
            }
        }
        Ok(())
    }

    fn files(&mut self, record: &CommitRecord) -> Result<()> {
        self.report.records += 1;
        if let Some(rewrite) = &record.rewrite {
            self.rewrite(record, rewrite)?;
        }
        let data = record.files.iter().filter(|file| file.kind == FileKind::Parquet);
        self.live.extend(data.map(|file| (file.path.clone(), file.rows)));
        self.report.checkpoints += u64::from(record.trigger.is_some());
        self.report.counts.add(&record.counts);
        if record.sequence >= self.since
            && self.depth == Depth::Content
            && let Some(tree) = self.dataset.bucket()
        {
            // Side by side: one after another would wait for the way to the bucket each time.
            let alike = record.files.iter().filter(|file| tree.listed(&file.path) == Some(file.bytes));
            tree.fetch_all(alike.map(|file| file.path.clone()))?;
        }
        for file in &record.files {
            self.report.unnamed.remove(&self.dataset.paths().published(&file.path));
            if record.sequence >= self.since {
                self.file(record, file)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, record: &CommitRecord, file: &FileEntry) -> Result<()> {
        match self.held_against(file)? {
            Some(compared) => {
                self.report.files += 1;
                self.report.bytes += file.bytes;
                let place = self.dataset.paths().published(&file.path);
                match compared {
                    Ok(()) => {}
                    Err(Fault::Unread(error)) => self.report.unread.push((place, error)),
                    Err(Fault::Differs(why)) => {
                        self.report.differing = self.report.differing.max(Some(newest(record, file)));
                        let what = format!("`{}` is not what commit record {} says: {why}", place.display(), record.sequence);
                        self.report.contradictions.push(what);
                    }
                }
            }
            None if let Some(tree) = self.dataset.bucket() => self.not_in_bucket(tree, record, file)?,
            None => self.unpublished(record, file)?,
        }
        Ok(())
    }

    /// Holds a file against its record; `None` if it is not in its place.
    fn held_against(&self, file: &FileEntry) -> Result<Option<Result<(), Fault>>> {
        if self.dataset.bucket().is_some() {
            let Some(bytes) = self.dataset.length(file)? else { return Ok(None) };
            // What differs in its length is not fetched.
            let same = same_length(bytes, file);
            if self.depth == Depth::Length || same.is_err() {
                return Ok(Some(same));
            }
        }
        let local = self.dataset.local(file)?;
        Ok(local.map(|local| compare(&local, file, self.depth)))
    }

    /// Tells a file that is not in its bucket yet from one that is gone.
    fn not_in_bucket(&mut self, tree: &BucketTree, record: &CommitRecord, file: &FileEntry) -> Result<()> {
        let place = self.dataset.paths().published(&file.path);
        let unseen = if record.sequence == self.last { tree.unseen(self.dataset.paths(), record, file)? } else { Unseen::Removed };
        match &unseen {
            // Once more: it is held against its record.
            Unseen::There(_) => return self.file(record, file),
            Unseen::Removed => self.report.missing.push((newest(record, file), place)),
            Unseen::Lost => self.report.lost.push((newest(record, file), place)),
            Unseen::Waiting | Unseen::Unknown(_) => {
                let to_come = &mut self.report.to_come;
                (to_come.files, to_come.rows) = (to_come.files + 1, to_come.rows + file.rows);
                if to_come.first.is_none() {
                    let process = tree.process(self.dataset.paths(), record)?;
                    to_come.first = unseen.outlook(process.as_ref()).map(|outlook| (place, outlook));
                }
                if let Unseen::Unknown(why) = unseen {
                    to_come.unknown = Some(why);
                }
            }
        }
        Ok(())
    }

    /// Looks for a file that is not in its place: between its commit and its publication it is staged.
    fn unpublished(&mut self, record: &CommitRecord, file: &FileEntry) -> Result<()> {
        let staged = self.dataset.paths().staged(record.staged_by(), file.staged);
        let found = staged.exists().then(|| compare(&staged, file, self.depth));
        // Looked at again last: it may have been published meanwhile.
        match found {
            Some(Ok(())) => {}
            _ if self.dataset.length(file)?.is_some() => {}
            Some(Err(Fault::Unread(error))) => self.report.unread.push((staged, error)),
            Some(Err(Fault::Differs(why))) => {
                let what = format!("`{}`, staged for commit record {}, is not what that says: {why}", staged.display(), record.sequence);
                self.report.contradictions.push(what);
            }
            None => self.gone(newest(record, file), self.dataset.paths().published(&file.path)),
        }
        Ok(())
    }

    /// Records that a file is not seen, which it is not either where this user may not look.
    fn gone(&mut self, newest: DateTime<Utc>, place: PathBuf) {
        match place.metadata() {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                self.report.unread.push((place, error));
            }
            _ => self.report.missing.push((newest, place)),
        }
    }
}

/// Returns the time of the newest row of a file.
pub(super) fn newest(record: &CommitRecord, file: &FileEntry) -> DateTime<Utc> {
    file.event_time.map_or(record.time, |times| times.max)
}

/// Lists all that any reader takes for data. In a bucket that tells the lengths of all files as well.
fn list_visible(dataset: &Dataset) -> Result<BTreeSet<PathBuf>> {
    let root = dataset.paths().root();
    let Some(tree) = dataset.bucket() else { return visible::list(root) };
    let names = tree.list_all()?.into_iter().filter(|name| Readers::of(Path::new(name)) >= Readers::Some);
    Ok(names.map(|name| root.join(name)).collect())
}
