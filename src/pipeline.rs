//! The pipeline: opens everything, links the stages, supervises them. The only file that sees two stages.
//!
//! Owns: the order of opening (configuration → SQL → dataset and recovery → source), the channels, the one root cause of a failure,
//! the deadline of a stop.
//! Does not own: what a stage does, signals (see `signals`), the exit code (see `error`).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::checkpoint::lock::Lock;
use crate::checkpoint::mount;
use crate::checkpoint::paths::Paths;
use crate::checkpoint::process::Process;
use crate::checkpoint::record::{Action, ActionKind};
use crate::checkpoint::snapshot;
use crate::checkpoint::store::{self, Allow, Expected, Remember, Sharing, Store, instances, share_out};
use crate::config::{Config, OnGap, SourceKind};
use crate::durable::disk_state::DiskState;
use crate::durable::fs::Fs;
use crate::durable::posix::Posix;
use crate::engine::Engine;
use crate::engine::aggregate::Aggregator;
use crate::engine::transform::Transform;
use crate::error::{Error, ErrorKind, Result};
use crate::evidence::Key;
use crate::meters::{Linked, Meters};
use crate::offsets::Offsets;
use crate::sink::files::OpenFiles;
use crate::sink::layout::OutputLayout;
use crate::source::dead_letters::DeadLetterSource;
use crate::source::file::FileSource;
use crate::source::http::{HttpSource, Opening};
use crate::source::kafka::KafkaSource;
use crate::source::nats::NatsSource;
use crate::source::simulator::Simulator;
use crate::source::stdin::Stdin;
use crate::source::{Resume, Source, SourceIdentity};
use crate::stages::batcher::Batcher;
use crate::stages::monitor::{Channels, Monitor};
use crate::stages::outlet::Outlet;
use crate::stages::producer::Producer;
use crate::stages::transformer::Transformer;
use crate::stages::writer::{Checkpoint, Writer};
use crate::stages::{blocking, panicked};
use crate::terminal::Screen;

/// Time between two signs of life in the lock file; `pintail health` looks for one in the last 30 s.
const TOUCH_INTERVAL: Duration = Duration::from_secs(5);
/// Time for instances that are started together to bring each other's chains to version 2. Taking a lock waits by itself.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(10);
/// After a failure, stages that do not end are not waited for longer than this.
const FAILURE_GRACE: Duration = Duration::from_secs(5);
/// A terminal that stands still is not waited for longer than this.
const MONITOR_GRACE: Duration = Duration::from_millis(500);

/// Where records come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The configured source.
    Source,
    /// The dead letters of this dataset, each once.
    DeadLetters,
}

/// How a dataset is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// As it is.
    Usual,
    /// With the partitions of its source shared out anew, if the number of instances is another.
    TakeOver,
    /// With positions that something contradicts taken as gaps that are recorded, whatever `source.on_gap` says.
    Accept,
}

impl Start {
    /// Returns what the record of such a start says that the operator asked for.
    fn action(self) -> Option<Action> {
        let text = "gaps in the source are accepted at this start";
        (self == Self::Accept).then(|| Action { kind: ActionKind::Accept, by: Process::this(), text: text.into(), before: None })
    }
}

/// The pure part of a start: the SQL and where its output goes, checked against each other.
pub struct Plan {
    /// The database with its lookup tables.
    pub engine: Engine,
    /// Where output rows go.
    pub layout: Arc<OutputLayout>,
    /// What the monitor counts.
    pub aggregator: Arc<Aggregator>,
}

impl Plan {
    /// Opens the database, runs the SQL on an empty batch and fits its output to the sink. Touches no output.
    pub fn new(config: &Config) -> Result<Self> {
        let engine = Engine::open(&config.transform, config.schema.arrow())?;
        let layout = OutputLayout::new(engine.output(), &config.sink).map_err(|faults| Error::config(faults.join("\n")))?;
        let aggregator = Aggregator::new(engine.output(), &config.monitor);
        for warning in aggregator.warnings() {
            info!("{warning}");
        }
        Ok(Self { engine, layout: Arc::new(layout), aggregator: Arc::new(aggregator) })
    }

