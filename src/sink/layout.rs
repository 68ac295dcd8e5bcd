//! Hive paths and file names.
use std::path::PathBuf;
/// A hive partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HivePartition {
    /// relative directory, `region=us/day=2026-01-01`; empty without partition columns
    dir: PathBuf,
}
