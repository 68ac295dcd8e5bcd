//! The reading thread: blocking reads on a plain thread, chunks handed over through a bounded channel.
//!
//! Owns: the thread's life (it ends when its receiver is dropped), what its panic becomes, and waiting that can be cut short.
//! Does not own: what is read.
//!
//! Tokio's own stdin and files are not used: their reads run on the blocking pool, cannot be cancelled, and hold up the end of the
//! runtime. A thread that hangs in `read` is left behind when the process leaves.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use pintail_core::batch::Chunk;
use pintail_core::clock::{Clock, Running};
use pintail_core::error::{Error, Result};
use pintail_core::panics;
use tokio::sync::mpsc;

/// Chunks that wait for the producer. Two keep the thread reading while one is handled; more only costs memory.
const CHUNKS_WAITING: usize = 2;

/// How long a sleeping thread takes to notice that nobody waits for it any more.
const SLICE: Duration = Duration::from_millis(20);

/// How long a chunk waits for room where the thread has something else to do meanwhile.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long a thread may take to hand over what it has read.
const HANDOVER: Duration = Duration::from_millis(100);

/// The receiving side: what a source holds.
#[derive(Debug)]
pub(super) struct ReadThread {
    name: &'static str,
    chunks: mpsc::Receiver<Result<Chunk>>,
    failed: bool,
    stopping: Arc<AtomicBool>,
    work: Arc<Clock>,
}

/// The thread's side.
#[derive(Debug)]
pub(super) struct ChunkSender {
    chunks: mpsc::Sender<Result<Chunk>>,
    stopping: Arc<AtomicBool>,
    work: Arc<Clock>,
    /// Time of the body, but for handing over and sleeping.
    working: RefCell<Option<Running>>,
    impatient: Cell<bool>,
    /// A chunk that had no room.
    kept: RefCell<Option<Chunk>>,
}

/// Why the body of a reading thread ends early. Both come through `?`.
#[derive(Debug)]
pub(super) enum Exit {
    /// Nobody takes its chunks any more: not a fault.
    Unwanted,
    /// The line has had no room for a chunk for a while; only where that was asked for. The chunk is kept: [`ChunkSender::hand_over_kept`].
    NoRoom,
    /// It cannot go on.
    Failed(Error),
}

impl From<Error> for Exit {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl ReadThread {
    /// Starts the thread. `body` returns at the end of the input.
    pub(super) fn spawn(name: &'static str, body: impl FnOnce(&ChunkSender) -> Result<(), Exit> + Send + 'static) -> Result<Self> {
        let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
        let stopping = Arc::new(AtomicBool::new(false));
        let work = Arc::<Clock>::default();
        let working = RefCell::new(Some(work.begin()));
        let sender = ChunkSender {
            chunks: sender,
            stopping: stopping.clone(),
            work: work.clone(),
            working,
            impatient: Cell::new(false),
            kept: RefCell::new(None),
        };
        let thread = thread::Builder::new().name(format!("source-{name}"));
        thread
            .spawn(move || run(name, &sender, body))
            .map_err(|e| Error::io(format_args!("start the thread of the source `{name}`"), e))?;
        Ok(Self { name, chunks, failed: false, stopping, work })
    }

    /// Returns how long the thread has been reading: not waiting for room, not sleeping. A read that blocks counts.
    pub(super) fn work(&self) -> Arc<Clock> {
        self.work.clone()
    }

    /// Waits for the next chunk; `None` at the end of the input. Safe to cancel.
    ///
    /// # Errors
    /// The body's own; of kind `Internal` if it panicked, and on every call after a failure: an end is never made up.
    pub(super) async fn recv(&mut self) -> Result<Option<Chunk>> {
        if self.failed {
            return Err(Error::internal(format!("the source `{}` was read again after it failed", self.name)));
        }
        let received = self.chunks.recv().await.transpose();
        self.failed = received.is_err();
        received
    }

    /// Returns the chunks that the thread has read, and those that it is about to hand over. It reads on only if it is blocked in a read.
    pub(super) async fn drain(&mut self) -> Result<Vec<Chunk>> {
        self.stopping.store(true, Ordering::SeqCst);
        let mut held = Vec::new();
        // A thread that has a chunk in its hand delivers it at once; one that is blocked in a read has none.
        while let Ok(received) = tokio::time::timeout(HANDOVER, self.recv()).await {
            match received? {
                Some(chunk) => held.push(chunk),
                None => break,
            }
        }
        Ok(held)
    }
}

impl ChunkSender {
    /// Returns an exit once the source is asked to stop, or nobody waits any more.
    pub(super) fn check_stop(&self) -> Result<(), Exit> {
        if self.stopping.load(Ordering::SeqCst) || self.chunks.is_closed() { Err(Exit::Unwanted) } else { Ok(()) }
    }

    /// Hands a chunk over, waiting for room.
    pub(super) fn send(&self, chunk: Chunk) -> Result<(), Exit> {
        if !self.impatient.get() {
            return self.at_rest(|| self.chunks.blocking_send(Ok(chunk)).map_err(|_| Exit::Unwanted));
        }
        self.kept.replace(Some(chunk));
        if self.hand_over_kept()? { Ok(()) } else { Err(Exit::NoRoom) }
    }

