//! Decoding: a batch of records → one Arrow record batch, and dead letters for those that do not fit.
//!
//! Owns: lines, what a blank one is, positions, and what each declared type takes from JSON.
//! Does not own: cutting batches (batcher), SQL on the rows (`engine`), where dead letters go (writer).
//!
//! | type | takes | refuses, for example |
//! |---|---|---|
//! | `boolean` | `true`, `false` | `1`, `"true"` |
//! | `int8` … `uint64` | a number without a fractional part, in range: `5`, `5.0`, `1e3` | `5.5`, `"5"`, `256` in `uint8` |
//! | `float32`, `float64` | any number, to the nearest value | `1e400`, `"5"`, `"NaN"` |
//! | `decimal(p,s)` | a number or a text of one, exactly | `1.234` in `decimal(5,2)`, `""` |
//! | `text`, `dictionary` | text | `5` (declare `json` to take any value) |
//! | `timestamp_s` … `timestamp_ns` | an integer of that unit, in the years 1 to 9999 | milliseconds declared as seconds |
//! | `timestamp` | RFC 3339 text; a space for the `T`; no offset is UTC; cut to microseconds | `"2026-01-01"` |
//! | `date` | text `YYYY-MM-DD` | `"2026-1-1"`, `"2026-01-01T00:00:00Z"` |
//! | `json` | any value, as its text | half of a surrogate pair |
//!
//! `null` and a missing key are null, and refused by a required column. On the way of a `path`, null is as good as missing; any other value
//! that is not an object is refused. Of a key that occurs twice the last counts. Unknown keys are ignored, but the record must be one
//! JSON object, in UTF-8, nested at most 127 deep, with nothing behind it. A byte order mark before it, and `\r` before the line end, are
//! passed over. A line of whitespace is no record.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests do to files what others do"))]

mod column;
mod cursor;
mod depth;
mod fields;
pub mod infer;
mod metadata;
mod ndjson;
mod number;
mod origins;
mod primitive;
mod text;
mod time;

#[cfg(test)]
mod tests;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;
use pintail_core::batch::{Batch, Chunk, DeadLetter, Phase, Records};
use pintail_core::error::{Error, Result};
use pintail_core::schema::EventSchema;

pub use origins::{Origins, reject_undecoded};
pub use time::{date_range, timestamp_range};

use metadata::Metadata;
use ndjson::Rows;
use origins::LineStart;

/// Bytes of a batch: an Arrow column of text counts them in 31 bits.
const BATCH_BYTES_MAX: usize = i32::MAX as usize;

/// Bytes of a short record: how many a chunk has is guessed by it, at less cost than counting them again.
const RECORD_BYTES_USUAL: usize = 64;

/// Decodes batches of one schema. Remembers between them only what makes the next one faster.
#[derive(Debug)]
pub struct Decoder {
    schema: SchemaRef,
    /// The part of `schema` that comes from payloads, and the part that comes from the source.
    columns: SchemaRef,
    metadata: SchemaRef,
    rows: Rows,
}

/// A decoded batch.
#[derive(Debug)]
pub struct Decoded {
    /// The good records, in the source's order.
    pub batch: RecordBatch,
    /// All records, good and bad; blank lines are none.
    pub records_in: u64,
    /// The bad records.
    pub dead_letters: Vec<DeadLetter>,
    /// Where the rows of `batch` came from.
    pub origins: Origins,
}

impl Decoder {
    /// Prepares for a schema.
    pub fn new(schema: &EventSchema) -> Self {
        Self { schema: schema.arrow(), columns: schema.arrow_columns(), metadata: schema.arrow_metadata(), rows: Rows::new(schema) }
    }

    /// Decodes a batch. Arrow records pass through, and are copied only if they come in more than one chunk.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if the batch is too large for Arrow; [`pintail_core::error::ErrorKind::Internal`] if an Arrow chunk has
    /// another schema. Bad records are no errors: they are dead letters.
    pub fn decode(&mut self, batch: &Batch) -> Result<Decoded> {
        check_size(batch)?;
        let mut run = Run {
            rows: &mut self.rows,
            parts: Vec::new(),
            rows_done: 0,
            records_in: 0,
            dead_letters: Vec::new(),
            origins: Origins::default(),
            metadata: Metadata::new(self.metadata.clone()),
        };
        for chunk in &batch.chunks {
            match &chunk.records {
                Records::Lines(bytes) => run.lines(chunk, bytes, None)?,
                Records::Messages { lines, metadata } => run.lines(chunk, lines, Some(metadata))?,
                Records::Arrow(rows) => run.arrow(chunk, rows, &self.columns)?,
                Records::TooLong { head, length } => run.too_long(chunk, head, *length),
            }
        }
        run.finish(&self.schema, &self.columns)
    }
}

/// A batch while it is decoded.
struct Run<'d> {
    /// The lines since the last Arrow chunk.
    rows: &'d mut Rows,
    parts: Vec<RecordBatch>,
    /// Rows in `parts`.
    rows_done: usize,
    records_in: u64,
    dead_letters: Vec<DeadLetter>,
    origins: Origins,
    metadata: Metadata,
}

