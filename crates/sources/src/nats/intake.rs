//! Intake: what one session brings, in the order of the stream.
//!
//! Owns: the check that no delivery is missing, when it is asked whether messages were removed unread, the lag.
//! Does not own: sessions and what follows when one ends (see `reader`), which messages were removed and what a gap leads to (there, too).
//!
//! A consumer numbers its deliveries. If a number is missing, something was lost on the way: the session ends, and the next one begins at the
//! first message that was not handed on. So nothing is late and nothing is twice, also where the sequences of the stream have holes.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::pull::{MessagesError, Stream as Messages};
use async_nats::jetstream::stream::Info;
use futures_util::{FutureExt, StreamExt};
use pintail_core::evidence::Witness;
use pintail_core::offsets::Note;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::acks::ACK;
use super::check::Messages as Stored;
use super::history::{Delivered, History, nothing};
use super::position::{Position, ShownStream};
use super::reader::{Exit, Reader};
use super::session::{Link, Session, look, observed};
use crate::messages::Chunks;

/// Time between two looks at the stream: the lag, and whether anything was removed.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The reading of one session.
pub(super) struct Intake<'a> {
    reader: &'a mut Reader,
    link: Link,
    chunks: Chunks<History>,
    /// What was found out of the stream, for the next chunk.
    notes: Vec<Note>,
    /// Deliveries received.
    received: u64,
    /// The deliveries received when some were on the way, as of the last look.
    waited_at: Option<u64>,
    /// Messages behind the last one received, as the server saw it.
    pending: u64,
    /// The last hole in the sequences, if it was not looked at yet.
    hole: Option<Range<u64>>,
}

impl<'a> Intake<'a> {
    /// Takes what a session brings, until it ends or must not go on.
    pub(super) async fn run(reader: &'a mut Reader, session: Session, position: Position) -> Exit {
        let Session { link, messages } = session;
        let history = History::new(reader.key.clone(), position.evidence);
        let chunks = Chunks::new(position.partition, position.next, reader.line.record_bytes_max, history);
        let pending = link.consumer.cached_info().num_pending;
        Intake { reader, link, chunks, notes: Vec::new(), received: 0, waited_at: None, pending, hole: None }.read(messages).await
    }

