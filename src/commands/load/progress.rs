//! Progress of a load, for a person: how much, how fast, how long still.
//!
//! Owns: the line and its figures. The time that is left is told by the bytes of the files that are still unread.
//! Does not own: the terminal (see `terminal`), the counting (see `meters`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use pintail_core::quantity::{percent, thousands};
use tokio::time::{MissedTickBehavior, interval};

use crate::meters::Meters;
use crate::terminal::Screen;

/// Time between two drawings.
const REDRAW: Duration = Duration::from_millis(250);
/// Time until the rate says something about the time that is left.
const WARM: Duration = Duration::from_secs(1);

/// The line on the terminal.
pub(super) struct Progress {
    screen: Arc<Screen>,
    /// Bytes of all files, if they say how much is read of them.
    bytes: Option<u64>,
}

impl Progress {
    pub(super) fn new(screen: Arc<Screen>, bytes: Option<u64>) -> Self {
        Self { screen, bytes }
    }

    /// Draws until it is aborted.
    pub(super) async fn run(self, meters: Arc<Meters>) {
        let begin = Instant::now();
        let unread_at_first = meters.lag();
        let mut ticks = interval(REDRAW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let letters = {
                let ledger = meters.ledger();
                ledger.process.counts.dead_letters.total() + ledger.open.dead_letters.total()
            };
            let figures = Figures {
                records: meters.producer.records(),
                letters,
                took: begin.elapsed(),
                bytes: self.bytes,
                unread_at_first,
                unread: meters.lag(),
            };
            self.screen.draw(figures.line() + "\n");
        }
    }
}

/// What there is at a moment.
struct Figures {
    records: u64,
    letters: u64,
    took: Duration,
    bytes: Option<u64>,
    unread_at_first: Option<u64>,
    unread: Option<u64>,
}

impl Figures {
    fn line(&self) -> String {
        let seconds = self.took.as_secs_f64();
        let rate = (self.records as f64 / seconds.max(0.001)) as u64;
        let mut line = format!("{} records · {} records/s", thousands(self.records), thousands(rate));
        if self.letters > 0 {
            line += &format!(" · {} dead letters", thousands(self.letters));
        }
        if let (Some(all), Some(unread)) = (self.bytes, self.unread) {
            line += &format!(" · {}", percent(all.saturating_sub(unread), all));
            line += &self.left(unread).map_or_else(String::new, |left| format!(" · {left} left"));
        }
        line
    }

    /// Says how long it takes still.
    fn left(&self, unread: u64) -> Option<String> {
        let read = self.unread_at_first?.checked_sub(unread).filter(|read| *read > 0 && self.took >= WARM)?;
        let left = self.took.mul_f64(unread as f64 / read as f64);
        Some(humantime::format_duration(Duration::from_secs(left.as_secs() + 1)).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(took: u64, unread: Option<u64>, letters: u64) -> String {
        let took = Duration::from_secs(took);
        Figures { records: 2_000_000, letters, took, bytes: unread.map(|_| 4_000), unread_at_first: unread.map(|_| 3_000), unread }.line()
    }

    #[test]
    fn the_time_that_is_left_follows_from_what_this_process_has_read() {
        assert_eq!(line(10, Some(1_000), 0), "2,000,000 records · 200,000 records/s · 75 % · 6s left");
        assert_eq!(line(100, Some(2_000), 3), "2,000,000 records · 20,000 records/s · 3 dead letters · 50 % · 3m 21s left");
        assert_eq!(line(10, Some(3_000), 0), "2,000,000 records · 200,000 records/s · 25 %");
        assert_eq!(line(0, Some(2_000), 0), "2,000,000 records · 2,000,000,000 records/s · 50 %");
    }

    #[test]
    fn of_a_pipe_nobody_knows_how_long_it_is() {
        assert_eq!(line(10, None, 0), "2,000,000 records · 200,000 records/s");
    }
}
