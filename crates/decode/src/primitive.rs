//! Columns of fixed width: numbers, timestamps, dates.
//!
//! Owns: collecting values one after the other.
//! Does not own: how a value is read (each [`Scalar`] says).

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, PrimitiveArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::DataType;

use super::cursor::Cursor;
use super::values::Values;

/// How one value of a type is read.
pub(super) trait Scalar: fmt::Debug + Send {
    /// The Arrow type.
    type Arrow: ArrowPrimitiveType + fmt::Debug;

    /// Reads a value in its usual form; `None` = look at it with [`Self::careful`].
    fn usual(&self, cursor: &mut Cursor<'_>) -> Option<<Self::Arrow as ArrowPrimitiveType>::Native>;

    /// Reads the text of a JSON value that is not null; `None` = refused.
    fn careful(&self, json: &str) -> Option<<Self::Arrow as ArrowPrimitiveType>::Native>;

    /// Returns whether a value lost digits since this was asked last.
    fn take_cut(&self) -> bool {
        false
    }
}

/// A column of fixed width.
#[derive(Debug)]
pub(super) struct Primitives<S: Scalar> {
    scalar: S,
    data_type: DataType,
    values: Vec<<S::Arrow as ArrowPrimitiveType>::Native>,
}

impl<S: Scalar> Primitives<S> {
    /// Makes an empty column. `data_type` refines the Arrow type: a decimal's precision and scale.
    pub(super) fn new(scalar: S, data_type: DataType) -> Self {
        Self { scalar, data_type, values: Vec::new() }
    }
}

impl<S: Scalar> Values for Primitives<S> {
    fn len(&self) -> usize {
        self.values.len()
    }

    #[inline]
    fn push_usual(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        self.values.push(self.scalar.usual(cursor)?);
        Some(())
    }

    fn push_json(&mut self, json: &str) -> Option<()> {
        self.values.push(self.scalar.careful(json)?);
        Some(())
    }

    fn push_null(&mut self) {
        self.values.push(Default::default());
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
    }

    fn take_cut(&self) -> bool {
        self.scalar.take_cut()
    }

    fn finish(&mut self, nulls: Option<NullBuffer>) -> ArrayRef {
        let next = Vec::with_capacity(self.values.len());
        let values = ScalarBuffer::from(std::mem::replace(&mut self.values, next));
        Arc::new(PrimitiveArray::<S::Arrow>::new(values, nulls).with_data_type(self.data_type.clone()))
    }
}
