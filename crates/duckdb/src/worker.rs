//! Worker: runs the SQL over one batch after the other.
//!
//! Owns: a session, its deadline and the bytes that a run may return; what a failure of the SQL is; moving to the database in use.
//! Does not own: the order of batches, and what becomes of a record that the SQL fails on (see `search`), which database that is (see
//! `databases`).

use std::cell::OnceCell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use pintail_core::error::{Error, Result};
use pintail_core::transform::TransformConfig;

use super::callback;
use super::databases::Databases;
use super::deadline::{Deadline, IsUnwanted};
use super::gather::Columns;
use super::prepared::{Class, Failed};
use super::probe::{Probe, Scope, Suspect};
use super::scan::{Pace, VECTOR_ROWS};
use super::session::{Database, Session};
use super::sql::stream;
use super::sql_error::{Failure, FailureKind, SqlError, message, one_line};
use super::statement::Select;

/// Runs the SQL on the caller's thread. Blocking; may be sent from thread to thread.
#[derive(Debug)]
pub struct Worker {
    desk: Desk,
    databases: Arc<Databases>,
    select: Select,
    /// Whether its records may be tried one by one.
    is_row_by_row: bool,
    output: SchemaRef,
    timeout: Duration,
    rows_bytes_max: usize,
    /// Whether the search of an earlier batch needed [`Scope::All`].
    needs_all: bool,
    is_unwanted: Heeded,
}

/// Says whether what runs is not wanted any more, if that is asked.
#[derive(Default, Clone)]
struct Heeded(Option<IsUnwanted>);

impl fmt::Debug for Heeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Heeded").field(&self.0.is_some()).finish()
    }
}

/// What a worker has in one database.
#[derive(Debug)]
struct Desk {
    // Before the session: its thread holds handles of the connections.
    deadline: Deadline,
    session: Session,
    query: Query,
    /// Made when it is needed for the first time: it takes many plans.
    probe: OnceCell<Option<Probe>>,
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
    /// As DuckDB says in these words: where rows are read, its class is not passed on.
    Unclassed(String),
    /// Its rows take more than `rows_bytes_max`.
    TooLarge,
    /// What it returned is not what it was checked to return.
    Odd(Error),
}

impl Desk {
    fn new(database: &Arc<Database>, select: &Select, input: &SchemaRef, output: &SchemaRef) -> Result<Self> {
        let session = Session::new(database, input)?;
        let (handle, runner) = (session.connection().interrupt_handle(), session.runner().interrupter());
        let deadline = Deadline::new(move || {
            handle.interrupt();
            runner.interrupt();
        })?;
        let query = session.gathering(select.sql(), output)?.map_or_else(|| Query::Plain(select.sql().to_owned()), Query::Gathered);
        Ok(Self { deadline, session, query, probe: OnceCell::new(), planned: Instant::now() })
    }
}

impl Worker {
    /// Makes a worker for SQL that was checked to make rows of the second schema out of such of the first.
    pub(super) fn new(
        databases: &Arc<Databases>,
        select: &Select,
        transform: &TransformConfig,
        (input, output): (SchemaRef, SchemaRef),
    ) -> Result<Self> {
        Ok(Self {
            desk: Desk::new(&databases.current(), select, &input, &output)?,
            databases: databases.clone(),
            select: select.clone(),
            is_row_by_row: !transform.per_batch,
            output,
            timeout: transform.timeout,
            rows_bytes_max: transform.rows_bytes_max,
            needs_all: false,
            is_unwanted: Heeded::default(),
        })
    }

    /// Returns how long a run may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Lets the time of further runs be up as soon as they are not wanted.
    pub fn heed(&mut self, is_unwanted: Option<IsUnwanted>) {
        self.desk.deadline.heed(is_unwanted.clone());
        self.is_unwanted = Heeded(is_unwanted);
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
        let databases = self.databases.clone();
        let _beside_others = databases.share();
        self.attempt(batch, records)
    }

    /// As [`Self::run`], while no other worker runs anything.
    pub fn run_alone(&mut self, batch: &RecordBatch) -> Result<RecordBatch, SqlError> {
        let databases = self.databases.clone();
        let _alone = databases.alone();
        self.attempt(batch, VECTOR_ROWS)
    }

    /// Looks for the records of a batch that the SQL is likely to fail on, at little cost where its shape allows. Where [`Scope::All`] was needed
    /// before, that is what is looked at first, and then no more.
    pub fn suspects(&mut self, batch: &RecordBatch, scope: Scope) -> Result<Vec<Suspect>> {
        if !self.is_row_by_row || (self.needs_all && scope == Scope::All) {
            return Ok(Vec::new());
        }
        let scope = if self.needs_all { Scope::All } else { scope };
        Ok(self.ask(|probe, session| probe.suspects(session, batch, scope))?.unwrap_or_default())
    }

    /// Returns which record of a batch each row was made of that a run over it has returned, in order, where the SQL shows it: rows that a join makes are
    /// in no order that is known.
    pub fn lineage(&mut self, batch: &RecordBatch) -> Result<Option<Vec<usize>>> {
        if !self.is_row_by_row {
            return Ok(None);
        }
        Ok(self.ask(|probe, session| probe.lineage(session, batch))?.flatten())
    }

