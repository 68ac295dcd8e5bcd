//! History: the messages that were read last, as the evidence of a position.
//!
//! Owns: which messages are remembered, how one is marked, and what stands for a sequence that has none.
//! Does not own: looking at them again (see `check`), what that is worth (see [`pintail_core::evidence`]).
//!
//! Witnesses are the messages at the distances 1, 2, 4 … 128 before the position, as far as there were so many, and the one with the greatest
//! server time, if the server's clock was set back since. A mark covers subject and payload. Headers are not in it: the two ways in which
//! messages are fetched don't show them alike, and the server time, in nanoseconds, tells messages apart already.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use async_nats::jetstream::message::Info;
use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use pintail_core::evidence::{Evidence, Key, Mark, Witness};
use pintail_core::messages::{Header, Message};

use crate::messages::Remember;

/// Distances of the witnesses from the position, in messages.
pub(super) const DISTANCES: [i64; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// The longest of them.
const LONGEST: i64 = DISTANCES[DISTANCES.len() - 1];

/// Bytes of a payload above which a message is marked at the end of a chunk, whether it is a witness or not: a hundred of them are not kept in
/// memory while nothing comes.
const KEPT_BYTES: usize = 4 << 10;

/// Marks a message. The length of the subject comes first, so that no two messages have the same bytes.
pub(super) fn mark(key: &Key, subject: &str, payload: &[u8]) -> Mark {
    let length = (subject.len() as u64).to_be_bytes();
    key.mark(&[b"nats message", &length, subject.as_bytes(), payload])
}

/// Returns the witness that there is no message at `sequence`: it was removed, or is not to be seen any more. A message that stands there later is
/// another history, unless it has the time of the one that was removed: a server may forget a removal when its power fails.
pub(super) fn nothing(key: &Key, sequence: u64, time: Option<i64>) -> Witness {
    Witness { from: sequence, to: sequence + 1, time, epoch: None, mark: key.mark(&[b"nats nothing"]) }
}

/// Returns whether the witness says that there is no message.
pub(super) fn is_nothing(key: &Key, witness: &Witness) -> bool {
    witness.mark == key.mark(&[b"nats nothing"])
}

/// A message as it was delivered, or fetched by itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivered<'a> {
    pub(super) subject: &'a Subject,
    pub(super) payload: &'a Bytes,
    /// None of a message that was fetched by itself.
    pub(super) headers: Option<&'a HeaderMap>,
    /// Server time, in nanoseconds since 1970.
    pub(super) time: Option<i64>,
}

impl<'a> Delivered<'a> {
    /// Takes a message with what its reply subject says of it.
    pub(super) fn new(message: &'a async_nats::jetstream::Message, info: &Info<'_>) -> Self {
        let time = nanoseconds(info.published.unix_timestamp_nanos());
        Self { subject: &message.subject, payload: &message.payload, headers: message.headers.as_ref(), time }
    }

    /// Returns it as every broker's messages are.
    pub(super) fn message(&self, sequence: u64) -> Message<'a> {
        Message {
            topic: Some(self.subject.as_str()),
            offset: i64::try_from(sequence).ok(),
            timestamp_ms: self.time.map(|time| time.div_euclid(1_000_000)),
            headers: self.headers.map(headers).unwrap_or_default(),
            payload: Some(self.payload),
            ..Message::default()
        }
    }
}

/// Returns headers as pairs. The client does not keep the order of names, so they come in their own.
fn headers(map: &HeaderMap) -> Vec<Header<'_>> {
    let pairs =
        map.iter().flat_map(|(name, values)| values.iter().map(|value| (Cow::Borrowed(name.as_ref()), Some(value.as_str().as_bytes()))));
    let mut headers: Vec<Header<'_>> = pairs.collect();
    headers.sort_by(|(one, _), (other, _)| one.cmp(other));
    headers
}

/// Returns a server time as a witness holds it; `None` where the server knows none, and says the year 1.
pub(super) fn nanoseconds(since_1970: i128) -> Option<i64> {
    i64::try_from(since_1970).ok().filter(|time| *time > 0)
}

