//! Reading SQL over committed files, for `pintail query` and the admin server.
//!
//! Owns: a database that sees the files as `events` and nothing else, one `SELECT` over it, and opening no more files than that needs.
//! Does not own: which files are committed (the caller knows from the records), the output format (see `commands::query`).
//!
//! A query is run over an overview first, which has the values of the partition columns and the number of rows from the index (see `overview`). If
//! it needs any other column, it is run over files: those that its `WHERE` does not rule out (see `condition`).

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use duckdb::Connection;
use pintail_core::error::{Error, Result};
use pintail_core::invocation::command;
use pintail_storage::checkpoint::reader::{Committed, DataFile};
use tracing::debug;

use super::raw::RawDatabase;
use super::sql::{literal, quoted};
use super::sql_error::message;
use super::statement::Select;

pub(crate) mod as_text;
mod condition;
mod damage;
mod overview;

use overview::Overview;

/// What a query may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows of the answer; further ones are left out.
    pub rows_max: usize,
    /// Bytes of the answer as Arrow. One that has more fails while it is fetched.
    pub bytes_max: usize,
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
    /// How many files DuckDB was given: no others were opened.
    pub files: usize,
}

/// Runs one `SELECT` over the committed files of the dataset at `out` as `events`, up to `rows_max` rows of its answer.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`] if the text is not one `SELECT` or fails; [`pintail_core::error::ErrorKind::TryAgain`] if there are no files.
pub fn query(out: &Path, committed: &Committed, sql: &str, rows_max: usize) -> Result<Answer> {
    query_copies(out, out, &|_| Ok(()), committed, sql, rows_max)
}

/// As [`query`], of copies in `copies` of the files of a dataset that messages call `out`. `fetch` is told their names before they are read: of the first
/// of each set of columns, and then of those that the query needs.
///
/// # Errors
/// Also those of `fetch`.
pub fn query_copies(
    out: &Path,
    copies: &Path,
    fetch: &dyn Fn(&[String]) -> Result<()>,
    committed: &Committed,
    sql: &str,
    rows_max: usize,
) -> Result<Answer> {
    Query { out, files: copies, fetch, committed, sql, options: &[], rows_max, bytes_max: usize::MAX }.run()
}

/// As [`query`], within limits, on one core. DuckDB keeps the limit of memory where it counts: what holds a query for certain is the process
/// that it runs in (see `pintail::sql_box`).
///
/// # Errors
/// Also [`pintail_core::error::ErrorKind::Config`] if the answer has too many bytes.
pub fn query_within(limits: &Limits, out: &Path, committed: &Committed, sql: &str) -> Result<Answer> {
    let memory_limit = format!("{}B", limits.memory_limit);
    let options = [("threads", "1"), ("memory_limit", memory_limit.as_str())];
    let (rows_max, bytes_max) = (limits.rows_max, limits.bytes_max);
    Query { out, files: out, fetch: &|_| Ok(()), committed, sql, options: &options, rows_max, bytes_max }.run()
}

/// A query on its way.
struct Query<'a> {
    /// How messages call the dataset.
    out: &'a Path,
    /// Where its files are read.
    files: &'a Path,
    fetch: &'a dyn Fn(&[String]) -> Result<()>,
    committed: &'a Committed,
    sql: &'a str,
    options: &'a [(&'a str, &'a str)],
    rows_max: usize,
    bytes_max: usize,
}

