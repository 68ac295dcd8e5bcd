//! Tables as projections of the ledger.
//!
//! Owns: what readers of tables are told of a dataset, so that they find each committed file exactly once: which columns a table can have
//! ([`types`]), which files it names ([`facts`]), and the log of a Delta table ([`delta`]).
//! Does not own: the dataset, which never waits for a table; when it is published (see the program's `tables`).
//!
//! A table is never the truth. All that a publisher knows of its own progress stands in the table itself, in the same commit as the files: so it
//! may be killed at any moment, run twice at the same time, or begin anew on a table that is deleted.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests do to files what others do"))]

pub mod delta;
pub mod facts;
pub mod ledger;
pub mod types;
