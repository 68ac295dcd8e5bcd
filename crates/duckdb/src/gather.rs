//! The gather: the rows of a query go from DuckDB's vectors straight into one record batch, through a scalar function of ours.
//!
//! Owns: the function `pintail_gather(slot, column…)`, the columns that it fills, and which types it can take.
//! Does not own: reading a vector (see `vector`), the query around it and what runs where it cannot be used (see `session`).
//!
//! DuckDB's own result copies each row twice (into a buffer, then into Arrow) and comes in pieces of 2,048 rows that must be joined.
//! A function sees the rows before that: `SELECT pintail_gather(0, a, b) FROM (…)` copies each once. One thread runs a query, so the
//! rows come in the order of its result. The slots travel in the function's extra info, as those of the scan do.

#![allow(unsafe_code, reason = "DuckDB calls back into this file over the C API")]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::Arc;

use arrow::array::{ArrayData, ArrayRef, BooleanArray, BooleanBufferBuilder, NullBufferBuilder, RecordBatch, StringViewArray, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use duckdb::core::LogicalTypeId;
use duckdb::ffi;
use parking_lot::Mutex;
use pintail_core::error::{Error, Result};

use super::arrow_ffi::LogicalType;
use super::callback::{Refusal, contain, give_away};
use super::raw::RawConnection;
use super::vector::{INLINE_LEN, Rows, Text, Vector, fixed_width};

/// The function's name in SQL.
pub(crate) const FUNCTION: &str = "pintail_gather";

/// The first block for the bytes of long texts, and the largest: each is twice the one before.
const BLOCK_BYTES: (usize, usize) = (8 << 10, 1 << 20);

/// The columns being filled, by slot. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gathers(Arc<Mutex<BTreeMap<usize, Arc<Mutex<Columns>>>>>);

impl Gathers {
    /// Makes a slot ready for the rows of one query.
    pub(crate) fn begin(&self, slot: usize, columns: Columns) {
        self.0.lock().insert(slot, Arc::new(Mutex::new(columns)));
    }

    /// Takes what was gathered since [`Self::begin`].
    pub(crate) fn end(&self, slot: usize) -> Option<Columns> {
        let columns = self.0.lock().remove(&slot)?;
        Arc::into_inner(columns).map(|columns| columns.into_inner())
    }

    fn get(&self, slot: usize) -> Option<Arc<Mutex<Columns>>> {
        self.0.lock().get(&slot).cloned()
    }
}

/// Returns whether values of a DuckDB type are gathered as that Arrow type. A type that is not listed here is left to DuckDB's result.
pub(crate) fn is_gathered(from: LogicalTypeId, to: &DataType) -> bool {
    use LogicalTypeId as Duck;
    matches!(
        (from, to),
        (Duck::Boolean, DataType::Boolean)
            | (Duck::Tinyint, DataType::Int8)
            | (Duck::Smallint, DataType::Int16)
            | (Duck::Integer, DataType::Int32)
            | (Duck::Bigint, DataType::Int64)
            | (Duck::UTinyint, DataType::UInt8)
            | (Duck::USmallint, DataType::UInt16)
            | (Duck::UInteger, DataType::UInt32)
            | (Duck::UBigint, DataType::UInt64)
            | (Duck::Float, DataType::Float32)
            | (Duck::Double, DataType::Float64)
            | (Duck::Date, DataType::Date32)
            | (Duck::Time, DataType::Time64(TimeUnit::Microsecond))
            | (Duck::Timestamp, DataType::Timestamp(TimeUnit::Microsecond, None))
            | (Duck::TimestampMs, DataType::Timestamp(TimeUnit::Millisecond, None))
            | (Duck::TimestampNs, DataType::Timestamp(TimeUnit::Nanosecond, None))
            | (Duck::TimestampTZ, DataType::Timestamp(TimeUnit::Microsecond, Some(_)))
            | (Duck::Varchar, DataType::Utf8View)
    )
}

/// Columns that grow with each chunk.
#[derive(Debug)]
pub(crate) struct Columns {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
    /// Bytes that may still come.
    room: usize,
    /// Whether more was to come than there was room for.
    full: bool,
}

#[derive(Debug)]
struct Column {
    values: Values,
    nulls: NullBufferBuilder,
}

#[derive(Debug)]
enum Values {
    Boolean(BooleanBufferBuilder),
    Fixed { width: usize, bytes: MutableBuffer },
    Text(Texts),
}

/// Text as views: up to 12 bytes in the view itself, longer ones in blocks.
#[derive(Debug)]
struct Texts {
    views: Vec<u128>,
    full: Vec<Buffer>,
    block: Vec<u8>,
    /// Bytes of long texts that may still come.
    room: usize,
}

impl Columns {
    /// Makes empty columns of a schema all of whose types are gathered, with room for `rows`, which take `bytes_max` bytes.
    pub(crate) fn new(schema: &SchemaRef, rows: usize, bytes_max: usize) -> Self {
        let column = |data_type: &DataType| {
            let values = match data_type {
                DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(rows)),
                DataType::Utf8View => Values::Text(Texts { views: Vec::with_capacity(rows), full: Vec::new(), block: Vec::new(), room: 0 }),
                other => {
                    let width = other.primitive_width().expect("`is_gathered` lets nothing else pass than numbers and times");
                    Values::Fixed { width, bytes: MutableBuffer::with_capacity(rows * width) }
                }
            };
            Column { values, nulls: NullBufferBuilder::new(rows) }
        };
        let columns = schema.fields().iter().map(|field| column(field.data_type())).collect();
        Self { schema: schema.clone(), columns, rows: 0, room: bytes_max, full: false }
    }

    /// Returns whether the rows of the query did not fit.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    fn append<'a>(&mut self, rows: usize, vectors: impl ExactSizeIterator<Item = Vector<'a>>) -> Result<(), Refusal> {
        if vectors.len() != self.columns.len() {
            return Err(format!("{} columns instead of {}", vectors.len(), self.columns.len()).into());
        }
        for ((column, vector), field) in self.columns.iter_mut().zip(vectors).zip(self.schema.fields()) {
            match column.append(rows, vector, self.room).map_err(|reason| format!("column `{}`: {reason}", field.name()))? {
                Some(taken) => self.room -= taken,
                None => {
                    self.full = true;
                    return Err(Refusal::Limit);
                }
            }
        }
        self.rows += rows;
        Ok(())
    }

    /// Returns the rows.
    pub(crate) fn finish(self) -> Result<RecordBatch> {
        let arrays = self.columns.into_iter().zip(self.schema.fields()).map(|(column, field)| column.finish(field.data_type(), self.rows));
        let batch = arrays.collect::<Result<_, _>>().and_then(|arrays| RecordBatch::try_new(self.schema.clone(), arrays));
        batch.map_err(|e| Error::internal("cannot make a batch of the rows that the SQL returned").with_source(e))
    }
}

