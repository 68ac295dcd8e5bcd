//! Metadata: what Kafka says of a message beside its payload, as columns.
//!
//! Owns: the values, and how bytes become text in them.
//! Does not own: the names and types (see [`super::config::METADATA`]), which rows are kept (see `pintail_decode`), the payload (see `messages`),
//! what a message is as evidence (see `witness`).
//!
//! | column | type | |
//! |---|---|---|
//! | `_topic` | `dictionary` | |
//! | `_partition` | `int32` | |
//! | `_offset` | `int64` | |
//! | `_timestamp` | `timestamp_ms` | of the producer or the broker, as the topic is set; null if there is none |
//! | `_key` | `text` | null if there is none |
//! | `_headers` | `json` | an object in the order of the headers, a repeated one repeated; null if there are none |
//!
//! A key or header that is no UTF-8 has its odd bytes, and backslashes, as `\x..`, the way DuckDB writes a blob.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Int32Array, Int32Builder, Int64Builder, RecordBatch, StringArray, StringBuilder, TimestampMillisecondBuilder,
};
use arrow::datatypes::{Int32Type, SchemaRef};
use bytes::Bytes;
use pintail_core::batch::Records;
use pintail_core::evidence::Evidence;

use super::witness::Latest;
use crate::messages::Beside;

/// What is said of one message.
#[derive(Debug, Default)]
pub(super) struct Said<'a> {
    pub(super) offset: i64,
    pub(super) timestamp_ms: Option<i64>,
    /// The epoch of the leader that wrote it.
    pub(super) epoch: Option<i32>,
    pub(super) key: Option<&'a [u8]>,
    /// Names and values in their order; a value may be null.
    pub(super) headers: Vec<(&'a str, Option<&'a [u8]>)>,
    /// As the broker sent it; `None` in a tombstone.
    pub(super) payload: Option<&'a [u8]>,
}

/// Collects the metadata of one partition.
#[derive(Debug)]
pub(super) struct MetadataRows {
    schema: SchemaRef,
    topic: ArrayRef,
    partition: i32,
    latest: Latest,
    offsets: Int64Builder,
    timestamps: TimestampMillisecondBuilder,
    keys: StringBuilder,
    headers: StringBuilder,
}

impl MetadataRows {
    /// Begins for a partition, behind `latest`. `schema` is that of [`super::config::METADATA`].
    pub(super) fn new(schema: SchemaRef, topic: &str, partition: i32, latest: Latest) -> Self {
        Self {
            schema,
            topic: Arc::new(StringArray::from(vec![topic])),
            partition,
            latest,
            offsets: Int64Builder::new(),
            timestamps: TimestampMillisecondBuilder::new(),
            keys: StringBuilder::new(),
            headers: StringBuilder::new(),
        }
    }

    /// Returns what is known of the last message.
    pub(super) fn latest(&mut self) -> &mut Latest {
        &mut self.latest
    }
}

impl Beside for MetadataRows {
    type Of<'a> = Said<'a>;

    fn push(&mut self, said: Said<'_>) {
        self.offsets.append_value(said.offset);
        self.timestamps.append_option(said.timestamp_ms);
        self.keys.append_option(said.key.map(text).as_deref());
        self.headers.append_option((!said.headers.is_empty()).then(|| object(&said.headers)));
    }

    fn push_blank(&mut self) {
        self.offsets.append_null();
        self.timestamps.append_null();
        self.keys.append_null();
        self.headers.append_null();
    }

    fn finish(&mut self, lines: Bytes) -> Records {
        let offsets = self.offsets.finish();
        let rows = offsets.len();
        let topics = DictionaryArray::<Int32Type>::new(Int32Array::from_value(0, rows), self.topic.clone());
        let mut partitions = Int32Builder::with_capacity(rows);
        partitions.append_value_n(self.partition, rows);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(topics),
            Arc::new(partitions.finish()),
            Arc::new(offsets),
            Arc::new(self.timestamps.finish()),
            Arc::new(self.keys.finish()),
            Arc::new(self.headers.finish()),
        ];
        let metadata = RecordBatch::try_new(self.schema.clone(), columns).expect("the columns are built by the same table as their schema");
        Records::Messages { lines, metadata }
    }

    fn witness(&mut self, _sequence: u64, _payload: &[u8], said: &Said<'_>) {
        self.latest.see(said);
    }

    fn evidence(&mut self, _next: u64) -> Option<Arc<Evidence>> {
        Some(self.latest.evidence())
    }
}

/// Returns bytes as text. What is no UTF-8 is escaped, whole, so that two keys never become one.
fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes
            .iter()
            .map(|&byte| match byte {
                b' '..=b'[' | b']'..=b'~' => char::from(byte).to_string(),
                _ => format!("\\x{byte:02X}"),
            })
            .collect::<String>()
            .into(),
    }
}

/// Writes a JSON object of headers, repeated names and all.
fn object(headers: &[(&str, Option<&[u8]>)]) -> String {
    let mut json = String::from("{");
    for (index, (name, value)) in headers.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push_str(&quoted(name));
        json.push(':');
        json.push_str(&value.map_or_else(|| "null".to_owned(), |value| quoted(&text(value))));
    }
    json.push('}');
    json
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is JSON")
}

#[cfg(test)]
mod tests {
    use pintail_core::evidence::Key;
    use pintail_core::schema::EventSchema;

    use super::*;
    use crate::kafka::config::METADATA;

    #[test]
    fn every_message_has_a_row_and_a_hole_has_one_of_nulls() {
        let schema = EventSchema { columns: Vec::new(), metadata: METADATA.to_vec() }.arrow_metadata();
        let latest = Latest::new(Key::new([7; 32]), Arc::default());
        let mut rows = MetadataRows::new(schema, "events", 3, latest);
        let headers = vec![("a\"", Some(&b"1"[..])), ("b", None), ("a\"", Some(&b"\xff\\"[..]))];
        rows.push(Said { offset: 7, timestamp_ms: Some(5), key: Some(b"k"), headers, ..Said::default() });
        rows.push_blank();
        rows.push(Said { offset: 9, timestamp_ms: None, key: Some(b"\xf0k"), ..Said::default() });
        let Records::Messages { metadata, .. } = rows.finish(Bytes::new()) else { panic!("no messages") };
        let shown = arrow::util::pretty::pretty_format_batches(&[metadata]).unwrap().to_string();
        let cells: Vec<Vec<&str>> =
            shown.lines().filter(|line| line.contains("events")).map(|line| line.split('|').map(str::trim).collect()).collect();
        assert_eq!(cells[0][1..7], ["events", "3", "7", "1970-01-01T00:00:00.005", "k", r#"{"a\"":"1","b":null,"a\"":"\\xFF\\x5C"}"#]);
        assert_eq!(cells[1][1..7], ["events", "3", "", "", "", ""]);
        assert_eq!(cells[2][1..7], ["events", "3", "9", "", "\\xF0k", ""]);
    }
}
