//! Values: what the values of every type of column can do.
//!
//! Owns: the trait.
//! Does not own: the types (see `primitive`, `text`), which values are null (see `column`).

use std::fmt;

use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;

use super::cursor::Cursor;

/// The values of a column, nulls filled in.
pub(super) trait Values: fmt::Debug + Send {
    /// Returns how many there are.
    fn len(&self) -> usize;

    /// Appends the next value of the record if it stands there in its usual form. After `None` nothing is appended, and the cursor may
    /// stand anywhere.
    fn push_usual(&mut self, cursor: &mut Cursor<'_>) -> Option<()>;

    /// Appends a value from the text of a JSON value that is not null; `None` = it does not fit.
    fn push_json(&mut self, json: &str) -> Option<()>;

    /// Appends a place that the null buffer covers.
    fn push_null(&mut self);

    /// Drops the values behind the first `rows`.
    fn truncate(&mut self, rows: usize);

    /// Returns whether a value lost digits since this was asked last.
    fn take_cut(&self) -> bool {
        false
    }

    /// Hands out the values, and is empty again.
    fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef;
}
