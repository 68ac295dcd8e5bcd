//! Messages that the client cannot take up: it closes the connection at a subject or headers that it does not understand, each time that they are
//! delivered, and takes a status among the headers for a word of the server.
//!
//! Owns: which messages these are, and taking them past the consumer.
//! Does not own: noticing that a session got nowhere, and what was removed before it was fetched (see `reader`).
//!
//! Headers are no part of a record, so such a message is fetched by itself, without them. Where messages are acknowledged, each new consumer
//! delivers it again until it is committed, and a work queue even then. So what follows is fetched in the same way until the commit, and a work
//! queue is told that the message is done with: the consumer of the session that failed has delivered it, so its reply subject is known
//! although nobody could read it.

use std::str::FromStr as _;
use std::time::Duration;

use async_nats::jetstream::stream::{RetentionPolicy, Stream};
use async_nats::{HeaderMap, HeaderName, Subject};
use bytes::Bytes;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::acks::{ACK, reply_all};
use super::check::{ANY, Messages, Stored};
use super::connect::{Connection, Failure};
use super::history::{Delivered, History};
use super::position::Position;
use super::reader::Reader;
use super::session::look;
use crate::messages::Chunks;

/// Stands in what the server says of a subject for bytes that are no text.
const NO_TEXT: char = char::REPLACEMENT_CHARACTER;

/// Time between two looks for a commit, or for another message.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Messages behind one that the client does not take that are fetched by themselves as well: a producer that sends one sends others, and a session
/// for each of them costs as much as a hundred requests.
const AHEAD: usize = 64;

/// Returns the headers as the client would; `None` where it would not: lines with a name, each with those that continue it.
fn parsed(headers: &[u8]) -> Option<HeaderMap> {
    let mut lines = std::str::from_utf8(headers).ok().filter(|text| !text.replace("\r\n", "").contains('\r'))?.lines().peekable();
    if !matches!(lines.next(), None | Some("NATS/1.0")) {
        return None;
    }
    let mut map = HeaderMap::new();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, value) = line.split_once(':')?;
        let mut value = value.trim_start().to_owned();
        while let Some(continued) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(continued);
        }
        map.append(HeaderName::from_str(name).ok()?, value.trim_end());
    }
    Some(map)
}

/// Returns the headers of a message that the client takes; `None` if it does not take it.
fn understood(stored: &Stored) -> Option<HeaderMap> {
    // Beside headers, the client takes any white space for the end of a subject.
    let is_cut = !stored.headers.is_empty() && stored.subject.contains(char::is_whitespace);
    if is_cut || stored.subject.contains(NO_TEXT) { None } else { parsed(&stored.headers) }
}

/// Takes the messages behind a position that the client cannot, those between and soon behind them, and others for as long as a consumer would
/// deliver one of them again. Returns the position behind.
pub(super) async fn pass(reader: &mut Reader, connection: &Connection, stream: &Stream, position: Position) -> Result<Position, Failure> {
    let retention = stream.cached_info().config.retention;
    let (name, subject) = (reader.config.stream.clone(), reader.config.subject.clone().unwrap_or_else(|| ANY.to_owned()));
    let messages = Messages { connection, stream: &name };
    let mut again = deliver_again(reader, &messages, retention, &position, &subject).await?;
    let (mut behind, mut ahead) = (position, 0_usize);
    while !*reader.stop.borrow() {
        let waits = again.last().is_some_and(|last| *last >= committed(reader, &behind));
        let found = messages.from(behind.next, &subject).await?.map(|stored| (understood(&stored), stored));
        if !waits && found.as_ref().is_none_or(|(headers, _)| headers.is_some() && ahead == 0) {
            break;
        }
        if found.as_ref().is_none_or(|(_, stored)| stored.sequence > behind.next) {
            let next = behind.next;
            behind = reader.pass_removed(&look(connection, stream, next).await?, behind).await?;
            // What was found before the look may be gone as well.
            if behind.next > next {
                continue;
            }
        }
        match found {
            Some((headers, stored)) => {
                ahead = ahead.saturating_sub(1);
                if headers.is_none() {
                    ahead = AHEAD;
                    tell(reader, &stored);
                    again.extend((retention != RetentionPolicy::Limits).then_some(stored.sequence));
                }
                behind = take_up(reader, stored, headers, behind).await;
            }
            None => sleep(LOOK_AGAIN).await,
        }
        // The sessions fail, and yet it gets on.
        reader.reach.steady();
    }
    if retention == RetentionPolicy::WorkQueue {
        let done = committed(reader, &behind);
        let replies = again.into_iter().take_while(|sequence| *sequence < done).map(|sequence| reply(reader, sequence));
        reply_all(&connection.client, replies.collect(), ACK).await;
    }
    Ok(behind)
}

