//! Worker: runs the SQL over one batch after the other.
//!
//! Owns: a session, its deadline and the bytes that a run may return; what a failure of the SQL is.
//! Does not own: the order of batches, and what becomes of a record that the SQL fails on (see `search`).

use std::cell::OnceCell;
use std::ops::Range;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};

use super::callback;
use super::deadline::Deadline;
use super::gather::Columns;
use super::prepared::{Class, Failed};
use super::probe::{Probe, Suspect};
use super::scan::{Pace, VECTOR_ROWS};
use super::session::{Session, stream};
use super::sql_error::{Failure, FailureKind, SqlError, message, one_line};
use super::statement::Select;
use crate::config::TransformConfig;
use crate::error::{Error, Result};

/// Runs the SQL on the caller's thread. Blocking; may be sent from thread to thread.
#[derive(Debug)]
pub struct Worker {
    // Before the session: its thread holds handles of the connections.
    deadline: Deadline,
    session: Session,
    query: Query,
    /// The SQL, if its records may be tried one by one.
    select: Option<Select>,
    /// Made when the SQL fails for the first time: it takes many plans.
    probe: OnceCell<Option<Probe>>,
    output: SchemaRef,
    timeout: Duration,
    rows_bytes_max: usize,
    planned: Instant,
}

/// How long a plan is used. It knows nothing of the batch that it was made for, but `current_date` and what is computed from it stand
/// in it as constants (`now()` does not). Planning takes a twentieth of the time of a full batch.
const PLAN_AGE_MAX: Duration = Duration::from_secs(1);

/// How the rows of the SQL come out of DuckDB.
#[derive(Debug)]
enum Query {
    /// Through the gather.
    Gathered(String),
    /// As DuckDB's own result, where the gather does not take a type.
    Plain(String),
}

/// Why a query ended early.
enum Ended {
    Failed(Failed),
    /// Its rows take more than `rows_bytes_max`.
    TooLarge,
    /// What it returned is not what it was checked to return.
    Odd(Error),
}

impl Worker {
    /// Makes a worker of a session in which the SQL was checked to return `output`.
    pub(super) fn new(session: Session, select: &Select, transform: &TransformConfig, output: SchemaRef) -> Result<Self> {
        let (handle, runner) = (session.connection().interrupt_handle(), session.runner().interrupter());
        let deadline = Deadline::new(move || {
            handle.interrupt();
            runner.interrupt();
        })?;
        let query = session.gathering(select.sql(), &output)?.map_or_else(|| Query::Plain(select.sql().to_owned()), Query::Gathered);
        let select = (!transform.per_batch).then(|| select.clone());
        let (timeout, rows_bytes_max) = (transform.timeout, transform.rows_bytes_max);
        Ok(Self { deadline, session, query, select, probe: OnceCell::new(), output, timeout, rows_bytes_max, planned: Instant::now() })
    }

    /// Runs the SQL over a batch in the input schema; returns its rows in the output schema.
    ///
    /// # Errors
    /// [`SqlError::Suspect`] if a record may be to blame; nothing is returned then, though other rows might have passed.
    pub fn run(&mut self, batch: &RecordBatch) -> Result<RecordBatch, SqlError> {
        self.run_by(batch, VECTOR_ROWS)
    }

    /// As [`Self::run`], with so many records handed to DuckDB at a time: the fewer, the closer a failure's hint.
    pub fn run_by(&mut self, batch: &RecordBatch, records: usize) -> Result<RecordBatch, SqlError> {
        let database = self.session.database().clone();
        let _beside_others = database.share();
        self.attempt(batch, records)
    }

    /// As [`Self::run`], while no other worker runs anything.
    pub fn run_alone(&mut self, batch: &RecordBatch) -> Result<RecordBatch, SqlError> {
        let database = self.session.database().clone();
        let _alone = database.alone();
        self.attempt(batch, VECTOR_ROWS)
    }

    /// Looks for the records of a batch that the SQL is likely to fail on, at little cost where its shape allows.
    pub fn suspects(&mut self, batch: &RecordBatch) -> Vec<Suspect> {
        let Some(select) = &self.select else { return Vec::new() };
        let database = self.session.database().clone();
        let _beside_others = database.share();
        let _armed = self.deadline.arm(self.timeout);
        let probe = self.probe.get_or_init(|| Probe::new(&self.session, select));
        probe.as_ref().map(|probe| probe.suspects(&mut self.session, batch)).unwrap_or_default()
    }

