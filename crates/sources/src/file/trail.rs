//! Trail: what was read of a file, as far as evidence is made of it.
//!
//! Owns: the evidence of an offset: the file's first KiB, the KiB before the offset and the body between, marked from the bytes that were read.
//! Does not own: comparing (see `sight`), the judgement (see [`pintail_core::evidence::judge`]).

use std::fs::File;
use std::io;

use pintail_core::batch::Records;
use pintail_core::evidence::{Archive, Body, Evidence, Key, Mark, Witness};

use super::input::{Walk, read_range};
use crate::compression::Compression;
use crate::lines::{Piece, TAIL_BYTES_MAX, keep_last};

/// Bytes at both ends that evidence covers. More would tell more files apart and cost a longer read for each; log lines differ by time.
pub(super) const EDGE_BYTES: u64 = TAIL_BYTES_MAX as u64;

/// What was read up to an offset.
#[derive(Debug, Clone)]
pub(crate) struct Trail {
    key: Key,
    head: Head,
    tail: Vec<u8>,
    /// The mark of the body; `None` below a KiB, and where an earlier version read so far.
    body: Option<Mark>,
    next: u64,
}

/// The first bytes of a file.
#[derive(Debug, Clone)]
enum Head {
    /// Fewer than a KiB: more may come.
    Open(Vec<u8>),
    /// The mark of the first KiB.
    Closed(Mark),
}

impl Trail {
    /// Takes up what stands before `next`: the file's first bytes and those before the offset, at most a KiB each.
    pub(crate) fn new(key: &Key, head: Vec<u8>, tail: Vec<u8>, next: u64) -> Self {
        let mut trail = Self { key: key.clone(), head: Head::Open(head), tail, body: None, next };
        trail.close_head();
        trail
    }

    /// Takes up the body of what was read.
    pub(crate) fn take_body(&mut self, body: Option<&Body>) {
        self.body = body.filter(|body| body.length() == self.next).and_then(Body::mark);
    }

    /// Takes up what was read.
    pub(crate) fn push(&mut self, piece: &Piece) {
        match &piece.records {
            Records::Lines(lines) => self.push_bytes(lines),
            Records::TooLong { head, length, .. } => {
                // A record that is too long is at least as long as its tail, or wholly in its head.
                self.push_bytes(head);
                if *length < head.len() as u64 + EDGE_BYTES {
                    self.push_bytes(&piece.tail[piece.tail.len() - usize::try_from(piece.bytes - head.len() as u64).unwrap_or(0)..]);
                } else {
                    self.push_bytes(&piece.tail);
                }
            }
            Records::Arrow(_) | Records::Payloads(_) => {}
        }
        self.next += piece.bytes;
    }

    fn push_bytes(&mut self, bytes: &[u8]) {
        if let Head::Open(head) = &mut self.head {
            head.extend_from_slice(&bytes[..bytes.len().min(TAIL_BYTES_MAX - head.len())]);
            self.close_head();
        }
        keep_last(&mut self.tail, bytes);
    }

    fn close_head(&mut self) {
        if let Head::Open(head) = &self.head
            && head.len() >= TAIL_BYTES_MAX
        {
            self.head = Head::Closed(self.key.mark(&[head]));
        }
    }

    /// Returns the last bytes before the offset.
    pub(crate) fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// Returns the witness of the file's beginning.
    pub(crate) fn head(&self) -> Witness {
        let (to, mark) = match &self.head {
            Head::Open(head) => (head.len() as u64, self.key.mark(&[head])),
            Head::Closed(mark) => (EDGE_BYTES, *mark),
        };
        Witness { from: 0, to, time: None, epoch: None, mark }
    }

    /// Makes the evidence of the offset. `length` is that of the file as it was seen last, if it is plain.
    pub(crate) fn evidence(&self, place: &str, length: Option<u64>) -> Evidence {
        let from = self.next - self.tail.len() as u64;
        let tail = Witness { from, to: self.next, time: None, epoch: None, mark: self.key.mark(&[&self.tail]) };
        let end = length.filter(|length| *length > self.next);
        Evidence { place: Some(place.into()), end, witnesses: vec![self.head(), tail], body: self.body, archive: None }
    }
}

/// Makes the evidence of an offset in a file from what it holds now. A plain file has no body in it, which would have to be read.
pub(super) fn evidence_of(key: &Key, file: &File, compression: Compression, offset: u64, place: &str) -> io::Result<Evidence> {
    let mut walk = Walk::begin(file.try_clone()?, compression)?.summing(key);
    walk.to(offset)?;
    let mut trail = Trail::new(key, walk.head, walk.tail, walk.at);
    trail.take_body(walk.body.as_ref());
    Ok(trail.evidence(place, None))
}

/// Marks a compressed file as it lies on the disk.
pub(super) fn archive_of(key: &Key, file: &File) -> io::Result<Archive> {
    let bytes = file.metadata()?.len();
    let witness = |from: u64, to: u64| {
        let mark = key.mark(&[&read_range(file, from, to)?]);
        Ok::<_, io::Error>(Witness { from, to, time: None, epoch: None, mark })
    };
    let witnesses = vec![witness(0, bytes.min(EDGE_BYTES))?, witness(bytes.saturating_sub(EDGE_BYTES), bytes)?];
    Ok(Archive { bytes, witnesses })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lines::{LineReader, Unterminated};

    fn key() -> Key {
        Key::new([7; 32])
    }

    proptest! {
        /// However the lines fall, the evidence is that of the bytes before the offset.
        #[test]
        fn evidence_covers_all_that_was_read(
            lines in proptest::collection::vec(0_usize..3000, 1..12),
            max in 64_usize..4000,
            long in proptest::bool::ANY,
            start in 0_usize..3,
        ) {
            let mut content = Vec::new();
            for (n, mut length) in lines.into_iter().enumerate() {
                if long && n % 3 == 1 {
                    length += (64 << 10) - 1500;
                }
                content.extend((0..length).map(|at| b'a' + u8::try_from((at * 7 + n) % 26).unwrap()));
                content.push(b'\n');
            }
            let begin = content.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(start).map_or(0, |(at, _)| at + 1);
            let edges = |to: usize| (content[..to.min(1024)].to_vec(), content[to.saturating_sub(1024)..to].to_vec());
            let (head, tail) = edges(begin);
            let mut body = Body::new(&key());
            body.push(&content[..begin]);
            let mut trail = Trail::new(&key(), head, tail, begin as u64);
            let mut reader = LineReader::new(&content[begin..], max);
            reader.watch(body);
            while let Some(piece) = reader.next(Unterminated::Record).unwrap() {
                trail.push(&piece);
                trail.take_body(reader.body());
                let next = usize::try_from(trail.next).unwrap();
                let (head, tail) = edges(next);
                let mut body = Body::new(&key());
                body.push(&content[..next]);
                let evidence = trail.evidence("p", None);
                prop_assert_eq!(evidence.witnesses[0].mark, key().mark(&[&head]));
                prop_assert_eq!(evidence.witnesses[1].mark, key().mark(&[&tail]));
                prop_assert_eq!(evidence.body, body.mark());
                prop_assert_eq!((evidence.witnesses[0].to, evidence.witnesses[1].to), (head.len() as u64, trail.next));
            }
            prop_assert_eq!(trail.next, content.len() as u64);
        }
    }
}
