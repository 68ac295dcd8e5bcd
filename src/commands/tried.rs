//! Tried: records through decode, SQL and the places of their rows, as the line does it, and no dataset.
//!
//! Owns: cutting input into records, running them by one worker, rows as JSON.
//! Does not own: what the rows are compared with (see `rows`, `fixtures`, `plan`), what is done to a batch (see `stages::transform`).

use std::sync::Arc;

use pintail_config::Config;
use pintail_core::batch::{Batch, Chunk, DeadLetter, OffsetUnit};
use pintail_core::breaker::{Usual, WhenRejected};
use pintail_core::error::{Error, Result};
use pintail_core::json_rows;
use pintail_core::offsets::{OffsetRange, Partition, PartitionId};
use pintail_duckdb::{Engine, shown};
use pintail_sources::lines::{LineReader, Unterminated};
use tokio::sync::watch;

use super::rows::Row;
use crate::pipeline::Plan;
use crate::stages::transform::{Outcome, Transform};

/// A schema and SQL, ready to take records.
pub(crate) struct Tried {
    transform: Transform,
    #[expect(dead_code, reason = "the worker must not outlive its database")]
    engine: Engine,
}

/// What records have become.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// The records; blank lines are none.
    pub records: u64,
    /// The rows, in the order of the SQL.
    pub rows: Vec<Row>,
    /// The records that were rejected.
    pub dead_letters: Vec<DeadLetter>,
}

impl Tried {
    /// Makes one worker ready.
    ///
    /// # Errors
    /// If the engine cannot make a worker.
    pub(crate) fn new(config: &Config, plan: Plan) -> Result<Self> {
        let Plan { engine, layout, aggregator } = plan;
        let worker = engine.workers()?.into_iter().next().ok_or_else(|| Error::internal("an engine without workers"))?;
        let rest = (WhenRejected::GoOn, Usual::default(), watch::channel(false).1);
        let mut transform = Transform::new(config, worker, &layout, &aggregator, rest);
        transform.keep_rows();
        Ok(Self { transform, engine })
    }

    /// Runs records as one batch.
    ///
    /// # Errors
    /// A failure that no record explains.
    pub(crate) fn run(&mut self, batch: &Batch) -> Result<Made> {
        let outcome = self.transform.apply(batch, &mut |_| true)?;
        let mut rows = Vec::new();
        for batch in self.transform.take_rows() {
            let lines = shown::batch(&batch).and_then(|batch| json_rows::lines(&batch));
            let lines = lines.map_err(|e| Error::internal("cannot write rows as JSON").with_source(e))?;
            rows.extend(
                lines
                    .split(|byte| *byte == b'\n')
                    .filter(|line| !line.is_empty())
                    .map(Row::parse)
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|why| Error::internal(format!("a row of the SQL is no JSON object: {why}")))?,
            );
        }
        match outcome {
            Outcome::Frame(frame) => Ok(Made { records: frame.counts.records_in, rows, dead_letters: frame.dead_letters }),
            Outcome::GivenUp => Err(Error::internal("the search for records that fail was given up")),
        }
    }
}

/// Cuts bytes into records, as the sources do that read lines. Offsets are bytes.
pub(crate) fn records_of(input: &[u8], label: &str, record_bytes_max: usize) -> Batch {
    let partition = Arc::new(Partition { id: PartitionId::new(label), label: label.into() });
    let (mut lines, mut chunks, mut at) = (LineReader::new(input, record_bytes_max), Vec::new(), 0);
    while let Ok(Some(piece)) = lines.next(Unterminated::Record) {
        let to = at + piece.bytes;
        if !piece.is_padding() {
            chunks.push(Chunk::new(piece.records, OffsetRange::new(partition.clone(), at, to), OffsetUnit::Bytes));
        }
        at = to;
    }
    Batch::new(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_cut_as_a_source_cuts_it() {
        let batch = records_of(b"{\"a\":1}\n\n{\"a\":\"a long one\"}\n{\"a\":2}", "input", 8);
        let spans: Vec<_> = batch.chunks.iter().map(|chunk| (chunk.range.from, chunk.range.to, chunk.records())).collect();
        assert_eq!(spans, [(0, 9, 2), (9, 28, 1), (28, 35, 1)]);
    }
}
