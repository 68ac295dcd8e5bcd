//! Witnesses: a message as evidence of what was read.
//!
//! Owns: the bytes that its mark is made of, and marking only the last message before the end of a chunk.
//! Does not own: what a witness is worth (see [`pintail_core::evidence`] and `position`).
//!
//! | bytes | |
//! |---|---|
//! | key | 1 and its length (8 bytes, little-endian) and content, or 0 if there is none |
//! | payload | the same, as the broker sent it |
//! | headers | for each in its order: the name, then the value, as above |

use std::sync::Arc;

use pintail_core::evidence::{Evidence, Key, Witness};
use pintail_core::messages::Message;

use crate::messages::Remember;

/// Bytes that are kept between two messages.
const KEPT_BYTES: usize = 64 << 10;

/// A message as it stands in the log.
#[derive(Debug, Default)]
pub(super) struct Logged<'a> {
    pub(super) message: Message<'a>,
    /// The epoch of the leader that wrote it.
    pub(super) epoch: Option<i32>,
}

/// The last message that was read. It is copied, not marked: most are followed by another one before a chunk ends.
#[derive(Debug)]
pub(super) struct Latest {
    key: Key,
    seen: Option<Seen>,
    bytes: Vec<u8>,
    /// What was known when the last chunk ended.
    evidence: Arc<Evidence>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    offset: u64,
    timestamp_ms: Option<i64>,
    epoch: Option<i32>,
}

impl Latest {
    /// Begins behind what `evidence` says.
    pub(super) fn new(key: Key, evidence: Arc<Evidence>) -> Self {
        Self { key, seen: None, bytes: Vec::new(), evidence }
    }

    /// Takes a message up.
    fn see(&mut self, offset: u64, logged: &Logged<'_>) {
        let Logged { message, epoch } = logged;
        self.seen = Some(Seen { offset, timestamp_ms: message.timestamp_ms, epoch: *epoch });
        self.bytes.clear();
        part(&mut self.bytes, message.key);
        part(&mut self.bytes, message.payload);
        for (name, value) in &message.headers {
            part(&mut self.bytes, Some(name.as_bytes()));
            part(&mut self.bytes, *value);
        }
    }

    /// Returns the evidence of the last message.
    pub(super) fn evidence(&mut self) -> Arc<Evidence> {
        if let Some(Seen { offset, timestamp_ms, epoch }) = self.seen.take() {
            let witness = Witness { from: offset, to: offset + 1, time: timestamp_ms, epoch, mark: self.key.mark(&[&self.bytes]) };
            self.evidence = Arc::new(Evidence { witnesses: vec![witness], ..Evidence::default() });
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES);
        }
        self.evidence.clone()
    }
}

impl Remember for Latest {
    type Of<'a> = Logged<'a>;

    fn see(&mut self, offset: u64, logged: &Logged<'_>) {
        self.see(offset, logged);
    }

    fn evidence(&mut self, _next: u64) -> Option<Arc<Evidence>> {
        Some(self.evidence())
    }
}

/// Returns the message at an offset as a witness.
pub(super) fn witness(key: &Key, offset: u64, logged: &Logged<'_>) -> Witness {
    let mut latest = Latest::new(key.clone(), Arc::default());
    latest.see(offset, logged);
    latest.evidence().witnesses[0]
}

fn part(bytes: &mut Vec<u8>, part: Option<&[u8]>) {
    match part {
        None => bytes.push(0),
        Some(part) => {
            bytes.push(1);
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn messages_that_differ_anywhere_have_marks_that_differ() {
        let key = Key::new([7; 32]);
        type Headers = Vec<(&'static str, Option<&'static [u8]>)>;
        let headers: [Headers; 7] = [
            vec![],
            vec![("", None)],
            vec![("", Some(b""))],
            vec![("a", Some(b"b"))],
            vec![("ab", Some(b""))],
            vec![("a", None), ("b", None)],
            vec![("b", None), ("a", None)],
        ];
        let named = |headers: &Headers| headers.iter().map(|(name, value)| ((*name).into(), *value)).collect();
        let texts: [Option<&[u8]>; 5] = [None, Some(b""), Some(b"a"), Some(b"ab"), Some(b"\0")];
        let mut marks = HashSet::new();
        for headers in &headers {
            for (key_of, payload) in texts.iter().flat_map(|key_of| texts.iter().map(move |payload| (*key_of, *payload))) {
                let message = Message { key: key_of, payload, headers: named(headers), ..Message::default() };
                marks.insert(witness(&key, 0, &Logged { message, epoch: None }).mark);
            }
        }
        assert_eq!(marks.len(), headers.len() * texts.len() * texts.len());
    }

    #[test]
    fn evidence_is_of_the_message_seen_last_and_stays_until_the_next() {
        let key = Key::new([7; 32]);
        let before = Arc::new(Evidence { end: Some(1), ..Evidence::default() });
        let mut latest = Latest::new(key.clone(), before.clone());
        assert_eq!(latest.evidence(), before);
        let message = Message { timestamp_ms: Some(5), payload: Some(b"x"), ..Message::default() };
        let logged = Logged { message, epoch: Some(3) };
        latest.see(7, &logged);
        latest.see(8, &logged);
        let evidence = latest.evidence();
        assert_eq!(evidence.witnesses, [witness(&key, 8, &logged)]);
        assert_eq!((evidence.witnesses[0].from, evidence.witnesses[0].to, evidence.witnesses[0].epoch), (8, 9, Some(3)));
        assert!(Arc::ptr_eq(&evidence, &latest.evidence()));
    }
}
