//! The sink: hive paths and open Parquet files. Blocking; called from `spawn_blocking`.

pub mod config;
pub mod files;
pub mod layout;
