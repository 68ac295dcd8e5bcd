//! Reading the journal back, from any offset on.
//!
//! Owns: the position. It never goes past what is durable: what the line commits, a power cut must not take away.
//! Does not own: decoding, and cutting the first body if the offset lies within it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pintail_core::error::Result;
use pintail_core::evidence::{Evidence, Key};

use super::frame::{Form, Frame, Kind};
use super::position;
use super::running::Running;
use super::segment::{Frames, Lost};
use super::shared::Shared;

/// The records of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Offset of the first record of the body.
    pub offset: u64,
    /// Records of the body.
    pub records: u64,
    /// Records at its begin that were read before, at an earlier start.
    pub skip: u64,
    /// How they are written.
    pub form: Form,
    /// The records.
    pub body: Bytes,
    /// The hash behind them, of everything accepted by then; `None` in a segment of version 1.
    pub running: Option<Running>,
    /// Set if these records are lost and were given up: there is no body.
    pub lost: Option<Lost>,
}

impl Recorded {
    /// Returns the offset behind the body.
    pub fn end(&self) -> u64 {
        self.offset + self.records
    }
}

/// A reader of the journal.
pub struct Reader {
    shared: Arc<Shared>,
    offset: u64,
    frames: Option<Frames>,
    /// The hash behind the last frame that was read.
    running: Option<Running>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, offset: u64) -> Self {
        Self { shared, offset, frames: None, running: None }
    }

    /// Waits at most so long for the next records; `None` if there are none yet. Blocks: for a plain thread.
    ///
    /// # Errors
    /// If the journal has stopped, or a frame that was whole at start is not any more.
    pub fn read(&mut self, wait: Duration) -> Result<Option<Recorded>> {
        while self.shared.wait_beyond(self.offset, wait)? {
            let mut frames = match self.frames.take() {
                Some(frames) => frames,
                None => {
                    let frames = self.shared.open_at(self.offset)?;
                    self.running = frames.header.running;
                    if let Some(lost) = frames.header.lost.filter(|lost| lost.to > self.offset) {
                        self.frames = Some(frames);
                        return Ok(Some(self.lost(lost)));
                    }
                    frames
                }
            };
            // Released since: everything in it was read.
            let Some(end) = self.shared.readable(frames.header.segment) else { continue };
            frames.extend(end);
            while let Some(frame) = frames.read()?.map_err(|bad| frames.refuse(&bad, self.offset))? {
                if let Some(recorded) = self.recorded(frame) {
                    self.frames = Some(frames);
                    return Ok(Some(recorded));
                }
            }
        }
        Ok(None)
    }

    /// Waits at most so long for a record. Returns whether there is one. Blocks: for a plain thread.
    ///
    /// # Errors
    /// If the journal has stopped.
    pub fn wait(&self, wait: Duration) -> Result<bool> {
        self.shared.wait_beyond(self.offset, wait)
    }

    /// Returns what a commit record is to say of the journal when it ends within or behind a request that was read.
    pub fn evidence(&self, recorded: &Recorded, key: &Key) -> Evidence {
        position::evidence(key, Some(recorded), &self.shared.durable())
    }

    /// Returns what a commit record is to say of the journal where nothing was read.
    pub fn evidence_at_start(&self, key: &Key) -> Evidence {
        position::evidence(key, None, &self.shared.durable())
    }

    fn lost(&mut self, lost: Lost) -> Recorded {
        let (offset, records) = (lost.from, lost.to - lost.from);
        let skip = self.offset - offset;
        self.offset = lost.to;
        Recorded { offset, records, skip, form: Form::Lines, body: Bytes::new(), running: self.running, lost: Some(lost) }
    }

    fn recorded(&mut self, Frame { head, body }: Frame) -> Option<Recorded> {
        self.running = self.running.map(|running| running.behind(&head));
        let Kind::Records(form) = head.kind else { return None };
        let to = head.offset + head.records;
        if to <= self.offset {
            return None;
        }
        let skip = self.offset - head.offset;
        self.offset = to;
        Some(Recorded { offset: head.offset, records: head.records, skip, form, body, running: self.running, lost: None })
    }
}
