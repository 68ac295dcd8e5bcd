//! HTTP push: events sent to the real binary over real sockets.
//!
//! Owns: the configuration of these tests, sending.
//! Does not own: the journal alone (see [`crate::journal`]).

use std::net::SocketAddr;

use crate::common::Dataset;
use crate::common::http::{Answer, request};
use crate::common::process::{Pintail, Process};

mod content;
mod curl;
mod keys;
mod kills;
mod life;
mod limits;
mod refused;

/// The content type of lines.
pub(crate) const NDJSON: (&str, &str) = ("Content-Type", "application/x-ndjson");
/// The content type of an array or an object.
pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");

impl Dataset {
    /// Prepares a run that takes small events and commits several times a second.
    pub(crate) fn push(&self) -> Pintail<'_> {
        let pintail = self.small_events().set("source.type", "http").set("source.listen", "127.0.0.1:0");
        pintail.set("pipeline.checkpoint_interval", "100ms").set("source.idempotency_keys_max", 10_000)
    }
}

impl Process<'_> {
    /// Waits until the HTTP source listens, and returns where.
    pub(crate) fn http(&mut self) -> SocketAddr {
        self.listening("HTTP source listens")
    }

    /// Waits until so many records are committed.
    pub(crate) fn wait_for_committed(&mut self, records: u64) {
        self.wait_until(&format!("{records} committed records"), |dataset| {
            dataset.commits_len() > 0 && dataset.last_commit().next_offset() >= records
        });
    }
}

/// Sends a body.
pub(crate) fn post(address: SocketAddr, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
    request(address, "POST", "/v1/events", headers, body)
}

/// Asserts that a body was taken: so many records, from this offset on.
#[track_caller]
pub(crate) fn assert_taken(answer: &Answer, accepted: u64, offset: u64) {
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    assert_eq!((json["accepted"].as_u64(), json["offset"].as_u64()), (Some(accepted), Some(offset)), "{answer:?}");
}
