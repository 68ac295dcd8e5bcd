//! Settings: layers of tables, and the reader that makes values or faults of them.
//!
//! Owns: how a key is looked up, typed, bounded, noted and refused; the words of every fault.
//! Does not own: the keys themselves. Whoever needs a setting has its key, default and bounds beside it: a source in its own file, the rest in
//! `pintail_config`.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod bounds;
pub mod described;
pub mod raw;
pub mod reader;
pub mod report;
pub mod values;

pub use reader::Section;
