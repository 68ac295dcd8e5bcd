//! Messages → chunks: one message is one record, and its offset is its number in the broker's log.
//!
//! Owns: which messages share a chunk, the range that stands for those numbers too that have no message (deleted, compacted, of subjects that are
//! not read), and that each chunk carries the evidence of its end.
//! Does not own: which messages are taken, and in which order (see the brokers' readers), how payloads lie in a chunk (see
//! [`pintail_core::messages`]).

use std::sync::Arc;

use bytes::Bytes;
use pintail_core::batch::{Chunk, OffsetUnit, Records};
use pintail_core::evidence::Evidence;
use pintail_core::messages::{Envelope, Message, PayloadsBuilder};
use pintail_core::offsets::{OffsetRange, Partition};

/// Bytes of messages after which a chunk is handed on, by a reader of one partition.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes that are kept of a record that is too long.
pub(super) const HEAD_BYTES: usize = 64 << 10;

/// What is remembered of messages as evidence of what was read.
pub(super) trait Remember {
    /// What of a message is remembered.
    type Of<'a>;

    /// Takes a message up.
    fn see(&mut self, sequence: u64, of: &Self::Of<'_>);

    /// Returns what stands right before `next`, where a chunk ends; `None` without evidence.
    fn evidence(&mut self, next: u64) -> Option<Arc<Evidence>>;
}

/// Makes chunks of messages that come in the order of their sequences.
#[derive(Debug)]
pub(super) struct Chunks<R> {
    partition: Arc<Partition>,
    memory: R,
    record_bytes_max: usize,
    /// Where the open chunk begins.
    from: u64,
    /// The sequence behind the last message.
    next: u64,
    payloads: PayloadsBuilder,
    done: Vec<Chunk>,
    bytes: usize,
}

impl<R: Remember> Chunks<R> {
    /// Begins at a sequence.
    pub(super) fn new(partition: Arc<Partition>, next: u64, record_bytes_max: usize, memory: R) -> Self {
        Self { partition, memory, record_bytes_max, from: next, next, payloads: PayloadsBuilder::default(), done: Vec::new(), bytes: 0 }
    }

    /// Returns the sequence behind the last message.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Returns what is remembered.
    pub(super) fn memory(&mut self) -> &mut R {
        &mut self.memory
    }

    /// Returns whether there is enough to hand on.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= CHUNK_BYTES
    }

    /// Appends a message.
    ///
    /// # Panics
    /// If its sequence is before [`Self::next`]: the caller passes over what came before.
    pub(super) fn push(&mut self, sequence: u64, message: &Message<'_>, of: &R::Of<'_>) {
        self.skip_to(sequence);
        let payload = message.payload.unwrap_or_default();
        self.bytes += message.bytes();
        if payload.len() <= self.record_bytes_max {
            self.payloads.push(sequence, message);
            self.see(sequence, of);
            return;
        }
        // What is too long stands alone, at the end of its range: a hole before it goes with what came before.
        self.close();
        let head = Bytes::copy_from_slice(&payload[..payload.len().min(HEAD_BYTES)]);
        let records = Records::TooLong { head, length: payload.len() as u64, message: Some(Arc::new(Envelope::new(message, sequence))) };
        self.see(sequence, of);
        self.close_with(records);
    }

    /// Passes over sequences that have no message.
    ///
    /// # Panics
    /// If the sequence is before [`Self::next`].
    pub(super) fn skip_to(&mut self, sequence: u64) {
        assert!(sequence >= self.next, "sequence {sequence} comes after {}", self.next);
        self.next = sequence;
    }

    /// Hands out the chunks, and goes on behind them.
    pub(super) fn take(&mut self) -> Vec<Chunk> {
        self.close();
        self.bytes = 0;
        std::mem::take(&mut self.done)
    }

    fn see(&mut self, sequence: u64, of: &R::Of<'_>) {
        self.memory.see(sequence, of);
        self.next = sequence + 1;
    }

    fn close(&mut self) {
        if self.from < self.next {
            let payloads = self.payloads.finish();
            self.close_with(Records::Payloads(payloads));
        }
    }

    fn close_with(&mut self, records: Records) {
        let evidence = self.memory.evidence(self.next);
        let range = OffsetRange { evidence, ..OffsetRange::new(self.partition.clone(), self.from, self.next) };
        self.from = self.next;
        self.done.push(Chunk::new(records, range, OffsetUnit::Records));
    }
}

#[cfg(test)]
mod tests {
    use pintail_core::batch::Batch;
    use pintail_core::offsets::PartitionId;
    use pintail_core::schema::{Column, EventSchema};
    use pintail_decode::{Decode as _, Ndjson};

    use super::*;

    /// Remembers the last message, as evidence whose end is its sequence.
    #[derive(Default)]
    struct Last(Option<u64>);

    impl Remember for Last {
        type Of<'a> = ();

        fn see(&mut self, sequence: u64, (): &()) {
            self.0 = Some(sequence);
        }

        fn evidence(&mut self, next: u64) -> Option<Arc<Evidence>> {
            assert!(self.0.is_none_or(|last| last < next), "a message at or behind {next} cannot be evidence of what stands before it");
            Some(Arc::new(Evidence { end: self.0, ..Evidence::default() }))
        }
    }

