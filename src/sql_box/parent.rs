//! The parent: starts the child, watches it and ends it.
//!
//! Owns: that a child is over, and reaped, when its answer is handed on, whatever it does.
//! Does not own: what an answer says.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use pintail_core::error::ErrorKind;
use pintail_core::invocation::Options;
use pintail_storage::checkpoint::reader::Committed;
use rustix::process::getpid;

use super::Task;
use crate::child::{self, LOOK, Reaped};
use crate::cli::SQL_BOX;

/// Time between two looks at a child that has written all it had.
const LAST_LOOK: Duration = Duration::from_millis(1);
/// Memory of a child beside the limit of its query: the program, and what its allocators keep.
const OWN_BYTES: u64 = 128 << 20;
/// Bytes of an answer beside its rows.
const FRAME_BYTES: usize = 1 << 20;

/// The kinds of errors that a child ends with, and tells the reason of.
const REASONS: [ErrorKind; 5] = [ErrorKind::Config, ErrorKind::State, ErrorKind::Io, ErrorKind::TryAgain, ErrorKind::Internal];

/// What a query may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Rows of the answer; further ones are left out.
    pub rows_max: usize,
    /// Bytes of the answer.
    pub bytes_max: usize,
    /// Memory that the query may take, in bytes.
    pub memory_limit: u64,
    /// Longest time, from `begun` on.
    pub timeout: Duration,
    /// When the question came.
    pub begun: Instant,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The statement fails, or the dataset cannot be read.
    Query(ErrorKind, String),
    /// It took too long, and was ended.
    Time(Duration),
    /// It took too much memory, and was ended.
    Memory(u64),
    /// Its process ended by itself or was killed by somebody else.
    Died(ExitStatus),
    /// Nobody waits for it any more, and it was ended.
    Unwanted,
    /// Its process could not be started.
    Start(io::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Query(_, why) => f.write_str(why),
            Self::Time(timeout) => write!(f, "the query took longer than {}, and was ended", humantime::format_duration(*timeout)),
            Self::Memory(limit) => write!(f, "the query took more memory than {limit} bytes (`admin.query_memory_limit`), and was ended"),
            Self::Died(status) => write!(f, "the process of the query ended before its answer ({status}); the service goes on"),
            Self::Unwanted => f.write_str("the query was ended: its answer is not waited for any more"),
            Self::Start(error) => write!(f, "the process of the query cannot be started: {error}"),
        }
    }
}

/// Runs one `SELECT` over the committed files of the dataset at `out` in a process of its own. Blocking; the calling thread must not end before the
/// child, which dies with it. Returns the answer as JSON: `columns`, `rows`, `truncated` and `took_ms`.
///
/// # Errors
/// Why there is no answer. The child is over by then.
pub(crate) fn ask(out: &Path, committed: &Committed, sql: &str, limits: &Limits, unwanted: &AtomicBool) -> Result<Vec<u8>, Failure> {
    let task = Task {
        parent: getpid().as_raw_pid(),
        options: Options::of_this_process(),
        out: Cow::Borrowed(out),
        committed: Cow::Borrowed(committed),
        sql: Cow::Borrowed(sql),
        rows_max: limits.rows_max,
        bytes_max: limits.bytes_max,
        memory_limit: limits.memory_limit,
        cpu_seconds: limits.timeout.as_secs() + 1,
        spent_ms: limits.begun.elapsed().as_millis() as u64,
    };
    let task =
        serde_json::to_vec(&task).map_err(|e| Failure::Query(ErrorKind::Config, format!("`{}` cannot be queried: {e}", out.display())))?;
    let child = child::again_bare().arg(SQL_BOX).spawn().map_err(Failure::Start)?;
    let watch =
        Watch { deadline: limits.begun.checked_add(limits.timeout), timeout: limits.timeout, memory_limit: limits.memory_limit, unwanted };
    let (status, answer) = watch.over(child, task, limits.bytes_max + FRAME_BYTES)?;
    let said = |kind: &ErrorKind| status.code() == Some(kind.exit_code().into());
    match REASONS.iter().find(|kind| said(kind)) {
        _ if status.success() => Ok(answer),
        Some(kind) if !answer.is_empty() => Err(Failure::Query(*kind, String::from_utf8_lossy(&answer).into_owned())),
        _ => Err(Failure::Died(status)),
    }
}

/// What ends a child.
struct Watch<'a> {
    /// A time too long to be represented is no deadline.
    deadline: Option<Instant>,
    timeout: Duration,
    memory_limit: u64,
    unwanted: &'a AtomicBool,
}