/// One of the messages that were read last.
#[derive(Debug)]
struct Entry {
    /// Counts messages.
    number: i64,
    sequence: u64,
    time: Option<i64>,
    content: Content,
}

/// What is kept of a message. Most are forgotten before they are a witness at the end of a chunk: only then they are marked, once.
#[derive(Debug)]
enum Content {
    Whole { subject: Subject, payload: Bytes },
    Marked(Mark),
}

impl Entry {
    fn is_large(&self) -> bool {
        matches!(&self.content, Content::Whole { payload, .. } if payload.len() > KEPT_BYTES)
    }

    fn witness(&mut self, key: &Key) -> Witness {
        let mark = match &self.content {
            Content::Whole { subject, payload } => mark(key, subject, payload),
            Content::Marked(mark) => *mark,
        };
        self.content = Content::Marked(mark);
        Witness { from: self.sequence, to: self.sequence + 1, time: self.time, epoch: None, mark }
    }
}

/// The messages that were read last: all as far as the longest distance, and one behind it.
#[derive(Debug)]
pub(super) struct History {
    key: Key,
    entries: VecDeque<Entry>,
    /// The number of the last message.
    number: i64,
    /// The message with the greatest time, once a later one had a smaller time.
    latest: Option<Witness>,
    /// The evidence, while no message came since it was made.
    evidence: Option<Arc<Evidence>>,
}

impl History {
    /// Goes on behind a position with this evidence. How many messages lie between its witnesses is not known; they are taken to be at
    /// the distances that they were chosen for.
    pub(super) fn new(key: Key, evidence: Option<Arc<Evidence>>) -> Self {
        let mut history = Self { key, entries: VecDeque::new(), number: 0, latest: None, evidence: None };
        let witnesses = evidence.as_ref().map_or(&[][..], |evidence| &evidence.witnesses);
        for (place, witness) in witnesses.iter().enumerate() {
            let distance = DISTANCES.get(witnesses.len() - 1 - place).copied().unwrap_or(2 * LONGEST);
            history.number = 1 - distance;
            history.push(witness.from, witness.time, Content::Marked(witness.mark));
        }
        history.evidence = evidence;
        history
    }

    /// Takes what stands at a sequence that is passed over, although it is not read.
    pub(super) fn pass(&mut self, witness: Witness) {
        self.number += 1;
        self.push(witness.from, witness.time, Content::Marked(witness.mark));
    }

    fn push(&mut self, sequence: u64, time: Option<i64>, content: Content) {
        // The server's clock was set back: the message before may have the greatest time for long.
        if let Some(last) = self.entries.back_mut().filter(|last| last.time > time) {
            let last = last.witness(&self.key);
            self.latest = self.latest.filter(|latest| latest.time >= last.time).or(Some(last));
        }
        self.evidence = None;
        self.entries.push_back(Entry { number: self.number, sequence, time, content });
        while self.entries.get(1).is_some_and(|second| self.number - second.number + 1 >= LONGEST) {
            self.entries.pop_front();
        }
    }

    /// Returns the evidence of what was read.
    fn made(&mut self) -> Arc<Evidence> {
        for entry in self.entries.iter_mut().filter(|entry| entry.is_large()) {
            entry.witness(&self.key);
        }
        let mut witnesses: Vec<Witness> = Vec::with_capacity(DISTANCES.len() + 1);
        for distance in DISTANCES.iter().rev() {
            let behind = self.entries.partition_point(|entry| self.number - entry.number + 1 >= *distance);
            let entry = behind.checked_sub(1).and_then(|at| self.entries.get_mut(at));
            let witness = entry.map(|entry| entry.witness(&self.key));
            witnesses.extend(witness.filter(|witness| witnesses.last().is_none_or(|last| last.from < witness.from)));
        }
        let latest = self.latest.filter(|latest| witnesses.iter().all(|witness| witness.time < latest.time));
        if let Some(latest) = latest {
            let place = witnesses.partition_point(|witness| witness.from < latest.from);
            witnesses.insert(place, latest);
        }
        Arc::new(Evidence { witnesses, ..Evidence::default() })
    }
}

impl Remember for History {
    type Of<'a> = Delivered<'a>;

