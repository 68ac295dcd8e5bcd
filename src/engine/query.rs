//! Reading SQL over committed files, for `pintail query` and the admin server.
//!
//! Owns: a database that sees the files as `events` and nothing else, and one `SELECT` over it.
//! Does not own: which files are committed (the caller knows from the records), the looks of the result (see `commands::query`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use duckdb::Connection;

use super::deadline::Deadline;
use super::raw::RawDatabase;
use super::session::{literal, quoted};
use super::sql_error::message;
use super::statement::Select;
use crate::error::{Error, Result};

pub use super::deadline::Canceller;

/// What a query may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows of the answer; further ones are left out.
    pub rows_max: usize,
    /// Longest time.
    pub timeout: Duration,
    /// Memory of DuckDB in bytes.
    pub memory_limit: u64,
}

/// What a query returned.
#[derive(Debug)]
pub struct Answer {
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows.
    pub batches: Vec<RecordBatch>,
    /// Whether there were more rows than the limit.
    pub truncated: bool,
}

/// Runs one `SELECT` over `files` (relative to `out`) as `events`. `partition_by` holds the partition columns with their DuckDB types:
/// guessed from the paths, `007` would be 7.
///
/// # Errors
/// [`crate::error::ErrorKind::Config`] if the text is not one `SELECT` or fails; [`crate::error::ErrorKind::TryAgain`] if there are no files.
pub fn query(out: &Path, partition_by: &[(String, String)], files: &[PathBuf], sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let files = paths(out, files)?;
    let database = open(&[])?;
    let connection = database.sql_connection()?;
    let Answer { schema, batches, .. } = answer(out, (&database, &connection), partition_by, &files, sql, usize::MAX)?;
    Ok((schema, batches))
}

/// As [`query`], beside a running line: within limits, on one core. `started` gets what ends the query early.
///
/// # Errors
/// Also [`crate::error::ErrorKind::TryAgain`] if it took too long or was cancelled.
pub fn query_within(
    limits: &Limits,
    (out, partition_by, files): (&Path, &[(String, String)], &[PathBuf]),
    sql: &str,
    started: impl FnOnce(Canceller),
) -> Result<Answer> {
    let files = paths(out, files)?;
    let database = open(&[("threads", "1"), ("memory_limit", &format!("{}B", limits.memory_limit))])?;
    let connection = database.sql_connection()?;
    // Dropped before the connection: its thread holds a handle of it.
    let deadline = Deadline::new(connection.interrupt_handle())?;
    let armed = deadline.arm(limits.timeout);
    started(deadline.canceller());
    let answer = answer(out, (&database, &connection), partition_by, &files, sql, limits.rows_max);
    if answer.is_err() && armed.passed() {
        return Err(Error::try_again(format!("the query took longer than {}", humantime::format_duration(limits.timeout))));
    }
    answer
}

fn open(options: &[(&str, &str)]) -> Result<RawDatabase> {
    let closed = [
        ("temp_directory", ""),
        ("allow_unsigned_extensions", "false"),
        ("autoload_known_extensions", "false"),
        ("autoinstall_known_extensions", "false"),
    ];
    RawDatabase::open_in_memory(&[&closed, options].concat())
}

fn paths(out: &Path, files: &[PathBuf]) -> Result<Vec<String>> {
    if files.is_empty() {
        return Err(Error::try_again(format!("`{}`: nothing is committed yet", out.display())));
    }
    files.iter().map(|file| path_text(&out.join(file))).collect()
}

