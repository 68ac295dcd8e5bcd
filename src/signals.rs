//! Signals: SIGTERM and SIGINT ask the line to stop, SIGHUP asks for changed lookup tables (or says that the terminal is gone).
//!
//! Owns: the handlers, and that a second SIGTERM or SIGINT leaves at once, whatever the runtime is doing.
//! Does not own: what stopping means (see `pipeline`).

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

use crate::error::{Error, Result};

/// Signals that come together are one: `timeout` sends its own to the process and to the process group, microseconds apart.
const TOGETHER: Duration = Duration::from_millis(100);

/// What the signals have asked for.
#[derive(Debug, Clone)]
pub struct Signals {
    /// Turns true at the first SIGTERM or SIGINT.
    pub stop: watch::Receiver<bool>,
    /// Counts SIGHUPs.
    pub reload: watch::Receiver<u64>,
}

/// Installs the handlers. Must run inside the runtime, before anything that a signal should not kill.
pub fn install() -> Result<Signals> {
    let failed = |e| Error::io("install the signal handlers", e);
    let stopping = Arc::new(AtomicBool::new(false));
    let leaving = Arc::new(AtomicBool::new(false));
    let (mut first, sender) = UnixStream::pair().map_err(failed)?;
    for (number, code) in [(SIGTERM, 143), (SIGINT, 130)] {
        // It leaves from within the handler, so not even a stuck runtime can hold it.
        flag::register_conditional_shutdown(number, code, leaving.clone()).map_err(failed)?;
        flag::register(number, stopping.clone()).map_err(failed)?;
        pipe::register(number, sender.try_clone().map_err(failed)?).map_err(failed)?;
    }
    // For the same reason on a thread of its own.
    let arm = move || {
        if first.read_exact(&mut [0]).is_ok() {
            thread::sleep(TOGETHER);
            leaving.store(true, Ordering::SeqCst);
        }
    };
    thread::Builder::new().name("pintail-signals".into()).spawn(arm).map_err(failed)?;
    let on_terminal = is_terminal();
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let (stop_sender, stop) = watch::channel(false);
    let (reload_sender, reload) = watch::channel(0);
    // One that came between the two kinds of handlers has raised the flag and woken nobody.
    if stopping.load(Ordering::SeqCst) {
        stop_sender.send_replace(true);
    }
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(()) = terminate.recv() => stop_for("SIGTERM", &stop_sender),
                Some(()) = interrupt.recv() => stop_for("SIGINT", &stop_sender),
                // The terminal was closed: nobody would ever see this process again.
                Some(()) = hangup.recv() => if on_terminal && !is_terminal() {
                    stop_for("SIGHUP", &stop_sender);
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
    // The stop first: a log that nobody reads may block.
    if !stop.send_replace(true) {
        info!(signal, "stopping: the open checkpoint will be committed; a second signal leaves at once");
    }
}
