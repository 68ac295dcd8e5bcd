//! Session: one database, and connections that see a batch as `events`.
//!
//! Owns: the database and its locked settings; a connection's slot, its view `events`, and running a text over batches.
//! Does not own: what errors mean (see `sql_error`), the user's SQL and when it runs (see the engine and its workers).

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use duckdb::Connection;

use super::arrow_ffi::Converter;
use super::gather::{self, Columns, Gathers, is_gathered};
use super::raw::RawDatabase;
use super::scan::{self, Input, Slot, Slots};
use super::sql_error::message;
use super::statement::Select;
use crate::error::{Error, Result};

/// The view that holds the user's SQL.
const RESULT: &str = "pintail_result";

/// A database in memory with the two functions of ours. Lookup tables and the memory limit exist once in it.
#[derive(Debug)]
pub struct Database {
    slots: Slots,
    gathers: Gathers,
    raw: RawDatabase,
}

impl Database {
    /// Opens the database: one DuckDB thread, so each query runs on its caller's; nothing is loaded, downloaded or spilled to disk.
    pub fn open(memory_limit: u64) -> Result<Arc<Self>> {
        let memory_limit = format!("{memory_limit}B");
        let raw = RawDatabase::open_in_memory(&[
            ("threads", "1"),
            ("memory_limit", &memory_limit),
            ("preserve_insertion_order", "true"),
            ("temp_directory", ""),
            ("allow_unsigned_extensions", "false"),
            ("autoload_known_extensions", "false"),
            ("autoinstall_known_extensions", "false"),
        ])?;
        let (slots, gathers) = (Slots::default(), Gathers::default());
        scan::register(&raw.connect()?, &slots)?;
        gather::register(&raw.connect()?, &gathers)?;
        let database = Self { slots, gathers, raw };
        // Text as views is what Polars holds natively, and Parquet's writer reads either form at the same speed. Views need both settings.
        database.execute(
            "SET GLOBAL arrow_output_version = '1.4'; SET GLOBAL produce_arrow_string_view = true; SET GLOBAL explain_output = 'all'",
        )?;
        Ok(Arc::new(database))
    }

    /// Closes the database to files, extensions and changed settings, for good. Must come before any text of the user's is bound.
    pub fn lock(&self) -> Result<()> {
        self.execute("SET GLOBAL enable_external_access = false; SET GLOBAL lock_configuration = true")
    }

    /// Opens a connection without a slot. It must not outlive the database.
    pub(super) fn connect(&self) -> Result<Connection> {
        self.raw.sql_connection()
    }

    fn execute(&self, sql: &str) -> Result<()> {
        let done = self.raw.sql_connection()?.execute_batch(sql);
        done.map_err(|e| Error::internal(format!("cannot set up DuckDB: {}", message(&e))))
    }
}

/// A connection with its slot. The fields are dropped from the top: connections before the database.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    converter: Arc<Converter>,
    slot: Slot,
    schema: SchemaRef,
    database: Arc<Database>,
}

impl Session {
    /// Connects, and makes the view `events` over batches of `schema`.
    pub fn new(database: &Arc<Database>, schema: &SchemaRef) -> Result<Self> {
        let session = Self {
            connection: database.raw.sql_connection()?,
            converter: Arc::new(Converter::new(database.raw.connect()?)),
            slot: database.slots.reserve(),
            schema: schema.clone(),
            database: database.clone(),
        };
        let view = format!("CREATE TEMPORARY VIEW events AS SELECT * FROM {}", session.slot.call());
        let made = session.with_input(schema, Vec::new(), |connection| connection.execute_batch(&view));
        made.map_err(|e| Error::internal(format!("cannot make the view `events`: {}", message(&e))))?;
        Ok(session)
    }

