//! `[sink]`: how rows are stored.
//!
//! Owns: the settings, as they may be used.
//! Does not own: reading them (see `pintail_config`), and whether the output has the columns that they name (see `layout`).

/// `[sink]`
#[derive(Debug, Clone)]
pub struct SinkConfig {
    /// Columns of the output that become directories.
    pub partition_by: Vec<String>,
    /// Column of the output that gives a file its hour; `None` = the hour of the checkpoint.
    pub event_time: Option<String>,
    /// Which of the keys `partition_by` and `event_time` have their defaults, which are made for the simulator.
    pub defaulted: Vec<&'static str>,
    /// Compression of the Parquet pages.
    pub compression: parquet::basic::Compression,
    /// Rows of a row group.
    pub row_group_rows: usize,
    /// Bytes of a row group, encoded.
    pub row_group_bytes: usize,
    /// Size at which a file is closed and the next one begun.
    pub target_file_bytes: u64,
    /// Bytes that all open files together may hold in memory.
    pub buffer_bytes_max: usize,
    /// Files open at the same time.
    pub open_files_max: usize,
    /// Hive partitions of one checkpoint.
    pub partitions_max: usize,
    /// Files that are encoded side by side.
    pub threads: usize,
    /// Columns that order the rows within each row group.
    pub sort_by: Vec<SortColumn>,
    /// Text columns with statistics, beside those of `sort_by`.
    pub text_statistics: Vec<String>,
    /// Columns with a bloom filter.
    pub bloom_filter: Vec<String>,
    /// Whether a start may add nullable columns to the output.
    pub allow_new_columns: bool,
}

/// A column that orders rows: `"ts"`, `"ts desc"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortColumn {
    /// The output column.
    pub name: String,
    /// Largest first.
    pub descending: bool,
}
