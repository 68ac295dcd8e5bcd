//! The screen: a table redrawn in place, log lines above it.
//!
//! Owns: the order of what is written to the terminal, and that nobody waits for it: a thread writes, callers leave their text and go on.
//! Does not own: the picture (see `render`).

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

/// Log lines that wait for a stalled terminal; further ones are counted and dropped.
const LINES_MAX: usize = 1_000;

/// Goes to the line above and erases it.
const ERASE_UP: &[u8] = b"\x1b[A\x1b[2K";

/// Columns and rows if the terminal does not tell.
const SIZE: (usize, usize) = (80, 24);

/// A terminal with a table at the end of it and log lines scrolling above.
pub struct Screen {
    shared: Arc<Shared>,
    size: fn() -> Option<(usize, usize)>,
}

/// What is asked of the terminal before each drawing.
#[derive(Clone, Copy)]
struct Asked {
    /// Its columns and rows.
    size: fn() -> Option<(usize, usize)>,
    /// Whether this process is in the foreground. If not, somebody types there.
    is_ours: fn() -> bool,
}

struct Shared {
    inbox: Mutex<Inbox>,
    changed: Condvar,
}

/// What callers left.
#[derive(Debug, Default)]
struct Inbox {
    lines: VecDeque<Vec<u8>>,
    /// Lines that were dropped and that the terminal was not told of.
    dropped: u64,
    /// All that were dropped.
    dropped_ever: u64,
    table: Option<String>,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// No more will come.
    Closing,
    /// All is written.
    Closed,
}

impl Screen {
    /// Takes the terminal on standard output; `None` if it is none, or one that cannot move its cursor. `beside_parent` says that the process which
    /// started this one leaves the terminal to it.
    pub fn stdout(beside_parent: bool) -> Option<Self> {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let is_ours = if beside_parent { is_foreground_or_parents } else { is_foreground };
        (!dumb && io::stdout().is_terminal()).then(|| Self::new(Box::new(io::stdout()), Asked { size: terminal_size, is_ours }))
    }

    fn new(out: Box<dyn Write + Send>, asked: Asked) -> Self {
        let shared = Arc::new(Shared { inbox: Mutex::default(), changed: Condvar::new() });
        let canvas = Canvas { out, table: String::new(), drawn: 0 };
        let inner = shared.clone();
        // A detached thread: a terminal that never takes its text again must not keep the process alive.
        std::thread::spawn(move || inner.run(canvas, asked));
        Self { shared, size: asked.size }
    }

    /// Returns the columns of the terminal, now.
    pub fn width(&self) -> usize {
        (self.size)().unwrap_or(SIZE).0
    }

    /// Replaces the table. If the terminal is slow, the newest wins.
    pub fn draw(&self, table: String) {
        self.shared.inbox().table = Some(table);
        self.shared.changed.notify_all();
    }

    /// Writes lines above the table. `text` is whole lines, as a log formatter gives them. Returns false once the screen is finished.
    pub fn log(&self, text: &[u8]) -> bool {
        let mut inbox = self.shared.inbox();
        if inbox.state != State::Open {
            return false;
        }
        if inbox.lines.len() < LINES_MAX {
            inbox.lines.push_back(text.to_owned())
        } else {
            inbox.dropped += 1;
            inbox.dropped_ever += 1;
        }
        self.shared.changed.notify_all();
        true
    }

    /// Returns how many log lines were dropped.
    pub fn dropped_ever(&self) -> u64 {
        self.shared.inbox().dropped_ever
    }

    /// Writes what waits and leaves the last table, whole, with the cursor below it. Gives up after `patience`.
    ///
    /// Tables that come later are not shown.
    pub fn finish(&self, patience: Duration) {
        let mut inbox = self.shared.inbox();
        if inbox.state == State::Open {
            inbox.state = State::Closing;
        }
        self.shared.changed.notify_all();
        self.shared.changed.wait_while_for(&mut inbox, |inbox| inbox.state != State::Closed, patience);
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").finish_non_exhaustive()
    }
}

/// Returns whether the terminal's foreground is this process' group, or nobody's that could be told.
fn is_foreground() -> bool {
    rustix::termios::tcgetpgrp(io::stdout()).map_or(true, |group| group == rustix::process::getpgrp())
}

