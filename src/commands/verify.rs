//! `pintail verify`: holds every record against every file.
//!
//! Owns: what must be true of a dataset at rest, and the report of what is not.
//! Does not own: repairing. Runs beside the service, without the lock.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use parquet::file::reader::{FileReader, SerializedFileReader};
use pintail_core::batch::Counts;
use pintail_core::digest::sha256_of;
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::invocation::{command, expire_up_to, service_command};
use pintail_core::offsets::PartitionId;
use pintail_core::quantity::{counted, thousands};
use pintail_storage::bucket::{BucketTree, Unseen};
use pintail_storage::checkpoint::dead_letters;
use pintail_storage::checkpoint::index::Comparison;
use pintail_storage::checkpoint::permission;
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::checkpoint::record::{CommitRecord, FileEntry, FileKind};
use pintail_storage::checkpoint::state::State;
use pintail_tables::audit::Audit;
use pintail_tables::delta::log::DIR as DELTA_LOG;

use crate::tables::{self, Found};

/// Contradictions that are printed; the rest is only counted.
const PRINTED_MAX: usize = 20;

/// Checks the dataset at `out`: all records and their chain, and the content of the files of checkpoint `since` and later. Prints a summary.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if anything contradicts the records, naming the first contradictions, a line each, and a way out.
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
    let mut report = Report { unnamed: visible(dataset)?, is_in_bucket: dataset.bucket().is_some(), ..Report::default() };
    for instance in &instances {
        let mut check = Check { dataset: instance, instances: &instances, since: since.unwrap_or(1), depth, last: 0, report };
        check.records()?;
        report = check.report;
    }
    report.judge_missing();
    report.judge_unnamed(dataset.paths().root());
    Ok(report)
}

/// How closely files are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Whether they are there, with their length.
    Length,
    /// Their hash and their rows as well.
    Content,
}

/// What was found.
#[derive(Debug, Default)]
struct Report {
    records: u64,
    checkpoints: u64,
    files: u64,
    bytes: u64,
    /// Files that are gone, with the time of their newest row.
    missing: Vec<(DateTime<Utc>, PathBuf)>,
    /// Files that were never visible and whose uploads are gone, in the same way.
    lost: Vec<(DateTime<Utc>, PathBuf)>,
    /// Files that are gone as it was declared.
    expired: u64,
    expired_before: Option<DateTime<Utc>>,
    counts: Counts,
    /// Visible files that no record has named so far.
    unnamed: BTreeSet<PathBuf>,
    /// Source partitions that were handed over, with the number of the take-over: each goes to one instance.
    handed_over: BTreeSet<(u64, String)>,
    /// The states that partitions were handed over from, by instance and record.
    left: BTreeMap<(u32, u64), (State, String)>,
    contradictions: Vec<String>,
    /// Files that cannot be read, and why: nothing is known of them.
    unread: Vec<(PathBuf, io::Error)>,
    /// The time of the newest row of the files that differ from their records; `None` if none does.
    differing: Option<DateTime<Utc>>,
    /// What to do about all this.
    ways_out: Vec<String>,
    /// What is said of the tables.
    tables: Vec<String>,
    /// Whether the dataset is in a bucket: what is done to its files there is done with other tools.
    is_in_bucket: bool,
    /// Files of the last record that are still to come.
    to_come: ToCome,
}

/// Committed files of a dataset in a bucket that are not visible yet.
#[derive(Debug, Default)]
struct ToCome {
    files: u64,
    rows: u64,
    /// The first of them, and what becomes of it.
    first: Option<(PathBuf, String)>,
    /// Why it is not known whether any of them comes.
    unknown: Option<String>,
}

