//! Records: a body cut into what the journal takes.
//!
//! Owns: which content types there are, and the cut of NDJSON. Nothing of a body that cannot be cut is kept.
//! Does not own: whether a record fits the schema: that is for the decoder, as with every source.

use axum::http::StatusCode;
use bytes::Bytes;
use pintail_core::schema::EventSchema;
use pintail_decode::is_blank;
use pintail_storage::journal::{Fingerprint, Form};

use super::budget::Held;
use super::compressed::{self, Encoding};
use super::refusal::Refusal;
use super::{json, rows};

/// What a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MediaType {
    /// NDJSON: a record on each line.
    Lines,
    /// A JSON array of records, or a single one.
    Json,
    /// An Arrow IPC stream.
    Arrow,
}

impl MediaType {
    /// Reads the header `Content-Type`.
    ///
    /// Only what a page of another site cannot send without asking is taken: no `text/plain`, and not nothing at all.
    pub(super) fn parse(header: Option<&str>) -> Result<Self, Refusal> {
        let unknown = |what: &str| {
            let why = format!(
                "{what}: send NDJSON as application/x-ndjson, an array or one event as application/json, an Arrow IPC stream as \
                 application/vnd.apache.arrow.stream"
            );
            Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why)
        };
        let Some(header) = header else { return Err(unknown("the header Content-Type is missing")) };
        let mut parts = header.split(';').map(|part| part.trim().to_ascii_lowercase());
        let media_type = match parts.next().as_deref() {
            Some("application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines") => Self::Lines,
            Some("application/json") => Self::Json,
            Some("application/vnd.apache.arrow.stream") => Self::Arrow,
            _ => return Err(unknown(&format!("the Content-Type `{}` is not taken", header.escape_debug()))),
        };
        let charset = parts.find_map(|part| part.strip_prefix("charset=").map(|charset| charset.trim_matches('"').to_owned()));
        match charset.as_deref() {
            None | Some("utf-8" | "utf8" | "us-ascii") => Ok(media_type),
            Some(_) => Err(unknown("only UTF-8 is taken")),
        }
    }
}

/// What a body may take, and must fit.
#[derive(Debug)]
pub(super) struct Rules {
    /// Its bytes once it is decompressed.
    pub decompressed_bytes_max: usize,
    /// What rows of Arrow must look like.
    pub schema: EventSchema,
    /// Bytes of a record.
    pub record_bytes_max: usize,
    /// Streams of Arrow at which the reader panicked.
    pub panics: rows::Panics,
}

/// A body that was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// How the records are written.
    pub form: Form,
    /// How many there are.
    pub records: u64,
    /// The records.
    pub body: Bytes,
    /// The fingerprint of the body as an older Pintail cut it, if that is another one.
    pub former: Option<Fingerprint>,
}

impl Cut {
    fn new(form: Form, records: u64, body: Bytes) -> Self {
        Self { form, records, body, former: None }
    }
}

/// Cuts a body into records. Blocking.
pub(super) fn cut(body: Bytes, media_type: MediaType, encoding: Encoding, rules: &Rules, held: &mut Held) -> Result<Cut, Refusal> {
    let body = compressed::decompress(body, encoding, rules.decompressed_bytes_max, held)?;
    match media_type {
        MediaType::Lines => lines(body, held),
        MediaType::Json => {
            held.try_grow(json::cut_bytes_max(&body))?;
            let records = json::cut(&body)?;
            let former = records.former();
            Ok(Cut { former, ..Cut::new(records.form, records.count, records.bytes.into()) })
        }
        MediaType::Arrow => {
            held.try_grow(body.len())?;
            let records = rows::check(&body, &rules.schema, rules.decompressed_bytes_max, rules.record_bytes_max, &rules.panics)?;
            Ok(Cut::new(Form::Arrow, records, body))
        }
    }
}

/// Returns whether a line is a record. Zeros are a hole in a file; in a body they are what the client sent, and become a dead letter.
fn is_record(line: &[u8]) -> bool {
    line.first() == Some(&0) || !is_blank(line)
}

/// Cuts NDJSON. A body without blank lines, and with an end to its last one, stays as it is.
fn lines(body: Bytes, held: &mut Held) -> Result<Cut, Refusal> {
    let (mut start, mut records, mut blank) = (0, 0, false);
    for end in memchr::memchr_iter(b'\n', &body) {
        // Of a million lines hardly one is blank.
        if body[start] != b'{' && !is_record(&body[start..end]) {
            blank = true;
        } else {
            records += 1;
        }
        start = end + 1;
    }
    if !blank && start == body.len() {
        return Ok(Cut::new(Form::Lines, records, body));
    }
    held.try_grow(body.len() + 1)?;
    let mut whole = Vec::with_capacity(body.len() + 1);
    records = 0;
    for line in body.split(|byte| *byte == b'\n').filter(|line| is_record(line)) {
        whole.extend_from_slice(line);
        whole.push(b'\n');
        records += 1;
    }
    Ok(Cut::new(Form::Lines, records, whole.into()))
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::*;

    fn cut_lines(body: &'static str) -> (u64, String) {
        let cut = lines(Bytes::from_static(body.as_bytes()), &mut Budget::new(1 << 20).hold()).unwrap();
        (cut.records, String::from_utf8(cut.body.to_vec()).unwrap())
    }

    #[test]
    fn whole_lines_stay_as_they_are_without_a_copy() {
        let body = Bytes::from_static(b"{}\nnonsense\n {}\r\n");
        let cut = lines(body.clone(), &mut Budget::new(0).hold()).unwrap();
        assert_eq!((cut.records, cut.body.as_ptr()), (3, body.as_ptr()));
    }

    #[test]
    fn blank_lines_are_no_records_and_the_last_line_gets_its_end() {
        assert_eq!(cut_lines(""), (0, "".into()));
        assert_eq!(cut_lines("\n \t\r\n\u{feff}\n"), (0, "".into()));
        assert_eq!(cut_lines("\0\0"), (1, "\0\0\n".into()));
        assert_eq!(cut_lines("\0 \n\u{a0}\n\u{1e}\n\u{c}\n \n"), (4, "\0 \n\u{a0}\n\u{1e}\n\u{c}\n".into()));
        assert_eq!(cut_lines("{\"a\":1}"), (1, "{\"a\":1}\n".into()));
        assert_eq!(cut_lines("{}\n\n{}\n"), (2, "{}\n{}\n".into()));
    }

    #[test]
    fn what_a_page_of_another_site_can_send_is_no_known_type() {
        for other in
            [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("multipart/form-data; boundary=x"), Some("")]
        {
            assert_eq!(MediaType::parse(other).unwrap_err().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{other:?}");
        }
        assert_eq!(MediaType::parse(Some("Application/JSON; Charset=\"UTF-8\"")), Ok(MediaType::Json));
        assert!(MediaType::parse(Some("application/json; charset=utf-16")).is_err());
    }
}
