//! The pipeline: opens everything, links the stages, supervises them. The only file that sees two stages.
//!
//! Owns: the order of opening (configuration → SQL → dataset and recovery → source), the channels, the deadline of a stop.
//! Does not own: what a stage does, signals (see `signals`), the exit code (see `error`).

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use pintail_config::{Config, TableConfig};
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::memory;
use pintail_duckdb::Engine;
use pintail_sink::files::OpenFiles;
use pintail_sources::Source;
use pintail_storage::checkpoint::attempts;
use pintail_storage::checkpoint::lock::Lock;
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::dataset::{Lost, OpenDataset};
use pintail_storage::durable::disk_state::DiskState;
use pintail_storage::durable::fs::Fs;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::meters::{Linked, Meters};
use crate::stages::batcher::Batcher;
use crate::stages::monitor::Monitor;
use crate::stages::producer::Producer;
use crate::stages::transform::{Told, Transform};
use crate::stages::transformer::Transformer;
use crate::stages::trier::Trier;
use crate::stages::writer::{Checkpoint, Writer};
use crate::stages::{blocking, outlet, stopped};
use crate::tables::{self, Following};
use crate::terminal::Screen;
use crate::trial::{self, Trial};

pub(crate) mod dataset;
#[cfg(feature = "bucket")]
pub(crate) mod lake;
mod source;
mod tasks;

pub(crate) use dataset::{Opened, Plan, Start, check_mount, open_as_it_is, open_to_act, open_to_read, refuse_bucket, runtime_of_bucket};
pub(crate) use source::{check_source, surroundings};

use source::{accepting_gaps, open_source};
use tasks::{MONITOR, PRODUCER, Tasks};

/// Time between two heartbeats in the lock file; `pintail health` looks for one in the last 30 s.
const TOUCH_INTERVAL: Duration = Duration::from_secs(5);

/// Where records come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The configured source.
    Source,
    /// The dead letters of this dataset, each once.
    DeadLetters,
}

/// A line that is ready to start: recovered, nothing read yet.
pub struct Line {
    /// The stages by name, the sink first.
    pub stages: Vec<(&'static str, BoxFuture<'static, Result<()>>)>,
    /// Of what lies on this machine.
    local: Paths,
    lock: Arc<Lock>,
    lost: Lost,
    disk: DiskState,
    tables: Vec<TableConfig>,
}

/// What a line needs from outside.
pub struct Outside {
    /// Turns true when the line shall stop.
    pub stop: watch::Receiver<bool>,
    /// Counts the requests to load changed lookup tables.
    pub reload: watch::Receiver<u64>,
    /// The terminal, if there is one.
    pub screen: Option<Arc<Screen>>,
    /// Where the stages say what they do. Shares the disk's state with `fs`.
    pub meters: Arc<Meters>,
    /// The address of the admin server, to be told to `pintail health`.
    pub admin: Option<SocketAddr>,
    /// The file system that checkpoints are written to.
    pub fs: Arc<dyn Fs>,
    /// Whether this is the program `pintail`, which can be started again to try batches in.
    pub is_own_program: bool,
}

impl Line {
    /// Opens the dataset (lock, FORMAT, recovery) and the source, and links the stages. Blocking; inside a runtime.
    pub fn open(config: &Config, input: Input, start: Start, outside: Outside) -> Result<Self> {
        let plan = Plan::new(config)?;
        // What a table refuses is found by a start as by `check`; what becomes of it later holds nothing up.
        tables::check(&config.tables, &config.pipeline.out_path)?;
        let opened = plan.open_store(config, start, outside.fs.clone(), &outside.meters, outside.admin)?;
        let accepting = (start == Start::Accept).then(|| accepting_gaps(config));
        let source = open_source(accepting.as_ref().unwrap_or(config), input, &opened.store, &outside.meters.disk)?;
        Self::link(config, plan, opened, source, outside)
    }

    /// Waits for a line that is being opened, until it is or `deadline` has passed. Once a stop is asked for, nothing waits for room on a full disk
    /// any more: what is not open has nothing to commit.
    ///
    /// # Errors
    /// [`ErrorKind::TryAgain`] if it was not open when the deadline had passed.
    pub async fn opened(
        opening: impl Future<Output = Result<Self>>,
        stop: watch::Receiver<bool>,
        disk: DiskState,
        deadline: &mut BoxFuture<'static, ()>,
    ) -> Result<Self> {
        tokio::select! {
            line = giving_up(opening, stop, disk) => line,
            () = deadline => Err(Error::try_again("the start was not finished when the time to stop had passed; nothing was changed by halves")),
        }
    }

