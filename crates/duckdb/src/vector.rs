//! A DuckDB vector, seen as slices.
//!
//! Owns: reading flat vectors of fixed width and of text in place.
//! Does not own: what becomes of the values (see `gather`), types that have vectors within (nobody reads those here).

#![allow(unsafe_code, reason = "DuckDB hands its vectors out as raw pointers")]

use std::marker::PhantomData;
use std::{ptr, slice};

use duckdb::ffi;

/// A chunk of rows that DuckDB passes to a callback. Its vectors are flat.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    chunk: ffi::duckdb_data_chunk,
    lifetime: PhantomData<&'a ()>,
}

/// A flat vector.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vector<'a> {
    vector: ffi::duckdb_vector,
    rows: usize,
    lifetime: PhantomData<&'a ()>,
}

/// The header of a text: its length and all of it, up to 12 bytes, padded with zeros; beyond, its first 4 and where it stands.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Text(ffi::duckdb_string_t);

/// Longest text that a header holds, in DuckDB and in Arrow's views alike.
pub(crate) const INLINE_LEN: usize = 12;

impl<'a> Rows<'a> {
    /// Looks at a chunk.
    ///
    /// # Safety
    /// The chunk is live and flat for `'a`, as DuckDB passes it to a scalar function.
    pub(crate) unsafe fn new(chunk: ffi::duckdb_data_chunk) -> Self {
        Self { chunk, lifetime: PhantomData }
    }

    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: the chunk is live.
        let rows = unsafe { ffi::duckdb_data_chunk_get_size(self.chunk) };
        usize::try_from(rows).expect("a chunk has as many rows as fit in memory")
    }

    /// Returns the vectors.
    pub(crate) fn columns(&self) -> impl ExactSizeIterator<Item = Vector<'a>> {
        let rows = self.len();
        // SAFETY: the chunk is live.
        let columns = unsafe { ffi::duckdb_data_chunk_get_column_count(self.chunk) };
        let chunk = self.chunk;
        (0..usize::try_from(columns).expect("a chunk has as many columns as fit in memory")).map(move |column| {
            // SAFETY: the chunk is live and has the column.
            let vector = unsafe { ffi::duckdb_data_chunk_get_vector(chunk, column as ffi::idx_t) };
            Vector { vector, rows, lifetime: PhantomData }
        })
    }
}

impl<'a> Vector<'a> {
    /// Returns the id of the type.
    pub(crate) fn type_id(&self) -> ffi::duckdb_type {
        // SAFETY: the vector is live.
        let mut logical_type = unsafe { ffi::duckdb_vector_get_column_type(self.vector) };
        // SAFETY: the type was just made.
        let id = unsafe { ffi::duckdb_get_type_id(logical_type) };
        // SAFETY: the handle is owned here and destroyed once.
        unsafe { ffi::duckdb_destroy_logical_type(&mut logical_type) };
        id
    }

    /// Returns a bit for each row, 1 where there is a value; nothing if there is one in every row.
    pub(crate) fn validity(&self) -> Option<&'a [u64]> {
        // SAFETY: the vector is live.
        let words = unsafe { ffi::duckdb_vector_get_validity(self.vector) };
        // SAFETY: DuckDB keeps a bit for each row of a vector, or none at all.
        (!words.is_null()).then(|| unsafe { slice::from_raw_parts(words, self.rows.div_ceil(64)) })
    }

    /// Returns the bytes of the values; those of a NULL may be any.
    ///
    /// # Panics
    /// If the values of the type are not `width` bytes wide.
    pub(crate) fn bytes(&self, width: usize) -> &'a [u8] {
        assert_eq!(fixed_width(self.type_id()), Some(width), "the width of DuckDB's type {}", self.type_id());
        // SAFETY: the vector is flat and has as many values of that width as rows.
        unsafe { slice::from_raw_parts(self.data().cast(), self.rows * width) }
    }

    /// Returns the headers of the texts; those of a NULL may be any.
    ///
    /// # Panics
    /// If the type is not `VARCHAR`.
    pub(crate) fn texts(&self) -> &'a [Text] {
        assert_eq!(self.type_id(), ffi::DUCKDB_TYPE_DUCKDB_TYPE_VARCHAR);
        // SAFETY: the vector is flat and has as many headers as rows.
        unsafe { slice::from_raw_parts(self.data().cast(), self.rows) }
    }

    fn data(&self) -> *const std::ffi::c_void {
        // SAFETY: the vector is live.
        let data = unsafe { ffi::duckdb_vector_get_data(self.vector) };
        // A vector without rows may have no buffer; a slice must not be null.
        if data.is_null() { ptr::dangling::<u64>().cast() } else { data }
    }
}

impl Text {
    /// Returns the number of bytes.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: the length is the first field of both variants.
        unsafe { self.0.value.inlined }.length as usize
    }

    /// Returns the header as Arrow's view of an inlined text: the same 16 bytes. Beyond [`INLINE_LEN`] the upper half is an address.
    pub(crate) fn header(&self) -> u128 {
        // SAFETY: both are 16 bytes without padding, and every bit pattern is a number.
        unsafe { std::mem::transmute::<ffi::duckdb_string_t, u128>(self.0) }
    }

    /// Returns the bytes of a text that the header does not hold.
    ///
    /// # Safety
    /// The text is none of a NULL, and its vector is live.
    pub(crate) unsafe fn long_bytes(&self) -> &[u8] {
        assert!(self.len() > INLINE_LEN, "the header holds a text of {} bytes", self.len());
        // SAFETY: a text beyond 12 bytes is not inlined.
        let start = unsafe { self.0.value.pointer.ptr };
        // SAFETY: DuckDB keeps the bytes of a text as long as its vector, for which the caller vouches.
        unsafe { slice::from_raw_parts(start.cast(), self.len()) }
    }
}

/// Returns how wide a value of the type is; nothing if that is no fixed number of bytes that stand in the vector.
pub(crate) fn fixed_width(type_id: ffi::duckdb_type) -> Option<usize> {
    match type_id {
        ffi::DUCKDB_TYPE_DUCKDB_TYPE_BOOLEAN | ffi::DUCKDB_TYPE_DUCKDB_TYPE_TINYINT | ffi::DUCKDB_TYPE_DUCKDB_TYPE_UTINYINT => Some(1),
        ffi::DUCKDB_TYPE_DUCKDB_TYPE_SMALLINT | ffi::DUCKDB_TYPE_DUCKDB_TYPE_USMALLINT => Some(2),
        ffi::DUCKDB_TYPE_DUCKDB_TYPE_INTEGER
        | ffi::DUCKDB_TYPE_DUCKDB_TYPE_UINTEGER
        | ffi::DUCKDB_TYPE_DUCKDB_TYPE_FLOAT
        | ffi::DUCKDB_TYPE_DUCKDB_TYPE_DATE => Some(4),
        ffi::DUCKDB_TYPE_DUCKDB_TYPE_BIGINT
        | ffi::DUCKDB_TYPE_DUCKDB_TYPE_UBIGINT
        | ffi::DUCKDB_TYPE_DUCKDB_TYPE_DOUBLE
        | ffi::DUCKDB_TYPE_DUCKDB_TYPE_TIME
        | ffi::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP
        | ffi::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_MS
        | ffi::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_NS
        | ffi::DUCKDB_TYPE_DUCKDB_TYPE_TIMESTAMP_TZ => Some(8),
        _ => None,
    }
}
