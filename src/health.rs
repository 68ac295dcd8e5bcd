//! Health: alive, ready, and why not.
//!
//! Owns: what follows from the meters. A decision is a pure function of facts.
//! Does not own: the meters, who is told (see [`crate::admin`], [`crate::supervisor`]).

use std::sync::Arc;
use std::time::Duration;

use pintail_config::Config;
use pintail_storage::checkpoint::held::ways_out;
use tokio::sync::watch;

use crate::meters::Meters;

/// What health follows from.
pub(crate) struct Health {
    /// What the stages have written.
    pub meters: Arc<Meters>,
    stalled_after: Duration,
    transform_timeout: Duration,
    /// Whether the service was asked to stop.
    pub draining: watch::Receiver<bool>,
    /// The command that accepts what was rejected, for those who are told.
    accept: String,
}

/// Where the service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The dataset or the source is being opened.
    Recovering,
    /// The line runs.
    Running,
    /// The source has ended or the service was asked to stop: the last checkpoint is on its way.
    Draining,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
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

impl Health {
    /// Looks at the service of a configuration.
    pub(crate) fn new(config: &Config, meters: Arc<Meters>, draining: watch::Receiver<bool>, accept: String) -> Self {
        let (stalled_after, transform_timeout) = (config.admin.stalled_after, config.transform.timeout);
        Self { meters, stalled_after, transform_timeout, draining, accept }
    }

    /// Returns which stages are dead, and why; none while the service is alive.
    pub(crate) fn dead(&self) -> Vec<String> {
        // A writer that waits for room or a bucket, or for a person, is no dead one: it would wait as well after a restart.
        if self.meters.disk.is_waiting() || self.meters.held().is_some() {
            return Vec::new();
        }
        self.facts().iter().filter_map(StageFacts::death).collect()
    }

    fn facts(&self) -> Vec<StageFacts> {
        let channels = self.meters.channels();
        let stages = self.meters.stages().into_iter().enumerate().map(|(place, stage)| {
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
            let more = if stage.name == "transformer" { self.transform_timeout } else { Duration::ZERO };
            StageFacts {
                name: stage.name,
                working: work.running,
                blocked: out.is_some_and(|out| out.running),
                waiting: if place == 0 { 0 } else { channels[place - 1].length() },
                still,
                allowed: self.stalled_after + more,
            }
        });
        let reading = self.meters.linked().and_then(|linked| linked.source.reading.as_ref()).map(|clock| clock.read());
        let source = reading.map(|reading| StageFacts {
            name: "source",
            working: reading.running && !self.meters.ended(),
            blocked: false,
            waiting: 0,
            still: reading.still,
            allowed: self.stalled_after,
        });
        stages.chain(source).collect()
    }

    /// Returns whether the service was asked to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.draining.borrow()
    }

    /// Returns where the service stands.
    pub(crate) fn state(&self) -> State {
        match self.meters.linked() {
            None => State::Recovering,
            Some(_) if self.is_stopping() || self.meters.ended() => State::Draining,
            Some(_) => State::Running,
        }
    }

    /// Returns why the service is not ready; nothing if it is.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        match self.state() {
            State::Recovering => reasons.push("recovering: the dataset or the source is being opened".to_owned()),
            State::Draining => reasons.push("draining: the last checkpoint is being committed".to_owned()),
            State::Running => {}
        }
        reasons.extend(self.meters.disk.reasons());
        let ways_out = ways_out(&self.accept);
        reasons.extend(self.meters.held().map(|held| format!("paused, too much is rejected: {held}; {ways_out}")));
        reasons.extend(self.meters.trouble().map(|why| format!("the source gives nothing: {why}")));
        reasons.extend(self.dead());
        reasons
    }
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