    /// Lets [`Self::send`] give up after a while: a thread that has something else to do when the line stands still.
    pub(super) fn impatiently<T>(&self, act: impl FnOnce() -> T) -> T {
        self.impatient.set(true);
        let done = act();
        self.impatient.set(false);
        done
    }

    /// Hands over the chunk that had no room; returns whether it has some now, which is waited for a moment.
    pub(super) fn hand_over_kept(&self) -> Result<bool, Exit> {
        match self.at_rest(|| poll_for(PATIENCE, self.chunks.reserve())) {
            None => Ok(false),
            Some(Err(_)) => Err(Exit::Unwanted),
            Some(Ok(permit)) => {
                if let Some(chunk) = self.kept.take() {
                    permit.send(Ok(chunk));
                }
                Ok(true)
            }
        }
    }

    /// Sleeps, unless nobody waits any more.
    pub(super) fn sleep(&self, duration: Duration) -> Result<(), Exit> {
        self.at_rest(|| self.sleep_slices(duration))
    }

    /// Waits for something, which is no work.
    pub(super) fn at_rest<T>(&self, rest: impl FnOnce() -> T) -> T {
        self.working.replace(None);
        let rested = rest();
        self.working.replace(Some(self.work.begin()));
        rested
    }

    fn sleep_slices(&self, duration: Duration) -> Result<(), Exit> {
        let start = Instant::now();
        loop {
            if self.chunks.is_closed() {
                return Err(Exit::Unwanted);
            }
            let left = duration.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(SLICE));
        }
    }
}

/// Waits for a future on this thread, for so long.
fn poll_for<T>(patience: Duration, future: impl Future<Output = T>) -> Option<T> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let (waker, end) = (Waker::from(Arc::new(Unpark(thread::current()))), Instant::now() + patience);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(done);
        }
        let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        thread::park_timeout(left);
    }
}

fn run(name: &str, sender: &ChunkSender, body: impl FnOnce(&ChunkSender) -> Result<(), Exit>) {
    // The state of a body that panicked is dropped with it: nothing can be seen half changed.
    let error = match catch_unwind(AssertUnwindSafe(|| body(sender))) {
        Ok(Ok(()) | Err(Exit::Unwanted)) => return,
        Ok(Err(Exit::Failed(error))) => error,
        Ok(Err(Exit::NoRoom)) => Error::internal(format!("the source `{name}` gave up a chunk that had no room")),
        Err(panic) => Error::internal(format!("the source `{name}` panicked: {}", panics::words(&*panic).unwrap_or("no message"))),
    };
    // If nobody is there to hear it, the line has already ended for a reason of its own.
    let _ = sender.chunks.blocking_send(Err(error));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;
    use pintail_core::batch::{OffsetUnit, Records};
    use pintail_core::error::ErrorKind;
    use pintail_core::offsets::{OffsetRange, Partition, PartitionId};

    use super::*;

    fn chunk(from: u64) -> Chunk {
        let partition = Arc::new(Partition { id: PartitionId::new("p"), label: "p".into() });
        let range = OffsetRange::new(partition, from, from + 1);
        Chunk::new(Records::Lines(Bytes::from_static(b"\n")), range, OffsetUnit::Bytes)
    }

    #[tokio::test]
    async fn chunks_arrive_in_order_and_the_body_s_return_is_the_end() {
        let mut thread = ReadThread::spawn("test", |sender| (0..10).try_for_each(|n| sender.send(chunk(n)))).unwrap();
        for n in 0..10 {
            assert_eq!(thread.recv().await.unwrap().unwrap().range.from, n);
        }
        assert!(thread.recv().await.unwrap().is_none());
        assert!(thread.recv().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_and_never_an_end() {
        let mut thread = ReadThread::spawn("test", |_| panic!("planted {}", 7)).unwrap();
        let error = thread.recv().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(error.to_string(), "the source `test` panicked: planted 7");
        assert_eq!(thread.recv().await.unwrap_err().kind(), ErrorKind::Internal);
    }

    #[tokio::test]
    async fn a_dropped_receiver_ends_a_thread_that_sends_and_one_that_sleeps() {
        let ended = Arc::new(AtomicU64::new(0));
        let count = |body: fn(&ChunkSender) -> Result<(), Exit>| {
            let ended = ended.clone();
            ReadThread::spawn("test", move |sender| {
                let exit = body(sender);
                assert!(matches!(exit, Err(Exit::Unwanted)), "{exit:?}");
                ended.fetch_add(1, Ordering::SeqCst);
                exit
            })
            .unwrap()
        };
        let sending = count(|sender| (0..).try_for_each(|n| sender.send(chunk(n))));
        let sleeping = count(|sender| sender.sleep(Duration::from_secs(3600)));
        drop((sending, sleeping));
        let start = Instant::now();
        while ended.load(Ordering::SeqCst) < 2 {
            assert!(start.elapsed() < Duration::from_secs(10), "a thread outlived its receiver");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[tokio::test]
    async fn a_thread_that_nobody_reads_stops_when_the_channel_is_full() {
        let sent = Arc::new(AtomicU64::new(0));
        let counter = sent.clone();
        let _thread = ReadThread::spawn("test", move |sender| {
            (0..).try_for_each(|n| {
                sender.send(chunk(n))?;
                counter.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
        });
        thread::sleep(Duration::from_millis(50));
        assert_eq!(sent.load(Ordering::SeqCst), CHUNKS_WAITING as u64);
    }
}
