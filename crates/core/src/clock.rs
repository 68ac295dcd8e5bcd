//! Clock: for how long somebody has been at it, and since when nothing was finished.
//!
//! Owns: time spent, also of what is not over yet; several may be at it side by side.
//! Does not own: what is worked on or waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// Adds up time. Its lock is held for nanoseconds, a few times a chunk or batch.
#[derive(Debug)]
pub struct Clock(Mutex<State>);

#[derive(Debug)]
struct State {
    total: Duration,
    running: u32,
    /// Up to when `total` is counted.
    counted: Instant,
    /// When something was finished last, or begun after a rest.
    moved: Instant,
}

/// What a clock shows at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Time spent, of all together. Never less than in a reading before.
    pub total: Duration,
    /// Whether anybody is at it.
    pub running: bool,
    /// Time since something was finished, or begun after a rest.
    pub still: Duration,
}

impl Default for Clock {
    fn default() -> Self {
        let now = Instant::now();
        Self(Mutex::new(State { total: Duration::ZERO, running: 0, counted: now, moved: now }))
    }
}

impl Clock {
    /// Begins a piece of work. It is over when the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> Running {
        let began = Instant::now();
        let mut state = self.lock();
        state.count(began);
        if state.running == 0 {
            state.moved = began;
        }
        state.running += 1;
        Running { clock: self.clone(), began }
    }

    /// Returns what it shows now.
    pub fn read(&self) -> Reading {
        let now = Instant::now();
        let mut state = self.lock();
        state.count(now);
        Reading { total: state.total, running: state.running > 0, still: now.saturating_duration_since(state.moved) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl State {
    fn count(&mut self, now: Instant) {
        self.total += now.saturating_duration_since(self.counted) * self.running;
        // Two threads may look at the time in one order and come here in the other.
        self.counted = self.counted.max(now);
    }
}

/// A piece of work that is not over.
#[derive(Debug)]
pub struct Running {
    clock: Arc<Clock>,
    began: Instant,
}

impl Running {
    /// Ends it and returns how long it took.
    pub fn end(self) -> Duration {
        self.began.elapsed()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.clock.lock();
        state.count(now);
        state.running -= 1;
        state.moved = now;
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    const STEP: Duration = Duration::from_millis(20);

    #[test]
    fn time_is_counted_while_it_passes_and_not_at_rest() {
        let clock = Arc::<Clock>::default();
        sleep(STEP);
        assert_eq!((clock.read().total, clock.read().running), (Duration::ZERO, false));
        let running = clock.begin();
        sleep(STEP);
        let during = clock.read();
        assert!(during.running && during.total >= STEP && during.still >= STEP, "{during:?}");
        assert!(running.end() >= STEP);
        let after = clock.read().total;
        assert!(after >= during.total);
        sleep(STEP);
        assert_eq!(clock.read().total, after);
    }

    #[test]
    fn two_at_it_count_twice_and_a_finished_one_is_a_move() {
        let clock = Arc::<Clock>::default();
        let (first, second) = (clock.begin(), clock.begin());
        sleep(STEP);
        drop(first);
        let reading = clock.read();
        assert!(reading.total >= 2 * STEP && reading.running && reading.still < STEP, "{reading:?}");
        drop(second);
        assert!(!clock.read().running);
    }
}
