//! Memory: what the line holds at one time, and who waits while that is too much.
//!
//! Owns: one account of the chunks that wait, the batches on their way (raw, decoded, transformed) and the Parquet files of the open checkpoint, and
//! its limit. Intake stops at the limit: the batcher waits before it hands on a further batch, and everything before it stands still.
//! Does not own: giving memory back (whoever holds a [`Lease`] drops it; open files keep to `sink.buffer_bytes_max` by themselves), DuckDB's
//! memory, which has a limit of its own.
//!
//! A batch is admitted whatever it takes if no other is on its way, so the line never stands still for good. The last brake is the process itself:
//! while it has more resident than seven eighths of what its control group allows, batches go one by one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::limits;

/// Time after which the resident memory is looked at again: it falls without a lease that ends.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// The account. Clones are handles to the same one; without [`Memory::limit`] nothing is limited.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    limits: OnceLock<Limits>,
    /// Bytes of the batches on their way, by estimate until they are transformed.
    batches: AtomicUsize,
    on_their_way: AtomicUsize,
    /// Bytes of the chunks that wait to be batched.
    chunks: AtomicUsize,
    /// Bytes of the Parquet files of the open checkpoint.
    files: AtomicUsize,
    freed: Notify,
}

/// What the account is held to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes that the line may hold.
    pub bytes_max: usize,
    /// Bytes of a decoded row without the bytes of its texts.
    pub row_bytes: usize,
    /// Bytes that the process may have, if there is a limit.
    pub process: Option<u64>,
}

/// The memory of a batch on its way, given back when dropped.
#[derive(Debug)]
pub struct Lease {
    shared: Arc<Shared>,
    bytes: usize,
}

/// The memory of a chunk that waits, given back when dropped.
#[derive(Debug)]
pub struct Waiting {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Memory {
    /// Begins to limit. Only the first call counts.
    pub fn limit(&self, limits: Limits) {
        let _ = self.shared.limits.set(limits);
    }

    /// Returns the bytes that are held.
    pub fn held(&self) -> usize {
        self.shared.held()
    }

    /// Returns the bytes that may be held; `None` without a limit.
    pub fn bytes_max(&self) -> Option<usize> {
        self.shared.limits.get().map(|limits| limits.bytes_max)
    }

    /// Counts a chunk that was read and waits to be batched.
    pub fn wait(&self, bytes: usize) -> Waiting {
        self.shared.chunks.fetch_add(bytes, Ordering::Relaxed);
        Waiting { shared: self.shared.clone(), bytes }
    }

    /// Says how many bytes the Parquet files of the open checkpoint hold.
    pub fn set_files(&self, bytes: usize) {
        if self.shared.files.swap(bytes, Ordering::Relaxed) > bytes {
            self.shared.freed.notify_one();
        }
    }

    /// Waits until a batch of so many records and bytes has room. Safe to cancel; one waits at a time.
    pub async fn admit(&self, records: usize, bytes: usize) -> Lease {
        // Once as read and once in the columns; the rows decoded, returned by the SQL, and ordered by hive partition.
        let bytes = 2 * bytes + 3 * records * self.shared.limits.get().map_or(0, |limits| limits.row_bytes);
        while self.shared.on_their_way.load(Ordering::Acquire) > 0 && !self.shared.has_room(bytes) {
            let _ = timeout(LOOK_AGAIN, self.shared.freed.notified()).await;
        }
        self.shared.on_their_way.fetch_add(1, Ordering::Relaxed);
        self.shared.batches.fetch_add(bytes, Ordering::Relaxed);
        Lease { shared: self.shared.clone(), bytes }
    }
}

impl Shared {
    fn held(&self) -> usize {
        [&self.batches, &self.chunks, &self.files].map(|bytes| bytes.load(Ordering::Relaxed)).iter().sum()
    }

    fn has_room(&self, bytes: usize) -> bool {
        let Some(limits) = self.limits.get() else { return true };
        self.held() + bytes <= limits.bytes_max && limits.process.is_none_or(|process| resident() <= process / 8 * 7)
    }
}

impl Lease {
    /// Returns a lease for one of so many parts of the batch.
    pub fn part(&self, parts: usize) -> Self {
        let bytes = self.bytes / parts;
        self.shared.on_their_way.fetch_add(1, Ordering::Relaxed);
        self.shared.batches.fetch_add(bytes, Ordering::Relaxed);
        Self { shared: self.shared.clone(), bytes }
    }

    /// Takes how much it is now that the batch is transformed.
    pub fn set(&mut self, bytes: usize) {
        self.shared.batches.fetch_add(bytes, Ordering::Relaxed);
        self.shared.batches.fetch_sub(std::mem::replace(&mut self.bytes, bytes), Ordering::Relaxed);
        self.shared.freed.notify_one();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shared.batches.fetch_sub(self.bytes, Ordering::Relaxed);
        self.shared.on_their_way.fetch_sub(1, Ordering::Release);
        self.shared.freed.notify_one();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.chunks.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Returns the bytes that the process has in memory; 0 if that cannot be told.
fn resident() -> u64 {
    limits::process_bytes("self", "VmRSS").unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(bytes_max: usize, process: Option<u64>) -> Memory {
        let memory = Memory::default();
        memory.limit(Limits { bytes_max, row_bytes: 10, process });
        memory
    }

    async fn is_admitted(memory: &Memory, records: usize, bytes: usize) -> Option<Lease> {
        timeout(Duration::from_secs(1), memory.admit(records, bytes)).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_waits_for_those_before_it_and_for_the_open_files_and_the_first_never() {
        let memory = memory(1000, None);
        let mut first = is_admitted(&memory, 100, 1000).await.expect("alone it is admitted, however large it is");
        assert_eq!(memory.held(), 5000);
        assert!(is_admitted(&memory, 1, 1).await.is_none());
        first.set(300);
        let second = is_admitted(&memory, 10, 200).await.expect("there is room for both");
        assert_eq!(memory.held(), 1000);
        memory.set_files(200);
        drop(first);
        assert!(is_admitted(&memory, 0, 50).await.is_some());
        assert!(is_admitted(&memory, 0, 51).await.is_none());
        memory.set_files(100);
        assert!(is_admitted(&memory, 0, 51).await.is_some());
        drop(second);
        assert_eq!(memory.held(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_near_its_limit_takes_one_batch_after_the_other() {
        let memory = memory(usize::MAX, Some(1 << 20));
        assert!(resident() > 1 << 20);
        let first = is_admitted(&memory, 1, 1).await.unwrap();
        assert!(is_admitted(&memory, 1, 1).await.is_none());
        drop(first);
        assert!(is_admitted(&memory, 1, 1).await.is_some());
    }
}
