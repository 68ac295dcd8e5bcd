//! Prepared statements over DuckDB's C API, run for what they do and not for their result.
//!
//! Owns: preparing, running to the end, the class of a failure, interrupting a connection from another thread.
//! Does not own: what a failure means (see `sql_error`), statements whose rows are wanted (they go through [`duckdb::Connection`]).
//!
//! `duckdb-rs` keeps only the text of an error that a query raises. What is done about an error must not hang on its words, so the
//! class is asked for here.

#![allow(unsafe_code, reason = "DuckDB's C API hands out raw handles")]

use std::ffi::{CStr, CString, c_char};
use std::ptr;

use duckdb::ffi;

use super::raw::RawConnection;

/// What kind of error DuckDB says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A value could not be cast.
    Conversion,
    /// The memory limit was reached.
    OutOfMemory,
    /// A check of DuckDB's own failed: it does not vouch for the database any more.
    Broken,
    /// Any other.
    Other,
}

/// Why a statement failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What kind of error it is.
    pub class: Class,
    /// DuckDB's own words.
    pub message: String,
}

/// A prepared statement. Dropped before its connection.
#[derive(Debug)]
pub struct Prepared(ffi::duckdb_prepared_statement);

// SAFETY: a statement may be used from any thread, by one at a time; `Prepared` is not `Sync`.
unsafe impl Send for Prepared {}

impl RawConnection {
    /// Prepares a statement.
    pub fn prepare(&self, sql: &str) -> Result<Prepared, Failed> {
        let text = CString::new(sql).map_err(|_| other("the text holds a NUL byte"))?;
        let mut statement = Prepared(ptr::null_mut());
        // SAFETY: the connection is open, the text is NUL-terminated, the out pointer is valid for writes.
        let state = unsafe { ffi::duckdb_prepare(self.as_ptr(), text.as_ptr(), &mut statement.0) };
        if state == ffi::DuckDBSuccess {
            return Ok(statement);
        }
        // SAFETY: the statement is null or was made by `duckdb_prepare`; both are allowed.
        let message = unsafe { ffi::duckdb_prepare_error(statement.0) };
        // SAFETY: the message is null, or NUL-terminated and lives as long as the statement.
        Err(other(&unsafe { owned(message) }))
    }

    /// Prepares a statement and runs it to its end.
    pub fn execute(&self, sql: &str) -> Result<(), Failed> {
        self.prepare(sql)?.run()
    }

    /// Returns a handle that interrupts what runs on this connection. It must not be used when the connection is gone.
    pub fn interrupter(&self) -> Interrupter {
        Interrupter(self.as_ptr())
    }
}

impl Prepared {
    /// Runs the statement to its end on this thread.
    pub fn run(&mut self) -> Result<(), Failed> {
        let mut result = RunResult::default();
        // SAFETY: the statement is live, the out pointer valid for writes. Not streamed, a query's result would be copied once more.
        let state = unsafe { ffi::duckdb_execute_prepared_streaming(self.0, &mut result.0) };
        if state != ffi::DuckDBSuccess {
            return Err(result.failure().unwrap_or_else(|| other("no reason given")));
        }
        loop {
            // SAFETY: the result is live; the struct is passed by value, as the C API asks for, and keeps its owner.
            let mut chunk = unsafe { ffi::duckdb_fetch_chunk(result.0) };
            if chunk.is_null() {
                return result.failure().map_or(Ok(()), Err);
            }
            // SAFETY: the chunk is owned here and destroyed once.
            unsafe { ffi::duckdb_destroy_data_chunk(&mut chunk) };
        }
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        // SAFETY: the handle is null or owned by `self`; it is destroyed only here.
        unsafe { ffi::duckdb_destroy_prepare(&mut self.0) };
    }
}

/// Interrupts what runs on a connection, from any thread.
#[derive(Debug)]
pub struct Interrupter(ffi::duckdb_connection);

// SAFETY: DuckDB takes an interrupt from any thread.
unsafe impl Send for Interrupter {}

impl Interrupter {
    /// Interrupts the statement that is running, if one is.
    pub fn interrupt(&self) {
        // SAFETY: the connection is open, as the one who asked for the handle vouched.
        unsafe { ffi::duckdb_interrupt(self.0) };
    }
}

struct RunResult(ffi::duckdb_result);

impl Default for RunResult {
    fn default() -> Self {
        // SAFETY: a result of zeros is what the C API asks to be passed in.
        Self(unsafe { std::mem::zeroed() })
    }
}

impl RunResult {
    fn failure(&mut self) -> Option<Failed> {
        // SAFETY: the result was filled by DuckDB.
        let message = unsafe { ffi::duckdb_result_error(&mut self.0) };
        if message.is_null() {
            return None;
        }
        // SAFETY: as above.
        let class = match unsafe { ffi::duckdb_result_error_type(&mut self.0) } {
            ffi::duckdb_error_type_DUCKDB_ERROR_CONVERSION => Class::Conversion,
            ffi::duckdb_error_type_DUCKDB_ERROR_OUT_OF_MEMORY => Class::OutOfMemory,
            ffi::duckdb_error_type_DUCKDB_ERROR_INTERNAL | ffi::duckdb_error_type_DUCKDB_ERROR_FATAL => Class::Broken,
            _ => Class::Other,
        };
        // SAFETY: the message is NUL-terminated and lives as long as the result.
        Some(Failed { class, message: unsafe { owned(message) } })
    }
}

impl Drop for RunResult {
    fn drop(&mut self) {
        // SAFETY: the result is zeros or was filled by DuckDB; it is destroyed only here.
        unsafe { ffi::duckdb_destroy_result(&mut self.0) };
    }
}

/// # Safety
/// The text is null, or NUL-terminated and live.
unsafe fn owned(text: *const c_char) -> String {
    if text.is_null() {
        return "no reason given".to_owned();
    }
    // SAFETY: the caller vouches for it.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn other(message: &str) -> Failed {
    Failed { class: Class::Other, message: message.to_owned() }
}
