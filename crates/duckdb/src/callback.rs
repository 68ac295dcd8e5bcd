//! Callbacks: what every function that DuckDB calls in Pintail needs.
//!
//! Owns: that neither an error nor a panic leaves a callback but as a message, that a fault of Pintail's own is told apart from a
//! fault of the data, and the boxes that DuckDB drops.
//! Does not own: the functions (see `scan`, `gather`).
//!
//! DuckDB passes on nothing but the text of an error, and that may hold a value of any record. So a fault is noted beside it, for
//! the thread: a query runs on its caller's thread and nowhere else (see `session::Database::open`).

#![allow(unsafe_code, reason = "DuckDB drops over its C API what it was given")]

use std::cell::RefCell;
use std::ffi::{CString, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use duckdb::ffi;
use pintail_core::panics;

thread_local! {
    static FAULT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Why a callback ends its query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Pintail is at fault: no record is.
    Fault(String),
    /// A limit was reached, which whoever set it looks up by itself.
    Limit,
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self::Fault(message)
    }
}

impl From<&str> for Refusal {
    fn from(message: &str) -> Self {
        Self::Fault(message.to_owned())
    }
}

/// Forgets the faults of earlier queries of this thread.
pub(super) fn forget_fault() {
    FAULT.take();
}

/// Takes the fault of a callback since [`forget_fault`].
pub(super) fn take_fault() -> Option<String> {
    FAULT.take()
}

/// Runs the body of a callback: neither an error nor a panic may leave it but as a message.
pub(super) fn contain(body: impl FnOnce() -> Result<(), Refusal>) -> Result<(), CString> {
    let caught = catch_unwind(AssertUnwindSafe(body));
    let message = match caught {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(Refusal::Limit)) => return Err(c"a limit of Pintail's is reached".to_owned()),
        Ok(Err(Refusal::Fault(message))) => message,
        Err(panic) => match panics::words(&*panic) {
            Some(text) => format!("panicked: {text}"),
            None => "panicked".to_owned(),
        },
    };
    let text = CString::new(message.replace('\0', " ")).expect("NUL bytes were replaced");
    FAULT.set(Some(message));
    Err(text)
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
