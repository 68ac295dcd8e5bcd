//! The dataset of a line: what a start asks of it, and the locks that are held meanwhile.
//!
//! Owns: the plan of a start, the order of locks, checks and opening, also of the chains of other instances.
//! Does not own: what opening does (see [`pintail_storage::checkpoint::store`]), the source, the stages (see [`super`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};
use pintail_config::Config;
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::evidence::Key;
use pintail_core::identity::SourceIdentity;
use pintail_core::offsets::PartitionId;
use pintail_duckdb::{Engine, Refused};
use pintail_sink::layout::OutputLayout;
use pintail_sources::registry;
use pintail_storage::checkpoint::format::Format;
use pintail_storage::checkpoint::lock::Lock;
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::process::Process;
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::checkpoint::record::{Action, ActionKind};
use pintail_storage::checkpoint::store::{self, Adopted, Allow, Expected, Sharing, Standing, Store, instances, share_out};
use pintail_storage::checkpoint::{mount, snapshot};
use pintail_storage::dataset::{Lost, OpenDataset};
use pintail_storage::durable::fs::Fs;
use pintail_storage::durable::posix::Posix;
use tokio::runtime::Runtime;
use tracing::{error, info};

use crate::aggregate::Aggregator;
use crate::meters::Meters;
#[cfg(feature = "bucket")]
use crate::pipeline::lake;
use crate::tables;

/// Time for instances that are started together to bring each other's chains to version 2. Taking a lock waits by itself.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(10);

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
        (self == Self::Accept).then(|| Action::new(ActionKind::Accept, text))
    }
}

/// A dataset that a line writes to.
pub struct Opened {
    /// The lock, of the directory or of the scratch.
    pub lock: Lock,
    /// The dataset.
    pub store: OpenDataset,
    /// Tells when it is another process' one.
    pub lost: Lost,
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
    ///
    /// # Errors
    /// All faults of the SQL, and of its output as far as that is known.
    pub fn new(config: &Config) -> Result<Self> {
        let fits = |output: &SchemaRef| OutputLayout::new(output, &config.sink).map_err(|faults| Error::config(faults.join("\n")));
        let engine = Engine::examine(&config.transform, config.schema.arrow()).map_err(|Refused { error, output }| {
            match output.and_then(|output| fits(&output).err()) {
                None => error,
                Some(unfit) => Error::new(error.kind(), format!("{error}\n{unfit}")),
            }
        })?;
        let layout = fits(engine.output())?;
        tables::check_columns(&config.tables, &layout, &config.pipeline.out_path)?;
        let aggregator = Aggregator::new(engine.output(), &config.monitor);
        for warning in aggregator.warnings() {
            info!("{warning}");
        }
        Ok(Self { engine, layout: Arc::new(layout), aggregator: Arc::new(aggregator) })
    }

    /// Opens the dataset that this plan writes to: lock, FORMAT, recovery, fence. What it waits for can be seen in `meters`. In a runtime, if it is in a
    /// bucket.
    pub fn open_store(&self, config: &Config, start: Start, fs: Arc<dyn Fs>, meters: &Meters, admin: Option<SocketAddr>) -> Result<Opened> {
        self.with_expected(config, |expected| {
            let expected = Expected { action: start.action(), ..expected.clone() };
            #[cfg(feature = "bucket")]
            if let Some(lake) = &config.lake {
                return lake::open(config, lake, start, meters, &expected, admin);
            }
            #[cfg(not(feature = "bucket"))]
            let _ = meters;
            let (lock, store) = open_store(config, start, &fs, &expected, admin)?;
            let (store, lost) = OpenDataset::in_directory(store);
            Ok(Opened { lock, store, lost })
        })
    }

    /// Opens the dataset for an action of an operator.
    pub fn open_for(&self, config: &Config, action: Option<Action>, allow: Allow, fs: Arc<dyn Fs>) -> Result<(Lock, Store)> {
        refuse_bucket(config)?;
        self.with_expected(config, |expected| open_store(config, Start::Usual, &fs, &Expected { action, allow, ..expected.clone() }, None))
    }

