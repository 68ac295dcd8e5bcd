//! Signals: SIGTERM and SIGINT ask the line to stop, SIGHUP asks for changed lookup tables (or says that the terminal is gone).
//!
//! Owns: the handlers, and that a second SIGTERM or SIGINT leaves at once, whatever the runtime is doing.
//! Does not own: what stopping means (see `pipeline`).

#![allow(unsafe_code, reason = "what a second signal does is done within the handler, where not even a stuck runtime can hold it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level;
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
    let first = Arc::new(First::new());
    for (number, code) in [(SIGTERM, 143), (SIGINT, 130)] {
        let first = first.clone();
        let handle = move || {
            if first.is_long_ago() {
                low_level::exit(code);
            }
        };
        // SAFETY: the handler reads the clock and an atomic and may end the process, all of it allowed there.
        unsafe { low_level::register(number, handle) }.map_err(failed)?;
    }
    let on_terminal = is_terminal();
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let (stop_sender, stop) = watch::channel(false);
    let (reload_sender, reload) = watch::channel(0);
    // One that came between the two kinds of handlers was noted and has woken nobody.
    if first.has_come() {
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

/// When the first signal came.
struct First {
    installed: Instant,
    /// Nanoseconds from then to the first signal; 0 before it.
    after: AtomicU64,
}

impl First {
    fn new() -> Self {
        Self { installed: Instant::now(), after: AtomicU64::new(0) }
    }

    fn has_come(&self) -> bool {
        self.after.load(Ordering::SeqCst) != 0
    }

    /// Takes up a signal. Returns whether the first one came so long before it that it is another. Called within a handler.
    fn is_long_ago(&self) -> bool {
        let now = u64::try_from(self.installed.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
        match self.after.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => false,
            Err(first) => Duration::from_nanos(now.saturating_sub(first)) >= TOGETHER,
        }
    }
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
