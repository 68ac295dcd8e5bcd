//! The thread that writes the journal: requests that wait together share one fsync.
//!
//! Owns: how many requests go into a group, and telling each what became of it.
//! Does not own: the writing (see `log`).

use pintail_core::error::Error;
use tokio::sync::{mpsc, oneshot};

use super::log::Log;
use super::{AppendError, Receipt, Request};

/// Requests of a group. More would make the first wait for no gain: one fsync of many is as good as none for each.
const REQUESTS_TOGETHER: usize = 1024;

/// Bytes of bodies after which a group is written.
const BYTES_TOGETHER: usize = 8 << 20;

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum Message {
    /// To append a request, and who waits for it.
    Append(Request, Waiting),
    /// To let go of what is committed.
    Release(u64),
    /// To end the newest segment, and who waits for it.
    Close(oneshot::Sender<()>),
}

type Waiting = oneshot::Sender<Result<Receipt, AppendError>>;

/// The thread's state.
#[derive(Debug)]
pub(super) struct Writer {
    log: Log,
    inbox: mpsc::Receiver<Message>,
}

/// What is done in one turn.
#[derive(Default)]
struct Turn {
    requests: Vec<Request>,
    waiting: Vec<Waiting>,
    bytes: usize,
    released: Option<u64>,
    closing: Vec<oneshot::Sender<()>>,
}

impl Writer {
    pub(super) fn new(log: Log, inbox: mpsc::Receiver<Message>) -> Self {
        Self { log, inbox }
    }

    /// Writes until the last handle is dropped.
    pub(super) fn run(mut self) {
        let _unwinding = Unwinding(self.log.shared());
        while let Some(first) = self.inbox.blocking_recv() {
            let mut turn = Turn::default();
            turn.take(first);
            while turn.requests.len() < REQUESTS_TOGETHER
                && turn.bytes < BYTES_TOGETHER
                && let Ok(next) = self.inbox.try_recv()
            {
                turn.take(next);
            }
            if !turn.requests.is_empty() {
                let answers = self.log.append(&turn.requests);
                for (waiting, answer) in turn.waiting.into_iter().zip(answers) {
                    // Who does not wait any more has its answer at the next try, if it has a key.
                    let _ = waiting.send(answer);
                }
            }
            if let Some(committed) = turn.released {
                self.log.release(committed);
            }
            if !turn.closing.is_empty() {
                self.log.close();
                for done in turn.closing {
                    let _ = done.send(());
                }
            }
        }
        self.log.close();
    }
}

impl Turn {
    fn take(&mut self, message: Message) {
        match message {
            Message::Append(request, waiting) => {
                self.bytes += request.body.len();
                self.requests.push(request);
                self.waiting.push(waiting);
            }
            Message::Release(committed) => self.released = self.released.max(Some(committed)),
            Message::Close(done) => self.closing.push(done),
        }
    }
}

/// Stops the journal if its thread panics: readers would wait for ever.
struct Unwinding(std::sync::Arc<super::shared::Shared>);

impl Drop for Unwinding {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop(&Error::internal("the thread of the journal panicked"));
        }
    }
}
