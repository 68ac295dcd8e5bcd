//! A decoded batch while it grows: what every decoder has in common.
//!
//! Owns: the order of the rows over all chunks, the count of the records, the dead letters, what stands beside payloads, rows that come decoded, and
//! records that are too long.
//! Does not own: what the bytes of a record mean (see the decoders).

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use pintail_core::batch::{Batch, Chunk, DeadLetter, Phase, Records};
use pintail_core::error::{Error, Result};
use pintail_core::schema::EventSchema;

use super::metadata::Metadata;
use super::origins::{self, Origins, Place};
use super::{Decoded, Odd};

/// Bytes of a batch: an Arrow column of text counts them in 31 bits.
const BATCH_BYTES_MAX: usize = i32::MAX as usize;

/// What a decoder makes rows for.
#[derive(Debug)]
pub(super) struct Shape {
    schema: SchemaRef,
    /// The part of `schema` that comes from payloads, and the part that comes from the source.
    columns: SchemaRef,
    metadata: SchemaRef,
}

impl Shape {
    pub(super) fn new(schema: &EventSchema) -> Self {
        Self { schema: schema.arrow(), columns: schema.arrow_columns(), metadata: schema.arrow_metadata() }
    }
}

/// A batch while it is decoded.
pub(super) struct Draft<'s> {
    shape: &'s Shape,
    parts: Vec<RecordBatch>,
    /// Rows in `parts`.
    rows_done: usize,
    records_in: u64,
    dead_letters: Vec<DeadLetter>,
    origins: Origins,
    metadata: Metadata,
}

impl<'s> Draft<'s> {
    /// Begins.
    ///
    /// # Errors
    /// `Config` if the batch is too large for Arrow.
    pub(super) fn new(shape: &'s Shape, batch: &Batch) -> Result<Self> {
        check_size(batch)?;
        Ok(Self {
            shape,
            parts: Vec::new(),
            rows_done: 0,
            records_in: 0,
            dead_letters: Vec::new(),
            origins: Origins::default(),
            metadata: Metadata::new(shape.metadata.clone()),
        })
    }

    /// Begins a chunk. `rows` are those of the decoder that are not in a part yet, `records` how many it has about.
    pub(super) fn begin(&mut self, chunk: &Chunk, rows: usize, records: usize) {
        self.origins.begin(chunk, self.rows_done + rows);
        self.origins.reserve(records);
    }

    /// Records that the record at a place of the chunk that was begun last has become the next row.
    #[inline]
    pub(super) fn row(&mut self, place: Place) {
        self.records_in += 1;
        self.origins.push(place);
    }

    /// Rejects the record at a place of a chunk.
    pub(super) fn reject(&mut self, chunk: &Chunk, place: Place, reason: String) {
        self.records_in += 1;
        self.dead_letters.push(origins::dead_letter_at(chunk, place, Phase::Decode, reason.into()));
    }

    /// Ends the chunk that was begun last, all of whose records are rows now, or rejected.
    pub(super) fn end(&mut self, chunk: &Chunk) -> Result<()> {
        match &chunk.records {
            _ if self.metadata.is_empty() => Ok(()),
            Records::Payloads(payloads) => self.metadata.append(&payloads.beside(), &self.origins.records_of_last()).map_err(unfit),
            _ => self.metadata.append_nulls(self.origins.records_of_last().len()).map_err(unfit),
        }
    }

    /// Takes rows that the decoder has made since the last part.
    pub(super) fn part(&mut self, rows: RecordBatch) {
        self.rows_done += rows.num_rows();
        self.parts.push(rows);
    }

    /// Rejects a record that was not buffered whole.
    pub(super) fn too_long(&mut self, chunk: &Chunk, length: u64) {
        let reason = format!("a record of {length} bytes is longer than `source.record_bytes_max`");
        self.reject(chunk, Place::default(), reason);
    }

    /// Takes rows that need no decoding; those of the decoder are in a part.
    ///
    /// # Errors
    /// `Internal` if they have another schema.
    pub(super) fn arrow(&mut self, chunk: &Chunk, rows: &RecordBatch) -> Result<()> {
        let schema = &self.shape.columns;
        if rows.schema().fields() != schema.fields() {
            let (from, got) = (&chunk.range.partition.label, rows.schema());
            return Err(Error::internal(format!("Arrow records from {from} have the schema {got}, but {schema} is declared")));
        }
        self.origins.begin(chunk, self.rows_done);
        self.records_in += rows.num_rows() as u64;
        self.part(rows.clone());
        match self.metadata.is_empty() {
            true => Ok(()),
            false => self.metadata.append_nulls(rows.num_rows()).map_err(unfit),
        }
    }

    /// Returns the batch.
    pub(super) fn finish(self) -> Result<Decoded> {
        let Shape { schema, columns, .. } = self.shape;
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
        Ok(Decoded { batch, records_in: self.records_in, dead_letters: self.dead_letters, origins: self.origins, odd: Odd::default() })
    }
}

fn unfit(error: ArrowError) -> Error {
    Error::internal("the metadata of a batch does not fit its records").with_source(error)
}

fn check_size(batch: &Batch) -> Result<()> {
    let length = |chunk: &Chunk| match &chunk.records {
        Records::Lines(bytes) => bytes.len(),
        Records::Payloads(_) => chunk.bytes(),
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
