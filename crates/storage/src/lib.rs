//! The ledger of commit records, the journal of pushed records, and the file system below them.
//!
//! Owns: what is promised of a dataset, and how it is kept on a disk and in a bucket: the order of durable steps, recovery, the fence.
//! Does not own: what is in the files (see `pintail_sink`).
//!
//! Read [`durable`] first, then [`checkpoint`]; [`journal`] is a chain of its own for what clients push, [`checkpoint::permission`] says who keeps a user out.
//! [`blob`] stands beside [`durable`] and [`bucket`] beside [`checkpoint::store`]: the same ledger where there is no file system.
//! [`dataset`] is what the line sees of either.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests do to files what others do"))]

pub mod blob;
pub mod bucket;
pub mod checkpoint;
pub mod dataset;
pub mod durable;
pub mod journal;
#[doc(hidden)]
pub mod samples;
