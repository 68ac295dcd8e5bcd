//! What flows down the line: chunks, batches, frames, barriers, and the dead letters that ride with them.
//!
//! Owns: the shapes. Every one carries the source ranges that it stands for, also when it has no rows left.
//! Does not own: how they are cut (batcher), decoded and transformed (transformer) or stored (writer).

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use bytes::Bytes;

use crate::hive::HivePartition;
use crate::memory::{Lease, Waiting};
use crate::messages::{Envelope, Payloads};
use crate::offsets::{OffsetRange, PartitionId};
use crate::reasons::Reason;
use crate::totals::Totals;

/// Records as a source reads them.
#[derive(Debug, Clone)]
pub enum Records {
    /// Complete lines, each ended by `\n` (the very last of a finished input may lack it), not parsed. Blank lines are no records.
    Lines(Bytes),
    /// Messages of a broker, or records of a JSON body: each is one record, whatever bytes it has.
    Payloads(Payloads),
    /// Rows in the declared event schema.
    Arrow(RecordBatch),
    /// One record longer than `record_bytes_max`: its first bytes and its whole length. The rest was never buffered.
    TooLong {
        /// The first bytes, at most 64 KiB.
        head: Bytes,
        /// The length of the whole record in bytes, without its line end.
        length: u64,
        /// What the broker says beside it, if it is a message.
        message: Option<Arc<Envelope>>,
    },
}

/// What an offset of the source counts, and so how the position of a single record follows from its chunk's range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetUnit {
    /// Bytes: a record's position is the offset of its first byte.
    Bytes,
    /// Records (lines, or rows): position = `from` + index in the chunk; blank lines count. Payloads name theirs.
    Records,
}

/// Records as read, with the range they were read from.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The records.
    pub records: Records,
    /// Where they stand in the source. Contiguous with the partition's chunk before.
    pub range: OffsetRange,
    /// What the range counts.
    pub unit: OffsetUnit,
    /// Where the requests begin that brought the records, in ascending order, if clients push them; may begin before the range.
    pub requests: Option<Arc<[u64]>>,
}

impl Chunk {
    /// Makes a chunk of records that nobody pushed.
    pub fn new(records: Records, range: OffsetRange, unit: OffsetUnit) -> Self {
        Self { records, range, unit, requests: None }
    }

    /// Makes a chunk in which nothing was read: it carries evidence and notes into the commit record.
    pub fn empty(range: OffsetRange, unit: OffsetUnit) -> Self {
        Self::new(Records::Lines(Bytes::new()), range, unit)
    }

    /// Counts the records: line ends (and an unterminated last line), payloads, rows, or one.
    pub fn records(&self) -> usize {
        match &self.records {
            Records::Lines(bytes) => {
                let unterminated = usize::from(bytes.last().is_some_and(|&byte| byte != b'\n'));
                memchr::memchr_iter(b'\n', bytes).count() + unterminated
            }
            Records::Payloads(payloads) => payloads.len(),
            Records::Arrow(rows) => rows.num_rows(),
            Records::TooLong { .. } => 1,
        }
    }

    /// Returns the size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        match &self.records {
            Records::Lines(bytes) => bytes.len(),
            Records::Payloads(payloads) => slice_bytes(payloads.rows()),
            Records::Arrow(rows) => slice_bytes(rows),
            Records::TooLong { head, message, .. } => head.len() + message.as_ref().map_or(0, |message| message.bytes()),
        }
    }

    /// Takes the first `records` records off, leaving the rest in `self`; copies nothing.
    ///
    /// # Panics
    /// If the chunk does not have more than `records` records, or `records` is 0: the caller has counted.
    pub fn split_off_front(&mut self, records: usize) -> Self {
        let (front, cut) = match &mut self.records {
            Records::Lines(bytes) => {
                let lines = split_off_lines(bytes, records);
                let moved = if self.unit == OffsetUnit::Bytes { lines.len() } else { records };
                (Records::Lines(lines), self.range.from + moved as u64)
            }
            Records::Payloads(payloads) => {
                let front = payloads.split_off_front(records);
                let cut = front.position(records - 1) + 1;
                (Records::Payloads(front), cut)
            }
            Records::Arrow(rows) => (Records::Arrow(split_off_rows(rows, records)), self.range.from + records as u64),
            Records::TooLong { .. } => panic!("a single record cannot be cut"),
        };
        assert!(cut < self.range.to, "a cut at {cut} outside [{}, {})", self.range.from, self.range.to);
        Self { records: front, range: self.range.split_off_front(cut), unit: self.unit, requests: self.requests.clone() }
    }
}

fn split_off_lines(bytes: &mut Bytes, lines: usize) -> Bytes {
    assert!(lines > 0, "a cut before the first record");
    let end = memchr::memchr_iter(b'\n', bytes).nth(lines - 1).expect("the chunk has more records than asked for") + 1;
    bytes.split_to(end)
}

