//! The engine: the user's SQL over batches of events, zero-copy. Blocking, no tokio.
//!
//! Owns: the database with its lookup tables, the check of the SQL at start, the workers that run it.
//! Does not own: when batches come and what becomes of their rows (the transformer), the files of `pintail query` (see [`query`]).
//!
//! | file | holds |
//! |---|---|
//! | `session` | a database, its settings, a connection that sees a batch as `events` |
//! | `databases` | which database is in use, and the one that takes the place of a broken one |
//! | `scan`, `gather` | how batches get into a query, and its rows out of it |
//! | `arrow_ffi`, `vector`, `raw`, `callback` | what these two stand on; with them the only unsafe code |
//! | `statement`, `plan` | what a text of SQL is, and whether its rows depend on each other |
//! | `prepared`, `worker`, `deadline`, `sql_error` | running it, for a time, and what a failure is |
//! | `probe`, `search` | finding the records that it fails on |
//! | `lookup` | lookup files |
//! | `memory` | what the database holds |
//! | `aggregate` | the monitor's figures, by Polars |

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests do to files what others do"))]

mod callback;
mod databases;
mod deadline;
mod gather;
mod lookup;
mod memory;
mod plan;
mod prepared;
mod probe;
mod scan;
mod session;
mod sql_error;
mod statement;
mod vector;
mod worker;

pub mod arrow_ffi;
pub mod query;
pub mod raw;
pub mod shown;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use itertools::Itertools;
use pintail_core::batch::LookupVersion;
use pintail_core::error::{Error, Result};
use pintail_core::transform::{LookupConfig, TransformConfig};

use databases::Databases;
use lookup::Lookup;
use plan::Fault;
use session::Session;
use sql_error::message;
use statement::{Select, unreadable};

pub use memory::MemoryMeter;
pub use probe::{Check, Suspect};
pub use scan::VECTOR_ROWS;
pub use sql_error::{Failure, FailureKind, SqlError};
pub use worker::Worker;

/// The database with the user's SQL, checked.
#[derive(Debug)]
pub struct Engine {
    transform: TransformConfig,
    select: Select,
    output: SchemaRef,
    lookups: Arc<[LookupVersion]>,
    input: SchemaRef,
    databases: Arc<Databases>,
}

impl Engine {
    /// Opens the database, loads the lookup tables, locks it, and checks the SQL: parsed, planned, run on no events.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if the SQL or a lookup is at fault; the message names the column and the nearest one.
    pub fn open(transform: &TransformConfig, input: SchemaRef) -> Result<Self> {
        check_lookup_names(&transform.lookups)?;
        let databases = Arc::new(Databases::open(transform.memory_limit)?);
        let database = databases.current();
        let session = Session::new(&database, &input)?;
        let lookups = read_lookups(&transform.lookups).map_err(|missing| match session.parse(&transform.sql) {
            Ok(_) => missing,
            // What the SQL makes of the tables is not known, and that it is none is.
            Err(reason) => Error::config(format!("{missing}\n{}", wrong(transform, &reason))),
        })?;
        create_tables(&session, &lookups)?;
        database.lock()?;
        let (select, output) = check_sql(&session, transform)?;
        let lookups = lookups.into_iter().map(|lookup| lookup.version).collect();
        Ok(Self { transform: transform.clone(), select, output, lookups, input, databases })
    }

    /// Returns the schema of the SQL's result. Text is `Utf8View`.
    pub fn output(&self) -> &SchemaRef {
        &self.output
    }

    /// Makes `transform.threads` workers.
    pub fn workers(&self) -> Result<Vec<Worker>> {
        let worker = |_| Worker::new(&self.databases, &self.select, &self.transform, (self.input.clone(), self.output.clone()));
        (0..self.transform.threads).map(worker).collect()
    }

    /// Makes a meter of the memory that the database holds.
    pub fn memory(&self) -> Result<MemoryMeter> {
        MemoryMeter::new(&self.databases)
    }

    /// Returns what the lookup tables hold.
    pub fn lookups(&self) -> Arc<[LookupVersion]> {
        self.lookups.clone()
    }

