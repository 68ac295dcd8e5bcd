//! Transform: what one worker does with one batch.
//!
//! Owns: decode → SQL → hive partitions → totals, and the search for the records that make the SQL fail. No state outlives a batch.
//! Does not own: the order of batches and how many run side by side (see `stages::transformer`). Blocking.

use std::sync::Arc;

use arrow::array::RecordBatch;
use tracing::warn;

use crate::batch::{Batch, Counts, Frame, Phase};
use crate::breaker::{self, WhenRejected};
use crate::config::{Config, DeadLetterConfig};
use crate::decode::{Decoded, Decoder, reject_undecoded};
use crate::engine::aggregate::Aggregator;
use crate::engine::{SqlError, Worker};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::layout::{OutputLayout, SplitError, Splitter};

/// One worker and all that it needs for a batch.
pub struct Transform {
    decoder: Decoder,
    worker: Worker,
    splitter: Splitter,
    aggregator: Arc<Aggregator>,
    per_batch: bool,
    /// Set if too many rejected records stop the line; where they pause it, the writer decides.
    stops_at: Option<DeadLetterConfig>,
}

/// Why some of the records cannot pass.
enum Fault {
    /// One of these records is to blame.
    Record(Phase, String),
    /// None is: the line must stop.
    Fatal(Error),
}

impl Transform {
    /// Makes the worker ready.
    pub fn new(
        config: &Config,
        worker: Worker,
        layout: &Arc<OutputLayout>,
        aggregator: &Arc<Aggregator>,
        when_rejected: WhenRejected,
    ) -> Self {
        Self {
            decoder: Decoder::new(&config.schema),
            worker,
            splitter: Splitter::new(layout.clone()),
            aggregator: aggregator.clone(),
            per_batch: config.transform.per_batch,
            stops_at: (when_rejected == WhenRejected::Stop).then(|| config.dead_letters.clone()),
        }
    }

    /// Transforms a batch. Every record of it is in the frame: as rows, as filtered, or as a dead letter.
    ///
    /// # Errors
    /// A failure that no record explains: memory, time, I/O, an internal error of the engine; or a failing batch of `per_batch` SQL.
    pub fn apply(&mut self, batch: &Batch) -> Result<Frame> {
        if let Some(reason) = &batch.deadly {
            return Ok(set_aside(batch, reason));
        }
        let decoded = self.decoder.decode(batch)?;
        let mut frame = Frame { ranges: batch.ranges(), ..Frame::default() };
        frame.counts.records_in = decoded.records_in;
        frame.counts.dead_letters.decode = decoded.dead_letters.len() as u64;
        let rows = decoded.batch.num_rows();
        if rows > 0 {
            self.transform(&decoded, 0, rows, &mut frame)?;
        }
        let Counts { dead_letters, rows_out, .. } = frame.counts;
        let good = frame.counts.records_in - dead_letters.total();
        frame.counts.filtered = good.saturating_sub(rows_out);
        frame.counts.expanded = rows_out.saturating_sub(good);
        // In the order of the source: first what did not decode, among which the culprits of the SQL are then put.
        frame.dead_letters.extend(decoded.dead_letters);
        frame.dead_letters.sort_by(|a, b| (&a.partition, a.offset).cmp(&(&b.partition, b.offset)));
        frame.rejected_units = breaker::units(batch, &frame.dead_letters);
        Ok(frame)
    }

    /// Transforms the records `[from, to)`; where they fail, searches for the culprits.
    fn transform(&mut self, decoded: &Decoded, from: usize, to: usize, frame: &mut Frame) -> Result<()> {
        let records = decoded.batch.slice(from, to - from);
        match self.attempt(&records, frame) {
            Ok(()) => Ok(()),
            Err(Fault::Fatal(error)) => Err(error),
            Err(Fault::Record(_, reason)) if self.per_batch => Err(Error::new(
                ErrorKind::DeadLetters,
                format!(
                    "the SQL fails on a batch, and with transform.per_batch no single record can be set aside: {reason}; let the SQL \
                     take such records, with TRY_CAST or a filter"
                ),
            )),
            Err(Fault::Record(phase, reason)) => {
                if to - from == decoded.batch.num_rows() && to - from > 1 {
                    warn!(records = to - from, %reason, "the SQL fails on a batch: searching for the records to blame");
                }
                self.search(decoded, from, to, (phase, reason), frame)
            }
        }
    }

