//! Decoding: a batch of records → one Arrow record batch, and dead letters for those that do not fit.
//!
//! Owns: [`Decode`], which the line goes through whatever its records are written in; positions, and what each declared type takes from JSON.
//! Does not own: cutting batches (batcher), SQL on the rows (`engine`), where dead letters go (writer).
//!
//! A format is a file that implements [`Decode`]: it says what the bytes of a record are, and the draft of a batch counts, rejects and orders.
//! There are two, [`Ndjson`] and [`avro`]. What JSON is taken for each declared type:
//!
//! | type | takes | refuses, for example |
//! |---|---|---|
//! | `boolean` | `true`, `false` | `1`, `"true"` |
//! | `int8` … `uint64` | a number without a fractional part, in range: `5`, `5.0`, `1e3` | `5.5`, `"5"`, `256` in `uint8` |
//! | `float32`, `float64` | any number, to the nearest value | `1e400`, `"5"`, `"NaN"` |
//! | `decimal(p,s)` | a number or a text of one, exactly | `1.234` in `decimal(5,2)`, `""` |
//! | `text`, `dictionary` | text | `5` (declare `json` to take any value) |
//! | `timestamp_s` … `timestamp_ns` | an integer of that unit, in the years 1 to 9999 | milliseconds declared as seconds |
//! | `timestamp` | RFC 3339 text; a space for the `T`; no offset is UTC; cut to microseconds, which is told | `"2026-01-01"` |
//! | `date` | text `YYYY-MM-DD` | `"2026-1-1"`, `"2026-01-01T00:00:00Z"` |
//! | `json` | any value, as its text | half of a surrogate pair |
//!
//! `null` and a missing key are null, and refused by a required column. A record without any value, as `{}`, is a row of nulls, which is told. On the way of a `path`, null is as good as missing; any other value
//! that is not an object is refused. Of a key that occurs twice the last counts. Unknown keys are ignored, but the record must be one
//! JSON object, in UTF-8, nested at most 127 deep, with nothing behind it. A byte order mark before it, and `\r` before the line end, are
//! passed over. A line of whitespace is no record.
//!
//! A payload is one record: one JSON object, on several lines too, perhaps behind the frame of a schema registry (a zero and the four bytes of
//! a number). One of no bytes or of whitespace is rejected. One that is not there (a tombstone) is a record without values.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests do to files what others do"))]

pub mod avro;
mod column;
mod cursor;
mod depth;
mod draft;
mod fields;
pub mod infer;
mod metadata;
mod ndjson;
mod number;
mod origins;
mod payload;
mod primitive;
mod rows;
mod text;
mod time;
mod values;

#[cfg(test)]
mod tests;

use arrow::array::RecordBatch;
use pintail_core::batch::{Batch, DeadLetter};
use pintail_core::error::Result;
use pintail_core::schema::{EventSchema, Format};

pub use ndjson::{Ndjson, is_blank};
pub use origins::{Origins, reject_undecoded};
pub use time::{date_range, timestamp_range};

/// Makes rows of records. Remembers between batches only what makes the next one faster.
pub trait Decode: Send {
    /// Decodes a batch. Arrow records pass through, and are copied only if they come in more than one chunk.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if the batch is too large for Arrow; [`pintail_core::error::ErrorKind::Internal`] if an Arrow chunk has
    /// another schema. Bad records are no errors: they are dead letters.
    fn decode(&mut self, batch: &Batch) -> Result<Decoded>;
}

/// Returns what makes rows of the records of a schema.
///
/// # Panics
/// As [`avro::Avro::new`].
pub fn decoder(schema: &EventSchema) -> Box<dyn Decode> {
    match &schema.format {
        Format::Json => Box::new(Ndjson::new(schema)),
        Format::Avro(format) => Box::new(avro::Avro::new(schema, format)),
    }
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
    /// What somebody may want to know of the rows.
    pub odd: Odd,
}

/// What of good records somebody may want to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Odd {
    /// A column whose times had digits behind the microsecond, which were cut.
    pub cut: Option<String>,
    /// Records that have a value in none of the columns. A payload that is not there (a tombstone) is none of them.
    pub without_values: u64,
}
