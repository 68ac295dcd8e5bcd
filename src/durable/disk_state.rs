//! Waiting for room on a full disk.
//!
//! Owns: how often an operation that found the disk full is tried again, who may see that it waits, and who may end the waiting.
//! Does not own: which operations may be tried again (see `durable::posix`), the deadline (the supervisor calls [`DiskState::give_up`]).

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

/// The first wait is short: a log rotation or a quota daemon often frees room at once.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longer waits would only delay the line after somebody made room.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Whether the disk is full, shared by those who write and those who supervise. Clones are handles to the same state.
#[derive(Debug, Clone, Default)]
pub struct DiskState {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: AtomicUsize,
    given_up: Mutex<bool>,
    changed: Condvar,
}

impl DiskState {
    /// Returns whether an operation waits for room at this moment.
    pub fn full(&self) -> bool {
        self.shared.waiting.load(Ordering::Relaxed) > 0
    }

    /// Ends all waiting, now and later: operations that find the disk full fail with [`io::ErrorKind::StorageFull`].
    pub fn give_up(&self) {
        *self.given_up() = true;
        self.shared.changed.notify_all();
    }

    /// Repeats `operation` in place as long as it fails for want of room.
    ///
    /// # Errors
    /// Any other error of `operation`, and its last one when waiting was given up.
    pub fn wait_for_room<T>(&self, doing: &str, mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match operation() {
            Err(error) if is_full(&error) && !*self.given_up() => self.repeat(doing, error, operation),
            // A full quota looks the same to the supervisor: time ran out for want of room.
            Err(error) if is_full(&error) => Err(io::Error::new(io::ErrorKind::StorageFull, error)),
            done => done,
        }
    }

    fn repeat<T>(&self, doing: &str, mut error: io::Error, mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let _waiting = Waiting::begin(&self.shared.waiting);
        warn!(doing, %error, "disk full: waiting for room");
        let mut wait = FIRST_WAIT;
        loop {
            if self.sleep(wait) {
                return Err(io::Error::new(io::ErrorKind::StorageFull, error));
            }
            wait = (wait * 2).min(LONGEST_WAIT);
            match operation() {
                Err(again) if is_full(&again) => error = again,
                done => {
                    info!(doing, "disk has room again");
                    return done;
                }
            }
        }
    }

    /// Sleeps, or less if waiting is given up. Returns whether it is.
    fn sleep(&self, wait: Duration) -> bool {
        let slept = self.shared.changed.wait_timeout_while(self.given_up(), wait, |given_up| !*given_up);
        *slept.unwrap_or_else(PoisonError::into_inner).0
    }

    fn given_up(&self) -> MutexGuard<'_, bool> {
        // A flag that is only ever set cannot be left half-changed by a panic.
        self.shared.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether an operation failed for want of room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Counts an operation as waiting for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> io::Error {
        io::ErrorKind::StorageFull.into()
    }

    #[test]
    fn an_operation_on_a_full_disk_is_repeated_until_there_is_room() {
        let disk = DiskState::default();
        let mut refusals = 2;
        let done = disk.wait_for_room("test", || {
            if refusals == 0 {
                return Ok(7);
            }
            assert_eq!(disk.full(), refusals == 1, "the first refusal is not yet a wait");
            refusals -= 1;
            Err(full())
        });
        assert_eq!(done.unwrap(), 7);
        assert!(!disk.full());
    }

    #[test]
    fn giving_up_wakes_the_one_who_waits_and_refuses_the_next_at_once() {
        let disk = DiskState::default();
        let waiter = std::thread::spawn({
            let disk = disk.clone();
            move || disk.wait_for_room("test", || Err::<(), _>(io::ErrorKind::QuotaExceeded.into()))
        });
        while !disk.full() {
            std::thread::yield_now();
        }
        disk.give_up();
        assert_eq!(waiter.join().unwrap().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.wait_for_room("test", || Err::<(), _>(full())).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(!disk.full());
    }

    #[test]
    fn another_error_is_not_repeated() {
        let mut calls = 0;
        let refused = DiskState::default().wait_for_room("test", || {
            calls += 1;
            Err::<(), _>(io::ErrorKind::PermissionDenied.into())
        });
        assert_eq!((refused.unwrap_err().kind(), calls), (io::ErrorKind::PermissionDenied, 1));
    }
}
