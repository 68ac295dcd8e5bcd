//! Meters of a source: what can be seen of it from outside while it reads.
//!
//! Owns: which figures there are, and how a kind of source names those that no other has.
//! Does not own: the figures themselves (the source counts), how they are shown (see `pintail::admin`).

use std::fmt;
use std::sync::Arc;

use pintail_core::clock::Clock;
use tokio::sync::watch;

use crate::waiting::WaitingInputs;

/// What a source lets others see, as handles that stay true while it reads. What a source cannot tell is left out.
#[derive(Debug, Default)]
pub struct SourceMeters {
    /// Time that it spends reading, where it can tell that from waiting.
    pub reading: Option<Arc<Clock>>,
    /// Why it can read nothing at this moment (nothing while it can): the service is not ready then. Of a source that lives elsewhere.
    pub trouble: Option<watch::Receiver<Option<String>>>,
    /// Which of its inputs it cannot read for now: the others go on, and the service is ready. Of a source with several inputs.
    pub waiting: Option<WaitingInputs>,
    /// Figures that only its kind has.
    pub figures: Vec<Figure>,
}

/// A figure that only one kind of source has: a metric of its own.
#[derive(Debug)]
pub struct Figure {
    /// The name of the metric.
    pub name: &'static str,
    /// What it counts, in a sentence.
    pub help: &'static str,
    /// Where it is read.
    pub reading: Reading,
}

/// How a figure is read; asked whenever somebody looks.
pub enum Reading {
    /// A count that begins at 0 with the process and only grows.
    Counter(Box<dyn Fn() -> u64 + Send + Sync>),
    /// Such counts by the value of a label.
    Counters(&'static str, Box<dyn Fn() -> Vec<(String, u64)> + Send + Sync>),
    /// A figure that grows and falls.
    Gauge(Box<dyn Fn() -> u64 + Send + Sync>),
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter(read) => f.debug_tuple("Counter").field(&read()).finish(),
            Self::Counters(label, read) => f.debug_tuple("Counters").field(label).field(&read()).finish(),
            Self::Gauge(read) => f.debug_tuple("Gauge").field(&read()).finish(),
        }
    }
}