/// Returns whether the terminal's foreground is this process' group, or that of the process which started it.
fn is_foreground_or_parents() -> bool {
    let is_parents = |group| rustix::process::getppid().is_some_and(|parent| rustix::process::getpgid(Some(parent)) == Ok(group));
    is_foreground() || rustix::termios::tcgetpgrp(io::stdout()).is_ok_and(is_parents)
}

/// Returns the columns of the terminal on standard output, or what is usual.
pub(super) fn columns() -> usize {
    terminal_size().unwrap_or(SIZE).0
}

fn terminal_size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    // A serial line says 0 × 0.
    (size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock()
    }

    fn run(&self, mut canvas: Canvas, asked: Asked) {
        loop {
            let idle = |inbox: &mut Inbox| inbox.state == State::Open && inbox.table.is_none() && inbox.lines.is_empty();
            let mut inbox = self.inbox();
            self.changed.wait_while(&mut inbox, idle);
            let (lines, dropped) = (std::mem::take(&mut inbox.lines), std::mem::take(&mut inbox.dropped));
            let (table, state) = (inbox.table.take(), inbox.state);
            drop(inbox);
            let height = (asked.size)().unwrap_or(SIZE).1;
            let is_ours = (asked.is_ours)();
            if !is_ours {
                canvas.leave();
            }
            let rows_max = match state {
                _ if !is_ours => 0,
                State::Open => rows_max(height),
                State::Closing | State::Closed => usize::MAX,
            };
            // A terminal that is gone takes nothing; the figures are in the log and in the records.
            let written = canvas.update(&lines, dropped, table, rows_max);
            if written.is_err() || state != State::Open {
                self.inbox().state = State::Closed;
                self.changed.notify_all();
                return;
            }
        }
    }
}

/// Returns how many rows of the table a terminal of so many rows shows at a time. The cursor stands below the table, so one row is its own. A terminal
/// too low for a row and the count of those left out shows none.
fn rows_max(height: usize) -> usize {
    if height < 3 { 0 } else { height - 1 }
}

/// What stands on the terminal.
struct Canvas {
    out: Box<dyn Write + Send>,
    table: String,
    /// Lines of the table above the cursor.
    drawn: usize,
}

impl Canvas {
    /// Leaves what stands there to whoever types below it.
    fn leave(&mut self) {
        self.drawn = 0;
    }

