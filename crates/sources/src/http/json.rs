//! JSON bodies: an array of records, or a single one.
//!
//! Owns: cutting them into records, each with the bytes that it was sent with: lines where the body has one line, payloads where it has
//! several. Each element becomes one, whatever it is: whether it fits the schema is for the decoder to say.
//! Does not own: NDJSON (see `records`), decoding.

use std::fmt;

use pintail_storage::journal::{Fingerprint, Form, payloads};
use serde::de::{Deserialize, Deserializer as _, SeqAccess, Visitor};
use serde_json::Deserializer;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::refusal::Refusal;

/// Returns how many bytes a body has at most once it is cut.
pub(super) fn cut_bytes_max(body: &[u8]) -> usize {
    match form_of(body) {
        Form::Lines => body.len() + 1,
        _ => payloads::bytes_max(body.len()),
    }
}

fn form_of(body: &[u8]) -> Form {
    let one_line = memchr::memchr2(b'\n', b'\r', body.trim_ascii()).is_none();
    if one_line { Form::Lines } else { Form::Payloads }
}

/// Cuts a body into records.
///
/// # Errors
/// If it is no JSON, neither an array nor an object, or if there is something behind it.
pub(super) fn cut(body: &[u8]) -> Result<Records, Refusal> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let (line, column) = place_of(body, error.valid_up_to());
        Refusal::bad(format!("not valid UTF-8 at line {line} column {column}")).at(line, column)
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut records = Records::of(text);
    let mut json = Deserializer::from_str(text);
    let cut = match text.trim_ascii_start().as_bytes().first() {
        Some(b'[') => json.deserialize_seq(&mut records),
        Some(b'{') => <&RawValue>::deserialize(&mut json).map(|record| records.push(record)),
        first => {
            let is = if first.is_none() { "the body is empty: " } else { "" };
            return Err(Refusal::bad(format!("{is}application/json must be an array of events, or one event as an object")).at(1, 1));
        }
    };
    cut.map_err(|error| refusal(&error, ""))?;
    json.end().map_err(|error| refusal(&error, "; several events go as an array, or as application/x-ndjson with one on each line"))?;
    Ok(records)
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

/// Records that were cut.
#[derive(Debug)]
pub(super) struct Records {
    /// How they are written.
    pub form: Form,
    /// The records.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub count: u64,
    /// Of lines with spaces for the line ends within: as they were journaled before there were payloads.
    former: Sha256,
}

impl Records {
    fn of(text: &str) -> Self {
        let body = text.as_bytes();
        Self { form: form_of(body), bytes: Vec::with_capacity(cut_bytes_max(body)), count: 0, former: Sha256::new() }
    }

    fn push(&mut self, record: &RawValue) {
        let record = record.get().as_bytes();
        self.count += 1;
        if self.form == Form::Lines {
            self.bytes.extend_from_slice(record);
            self.bytes.push(b'\n');
            return;
        }
        payloads::push(&mut self.bytes, record);
        for (at, part) in record.split(|byte| matches!(byte, b'\n' | b'\r')).enumerate() {
            self.former.update(if at > 0 { &b" "[..] } else { b"" });
            self.former.update(part);
        }
        self.former.update(b"\n");
    }

    /// Returns the fingerprint of what an older Pintail made of them, if that was something else.
    pub(super) fn former(&self) -> Option<Fingerprint> {
        (self.form == Form::Payloads).then(|| Fingerprint::from_hash(self.former.clone()))
    }
}

impl<'de> Visitor<'de> for &mut Records {
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

    /// Returns the records of a body, and whether they are lines.
    fn cut_up(body: &str) -> (Vec<String>, bool) {
        let cut = cut(body.as_bytes()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let records: Vec<String> = match cut.form {
            Form::Lines => text(&cut.bytes).lines().map(Into::into).collect(),
            _ => payloads::each(&cut.bytes).map(text).collect(),
        };
        assert_eq!(records.len() as u64, cut.count);
        (records, cut.form == Form::Lines)
    }

    #[track_caller]
    fn refused_at(body: &[u8], line: usize, column: usize) {
        assert_eq!(cut(body).err().unwrap().place(), Some((line, column)), "{}", String::from_utf8_lossy(body));
    }

    #[test]
    fn each_element_of_an_array_becomes_a_record_with_its_bytes_whatever_it_is() {
        assert_eq!(cut_up("[]"), (vec![], true));
        assert_eq!(cut_up("[{\"a\": 1}, 3 ,null]\n"), (vec!["{\"a\": 1}".into(), "3".into(), "null".into()], true));
        let several = cut_up(" [ {\"a\": 1},\n {\"a\":\r\n [2]} , 3, null ]\n");
        assert_eq!(several, (vec!["{\"a\": 1}".into(), "{\"a\":\r\n [2]}".into(), "3".into(), "null".into()], false));
        assert_eq!(cut_up("\u{feff}[\"\\n\"]"), (vec!["\"\\n\"".into()], true));
    }

    #[test]
    fn a_single_object_may_stand_on_several_lines() {
        assert_eq!(cut_up("\n{\n  \"a\": 1\n}\n"), (vec!["{\n  \"a\": 1\n}".into()], false));
    }

    #[test]
    fn a_body_of_several_lines_is_known_by_what_an_older_pintail_made_of_it() {
        let former = |body: &str| cut(body.as_bytes()).unwrap().former();
        assert_eq!(former("[{\"a\":\r\n [2]},\n3]"), Some(Fingerprint::of(b"{\"a\":   [2]}\n3\n")));
        assert_eq!(former("[{\"a\": [2]}, 3]\n"), None);
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
        assert_eq!(cut_up(&deep).0.len(), 1);
    }
}
