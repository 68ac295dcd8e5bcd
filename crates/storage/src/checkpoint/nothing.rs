//! Nothing: why a dataset has no rows to be read.
//!
//! Owns: the cases, and what is said of each.
//! Does not own: finding out (see [`super::reader`]).

use std::fmt;

use pintail_core::invocation::command;
use pintail_core::quantity::counted;
use serde::{Deserialize, Serialize};

/// Why no committed file is there to be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nothing {
    /// Nothing is committed yet.
    #[default]
    Committed,
    /// Records are committed, and none of them became a row.
    Rows {
        /// The records.
        records: u64,
        /// Those of them that were rejected.
        rejected: u64,
    },
    /// All files were declared expired, and are gone.
    Left {
        /// The files.
        expired: u64,
    },
    /// The files of the last commit are on their way to their places.
    Published,
}

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed => write!(f, "nothing is committed yet"),
            Self::Rows { records, rejected } => {
                let filtered = records - rejected;
                let committed = counted(*records, "record is", "records are");
                write!(f, "{committed} committed, and none became a row: {filtered} left out by the SQL, {rejected} rejected")?;
                if *rejected > 0 { write!(f, " ({} says why)", command("dead-letters")) } else { Ok(()) }
            }
            Self::Left { expired } => write!(
                f,
                "all committed files are gone: {} declared expired ({} takes that back)",
                counted(*expired, "file was", "files were"),
                command("expire --take-back")
            ),
            Self::Published => write!(f, "the first files are being published: ask again"),
        }
    }
}
