//! `pintail check`: would this configuration run?
//!
//! Owns: asking every part without changing anything, and naming all faults at once.
//! Does not own: the checks themselves (configuration, SQL, layout and sources each know their own).

use std::io::Write;

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use chrono::Utc;
use itertools::Itertools;
use pintail_config::{Config, Examined};
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::schema::EventSchema;
use pintail_core::sql_type;
use pintail_duckdb::{Engine, Refused};
use pintail_storage::checkpoint::lock::{self, Seen};

use crate::admin::Admin;
use crate::commands::run::check_writable;
use crate::pipeline::{Plan, check_mount, check_source};
use crate::tables;

/// Checks configuration, SQL, sink, source and access; prints the output schema and an example path. What rests on a section of the configuration
/// that is faulty is left out: its own fault is told.
///
/// # Errors
/// All faults, a line each: of the kind that `run` would end with, if all are of one; else [`pintail_core::error::ErrorKind::Config`].
pub(crate) fn run(examined: &Examined, to: &mut dyn Write) -> Result<()> {
    let mut faults = Faults(examined.refusal().into_iter().collect());
    let plan = match (examined.sound(&["source", "schema", "transform", "sink"]), examined.sound(&["source", "schema", "transform"])) {
        (Some(config), _) => faults.take(Plan::new(config)),
        (None, Some(config)) => faults.take(check_sql(config)).and(None),
        (None, None) => None,
    };
    // While the source is looked at: both may want the same address.
    let admin = examined.sound(&["admin", "pipeline"]).and_then(|config| faults.take(Admin::reserve(config)));
    let reached = examined.sound(&["pipeline", "storage"]).and_then(|config| {
        faults.take(check_writable(config.local_paths().root()));
        faults.take(check_bucket(config))
    });
    let source = examined.sound(&["source", "pipeline", "storage"]).and_then(|config| {
        faults.take(check_mount(config));
        let look = || plan.as_ref().map_or_else(|| Plan::check_dataset_without(config), |plan| plan.check_dataset(config));
        // Nothing is known of a dataset in a bucket that is not reached, which was said.
        let standing = reached.as_ref().and_then(|_| faults.take(look()));
        // What a service that runs has read and not committed is none of its faults.
        let is_running = matches!(lock::look(config.local_paths()), Ok(Seen::Held { .. }));
        faults.take(check_source(config, standing.flatten().filter(|_| !is_running).as_ref()))
    });
    if let Some(config) = examined.sound(&["pipeline"]) {
        faults.take(tables::check(&config.tables, &config.pipeline.out_path));
    }
    drop(admin);
    match (plan, source, examined.sound(&[])) {
        (Some(plan), Some(source), Some(config)) if faults.0.is_empty() => {
            print(config, &plan, reached.flatten(), source, to).map_err(|e| Error::io("write to standard output", e))
        }
        _ => Err(faults.refusal()),
    }
}

/// Asks the bucket of the dataset, if that is in one, for what a commit rests on. Returns a line that says what was reached.
fn check_bucket(config: &Config) -> Result<Option<String>> {
    #[cfg(feature = "bucket")]
    if let Some(lake) = &config.lake {
        return crate::pipeline::lake::check_bucket(lake).map(Some);
    }
    let _ = config;
    Ok(None)
}

/// Checks the SQL where nothing is known of the sink.
fn check_sql(config: &Config) -> Result<()> {
    let names_differ = |output: &SchemaRef| match pintail_sink::layout::name_faults(output) {
        faults if faults.is_empty() => Ok(()),
        faults => Err(Error::config(faults.join("\n"))),
    };
    match Engine::examine(&config.transform, config.schema.arrow()) {
        Ok(engine) => names_differ(engine.output()),
        Err(Refused { error, output }) => match output.as_ref().map(names_differ) {
            Some(Err(same)) => Err(Error::new(error.kind(), format!("{error}\n{same}"))),
            _ => Err(error),
        },
    }
}

/// What was found to be wrong.
struct Faults(Vec<Error>);

impl Faults {
    fn take<T>(&mut self, checked: Result<T>) -> Option<T> {
        checked.map_err(|fault| self.0.push(fault)).ok()
    }

    fn refusal(&self) -> Error {
        // What `run` would end with, if there is one such kind; else the configuration is to be fixed first.
        let kind = self.0.iter().map(Error::kind).all_equal_value().unwrap_or(ErrorKind::Config);
        Error::new(kind, self.0.iter().join("\n"))
    }
}

/// Returns the cast of a type that Spark 4.3 cannot read; it then refuses the whole dataset. Seen by `tests/proof/engines.py`.
fn cast_for_spark(of: &DataType) -> Option<&'static str> {
    match of {
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Some("TIMESTAMP"),
        DataType::Time32(_) | DataType::Time64(_) => Some("VARCHAR"),
        _ => None,
    }
}

fn print(config: &Config, plan: &Plan, bucket: Option<String>, source: Vec<String>, to: &mut dyn Write) -> std::io::Result<()> {
    writeln!(to, "configuration ok")?;
    if let Some(bucket) = bucket {
        writeln!(to, "bucket: {bucket}")?;
    }
    for source in source {
        writeln!(to, "source: {source}")?;
    }
    for overruled in &config.given.overruled {
        writeln!(to, "note: {overruled}")?;
    }
    if config.source.kind.name() != "simulator" && config.schema == EventSchema::simulator() {
        let infer = "`pintail infer FILE` prints those of a file";
        writeln!(to, "note: `schema.columns` is the default, the columns of the simulator's events: {infer}")?;
    }
    for note in plan.aggregator.warnings() {
        writeln!(to, "note: {note}")?;
    }
    let output = plan.engine.output();
    let partitions = plan.layout.partition_columns();
    for field in output.fields().iter().filter(|field| partitions.iter().all(|(column, _)| column != field.name())) {
        if let Some(cast) = cast_for_spark(field.data_type()) {
            let (name, of) = (field.name(), sql_type::name(field.data_type()));
            writeln!(to, "note: `{name}` is {of}: Spark refuses every file that has it; `{name}::{cast} AS {name}` is read by all")?;
        }
    }
    writeln!(to, "\noutput columns")?;
    let width = output.fields().iter().map(|field| field.name().chars().count()).max().unwrap_or(0);
    for field in output.fields() {
        let name = field.name();
        let note = if partitions.iter().any(|(column, _)| column == name) { "  (hive partition)" } else { "" };
        writeln!(to, "  {name:width$}  {}{note}", sql_type::name(field.data_type()))?;
    }
    for table in &config.tables {
        writeln!(to, "\ntable {} ({}), every {}", table.name, table.format.name(), humantime::format_duration(table.interval))?;
    }
    writeln!(to, "\nexample file\n  {}", config.pipeline.out_path.join(plan.layout.example_path(Utc::now())).display())
}