    /// Asks the probe, if the SQL has one, for as long as a run may take.
    fn ask<T>(&mut self, question: impl FnOnce(&Probe, &mut Session) -> T) -> Result<Option<T>> {
        let databases = self.databases.clone();
        let _beside_others = databases.share();
        self.settle()?;
        let Desk { deadline, session, probe, .. } = &mut self.desk;
        let armed = deadline.arm(self.timeout);
        let probe = probe.get_or_init(|| Probe::new(session, &self.select));
        let answer = probe.as_ref().map(|probe| question(probe, session));
        drop(armed);
        self.replace_if_broken()?;
        Ok(answer)
    }

    /// Records that culprits of this SQL are found with [`Scope::All`] only.
    pub fn note_that_all_are_needed(&mut self) {
        self.needs_all = true;
    }

    /// Moves to the database in use, if that is another one by now.
    fn settle(&mut self) -> Result<()> {
        let current = self.databases.current();
        if !Arc::ptr_eq(&current, self.desk.session.database()) {
            self.desk = Desk::new(&current, &self.select, &self.desk.session.schema().clone(), &self.output)?;
            self.desk.deadline.heed(self.is_unwanted.0.clone());
        }
        Ok(())
    }

    /// Sees to it that nobody begins anything in a database that DuckDB does not vouch for.
    fn replace_if_broken(&self) -> Result<()> {
        if self.desk.session.is_broken() { self.databases.replace(self.desk.session.database()) } else { Ok(()) }
    }

    fn attempt(&mut self, batch: &RecordBatch, records: usize) -> Result<RecordBatch, SqlError> {
        let ran = self.settle().map_err(SqlError::Fatal).and_then(|()| self.run_here(batch, records));
        self.replace_if_broken().map_err(SqlError::Fatal)?;
        ran
    }

    fn run_here(&mut self, batch: &RecordBatch, records: usize) -> Result<RecordBatch, SqlError> {
        let Desk { deadline, session, query, planned, .. } = &mut self.desk;
        if !same_columns(batch.schema_ref(), session.schema()) {
            let (is, should) = (columns(batch.schema_ref()), columns(session.schema()));
            return Err(SqlError::Fatal(Error::internal(format!("a batch has the columns {is} instead of {should}"))));
        }
        if planned.elapsed() > PLAN_AGE_MAX {
            session.forget_plans();
            *planned = Instant::now();
        }
        callback::forget_fault();
        let pace = Pace::new(records);
        let armed = deadline.arm(self.timeout);
        let ran = match query {
            Query::Gathered(query) => {
                let columns = Columns::new(&self.output, batch.num_rows(), self.rows_bytes_max);
                let schema = session.schema().clone();
                let (columns, ran) = session.gather(query, (&schema, batch), pace.clone(), columns);
                match ran {
                    Ok(()) => columns.finish().map_err(Ended::Odd),
                    Err(_) if columns.is_full() => Err(Ended::TooLarge),
                    Err(failed) => Err(Ended::Failed(failed)),
                }
            }
            Query::Plain(sql) => plain(session, sql, (batch, pace.clone()), (&self.output, self.rows_bytes_max)),
        };
        // The class is that of the same failure where the rows are not wanted.
        let ran = ran.map_err(|ended| match ended {
            Ended::Unclassed(message) if !armed.passed() => {
                let again = session.fails(self.select.sql(), batch);
                Ended::Failed(again.unwrap_or(Failed { class: Class::Other, message }))
            }
            other => other,
        });
        let timed_out = ran.is_err() && armed.passed();
        drop(armed);
        ran.map_err(|ended| self.explain(ended, timed_out, pace.last(batch.num_rows())))
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
            Ended::Unclassed(message) => (FailureKind::Other, message),
        };
        SqlError::Suspect(Failure { kind, reason, at })
    }
}

/// Takes the rows of `sql` as DuckDB's own result.
fn plain(
    session: &Session,
    sql: &str,
    (batch, pace): (&RecordBatch, Pace),
    (output, bytes_max): (&SchemaRef, usize),
) -> Result<RecordBatch, Ended> {
    let mut room = bytes_max;
    let mut full = false;
    let take = |piece: &RecordBatch| {
        let left = room.checked_sub(piece.get_array_memory_size());
        (room, full) = (left.unwrap_or(0), left.is_none());
        !full
    };
    let streamed = session.with_events(batch, pace, |connection| stream(connection, sql, take));
    match streamed {
        Ok(_) if full => Err(Ended::TooLarge),
        Ok((schema, pieces)) => join(output, &schema, &pieces).map_err(Ended::Odd),
        Err(error) => Err(Ended::Unclassed(message(&error))),
    }
}

/// Joins what DuckDB returns vector by vector (2,048 rows): split by hive partition, such pieces would cost more than they hold.
fn join(output: &SchemaRef, schema: &SchemaRef, pieces: &[RecordBatch]) -> Result<RecordBatch> {
    if schema.fields() != output.fields() {
        let (is, should) = (columns(schema), columns(output));
        return Err(Error::internal(format!("the SQL returned {is} instead of {should}")));
    }
    concat_batches(schema, pieces).map_err(|e| Error::internal("cannot join the rows that the SQL returned").with_source(e))
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
