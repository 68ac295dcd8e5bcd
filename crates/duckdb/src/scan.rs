//! The scan: DuckDB reads record batches in place, through a table function of ours.
//!
//! Owns: the slots in which batches wait, the function `pintail_scan(slot)`, the projection, the walk over the rows.
//! Does not own: the conversion of a slice (see `arrow_ffi`), which batch lies in which slot and for how long (see `worker`).
//!
//! The slots travel in the function's extra info: a registered function is visible to every connection of its database, so the
//! slot's number is its argument.

#![allow(unsafe_code, reason = "DuckDB calls back into this file over the C API")]

use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use duckdb::ffi;
use parking_lot::{Mutex, MutexGuard};
use pintail_core::error::{Error, Result};

use super::arrow_ffi::{ConvertedSchema, Converter, LogicalType};
use super::callback::{contain, destroy, give_away};
use super::raw::RawConnection;

/// The function's name in SQL.
pub(crate) const FUNCTION: &str = "pintail_scan";

/// Why a query that outlives its batch fails.
const EMPTY: &str = "the slot is empty";

/// Rows of a DuckDB vector.
pub const VECTOR_ROWS: usize = 2048;

/// Dictionaries with more values go as plain text: DuckDB rebuilds the dictionary for each vector of rows.
const DICTIONARY_VALUES_MAX: usize = 256;

/// What a slot holds while a query may read it.
#[derive(Debug)]
pub(crate) struct Input {
    /// The schema of the batches.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// Converts them.
    pub converter: Arc<Converter>,
    /// The columns that the batches lack.
    pub withheld: Option<Withheld>,
    /// How the rows are handed out.
    pub pace: Pace,
}

/// How rows are handed out, and how far that has come. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// Rows handed out at a time, at most those of a vector.
    rows: usize,
    /// Rows handed out; one more when the end was told too.
    taken: Arc<AtomicUsize>,
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(VECTOR_ROWS)
    }
}

impl Pace {
    /// Hands out so many rows at a time.
    pub(crate) fn new(rows: usize) -> Self {
        Self { rows: rows.clamp(1, VECTOR_ROWS), taken: Arc::default() }
    }

    /// Returns which of all rows were handed out last; nothing if none were, or if all were and the end was told.
    pub(crate) fn last(&self, all: usize) -> Option<Range<usize>> {
        let taken = self.taken.load(Ordering::Relaxed);
        (1..=all).contains(&taken).then(|| (taken - 1) / self.rows * self.rows..taken)
    }
}

/// Columns that are in the schema and not in the batches: a query that needs one of them fails.
#[derive(Debug, Clone)]
pub(crate) struct Withheld {
    /// The first of them; the others follow it.
    pub from: usize,
    /// Set when a query needs one.
    pub needed: Arc<AtomicBool>,
}

/// The slots of a database. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slots(Arc<Mutex<BTreeMap<usize, Option<Arc<Input>>>>>);

impl Slots {
    /// Reserves a slot that nobody else fills.
    pub(crate) fn reserve(&self) -> Slot {
        let mut slots = self.lock();
        let number = slots.len();
        slots.insert(number, None);
        Slot { slots: self.clone(), number }
    }

    fn get(&self, number: usize) -> Option<Arc<Input>> {
        self.lock().get(&number).cloned().flatten()
    }

    fn set(&self, number: usize, input: Option<Arc<Input>>) {
        // What was there is dropped outside the lock.
        let _before = self.lock().insert(number, input);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Option<Arc<Input>>>> {
        self.0.lock()
    }
}

/// A reserved slot.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Slots,
    number: usize,
}

impl Slot {
    /// Returns the slot's number.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Returns the call that reads the slot, to be used in `FROM`.
    pub(crate) fn call(&self) -> String {
        format!("{FUNCTION}({})", self.number)
    }

    /// Fills the slot until the guard is dropped.
    pub(crate) fn load(&self, input: Input) -> Loaded<'_> {
        self.slots.set(self.number, Some(Arc::new(input)));
        Loaded(self)
    }
}

/// Empties the slot on drop, so that the database never keeps a batch or a connection to itself alive.
#[derive(Debug)]
pub(crate) struct Loaded<'a>(&'a Slot);

impl Drop for Loaded<'_> {
    fn drop(&mut self) {
        self.0.slots.set(self.0.number, None);
    }
}

