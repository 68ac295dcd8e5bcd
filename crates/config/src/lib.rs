//! The configuration: what the user typed → what may run.
//!
//! Owns: every key, its default and its check; after it no string is parsed and no number checked again.
//! Does not own: the SQL's own errors (see `pintail_duckdb::Engine`), nor whether paths can be reached (see `commands::check`).
//!
//! Read [`pintail_settings::raw`] (the layers), then `sections` (the keys; those of a source are in its own file), then
//! [`pintail_settings::reader`] (how a key becomes a value or a fault).

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests do to files what others do"))]

mod examined;
mod lake;
mod memory;
pub mod reference;
mod sections;
mod values;

#[cfg(test)]
mod example_tests;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use self::examined::Examined;
#[cfg(feature = "bucket")]
pub use self::lake::Lake;
pub use self::values::log_filter;
use pintail_core::breaker::DeadLetterConfig;
use pintail_core::error::{Error, Result};
use pintail_core::identity::Instance;
use pintail_core::limits::Limits;
use pintail_core::schema::{EventSchema, Format};
use pintail_core::secret::Secret;
use pintail_core::transform::TransformConfig;
use pintail_settings::raw::{RawConfig, Table};
use pintail_settings::reader::Section;
use pintail_settings::report::Report;
use pintail_sink::config::SinkConfig;
use pintail_sources::kind::{Configured, Kind};
use pintail_sources::registry::KINDS;
use pintail_storage::checkpoint::paths::Paths;

/// A configuration that may run.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to, how much at a time, how often.
    pub pipeline: PipelineConfig,
    /// The bucket of the dataset; `None` = it is on a disk.
    #[cfg(feature = "bucket")]
    pub lake: Option<Lake>,
    /// Where records come from.
    pub source: SourceConfig,
    /// What they look like.
    pub schema: EventSchema,
    /// What is done with them.
    pub transform: TransformConfig,
    /// How they are stored.
    pub sink: SinkConfig,
    /// The tables that the dataset is published as.
    pub tables: Vec<TableConfig>,
    /// When rejected records stop the line.
    pub dead_letters: DeadLetterConfig,
    /// What the live table shows.
    pub monitor: MonitorConfig,
    /// Who may look at it, and how.
    pub admin: AdminConfig,
    /// What is logged.
    pub log: LogConfig,
    /// Lower-case hexadecimal SHA-256 of all effective settings, for the commit record. What follows from `limits` is not in it: the same
    /// configuration has the same hash on every machine.
    pub sha256: String,
    /// What the process may take: threads and sizes that were not given keep to it.
    pub limits: Limits,
    /// What it was read from, beside the environment.
    pub given: Given,
}

/// What a configuration is read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// The file.
    pub file: Option<PathBuf>,
    /// Settings laid over it, as `key=value`.
    pub sets: Vec<String>,
    /// Settings of the file that a variable of the environment overrules, a clause each.
    pub overruled: Vec<String>,
}

impl Config {
    /// Loads the configuration: defaults < `file` < environment < `sets`.
    ///
    /// `sets` are `key=value`, the value as TOML, else as a string. Of `env`, the variables `PINTAIL_SECTION__KEY` and the short
    /// `BATCH_ROWS`, `CHECKPOINT_SECONDS`, `OUT_PATH` are looked at. Without `file` no file is read: a `pintail.toml` that happens to
    /// lie in the working directory must not change what a service does. Relative paths are relative to the working directory.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] with every fault at once, each with its key, its value and where that was typed.
    pub fn load(file: Option<&Path>, env: impl Iterator<Item = (String, String)>, sets: &[String]) -> Result<Self> {
        Self::load_with(KINDS, file, env, sets)
    }

