//! Sampler: the last seconds and the last minutes.
//!
//! Owns: looking at the meters once a second, what follows from two looks (rates, shares of time), the history of 15 minutes, waking
//! those who listen.
//! Does not own: the meters, the JSON (see `status`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use pintail_core::batch::OffsetUnit;
use pintail_server::asked;
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use super::{Shared, earlier, status};
use crate::meters::Meters;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Rates and shares are those of so many last looks.
const WINDOW: usize = 5;
/// Looks between two points of the history, and between two questions for DuckDB's memory.
const HISTORY_EVERY: u32 = 5;
/// Points of the history: 15 minutes.
const HISTORY_LENGTH: usize = 180;

/// Time between two points of the history.
pub(super) const HISTORY_INTERVAL: Duration = LOOK.saturating_mul(HISTORY_EVERY);

/// What was seen.
pub(super) struct Sampler {
    looks: VecDeque<Look>,
    /// Oldest first.
    pub history: VecDeque<Point>,
    /// What DuckDB holds; as of the last question.
    pub duckdb_memory: Option<u64>,
}

/// The meters at one moment.
#[derive(Clone)]
struct Look {
    at: Instant,
    /// Of the stages.
    worked: [Duration; 4],
    records: [u64; 4],
    /// Of the channels.
    blocked: [Duration; 3],
}

/// What lies between two looks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rates {
    /// Share of the time that each stage worked; unknown for a source that cannot tell reading from waiting.
    pub busy: [Option<f64>; 4],
    /// Records a second of each stage.
    pub records: [f64; 4],
    /// Share of the time that each sender stood before its full channel.
    pub blocked: [f64; 3],
}

/// A point of the history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub at: DateTime<Utc>,
    pub records_per_second: f64,
    pub lag_records: Option<u64>,
    pub lag_bytes: Option<u64>,
    pub open_oldest: Option<Duration>,
}

impl Sampler {
    pub(super) fn new(meters: &Meters) -> Self {
        Self { looks: [Look::new(meters)].into(), history: VecDeque::new(), duckdb_memory: None }
    }

    /// Returns the rates of the last seconds, up to now.
    pub(super) fn rates(&self, meters: &Meters) -> Rates {
        self.looks.front().map_or_else(Rates::default, |since| since.until(&Look::new(meters), meters))
    }

    fn look(&mut self, meters: &Meters) {
        self.looks.push_back(Look::new(meters));
        let surplus = self.looks.len().saturating_sub(WINDOW + 1);
        self.looks.drain(..surplus);
    }

    fn note(&mut self, meters: &Meters) {
        let records_per_second = self.rates(meters).records[3];
        let (lag_records, lag_bytes) = lag(meters);
        let open_oldest = meters.ledger().oldest().map(|at| at.elapsed());
        self.history.push_back(Point { at: Utc::now(), records_per_second, lag_records, lag_bytes, open_oldest });
        let surplus = self.history.len().saturating_sub(HISTORY_LENGTH);
        self.history.drain(..surplus);
    }
}

impl Look {
    fn new(meters: &Meters) -> Self {
        let mut worked = meters.stages().map(|stage| stage.work.read().total);
        // The producer's own work is next to nothing; the source's is what counts.
        if let Some(reading) = meters.linked().and_then(|linked| linked.source.reading.as_ref()) {
            worked[0] += reading.read().total;
        }
        Self {
            at: Instant::now(),
            worked,
            records: meters.stages().map(|stage| stage.records()),
            blocked: meters.channels().map(|channel| channel.blocked.read().total),
        }
    }