    /// Opens the dataset that this plan writes to: lock, FORMAT, recovery, fence.
    pub fn open_store(&self, config: &Config, start: Start, fs: Arc<dyn Fs>, admin: Option<SocketAddr>) -> Result<(Lock, Store)> {
        self.with_expected(config, |expected| {
            let expected = Expected { action: start.action(), ..expected.clone() };
            open_store(config, start, &fs, &expected, admin)
        })
    }

    /// Opens the dataset for an action of an operator.
    pub fn open_for(&self, config: &Config, action: Option<Action>, allow: Allow, fs: Arc<dyn Fs>) -> Result<(Lock, Store)> {
        self.with_expected(config, |expected| open_store(config, Start::Usual, &fs, &Expected { action, allow, ..expected.clone() }, None))
    }

    /// Compares the dataset at `pipeline.out_path`, if there is one, with what this plan would write.
    pub fn check_dataset(&self, config: &Config) -> Result<()> {
        self.with_expected(config, |expected| store::check_dataset(&Posix::default(), &config.paths(), expected))
    }

    /// Says what this plan asks of a dataset.
    fn with_expected<T>(&self, config: &Config, asked: impl FnOnce(&Expected<'_>) -> Result<T>) -> Result<T> {
        let instance = config.instance();
        let identify = |created_at| identity(config, created_at);
        let expected = Expected {
            source: &identify,
            partition_by: self.layout.partition_columns(),
            schema: self.engine.output().clone(),
            allow_new_columns: config.sink.allow_new_columns,
            now: Utc::now(),
            new_key: Key::random(),
            process: Process::this(),
            action: None,
            allow: Allow::default(),
            remember: remember(config),
            records_max: snapshot::RECORDS_MAX,
            sharing: Sharing { instances: instance.count, owns: if instance.count == 1 { &|_, _, _| true } else { &KafkaSource::owns } },
        };
        asked(&expected)
    }
}

fn open_store(config: &Config, start: Start, fs: &Arc<dyn Fs>, expected: &Expected, admin: Option<SocketAddr>) -> Result<(Lock, Store)> {
    let instance = config.instance();
    if instance.count > 1 && !instance.network_file_system {
        mount::check_local(&config.pipeline.out_path)?;
    }
    if !expected.allow.strangers {
        // Before the lock, which would make a directory in what is none of ours.
        store::check_ground(&**fs, &config.paths())?;
    }
    let lock = Lock::take(config.paths(), Utc::now(), admin)?;
    if start == Start::TakeOver {
        take_over(config, fs, expected)?;
    }
    upgrade_others(config, fs, expected)?;
    let store = Store::open(fs.clone(), config.paths(), expected)?;
    if let Some(missing) = store.missing() {
        error!("{missing}");
    }
    Ok((lock, store))
}

/// Brings the chains of the other instances to version 2, before the own one: an instance of version 1 refuses what it finds then, whichever is
/// started first. None of them may run.
fn upgrade_others(config: &Config, fs: &Arc<dyn Fs>, expected: &Expected) -> Result<()> {
    let (paths, instance) = (config.paths(), config.instance());
    for index in (0..instance.count).filter(|index| *index != instance.index) {
        let other = paths.of_instance(index);
        if store::is_version_1(&**fs, &other)? {
            let Some(_lock) = lock_unless_upgraded(fs, &other)? else { continue };
            let process = Process { nonce: Process::this().nonce, ..expected.process.clone() };
            Store::open(fs.clone(), other, &Expected { process, ..expected.clone() })?;
            info!(instance = index, "the chain of another instance is brought to version 2");
        }
    }
    Ok(())
}

/// Takes the lock of another instance's chain; `None` if that instance, or one started at the same time, has brought it to version 2 meanwhile.
fn lock_unless_upgraded(fs: &Arc<dyn Fs>, other: &Paths) -> Result<Option<Lock>> {
    let begun = Instant::now();
    loop {
        match Lock::take(other.clone(), Utc::now(), None) {
            Err(error) if error.kind() == ErrorKind::TryAgain => {
                if !store::is_version_1(&**fs, other)? {
                    return Ok(None);
                }
                if begun.elapsed() >= UPGRADE_PATIENCE {
                    return Err(Error::try_again(format!(
                        "{error}; instances of version 1 and 2 do not run side by side: stop all, then start them"
                    )));
                }
            }
            taken => return if store::is_version_1(&**fs, other)? { taken.map(Some) } else { Ok(None) },
        }
    }
}

/// Shares the partitions of the source out among the configured number of instances. No other instance may run.
fn take_over(config: &Config, fs: &Arc<dyn Fs>, expected: &Expected) -> Result<()> {
    let (paths, instance) = (config.paths(), config.instance());
    let before = instances(&**fs, &paths)?.unwrap_or(instance.count);
    // Its own lock is held already.
    let others = (0..before.max(instance.count)).filter(|index| *index != instance.index);
    let _locks: Vec<_> = others.map(|index| Lock::take(paths.of_instance(index), Utc::now(), None)).collect::<Result<_>>()?;
    share_out(fs, paths.root(), expected)?;
    info!(before, after = instance.count, "the partitions of the source are shared out");
    Ok(())
}

/// A line that is ready to start: recovered, nothing read yet.
pub struct Line {
    /// The stages by name, the sink first.
    pub stages: Vec<(&'static str, BoxFuture<'static, Result<()>>)>,
    lock: Arc<Lock>,
    disk: DiskState,
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
}

impl Line {
    /// Opens the dataset (lock, FORMAT, recovery) and the source, and links the stages. Blocking; inside a runtime.
    pub fn open(config: &Config, input: Input, start: Start, outside: Outside) -> Result<Self> {
        let plan = Plan::new(config)?;
        let (lock, store) = plan.open_store(config, start, outside.fs.clone(), outside.admin)?;
        let accepting = (start == Start::Accept).then(|| accepting_gaps(config));
        let source = open_source(accepting.as_ref().unwrap_or(config), input, &store)?;
        Self::link(config, plan, (lock, store), source, outside)
    }

