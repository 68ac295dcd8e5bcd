//! Report: what `pintail verify` has found, what follows from it, and what is said.
//!
//! Owns: which findings contradict the records, the ways out, the summary and the list that a person reads.
//! Does not own: looking (see [`super`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use pintail_core::batch::Counts;
use pintail_core::error::Error;
use pintail_core::invocation::{command, expire_up_to, service_command};
use pintail_core::quantity::{counted, thousands};
use pintail_storage::checkpoint::permission;
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::checkpoint::state::State;
use pintail_tables::audit::Audit;

use super::compare::Depth;
use crate::tables::{self, Found};

/// Contradictions that are printed; the rest is only counted.
const PRINTED_MAX: usize = 20;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) records: u64,
    pub(super) checkpoints: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Files that are gone, with the time of their newest row.
    pub(super) missing: Vec<(DateTime<Utc>, PathBuf)>,
    /// Files that were never visible and whose uploads are gone, in the same way.
    pub(super) lost: Vec<(DateTime<Utc>, PathBuf)>,
    /// Files that are gone as it was declared.
    pub(super) expired: u64,
    pub(super) expired_before: Option<DateTime<Utc>>,
    pub(super) counts: Counts,
    /// What rewrites did.
    pub(super) rewritten: Rewritten,
    /// Visible files that no record has named so far.
    pub(super) unnamed: BTreeSet<PathBuf>,
    /// Source partitions that were handed over, with the number of the take-over: each goes to one instance.
    pub(super) handed_over: BTreeSet<(u64, String)>,
    /// The states that partitions were handed over from, by instance and record.
    pub(super) left: BTreeMap<(u32, u64), (State, String)>,
    pub(super) contradictions: Vec<String>,
    /// Files that cannot be read, and why: nothing is known of them.
    pub(super) unread: Vec<(PathBuf, io::Error)>,
    /// The time of the newest row of the files that differ from their records; `None` if none does.
    pub(super) differing: Option<DateTime<Utc>>,
    /// What to do about all this.
    pub(super) ways_out: Vec<String>,
    /// What is said of the tables.
    pub(super) tables: Vec<String>,
    /// Why tables cannot be published.
    pub(super) refused: Vec<String>,
    /// Whether the dataset is in a bucket: what is done to its files there is done with other tools.
    pub(super) is_in_bucket: bool,
    /// Files of the last record that are still to come.
    pub(super) to_come: ToCome,
}

/// What rewrites did, all together.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    rewrites: u64,
    replaced: u64,
    by: u64,
}

impl Rewritten {
    pub(super) fn add(&mut self, replaced: u64, by: u64) {
        *self = Self { rewrites: self.rewrites + 1, replaced: self.replaced + replaced, by: self.by + by };
    }
}

/// Committed files of a dataset in a bucket that are not visible yet.
#[derive(Debug, Default)]
pub(super) struct ToCome {
    pub(super) files: u64,
    pub(super) rows: u64,
    /// The first of them, and what becomes of it.
    pub(super) first: Option<(PathBuf, String)>,
    /// Why it is not known whether any of them comes.
    pub(super) unknown: Option<String>,
}

impl Report {
    /// Tells the files that are gone as it was declared from those that are missing.
    pub(super) fn judge_missing(&mut self) {
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
    pub(super) fn judge_unnamed(&mut self, out: &Path) {
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
    pub(super) fn tables(&mut self, out: &Path) {
        if !self.contradictions.is_empty() || !self.unread.is_empty() {
            return;
        }
        for (format, called, dir) in tables::FORMATS {
            match tables::audit(out, format) {
                Ok(Found::Nothing) => {}
                Ok(Found::Refused(why)) => {
                    self.tables.push(format!("{called} table: refused by {}", command("publish")));
                    self.refused.push(format!("{called} table: {why}"));
                }
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
    pub(super) fn refusal(&self, out: &Path) -> Error {
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
    pub(super) fn told(&self) -> Vec<String> {
        let unread = self.unread.iter().map(|(place, error)| format!("`{}` cannot be read: {error}", place.display()));
        let mut told: Vec<String> = self.contradictions.iter().cloned().chain(unread).take(PRINTED_MAX).collect();
        let more = self.contradictions.len() + self.unread.len() - told.len();
        if more > 0 {
            told.push(format!("and {more} more"));
        }
        told.extend_from_slice(&self.ways_out);
        told
    }

    pub(super) fn print(&self, dataset: &Dataset, depth: Depth, to: &mut dyn Write) -> io::Result<()> {
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
        if self.rewritten.rewrites > 0 {
            let Rewritten { rewrites, replaced, by } = &self.rewritten;
            let (rewrites, replaced) = (counted(*rewrites, "rewrite", "rewrites"), counted(*replaced, "file", "files"));
            writeln!(to, "{rewrites} put the rows of {replaced} into {}", counted(*by, "file", "files"))?;
        }
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
        let end = match (self.to_come.files, self.refused.is_empty()) {
            (0, true) => "clean",
            (_, true) => "clean, but for what is not visible yet",
            (_, false) => "the files are clean, a table of them is not",
        };
        writeln!(to, "{end}")
    }
}
