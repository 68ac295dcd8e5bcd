//! What all parts of Pintail speak of: records and where they stand, evidence, schemas, errors, limits.
//!
//! Owns: shapes and pure functions over them. Nothing here knows DuckDB, a file system or a network.
//!
//! 1. [`batch`], [`messages`] and [`offsets`]: what flows.
//! 2. [`evidence`] and [`identity`]: what positions are worth.
//! 3. [`schema`], [`hive`], [`sql_type`] and [`transform`]: what the user declares, and how its types are called.
//! 4. [`error`], [`escape`], [`secret`], [`invocation`], [`json_rows`], [`suggest`]: what is said and shown.
//! 5. [`limits`] and [`memory`]: what a process may take.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests do to files what others do"))]

pub mod batch;
pub mod breaker;
pub mod clock;
pub mod digest;
pub mod error;
pub mod escape;
pub mod evidence;
pub mod grouping;
pub mod hive;
pub mod identity;
pub mod invocation;
pub mod json_rows;
pub mod limits;
pub mod memory;
pub mod messages;
pub mod offsets;
pub mod panics;
pub mod quantity;
pub mod reasons;
pub mod schema;
pub mod secret;
pub mod sql_type;
pub mod suggest;
pub mod totals;
pub mod transform;