impl Watch<'_> {
    /// Gives a child its task and takes its answer. It is over when this returns.
    fn over(&self, child: Child, task: Vec<u8>, answer_max: usize) -> Result<(ExitStatus, Vec<u8>), Failure> {
        let mut child = Reaped(child);
        let (mut stdin, stdout) = (child.0.stdin.take(), child.0.stdout.take());
        let (sender, answered) = mpsc::sync_channel(1);
        let talk = move || {
            // A child that does not take its task is over, or will be at its deadline.
            let told = stdin.take().map(|mut stdin| stdin.write_all(&task));
            drop((told, task));
            let mut answer = Vec::new();
            // One that ends in the middle of its answer ends with another status than 0.
            let _ = stdout.map(|stdout| stdout.take(answer_max as u64).read_to_end(&mut answer));
            let _ = sender.send(answer);
        };
        thread::Builder::new().name("pintail-sql-io".to_owned()).spawn(talk).map_err(Failure::Start)?;
        let answer = self.until_answered(&child, &answered)?;
        loop {
            match child.0.try_wait() {
                Ok(Some(status)) => return Ok((status, answer)),
                Ok(None) => self.check(&child)?,
                Err(error) => return Err(Failure::Start(error)),
            }
            thread::sleep(LAST_LOOK);
        }
    }

    fn until_answered(&self, child: &Reaped, answered: &Receiver<Vec<u8>>) -> Result<Vec<u8>, Failure> {
        loop {
            match answered.recv_timeout(LOOK) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) => self.check(child)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(Vec::new()),
            }
        }
    }

    /// Says why the child has to end now.
    fn check(&self, child: &Reaped) -> Result<(), Failure> {
        if self.unwanted.load(Ordering::Relaxed) {
            return Err(Failure::Unwanted);
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Failure::Time(self.timeout));
        }
        if child.resident() > self.memory_limit.saturating_add(OWN_BYTES) { Err(Failure::Memory(self.memory_limit)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use super::*;

    fn shell(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn watch(unwanted: &AtomicBool, timeout: Duration) -> Watch<'_> {
        Watch { deadline: Instant::now().checked_add(timeout), timeout, memory_limit: 64 << 20, unwanted }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_child_that_takes_memory_by_any_way_is_killed_long_before_it_has_twice_its_limit() {
        let wanted = AtomicBool::new(false);
        let begun = Instant::now();
        // It reads a line that does not end.
        let ended = watch(&wanted, LONG).over(shell("exec tail /dev/zero"), Vec::new(), 10);
        assert!(matches!(ended, Err(Failure::Memory(_))), "{ended:?}");
        assert!(begun.elapsed() < LONG / 2);
    }

    #[test]
    fn a_child_that_reads_nothing_writes_nothing_or_never_ends_is_killed_at_its_deadline() {
        let wanted = AtomicBool::new(false);
        for script in
            ["exec sleep 60", "cat >/dev/null; exec sleep 60", "cat; exec >/dev/null; exec sleep 60", "while :; do echo; sleep 0.01; done"]
        {
            let (begun, child) = (Instant::now(), shell(script));
            let pid = child.id();
            let ended = watch(&wanted, Duration::from_millis(200)).over(child, vec![b' '; 1 << 20], usize::MAX >> 1);
            assert!(matches!(ended, Err(Failure::Time(_))), "{script}: {ended:?}");
            assert!(begun.elapsed() < Duration::from_secs(10), "{script}: {:?}", begun.elapsed());
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{script}: it is reaped");
        }
    }

    #[test]
    fn a_child_whose_answer_is_not_waited_for_is_killed() {
        let ended = watch(&AtomicBool::new(true), LONG).over(shell("exec sleep 60"), Vec::new(), 10);
        assert!(matches!(ended, Err(Failure::Unwanted)), "{ended:?}");
    }

    #[test]
    fn a_child_that_dies_says_how_and_what_it_wrote_is_not_longer_than_allowed() {
        let wanted = AtomicBool::new(false);
        let (status, _) = watch(&wanted, LONG).over(shell("kill -9 $$"), Vec::new(), 10).unwrap();
        assert_eq!(status.signal(), Some(9));
        let (status, answer) = watch(&wanted, LONG).over(shell("cat; exit 7"), b"0123456789".to_vec(), 10).unwrap();
        assert_eq!((status.code(), answer.as_slice()), (Some(7), &b"0123456789"[..]));
        let (_, answer) = watch(&wanted, LONG).over(shell("exec yes"), Vec::new(), 10).unwrap();
        assert_eq!(answer.len(), 10);
    }
}
