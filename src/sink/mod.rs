//! The sink: hive paths and open Parquet files. Blocking; called from `spawn_blocking`.

pub mod files;
mod grouping;
pub mod layout;
