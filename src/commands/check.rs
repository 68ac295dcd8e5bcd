//! `pintail check`: would this configuration run?
//!
//! Owns: asking every part without changing anything, and naming all faults at once.
//! Does not own: the checks themselves (configuration, SQL, layout and sources each know their own).

use std::io::Write;

use chrono::Utc;
use itertools::Itertools;
use pintail_config::Config;
use pintail_core::error::{Error, ErrorKind, Result};

use crate::commands::run::check_writable;
use crate::pipeline::{Plan, check_source};

/// Checks SQL, sink, source and access; prints the output schema and an example path.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`] with all faults, a line each; [`pintail_core::error::ErrorKind::TryAgain`] if all that is wrong is that something
/// is away.
pub fn run(config: &Config, to: &mut dyn Write) -> Result<()> {
    let plan = Plan::new(config);
    let source = check_source(config);
    let writable = check_writable(&config.pipeline.out_path);
    let fits = plan.as_ref().map_or(Ok(()), |plan| plan.check_dataset(config));
    let faults: Vec<&Error> =
        [plan.as_ref().err(), source.as_ref().err(), writable.as_ref().err(), fits.as_ref().err()].into_iter().flatten().collect();
    // A server that is away is no fault of the configuration.
    let is_temporary = faults.iter().all(|fault| fault.kind() == ErrorKind::TryAgain);
    let kind = if is_temporary { ErrorKind::TryAgain } else { ErrorKind::Config };
    let told = faults.iter().join("\n");
    let (plan, source) = match (plan, source) {
        (Ok(plan), Ok(source)) if told.is_empty() => (plan, source),
        _ => return Err(Error::new(kind, told)),
    };
    print(config, &plan, source, to).map_err(|e| Error::io("write to standard output", e))
}

fn print(config: &Config, plan: &Plan, source: Vec<String>, to: &mut dyn Write) -> std::io::Result<()> {
    writeln!(to, "configuration ok")?;
    for source in source {
        writeln!(to, "source: {source}")?;
    }
    for note in plan.aggregator.warnings() {
        writeln!(to, "note: {note}")?;
    }
    writeln!(to, "\noutput columns")?;
    let output = plan.engine.output();
    let width = output.fields().iter().map(|field| field.name().chars().count()).max().unwrap_or(0);
    let partitions = plan.layout.partition_columns();
    for field in output.fields() {
        let name = field.name();
        let note = if partitions.iter().any(|(column, _)| column == name) { "  (hive partition)" } else { "" };
        writeln!(to, "  {name:width$}  {}{note}", field.data_type())?;
    }
    writeln!(to, "\nexample file\n  {}", config.pipeline.out_path.join(plan.layout.example_path(Utc::now())).display())
}
