//! The commands, one file each.

#[cfg(feature = "engine")]
pub mod query;
