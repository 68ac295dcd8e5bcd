//! A slow disk is felt at the source: what is in memory stays within the channels' limits.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pintail::internals::Meters;
use pintail::internals::{Line, Outside, Plan, Start, deadline};
use pintail_config::Config;
use pintail_core::batch::{Chunk, OffsetUnit, Records};
use pintail_core::error::Result;
use pintail_core::offsets::{OffsetRange, Partition, PartitionId};
use pintail_sources::Source;
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::durable::disk_state::DiskState;
use pintail_storage::durable::fs::{Entry, EntryKind, FileIdentity, Fs, FsFile, ReadFs};
use pintail_storage::durable::posix::Posix;
use tokio::sync::watch;

const CHUNK_RECORDS: u64 = 100;
const RECORDS: u64 = 1_000_000;

/// A source that is always ready and counts what is taken from it.
struct Eager {
    next: u64,
    taken: Arc<AtomicU64>,
    partition: Arc<Partition>,
}

#[async_trait]
impl Source for Eager {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        if self.next == RECORDS {
            return Ok(None);
        }
        let line = "{\"timestamp\":1767225600000,\"user_id\":1,\"region\":\"us\",\"amount\":1.5,\"sku\":\"SKU-00001\"}\n";
        let range = OffsetRange::new(self.partition.clone(), self.next, self.next + CHUNK_RECORDS);
        self.next = range.to;
        self.taken.store(self.next, Ordering::SeqCst);
        let records = Records::Lines(Bytes::from(line.repeat(CHUNK_RECORDS as usize)));
        Ok(Some(Chunk::new(records, range, OffsetUnit::Records)))
    }
}

/// A disk that makes no file while it is not released.
#[derive(Debug)]
pub(crate) struct Stuck {
    disk: Posix,
    released: Mutex<bool>,
    change: Condvar,
}

impl Stuck {
    /// Makes a released one.
    pub(crate) fn new(disk: DiskState) -> Arc<Self> {
        Arc::new(Self { disk: Posix::new(disk), released: Mutex::new(true), change: Condvar::new() })
    }

    /// Lets files be made, or not.
    pub(crate) fn set_released(&self, released: bool) {
        *self.released.lock().unwrap() = released;
        self.change.notify_all();
    }
}

impl ReadFs for Stuck {
    fn open(&self, path: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        self.disk.open(path)
    }

    fn entry(&self, path: &Path) -> io::Result<Option<EntryKind>> {
        self.disk.entry(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }
}

impl Fs for Stuck {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        if path.extension().is_some_and(|ending| ending == "inprogress") {
            let held = self.released.lock().unwrap();
            drop(self.change.wait_while(held, |released| !*released).unwrap());
        }
        self.disk.create_new(path)
    }

    fn identity(&self, path: &Path) -> io::Result<Option<FileIdentity>> {
        self.disk.identity(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename_noreplace(from, to)
    }

    fn create_dir_like(&self, path: &Path, like: &Path) -> io::Result<()> {
        self.disk.create_dir_like(path, like)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.link(from, to)
    }

    fn exchange(&self, one: &Path, other: &Path) -> io::Result<()> {
        self.disk.exchange(one, other)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        self.disk.device(path)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_disk_stops_the_reading_of_the_source_and_loses_nothing() {
    let out = tempfile::tempdir().unwrap();
    let sets = [
        format!("pipeline.out_path={:?}", out.path().to_str().unwrap()),
        "pipeline.batch_rows=1000".into(),
        "transform.threads=2".into(),
        // What a file collects before it is made on the disk is less than a batch.
        "sink.row_group_bytes=\"64KiB\"".into(),
        "source.type=\"stdin\"".into(),
    ];
    let config = Config::load(None, std::iter::empty(), &sets).unwrap();
    let (_stop_sender, stop) = watch::channel(false);
    let (_reload_sender, reload) = watch::channel(0);
    let meters = Arc::new(Meters::new(DiskState::default()));
    let stuck = Stuck::new(meters.disk.clone());
    let taken = Arc::new(AtomicU64::new(0));
    let partition = Arc::new(Partition { id: PartitionId::new("stdin"), label: "stdin".into() });
    let source = Box::new(Eager { next: 0, taken: taken.clone(), partition });
    let plan = Plan::new(&config).unwrap();
    let store = plan.open_store(&config, Start::Usual, stuck.clone(), &meters, None).unwrap();
    stuck.set_released(false);
    let outside = Outside { stop: stop.clone(), reload, screen: None, meters, admin: None, fs: stuck.clone(), is_own_program: false };
    let line = Line::link(&config, plan, store, source, outside).unwrap();
    let running = tokio::spawn(line.run(deadline(stop, Duration::from_secs(8))));

    // It stands still once every channel is full.
    let mut before = u64::MAX;
    let mut now = 0;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        now = taken.load(Ordering::SeqCst);
        if now == before {
            break;
        }
        before = now;
    }
    assert_eq!(now, before, "the source is still being read");
    let pipeline = &config.pipeline;
    // Each channel full, one message in each stage's hand, the workers busy.
    let chunks = (pipeline.chunk_channel + 2) as u64 * CHUNK_RECORDS;
    let batches = (pipeline.batch_channel + pipeline.frame_channel + config.transform.threads + 4) as u64 * pipeline.batch_rows as u64;
    assert!(now <= chunks + batches, "{now} records were taken, more than {chunks} + {batches}");
    assert!(now < RECORDS);

    stuck.set_released(true);
    running.await.unwrap().unwrap();
    let dataset = Dataset::open(out.path()).unwrap();
    let rows = dataset.records().unwrap().map(|record| record.unwrap().counts.rows_out).sum::<u64>();
    assert_eq!(rows, RECORDS);
}