    /// Returns the connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns the schema of `events`.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Parses a text that must be exactly one `SELECT`.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse(&self, sql: &str) -> Result<Select, String> {
        let extraction = self.database.raw.connect().map_err(|e| e.to_string())?;
        Select::parse(&self.connection, &extraction, sql)
    }

    /// Runs `sql` over a batch as `events`.
    pub fn run(&self, sql: &str, batch: &RecordBatch) -> duckdb::Result<(SchemaRef, Vec<RecordBatch>)> {
        self.with_input(&self.schema, vec![batch.clone()], |connection| collect(connection, sql))
    }

    /// Makes a query out of `sql`, which returns `output`, whose rows [`Self::gather`] can take; `None` if that has a type it cannot.
    ///
    /// The text stands in a view: whatever ends it (a semicolon, a comment) then does no harm to the query around it.
    pub fn gathering(&self, sql: &str, output: &SchemaRef) -> duckdb::Result<Option<String>> {
        let is_gathered = |connection: &Connection| -> duckdb::Result<bool> {
            let statement = connection.prepare(sql)?;
            let mut fields = output.fields().iter().enumerate();
            Ok(fields.all(|(index, field)| is_gathered(statement.column_logical_type(index).id(), field.data_type())))
        };
        let view = format!("CREATE OR REPLACE TEMPORARY VIEW {RESULT} AS {sql}");
        if output.fields().is_empty() || !self.with_no_events(is_gathered)? {
            return Ok(None);
        }
        self.with_no_events(|connection| connection.execute_batch(&view))?;
        let columns: Vec<String> = output.fields().iter().map(|field| quoted(field.name())).collect();
        Ok(Some(format!("SELECT {}({}, {}) FROM {RESULT}", gather::FUNCTION, self.slot.number(), columns.join(", "))))
    }

    /// Runs a query that [`Self::gathering`] made over a batch as `events`; returns its rows. Its plan is kept for the next batch.
    pub fn gather(&self, query: &str, output: &SchemaRef, batch: &RecordBatch) -> duckdb::Result<Columns> {
        let gathers = &self.database.gathers;
        gathers.begin(self.slot.number(), Columns::new(output, batch.num_rows()));
        let ran = self.with_input(&self.schema, vec![batch.clone()], |connection| {
            let mut statement = connection.prepare_cached(query)?;
            statement.stream_arrow([])?.try_for_each(|answers| answers.map(drop))
        });
        let gathered = gathers.end(self.slot.number()).expect("the slot was begun, and the query that shared it is over");
        ran.map(|()| gathered)
    }

    /// Forgets the plans that were kept.
    pub fn forget_plans(&self) {
        self.connection.flush_prepared_statement_cache();
    }

    /// Runs `body` while `events` has no rows.
    pub fn with_no_events<T>(&self, body: impl FnOnce(&Connection) -> T) -> T {
        self.with_input(&self.schema, Vec::new(), body)
    }

    /// Makes or replaces a table.
    pub fn create_table(&self, name: &str, schema: &SchemaRef, rows: Vec<RecordBatch>) -> duckdb::Result<()> {
        let create = format!("CREATE OR REPLACE TABLE {} AS SELECT * FROM {}", quoted(name), self.slot.call());
        self.with_input(schema, rows, |connection| connection.execute_batch(&create))
    }

    fn with_input<T>(&self, schema: &SchemaRef, batches: Vec<RecordBatch>, body: impl FnOnce(&Connection) -> T) -> T {
        let input = Input { schema: schema.clone(), batches, converter: self.converter.clone(), withheld: None };
        let _loaded = self.slot.load(input);
        body(&self.connection)
    }
}

/// Runs a query to its end.
pub fn collect(connection: &Connection, sql: &str) -> duckdb::Result<(SchemaRef, Vec<RecordBatch>)> {
    let mut statement = connection.prepare(sql)?;
    // Not `query_arrow`, which panics where this yields an error.
    let stream = statement.stream_arrow([])?;
    let schema = stream.get_schema();
    Ok((schema, stream.collect::<duckdb::Result<_>>()?))
}

/// Runs a query to its end; returns its rows as text, NULL as nothing. `duckdb-rs` cannot read text out of views itself.
pub fn collect_texts(connection: &Connection, sql: &str) -> duckdb::Result<Vec<Vec<String>>> {
    let (_, batches) = collect(connection, sql)?;
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter().map(|column| cast(column, &DataType::Utf8View));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|e| duckdb::Error::ToSqlConversionFailure(e.into()))?;
        let row = |row| columns.iter().map(|column| column.as_string_view().value(row).to_owned()).collect();
        rows.extend((0..batch.num_rows()).map(row));
    }
    Ok(rows)
}

/// Writes a name so that SQL takes it as it is.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Writes a text as SQL.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