struct Check<'a> {
    dataset: &'a Dataset,
    instances: &'a [Dataset],
    since: u64,
    depth: Depth,
    /// The last record.
    last: u64,
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

    fn files(&mut self, record: &CommitRecord) -> Result<()> {
        self.report.records += 1;
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

impl Report {
    /// Tells the files that are gone as it was declared from those that are missing.
    fn judge_missing(&mut self) {
        let before = self.expired_before;
        let may_be_gone = |(newest, _): &(DateTime<Utc>, PathBuf)| before.is_some_and(|before| *newest < before);
        let (expired, mut missing): (Vec<_>, Vec<_>) = std::mem::take(&mut self.missing).into_iter().partition(may_be_gone);
        let (never_seen, lost): (Vec<_>, Vec<_>) = std::mem::take(&mut self.lost).into_iter().partition(may_be_gone);
        self.expired = (expired.len() + never_seen.len()) as u64;
        let told = lost.iter().map(|(_, file)| {
            format!(
                "`{}` of the last checkpoint was not visible yet, and its upload is gone: it expired, or somebody gave it up",
                file.display()
            )
        });
        self.contradictions.extend(told);
        if !lost.is_empty() {
            let start = "start the service with the scratch that it had: it uploads again what that still holds, and names what is lost";
            self.ways_out.push(start.to_owned());
        }
        self.contradictions.extend(missing.iter().map(|(_, file)| format!("`{}` is missing", file.display())));
        missing.extend(lost);
        let newest_missing = missing.iter().map(|(newest, _)| *newest).max();
        if self.is_in_bucket {
            let newest = newest_missing.max(self.differing);
            self.ways_out.extend(newest.map(|newest| {
                format!(
                    "restore what is missing or differs from a copy, or by the versions of the bucket, byte for byte; or do without it: move what differs \
                     out of the dataset, and {} declares expired what is no younger",
                    expire_up_to(newest)
                )
            }));
            return;
        }
        let expire = newest_missing.max(self.differing).map(expire_up_to).unwrap_or_default();
        self.ways_out.extend(
            newest_missing
                .map(|_| format!("restore what is missing from a copy; or do without it: {expire} declares expired what is no younger")),
        );
        self.ways_out.extend(self.differing.map(|_| {
            format!(
                "restore what differs from its record from a copy, byte for byte; or do without it: move it out of the dataset, and {expire} declares \
                 expired what is no younger"
            )
        }));
    }

    /// Puts the files that no record names among the contradictions.
    fn judge_unnamed(&mut self, out: &Path) {
        let strays = std::mem::take(&mut self.unnamed);
        let of_tables = if strays.is_empty() || self.is_in_bucket { BTreeSet::new() } else { tables::of_others(out) };
        let (of_tables, strays): (Vec<_>, Vec<_>) = strays.into_iter().partition(|stray| of_tables.contains(stray));
        if !of_tables.is_empty() {
            let way_out =
                "what others write to a table is read by way of the table: globs count its rows beside those of the dataset's own files";
            self.ways_out.push(way_out.to_owned());
        }
        self.contradictions.extend(of_tables.iter().map(|file| format!("`{}` was added to a table by another writer", file.display())));
        if !strays.is_empty() {
            self.ways_out.push(match self.is_in_bucket {
                true => "move the files that no record names out of the dataset".to_owned(),
                false => format!(
                "{} names the files that no record names, if their rows belong into the dataset; if they are there by mistake, move them out of it",
                service_command("adopt")
            ),
            });
        }
        self.contradictions.extend(strays.iter().map(|stray| format!("`{}` is visible, but no commit record names it", stray.display())));
    }

    /// Holds the tables against the records. Where these contradict themselves, nothing more can be said.
    fn tables(&mut self, out: &Path) {
        if !self.contradictions.is_empty() || !self.unread.is_empty() {
            return;
        }
        for (format, called, dir) in tables::FORMATS {
            match tables::audit(out, format) {
                Ok(Found::Nothing) => {}
                Ok(Found::NotOurs(why)) => self.tables.push(format!("{called} table: not looked at: {why}")),
                Ok(Found::Audited(audit)) => self.table(called, &out.join(dir), audit),
                Err(error) => self.contradictions.push(format!("{called} table: {error}")),
            }
        }
    }

    fn table(&mut self, called: &str, place: &Path, audit: Audit) {
        let files = counted(audit.files, "committed file", "committed files");
        let mut text = format!("{called} table: version {} with {files}", audit.version.unwrap_or(0));
        if !audit.foreign.is_empty() {
            text += &format!(" and {} of other writers", counted(audit.foreign.len() as u64, "file", "files"));
        }
        for (instance, records) in audit.behind {
            text += &format!(", instance {instance} is {} behind", counted(records, "commit record", "commit records"));
        }
        self.tables.push(text);
        if !audit.faults.is_empty() {
            self.ways_out.push(format!(
                "a table is made of the dataset: move `{}` away, and {} makes it anew",
                place.display(),
                command("publish")
            ));
        }
        self.contradictions.extend(audit.faults.into_iter().map(|fault| format!("{called} table: {fault}")));
    }

    /// Says which files cannot be read.
    fn refusal(&self, out: &Path) -> Error {
        let (place, error) = &self.unread[0];
        let count = counted(self.unread.len() as u64, "file", "files");
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => format!(": {}", permission::to_read(place)),
            _ => String::new(),
        };
        let doing = format!("read {count} of `{}`, so they were not verified; the first is `{}`{hint}", out.display(), place.display());
        Error::io(doing, io::Error::from(error.kind()))
    }

    /// Returns the contradictions that are printed, and the ways out of them.
    fn told(&self) -> Vec<String> {
        let unread = self.unread.iter().map(|(place, error)| format!("`{}` cannot be read: {error}", place.display()));
        let mut told: Vec<String> = self.contradictions.iter().cloned().chain(unread).take(PRINTED_MAX).collect();
        let more = self.contradictions.len() + self.unread.len() - told.len();
        if more > 0 {
            told.push(format!("and {more} more"));
        }
        told.extend_from_slice(&self.ways_out);
        told
    }

    fn print(&self, dataset: &Dataset, depth: Depth, to: &mut dyn Write) -> io::Result<()> {
        let (format, counts) = (dataset.format(), &self.counts);
        writeln!(to, "dataset {} of source {}, made {}", format.dataset_id, format.source.kind, format.created_at.to_rfc3339())?;
        let read = match depth {
            Depth::Length => "there, none read",
            Depth::Content => "read",
        };
        let (checkpoints, files) = (counted(self.checkpoints, "checkpoint", "checkpoints"), counted(self.files, "file", "files"));
        writeln!(to, "{checkpoints}, {files} with {} {read}", counted(self.bytes, "byte", "bytes"))?;
        writeln!(
            to,
            "{} records in + {} expanded = {} rows out + {} filtered + {} dead letters",
            thousands(counts.records_in),
            thousands(counts.expanded),
            thousands(counts.rows_out),
            thousands(counts.filtered),
            thousands(counts.dead_letters.total())
        )?;
        if let Some(before) = self.expired_before.filter(|_| self.expired > 0) {
            let before = before.to_rfc3339_opts(SecondsFormat::Secs, true);
            writeln!(to, "{} expired files are gone, as was declared for all before {before}", thousands(self.expired))?;
        }
        if let Some((first, outlook)) = &self.to_come.first {
            let (files, rows) = (counted(self.to_come.files, "file", "files"), counted(self.to_come.rows, "row", "rows"));
            writeln!(to, "{files} of the last checkpoint with {rows} not visible yet, the first is `{}`: {outlook}", first.display())?;
        }
        for table in &self.tables {
            writeln!(to, "{table}")?;
        }
        if !self.contradictions.is_empty() || !self.unread.is_empty() || self.to_come.unknown.is_some() {
            return Ok(());
        }
        writeln!(to, "{}", if self.to_come.files == 0 { "clean" } else { "clean, but for what is not visible yet" })
    }
}

