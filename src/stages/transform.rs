//! Transform: what one worker does with one batch.
//!
//! Owns: decode → SQL → hive partitions → totals; the frames that a batch becomes. No state outlives a batch.
//! Does not own: the search for the records that the SQL fails on (see `search`), the order of batches and how many run side by side (see
//! `stages::transformer`). Blocking.

use std::sync::Arc;

use arrow::array::RecordBatch;
use pintail_config::Config;
use pintail_core::batch::{Batch, Counts, Frame, PartitionedRows, Phase};
use pintail_core::breaker::{self, DeadLetterConfig, Usual, WhenRejected};
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_decode::{Decode, Decoded, Origins, decoder, reject_undecoded};
use pintail_duckdb::{Failure, FailureKind, SqlError, Worker};
use pintail_sink::files::Crowd;
use pintail_sink::layout::{OutputLayout, SplitError, Splitter};
use tokio::sync::watch;

use crate::aggregate::Aggregator;
use search::Search;
pub(crate) use told::Told;

mod search;
mod told;

/// One worker and all that it needs for a batch.
pub struct Transform {
    decoder: Box<dyn Decode>,
    pub(super) worker: Worker,
    splitter: Splitter,
    aggregator: Arc<Aggregator>,
    per_batch: bool,
    /// Whether the line pauses where too much is rejected: only there the units of all records count.
    may_pause: bool,
    /// Set if too many rejected records stop the line; where they pause it, the writer decides.
    pub(super) stops_at: Option<(DeadLetterConfig, Usual)>,
    /// Bytes of rows after which a frame is handed on before its batch is done.
    frame_bytes_max: usize,
    /// The hive partitions of the open checkpoint, and how many frames may be on their way to it.
    crowd: Option<(Crowd, usize)>,
    /// Turns true when the line shall stop.
    pub(super) stop: watch::Receiver<bool>,
    /// The rows as the SQL returned them, where somebody wants to see them.
    kept: Option<Vec<RecordBatch>>,
    /// What is said once of the rows, where somebody reads it.
    told: Option<Arc<Told>>,
}

/// What a batch has become.
#[derive(Debug)]
pub enum Outcome {
    /// Its last frame.
    Frame(Box<Frame>),
    /// Nothing: the line shall stop, or takes no more, and the search for culprits was given up. It is read again at the next start.
    GivenUp,
}

/// Why records did not become rows.
#[derive(Debug)]
pub(super) enum Fault {
    /// One of them may be to blame.
    Suspect(Phase, Failure),
    /// None is: the line must stop.
    Fatal(Error),
    /// The line shall stop, or takes no more.
    GivenUp,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

/// Takes the frames of a batch before its last one, and says whether more are wanted.
pub(crate) type HandOn<'a> = &'a mut dyn FnMut(Frame) -> bool;

/// What becomes of a batch: its open frame, and where those before it go.
pub(super) struct Draft<'a> {
    pub(super) frame: Frame,
    /// Where its records stood.
    origins: &'a Origins,
    /// Rows of all its frames.
    rows: u64,
    bytes: usize,
    hand_on: HandOn<'a>,
}

impl Transform {
    /// Makes the worker ready. It gives up the search for culprits once `stop` is true. `usual` is what was rejected before the start.
    pub fn new(
        config: &Config,
        worker: Worker,
        layout: &Arc<OutputLayout>,
        aggregator: &Arc<Aggregator>,
        (when_rejected, usual, stop): (WhenRejected, Usual, watch::Receiver<bool>),
    ) -> Self {
        Self {
            decoder: decoder(&config.schema),
            worker,
            splitter: Splitter::new(layout.clone()),
            aggregator: aggregator.clone(),
            per_batch: config.transform.per_batch,
            may_pause: when_rejected == WhenRejected::Pause,
            stops_at: (when_rejected == WhenRejected::Stop).then(|| (config.dead_letters.clone(), usual)),
            frame_bytes_max: config.transform.rows_bytes_max,
            crowd: None,
            stop,
            kept: None,
            told: None,
        }
    }

    /// Lets it find out the records of rows that may find no place among the hive partitions of a checkpoint.
    pub(crate) fn among(mut self, crowd: &Crowd, config: &Config) -> Self {
        self.crowd = Some((crowd.clone(), config.transform.threads + config.pipeline.frame_channel + 1));
        self
    }

