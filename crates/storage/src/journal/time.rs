//! The journal's time: what keys age by. It never goes back and never jumps forward, whatever happens to the wall clock.
//!
//! Owns: how much of the time between two readings is sure to have passed.
//! Does not own: what is forgotten when (see `keys`).
//!
//! Within one boot of the machine, time passes as the machine's uptime does (suspended time counts). Over a reboot, or on another machine,
//! what has passed is the lesser of what the wall clock says and of how long the machine has been up: a clock that was set forward makes
//! no key older than the machine's uptime allows, one that was set back adds nothing. Where nothing can be known, nothing has passed. So
//! a key is never forgotten early; it may live longer by the time that the machine was off.

use std::fmt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::frame::first;

/// What the machine's clocks show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Tells one boot from another.
    pub boot: u64,
    /// Time since then, in milliseconds.
    pub up_ms: u64,
    /// The wall clock, in milliseconds since 1970.
    pub wall_ms: u64,
}

/// Reads the machine's clocks.
pub trait Clocks: Send + Sync + fmt::Debug {
    /// Reads them now.
    fn read(&self) -> Reading;
}

/// A moment of the journal, as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// The journal's time, in milliseconds. It began with the wall clock's.
    pub at_ms: u64,
    /// The wall clock, in milliseconds since 1970.
    pub wall_ms: u64,
    /// The machine's boot.
    pub boot: u64,
    /// The machine's uptime, in milliseconds.
    pub up_ms: u64,
}

impl Stamp {
    /// Returns the first moment of a journal.
    pub fn first(now: Reading) -> Self {
        Self { at_ms: now.wall_ms, wall_ms: now.wall_ms, boot: now.boot, up_ms: now.up_ms }
    }

    /// Returns the moment of a reading that was taken after this one.
    #[must_use]
    pub fn then(self, now: Reading) -> Self {
        let passed = match now.boot == self.boot {
            true => now.up_ms.saturating_sub(self.up_ms),
            false => now.wall_ms.saturating_sub(self.wall_ms).min(now.up_ms),
        };
        Self { at_ms: self.at_ms.saturating_add(passed), wall_ms: now.wall_ms, boot: now.boot, up_ms: now.up_ms }
    }

    /// Returns the moment of a journal of version 1, which kept wall clocks alone, the newest `at_ms`.
    #[must_use]
    pub fn of_version_1(at_ms: u64, now: Reading) -> Self {
        Self { at_ms, wall_ms: now.wall_ms, boot: now.boot, up_ms: now.up_ms }
    }
}

/// The clocks of this machine.
#[derive(Debug)]
pub struct Machine {
    boot: Option<u64>,
    started: Instant,
    /// Names this process where no boot can be told.
    process: u64,
}

impl Default for Machine {
    fn default() -> Self {
        let id = std::fs::read("/proc/sys/kernel/random/boot_id").ok().filter(|_| uptime_ms().is_some());
        let boot = id.map(|id| u64::from_le_bytes(first(&Sha256::digest(id))));
        Self { boot, started: Instant::now(), process: rand::random() }
    }
}

impl Clocks for Machine {
    fn read(&self) -> Reading {
        let wall_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        match self.boot.zip(uptime_ms()) {
            Some((boot, up_ms)) => Reading { boot, up_ms, wall_ms },
            None => Reading { boot: self.process, up_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX), wall_ms },
        }
    }
}

/// Returns the machine's uptime, suspended time included, where the kernel tells it.
fn uptime_ms() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    let (seconds, rest) = text.split_once('.')?;
    let hundredths = rest.get(..2)?.parse::<u64>().ok()?;
    Some(seconds.parse::<u64>().ok()? * 1000 + hundredths * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn reading(boot: u64, up_ms: u64, wall_ms: u64) -> Reading {
        Reading { boot, up_ms, wall_ms }
    }

    fn stamp() -> Stamp {
        Stamp { at_ms: 5000, wall_ms: 100 * HOUR, boot: 1, up_ms: 10 * HOUR }
    }

    #[test]
    fn within_a_boot_the_uptime_alone_counts_however_the_wall_clock_is_set() {
        for wall_ms in [0, 100 * HOUR, u64::MAX] {
            assert_eq!(stamp().then(reading(1, 12 * HOUR, wall_ms)).at_ms, 5000 + 2 * HOUR);
        }
        assert_eq!(stamp().then(reading(1, 0, 200 * HOUR)).at_ms, 5000, "an uptime that goes back");
    }

    #[test]
    fn over_a_reboot_a_clock_that_was_set_forward_counts_no_more_than_the_uptime_and_one_set_back_nothing() {
        for (up_ms, wall_ms, passed) in
            [(2 * HOUR, 103 * HOUR, 2 * HOUR), (2 * HOUR, 101 * HOUR, HOUR), (2 * HOUR, u64::MAX, 2 * HOUR), (2 * HOUR, 0, 0)]
        {
            assert_eq!(stamp().then(reading(2, up_ms, wall_ms)).at_ms, 5000 + passed);
        }
    }

    #[test]
    fn on_another_machine_that_has_been_up_for_long_the_wall_clock_counts() {
        assert_eq!(stamp().then(reading(2, 1000 * HOUR, 100 * HOUR + 1000)).at_ms, 6000);
    }

    #[test]
    fn ten_reboots_with_half_an_hour_each_add_up() {
        let mut now = Stamp { boot: 0, ..stamp() };
        for n in 1..=10 {
            now = now.then(reading(n, HOUR, 100 * HOUR + n * HOUR / 2));
        }
        assert_eq!(now.at_ms, 5000 + 5 * HOUR);
    }

    #[test]
    fn the_machine_s_clocks_are_of_one_boot_and_go_forward() {
        let clocks = Machine::default();
        let (one, two) = (clocks.read(), Machine::default().read());
        assert!(two.up_ms >= one.up_ms && one.wall_ms > 0);
        assert_eq!(one.boot == two.boot, clocks.boot.is_some());
    }
}
