//! The sink: hive paths and open Parquet files. Blocking; called from `spawn_blocking`.

pub mod files;
pub mod layout;
