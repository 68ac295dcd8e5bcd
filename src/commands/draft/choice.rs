//! Choice: one of several candidates, by a person or without one.
//!
//! Owns: asking at a terminal, what an answer means, and saying what was chosen and what else there was.
//! Does not own: which candidates there are (see [`super`]).

use std::io::{BufRead, Write};

use itertools::Itertools;
use pintail_core::error::{Error, Result};
use pintail_core::escape;

/// Candidates that are named.
const NAMED_MAX: usize = 4;
/// Wrong answers that are taken before the choice is made without.
const ANSWERS_MAX: usize = 3;
/// What a person answers who wants none.
const NONE: &str = "-";

/// A person at a terminal.
pub(crate) struct Person<'a> {
    /// What is typed.
    pub from: &'a mut dyn BufRead,
    /// Where questions are read.
    pub to: &'a mut dyn Write,
}

/// Chooses one of several candidates, each with what is shown of it: the first, or what a person says.
pub(super) fn choose(candidates: &[(String, String)], question: &str, person: Option<&mut Person<'_>>) -> Result<Option<usize>> {
    let first = (!candidates.is_empty()).then_some(0);
    let (Some(person), 2..) = (person, candidates.len()) else { return Ok(first) };
    let failed = |e| Error::io("ask on the terminal", e);
    let shown = candidates.iter().map(|(_, shown)| escape::line(shown)).join("; ");
    writeln!(person.to, "{question} {shown}; {NONE} for none").map_err(failed)?;
    for _ in 0..ANSWERS_MAX {
        write!(person.to, "[{}] ", escape::line(&candidates[0].0)).and_then(|()| person.to.flush()).map_err(failed)?;
        let mut answer = String::new();
        person.from.read_line(&mut answer).map_err(failed)?;
        match answer.trim() {
            "" => return Ok(first),
            NONE => return Ok(None),
            name => match candidates.iter().position(|(known, _)| known == name) {
                Some(at) => return Ok(Some(at)),
                None => writeln!(person.to, "`{}` is none of them", escape::line(name)).map_err(failed)?,
            },
        }
    }
    Ok(first)
}

/// Says what was chosen, and what else there was.
pub(super) fn told(what: &str, flag: &str, chosen: Option<usize>, candidates: &[(String, String)], why_none: &str) -> String {
    let Some(chosen) = chosen else {
        let why = if candidates.is_empty() { why_none } else { "as you said" };
        return format!("{what:<10}  none: {why} ({flag} COLUMN)");
    };
    let others = candidates.iter().enumerate().filter(|(at, _)| *at != chosen).map(|(_, (_, shown))| shown);
    let more = candidates.len().saturating_sub(NAMED_MAX + 1);
    let others = others.take(NAMED_MAX).join("; ");
    let others = match more {
        _ if others.is_empty() => String::new(),
        0 => format!("; or {others}"),
        more => format!("; or {others}; {more} more"),
    };
    format!("{what:<10}  {} ({flag}{others})", candidates[chosen].1)
}
