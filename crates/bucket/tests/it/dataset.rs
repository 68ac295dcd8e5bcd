//! A process that commits to a dataset in a bucket, and what must hold there afterwards.
//!
//! Owns: opening, committing rows that are counted on, stopping; the judgement over all objects.
//! Does not own: what happens on the line (see `line`), which situations are tried (see `commits`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use chrono::DateTime;
use pintail_bucket::{Bucket, Location};
use pintail_core::batch::Counts;
use pintail_core::digest::sha256_hex;
use pintail_core::error::{Error, Result};
use pintail_core::identity::SourceIdentity;
use pintail_core::offsets::PartitionId;
use pintail_storage::blob::{Blob, ObjectKey};
use pintail_storage::bucket::{BucketStore, Patience, Place, Scratch, WhenHeld};
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::process::Process;
use pintail_storage::checkpoint::record::{CommitRecord, FileKind};
use pintail_storage::checkpoint::staging::Staging;
use pintail_storage::checkpoint::store::{Expected, NewFile};
use pintail_storage::durable::disk_state::DiskState;
use pintail_storage::durable::posix::Posix;
use pintail_storage::samples::{draft_behind, expected};

/// Records of the source in a checkpoint: two in its first file, one in the second.
const RECORDS: u64 = 3;
/// S3 takes no smaller part, but for the last one.
pub(crate) const PART_BYTES: usize = 5 << 20;
/// Nobody's process id.
const PID: u32 = 1 << 30;

/// Sends requests again soon, for the servers are near; and for long, for a machine may be busy.
pub(crate) const PATIENCE: Patience =
    Patience { first: Duration::from_millis(5), longest: Duration::from_millis(100), total: Some(Duration::from_secs(600)) };

/// Returns where the dataset lies for a process with scratch in a directory.
pub(crate) fn place(location: &Location, blob: Arc<dyn Blob>, scratch: &Path) -> Place {
    let scratch = Scratch::open(Arc::new(Posix::default()), scratch, PART_BYTES).unwrap();
    Place {
        blob,
        paths: Paths::new(location.as_str()),
        scratch,
        patience: PATIENCE,
        beat_every: Duration::from_secs(15),
        waits: DiskState::default(),
        when_held: WhenHeld::Wait,
    }
}

/// Opens the dataset as the process of a nonce. It is gone for whoever comes next: no process has its id.
pub(crate) async fn open(place: &Place, nonce: &str) -> Result<BucketStore> {
    let source = |_| SourceIdentity { kind: "stdin".into(), properties: BTreeMap::new() };
    let process =
        Process { host: "host".into(), boot_id: Some("boot".into()), pid: PID, started: Some(1), user: "user".into(), nonce: nonce.into() };
    let expected = Expected { source: &source, schema: Some(schema()), now: DateTime::UNIX_EPOCH, process, records_max: 3, ..expected() };
    BucketStore::open(place, &expected).await
}

/// Commits the next checkpoint. `padding` is how many bytes the first file has more than its rows.
pub(crate) async fn commit(store: &mut BucketStore, padding: usize) -> Result<()> {
    let from = store.offsets().next_offset(&PartitionId::new("events")).unwrap_or(0);
    let (sequence, mut staging) = (store.next_sequence(), store.staging());
    let files = vec![
        stage(&mut staging, format!("region=us%2Fwest ä/events-2026-01-01-00-{sequence}.parquet"), &[from, from + 1], padding)?,
        stage(&mut staging, format!("region=eu/events-2026-01-01-00-{sequence}.parquet"), &[from + 2], 0)?,
    ];
    let counts = Counts { records_in: RECORDS, rows_out: RECORDS, ..Counts::default() };
    let draft = draft_behind(store.offsets(), counts, schema(), files);
    store.commit(staging, draft).await.map(|_| ())
}

/// What a process does: it opens the dataset, commits one checkpoint, says that it is alive, and stops.
pub(crate) async fn work(location: &Location, blob: Arc<dyn Blob>, scratch: &Path, nonce: &str) -> Result<()> {
    let mut store = open(&place(location, blob, scratch), nonce).await?;
    commit(&mut store, 0).await?;
    store.beat().await?;
    store.close().await
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![Field::new("amount", DataType::Int64, true)]))
}

/// Stages a file of these rows, a line each, and of empty lines.
fn stage(staging: &mut Staging, path: String, rows: &[u64], padding: usize) -> Result<NewFile> {
    let mut staged = staging.create()?;
    let lines: String = rows.iter().map(|row| format!("{row:06}\n")).collect();
    let padding = vec![b'\n'; padding];
    staged.write_all(&[lines.as_bytes(), &padding].concat()).map_err(|error| Error::io("write", error))?;
    let rows = rows.len() as u64;
    Ok(NewFile { staged: staged.finish()?, path, kind: FileKind::Parquet, rows, event_time: None, columns: vec![] })
}

/// Reads all objects of a dataset.
pub(crate) async fn objects(bucket: &Bucket) -> BTreeMap<String, Bytes> {
    let mut objects = BTreeMap::new();
    for key in bucket.list(1_000).await.unwrap() {
        let object = bucket.get(&key, 0..1 << 40).await.unwrap().unwrap();
        objects.insert(key.to_string(), object.bytes);
    }
    objects
}

/// Holds all objects against the records, after a process that ended well: everything committed is visible, once, and nothing else is. Returns the
/// records.
pub(crate) async fn check(bucket: &Bucket) -> std::result::Result<Vec<CommitRecord>, String> {
    let objects = objects(bucket).await;
    let records = objects.iter().filter(|(key, _)| key.contains("/commits/"));
    let records = records.zip(1..).map(|((key, bytes), sequence)| {
        assert!(key.ends_with(&format!("{sequence:010}.json")), "{key} is in the place of record {sequence}");
        CommitRecord::parse(bytes, sequence).map(|(record, _)| record)
    });
    let chain = records.collect::<std::result::Result<Vec<_>, _>>()?;
    let (mut named, mut next) = (BTreeMap::new(), 0);
    for record in &chain {
        for span in &record.source.partitions {
            if span.from != next {
                return Err(format!("record {} begins at {}, the one before it ended at {next}", record.sequence, span.from));
            }
            next = span.to;
        }
        for file in &record.files {
            if named.insert(file.path.as_str(), &file.sha256).is_some() {
                return Err(format!("two records name {}", file.path));
            }
        }
    }
    let mut rows = BTreeSet::new();
    for (key, bytes) in objects.iter().filter(|(key, _)| key.ends_with(".parquet")) {
        if named.remove(key.as_str()).is_none_or(|sha256| *sha256 != sha256_hex(bytes)) {
            return Err(format!("{key} is visible, and no record says what it holds"));
        }
        for row in std::str::from_utf8(bytes).unwrap().lines().filter(|line| !line.is_empty()) {
            if !rows.insert(row.parse::<u64>().unwrap()) {
                return Err(format!("row {row} is there twice"));
            }
        }
    }
    if !named.is_empty() {
        return Err(format!("committed, and not visible: {:?}", named.keys()));
    }
    match rows.into_iter().eq(0..next) {
        true => Ok(chain),
        false => Err(format!("{next} rows are committed, and others are visible")),
    }
}

/// Returns the key of an object.
pub(crate) fn key(path: &str) -> ObjectKey {
    ObjectKey::new(path)
}
