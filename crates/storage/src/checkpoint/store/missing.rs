//! Committed files that a start does not find.
//!
//! Owns: what is said of them, and the ways out; whether an operator has declared that they may be gone.
//! Does not own: looking for them (see `open`), what is done about each (see `recovery`).

use chrono::{DateTime, Utc};
use pintail_core::error::{Error, Result};
use pintail_core::invocation::expire_up_to;

use crate::checkpoint::record::{CommitRecord, FileEntry};
use crate::checkpoint::recovery::Step;

/// Files that a message names; the rest is only counted.
const NAMED_MAX: usize = 10;

/// Returns whether a file of `record` may be gone where that was declared of all rows older than `expired_before`.
pub(crate) fn may_be_gone(record: &CommitRecord, file: &FileEntry, expired_before: Option<DateTime<Utc>>) -> bool {
    expired_before.is_some_and(|before| newest(record, file) < before)
}

/// Judges what is to be done about the files of the last record. Returns what must be said of those that are gone, although nobody declared that
/// they may be: a start cannot tell whether they were published before.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if a file cannot be published, or another is in its place. Names all of them, and the ways out.
pub(super) fn judge(record: &CommitRecord, steps: &[Step], expired_before: Option<DateTime<Utc>>) -> Result<Option<String>> {
    let files = |wanted: Step| -> Vec<&FileEntry> {
        record.files.iter().zip(steps).filter(|(_, step)| **step == wanted).map(|(file, _)| file).collect()
    };
    let sequence = record.sequence;
    let occupied = files(Step::Occupied);
    if !occupied.is_empty() {
        return Err(Error::state(format!(
            "in the place of {} of checkpoint {sequence} lies what is not what the record says: restore it from a copy, or move it away and start \
             again, which publishes the staged copy if that is still there",
            names(&occupied)
        )));
    }
    let lost = files(Step::Lost);
    if !lost.is_empty() {
        return Err(Error::state(format!(
            "checkpoint {sequence} is committed and cannot publish {}: somebody removed or changed what was staged; {}",
            names(&lost),
            ways_out(record, &lost)
        )));
    }
    let missing: Vec<&FileEntry> = files(Step::Missing).into_iter().filter(|file| !may_be_gone(record, file, expired_before)).collect();
    Ok((!missing.is_empty()).then(|| {
        format!(
            "checkpoint {sequence} lacks {}: somebody removed that after it was published, or its staging before; {}",
            names(&missing),
            ways_out(record, &missing)
        )
    }))
}

fn newest(record: &CommitRecord, file: &FileEntry) -> DateTime<Utc> {
    file.event_time.map_or(record.time, |times| times.max)
}

fn names(files: &[&FileEntry]) -> String {
    let named: Vec<String> = files.iter().take(NAMED_MAX).map(|file| format!("`{}`", file.path)).collect();
    match files.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more files", named.join(", ")),
    }
}

pub(crate) fn ways_out(record: &CommitRecord, files: &[&FileEntry]) -> String {
    let rows: u64 = files.iter().map(|file| file.rows).sum();
    let newest = files.iter().map(|file| newest(record, file)).max().unwrap_or(record.time);
    format!(
        "restore from a copy what is gone, or an older copy of the whole dataset, from which reading goes on; to do without these {rows} rows, run {}",
        expire_up_to(newest)
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pintail_core::error::ErrorKind;

    use super::*;
    use crate::checkpoint::record::tests::record;
    use crate::checkpoint::record::{Action, ActionKind};
    use crate::checkpoint::store::tests::commit;
    use crate::checkpoint::store::{Expected, Store};
    use crate::durable::posix::Posix;
    use crate::samples::{expected, open};

    fn at(text: &str) -> Option<DateTime<Utc>> {
        Some(DateTime::parse_from_rfc3339(text).unwrap().to_utc())
    }

    #[test]
    fn what_cannot_be_published_is_refused_by_its_names_and_the_command_that_it_names_covers_it() {
        let record = record();
        let error = judge(&record, &[Step::Lost, Step::Lost], None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        let message = error.to_string();
        for file in &record.files {
            assert!(message.contains(&file.path), "{message}");
        }
        let (_, told) = message.split_once("pintail expire --before ").expect("a command");
        let before = at(told.split(['`', ' ']).next().unwrap());
        assert!(record.files.iter().all(|file| may_be_gone(&record, file, before)), "{message}");
        assert!(!may_be_gone(&record, &record.files[0], at("2026-01-01T00:59:59Z")), "a row is younger");
        // A file without event times goes by the time of its commit.
        assert!(may_be_gone(&record, &record.files[1], at("2026-01-01T00:00:01Z")));
    }

    #[test]
    fn what_is_gone_is_told_unless_it_was_declared_and_what_is_occupied_is_refused_first() {
        let record = record();
        let told = judge(&record, &[Step::Missing, Step::Keep], None).unwrap().expect("something is gone");
        assert!(told.contains(&record.files[0].path) && !told.contains(&record.files[1].path), "{told}");
        assert_eq!(judge(&record, &[Step::Missing, Step::Keep], at("2026-01-02T00:00:00Z")).unwrap(), None);
        assert_eq!(judge(&record, &[Step::Keep, Step::Publish], None).unwrap(), None);
        let refused = judge(&record, &[Step::Lost, Step::Occupied], None).unwrap_err().to_string();
        assert!(refused.contains(&record.files[1].path) && !refused.contains(&record.files[0].path), "{refused}");
    }

    #[test]
    fn what_was_declared_once_counts_for_each_later_start() {
        let dir = tempfile::tempdir().unwrap();
        let action = Action { before: at("2026-02-01T00:00:00Z"), ..Action::new(ActionKind::Expire, String::new()) };
        let declares = Expected { action: Some(action), ..expected() };
        let mut store = Store::open(Arc::new(Posix::default()), dir.path(), &declares).unwrap();
        // Its rows are older than that, and whoever removes old files comes before the next start.
        let late = commit(&mut store, "us");
        std::fs::remove_file(dir.path().join(&late.files[0].path)).unwrap();
        assert_eq!(open(dir.path()).unwrap().missing(), None);
    }
}
