//! Entry: whether a start may go in at once, or has to wait.
//!
//! Owns: the decision, as a function of what was seen.
//! Does not own: looking (see `super::open`), the fence, which holds whatever is decided here.
//!
//! The fence alone keeps a dataset right: whoever takes the next record's number goes on, and whoever ran before ends. So this rule is about peace, not
//! about rows: of two processes that a supervisor starts again and again, each would fence the other for ever. A start goes in at once if the one
//! before is provably gone, and else when its heartbeat was missed twice, by the clock of the server.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::checkpoint::process::Process;

/// Heartbeats that a process may miss.
const MISSED_MAX: u32 = 2;

/// What was seen of the process that wrote the last record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Whether its last heartbeat says that it stopped, with everything committed.
    pub stopped: bool,
    /// Whether it ran on this host, since this boot, and does not run any more.
    pub gone: bool,
    /// When it last showed itself, by the clock of the server: the time of its last record, or of its last heartbeat.
    pub last_seen: DateTime<Utc>,
    /// The time, by the same clock.
    pub now: DateTime<Utc>,
    /// The time between its heartbeats.
    pub every: Duration,
}

/// Whether to go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// At once.
    Now,
    /// Not before this time has passed, and all was looked at again.
    Wait(Duration),
}

/// Decides for a start that found another process' record. `None` stands for a dataset without any.
pub fn entry(facts: Option<&Facts>) -> Entry {
    let Some(facts) = facts.filter(|facts| !facts.stopped && !facts.gone) else { return Entry::Now };
    let patience = TimeDelta::from_std(facts.every.saturating_mul(MISSED_MAX)).unwrap_or(TimeDelta::MAX);
    let silent = facts.now.signed_duration_since(facts.last_seen);
    match (patience - silent).to_std() {
        Ok(rest) if !rest.is_zero() => Entry::Wait(rest),
        _ => Entry::Now,
    }
}

/// Returns whether `holder` ran on the host of `here`, since the same boot, and does not run any more; `started` tells when the process of an id
/// started. In a container another one of the same name may hide from it: then both take turns until one is stopped.
pub fn is_gone(holder: &Process, here: &Process, started: impl Fn(u32) -> Option<u64>) -> bool {
    let same_boot = holder.boot_id.is_some() && holder.boot_id == here.boot_id && holder.host == here.host;
    same_boot && holder.started.is_some() && started(holder.pid) != holder.started
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(15);

    fn silent_for(seconds: i64) -> Facts {
        let last_seen = DateTime::UNIX_EPOCH;
        Facts { stopped: false, gone: false, last_seen, now: last_seen + TimeDelta::seconds(seconds), every: EVERY }
    }

    #[test]
    fn a_dataset_without_records_and_one_whose_process_stopped_or_is_gone_are_entered_at_once() {
        assert_eq!(entry(None), Entry::Now);
        assert_eq!(entry(Some(&Facts { stopped: true, ..silent_for(0) })), Entry::Now);
        assert_eq!(entry(Some(&Facts { gone: true, ..silent_for(0) })), Entry::Now);
    }

    #[test]
    fn any_other_is_entered_when_two_heartbeats_were_missed() {
        assert_eq!(entry(Some(&silent_for(0))), Entry::Wait(EVERY * 2));
        assert_eq!(entry(Some(&silent_for(29))), Entry::Wait(Duration::from_secs(1)));
        assert_eq!(entry(Some(&silent_for(30))), Entry::Now);
        assert_eq!(entry(Some(&silent_for(3_600))), Entry::Now, "it was dead long before this start");
        assert_eq!(entry(Some(&silent_for(-5))), Entry::Wait(EVERY * 2 + Duration::from_secs(5)), "it shows itself while this start looks");
    }

    #[test]
    fn a_process_is_gone_only_if_this_host_would_know_it() {
        let boot = Some("boot".to_owned());
        let holder = Process { host: "a".into(), boot_id: boot, pid: 7, started: Some(100), user: "u".into(), nonce: "n".into() };
        let here = Process { pid: 8, started: Some(200), ..holder.clone() };
        assert!(is_gone(&holder, &here, |_| None));
        assert!(is_gone(&holder, &here, |_| Some(300)), "its number was given again");
        assert!(!is_gone(&holder, &here, |_| Some(100)), "it runs");
        assert!(!is_gone(&holder, &Process { boot_id: Some("another".into()), ..here.clone() }, |_| None), "the same image of a machine");
        assert!(!is_gone(&holder, &Process { host: "b".into(), ..here.clone() }, |_| None), "a container beside it");
        assert!(!is_gone(&Process { boot_id: None, ..holder.clone() }, &Process { boot_id: None, ..here.clone() }, |_| None));
        assert!(!is_gone(&Process { started: None, ..holder }, &here, |_| None));
    }
}
