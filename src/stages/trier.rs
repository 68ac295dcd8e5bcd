//! Trier: a stage between batcher and transformer, only at a start that may meet a record which ends the process.
//!
//! Owns: how long batches are tried: until the first checkpoint with records is past.
//! Does not own: how a batch is tried (see [`crate::trial`]).

use pintail_core::batch::Cut;
use pintail_core::error::Result;
use tokio::sync::mpsc;
use tracing::{error, info};

use crate::stages::blocking;
use crate::stages::outlet::Outlet;
use crate::trial::Trial;

/// The stage.
pub(crate) struct Trier {
    /// From the batcher.
    pub input: mpsc::Receiver<Cut>,
    /// To the transformer.
    pub output: Outlet<Cut>,
    /// Tries batches.
    pub trial: Trial,
}

impl Trier {
    /// Puts the stage before the way to the transformer, if batches are to be tried. Returns the way that the batcher takes.
    pub(crate) fn before(output: Outlet<Cut>, trial: Option<Trial>) -> (Outlet<Cut>, Option<Self>) {
        let Some(trial) = trial else { return (output, None) };
        let (sender, input) = mpsc::channel(1);
        (Outlet::unwatched(sender), Some(Self { input, output, trial }))
    }

    /// Tries and hands on until the input ends.
    pub(crate) async fn run(self) -> Result<()> {
        let Self { mut input, output, trial } = self;
        let (mut trial, mut tried) = (Some(trial), false);
        while let Some(cut) = input.recv().await {
            let cuts = match (cut, trial.take()) {
                (Cut::Batch(batch, lease), Some(mut trying)) => {
                    tried |= batch.records() > 0;
                    let (back, parts) = blocking("trial", move || {
                        let parts = trying.split(batch)?;
                        Ok((trying, parts))
                    })
                    .await?;
                    trial = Some(back);
                    for part in parts.iter().filter(|part| part.deadly.is_some()) {
                        let (range, reason) = (part.chunks.first().map(|chunk| &chunk.range), part.deadly.as_deref());
                        let (partition, offset) = (range.map(|range| &*range.partition.label), range.map(|range| range.from));
                        error!(partition, offset, reason, "a record that ends the process is set aside");
                    }
                    let leases: Vec<_> = parts.iter().map(|_| lease.part(parts.len())).collect();
                    parts.into_iter().zip(leases).map(|(part, lease)| Cut::Batch(part, lease)).collect()
                }
                (Cut::Barrier(barrier), trying) => {
                    if tried && trying.is_some() {
                        info!("the first checkpoint is past: batches are not tried any more");
                    } else {
                        trial = trying;
                    }
                    vec![Cut::Barrier(barrier)]
                }
                (cut, None) => vec![cut],
            };
            for cut in cuts {
                if output.send(cut).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
