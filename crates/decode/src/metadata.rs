//! Metadata: what a broker says of each message, beside the rows its payload became.
//!
//! Owns: which rows of it are kept (those whose payload was good), nulls for records that came without, and how bytes become text: a key or a
//! header that is no UTF-8 has its odd bytes, and backslashes, as `\x..`, the way DuckDB writes a blob. Headers are an object in their order, a
//! repeated one repeated.
//! Does not own: which columns there are (see the source), the payload (see the decoders).

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BinaryArray, ListArray, RecordBatch, StringArray, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use pintail_core::escape::bytes_as_text;
use pintail_core::messages::{Header, headers_at};

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

    /// Appends what is said of those `records` of a chunk that are rows of the batch.
    pub(super) fn append(&mut self, of_chunk: &RecordBatch, records: &[u32]) -> Result<(), ArrowError> {
        let kept = match of_chunk.num_rows() == records.len() {
            true => of_chunk.clone(),
            false => take_record_batch(of_chunk, &UInt32Array::from(records.to_vec()))?,
        };
        let columns = self.schema.fields().iter().map(|field| match kept.column_by_name(field.name()) {
            Some(column) => as_declared(column),
            None => new_null_array(field.data_type(), records.len()),
        });
        self.parts.push(RecordBatch::try_new(self.schema.clone(), columns.collect())?);
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

/// Makes text of what is bytes.
fn as_declared(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Binary => Arc::new(texts(column.as_binary())),
        DataType::List(_) => Arc::new(objects(column.as_list())),
        _ => column.clone(),
    }
}

fn texts(keys: &BinaryArray) -> StringArray {
    keys.iter().map(|key| key.map(bytes_as_text)).collect()
}

fn objects(headers: &ListArray) -> StringArray {
    (0..headers.len()).map(|row| headers.is_valid(row).then(|| object(&headers_at(headers, row)))).collect()
}

/// Writes a JSON object of headers, repeated names and all.
fn object(headers: &[Header<'_>]) -> String {
    let mut json = String::from("{");
    for (index, (name, value)) in headers.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push_str(&quoted(name));
        json.push(':');
        json.push_str(&value.map_or_else(|| "null".to_owned(), |value| quoted(&bytes_as_text(value))));
    }
    json.push('}');
    json
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}