    /// Reads the lookup files again and replaces the tables, all or none. No worker may run meanwhile.
    ///
    /// # Errors
    /// A file cannot be read, the SQL no longer suits the tables, or its result would have another schema; the old tables stay.
    pub fn reload_lookups(&mut self) -> Result<Arc<[LookupVersion]>> {
        let lookups = read_lookups(&self.transform.lookups)?;
        let session = Session::new(&self.databases.current(), &self.input)?;
        let execute = |sql| {
            let done = session.connection().execute_batch(sql);
            done.map_err(|e| Error::internal(format!("cannot replace the lookup tables: {}", message(&e))))
        };
        execute("BEGIN TRANSACTION")?;
        let replaced = self.replace_tables(&session, &lookups);
        execute(if replaced.is_ok() { "COMMIT" } else { "ROLLBACK" })?;
        replaced?;
        self.lookups = lookups.into_iter().map(|lookup| lookup.version).collect();
        Ok(self.lookups())
    }

    fn replace_tables(&self, session: &Session, lookups: &[Lookup]) -> Result<()> {
        create_tables(session, lookups)?;
        let (_, output) = check_sql(session, &self.transform)?;
        if output.fields() == self.output.fields() {
            return Ok(());
        }
        let changed = output.fields().iter().zip(self.output.fields()).find(|(new, old)| new != old);
        Err(Error::config(match changed {
            Some((new, old)) => format!(
                "the new lookup tables would change the output from `{}` {} to `{}` {}: keep the types of their columns, or restart",
                old.name(),
                old.data_type(),
                new.name(),
                new.data_type()
            ),
            None => "the new lookup tables would change the number of output columns: name the columns in `transform.sql`".to_owned(),
        }))
    }
}

fn check_lookup_names(lookups: &[LookupConfig]) -> Result<()> {
    let mut taken = BTreeSet::from(["events".to_owned()]);
    for lookup in lookups {
        if !taken.insert(lookup.name.to_lowercase()) {
            return Err(Error::config(format!("lookup `{}`: the name is taken: choose another", lookup.name)));
        }
    }
    Ok(())
}

/// Reads all lookup files.
///
/// # Errors
/// With every file that cannot be read, a line each.
fn read_lookups(lookups: &[LookupConfig]) -> Result<Vec<Lookup>> {
    let (read, faults): (Vec<Lookup>, Vec<Error>) = lookups.iter().map(Lookup::read).partition_result();
    match faults.first() {
        None => Ok(read),
        Some(first) => Err(Error::new(first.kind(), faults.iter().join("\n"))),
    }
}

/// Says what is wrong with the SQL, and that it is the default where the user wrote none.
fn wrong(transform: &TransformConfig, reason: &str) -> Error {
    Error::config(match transform.is_default_sql {
        true => format!(
            "`transform.sql` is not set, and its default, which is for the simulator's events, {reason}: set it, for example to \
             \"SELECT * FROM events\""
        ),
        false => format!("`transform.sql` {reason}"),
    })
}

fn create_tables(session: &Session, lookups: &[Lookup]) -> Result<()> {
    for Lookup { version, schema, rows } in lookups {
        let created = session.create_table(&version.name, schema, rows.clone());
        created.map_err(|e| Error::config(format!("lookup `{}`: cannot be loaded: {}", version.name, message(&e))))?;
    }
    Ok(())
}

/// Checks the SQL in the order in which it can do harm: nothing is planned before it is one SELECT. Returns it with its result's schema.
fn check_sql(session: &Session, transform: &TransformConfig) -> Result<(Select, SchemaRef)> {
    let wrong = |reason: String| wrong(transform, &reason);
    let select = session.parse(&transform.sql).map_err(wrong)?;
    if select.calls(gather::FUNCTION) {
        return Err(wrong(format!("calls `{}`, which is Pintail's own", gather::FUNCTION)));
    }
    if !transform.per_batch {
        let checked = session.with_no_events(|connection| plan::check_row_by_row(connection, &select));
        checked.map_err(|fault| match fault {
            Fault::Plan(reason) => wrong(reason),
            Fault::Coupled(reason) => wrong(format!(
                "{reason}: its rows would depend on how the events are cut into batches; `transform.per_batch = true` allows that"
            )),
        })?;
    }
    let none = RecordBatch::new_empty(session.schema().clone());
    let ran = session.run(select.sql(), &none).map_err(|e| {
        let unreadable = session.with_no_events(|connection| unreadable(connection, select.sql()));
        wrong(unreadable.unwrap_or_else(|| format!("fails: {}", message(&e))))
    });
    let (output, _) = ran?;
    check_names(&output).map_err(wrong)?;
    Ok((select, output))
}

fn check_names(output: &SchemaRef) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for field in output.fields() {
        if !names.insert(field.name().to_lowercase()) {
            return Err(format!("returns the column `{}` twice (case is ignored): rename one with AS", field.name()));
        }
    }
    Ok(())
}
