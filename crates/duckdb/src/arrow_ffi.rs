//! The Arrow C Data Interface: record batches handed to DuckDB without copying their buffers.
//!
//! Owns: the conversion of a batch to a DuckDB chunk that shares its buffers.
//! Does not own: when and which rows are converted (see `scan`).

#![allow(unsafe_code, reason = "the Arrow C Data Interface is made of raw pointers")]

use std::ffi::{CStr, c_void};
use std::ptr;

use arrow::array::{Array, RecordBatch, StructArray};
use arrow::datatypes::Schema;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema};
use duckdb::ffi;
use parking_lot::Mutex;

use super::raw::RawConnection;

/// Converts batches to DuckDB chunks, over a connection of its own: the one that runs the SQL is locked by its query.
#[derive(Debug)]
pub struct Converter(Mutex<RawConnection>);

/// An Arrow schema as DuckDB understands it.
#[derive(Debug)]
pub struct ConvertedSchema(ffi::duckdb_arrow_converted_schema);

/// Rows as DuckDB understands them. The vectors of fixed width and the bytes of text are the buffers of the batch, which they keep alive.
#[derive(Debug)]
pub struct Chunk(ffi::duckdb_data_chunk);

// SAFETY: a converted schema is a plain value on the heap, read-only after it was made.
unsafe impl Send for ConvertedSchema {}

impl Converter {
    /// Makes a converter over a connection that does nothing else.
    pub fn new(connection: RawConnection) -> Self {
        Self(Mutex::new(connection))
    }

    /// Converts a schema.
    ///
    /// # Errors
    /// DuckDB's message, if it does not know an Arrow type.
    pub fn schema(&self, schema: &Schema) -> Result<ConvertedSchema, String> {
        let mut exported = FFI_ArrowSchema::try_from(schema).map_err(|e| e.to_string())?;
        let mut converted = ConvertedSchema(ptr::null_mut());
        let connection = self.0.lock();
        // SAFETY: the connection is open and locked; both structures are the C Data Interface's `ArrowSchema`, filled by arrow and
        // only read by DuckDB; the out pointer is valid for writes.
        let error = unsafe { ffi::duckdb_schema_from_arrow(connection.as_ptr(), ptr::from_mut(&mut exported).cast(), &mut converted.0) };
        check(error).map(|()| converted)
    }

    /// Converts a batch of that schema: at most one vector's rows (2,048), so that DuckDB's operators can take the chunk as it is.
    ///
    /// # Errors
    /// DuckDB's message.
    pub fn chunk(&self, schema: &ConvertedSchema, batch: &RecordBatch) -> Result<Chunk, String> {
        let mut exported = FFI_ArrowArray::new(&StructArray::from(batch.clone()).into_data());
        let mut chunk = Chunk(ptr::null_mut());
        let connection = self.0.lock();
        // SAFETY: the connection is open and locked; `exported` is the C Data Interface's `ArrowArray` with the fields that `schema` was
        // made from; DuckDB takes it over and clears its `release`, so its drop here is empty; the out pointer is valid for writes.
        let error =
            unsafe { ffi::duckdb_data_chunk_from_arrow(connection.as_ptr(), ptr::from_mut(&mut exported).cast(), schema.0, &mut chunk.0) };
        check(error).map(|()| chunk)
    }
}

impl Chunk {
    /// Returns the number of columns.
    pub fn columns(&self) -> usize {
        // SAFETY: the chunk is owned by `self`.
        let columns = unsafe { ffi::duckdb_data_chunk_get_column_count(self.0) };
        usize::try_from(columns).expect("a chunk has as many columns as the batch it was made from")
    }

