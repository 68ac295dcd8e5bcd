//! Simulator: made events, the default source.
//!
//! Owns: counting events, the pace, the end of the dataset.
//! Does not own: what an event is (see `events`).

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, Utc};
use pintail_core::batch::{Chunk, OffsetUnit, Records};
use pintail_core::breaker::WhenRejected;
use pintail_core::error::{Error, Result};
use pintail_core::identity::SourceIdentity;
use pintail_core::offsets::{OffsetRange, Offsets, Partition, PartitionId};
use pintail_settings::bounds::INTEGER_MAX;
use pintail_settings::{Section, values};

use super::Source;
use super::thread::{ChunkSender, Exit, ReadThread};
use crate::Resume;
use crate::kind::{Configured, Kind, Surroundings};
use crate::meters::SourceMeters;

mod events;
mod pace;

pub use events::{EVENT_DISTANCE_US, events};
use pace::Pace;

/// The only partition, and the kind in the identity.
const NAME: &str = "simulator";

/// `source.type = "simulator"`
#[derive(Debug, Clone)]
pub struct SimulatorConfig {
    /// Seed of the events.
    pub seed: u64,
    /// Events of the whole dataset; 0 = endless.
    pub limit: u64,
    /// Events a second; 0 = as fast as the line takes them.
    pub rate: u64,
    /// Time of event 0; `None` = the creation of the dataset.
    pub start_time: Option<DateTime<Utc>>,
}

/// The kind.
pub(crate) const KIND: Kind = Kind {
    name: NAME,
    keys: &["seed", "limit", "rate", "start_time"],
    read: |section, _| Box::new(SimulatorConfig::read(section)),
    owns: None,
};

impl SimulatorConfig {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            seed: section.integer("seed", 42, 0..=INTEGER_MAX),
            limit: section.integer("limit", 0, 0..=INTEGER_MAX),
            rate: section.integer("rate", 50_000, 0..=1_000_000_000),
            start_time: section.optional_text("start_time", values::time),
        }
    }
}

impl Configured for SimulatorConfig {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    /// The seed, and the start time (`created_at` of the dataset unless configured).
    fn identity(&self, created_at: DateTime<Utc>) -> SourceIdentity {
        let start_time = self.start_time.unwrap_or(created_at);
        let properties = [
            ("seed".to_owned(), self.seed.to_string()),
            ("start_time".to_owned(), start_time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        ];
        SourceIdentity { kind: NAME.to_owned(), properties: properties.into() }
    }

    fn can_be_tried(&self) -> bool {
        true
    }

    fn accepting_gaps(&self) -> Box<dyn Configured> {
        Box::new(self.clone())
    }

    fn open(&self, around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Box<dyn Source>> {
        let start_time = self.start_time.unwrap_or(around.created_at);
        Ok(Box::new(Simulator::open(self, start_time, around.batch_rows, resume.offsets)?))
    }

    fn check(&self, _around: &Surroundings<'_>, _resume: &Resume<'_>) -> Result<Vec<String>> {
        Ok(vec!["simulated events: `source.type` is `simulator`, its default".to_owned()])
    }
}

/// Makes events, on a thread of its own: event n is a function of seed, start time and n.
#[derive(Debug)]
pub struct Simulator {
    thread: ReadThread,
    next: u64,
    limit: Option<u64>,
}

/// What the thread needs to know.
#[derive(Debug)]
struct Plan {
    partition: Arc<Partition>,
    seed: u64,
    start_time: DateTime<Utc>,
    block_rows: u64,
    next: u64,
    end: u64,
    pace: Option<Pace>,
}

impl Simulator {
    /// Starts at the offset that is committed. A chunk has at most `block_rows` events and never crosses a multiple of `block_rows`
    /// (counted from event 0), so a batcher that cuts at as many need not slice.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if `limit` is below what is committed: the dataset has more events than it may.
    pub fn open(config: &SimulatorConfig, start_time: DateTime<Utc>, block_rows: usize, offsets: &Offsets) -> Result<Self> {
        let partition = Arc::new(Partition { id: PartitionId::new(NAME), label: NAME.into() });
        let next = offsets.next_offset(&partition.id).unwrap_or(0);
        let limit = (config.limit > 0).then_some(config.limit);
        if let Some(limit) = limit.filter(|&limit| limit < next) {
            return Err(Error::config(format!(
                "the dataset has {next} events and `source.limit` is {limit}: raise it, or use another `pipeline.out_path`"
            )));
        }
        let plan = Plan {
            partition,
            seed: config.seed,
            start_time,
            block_rows: block_rows.max(1) as u64,
            next,
            end: limit.unwrap_or(u64::MAX),
            pace: (config.rate > 0).then(|| Pace::new(config.rate, Instant::now())),
        };
        let thread = ReadThread::spawn(NAME, move |sender| plan.run(sender))?;
        Ok(Self { thread, next, limit })
    }
}

#[async_trait]
impl Source for Simulator {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let chunk = self.thread.recv().await?;
        if let Some(chunk) = &chunk {
            self.next = chunk.range.to;
        }
        Ok(chunk)
    }

    fn remaining(&self) -> Option<u64> {
        self.limit.map(|limit| limit - self.next)
    }

    fn when_rejected(&self) -> WhenRejected {
        if self.limit.is_some() { WhenRejected::Stop } else { WhenRejected::Pause }
    }

    fn meters(&self) -> SourceMeters {
        SourceMeters { reading: Some(self.thread.work()), ..SourceMeters::default() }
    }
}

impl Plan {
    fn run(mut self, sender: &ChunkSender) -> Result<(), Exit> {
        while self.next < self.end {
            let due = self.wait(sender)?;
            let block_end = (self.next / self.block_rows + 1).saturating_mul(self.block_rows);
            let to = self.next.saturating_add(due).min(block_end).min(self.end);
            let rows = events(self.seed, self.start_time, self.next..to);
            let range = OffsetRange::new(self.partition.clone(), self.next, to);
            sender.send(Chunk::new(Records::Arrow(rows), range, OffsetUnit::Records))?;
            self.next = to;
        }
        Ok(())
    }

    /// Waits until the pace allows events, and returns how many, at most a block.
    fn wait(&mut self, sender: &ChunkSender) -> Result<u64, Exit> {
        let Some(pace) = &mut self.pace else { return Ok(self.block_rows) };
        loop {
            let due = pace.take(Instant::now(), self.block_rows);
            if due > 0 {
                return Ok(due);
            }
            sender.sleep(pace.until_next(Instant::now()))?;
        }
    }
}

#[cfg(test)]
mod tests;