impl Query<'_> {
    /// Asks the overview first, which says what the index says. Only what that cannot answer opens files, as few as it can prove to be enough.
    fn run(&self) -> Result<Answer> {
        let files = &self.committed.files;
        if files.is_empty() {
            return Err(Error::try_again(format!("`{}`: {}", self.out.display(), self.committed.nothing)));
        }
        let shape: Vec<usize> = shape(files);
        let needed = match self.look(&shape)? {
            Found::Answer(answer) => return Ok(answer),
            Found::Files(Some(files)) => with_shape(files, &shape),
            Found::Files(None) => (0..files.len()).collect(),
        };
        self.bring(&needed)?;
        let database = open(self.options)?;
        let connection = database.sql_connection()?;
        let view = format!("CREATE VIEW events AS {}", self.view(&needed)?);
        connection.execute_batch(&view).map_err(|e| self.unreadable(&database, &needed, &e))?;
        lock(&connection, &self.paths(&needed)?).map_err(|e| unreadable(self.out, &e))?;
        let select = self.parse(&database, &connection)?;
        let fetched = self.fetch(&connection, &select).map_err(|error| self.fails(&database, &select, &needed, &error))?;
        debug!(files = needed.len(), of = files.len(), "query opened files");
        self.answer(fetched, needed.len())
    }

    /// Runs the query over the overview.
    fn look(&self, shape: &[usize]) -> Result<Found> {
        self.bring(shape)?;
        let overview = Overview::new(open(self.options)?, self.committed)?;
        let described = overview.describe(&self.view(shape)?).map_err(|e| self.unreadable(overview.database(), shape, &e))?;
        lock(overview.connection(), &self.paths(shape)?).map_err(|e| unreadable(self.out, &e))?;
        let select = self.parse(overview.database(), overview.connection())?;
        match self.fetch(overview.connection(), &select) {
            Ok(fetched) => Ok(Found::Answer(self.answer(fetched, shape.len())?)),
            Err(_) if overview.is_not_enough() => Ok(Found::Files(overview.files(&select, &described))),
            Err(error) => Err(fails(&error)),
        }
    }

    /// Says why the query failed: of itself, or because of a file.
    fn fails(&self, database: &RawDatabase, select: &Select, files: &[usize], error: &duckdb::Error) -> Error {
        let blamed = damage::may_be_to_blame(database, select.sql()).and_then(|may_be| match may_be {
            true => damage::refuse_unreadable(database, &self.paths(files)?),
            false => Ok(()),
        });
        blamed.err().unwrap_or_else(|| fails(error))
    }

    /// Says why the columns of files cannot be learnt.
    fn unreadable(&self, database: &RawDatabase, files: &[usize], error: &duckdb::Error) -> Error {
        let blamed = self.paths(files).and_then(|paths| damage::refuse_unreadable(database, &paths));
        blamed.err().unwrap_or_else(|| unreadable(self.out, error))
    }

    /// Fetches rows until there are enough, or too many bytes; the rest is never made, where the query allows that.
    fn fetch(&self, connection: &Connection, select: &Select) -> duckdb::Result<Fetched> {
        let mut statement = connection.prepare(&as_text::with_lossy_columns_as_text(connection, select.sql())?)?;
        let stream = statement.stream_arrow([])?;
        let mut fetched = Fetched { schema: stream.get_schema(), batches: Vec::new(), truncated: false, bytes: 0 };
        let mut room = self.rows_max;
        for batch in stream {
            let batch = batch?;
            fetched.bytes += batch.get_array_memory_size();
            let fits = batch.num_rows().min(room);
            room -= fits;
            fetched.truncated = fits < batch.num_rows();
            fetched.batches.push(batch.slice(0, fits));
            if fetched.truncated || fetched.bytes > self.bytes_max {
                break;
            }
        }
        Ok(fetched)
    }

    fn answer(&self, fetched: Fetched, files: usize) -> Result<Answer> {
        let Fetched { schema, batches, truncated, bytes } = fetched;
        if bytes > self.bytes_max {
            return Err(too_many_bytes(self.bytes_max));
        }
        Ok(Answer { schema, batches, truncated, files })
    }

    fn parse(&self, database: &RawDatabase, connection: &Connection) -> Result<Select> {
        Select::parse(connection, &database.connect()?, self.sql).map_err(|reason| Error::config(format!("the query {reason}")))
    }

    /// Lets files be fetched that are not there yet.
    fn bring(&self, files: &[usize]) -> Result<()> {
        let name = |file: &usize| self.committed.path(&self.committed.files[*file]).to_string_lossy().into_owned();
        (self.fetch)(&files.iter().map(name).collect::<Vec<_>>())
    }

    fn paths(&self, files: &[usize]) -> Result<Vec<String>> {
        files.iter().map(|file| path_text(&self.files.join(self.committed.path(&self.committed.files[*file])))).collect()
    }

    /// Returns the query that reads files. Only where they have not all the same columns do all footers have to be read first.
    fn view(&self, files: &[usize]) -> Result<String> {
        let class = |file: &usize| self.committed.files[*file].class;
        let first = files.first().and_then(class);
        let is_uniform = first.is_some() && files.iter().all(|file| class(file) == first);
        let paths: Vec<String> = self.paths(files)?.iter().map(|path| literal(path)).collect();
        let types: Vec<String> = self.committed.partition_by.iter().map(|(name, of)| format!("{}: {of}", quoted(name))).collect();
        let partitions = match types.as_slice() {
            [] => "hive_partitioning = false".to_owned(),
            types => format!("hive_partitioning = true, hive_types = {{{}}}", types.join(", ")),
        };
        Ok(format!("SELECT * FROM read_parquet([{}], union_by_name = {}, {partitions})", paths.join(", "), !is_uniform))
    }
}

/// What the overview found.
enum Found {
    /// The answer.
    Answer(Answer),
    /// The files that it may lie in; `None` for all.
    Files(Option<Vec<usize>>),
}

/// What DuckDB has answered.
struct Fetched {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    /// Whether there were more rows than the limit.
    truncated: bool,
    /// Bytes of all batches, also of rows beyond the limit.
    bytes: usize,
}

/// Says that an answer has more bytes than it may have.
pub fn too_many_bytes(bytes_max: usize) -> Error {
    Error::config(format!("the answer has more than {bytes_max} bytes: select less, or use {}", command("query 'SELECT …'")))
}

/// Returns files that have all the columns: the first with each set of them, and each whose columns are not known.
fn shape(files: &[DataFile]) -> Vec<usize> {
    let mut seen = HashSet::new();
    let is_first = |file: &DataFile| file.class.is_none_or(|class| seen.insert(class));
    let firsts: Vec<bool> = files.iter().map(is_first).collect();
    (0..files.len()).filter(|file| firsts[*file]).collect()
}

/// Adds the files without which columns would be missing.
fn with_shape(files: Vec<usize>, shape: &[usize]) -> Vec<usize> {
    if shape.len() == 1 && !files.is_empty() {
        return files;
    }
    let all: BTreeSet<usize> = files.into_iter().chain(shape.iter().copied()).collect();
    all.into_iter().collect()
}

fn fails(error: &duckdb::Error) -> Error {
    Error::config(format!("the query fails: {}", message(error)))
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
    Error::state(format!("cannot read the committed files of `{}`: {message}: run {}", out.display(), command("verify")))
}

/// Closes the database to everything but the files. They stay writable to it, which a `SELECT` cannot use.
fn lock(connection: &Connection, files: &[String]) -> duckdb::Result<()> {
    let allowed: Vec<String> = files.iter().map(|file| literal(file)).collect();
    connection.execute_batch(&format!(
        "SET allowed_paths = [{}]; SET enable_external_access = false; SET lock_configuration = true",
        allowed.join(", ")
    ))
}
