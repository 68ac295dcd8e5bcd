//! Monitor: shows what the line is doing.
//!
//! Owns: the figures on display, the pace of redrawing, one log line per checkpoint where there is no terminal.
//! Does not own: the counting (it is told; see `progress`), how the table is drawn (see `terminal`). Nobody
//! waits for it: the screen is written by a thread of its own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use itertools::Itertools;
use pintail_config::MonitorConfig;
use pintail_core::error::Result;
use pintail_core::invocation::command;
use pintail_storage::checkpoint::held::ways_out;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::info;

use crate::meters::Meters;
use crate::progress::{CheckpointDone, Progress};
use crate::terminal::{ChannelFill, LastCheckpoint, Screen, Snapshot, render};

/// Time between two drawings of the table.
const REDRAW: Duration = Duration::from_millis(250);
/// The rate is that of the last seconds.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// Stands above the one group of an output without the column of groups.
const ALL_ROWS: &str = "rows";

/// The fifth stage.
pub(crate) struct Monitor {
    /// From the writer.
    pub input: mpsc::Receiver<Progress>,
    /// The terminal, if there is one.
    pub screen: Option<Arc<Screen>>,
    /// What the table shows.
    pub config: MonitorConfig,
    /// Whether the output has the column of the groups, and the one whose mean is shown.
    pub columns: (bool, bool),
    /// Keeps the groups, for those who look at them elsewhere.
    pub meters: Arc<Meters>,
}

/// The figures on display.
struct Figures {
    started: Instant,
    records: u64,
    dead_letters: u64,
    last: Option<CheckpointDone>,
    /// Records at moments of the last seconds.
    samples: VecDeque<(Instant, u64)>,
}

impl Monitor {
    /// Shows figures until the writer is done.
    pub(crate) async fn run(mut self) -> Result<()> {
        let mut figures = Figures::new();
        let mut redraw = interval(REDRAW);
        redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                progress = self.input.recv() => match progress {
                    Some(progress) => self.take(&mut figures, progress),
                    None => break,
                },
                _ = redraw.tick(), if self.screen.is_some() => self.draw(&mut figures),
            }
        }
        self.draw(&mut figures);
        Ok(())
    }

    fn take(&self, figures: &mut Figures, progress: Progress) {
        if self.screen.is_none() {
            progress.checkpoints.iter().for_each(|done| log(done, &self.config));
        }
        let mut groups = self.meters.groups();
        if let Some(committed) = &progress.committed {
            groups.committed.merge(committed, self.config.groups_max);
        }
        groups.open = progress.open;
        drop(groups);
        figures.records += progress.records;
        figures.dead_letters += progress.dead_letters;
        if let Some(done) = progress.checkpoints.into_iter().next_back() {
            figures.last = Some(done);
        }
    }

    fn draw(&self, figures: &mut Figures) {
        if let Some(screen) = &self.screen {
            let snapshot = self.snapshot(figures);
            let group_by = if self.columns.0 { self.config.group_by.as_str() } else { ALL_ROWS };
            let value = self.columns.1.then_some(self.config.value.as_str());
            screen.draw(render(&snapshot, group_by, value, screen.width()));
        }
    }

    fn snapshot(&self, figures: &mut Figures) -> Snapshot {
        let groups = self.meters.groups().clone();
        Snapshot {
            uptime: figures.started.elapsed(),
            records_per_second: figures.rate(),
            records: figures.records,
            open: groups.open,
            committed: groups.committed,
            dead_letters: figures.dead_letters,
            remaining: self.meters.lag(),
            last_checkpoint: figures.last.as_ref().map(|done| LastCheckpoint {
                sequence: done.sequence,
                files: done.files,
                rows: done.counts.rows_out,
                bytes: done.bytes,
                took: done.took,
                age: done.at.elapsed(),
                trigger: done.trigger,
            }),
            channels: self.fills(),
            disk_full: self.meters.disk.full(),
            held: self.meters.held().map(|held| format!("{held}; {}", ways_out(&command("dead-letters --accept")))),
            trouble: self.meters.trouble(),
            waiting: self.meters.waiting().unwrap_or_default(),
        }
    }

    /// Looks at the channels; one whose sender is gone is not shown.
    fn fills(&self) -> Vec<ChannelFill> {
        let Meters { chunks, batches, frames, .. } = &*self.meters;
        let channels = [("chunks", chunks), ("batches", batches), ("frames", frames)];
        channels.into_iter().filter_map(|(name, meter)| meter.fill().map(|(used, capacity)| ChannelFill { name, used, capacity })).collect()
    }
}

impl Figures {
    fn new() -> Self {
        Self { started: Instant::now(), records: 0, dead_letters: 0, last: None, samples: VecDeque::new() }
    }

    /// Returns the records a second over the last seconds.
    fn rate(&mut self) -> f64 {
        let now = Instant::now();
        self.samples.push_back((now, self.records));
        while self.samples.len() > 2 && now - self.samples[0].0 > RATE_WINDOW {
            self.samples.pop_front();
        }
        let (since, records) = self.samples[0];
        let seconds = (now - since).as_secs_f64();
        if seconds > 0.0 { (self.records - records) as f64 / seconds } else { 0.0 }
    }
}

/// Logs a checkpoint with its groups.
fn log(done: &CheckpointDone, config: &MonitorConfig) {
    let mut groups = done.totals.groups().map(|(name, total)| {
        let name = name.unwrap_or("NULL");
        match total.mean() {
            Some(mean) => format!("{name}: n={} avg_{}={mean:.1}", total.rows, config.value),
            None => format!("{name}: n={}", total.rows),
        }
    });
    info!(
        seq = done.sequence,
        trigger = %done.trigger,
        records = done.counts.records_in,
        rows = done.counts.rows_out,
        filtered = done.counts.filtered,
        dead_letters = done.counts.dead_letters.total(),
        files = done.files,
        bytes = done.bytes,
        took_ms = done.took.as_millis() as u64,
        groups = groups.join(", "),
        "checkpoint committed"
    );
}