    fn see(&mut self, sequence: u64, of: &Delivered<'_>) {
        self.number += 1;
        let content = Content::Whole { subject: of.subject.clone(), payload: of.payload.clone() };
        self.push(sequence, of.time, content);
    }

    fn evidence(&mut self, _next: u64) -> Option<Arc<Evidence>> {
        let evidence = self.evidence.take().unwrap_or_else(|| self.made());
        self.evidence = Some(evidence.clone());
        Some(evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::new([7; 32])
    }

    fn whole(n: u64) -> Content {
        Content::Whole { subject: "events.eu".into(), payload: n.to_string().into() }
    }

    /// Takes the messages of these sequences; the time of each is its sequence, unless `time` says otherwise.
    fn read(history: &mut History, sequences: impl IntoIterator<Item = u64>, time: impl Fn(u64) -> i64) {
        for sequence in sequences {
            history.number += 1;
            history.push(sequence, Some(time(sequence)), whole(sequence));
        }
    }

    fn at(history: &mut History) -> Vec<u64> {
        let evidence = history.evidence(0).unwrap();
        for witness in &evidence.witnesses {
            assert_eq!(witness.mark, mark(&key(), "events.eu", witness.from.to_string().as_bytes()));
        }
        evidence.witnesses.iter().map(|witness| witness.from).collect()
    }

    #[test]
    fn witnesses_are_at_doubling_distances_as_far_as_there_are_messages() {
        let mut history = History::new(key(), None);
        assert!(at(&mut history).is_empty());
        read(&mut history, [1], |n| n as i64);
        assert_eq!(at(&mut history), [1]);
        read(&mut history, 2..=7, |n| n as i64);
        assert_eq!(at(&mut history), [4, 6, 7]);
        read(&mut history, 8..=5000, |n| n as i64);
        assert_eq!(at(&mut history), [4873, 4937, 4969, 4985, 4993, 4997, 4999, 5000]);
        // One message a chunk makes no difference.
        for n in 5001..=5100 {
            read(&mut history, [n], |n| n as i64);
            at(&mut history);
        }
        assert_eq!(at(&mut history), [4973, 5037, 5069, 5085, 5093, 5097, 5099, 5100]);
        assert!(history.entries.len() <= 129, "{} messages are remembered", history.entries.len());
    }

    #[test]
    fn what_was_read_before_a_restart_is_a_witness_until_enough_is_read_behind_it() {
        let mut history = History::new(key(), None);
        read(&mut history, 1..=1000, |n| n as i64);
        let evidence = history.evidence(0);
        let mut history = History::new(key(), evidence.clone());
        assert_eq!(history.evidence(0), evidence);
        read(&mut history, 1001..=1003, |n| n as i64);
        assert_eq!(at(&mut history), [873, 937, 969, 985, 993, 1000, 1002, 1003]);
        read(&mut history, 1004..=1130, |n| n as i64);
        assert_eq!(at(&mut history), [1003, 1067, 1099, 1115, 1123, 1127, 1129, 1130]);
    }

    #[test]
    fn the_message_with_the_greatest_time_stays_a_witness_while_the_clock_is_behind_it() {
        let mut history = History::new(key(), None);
        read(&mut history, 1..=10, |n| 1000 + n as i64);
        read(&mut history, 11..=600, |n| n as i64);
        assert_eq!(at(&mut history), [10, 473, 537, 569, 585, 593, 597, 599, 600]);
        let evidence = history.evidence(0);
        let mut history = History::new(key(), evidence);
        read(&mut history, 601..=900, |n| n as i64);
        assert_eq!(at(&mut history)[..2], [10, 773]);
        // The clock has caught up.
        read(&mut history, 901..=1100, |n| n as i64);
        assert_eq!(at(&mut history)[0], 973);
    }

    #[test]
    fn subject_and_payload_are_told_apart_and_a_message_from_none() {
        assert_ne!(mark(&key(), "ab", b"c"), mark(&key(), "a", b"bc"));
        assert_ne!(mark(&key(), "", b""), nothing(&key(), 1, None).mark);
        assert!(is_nothing(&key(), &nothing(&key(), 9, Some(5))));
    }
}
