//! Small NDJSON events that most tests are content with, and the settings that fit them.
//!
//! Owns: their shape: an `id` to count by, a time, a region.
//! Does not own: events made by the simulator (see [`super::readers`]).

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::Dataset;
use super::process::Pintail;

/// The SQL that passes them on.
pub(crate) const SQL: &str = "SELECT id, ts, region FROM events";

impl Dataset {
    /// Prepares a run that reads small events from files, once.
    pub(crate) fn file(&self, path: &str) -> Pintail<'_> {
        self.small_events().set("source.type", "file").set("source.path", path)
    }

    /// Prepares a run that follows small events in files and commits several times a second.
    pub(crate) fn follow(&self, path: &str) -> Pintail<'_> {
        let pintail = self.file(path).set("source.follow", true).set("source.poll_interval", "50ms");
        pintail.set("pipeline.checkpoint_interval", "100ms")
    }

    /// Prepares a run on small events from a source yet to be named.
    pub(crate) fn small_events(&self) -> Pintail<'_> {
        self.pintail().set("schema.columns", columns()).set("transform.sql", SQL)
    }
}

/// Returns the declared columns of small events.
pub(crate) fn columns() -> Value {
    json!([
        { "name": "id", "type": "int64", "required": true },
        { "name": "ts", "type": "timestamp_ms", "required": true },
        { "name": "region", "type": "text" },
    ])
}

/// Returns one event as a line.
pub(crate) fn line(id: i64) -> String {
    format!("{}\n", json!({ "id": id, "ts": 1_767_225_600_000 + id, "region": if id % 2 == 0 { "eu" } else { "us" } }))
}

/// Returns events as lines.
pub(crate) fn lines(ids: std::ops::Range<i64>) -> String {
    ids.map(line).collect()
}

/// Compresses.
pub(crate) fn gzip(content: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content.as_ref()).unwrap();
    encoder.finish().unwrap()
}

/// Returns the ids, to compare with [`Dataset::ids`].
pub(crate) fn ids(ids: std::ops::Range<i64>) -> Vec<i64> {
    ids.collect()
}