    /// Erases the table, writes the lines, draws the table, in one write. It takes at most `rows_max` rows, none if that is 0: what has scrolled off
    /// the top could not be erased.
    fn update(&mut self, lines: &VecDeque<Vec<u8>>, dropped: u64, table: Option<String>, rows_max: usize) -> io::Result<()> {
        self.table = table.unwrap_or_else(|| std::mem::take(&mut self.table));
        if rows_max == 0 && self.drawn == 0 && lines.is_empty() && dropped == 0 {
            return Ok(());
        }
        let mut bytes = Vec::new();
        bytes.push(b'\r');
        // Line by line: terminals keep what is cleared from the top to the end in one step, and each drawing would be one more screen of history.
        (0..self.drawn).for_each(|_| bytes.extend_from_slice(ERASE_UP));
        lines.iter().for_each(|line| bytes.extend_from_slice(line));
        if dropped > 0 {
            writeln!(bytes, "({dropped} log lines were dropped: the terminal did not take them)")?;
        }
        let rows = self.table.lines().count();
        let shown = if rows <= rows_max { rows } else { rows_max.saturating_sub(1) };
        // No line may wrap: the terminal may have become narrower since the table was laid out.
        bytes.extend_from_slice(b"\x1b[?7l");
        self.table.lines().take(shown).try_for_each(|line| writeln!(bytes, "{line}"))?;
        if shown < rows && rows_max > 0 {
            writeln!(bytes, "… {} more lines", rows - shown)?;
        }
        bytes.extend_from_slice(b"\x1b[?7h");
        self.drawn = rows.min(rows_max);
        self.out.write_all(&bytes)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use super::*;

    /// Keeps what was written; stalls while its lock is held.
    #[derive(Clone, Default)]
    struct Terminal(Arc<Mutex<Vec<u8>>>);

    impl Write for Terminal {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(buf);
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    fn canvas() -> (Canvas, Terminal) {
        let terminal = Terminal::default();
        (Canvas { out: Box::new(terminal.clone()), table: String::new(), drawn: 0 }, terminal)
    }

    /// Returns what a terminal of endless height shows: text, line ends, the line above erased.
    fn shown(terminal: &Terminal) -> Vec<String> {
        let text = String::from_utf8(terminal.0.lock().clone()).unwrap();
        let mut rows: Vec<String> = vec![String::new()];
        let mut rest = text.replace("\x1b[?7l", "").replace("\x1b[?7h", "").replace('\r', "");
        while !rest.is_empty() {
            if let Some(tail) = rest.strip_prefix("\x1b[A\x1b[2K") {
                assert_eq!(rows.pop().as_deref(), Some(""), "nothing stands below the table");
                rows.last_mut().unwrap().clear();
                rest = tail.to_owned();
            } else {
                match rest.remove(0) {
                    '\n' => rows.push(String::new()),
                    c => rows.last_mut().unwrap().push(c),
                }
            }
        }
        rows
    }

    #[test]
    fn log_lines_scroll_above_a_table_that_is_drawn_once() {
        let (mut canvas, terminal) = canvas();
        canvas.update(&[].into(), 0, Some("a 1\nb 1\n".into()), 10).unwrap();
        canvas.update(&[b"first\n".to_vec()].into(), 0, None, 10).unwrap();
        canvas.update(&[b"second\n".to_vec()].into(), 0, Some("a 2\n".into()), 10).unwrap();
        assert_eq!(shown(&terminal), ["first", "second", "a 2", ""]);
    }

    #[test]
    fn a_table_higher_than_the_terminal_is_cut_until_the_end() {
        let (mut canvas, terminal) = canvas();
        canvas.update(&[].into(), 0, Some("a\nb\nc\nd\n".into()), 3).unwrap();
        assert_eq!(shown(&terminal), ["a", "b", "… 2 more lines", ""]);
        canvas.update(&[].into(), 0, None, usize::MAX).unwrap();
        assert_eq!(shown(&terminal), ["a", "b", "c", "d", ""]);
    }

    #[test]
    fn a_terminal_too_low_for_a_table_shows_none_and_scrolls_nothing_off() {
        let (mut canvas, terminal) = canvas();
        for height in [1, 2] {
            canvas.update(&[].into(), 0, Some("a\nb\n".into()), rows_max(height)).unwrap();
            assert_eq!(shown(&terminal), [""]);
        }
        canvas.update(&[].into(), 0, None, rows_max(3)).unwrap();
        assert_eq!(shown(&terminal), ["a", "b", ""]);
    }

    #[test]
    fn a_process_in_the_background_writes_its_log_and_draws_nothing() {
        static OURS: AtomicBool = AtomicBool::new(false);
        let terminal = Terminal::default();
        let screen = Screen::new(Box::new(terminal.clone()), Asked { size: || None, is_ours: || OURS.load(Ordering::SeqCst) });
        let wait_for = |text: &str| {
            let deadline = Instant::now() + PATIENCE;
            while !String::from_utf8_lossy(&terminal.0.lock()).contains(text) {
                assert!(Instant::now() < deadline, "{text}");
                std::thread::yield_now();
            }
        };
        screen.draw("hidden\n".into());
        screen.log(b"line\n");
        wait_for("line");
        assert_eq!(shown(&terminal), ["line", ""]);
        OURS.store(true, Ordering::SeqCst);
        screen.draw("drawn\n".into());
        wait_for("drawn");
        OURS.store(false, Ordering::SeqCst);
        screen.draw("hidden\n".into());
        screen.log(b"another\n");
        wait_for("another");
        screen.finish(PATIENCE);
        assert_eq!(shown(&terminal), ["line", "drawn", "another", ""]);
    }

    #[test]
    fn nobody_waits_for_a_stalled_terminal_and_the_newest_table_wins() {
        let terminal = Terminal::default();
        let screen = Screen::new(Box::new(terminal.clone()), Asked { size: || None, is_ours: || true });
        let stall = terminal.0.lock();
        for n in 0..LINES_MAX * 3 {
            assert!(screen.log(b"line\n"));
            screen.draw(format!("table {n}\n"));
        }
        screen.finish(Duration::from_millis(10));
        drop(stall);
        screen.finish(PATIENCE);
        assert!(!screen.log(b"late\n") && screen.dropped_ever() > 0);
        let shown = shown(&terminal);
        assert!(shown.iter().any(|row| row.ends_with("log lines were dropped: the terminal did not take them)")));
        assert_eq!(shown[shown.len() - 2..], [format!("table {}", LINES_MAX * 3 - 1), String::new()]);
    }
}