/// Registers the function in the database of `connection`.
pub(crate) fn register(connection: &RawConnection, slots: &Slots) -> Result<()> {
    let name = CString::new(FUNCTION).expect("the name holds no NUL byte");
    let slot_type = LogicalType::bigint();
    let extra_info = Box::into_raw(Box::new(slots.clone())).cast::<c_void>();
    // SAFETY: no arguments.
    let mut function = unsafe { ffi::duckdb_create_table_function() };
    // SAFETY: the function is live; the name is NUL-terminated and copied.
    unsafe { ffi::duckdb_table_function_set_name(function, name.as_ptr()) };
    // SAFETY: the function and the type are live; the type is copied.
    unsafe { ffi::duckdb_table_function_add_parameter(function, slot_type.as_ptr()) };
    // SAFETY: the box is given away; DuckDB calls the destructor for its type exactly once, when the last copy of the function goes.
    unsafe { ffi::duckdb_table_function_set_extra_info(function, extra_info, Some(destroy::<Slots>)) };
    // SAFETY: the function is live, the callback has the signature that DuckDB calls.
    unsafe { ffi::duckdb_table_function_set_bind(function, Some(bind)) };
    // SAFETY: as above.
    unsafe { ffi::duckdb_table_function_set_init(function, Some(init)) };
    // SAFETY: as above.
    unsafe { ffi::duckdb_table_function_set_function(function, Some(next)) };
    // SAFETY: the function is live.
    unsafe { ffi::duckdb_table_function_supports_projection_pushdown(function, true) };
    // SAFETY: the connection is open, the function complete; DuckDB copies it.
    let state = unsafe { ffi::duckdb_register_table_function(connection.as_ptr(), function) };
    // SAFETY: the handle is owned here and destroyed once.
    unsafe { ffi::duckdb_destroy_table_function(&mut function) };
    if state == ffi::DuckDBSuccess { Ok(()) } else { Err(Error::internal("DuckDB refuses the scan function")) }
}

/// What a query's scan walks over.
struct Scan {
    converter: Arc<Converter>,
    schema: ConvertedSchema,
    /// Only the columns that the query asks for, in its order.
    batches: Vec<RecordBatch>,
    position: Mutex<Position>,
    pace: Pace,
}

#[derive(Default)]
struct Position {
    batch: usize,
    row: usize,
    /// Rows of all batches.
    taken: usize,
}

impl Scan {
    fn new(input: &Input, columns: &[usize]) -> Result<Self, String> {
        if let Some(withheld) = input.withheld.as_ref().filter(|withheld| columns.iter().any(|column| *column >= withheld.from)) {
            withheld.needed.store(true, Ordering::Relaxed);
            return Err("a column is withheld".to_owned());
        }
        let schema = input.schema.project(columns).map_err(|e| e.to_string())?;
        let projected = input.batches.iter().map(|batch| project(batch, columns, &schema));
        let (schema, batches) = flatten_dictionaries(&schema, projected.collect::<Result<_, _>>()?)?;
        let schema = input.converter.schema(&schema)?;
        Ok(Self { converter: input.converter.clone(), schema, batches, position: Mutex::default(), pace: input.pace.clone() })
    }

    /// Cuts the next rows that fit a vector; `None` at the end.
    fn slice(&self) -> Option<RecordBatch> {
        let mut position = self.position.lock();
        loop {
            let Some(batch) = self.batches.get(position.batch) else {
                self.pace.taken.store(position.taken + 1, Ordering::Relaxed);
                return None;
            };
            let rows = self.pace.rows.min(batch.num_rows() - position.row);
            if rows > 0 {
                let slice = batch.slice(position.row, rows);
                position.row += rows;
                position.taken += rows;
                self.pace.taken.store(position.taken, Ordering::Relaxed);
                return Some(slice);
            }
            *position = Position { batch: position.batch + 1, row: 0, taken: position.taken };
        }
    }
}

/// Cuts the columns out, and checks that they have the types that DuckDB was told: it reads the buffers as those.
fn project(batch: &RecordBatch, columns: &[usize], schema: &Schema) -> Result<RecordBatch, String> {
    let projected = batch.project(columns).map_err(|e| e.to_string())?;
    for (field, told) in projected.schema_ref().fields().iter().zip(schema.fields()) {
        if field.data_type() != told.data_type() {
            return Err(format!("column `{}` is of type {} instead of {}", field.name(), field.data_type(), told.data_type()));
        }
    }
    Ok(projected)
}

/// Turns each dictionary column that has too many values in any batch into plain values in all of them.
fn flatten_dictionaries(schema: &Schema, batches: Vec<RecordBatch>) -> Result<(SchemaRef, Vec<RecordBatch>), String> {
    let mut fields = schema.fields().to_vec();
    for (index, field) in fields.iter_mut().enumerate() {
        let DataType::Dictionary(_, values) = field.data_type() else { continue };
        let values_max = batches.iter().map(|batch| batch.column(index).as_any_dictionary().values().len()).max();
        if values_max.unwrap_or_default() > DICTIONARY_VALUES_MAX {
            // The views of a view array point at the dictionary's own bytes: the text is not copied either.
            let plain = if **values == DataType::Utf8 { DataType::Utf8View } else { (**values).clone() };
            *field = Arc::new(field.as_ref().clone().with_data_type(plain));
        }
    }
    let flat = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    if flat.fields() == schema.fields() {
        return Ok((flat, batches));
    }
    let flatten = |batch: RecordBatch| {
        let columns = batch.columns().iter().zip(flat.fields());
        let columns = columns.map(|(array, field)| cast(array, field.data_type())).collect::<Result<_, _>>()?;
        RecordBatch::try_new(flat.clone(), columns)
    };
    let batches = batches.into_iter().map(flatten).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    Ok((flat, batches))
}