    fn attempt(&mut self, batch: &RecordBatch, records: usize) -> Result<RecordBatch, SqlError> {
        if !same_columns(batch.schema_ref(), self.session.schema()) {
            let (is, should) = (columns(batch.schema_ref()), columns(self.session.schema()));
            return Err(SqlError::Fatal(Error::internal(format!("a batch has the columns {is} instead of {should}"))));
        }
        if self.planned.elapsed() > PLAN_AGE_MAX {
            self.session.forget_plans();
            self.planned = Instant::now();
        }
        callback::forget_fault();
        let pace = Pace::new(records);
        let armed = self.deadline.arm(self.timeout);
        let ran = match &self.query {
            Query::Gathered(query) => {
                let columns = Columns::new(&self.output, batch.num_rows(), self.rows_bytes_max);
                let schema = self.session.schema().clone();
                let (columns, ran) = self.session.gather(query, (&schema, batch), pace.clone(), columns);
                match ran {
                    Ok(()) => columns.finish().map_err(Ended::Odd),
                    Err(_) if columns.is_full() => Err(Ended::TooLarge),
                    Err(failed) => Err(Ended::Failed(failed)),
                }
            }
            Query::Plain(sql) => self.plain(sql, batch, pace.clone()),
        };
        let timed_out = ran.is_err() && armed.passed();
        drop(armed);
        ran.map_err(|ended| self.explain(ended, timed_out, pace.last(batch.num_rows())))
    }

    fn plain(&self, sql: &str, batch: &RecordBatch, pace: Pace) -> Result<RecordBatch, Ended> {
        let mut room = self.rows_bytes_max;
        let mut full = false;
        let take = |piece: &RecordBatch| {
            let left = room.checked_sub(piece.get_array_memory_size());
            (room, full) = (left.unwrap_or(0), left.is_none());
            !full
        };
        let streamed = self.session.with_events(batch, pace, |connection| stream(connection, sql, take));
        match streamed {
            Ok(_) if full => Err(Ended::TooLarge),
            Ok((schema, pieces)) => self.join(&schema, &pieces).map_err(Ended::Odd),
            // Its class is not passed on, but that of the same failure where its rows are not wanted is.
            Err(error) if batch.num_rows() == 1 => Err(Ended::Failed(match self.session.fails(sql, batch) {
                Some(failed) => failed,
                None => Failed { class: Class::Other, message: message(&error) },
            })),
            Err(error) => Err(Ended::Failed(Failed { class: Class::Other, message: message(&error) })),
        }
    }

    /// Says what it means that a query has ended early.
    fn explain(&self, ended: Ended, timed_out: bool, at: Option<Range<usize>>) -> SqlError {
        if let Some(fault) = callback::take_fault() {
            return SqlError::Fatal(Error::internal(format!("a function of Pintail's own failed in DuckDB: {fault}")));
        }
        let (kind, reason) = match ended {
            Ended::Odd(error) => return SqlError::Fatal(error),
            _ if timed_out => {
                let timeout = humantime::format_duration(self.timeout);
                (FailureKind::TimedOut, format!("the SQL took longer than `transform.timeout` ({timeout})"))
            }
            Ended::TooLarge => {
                let max = self.rows_bytes_max;
                (FailureKind::TooLarge, format!("the SQL makes rows of more than `transform.rows_bytes_max` ({max} bytes)"))
            }
            Ended::Failed(failed) => (failed.class.into(), one_line(&failed.message)),
        };
        SqlError::Suspect(Failure { kind, reason, at })
    }

    /// Joins what DuckDB returns vector by vector (2,048 rows): split by hive partition, such pieces would cost more than they hold.
    fn join(&self, schema: &SchemaRef, pieces: &[RecordBatch]) -> Result<RecordBatch> {
        if schema.fields() != self.output.fields() {
            let (is, should) = (columns(schema), columns(&self.output));
            return Err(Error::internal(format!("the SQL returned {is} instead of {should}")));
        }
        concat_batches(schema, pieces).map_err(|e| Error::internal("cannot join the rows that the SQL returned").with_source(e))
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