impl Column {
    /// Appends the rows and returns the bytes that they take; nothing if that is more than `room`.
    fn append(&mut self, rows: usize, vector: Vector<'_>, room: usize) -> Result<Option<usize>, String> {
        let validity = vector.validity();
        let width = match &self.values {
            Values::Boolean(_) => 1,
            Values::Fixed { width, .. } => *width,
            Values::Text(_) => size_of::<u128>(),
        };
        let Some(mut left) = room.checked_sub(rows * width) else { return Ok(None) };
        match &mut self.values {
            Values::Boolean(bits) => {
                // A NULL's byte may be any, so these are not read as `bool`.
                vector.bytes(1).iter().for_each(|byte| bits.append(*byte != 0));
            }
            Values::Fixed { width, bytes } => {
                let is = fixed_width(vector.type_id());
                if is != Some(*width) {
                    return Err(format!("DuckDB's type {} instead of one of {width} bytes", vector.type_id()));
                }
                bytes.extend_from_slice(vector.bytes(*width));
            }
            Values::Text(texts) => {
                texts.room = left;
                if texts.append(vector.texts(), validity)?.is_none() {
                    return Ok(None);
                }
                left = texts.room;
            }
        }
        match validity {
            None => self.nulls.append_n_non_nulls(rows),
            Some(words) => self.nulls.append_buffer(&NullBuffer::new(BooleanBuffer::new(Buffer::from_slice_ref(words), 0, rows))),
        }
        Ok(Some(room - left))
    }

