//! Flood: what may come any number of times is a line of the log a minute.
//!
//! Owns: when a line is due, and how many it tells of.
//! Does not own: what is counted, and what the line says.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Time between two lines.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// What came and was not told of yet.
#[derive(Debug, Default)]
pub(crate) struct Flood(Mutex<Unsaid>);

#[derive(Debug, Default)]
struct Unsaid {
    /// When the last line was written.
    said: Option<Instant>,
    count: u64,
}

impl Flood {
    /// Counts one more. Returns how many a line is to tell of, if one is due.
    pub(crate) fn count(&self) -> Option<u64> {
        self.count_at(Instant::now())
    }

    fn count_at(&self, now: Instant) -> Option<u64> {
        let mut unsaid = self.0.lock();
        unsaid.count += 1;
        if unsaid.said.is_some_and(|said| now.duration_since(said) < SAID_EVERY) {
            return None;
        }
        unsaid.said = Some(now);
        Some(std::mem::take(&mut unsaid.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_of_once_a_minute_and_as_a_whole() {
        let (flood, begin) = (Flood::default(), Instant::now());
        let said: Vec<_> = (0..180_000).filter_map(|n| flood.count_at(begin + Duration::from_millis(n))).collect();
        assert_eq!(said, [1, 60_000, 60_000]);
    }
}
