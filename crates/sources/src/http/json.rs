//! JSON bodies: an array of records, or a single one.
//!
//! Owns: cutting them into lines. Each element becomes one, whatever it is: whether it fits the schema is for the decoder to say.
//! Does not own: NDJSON (see `records`), decoding.

use std::fmt;

use serde::de::{Deserialize, Deserializer as _, SeqAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;

use super::refusal::Refusal;

/// Cuts a body into lines, and counts them.
///
/// # Errors
/// If it is no JSON, neither an array nor an object, or if there is something behind it.
pub(super) fn cut(body: &[u8]) -> Result<(Vec<u8>, u64), Refusal> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let (line, column) = place_of(body, error.valid_up_to());
        Refusal::bad(format!("not valid UTF-8 at line {line} column {column}")).at(line, column)
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Lines { bytes: Vec::with_capacity(text.len() + 1), count: 0 };
    let mut json = Deserializer::from_str(text);
    let cut = match text.trim_ascii_start().as_bytes().first() {
        Some(b'[') => json.deserialize_seq(&mut lines),
        Some(b'{') => <&RawValue>::deserialize(&mut json).map(|record| lines.push(record)),
        _ => return Err(Refusal::bad("application/json must be an array of events, or one event as an object").at(1, 1)),
    };
    cut.map_err(|error| refusal(&error, ""))?;
    json.end().map_err(|error| refusal(&error, "; several events go as an array, or as application/x-ndjson with one on each line"))?;
    Ok((lines.bytes, lines.count))
}

fn refusal(error: &serde_json::Error, hint: &str) -> Refusal {
    Refusal::bad(format!("not valid JSON: {error}{hint}")).at(error.line(), error.column())
}

/// Returns line and column of a byte.
fn place_of(body: &[u8], at: usize) -> (usize, usize) {
    let before = &body[..at];
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |end| end + 1);
    (memchr::memchr_iter(b'\n', before).count() + 1, at - line_start + 1)
}

struct Lines {
    bytes: Vec<u8>,
    count: u64,
}

impl Lines {
    fn push(&mut self, record: &RawValue) {
        // Outside of its texts, where it stands as \n, a line end is whitespace.
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(record.get().as_bytes());
        for byte in &mut self.bytes[begin..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        self.bytes.push(b'\n');
        self.count += 1;
    }
}

impl<'de> Visitor<'de> for &mut Lines {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(record) = elements.next_element::<&RawValue>()? {
            self.push(record);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(body: &str) -> (String, u64) {
        let (bytes, count) = cut(body.as_bytes()).unwrap();
        (String::from_utf8(bytes).unwrap(), count)
    }

    #[track_caller]
    fn refused_at(body: &[u8], line: usize, column: usize) {
        assert_eq!(cut(body).unwrap_err().place(), Some((line, column)), "{}", String::from_utf8_lossy(body));
    }

    #[test]
    fn each_element_of_an_array_becomes_a_line_whatever_it_is() {
        assert_eq!(lines("[]"), (String::new(), 0));
        assert_eq!(lines(" [ {\"a\": 1},\n {\"a\":\r\n [2]} , 3, null ]\n"), ("{\"a\": 1}\n{\"a\":   [2]}\n3\nnull\n".into(), 4));
        assert_eq!(lines("\u{feff}[\"\\n\"]"), ("\"\\n\"\n".into(), 1));
    }

    #[test]
    fn a_single_object_may_stand_on_several_lines() {
        assert_eq!(lines("\n{\n  \"a\": 1\n}\n"), ("{   \"a\": 1 }\n".into(), 1));
    }

    #[test]
    fn what_is_broken_is_named_by_line_and_column() {
        refused_at(b"[{\"a\":1},\n {\"a\":}]", 2, 7);
        refused_at(b"[{\"a\":1}", 1, 8);
        refused_at(b"{\"a\":1}\n{\"a\":2}", 2, 1);
        refused_at(b"[1]\n x", 2, 2);
        refused_at(b"[\"a\nb\"]", 1, 3);
        refused_at(b"[\n\"\xff\"]", 2, 2);
        refused_at(b"7", 1, 1);
        refused_at(b"  ", 1, 1);
    }

    #[test]
    fn a_very_deep_element_does_not_end_the_process() {
        let deep = format!("[{}1{}]", "[".repeat(500_000), "]".repeat(500_000));
        assert_eq!(lines(&deep).1, 1);
    }
}
