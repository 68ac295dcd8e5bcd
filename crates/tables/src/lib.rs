//! Tables as projections of the ledger.
//!
//! Owns: what readers of tables are told of a dataset, so that they find each committed file exactly once: which columns a table can have
//! ([`types`]), which files it names ([`facts`]), the loop that brings it up to the ledger ([`publisher`]), the log of a Delta table ([`delta`]) and
//! the metadata of an Iceberg table ([`iceberg`]).
//! Does not own: the dataset, which never waits for a table; when it is published (see the program's `tables`).
//!
//! A table is never the truth. All that a publisher knows of its own progress stands in the table itself, in the same commit as the files: so it
//! may be killed at any moment, run twice at the same time, or begin anew on a table that is deleted.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests do to files what others do"))]

pub mod audit;
pub mod delta;
pub mod facts;
pub mod iceberg;
pub mod ledger;
pub mod log;
#[cfg(test)]
mod model;
pub mod publisher;
pub mod types;
