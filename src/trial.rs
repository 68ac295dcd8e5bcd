//! The trial: a batch is run in a process of its own before this one runs it.
//!
//! A record can end the process that transforms it: an expression that takes all memory, an abort inside the engine. Nothing in the process can
//! set such a record aside, and the next start reads it again. So the third start in a row from the same positions runs each batch in a child
//! first, halves those that the child does not survive, and sets aside the records that are left, until the first checkpoint is past.
//!
//! Owns: halving, and what a child may take of the machine.
//! Does not own: counting the starts (see `checkpoint::attempts`), what is done with the parts (see `stages::transformer`).
//!
//! | file | holds |
//! |---|---|
//! | `parent` | the child as the service sees it |
//! | `child` | what runs in it |
//! | `wire` | a batch as bytes |

use std::path::PathBuf;
use std::time::Duration;

use tracing::warn;

use crate::batch::Batch;
use crate::config::Config;
use crate::error::{Error, Result};

mod child;
mod parent;
mod wire;

pub use child::run;

use parent::Child;

/// The start from the same positions that tries its batches first.
pub const ATTEMPTS: u32 = 3;

/// Tries batches.
pub struct Trial {
    command: Command,
    child: Option<Child>,
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
    /// Longest time for a batch.
    timeout: Duration,
}

/// Records of a batch after which one must have been run.
const DEADLY_MAX: usize = 64;
/// Memory beside DuckDB's own limit: the program, what is decoded, what the allocators keep.
const MARGIN_BYTES: u64 = 256 << 20;
/// Time beside `transform.timeout`: for the start of a child, on a busy machine.
const MARGIN: Duration = Duration::from_secs(30);

impl Trial {
    /// Prepares trials with the configuration of this process.
    pub fn new(config: &Config) -> Self {
        // Rows are there twice for a moment: as DuckDB returned them, and by partition.
        let rows = config.pipeline.batch_bytes_max.saturating_add(config.transform.rows_bytes_max.saturating_mul(2)) as u64;
        let command = Command {
            file: config.given.file.clone(),
            sets: config.given.sets.clone(),
            sha256: config.sha256.clone(),
            memory: config.transform.memory_limit.saturating_add(rows).saturating_add(MARGIN_BYTES),
            timeout: config.transform.timeout.saturating_add(MARGIN),
        };
        Self { command, child: None }
    }

    /// Splits a batch into parts that can be run and records that cannot, which are marked so, in order.
    ///
    /// # Errors
    /// If no child can be started, or it finds another configuration, or none of many records can be run: it is not they that are to blame.
    pub fn split(&mut self, batch: Batch) -> Result<Vec<Batch>> {
        let mut parts = Vec::new();
        self.split_into(batch, &mut parts)?;
        Ok(parts)
    }

    fn split_into(&mut self, batch: Batch, parts: &mut Vec<Batch>) -> Result<()> {
        match self.survives(&batch)? {
            None => parts.push(batch),
            Some(end) => match batch.halve() {
                Ok((front, back)) => {
                    warn!(records = front.records() + back.records(), %end, "a process did not survive these records: they are halved");
                    self.split_into(front, parts)?;
                    self.split_into(back, parts)?;
                }
                // Somebody else may have ended the child: what is set aside has ended two.
                Err(single) => {
                    parts.push(match self.survives(&single)? {
                        None => single,
                        Some(end) => Batch { deadly: Some(format!("a process that runs this record alone {end}")), ..single },
                    });
                    check_that_some_live(parts)?;
                }
            },
        }
        Ok(())
    }

    /// Returns how the child ended that ran the batch; `None` if it lives.
    fn survives(&mut self, batch: &Batch) -> Result<Option<String>> {
        let mut child = match self.child.take() {
            Some(child) => child,
            None => Child::start(&self.command)?,
        };
        match child.run(batch, &self.command)? {
            None => {
                self.child = Some(child);
                Ok(None)
            }
            ended => Ok(ended),
        }
    }
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
        assert_eq!(check_that_some_live(&parts).unwrap_err().kind(), crate::error::ErrorKind::TryAgain);
        parts.insert(3, Batch::new(Vec::new()));
        check_that_some_live(&parts).unwrap();
    }
}
