//! The Arrow C Data Interface: arrays handed to Polars without copying their buffers.

#![allow(unsafe_code, reason = "the Arrow C Data Interface is made of raw pointers")]

use std::ptr;

use arrow::array::{Array, ArrayRef};
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema};
use polars::prelude::{PlSmallStr, Series};
use polars_arrow::ffi as polars_ffi;

/// Imports an array as a Polars series, without copying.
///
/// # Errors
/// Polars' message, if it does not know the type.
pub(crate) fn polars_series(name: &str, array: &ArrayRef) -> Result<Series, String> {
    Series::try_from((PlSmallStr::from_str(name), vec![polars_array(array)?])).map_err(|e| e.to_string())
}

fn polars_array(array: &ArrayRef) -> Result<polars::prelude::ArrayRef, String> {
    let schema = FFI_ArrowSchema::try_from(array.data_type()).map_err(|e| e.to_string())?;
    // SAFETY: both types are `#[repr(C)]` forms of the C Data Interface's `ArrowSchema`; arrow's keeps ownership, ours is a borrow.
    let schema_for_polars = unsafe { &*ptr::from_ref(&schema).cast::<polars_ffi::ArrowSchema>() };
    // SAFETY: arrow filled the schema.
    let field = unsafe { polars_ffi::import_field_from_c(schema_for_polars) }.map_err(|e| e.to_string())?;
    let exported = FFI_ArrowArray::new(&array.to_data());
    // SAFETY: both types are `#[repr(C)]` forms of the C Data Interface's `ArrowArray`, which may be moved; ownership goes to Polars.
    let exported = unsafe { std::mem::transmute::<FFI_ArrowArray, polars_ffi::ArrowArray>(exported) };
    // SAFETY: arrow filled the array, and its type is that of the field.
    unsafe { polars_ffi::import_array_from_c(exported, field.dtype) }.map_err(|e| e.to_string())
}