    /// Makes the first columns of `output` refer to this chunk's vectors: nothing is copied.
    ///
    /// # Safety
    /// `output` is a live chunk whose columns have this chunk's types: exactly, since DuckDB throws through C on another type
    /// and reads garbage on another decimal width.
    pub unsafe fn hand_on(&self, output: ffi::duckdb_data_chunk) {
        // SAFETY: the chunk is owned by `self`.
        let rows = unsafe { ffi::duckdb_data_chunk_get_size(self.0) };
        for column in 0..self.columns() {
            // SAFETY: the caller vouches for `output`.
            let to = unsafe { ffi::duckdb_data_chunk_get_vector(output, column as ffi::idx_t) };
            // SAFETY: both vectors are live and of the same type; the target shares ownership of the source's buffers.
            unsafe { ffi::duckdb_vector_reference_vector(to, self.vector(column)) };
        }
        // SAFETY: the caller vouches for `output`; the vectors just set hold `rows` rows.
        unsafe { ffi::duckdb_data_chunk_set_size(output, rows) };
    }

    /// Returns DuckDB's type of a column.
    pub fn column_type(&self, column: usize) -> LogicalType {
        // SAFETY: the vector lives as long as the chunk.
        LogicalType(unsafe { ffi::duckdb_vector_get_column_type(self.vector(column)) })
    }

    /// Returns where the values of a flat column stand in memory.
    pub fn address(&self, column: usize) -> *const c_void {
        // SAFETY: the vector lives as long as the chunk; the pointer is only compared.
        unsafe { ffi::duckdb_vector_get_data(self.vector(column)) }
    }

    fn vector(&self, column: usize) -> ffi::duckdb_vector {
        // SAFETY: the chunk is owned by `self`; DuckDB answers null for a column that does not exist.
        let vector = unsafe { ffi::duckdb_data_chunk_get_vector(self.0, column as ffi::idx_t) };
        assert!(!vector.is_null(), "column {column} of a chunk of {}", self.columns());
        vector
    }
}

/// A DuckDB type.
#[derive(Debug)]
pub struct LogicalType(ffi::duckdb_logical_type);

impl LogicalType {
    /// Makes `BIGINT`.
    pub fn bigint() -> Self {
        // SAFETY: the id is one of the header's.
        Self(unsafe { ffi::duckdb_create_logical_type(ffi::DUCKDB_TYPE_DUCKDB_TYPE_BIGINT) })
    }

    /// Makes `BOOLEAN`.
    pub fn boolean() -> Self {
        // SAFETY: as above.
        Self(unsafe { ffi::duckdb_create_logical_type(ffi::DUCKDB_TYPE_DUCKDB_TYPE_BOOLEAN) })
    }

    /// Makes `ANY`, the type of a parameter that takes every type.
    pub fn any() -> Self {
        // SAFETY: as above.
        Self(unsafe { ffi::duckdb_create_logical_type(ffi::DUCKDB_TYPE_DUCKDB_TYPE_ANY) })
    }

    /// Returns the handle, valid as long as `self`.
    pub(super) fn as_ptr(&self) -> ffi::duckdb_logical_type {
        self.0
    }
}

fn check(mut error: ffi::duckdb_error_data) -> Result<(), String> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the handle was just returned by DuckDB and is not null.
    let message = unsafe { ffi::duckdb_error_data_message(error) };
    // SAFETY: the message is NUL-terminated and lives as long as the handle.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: the handle is owned here and destroyed once.
    unsafe { ffi::duckdb_destroy_error_data(&mut error) };
    Err(message)
}

impl Drop for ConvertedSchema {
    fn drop(&mut self) {
        // SAFETY: the handle is null or owned by `self`; it is destroyed only here.
        unsafe { ffi::duckdb_destroy_arrow_converted_schema(&mut self.0) };
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: the handle is null or owned by `self`; it is destroyed only here.
        unsafe { ffi::duckdb_destroy_data_chunk(&mut self.0) };
    }
}

impl Drop for LogicalType {
    fn drop(&mut self) {
        // SAFETY: the handle is owned by `self`; it is destroyed only here.
        unsafe { ffi::duckdb_destroy_logical_type(&mut self.0) };
    }
}
