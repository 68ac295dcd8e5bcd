//! The journal: requests that were accepted, on the disk before they are answered.
//!
//! Owns: the handle that requests are appended through, and what an append may come to.
//! Does not own: HTTP (status codes, content types), decoding, what is committed (see `checkpoint::store`).
//!
//! A journal is a row of segments, each a header and frames. A frame is one request: its records, the hash of its body, and the
//! fingerprint of its idempotency key. Requests that wait at the same time are written as one *group* and share one fsync.
//!
//! Reading order: [`frame`], [`payloads`], [`opening`] and [`segment`] (bytes), [`log`] (what is written when, and what is deleted when), `open` (after
//! a crash: `facts`, `chain`, `plan`), [`tail`] (torn or damaged), [`position`] (held against the commit records), [`keys`] and [`time`], `writer` (the thread),
//! [`reader`] (back out of it, for the line), [`repair`], [`note`] (a journal that is gone).
//!
//! # What holds
//!
//! * A request is answered after the fsync of its frame; it is read by the line after that too, so no commit record names an offset that a
//!   power cut takes away.
//! * The newest segment may end in a group that was never answered: it is cut off. Any other bad frame refuses the start. A crash leaves
//!   such a group short, or with sectors of zeros that were not written (see [`tail`]); one of full length may have been answered.
//! * What is known to be durable is not taken for torn: what a segment held when it got its name, what its successor's header names, and
//!   what the last commit record names (see [`position`]). An orderly end begins a segment, so that all before it is known.
//! * That there is a journal is noted outside of it before the first request: without a segment, nothing is begun anew (see [`note`]).
//! * A segment that is followed says so behind its end: one that is missing is missed.
//! * Keys age by a time that never jumps (see [`time`]).
//! * What is not synced at the end of the newest segment is never trusted, whatever the page cache shows after a failed fsync: each start
//!   copies the newest segment's frames into a new file.
//! * A segment in which a write failed is not written again. The next one's header says where it ends, so what stands behind has no trace.
//! * Segments go oldest first, each removal durable before the next, once they are committed and their live keys are in the newest.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pintail_core::error::{Error, Result};
use pintail_core::evidence::{Evidence, Key};
use tokio::sync::{mpsc, oneshot};

use crate::durable::fs::Fs;

mod chain;
mod facts;
pub mod frame;
pub mod keys;
pub mod log;
mod new_segment;
pub mod note;
mod open;
pub mod opening;
pub mod payloads;
mod plan;
pub mod position;
pub mod reader;
pub mod repair;
pub mod running;
mod scan;
pub mod segment;
mod shared;
pub mod tail;
pub mod time;
mod writer;

#[cfg(test)]
mod tests;

pub use frame::{Fingerprint, Form};
use log::Log;
use reader::Reader;
use shared::Shared;
use writer::{Message, Writer};

/// Where a journal lies and what it may take.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its directory, whose parent is durable.
    pub dir: PathBuf,
    /// The dataset that it belongs to.
    pub dataset_id: String,
    /// Size after which a new segment is begun.
    pub segment_bytes: u64,
    /// Size of all segments above which no request is accepted. At least twice `segment_bytes`, and the largest request.
    pub bytes_max: u64,
    /// How long a key is remembered.
    pub key_ttl: Duration,
    /// Keys remembered at the same time: the oldest go first. Each takes about 150 bytes of memory and 96 of disk.
    pub keys_max: usize,
    /// Requests that wait for the writer.
    pub queue: usize,
    /// The key of the dataset, which evidence is made with.
    pub key: Key,
    /// What keys age by.
    pub clocks: Arc<dyn time::Clocks>,
}

/// What the last commit record says of the journal.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    /// The next offset, if there is a record.
    pub offset: Option<u64>,
    /// What stood in the journal then. A record of version 1 says nothing.
    pub evidence: Option<Arc<Evidence>>,
}

impl From<Option<u64>> for Committed {
    fn from(offset: Option<u64>) -> Self {
        Self { offset, evidence: None }
    }
}

/// A request to be journaled.
#[derive(Debug, Clone)]
pub struct Request {
    form: Form,
    records: u64,
    body: bytes::Bytes,
    digest: Fingerprint,
    /// What the digest was where an older Pintail has journaled the same.
    former: Option<Fingerprint>,
    key: Option<Fingerprint>,
}

