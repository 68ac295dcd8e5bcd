//! The configuration: what the user typed → what may run.
//!
//! Owns: every key, its default and its check; after it no string is parsed and no number checked again.
//! Does not own: the SQL's own errors (see `engine::check`), nor whether paths can be reached (see `commands::check`).

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::schema::EventSchema;

/// A configuration that may run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to, how much at a time, how often.
    pub pipeline: PipelineConfig,
    /// Where records come from.
    pub source: SourceConfig,
    /// What they look like.
    pub schema: EventSchema,
    /// What is done with them.
    pub transform: TransformConfig,
    /// How they are stored.
    pub sink: SinkConfig,
    /// When rejected records stop the line.
    pub dead_letters: DeadLetterConfig,
    /// What the live table shows.
    pub monitor: MonitorConfig,
    /// What is logged.
    pub log: LogConfig,
    /// Lower-case hexadecimal SHA-256 of all effective settings, for the commit record.
    pub sha256: String,
}

/// `[pipeline]`
#[derive(Debug, Clone)]
pub struct PipelineConfig {
    /// The dataset's directory.
    pub out_path: PathBuf,
    /// Records of a batch.
    pub batch_rows: usize,
    /// Bytes of a batch: long records are cut before `batch_rows`.
    pub batch_bytes_max: usize,
    /// Time between checkpoints.
    pub checkpoint_interval: Duration,
    /// Time for the last checkpoint after a signal.
    pub shutdown_timeout: Duration,
    /// Chunks that wait between producer and batcher.
    pub chunk_channel: usize,
    /// Batches that wait between batcher and transformer.
    pub batch_channel: usize,
    /// Frames that wait between transformer and writer.
    pub frame_channel: usize,
}

/// `[source]`
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Bytes of a record; a longer one is a dead letter of its first 64 KiB.
    pub record_bytes_max: usize,
    /// The source and its own settings.
    pub kind: SourceKind,
}

/// `source.type`
#[derive(Debug, Clone)]
pub enum SourceKind {
    /// Made events.
    Simulator(SimulatorConfig),
    /// NDJSON files.
    File(FileConfig),
    /// NDJSON on standard input.
    Stdin,
}

/// `source.type = "simulator"`
#[derive(Debug, Clone)]
pub struct SimulatorConfig {
    /// Seed of the events.
    pub seed: u64,
    /// Events of the whole dataset; 0 = endless.
    pub limit: u64,
    /// Events a second; 0 = as fast as the line takes them.
    pub rate: u64,
    /// Time of event 0; `None` = the creation of the dataset.
    pub start_time: Option<DateTime<Utc>>,
}

/// `source.type = "file"`
#[derive(Debug, Clone)]
pub struct FileConfig {
    /// File names and globs; read in the order of names.
    pub paths: Vec<String>,
    /// Whether to go on waiting for lines and files.
    pub follow: bool,
    /// What to do when a file with uncommitted or already committed data was truncated, replaced or has vanished.
    pub on_gap: OnGap,
    /// Time between two looks at the files in follow mode.
    pub poll_interval: Duration,
    /// Files known at the same time.
    pub files_max: usize,
}

/// `source.on_gap`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnGap {
    /// Stop with an error that names the file.
    Refuse,
    /// Log a warning, record the file's new identity and go on.
    Record,
}

/// `[transform]`
#[derive(Debug, Clone)]
pub struct TransformConfig {
    /// One `SELECT` over `events`.
    pub sql: String,
    /// Transform workers.
    pub threads: usize,
    /// Memory of DuckDB in bytes.
    pub memory_limit: u64,
    /// Longest time of one batch's SQL.
    pub timeout: Duration,
    /// Whether the rows of a batch may depend on each other.
    pub per_batch: bool,
    /// Lookup tables.
    pub lookups: Vec<LookupConfig>,
}

/// `[[transform.lookup]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupConfig {
    /// The table's name in the SQL.
    pub name: String,
    /// A Parquet, CSV or NDJSON file, told apart by its ending.
    pub path: PathBuf,
}

/// `[sink]`
#[derive(Debug, Clone)]
pub struct SinkConfig {
    /// Columns of the output that become directories.
    pub partition_by: Vec<String>,
    /// Column of the output that gives a file its hour; `None` = the hour of the checkpoint.
    pub event_time: Option<String>,
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
    /// Columns that order the rows within each row group.
    pub sort_by: Vec<SortColumn>,
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

/// `[dead_letters]`
#[derive(Debug, Clone)]
pub struct DeadLetterConfig {
    /// Share of rejected records of a checkpoint above which the line stops before the commit; 1.0 = never.
    pub ratio_max: f64,
    /// Records of a checkpoint below which the share is not looked at.
    pub ratio_records_min: u64,
}

/// `[monitor]`
#[derive(Debug, Clone)]
pub struct MonitorConfig {
    /// Output column of the groups.
    pub group_by: String,
    /// Output column whose mean is shown.
    pub value: String,
    /// Groups shown by name; the rest is one line.
    pub groups_max: usize,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// A `tracing` filter, e.g. `info` or `pintail=debug`.
    pub level: String,
    /// Looks of the lines.
    pub format: LogFormat,
}

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `text` on a terminal, `json` otherwise.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}
