//! What it means that the SQL failed on a batch.
//!
//! Owns: telling a fault that some record may explain from one that none does, without reading a message; DuckDB's message on one line.
//! Does not own: finding the record that is at fault (the program does), how DuckDB classifies its errors (see `prepared`).

use std::ops::Range;

use pintail_core::error::Error;

use super::prepared::Class;

/// Why a batch's SQL failed.
#[derive(Debug)]
pub enum SqlError {
    /// Some record may be to blame: the SQL was planned and run on no rows at start, so whatever it says about rows may be their fault.
    Suspect(Failure),
    /// No record is at fault, and the line must stop.
    Fatal(Error),
}

/// A failure that some record may explain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// What DuckDB says of it, or which limit it passed; on one line.
    pub reason: String,
    /// The records that DuckDB had taken last, of those that it was given: a hint at the culprit, never a proof. Nothing if it had taken all.
    pub at: Option<Range<usize>>,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// A value could not be cast.
    Conversion,
    /// The rows take more memory than there is for them.
    OutOfMemory,
    /// The time was up.
    TimedOut,
    /// The rows take more bytes than a run may return.
    TooLarge,
    /// A check of DuckDB's own failed, and its database was opened anew.
    Broken,
    /// Anything else.
    Other,
}

impl FailureKind {
    /// Returns whether it comes of a value, and not of how much there is.
    pub fn is_of_a_value(self) -> bool {
        matches!(self, Self::Conversion | Self::Other)
    }

    /// Returns whether what runs beside it may be the cause.
    pub fn hangs_on_neighbours(self) -> bool {
        matches!(self, Self::OutOfMemory | Self::TimedOut)
    }
}

impl From<Class> for FailureKind {
    fn from(class: Class) -> Self {
        match class {
            Class::Conversion => Self::Conversion,
            Class::OutOfMemory => Self::OutOfMemory,
            Class::Broken => Self::Broken,
            Class::Other => Self::Other,
        }
    }
}

/// Returns DuckDB's message on one line, without the excerpt of the SQL beneath it.
pub(crate) fn message(error: &duckdb::Error) -> String {
    one_line(&error.to_string())
}

/// Puts a message of DuckDB on one line, without the excerpt of the SQL beneath it.
pub(crate) fn one_line(message: &str) -> String {
    let message = message.split_once("\nLINE ").map_or(message, |(before, _)| before);
    let lines: Vec<&str> = message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_excerpt_of_the_sql_is_left_out_and_the_candidates_stay() {
        let raw = "Binder Error: Referenced column \"regoin\" not found in FROM clause!\nCandidate bindings: \"region\"\n\nLINE 1: SELECT regoin FROM events\n               ^";
        assert_eq!(one_line(raw), "Binder Error: Referenced column \"regoin\" not found in FROM clause! Candidate bindings: \"region\"");
    }
}