impl Request {
    /// Takes a body of `records` records, with its idempotency key. Hashes both.
    ///
    /// # Panics
    /// If the lines or payloads of `body` are not `records`: what is read back could not be counted.
    pub fn new(form: Form, records: u64, body: bytes::Bytes, key: Option<&[u8]>) -> Self {
        match form {
            Form::Lines => {
                assert_eq!(memchr::memchr_iter(b'\n', &body).count() as u64, records, "lines of the body");
                assert!(body.last().is_none_or(|&byte| byte == b'\n'), "the last line has an end");
            }
            Form::Payloads => assert_eq!(payloads::each(&body).count() as u64, records, "payloads of the body"),
            Form::Arrow => {}
        }
        let digest = Fingerprint::of(&body);
        Self { form, records, body, digest, former: None, key: key.map(Fingerprint::of) }
    }

    /// Says which fingerprint the body had as an older Pintail wrote it: a client that sends it again with its key is answered as before.
    #[must_use]
    pub fn with_former(self, former: Option<Fingerprint>) -> Self {
        Self { former, ..self }
    }
}

/// What a journaled request is answered with: its records are those from `offset` on. The same for the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// Offset of its first record.
    pub offset: u64,
    /// Its records.
    pub records: u64,
}

/// Why a request is not in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendError {
    /// Its key was used with another body. Nothing of it is kept.
    Conflict,
    /// The journal is at its limit until the next checkpoint. Nothing of it is kept.
    Full,
    /// The disk is full. Nothing of it is kept.
    NoRoom,
    /// The journal has stopped, or stopped while it was written: whether it is kept is known at the next start.
    Stopped,
}

/// An open journal. Clones are handles to the same one; it closes when the last is dropped.
#[derive(Debug, Clone)]
pub struct Journal {
    messages: mpsc::Sender<Message>,
    shared: Arc<Shared>,
}

impl Journal {
    /// Opens the journal and starts its thread. `committed` is what the last commit record says of it. The caller holds the dataset's
    /// lock. `fs` should not wait for room: a full disk is the client's to know.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::State`] if the journal contradicts itself or the commit records, naming segment and offset.
    pub fn open(fs: Arc<dyn Fs>, settings: Settings, committed: impl Into<Committed>) -> Result<Self> {
        let queue = settings.queue;
        let log = Log::open(fs, settings, committed)?;
        let shared = log.shared();
        let (messages, inbox) = mpsc::channel(queue);
        let writer = Writer::new(log, inbox);
        let thread = std::thread::Builder::new().name("journal".into());
        thread.spawn(move || writer.run()).map_err(|e| Error::io("start the thread of the journal", e))?;
        Ok(Self { messages, shared })
    }

    /// Holds the journal against itself and against what is committed, as [`Self::open`] does, and changes nothing. No process may write to it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn check(fs: &dyn Fs, settings: &Settings, committed: &Committed) -> Result<()> {
        open::check(fs, settings, committed)
    }

    /// Appends a request; returns when it is durable. A key that is still in flight is waited for. Once begun it is carried out, also
    /// if the future is dropped.
    pub async fn append(&self, request: Request) -> Result<Receipt, AppendError> {
        let (answer, answered) = oneshot::channel();
        self.messages.send(Message::Append(request, answer)).await.map_err(|_| AppendError::Stopped)?;
        answered.await.unwrap_or(Err(AppendError::Stopped))
    }

    /// Says that everything before `committed` is committed, and published: its segments may go.
    ///
    /// # Errors
    /// If the journal has stopped.
    pub async fn release(&self, committed: u64) -> Result<()> {
        let sent = self.messages.send(Message::Release(committed)).await;
        sent.map_err(|_| self.shared.stopped().unwrap_or_else(|| Error::internal("the journal has closed")))
    }

    /// Ends the newest segment in an orderly way: what was accepted is then known to be durable at the next start. More may be appended.
    /// Waits until it is done, or cannot be.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.messages.send(Message::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }

    /// Begins to read at `from`, which is not before the last release.
    pub fn reader(&self, from: u64) -> Reader {
        Reader::new(self.shared.clone(), from)
    }

    /// Returns the offset behind the last durable record.
    pub fn end(&self) -> u64 {
        self.shared.end()
    }

    /// Returns what all segments take on the disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes()
    }
}
