//! Processes of this program that it starts itself: what may end or eat the process runs in one of them.
//!
//! Owns: starting this program again, how much memory such a process has, that it ends with the process that started it, and that it is over, and
//! reaped, when nobody holds it any more.
//! Does not own: what it is told and answers, and when it must end (see `sql_box`, `trial`).

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pintail_core::error::{Error, Result};
use pintail_core::limits;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Time between two looks at a child. Memory grows by some 20 MB in it.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// Where the dynamic linker looks for DuckDB, if that is not linked in.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// Returns what starts this program again, with pipes for its input and output: also when its file was replaced or removed since, which the link
/// of the kernel outlives.
pub(crate) fn again() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("pintail").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// As [`again`], with nothing in the environment but what the program does not start without.
pub(crate) fn again_bare() -> Command {
    let mut command = again();
    command.env_clear().envs(std::env::var_os(LIBRARY_PATH).map(|path| (LIBRARY_PATH, path)));
    command
}

/// Asks the kernel to end this process with the thread of `parent` that started it, whatever ends that.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::TryAgain`] if the parent is gone already.
pub(crate) fn die_with(parent: i32) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| Error::io("ask to die with the parent process", e.into()))?;
    // It may have ended before this process asked.
    if getppid().is_none_or(|now| now.as_raw_pid() != parent) {
        return Err(Error::try_again("the process that started this one has ended"));
    }
    Ok(())
}

/// A child that is killed and reaped when this is dropped. Both do nothing to one that is over.
#[derive(Debug)]
pub(crate) struct Reaped(pub Child);

impl Reaped {
    /// Returns the bytes that it has in memory for itself; 0 when it is over.
    pub(crate) fn resident(&self) -> u64 {
        limits::process_bytes(&self.0.id().to_string(), "RssAnon").unwrap_or(0)
    }

    /// Ends it.
    pub(crate) fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Reaped {
    fn drop(&mut self) {
        self.end();
    }
}
