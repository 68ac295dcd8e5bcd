//! Kafka: topics as a source; the offset of a record is its message's, in a partition of the source for each partition of a topic.
//!
//! Owns: the thread that reads, and telling the group what is committed, for tools that show its lag.
//! Does not own: where reading begins (the commit records say, never the group), decoding.
//!
//! Reading order: `position` (what is promised), `topics` and `topic_ids` (what the broker shows), `witness`, `looker` and `epochs` (whether what
//! was read still stands there), `reader` (sessions), `client` (settings of the library), `metadata` (`_key` and its like).

pub mod config;

#[cfg(feature = "engine")]
mod client;
#[cfg(feature = "engine")]
mod epochs;
#[cfg(feature = "engine")]
mod looker;
#[cfg(feature = "engine")]
mod metadata;
#[cfg(feature = "engine")]
mod position;
#[cfg(feature = "engine")]
mod reader;
#[cfg(feature = "engine")]
mod source;
#[cfg(feature = "engine")]
mod topic_ids;
#[cfg(feature = "engine")]
mod topics;
#[cfg(feature = "engine")]
mod witness;

#[cfg(feature = "engine")]
pub use source::KafkaSource;