    /// Halves the records `[from, to)`, which fail as `fault` says, until the culprits stand alone.
    fn search(&mut self, decoded: &Decoded, from: usize, to: usize, fault: (Phase, String), frame: &mut Frame) -> Result<()> {
        if to - from == 1 {
            let (phase, reason) = fault;
            frame.dead_letters.push(decoded.origins.dead_letter(from, phase, reason));
            *frame.counts.dead_letters.phase_mut(phase) += 1;
            return self.check_ratio(frame);
        }
        let middle = from + (to - from) / 2;
        let rejected = frame.counts.dead_letters.total();
        self.transform(decoded, from, middle, frame)?;
        if frame.counts.dead_letters.total() == rejected && to - middle > 1 {
            // The first half is good, so the second one has a culprit: trying it whole would only say so again.
            return self.search(decoded, middle, to, fault, frame);
        }
        self.transform(decoded, middle, to, frame)
    }

    /// Stops the search in a batch that is hopeless: record by record it would take minutes to come to the same end.
    fn check_ratio(&self, frame: &Frame) -> Result<()> {
        let Counts { records_in, dead_letters, .. } = frame.counts;
        let Some(config) = self.stops_at.as_ref().filter(|config| config.is_exceeded(dead_letters.sql + dead_letters.sink, records_in))
        else {
            return Ok(());
        };
        let reason = frame.dead_letters.last().map_or("no reason known", |letter| &letter.reason);
        Err(Error::new(
            ErrorKind::DeadLetters,
            format!(
                "the SQL fails on more than dead_letters.ratio_max = {} of a batch of {records_in} records; nothing of this checkpoint is \
                 committed; the last: {reason}",
                config.ratio_max
            ),
        ))
    }

    /// Runs the SQL over the records and places its rows. Touches the frame only if all went well.
    fn attempt(&mut self, records: &RecordBatch, frame: &mut Frame) -> Result<(), Fault> {
        let output = self.worker.run(records).map_err(|error| match error {
            SqlError::Record(reason) => Fault::Record(Phase::Sql, reason),
            SqlError::Fatal(error) => Fault::Fatal(error),
        })?;
        if output.num_rows() == 0 {
            return Ok(());
        }
        let placed = self.splitter.split(&output).map_err(|error| match error {
            SplitError::Unplaceable(unplaceable) => Fault::Record(Phase::Sink, unplaceable.reason),
            SplitError::Failed(error) => Fault::Fatal(error),
        })?;
        let totals = self.aggregator.totals(&output).map_err(Fault::Fatal)?;
        frame.counts.rows_out += output.num_rows() as u64;
        frame.totals.merge(&totals, self.aggregator.groups_max());
        frame.rows.extend(placed);
        Ok(())
    }
}

/// Makes a dead letter of a record that must not be run.
fn set_aside(batch: &Batch, reason: &str) -> Frame {
    let record = batch.chunks.iter().find(|chunk| chunk.records() > 0);
    let dead_letters: Vec<_> = record.map(|chunk| reject_undecoded(chunk, Phase::Sql, reason.to_owned())).into_iter().collect();
    let mut counts = Counts { records_in: dead_letters.len() as u64, ..Counts::default() };
    counts.dead_letters.sql = counts.records_in;
    Frame { ranges: batch.ranges(), counts, rejected_units: breaker::units(batch, &dead_letters), dead_letters, ..Frame::default() }
}