/// Tells DuckDB the columns of a slot: their types are those that the converter gives, never a table of ours.
unsafe extern "C" fn bind(info: ffi::duckdb_bind_info) {
    let bound = contain(|| {
        // SAFETY: DuckDB passes the info of this call.
        let slots = unsafe { ffi::duckdb_bind_get_extra_info(info) }.cast::<Slots>();
        // SAFETY: the extra info is the `Slots` that `register` gave away; it lives as long as the function.
        let slots = unsafe { &*slots };
        // SAFETY: the function has one parameter, checked to be a BIGINT before bind is called.
        let number = Value(unsafe { ffi::duckdb_bind_get_parameter(info, 0) }).to_usize().ok_or(EMPTY)?;
        let input = slots.get(number).ok_or(EMPTY)?;
        let empty = RecordBatch::new_empty(input.schema.clone());
        let chunk = input.converter.chunk(&input.converter.schema(&input.schema)?, &empty)?;
        for (column, field) in input.schema.fields().iter().enumerate() {
            let name = CString::new(field.name().as_str()).map_err(|_| format!("column {:?} holds a NUL byte", field.name()))?;
            // SAFETY: the info is live, the name NUL-terminated, the type live; both are copied.
            unsafe { ffi::duckdb_bind_add_result_column(info, name.as_ptr(), chunk.column_type(column).as_ptr()) };
        }
        let rows = input.batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        // SAFETY: the info is live. The count is an estimate to DuckDB (it orders joins by it), so it proves nothing about the rows.
        unsafe { ffi::duckdb_bind_set_cardinality(info, rows as ffi::idx_t, false) };
        // Not the input: a plan is used for several batches, and must keep none alive.
        give_away(Slot { slots: slots.clone(), number }, |data, destroy| {
            // SAFETY: the info is live; the box is given away with the destructor of its type.
            unsafe { ffi::duckdb_bind_set_bind_data(info, data, destroy) };
        });
        Ok(())
    });
    if let Err(message) = bound {
        // SAFETY: the info is live, the message NUL-terminated and copied.
        unsafe { ffi::duckdb_bind_set_error(info, message.as_ptr()) };
    }
}

/// Projects the batch: the converter would convert every column that it is given.
unsafe extern "C" fn init(info: ffi::duckdb_init_info) {
    let made = contain(|| {
        // SAFETY: DuckDB passes the info of this call.
        let slot = unsafe { ffi::duckdb_init_get_bind_data(info) }.cast::<Slot>();
        // SAFETY: the bind data is the `Slot` that `bind` gave away; it lives as long as the plan.
        let slot = unsafe { &*slot };
        let input = slot.slots.get(slot.number).ok_or(EMPTY)?;
        // SAFETY: the info is live.
        let count = unsafe { ffi::duckdb_init_get_column_count(info) };
        // SAFETY: the info is live, the index below the count.
        let column = |index| unsafe { ffi::duckdb_init_get_column_index(info, index) };
        let columns = (0..count).map(|index| usize::try_from(column(index)).map_err(|e| e.to_string()));
        let scan = Scan::new(&input, &columns.collect::<Result<Vec<_>, _>>()?)?;
        // SAFETY: the info is live. One thread reads a slot: the rows keep their order.
        unsafe { ffi::duckdb_init_set_max_threads(info, 1) };
        give_away(scan, |data, destroy| {
            // SAFETY: the info is live; the box is given away with the destructor of its type.
            unsafe { ffi::duckdb_init_set_init_data(info, data, destroy) };
        });
        Ok(())
    });
    if let Err(message) = made {
        // SAFETY: the info is live, the message NUL-terminated and copied.
        unsafe { ffi::duckdb_init_set_error(info, message.as_ptr()) };
    }
}

/// Hands on the next rows; an output without rows is the end.
unsafe extern "C" fn next(info: ffi::duckdb_function_info, output: ffi::duckdb_data_chunk) {
    let filled = contain(|| {
        // SAFETY: DuckDB passes the info of this call.
        let scan = unsafe { ffi::duckdb_function_get_init_data(info) }.cast::<Scan>();
        // SAFETY: the init data is the `Scan` that `init` gave away; it lives as long as the query. It locks its own position.
        let scan = unsafe { &*scan };
        match scan.slice() {
            // SAFETY: DuckDB made `output` with the types that `bind` took from the same converter, in the order of the projection.
            Some(slice) => unsafe { scan.converter.chunk(&scan.schema, &slice)?.hand_on(output) },
            // SAFETY: the output is live.
            None => unsafe { ffi::duckdb_data_chunk_set_size(output, 0) },
        }
        Ok(())
    });
    if let Err(message) = filled {
        // SAFETY: the info is live, the message NUL-terminated and copied.
        unsafe { ffi::duckdb_function_set_error(info, message.as_ptr()) };
    }
}

/// An argument of the function.
struct Value(ffi::duckdb_value);

impl Value {
    fn to_usize(&self) -> Option<usize> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: the value is live and a BIGINT.
        usize::try_from(unsafe { ffi::duckdb_get_int64(self.0) }).ok()
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: the value is null or owned by `self`; it is destroyed only here.
        unsafe { ffi::duckdb_destroy_value(&mut self.0) };
    }
}

#[cfg(test)]
mod tests;