    /// As [`Self::load`], where `source.type` may be any of `kinds`. The first one is the default.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with(kinds: &[Kind], file: Option<&Path>, env: impl Iterator<Item = (String, String)>, sets: &[String]) -> Result<Self> {
        match Self::examine(kinds, file, env, sets) {
            Examined { config: Some(config), faults, .. } if faults.is_empty() => Ok(config),
            Examined { faults, .. } => Err(refusal(&faults)),
        }
    }

    /// Loads the configuration as [`Self::load_with`] does, and says what is sound of it where not all is.
    pub fn examine(kinds: &[Kind], file: Option<&Path>, env: impl Iterator<Item = (String, String)>, sets: &[String]) -> Examined {
        let (mut report, limits) = (Report::default(), Limits::of_this_process());
        let mut given = Given { file: file.map(Path::to_owned), sets: sets.to_vec(), overruled: Vec::new() };
        let config = match RawConfig::collect(file, env, sets) {
            Ok(mut raw) => {
                given.overruled = std::mem::take(&mut raw.overruled);
                read(raw, kinds, limits, &mut report)
            }
            Err(faults) => {
                report.faults = faults;
                None
            }
        };
        let set = |(key, origin): (String, _)| report.effective.get(&key).map(|value| (key, format!("{value} ({origin})")));
        let typed = report.origins.into_iter().filter_map(set).collect();
        Examined { config: config.map(|config| Self { given, ..config }), faults: report.faults, faulty: report.faulty, given: typed }
    }

    /// Returns where everything of the dataset lies, as this instance sees it. In a bucket these are names there.
    pub fn paths(&self) -> Paths {
        Paths::new(&self.pipeline.out_path).of_instance(self.instance().index)
    }

    /// Returns where everything lies that is only for processes of this machine: beside the dataset, or in the scratch of one in a bucket.
    pub fn local_paths(&self) -> Paths {
        #[cfg(feature = "bucket")]
        if let Some(lake) = &self.lake {
            return Paths::new(lake.scratch()).of_instance(self.instance().index);
        }
        self.paths()
    }

    /// Returns whether the dataset is in a bucket.
    pub fn is_in_bucket(&self) -> bool {
        #[cfg(feature = "bucket")]
        return self.lake.is_some();
        #[cfg(not(feature = "bucket"))]
        return false;
    }

    /// Returns which of the instances this is that share the dataset. Only partitions of Kafka can be shared.
    pub fn instance(&self) -> Instance {
        self.source.kind.instance()
    }
}

/// Returns the process' environment for [`Config::load`]. What is no UTF-8 is read with replacement characters, and so named in faults.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// Reads every section. The result counts only if the report has no fault; it is `None` where not even a default makes sense.
fn read(raw: RawConfig, kinds: &[Kind], limits: Limits, report: &mut Report) -> Option<Config> {
    fn section<T>(root: &mut Table, name: &str, report: &mut Report, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let mut section = Section::open(root, name, report);
        let value = read(&mut section);
        section.close();
        value
    }
    let RawConfig { mut root, unclaimed, .. } = raw;
    let root = &mut root;
    let source = section(root, "source", report, |section| sections::source(section, kinds, limits));
    let record_bytes_max = source.as_ref().map_or(0, |source| source.record_bytes_max);
    let (mut pipeline, memory) = section(root, "pipeline", report, |section| sections::pipeline(section, limits, record_bytes_max as u64));
    #[cfg(feature = "bucket")]
    let lake = {
        let is_sound = !report.faulty.contains("pipeline");
        section(root, "storage", report, |section| lake::read(section, &pipeline.out_path, is_sound))
    };
    let mut schema = section(root, "schema", report, sections::schema);
    if let Some(source) = &source {
        schema.metadata = source.kind.metadata().to_vec();
        let (kind, is_avro) = (source.kind.name(), matches!(schema.format, Format::Avro(_)));
        for name in schema.names().into_iter().filter(|name| schema.metadata.iter().any(|own| own.name.eq_ignore_ascii_case(name))) {
            let key = if is_avro { "schema.from" } else { "schema.columns" };
            report.fault(key, format_args!("`{name}` is a column that the source `{kind}` brings along; choose another name"));
        }
        if is_avro && !source.kind.gives_messages() {
            let why = format_args!(
                "Avro is read of messages, one in each, and the source `{kind}` gives lines: take one of \"kafka\" and \"nats\", or the format \"json\""
            );
            report.fault("schema.format", why);
        }
    }
    let transform = section(root, "transform", report, |section| sections::transform(section, limits));
    let sink = section(root, "sink", report, |section| sections::sink(section, memory.within(limits)));
    let tables = Section::each(root, "table", report, sections::table);
    sections::tables(report, &tables);
    let dead_letters = section(root, "dead_letters", report, sections::dead_letters);
    let monitor = section(root, "monitor", report, sections::monitor);
    let admin = section(root, "admin", report, |section| sections::admin(section, limits));
    let log = section(root, "log", report, sections::log);
    report.judge_unknown(std::mem::take(root), &unclaimed);
    let pushed = source.as_ref().map_or(0, |source| source.kind.pushed_bytes_max());
    match memory.of_line(sink.buffer_bytes_max, pushed) {
        Ok(bytes) => pipeline.line_bytes_max = bytes,
        Err(why) => report.fault("pipeline.memory_max", why),
    }
    #[cfg(feature = "bucket")]
    if lake.is_some() && !tables.is_empty() {
        report.fault("table", "a table is published beside a dataset on a disk, and this one is in a bucket: leave `[[table]]` out");
    }
    #[cfg(feature = "bucket")]
    if lake.is_some() && admin.query {
        report.fault("admin.query", "queries over HTTP read a dataset on a disk, and this one is in a bucket: set it to false");
    }
    #[cfg(feature = "bucket")]
    if let (Some(_), Some(source)) = (&lake, &source) {
        if source.kind.instance().count > 1 {
            report.fault(
                "source.instance",
                "several instances share a dataset on a disk only: run one, or set `pipeline.out_path` to a directory",
            );
        }
        if source.kind.lacks_journal() {
            let why = "missing: what was answered with 200 and is not committed is kept on a disk, and the dataset is in a bucket; name a directory that \
                       outlives this machine's processes, on a volume, or set `source.ephemeral = true` if what was answered may be lost with `storage.scratch`";
            report.fault("source.journal_path", why);
        }
    }
    if pipeline.batch_bytes_max < record_bytes_max {
        report.fault("pipeline.batch_bytes_max", "smaller than `source.record_bytes_max`: the longest record would fit into no batch");
    }
    let sha256 = report.sha256();
    Some(Config {
        pipeline,
        #[cfg(feature = "bucket")]
        lake,
        source: source?,
        schema,
        transform,
        sink,
        tables,
        dead_letters,
        monitor,
        admin,
        log,
        sha256,
        limits,
        given: Given::default(),
    })
}

