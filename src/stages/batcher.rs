//! Batcher: cuts chunks into batches of `batch_rows` records and ends checkpoints.
//!
//! Where the line may pause, a batch ends with what the source read at once as long as it has not more than `batch_rows` records: there the
//! checkpoint before the pause may end.
//!
//! Owns: the open batch, the checkpoint interval, the barriers, and waiting while what is on its way takes too much memory.
//! Does not own: what the records mean (it counts them), the commit.

use std::sync::Arc;
use std::time::{Duration, Instant as Moment};

use pintail_config::Config;
use pintail_core::batch::{Barrier, Batch, Chunk, Cut, EndReason, Read, Trigger};
use pintail_core::breaker::WhenRejected;
use pintail_core::error::Result;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::meters::Meters;
use crate::stages::outlet::{Closed, Outlet};

/// Records that a batch of very many columns has all the same: planning the SQL must pay.
const BATCH_ROWS_MIN: usize = 1_000;

/// The second stage.
pub(crate) struct Batcher {
    /// From the producer.
    pub input: mpsc::Receiver<Read>,
    /// To the transformer.
    pub output: Outlet<Cut>,
    /// Records of a batch.
    pub batch_rows: usize,
    /// Bytes after which a batch is closed before it has `batch_rows` records.
    pub batch_bytes_max: usize,
    /// Whether a batch ends where a checkpoint may, rather than have exactly `batch_rows` records.
    pub keeps_chunks: bool,
    /// Time between two checkpoints.
    pub checkpoint_interval: Duration,
    /// Asks for a checkpoint before its time.
    pub early: Arc<Notify>,
    /// Where it says what it does.
    pub meters: Arc<Meters>,
}

/// The checkpoint being filled: what was sent of it, and the batch that was not.
#[derive(Default)]
struct OpenCheckpoint {
    /// Barriers sent before.
    epoch: u64,
    /// Whether it has a record.
    begun: bool,
    batch: OpenBatch,
}

/// The batch being filled.
#[derive(Default)]
struct OpenBatch {
    chunks: Vec<Chunk>,
    records: usize,
    bytes: usize,
}

impl Batcher {
    /// Makes the stage between two channels. `early` asks for a checkpoint before its time.
    pub(crate) fn new(
        config: &Config,
        when_rejected: WhenRejected,
        (input, output): (mpsc::Receiver<Read>, Outlet<Cut>),
        early: Arc<Notify>,
        meters: Arc<Meters>,
    ) -> Self {
        let batch_bytes_max = config.pipeline.batch_bytes_max;
        // Fewer where there are so many columns that the rows would take more than the bytes of a batch.
        let fitting = batch_bytes_max / config.schema.row_bytes().max(1);
        Self {
            input,
            output,
            batch_rows: config.pipeline.batch_rows.min(fitting.max(BATCH_ROWS_MIN)),
            batch_bytes_max,
            keeps_chunks: when_rejected == WhenRejected::Pause,
            checkpoint_interval: config.pipeline.checkpoint_interval,
            early,
            meters,
        }
    }

    /// Cuts until the input ends. A channel that closes without an end means a failure upstream: no barrier is sent.
    pub(crate) async fn run(mut self) -> Result<()> {
        let mut ticks = interval_at(Instant::now() + self.checkpoint_interval, self.checkpoint_interval);
        // Delay, not Burst: after a slow commit we want one checkpoint, not the three that were missed.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut open = OpenCheckpoint::default();
        loop {
            let passed = tokio::select! {
                // The tick first: a busy stream must not put a checkpoint off.
                biased;
                _ = ticks.tick() => self.end_checkpoint(&mut open, Trigger::Interval).await,
                () = self.early.notified() => self.end_checkpoint(&mut open, Trigger::Interval).await,
                () = self.output.closed() => Err(Closed),
                read = self.input.recv() => match read {
                    Some(Read::Chunk(chunk, at, waiting)) => {
                        drop(waiting);
                        self.fill(&mut open, chunk, at).await
                    }
                    Some(Read::End(reason)) => {
                        let trigger = match reason {
                            EndReason::Finished => Trigger::End,
                            EndReason::Shutdown => Trigger::Shutdown,
                        };
                        let _ = self.end_checkpoint(&mut open, trigger).await;
                        return Ok(());
                    }
                    None => return Ok(()),
                },
            };
            if passed.is_err() {
                return Ok(());
            }
        }
    }

    async fn fill(&self, open: &mut OpenCheckpoint, mut chunk: Chunk, at: Moment) -> Result<(), Closed> {
        let mut work = self.meters.batcher.begin();
        let mut records = chunk.records();
        self.meters.producer.count(records as u64);
        self.meters.batcher.count(records as u64);
        if !open.begun {
            open.begun = true;
            self.meters.ledger().opened(open.epoch + 1, at);
        }
        let batch = &mut open.batch;
        while batch.records + records > self.batch_rows {
            if !self.keeps_chunks || batch.chunks.is_empty() {
                let front = self.batch_rows - batch.records;
                batch.push(chunk.split_off_front(front), front);
                records -= front;
            }
            // Standing before a full channel is no work.
            drop(work);
            self.send(batch).await?;
            work = self.meters.batcher.begin();
        }
        batch.push(chunk, records);
        drop(work);
        if batch.records == self.batch_rows || batch.bytes >= self.batch_bytes_max {
            self.send(batch).await?;
        }
        Ok(())
    }

    async fn end_checkpoint(&self, open: &mut OpenCheckpoint, trigger: Trigger) -> Result<(), Closed> {
        if !open.batch.chunks.is_empty() {
            self.send(&mut open.batch).await?;
        }
        open.epoch += 1;
        open.begun = false;
        self.output.send(Cut::Barrier(Barrier { epoch: open.epoch, trigger })).await
    }

    async fn send(&self, open: &mut OpenBatch) -> Result<(), Closed> {
        let OpenBatch { chunks, records, bytes } = std::mem::take(open);
        let lease = tokio::select! {
            lease = self.meters.memory.admit(records, bytes) => lease,
            () = self.output.closed() => return Err(Closed),
        };
        self.output.send(Cut::Batch(Batch::new(chunks), lease)).await
    }
}

impl OpenBatch {
    fn push(&mut self, chunk: Chunk, records: usize) {
        self.records += records;
        self.bytes += chunk.bytes();
        self.chunks.push(chunk);
    }
}

#[cfg(test)]
mod tests;
