//! A committed file that is not seen in its bucket: whether it is still to come, or gone.
//!
//! Owns: the decision, as a function of what was found, and finding that out without changing anything.
//! Does not own: making a file visible (see `super::publish`), what is said of one that is not (the commands').
//!
//! Uploads are completed behind the record that names them, so of the last record alone a file may be still to come. Its process completes it, or the
//! next start, as long as its upload is there. What was visible once is known: a further record is not created before, nor does a heartbeat tell of
//! the record.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pintail_core::error::Result;

use super::beat::Beat;
use super::requests::Requests;
use crate::blob::{Fault, Shelf};
use crate::checkpoint::log;
use crate::checkpoint::paths::Paths;
use crate::checkpoint::process::Process;
use crate::checkpoint::record::{CommitRecord, FileEntry};

/// How often one who reads looks again for files that are still to come: a process that runs makes them visible within this time.
const LOOKS_MAX: u32 = 5;
/// The time between two looks.
const BETWEEN: Duration = Duration::from_millis(200);

/// Why a committed file was not seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unseen {
    /// It has become visible, with this length.
    There(u64),
    /// Its upload has all its parts: its process completes it, or the next start.
    Waiting,
    /// It was visible, and somebody removed it.
    Removed,
    /// It was not visible, and its upload is gone. Only the scratch of its process may still hold it.
    Lost,
    /// Whether its upload is there cannot be asked, for this reason.
    Unknown(String),
}

impl Unseen {
    /// Says what becomes of a file that is still to come, by the process that wrote its record; `None` if nothing does.
    pub fn outlook(&self, by: Option<&Process>) -> Option<String> {
        let by = by.map_or_else(|| "its process".to_owned(), Process::to_string);
        match self {
            Self::Waiting => Some(format!("{by} makes it visible, or the next start")),
            Self::Unknown(why) => Some(format!("{by} makes it visible, or the next start, if its upload is still there: {why}")),
            Self::There(_) | Self::Removed | Self::Lost => None,
        }
    }
}

/// What was found of a file of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Facts {
    /// The length of what lies in its place.
    there: Option<u64>,
    /// Whether something tells that all files of the record were visible.
    was_visible: bool,
    /// Whether its upload can be completed, or why that is not known.
    upload: Option<std::result::Result<bool, String>>,
}

fn unseen(facts: Facts) -> Unseen {
    match (facts.there, facts.was_visible, facts.upload) {
        (Some(bytes), ..) => Unseen::There(bytes),
        (None, true, _) | (None, _, None) => Unseen::Removed,
        (None, false, Some(Ok(true))) => Unseen::Waiting,
        (None, false, Some(Ok(false))) => Unseen::Lost,
        (None, false, Some(Err(why))) => Unseen::Unknown(why),
    }
}

/// Looks for files that were not seen.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// How often it was waited for any of them.
    waited: AtomicU32,
}

impl Looks {
    /// Finds out why a file was not seen.
    pub(super) async fn at(
        &self,
        requests: &Requests,
        shelf: &dyn Shelf,
        paths: &Paths,
        record: &CommitRecord,
        file: &FileEntry,
    ) -> Result<Unseen> {
        let (place, next) = (paths.published(&file.path), paths.record(record.sequence + 1));
        loop {
            let upload = match &file.upload {
                None => None,
                Some(upload) => {
                    let key = requests.key(&place);
                    let can = requests.persist(|| shelf.can_be_completed(&key, &upload.id, &upload.parts)).await;
                    Some(can.map_err(|fault| told(&fault)))
                }
            };
            let beat = requests.read(&paths.beat()).await?.and_then(|object| Beat::parse(&object.bytes));
            let beyond = beat.is_some_and(|beat| beat.sequence >= record.sequence);
            let was_visible = beyond || requests.look(&next).await?.is_some();
            // At last: it may have become visible meanwhile.
            let there = requests.look(&place).await?.map(|meta| meta.bytes);
            match unseen(Facts { there, was_visible, upload }) {
                Unseen::Waiting | Unseen::Lost if self.waited.fetch_add(1, Ordering::Relaxed) < LOOKS_MAX => {
                    tokio::time::sleep(BETWEEN).await;
                }
                why => return Ok(why),
            }
        }
    }
}

/// Returns the process that wrote a record, as far as its open record says so.
pub(super) async fn process(requests: &Requests, paths: &Paths, record: &CommitRecord) -> Result<Option<Process>> {
    let path = paths.record(record.epoch);
    let object = requests.read(&path).await?;
    let opened = object.and_then(|object| log::parse(Some(&object.bytes), &path, record.epoch).ok());
    Ok(opened.and_then(|(record, _)| record.opened))
}

fn told(fault: &Fault) -> String {
    match fault {
        Fault::Refused(why) => why.clone(),
        fault => fault.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(there: Option<u64>, was_visible: bool, upload: Option<std::result::Result<bool, String>>) -> Unseen {
        unseen(Facts { there, was_visible, upload })
    }

    #[test]
    fn a_file_whose_upload_has_all_its_parts_is_still_to_come_unless_it_was_visible_already() {
        assert_eq!(of(None, false, Some(Ok(true))), Unseen::Waiting);
        assert_eq!(of(None, true, Some(Ok(true))), Unseen::Removed);
        assert_eq!(of(Some(7), false, Some(Ok(true))), Unseen::There(7));
    }

    #[test]
    fn a_file_whose_upload_is_gone_was_removed_or_is_lost() {
        assert_eq!(of(None, true, Some(Ok(false))), Unseen::Removed);
        assert_eq!(of(None, false, Some(Ok(false))), Unseen::Lost);
        assert_eq!(of(Some(7), true, Some(Ok(false))), Unseen::There(7));
    }

    #[test]
    fn a_file_without_an_upload_was_there_before_its_record() {
        assert_eq!(of(None, false, None), Unseen::Removed);
    }

    #[test]
    fn where_uploads_cannot_be_asked_for_only_what_was_visible_is_known() {
        let refused = || Some(Err("no".to_owned()));
        assert_eq!(of(None, false, refused()), Unseen::Unknown("no".into()));
        assert_eq!(of(None, true, refused()), Unseen::Removed);
    }
}
