//! `[transform]`: the SQL and what it may take.
//!
//! Owns: the settings, as they may be used.
//! Does not own: reading them (see `pintail_config`), and whether the SQL is right (see `pintail_duckdb`).

use std::path::PathBuf;
use std::time::Duration;

use crate::digest::sha256_hex;

/// `[transform]`
#[derive(Debug, Clone)]
pub struct TransformConfig {
    /// One `SELECT` over `events`.
    pub sql: String,
    /// Whether no SQL was given: then it is the one for the simulator's events.
    pub is_default_sql: bool,
    /// Transform workers.
    pub threads: usize,
    /// Memory of DuckDB in bytes.
    pub memory_limit: u64,
    /// Longest time of one batch's SQL.
    pub timeout: Duration,
    /// Longest rows that one run of the SQL may return, in bytes, and rows of a frame.
    pub rows_bytes_max: usize,
    /// Whether the rows of a batch may depend on each other.
    pub per_batch: bool,
    /// Lookup tables.
    pub lookups: Vec<LookupConfig>,
}

impl TransformConfig {
    /// Returns the lower-case hexadecimal SHA-256 of the SQL, for the commit record.
    pub fn sql_sha256(&self) -> String {
        sha256_hex(self.sql.as_bytes())
    }
}

/// `[[transform.lookup]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupConfig {
    /// The table's name in the SQL.
    pub name: String,
    /// A Parquet, CSV or NDJSON file, told apart by its ending.
    pub path: PathBuf,
}
