//! Pintail stands between an event stream and a data lake.
//!
//! It takes events from a source, batches them, runs the user's DuckDB SQL over each batch as Arrow, and publishes Hive-partitioned
//! Parquet in checkpoints that survive `kill -9` with nothing lost, nothing doubled and no torn file ever visible.
//!
//! ```text
//!             chunks            batches + barriers        frames + barriers
//!   producer ────────▶ batcher ────────────────────▶ transformer ────────▶ writer ──▶ out/region=us/events-….parquet
//!      ▲              (rows, bytes,                  (decode + SQL in        │
//!      │               30 s interval)                 spawn_blocking)        ├──▶ monitor (live table)
//!      └──────────────────────── committed offsets (watch) ◀─────────────────┘
//! ```
//!
//! Five Tokio tasks (and one more, which tries batches, after starts that a record ended), joined by bounded channels: a full channel is the
//! only flow control there is, so a slow disk stops the reading of the source. Offsets ride with the data: every chunk, batch and frame carries
//! the source range that it stands for. A *barrier* ends a checkpoint; the writer commits when the barrier reaches it. A channel that closes
//! without a last barrier means a failure upstream, and nothing more is committed.
//!
//! Beside the line, on a thread and a runtime of its own, the admin server answers what the service does. The stages know nothing of it: each
//! writes its own clocks and counts into the `meters`, and the server reads them.
//!
//! Records that others push over HTTP come into a journal of the source's own first, and are answered once they are durable there
//! ([`pintail_sources::http`]). For the line it is a source like any other, which can be read again.
//!
//! Several instances may share the partitions of a source. Each has a chain of commit records of its own, and another number of them is one
//! more record ([`pintail_storage::checkpoint::take_over`]).
//!
//! # Guarantees
//!
//! * What a commit record names is visible exactly once, whole, and survives a power cut; what no record names is never visible.
//! * Offsets and rows are committed by one rename: a restart reads on where the records end.
//! * A start takes the next number of the records. Whoever still writes finds it taken, and commits nothing more, whatever became of the lock.
//! * A record that does not parse, fit or transform is kept with its reason (dead letters), in the same commit.
//! * For every record: `records_in + expanded = rows_out + filtered + dead_letters`.
//!
//! # Reading order
//!
//! This crate is the program: what the user typed, the stages and their order, the commands, the admin server. What the stages do is in members
//! that know nothing of each other beyond the arrows here (all of them know `core`):
//!
//! ```text
//!   pintail ──▶ config ──▶ sources ──▶ decode, server, settings
//!      │          │ │         └─────▶ storage
//!      │          │ └────▶ sink ─────▶ storage
//!      │          └──────▶ settings, storage
//!      └──▶ duckdb, bucket, tables ──▶ storage
//! ```
//!
//! 1. [`pintail_core::batch`] and [`pintail_core::offsets`]: what flows.
//! 2. `pipeline` and `stages`: who passes it on.
//! 3. [`pintail_sources`], [`pintail_decode`], [`pintail_duckdb`], [`pintail_sink`]: what is done to it.
//! 4. [`pintail_storage`]: what is promised, and how it is kept.
//! 5. `meters`, `health` and `admin`: what can be seen of it; `supervisor` tells systemd. [`pintail_server`] has the connections of both servers, `sql_box` the process that a
//!    statement of somebody else runs in, [`pintail_core::escape`] what text from outside may show.
//! 6. [`pintail_tables`]: what readers of tables are told, behind the line (`tables`).
//! 7. [`pintail_core::limits`], [`pintail_core::memory`] and [`pintail_storage::durable::disk_state`]: what it keeps to, and what it waits for.
//!
//! One line of an NDJSON file goes to its commit through twelve files, in this order:
//!
//! | file | what happens to the line there |
//! |---|---|
//! | `stages/producer.rs` | its chunk is taken from the source, whose thread is ahead |
//! | `sources/file/reader.rs` | it gets its offsets and their evidence |
//! | `sources/lines.rs` | it is cut from what was read |
//! | `stages/batcher.rs` | its chunk becomes part of a batch, and a barrier follows in its time |
//! | `stages/transformer.rs` | the batch goes to a worker that is idle, and its frame keeps its place in the order |
//! | `stages/transform.rs` | it becomes rows, is filtered, or becomes a dead letter |
//! | `decode/ndjson.rs` | it becomes a row of Arrow |
//! | `duckdb/worker.rs` | the SQL makes rows of the output of that |
//! | `sink/layout/split.rs` | they are ordered by hive partition and hour |
//! | `stages/writer.rs` | the frame becomes part of the checkpoint; the barrier commits it |
//! | `sink/files/open_file.rs` | they are written to the Parquet file of their hour |
//! | `storage/checkpoint/store.rs` | the record that names the file becomes durable, and the file visible |
//!
//! `core`, `storage`, `bucket`, `tables`, `decode`, `sink`, `settings`, `config`, and `sources` without its features build without a C++ compiler, and are tested so
//! in minutes (`.ci/one_build.py` looks whether that stays true).

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests do to files what others do"))]

#[cfg(feature = "admin")]
mod admin;
#[cfg(not(feature = "admin"))]
#[path = "admin/absent.rs"]
mod admin;
mod aggregate;
mod child;
mod cli;
mod commands;
mod embed;
mod health;
#[doc(hidden)]
pub mod internals;
mod logging;
mod meters;
mod pipeline;
mod program;
mod progress;
mod signals;
mod sql_box;
mod stages;
mod supervisor;
mod tables;
mod terminal;
mod trial;

pub use embed::{Builder, Pipeline, Stop};
pub use pintail_config::Config;
pub use pintail_core::error::{Error, ErrorKind, Result};
pub use program::main;

/// What a kind of source of one's own is made of. See the example `own_source` in the repository.
pub mod source {
    pub use pintail_core::batch::{Chunk, OffsetUnit, Records};
    pub use pintail_core::breaker::WhenRejected;
    pub use pintail_core::clock::Clock;
    pub use pintail_core::evidence::{Evidence, Key};
    pub use pintail_core::identity::{Instance, SourceIdentity};
    pub use pintail_core::limits::Limits;
    pub use pintail_core::messages::{Message, Payloads, PayloadsBuilder};
    pub use pintail_core::offsets::{Note, NoteKind, OffsetRange, Offsets, Partition, PartitionId};
    pub use pintail_core::schema::{EventSchema, MetadataColumn};
    pub use pintail_settings::Section;
    pub use pintail_sources::kind::{Configured, Kind, Surroundings};
    pub use pintail_sources::meters::{Figure, Reading, SourceMeters};
    pub use pintail_sources::waiting::WaitingInputs;
    pub use pintail_sources::{OnGap, Resume, Source};
    pub use pintail_storage::checkpoint::store::Remember;
}
