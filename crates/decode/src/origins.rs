//! Origins: from a row of a decoded batch back to its record.
//!
//! Owns: where each row came from, at eight bytes a row; the original bytes are the chunks', shared, and looked at only when asked for.
//! Does not own: why a record is rejected.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use bytes::Bytes;
use pintail_core::batch::{Chunk, DeadLetter, LetterForm, OffsetUnit, Phase, Records};
use pintail_core::reasons::Reason;

/// Where the rows of a decoded batch came from.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    chunks: Vec<ChunkRows>,
    /// The record of each row that was a line, in the order of the rows of all chunks.
    lines: Vec<LineStart>,
}

/// A chunk, and which rows it gave.
#[derive(Debug, Clone)]
struct ChunkRows {
    chunk: Chunk,
    first_row: usize,
    /// The index of its first row's line in [`Origins::lines`].
    first_line: usize,
}

/// Where a record begins in its chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct LineStart {
    /// Its first byte.
    pub(super) byte: u32,
    /// Its line, blank ones counted.
    pub(super) line: u32,
}

impl Origins {
    /// Rejects a row of the decoded batch.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn dead_letter(&self, row: usize, phase: Phase, reason: Reason) -> DeadLetter {
        let chunk = self.chunks.partition_point(|chunk| chunk.first_row <= row).checked_sub(1).expect("the first chunk begins at row 0");
        let ChunkRows { chunk, first_row, first_line } = &self.chunks[chunk];
        let in_chunk = row - first_row;
        match &chunk.records {
            Records::Lines(bytes) | Records::Messages { lines: bytes, .. } => {
                line_dead_letter(chunk, bytes, self.lines[first_line + in_chunk], phase, reason)
            }
            Records::Arrow(rows) => row_dead_letter(chunk, rows, in_chunk, phase, reason),
            Records::TooLong { head, length } => too_long_dead_letter(chunk, head, *length, phase, reason),
        }
    }

    /// Begins a chunk whose first row will be `first_row`.
    pub(super) fn begin(&mut self, chunk: &Chunk, first_row: usize) {
        self.chunks.push(ChunkRows { chunk: chunk.clone(), first_row, first_line: self.lines.len() });
    }

    /// Adds the row of a line of the chunk that was begun last.
    #[inline]
    pub(super) fn push_line(&mut self, start: LineStart) {
        self.lines.push(start);
    }

    /// Returns the lines of the chunk that was begun last which became rows.
    pub(super) fn lines_of_last(&self) -> Vec<u32> {
        let first = self.chunks.last().map_or(0, |chunk| chunk.first_line);
        self.lines[first..].iter().map(|start| start.line).collect()
    }

    /// Makes room for lines.
    pub(super) fn reserve(&mut self, lines: usize) {
        self.lines.reserve(lines);
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
    match &chunk.records {
        Records::Lines(bytes) | Records::Messages { lines: bytes, .. } => {
            line_dead_letter(chunk, bytes, LineStart { byte: 0, line: 0 }, phase, reason)
        }
        Records::Arrow(rows) => row_dead_letter(chunk, rows, 0, phase, reason),
        Records::TooLong { head, length } => too_long_dead_letter(chunk, head, *length, phase, reason),
    }
}

/// Rejects a line of a chunk. Its bytes are copied: a slice would keep the whole chunk in memory until the dead letter is written.
pub(super) fn line_dead_letter(chunk: &Chunk, bytes: &Bytes, start: LineStart, phase: Phase, reason: Reason) -> DeadLetter {
    let line = line_at(bytes, start.byte as usize);
    let offset = match chunk.unit {
        OffsetUnit::Bytes => u64::from(start.byte),
        OffsetUnit::Records => u64::from(start.line),
    };
    dead_letter(chunk, offset, Bytes::copy_from_slice(line), line.len() as u64, phase, reason)
}

/// Rejects a record that was not buffered whole.
pub(super) fn too_long_dead_letter(chunk: &Chunk, head: &Bytes, length: u64, phase: Phase, reason: Reason) -> DeadLetter {
    dead_letter(chunk, 0, head.clone(), length, phase, reason)
}

fn row_dead_letter(chunk: &Chunk, rows: &RecordBatch, row: usize, phase: Phase, reason: Reason) -> DeadLetter {
    let offset = match chunk.unit {
        OffsetUnit::Bytes => 0,
        OffsetUnit::Records => row as u64,
    };
    let (json, reason) = match row_as_json(rows, row) {
        Ok(json) => (json, reason),
        Err(error) => (Vec::new(), format!("{reason} (and the row cannot be shown: {error})").into()),
    };
    let length = json.len() as u64;
    dead_letter(chunk, offset, json.into(), length, phase, reason)
}

fn dead_letter(chunk: &Chunk, offset: u64, bytes: Bytes, length: u64, phase: Phase, reason: Reason) -> DeadLetter {
    let partition = chunk.range.partition.id.clone();
    DeadLetter { phase, reason, partition, offset: chunk.range.from + offset, form: LetterForm::Record, bytes, length }
}

fn row_as_json(rows: &RecordBatch, row: usize) -> Result<Vec<u8>, ArrowError> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(&rows.slice(row, 1))?;
    writer.finish()?;
    let mut json = writer.into_inner();
    json.truncate(json.trim_ascii_end().len());
    Ok(json)
}