    /// Links the stages between a source and a recovered dataset.
    pub fn link(config: &Config, plan: Plan, (lock, store): (Lock, Store), source: Box<dyn Source>, outside: Outside) -> Result<Self> {
        let Plan { engine, layout, aggregator } = plan;
        let Outside { stop, reload, screen, meters, admin: _, fs: _ } = outside;
        let disk = meters.disk.clone();
        let lock = Arc::new(lock);
        let offsets = store.offsets().clone();
        info!(
            out_path = %config.pipeline.out_path.display(),
            next_checkpoint = store.next_sequence(),
            partitions = offsets.spans().len(),
            workers = config.transform.threads,
            "line ready"
        );

        let (chunk_sender, chunks) = mpsc::channel(config.pipeline.chunk_channel);
        let (batch_sender, batches) = mpsc::channel(config.pipeline.batch_channel);
        let (frame_sender, frames) = mpsc::channel(config.pipeline.frame_channel);
        // One message: what a slow monitor misses is merged into the next.
        let (progress_sender, progress) = mpsc::channel(1);
        let (committed_sender, committed) = watch::channel(Arc::new(offsets));
        let (remaining_sender, remaining) = watch::channel(source.remaining());
        let channels = Channels { chunks: chunk_sender.downgrade(), batches: batch_sender.downgrade(), frames: frame_sender.downgrade() };
        let full = disk.clone();
        meters.link(Linked {
            dataset_id: store.format().dataset_id.clone(),
            partition_by: store.format().partition_by.iter().map(|column| column.name.clone()).collect(),
            last_sequence: store.next_sequence() - 1,
            remaining: remaining.clone(),
            unit: source.unit(),
            trouble: source.trouble(),
            pushed: source.pushed(),
            reading: source.work(),
            memory: Mutex::new(engine.memory()?),
        });
        let chunk_outlet = Outlet::new(chunk_sender, &meters.chunks);
        let batch_outlet = Outlet::new(batch_sender, &meters.batches);
        let frame_outlet = Outlet::new(frame_sender, &meters.frames);
        let workers = engine.workers()?.into_iter().map(|worker| Transform::new(config, worker, &layout, &aggregator)).collect();

        let monitor = Monitor {
            input: progress,
            remaining,
            channels,
            disk_full: Box::new(move || full.full()),
            screen,
            config: config.monitor.clone(),
            meters: meters.clone(),
        };
        let schema = engine.output().clone();
        let writer = Writer {
            input: frames,
            checkpoint: Checkpoint::new(store, lock.clone(), OpenFiles::new(layout, &config.sink)?, schema, config, meters.clone()),
            committed: committed_sender,
            progress: progress_sender,
            groups_max: config.monitor.groups_max,
        };
        let transformer = Transformer { input: batches, output: frame_outlet, engine, workers, reload, meters: meters.clone() };
        let batcher = Batcher {
            input: chunks,
            output: batch_outlet,
            batch_rows: config.pipeline.batch_rows,
            batch_bytes_max: config.pipeline.batch_bytes_max,
            checkpoint_interval: config.pipeline.checkpoint_interval,
            meters: meters.clone(),
        };
        let producer = Producer { source, output: chunk_outlet, stop, committed, remaining: remaining_sender, meters };
        Ok(Self {
            stages: vec![
                (MONITOR, Box::pin(monitor.run())),
                ("writer", Box::pin(writer.run())),
                ("transformer", Box::pin(transformer.run())),
                ("batcher", Box::pin(batcher.run())),
                (PRODUCER, Box::pin(producer.run())),
            ],
            lock,
            disk,
        })
    }

