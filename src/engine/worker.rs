//! Worker: runs the SQL over one batch after the other.
//!
//! Owns: a session and its deadline; what an error of the SQL means.
//! Does not own: the order of batches, and what becomes of a record that the SQL fails on (the transformer).

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};

use super::deadline::Deadline;
use super::gather::Columns;
use super::session::Session;
use super::sql_error::SqlError;
use crate::error::{Error, Result};

/// Runs the SQL on the caller's thread. Blocking; may be sent from thread to thread.
#[derive(Debug)]
pub struct Worker {
    // Before the session: its thread holds a handle of the connection.
    deadline: Deadline,
    session: Session,
    query: Query,
    output: SchemaRef,
    timeout: Duration,
    planned: Instant,
}

/// How long a plan is used. It knows nothing of the batch that it was made for, but `current_date` and what is computed from it stand
/// in it as constants (`now()` does not). Planning takes a twentieth of the time of a full batch.
const PLAN_AGE_MAX: Duration = Duration::from_secs(1);

/// What a query leaves.
enum Output {
    Gathered(Columns),
    Plain(SchemaRef, Vec<RecordBatch>),
}

/// How the rows of the SQL come out of DuckDB.
#[derive(Debug)]
enum Query {
    /// Through the gather.
    Gathered(String),
    /// As DuckDB's own result, where the gather does not take a type.
    Plain(String),
}

impl Worker {
    /// Makes a worker of a session in which `sql` was checked to return `output`.
    pub(super) fn new(session: Session, sql: String, output: SchemaRef, timeout: Duration) -> Result<Self> {
        let deadline = Deadline::new(session.connection().interrupt_handle())?;
        let gathering = session.gathering(&sql, &output);
        let gathering = gathering.map_err(|e| Error::internal("cannot make a view of `transform.sql`").with_source(e))?;
        let query = gathering.map_or(Query::Plain(sql), Query::Gathered);
        Ok(Self { deadline, session, query, output, timeout, planned: Instant::now() })
    }

    /// Runs the SQL over a batch in the input schema; returns its rows in the output schema.
    ///
    /// # Errors
    /// [`SqlError::Record`] if a value does not suit the SQL; nothing is returned then, though other rows might have passed.
    pub fn run(&mut self, batch: &RecordBatch) -> Result<RecordBatch, SqlError> {
        if !same_columns(batch.schema_ref(), self.session.schema()) {
            let (is, should) = (columns(batch.schema_ref()), columns(self.session.schema()));
            return Err(SqlError::Fatal(Error::internal(format!("a batch has the columns {is} instead of {should}"))));
        }
        if self.planned.elapsed() > PLAN_AGE_MAX {
            self.session.forget_plans();
            self.planned = Instant::now();
        }
        let armed = self.deadline.arm(self.timeout);
        let result = match &self.query {
            Query::Gathered(query) => self.session.gather(query, &self.output, batch).map(Output::Gathered),
            Query::Plain(sql) => self.session.run(sql, batch).map(|(schema, pieces)| Output::Plain(schema, pieces)),
        };
        if result.is_err() && armed.passed() {
            return Err(SqlError::Fatal(self.too_long(batch.num_rows())));
        }
        let rows = match result.map_err(|e| SqlError::at_run(&e))? {
            Output::Gathered(columns) => columns.finish(),
            Output::Plain(schema, pieces) => self.join(&schema, &pieces),
        };
        rows.map_err(SqlError::Fatal)
    }

    /// Joins what DuckDB returns vector by vector (2,048 rows): split by hive partition, such pieces would cost more than they hold.
    fn join(&self, schema: &SchemaRef, pieces: &[RecordBatch]) -> Result<RecordBatch> {
        if schema.fields() != self.output.fields() {
            let (is, should) = (columns(schema), columns(&self.output));
            return Err(Error::internal(format!("the SQL returned {is} instead of {should}")));
        }
        concat_batches(schema, pieces).map_err(|e| Error::internal("cannot join the rows that the SQL returned").with_source(e))
    }

    fn too_long(&self, rows: usize) -> Error {
        Error::try_again(format!(
            "the SQL took longer than `transform.timeout` ({}) on a batch of {rows} records: raise it, simplify the SQL, or lower \
             `pipeline.batch_rows`",
            humantime::format_duration(self.timeout)
        ))
    }
}

/// Compares names and types; that a batch happens to promise no nulls is no difference.
fn same_columns(left: &Schema, right: &Schema) -> bool {
    let same = |(a, b): (&arrow::datatypes::FieldRef, &arrow::datatypes::FieldRef)| a.name() == b.name() && a.data_type() == b.data_type();
    left.fields().len() == right.fields().len() && left.fields().iter().zip(right.fields()).all(same)
}

fn columns(schema: &Schema) -> String {
    let columns: Vec<String> = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    format!("({})", columns.join(", "))
}