impl Run<'_> {
    fn lines(&mut self, chunk: &Chunk, bytes: &Bytes, metadata: Option<&RecordBatch>) -> Result<()> {
        self.origins.begin(chunk, self.rows_done + self.rows.len());
        self.origins.reserve(bytes.len() / RECORD_BYTES_USUAL);
        // Checked as a whole, which is fast; line by line only where that failed.
        let text = std::str::from_utf8(bytes).ok();
        let (mut start, mut line) = (0, 0);
        while start < bytes.len() {
            let position = LineStart { byte: u32::try_from(start).expect("the batch was measured"), line };
            let end = match text.and_then(|text| self.rows.push_usual(text, start)) {
                Some(end) => {
                    self.records_in += 1;
                    self.origins.push_line(position);
                    end
                }
                None => self.unusual_line(chunk, bytes, position),
            };
            (start, line) = (end + 1, line + 1);
        }
        match metadata {
            _ if self.metadata.is_empty() => Ok(()),
            Some(metadata) => self.metadata.append(metadata, &self.origins.lines_of_last()).map_err(unfit),
            None => self.metadata.append_nulls(self.origins.lines_of_last().len()).map_err(unfit),
        }
    }

    /// Reads a line of which only its beginning is known, and returns where it ends.
    #[cold]
    fn unusual_line(&mut self, chunk: &Chunk, bytes: &Bytes, position: LineStart) -> usize {
        let start = position.byte as usize;
        let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |length| start + length);
        match std::str::from_utf8(&bytes[start..end]) {
            Ok(line) => self.record(chunk, bytes, position, line),
            Err(error) => {
                let reason = format!("not valid UTF-8 at byte {}", error.valid_up_to() + 1);
                self.reject(chunk, bytes, position, reason);
            }
        }
        end
    }

    fn record(&mut self, chunk: &Chunk, bytes: &Bytes, position: LineStart, line: &str) {
        if is_blank(line.as_bytes()) {
            return;
        }
        // Who writes on in a file that was cut behind its back leaves a hole of zeros.
        let line = line.trim_start_matches('\0');
        let text = line.strip_prefix('\u{feff}').unwrap_or(line);
        let pushed = match self.rows.push_usual(text, 0) {
            Some(_) => Ok(()),
            None => self.rows.push_careful(text),
        };
        match pushed {
            Ok(()) => {
                self.records_in += 1;
                self.origins.push_line(position);
            }
            Err(reason) => self.reject(chunk, bytes, position, reason),
        }
    }

    fn reject(&mut self, chunk: &Chunk, bytes: &Bytes, position: LineStart, reason: String) {
        self.records_in += 1;
        self.dead_letters.push(origins::line_dead_letter(chunk, bytes, position, Phase::Decode, reason.into()));
    }

    fn too_long(&mut self, chunk: &Chunk, head: &Bytes, length: u64) {
        let reason = format!("a record of {length} bytes is longer than `source.record_bytes_max`");
        self.records_in += 1;
        self.dead_letters.push(origins::too_long_dead_letter(chunk, head, length, Phase::Decode, reason.into()));
    }

    fn arrow(&mut self, chunk: &Chunk, rows: &RecordBatch, schema: &SchemaRef) -> Result<()> {
        if rows.schema().fields() != schema.fields() {
            let (from, got) = (&chunk.range.partition.label, rows.schema());
            return Err(Error::internal(format!("Arrow records from {from} have the schema {got}, but {schema} is declared")));
        }
        self.end_of_lines()?;
        self.origins.begin(chunk, self.rows_done);
        self.records_in += rows.num_rows() as u64;
        self.rows_done += rows.num_rows();
        self.parts.push(rows.clone());
        match self.metadata.is_empty() {
            true => Ok(()),
            false => self.metadata.append_nulls(rows.num_rows()).map_err(unfit),
        }
    }

    fn end_of_lines(&mut self) -> Result<()> {
        if self.rows.len() > 0 {
            self.rows_done += self.rows.len();
            self.parts.push(self.rows.finish()?);
        }
        Ok(())
    }

    fn finish(mut self, schema: &SchemaRef, columns: &SchemaRef) -> Result<Decoded> {
        self.end_of_lines()?;
        let mut batch = match self.parts.as_slice() {
            [] => RecordBatch::new_empty(columns.clone()),
            [one] => one.clone(),
            parts => concat_batches(columns, parts).map_err(|e| Error::internal("cannot join the chunks of a batch").with_source(e))?,
        };
        if !self.metadata.is_empty() {
            let metadata = self.metadata.finish(batch.num_rows()).map_err(unfit)?;
            let all = batch.columns().iter().cloned().chain(metadata).collect();
            batch = RecordBatch::try_new(schema.clone(), all).map_err(unfit)?;
        }
        Ok(Decoded { batch, records_in: self.records_in, dead_letters: self.dead_letters, origins: self.origins })
    }
}

/// Returns whether a line is no record: whitespace only, perhaps behind zeros and a byte order mark.
pub fn is_blank(line: &[u8]) -> bool {
    let zeros = line.iter().take_while(|byte| **byte == 0).count();
    let line = &line[zeros..];
    let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    text.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

fn unfit(error: ArrowError) -> Error {
    Error::internal("the metadata of a batch does not fit its records").with_source(error)
}

fn check_size(batch: &Batch) -> Result<()> {
    let length = |chunk: &Chunk| match &chunk.records {
        Records::Lines(bytes) | Records::Messages { lines: bytes, .. } => bytes.len(),
        Records::Arrow(_) | Records::TooLong { .. } => 0,
    };
    let bytes: usize = batch.chunks.iter().map(length).sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(Error::config(format!(
            "a batch of {bytes} bytes is too large for an Arrow text column (at most {BATCH_BYTES_MAX}): lower `pipeline.batch_bytes_max`"
        )));
    }
    Ok(())
}
