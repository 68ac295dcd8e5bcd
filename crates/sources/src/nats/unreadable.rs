//! Messages that the client cannot take up: it closes the connection at headers that it does not understand, each time that they are delivered.
//!
//! Owns: which headers these are, and taking such a message past the consumer.
//! Does not own: noticing that a session got nowhere (see `reader`).
//!
//! The headers of a message are no part of its record, so it is fetched by itself, without them. In a work queue that would not do: the message
//! would be delivered again until it is acknowledged, and only a delivery can be. There it is named.

use std::str::FromStr as _;

use async_nats::jetstream::stream::RetentionPolicy;
use async_nats::{HeaderName, Subject};
use bytes::Bytes;
use tracing::warn;

use super::check::{ANY, Messages, Stored};
use super::connect::Failure;
use super::history::{Delivered, History};
use super::position::Position;
use super::reader::Reader;
use crate::messages::Chunks;

/// Returns whether the client takes a message with these headers: lines with a name, each with those that continue it.
fn is_understood(headers: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(headers) else { return false };
    let mut lines = text.lines();
    if !matches!(lines.next(), None | Some("NATS/1.0")) {
        return false;
    }
    let mut is_named = false;
    lines.all(|line| {
        let continues = is_named && line.starts_with(char::is_whitespace);
        is_named = continues || line.split_once(':').is_some_and(|(name, _)| HeaderName::from_str(name).is_ok());
        !line.contains('\r') && (is_named || line.is_empty())
    })
}

/// Takes up the messages behind a position that the client cannot, as many as follow each other. Returns the position behind them.
pub(super) async fn pass(
    reader: &mut Reader,
    messages: &Messages<'_>,
    retention: RetentionPolicy,
    position: Position,
) -> Result<Position, Failure> {
    let mut behind = position;
    while !*reader.stop.borrow() {
        let found = messages.from(behind.next, reader.config.subject.as_deref().unwrap_or(ANY)).await?;
        let Some(stored) = found.filter(|found| !is_understood(&found.headers)) else { break };
        if retention == RetentionPolicy::WorkQueue {
            let (sequence, stream) = (stored.sequence, &reader.config.stream);
            return Err(Failure::Passing(format!(
                "the message at sequence {sequence} of the stream `{stream}` has headers that cannot be read, so it cannot be delivered: delete it \
                 (`nats stream rmm {stream} {sequence}`), which is a gap for `source.on_gap`, and publish it again without them"
            )));
        }
        behind = take_up(reader, stored, behind).await;
        // The sessions fail, and yet it gets on.
        reader.reach.steady();
    }
    Ok(behind)
}

/// Takes up a message without its headers. Returns the position behind it.
async fn take_up(reader: &mut Reader, stored: Stored, position: Position) -> Position {
    let Stored { sequence, time, subject, payload, .. } = stored;
    warn!(stream = reader.config.stream, sequence, "a message has headers that cannot be read: it is fetched without them");
    let history = History::new(reader.key.clone(), position.evidence.clone());
    let mut chunks = Chunks::new(position.partition.clone(), position.next, reader.record_bytes_max, history);
    let (subject, payload) = (Subject::from(subject), Bytes::from(payload));
    let delivered = Delivered { subject: &subject, payload: &payload, headers: None, time };
    chunks.push(sequence, &delivered.message(sequence), &delivered);
    let mut behind = position;
    for chunk in chunks.take() {
        (behind.next, behind.evidence) = (chunk.range.to, chunk.range.evidence.clone());
        reader.positions.keep(&chunk.range);
        // Nobody takes it once the source is stopped; it is fetched again at the next start.
        let _ = reader.chunks.send(Ok(chunk)).await;
    }
    behind
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_which_one_is_no_text_or_has_no_name_are_not_understood() {
        for headers in ["", "NATS/1.0\r\n\r\n", "NATS/1.0\r\nA: b\r\nC:d\r\n e\r\n\r\n", "NATS/1.0\r\nA:\r\n\r\n"] {
            assert!(is_understood(headers.as_bytes()), "{headers:?}");
        }
        for headers in [&b"NATS/1.0\r\nA: \xff\r\n\r\n"[..], b"NATS/1.0\r\nA b\r\n\r\n", b"NATS/1.0\r\nA: b\rc\r\n\r\n"] {
            assert!(!is_understood(headers), "{headers:?}");
        }
    }
}
