//! Decoding: bytes → record batch and dead letters.

pub mod infer;
pub mod ndjson;
