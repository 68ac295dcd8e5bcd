//! NATS JetStream: the messages of a stream, each a record.
//!
//! Owns: the task that reads, what is acknowledged and when, the look at the server for `pintail check`.
//! Does not own: connecting, sessions and positions (each has a file below).
//!
//! The stream is the partition of the source, its offsets are stream sequences. A message counts as a record however many lines it has; an
//! empty one too. Sequences that have no message, because it was deleted or is of a subject that is not read, are in the ranges too.
//!
//! A position carries evidence: the messages that were read last. Each session begins with a look whether they still stand there (see `check`).

pub mod config;

#[cfg(feature = "nats")]
mod acks;
#[cfg(feature = "nats")]
mod check;
#[cfg(feature = "nats")]
mod connect;
#[cfg(feature = "nats")]
mod history;
#[cfg(feature = "nats")]
mod intake;
#[cfg(feature = "nats")]
mod plan;
#[cfg(feature = "nats")]
mod position;
#[cfg(feature = "nats")]
mod reader;
#[cfg(feature = "nats")]
mod search;
#[cfg(feature = "nats")]
mod session;
#[cfg(feature = "nats")]
mod source;
#[cfg(feature = "nats")]
mod subject;
#[cfg(feature = "nats")]
mod unreadable;

#[cfg(feature = "nats")]
pub use session::Line;
#[cfg(feature = "nats")]
pub use source::NatsSource;

pub(crate) use config::KIND;
