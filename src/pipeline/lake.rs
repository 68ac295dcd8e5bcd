//! A dataset in a bucket: connecting to it, and what a start asks of it.
//!
//! Owns: what the configuration makes of a bucket, the order of lock, probe and opening, and looking at one without changing it.
//! Does not own: requests and their meaning (see `pintail_bucket`), the protocol (see [`pintail_storage::bucket`]), datasets in directories (see
//! `dataset`).

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use pintail_bucket::{Bucket, Environment, probe};
use pintail_config::{Config, Lake};
use pintail_core::error::{Error, Result};
use pintail_storage::bucket::{self, BucketStore, BucketTree, Patience, Place, Scratch, WhenHeld};
use pintail_storage::checkpoint::lock::Lock;
use pintail_storage::checkpoint::process::Process;
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::checkpoint::store::{Expected, Standing};
use pintail_storage::dataset::OpenDataset;
use pintail_storage::durable::disk_state::DiskState;
use pintail_storage::durable::posix::Posix;
use tokio::runtime::Handle;

use super::dataset::{Opened, Start};
use crate::meters::Meters;

/// Bytes of a part of an upload: at least 5 MiB with every provider. Files up to this size are one part.
const PART_BYTES: usize = 8 << 20;
/// Time for a bucket to answer one who can tell a person that it does not.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// Time for a bucket to answer all requests of a probe.
const PROBE_PATIENCE: Duration = Duration::from_secs(30);

/// Opens the dataset of a configuration in its bucket. Waits as long as that does not answer, or another process holds the dataset; both can be seen
/// in `disk`.
///
/// # Errors
/// As [`BucketStore::open`]; [`pintail_core::error::ErrorKind::Config`] if the provider does not keep what a commit rests on.
pub(super) fn open(
    config: &Config,
    lake: &Lake,
    start: Start,
    meters: &Meters,
    expected: &Expected<'_>,
    admin: Option<SocketAddr>,
) -> Result<Opened> {
    if start == Start::TakeOver {
        return Err(Error::config(
            "a take-over shares a dataset out among instances, which have it on a disk only: start without `--take-over`",
        ));
    }
    // Of this machine and this scratch; whoever else writes to the dataset is kept away by its records.
    let lock = Lock::take(config.local_paths(), Utc::now(), admin)?;
    let bucket = Arc::new(connect(lake)?);
    meters.watch_bucket(bucket.clone());
    let place = place(config, lake, bucket, Patience { total: None, ..Patience::default() }, &meters.disk)?;
    let runtime = Handle::current();
    let store = runtime.block_on(async {
        if !bucket::is_there(&place).await? {
            probe(&*place.blob, lake.location.as_str(), &expected.process.nonce).await?;
        }
        BucketStore::open(&place, expected).await
    })?;
    let (store, lost) = OpenDataset::in_bucket(store, runtime);
    Ok(Opened { lock, store, lost })
}

/// Opens the dataset in its bucket for an action of an operator, who does not wait until another process lets go of it. Requests are sent on `runtime`.
///
/// # Errors
/// As [`BucketStore::open`]; [`pintail_core::error::ErrorKind::TryAgain`] while another process may hold the dataset.
pub(super) fn open_to_act(config: &Config, lake: &Lake, expected: &Expected<'_>, runtime: &Handle) -> Result<(Lock, OpenDataset)> {
    let lock = Lock::take(config.local_paths(), Utc::now(), None)?;
    let place = Place { when_held: WhenHeld::Refuse, ..impatient(config, lake)? };
    let store = runtime.block_on(BucketStore::open(&place, expected))?;
    let (store, _) = OpenDataset::in_bucket(store, runtime.clone());
    Ok((lock, store))
}

/// Removes files of the dataset, which a record has declared expired.
///
/// # Errors
/// As [`bucket::discard`].
pub(crate) fn discard(config: &Config, lake: &Lake, names: &[String]) -> Result<()> {
    let bucket = Arc::new(connect(lake)?);
    let place = place(config, lake, bucket.clone(), impatience(), &DiskState::default())?;
    run(bucket::discard(&place, &*bucket, names))?
}

/// Compares the dataset in the bucket, if there is one, with what a configuration asks of it. Returns where it stands.
///
/// # Errors
/// As [`bucket::check_dataset`].
pub(super) fn check_dataset(config: &Config, lake: &Lake, expected: &Expected<'_>) -> Result<Option<Standing>> {
    let place = impatient(config, lake)?;
    run(bucket::check_dataset(&place, expected))?
}

/// Makes the last snapshot again from the records, also while a service runs. Returns the number of its record; `None` if no record names one.
///
/// # Errors
/// As [`bucket::rebuild_snapshot`].
pub(crate) fn rebuild_snapshot(config: &Config, lake: &Lake) -> Result<Option<u64>> {
    let place = impatient(config, lake)?;
    let made = run(bucket::rebuild_snapshot(&place))??;
    Ok(made.map(|name| name.sequence))
}

/// Opens the dataset in the bucket for reading. Copies of its files go to scratch, as long as they are read; the credentials stay in this process.
///
/// # Errors
/// As [`Dataset::open_in_bucket`].
pub(super) fn open_to_read(config: &Config, lake: &Lake) -> Result<Dataset> {
    let tree = BucketTree::new(Arc::new(connect(lake)?), config.paths(), impatience(), lake.scratch().join("copies"))?;
    Dataset::open_in_bucket(Arc::new(tree))
}

/// Probes the bucket, by a few small objects below `_pintail/probe`. Returns a line that says what was reached.
///
/// # Errors
/// As [`probe()`].
pub(crate) fn check_bucket(lake: &Lake) -> Result<String> {
    let bucket = connect(lake)?;
    let nonce = Process::this().nonce;
    let probed = run(async { tokio::time::timeout(PROBE_PATIENCE, probe(&bucket, lake.location.as_str(), &nonce)).await })?;
    probed.map_err(|_| {
        let (place, seconds) = (&lake.location, PROBE_PATIENCE.as_secs());
        Error::try_again(format!(
            "`{place}` at {} took a connection and gave no answer for {seconds} s; start again later",
            bucket.endpoint()
        ))
    })??;
    Ok(format!("{} at {}, credentials from {}: objects are created once", lake.location, bucket.endpoint(), bucket.credentials()))
}

/// Returns how long it is waited where a person waits for the answer.
fn impatience() -> Patience {
    Patience { total: Some(ANSWER_PATIENCE), ..Patience::default() }
}

/// Returns the place of a dataset for one who does not wait long for an answer.
pub(crate) fn impatient(config: &Config, lake: &Lake) -> Result<Place> {
    place(config, lake, Arc::new(connect(lake)?), impatience(), &DiskState::default())
}

/// Runs requests to their end where there is no runtime.
pub(crate) fn run<T>(requests: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| Error::io("start the runtime", e))?;
    Ok(runtime.block_on(requests))
}

fn connect(lake: &Lake) -> Result<Bucket> {
    Bucket::connect(&lake.location, &lake.storage, &Environment::of_this_process())
}

fn place(config: &Config, lake: &Lake, blob: Arc<Bucket>, patience: Patience, disk: &DiskState) -> Result<Place> {
    let instance = config.instance().index;
    Ok(Place {
        blob,
        paths: config.paths(),
        scratch: Scratch::open(Arc::new(Posix::new(disk.clone())), config.local_paths().of_instance(instance), PART_BYTES)?,
        patience,
        beat_every: lake.storage.heartbeat,
        waits: disk.clone(),
        when_held: WhenHeld::Wait,
    })
}
