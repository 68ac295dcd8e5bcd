//! NATS JetStream: the messages of a stream, each a record.
//!
//! Owns: the task that reads, what is acknowledged and when, the look at the server for `pintail check`.
//! Does not own: connecting, sessions and positions (each has a file below).
//!
//! The stream is the partition of the source, its offsets are stream sequences. A message counts as a record however many lines it has; an
//! empty one is none. Sequences that have no message, because it was deleted or is of a subject that is not read, are in the ranges too.
//!
//! A position carries evidence: the messages that were read last. Each session begins with a look whether they still stand there (see `check`).

pub mod config;

#[cfg(feature = "engine")]
mod acks;
#[cfg(feature = "engine")]
mod check;
#[cfg(feature = "engine")]
mod connect;
#[cfg(feature = "engine")]
mod history;
#[cfg(feature = "engine")]
mod intake;
#[cfg(feature = "engine")]
mod position;
#[cfg(feature = "engine")]
mod reader;
#[cfg(feature = "engine")]
mod search;
#[cfg(feature = "engine")]
mod session;
#[cfg(feature = "engine")]
mod source;
#[cfg(feature = "engine")]
mod subject;
#[cfg(feature = "engine")]
mod unreadable;

#[cfg(feature = "engine")]
pub use source::NatsSource;
