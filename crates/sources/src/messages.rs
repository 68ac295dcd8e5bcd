//! Messages → chunks: one message is one record, and its offset is its number in the broker's log.
//!
//! Owns: lines made of payloads, what stands for numbers without a message (deleted, compacted, of subjects that are not read), and that each
//! chunk carries the evidence of its end.
//! Does not own: which messages are taken, and in which order (see the brokers' readers).
//!
//! A payload over several lines (indented JSON) is one record all the same; two JSON objects in one payload are none, and become a dead
//! letter. A position is counted in lines from the chunk's first offset, so a short hole is as many blank lines, which are no records; a
//! long one is a chunk of its own, without a line.

use std::sync::Arc;

use bytes::Bytes;
use pintail_core::batch::{Chunk, OffsetUnit, Records};
use pintail_core::evidence::Evidence;
use pintail_core::offsets::{OffsetRange, Partition};

/// Bytes of lines after which a chunk is handed on, by a reader of one partition.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes that are kept of a record that is too long.
const HEAD_BYTES: usize = 64 << 10;
/// Sequences without a message that blank lines stand for. A blank line takes less time than a chunk, and takes the place of a record in its
/// batch.
const BLANK_LINES_MAX: u64 = 16;

/// What a broker says of its messages beside their payload, collected row by row.
pub(super) trait Beside {
    /// What it says of one message.
    type Of<'a>;

    /// Appends a row.
    fn push(&mut self, of: Self::Of<'_>);

    /// Appends a row that stands for no message.
    fn push_blank(&mut self);

    /// Hands out the rows, and is empty again.
    fn finish(&mut self, lines: Bytes) -> Records;

    /// Learns of a message, also of one that is too long to be a row.
    fn witness(&mut self, _sequence: u64, _payload: &[u8], _of: &Self::Of<'_>) {}

    /// Returns what stands right before `next`, where a chunk ends; `None` without evidence.
    fn evidence(&mut self, _next: u64) -> Option<Arc<Evidence>> {
        None
    }
}

/// Nothing.
impl Beside for () {
    type Of<'a> = ();

    fn push(&mut self, (): ()) {}

    fn push_blank(&mut self) {}

    fn finish(&mut self, lines: Bytes) -> Records {
        Records::Lines(lines)
    }
}

/// Makes chunks of messages that come in the order of their sequences.
#[derive(Debug)]
pub(super) struct Chunks<B = ()> {
    partition: Arc<Partition>,
    beside: B,
    record_bytes_max: usize,
    /// Where the open chunk begins.
    from: u64,
    /// The sequence behind the last message.
    next: u64,
    lines: Vec<u8>,
    done: Vec<Chunk>,
    bytes: usize,
}

impl<B: Beside> Chunks<B> {
    /// Begins at a sequence.
    pub(super) fn new(partition: Arc<Partition>, next: u64, record_bytes_max: usize, beside: B) -> Self {
        Self { partition, beside, record_bytes_max, from: next, next, lines: Vec::new(), done: Vec::new(), bytes: 0 }
    }

    /// Returns the sequence behind the last message.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Returns what is collected beside the lines.
    pub(super) fn beside(&mut self) -> &mut B {
        &mut self.beside
    }

    /// Returns whether there is enough to hand on.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= CHUNK_BYTES
    }

    /// Appends a message.
    ///
    /// # Panics
    /// If its sequence is before [`Self::next`]: the caller passes over what came before.
    pub(super) fn push(&mut self, sequence: u64, payload: &[u8], beside: B::Of<'_>) {
        self.skip_to(sequence);
        self.next += 1;
        self.bytes += payload.len();
        if payload.len() > self.record_bytes_max {
            self.next -= 1;
            self.close();
            let head = Bytes::copy_from_slice(&payload[..payload.len().min(HEAD_BYTES)]);
            self.beside.witness(sequence, payload, &beside);
            self.next += 1;
            self.close_with(Records::TooLong { head, length: payload.len() as u64 });
            return;
        }
        self.beside.witness(sequence, payload, &beside);
        self.beside.push(beside);
        let begin = self.lines.len();
        self.lines.extend_from_slice(payload);
        // Between the tokens of JSON one is as good as the other, and within a text both are refused.
        self.lines[begin..].iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b'\r');
        self.lines.push(b'\n');
    }

    /// Passes over sequences that have no message.
    pub(super) fn skip_to(&mut self, sequence: u64) {
        assert!(sequence >= self.next, "sequence {sequence} comes after {}", self.next);
        let hole = sequence - self.next;
        if hole <= BLANK_LINES_MAX && !self.lines.is_empty() {
            self.lines.extend((0..hole).map(|_| b'\n'));
            (0..hole).for_each(|_| self.beside.push_blank());
            self.next = sequence;
        } else if hole > 0 {
            self.close();
            self.next = sequence;
            self.close_with(Records::Lines(Bytes::new()));
        }
    }

    /// Hands out the chunks, and goes on behind them.
    pub(super) fn take(&mut self) -> Vec<Chunk> {
        self.close();
        self.bytes = 0;
        std::mem::take(&mut self.done)
    }

    fn close(&mut self) {
        if !self.lines.is_empty() {
            let lines = Bytes::from(std::mem::take(&mut self.lines));
            let records = self.beside.finish(lines);
            self.close_with(records);
        }
    }

