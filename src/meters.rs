//! Meters: what the stages say of themselves while they run.
//!
//! Owns: the clocks and counts that stages write and the admin server reads. A stage writes its own and reads none; nothing here can
//! hold it up: every lock is held for moments, never over an await.
//! Does not own: what follows from the figures (see `admin`), the counting of what is committed (the writer; kept in [`ledger`]).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};
#[cfg(feature = "bucket")]
use pintail_bucket::Bucket;
#[cfg(all(feature = "bucket", feature = "admin"))]
use pintail_bucket::Traffic;
use pintail_core::batch::OffsetUnit;
use pintail_core::clock::{Clock, Running};
use pintail_core::memory::Memory;
use pintail_core::offsets::OffsetRange;
use pintail_core::totals::Totals;
use pintail_duckdb::MemoryMeter;
use pintail_sources::meters::SourceMeters;
use pintail_sources::waiting::Waiting;
use pintail_storage::checkpoint::held::Held;
use pintail_storage::durable::disk_state::DiskState;
use prometheus::{Histogram, HistogramOpts, exponential_buckets};
use tokio::sync::{mpsc, watch};
pub(crate) mod ledger;

use ledger::Ledger;

/// All meters of a process.
pub struct Meters {
    /// When the process began.
    pub started_at: DateTime<Utc>,
    /// Reads the source.
    pub producer: StageMeter,
    /// Cuts batches.
    pub batcher: StageMeter,
    /// Decodes and runs the SQL.
    pub transformer: StageMeter,
    /// Writes and commits.
    pub writer: StageMeter,
    /// Producer → batcher.
    pub chunks: ChannelMeter,
    /// Batcher → transformer.
    pub batches: ChannelMeter,
    /// Transformer → writer.
    pub frames: ChannelMeter,
    /// From the barrier to the end of the commit.
    pub checkpoint_seconds: Histogram,
    /// Whether the disk is full.
    pub disk: DiskState,
    /// Counts the log lines that were lost.
    log_dropped: Box<dyn Fn() -> u64 + Send + Sync>,
    /// What the line holds in memory.
    pub memory: Memory,
    /// What the producer has read, in the unit of the source's offsets.
    read: AtomicU64,
    /// What of that the writer has taken.
    taken: AtomicU64,
    /// Whether the source has ended.
    ended: AtomicBool,
    linked: OnceLock<Linked>,
    /// The bucket of the dataset, which counts its requests.
    #[cfg(feature = "bucket")]
    bucket: OnceLock<Arc<Bucket>>,
    ledger: Mutex<Ledger>,
    groups: Mutex<Groups>,
    verified: Mutex<Verified>,
    held: Mutex<Option<Held>>,
}

/// What the look at the dataset found that is taken at the start (see [`crate::commands::verify::background`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Verified {
    /// It is not at its end.
    #[default]
    Pending,
    /// Every committed file is there.
    Sound {
        /// When it ended.
        at: DateTime<Utc>,
        /// Files.
        files: u64,
    },
    /// Something contradicts the records.
    Contradicted {
        /// When it ended.
        at: DateTime<Utc>,
        /// How much.
        contradictions: u64,
        /// The first, in words.
        first: String,
    },
    /// It could not be taken.
    Failed(String),
}

/// What is known once the dataset and the source are open.
pub struct Linked {
    /// Identifies the dataset.
    pub dataset_id: String,
    /// The partition columns.
    pub partition_by: Vec<String>,
    /// The last checkpoint before this process; 0 = none.
    pub last_sequence: u64,
    /// What the source holds beyond what was read.
    pub remaining: watch::Receiver<Option<u64>>,
    /// What that figure counts.
    pub unit: OffsetUnit,
    /// What the source lets others see of itself.
    pub source: SourceMeters,
    /// What DuckDB holds.
    pub memory: Mutex<MemoryMeter>,
}

/// Rows by group, as the terminal shows them.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    /// Of what is not committed yet.
    pub open: Totals,
    /// Of what this process has committed.
    pub committed: Totals,
}

