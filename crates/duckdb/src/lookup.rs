//! Lookup tables: files that the SQL may join.
//!
//! Owns: reading a Parquet, CSV or NDJSON file to Arrow, and the SHA-256 of exactly what was read.
//! Does not own: the tables in the engine's database, and when they are replaced (see the engine).
//!
//! The engine's database is closed to files and cannot be opened again, so a file is read through a second one that lives as long.

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use duckdb::{Config, Connection};
use pintail_core::batch::LookupVersion;
use pintail_core::digest::sha256_of;
use pintail_core::error::{Error, Result};
use pintail_core::transform::LookupConfig;

use super::sql::{collect, literal};
use super::sql_error::message;

/// A lookup file's content.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// The table's name and the hash of the file.
    pub version: LookupVersion,
    /// The columns.
    pub schema: SchemaRef,
    /// The rows.
    pub rows: Vec<RecordBatch>,
}

impl Lookup {
    /// Reads a file.
    pub(crate) fn read(config: &LookupConfig) -> Result<Self> {
        let sha256 = hash(config)?;
        let (schema, rows) = rows(config)?;
        // DuckDB reads the file itself, some formats in several passes; what it saw is named by a hash only if that did not change.
        if hash(config)? != sha256 {
            return Err(Error::try_again(format!(
                "lookup `{}`: `{}` changed while it was read: replace it with a rename instead of writing into it",
                config.name,
                config.path.display()
            )));
        }
        Ok(Self { version: LookupVersion { name: config.name.clone(), sha256 }, schema, rows })
    }
}

fn hash(config: &LookupConfig) -> Result<String> {
    let digest = File::open(&config.path).and_then(sha256_of);
    digest.map_err(|e| Error::config(format!("lookup `{}`: cannot read `{}`", config.name, config.path.display())).with_source(e))
}

fn rows(config: &LookupConfig) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let refused = |reason: &str| Error::config(format!("lookup `{}`: cannot read `{}`: {reason}", config.name, config.path.display()));
    let reader = reader(&config.path).map_err(|reason| refused(&reason))?;
    let read = || {
        let config = Config::default().threads(1)?.enable_autoload_extension(false)?;
        collect(&Connection::open_in_memory_with_flags(config)?, &format!("SELECT * FROM {reader}"))
    };
    read().map_err(|e| refused(&message(&e)))
}

/// Returns the table function that reads a file, told by its ending.
fn reader(path: &Path) -> Result<String, String> {
    let text = path.to_str().ok_or("the path is not UTF-8")?;
    let name = text.to_ascii_lowercase();
    let bare = [".gz", ".zst"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
    let file = literal(&without_globs(text));
    if name.ends_with(".parquet") {
        Ok(format!("read_parquet({file})"))
    } else if bare.ends_with(".csv") || bare.ends_with(".tsv") {
        Ok(format!("read_csv({file})"))
    } else if bare.ends_with(".ndjson") || bare.ends_with(".jsonl") {
        Ok(format!("read_json({file}, format = 'newline_delimited')"))
    } else {
        Err("its ending tells no format: .parquet, .csv, .tsv, .ndjson or .jsonl is needed".to_owned())
    }
}

/// Makes DuckDB take a path as it is: `[*]` matches `*` alone.
fn without_globs(path: &str) -> String {
    let escape = |c: char| if "*?[".contains(c) { format!("[{c}]") } else { c.to_string() };
    path.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_quotes_and_wildcards_is_read_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("it's [a] *.csv");
        std::fs::write(&path, "id,name\n1,one\n").unwrap();
        std::fs::write(dir.path().join("it's [a] b.csv"), "id,name\n2,two\n").unwrap();
        let lookup = Lookup::read(&LookupConfig { name: "l".into(), path }).unwrap();
        assert_eq!(lookup.rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    }

    #[test]
    fn a_file_of_no_known_format_is_refused_with_the_formats() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.xlsx");
        std::fs::write(&path, "").unwrap();
        let error = Lookup::read(&LookupConfig { name: "l".into(), path }).unwrap_err();
        assert!(error.to_string().contains("l.xlsx`: its ending tells no format: .parquet, .csv"), "{error}");
    }
}
