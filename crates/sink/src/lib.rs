//! The sink: hive partitions, hours, and open Parquet files. Blocking; called from `spawn_blocking`.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests do to files what others do"))]

pub mod config;
pub mod files;
pub mod layout;
pub mod merge;
