//! Payloads that are no lines of JSON, and what a dead letter must hold of each.
//!
//! Owns: the bytes, and reading those of a dead letter.
//! Does not own: how they get to a broker, what a broker says beside them.

use serde_json::{Value, json};

/// Payloads that are no JSON object, with what stands for each in a dead letter.
pub(crate) fn bad() -> Vec<(&'static [u8], (&'static str, Value))> {
    let text = |text: &'static str| (text.as_bytes(), ("record", json!(text)));
    vec![
        text(""),
        text(" \n"),
        text("\n"),
        text("{\"id\":1}\n{\"id\":2}\r\n"),
        text("\0\0\0\0\u{5}\u{2}\u{6}abc"),
        text("\0{\"id\":9}"),
        text("{\"id\":\n\n"),
        (b"\xff\xfe\n\0", ("record_base64", json!("//4KAA=="))),
        (b"\0\0\0\0\x05\xff", ("record_base64", json!("AAAAAAX/"))),
    ]
}

/// Fails on a record with the id 7.
pub(crate) const STRICT: &str = "SELECT id + CASE WHEN id = 7 THEN CAST(region AS INTEGER) ELSE 0 END AS id, ts, region FROM events";

/// Returns the event 7 on several lines.
pub(crate) fn indented() -> String {
    "{\n  \"id\": 7,\r\n  \"ts\": 1767225600007,\n  \"region\": \"us\"\n}\n".to_owned()
}

/// Returns what tells rejected records apart wherever they are rejected: all but their place, and what a replay says.
pub(crate) fn content(letter: &Value) -> Value {
    let mut content = letter.clone();
    let fields = content.as_object_mut().unwrap();
    for field in ["partition", "offset", "tried_sql_sha256"] {
        fields.remove(field);
    }
    // What was the place of the letter is said of the message once that has another place.
    let offset = letter["message"].get("offset").unwrap_or(&letter["offset"]).clone();
    fields["message"]["offset"] = offset;
    content
}