    fn until(&self, later: &Self, meters: &Meters) -> Rates {
        let seconds = later.at.saturating_duration_since(self.at).as_secs_f64();
        if seconds <= 0.0 {
            return Rates::default();
        }
        let share = |from: Duration, to: Duration| (to.saturating_sub(from).as_secs_f64() / seconds).min(1.0);
        let stages = meters.stages();
        let reads_known = meters.linked().is_some_and(|linked| linked.source.reading.is_some());
        let busy = |place: usize| {
            let workers = stages[place].workers() as u32;
            (place > 0 || reads_known).then(|| share(self.worked[place] / workers, later.worked[place] / workers))
        };
        Rates {
            busy: std::array::from_fn(busy),
            records: std::array::from_fn(|place| later.records[place].saturating_sub(self.records[place]) as f64 / seconds),
            blocked: std::array::from_fn(|place| share(self.blocked[place], later.blocked[place])),
        }
    }
}

/// Returns the lag: in records, in bytes. At most one of them is known.
pub(super) fn lag(meters: &Meters) -> (Option<u64>, Option<u64>) {
    let Some(linked) = meters.linked() else { return (None, None) };
    match linked.unit {
        OffsetUnit::Records => (meters.lag(), None),
        OffsetUnit::Bytes => (None, meters.lag()),
    }
}

/// Looks once a second until the server stops.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut stopped = shared.stopped.clone();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let memory = Arc::new(AtomicU64::new(u64::MAX));
    let (mut looks, mut reading_earlier) = (0, false);
    loop {
        tokio::select! {
            biased;
            () = asked(&mut stopped) => return,
            _ = ticks.tick() => {}
        }
        {
            let mut sampler = shared.sampler();
            sampler.look(&shared.meters);
            if looks % HISTORY_EVERY == 0 {
                sampler.note(&shared.meters);
                ask_memory(&shared, &memory);
            }
            let bytes = memory.load(Ordering::Relaxed);
            sampler.duckdb_memory = (bytes != u64::MAX).then_some(bytes);
        }
        looks = looks.wrapping_add(1);
        if !reading_earlier && shared.meters.linked().is_some() {
            reading_earlier = true;
            earlier::start(&shared);
        }
        if shared.events.receiver_count() > 0 {
            shared.events.send_replace(status::status(&shared).to_string().into());
        }
    }
}

/// Asks DuckDB on a thread of the pool: it may be busy. The answer is seen at the next look.
fn ask_memory(shared: &Arc<Shared>, answer: &Arc<AtomicU64>) {
    if shared.meters.linked().is_none() {
        return;
    }
    let (shared, answer) = (shared.clone(), answer.clone());
    tokio::task::spawn_blocking(move || {
        let Some(linked) = shared.meters.linked() else { return };
        // The question before is still being asked: one is enough.
        let Some(mut meter) = linked.memory.try_lock() else { return };
        match meter.bytes() {
            Ok(bytes) => answer.store(bytes, Ordering::Relaxed),
            Err(error) => debug!(%error, "the memory of DuckDB is unknown"),
        }
    });
}

#[cfg(test)]
mod tests {
    use pintail_storage::durable::disk_state::DiskState;

    use super::*;

    #[test]
    fn rates_are_those_of_the_time_between_two_looks() {
        let meters = Meters::new(DiskState::default());
        meters.transformer.set_workers(2);
        let before = Look::new(&meters);
        let mut after = before.clone();
        after.at += Duration::from_secs(4);
        after.worked = [1, 2, 4, 9].map(Duration::from_secs);
        after.records = [40, 40, 20, 4];
        after.blocked = [Duration::from_secs(3), Duration::ZERO, Duration::from_secs(4)];
        let rates = before.until(&after, &meters);
        assert_eq!(rates.busy, [None, Some(0.5), Some(0.5), Some(1.0)]);
        assert_eq!((rates.records, rates.blocked), ([10.0, 10.0, 5.0, 1.0], [0.75, 0.0, 1.0]));
    }

    #[test]
    fn the_window_slides_and_the_history_ends() {
        let meters = Meters::new(DiskState::default());
        let mut sampler = Sampler::new(&meters);
        for _ in 0..HISTORY_LENGTH + 3 {
            sampler.look(&meters);
            sampler.note(&meters);
        }
        assert_eq!((sampler.looks.len(), sampler.history.len()), (WINDOW + 1, HISTORY_LENGTH));
    }
}
