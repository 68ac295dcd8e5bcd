//! NDJSON: a JSON object on each line, or in each payload.
//!
//! Owns: lines, what a blank one is, and where each record begins and ends.
//! Does not own: what an object becomes (see `rows`), what stands around the object in a payload (see `payload`), all that is the same for every
//! format (see `draft`).

use std::str;

use arrow::array::{Array as _, BinaryArray};
use bytes::Bytes;
use pintail_core::batch::{Batch, Chunk, OffsetUnit, Records};
use pintail_core::error::Result;
use pintail_core::messages::Payloads;
use pintail_core::schema::EventSchema;

use super::draft::{Draft, Shape};
use super::origins::Place;
use super::payload::{self, Content};
use super::rows::Rows;
use super::{Decode, Decoded};

/// Bytes of a short record: how many a chunk has is guessed by it, at less cost than counting them again.
const RECORD_BYTES_USUAL: usize = 64;

/// Decodes batches of one schema.
#[derive(Debug)]
pub struct Ndjson {
    shape: Shape,
    rows: Rows,
    /// A payload of several lines, on one.
    scratch: String,
}

impl Ndjson {
    /// Prepares for a schema.
    pub fn new(schema: &EventSchema) -> Self {
        Self { shape: Shape::new(schema), rows: Rows::new(schema), scratch: String::new() }
    }
}

impl Decode for Ndjson {
    fn decode(&mut self, batch: &Batch) -> Result<Decoded> {
        let Self { shape, rows, scratch } = self;
        let mut run = Run { rows, scratch, draft: Draft::new(shape, batch)? };
        for chunk in &batch.chunks {
            match &chunk.records {
                Records::Lines(bytes) => run.lines(chunk, bytes)?,
                Records::Payloads(payloads) => run.payloads(chunk, payloads)?,
                Records::Arrow(rows) => {
                    run.end_of_part()?;
                    run.draft.arrow(chunk, rows)?;
                }
                Records::TooLong { length, .. } => run.draft.too_long(chunk, *length),
            }
        }
        run.end_of_part()?;
        let decoded = run.draft.finish()?;
        Ok(Decoded { odd: rows.take_odd(), ..decoded })
    }
}

/// A batch while it is decoded.
struct Run<'d> {
    /// The rows since the last Arrow chunk.
    rows: &'d mut Rows,
    scratch: &'d mut String,
    draft: Draft<'d>,
}

impl Run<'_> {
    fn lines(&mut self, chunk: &Chunk, bytes: &Bytes) -> Result<()> {
        self.draft.begin(chunk, self.rows.len(), bytes.len() / RECORD_BYTES_USUAL);
        // Checked as a whole, which is fast; line by line only where that failed.
        let text = str::from_utf8(bytes).ok();
        let (mut start, mut line) = (0, 0);
        while start < bytes.len() {
            let place = Place { byte: u32::try_from(start).expect("the batch was measured"), record: line };
            let end = match text.and_then(|text| self.rows.push_usual(text, start)) {
                Some(end) => {
                    self.draft.row(place);
                    end
                }
                None => self.unusual_line(chunk, bytes, place),
            };
            (start, line) = (end + 1, line + 1);
        }
        self.draft.end(chunk)
    }

    /// Reads a line of which only its beginning is known, and returns where it ends.
    #[cold]
    fn unusual_line(&mut self, chunk: &Chunk, bytes: &Bytes, place: Place) -> usize {
        let start = place.byte as usize;
        let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |length| start + length);
        let line = &bytes[start..end];
        if is_blank(line) {
            // Zeros pad a file. Elsewhere somebody has sent them.
            if line.first() == Some(&0) && chunk.unit != OffsetUnit::Bytes {
                self.draft.reject(chunk, place, "nothing but zeros (NUL bytes)".to_owned());
            }
            return end;
        }
        let pushed = text(line).and_then(|line| {
            // Who writes on in a file that was cut behind its back leaves a hole of zeros.
            let line = line.trim_start_matches('\0');
            self.push(line.strip_prefix('\u{feff}').unwrap_or(line))
        });
        self.take(chunk, place, pushed);
        end
    }

    fn payloads(&mut self, chunk: &Chunk, payloads: &Payloads) -> Result<()> {
        let bytes = payloads.payloads();
        self.draft.begin(chunk, self.rows.len(), payloads.len());
        // Checked as a whole, as lines are. A payload may begin or end amid a character all the same.
        let ends = bytes.value_offsets();
        let first = ends[0] as usize;
        let all = str::from_utf8(&bytes.value_data()[first..ends[payloads.len()] as usize]).ok();
        for record in 0..payloads.len() {
            let place = Place { byte: 0, record: u32::try_from(record).expect("the batch was measured") };
            let (start, end) = (ends[record] as usize - first, ends[record + 1] as usize - first);
            // Many end in a line end; more of them are unusual.
            let usual = all.and_then(|all| all.get(start..end)).map(|text| text.strip_suffix('\n').unwrap_or(text));
            let usual = usual.filter(|text| is_one_line(text));
            match usual.and_then(|text| self.rows.push_usual(text, 0)) {
                Some(_) => self.draft.row(place),
                None => self.unusual_payload(chunk, bytes, place),
            }
        }
        self.draft.end(chunk)
    }

    /// Reads a payload in any form.
    #[cold]
    fn unusual_payload(&mut self, chunk: &Chunk, payloads: &BinaryArray, place: Place) {
        let record = place.record as usize;
        let pushed = match Content::of(payloads.is_valid(record).then(|| payloads.value(record))) {
            Content::Nothing => self.rows.push_nothing().map_err(payload::of_tombstone),
            Content::Blank => Err(payload::BLANK.to_owned()),
            Content::Bytes(bytes) | Content::Framed(bytes) => text(bytes).and_then(|text| self.push_lines(text)),
            Content::Foreign { schema } => Err(payload::foreign(schema)),
        };
        self.take(chunk, place, pushed);
    }

    /// Appends a record that may stand on several lines.
    fn push_lines(&mut self, text: &str) -> Result<(), String> {
        if is_one_line(text) {
            return self.push(text);
        }
        // Between the tokens of JSON one is as good as the other, and within a text both are refused.
        self.scratch.clear();
        self.scratch.extend(text.chars().map(|c| if c == '\n' { '\r' } else { c }));
        match self.rows.push_usual(self.scratch, 0) {
            Some(_) => Ok(()),
            None => self.rows.push_careful(text),
        }
    }

    /// Appends a record that stands on one line.
    fn push(&mut self, text: &str) -> Result<(), String> {
        match self.rows.push_usual(text, 0) {
            Some(_) => Ok(()),
            None => self.rows.push_careful(text),
        }
    }

    fn take(&mut self, chunk: &Chunk, place: Place, pushed: Result<(), String>) {
        match pushed {
            Ok(()) => self.draft.row(place),
            Err(reason) => self.draft.reject(chunk, place, reason),
        }
    }

    fn end_of_part(&mut self) -> Result<()> {
        if self.rows.len() > 0 {
            self.draft.part(self.rows.finish()?);
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    str::from_utf8(bytes).map_err(|error| format!("not valid UTF-8 at byte {}", error.valid_up_to() + 1))
}

fn is_one_line(text: &str) -> bool {
    memchr::memchr(b'\n', text.as_bytes()).is_none()
}

/// Returns whether a line is no record: whitespace only, perhaps behind zeros and a byte order mark.
pub fn is_blank(line: &[u8]) -> bool {
    let zeros = line.iter().take_while(|byte| **byte == 0).count();
    let line = &line[zeros..];
    let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    text.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}