    fn partition() -> Arc<Partition> {
        Arc::new(Partition { id: PartitionId::new("p"), label: "p".into() })
    }

    fn message(payload: &[u8]) -> Message<'_> {
        Message { payload: Some(payload), ..Message::default() }
    }

    fn chunks(next: u64, messages: &[(u64, &str)]) -> Vec<Chunk> {
        let mut chunks = Chunks::new(partition(), next, 20, Last::default());
        messages.iter().for_each(|(sequence, payload)| chunks.push(*sequence, &message(payload.as_bytes()), &()));
        chunks.take()
    }

    fn shape(chunks: &[Chunk]) -> Vec<(u64, u64, usize)> {
        chunks.iter().map(|chunk| (chunk.range.from, chunk.range.to, chunk.records())).collect()
    }

    /// Decodes chunks; returns the records read, and the position of each that was rejected.
    fn decode(chunks: Vec<Chunk>) -> (u64, Vec<u64>) {
        let column = Column { name: "a".into(), path: vec!["a".into()], column_type: "int64".parse().unwrap(), required: true };
        let decoded = Ndjson::new(&EventSchema::new(vec![column])).decode(&Batch::new(chunks)).unwrap();
        assert_eq!(decoded.batch.num_rows() + decoded.dead_letters.len(), decoded.records_in as usize);
        (decoded.records_in, decoded.dead_letters.iter().map(|letter| letter.offset).collect())
    }

    #[test]
    fn sequences_without_a_message_are_in_the_range_and_are_no_records() {
        let found = chunks(3, &[(5, "{\"a\":1}"), (6, "x"), (9, "{\"a\":2}"), (100, "y"), (101, "{\"a\":3}")]);
        assert_eq!(shape(&found), [(3, 102, 5)]);
        assert_eq!(decode(found), (5, vec![6, 100]));
    }

    #[test]
    fn a_cut_between_records_leaves_each_in_its_own_range() {
        let mut found = chunks(1, &[(1, "{\"a\":1}"), (4, "x"), (5, "y")]);
        let mut rest = found.pop().unwrap();
        let front = rest.split_off_front(2);
        assert_eq!((front.range.to, decode(vec![front])), (5, (2, vec![4])));
        assert_eq!((rest.range.from, decode(vec![rest])), (5, (1, vec![5])));
    }

    #[test]
    fn a_message_is_one_record_however_many_lines_it_has() {
        let found = chunks(1, &[(1, "{\n \"a\": 1\n}\n"), (2, "{\"a\":1}\n{\"a\":2}"), (3, "{\"a\":\n7}"), (4, "{\"b\":\"\n\",\"a\":1}")]);
        assert_eq!(decode(found), (4, vec![2, 4]));
    }

    #[test]
    fn an_empty_message_and_one_that_is_too_long_are_dead_letters() {
        let long = format!("{{\"a\":{:>20}}}", 1);
        let found = chunks(1, &[(1, "{\"a\":1}"), (2, ""), (3, &long), (7, &long), (8, "{\"a\":2}")]);
        assert_eq!(shape(&found), [(1, 3, 2), (3, 4, 1), (4, 7, 0), (7, 8, 1), (8, 9, 1)]);
        assert_eq!(decode(found), (5, vec![2, 3, 7]));
    }

    #[test]
    fn messages_of_no_bytes_fill_a_chunk_all_the_same() {
        let mut chunks = Chunks::new(partition(), 1, 20, Last::default());
        let filled = (1..).find(|sequence| {
            chunks.push(*sequence, &message(b""), &());
            chunks.is_full()
        });
        assert!(filled.is_some_and(|sequence| sequence < 20_000), "{filled:?}");
    }

    #[test]
    fn every_chunk_carries_evidence_of_the_last_message_before_its_end() {
        let mut chunks = Chunks::new(partition(), 1, 20, Last::default());
        [1, 3, 4].iter().for_each(|sequence| chunks.push(*sequence, &message(b"{}"), &()));
        chunks.push(5, &message(&[b' '; 21]), &());
        chunks.skip_to(7);
        chunks.push(9, &message(&[b' '; 21]), &());
        chunks.push(100, &message(b"{}"), &());
        chunks.skip_to(200);
        let ends = chunks.take().into_iter().map(|chunk| (chunk.range.to, chunk.range.evidence.unwrap().end));
        assert_eq!(ends.collect::<Vec<_>>(), [(5, Some(4)), (6, Some(5)), (9, Some(5)), (10, Some(9)), (200, Some(100))]);
    }

    #[test]
    fn what_is_handed_out_joins_what_comes_next() {
        let mut chunks = Chunks::new(partition(), 1, 20, Last::default());
        assert_eq!(shape(&chunks.take()), []);
        chunks.push(1, &message(b"{}"), &());
        assert_eq!(shape(&chunks.take()), [(1, 2, 1)]);
        chunks.skip_to(10);
        assert_eq!(shape(&chunks.take()), [(2, 10, 0)]);
    }
}