    /// Runs the stages until all have ended.
    ///
    /// # Errors
    /// The first failure of a stage, not the cascade behind it; [`crate::error::ErrorKind::TryAgain`] if a stop took longer than
    /// `deadline` allows: what was not committed by then is read again at the next start.
    pub async fn run(self, mut deadline: BoxFuture<'static, ()>) -> Result<()> {
        let Self { stages, lock, disk } = self;
        let mut tasks = Tasks::spawn(stages);
        let touching = tokio::spawn(touch(lock, disk.clone()));
        let result = tokio::select! {
            result = tasks.join() => {
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
        touching.abort();
        result
    }
}

/// Waits until a stop was asked for and the time for it has passed; for ever if none is.
pub fn deadline(mut stop: watch::Receiver<bool>, shutdown_timeout: Duration) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(shutdown_timeout).await;
    })
}

const MONITOR: &str = "monitor";
const PRODUCER: &str = "producer";

/// The running stages.
struct Tasks {
    set: JoinSet<Result<()>>,
    names: HashMap<tokio::task::Id, &'static str>,
    producer: Option<tokio::task::AbortHandle>,
}

impl Tasks {
    fn spawn(stages: Vec<(&'static str, BoxFuture<'static, Result<()>>)>) -> Self {
        let mut tasks = Self { set: JoinSet::new(), names: HashMap::new(), producer: None };
        for (name, stage) in stages {
            let handle = tasks.set.spawn(stage);
            tasks.names.insert(handle.id(), name);
            if name == PRODUCER {
                tasks.producer = Some(handle);
            }
        }
        tasks
    }

