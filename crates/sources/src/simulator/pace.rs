//! Pace: how many events are due.
//!
//! Owns: the schedule. Event k of it is due at anchor + k / rate, so portions of any size never drift.
//! Does not own: sleeping.

use std::time::{Duration, Instant};

/// Time between two portions: short enough to look steady, long enough to be worth a chunk.
const PORTION: Duration = Duration::from_millis(10);

/// How much a stalled line may catch up. What is older is let go: after a minute of full channels nobody wants a minute's burst.
const BACKLOG_MAX: Duration = Duration::from_secs(1);

/// A schedule of `rate` events a second.
#[derive(Debug)]
pub(super) struct Pace {
    rate: u64,
    anchor: Instant,
    taken: u64,
}

impl Pace {
    /// Begins a schedule. `rate` is not 0.
    pub(super) fn new(rate: u64, now: Instant) -> Self {
        assert!(rate > 0, "an unlimited source has no pace");
        Self { rate, anchor: now, taken: 0 }
    }

    /// Takes the events that are due, at most `max`.
    pub(super) fn take(&mut self, now: Instant, max: u64) -> u64 {
        let mut due = self.scheduled(now).saturating_sub(self.taken);
        let backlog_max = self.events_in(BACKLOG_MAX).max(1);
        if due > backlog_max {
            self.taken += due - backlog_max;
            due = backlog_max;
        }
        let portion = due.min(max);
        self.taken += portion;
        portion
    }

    /// Returns the time to sleep before the next portion.
    pub(super) fn until_next(&self, now: Instant) -> Duration {
        let nanos = (u128::from(self.taken) + 1) * 1_000_000_000 / u128::from(self.rate) + 1;
        let due = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        due.saturating_sub(now.saturating_duration_since(self.anchor)).max(PORTION)
    }

    fn scheduled(&self, now: Instant) -> u64 {
        self.events_in(now.saturating_duration_since(self.anchor))
    }

    fn events_in(&self, time: Duration) -> u64 {
        let events = time.as_nanos() * u128::from(self.rate) / 1_000_000_000;
        u64::try_from(events).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Wakes every `step` for `time` and takes all that is due.
    fn taken_in(rate: u64, step: Duration, time: Duration) -> u64 {
        let start = Instant::now();
        let mut pace = Pace::new(rate, start);
        let mut taken = 0;
        let mut now = start;
        while now < start + time {
            now += step;
            taken += pace.take(now, u64::MAX);
        }
        taken
    }

    #[test]
    fn an_odd_rate_does_not_drift_over_an_hour_of_odd_steps() {
        assert_eq!(taken_in(333_333, 13 * MS, 13 * MS * 300_000), 333_333 * 3900);
        assert_eq!(taken_in(1, 7 * MS, 7 * MS * 1_000_000), 7000);
    }

    #[test]
    fn a_stall_is_caught_up_by_one_second_at_most_and_then_the_pace_is_the_old_one() {
        let start = Instant::now();
        let mut pace = Pace::new(1000, start);
        let after = start + 60_000 * MS;
        assert_eq!(pace.take(after, u64::MAX), 1000);
        assert_eq!(pace.take(after, u64::MAX), 0);
        assert_eq!(pace.take(after + 10 * MS, u64::MAX), 10);
        assert_eq!(pace.take(after + 510 * MS, u64::MAX), 500);
    }

    #[test]
    fn what_a_portion_could_not_take_is_due_at_once() {
        let start = Instant::now();
        let mut pace = Pace::new(1000, start);
        assert_eq!(pace.take(start + 100 * MS, 60), 60);
        assert_eq!(pace.take(start + 100 * MS, 60), 40);
        assert_eq!(pace.take(start + 100 * MS, 60), 0);
    }

    #[test]
    fn the_sleep_ends_when_an_event_is_due_and_is_a_portion_at_least() {
        let start = Instant::now();
        let mut slow = Pace::new(2, start);
        let sleep = slow.until_next(start + 100 * MS);
        assert!(sleep >= 400 * MS && sleep < 401 * MS, "{sleep:?}");
        assert_eq!(slow.take(start + 100 * MS + sleep, 10), 1);
        assert_eq!(Pace::new(1_000_000, start).until_next(start), PORTION);
    }

    #[test]
    fn one_event_in_ten_seconds_is_not_lost_to_the_limit_of_the_backlog() {
        let start = Instant::now();
        let mut pace = Pace::new(1, start);
        assert_eq!(pace.take(start + 10_000 * MS, 10), 1);
    }
}