fn split_off_rows(batch: &mut RecordBatch, rows: usize) -> RecordBatch {
    let front = batch.slice(0, rows);
    *batch = batch.slice(rows, batch.num_rows() - rows);
    front
}

/// The bytes of the rows that are in use: a slice shares its buffers with the rest. Where that cannot be told, those of all that is shared.
fn slice_bytes(rows: &RecordBatch) -> usize {
    let long = |view: &u128| Some(*view as u32 as usize).filter(|length| *length > 12).unwrap_or(0);
    let views = |views: &[u128]| size_of_val(views) + views.iter().map(long).sum::<usize>();
    let in_use = |column: &ArrayRef| match column.data_type() {
        DataType::Utf8View => views(column.as_string_view().views()),
        DataType::BinaryView => views(column.as_binary_view().views()),
        DataType::Dictionary(..) => column.get_array_memory_size(),
        nested if nested.is_nested() => column.get_array_memory_size(),
        _ => column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size()),
    };
    rows.columns().iter().map(in_use).sum()
}

/// From the producer to the batcher.
#[derive(Debug)]
pub enum Read {
    /// Records, the moment at which they were read, and their memory.
    Chunk(Chunk, Instant, Waiting),
    /// No more will come, and this is why. A channel that closes without it means a failure upstream.
    End(EndReason),
}

/// Why the producer stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The input is at its end.
    Finished,
    /// A signal asked for it.
    Shutdown,
}

/// The unit of decoding and SQL: chunks cut to `batch_rows` records.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The records, in the source's order.
    pub chunks: Vec<Chunk>,
    /// Why its one record must not be run; see `pintail::trial`.
    pub deadly: Option<String>,
}

/// Ends a checkpoint: what was sent before it is committed when it reaches the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    /// Counts barriers from 1 in this process.
    pub epoch: u64,
    /// What caused it.
    pub trigger: Trigger,
}

/// What caused a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The checkpoint interval passed.
    Interval,
    /// The input ended.
    End,
    /// A signal asked the process to stop.
    Shutdown,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interval => "interval",
            Self::End => "end",
            Self::Shutdown => "shutdown",
        })
    }
}

/// From the batcher to the transformer.
#[derive(Debug)]
pub enum Cut {
    /// A batch.
    Batch(Batch, Lease),
    /// The end of a checkpoint.
    Barrier(Barrier),
}

/// A transformed batch.
#[derive(Debug, Default)]
pub struct Frame {
    /// The rows that the SQL returned, without the partition columns, by hive partition and hour.
    pub rows: Vec<PartitionedRows>,
    /// For each row, in their order, the partition and the position of the record that it was made of, where that is known; empty where every row
    /// is sure to find a place.
    pub origins: Vec<Option<(PartitionId, u64)>>,
    /// Whether further frames of the batch follow: it made so many rows that they are handed on in parts, each with its rows, what follows from
    /// them, and the ranges. What became of the records is in the last.
    pub is_part: bool,
    /// The source ranges of the batch, also when no row is left; they are read when the last frame is taken.
    pub ranges: Vec<OffsetRange>,
    /// What became of the records.
    pub counts: Counts,
    /// The records that were rejected.
    pub dead_letters: Vec<DeadLetter>,
    /// Units that the rejected ones are from (see [`crate::breaker`]).
    pub rejected_units: u64,
    /// How many units the records are from at most, where rows of them turn out to have no place.
    pub units: u64,
    /// Count and sum by group, for the monitor.
    pub totals: Totals,
    /// The lookup tables that the SQL saw.
    pub lookups: Arc<[LookupVersion]>,
    /// The memory that its rows take, until they are written.
    pub memory: Option<Lease>,
}

impl Frame {
    /// Returns the bytes of its rows in memory. Rows that were ordered together share their buffers, and lie side by side.
    pub fn bytes(&self) -> usize {
        let buffer = |rows: &RecordBatch| rows.columns().first().and_then(|column| Some(column.to_data().buffers().first()?.data_ptr()));
        let shared = |(at, rows): &(usize, &PartitionedRows)| {
            let before = at.checked_sub(1).map(|before| buffer(&self.rows[before].rows));
            before.is_some_and(|before| before.is_some() && before == buffer(&rows.rows))
        };
        let own = self.rows.iter().enumerate().filter(|rows| !shared(rows));
        own.map(|(_, rows)| rows.rows.get_array_memory_size()).sum()
    }
}

/// An hour in UTC, counted from 1970-01-01T00.
pub type Hour = i64;

/// Rows of one hive partition, by hour.
#[derive(Debug, Clone)]
pub struct PartitionedRows {
    /// Where they belong.
    pub partition: Arc<HivePartition>,
    /// The rows, without the partition columns.
    pub rows: RecordBatch,
    /// The hours of their event times, in the order of the rows, and how many are of each; `None` for those without an event time.
    pub hours: Vec<(Option<Hour>, usize)>,
}