impl Meters {
    /// Makes the meters, all at zero.
    pub fn new(disk: DiskState) -> Self {
        Self {
            started_at: Utc::now(),
            producer: StageMeter::new("producer"),
            batcher: StageMeter::new("batcher"),
            transformer: StageMeter::new("transformer"),
            writer: StageMeter::new("writer"),
            chunks: ChannelMeter::new("producer", "batcher"),
            batches: ChannelMeter::new("batcher", "transformer"),
            frames: ChannelMeter::new("transformer", "writer"),
            checkpoint_seconds: histogram("pintail_checkpoint_duration_seconds", "Time from the barrier to the end of the commit.", None),
            disk,
            log_dropped: Box::new(|| 0),
            memory: Memory::default(),
            read: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            linked: OnceLock::new(),
            #[cfg(feature = "bucket")]
            bucket: OnceLock::new(),
            ledger: Mutex::default(),
            groups: Mutex::default(),
            verified: Mutex::default(),
            held: Mutex::default(),
        }
    }

    /// Takes the count of lost log lines.
    pub fn with_log(self, dropped: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { log_dropped: Box::new(dropped), ..self }
    }

    /// Counts the log lines that were lost because nobody took them.
    pub fn log_dropped(&self) -> u64 {
        (self.log_dropped)()
    }

    /// Returns the stages in the order of the line.
    pub fn stages(&self) -> [&StageMeter; 4] {
        [&self.producer, &self.batcher, &self.transformer, &self.writer]
    }

    /// Returns the channels in the order of the line: each leads from the stage of its place to the next.
    pub fn channels(&self) -> [&ChannelMeter; 3] {
        [&self.chunks, &self.batches, &self.frames]
    }

    /// Says that dataset and source are open: the line begins. Only the first call counts.
    pub fn link(&self, linked: Linked) {
        // A process has one line; in a test with several the first one's figures stay.
        let _ = self.linked.set(linked);
    }

    /// Takes the bucket of the dataset, whose requests are counted from now on. Only the first call counts.
    #[cfg(feature = "bucket")]
    pub fn watch_bucket(&self, bucket: Arc<Bucket>) {
        let _ = self.bucket.set(bucket);
    }

    /// Returns the counts of all requests to the bucket of the dataset; `None` of a dataset in a directory.
    #[cfg(all(feature = "bucket", feature = "admin"))]
    pub fn traffic(&self) -> Option<Traffic> {
        Some(self.bucket.get()?.traffic())
    }

    /// Returns what is known since then; `None` while recovering.
    pub fn linked(&self) -> Option<&Linked> {
        self.linked.get()
    }

    /// Returns the sequence number of the last record that was written; 0 while recovering.
    pub fn last_sequence(&self) -> u64 {
        let at_start = self.linked().map_or(0, |linked| linked.last_sequence);
        self.ledger().checkpoints.front().map_or(at_start, |newest| newest.sequence.max(at_start))
    }

    /// Returns why the source gives nothing at this moment; `None` while it does, or before it is open.
    pub fn trouble(&self) -> Option<String> {
        self.linked()?.source.trouble.as_ref()?.borrow().clone()
    }

    /// Returns which inputs of the source cannot be read at this moment; `None` of a source without several.
    pub fn waiting(&self) -> Option<Waiting> {
        Some(self.linked()?.source.waiting.as_ref()?.get())
    }

    /// Counts a range of offsets that the producer has read.
    pub fn count_read(&self, range: &OffsetRange) {
        self.read.fetch_add(range.to - range.from, Ordering::Relaxed);
    }

    /// Counts ranges of offsets that the writer has taken.
    pub fn count_taken(&self, ranges: &[OffsetRange]) {
        self.taken.fetch_add(ranges.iter().map(|range| range.to - range.from).sum(), Ordering::Relaxed);
    }

    /// Returns what the source holds beyond what was read, in the unit of its offsets; `None` if it cannot know. While the line is paused, what was
    /// read and waits for a person is no further than what was not read, and counts too.
    pub fn lag(&self) -> Option<u64> {
        let remaining = (*self.linked()?.remaining.borrow())?;
        if self.held().is_none() {
            return Some(remaining);
        }
        let taken = self.taken.load(Ordering::Relaxed);
        Some(remaining + self.read.load(Ordering::Relaxed).saturating_sub(taken))
    }

    /// Says that the source gives nothing more.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Returns whether the source has ended.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Opens the ledger. Not to be held longer than figures take to be read.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock()
    }

    /// Returns what the look at the dataset found.
    pub fn verified(&self) -> Verified {
        self.verified.lock().clone()
    }

    /// Says what it found.
    pub fn set_verified(&self, verified: Verified) {
        *self.verified.lock() = verified;
    }

    /// Returns what the line holds back; `None` while it runs.
    pub fn held(&self) -> Option<Held> {
        self.held.lock().clone()
    }

    /// Says what it holds back.
    pub fn hold(&self, held: Option<Held>) {
        *self.held.lock() = held;
    }

    /// Opens the groups. Not to be held longer than figures take to be read.
    pub fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock()
    }
}

