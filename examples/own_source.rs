//! Pintail inside another program, with a kind of source of its own.
//!
//! ```text
//! cargo run --release --example own_source -- /tmp/ticks
//! ```

#![allow(unreachable_pub, reason = "a test takes this file as a module")]

use std::sync::Arc;

use async_trait::async_trait;
use pintail::source::{Chunk, Configured, Kind, OffsetRange, OffsetUnit, Partition, PartitionId, Records, Resume, Source, Surroundings};
use pintail::{Config, Error, Pipeline, Result};

/// The kind: the one line by which a configuration knows it.
pub const TICKS: Kind = Kind {
    name: "ticks",
    keys: &["count"],
    read: |section, _| Box::new(TicksConfig { count: section.integer("count", 1_000, 1..=1_000_000) }),
    owns: None,
};

/// `source.type = "ticks"`
#[derive(Debug, Clone)]
struct TicksConfig {
    /// How many there are.
    count: u64,
}

impl Configured for TicksConfig {
    fn kind(&self) -> &'static Kind {
        &TICKS
    }

    fn accepting_gaps(&self) -> Box<dyn Configured> {
        Box::new(self.clone())
    }

    fn open(&self, _around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Box<dyn Source>> {
        let partition = Arc::new(Partition { id: PartitionId::new("ticks"), label: "ticks".into() });
        let next = resume.offsets.next_offset(&partition.id).unwrap_or(0);
        Ok(Box::new(Ticks { partition, next, count: self.count }))
    }

    fn check(&self, _around: &Surroundings<'_>, _resume: &Resume<'_>) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// Numbers, one a record.
struct Ticks {
    partition: Arc<Partition>,
    next: u64,
    count: u64,
}

#[async_trait]
impl Source for Ticks {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        if self.next >= self.count {
            return Ok(None);
        }
        let range = OffsetRange::new(self.partition.clone(), self.next, self.next + 1);
        let line = format!("{{\"tick\":{}}}\n", self.next);
        self.next += 1;
        Ok(Some(Chunk::new(Records::Lines(line.into()), range, OffsetUnit::Records)))
    }
}

/// Returns the settings of a line that writes ticks to a directory.
pub fn settings(out_path: &str, count: u64) -> Vec<String> {
    vec![
        format!("pipeline.out_path={out_path:?}"),
        format!("source.count={count}"),
        "schema.columns=[{name=\"tick\", type=\"int64\"}]".into(),
        "transform.sql=\"SELECT tick, tick % 2 = 0 AS even FROM events\"".into(),
        "sink.partition_by=[]".into(),
        "sink.event_time=\"\"".into(),
    ]
}

#[tokio::main]
#[allow(dead_code, reason = "a test takes this file as a module")]
async fn main() -> Result<()> {
    let out_path = std::env::args().nth(1).ok_or_else(|| Error::config("expected the directory of the dataset"))?;
    let config = Config::load_with(&[TICKS], None, std::iter::empty(), &settings(&out_path, 1_000))?;
    Pipeline::builder(config).build().run().await
}
