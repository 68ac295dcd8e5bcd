//! Spool: log lines on their way to standard error.
//!
//! Owns: that nobody waits for the reader of the log: a thread writes, callers leave their lines and go on. What finds no room is dropped and
//! counted, and so is what cannot be written; the count is a line of the log as soon as lines get through again.
//! Does not own: how a line looks.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use pintail_core::error::{Error, Result};
use tracing::warn;

/// Bytes of lines that wait: about a thousand.
const BYTES_MAX: usize = 256 << 10;
/// Wait before a reader is tried again that takes nothing at this moment (a terminal or pipe that somebody made non-blocking).
const PAUSE: Duration = Duration::from_millis(10);

/// The way of lines to a writer. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Spool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inbox: Mutex<Inbox>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inbox {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether lines were taken out that are not written yet.
    writing: bool,
    /// Lines that were lost since the process began.
    dropped: u64,
    /// Those of them that the log was told of.
    told: u64,
}

impl Spool {
    /// Starts the thread that writes.
    pub(super) fn start(to: impl Write + Send + 'static) -> Result<Self> {
        let spool = Self(Arc::new(Shared { inbox: Mutex::default(), changed: Condvar::new() }));
        let inner = spool.clone();
        // A detached thread: a reader that never takes its lines must not keep the process alive.
        let spawned = thread::Builder::new().name("pintail-log".to_owned()).spawn(move || inner.write_all(to));
        spawned.map_err(|e| Error::io("start the thread that writes the log", e))?;
        Ok(spool)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.0.inbox.lock()
    }

    /// Leaves a whole line.
    pub(super) fn push(&self, line: Vec<u8>) {
        let mut inbox = self.inbox();
        if inbox.bytes + line.len() > BYTES_MAX {
            inbox.dropped += 1;
            return;
        }
        inbox.bytes += line.len();
        inbox.lines.push_back(line);
        self.0.changed.notify_all();
    }

    /// Returns how many lines were lost.
    pub(super) fn dropped(&self) -> u64 {
        self.inbox().dropped
    }

    /// Waits until all lines are written; gives up after `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let waiting = |inbox: &mut Inbox| inbox.writing || !inbox.lines.is_empty();
        self.0.changed.wait_while_for(&mut self.inbox(), waiting, patience);
    }

    fn write_all(&self, mut to: impl Write) {
        loop {
            let mut inbox = self.inbox();
            self.0.changed.wait_while(&mut inbox, |inbox| inbox.lines.is_empty());
            let lines = std::mem::take(&mut inbox.lines);
            (inbox.bytes, inbox.writing) = (0, true);
            drop(inbox);
            let lost = lines.iter().filter(|line| write_line(&mut to, line).is_err()).count();
            let mut inbox = self.inbox();
            inbox.writing = false;
            inbox.dropped += lost as u64;
            let untold = inbox.dropped - inbox.told;
            let flows = lost < lines.len();
            if flows {
                inbox.told = inbox.dropped;
            }
            drop(inbox);
            self.0.changed.notify_all();
            if flows && untold > 0 {
                warn!(lines = untold, "log lines were dropped: nobody took them");
            }
        }
    }
}

fn write_line(to: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match to.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use super::*;

    /// A reader that stands still while its lock is held, and fails while it is told to.
    #[derive(Debug, Clone, Default)]
    struct Reader {
        taken: Arc<Mutex<Vec<u8>>>,
        broken: Arc<AtomicBool>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.broken.load(Ordering::SeqCst) {
                return Err(ErrorKind::StorageFull.into());
            }
            self.taken.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn nobody_waits_for_a_reader_that_stands_still_and_what_finds_no_room_is_counted() {
        let reader = Reader::default();
        let spool = Spool::start(reader.clone()).unwrap();
        let stall = reader.taken.lock();
        let begun = Instant::now();
        let pushed = 3 * BYTES_MAX / 1000;
        (0..pushed).for_each(|_| spool.push(vec![b'x'; 1000]));
        spool.flush(Duration::from_millis(50));
        assert!(begun.elapsed() < PATIENCE / 2 && spool.dropped() > 0, "{:?}, {}", begun.elapsed(), spool.dropped());
        drop(stall);
        spool.flush(PATIENCE);
        let taken = reader.taken.lock().len() / 1000;
        assert_eq!(taken as u64 + spool.dropped(), pushed as u64);
    }

    #[test]
    fn lines_that_cannot_be_written_are_lost_and_those_after_them_are_not() {
        let reader = Reader::default();
        let spool = Spool::start(reader.clone()).unwrap();
        reader.broken.store(true, Ordering::SeqCst);
        spool.push(b"lost\n".to_vec());
        spool.flush(PATIENCE);
        assert_eq!(spool.dropped(), 1);
        reader.broken.store(false, Ordering::SeqCst);
        spool.push(b"kept\n".to_vec());
        spool.flush(PATIENCE);
        assert_eq!(reader.taken.lock().as_slice(), b"kept\n");
    }
}