    /// Lets it say what is odd of the rows, once among all that share `told`.
    pub(crate) fn telling(mut self, told: &Arc<Told>) -> Self {
        self.told = Some(told.clone());
        self
    }

    /// Keeps the rows of the batches to come, as the SQL returns them, beside their frames.
    pub(crate) fn keep_rows(&mut self) {
        self.kept.get_or_insert_default();
    }

    /// Returns the rows that were kept since they were asked for last.
    pub(crate) fn take_rows(&mut self) -> Vec<RecordBatch> {
        self.kept.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Transforms a batch. Every record of it is in its frames: as rows, as filtered, or as a dead letter. There is more than one frame only
    /// if the SQL makes so many rows that they had to be handed on in parts; the last one has the ranges.
    ///
    /// # Errors
    /// A failure that no record explains; or a failing batch of `per_batch` SQL.
    pub fn apply(&mut self, batch: &Batch, hand_on: HandOn<'_>) -> Result<Outcome> {
        if let Some(reason) = &batch.deadly {
            return Ok(Outcome::Frame(Box::new(set_aside(batch, reason))));
        }
        let decoded = self.decoder.decode(batch)?;
        if let Some(told) = &self.told {
            told.tell(&decoded.odd);
        }
        let frame = Frame { ranges: batch.ranges(), ..Frame::default() };
        let mut draft = Draft { frame, origins: &decoded.origins, rows: 0, bytes: 0, hand_on };
        draft.frame.counts.records_in = decoded.records_in;
        draft.frame.counts.dead_letters.decode = decoded.dead_letters.len() as u64;
        match self.transform(&decoded, &mut draft) {
            Ok(()) => {}
            Err(Fault::GivenUp) => return Ok(Outcome::GivenUp),
            Err(Fault::Fatal(error)) => return Err(error),
            Err(Fault::Suspect(_, Failure { reason, .. })) => return Err(not_row_by_row(&reason)),
        }
        let Draft { mut frame, rows, .. } = draft;
        let good = frame.counts.records_in - frame.counts.dead_letters.total();
        frame.counts.filtered = good.saturating_sub(rows);
        frame.counts.expanded = rows.saturating_sub(good);
        // In the order of the source: first what did not decode, among which the culprits of the SQL are then put.
        frame.dead_letters.extend(decoded.dead_letters);
        frame.dead_letters.sort_by(|a, b| (&a.partition, a.offset).cmp(&(&b.partition, b.offset)));
        frame.rejected_units = breaker::units(batch, &frame.dead_letters);
        if self.may_pause {
            frame.units = breaker::whole_units(batch);
        }
        Ok(Outcome::Frame(Box::new(frame)))
    }

    fn transform(&mut self, decoded: &Decoded, draft: &mut Draft<'_>) -> Result<(), Fault> {
        let records = &decoded.batch;
        if records.num_rows() == 0 {
            return Ok(());
        }
        match self.attempt(Part::whole(records), records.num_rows(), draft) {
            // What failed once may have failed by chance; what fails again does not, and its records cannot be told apart.
            Err(Fault::Suspect(..)) if self.per_batch => self.attempt(Part::whole(records), records.num_rows(), draft),
            Err(Fault::Suspect(phase, failure)) => {
                let stop = self.stop.clone();
                self.worker.heed(Some(Arc::new(move || *stop.borrow())));
                let searched = Search::new(self, decoded, draft).run(phase, failure);
                self.worker.heed(None);
                searched
            }
            done => done,
        }
    }

    /// Runs the SQL over records, so many at a time, and places its rows. Touches the draft only if all went well.
    pub(super) fn attempt(&mut self, part: Part<'_>, at_a_time: usize, draft: &mut Draft<'_>) -> Result<(), Fault> {
        let output = self.worker.run_by(part.records, at_a_time).map_err(Fault::from)?;
        self.place(part, &output, draft)
    }

    /// Places the rows that the SQL has made of records.
    pub(super) fn place(&mut self, part: Part<'_>, output: &RecordBatch, draft: &mut Draft<'_>) -> Result<(), Fault> {
        if output.num_rows() == 0 {
            return Ok(());
        }
        let records = part.records.num_rows();
        let placed = self.splitter.split(output).map_err(|error| match error {
            SplitError::Unplaceable(unplaceable) => {
                // With a row for each record, it is likely that one's.
                let at = (output.num_rows() == records).then(|| unplaceable.row..unplaceable.row + 1);
                Fault::Suspect(Phase::Sink, Failure { kind: FailureKind::Other, reason: unplaceable.reason, at })
            }
            SplitError::Failed(error) => Fault::Fatal(error),
        })?;
        self.note_origins(part, &placed, draft)?;
        let totals = self.aggregator.totals(output)?;
        if let Some(kept) = &mut self.kept {
            kept.push(output.clone());
        }
        draft.frame.counts.rows_out += output.num_rows() as u64;
        draft.frame.totals.merge(&totals, self.aggregator.groups_max());
        draft.frame.rows.extend(placed);
        draft.rows += output.num_rows() as u64;
        draft.bytes += output.get_array_memory_size();
        if draft.bytes < self.frame_bytes_max || records == 0 {
            return Ok(());
        }
        draft.hand_on_rows()
    }

    /// Notes the records that rows were made of, if some may find no place: for all of the frame, or for none.
    fn note_origins(&mut self, part: Part<'_>, placed: &[PartitionedRows], draft: &mut Draft<'_>) -> Result<(), Fault> {
        let is_noted = !draft.frame.origins.is_empty();
        let may_be_full = || self.crowd.as_ref().is_some_and(|(crowd, others)| crowd.may_be_full(placed, *others));
        if !is_noted && !may_be_full() {
            return Ok(());
        }
        let before = draft.frame.rows.iter().map(|rows| rows.rows.num_rows()).sum::<usize>();
        draft.frame.origins.resize(before, None);
        let count = placed.iter().map(|rows| rows.rows.num_rows()).sum::<usize>();
        let lineage = self.worker.lineage(part.records)?.filter(|lineage| lineage.len() == count);
        let origin = |row: usize| {
            let record = if part.records.num_rows() == 1 { 0 } else { *lineage.as_ref()?.get(self.splitter.old_row(row))? };
            Some(draft.origins.position(part.rows.map_or(record, |rows| rows[record])))
        };
        let origins: Vec<_> = (0..count).map(origin).collect();
        draft.frame.origins.extend(origins);
        Ok(())
    }
}

/// Records of a batch.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) records: &'a RecordBatch,
    /// Which rows of the batch they are; `None` if they are all.
    pub(super) rows: Option<&'a [usize]>,
}