/// What one stage says of itself.
pub struct StageMeter {
    /// Its name.
    pub name: &'static str,
    /// Time at work: not waiting for input, not standing before a full channel.
    pub work: Arc<Clock>,
    /// Records that came through.
    records: AtomicU64,
    /// Duration of one piece of work.
    pub seconds: Histogram,
    /// How many work side by side.
    workers: OnceLock<usize>,
}

impl StageMeter {
    fn new(name: &'static str) -> Self {
        let help = "Time of one piece of work: of the producer, an acknowledgement; of the batcher, a chunk; of the transformer, a batch; of \
                    the writer, a frame or a commit.";
        Self {
            name,
            work: Arc::default(),
            records: AtomicU64::new(0),
            seconds: histogram("pintail_stage_duration_seconds", help, Some(("stage", name))),
            workers: OnceLock::new(),
        }
    }

    /// Begins a piece of work.
    pub fn begin(&self) -> Work {
        Work { running: Some(self.work.begin()), seconds: self.seconds.clone() }
    }

    /// Counts records that came through.
    pub fn count(&self, records: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    /// Returns the records that came through.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Says how many work side by side.
    pub fn set_workers(&self, workers: usize) {
        let _ = self.workers.set(workers);
    }

    /// Returns how many work side by side.
    pub fn workers(&self) -> usize {
        *self.workers.get().unwrap_or(&1)
    }
}

/// A stage's piece of work that is not over.
pub struct Work {
    running: Option<Running>,
    seconds: Histogram,
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.seconds.observe(running.end().as_secs_f64());
        }
    }
}

/// What is known of a channel.
pub struct ChannelMeter {
    /// The stage that sends.
    pub from: &'static str,
    /// The stage that receives.
    pub to: &'static str,
    /// Time that the sender stood before the full channel.
    pub blocked: Arc<Clock>,
    /// When something was sent last.
    sent: Arc<Mutex<Instant>>,
    fill: OnceLock<Fill>,
}

struct Fill {
    capacity: usize,
    /// `None` once the sender is gone.
    length: Box<dyn Fn() -> Option<usize> + Send + Sync>,
}

impl ChannelMeter {
    fn new(from: &'static str, to: &'static str) -> Self {
        Self { from, to, blocked: Arc::default(), sent: Arc::new(Mutex::new(Instant::now())), fill: OnceLock::new() }
    }

    /// Begins to look at a channel. Looking does not keep it open.
    pub fn watch<T: Send + 'static>(&self, sender: &mpsc::Sender<T>) {
        let (capacity, weak) = (sender.max_capacity(), sender.downgrade());
        // A channel whose sender is gone is being emptied; what is left in it cannot be seen from here.
        let length = Box::new(move || weak.upgrade().map(|sender| sender.max_capacity() - sender.capacity()));
        let _ = self.fill.set(Fill { capacity, length });
    }

    /// Returns where a sender notes the moment at which it sent.
    pub fn sent(&self) -> Arc<Mutex<Instant>> {
        self.sent.clone()
    }

    /// Returns the time since something was sent.
    pub fn still(&self) -> Duration {
        self.sent.lock().elapsed()
    }

    /// Returns how many messages wait in it.
    pub fn length(&self) -> usize {
        self.fill().map_or(0, |(length, _)| length)
    }

    /// Returns how many messages wait in it, and how many have room; `None` before the line begins, and once the sender is gone.
    pub fn fill(&self) -> Option<(usize, usize)> {
        self.fill.get().and_then(|fill| Some(((fill.length)()?, fill.capacity)))
    }

    /// Returns how many have room; `None` before the line begins.
    pub fn capacity(&self) -> Option<usize> {
        self.fill.get().map(|fill| fill.capacity)
    }
}

/// When the first record of a checkpoint was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    /// The barrier that will end the checkpoint.
    pub epoch: u64,
    /// The moment.
    pub at: Instant,
}

/// From a tenth of a millisecond to a minute and a half, each bucket three times the one before.
fn histogram(name: &str, help: &str, label: Option<(&str, &str)>) -> Histogram {
    let buckets = exponential_buckets(1e-4, 3.0, 14).expect("14 growing buckets above zero");
    let options = HistogramOpts::new(name, help).buckets(buckets);
    let options = label.into_iter().fold(options, |options, (name, value)| options.const_label(name, value));
    Histogram::with_opts(options).expect("names and labels are ours")
}
