//! Sources: where records come from.
//!
//! Owns: the contract between a source and the producer, and the identity that makes a source's offsets comparable.
//! Does not own: batching, decoding, when to stop (the producer asks), what is committed (the writer says).

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests do to files what others do"))]

use async_trait::async_trait;
use pintail_core::batch::{Chunk, OffsetUnit};
use pintail_core::breaker::WhenRejected;
use pintail_core::error::{Error, Result};
use pintail_core::evidence::Key;
use pintail_core::offsets::Offsets;

use meters::SourceMeters;
pub use resume::OnGap;

pub mod compression;
pub mod dead_letters;
pub mod file;
#[cfg(any(feature = "http", feature = "nats"))]
mod flood;
pub mod http;
pub mod kafka;
pub mod kind;
pub mod lines;
#[cfg(any(feature = "kafka", feature = "nats"))]
mod messages;
pub mod meters;
pub mod nats;
#[cfg(any(feature = "kafka", feature = "nats"))]
mod reach;
pub mod registry;
pub mod repeated;
mod resume;
pub mod simulator;
pub mod stdin;
mod thread;
pub mod waiting;

/// What a source is opened with: where it goes on, and how it checks that.
#[derive(Debug, Clone, Copy)]
pub struct Resume<'a> {
    /// What is committed, with its evidence.
    pub offsets: &'a Offsets,
    /// The key of the dataset, which evidence is made with.
    pub key: &'a Key,
}

/// A source of records. It is opened at the offsets that the last commit record holds.
#[async_trait]
pub trait Source: Send {
    /// Waits for the next records; `None` at the end of the input.
    ///
    /// Ranges of one partition are contiguous and begin at the offset that the source was opened with. Chunks hold whole records.
    ///
    /// Safe to cancel: what a dropped future had read is returned by the next call.
    async fn read(&mut self) -> Result<Option<Chunk>>;

    /// Stops reading, and returns what was taken from an input that cannot be read again. Others forget it: it is read at the next start.
    async fn stop(&mut self) -> Result<Vec<Chunk>> {
        Ok(Vec::new())
    }

    /// Learns what is committed and durable: only now may it acknowledge upstream or forget.
    async fn committed(&mut self, _offsets: &Offsets) -> Result<()> {
        Ok(())
    }

    /// Returns how much the source holds beyond what it has read, in the unit of its offsets; `None` if it cannot know.
    fn remaining(&self) -> Option<u64> {
        None
    }

    /// Returns what its offsets count.
    fn unit(&self) -> OffsetUnit {
        OffsetUnit::Records
    }

    /// Returns whether what was read and not committed comes again at the next start.
    fn reads_again(&self) -> bool {
        true
    }

    /// Returns what is to be done when too many of its records are rejected.
    fn when_rejected(&self) -> WhenRejected {
        WhenRejected::Stop
    }

    /// Returns what can be seen of it while it reads. Asked once, before the first read.
    fn meters(&self) -> SourceMeters {
        SourceMeters::default()
    }

    /// Returns what is wrong although the input has ended and all that was read of it is committed: a part of it could not be read. Asked last.
    fn left(&mut self) -> Option<Error> {
        None
    }
}
