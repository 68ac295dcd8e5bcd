//! Transformer: runs several batches side by side and hands their frames on in order.
//!
//! Owns: the workers, the window of batches being worked on, the place of the barriers, the exchange of lookup tables at a barrier.
//! Does not own: what is done with a batch (see `engine::transform`).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::FuturesOrdered;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, info, warn};

use crate::batch::{Barrier, Batch, Cut, Frame, LookupVersion, Transformed};
use crate::engine::Engine;
use crate::engine::transform::Transform;
use crate::error::Result;
use crate::meters::Meters;
use crate::stages::blocking;
use crate::stages::outlet::Outlet;

/// The third stage.
pub struct Transformer {
    /// From the batcher.
    pub input: mpsc::Receiver<Cut>,
    /// To the writer.
    pub output: Outlet<Transformed>,
    /// The database; its lookup tables are exchanged here. Outlives the workers.
    pub engine: Engine,
    /// The workers: as many batches run side by side.
    pub workers: Vec<Transform>,
    /// Counts the requests to load changed lookup tables.
    pub reload: watch::Receiver<u64>,
    /// Where it says what it does.
    pub meters: Arc<Meters>,
}

/// What comes out of the window.
enum Done {
    Frame(Result<Box<(Transform, Frame)>>),
    Barrier(Barrier),
}

type Window = FuturesOrdered<Pin<Box<dyn Future<Output = Done> + Send>>>;

/// The task's own state.
struct Running {
    output: Outlet<Transformed>,
    idle: Vec<Transform>,
    window: Window,
    lookups: Arc<[LookupVersion]>,
    meters: Arc<Meters>,
}

/// Whether the line behind still takes frames.
#[derive(PartialEq)]
enum Flow {
    Open,
    Closed,
}

impl Transformer {
    /// Transforms until the input ends. The first error in the order of the batches wins; work that was started is awaited.
    pub async fn run(self) -> Result<()> {
        let Self { input, output, mut engine, workers, mut reload, meters } = self;
        meters.transformer.set_workers(workers.len());
        let mut input = ReceiverStream::new(input);
        let mut running = Running { output, idle: workers, window: Window::new(), lookups: engine.lookups(), meters };
        let mut result = Ok(Flow::Open);
        let mut more = true;
        while matches!(result, Ok(Flow::Open)) && (more || !running.window.is_empty()) {
            let room = more && !running.idle.is_empty();
            result = tokio::select! {
                biased;
                () = running.output.closed() => Ok(Flow::Closed),
                Some(done) = running.window.next(), if !running.window.is_empty() => running.hand_on(done).await,
                cut = input.next(), if room => match cut {
                    Some(Cut::Batch(batch)) => {
                        running.start(batch);
                        Ok(Flow::Open)
                    }
                    Some(Cut::Barrier(barrier)) if reload.has_changed().unwrap_or(false) => {
                        reload.mark_unchanged();
                        let drained = running.drain_to(barrier).await;
                        engine = running.reload(engine).await?;
                        drained
                    }
                    Some(Cut::Barrier(barrier)) => {
                        running.window.push_back(Box::pin(async move { Done::Barrier(barrier) }));
                        Ok(Flow::Open)
                    }
                    None => {
                        more = false;
                        Ok(Flow::Open)
                    }
                },
            };
        }
        // Nobody takes these any more, but a worker must not outlive its database.
        while running.window.next().await.is_some() {}
        result.map(|_| ())
    }
}

impl Running {
    /// Starts a batch on an idle worker.
    fn start(&mut self, batch: Batch) {
        let mut transform = self.idle.pop().expect("a batch is only taken while a worker is idle");
        let work = self.meters.transformer.begin();
        let task = blocking("transformer", move || {
            let _work = work;
            let frame = transform.apply(&batch)?;
            Ok(Box::new((transform, frame)))
        });
        self.window.push_back(Box::pin(async move { Done::Frame(task.await) }));
    }

    /// Hands on what is first in order.
    async fn hand_on(&mut self, done: Done) -> Result<Flow> {
        let message = match done {
            Done::Frame(result) => {
                let (transform, mut frame) = *result?;
                frame.lookups = self.lookups.clone();
                self.idle.push(transform);
                self.meters.transformer.count(frame.counts.records_in);
                debug!(records = frame.counts.records_in, rows = frame.counts.rows_out, "batch transformed");
                Transformed::Frame(frame)
            }
            Done::Barrier(barrier) => Transformed::Barrier(barrier),
        };
        match self.output.send(message).await {
            Ok(()) => Ok(Flow::Open),
            Err(_) => Ok(Flow::Closed),
        }
    }

    /// Hands on all that was started, then the barrier: no batch runs afterwards.
    async fn drain_to(&mut self, barrier: Barrier) -> Result<Flow> {
        while let Some(done) = self.window.next().await {
            if self.hand_on(done).await? == Flow::Closed {
                return Ok(Flow::Closed);
            }
        }
        self.hand_on(Done::Barrier(barrier)).await
    }

    /// Exchanges the lookup tables whose files have changed. If they cannot be loaded the old ones stay.
    async fn reload(&mut self, mut engine: Engine) -> Result<Engine> {
        let _work = self.meters.transformer.work.begin();
        let (engine, reloaded) = blocking("transformer", move || {
            let reloaded = engine.reload_lookups();
            Ok((engine, reloaded))
        })
        .await?;
        match reloaded {
            Ok(lookups) => {
                info!(tables = lookups.len(), "lookup tables loaded");
                self.lookups = lookups;
            }
            Err(error) => warn!(%error, "lookup tables could not be loaded, the old ones stay"),
        }
        Ok(engine)
    }
}
