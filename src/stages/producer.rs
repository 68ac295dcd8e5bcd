//! Producer: reads the source and sends its chunks down the line.
//!
//! Owns: the source, and the only look at the stop signal: it stops reading, says why in band and drops its sender.
//! Does not own: batching, decoding, the offsets (they ride with the chunks; what is committed it is told).

use std::sync::Arc;
use std::time::Instant;

use pintail_core::batch::{Chunk, EndReason, Read};
use pintail_core::error::Result;
use pintail_core::memory::Memory;
use pintail_core::offsets::Offsets;
use pintail_sources::Source;
use tokio::sync::watch;

use crate::meters::Meters;
use crate::stages::outlet::Outlet;
use crate::stages::stopped;

/// The first stage.
pub(crate) struct Producer {
    /// Where records come from.
    pub source: Box<dyn Source>,
    /// To the batcher.
    pub output: Outlet<Read>,
    /// Turns true once the process is asked to stop.
    pub stop: watch::Receiver<bool>,
    /// What the writer has committed.
    pub committed: watch::Receiver<Arc<Offsets>>,
    /// What the source still holds, for the monitor.
    pub remaining: watch::Sender<Option<u64>>,
    /// Where it says what it does.
    pub meters: Arc<Meters>,
}

impl Producer {
    /// Reads until the input ends, the process is asked to stop, or the line is gone.
    pub(crate) async fn run(mut self) -> Result<()> {
        let Some(reason) = self.read_all().await? else { return Ok(()) };
        self.meters.end();
        if reason == EndReason::Shutdown {
            let held = {
                let _work = self.meters.producer.begin();
                self.source.stop().await?
            };
            for chunk in held {
                self.meters.count_read(&chunk.range);
                let _ = self.output.send(read_now(chunk, &self.meters.memory)).await;
            }
        }
        // A closed channel means that the batcher failed: it says so itself.
        let _ = self.output.send(Read::End(reason)).await;
        let Self { mut source, output, mut committed, meters, .. } = self;
        drop(output);
        // The last checkpoints are still to come, and a broker wants to hear of them.
        while committed.changed().await.is_ok() {
            acknowledge(&mut *source, &mut committed, &meters).await?;
        }
        source.left().filter(|_| reason == EndReason::Finished).map_or(Ok(()), Err)
    }

    /// Returns why reading ended; `None` if nobody takes the chunks any more.
    async fn read_all(&mut self) -> Result<Option<EndReason>> {
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return Ok(Some(EndReason::Shutdown)),
                () = self.output.closed() => return Ok(None),
                Ok(()) = self.committed.changed() => {
                    acknowledge(&mut *self.source, &mut self.committed, &self.meters).await?;
                    self.remaining.send_replace(self.source.remaining());
                }
                read = self.source.read() => {
                    let Some(chunk) = read? else { return Ok(Some(EndReason::Finished)) };
                    self.meters.count_read(&chunk.range);
                    self.remaining.send_replace(self.source.remaining());
                    // A full channel is the backpressure: the source is not read while the line is behind.
                    if self.output.send(read_now(chunk, &self.meters.memory)).await.is_err() {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

/// Stamps a chunk with the time it was read, and counts its memory.
fn read_now(chunk: Chunk, memory: &Memory) -> Read {
    let waiting = memory.wait(chunk.bytes());
    Read::Chunk(chunk, Instant::now(), waiting)
}

/// Tells the source what is committed.
async fn acknowledge(source: &mut dyn Source, committed: &mut watch::Receiver<Arc<Offsets>>, meters: &Meters) -> Result<()> {
    let _work = meters.producer.begin();
    let offsets = committed.borrow_and_update().clone();
    source.committed(&offsets).await
}
