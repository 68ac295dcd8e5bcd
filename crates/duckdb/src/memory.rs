//! Memory: what DuckDB holds.
//!
//! Owns: a connection of its own to ask by, so that no worker is disturbed.
//! Does not own: the limit (see `session`).

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use duckdb::Connection;
use pintail_core::error::{Error, Result};

use super::databases::Databases;
use super::session::Database;
use super::sql::collect;
use super::sql_error::message;

/// Asks DuckDB how much memory its buffer manager has given out. The connection is dropped before the database.
#[derive(Debug)]
pub struct MemoryMeter {
    connection: Connection,
    database: Arc<Database>,
    databases: Arc<Databases>,
}

impl MemoryMeter {
    pub(super) fn new(databases: &Arc<Databases>) -> Result<Self> {
        let database = databases.current();
        Ok(Self { connection: database.connect()?, database, databases: databases.clone() })
    }

    /// Returns the bytes. Takes some tenths of a millisecond.
    pub fn bytes(&mut self) -> Result<u64> {
        let current = self.databases.current();
        if !Arc::ptr_eq(&self.database, &current) {
            self.connection = current.connect()?;
            self.database = current;
        }
        let sql = "SELECT coalesce(sum(memory_usage_bytes), 0)::UBIGINT FROM duckdb_memory()";
        let asked = collect(&self.connection, sql);
        let (_, batches) = asked.map_err(|e| Error::internal(format!("cannot ask DuckDB for its memory: {}", message(&e))))?;
        let bytes =
            batches.first().filter(|batch| batch.num_rows() == 1).map(|batch| batch.column(0).as_primitive::<UInt64Type>().value(0));
        bytes.ok_or_else(|| Error::internal("DuckDB does not say how much memory it holds"))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::super::session::Session;
    use super::*;

    #[test]
    fn a_table_is_seen_in_the_memory_also_when_the_settings_are_locked() {
        let databases = Arc::new(Databases::open(1 << 30).unwrap());
        let database = databases.current();
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000_000));
        let rows = RecordBatch::try_from_iter([("a", column)]).unwrap();
        let session = Session::new(&database, &rows.schema()).unwrap();
        let mut meter = MemoryMeter::new(&databases).unwrap();
        let before = meter.bytes().unwrap();
        session.create_table("t", &rows.schema(), vec![rows.clone()]).unwrap();
        database.lock().unwrap();
        let after = meter.bytes().unwrap();
        assert!(after > before + 100_000, "{before} → {after}");
    }
}
