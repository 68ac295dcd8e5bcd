//! What a process does: it opens the dataset, commits one checkpoint, and stops.
//!
//! Owns: the process and its plan, carrying it out with everything that happens to it.
//! Does not own: what must hold afterwards (see `oracle`), which plans are tried (see `walk`).

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io::Write;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use chrono::DateTime;
use pintail_core::batch::Counts;
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::identity::SourceIdentity;
use pintail_core::offsets::PartitionId;
use pintail_storage::blob::Blob;
use pintail_storage::bucket::{BucketStore, Patience, Place, Scratch, WhenHeld};
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::record::FileKind;
use pintail_storage::checkpoint::staging::Staging;
use pintail_storage::checkpoint::store::{Draft, Expected, NewFile};
use pintail_storage::durable::disk_state::DiskState;
use pintail_storage::samples::{draft_behind, expected};

use tokio::runtime::{Builder, Runtime};

use super::client::{Client, Event, Standing};
use super::oracle::is_lost;
use super::world::{Request, World};
use crate::model::{Model, Renames};
use crate::script::named;

/// Records of the source in a checkpoint: two in its first file, one in the second.
const RECORDS: u64 = 3;
/// The first file has two parts, the second one.
const PART_BYTES: usize = 8;
/// Records between two snapshots.
const RECORDS_MAX: u64 = 3;
/// The time between two heartbeats.
pub(crate) const BEAT_EVERY: Duration = Duration::from_secs(15);

/// What a start finds otherwise than the one before has left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Start {
    /// Nothing.
    AsItWas,
    /// All uploads expired that were not completed.
    Expired,
    /// There is no hint.
    NoHint,
    /// The hint is not one.
    WrongHint,
    /// The hint names the first record.
    OldHint,
}

pub(crate) const STARTS: [Start; 5] = [Start::AsItWas, Start::Expired, Start::NoHint, Start::WrongHint, Start::OldHint];

/// Where a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Host {
    /// Where most did: their scratch is there.
    Same,
    /// Somewhere else, with empty scratch.
    Another,
}

/// What happens to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Plan {
    pub start: Start,
    pub host: Host,
    pub event: Option<(usize, Event)>,
}

impl Plan {
    /// Nothing happens.
    pub(crate) fn calm(host: Host) -> Self {
        Self { start: Start::AsItWas, host, event: None }
    }
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Finished,
    Failed(ErrorKind, String),
    Killed,
}

/// What wraps the bucket of each process: nothing, or a mutant.
pub(crate) type Wrap = fn(Client) -> Arc<dyn Blob>;

thread_local! {
    /// Its clock goes on only where everybody waits.
    static RUNTIME: Runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
}

/// Runs a process in a world. Returns the world afterwards, how the process ended, and what it asked for.
pub(crate) fn run(mut world: World, plan: Plan, wrap: Wrap) -> (World, End, Vec<Request>) {
    prepare(&mut world, plan.start);
    let late = world.late.take();
    let home = Model::over(world.scratch.clone(), 0, Renames::Atomic).without_moments();
    let elsewhere = Model::new().without_moments();
    let world = Arc::new(Mutex::new(world));
    let scratches = match plan.host {
        Host::Same => [&home, &home],
        Host::Another => [&elsewhere, &home],
    };
    let (end, asked) = RUNTIME.with(|runtime| runtime.block_on(live(&world, scratches, plan.event, wrap)));
    let mut world = Arc::into_inner(world).expect("all processes have ended").into_inner().unwrap();
    world.scratch = home.disk();
    if let Some(request) = late {
        let _ = world.apply(&request);
    }
    (world, end, asked)
}

