//! `pintail config`: what there is to know of the keys of the configuration, in the terminal and in an editor.
//!
//! Does not own: what that is (see [`Reference`]).

use std::io::Write;

use pintail_config::Examined;
use pintail_config::reference::Reference;
use pintail_core::error::{Error, Result};
use pintail_sources::registry::KINDS;

/// Columns of the narrowest terminal that this is written for.
const COLUMNS: usize = 80;

/// Explains a key, or lists those of a section. `here` is the configuration of this invocation, whose faults do not matter.
///
/// # Errors
/// `Config` if there is no such key.
pub(crate) fn explain(key: &str, here: &Examined, to: &mut dyn Write) -> Result<()> {
    let text = Reference::new(KINDS).explain(key, |key| here.given(key).map(str::to_owned))?;
    text.lines().flat_map(wrapped).try_for_each(|line| writeln!(to, "{line}")).map_err(failed)
}

/// Prints the JSON Schema of a configuration file.
pub(crate) fn schema(to: &mut dyn Write) -> Result<()> {
    let schema = Reference::new(KINDS).schema();
    writeln!(to, "{schema:#}").map_err(failed)
}

/// Breaks a line between words, so that none is wider than a terminal unless a word is. What the line begins with stays as it is.
fn wrapped(line: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in line.split(' ') {
        match lines.last_mut() {
            Some(last) if last.trim().is_empty() || last.chars().count() + 1 + word.chars().count() <= COLUMNS => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn failed(error: std::io::Error) -> Error {
    Error::io("write to standard output", error)
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn a_line_is_broken_between_words_and_keeps_what_it_begins_with() {
        assert_eq!(wrapped("  takes    true or false"), ["  takes    true or false"]);
        assert_eq!(wrapped(""), [""]);
        let words = ["word"; 40].join(" ");
        let lines = wrapped(&words);
        assert!(lines.len() == 3 && lines.iter().all(|line| line.len() <= 80), "{lines:?}");
        assert_eq!(lines.join(" "), words);
    }
}
