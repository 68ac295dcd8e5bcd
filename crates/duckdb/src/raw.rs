//! Raw DuckDB handles: what `duckdb-rs` does not offer.
//!
//! Owns: opening and closing the database, plain connections, counting the statements of a text without running any.
//! Does not own: queries (they go through [`duckdb::Connection`]), Arrow (see `arrow_ffi`), the table function (see `scan`).

#![allow(unsafe_code, reason = "DuckDB's C API hands out raw handles")]

use std::ffi::{CStr, CString};
use std::ptr;

use duckdb::{Connection, ffi};
use pintail_core::error::{Error, Result};

/// An open database. Closed on drop; every connection to it must be gone by then, which is why they hold an `Arc` of it.
#[derive(Debug)]
pub struct RawDatabase(ffi::duckdb_database);

// SAFETY: the handle is a pointer to a C++ object that locks itself; DuckDB allows its use from every thread.
unsafe impl Send for RawDatabase {}
// SAFETY: as above; the only calls through `&self` are `duckdb_connect` and the opening of connections, which DuckDB synchronizes.
unsafe impl Sync for RawDatabase {}

impl RawDatabase {
    /// Opens an empty database in memory.
    pub fn open_in_memory(options: &[(&str, &str)]) -> Result<Self> {
        let config = Options::new(options)?;
        let mut database = ptr::null_mut();
        let mut message = ptr::null_mut();
        // SAFETY: the path is a C string, `config` lives over the call, and both out pointers are valid for writes.
        let state = unsafe { ffi::duckdb_open_ext(c":memory:".as_ptr(), &mut database, config.0, &mut message) };
        if state == ffi::DuckDBSuccess {
            return Ok(Self(database));
        }
        // SAFETY: on failure DuckDB hands over a string that it allocated, or null; it is used nowhere else.
        let message = unsafe { ffi::DuckDbString::from_nullable_ptr(message) };
        let message = message.map_or_else(|| "no reason given".to_owned(), |text| text.to_string_lossy().into_owned());
        Err(Error::internal(format!("cannot open DuckDB in memory: {message}")))
    }

    /// Opens a connection for SQL. It does not close the database; the caller keeps that alive longer.
    pub fn sql_connection(&self) -> Result<Connection> {
        // SAFETY: the handle is open as long as `self` lives, and callers drop the connection before it.
        let connection = unsafe { Connection::open_from_raw(self.0) };
        connection.map_err(|e| Error::internal("cannot connect to DuckDB").with_source(e))
    }

    /// Opens a plain connection.
    pub fn connect(&self) -> Result<RawConnection> {
        let mut connection = ptr::null_mut();
        // SAFETY: the handle is open as long as `self` lives; the out pointer is valid for writes.
        let state = unsafe { ffi::duckdb_connect(self.0, &mut connection) };
        if state != ffi::DuckDBSuccess {
            return Err(Error::internal("cannot connect to DuckDB"));
        }
        Ok(RawConnection(connection))
    }
}

impl Drop for RawDatabase {
    fn drop(&mut self) {
        // SAFETY: the handle was opened by `open_in_memory` and is closed only here.
        unsafe { ffi::duckdb_close(&mut self.0) };
    }
}

struct Options(ffi::duckdb_config);

impl Options {
    fn new(options: &[(&str, &str)]) -> Result<Self> {
        let mut config = ptr::null_mut();
        // SAFETY: the out pointer is valid for writes.
        let state = unsafe { ffi::duckdb_create_config(&mut config) };
        let config = Self(config);
        if state != ffi::DuckDBSuccess {
            return Err(Error::internal("cannot make the configuration of DuckDB"));
        }
        for (name, value) in options {
            config.set(name, value)?;
        }
        Ok(config)
    }

    fn set(&self, name: &str, value: &str) -> Result<()> {
        let refused = || Error::internal(format!("DuckDB does not take the setting {name} = `{value}`"));
        let (c_name, c_value) = (CString::new(name).map_err(|_| refused())?, CString::new(value).map_err(|_| refused())?);
        // SAFETY: the configuration lives as long as `self`; both strings are NUL-terminated and copied by DuckDB.
        let state = unsafe { ffi::duckdb_set_config(self.0, c_name.as_ptr(), c_value.as_ptr()) };
        if state == ffi::DuckDBSuccess { Ok(()) } else { Err(refused()) }
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: the configuration was made by `new` and is destroyed only here; null is allowed.
        unsafe { ffi::duckdb_destroy_config(&mut self.0) };
    }
}

/// A plain connection: for conversions, registration and extraction, never for queries.
#[derive(Debug)]
pub struct RawConnection(ffi::duckdb_connection);

// SAFETY: a connection may be used from any thread, by one at a time; `RawConnection` is not `Sync`.
unsafe impl Send for RawConnection {}

impl RawConnection {
    /// Returns the handle, valid as long as `self`.
    pub(super) fn as_ptr(&self) -> ffi::duckdb_connection {
        self.0
    }

    /// Counts the statements of `sql` without preparing any.
    ///
    /// # Errors
    /// DuckDB's message, if the text cannot be parsed.
    pub fn count_statements(&self, sql: &str) -> Result<usize, String> {
        let sql = CString::new(sql).map_err(|_| "the text holds a NUL byte".to_owned())?;
        let mut extracted = Extracted(ptr::null_mut());
        // SAFETY: the connection is open, the text is NUL-terminated, the out pointer is valid for writes.
        let count = unsafe { ffi::duckdb_extract_statements(self.0, sql.as_ptr(), &mut extracted.0) };
        match extracted.message() {
            Some(message) => Err(message),
            None => Ok(usize::try_from(count).expect("a text has fewer statements than bytes")),
        }
    }
}

impl Drop for RawConnection {
    fn drop(&mut self) {
        // SAFETY: the connection was opened by `connect` and is closed only here.
        unsafe { ffi::duckdb_disconnect(&mut self.0) };
    }
}

struct Extracted(ffi::duckdb_extracted_statements);

impl Extracted {
    fn message(&self) -> Option<String> {
        // SAFETY: the handle is null or was made by `duckdb_extract_statements`; both are allowed.
        let message = unsafe { ffi::duckdb_extract_statements_error(self.0) };
        if message.is_null() {
            return None;
        }
        // SAFETY: the message is NUL-terminated and lives as long as the handle.
        let message = unsafe { CStr::from_ptr(message) };
        Some(message.to_string_lossy().into_owned())
    }
}

impl Drop for Extracted {
    fn drop(&mut self) {
        // SAFETY: the handle is null or owned by `self`; it is destroyed only here.
        unsafe { ffi::duckdb_destroy_extracted(&mut self.0) };
    }
}
