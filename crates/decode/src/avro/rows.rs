//! Rows: one Avro record → one row of the columns.
//!
//! Owns: that a record is a row or leaves no trace, and that a batch fits into Arrow.
//! Does not own: payloads and what stands before the record in them (see the module), the values (see `read`).

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use pintail_core::error::{Error, Result};

use super::plan::Resolved;
use super::read::{self, Cursor, EXPANSION_MAX};
use super::slot::Slot;
use super::target::Target;

/// Bytes that a batch may become: Arrow counts those of a column in 31 bits.
const MADE_MAX: u64 = i32::MAX as u64;
/// Bytes of text that a byte of a payload may become: 16 bytes of a uuid are a text of 36.
const TEXT_MAX: u64 = 3;

/// Collects the rows of a batch.
#[derive(Debug)]
pub(super) struct Rows {
    schema: SchemaRef,
    slots: Vec<Slot>,
    /// The first column that has no nulls.
    required: Option<String>,
    rows: usize,
    /// At most so many bytes were made.
    made: u64,
}

impl Rows {
    /// Prepares for columns, whose Arrow schema is `schema`.
    pub(super) fn new(columns: &[(String, Target)], schema: SchemaRef) -> Self {
        let required = columns.iter().find(|(_, target)| !target.is_nullable).map(|(name, _)| name.clone());
        Self { schema, slots: columns.iter().map(|(_, target)| Slot::new(target)).collect(), required, rows: 0, made: 0 }
    }

    /// Returns the rows so far.
    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Makes sure that a record of so many bytes may come.
    ///
    /// # Errors
    /// `Config` if the batch would become too large.
    pub(super) fn make_room(&self, of: &Resolved, bytes: usize) -> Result<()> {
        let most = to_u64(bytes).saturating_mul(TEXT_MAX + EXPANSION_MAX).saturating_add(of.allowance);
        if self.made.saturating_add(most) > MADE_MAX {
            return Err(Error::config(format!(
                "a batch becomes more than {MADE_MAX} bytes, too large for Arrow columns: lower `pipeline.batch_bytes_max` or `pipeline.batch_rows`"
            )));
        }
        Ok(())
    }

    /// Appends a record.
    ///
    /// # Errors
    /// The reason why it is none.
    #[inline]
    pub(super) fn push(&mut self, of: &Resolved, record: &[u8]) -> Result<(), String> {
        let bytes = to_u64(record.len());
        let budget = bytes * EXPANSION_MAX + of.allowance;
        let mut cursor = Cursor::new(record, budget, &of.records);
        let read = read::fields(&of.root, &mut self.slots, &mut cursor).map_err(read::Fault::told);
        let read = read.and_then(|()| match cursor.left() {
            0 => Ok(()),
            left => Err(format!("{left} bytes are left behind the record: was it written by another schema?")),
        });
        match read {
            Ok(()) => {
                self.rows += 1;
                self.made += bytes * TEXT_MAX + of.allowance + (budget - cursor.budget());
            }
            Err(_) => self.slots.iter_mut().for_each(|slot| slot.truncate(self.rows)),
        }
        read
    }

    /// Appends a row without values.
    ///
    /// # Errors
    /// The reason why there can be none.
    pub(super) fn push_nothing(&mut self) -> Result<(), String> {
        if let Some(required) = &self.required {
            return Err(format!("column `{required}`: the value is missing, and the column is required"));
        }
        self.slots.iter_mut().for_each(Slot::null);
        self.rows += 1;
        Ok(())
    }

    /// Hands out the rows, and is empty again.
    pub(super) fn finish(&mut self) -> Result<RecordBatch> {
        (self.rows, self.made) = (0, 0);
        let arrays = self.slots.iter_mut().map(Slot::finish).collect::<Result<_, _>>();
        let batch = arrays.and_then(|arrays| RecordBatch::try_new(self.schema.clone(), arrays));
        batch.map_err(|e| Error::internal("decoded columns do not fit their own schema").with_source(e))
    }
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("it is in memory")
}
