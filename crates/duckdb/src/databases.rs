//! The database in use, and the one that takes its place.
//!
//! Owns: which database sessions are to connect to, opening another where DuckDB does not vouch for one any more, and that a worker can have
//! the memory and the cores to itself.
//! Does not own: when a database is broken (see `prepared`), connecting to the next one (see `worker`).
//!
//! A record can make a check of DuckDB's own fail: an "internal error". DuckDB then refuses whatever else is asked of that database, for good.
//! Here it is told not to, so that the lookup tables can be copied out of it; nothing else begins there. What other workers are running in it
//! goes on to its end, as it would if DuckDB refused.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use pintail_core::error::{Error, Result};

use super::session::{Database, Session};
use super::sql::{collect, collect_texts, quoted};
use super::sql_error::message;

/// The database in use. Lookup tables and the memory limit exist once in it.
#[derive(Debug)]
pub(crate) struct Databases {
    memory_limit: u64,
    current: Mutex<Arc<Database>>,
    /// Read while a batch runs, written while a record runs that is to have the memory and the cores to itself.
    peace: RwLock<()>,
}

impl Databases {
    /// Opens the first one.
    pub(crate) fn open(memory_limit: u64) -> Result<Self> {
        Ok(Self { memory_limit, current: Mutex::new(Database::open(memory_limit)?), peace: RwLock::default() })
    }

    /// Returns the database in use.
    pub(crate) fn current(&self) -> Arc<Database> {
        self.lock().clone()
    }

    /// Opens another database with the same tables in the place of a broken one, unless that was done.
    pub(crate) fn replace(&self, broken: &Arc<Database>) -> Result<()> {
        let mut current = self.lock();
        if Arc::ptr_eq(&current, broken) {
            let next = Database::open(self.memory_limit)?;
            copy_tables(broken, &next)?;
            next.lock()?;
            *current = next;
        }
        Ok(())
    }

    /// Lets a batch run beside others.
    pub(crate) fn share(&self) -> RwLockReadGuard<'_, ()> {
        self.peace.read()
    }

    /// Waits until nothing runs, and keeps it so.
    pub(crate) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.peace.write()
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Database>> {
        self.current.lock()
    }
}

fn copy_tables(from: &Database, to: &Arc<Database>) -> Result<()> {
    let failed = |e: duckdb::Error| Error::internal(format!("cannot copy a lookup table to another database: {}", message(&e)));
    let connection = from.connect()?;
    let names = collect_texts(&connection, "SELECT table_name FROM duckdb_tables() WHERE NOT internal AND NOT temporary");
    for name in names.map_err(failed)?.into_iter().flatten() {
        let (schema, rows) = collect(&connection, &format!("SELECT * FROM {}", quoted(&name))).map_err(failed)?;
        Session::new(to, &schema)?.create_table(&name, &schema, rows).map_err(failed)?;
    }
    Ok(())
}
