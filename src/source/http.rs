//! HTTP push: records that others send.
//!
//! Owns: the journal that makes a pushed request replayable before it is answered.
//! Does not own: batching and decoding, as no source does. The server that fills the journal is not here yet.

pub mod journal;
