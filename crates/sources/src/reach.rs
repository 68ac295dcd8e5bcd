//! Reach: whether that can be reached which a source reads from, and when the next try is made.
//!
//! Owns: the pause between two tries, which grows; telling a reason once, however often it comes; what readiness is asked of.
//! Does not own: what is tried, and which failures are worth another try.

use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

/// The pause after a failure doubles from the shortest to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(50);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What is known of it.
#[derive(Debug)]
pub(super) struct Reach {
    /// What the log calls it.
    from: String,
    /// Why nothing can be read now.
    trouble: watch::Sender<Option<String>>,
    /// The reason that was last warned of, until reading goes on.
    warned: Option<String>,
    was_reached: bool,
    pause: Duration,
}

impl Reach {
    /// Begins with what was not reached yet. The other end learns why nothing can be read, and nothing while it can.
    pub(super) fn new(from: String) -> (Self, watch::Receiver<Option<String>>) {
        let (trouble, told) = watch::channel(Some("not connected yet".to_owned()));
        (Self { from, trouble, warned: None, was_reached: false, pause: PAUSE_MIN }, told)
    }

    /// Returns whether it was ever reached: until then, a refused login is a fault of the configuration.
    pub(super) fn was_reached(&self) -> bool {
        self.was_reached
    }

    /// Records that it was reached, if not yet that it is of use.
    pub(super) fn reached(&mut self) {
        self.was_reached = true;
    }

    /// Records that it cannot be read, and tells the reason if it is another one.
    pub(super) fn lost(&mut self, reason: &str) {
        self.trouble.send_if_modified(|trouble| trouble.replace(reason.to_owned()).as_deref() != Some(reason));
        if self.warned.as_deref() != Some(reason) {
            warn!(from = self.from, reason, "source unavailable, retrying");
            self.warned = Some(reason.to_owned());
        }
    }

    /// Records that it can be read.
    pub(super) fn available(&mut self) {
        self.was_reached = true;
        self.trouble.send_if_modified(|trouble| trouble.take().is_some());
        if self.warned.take().is_some() {
            info!(from = self.from, "source available again");
        }
    }

    /// Records that it is of use: the next failure is the first of its kind.
    pub(super) fn steady(&mut self) {
        self.pause = PAUSE_MIN;
    }

    /// Returns whether nothing has failed since it was of use.
    pub(super) fn is_steady(&self) -> bool {
        self.pause == PAUSE_MIN
    }

    /// Returns how long to wait before the next try. The wait after that is twice as long.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (2 * pause).min(PAUSE_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_limit_and_begins_anew_once_it_was_of_use() {
        let (mut reach, _told) = Reach::new("x".into());
        assert!(reach.is_steady());
        let pauses: Vec<_> = (0..9).map(|_| reach.pause().as_millis()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        reach.available();
        assert!(!reach.is_steady(), "to be reached is not yet to be of use");
        reach.steady();
        assert_eq!(reach.pause(), PAUSE_MIN);
    }

    #[test]
    fn the_reason_stays_told_until_it_can_be_read_again() {
        let (mut reach, mut told) = Reach::new("x".into());
        assert!(told.borrow_and_update().is_some() && !reach.was_reached());
        reach.lost("no route");
        assert_eq!((told.has_changed().unwrap(), told.borrow_and_update().as_deref()), (true, Some("no route")));
        reach.lost("no route");
        assert!(!told.has_changed().unwrap());
        reach.available();
        assert_eq!((told.borrow_and_update().as_deref(), reach.was_reached()), (None, true));
    }
}