fn prepare(world: &mut World, start: Start) {
    let hint = Paths::new("").beat();
    let hint = hint.to_str().unwrap();
    let write =
        |world: &mut World, bytes: &'static [u8]| world.apply(&Request::Replace(hint.to_owned(), Bytes::from_static(bytes))).map(drop);
    match start {
        Start::AsItWas => {}
        Start::Expired => world.expire(),
        Start::NoHint => world.remove(hint),
        Start::WrongHint => write(world, b"\xffno hint").unwrap(),
        Start::OldHint if world.objects.contains_key(Paths::new("").record(1).to_str().unwrap()) => {
            write(world, br#"{"sequence":1,"epoch":1,"every_ms":1000}"#).unwrap();
        }
        Start::OldHint => {}
    }
}

/// Runs a process to its end. If it is stopped on the way, another one does the same meanwhile, with the second scratch.
async fn live(world: &Arc<Mutex<World>>, scratches: [&Model; 2], event: Option<(usize, Event)>, wrap: Wrap) -> (End, Vec<Request>) {
    let client = Client::new(world.clone(), event);
    let mut epoch = 0;
    let mut fenced_from = None;
    let end = {
        let mut process =
            pin!(tokio::time::timeout(Duration::from_secs(86_400), work(world, wrap(client.clone()), scratches[0], &mut epoch)));
        loop {
            match step(process.as_mut(), &client).await {
                Some(Ok(Ok(()))) => break End::Finished,
                Some(Ok(Err(error))) => break End::Failed(error.kind(), error.to_string()),
                // It hung until somebody killed it.
                Some(Err(_)) => break End::Killed,
                None if client.standing() == Standing::Killed => break End::Killed,
                None => {
                    let was_open = world.lock().unwrap().objects.keys().filter(|key| key.contains("/commits/")).count();
                    let (other, _) = Box::pin(live(world, [scratches[1], scratches[1]], None, wrap)).await;
                    let mut after = world.lock().unwrap();
                    if other != End::Finished && !is_lost(&after, Host::Same) {
                        after.broken.get_or_insert(format!("beside a process that was stopped, another one ended: {other:?}"));
                    }
                    drop(after);
                    fenced_from = (other == End::Finished).then(|| (was_open, world.lock().unwrap().lasting()));
                    client.go_on();
                }
            }
        }
    };
    if let Some((records, lasting)) = fenced_from
        && (1..=records as u64).contains(&epoch)
    {
        let mut world = world.lock().unwrap();
        if world.lasting() != lasting {
            world.broken.get_or_insert("a process that was fenced changed what lasts".into());
        }
    }
    (end, client.asked())
}

/// Runs a process until it ends, or is stopped or killed (`None`).
async fn step<F: Future>(mut process: Pin<&mut F>, client: &Client) -> Option<F::Output> {
    poll_fn(|context| match process.as_mut().poll(context) {
        Poll::Ready(ended) => Poll::Ready(Some(ended)),
        Poll::Pending if client.standing() != Standing::Running => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// What a process does. Tells its epoch.
async fn work(world: &Mutex<World>, blob: Arc<dyn Blob>, scratch: &Model, epoch: &mut u64) -> Result<()> {
    let nonce = {
        let mut world = world.lock().unwrap();
        world.starts += 1;
        format!("{:016x}", world.starts)
    };
    let place = place(blob, scratch)?;
    let mut store = open(&place, &nonce).await?;
    *epoch = store.epoch();
    let to = commit(&mut store).await?;
    {
        let mut world = world.lock().unwrap();
        world.acknowledged = world.acknowledged.max(to);
    }
    store.close().await
}

/// Where the dataset lies for a process.
pub(crate) fn place(blob: Arc<dyn Blob>, scratch: &Model) -> Result<Place> {
    let scratch = Scratch::open(scratch.handle(), Path::new("/scratch"), PART_BYTES)?;
    Ok(Place {
        blob,
        paths: Paths::new("s3://lake"),
        scratch,
        patience: Patience::default(),
        beat_every: BEAT_EVERY,
        waits: DiskState::default(),
        when_held: WhenHeld::Wait,
    })
}

/// Opens the dataset as the process of a nonce.
pub(crate) async fn open(place: &Place, nonce: &str) -> Result<BucketStore> {
    let source = |_| SourceIdentity { kind: "stdin".into(), properties: BTreeMap::new() };
    let expected = Expected {
        source: &source,
        schema: Some(schema()),
        now: DateTime::UNIX_EPOCH,
        process: named(nonce),
        records_max: RECORDS_MAX,
        ..expected()
    };
    BucketStore::open(place, &expected).await
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![Field::new("amount", DataType::Int64, true)]))
}

/// What the next checkpoint of the stream commits, with these files.
pub(crate) fn draft(store: &BucketStore, files: Vec<NewFile>) -> Draft {
    let counts = Counts { records_in: RECORDS, rows_out: RECORDS, ..Counts::default() };
    draft_behind(store.offsets(), counts, schema(), files)
}

/// Commits the next checkpoint. Returns how many records of the source are committed then.
pub(crate) async fn commit(store: &mut BucketStore) -> Result<u64> {
    let from = store.offsets().next_offset(&PartitionId::new("events")).unwrap_or(0);
    let (sequence, mut staging) = (store.next_sequence(), store.staging());
    let files = vec![
        stage(&mut staging, format!("region=us/events-2026-01-01-00-{sequence}.parquet"), &[from, from + 1])?,
        stage(&mut staging, format!("region=eu/events-2026-01-01-00-{sequence}.parquet"), &[from + 2])?,
    ];
    let draft = draft(store, files);
    store.commit(staging, draft).await?;
    Ok(from + RECORDS)
}

/// Stages a file of these rows, a line each.
fn stage(staging: &mut Staging, path: String, rows: &[u64]) -> Result<NewFile> {
    let mut staged = staging.create()?;
    let lines: String = rows.iter().map(|row| format!("{row:06}\n")).collect();
    staged.write_all(lines.as_bytes()).map_err(|error| Error::io("write", error))?;
    let rows = rows.len() as u64;
    Ok(NewFile { staged: staged.finish()?, path, kind: FileKind::Parquet, rows, event_time: None, columns: vec![] })
}
