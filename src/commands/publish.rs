//! `pintail publish`: brings the tables of a dataset up to its ledger, once.
//!
//! Owns: which tables that is, and what is said of it.
//! Does not own: publishing (see [`pintail_tables`]). Runs beside the service, without the lock, on a dataset of any version.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use chrono::Utc;
use pintail_config::{Config, TableConfig, TableFormat};
use pintail_core::error::{Error, Result};
use pintail_core::invocation::command;
use pintail_core::quantity::{counted, thousands};
use pintail_tables::ledger::{Ledger, OnDisk};
use pintail_tables::publisher::{Expired, Published};

use crate::tables;

/// Publishes the dataset at `out`: as all tables of the configuration, or as the one that is `asked` for. Without a table in the configuration it
/// becomes a Delta table named after its directory, or as asked.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`] if there is no such table, or the dataset cannot be one.
pub(crate) fn run(config: &Config, out: &Path, asked: Option<&str>, to: &mut dyn Write) -> Result<()> {
    let tables = asked_for(&config.tables, out, asked)?;
    let mut ledger = OnDisk::open(out.to_owned(), None)?;
    for (name, format) in tables {
        let publisher = tables::publisher(out, format, &name)?;
        let lacking = publisher.check_history(&ledger, Utc::now())?;
        let published = publisher.publish(&ledger, Expired::Remove, Utc::now())?;
        // The service may have committed and published since.
        ledger.refresh()?;
        check_not_ahead(&ledger, &published, &publisher.place())?;
        print((&name, &publisher.place()), out, &published, &lacking, to).map_err(|e| Error::io("write to standard output", e))?;
        published.check_kept(&publisher.place())?;
    }
    Ok(())
}

fn asked_for(tables: &[TableConfig], out: &Path, asked: Option<&str>) -> Result<Vec<(String, TableFormat)>> {
    let known = || tables.iter().map(|table| (table.name.clone(), table.format));
    match asked {
        Some(asked) if tables.is_empty() => Ok(vec![(asked.to_owned(), TableFormat::Delta)]),
        Some(asked) => known().find(|(name, _)| name == asked).map(|found| vec![found]).ok_or_else(|| {
            let names: Vec<String> = known().map(|(name, _)| name).collect();
            Error::config(format!("the configuration has no table `{}`, it has {}", asked.escape_debug(), names.join(", ")))
        }),
        None if tables.is_empty() => {
            let absolute = std::path::absolute(out).map_err(|e| Error::io(format_args!("look at `{}`", out.display()), e))?;
            let name = absolute.file_name().map_or_else(|| "events".into(), |name| name.to_string_lossy().into_owned());
            Ok(vec![(name, TableFormat::Delta)])
        }
        None => Ok(known().collect()),
    }
}

/// Refuses a ledger that ends before what is published: it was put back to an earlier state, and its next records would be taken for published.
fn check_not_ahead(ledger: &OnDisk, published: &Published, place: &str) -> Result<()> {
    let ahead = ledger.chains().iter().find_map(|chain| {
        let of_table = published.chains.get(&chain.instance).copied()?;
        (of_table > chain.last + 1).then_some((of_table, chain.last))
    });
    match ahead {
        None => Ok(()),
        Some((of_table, last)) => Err(Error::state(format!(
            "`{place}` has the records up to {of_table}, the ledger ends at {last}: it was put back to an earlier state; move the directory away, and \
             publish the table anew"
        ))),
    }
}

fn print((name, place): (&str, &str), out: &Path, published: &Published, lacking: &BTreeSet<String>, to: &mut dyn Write) -> io::Result<()> {
    let Some(version) = published.version else {
        return writeln!(to, "table {name}: nothing to publish, the dataset has no rows yet");
    };
    let files = counted(published.files, "file", "files");
    let rows = counted(published.rows, "row", "rows");
    match (published.commits, published.removed) {
        (0, _) if !lacking.is_empty() || published.kept > 0 => {
            writeln!(to, "table {name}: version {version} of `{}`, nothing joined", out.display())?
        }
        (0, _) => writeln!(to, "table {name}: version {version} of `{}` has everything that is committed", out.display())?,
        (_, 0) => writeln!(to, "table {name}: version {version} of `{}`, {files} with {rows} joined", out.display())?,
        (_, removed) => writeln!(
            to,
            "table {name}: version {version} of `{}`, {files} with {rows} joined, {} expired ones left",
            out.display(),
            thousands(removed)
        )?,
    }
    let Some(first) = lacking.first() else { return Ok(()) };
    writeln!(
        to,
        "  another writer took {} of the dataset out of it, the first is `{first}`: {} names all; move `{place}` away and publish again to have them in \
         the table",
        counted(lacking.len() as u64, "file", "files"),
        command("verify")
    )
}
