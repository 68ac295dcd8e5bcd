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
//! | `probe` | suspecting the records that it fails on; the program finds them |
//! | `lookup` | lookup files |
//! | `memory` | what the database holds |

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
mod sql;
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
use pintail_core::sql_type;
use pintail_core::transform::{LookupConfig, TransformConfig};

use databases::Databases;
use lookup::Lookup;
use plan::Fault;
use session::Session;
use sql_error::message;
use statement::{Select, unreadable};

pub use memory::MemoryMeter;
pub use probe::{Class, Scope, Suspect};
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

/// Why an engine cannot be opened.
#[derive(Debug)]
pub struct Refused {
    /// All that is wrong.
    pub error: Error,
    /// What the SQL returns, where it can be run all the same.
    pub output: Option<SchemaRef>,
}

impl Refused {
    /// Puts lookup tables that are missing before what was found wrong with the SQL: that counts only if it is not for want of one of them.
    fn without(
        missing: &[Missing],
        checked: Result<(Select, SchemaRef), Self>,
        transform: &TransformConfig,
        parsed: Result<Select, String>,
    ) -> Self {
        let kind = missing[0].error.kind();
        let tables = missing.iter().map(|missing| missing.error.to_string()).join("\n");
        let is_in_want = |select: &Select| missing.iter().any(|missing| select.references(&missing.name) > 0);
        let (sql, output) = match (parsed, checked) {
            (Err(reason), _) => (Some(wrong(transform, &reason).to_string()), None),
            (Ok(_), Ok((_, output))) => (None, Some(output)),
            (Ok(select), Err(_)) if is_in_want(&select) => (None, None),
            (Ok(_), Err(refused)) => (Some(refused.error.to_string()), refused.output),
        };
        Self { error: Error::new(kind, [tables].into_iter().chain(sql).join("\n")), output }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, output: None }
    }
}

/// A lookup table that is not there.
struct Missing {
    name: String,
    error: Error,
}

impl Engine {
    /// Opens the database, loads the lookup tables, locks it, and checks the SQL: parsed, planned, run on no events.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if the SQL or a lookup is at fault; the message names the column and the nearest one.
    pub fn open(transform: &TransformConfig, input: SchemaRef) -> Result<Self> {
        Self::examine(transform, input).map_err(|refused| refused.error)
    }

    /// As [`Self::open`]; a refusal says what the SQL returns all the same, as far as that is known.
    ///
    /// # Errors
    /// Those of [`Self::open`], all at once.
    pub fn examine(transform: &TransformConfig, input: SchemaRef) -> Result<Self, Refused> {
        check_lookup_names(&transform.lookups)?;
        let databases = Arc::new(Databases::open(transform.memory_limit)?);
        let database = databases.current();
        let session = Session::new(&database, &input)?;
        let (lookups, missing) = read_lookups(&transform.lookups);
        create_tables(&session, &lookups)?;
        database.lock()?;
        let (select, output) = match check_sql(&session, transform) {
            checked if missing.is_empty() => checked?,
            checked => return Err(Refused::without(&missing, checked, transform, session.parse(&transform.sql))),
        };
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
        let (lookups, missing) = read_lookups(&self.transform.lookups);
        if let Some(first) = missing.first() {
            return Err(Error::new(first.error.kind(), missing.iter().map(|missing| missing.error.to_string()).join("\n")));
        }
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
        let (_, output) = check_sql(session, &self.transform).map_err(|refused| refused.error)?;
        if output.fields() == self.output.fields() {
            return Ok(());
        }
        let changed = output.fields().iter().zip(self.output.fields()).find(|(new, old)| new != old);
        Err(Error::config(match changed {
            Some((new, old)) => format!(
                "the new lookup tables would change the output from `{}` {} to `{}` {}: keep the types of their columns, or restart",
                old.name(),
                sql_type::name(old.data_type()),
                new.name(),
                sql_type::name(new.data_type())
            ),
            None => "the new lookup tables would change the number of output columns: name the columns in `transform.sql`".to_owned(),
        }))
    }
}

fn check_lookup_names(lookups: &[LookupConfig]) -> Result<()> {
    let mut taken = BTreeSet::from(["events".to_owned()]);
    let again = lookups.iter().filter(|lookup| !taken.insert(lookup.name.to_lowercase()));
    let faults = again.map(|lookup| format!("lookup `{}`: the name is taken: choose another", lookup.name)).join("\n");
    if faults.is_empty() { Ok(()) } else { Err(Error::config(faults)) }
}

/// Reads all lookup files; with them returns those that cannot be read.
fn read_lookups(lookups: &[LookupConfig]) -> (Vec<Lookup>, Vec<Missing>) {
    let read = |config: &LookupConfig| Lookup::read(config).map_err(|error| Missing { name: config.name.clone(), error });
    lookups.iter().map(read).partition_result()
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

/// Checks the SQL in the order in which it can do harm: nothing is planned before it is one SELECT. Returns it with its result's schema. What couples rows
/// does not keep it from being run on none.
fn check_sql(session: &Session, transform: &TransformConfig) -> Result<(Select, SchemaRef), Refused> {
    let wrong = |reason: String| wrong(transform, &reason);
    let select = session.parse(&transform.sql).map_err(wrong)?;
    if select.calls(gather::FUNCTION) {
        return Err(wrong(format!("calls `{}`, which is Pintail's own", gather::FUNCTION)).into());
    }
    let coupled = match transform.per_batch {
        true => None,
        false => match session.with_no_events(|connection| plan::check_row_by_row(connection, &select)) {
            Ok(()) => None,
            Err(Fault::Plan(reason)) => return Err(wrong(reason).into()),
            Err(Fault::Coupled(reason)) => Some(wrong(format!(
                "{reason}: its rows would depend on how the events are cut into batches; `transform.per_batch = true` allows that"
            ))),
        },
    };
    let none = RecordBatch::new_empty(session.schema().clone());
    let ran = session.run(select.sql(), &none).and_then(|(output, _)| session.with_marks(select.sql(), &output)).map_err(|e| {
        let unreadable = session.with_no_events(|connection| unreadable(connection, select.sql()));
        wrong(unreadable.unwrap_or_else(|| format!("fails: {}", message(&e))))
    });
    match (coupled, ran) {
        (None, ran) => Ok((select, ran?)),
        (Some(error), ran) => Err(Refused { error, output: ran.ok() }),
    }
}
