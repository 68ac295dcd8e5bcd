//! Waiting for room on a full disk, for a free descriptor, and for a bucket.
//!
//! Owns: how often an operation that found no room or descriptor is tried again, who may see that anything waits, and who may end the waiting.
//! Does not own: which operations may be tried again (see `durable::posix`, and `bucket::requests`), the deadline (the supervisor calls
//! [`DiskState::give_up`]).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::io::Errno;
use tokio::sync::watch;
use tracing::{info, warn};

/// The first wait is short: a log rotation or a quota daemon often frees room at once.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longer waits would only delay the line after somebody made room.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What an operation can wait for: somebody else takes it, and may give it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Room on the disk.
    Room,
    /// A descriptor, of the process or of the machine.
    Descriptor,
}

impl Want {
    const ALL: [Self; 2] = [Self::Room, Self::Descriptor];

    /// Tells what an operation failed for want of.
    pub fn of(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(Self::Room),
            _ => matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE)).then_some(Self::Descriptor),
        }
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Room => "the disk is full: writing waits for room",
            Self::Descriptor => "too many files are open: waiting for a free descriptor",
        })
    }
}

/// Whether the disk is full, shared by those who write and those who supervise. Clones are handles to the same state.
#[derive(Debug, Clone, Default)]
pub struct DiskState {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    for_room: AtomicUsize,
    for_descriptors: AtomicUsize,
    /// Why others wait, in words, by how many do.
    others: Mutex<BTreeMap<String, usize>>,
    given_up: Mutex<bool>,
    changed: Condvar,
    /// The same as `given_up`, for those who wait without a thread.
    ended: watch::Sender<bool>,
}

impl DiskState {
    /// Returns whether an operation waits for room at this moment.
    pub fn full(&self) -> bool {
        self.waits_for(Want::Room)
    }

    /// Returns what operations wait for at this moment.
    pub fn wants(&self) -> impl Iterator<Item = Want> {
        Want::ALL.into_iter().filter(move |want| self.waits_for(*want))
    }

    /// Returns why anything waits at this moment, in words.
    pub fn reasons(&self) -> Vec<String> {
        let others = self.shared.others.lock().keys().cloned().collect::<Vec<_>>();
        self.wants().map(|want| want.to_string()).chain(others).collect()
    }

    /// Returns whether anything waits at this moment.
    pub fn is_waiting(&self) -> bool {
        self.wants().next().is_some() || !self.shared.others.lock().is_empty()
    }

    /// Says why something waits, for as long as what is returned lives.
    pub fn waiting(&self, why: String) -> OtherWait {
        *self.shared.others.lock().entry(why.clone()).or_default() += 1;
        OtherWait { shared: self.shared.clone(), why }
    }

    /// Lets a time pass. Returns whether it has: waiting was given up otherwise.
    pub async fn pause(&self, time: Duration) -> bool {
        let mut ended = self.shared.ended.subscribe();
        tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => false,
            () = tokio::time::sleep(time) => true,
        }
    }

    fn waits_for(&self, want: Want) -> bool {
        self.shared.waiting(want).load(Ordering::Relaxed) > 0
    }

    /// Ends all waiting, now and later: operations that find no room or no descriptor fail with [`io::ErrorKind::StorageFull`].
    pub fn give_up(&self) {
        *self.given_up() = true;
        self.shared.changed.notify_all();
        self.shared.ended.send_replace(true);
    }

    /// Repeats `operation` in place as long as it fails for want of room or of a descriptor.
    ///
    /// # Errors
    /// Any other error of `operation`, and its last one when waiting was given up.
    pub fn wait_for_room<T>(&self, doing: &str, mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let error = match operation() {
            Err(error) => error,
            done => return done,
        };
        match Want::of(&error) {
            None => Err(error),
            Some(want) if !*self.given_up() => self.repeat(doing, (want, error), operation),
            // A full quota looks the same to the supervisor, and so does a table without a free place: time ran out.
            Some(_) => Err(io::Error::new(io::ErrorKind::StorageFull, error)),
        }
    }

    fn repeat<T>(
        &self,
        doing: &str,
        (mut want, mut error): (Want, io::Error),
        mut operation: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut waiting = Waiting::begin(self.shared.waiting(want));
        warn!(doing, %error, "{want}");
        let mut wait = FIRST_WAIT;
        loop {
            if self.sleep(wait) {
                return Err(io::Error::new(io::ErrorKind::StorageFull, error));
            }
            wait = (wait * 2).min(LONGEST_WAIT);
            let done = operation();
            match done.as_ref().err().and_then(Want::of) {
                Some(other) if other != want => {
                    drop(waiting);
                    want = other;
                    waiting = Waiting::begin(self.shared.waiting(want));
                    warn!(doing, "{want}");
                }
                Some(_) => {}
                None => {
                    if done.is_ok() {
                        info!(doing, "writing goes on");
                    }
                    return done;
                }
            }
            if let Err(again) = done {
                error = again;
            }
        }
    }

    /// Sleeps, or less if waiting is given up. Returns whether it is.
    fn sleep(&self, wait: Duration) -> bool {
        let mut given_up = self.given_up();
        self.shared.changed.wait_while_for(&mut given_up, |given_up| !*given_up, wait);
        *given_up
    }

    fn given_up(&self) -> MutexGuard<'_, bool> {
        self.shared.given_up.lock()
    }
}

impl Shared {
    fn waiting(&self, want: Want) -> &AtomicUsize {
        match want {
            Want::Room => &self.for_room,
            Want::Descriptor => &self.for_descriptors,
        }
    }
}

/// Returns whether an operation failed for want of room.
pub fn is_full(error: &io::Error) -> bool {
    Want::of(error) == Some(Want::Room)
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

/// Says why something waits for as long as it lives.
#[derive(Debug)]
pub struct OtherWait {
    shared: Arc<Shared>,
    why: String,
}

impl Drop for OtherWait {
    fn drop(&mut self) {
        let mut others = self.shared.others.lock();
        match others.get_mut(&self.why) {
            Some(waiting) if *waiting > 1 => *waiting -= 1,
            _ => drop(others.remove(&self.why)),
        }
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
    fn an_operation_that_finds_no_descriptor_waits_as_one_without_room_does_and_says_for_what() {
        let disk = DiskState::default();
        let mut refusals = vec![full(), Errno::NFILE.into(), Errno::MFILE.into()];
        let done = disk.wait_for_room("test", || {
            let wants: Vec<Want> = disk.wants().collect();
            match refusals.pop() {
                Some(refusal) => Err(refusal),
                None => Ok(wants),
            }
        });
        assert_eq!(done.unwrap(), [Want::Room], "the last that it waited for");
        assert_eq!(disk.wants().count(), 0);
        disk.give_up();
        let refused = disk.wait_for_room("test", || Err::<(), _>(Errno::MFILE.into()));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::StorageFull, "not a failure of the disk: to be tried again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_seen_with_its_reason_and_ends_at_once_when_waiting_is_given_up() {
        let disk = DiskState::default();
        let pause = async || {
            let _waiting = disk.waiting("the bucket is away".into());
            disk.pause(Duration::from_secs(60)).await
        };
        assert!(pause().await, "its time passes");
        let giving_up = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!((disk.reasons(), disk.is_waiting(), disk.full()), (vec!["the bucket is away".to_owned()], true, false));
            disk.give_up();
        };
        let (first, second, ()) = tokio::join!(pause(), pause(), giving_up);
        assert!(!first && !second && !disk.is_waiting());
        assert!(!pause().await, "nor does anything wait later");
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
