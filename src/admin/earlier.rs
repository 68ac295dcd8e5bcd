//! Earlier: what the processes before this one committed.
//!
//! Owns: reading that once, newest first, on a thread of its own that rests as long as it works: a dataset of years has a million records, and
//! only the page waits for them. Records that the index has are not read.
//! Does not own: the sums (see [`crate::meters::ledger`]), the index (see [`pintail_storage::checkpoint::index`]).

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use pintail_core::error::Result;
use pintail_core::reasons::Reasons;
use pintail_storage::checkpoint::dead_letters;
use pintail_storage::checkpoint::index::Indexed;
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::checkpoint::record::FileKind;
use tracing::{debug, warn};

use super::Shared;
use crate::meters::ledger::{Before, Sums};

/// Work between two rests.
const WORK: Duration = Duration::from_millis(5);
/// Rejected records that are read for their reasons, the newest ones.
const LETTERS_MAX: u64 = 10_000;
/// Of each reason, so many are shown.
const SAMPLES: usize = 3;

/// Starts reading. The dataset is open: its records up to the last one are from before this process.
pub(super) fn start(shared: &Arc<Shared>) {
    let shared = shared.clone();
    if shared.facts.is_in_bucket {
        shared.meters.ledger().before = Before::Failed;
        return;
    }
    let read = move || {
        let before = match read(&shared) {
            Ok(Some(sums)) => Before::Read(sums),
            Ok(None) => Before::Unread,
            Err(error) => {
                warn!(%error, "the figures of earlier commit records are unknown to the admin server");
                Before::Failed
            }
        };
        shared.meters.ledger().before = before;
    };
    if let Err(error) = thread::Builder::new().name("pintail-earlier".to_owned()).spawn(read) {
        warn!(%error, "earlier commit records are not read");
    }
}

/// Returns the sums; nothing if the server ends before.
fn read(shared: &Shared) -> Result<Option<Sums>> {
    let mut sums = Sums::default();
    let last = shared.meters.linked().map_or(0, |linked| linked.last_sequence);
    if last == 0 {
        return Ok(Some(sums));
    }
    let begun = Instant::now();
    let dataset = Dataset::open(shared.facts.paths.clone())?;
    let mut letters = Letters { left: LETTERS_MAX, reasons: Reasons::default() };
    let mut working = Instant::now();
    for part in dataset.backwards(last) {
        let part = part?;
        part.newest_first().try_for_each(|(sequence, record)| letters.read(&dataset, sequence, record))?;
        shared.meters.ledger().found(&part, &mut sums);
        if working.elapsed() >= WORK {
            thread::sleep(working.elapsed());
            working = Instant::now();
        }
        if *shared.stopped.borrow() {
            return Ok(None);
        }
    }
    let mut ledger = shared.meters.ledger();
    let newer = std::mem::replace(&mut ledger.reasons, letters.reasons);
    ledger.reasons.merge(newer);
    drop(ledger);
    debug!(records = last, took_ms = begun.elapsed().as_millis() as u64, "earlier commit records read");
    Ok(Some(sums))
}

/// The reasons of the newest rejected records.
struct Letters {
    left: u64,
    reasons: Reasons,
}

impl Letters {
    fn read(&mut self, dataset: &Dataset, sequence: u64, indexed: &Indexed) -> Result<()> {
        if self.left == 0 || !indexed.files.iter().any(|file| file.kind() == FileKind::DeadLetters) {
            return Ok(());
        }
        // The record knows what messages call the partitions.
        let (record, _) = dataset.record(sequence)?;
        let files = record.files.iter().filter(|file| file.kind == FileKind::DeadLetters);
        for file in files {
            let Some(place) = dataset.local(file)? else { continue };
            for letter in dead_letters::read(&place)?.take(usize::try_from(self.left).unwrap_or(usize::MAX)) {
                let letter = letter?.letter;
                self.left -= 1;
                let partition = record.source.partitions.iter().find(|partition| partition.id == letter.partition.as_str());
                let label = partition.map_or(letter.partition.as_str(), |partition| &partition.label);
                self.reasons.add(&letter, || format!("{label}@{}", letter.offset), SAMPLES);
            }
        }
        Ok(())
    }
}
