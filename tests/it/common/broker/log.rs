//! The log of a partition: messages, markers of transactions, and leader epochs.
//!
//! Owns: what Kafka's broker promises of it (KIP-98, KIP-101, KIP-320), as record batches of version 2 with one record each.
//! Does not own: requests.

/// Bytes of batches in one answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Entries of a log.
const ENTRIES_MAX: usize = 1 << 20;

/// A log. It begins empty, in epoch 0.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    entries: Vec<Entry>,
    /// The first offset that is there.
    pub start: i64,
    /// The next offset.
    pub end: i64,
    /// The epoch of the leader.
    pub epoch: i32,
    /// Where each epoch begins.
    epochs: Vec<(i32, i64)>,
    /// Open transactions: the producer, and the first offset of each.
    open: Vec<(i64, i64)>,
    /// Transactions that were aborted: the producer, the first offset and that of the marker.
    aborted: Vec<(i64, i64, i64)>,
    /// The time of the next message, in milliseconds since 1970.
    pub time: i64,
}

#[derive(Debug, Clone)]
struct Entry {
    offset: i64,
    epoch: i32,
    time: i64,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Message(Vec<u8>),
    /// A message of a transaction.
    Part {
        producer: i64,
        payload: Vec<u8>,
    },
    /// The marker that ends a transaction.
    End {
        producer: i64,
        commit: bool,
    },
}

impl Default for Log {
    fn default() -> Self {
        let epochs = vec![(0, 0)];
        let (entries, open, aborted) = Default::default();
        Self { entries, start: 0, end: 0, epoch: 0, epochs, open, aborted, time: 1_767_225_600_000 }
    }
}

impl Log {
    /// Appends messages.
    pub(crate) fn append<P: AsRef<[u8]>>(&mut self, payloads: impl IntoIterator<Item = P>) {
        payloads.into_iter().for_each(|payload| self.push(What::Message(payload.as_ref().to_vec())));
    }

    /// Appends messages of a transaction that stays open.
    pub(crate) fn append_in<P: AsRef<[u8]>>(&mut self, producer: i64, payloads: impl IntoIterator<Item = P>) {
        if !self.open.iter().any(|(open, _)| *open == producer) {
            self.open.push((producer, self.end));
        }
        payloads.into_iter().for_each(|payload| self.push(What::Part { producer, payload: payload.as_ref().to_vec() }));
    }

    /// Ends a transaction, with its marker.
    pub(crate) fn finish(&mut self, producer: i64, commit: bool) {
        if let Some(index) = self.open.iter().position(|(open, _)| *open == producer) {
            let (_, first) = self.open.remove(index);
            if !commit {
                self.aborted.push((producer, first, self.end));
            }
        }
        self.push(What::End { producer, commit });
    }

    /// Elects a leader that has all of the log.
    pub(crate) fn elect(&mut self) {
        self.epoch += 1;
        self.epochs.retain(|(_, start)| *start < self.end);
        self.epochs.push((self.epoch, self.end));
    }

    /// Cuts off what lies at `offset` and behind it, as a replica that lagged, or an older copy of the disk, has it.
    pub(crate) fn cut(&mut self, offset: i64) {
        self.entries.retain(|entry| entry.offset < offset);
        self.epochs.retain(|(epoch, start)| *start < offset || *epoch == 0);
        self.open.retain(|(_, first)| *first < offset);
        self.aborted.retain(|(_, _, last)| *last < offset);
        self.end = offset;
    }

    /// Elects a leader that has the log up to `offset` only.
    pub(crate) fn elect_unclean(&mut self, offset: i64) {
        self.cut(offset);
        self.elect();
    }

    /// Deletes what lies before `offset`, as retention does.
    pub(crate) fn delete_before(&mut self, offset: i64) {
        self.start = offset;
        self.entries.retain(|entry| entry.offset >= offset);
        let kept = self.epochs.iter().rposition(|(_, start)| *start <= offset).unwrap_or(0);
        self.epochs.drain(..kept);
        self.epochs[0].1 = self.epochs[0].1.max(offset);
    }