/// Says that there are such messages: a producer may send any number of them.
fn tell(reader: &Reader, stored: &Stored) {
    let (stream, sequence) = (&reader.config.stream, stored.sequence);
    debug!(stream, sequence, "a message has a subject or headers that cannot be read");
    if let Some(messages) = reader.unreadable.count() {
        warn!(stream, messages, sequence, "messages have a subject or headers that cannot be read: they are fetched without them");
    }
}

/// Returns the sequences before a position that the next consumer would deliver to no avail.
async fn deliver_again(
    reader: &Reader,
    messages: &Messages<'_>,
    retention: RetentionPolicy,
    position: &Position,
    subject: &str,
) -> Result<Vec<u64>, Failure> {
    let mut next = match retention {
        RetentionPolicy::Limits => return Ok(Vec::new()),
        RetentionPolicy::Interest => committed(reader, position).max(1),
        RetentionPolicy::WorkQueue => 1,
    };
    let mut again = Vec::new();
    while let Some(stored) = messages.from(next, subject).await?.filter(|stored| stored.sequence < position.next) {
        next = stored.sequence + 1;
        again.extend(understood(&stored).is_none().then_some(stored.sequence));
    }
    Ok(again)
}

/// Returns the sequence behind what is committed.
fn committed(reader: &Reader, position: &Position) -> u64 {
    reader.shared.acks().committed(&position.partition.id)
}

/// Returns the reply subject of a message of a work queue that its consumer has delivered. Only stream, consumer and sequence count in it.
fn reply(reader: &Reader, sequence: u64) -> Subject {
    format!("$JS.ACK.{}.{}.1.{sequence}.{sequence}.0.0", reader.config.stream, reader.config.consumer).into()
}

/// Takes a message that was fetched by itself. Returns the position behind it.
async fn take_up(reader: &mut Reader, stored: Stored, headers: Option<HeaderMap>, position: Position) -> Position {
    let Stored { sequence, time, subject, payload, .. } = stored;
    let history = History::new(reader.key.clone(), position.evidence.clone());
    let mut chunks = Chunks::new(position.partition.clone(), position.next, reader.line.record_bytes_max, history);
    let (subject, payload) = (Subject::from(subject), Bytes::from(payload));
    let delivered = Delivered { subject: &subject, payload: &payload, headers: headers.as_ref(), time };
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
            assert!(parsed(headers.as_bytes()).is_some(), "{headers:?}");
        }
        let others =
            [&b"NATS/1.0\r\nA: \xff\r\n\r\n"[..], b"NATS/1.0\r\nA b\r\n\r\n", b"NATS/1.0\r\nA: b\rc\r\n\r\n", b"NATS/1.0 503\r\n\r\n"];
        for headers in others {
            assert!(parsed(headers).is_none(), "{headers:?}");
        }
    }

    #[test]
    fn headers_of_a_message_that_is_fetched_are_those_that_it_is_delivered_with() {
        let map = parsed(b"NATS/1.0\r\nA:  b \r\nC:d\r\n e\r\nA:\r\n\r\n").unwrap();
        let values = |name: &str| map.get_all(name).map(|value| value.as_str().to_owned()).collect::<Vec<_>>();
        assert_eq!((values("A"), values("C")), (vec!["b".to_owned(), String::new()], vec!["d e".to_owned()]));
    }

    #[test]
    fn a_subject_that_is_no_text_or_has_white_space_beside_headers_is_not_understood() {
        let stored = |subject: &str, headers: &str| Stored {
            sequence: 1,
            time: None,
            subject: subject.to_owned(),
            payload: Vec::new(),
            headers: headers.into(),
        };
        let headers = "NATS/1.0\r\nA: b\r\n\r\n";
        for (subject, headers, is_understood) in
            [("a.é", headers, true), ("a\u{3000}", "", true), ("a\u{3000}", headers, false), ("a.\u{fffd}", "", false)]
        {
            assert_eq!(understood(&stored(subject, headers)).is_some(), is_understood, "{subject:?} {headers:?}");
        }
    }
}