impl<'a> Part<'a> {
    fn whole(records: &'a RecordBatch) -> Self {
        Self { records, rows: None }
    }
}

impl Draft<'_> {
    /// Hands the rows on that there are. The counts of the records stay for the last frame.
    fn hand_on_rows(&mut self) -> Result<(), Fault> {
        let rows_out = std::mem::take(&mut self.frame.counts.rows_out);
        let part = Frame {
            is_part: true,
            rows: std::mem::take(&mut self.frame.rows),
            origins: std::mem::take(&mut self.frame.origins),
            ranges: self.frame.ranges.clone(),
            counts: Counts { rows_out, ..Counts::default() },
            totals: std::mem::take(&mut self.frame.totals),
            ..Frame::default()
        };
        self.bytes = 0;
        if (self.hand_on)(part) { Ok(()) } else { Err(Fault::GivenUp) }
    }
}

/// Makes a dead letter of a record that must not be run.
fn set_aside(batch: &Batch, reason: &str) -> Frame {
    let record = batch.chunks.iter().find(|chunk| chunk.records() > 0);
    let dead_letters: Vec<_> = record.map(|chunk| reject_undecoded(chunk, Phase::Sql, reason.into())).into_iter().collect();
    let mut counts = Counts { records_in: dead_letters.len() as u64, ..Counts::default() };
    counts.dead_letters.sql = counts.records_in;
    Frame { ranges: batch.ranges(), counts, rejected_units: breaker::units(batch, &dead_letters), dead_letters, ..Frame::default() }
}

impl From<SqlError> for Fault {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Suspect(failure) => Self::Suspect(Phase::Sql, failure),
            SqlError::Fatal(error) => Self::Fatal(error),
        }
    }
}

fn not_row_by_row(reason: &str) -> Error {
    Error::new(
        ErrorKind::DeadLetters,
        format!(
            "the SQL fails on a batch, and with transform.per_batch no single record can be set aside: {}; let the SQL take such records, \
             with TRY_CAST or a filter, or lower pipeline.batch_rows if a limit is too low",
            pintail_core::reasons::Reason::from(reason)
        ),
    )
}
