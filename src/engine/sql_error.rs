//! What DuckDB's errors mean: a fault of the data, or of everything else.
//!
//! Owns: telling the two apart by DuckDB's message, and making that message one line.
//! Does not own: finding the record that is at fault (the transformer bisects).

use super::callback::MARKER;
use crate::error::{Error, ErrorKind};

/// Why a batch's SQL failed.
#[derive(Debug)]
pub enum SqlError {
    /// A value of some record does not suit the SQL: without that record it runs. Holds DuckDB's reason.
    Record(String),
    /// Anything else: no record is at fault, and the line must stop.
    Fatal(Error),
}

impl SqlError {
    /// Sorts an error that DuckDB raised while the SQL ran.
    pub fn at_run(error: &duckdb::Error) -> Self {
        let message = message(error);
        if is_of_the_data(&message) {
            return Self::Record(message);
        }
        Self::Fatal(if message.starts_with("Out of Memory Error") {
            Error::config(format!(
                "the SQL needs more memory than `transform.memory_limit`: {message}: raise it, or lower `pipeline.batch_rows`"
            ))
        } else if message.starts_with("IO Error") {
            Error::new(ErrorKind::Io, format!("the SQL failed: {message}"))
        } else {
            Error::internal(format!("the SQL failed in a way that no record explains: {message}"))
        })
    }
}

/// Returns whether a message tells of a value. Errors of Pintail's own functions look the same to DuckDB, but carry a mark.
fn is_of_the_data(message: &str) -> bool {
    let prefixes = ["Conversion Error", "Out of Range Error", "Invalid Input Error"];
    prefixes.iter().any(|prefix| message.starts_with(prefix)) && !message.contains(MARKER)
}

/// Returns DuckDB's message on one line, without the excerpt of the SQL beneath it.
pub fn message(error: &duckdb::Error) -> String {
    one_line(&error.to_string())
}

/// Puts a message of DuckDB on one line, without the excerpt of the SQL beneath it.
pub fn one_line(message: &str) -> String {
    let message = message.split_once("\nLINE ").map_or(message, |(before, _)| before);
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversion_error_is_the_datas_but_not_one_that_the_scan_raised() {
        assert!(is_of_the_data("Conversion Error: Could not convert string 'x' to INT32"));
        assert!(is_of_the_data("Out of Range Error: Overflow in multiplication"));
        assert!(is_of_the_data("Invalid Input Error: cannot take logarithm of zero"));
        assert!(!is_of_the_data(&format!("Invalid Input Error: {MARKER}the slot is empty")));
        assert!(!is_of_the_data("Out of Memory Error: could not allocate block"));
        assert!(!is_of_the_data("INTERRUPT Error: Interrupted!"));
        assert!(!is_of_the_data("IO Error: says Conversion Error within"));
    }

    #[test]
    fn the_excerpt_of_the_sql_is_left_out_and_the_candidates_stay() {
        let raw = "Binder Error: Referenced column \"regoin\" not found in FROM clause!\nCandidate bindings: \"region\"\n\nLINE 1: SELECT regoin FROM events\n               ^";
        assert_eq!(one_line(raw), "Binder Error: Referenced column \"regoin\" not found in FROM clause! Candidate bindings: \"region\"");
    }
}
