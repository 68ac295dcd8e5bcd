//! Callbacks: what every function that DuckDB calls in Pintail needs.
//!
//! Owns: that neither an error nor a panic leaves a callback but as a message with [`MARKER`], and the boxes that DuckDB drops.
//! Does not own: the functions (see `scan`, `gather`).

#![allow(unsafe_code, reason = "DuckDB drops over its C API what it was given")]

use std::ffi::{CString, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use duckdb::ffi;

/// What every error of a callback begins with, behind DuckDB's own prefix: it is never a fault of the data.
pub const MARKER: &str = "pintail's own function: ";

/// Runs the body of a callback: neither an error nor a panic may leave it but as a marked message.
pub(super) fn contain(body: impl FnOnce() -> Result<(), String>) -> Result<(), CString> {
    let caught = catch_unwind(AssertUnwindSafe(body));
    let message = match caught {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(message)) => message,
        Err(panic) => match panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref().cloned()) {
            Some(text) => format!("panicked: {text}"),
            None => "panicked".to_owned(),
        },
    };
    Err(CString::new(format!("{MARKER}{message}").replace('\0', " ")).expect("NUL bytes were replaced"))
}

/// Boxes a value for DuckDB, with the destructor of its type.
pub(super) fn give_away<T>(value: T, to: impl FnOnce(*mut c_void, ffi::duckdb_delete_callback_t)) {
    to(Box::into_raw(Box::new(value)).cast(), Some(destroy::<T>));
}

/// Drops what [`give_away`] boxed.
pub(super) unsafe extern "C" fn destroy<T>(data: *mut c_void) {
    // SAFETY: DuckDB passes the pointer that it was given with this destructor, once.
    let value = unsafe { Box::from_raw(data.cast::<T>()) };
    // A panic must not unwind into DuckDB.
    drop(catch_unwind(AssertUnwindSafe(|| drop(value))));
}
