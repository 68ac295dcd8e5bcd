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
use crate::error::Result;

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

/// Memory beside DuckDB's own limit: the program, what is decoded, what the allocators keep.
const MARGIN_BYTES: u64 = 256 << 20;
/// Time beside `transform.timeout`: for the start of a child, on a busy machine.
const MARGIN: Duration = Duration::from_secs(30);

impl Trial {
    /// Prepares trials with the configuration of this process.
    pub fn new(config: &Config) -> Self {
        let command = Command {
            file: config.given.file.clone(),
            sets: config.given.sets.clone(),
            sha256: config.sha256.clone(),
            memory: config.transform.memory_limit.saturating_add(config.pipeline.batch_bytes_max as u64).saturating_add(MARGIN_BYTES),
            timeout: config.transform.timeout.saturating_add(MARGIN),
        };
        Self { command, child: None }
    }

    /// Splits a batch into parts that can be run and records that cannot, which are marked so, in order.
    ///
    /// # Errors
    /// If no child can be started, or it finds another configuration.
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
                Err(single) => parts.push(match self.survives(&single)? {
                    None => single,
                    Some(_) => Batch { deadly: Some(format!("a process that runs this record alone {end}")), ..single },
                }),
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
