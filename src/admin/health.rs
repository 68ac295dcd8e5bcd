//! Health: alive, ready, and why not.
//!
//! Owns: what follows from the meters. A decision is a pure function of facts.
//! Does not own: the meters, the answer's form (see `routes`).

use std::time::Duration;

use pintail_core::invocation::command;
use pintail_storage::checkpoint::held::ways_out;
use serde_json::{Value, json};

use super::Shared;
use crate::meters::Verified;

/// Where the service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The dataset or the source is being opened.
    Recovering,
    /// The line runs.
    Running,
    /// The source has ended or the service was asked to stop: the last checkpoint is on its way.
    Draining,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Recovering => "recovering",
            Self::Running => "running",
            Self::Draining => "draining",
        }
    }
}

/// What is known of a stage at one moment.
#[derive(Debug, Clone, Copy)]
struct StageFacts {
    name: &'static str,
    /// Whether it is at work.
    working: bool,
    /// Whether it stands before a full channel: then the fault is further down.
    blocked: bool,
    /// Messages that wait for it.
    waiting: usize,
    /// Time since it moved.
    still: Duration,
    /// How long it may stand still.
    allowed: Duration,
}

impl StageFacts {
    /// Says why the stage is dead; nothing if it lives. One that has no work is idle, however long.
    fn death(&self) -> Option<String> {
        let has_work = self.working || (self.waiting > 0 && !self.blocked);
        let seconds = self.still.as_secs();
        (has_work && self.still > self.allowed).then(|| format!("the {} has work and has not moved for {seconds} s", self.name))
    }
}

/// Returns which stages are dead, and why; none while the service is alive.
pub(super) fn dead(shared: &Shared) -> Vec<String> {
    // A writer that waits for room, or for a person, is no dead one: it would wait as well after a restart.
    if shared.meters.disk.wants().next().is_some() || shared.meters.held().is_some() {
        return Vec::new();
    }
    facts(shared).iter().filter_map(StageFacts::death).collect()
}

fn facts(shared: &Shared) -> Vec<StageFacts> {
    let (meters, stalled_after) = (&shared.meters, shared.config.stalled_after);
    let channels = meters.channels();
    let stages = meters.stages().into_iter().enumerate().map(|(place, stage)| {
        let work = stage.work.read();
        let out = channels.get(place).map(|channel| channel.blocked.read());
        // Of a stage that is not at work: what came in just now it could not yet take, and being let into a channel is a move too.
        let still = match out {
            _ if work.running => work.still,
            _ if place == 0 => work.still,
            Some(out) => work.still.min(out.still).min(channels[place - 1].still()),
            None => work.still.min(channels[place - 1].still()),
        };
        // The SQL over a batch has a time limit of its own, and is an error when that has passed.
        let allowed = if stage.name == "transformer" { stalled_after + shared.facts.transform_timeout } else { stalled_after };
        StageFacts {
            name: stage.name,
            working: work.running,
            blocked: out.is_some_and(|out| out.running),
            waiting: if place == 0 { 0 } else { channels[place - 1].length() },
            still,
            allowed,
        }
    });
    let reading = meters.linked().and_then(|linked| linked.reading.as_ref()).map(|clock| clock.read());
    let source = reading.map(|reading| StageFacts {
        name: "source",
        working: reading.running && !meters.ended(),
        blocked: false,
        waiting: 0,
        still: reading.still,
        allowed: stalled_after,
    });
    stages.chain(source).collect()
}

/// Returns where the service stands.
pub(super) fn state(shared: &Shared) -> State {
    match shared.meters.linked() {
        None => State::Recovering,
        Some(_) if *shared.draining.borrow() || shared.meters.ended() => State::Draining,
        Some(_) => State::Running,
    }
}

/// Returns why the service is not ready; nothing if it is.
pub(super) fn not_ready(shared: &Shared) -> Vec<String> {
    let mut reasons = Vec::new();
    match state(shared) {
        State::Recovering => reasons.push("recovering: the dataset or the source is being opened".to_owned()),
        State::Draining => reasons.push("draining: the last checkpoint is being committed".to_owned()),
        State::Running => {}
    }
    reasons.extend(shared.meters.disk.wants().map(|want| want.to_string()));
    // The options of this process are for those on its host alone.
    let accept = match shared.facts.address.ip().is_loopback() {
        true => command("dead-letters --accept"),
        false => "`pintail dead-letters --accept` with the options of the service".to_owned(),
    };
    let ways_out = ways_out(&accept);
    reasons.extend(shared.meters.held().map(|held| format!("paused, too much is rejected: {held}; {ways_out}")));
    reasons.extend(shared.meters.trouble().map(|why| format!("the source gives nothing: {why}")));
    reasons.extend(dead(shared));
    reasons
}

/// Returns what the look at the dataset found that was taken at the start. A dataset that contradicts its records is still written to: what is
/// missing is for a person to restore, and the stream goes on meanwhile.
pub(super) fn verified(shared: &Shared) -> Value {
    match shared.meters.verified() {
        Verified::Pending => json!({ "state": "pending" }),
        Verified::Sound { at, files } => json!({ "state": "sound", "at": at.to_rfc3339(), "files": files }),
        Verified::Contradicted { at, contradictions, first } => {
            json!({ "state": "contradicted", "at": at.to_rfc3339(), "contradictions": contradictions, "first": first })
        }
        Verified::Failed(why) => json!({ "state": "failed", "why": why }),
    }
}

/// Returns which inputs of the source cannot be read; null of a source without several. The others go on, so the service is ready all the same.
pub(super) fn waiting(shared: &Shared) -> Value {
    let Some(waiting) = shared.meters.waiting() else { return Value::Null };
    let named = waiting.named.iter().map(|input| json!({ "path": input.path, "why": input.why, "since": input.since.to_rfc3339() }));
    json!({ "count": waiting.count, "first": named.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Duration = Duration::from_secs(300);

    fn stage(working: bool, blocked: bool, waiting: usize, still: u64) -> StageFacts {
        StageFacts { name: "writer", working, blocked, waiting, still: Duration::from_secs(still), allowed: ALLOWED }
    }

    #[test]
    fn a_stage_that_has_work_and_does_not_move_is_dead() {
        assert_eq!(stage(true, false, 0, 301).death().unwrap(), "the writer has work and has not moved for 301 s");
        assert!(stage(false, false, 1, 301).death().is_some(), "it does not take what waits for it");
    }

    #[test]
    fn an_idle_stage_a_busy_one_and_one_before_a_full_channel_are_alive() {
        for alive in [stage(false, false, 0, 100_000), stage(true, false, 4, 299), stage(false, true, 4, 100_000)] {
            assert_eq!(alive.death(), None, "{alive:?}");
        }
    }
}
