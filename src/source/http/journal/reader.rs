//! Reading the journal back, from any offset on.
//!
//! Owns: the position. It never goes past what is durable: what the line commits, a power cut must not take away.
//! Does not own: decoding, and cutting the first body if the offset lies within it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::frame::{Form, Frame, Kind};
use super::segment::Frames;
use super::shared::Shared;
use crate::error::Result;

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
}

/// A reader of the journal.
pub struct Reader {
    shared: Arc<Shared>,
    offset: u64,
    frames: Option<Frames>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, offset: u64) -> Self {
        Self { shared, offset, frames: None }
    }

    /// Waits at most so long for the next records; `None` if there are none yet. Blocks: for a plain thread.
    ///
    /// # Errors
    /// If the journal has stopped, or a frame that was whole at start is not any more.
    pub fn read(&mut self, wait: Duration) -> Result<Option<Recorded>> {
        while self.shared.wait_beyond(self.offset, wait)? {
            let mut frames = match self.frames.take() {
                Some(frames) => frames,
                None => self.shared.open_at(self.offset)?,
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

    fn recorded(&mut self, Frame { head, body }: Frame) -> Option<Recorded> {
        let Kind::Records(form) = head.kind else { return None };
        let to = head.offset + head.records;
        if to <= self.offset {
            return None;
        }
        let skip = self.offset - head.offset;
        self.offset = to;
        Some(Recorded { offset: head.offset, records: head.records, skip, form, body })
    }
}
