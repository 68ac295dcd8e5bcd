//! Deadline: interrupts a query that runs too long, or that nobody waits for any more.
//!
//! Owns: one thread per connection that sleeps until the query's time is up, and asks meanwhile whether it is still wanted.
//! Does not own: what the interrupted query becomes (see `worker`).
//!
//! DuckDB's own `max_execution_time` looks at the clock at every 256th check only, which a slow expression may take minutes to reach.

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use pintail_core::error::{Error, Result};

/// DuckDB forgets an interrupt that comes before a query has begun, so it is repeated until the query is over.
const REPEAT: Duration = Duration::from_millis(10);
/// Time between two questions whether a query is still wanted.
const ASKED_EVERY: Duration = Duration::from_millis(100);

/// Says whether queries are not wanted any more.
pub(crate) type IsUnwanted = Arc<dyn Fn() -> bool + Send + Sync>;

/// Watches the queries of one connection.
pub(crate) struct Deadline {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    is_unwanted: Mutex<Option<IsUnwanted>>,
}

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Armed(Instant),
    Passed,
    Closed,
}

impl Deadline {
    /// Starts the thread. `interrupt` interrupts whatever runs on the connection.
    pub(crate) fn new(interrupt: impl Fn() + Send + 'static) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        let watched = shared.clone();
        let watch = thread::Builder::new().name("pintail-deadline".to_owned()).spawn(move || watched.watch(&interrupt));
        let thread = watch.map_err(|e| Error::io("start the thread that interrupts long queries", e))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Lets the time of further queries be up as soon as they are not wanted.
    pub(crate) fn heed(&self, is_unwanted: Option<IsUnwanted>) {
        *self.shared.is_unwanted.lock() = is_unwanted;
    }

    /// Gives the connection's next query `time`, until the guard is dropped.
    pub(crate) fn arm(&self, time: Duration) -> Armed<'_> {
        // A time too long to be represented is no deadline.
        self.shared.set(Instant::now().checked_add(time).map_or(State::Idle, State::Armed));
        Armed(&self.shared)
    }
}

/// Ends the watch on drop; no interrupt comes after it.
pub(crate) struct Armed<'a>(&'a Shared);

impl Armed<'_> {
    /// Returns whether the time is up.
    pub(crate) fn passed(&self) -> bool {
        matches!(*self.0.lock(), State::Passed)
    }
}

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        self.0.set(State::Idle);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn set(&self, state: State) {
        *self.lock() = state;
        self.changed.notify_one();
    }

    /// Interrupts under the lock: once `set` has returned, the next query is safe.
    fn watch(&self, interrupt: &dyn Fn()) {
        let mut state = self.lock();
        loop {
            match *state {
                State::Closed => return,
                State::Idle => self.changed.wait(&mut state),
                State::Armed(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    let is_unwanted = self.is_unwanted.lock().clone();
                    if left.is_zero() || is_unwanted.as_ref().is_some_and(|is_unwanted| is_unwanted()) {
                        *state = State::Passed;
                    } else {
                        self.changed.wait_for(&mut state, if is_unwanted.is_some() { left.min(ASKED_EVERY) } else { left });
                    }
                }
                State::Passed => {
                    interrupt();
                    self.changed.wait_for(&mut state, REPEAT);
                }
            }
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.shared.set(State::Closed);
        if let Some(thread) = self.thread.take() {
            // It holds nothing and cannot panic; there is nobody to tell if it did.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadline").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use duckdb::Connection;

    use super::*;

    fn deadline(connection: &Connection) -> Deadline {
        let handle = connection.interrupt_handle();
        Deadline::new(move || handle.interrupt()).unwrap()
    }

    /// Looks at `to` thousand pairs.
    fn count(connection: &Connection, to: u64) -> duckdb::Result<u64> {
        let sql = format!("SELECT count(*) FROM range({to}) a, range(1000) b WHERE hash(a.range * b.range) % 7 = 0");
        connection.query_row(&sql, [], |row| row.get(0))
    }

    #[test]
    fn a_query_is_interrupted_at_its_deadline_and_one_without_a_deadline_after_it_is_not() {
        let connection = Connection::open_in_memory().unwrap();
        let deadline = deadline(&connection);
        let armed = deadline.arm(Duration::from_millis(50));
        assert!(count(&connection, 1_000_000_000).unwrap_err().to_string().contains("INTERRUPT"));
        assert!(armed.passed());
        drop(armed);
        let start = Instant::now();
        assert!(count(&connection, 50_000).is_ok());
        assert!(start.elapsed() > 5 * REPEAT, "too short to be interrupted: {:?}", start.elapsed());
    }

    #[test]
    fn a_query_that_is_not_wanted_any_more_is_interrupted_long_before_its_deadline() {
        let connection = Connection::open_in_memory().unwrap();
        let deadline = deadline(&connection);
        let begin = Instant::now();
        deadline.heed(Some(Arc::new(move || begin.elapsed() > Duration::from_millis(300))));
        let armed = deadline.arm(Duration::from_secs(600));
        assert!(count(&connection, 1_000_000_000).is_err() && armed.passed());
        drop(armed);
        deadline.heed(None);
        let _armed = deadline.arm(Duration::from_secs(600));
        assert!(count(&connection, 1_000).is_ok());
    }

    #[test]
    fn a_query_that_keeps_its_deadline_is_left_alone() {
        let connection = Connection::open_in_memory().unwrap();
        let deadline = deadline(&connection);
        let armed = deadline.arm(Duration::from_secs(60));
        assert!(count(&connection, 10).is_ok());
        assert!(!armed.passed());
    }

    #[test]
    fn a_time_beyond_the_clock_is_no_deadline() {
        let connection = Connection::open_in_memory().unwrap();
        let deadline = deadline(&connection);
        let armed = deadline.arm(Duration::MAX);
        assert!(count(&connection, 10).is_ok());
        assert!(!armed.passed());
    }
}
