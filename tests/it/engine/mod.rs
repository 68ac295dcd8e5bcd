//! The engine through its public face.

mod broken;
mod dirty;
mod kinds;
mod lookups;
mod pruning;
mod query;
mod scan;
mod sql;

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use pintail_core::transform::TransformConfig;
use pintail_duckdb::{Engine, Worker};

fn transform(sql: &str) -> TransformConfig {
    TransformConfig {
        sql: sql.to_owned(),
        is_default_sql: false,
        threads: 1,
        memory_limit: 1 << 30,
        timeout: Duration::from_secs(60),
        rows_bytes_max: 256 << 20,
        per_batch: false,
        lookups: Vec::new(),
    }
}

fn per_batch(sql: &str) -> TransformConfig {
    TransformConfig { per_batch: true, ..transform(sql) }
}

fn worker(transform: &TransformConfig, input: &SchemaRef) -> Worker {
    Engine::open(transform, input.clone()).unwrap().workers().unwrap().remove(0)
}
