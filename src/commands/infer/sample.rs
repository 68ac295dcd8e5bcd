//! What a sample is, where it is no NDJSON.
//!
//! Owns: telling a directory, an empty file, a JSON array, an object over several lines, CSV and what is no text; the way out of each.
//! Does not own: the guess of a schema (see `pintail_decode::infer`), what the source does with such a file (see `pintail_sources::file`).

use std::path::{Path, PathBuf};
use std::{fs, io};

use pintail_core::error::Error;
use pintail_core::invocation::word;
use serde_json::value::RawValue;

/// What a sample looks like by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Lines that may be NDJSON, or of which nothing else can be said.
    Lines,
    /// Nothing, or blank lines.
    Empty,
    /// A JSON array.
    Array,
    /// A JSON object that goes on in further lines.
    SeveralLines,
    /// Values between separators.
    Separated,
    /// Bytes that are no text.
    Binary,
}

impl Shape {
    /// Tells the shape of what begins with `head`.
    pub(super) fn of(head: &[u8]) -> Self {
        // The last character may be cut.
        let text = match str::from_utf8(head) {
            Ok(text) => text,
            Err(cut) if cut.error_len().is_none() => str::from_utf8(&head[..cut.valid_up_to()]).unwrap_or_default(),
            Err(_) => return Self::Binary,
        };
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let first = text.lines().next().unwrap_or_default();
        let is_cut = first.len() == text.len();
        match text.chars().next() {
            None => Self::Empty,
            Some('[') => Self::Array,
            Some('{') if !is_cut && serde_json::from_str::<&RawValue>(first).is_err() => Self::SeveralLines,
            _ if text.contains('\0') => Self::Binary,
            Some(c) if c != '{' && is_separated(text) => Self::Separated,
            _ => Self::Lines,
        }
    }

    /// Says what the sample `path` is, and how it becomes NDJSON; `None` of what may be NDJSON.
    pub(super) fn explained(self, path: &Path) -> Option<String> {
        let (name, file) = match path == Path::new("-") {
            true => ("standard input".to_owned(), "FILE".to_owned()),
            false => (format!("`{}`", path.display()), word(&path.display().to_string()).into_owned()),
        };
        let beside = ndjson_beside(path).display().to_string();
        let to = word(&beside);
        Some(match self {
            Self::Lines => return None,
            Self::Empty => format!("{name} is empty: take one that has records, one JSON object a line"),
            Self::Array => format!("{name} is a JSON array, and NDJSON has one object a line: `jq -c '.[]' {file} > {to}` makes it so"),
            Self::SeveralLines => {
                format!("{name} has objects over several lines, and NDJSON has each on one: `jq -c . {file} > {to}` makes it so")
            }
            Self::Separated => format!(
                "{name} looks like CSV, and NDJSON has one JSON object a line: `duckdb -c \"COPY (FROM read_csv('{}')) TO '{}' (FORMAT json)\"` \
                 makes it so",
                path.display(),
                beside
            ),
            Self::Binary => format!("{name} is no text: NDJSON has one JSON object a line, in UTF-8; compressed, gzip and zstd are read"),
        })
    }
}

/// Returns whether lines are values between separators: the first ones have the same number of one of them.
fn is_separated(text: &str) -> bool {
    const LINES: usize = 5;
    let whole = text.rfind('\n').map_or(text, |end| &text[..end]);
    [',', ';', '\t'].into_iter().any(|separator| {
        let mut counts = whole.lines().take(LINES).map(|line| line.matches(separator).count());
        counts.next().is_some_and(|first| first > 0 && counts.all(|count| count == first))
    })
}

/// Refuses a directory, with a file of it that could be the sample, and the glob for the configuration.
pub(crate) fn directory(path: &Path) -> Error {
    let mut files: Vec<PathBuf> = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.is_file() && file.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
    // One that is called NDJSON before any other.
    let is_named_so =
        |file: &PathBuf| file.extension().is_some_and(|ending| ["ndjson", "jsonl", "json"].iter().any(|known| ending == *known));
    files.sort_by_cached_key(|file| (!is_named_so(file), file.clone()));
    let shown = path.display();
    Error::config(match files.first() {
        None => format!("`{shown}` is a directory without files: name a file, which has one JSON object a line"),
        Some(first) => {
            let ending = first.extension().map_or_else(String::new, |ending| format!(".{}", ending.display()));
            format!(
                "`{shown}` is a directory: name one of its files, such as `{}`, or all of them in quotes, '{}'",
                first.display(),
                path.join(format!("*{ending}")).display()
            )
        }
    })
}

/// Returns whether opening failed because of a directory.
pub(super) fn is_directory(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::IsADirectory
}

/// Returns where a sample may be written as NDJSON: never to itself, which a shell would empty first.
fn ndjson_beside(path: &Path) -> PathBuf {
    let beside = path.with_extension("ndjson");
    match path == Path::new("-") {
        true => PathBuf::from("FILE.ndjson"),
        false if beside == path => path.with_extension("lines.ndjson"),
        false => beside,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_ndjson_is_told_by_its_first_bytes() {
        for (head, shape) in [
            ("", Shape::Empty),
            ("\u{feff}\n \n", Shape::Empty),
            ("{\"a\":1}\n{\"a\":2}\n", Shape::Lines),
            ("{\"a\":1", Shape::Lines),
            ("a word", Shape::Lines),
            (" [1]", Shape::Array),
            ("[\n{\"a\":1}\n]", Shape::Array),
            ("{\n\"a\": 1\n}\n", Shape::SeveralLines),
            ("a,b\n1,2\n", Shape::Separated),
            ("a\tb\n", Shape::Separated),
            ("PAR1\0\0", Shape::Binary),
        ] {
            assert_eq!(Shape::of(head.as_bytes()), shape, "{head:?}");
        }
        assert_eq!(Shape::of(b"{\"a\":\"\xc3"), Shape::Lines, "a character that is cut");
        assert_eq!(Shape::of(b"\xff\xfe{\0"), Shape::Binary);
    }

    #[test]
    fn no_command_writes_to_the_file_that_it_reads() {
        for shape in [Shape::Array, Shape::SeveralLines, Shape::Separated] {
            for (path, to) in [("in/a.ndjson", "in/a.lines.ndjson"), ("in/a.json", "in/a.ndjson"), ("a", "a.ndjson")] {
                let said = shape.explained(Path::new(path)).unwrap();
                assert!(said.contains(to) && (to == path || !said.contains(&format!("> {path}`"))), "{said}");
            }
        }
    }
}