fn answer(
    out: &Path,
    (database, connection): (&RawDatabase, &Connection),
    partition_by: &[(String, String)],
    files: &[String],
    sql: &str,
    rows_max: usize,
) -> Result<Answer> {
    let view = view(partition_by, files);
    connection.execute_batch(&view).map_err(|e| unreadable(out, &e))?;
    lock(connection, files).map_err(|e| unreadable(out, &e))?;
    let wrong = |reason: String| Error::config(format!("the query {reason}"));
    let select = Select::parse(connection, &database.connect()?, sql).map_err(wrong)?;
    let mut answer = fetch(connection, select.sql(), rows_max).map_err(|e| wrong(format!("fails: {}", message(&e))))?;
    let named = with_offsets(&answer.schema, &answer.batches);
    (answer.schema, answer.batches) = named.map_err(|e| Error::internal("cannot name the time zones of the result").with_source(e))?;
    Ok(answer)
}

/// Fetches rows until there are enough; the rest is never made, where the query allows that.
fn fetch(connection: &Connection, sql: &str, rows_max: usize) -> duckdb::Result<Answer> {
    let mut statement = connection.prepare(sql)?;
    let stream = statement.stream_arrow([])?;
    let mut answer = Answer { schema: stream.get_schema(), batches: Vec::new(), truncated: false };
    let mut room = rows_max;
    for batch in stream {
        let batch = batch?;
        let fits = batch.num_rows().min(room);
        room -= fits;
        answer.truncated = fits < batch.num_rows();
        answer.batches.push(batch.slice(0, fits));
        if answer.truncated {
            break;
        }
    }
    Ok(answer)
}

/// Writes the time zone of DuckDB's `TIMESTAMPTZ` as an offset: arrow shows no zone by name without a database of zones.
fn with_offsets(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<(SchemaRef, Vec<RecordBatch>), ArrowError> {
    let field = |field: &FieldRef| match field.data_type() {
        DataType::Timestamp(unit, Some(zone)) if &**zone == "UTC" => {
            Arc::new(field.as_ref().clone().with_data_type(DataType::Timestamp(*unit, Some("+00:00".into()))))
        }
        _ => field.clone(),
    };
    let schema = Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Fields>()));
    let renamed = |batch: &RecordBatch| {
        let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
        RecordBatch::try_new(schema.clone(), columns.collect::<Result<_, _>>()?)
    };
    let batches = batches.iter().map(renamed).collect::<Result<_, _>>()?;
    Ok((schema, batches))
}

fn path_text(path: &Path) -> Result<String> {
    let refused = |reason: &str| Error::config(format!("`{}`: {reason}", path.display()));
    let text = path.to_str().ok_or_else(|| refused("the path is not UTF-8, which DuckDB needs"))?;
    if text.contains(['*', '?', '[']) {
        // An escaped wildcard would make DuckDB list directories, which are out of its reach once it is locked.
        return Err(refused("DuckDB takes `*`, `?` and `[` in a path as wildcards: name the dataset by a symbolic link without them"));
    }
    Ok(text.to_owned())
}

fn unreadable(out: &Path, error: &duckdb::Error) -> Error {
    let message = message(error);
    Error::state(format!("cannot read the committed files of `{}`: {message}: run `pintail verify`", out.display()))
}

fn view(partition_by: &[(String, String)], files: &[String]) -> String {
    let files: Vec<String> = files.iter().map(|file| literal(file)).collect();
    let types: Vec<String> = partition_by.iter().map(|(name, of)| format!("{}: {of}", quoted(name))).collect();
    let partitions = match types.as_slice() {
        [] => "hive_partitioning = false".to_owned(),
        types => format!("hive_partitioning = true, hive_types = {{{}}}", types.join(", ")),
    };
    format!("CREATE VIEW events AS SELECT * FROM read_parquet([{}], union_by_name = true, {partitions})", files.join(", "))
}

/// Closes the database to everything but the files. They stay writable to it, which a `SELECT` cannot use.
fn lock(connection: &Connection, files: &[String]) -> duckdb::Result<()> {
    let allowed: Vec<String> = files.iter().map(|file| literal(file)).collect();
    connection.execute_batch(&format!(
        "SET allowed_paths = [{}]; SET enable_external_access = false; SET lock_configuration = true",
        allowed.join(", ")
    ))
}
