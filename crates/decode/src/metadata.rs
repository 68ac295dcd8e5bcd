//! Metadata: what a broker says of each message, beside the rows its payload became.
//!
//! Owns: which rows of it are kept (those whose payload was good), and nulls for records that came without.
//! Does not own: what the columns are (see the source), the payload (see `ndjson`).

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

/// Collects the metadata of a batch, chunk by chunk.
#[derive(Debug)]
pub(super) struct Metadata {
    schema: SchemaRef,
    parts: Vec<RecordBatch>,
}

impl Metadata {
    /// Begins a batch.
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, parts: Vec::new() }
    }

    /// Returns whether there is none in this schema.
    pub(super) fn is_empty(&self) -> bool {
        self.schema.fields().is_empty()
    }

    /// Appends the rows of those `lines` of a chunk that are rows of the batch.
    pub(super) fn append(&mut self, of_chunk: &RecordBatch, lines: &[u32]) -> Result<(), ArrowError> {
        self.parts.push(match of_chunk.num_rows() == lines.len() {
            true => of_chunk.clone(),
            false => take_record_batch(of_chunk, &UInt32Array::from(lines.to_vec()))?,
        });
        Ok(())
    }

    /// Appends nulls for rows of a chunk that has no metadata.
    pub(super) fn append_nulls(&mut self, rows: usize) -> Result<(), ArrowError> {
        self.parts.push(self.nulls(rows)?);
        Ok(())
    }

    /// Returns the columns of a batch of `rows` rows, all of whose chunks were appended.
    pub(super) fn finish(self, rows: usize) -> Result<Vec<ArrayRef>, ArrowError> {
        let joined = match self.parts.as_slice() {
            [] => self.nulls(rows)?,
            [one] => one.clone(),
            parts => concat_batches(&self.schema, parts)?,
        };
        Ok(joined.columns().to_vec())
    }

    fn nulls(&self, rows: usize) -> Result<RecordBatch, ArrowError> {
        let columns = self.schema.fields().iter().map(|field| new_null_array(field.data_type(), rows)).collect();
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}
