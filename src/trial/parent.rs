//! The child as the service sees it.
//!
//! Owns: starting it, watching it over a batch, its end.
//! Does not own: what runs in it.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufWriter, Read};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use pintail_core::batch::Batch;
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::limits;
use tokio::sync::watch;

use super::{Command, START, child, wire};
use crate::child::{LOOK, Reaped, again};
use crate::cli::TRIAL;

/// Memory that is left free of what both processes may have: it is taken within the time between two looks.
const RESERVE_BYTES: u64 = 64 << 20;
/// What a child must be able to take beyond what it has at its start: any record takes some of it.
const LEAST_BYTES: u64 = 32 << 20;

/// A child that is over, and reaped, when this is dropped.
pub(super) struct Child {
    process: Reaped,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    /// Bytes of resident memory that it may have.
    memory: u64,
}

/// How a child has ended.
pub(super) struct End {
    pub why: String,
    /// Whether the records that it ran are to blame for certain. They are not for memory, of which it may have kept much from records before, nor
    /// where somebody else may have ended it.
    pub is_certain: bool,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Child {
    /// Starts this program again.
    ///
    /// # Errors
    /// If it does not come so far that it could run a batch: no record is to blame for that.
    pub(super) fn start(command: &Command, stop: &watch::Receiver<bool>) -> Result<Self> {
        let mut arguments: Vec<OsString> = vec![TRIAL.into(), command.sha256.clone().into()];
        arguments.extend(command.file.iter().flat_map(|file| ["--config".into(), file.clone().into_os_string()]));
        arguments.extend(command.sets.iter().flat_map(|set| ["--set".into(), set.into()]));
        let started = again().args(arguments).spawn();
        let mut process = Reaped(started.map_err(|e| Error::io("start a process to try the records in", e))?);
        let (stdin, stdout) = (process.0.stdin.take(), process.0.stdout.take());
        let mut child = Self { process, stdin, stdout, memory: command.memory };
        if let Some(end) = child.wait_for_answer(START, stop, |_| Ok(()))? {
            return Err(Error::try_again(format!("a process that is to try records {end} before it was given any: is memory short?")));
        }
        if let Some(together) = command.together {
            let free = free(together, limits::process_bytes("self", "RssAnon").unwrap_or(0))?;
            // What it has now this process would not need beside its own.
            child.memory = child.memory.min(free.saturating_add(child.process.resident()));
        }
        Ok(child)
    }

    /// Lets it run a batch for a time. Returns how it ended; `None` if it lives.
    pub(super) fn run(&mut self, batch: &Batch, time: Duration, stop: &watch::Receiver<bool>) -> Result<Option<End>> {
        self.wait_for_answer(time, stop, |to| wire::write(batch, to))
    }

    /// Writes to it and waits until it answers. Returns how it ended; `None` if it lives.
    fn wait_for_answer(
        &mut self,
        time: Duration,
        stop: &watch::Receiver<bool>,
        write: impl FnOnce(&mut BufWriter<ChildStdin>) -> io::Result<()> + Send,
    ) -> Result<Option<End>> {
        let (Some(stdin), Some(mut stdout)) = (self.stdin.take(), self.stdout.take()) else {
            return Err(Error::internal("a child that has ended cannot run a batch"));
        };
        let (sender, answered) = mpsc::sync_channel(1);
        let begun = Instant::now();
        thread::scope(|scope| {
            // If it ends while it is written to or read from, its status says why.
            scope.spawn(move || {
                let mut to = BufWriter::new(stdin);
                let written = write(&mut to);
                let mut answer = [0];
                let answered = stdout.read_exact(&mut answer).is_ok() && answer == [child::DONE] && written.is_ok();
                let stdin = to.into_inner().ok();
                let _ = sender.send(stdin.filter(|_| answered).map(|stdin| (stdin, stdout)));
            });
            loop {
                match answered.recv_timeout(LOOK) {
                    Ok(Some((stdin, stdout))) => {
                        (self.stdin, self.stdout) = (Some(stdin), Some(stdout));
                        return Ok(None);
                    }
                    Ok(None) | Err(RecvTimeoutError::Disconnected) => return self.end(),
                    Err(RecvTimeoutError::Timeout) => {}
                }
                // The thread ends with the child's streams.
                if *stop.borrow() {
                    self.process.end();
                    return Err(Error::try_again(
                        "stopped while records were tried that may end the process: they are tried again at the next start",
                    ));
                }
                if let Some(end) = self.beyond(time, begun) {
                    self.process.end();
                    return Ok(Some(end));
                }
            }
        })
    }

    /// Says what it takes that it may not.
    fn beyond(&self, time: Duration, begun: Instant) -> Option<End> {
        if begun.elapsed() > time {
            return Some(End { why: format!("takes longer than {}", humantime::format_duration(time)), is_certain: true });
        }
        let takes_more = self.process.resident() > self.memory;
        takes_more.then(|| End { why: format!("takes more than {} bytes of memory", self.memory), is_certain: false })
    }

    /// Returns how it ended.
    fn end(&mut self) -> Result<Option<End>> {
        let status = self.process.0.wait().map_err(|e| Error::io("wait for the process that tries records", e))?;
        let said = |kind: ErrorKind| status.code() == Some(kind.exit_code().into());
        if said(ErrorKind::Config) {
            return Err(Error::config("a process that tries records does not start: was the configuration changed while the service ran?"));
        }
        Ok(Some(End { why: format!("ends ({status})"), is_certain: false }))
    }
}

/// Returns how much of the memory that both processes may have together is left beside the `own` of this one.
///
/// # Errors
/// If it is too little to run any record: none of them would be to blame.
fn free(together: u64, own: u64) -> Result<u64> {
    let free = together.saturating_sub(own).saturating_sub(RESERVE_BYTES);
    if free >= LEAST_BYTES {
        return Ok(free);
    }
    Err(Error::try_again(format!(
        "records may end the process, and memory is too short to try them in another one: of the limit of {together} bytes this process has {own}, \
         and {} must be left: raise the limit",
        RESERVE_BYTES + LEAST_BYTES
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_record_is_tried_where_memory_is_too_short_for_any() {
        let (limit, own) = (512 << 20, 100 << 20);
        assert_eq!(free(limit, own).unwrap(), limit - own - RESERVE_BYTES);
        assert_eq!(free(limit, limit - RESERVE_BYTES - LEAST_BYTES).unwrap(), LEAST_BYTES);
        for own in [limit - RESERVE_BYTES - LEAST_BYTES + 1, limit - 1, limit, 2 * limit] {
            assert_eq!(free(limit, own).unwrap_err().kind(), ErrorKind::TryAgain, "{own}");
        }
    }
}
