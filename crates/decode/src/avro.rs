//! Avro: a record in each payload, straight into Arrow.
//!
//! Owns: what stands before the record in a payload, and which payloads have none.
//! Does not own: schemas (see `schema`), how what a writer wrote becomes what is read (`plan`), the values (`read`, `slot`), all that is the same
//! for every format (see `draft`).
//!
//! | Avro | column | |
//! |---|---|---|
//! | `boolean`, `int`, `long`, `float`, `double`, `string`, `bytes`, `fixed` | of that type | |
//! | `enum` | text | |
//! | `null` | text without values | |
//! | a union of `null` and one type | nullable | |
//! | a union of several types | struct of a member for each, named after it, one of which has a value | `{"int": null, "string": "x"}` |
//! | `record` | struct | refused if it holds itself |
//! | `array`, `map` | list, map | a key that occurs twice is refused |
//! | `decimal` | decimal | at most 38 digits |
//! | `uuid` | text | |
//! | `date`, `time-millis`, `time-micros` | date, time | |
//! | `timestamp-…`, `local-timestamp-…` | timestamp of that unit, without a zone | in the years 1 to 9999 |
//! | `duration` | interval | |
//!
//! A record that does not decode is rejected alone; what is behind it in its payload is an error, too. What a schema or a payload may make of few
//! bytes has limits (see `target` and `read`).

mod default;
mod plan;
mod read;
mod rows;
mod schema;
mod slot;
mod target;

#[cfg(test)]
mod tests;

use arrow::array::Array as _;
use bytes::Bytes;
use pintail_core::batch::{Batch, Chunk, Records};
use pintail_core::error::Result;
use pintail_core::messages::Payloads;
use pintail_core::schema::{AvroFormat, EventSchema, Framing};

use self::plan::Resolved;
use self::rows::Rows;
use self::schema::Schema;
use super::draft::{Draft, Shape};
use super::origins::Place;
use super::payload;
use super::{Decode, Decoded, is_blank};

pub use self::schema::SCHEMA_BYTES_MAX;

/// Reads the text of the schema that records are to be read by.
///
/// # Errors
/// Why it gives no columns, as a clause.
pub fn format(text: &str, framing: Framing) -> Result<AvroFormat, String> {
    let schema = Schema::parse(text, &[])?;
    let columns = target::columns(&schema)?;
    let row_bytes = columns.iter().map(|(_, target)| target.width()).sum();
    Ok(AvroFormat { schema: text.to_owned(), columns: target::fields(&columns), row_bytes, framing })
}

/// Decodes batches of records that are Avro.
#[derive(Debug)]
pub struct Avro {
    shape: Shape,
    framing: Framing,
    written: Resolved,
    rows: Rows,
}

impl Avro {
    /// Prepares for a schema.
    ///
    /// # Panics
    /// If the format was made by somebody else than [`format()`].
    pub fn new(schema: &EventSchema, format: &AvroFormat) -> Self {
        let reader = Schema::parse(&format.schema, &[]).expect("it was read before");
        let columns = target::columns(&reader).expect("they were looked at before");
        let written = plan::resolve(&reader, &reader, &columns).expect("a schema can be read by itself");
        Self { shape: Shape::new(schema), framing: format.framing, written, rows: Rows::new(&columns, schema.arrow_columns()) }
    }
}

impl Decode for Avro {
    fn decode(&mut self, batch: &Batch) -> Result<Decoded> {
        let Self { shape, framing, written, rows } = self;
        let mut run = Run { framing: *framing, written, rows, draft: Draft::new(shape, batch)? };
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
        run.draft.finish()
    }
}

/// A batch while it is decoded.
struct Run<'d> {
    framing: Framing,
    written: &'d Resolved,
    /// The rows since the last Arrow chunk.
    rows: &'d mut Rows,
    draft: Draft<'d>,
}

impl Run<'_> {
    fn payloads(&mut self, chunk: &Chunk, payloads: &Payloads) -> Result<()> {
        let bytes = payloads.payloads();
        self.draft.begin(chunk, self.rows.len(), payloads.len());
        for record in 0..payloads.len() {
            let place = Place { byte: 0, record: u32::try_from(record).expect("the batch was measured") };
            let pushed = match bytes.is_valid(record) {
                true => self.payload(bytes.value(record))?,
                false => self.rows.push_nothing().map_err(payload::of_tombstone),
            };
            match pushed {
                Ok(()) => self.draft.row(place),
                Err(reason) => self.draft.reject(chunk, place, reason),
            }
        }
        self.draft.end(chunk)
    }

    #[inline]
    fn payload(&mut self, payload: &[u8]) -> Result<Result<(), String>> {
        let record = match self.framing {
            Framing::None => payload,
            Framing::Confluent => match payload::unframed(payload) {
                Some((_, record)) => record,
                None => return Ok(Err(unreadable(payload, payload::UNFRAMED.to_owned()))),
            },
        };
        self.rows.make_room(self.written, record.len())?;
        let pushed = self.rows.push(self.written, record);
        Ok(pushed.map_err(|reason| match self.framing {
            Framing::None => unreadable(payload, reason),
            Framing::Confluent => reason,
        }))
    }

    /// Rejects lines: nothing that is Avro is one.
    #[cold]
    fn lines(&mut self, chunk: &Chunk, bytes: &Bytes) -> Result<()> {
        self.draft.begin(chunk, self.rows.len(), 0);
        let (mut start, mut record) = (0, 0);
        while start < bytes.len() {
            let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |length| start + length);
            let place = Place { byte: u32::try_from(start).expect("the batch was measured"), record };
            if !is_blank(&bytes[start..end]) {
                self.draft.reject(chunk, place, "a line, and no message: `schema.format` is \"avro\"".to_owned());
            }
            (start, record) = (end + 1, record + 1);
        }
        self.draft.end(chunk)
    }

    fn end_of_part(&mut self) -> Result<()> {
        if self.rows.len() > 0 {
            self.draft.part(self.rows.finish()?);
        }
        Ok(())
    }
}

/// Completes the reason why a payload has no record.
#[cold]
fn unreadable(payload: &[u8], reason: String) -> String {
    match payload {
        [] => payload::BLANK.to_owned(),
        [0, _, _, _, _, _, ..] => {
            format!(
                "{reason} (it begins with a zero, as the frame of a schema registry does: `schema.framing` = \"confluent\" passes over it)"
            )
        }
        [b'{', ..] => format!("{reason} (it begins as JSON does)"),
        _ => reason,
    }
}
