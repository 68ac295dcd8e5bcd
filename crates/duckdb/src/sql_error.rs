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
    let line = lines.join(" ");
    of_an_extension(&line).unwrap_or(line)
}

/// What does without the extension `icu`.
const WITHOUT_ICU: &str = "times without a zone do without it (`x::TIMESTAMP` is UTC, `now()::TIMESTAMP::DATE` today)";

/// Words a message anew that says which extension DuckDB lacks; `None` if it is of something else. DuckDB's own advice, to load it, nobody can follow
/// here. Only words change by it: nothing is decided.
fn of_an_extension(message: &str) -> Option<String> {
    let named = |begin: &str, end: char| {
        let (before, rest) = message.split_once(begin)?;
        let (name, _) = rest.split_once(end)?;
        (!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).then_some((before, name))
    };
    let lacks = |name: &str| {
        let way_out = if name == "icu" { WITHOUT_ICU } else { "do without it, or use it where the files are read" };
        format!("DuckDB's extension `{name}`, which is not linked into pintail, and pintail loads none from the network: {way_out}")
    };
    if let Some((what, name)) = named(", but it exists in the ", ' ') {
        return Some(format!("{what}: it needs {}", lacks(name)));
    }
    if let Some((_, name)) = named("required extension '", ':').or_else(|| named("required extension '", '\'')) {
        return Some(format!("the SQL needs {}", lacks(name)));
    }
    let of_zones = "TIMESTAMP WITH TIME ZONE";
    let is_lacking = message.contains(&format!("Unimplemented type for cast ({of_zones}"))
        || message.split_once("No function matches").is_some_and(|(_, rest)| rest.split('.').next().unwrap_or_default().contains(of_zones));
    is_lacking.then(|| {
        let what = message.split(" Candidate functions:").next().unwrap_or(message).trim_end_matches('.');
        format!("{what}; of times with a zone that needs {}", lacks("icu"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_that_is_not_linked_in_is_named_with_a_way_out_that_can_be_gone() {
        let catalog = "Catalog Error: Scalar Function with name \"today\" is not in the catalog, but it exists in the icu extension.\n\nPlease try \
                       installing and loading the icu extension by running:\nINSTALL icu;\nLOAD icu;\n\nLINE 1: SELECT today()\n               ^";
        let loading = "Extension Autoloading Error: An error occurred while trying to automatically install the required extension 'icu:\n\
                       Loading external extensions is disabled through configuration";
        let cast = "Conversion Error: Unimplemented type for cast (TIMESTAMP WITH TIME ZONE -> DATE)";
        let plus = "Binder Error: No function matches the given name and argument types '+(TIMESTAMP WITH TIME ZONE, INTERVAL)'. You might need to \
                    add explicit type casts.\n\tCandidate functions:\n\t\"+\"(x TINYINT, /) -> TINYINT";
        for (raw, what) in [(catalog, "\"today\""), (loading, "the SQL needs"), (cast, "-> DATE)"), (plus, "'+(TIMESTAMP")] {
            let said = one_line(raw);
            assert!(said.contains("DuckDB's extension `icu`") && said.contains("none from the network") && said.contains(what), "{said}");
            assert!(said.ends_with(WITHOUT_ICU) && !said.contains("INSTALL") && !said.contains("TINYINT"), "{said}");
        }
        let spatial = one_line(&catalog.replace("icu", "spatial"));
        assert!(spatial.contains("extension `spatial`") && spatial.ends_with("use it where the files are read"), "{spatial}");
        let other = "Binder Error: No function matches the given name and argument types 'foo(VARCHAR)'. Candidate functions: x TIMESTAMP WITH TIME ZONE";
        assert_eq!(one_line(other), other);
    }

    #[test]
    fn the_excerpt_of_the_sql_is_left_out_and_the_candidates_stay() {
        let raw = "Binder Error: Referenced column \"regoin\" not found in FROM clause!\nCandidate bindings: \"region\"\n\nLINE 1: SELECT regoin FROM events\n               ^";
        assert_eq!(one_line(raw), "Binder Error: Referenced column \"regoin\" not found in FROM clause! Candidate bindings: \"region\"");
    }
}
