//! The trial: a batch is run in a process of its own before this one runs it.
//!
//! A record can end the process that transforms it: an expression that takes all memory, an abort inside the engine. Nothing in the process can
//! set such a record aside, and the next start reads it again. So the third start in a row from the same positions runs each batch in a child
//! first, halves those that the child does not survive, and sets aside the records that are left, until the first checkpoint is past.
//!
//! A part that has not come to its end after a little time is halved too: only a record alone is given all the time that `transform.timeout` allows.
//! So to find a record that can't be interrupted takes some tens of seconds, not that time at each halving. What a record would take of the memory
//! must fit beside the service, or the kernel might end both.
//!
//! Owns: halving, and what a child may take of the machine.
//! Does not own: counting the starts (see `pintail_storage::checkpoint::attempts`), what is done with the parts (see `stages::transformer`).
//!
//! | file | holds |
//! |---|---|
//! | `parent` | the child as the service sees it |
//! | `child` | what runs in it |
//! | `wire` | a batch as bytes |

use std::path::PathBuf;
use std::time::{Duration, Instant};

use pintail_config::Config;
use pintail_core::batch::Batch;
use pintail_core::error::{Error, Result};
use tokio::sync::watch;
use tracing::warn;

mod child;
mod parent;
mod wire;

pub(crate) use child::run;

use parent::{Child, End};

/// The start from the same positions that tries its batches first.
pub(crate) const ATTEMPTS: u32 = 3;

/// Tries batches.
pub(crate) struct Trial {
    command: Command,
    child: Option<Child>,
    times: Times,
    /// Whether a record can be set aside.
    is_row_by_row: bool,
    /// Turns true when the line shall stop.
    stop: watch::Receiver<bool>,
}

/// How a child is started, and what it may take.
#[derive(Debug, Clone)]
struct Command {
    file: Option<PathBuf>,
    sets: Vec<String>,
    /// The configuration that it must find.
    sha256: String,
    /// Bytes of resident memory.
    memory: u64,
    /// What this process and the child may have together, before the kernel ends one.
    together: Option<u64>,
}

/// How long records may take.
#[derive(Debug)]
struct Times {
    timeout: Duration,
    /// The most records that were run, and how long that took.
    usual: Option<(usize, Duration)>,
}

/// Records of a batch after which one must have been run.
const DEADLY_MAX: usize = 64;
/// Memory beside DuckDB's own limit: the program, what is decoded, what the allocators keep.
const MARGIN_BYTES: u64 = 256 << 20;
/// Time for the start of a child, on a busy machine.
const START: Duration = Duration::from_secs(30);
/// Time beside `transform.timeout` for decoding and placing.
const MARGIN: Duration = Duration::from_secs(5);
/// Time after which several records are halved, if no more is usual.
const SOON: Duration = Duration::from_secs(2);
/// How many times what is usual is too long for several records.
const USUAL_FACTOR: u32 = 8;

impl Times {
    /// Returns how long so many records may take: one alone as long as it is allowed, several not much longer than is usual.
    fn allowed(&self, records: usize) -> Duration {
        let whole = self.timeout.saturating_add(MARGIN);
        let usual = self.usual.map_or(Duration::ZERO, |(of, took)| {
            let parts = u32::try_from(records.div_ceil(of.max(1))).unwrap_or(u32::MAX);
            took.saturating_mul(parts).saturating_mul(USUAL_FACTOR)
        });
        if records < 2 { whole } else { whole.min(usual.max(SOON)) }
    }

    /// Learns what is usual.
    fn learn(&mut self, records: usize, took: Duration) {
        if self.usual.is_none_or(|(most, _)| records >= most) {
            self.usual = Some((records, took));
        }
    }
}

impl Trial {
    /// Prepares trials with the configuration of this process. They end when `stop` is true.
    pub(crate) fn new(config: &Config, stop: watch::Receiver<bool>) -> Self {
        // Rows are there twice for a moment: as DuckDB returned them, and by partition.
        let rows = config.pipeline.batch_bytes_max.saturating_add(config.transform.rows_bytes_max.saturating_mul(2)) as u64;
        let command = Command {
            file: config.given.file.clone(),
            sets: config.given.sets.clone(),
            sha256: config.sha256.clone(),
            memory: config.transform.memory_limit.saturating_add(rows).saturating_add(MARGIN_BYTES),
            together: config.limits.memory,
        };
        let times = Times { timeout: config.transform.timeout, usual: None };
        Self { command, child: None, times, is_row_by_row: !config.transform.per_batch, stop }
    }