    fn close_with(&mut self, records: Records) {
        let evidence = self.beside.evidence(self.next);
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
    use pintail_decode::Decoder;

    use super::*;

    fn chunks(next: u64, messages: &[(u64, &str)]) -> Vec<Chunk> {
        let partition = Arc::new(Partition { id: PartitionId::new("p"), label: "p".into() });
        let mut chunks = Chunks::new(partition, next, 20, ());
        messages.iter().for_each(|(sequence, payload)| chunks.push(*sequence, payload.as_bytes(), ()));
        chunks.take()
    }

    fn shape(chunks: &[Chunk]) -> Vec<(u64, u64, usize)> {
        chunks.iter().map(|chunk| (chunk.range.from, chunk.range.to, chunk.records())).collect()
    }

    /// Decodes chunks; returns the records read, and the position of each that was rejected.
    fn decode(chunks: Vec<Chunk>) -> (u64, Vec<u64>) {
        let column = Column { name: "a".into(), path: vec!["a".into()], column_type: "int64".parse().unwrap(), required: true };
        let decoded = Decoder::new(&EventSchema::new(vec![column])).decode(&Batch::new(chunks)).unwrap();
        assert_eq!(decoded.batch.num_rows() + decoded.dead_letters.len(), decoded.records_in as usize);
        (decoded.records_in, decoded.dead_letters.iter().map(|letter| letter.offset).collect())
    }

    #[test]
    fn sequences_without_a_message_are_in_the_range_and_are_no_records() {
        let found = chunks(3, &[(5, "{\"a\":1}"), (6, "x"), (9, "{\"a\":2}"), (100, "y"), (101, "{\"a\":3}")]);
        assert_eq!(shape(&found), [(3, 5, 0), (5, 10, 5), (10, 100, 0), (100, 102, 2)]);
        assert_eq!(decode(found), (5, vec![6, 100]));
    }

    #[test]
    fn a_cut_between_records_leaves_each_in_its_own_range() {
        let mut found = chunks(1, &[(1, "{\"a\":1}"), (4, "x"), (5, "y")]);
        let mut rest = found.pop().unwrap();
        let front = rest.split_off_front(4);
        assert_eq!((front.range.to, decode(vec![front])), (5, (2, vec![4])));
        assert_eq!((rest.range.from, decode(vec![rest])), (5, (1, vec![5])));
    }

    #[test]
    fn a_message_is_one_record_however_many_lines_it_has() {
        let found = chunks(1, &[(1, "{\n \"a\": 1\n}\n"), (2, "{\"a\":1}\n{\"a\":2}"), (3, "{\"a\":\n7}"), (4, "{\"b\":\"\n\",\"a\":1}")]);
        assert_eq!(decode(found), (4, vec![2, 4]));
    }

    #[test]
    fn an_empty_message_is_no_record_and_one_that_is_too_long_a_dead_letter() {
        let long = format!("{{\"a\":{:>20}}}", 1);
        let found = chunks(1, &[(1, "{\"a\":1}"), (2, ""), (3, &long), (7, &long), (8, "{\"a\":2}")]);
        assert_eq!(shape(&found), [(1, 3, 2), (3, 4, 1), (4, 7, 0), (7, 8, 1), (8, 9, 1)]);
        assert_eq!(decode(found), (4, vec![3, 7]));
    }

    /// Remembers the last message, as evidence whose end is its sequence.
    #[derive(Default)]
    struct Last(Option<u64>);

    impl Beside for Last {
        type Of<'a> = ();

        fn push(&mut self, (): ()) {}

        fn push_blank(&mut self) {}

        fn finish(&mut self, lines: Bytes) -> Records {
            Records::Lines(lines)
        }

        fn witness(&mut self, sequence: u64, _payload: &[u8], (): &()) {
            self.0 = Some(sequence);
        }

        fn evidence(&mut self, next: u64) -> Option<Arc<Evidence>> {
            assert!(self.0.is_none_or(|last| last < next), "a message at or behind {next} cannot be evidence of what stands before it");
            Some(Arc::new(Evidence { end: self.0, ..Evidence::default() }))
        }
    }

    #[test]
    fn every_chunk_carries_evidence_of_the_last_message_before_its_end() {
        let partition = Arc::new(Partition { id: PartitionId::new("p"), label: "p".into() });
        let mut chunks = Chunks::new(partition, 1, 20, Last::default());
        [1, 3, 4].iter().for_each(|sequence| chunks.push(*sequence, b"{}", ()));
        chunks.push(5, &[b' '; 21], ());
        chunks.push(100, b"{}", ());
        chunks.skip_to(200);
        let ends = chunks.take().into_iter().map(|chunk| (chunk.range.to, chunk.range.evidence.unwrap().end));
        assert_eq!(ends.collect::<Vec<_>>(), [(5, Some(4)), (6, Some(5)), (100, Some(5)), (101, Some(100)), (200, Some(100))]);
    }

    #[test]
    fn what_is_handed_out_joins_what_comes_next() {
        let partition = Arc::new(Partition { id: PartitionId::new("p"), label: "p".into() });
        let mut chunks = Chunks::new(partition, 1, 20, ());
        assert_eq!(shape(&chunks.take()), []);
        chunks.push(1, b"{}", ());
        assert_eq!(shape(&chunks.take()), [(1, 2, 1)]);
        chunks.skip_to(10);
        assert_eq!(shape(&chunks.take()), [(2, 10, 0)]);
    }
}
