//! Session: one database, and connections that see a batch as `events`.
//!
//! Owns: the database and its locked settings; a connection's slot, its view `events`, and running a text over batches.
//! Does not own: which database is in use (see `databases`), what errors mean (see `sql_error`), the user's SQL and when it runs (see the
//! engine and its workers).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Fields, Schema, SchemaRef};
use duckdb::Connection;
use duckdb::core::LogicalTypeId;
use pintail_core::error::{Error, Result};
use pintail_core::sql_type::LOSSY;

use super::arrow_ffi::Converter;
use super::gather::{self, Columns, Gathers, is_gathered};
use super::prepared::{Class, Failed, Prepared};
use super::query::as_text;
use super::raw::{RawConnection, RawDatabase};
use super::scan::{self, Input, Pace, Slot, Slots};
use super::sql::{collect, collect_texts, quoted};
use super::sql_error::{message, one_line};
use super::statement::Select;

/// The view that holds the user's SQL.
const RESULT: &str = "pintail_result";

/// A database in memory with the two functions of ours.
#[derive(Debug)]
pub(crate) struct Database {
    slots: Slots,
    gathers: Gathers,
    raw: RawDatabase,
}

impl Database {
    /// Opens the database: one DuckDB thread, so each query runs on its caller's; nothing is loaded, downloaded or spilled to disk.
    pub(crate) fn open(memory_limit: u64) -> Result<Arc<Self>> {
        let memory_limit = format!("{memory_limit}B");
        let raw = RawDatabase::open_in_memory(&[
            ("threads", "1"),
            ("memory_limit", &memory_limit),
            ("preserve_insertion_order", "true"),
            ("temp_directory", ""),
            ("allow_unsigned_extensions", "false"),
            ("autoload_known_extensions", "false"),
            ("autoinstall_known_extensions", "false"),
            // What a broken database may still be asked is decided here (see `databases`).
            ("disable_database_invalidation", "true"),
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
    pub(crate) fn lock(&self) -> Result<()> {
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
pub(crate) struct Session {
    /// Of `runner`, by their text.
    statements: BTreeMap<String, Prepared>,
    /// Runs what is run for each batch; `connection` whatever has rows to be read.
    runner: RawConnection,
    connection: Connection,
    converter: Arc<Converter>,
    slot: Slot,
    schema: SchemaRef,
    /// Whether a check of DuckDB's own has failed.
    broken: Cell<bool>,
    database: Arc<Database>,
}

impl Session {
    /// Connects, and makes the view `events` over batches of `schema`.
    pub(crate) fn new(database: &Arc<Database>, schema: &SchemaRef) -> Result<Self> {
        let session = Self {
            statements: BTreeMap::new(),
            runner: database.raw.connect()?,
            connection: database.raw.sql_connection()?,
            converter: Arc::new(Converter::new(database.raw.connect()?)),
            slot: database.slots.reserve(),
            schema: schema.clone(),
            broken: Cell::new(false),
            database: database.clone(),
        };
        let view = format!("CREATE TEMPORARY VIEW events AS SELECT * FROM {}", session.slot.call());
        let made = session.with_no_events(|connection| connection.execute_batch(&view));
        made.map_err(|e| Error::internal(format!("cannot make the view `events`: {}", message(&e))))?;
        session.make_view("events", schema)?;
        Ok(session)
    }

    /// Makes a view of the slot that the statements of [`Self::gather`] see, for batches of `schema`.
    pub(crate) fn make_view(&self, name: &str, schema: &SchemaRef) -> Result<()> {
        self.make_view_of(name, &format!("SELECT * FROM {}", self.slot.call()), schema)
    }

    fn make_view_of(&self, name: &str, sql: &str, schema: &SchemaRef) -> Result<()> {
        let view = format!("CREATE OR REPLACE TEMPORARY VIEW {name} AS {sql}");
        let made = self.with_input(schema, Vec::new(), Pace::default(), || self.runner.execute(&view));
        made.map_err(|failed| Error::internal(format!("cannot make the view `{name}`: {}", one_line(&failed.message))))
    }

    /// Returns the database.
    pub(crate) fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// Returns whether a check of DuckDB's own has failed: then nothing more must be run in this database.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Returns the connection on which [`Self::gather`] runs.
    pub(crate) fn runner(&self) -> &RawConnection {
        &self.runner
    }

    /// Returns the connection.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns the schema of `events`.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Parses a text that must be exactly one `SELECT`.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub(crate) fn parse(&self, sql: &str) -> Result<Select, String> {
        let extraction = self.database.raw.connect().map_err(|e| e.to_string())?;
        Select::parse(&self.connection, &extraction, sql)
    }

    /// Runs `sql` over a batch as `events`.
    pub(crate) fn run(&self, sql: &str, batch: &RecordBatch) -> duckdb::Result<(SchemaRef, Vec<RecordBatch>)> {
        self.with_events(batch, Pace::default(), |connection| collect(connection, sql))
    }

    /// Does work while `events` is a batch, handed out at a pace.
    pub(crate) fn with_events<T>(&self, batch: &RecordBatch, pace: Pace, body: impl FnOnce(&Connection) -> T) -> T {
        self.with_input(&self.schema, vec![batch.clone()], pace, || body(&self.connection))
    }

    /// Makes a query out of `sql`, which returns `output`, whose rows [`Self::gather`] can take; `None` if that has a type it cannot.
    ///
    /// The text stands in a view: whatever ends it (a semicolon, a comment) then does no harm to the query around it.
    pub(crate) fn gathering(&self, sql: &str, output: &SchemaRef) -> Result<Option<String>> {
        let types = self.column_types(sql, output.fields().len());
        let types = types.map_err(|e| Error::internal("cannot prepare `transform.sql`").with_source(e))?;
        if types.is_empty() || !types.iter().zip(output.fields()).all(|(id, field)| is_gathered(*id, field.data_type())) {
            return Ok(None);
        }
        self.make_view_of(RESULT, sql, &self.schema)?;
        let columns: Vec<String> = output.fields().iter().map(|field| quoted(field.name())).collect();
        Ok(Some(self.gather_from(&columns, RESULT)))
    }

    /// Returns the types of the first `count` columns that a query over `events` returns.
    pub(crate) fn column_types(&self, sql: &str, count: usize) -> duckdb::Result<Vec<LogicalTypeId>> {
        self.with_no_events(|connection| {
            let statement = connection.prepare(sql)?;
            Ok((0..count).map(|index| statement.column_logical_type(index).id()).collect())
        })
    }

    /// Returns the columns that a query over `events` returns, those marked that come with another type than they have in DuckDB.
    pub(crate) fn with_marks(&self, sql: &str, output: &SchemaRef) -> duckdb::Result<SchemaRef> {
        let lossy: Vec<_> = self.with_no_events(|connection| {
            let statement = connection.prepare(sql)?;
            Ok::<_, duckdb::Error>((0..output.fields().len()).map(|index| as_text::lossy(&statement.column_logical_type(index))).collect())
        })?;
        let marked = output.fields().iter().zip(lossy).map(|(field, lossy)| match lossy {
            None => field.clone(),
            Some(name) => Arc::new(field.as_ref().clone().with_metadata([(LOSSY.to_owned(), name.to_owned())])),
        });
        Ok(Arc::new(Schema::new_with_metadata(marked.collect::<Fields>(), output.metadata().clone())))
    }

    /// Returns the names of the columns that a query over `events` returns.
    pub(crate) fn column_names(&self, sql: &str) -> duckdb::Result<Vec<String>> {
        let described = self.with_no_events(|connection| collect_texts(connection, &format!("DESCRIBE {sql}")))?;
        Ok(described.into_iter().filter_map(|column| column.into_iter().next()).collect())
    }

    /// Makes the query that gathers columns of what stands behind `FROM`.
    pub(crate) fn gather_from(&self, columns: &[String], from: &str) -> String {
        format!("SELECT {}({}, {}) FROM {from}", gather::FUNCTION, self.slot.number(), columns.join(", "))
    }

    /// Prepares a query over batches of `schema`, to see whether it can be.
    pub(crate) fn can_prepare(&self, query: &str, schema: &SchemaRef) -> bool {
        self.prepare(query, schema).is_ok()
    }

    fn prepare(&self, query: &str, schema: &SchemaRef) -> Result<Prepared, Failed> {
        self.with_input(schema, Vec::new(), Pace::default(), || self.runner.prepare(query))
    }

    /// Runs a query whose rows go through the gather, over a batch of `schema`; returns them, also what came before a failure. Its plan
    /// is kept for the next batch.
    pub(crate) fn gather(
        &mut self,
        query: &str,
        (schema, batch): (&SchemaRef, &RecordBatch),
        pace: Pace,
        columns: Columns,
    ) -> (Columns, Result<(), Failed>) {
        let mut statement = match self.statements.remove(query).map_or_else(|| self.prepare(query, schema), Ok) {
            Ok(statement) => statement,
            Err(failed) => return (columns, Err(failed)),
        };
        let gathers = &self.database.gathers;
        gathers.begin(self.slot.number(), columns);
        let ran = self.with_input(schema, vec![batch.clone()], pace, || statement.run());
        let gathered = gathers.end(self.slot.number()).expect("the slot was begun, and the query that shared it is over");
        self.statements.insert(query.to_owned(), statement);
        self.note(ran.as_ref().err());
        (gathered, ran)
    }

    /// Runs `sql` over a batch as `events` once more, for what DuckDB says of its failure.
    pub(crate) fn fails(&self, sql: &str, batch: &RecordBatch) -> Option<Failed> {
        let failed = self.with_input(&self.schema, vec![batch.clone()], Pace::default(), || self.runner.execute(sql).err());
        self.note(failed.as_ref());
        failed
    }

    fn note(&self, failed: Option<&Failed>) {
        if failed.is_some_and(|failed| failed.class == Class::Broken) {
            self.broken.set(true);
        }
    }

    /// Forgets the plans that were kept.
    pub(crate) fn forget_plans(&mut self) {
        self.statements.clear();
    }

    /// Runs `body` while `events` has no rows.
    pub(crate) fn with_no_events<T>(&self, body: impl FnOnce(&Connection) -> T) -> T {
        self.with_input(&self.schema, Vec::new(), Pace::default(), || body(&self.connection))
    }

    /// Makes or replaces a table.
    pub(crate) fn create_table(&self, name: &str, schema: &SchemaRef, rows: Vec<RecordBatch>) -> duckdb::Result<()> {
        let create = format!("CREATE OR REPLACE TABLE {} AS SELECT * FROM {}", quoted(name), self.slot.call());
        self.with_input(schema, rows, Pace::default(), || self.connection.execute_batch(&create))
    }

    fn with_input<T>(&self, schema: &SchemaRef, batches: Vec<RecordBatch>, pace: Pace, body: impl FnOnce() -> T) -> T {
        let input = Input { schema: schema.clone(), batches, converter: self.converter.clone(), withheld: None, pace };
        let _loaded = self.slot.load(input);
        body()
    }
}
