//! Batcher: cuts chunks into batches of exactly `batch_rows` records and ends checkpoints.
//!
//! Owns: the open batch, the checkpoint interval, the barriers.
//! Does not own: what the records mean (it counts line ends), the commit.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::batch::{Barrier, Batch, Chunk, Cut, EndReason, Read, Trigger};
use crate::error::Result;

/// The second stage.
pub struct Batcher {
    /// From the producer.
    pub input: mpsc::Receiver<Read>,
    /// To the transformer.
    pub output: mpsc::Sender<Cut>,
    /// Records of a batch.
    pub batch_rows: usize,
    /// Bytes after which a batch is closed before it has `batch_rows` records.
    pub batch_bytes_max: usize,
    /// Time between two checkpoints.
    pub checkpoint_interval: Duration,
}

/// The line behind is gone: the stage ends, and its neighbour says why.
struct Closed;

/// The batch being filled.
#[derive(Default)]
struct OpenBatch {
    chunks: Vec<Chunk>,
    records: usize,
    bytes: usize,
}

impl Batcher {
    /// Cuts until the input ends. A channel that closes without an end means a failure upstream: no barrier is sent.
    pub async fn run(mut self) -> Result<()> {
        let mut ticks = interval_at(Instant::now() + self.checkpoint_interval, self.checkpoint_interval);
        // Delay, not Burst: after a slow commit we want one checkpoint, not the three that were missed.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut open = OpenBatch::default();
        let mut epoch = 0;
        loop {
            let passed = tokio::select! {
                // The tick first: a busy stream must not put a checkpoint off.
                biased;
                _ = ticks.tick() => self.end_checkpoint(&mut open, &mut epoch, Trigger::Interval).await,
                () = self.output.closed() => Err(Closed),
                read = self.input.recv() => match read {
                    Some(Read::Chunk(chunk)) => self.fill(&mut open, chunk).await,
                    Some(Read::End(reason)) => {
                        let trigger = match reason {
                            EndReason::Finished => Trigger::End,
                            EndReason::Shutdown => Trigger::Shutdown,
                        };
                        let _ = self.end_checkpoint(&mut open, &mut epoch, trigger).await;
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

    async fn fill(&self, open: &mut OpenBatch, mut chunk: Chunk) -> Result<(), Closed> {
        let mut records = chunk.records();
        while open.records + records > self.batch_rows {
            let front = self.batch_rows - open.records;
            open.push(chunk.split_off_front(front), front);
            records -= front;
            self.send(open).await?;
        }
        open.push(chunk, records);
        if open.records == self.batch_rows || open.bytes >= self.batch_bytes_max {
            self.send(open).await?;
        }
        Ok(())
    }

    async fn end_checkpoint(&self, open: &mut OpenBatch, epoch: &mut u64, trigger: Trigger) -> Result<(), Closed> {
        if !open.chunks.is_empty() {
            self.send(open).await?;
        }
        *epoch += 1;
        self.output.send(Cut::Barrier(Barrier { epoch: *epoch, trigger })).await.map_err(|_| Closed)
    }

    async fn send(&self, open: &mut OpenBatch) -> Result<(), Closed> {
        let chunks = std::mem::take(open).chunks;
        self.output.send(Cut::Batch(Batch { chunks })).await.map_err(|_| Closed)
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
