//! Signals: SIGTERM and SIGINT ask the line to stop, SIGHUP asks for changed lookup tables (or says that the terminal is gone).
//!
//! Owns: the handlers; that a second SIGTERM or SIGINT leaves at once, and that a stop comes to its end in time, whatever the runtime is doing.
//! Does not own: what stopping means (see `pipeline`).

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use pintail_core::error::{Error, ErrorKind, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};
use signal_hook::{SigId, flag};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info};

/// Signals that come together are one: `timeout` sends its own to the process and to the process group, microseconds apart.
const TOGETHER: Duration = Duration::from_millis(100);

/// The signals that stop the line, with the exit codes of the second of them.
const LEFT_WITH: [(i32, i32); 2] = [(SIGTERM, 143), (SIGINT, 130)];

/// Time beyond that of a stop for the process to end by itself: to say why, and to finish the log.
const ENDING: Duration = Duration::from_millis(1500);

/// What the signals have asked for.
#[derive(Debug, Clone)]
pub struct Signals {
    /// Turns true at the first SIGTERM or SIGINT.
    pub stop: watch::Receiver<bool>,
    /// Counts SIGHUPs.
    pub reload: watch::Receiver<u64>,
}

/// The first handlers of a process that is to be stopped in order: the first SIGTERM or SIGINT is noted from then on, and ends nothing. A second one
/// leaves at once: what is waited for then (a configuration on a slow disk, or from a pipe) may never come.
#[derive(Debug)]
pub struct Early {
    stopping: Arc<AtomicBool>,
    leaving: Vec<SigId>,
}

impl Early {
    /// Installs them. Until [`install`] has run nothing looks at what they note.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn install() -> Result<Self> {
        let failed = |e| Error::io("install the signal handlers", e);
        let stopping = Arc::new(AtomicBool::new(false));
        let mut leaving = Vec::new();
        for (number, code) in LEFT_WITH {
            // In this order: the first one must not find the flag that it raises.
            leaving.push(flag::register_conditional_shutdown(number, code, stopping.clone()).map_err(failed)?);
            flag::register(number, stopping.clone()).map_err(failed)?;
        }
        Ok(Self { stopping, leaving })
    }
}

/// Installs the handlers. Must run inside the runtime, before anything that a signal should not kill.
///
/// A process that still runs well after a stop that may take `stop_timeout` is ended with [`ErrorKind::TryAgain`], after `last_words`: the runtime
/// hangs, or its end does.
pub fn install(early: Early, stop_timeout: Duration, last_words: impl FnOnce() + Send + 'static) -> Result<Signals> {
    let failed = |e| Error::io("install the signal handlers", e);
    let Early { stopping, leaving: earlier } = early;
    let leaving = Arc::new(AtomicBool::new(false));
    let (mut first, sender) = UnixStream::pair().map_err(failed)?;
    for (number, code) in LEFT_WITH {
        // It leaves from within the handler, so not even a stuck runtime can hold it.
        flag::register_conditional_shutdown(number, code, leaving.clone()).map_err(failed)?;
        pipe::register(number, sender.try_clone().map_err(failed)?).map_err(failed)?;
    }
    earlier.into_iter().for_each(|id| _ = unregister(id));
    // For the same reason on a thread of its own.
    let guard = move || {
        if first.read_exact(&mut [0]).is_ok() {
            thread::sleep(TOGETHER);
            leaving.store(true, Ordering::SeqCst);
            thread::sleep(stop_timeout.saturating_add(ENDING));
            error!(
                "the stop did not come to its end in time: the process is ended, what was not committed is read again at the next start"
            );
            last_words();
            signal_hook::low_level::exit(ErrorKind::TryAgain.exit_code().into());
        }
    };
    thread::Builder::new().name("pintail-signals".into()).spawn(guard).map_err(failed)?;
    let on_terminal = is_terminal();
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let (stop_sender, stop) = watch::channel(false);
    let (reload_sender, reload) = watch::channel(0);
    // One that came before these handlers has raised the flag and woken nobody.
    if stopping.load(Ordering::SeqCst) {
        stop_for("one before the start", &stop_sender);
        let _ = (&sender).write_all(&[0]);
    }
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = terminate.recv() => stop_for("SIGTERM", &stop_sender),
                Some(()) = interrupt.recv() => stop_for("SIGINT", &stop_sender),
                // The terminal was closed: nobody would ever see this process again.
                Some(()) = hangup.recv() => if on_terminal && !is_terminal() {
                    stop_for("SIGHUP", &stop_sender);
                    // A stop like the others, with the same deadline.
                    let _ = (&sender).write_all(&[0]);
                } else {
                    reload_sender.send_modify(|count| *count += 1);
                },
                else => return,
            }
        }
    });
    Ok(Signals { stop, reload })
}

/// Returns whether standard output is a terminal that is still there.
fn is_terminal() -> bool {
    rustix::termios::isatty(rustix::stdio::stdout())
}

fn stop_for(signal: &str, stop: &watch::Sender<bool>) {
    if !stop.send_replace(true) {
        info!(signal, "stopping: the open checkpoint will be committed; a second signal leaves at once");
    }
}
