//! Origins: from a row of a decoded batch back to its record.
//!
//! Owns: where each row came from, at eight bytes a row; the original bytes are the chunks', shared, and looked at only when asked for.
//! Does not own: why a record is rejected.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use pintail_core::batch::{Chunk, DeadLetter, LetterForm, OffsetUnit, Phase, Records};
use pintail_core::json_rows;
use pintail_core::messages::Envelope;
use pintail_core::offsets::PartitionId;
use pintail_core::reasons::Reason;

/// Where the rows of a decoded batch came from.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    chunks: Vec<ChunkRows>,
    /// The place of each row that was decoded, in the order of the rows of all chunks.
    places: Vec<Place>,
}

/// A chunk, and which rows it gave.
#[derive(Debug, Clone)]
struct ChunkRows {
    chunk: Chunk,
    first_row: usize,
    /// The index of its first row's place in [`Origins::places`].
    first_place: usize,
}

/// Where a record is in its chunk.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// The first byte of its line; 0 in a chunk that has no lines.
    pub(super) byte: u32,
    /// Its line, blank ones counted, or its payload.
    pub(super) record: u32,
}

impl Origins {
    /// Rejects a row of the decoded batch.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn dead_letter(&self, row: usize, phase: Phase, reason: Reason) -> DeadLetter {
        let (chunk, place) = self.chunk_of(row);
        dead_letter_at(chunk, place, phase, reason)
    }

    /// Returns the partition of a row of the decoded batch, and its position there.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn position(&self, row: usize) -> (PartitionId, u64) {
        let (chunk, place) = self.chunk_of(row);
        (chunk.range.partition.id.clone(), position_at(chunk, place))
    }

    fn chunk_of(&self, row: usize) -> (&Chunk, Place) {
        let chunk = self.chunks.partition_point(|chunk| chunk.first_row <= row).checked_sub(1).expect("the first chunk begins at row 0");
        let ChunkRows { chunk, first_row, first_place } = &self.chunks[chunk];
        let in_chunk = row - first_row;
        let place = match &chunk.records {
            Records::Arrow(_) => Place { byte: 0, record: u32::try_from(in_chunk).expect("rows of a batch are counted in 31 bits") },
            _ => self.places[first_place + in_chunk],
        };
        (chunk, place)
    }

    /// Begins a chunk whose first row will be `first_row`.
    pub(super) fn begin(&mut self, chunk: &Chunk, first_row: usize) {
        self.chunks.push(ChunkRows { chunk: chunk.clone(), first_row, first_place: self.places.len() });
    }

    /// Adds the row of a record of the chunk that was begun last.
    #[inline]
    pub(super) fn push(&mut self, place: Place) {
        self.places.push(place);
    }

    /// Returns the records of the chunk that was begun last which became rows.
    pub(super) fn records_of_last(&self) -> Vec<u32> {
        let first = self.chunks.last().map_or(0, |chunk| chunk.first_place);
        self.places[first..].iter().map(|place| place.record).collect()
    }

    /// Makes room for records.
    pub(super) fn reserve(&mut self, records: usize) {
        self.places.reserve(records);
    }
}

/// Returns the line that begins at `start`, without its end.
pub(super) fn line_at(bytes: &[u8], start: usize) -> &[u8] {
    let rest = &bytes[start..];
    let line = &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())];
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Rejects the first record of a chunk without having decoded it.
pub fn reject_undecoded(chunk: &Chunk, phase: Phase, reason: Reason) -> DeadLetter {
    dead_letter_at(chunk, Place::default(), phase, reason)
}

/// Returns the position in its partition of the record at a place of a chunk.
fn position_at(chunk: &Chunk, place: Place) -> u64 {
    let from = chunk.range.from;
    match (&chunk.records, chunk.unit) {
        (Records::Payloads(payloads), _) => payloads.position(place.record as usize),
        (Records::TooLong { .. }, _) => from,
        (Records::Lines(_) | Records::Arrow(_), OffsetUnit::Bytes) => from + u64::from(place.byte),
        (Records::Lines(_) | Records::Arrow(_), OffsetUnit::Records) => from + u64::from(place.record),
    }
}

/// Rejects the record at a place of a chunk. Its bytes are copied: a slice would keep the whole chunk in memory until the dead letter is written.
pub(super) fn dead_letter_at(chunk: &Chunk, place: Place, phase: Phase, reason: Reason) -> DeadLetter {
    let position = position_at(chunk, place);
    let whole = |bytes: &[u8]| dead_letter(chunk, position, Bytes::copy_from_slice(bytes), phase, reason.clone());
    match &chunk.records {
        Records::Lines(bytes) => whole(line_at(bytes, place.byte as usize)),
        Records::Payloads(payloads) => {
            let message = payloads.message(place.record as usize);
            let form = if message.payload.is_some() { LetterForm::Record } else { LetterForm::Tombstone };
            let envelope = Arc::new(Envelope::new(&message, position));
            DeadLetter { form, message: Some(envelope), ..whole(message.payload.unwrap_or_default()) }
        }
        Records::TooLong { head, length, message } => {
            DeadLetter { length: *length, message: message.clone(), ..dead_letter(chunk, position, head.clone(), phase, reason) }
        }
        Records::Arrow(rows) => {
            let (json, reason) = shown(&rows.slice(place.record as usize, 1), reason);
            dead_letter(chunk, position, json.into(), phase, reason)
        }
    }
}

/// Returns a row as JSON, and the reason, which says so if it cannot be shown.
fn shown(row: &RecordBatch, reason: Reason) -> (Vec<u8>, Reason) {
    match json_rows::lines(row) {
        Ok(mut line) => {
            line.truncate(line.trim_ascii_end().len());
            (line, reason)
        }
        Err(error) => (Vec::new(), format!("{reason} (and the row cannot be shown: {error})").into()),
    }
}

fn dead_letter(chunk: &Chunk, position: u64, bytes: Bytes, phase: Phase, reason: Reason) -> DeadLetter {
    let (partition, length) = (chunk.range.partition.id.clone(), bytes.len() as u64);
    DeadLetter { phase, reason, partition, offset: position, form: LetterForm::Record, bytes, length, message: None }
}