    async fn read(&mut self, mut messages: Messages) -> Exit {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut cut, mut stop) = (self.link.connection.lost.clone(), self.reader.stop.clone());
        let mut stopping = false;
        loop {
            let done = tokio::select! {
                () = turned(&mut cut) => Err(Exit::Lost("the connection is closed".to_owned())),
                () = turned(&mut stop), if !stopping => Err(Exit::Unwanted),
                _ = looks.tick(), if !stopping => self.look().await,
                message = messages.next(), if !stopping => self.take(message, &mut messages).await,
            };
            match done {
                // Chunks are unwanted once the source stops; acknowledgements are not.
                Err(Exit::Unwanted) => {
                    stopping = true;
                    self.link.end_reader().await;
                }
                Err(exit) => return exit,
                Ok(()) => {}
            }
        }
    }

    /// Takes a message and those that are there behind it, and hands them on.
    async fn take(&mut self, first: Option<Result<Message, MessagesError>>, messages: &mut Messages) -> Result<(), Exit> {
        let mut next = first;
        let taken = loop {
            if let Err(exit) = self.take_one(next).await {
                break Err(exit);
            }
            if self.chunks.is_full() {
                break Ok(());
            }
            match messages.next().now_or_never() {
                Some(message) => next = message,
                None => break Ok(()),
            }
        };
        // What came before a failure is whole, and is not asked for again: a network that loses much is slow, but gets on.
        if let Some(hole) = self.hole.take() {
            self.judge(hole).await?;
        }
        self.tell_lag(self.pending);
        self.hand_on().await?;
        taken
    }

    /// Takes one message up, and acknowledges it if it is committed already.
    async fn take_one(&mut self, message: Option<Result<Message, MessagesError>>) -> Result<(), Exit> {
        let message = delivered(message)?;
        match self.receive(&message)? {
            Some(reply) => self.acknowledge(reply).await,
            None => Ok(()),
        }
    }

    /// Appends one message. Returns a reply that is to be sent at once.
    fn receive(&mut self, message: &Message) -> Result<Option<Subject>, Exit> {
        let info = message.info().map_err(|e| Exit::Lost(format!("a message without its place in the stream: {e}")))?;
        self.received += 1;
        if info.consumer_sequence != self.received {
            return Err(Exit::Lost(format!("delivery {} came where {} was expected", info.consumer_sequence, self.received)));
        }
        let sequence = info.stream_sequence;
        self.pending = info.pending;
        let reply = match (self.link.acknowledge, message.reply.clone()) {
            (true, Some(reply)) => self.reader.shared.acks().deliver(sequence, reply),
            _ => None,
        };
        // What was handed on in an earlier session and is delivered again, to be acknowledged.
        if sequence < self.chunks.next() {
            return Ok(reply);
        }
        if sequence > self.chunks.next() && self.reader.removal_matters(self.link.stream.cached_info()) {
            self.hole = Some(self.chunks.next()..sequence);
        }
        let delivered = Delivered::new(message, &info);
        self.chunks.push(sequence, &delivered.message(sequence), &delivered);
        Ok(reply)
    }

    /// Looks whether something in a hole was removed. Of several holes the last one tells.
    async fn judge(&mut self, hole: Range<u64>) -> Result<(), Exit> {
        let removal = self.reader.meet_removal(&self.stream().await?, hole)?;
        self.notes.extend(removal.map(|(_, note)| note));
        Ok(())
    }

    /// Looks at the stream and the consumer. Where everything is received, the position moves behind what is not for us.
    async fn look(&mut self) -> Result<(), Exit> {
        // The stream before and after. What it did not have before was not delivered later, and what it had was, if the consumer has nothing
        // more; or else it was removed meanwhile, which shows after. (The sequence that the consumer is at says nothing: the server moves it
        // on when messages are removed.)
        let before = observed(&self.stream().await?);
        let consumer = self.link.consumer.get_info().await.map_err(|e| self.lost("the consumer cannot be looked at", &e))?;
        let after = self.stream().await?;
        self.reader.succeed();
        let on_the_way = consumer.delivered.consumer_sequence.saturating_sub(self.received);
        self.pending = consumer.num_pending + on_the_way;
        self.tell_lag(self.pending);
        if on_the_way > 0 {
            // The answers came behind what was sent before, so what was on the way at the last look and is not here will not come.
            if self.waited_at.replace(self.received) == Some(self.received) {
                return Err(Exit::Lost(format!("delivery {} did not come", self.received + 1)));
            }
            // What is missing before them is judged when they are there.
            return Ok(());
        }
        self.waited_at = None;
        if let Some((begin, note)) = self.reader.meet_removal(&after, self.chunks.next()..u64::MAX)? {
            self.notes.push(note);
            self.chunks.memory().pass(nothing(&self.reader.key, begin - 1, None));
            self.chunks.skip_to(begin);
        }
        if consumer.num_pending == 0 && before.end() > self.chunks.next() {
            let witness = self.last(&before).await?;
            self.chunks.memory().pass(witness);
            self.chunks.skip_to(before.end());
        }
        self.hand_on().await
    }

    async fn stream(&self) -> Result<Info, Exit> {
        Ok(look(&self.link.connection, &self.link.stream, self.chunks.next()).await?)
    }

    /// Returns the witness of the last message, which is not for us: behind a restore there may be one for us in its place.
    async fn last(&self, observed: &ShownStream) -> Result<Witness, Exit> {
        let messages = Stored { connection: &self.link.connection, stream: &self.reader.config.stream };
        let key = &self.reader.key;
        let last = messages.at(observed.last).await?;
        Ok(last.map_or_else(|| nothing(key, observed.last, observed.last_time), |message| message.witness(key)))
    }

    /// Hands on what is complete. A full channel is the backpressure.
    async fn hand_on(&mut self) -> Result<(), Exit> {
        for mut chunk in self.chunks.take() {
            chunk.range.notes.append(&mut self.notes);
            let range = chunk.range.clone();
            self.reader.chunks.send(Ok(chunk)).await.map_err(|_| Exit::Unwanted)?;
            self.reader.positions.keep(&range);
            self.reader.succeed();
        }
        Ok(())
    }

    async fn acknowledge(&self, reply: Subject) -> Result<(), Exit> {
        let sent = self.link.connection.client.publish(reply, ACK.into()).await;
        sent.map_err(|e| Exit::Lost(format!("cannot acknowledge: {e}")))
    }

    fn tell_lag(&self, messages: u64) {
        self.reader.shared.lag.store(messages, Ordering::Relaxed);
    }

    fn lost(&self, what: &str, error: &dyn std::error::Error) -> Exit {
        Exit::Lost(self.link.connection.explain(format!("{what}: {error}")))
    }
}

/// Waits until a flag is true; returns as well if nobody is left to set it.
async fn turned(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|flag| *flag).await;
}

fn delivered(message: Option<Result<Message, MessagesError>>) -> Result<Message, Exit> {
    match message {
        Some(Ok(message)) => Ok(message),
        Some(Err(e)) => Err(Exit::Lost(format!("the consumer gives no more messages: {e}"))),
        None => Err(Exit::Lost("the consumer has ended".to_owned())),
    }
}
