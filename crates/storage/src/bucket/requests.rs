//! Requests that are sent until there is an answer.
//!
//! Owns: how long and how often a request is sent again, the names of objects, and the creation of an object: the one request whose answer is looked
//! up, never believed.
//! Does not own: what an answer means (see `super::verdict`), the order of requests.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pintail_core::error::{Error, ErrorKind, Result};
use tokio::time::Instant;
use tracing::warn;

use super::Place;
use super::verdict::{self, Creation};
use crate::blob::{Answer, Blob, Fault, Meta, Object, ObjectKey};
use crate::checkpoint::paths::Paths;
use crate::durable::disk_state::{DiskState, OtherWait};

/// The largest object of a ledger that is read: a snapshot of ten million positions has less.
const LEDGER_OBJECT_MAX: u64 = 4 << 30;

/// How a request that may pass is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The first pause. Each further one is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// The time after which the request fails; `None` = it is sent until there is an answer, or nobody waits for one any more.
    pub total: Option<Duration>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), longest: Duration::from_secs(5), total: Some(Duration::from_secs(120)) }
    }
}

/// What became of an object that was to be created.
#[derive(Debug)]
pub(super) enum Created {
    /// It is there, and it is the own one.
    Own,
    /// Another one is there.
    Anothers(Bytes),
}

/// The bucket of a dataset.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    blob: Arc<dyn Blob>,
    /// The names in it. Their root is how messages call it (`s3://lake/events`), so that they name an object as a person does.
    pub paths: Paths,
    patience: Patience,
    waits: DiskState,
}

impl Requests {
    pub(super) fn of(place: &Place) -> Self {
        let Place { blob, paths, patience, waits, .. } = place.clone();
        Self::new(blob, paths, patience, waits)
    }

    /// Takes a bucket.
    pub(super) fn new(blob: Arc<dyn Blob>, paths: Paths, patience: Patience, waits: DiskState) -> Self {
        Self { blob, paths, patience, waits }
    }

    /// Returns the bucket, for a request whose answer is judged.
    pub(super) fn blob(&self) -> &dyn Blob {
        &*self.blob
    }

    /// Returns the key of a path.
    pub(super) fn key(&self, path: &Path) -> ObjectKey {
        let below = path.strip_prefix(self.paths.root()).unwrap_or(path);
        ObjectKey::new(below.to_string_lossy())
    }

    /// Begins to count the time of a request.
    pub(super) fn pauses(&self) -> Pauses<'_> {
        let until = self.patience.total.map(|total| Instant::now() + total);
        Pauses { patience: self.patience, next: self.patience.first, until, waits: &self.waits, waiting: None }
    }

    /// Sends a request until it has an answer that stays.
    pub(super) async fn persist<'a, T>(&self, ask: impl Fn() -> Answer<'a, T>) -> std::result::Result<T, Fault> {
        let mut pauses = self.pauses();
        loop {
            match ask().await {
                Err(fault) if fault.may_pass() && pauses.pause(&fault).await => {}
                answer => return answer,
            }
        }
    }

    /// Reads a whole object of the ledger; `None` if there is none.
    pub(super) async fn read(&self, path: &Path) -> Result<Option<Object>> {
        let key = self.key(path);
        let read = self.persist(|| self.blob.get(&key, 0..LEDGER_OBJECT_MAX)).await;
        let object = read.map_err(|fault| failed(format_args!("read `{}`", path.display()), fault))?;
        match object {
            Some(object) if object.bytes.len() as u64 != object.meta.bytes => Err(Error::state(format!(
                "`{}` has {} bytes, {} of them were read: it is not what Pintail wrote",
                path.display(),
                object.meta.bytes,
                object.bytes.len()
            ))),
            object => Ok(object),
        }
    }

    /// Writes an object that nobody believes, whatever was there.
    pub(super) async fn replace(&self, path: &Path, bytes: Bytes) -> Result<()> {
        let key = self.key(path);
        let written = self.persist(|| self.blob.replace(&key, bytes.clone())).await;
        written.map_err(|fault| failed(format_args!("write `{}`", path.display()), fault))
    }

    /// Tells what is there; `None` if nothing is.
    pub(super) async fn look(&self, path: &Path) -> Result<Option<Meta>> {
        let key = self.key(path);
        self.persist(|| self.blob.head(&key)).await.map_err(|fault| failed(format_args!("look at `{}`", path.display()), fault))
    }

    /// Creates an object, and looks what is there unless it was told at once that it was done.
    ///
    /// # Errors
    /// If it could not be found out. It may come to be all the same, also later: whoever has to know looks again.
    pub(super) async fn create(&self, path: &Path, bytes: Bytes) -> Result<Created> {
        let (key, mut pauses) = (self.key(path), self.pauses());
        loop {
            let fault = match self.blob.put_if_absent(&key, bytes.clone()).await {
                Ok(()) => return Ok(Created::Own),
                Err(fault @ Fault::Refused(_)) => return Err(failed(format_args!("create `{}`", path.display()), fault)),
                Err(fault) => fault,
            };
            let there = self.read(path).await?.map(|object| object.bytes);
            match (verdict::creation(&bytes, there.as_deref()), there) {
                (Creation::Own, _) => return Ok(Created::Own),
                (Creation::Anothers, Some(there)) => return Ok(Created::Anothers(there)),
                _ if pauses.pause(&fault).await => {}
                _ => return Err(failed(format_args!("create `{}`", path.display()), fault)),
            }
        }
    }
}

/// The pauses between the times that one request is sent.
#[derive(Debug)]
pub(super) struct Pauses<'a> {
    patience: Patience,
    next: Duration,
    until: Option<Instant>,
    waits: &'a DiskState,
    /// From the first pause on.
    waiting: Option<OtherWait>,
}

impl Pauses<'_> {
    /// Waits before the request is sent again. Returns whether it is to be.
    pub(super) async fn pause(&mut self, fault: &Fault) -> bool {
        let asked = if let Fault::Throttled(Some(pause)) = fault { *pause } else { Duration::ZERO };
        let pause = self.next.max(asked);
        if self.until.is_some_and(|until| Instant::now() + pause > until) {
            return false;
        }
        if self.waiting.is_none() {
            warn!(%fault, "bucket does not answer as it should, retrying");
        }
        // The last answer is what is shown.
        self.waiting = Some(self.waits.waiting(format!("waiting for the bucket: {fault}")));
        self.next = (self.next * 2).min(self.patience.longest);
        self.waits.pause(pause).await
    }
}

/// Returns the error of a request that came to nothing: `doing` completes the sentence "cannot …".
pub(super) fn failed(doing: impl fmt::Display, fault: Fault) -> Error {
    let kind = if fault.may_pass() || fault == Fault::Exists { ErrorKind::TryAgain } else { ErrorKind::Io };
    Error::new(kind, format!("cannot {doing}")).with_source(fault)
}
