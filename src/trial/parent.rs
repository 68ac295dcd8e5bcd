//! The child as the service sees it.
//!
//! Owns: starting it, watching it over a batch, its end.
//! Does not own: what runs in it.

use std::ffi::OsString;
use std::io::{self, BufWriter, Read};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use super::{Command, child, wire};
use crate::batch::Batch;
use crate::child::{LOOK, Reaped, again};
use crate::cli::TRIAL;
use crate::error::{Error, ErrorKind, Result};

/// A child that is over, and reaped, when this is dropped.
pub struct Child {
    process: Reaped,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
}

impl Child {
    /// Starts this program again.
    ///
    /// # Errors
    /// If it does not come so far that it could run a batch: no record is to blame for that.
    pub fn start(command: &Command) -> Result<Self> {
        let mut arguments: Vec<OsString> = vec![TRIAL.into(), command.sha256.clone().into()];
        arguments.extend(command.file.iter().flat_map(|file| ["--config".into(), file.clone().into_os_string()]));
        arguments.extend(command.sets.iter().flat_map(|set| ["--set".into(), set.into()]));
        let started = again().args(arguments).spawn();
        let mut process = Reaped(started.map_err(|e| Error::io("start a process to try the records in", e))?);
        let (stdin, stdout) = (process.0.stdin.take(), process.0.stdout.take());
        let mut child = Self { process, stdin, stdout };
        match child.wait_for_answer(command, |_| Ok(()))? {
            None => Ok(child),
            Some(end) => Err(Error::try_again(format!("a process that is to try records {end} before it was given any: is memory short?"))),
        }
    }

    /// Lets it run a batch. Returns how it ended; `None` if it lives.
    pub fn run(&mut self, batch: &Batch, command: &Command) -> Result<Option<String>> {
        self.wait_for_answer(command, |to| wire::write(batch, to))
    }

    /// Writes to it and waits until it answers. Returns how it ended; `None` if it lives.
    fn wait_for_answer(
        &mut self,
        command: &Command,
        write: impl FnOnce(&mut BufWriter<ChildStdin>) -> io::Result<()> + Send,
    ) -> Result<Option<String>> {
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
                if let Some(why) = self.beyond(command, begun) {
                    // The thread ends with the child's streams.
                    self.process.end();
                    return Ok(Some(why));
                }
            }
        })
    }

    /// Says what it takes that it may not.
    fn beyond(&self, command: &Command, begun: Instant) -> Option<String> {
        if begun.elapsed() > command.timeout {
            return Some(format!("takes longer than {}", humantime::format_duration(command.timeout)));
        }
        (self.process.resident() > command.memory).then(|| format!("takes more than {} bytes of memory", command.memory))
    }

    /// Returns how it ended.
    fn end(&mut self) -> Result<Option<String>> {
        let status = self.process.0.wait().map_err(|e| Error::io("wait for the process that tries records", e))?;
        let said = |kind: ErrorKind| status.code() == Some(kind.exit_code().into());
        if said(ErrorKind::Config) {
            return Err(Error::config("a process that tries records does not start: was the configuration changed while the service ran?"));
        }
        Ok(Some(format!("ends ({status})")))
    }
}
