//! Damage: a file that is there with its length and that DuckDB cannot read.
//!
//! Owns: whether a query fails because of its files, and which one of them it is.
//! Does not own: whether files are there with their lengths, which is known before (see [`pintail_storage::checkpoint::reader`]).
//!
//! DuckDB's message names the file only sometimes, and nothing is decided by its words: each file is read alone.

use std::fs::File;
use std::time::{Duration, Instant};

use pintail_core::error::{Error, Result};
use pintail_core::invocation::command;

use crate::prepared::Class;
use crate::raw::RawDatabase;
use crate::sql::literal;
use crate::sql_error::one_line;

/// Time for the search, after which the query's own failure is told.
const SEARCH_MAX: Duration = Duration::from_secs(10);

/// Returns whether a query that has failed may have done so because of a file that it reads. Runs it again: the first time kept only the text.
pub(super) fn may_be_to_blame(database: &RawDatabase, sql: &str) -> Result<bool> {
    let ended = database.connect()?.execute(sql);
    Ok(ended.is_err_and(|failed| !matches!(failed.class, Class::Conversion | Class::OutOfMemory)))
}

/// Refuses the first file that cannot be read.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`], naming it; [`pintail_core::error::ErrorKind::Io`] if the system gives it to nobody.
pub(super) fn refuse_unreadable(database: &RawDatabase, paths: &[String]) -> Result<()> {
    let (connection, begun) = (database.connect()?, Instant::now());
    for path in paths {
        File::open(path).map_err(|e| Error::io(format_args!("open `{path}`"), e))?;
        let read = connection.execute(&format!("SELECT * FROM read_parquet({}, hive_partitioning = false)", literal(path)));
        if let Err(failed) = read
            && failed.class != Class::OutOfMemory
        {
            return Err(Error::state(format!(
                "`{path}` is damaged, although it has the length that its record says ({}): restore it from a copy; {} names every such file, and how to do without it",
                one_line(&failed.message),
                command("verify")
            )));
        }
        if begun.elapsed() >= SEARCH_MAX {
            break;
        }
    }
    Ok(())
}
