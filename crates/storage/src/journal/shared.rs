//! What the writer's thread and the readers share: which segments there are, and how far they are durable.
//!
//! Owns: that one truth, and waiting for it to move.
//! Does not own: the decisions that move it (see `log`).

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use pintail_core::error::{Error, ErrorKind, Result};

use super::running::Running;
use super::segment::Frames;
use crate::durable::fs::Fs;

/// A segment, as far as it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Its number.
    pub segment: u64,
    /// The first offset that it answers for.
    pub begin: u64,
    /// Offset of its first record.
    pub first_offset: u64,
    /// Its durable bytes.
    pub end: u64,
    /// What it takes on the disk.
    pub bytes: u64,
}

/// How far the journal is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    /// The offset behind the last record.
    pub offset: u64,
    /// The hash of all records before it.
    pub running: Running,
    /// The newest segment.
    pub segment: u64,
    /// The length of that, in bytes.
    pub bytes: u64,
}

/// The segments, oldest first; never none.
#[derive(Debug)]
struct State {
    extents: VecDeque<Extent>,
    end: u64,
    running: Running,
    stopped: Option<(ErrorKind, String)>,
}

/// The shared part of a journal.
pub struct Shared {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    dataset_id: String,
    state: Mutex<State>,
    moved: Condvar,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("dir", &self.dir).field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Shared {
    /// Takes the segments as they lie on the disk, oldest first, at least one, and the offset behind the last record with the hash of all
    /// before it.
    pub fn new(fs: Arc<dyn Fs>, dir: PathBuf, dataset_id: String, extents: VecDeque<Extent>, (end, running): (u64, Running)) -> Self {
        assert!(!extents.is_empty(), "a journal has a segment");
        let state = Mutex::new(State { extents, end, running, stopped: None });
        Self { fs, dir, dataset_id, state, moved: Condvar::new() }
    }

    /// Returns the offset behind the last durable record.
    pub fn end(&self) -> u64 {
        self.state().end
    }

    /// Returns how far the journal is durable.
    pub fn durable(&self) -> Durable {
        let state = self.state();
        let newest = state.extents.back().expect("a journal has a segment");
        Durable { offset: state.end, running: state.running, segment: newest.segment, bytes: newest.end }
    }

    /// Returns the segment that is written.
    pub fn newest(&self) -> Extent {
        *self.state().extents.back().expect("a journal has a segment")
    }

    /// Returns the oldest segment and the one after it, unless there is but one.
    pub fn oldest_two(&self) -> Option<(Extent, Extent)> {
        let state = self.state();
        Some((*state.extents.front()?, *state.extents.get(1)?))
    }

    /// Returns the number of segments.
    pub fn segments(&self) -> usize {
        self.state().extents.len()
    }

    /// Returns what all segments take on the disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.state().extents.iter().map(|extent| extent.bytes).sum()
    }

    /// Records that so many bytes of the newest segment, and all records before `end`, have become durable.
    pub fn grow(&self, bytes: u64, (end, running): (u64, Running)) {
        let mut state = self.state();
        let newest = state.extents.back_mut().expect("a journal has a segment");
        newest.end += bytes;
        newest.bytes += bytes;
        (state.end, state.running) = (end, running);
        drop(state);
        self.moved.notify_all();
    }

    /// Records that up to so many bytes of the newest segment are taken and do not count.
    pub fn waste(&self, bytes: u64) {
        self.state().extents.back_mut().expect("a journal has a segment").bytes += bytes;
    }

    /// Takes a new segment.
    pub fn push(&self, extent: Extent) {
        self.state().extents.push_back(extent);
    }

    /// Forgets the oldest segment, which is removed.
    pub fn pop_oldest(&self) {
        let mut state = self.state();
        assert!(state.extents.len() > 1, "the newest segment stays");
        state.extents.pop_front();
    }

    /// Records that nothing more can be written, and why. The first reason stays.
    pub fn stop(&self, error: &Error) {
        self.state().stopped.get_or_insert_with(|| (error.kind(), error.to_string()));
        self.moved.notify_all();
    }

    /// Returns why nothing more can be written.
    pub fn stopped(&self) -> Option<Error> {
        self.state().stopped.as_ref().map(|(kind, message)| Error::new(*kind, message.clone()))
    }

    /// Waits until there are durable records from `offset` on. Returns whether there are.
    ///
    /// # Errors
    /// If the journal has stopped.
    pub fn wait_beyond(&self, offset: u64, wait: Duration) -> Result<bool> {
        let idle = |state: &mut State| state.end <= offset && state.stopped.is_none();
        let mut state = self.state();
        self.moved.wait_while_for(&mut state, idle, wait);
        match &state.stopped {
            Some((kind, message)) => Err(Error::new(*kind, message.clone())),
            None => Ok(state.end > offset),
        }
    }

    /// Returns how far a segment may be read; `None` if it is gone.
    pub fn readable(&self, segment: u64) -> Option<u64> {
        self.state().extents.iter().find(|extent| extent.segment == segment).map(|extent| extent.end)
    }

    /// Opens the segment in which the record at `offset` lies, or will.
    pub fn open_at(&self, offset: u64) -> Result<Frames> {
        let extent = self.state().extents.iter().rev().find(|extent| extent.begin <= offset).copied();
        let extent = extent.ok_or_else(|| Error::internal(format!("offset {offset} is before the journal's oldest segment")))?;
        Frames::open(&*self.fs, &self.dir, &self.dataset_id, extent.segment, extent.end)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}
