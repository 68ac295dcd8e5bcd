//! Pintail: one binary between an event stream and a data lake.

pub mod batch;
pub mod checkpoint;
pub mod commands;
pub mod config;
pub mod decode;
pub mod durable;
pub mod error;
pub mod offsets;
pub mod schema;
pub mod sink;
pub mod source;
pub mod totals;
#[cfg(feature = "engine")]
pub mod engine;
