//! The supervisor that has started the service: systemd, with a unit of `Type=notify`.
//!
//! Owns: what it is told: that the line runs, how it is, that it stops; signs of life for the watchdog.
//! Does not own: health (see [`crate::health`]).
//!
//! Without `NOTIFY_SOCKET` in the environment nobody is told anything.

use std::env;
use std::time::Duration;

use pintail_core::escape;
use sd_notify::NotifyState;
use tracing::warn;

use crate::health::{Health, State};

/// Time between two looks, and less where the watchdog is less patient.
const LOOK: Duration = Duration::from_secs(1);
/// Signs of life in the time that the watchdog waits for one.
const SIGNS: u32 = 3;
/// What a start that still goes on may take more at each look: a disk that is full, or a server that is away, is waited for.
const MORE: Duration = Duration::from_secs(30);

/// Bytes of a status: it is a line of `systemctl status`.
const STATUS_BYTES_MAX: usize = 200;

/// What is seen of the service at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    state: State,
    is_stopping: bool,
    is_alive: bool,
    /// How it is, in a line.
    status: String,
}

impl Seen {
    fn of(health: &Health) -> Self {
        let (state, mut reasons) = (health.state(), health.not_ready().into_iter());
        let status = reasons.next().unwrap_or_else(|| state.name().to_owned());
        let is_stopping = health.is_stopping() || state == State::Draining;
        Self { state, is_stopping, is_alive: health.dead().is_empty(), status: escape::beginning(&status, STATUS_BYTES_MAX) }
    }

    /// Returns what the supervisor is to hear after what was seen before.
    fn news(&self, before: Option<&Self>) -> Vec<NotifyState<'_>> {
        let was = before.map_or(State::Recovering, |before| before.state);
        let mut news = Vec::new();
        if self.state != State::Recovering && was == State::Recovering {
            news.push(NotifyState::Ready);
        }
        if self.is_stopping && before.is_none_or(|before| !before.is_stopping) {
            news.push(NotifyState::Stopping);
        }
        // A stop has its own end, also that of a start.
        if self.state == State::Recovering && !self.is_stopping {
            news.push(NotifyState::ExtendTimeoutUsec(MORE.as_micros() as u32));
        }
        if before.is_none_or(|before| before.status != self.status) {
            news.push(NotifyState::Status(&self.status));
        }
        if self.is_alive {
            news.push(NotifyState::Watchdog);
        }
        news
    }
}

/// Tells the supervisor how the service is, until the process ends.
pub(crate) async fn tell(health: Health) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let every = sd_notify::watchdog_enabled().map_or(LOOK, |patience| LOOK.min(patience / SIGNS));
    let mut looks = tokio::time::interval(every.max(Duration::from_millis(1)));
    let mut draining = health.draining.clone();
    let (mut before, mut is_heard) = (None, true);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            // A stop may be over before the next look.
            Ok(()) = draining.changed() => {}
        }
        let seen = Seen::of(&health);
        let told = sd_notify::notify(&seen.news(before.as_ref()));
        if let Err(error) = &told
            && is_heard
        {
            warn!(%error, "the supervisor behind NOTIFY_SOCKET does not hear");
        }
        is_heard = told.is_ok();
        // What was not heard is told again.
        if is_heard {
            before = Some(seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: State, is_alive: bool, status: &str) -> Seen {
        Seen { state, is_stopping: state == State::Draining, is_alive, status: status.into() }
    }

    fn text(news: &[NotifyState<'_>]) -> Vec<String> {
        news.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_start_gets_time_until_the_line_runs_and_each_change_is_told_once() {
        let opening = seen(State::Recovering, true, "recovering");
        assert_eq!(text(&opening.news(None)), ["EXTEND_TIMEOUT_USEC=30000000", "STATUS=recovering", "WATCHDOG=1"]);
        assert_eq!(text(&opening.news(Some(&opening))), ["EXTEND_TIMEOUT_USEC=30000000", "WATCHDOG=1"]);
        let running = seen(State::Running, true, "running");
        assert_eq!(text(&running.news(Some(&opening))), ["READY=1", "STATUS=running", "WATCHDOG=1"]);
        assert_eq!(text(&running.news(Some(&running))), ["WATCHDOG=1"]);
        let stopping = seen(State::Draining, true, "draining");
        assert_eq!(text(&stopping.news(Some(&running))), ["STOPPING=1", "STATUS=draining", "WATCHDOG=1"]);
        assert_eq!(
            text(&stopping.news(None)),
            ["READY=1", "STOPPING=1", "STATUS=draining", "WATCHDOG=1"],
            "it ended before it was looked at"
        );
    }

    #[test]
    fn a_start_that_was_asked_to_stop_gets_no_more_time() {
        let opening = seen(State::Recovering, true, "recovering");
        let stopping = Seen { is_stopping: true, ..opening.clone() };
        assert_eq!(text(&stopping.news(Some(&opening))), ["STOPPING=1", "WATCHDOG=1"]);
        assert_eq!(text(&stopping.news(Some(&stopping))), ["WATCHDOG=1"]);
    }

    #[test]
    fn a_service_that_does_not_move_gives_no_sign_of_life() {
        let dead = seen(State::Running, false, "the writer has work and has not moved for 301 s");
        assert_eq!(text(&dead.news(Some(&dead))), [""; 0]);
    }
}