    fn finish(mut self, data_type: &DataType, rows: usize) -> Result<ArrayRef, arrow::error::ArrowError> {
        let nulls = self.nulls.finish();
        Ok(match self.values {
            Values::Boolean(mut bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Values::Fixed { bytes, .. } => {
                make_array(ArrayData::builder(data_type.clone()).len(rows).add_buffer(bytes.into()).nulls(nulls).build()?)
            }
            Values::Text(texts) => texts.finish(nulls),
        })
    }
}

impl Texts {
    /// Appends texts; nothing is returned if there is no room for all of them.
    fn append(&mut self, texts: &[Text], validity: Option<&[u64]>) -> Result<Option<()>, String> {
        let Some(words) = validity else {
            if texts.iter().all(|text| text.len() <= INLINE_LEN) {
                self.views.extend(texts.iter().map(Text::header));
                return Ok(Some(()));
            }
            for text in texts {
                // SAFETY: the text is none of a NULL; its vector lives as long as the callback.
                if unsafe { self.push(text) }?.is_none() {
                    return Ok(None);
                }
            }
            return Ok(Some(()));
        };
        for (row, text) in texts.iter().enumerate() {
            match words[row / 64] >> (row % 64) & 1 {
                0 => self.views.push(0),
                // SAFETY: as above.
                _ if unsafe { self.push(text) }?.is_none() => return Ok(None),
                _ => {}
            }
        }
        Ok(Some(()))
    }

    /// # Safety
    /// The text is none of a NULL, and its vector is live.
    #[inline]
    unsafe fn push(&mut self, text: &Text) -> Result<Option<()>, String> {
        if text.len() <= INLINE_LEN {
            self.views.push(text.header());
            return Ok(Some(()));
        }
        // SAFETY: the caller vouches for the text.
        let bytes = unsafe { text.long_bytes() };
        self.push_long(text.header(), bytes)
    }

    fn push_long(&mut self, header: u128, bytes: &[u8]) -> Result<Option<()>, String> {
        let Some(room) = self.room.checked_sub(bytes.len()) else { return Ok(None) };
        self.room = room;
        if self.block.capacity() - self.block.len() < bytes.len() {
            let (first, largest) = BLOCK_BYTES;
            let next = (self.block.capacity() * 2).clamp(first, largest).max(bytes.len());
            let full = std::mem::replace(&mut self.block, Vec::with_capacity(next));
            if !full.is_empty() {
                self.full.push(full.into());
            }
        }
        let too_many = |_| "more bytes of text than views can address".to_owned();
        let (block, offset) = (u32::try_from(self.full.len()).map_err(too_many)?, u32::try_from(self.block.len()).map_err(too_many)?);
        self.block.extend_from_slice(bytes);
        // The length and the first four bytes stand where Arrow has them; the address becomes the block and the place in it.
        self.views.push(header as u64 as u128 | u128::from(block) << 64 | u128::from(offset) << 96);
        Ok(Some(()))
    }