/// Checks a text of SQL as far as it can be judged without the engine: its length, and how deep a parser must go down in it.
///
/// # Errors
/// What is wrong with it, as a clause.
pub fn check_sql(text: &str) -> Result<(), String> {
    values::sql(text).map(drop)
}

fn refusal(faults: &[String]) -> Error {
    match faults {
        [fault] => Error::config(format!("configuration: {fault}")),
        _ => Error::config(format!("{} faults in the configuration:\n  {}", faults.len(), faults.join("\n  "))),
    }
}

/// `[pipeline]`
#[derive(Debug, Clone)]
pub struct PipelineConfig {
    /// The dataset's directory, or the URL of a dataset in a bucket.
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
    /// Bytes that the line may hold: batches on their way and open Parquet files, what is kept for request bodies taken off.
    pub line_bytes_max: usize,
}

/// `[source]`
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Bytes of a record; a longer one is a dead letter of its first 64 KiB.
    pub record_bytes_max: usize,
    /// The source and its own settings.
    pub kind: Arc<dyn Configured>,
}

impl SourceConfig {
    /// Returns the source's own settings, if it is of the kind `T`.
    pub fn settings<T: Configured>(&self) -> Option<&T> {
        let settings: &dyn Any = &*self.kind;
        settings.downcast_ref()
    }
}

/// `[[table]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableConfig {
    /// Its name.
    pub name: String,
    /// What it is.
    pub format: TableFormat,
    /// Time between two publications.
    pub interval: Duration,
}

/// `table.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFormat {
    /// A Delta table, whose log is beside the files.
    Delta,
    /// An Iceberg table without a catalog, whose metadata is beside the files.
    Iceberg,
}

impl TableFormat {
    /// Returns its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Iceberg => "iceberg",
        }
    }
}

/// `[monitor]`
#[derive(Debug, Clone)]
pub struct MonitorConfig {
    /// Output column of the groups.
    pub group_by: String,
    /// Output column whose mean is shown.
    pub value: String,
    /// Which of these two keys have their defaults, which are made for the simulator.
    pub defaulted: Vec<&'static str>,
    /// Groups shown by name; the rest is one line.
    pub groups_max: usize,
}

/// `[admin]`
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// Where the server listens; `None` = it is off.
    pub listen: Option<Listen>,
    /// Connections at the same time.
    pub connections_max: usize,
    /// Time without a move after which a stage that has work counts as dead.
    pub stalled_after: Duration,
    /// Whether SQL over the committed files is answered.
    pub query: bool,
    /// What a query must bring.
    pub query_token: Option<Secret>,
    /// Rows of an answer.
    pub query_rows_max: usize,
    /// Time of a query.
    pub query_timeout: Duration,
    /// Memory of a query in bytes.
    pub query_memory_limit: u64,
}

/// `admin.listen`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// The address; port 0 = any that is free.
    pub address: SocketAddr,
    /// Whether the user wrote it: one that is taken is an error then, and not if it is the default.
    pub chosen: bool,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// A `tracing` filter, e.g. `info` or `pintail=debug`.
    pub level: String,
    /// Format of the lines.
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
