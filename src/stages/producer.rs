//! Producer: reads the source and sends its chunks down the line.
//!
//! Owns: the source, and the only look at the stop signal: it stops reading, says why in band and drops its sender.
//! Does not own: batching, decoding, the offsets (they ride with the chunks; what is committed it is told).

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::batch::{EndReason, Read};
use crate::error::Result;
use crate::offsets::Offsets;
use crate::source::Source;

/// The first stage.
pub struct Producer {
    /// Where records come from.
    pub source: Box<dyn Source>,
    /// To the batcher.
    pub output: mpsc::Sender<Read>,
    /// Turns true once the process is asked to stop.
    pub stop: watch::Receiver<bool>,
    /// What the writer has committed.
    pub committed: watch::Receiver<Arc<Offsets>>,
    /// What the source still holds, for the monitor.
    pub remaining: watch::Sender<Option<u64>>,
}

impl Producer {
    /// Reads until the input ends, the process is asked to stop, or the line is gone.
    pub async fn run(mut self) -> Result<()> {
        let Some(reason) = self.read_all().await? else { return Ok(()) };
        if reason == EndReason::Shutdown {
            for chunk in self.source.stop().await? {
                let _ = self.output.send(Read::Chunk(chunk)).await;
            }
        }
        // A closed channel means that the batcher failed: it says so itself.
        let _ = self.output.send(Read::End(reason)).await;
        drop(self.output);
        // The last checkpoints are still to come, and a broker wants to hear of them.
        while self.committed.changed().await.is_ok() {
            let offsets = self.committed.borrow_and_update().clone();
            self.source.committed(&offsets).await?;
        }
        Ok(())
    }

    /// Returns why reading ended; `None` if nobody takes the chunks any more.
    async fn read_all(&mut self) -> Result<Option<EndReason>> {
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return Ok(Some(EndReason::Shutdown)),
                () = self.output.closed() => return Ok(None),
                Ok(()) = self.committed.changed() => {
                    let offsets = self.committed.borrow_and_update().clone();
                    self.source.committed(&offsets).await?;
                }
                read = self.source.read() => {
                    let Some(chunk) = read? else { return Ok(Some(EndReason::Finished)) };
                    self.remaining.send_replace(self.source.remaining());
                    // A full channel is the backpressure: the source is not read while the line is behind.
                    if self.output.send(Read::Chunk(chunk)).await.is_err() {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

/// Waits for the signal to stop; for ever if none can come.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}