    fn finish(mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        if !self.block.is_empty() {
            self.full.push(self.block.into());
        }
        // SAFETY: each view was made of a text of DuckDB's, which is UTF-8 and padded with zeros where it is inlined; the others point
        // into the blocks just where their bytes were put.
        Arc::new(unsafe { StringViewArray::new_unchecked(ScalarBuffer::from(self.views), self.full.into(), nulls) })
    }
}

/// Registers the function in the database of `connection`.
pub(crate) fn register(connection: &RawConnection, gathers: &Gathers) -> Result<()> {
    let name = CString::new(FUNCTION).expect("the name holds no NUL byte");
    let (slot, any, answer) = (LogicalType::bigint(), LogicalType::any(), LogicalType::boolean());
    // SAFETY: no arguments.
    let mut function = unsafe { ffi::duckdb_create_scalar_function() };
    // SAFETY: the function is live; the name is NUL-terminated and copied.
    unsafe { ffi::duckdb_scalar_function_set_name(function, name.as_ptr()) };
    // SAFETY: the function and the type are live; the type is copied.
    unsafe { ffi::duckdb_scalar_function_add_parameter(function, slot.as_ptr()) };
    // SAFETY: as above.
    unsafe { ffi::duckdb_scalar_function_set_varargs(function, any.as_ptr()) };
    // SAFETY: as above.
    unsafe { ffi::duckdb_scalar_function_set_return_type(function, answer.as_ptr()) };
    // SAFETY: the function is live. Without it, a row with a NULL would be passed over.
    unsafe { ffi::duckdb_scalar_function_set_special_handling(function) };
    // SAFETY: the function is live. Without it, rows that are all constants would be passed once.
    unsafe { ffi::duckdb_scalar_function_set_volatile(function) };
    give_away(gathers.clone(), |data, destroy| {
        // SAFETY: the function is live; the box is given away with the destructor of its type, called once with the last copy of it.
        unsafe { ffi::duckdb_scalar_function_set_extra_info(function, data, destroy) };
    });
    // SAFETY: the function is live, the callback has the signature that DuckDB calls.
    unsafe { ffi::duckdb_scalar_function_set_function(function, Some(gather)) };
    // SAFETY: the connection is open, the function complete; DuckDB copies it.
    let state = unsafe { ffi::duckdb_register_scalar_function(connection.as_ptr(), function) };
    // SAFETY: the handle is owned here and destroyed once.
    unsafe { ffi::duckdb_destroy_scalar_function(&mut function) };
    if state == ffi::DuckDBSuccess { Ok(()) } else { Err(Error::internal("DuckDB refuses the gather function")) }
}

/// Appends a chunk of rows to the columns of its slot. The answer is `false` for every row.
unsafe extern "C" fn gather(info: ffi::duckdb_function_info, input: ffi::duckdb_data_chunk, output: ffi::duckdb_vector) {
    let gathered = contain(|| {
        // SAFETY: DuckDB passes the info of this call.
        let gathers = unsafe { ffi::duckdb_scalar_function_get_extra_info(info) }.cast::<Gathers>();
        // SAFETY: the extra info is the `Gathers` that `register` gave away; it lives as long as the function.
        let gathers = unsafe { &*gathers };
        // SAFETY: DuckDB flattens what it passes to a scalar function, and keeps it over the call.
        let rows = unsafe { Rows::new(input) };
        if rows.len() == 0 {
            return Ok(());
        }
        let mut vectors = rows.columns();
        let slot = vectors.next().expect("the first parameter is declared").bytes(8);
        let slot = i64::from_ne_bytes(slot[..8].try_into().expect("eight bytes of the first row"));
        let columns = usize::try_from(slot).ok().and_then(|slot| gathers.get(slot)).ok_or("nothing is to be gathered")?;
        columns.lock().append(rows.len(), vectors)?;
        // SAFETY: the output is live.
        let answers = unsafe { ffi::duckdb_vector_get_data(output) }.cast::<u8>();
        // SAFETY: the output is a flat vector of booleans, a byte each, with room for the rows of the input.
        unsafe { answers.write_bytes(0, rows.len()) };
        Ok(())
    });
    if let Err(message) = gathered {
        // SAFETY: the info is live, the message NUL-terminated and copied.
        unsafe { ffi::duckdb_scalar_function_set_error(info, message.as_ptr()) };
    }
}

#[cfg(test)]
mod tests;
