//! What can be seen of HTTP push.
//!
//! Owns: the counts of requests and accepted records.
//! Does not own: the names of the metrics (see `admin`).

use std::sync::atomic::{AtomicU64, Ordering};

use pintail_storage::journal::Journal;

/// The status codes that are answered; another one is counted with the last.
const STATUSES: [u16; 13] = [200, 400, 401, 403, 404, 405, 408, 413, 415, 422, 503, 507, 500];

/// Counts of this process.
#[derive(Debug)]
pub struct PushMeter {
    requests: [AtomicU64; STATUSES.len()],
    records: AtomicU64,
    journal: Journal,
    journal_bytes_max: u64,
}

impl PushMeter {
    /// Begins at zero.
    pub fn new(journal: Journal, journal_bytes_max: u64) -> Self {
        Self { requests: Default::default(), records: AtomicU64::new(0), journal, journal_bytes_max }
    }

    /// Counts an answer.
    pub fn answered(&self, status: u16) {
        let place = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len() - 1);
        self.requests[place].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts records of an answer 200.
    pub fn accepted(&self, records: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    /// Returns the answers by status.
    pub fn requests(&self) -> impl Iterator<Item = (u16, u64)> {
        STATUSES.into_iter().zip(&self.requests).map(|(status, count)| (status, count.load(Ordering::Relaxed)))
    }

    /// Returns the records of all answers 200.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Returns what the journal takes on the disk, and what it may take, in bytes.
    pub fn journal_bytes(&self) -> (u64, u64) {
        (self.journal.bytes(), self.journal_bytes_max)
    }
}