/// Returns the time of the newest row of a file.
fn newest(record: &CommitRecord, file: &FileEntry) -> DateTime<Utc> {
    file.event_time.map_or(record.time, |times| times.max)
}

/// Why a file is not known to be what its record says.
enum Fault {
    Unread(io::Error),
    /// What differs, in words.
    Differs(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Unread(error)
    }
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Differs(why)
    }
}

fn same_length(bytes: u64, file: &FileEntry) -> Result<(), Fault> {
    if bytes != file.bytes { Err(format!("it has {bytes} bytes, not {}", file.bytes).into()) } else { Ok(()) }
}

/// Holds a file against its record.
fn compare(place: &Path, file: &FileEntry, depth: Depth) -> Result<(), Fault> {
    let open = || File::open(place);
    same_length(open()?.metadata()?.len(), file)?;
    if depth == Depth::Length {
        return Ok(());
    }
    let sha256 = sha256_of(open()?)?;
    if sha256 != file.sha256 {
        return Err(format!("its SHA-256 is {sha256}, not {}", file.sha256).into());
    }
    let rows = match file.kind {
        FileKind::Parquet => parquet_rows(open()?)?,
        FileKind::DeadLetters => letters(place)?,
    };
    if rows != file.rows { Err(format!("it has {rows} rows, not {}", file.rows).into()) } else { Ok(()) }
}

fn parquet_rows(file: File) -> Result<u64, String> {
    let reader = SerializedFileReader::new(file).map_err(|e| format!("it is no Parquet file: {e}"))?;
    u64::try_from(reader.metadata().file_metadata().num_rows()).map_err(|_| "its number of rows is negative".into())
}

fn letters(place: &Path) -> Result<u64, String> {
    let mut letters = dead_letters::read(place).map_err(|e| e.to_string())?;
    letters.try_fold(0, |rows, letter| letter.map(|_| rows + 1)).map_err(|e| e.to_string())
}

/// Lists all that a reader's glob over a dataset takes for data. In a bucket that tells the lengths of all files as well.
fn visible(dataset: &Dataset) -> Result<BTreeSet<PathBuf>> {
    let root = dataset.paths().root();
    let Some(tree) = dataset.bucket() else { return visible_parquet(root) };
    let names = tree.list_all()?.into_iter().filter(|name| name.ends_with(".parquet"));
    Ok(names.filter(|name| !Path::new(name).starts_with(DELTA_LOG)).map(|name| root.join(name)).collect())
}

/// Lists all that a reader's glob over the tree takes for data. The log of a Delta table has checkpoints that are Parquet files, and no data.
pub(crate) fn visible_parquet(out: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![out.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let listed = match fs::read_dir(&dir).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            // The service removed it since: a staging directory, after its commit.
            Err(error) if error.kind() == io::ErrorKind::NotFound && dir != out => continue,
            listed => listed.map_err(|e| Error::io(format_args!("list `{}`", dir.display()), e))?,
        };
        for entry in listed {
            let path = entry.path();
            let is_parquet = path.extension().is_some_and(|ending| ending == "parquet");
            match entry.file_type().map_err(|e| Error::io(format_args!("look at `{}`", path.display()), e))? {
                // Below `_pintail` too: DuckDB's `**` does not skip it. Staged files do not have the ending.
                kind if kind.is_dir() && path != out.join(DELTA_LOG) => dirs.push(path),
                kind if kind.is_dir() => {}
                _ if is_parquet => _ = found.insert(path),
                _ => {}
            }
        }
    }
    Ok(found)
}

pub mod background;
#[cfg(test)]
mod tests;
