//! The heart of a process that holds a dataset: it shows that the process lives, and learns whether the dataset is still its own.
//!
//! Owns: when a heartbeat is written, beside a commit that may take longer than the time between two; that none follows the mark of a clean stop.
//! Does not own: its content (see `super::beat`), what a start makes of it (see `super::entry`).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex as Shared;
use pintail_core::error::{Error, Result};
use tokio::sync::Mutex;
use tracing::warn;

use super::beat::Beat;
use super::ground;
use super::requests::Requests;
use crate::checkpoint::log;
use crate::checkpoint::store::{Sealed, fenced_by};

/// The last record of this process that was there.
#[derive(Debug, Clone)]
struct Last {
    sequence: u64,
    sha256: String,
}

impl Last {
    fn of(sealed: &Sealed) -> Self {
        Self { sequence: sealed.record.sequence, sha256: sealed.sha256.clone() }
    }
}

/// Shows that a process holds its dataset. Clones are handles to the same heart.
#[derive(Debug, Clone)]
pub struct Heart {
    requests: Requests,
    every: Duration,
    epoch: u64,
    last: Arc<Shared<Last>>,
    /// Whether it stopped. Held while a heartbeat is written: none is under way when the mark of a stop is written.
    stopped: Arc<Mutex<bool>>,
}

impl Heart {
    /// Begins with the open record of a process.
    pub(super) fn new(requests: &Requests, every: Duration, opened: &Sealed) -> Self {
        let (epoch, last) = (opened.record.epoch, Arc::new(Shared::new(Last::of(opened))));
        Self { requests: requests.clone(), every, epoch, last, stopped: Arc::default() }
    }

    /// Takes up that a further record of this process is there.
    pub(super) fn has_record(&self, sealed: &Sealed) {
        *self.last.lock() = Last::of(sealed);
    }

    /// Beats until another process has opened the dataset, or its ledger is gone; returns the error that says so. Requests that come to nothing are told in the log: the
    /// fence does not rest on heartbeats.
    pub async fn hold(self) -> Error {
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let stopped = self.stopped.lock().await;
            if *stopped {
                drop(stopped);
                return std::future::pending().await;
            }
            match self.lost().await {
                Ok(Some(lost)) => return lost,
                Ok(None) => {
                    if let Err(error) = self.write(false).await {
                        warn!(%error, "could not update the heartbeat");
                    }
                }
                Err(error) => warn!(%error, "could not look whether another process holds the dataset"),
            }
        }
    }

    /// Beats once.
    pub(super) async fn beat(&self) -> Result<()> {
        match self.lost().await? {
            Some(lost) => Err(lost),
            None => self.write(false).await,
        }
    }

    /// Beats for the last time, with the mark of a stop if everything is committed.
    pub(super) async fn stop(&self, is_clean: bool) -> Result<()> {
        let mut stopped = self.stopped.lock().await;
        *stopped = true;
        match self.lost().await? {
            Some(lost) => Err(lost),
            None => self.write(is_clean).await,
        }
    }

    async fn write(&self, stopped: bool) -> Result<()> {
        let sequence = self.last.lock().sequence;
        let every_ms = u64::try_from(self.every.as_millis()).unwrap_or(u64::MAX);
        let beat = Beat { sequence, epoch: self.epoch, every_ms, stopped };
        self.requests.replace(&self.requests.paths.beat(), beat.encode().into()).await
    }

    /// Returns the error that says why nothing more can be committed: the ledger is gone, or another process took the next sequence number.
    async fn lost(&self) -> Result<Option<Error>> {
        let (Last { sequence, sha256 }, paths) = (self.last.lock().clone(), &self.requests.paths);
        if let Some(lost) = ground::lost(&self.requests, sequence, &sha256).await? {
            return Ok(Some(lost));
        }
        if let Some(lost) = ground::format_lost(&self.requests).await? {
            return Ok(Some(lost));
        }
        let sequence = sequence + 1;
        let path = paths.record(sequence);
        let Some(object) = self.requests.read(&path).await? else { return Ok(None) };
        let (record, _) = log::parse(Some(&object.bytes), &path, sequence)?;
        // One of this process' epoch is its own: of a commit under way, or one that failed behind its commit point.
        Ok((record.epoch != self.epoch).then(|| fenced_by(&record, paths)))
    }
}