    /// Waits for all stages, or for the first failure.
    async fn join(&mut self) -> Result<()> {
        while let Some((name, result)) = self.next().await {
            result?;
            let only_monitor_left = self.names.len() == 1 && self.names.values().all(|name| *name == MONITOR);
            if only_monitor_left && name != MONITOR {
                return match tokio::time::timeout(MONITOR_GRACE, self.next()).await {
                    Ok(Some((_, result))) => result,
                    Ok(None) => Ok(()),
                    Err(_) => {
                        warn!("the terminal does not take the last figures");
                        Ok(())
                    }
                };
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Option<(&'static str, Result<()>)> {
        let joined = self.set.join_next_with_id().await?;
        let (id, result) = match joined {
            Ok((id, result)) => (id, result),
            Err(failure) => {
                let name = self.names.get(&failure.id()).copied().unwrap_or("line");
                (failure.id(), Err(panicked(name, failure)))
            }
        };
        Some((self.names.remove(&id).unwrap_or("line"), result))
    }

    /// Ends the stages after a failure. The producer goes without saying why, so nothing more is committed.
    async fn bring_down(&mut self) {
        if let Some(producer) = self.producer.take() {
            producer.abort();
        }
        let rest = async {
            while let Some((name, result)) = self.next().await {
                if name != PRODUCER
                    && let Err(cascade) = result
                {
                    error!(stage = name, error = %cascade, "failed as well");
                }
            }
        };
        let _ = tokio::time::timeout(FAILURE_GRACE, rest).await;
    }
}

/// Gives signs of life; none while the disk is full: who waits for room needs somebody to make it.
async fn touch(lock: Arc<Lock>, disk: DiskState) {
    let mut ticks = tokio::time::interval(TOUCH_INTERVAL);
    loop {
        ticks.tick().await;
        if disk.full() {
            continue;
        }
        let lock = lock.clone();
        let touched = blocking("lock", move || lock.touch()).await;
        if let Err(error) = touched {
            warn!(%error, "no sign of life for `pintail health`");
        }
    }
}

/// Returns what makes the configured source's offsets comparable.
pub fn identity(config: &Config, created_at: DateTime<Utc>) -> SourceIdentity {
    match &config.source.kind {
        SourceKind::Simulator(simulator) => Simulator::identity(simulator, created_at),
        SourceKind::File(_) => FileSource::identity(),
        SourceKind::Stdin => Stdin::identity(),
        SourceKind::Http(_) => HttpSource::identity(),
        SourceKind::Nats(nats) => NatsSource::identity(nats),
        SourceKind::Kafka(_) => KafkaSource::identity(),
    }
}

/// Returns how long the configured source wants vanished partitions remembered.
fn remember(config: &Config) -> Remember {
    match &config.source.kind {
        SourceKind::File(file) => {
            let longest = TimeDelta::from_std(file.remember).unwrap_or(TimeDelta::MAX);
            Remember { longest, most: file.remember_max }
        }
        _ => Remember::default(),
    }
}

/// Returns the configuration with which gaps are recorded.
fn accepting_gaps(config: &Config) -> Config {
    let mut config = config.clone();
    match &mut config.source.kind {
        SourceKind::File(file) => file.on_gap = OnGap::Record,
        SourceKind::Nats(nats) => nats.on_gap = OnGap::Record,
        SourceKind::Kafka(kafka) => kafka.on_gap = OnGap::Record,
        SourceKind::Simulator(_) | SourceKind::Stdin | SourceKind::Http(_) => {}
    }
    config
}

fn open_source(config: &Config, input: Input, store: &Store) -> Result<Box<dyn Source>> {
    let resume = Resume { offsets: store.offsets(), key: store.key() };
    let record_bytes_max = config.source.record_bytes_max;
    if input == Input::DeadLetters {
        return Ok(Box::new(DeadLetterSource::open(&config.paths().dead_letters(), resume.offsets)?));
    }
    Ok(match &config.source.kind {
        SourceKind::Simulator(simulator) => {
            let start_time = simulator.start_time.unwrap_or(store.format().created_at);
            Box::new(Simulator::open(simulator, start_time, config.pipeline.batch_rows, resume.offsets)?)
        }
        SourceKind::File(file) => Box::new(FileSource::open(file, record_bytes_max, &resume)?),
        SourceKind::Stdin => Box::new(Stdin::open(record_bytes_max, resume.offsets)?),
        SourceKind::Http(http) => {
            let dataset_id = &store.format().dataset_id;
            Box::new(HttpSource::open(&Opening { config, http, dataset_id }, &resume)?)
        }
        SourceKind::Nats(nats) => Box::new(NatsSource::open(nats, config.pipeline.checkpoint_interval, record_bytes_max, &resume)?),
        SourceKind::Kafka(kafka) => Box::new(KafkaSource::open(kafka, record_bytes_max, &resume)?),
    })
}

/// Checks that the configured source could be opened now, and returns what was found where that is worth a line. Reads no records.
pub fn check_source(config: &Config) -> Result<Option<String>> {
    match &config.source.kind {
        SourceKind::Simulator(_) | SourceKind::Stdin => Ok(None),
        SourceKind::File(file) => {
            let resume = Resume { offsets: &Offsets::default(), key: &Key::random() };
            FileSource::open(file, config.source.record_bytes_max, &resume).map(|_| None)
        }
        SourceKind::Http(http) => HttpSource::check(config, http).map(|()| None),
        SourceKind::Nats(nats) => NatsSource::probe(nats).map(Some),
        SourceKind::Kafka(kafka) => KafkaSource::probe(kafka).map(Some),
    }
}
