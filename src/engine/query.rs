//! Reading SQL over committed files, for `pintail query`.
//!
//! Owns: a database that sees the files as `events` and nothing else, and one `SELECT` over it.
//! Does not own: which files are committed (the caller knows from the records), the looks of the result (see `commands::query`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use duckdb::Connection;

use super::raw::RawDatabase;
use super::session::{collect, literal, quoted};
use super::sql_error::message;
use super::statement::Select;
use crate::error::{Error, Result};

/// Runs one `SELECT` over `files` (relative to `out`) as `events`. `partition_by` holds the partition columns with their DuckDB types:
/// guessed from the paths, `007` would be 7.
///
/// # Errors
/// [`crate::error::ErrorKind::Config`] if the text is not one `SELECT` or fails; [`crate::error::ErrorKind::TryAgain`] if there are no files.
pub fn query(out: &Path, partition_by: &[(String, String)], files: &[PathBuf], sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    if files.is_empty() {
        return Err(Error::try_again(format!("`{}`: nothing is committed yet", out.display())));
    }
    let files = files.iter().map(|file| path_text(&out.join(file))).collect::<Result<Vec<_>>>()?;
    let database = RawDatabase::open_in_memory(&[
        ("temp_directory", ""),
        ("allow_unsigned_extensions", "false"),
        ("autoload_known_extensions", "false"),
        ("autoinstall_known_extensions", "false"),
    ])?;
    let connection = database.sql_connection()?;
    let view = view(partition_by, &files);
    connection.execute_batch(&view).map_err(|e| unreadable(out, &e))?;
    lock(&connection, &files).map_err(|e| unreadable(out, &e))?;
    let wrong = |reason: String| Error::config(format!("the query {reason}"));
    let select = Select::parse(&connection, &database.connect()?, sql).map_err(wrong)?;
    let (schema, batches) = collect(&connection, select.sql()).map_err(|e| wrong(format!("fails: {}", message(&e))))?;
    with_offsets(&schema, &batches).map_err(|e| Error::internal("cannot name the time zones of the result").with_source(e))
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
