//! What can be seen of HTTP push.
//!
//! Owns: the counts of requests and accepted records, the metrics that they are.
//! Does not own: how those are answered (see `pintail::admin`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pintail_storage::journal::Journal;

use crate::meters::{Figure, Reading};

/// The status codes that are answered; another one is counted with the last.
const STATUSES: [u16; 13] = [200, 400, 401, 403, 404, 405, 408, 413, 415, 422, 503, 507, 500];

/// Counts of this process.
#[derive(Debug)]
pub(super) struct PushMeter {
    requests: [AtomicU64; STATUSES.len()],
    records: AtomicU64,
    journal: Journal,
    journal_bytes_max: u64,
}

impl PushMeter {
    /// Begins at zero.
    pub(super) fn new(journal: Journal, journal_bytes_max: u64) -> Self {
        Self { requests: Default::default(), records: AtomicU64::new(0), journal, journal_bytes_max }
    }

    /// Counts an answer.
    pub(super) fn answered(&self, status: u16) {
        let place = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len() - 1);
        self.requests[place].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts records of an answer 200.
    pub(super) fn accepted(&self, records: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    /// Returns what is counted, as metrics.
    pub(super) fn figures(self: &Arc<Self>) -> Vec<Figure> {
        let (requests, records) = (self.clone(), self.clone());
        let (journal, bytes_max) = (self.journal.clone(), self.journal_bytes_max);
        vec![
            Figure {
                name: "pintail_http_requests_total",
                help: "Requests to the HTTP source, by the status of the answer.",
                reading: Reading::Counters("status", Box::new(move || requests.by_status())),
            },
            Figure {
                name: "pintail_http_records_total",
                help: "Records of the requests that were answered with 200.",
                reading: Reading::Counter(Box::new(move || records.records.load(Ordering::Relaxed))),
            },
            Figure {
                name: "pintail_journal_bytes",
                help: "Bytes of the journal on the disk.",
                reading: Reading::Gauge(Box::new(move || journal.bytes())),
            },
            Figure {
                name: "pintail_journal_max_bytes",
                help: "Bytes above which the journal takes nothing more.",
                reading: Reading::Gauge(Box::new(move || bytes_max)),
            },
        ]
    }

    fn by_status(&self) -> Vec<(String, u64)> {
        STATUSES.iter().zip(&self.requests).map(|(status, count)| (status.to_string(), count.load(Ordering::Relaxed))).collect()
    }
}
