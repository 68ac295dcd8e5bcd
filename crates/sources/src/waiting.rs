//! Waiting inputs: what a source cannot read for now, as an operator sees it.
//!
//! Owns: the count and the first few by name, shared with the admin server.
//! Does not own: why an input waits and when it is tried again (the source knows, see `file::aside`).

use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

/// Inputs that are named; of the others there is the count.
pub const NAMED_MAX: usize = 20;

/// The inputs that wait. Clones are handles to the same ones.
#[derive(Debug, Clone, Default)]
pub struct WaitingInputs(Arc<Mutex<Waiting>>);

/// The inputs that wait at one moment.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    /// How many.
    pub count: usize,
    /// The first ones by name, at most [`NAMED_MAX`].
    pub named: Vec<WaitingInput>,
}

/// An input that waits.
#[derive(Debug, Clone)]
pub struct WaitingInput {
    /// Its path, escaped.
    pub path: String,
    /// What keeps it from being read, escaped and cut.
    pub why: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

impl WaitingInputs {
    /// Returns what waits now.
    pub fn get(&self) -> Waiting {
        self.0.lock().clone()
    }

    /// Says what waits.
    pub fn set(&self, waiting: Waiting) {
        *self.0.lock() = waiting;
    }
}
