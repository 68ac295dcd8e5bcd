//! Buckets against real servers: SeaweedFS for S3, Azurite for Azure, and a fake of the XML API of GCS.
//!
//! Reading order: `servers` and `gcs` (what is spoken to), `line` (answers that are lost, and processes that are killed or stopped, at any request),
//! `dataset` (a process that commits, and what must hold afterwards), then the tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod commits;
mod dataset;
mod gcs;
mod line;
mod probes;
mod requests;
mod restored;
mod secrets;
mod servers;
mod ways;