/// From the transformer to the writer.
#[derive(Debug)]
pub enum Transformed {
    /// Rows.
    Frame(Box<Frame>),
    /// The end of a checkpoint.
    Barrier(Barrier),
}

/// The content of a lookup table: its name and the SHA-256 of its file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LookupVersion {
    /// The table's name in the SQL.
    pub name: String,
    /// Lower-case hexadecimal SHA-256 of the file.
    pub sha256: String,
}

/// Where a record was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It does not parse, or does not fit the schema.
    Decode,
    /// The SQL fails on it.
    Sql,
    /// Its output row has no place: partition value, partitions of a checkpoint.
    Sink,
}

/// What the bytes of a dead letter are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LetterForm {
    /// The record as it was read: it can be replayed.
    Record,
    /// Nothing: the record was a message without a payload. It can be replayed.
    Tombstone,
    /// A row that the SQL returned, as JSON: it cannot be put through the SQL again.
    OutputRow,
}

/// A rejected record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it was rejected.
    pub phase: Phase,
    /// Why, naming the column and the value.
    pub reason: Reason,
    /// The source partition that it came from.
    pub partition: PartitionId,
    /// Its position there.
    pub offset: u64,
    /// What the bytes are.
    pub form: LetterForm,
    /// The original bytes, without the line end; of a record that came as Arrow, its row as JSON.
    pub bytes: Bytes,
    /// The length of the original in bytes: more than `bytes` has if the record was too long.
    pub length: u64,
    /// What the broker said beside it, if it was a message.
    pub message: Option<Arc<Envelope>>,
}

/// What became of the records of a batch or a checkpoint.
///
/// Always: `records_in + expanded = rows_out + filtered + dead_letters`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Records read.
    pub records_in: u64,
    /// Rows written.
    pub rows_out: u64,
    /// Records that the SQL took away, summed over batches.
    pub filtered: u64,
    /// Rows that the SQL added, summed over batches.
    pub expanded: u64,
    /// Records rejected, by phase.
    pub dead_letters: DeadLetterCounts,
}

/// Records rejected, by phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeadLetterCounts {
    /// Did not parse or fit the schema.
    pub decode: u64,
    /// The SQL failed on them.
    pub sql: u64,
    /// Their output has no place.
    pub sink: u64,
}

impl DeadLetterCounts {
    /// Returns the sum over the phases.
    pub fn total(&self) -> u64 {
        self.decode + self.sql + self.sink
    }

    /// Returns the count of a phase, to be changed.
    pub fn phase_mut(&mut self, phase: Phase) -> &mut u64 {
        match phase {
            Phase::Decode => &mut self.decode,
            Phase::Sql => &mut self.sql,
            Phase::Sink => &mut self.sink,
        }
    }
}

impl Batch {
    /// Makes a batch that is to be run.
    pub fn new(chunks: Vec<Chunk>) -> Self {
        Self { chunks, deadly: None }
    }

    /// Counts the records.
    pub fn records(&self) -> usize {
        self.chunks.iter().map(Chunk::records).sum()
    }

    /// Cuts the batch in two.
    ///
    /// # Errors
    /// The batch itself, if it has one record.
    pub fn halve(self) -> Result<(Self, Self), Self> {
        let records = self.records();
        if records < 2 {
            return Err(self);
        }
        let (mut front, mut back, mut left) = (Vec::new(), Vec::new(), records / 2);
        for mut chunk in self.chunks {
            let has = chunk.records();
            if back.is_empty() && has <= left {
                left -= has;
                front.push(chunk);
            } else {
                if left > 0 {
                    front.push(chunk.split_off_front(left));
                    left = 0;
                }
                back.push(chunk);
            }
        }
        Ok((Self::new(front), Self::new(back)))
    }

    /// Returns the source ranges, neighbours of one partition joined.
    pub fn ranges(&self) -> Vec<OffsetRange> {
        let mut ranges: Vec<OffsetRange> = Vec::new();
        for Chunk { range, .. } in &self.chunks {
            match ranges.last_mut() {
                Some(last) if last.partition.id == range.partition.id && last.to == range.from => last.join(range),
                _ => ranges.push(range.clone()),
            }
        }
        ranges
    }
}

impl Counts {
    /// Adds the counts of another batch.
    pub fn add(&mut self, other: &Self) {
        self.records_in += other.records_in;
        self.rows_out += other.rows_out;
        self.filtered += other.filtered;
        self.expanded += other.expanded;
        self.dead_letters.decode += other.dead_letters.decode;
        self.dead_letters.sql += other.dead_letters.sql;
        self.dead_letters.sink += other.dead_letters.sink;
    }

    /// Returns whether every record is accounted for.
    pub fn balance(&self) -> bool {
        self.records_in + self.expanded == self.rows_out + self.filtered + self.dead_letters.total()
    }
}

#[cfg(test)]
mod tests;