    /// Splits a batch into parts that can be run and records that cannot, which are marked so, in order.
    ///
    /// # Errors
    /// If no child can be started, or it finds another configuration, or none of many records can be run: it is not they that are to blame; if the
    /// line shall stop; or if records of `per_batch` SQL would have to be set aside.
    pub(crate) fn split(&mut self, batch: Batch) -> Result<Vec<Batch>> {
        let mut parts = Vec::new();
        self.split_into(batch, &mut parts)?;
        Ok(parts)
    }

    fn split_into(&mut self, batch: Batch, parts: &mut Vec<Batch>) -> Result<()> {
        let Some(end) = self.survives(&batch)? else {
            parts.push(batch);
            return Ok(());
        };
        if !self.is_row_by_row {
            return Err(Error::try_again(format!(
                "a process that runs a batch of {} records {end}, and with transform.per_batch no single record can be set aside: change \
                 transform.sql, or lower pipeline.batch_rows",
                batch.records()
            )));
        }
        match batch.halve() {
            Ok((front, back)) => {
                warn!(records = front.records() + back.records(), %end, "a process did not survive these records: they are halved");
                self.split_into(front, parts)?;
                self.split_into(back, parts)
            }
            Err(single) => {
                let part = judge(single, end, |single| self.survives(single))?;
                parts.push(part);
                check_that_some_live(parts)
            }
        }
    }

    /// Returns how the child ended that ran the batch; `None` if it lives.
    fn survives(&mut self, batch: &Batch) -> Result<Option<End>> {
        let mut child = match self.child.take() {
            Some(child) => child,
            None => Child::start(&self.command, &self.stop)?,
        };
        let records = batch.records();
        let allowed = if self.is_row_by_row { self.times.allowed(records) } else { self.times.allowed(1) };
        let begun = Instant::now();
        let end = child.run(batch, allowed, &self.stop)?;
        if end.is_none() {
            self.times.learn(records, begun.elapsed());
            self.child = Some(child);
        }
        Ok(end)
    }
}

/// Marks a single record that a child did not survive. Unless it is to blame for certain, it is run in a new one first: what is set aside has ended
/// two.
fn judge(single: Batch, end: End, run: impl FnOnce(&Batch) -> Result<Option<End>>) -> Result<Batch> {
    let end = if end.is_certain { Some(end) } else { run(&single)? };
    Ok(Batch { deadly: end.map(|end| format!("a process that runs this record alone {end}")), ..single })
}

/// Refuses to set everything aside: where no record can be run, it is not they that are to blame.
fn check_that_some_live(parts: &[Batch]) -> Result<()> {
    let reasons: Vec<&str> = parts.iter().map_while(|part| part.deadly.as_deref()).collect();
    if reasons.len() < parts.len() || reasons.len() < DEADLY_MAX {
        return Ok(());
    }
    Err(Error::try_again(format!(
        "none of the first {} records can be run, {}: none of them is set aside; is `transform.sql` right, and memory not short?",
        reasons.len(),
        reasons[0]
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_every_record_is_set_aside() {
        let deadly = || Batch { deadly: Some("a process that runs this record alone ends".into()), ..Batch::new(Vec::new()) };
        let mut parts: Vec<Batch> = (1..DEADLY_MAX).map(|_| deadly()).collect();
        check_that_some_live(&parts).unwrap();
        parts.push(deadly());
        assert_eq!(check_that_some_live(&parts).unwrap_err().kind(), pintail_core::error::ErrorKind::TryAgain);
        parts.insert(3, Batch::new(Vec::new()));
        check_that_some_live(&parts).unwrap();
    }

    #[test]
    fn only_a_record_that_takes_too_long_is_set_aside_for_one_child_that_it_ended() {
        let end = |is_certain| End { why: "ends".into(), is_certain };
        let record = || Batch::new(Vec::new());
        let judged = judge(record(), end(true), |_| panic!("it would take as long again")).unwrap();
        assert!(judged.deadly.is_some());
        assert!(judge(record(), end(false), |_| Ok(Some(end(false)))).unwrap().deadly.is_some());
        assert_eq!(judge(record(), end(false), |_| Ok(None)).unwrap().deadly, None);
        assert!(judge(record(), end(false), |_| Err(Error::try_again("stopped"))).is_err());
    }

    #[test]
    fn several_records_are_halved_soon_unless_more_is_usual_and_one_alone_has_all_the_time() {
        let seconds = Duration::from_secs;
        let mut times = Times { timeout: seconds(60), usual: None };
        assert_eq!([1, 2, 100_000].map(|records| times.allowed(records)), [seconds(65), seconds(2), seconds(2)]);
        times.learn(100, Duration::from_millis(1));
        times.learn(1, seconds(9));
        assert_eq!(times.allowed(100_000), seconds(8), "a record alone says nothing of many");
        times.learn(1_000, seconds(1));
        assert_eq!([1, 500, 2_000, 100_000].map(|records| times.allowed(records)), [seconds(65), seconds(8), seconds(16), seconds(65)]);
    }
}