    /// Compares the dataset at `pipeline.out_path`, if there is one, with what this plan would write. Returns where it stands.
    pub fn check_dataset(&self, config: &Config) -> Result<Option<Standing>> {
        self.with_expected(config, |expected| check_dataset(config, expected))
    }

    /// As [`Self::check_dataset`], as far as that can be said without a plan: whose the dataset is, and whether it is sound.
    pub fn check_dataset_without(config: &Config) -> Result<Option<Standing>> {
        let instance = config.instance();
        let owns = |_, _, _: &PartitionId| true;
        let identify = |created_at| config.source.kind.identity(created_at);
        check_dataset(config, &expected(config, &identify, Sharing { instances: instance.count, owns: &owns }))
    }

    /// Says what this plan asks of a dataset.
    fn with_expected<T>(&self, config: &Config, asked: impl FnOnce(&Expected<'_>) -> Result<T>) -> Result<T> {
        let instance = config.instance();
        let kind = config.source.kind.kind();
        let owns = |index, count, id: &PartitionId| kind.is_read_by((index, count), id);
        let identify = |created_at| config.source.kind.identity(created_at);
        asked(&Expected {
            partition_by: self.layout.partition_columns(),
            schema: Some(self.engine.output().clone()),
            allow_new_columns: config.sink.allow_new_columns,
            ..expected(config, &identify, Sharing { instances: instance.count, owns: &owns })
        })
    }
}

fn check_dataset(config: &Config, expected: &Expected<'_>) -> Result<Option<Standing>> {
    #[cfg(feature = "bucket")]
    if let Some(lake) = &config.lake {
        return lake::check_dataset(config, lake, expected);
    }
    store::check_dataset(&Posix::default(), &config.paths(), expected)
}

/// Says what a start asks of a dataset that is taken as it is.
fn expected<'a>(config: &Config, source: &'a dyn Fn(DateTime<Utc>) -> SourceIdentity, sharing: Sharing<'a>) -> Expected<'a> {
    Expected {
        source,
        partition_by: Vec::new(),
        schema: None,
        allow_new_columns: false,
        now: Utc::now(),
        new_key: Key::random(),
        process: Process::this(),
        action: None,
        allow: Allow::default(),
        remember: config.source.kind.remember(),
        records_max: snapshot::RECORDS_MAX,
        sharing,
    }
}

/// Opens a dataset for an action of an operator that has nothing to do with its source, its SQL or its columns: whatever the configuration says of
/// those, the dataset is taken as it is.
///
/// # Errors
/// [`ErrorKind::Config`] if there is none, else as [`Store::open`].
pub(crate) fn open_as_it_is(config: &Config, action: Option<Action>, allow: Allow) -> Result<(Lock, Store)> {
    refuse_bucket(config)?;
    let (fs, paths): (Arc<dyn Fs>, _) = (Arc::new(Posix::unwaiting()), config.paths());
    let dataset = Dataset::open(paths.clone())?;
    let instances = instances(&*fs, &paths)?.unwrap_or(dataset.format().instances);
    as_it_is(config, dataset.format(), instances, action, allow, |expected| open_store(config, Start::Usual, &fs, expected, None))
}

/// Says what an opening asks of a dataset that is taken as it is.
fn as_it_is<T>(
    config: &Config,
    format: &Format,
    instances: u32,
    action: Option<Action>,
    allow: Allow,
    open: impl FnOnce(&Expected<'_>) -> Result<T>,
) -> Result<T> {
    let kind = registry::find(&format.source.kind);
    let owns = |index, count, id: &PartitionId| kind.is_none_or(|kind| kind.is_read_by((index, count), id));
    let identify = |_| format.source.clone();
    let expected = Expected {
        partition_by: format.partition_by.iter().map(|column| (column.name.clone(), column.data_type.clone())).collect(),
        action,
        allow,
        ..expected(config, &identify, Sharing { instances, owns: &owns })
    };
    open(&expected)
}

/// A dataset, wherever it is, that is open for an action of an operator.
pub(crate) struct ToAct {
    store: OpenDataset,
    _lock: Lock,
    /// What requests to a bucket are sent on.
    _runtime: Option<Runtime>,
}

impl ToAct {
    /// Writes the record of an action, and lets the next process in. Returns the number of the record.
    ///
    /// # Errors
    /// As [`OpenDataset::act`].
    pub(crate) fn act(mut self, action: Action) -> Result<u64> {
        let sequence = self.store.act(action, Adopted::default(), Utc::now())?.sequence;
        self.store.close();
        Ok(sequence)
    }
}

/// As [`open_as_it_is`], of a dataset wherever it is; `dataset` is the same, open for reading.
///
/// # Errors
/// Also [`ErrorKind::TryAgain`] if a bucket does not answer, or another process may hold the dataset there.
pub(crate) fn open_to_act(config: &Config, dataset: &Dataset, allow: Allow) -> Result<ToAct> {
    #[cfg(feature = "bucket")]
    if let (Some(lake), Some(runtime)) = (&config.lake, runtime_of_bucket(config)?) {
        let format = dataset.format();
        let (lock, store) = as_it_is(config, format, format.instances, None, allow, |expected| {
            lake::open_to_act(config, lake, expected, runtime.handle())
        })?;
        return Ok(ToAct { store, _lock: lock, _runtime: Some(runtime) });
    }
    #[cfg(not(feature = "bucket"))]
    let _ = dataset;
    let (lock, store) = open_as_it_is(config, None, allow)?;
    let (store, _) = OpenDataset::in_directory(store);
    Ok(ToAct { store, _lock: lock, _runtime: None })
}

/// Starts what an operator's command sends requests to the bucket of its dataset on; `None` if the dataset is in a directory.
///
/// # Errors
/// If the system gives no thread.
pub(crate) fn runtime_of_bucket(config: &Config) -> Result<Option<Runtime>> {
    let start = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    config.is_in_bucket().then(start).transpose().map_err(|e| Error::io("start the runtime", e))
}

/// Opens the dataset of a configuration for reading, wherever it is. Blocking, and outside of a runtime's own threads.
///
/// # Errors
/// [`ErrorKind::Config`] if there is none; [`ErrorKind::TryAgain`] if its bucket does not answer.
pub(crate) fn open_to_read(config: &Config) -> Result<Dataset> {
    #[cfg(feature = "bucket")]
    if let Some(lake) = &config.lake {
        return lake::open_to_read(config, lake);
    }
    Dataset::open(config.paths())
}

/// Refuses what is done to a dataset in a directory only.
///
/// # Errors
/// [`ErrorKind::Config`] if it is in a bucket.
pub(crate) fn refuse_bucket(config: &Config) -> Result<()> {
    if config.is_in_bucket() {
        let out = config.pipeline.out_path.display();
        return Err(Error::config(format!(
            "`{out}` is in a bucket, and this command works on a dataset in a directory only: nothing was changed"
        )));
    }
    Ok(())
}

/// Refuses a file system on which several instances cannot keep each other away.
pub(crate) fn check_mount(config: &Config) -> Result<()> {
    let instance = config.instance();
    if config.is_in_bucket() {
        return Ok(());
    }
    if instance.count > 1 && !instance.network_file_system { mount::check_local(&config.pipeline.out_path) } else { Ok(()) }
}

fn open_store(config: &Config, start: Start, fs: &Arc<dyn Fs>, expected: &Expected, admin: Option<SocketAddr>) -> Result<(Lock, Store)> {
    check_mount(config)?;
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
    for index in (0..expected.sharing.instances).filter(|index| *index != instance.index) {
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
