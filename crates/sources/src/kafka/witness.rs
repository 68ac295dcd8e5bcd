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

use super::metadata::Said;

/// Bytes that are kept between two messages.
const KEPT_BYTES: usize = 64 << 10;

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
    offset: i64,
    timestamp_ms: Option<i64>,
    epoch: Option<i32>,
}

impl Latest {
    /// Begins behind what `evidence` says.
    pub(super) fn new(key: Key, evidence: Arc<Evidence>) -> Self {
        Self { key, seen: None, bytes: Vec::new(), evidence }
    }

    /// Takes a message up.
    pub(super) fn see(&mut self, said: &Said<'_>) {
        self.seen = Some(Seen { offset: said.offset, timestamp_ms: said.timestamp_ms, epoch: said.epoch });
        self.bytes.clear();
        part(&mut self.bytes, said.key);
        part(&mut self.bytes, said.payload);
        for (name, value) in &said.headers {
            part(&mut self.bytes, Some(name.as_bytes()));
            part(&mut self.bytes, *value);
        }
    }

    /// Returns the evidence of the last message.
    pub(super) fn evidence(&mut self) -> Arc<Evidence> {
        if let Some(Seen { offset, timestamp_ms, epoch }) = self.seen.take() {
            let from = offset.unsigned_abs();
            let witness = Witness { from, to: from + 1, time: timestamp_ms, epoch, mark: self.key.mark(&[&self.bytes]) };
            self.evidence = Arc::new(Evidence { witnesses: vec![witness], ..Evidence::default() });
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES);
        }
        self.evidence.clone()
    }
}

/// Returns a message as a witness.
pub(super) fn witness(key: &Key, said: &Said<'_>) -> Witness {
    let mut latest = Latest::new(key.clone(), Arc::default());
    latest.see(said);
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
        let texts: [Option<&[u8]>; 5] = [None, Some(b""), Some(b"a"), Some(b"ab"), Some(b"\0")];
        let mut marks = HashSet::new();
        for headers in &headers {
            for (key_of, payload) in texts.iter().flat_map(|key_of| texts.iter().map(move |payload| (*key_of, *payload))) {
                let said = Said { key: key_of, payload, headers: headers.clone(), ..Said::default() };
                marks.insert(witness(&key, &said).mark);
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
        let said = |offset| Said { offset, timestamp_ms: Some(5), epoch: Some(3), payload: Some(b"x"), ..Said::default() };
        latest.see(&said(7));
        latest.see(&said(8));
        let evidence = latest.evidence();
        assert_eq!(evidence.witnesses, [witness(&key, &said(8))]);
        assert_eq!((evidence.witnesses[0].from, evidence.witnesses[0].to, evidence.witnesses[0].epoch), (8, 9, Some(3)));
        assert!(Arc::ptr_eq(&evidence, &latest.evidence()));
    }
}