    /// Links the stages between a source and a recovered dataset.
    pub fn link(config: &Config, plan: Plan, opened: Opened, source: Box<dyn Source>, outside: Outside) -> Result<Self> {
        let Opened { lock, store, lost } = opened;
        let Plan { engine, layout, aggregator } = plan;
        let Outside { stop, reload, screen, meters, admin: _, fs: _, is_own_program } = outside;
        let (lock, local, disk) = (Arc::new(lock), config.local_paths(), meters.disk.clone());
        let (next_checkpoint, partitions, state_sha256) = (store.next_sequence(), store.offsets().spans().len(), store.state().sha256());
        let (when_rejected, usual) = (source.when_rejected(), store.state().rest().usual);
        // A search in what cannot be read again is not given up.
        let give_up = if source.reads_again() { stop.clone() } else { watch::channel(false).1 };

        let (chunk_outlet, chunks) = outlet::channel(config.pipeline.chunk_channel, &meters.chunks);
        let (batch_outlet, batches) = outlet::channel(config.pipeline.batch_channel, &meters.batches);
        let (frame_outlet, frames) = outlet::channel(config.pipeline.frame_channel, &meters.frames);
        // One message: what a slow monitor misses is merged into the next.
        let (progress, figures) = mpsc::channel(1);
        let (committed, commits) = watch::channel(Arc::new(store.offsets().clone()));
        let (remaining, lag) = watch::channel(source.remaining());
        let early = Arc::<Notify>::default();
        meters.memory.limit(memory_limits(config));
        meters.link(linked(&store, &*source, &engine, lag)?);

        let monitor =
            Monitor { input: figures, screen, config: config.monitor.clone(), columns: aggregator.columns(), meters: meters.clone() };
        let files = OpenFiles::new(layout.clone(), &config.sink, &store.columns_of(layout.output_schema()))?;
        let told = Arc::<Told>::default();
        let transform = |worker| {
            let outside = (when_rejected, usual, give_up.clone());
            Transform::new(config, worker, &layout, &aggregator, outside).among(&files.crowd(), config).telling(&told)
        };
        let workers = engine.workers()?.into_iter().map(transform).collect();
        let schema = engine.output().clone();
        let checkpoint = Checkpoint::new((store, lock.clone()), files, schema, config, when_rejected, (meters.clone(), early.clone()));
        let groups_max = config.monitor.groups_max;
        let writer = Writer { input: frames, checkpoint, committed, progress, groups_max, stop: stop.clone() };
        let transformer = Transformer { input: batches, output: frame_outlet, engine, workers, reload, meters: meters.clone() };
        // Nothing is left that can fail before the first record: what fails here is no record's fault.
        let trial = if is_own_program { try_first(config, &local, state_sha256, give_up) } else { None };
        let (batch_outlet, trier) = Trier::before(batch_outlet, trial);
        let batcher = Batcher::new(config, when_rejected, (chunks, batch_outlet), early, meters.clone());
        let producer = Producer { source, output: chunk_outlet, stop, committed: commits, remaining, meters };

        let mut stages: Vec<(&'static str, BoxFuture<'static, _>)> = vec![
            (MONITOR, Box::pin(monitor.run())),
            ("writer", Box::pin(writer.run())),
            ("transformer", Box::pin(transformer.run())),
            ("batcher", Box::pin(batcher.run())),
            (PRODUCER, Box::pin(producer.run())),
        ];
        stages.extend(trier.map(|trier| ("trial", Box::pin(trier.run()) as BoxFuture<'static, _>)));
        info!(
            out_path = %config.pipeline.out_path.display(),
            next_checkpoint,
            partitions,
            workers = config.transform.threads,
            "line ready"
        );
        Ok(Self { stages, local, lock, lost, disk, tables: config.tables.clone() })
    }

    /// Runs the stages until all have ended.
    ///
    /// # Errors
    /// The first failure of a stage, not the cascade behind it; [`pintail_core::error::ErrorKind::TryAgain`] if a stop took longer than
    /// `deadline` allows: what was not committed by then is read again at the next start.
    pub async fn run(self, mut deadline: BoxFuture<'static, ()>) -> Result<()> {
        let Self { stages, local, lock, lost, disk, tables } = self;
        let mut tasks = Tasks::spawn(stages);
        // It ends with this future, however that ends: the lock goes then.
        let mut touching = JoinSet::new();
        touching.spawn(touch(lock, disk.clone()));
        let following = Following::start(&local, tables);
        let ended = async {
            tokio::select! {
                result = tasks.join() => result,
                // Its own commits would find the same. One that has nothing to commit learns it so.
                fenced = lost.wait() => Err(fenced),
            }
        };
        let result = tokio::select! {
            result = ended => {
                if result.is_err() {
                    // Nothing of this will be committed: a writer that waits for room may stop waiting.
                    disk.give_up();
                    tokio::select! {
                        () = tasks.bring_down() => {}
                        () = &mut deadline => {}
                    }
                }
                result
            }
            () = &mut deadline => {
                disk.give_up();
                Err(Error::try_again("the last checkpoint was not committed within pipeline.shutdown_timeout: it is read again at the next start"))
            }
        };
        if result.is_ok() {
            // What was committed last. A table that takes longer than a stop allows is brought up to it at the next start.
            tokio::select! {
                () = following.finish() => {}
                () = &mut deadline => {}
            }
        }
        drop(touching);
        // A panic may be the work of a record, as may be a stop that took too long, and what leaves no time to come here.
        if result.as_ref().err().is_none_or(|error| !matches!(error.kind(), ErrorKind::Internal | ErrorKind::TryAgain)) {
            attempts::end(&local);
        }
        result
    }
}

/// Returns what the line may hold in memory.
fn memory_limits(config: &Config) -> memory::Limits {
    memory::Limits { bytes_max: config.pipeline.line_bytes_max, row_bytes: config.schema.row_bytes(), process: config.limits.memory }
}

/// Gathers what the figures of a line are taken from.
fn linked(store: &OpenDataset, source: &dyn Source, engine: &Engine, remaining: watch::Receiver<Option<u64>>) -> Result<Linked> {
    Ok(Linked {
        dataset_id: store.format().dataset_id.clone(),
        partition_by: store.format().partition_by.iter().map(|column| column.name.clone()).collect(),
        last_sequence: store.next_sequence() - 1,
        remaining,
        unit: source.unit(),
        source: source.meters(),
        memory: Mutex::new(engine.memory()?),
    })
}

/// Counts this start. Returns what tries its batches first, if those before it came to no end from the same positions.
fn try_first(config: &Config, paths: &Paths, state_sha256: String, stop: watch::Receiver<bool>) -> Option<Trial> {
    let attempt = attempts::begin(paths, state_sha256);
    if attempt < trial::ATTEMPTS {
        return None;
    }
    warn!(
        attempt,
        "earlier starts ended without a commit, from the same positions (killed, or by a record that ends the process): until the next commit, each batch is tried in a process of its own first"
    );
    Some(Trial::new(config, stop))
}

/// Waits for an opening, and lets it give up waiting for room once a stop is asked for.
async fn giving_up<T>(opening: impl Future<Output = T>, mut stop: watch::Receiver<bool>, disk: DiskState) -> T {
    let mut opening = pin!(opening);
    tokio::select! {
        done = &mut opening => return done,
        () = stopped(&mut stop) => disk.give_up(),
    }
    opening.await
}

/// Waits until a stop was asked for and the time for it has passed; for ever if none is.
pub fn deadline(mut stop: watch::Receiver<bool>, shutdown_timeout: Duration) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        stopped(&mut stop).await;
        tokio::time::sleep(shutdown_timeout).await;
    })
}

/// Writes heartbeats; none while writing waits for room, a descriptor or a bucket: then `pintail health` must say so, for somebody has to do something.
async fn touch(lock: Arc<Lock>, disk: DiskState) {
    let mut ticks = tokio::time::interval(TOUCH_INTERVAL);
    loop {
        ticks.tick().await;
        if disk.is_waiting() {
            continue;
        }
        let lock = lock.clone();
        let touched = blocking("lock", move || lock.touch()).await;
        if let Err(error) = touched {
            warn!(%error, "could not update the heartbeat of `pintail health`");
        }
    }
}

#[cfg(test)]
mod tests;
