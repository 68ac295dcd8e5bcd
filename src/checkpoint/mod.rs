//! Checkpoints: what is committed, and how.

pub mod staging;
