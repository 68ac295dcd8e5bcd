//! Transformer: runs several batches side by side and hands their frames on in order.
//!
//! Owns: the workers, the window of batches being worked on, the place of the barriers, the exchange of lookup tables at a barrier.
//! Does not own: what is done with a batch (see `super::transform`).

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use pintail_core::batch::{Barrier, Batch, Cut, Frame, LookupVersion, Transformed};
use pintail_core::error::Result;
use pintail_core::memory::Lease;
use pintail_duckdb::Engine;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, info, warn};

use crate::meters::Meters;
use crate::stages::blocking;
use crate::stages::outlet::Outlet;
use crate::stages::transform::{Outcome, Transform};

/// The third stage.
pub(crate) struct Transformer {
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

/// What was started, in order.
#[derive(Default)]
struct Window(VecDeque<Pending>);

enum Pending {
    Batch {
        /// Its frames before the last one. One waits here, then the worker does.
        parts: mpsc::Receiver<Frame>,
        task: BoxFuture<'static, Transformation>,
    },
    Barrier(Barrier),
}

type Transformation = Result<Box<(Transform, Outcome)>>;

/// What comes out of the window.
enum Done {
    Part(Box<Frame>),
    Batch(Transformation),
    Barrier(Barrier),
}

impl Window {
    /// Waits for what is first in order; may be cancelled. Nothing comes out of an empty window.
    async fn next(&mut self) -> Option<Done> {
        let done = match self.0.front_mut()? {
            Pending::Batch { parts, task } => match parts.recv().await {
                Some(part) => return Some(Done::Part(Box::new(part))),
                None => Done::Batch(task.await),
            },
            Pending::Barrier(barrier) => Done::Barrier(*barrier),
        };
        self.0.pop_front();
        Some(done)
    }

    /// Waits until nothing runs any more. Frames that still come are wanted by nobody.
    async fn abandon(&mut self) {
        let tasks: Vec<_> = self
            .0
            .drain(..)
            .filter_map(|pending| match pending {
                Pending::Batch { task, .. } => Some(task),
                Pending::Barrier(_) => None,
            })
            .collect();
        for task in tasks {
            let _ = task.await;
        }
    }
}

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
    pub(crate) async fn run(self) -> Result<()> {
        let Self { input, output, mut engine, workers, mut reload, meters } = self;
        meters.transformer.set_workers(workers.len());
        let mut input = ReceiverStream::new(input);
        let mut running = Running { output, idle: workers, window: Window::default(), lookups: engine.lookups(), meters };
        let mut result = Ok(Flow::Open);
        let mut more = true;
        while matches!(result, Ok(Flow::Open)) && (more || !running.window.0.is_empty()) {
            let room = more && !running.idle.is_empty();
            result = tokio::select! {
                biased;
                () = running.output.closed() => Ok(Flow::Closed),
                Some(done) = running.window.next() => running.hand_on(done).await,
                cut = input.next(), if room => match cut {
                    Some(Cut::Batch(batch, lease)) => {
                        running.start(batch, lease);
                        Ok(Flow::Open)
                    }
                    Some(Cut::Barrier(barrier)) if reload.has_changed().unwrap_or(false) => {
                        reload.mark_unchanged();
                        let drained = running.drain_to(barrier).await;
                        // After anything else workers may still run.
                        if matches!(drained, Ok(Flow::Open)) {
                            engine = running.reload(engine).await?;
                        }
                        drained
                    }
                    Some(Cut::Barrier(barrier)) => {
                        running.window.0.push_back(Pending::Barrier(barrier));
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
        running.window.abandon().await;
        result.map(|_| ())
    }
}

impl Running {
    /// Starts a batch on an idle worker.
    fn start(&mut self, batch: Batch, mut lease: Lease) {
        let mut transform = self.idle.pop().expect("a batch is only taken while a worker is idle");
        let work = self.meters.transformer.begin();
        let (sender, parts) = mpsc::channel(1);
        let task = blocking("transformer", move || {
            let _work = work;
            let mut outcome = transform.apply(&batch, &mut |part| sender.blocking_send(part).is_ok())?;
            drop(batch);
            if let Outcome::Frame(frame) = &mut outcome {
                lease.set(frame.bytes());
                frame.memory = Some(lease);
            }
            Ok(Box::new((transform, outcome)))
        });
        self.window.0.push_back(Pending::Batch { parts, task: Box::pin(task) });
    }

    /// Hands on what is first in order.
    async fn hand_on(&mut self, done: Done) -> Result<Flow> {
        let message = match done {
            Done::Part(mut frame) => {
                frame.lookups = self.lookups.clone();
                Transformed::Frame(frame)
            }
            Done::Batch(result) => {
                let (transform, outcome) = *result?;
                self.idle.push(transform);
                let Outcome::Frame(mut frame) = outcome else {
                    // Without a barrier nothing of the open checkpoint is committed. A commit here would end amid what the source read at
                    // once, where it has no evidence of what it read.
                    info!("stopping amid a batch whose records were being searched: the open checkpoint is read again at the next start");
                    return Ok(Flow::Closed);
                };
                self.meters.transformer.count(frame.counts.records_in);
                debug!(records = frame.counts.records_in, rows = frame.counts.rows_out, "batch transformed");
                frame.lookups = self.lookups.clone();
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
