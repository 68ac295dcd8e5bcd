//! Kafka: topics as a source; the offset of a record is its message's, in a partition of the source for each partition of a topic.
//!
//! Owns: the thread that reads, and telling the group what is committed, for tools that show its lag.
//! Does not own: where reading begins (the commit records say, never the group), decoding.
//!
//! Reading order: `position` (what is promised), `topics` and `topic_ids` (what the broker shows), `witness`, `looker` and `epochs` (whether what
//! was read still stands there), `reader` (sessions), `client` (settings of the library).

pub mod config;

#[cfg(feature = "kafka")]
mod client;
#[cfg(feature = "kafka")]
mod epochs;
#[cfg(feature = "kafka")]
mod headers;
#[cfg(feature = "kafka")]
mod looker;
#[cfg_attr(not(feature = "kafka"), allow(dead_code, reason = "without a client nothing is compared"))]
mod position;
#[cfg(feature = "kafka")]
mod reader;
#[cfg(feature = "kafka")]
mod source;
#[cfg(feature = "kafka")]
mod topic_ids;
#[cfg(feature = "kafka")]
mod topics;
#[cfg(feature = "kafka")]
mod witness;

#[cfg(feature = "kafka")]
pub use source::KafkaSource;

pub(crate) use config::KIND;
