//! Pintail: one binary between an event stream and a data lake.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod batch;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod decode;
pub mod durable;
#[cfg(feature = "engine")]
pub mod engine;
pub mod error;
pub mod logging;
pub mod offsets;
pub mod schema;
pub mod sink;
pub mod source;
pub mod terminal;
pub mod totals;