    /// Removes one record, as compaction does.
    pub(crate) fn compact_away(&mut self, offset: i64) {
        self.entries.retain(|entry| entry.offset != offset);
    }

    /// Returns the last stable offset: that of the oldest open transaction, or the end.
    pub(crate) fn stable(&self) -> i64 {
        self.open.iter().map(|(_, first)| *first).min().unwrap_or(self.end)
    }

    /// Returns the greatest epoch that is not above `asked`, and where the one after it begins; -1 if there is none.
    pub(super) fn end_of(&self, asked: i32) -> (i32, i64) {
        if asked == self.epoch {
            return (asked, self.end);
        }
        let Some((_, end)) = self.epochs.iter().find(|(epoch, _)| *epoch > asked) else { return (-1, -1) };
        let floor = self.epochs.iter().rfind(|(epoch, _)| *epoch <= asked);
        (floor.map_or(asked, |(epoch, _)| *epoch), *end)
    }

    /// Returns the batches from `offset` on that readers of committed messages may see.
    pub(super) fn batches(&self, offset: i64) -> Vec<u8> {
        let first = self.entries.partition_point(|entry| entry.offset < offset);
        let mut batches = Vec::new();
        for entry in self.entries[first..].iter().take_while(|entry| entry.offset < self.stable()) {
            batches.extend(entry.batch());
            if batches.len() > ANSWER_BYTES_MAX {
                break;
            }
        }
        batches
    }

    /// Returns the aborted transactions that reach `offset` or go beyond it.
    pub(super) fn aborted_from(&self, offset: i64) -> Vec<(i64, i64)> {
        let reach = self.aborted.iter().filter(|(_, _, last)| *last >= offset);
        reach.map(|(producer, first, _)| (*producer, *first)).collect()
    }

    fn push(&mut self, what: What) {
        assert!(self.entries.len() < ENTRIES_MAX, "the log is full");
        self.entries.push(Entry { offset: self.end, epoch: self.epoch, time: self.time, what });
        self.end += 1;
        self.time += 1;
    }
}

impl Entry {
    /// Writes it as a batch: <https://kafka.apache.org/documentation/#recordbatch>
    fn batch(&self) -> Vec<u8> {
        let (attributes, producer, key, value) = match &self.what {
            What::Message(payload) => (0_i16, -1_i64, None, payload.clone()),
            What::Part { producer, payload } => (0x10, *producer, None, payload.clone()),
            What::End { producer, commit } => (0x30, *producer, Some(vec![0, 0, 0, u8::from(*commit)]), vec![0; 6]),
        };
        // Attributes, and the deltas of time and offset.
        let mut record = vec![0, 0, 0];
        match &key {
            None => varint(&mut record, -1),
            Some(key) => bytes(&mut record, key),
        }
        bytes(&mut record, &value);
        varint(&mut record, 0);
        let mut body = Vec::new();
        body.extend(attributes.to_be_bytes());
        body.extend(0_i32.to_be_bytes());
        body.extend(self.time.to_be_bytes());
        body.extend(self.time.to_be_bytes());
        body.extend(producer.to_be_bytes());
        body.extend(0_i16.to_be_bytes());
        body.extend(0_i32.to_be_bytes());
        body.extend(1_i32.to_be_bytes());
        bytes(&mut body, &record);
        let mut batch = Vec::new();
        batch.extend(self.offset.to_be_bytes());
        batch.extend(u32::try_from(body.len() + 9).expect("small").to_be_bytes());
        batch.extend(self.epoch.to_be_bytes());
        batch.push(2);
        batch.extend(crc32c(&body).to_be_bytes());
        batch.extend(body);
        batch
    }
}

/// Appends a number as zigzag and base 128.
fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, bytes.len() as i64);
    out.extend(bytes);
}

/// CRC-32C (RFC 3720, appendix B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg())))
}
