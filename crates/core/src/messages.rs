//! Messages: payloads of any bytes, and what a broker says beside each.
//!
//! Owns: how payloads lie in a chunk, where each stands in its partition, the columns of what is said beside them, and one message taken out of them whole.
//! Does not own: which messages are taken (see the sources), what a payload means (see the decoders), how a rejected one is kept on the disk (see
//! `pintail_storage::checkpoint::dead_letters`).
//!
//! | column | type | |
//! |---|---|---|
//! | `_topic` | dictionary of text | the topic, or the subject |
//! | `_partition` | `int32` | null where the broker has none |
//! | `_offset` | `int64` | the number that the broker gave it |
//! | `_timestamp` | milliseconds | null if there is none |
//! | `_key` | binary | null if there is none |
//! | `_headers` | list of names and values, in their order | null if there are none; a value may be null |

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int32Builder, Int64Builder, ListArray, ListBuilder, RecordBatch, StringBuilder,
    StringDictionaryBuilder, StructArray, StructBuilder, TimestampMillisecondBuilder, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType, UInt64Type};
use bytes::Bytes;

/// The first columns are the payload and its position, the others what is said beside it.
const BESIDE: usize = 2;
/// Bytes of a message in columns of a fixed width.
const ROW_BYTES: usize = 40;
/// Bytes of a header in columns of a fixed width.
const HEADER_BYTES: usize = 9;

static HEADER: LazyLock<Fields> =
    LazyLock::new(|| Fields::from(vec![Field::new("name", DataType::Utf8, false), Field::new("value", DataType::Binary, true)]));

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let topics = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let headers = DataType::List(Arc::new(Field::new_list_field(DataType::Struct(HEADER.clone()), false)));
    Arc::new(Schema::new(vec![
        Field::new("payload", DataType::Binary, true),
        Field::new("position", DataType::UInt64, false),
        Field::new("_topic", topics, true),
        Field::new("_partition", DataType::Int32, true),
        Field::new("_offset", DataType::Int64, true),
        Field::new("_timestamp", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("_key", DataType::Binary, true),
        Field::new("_headers", headers, true),
    ]))
});

/// A header: its name, and its value if it has one.
pub type Header<'a> = (Cow<'a, str>, Option<&'a [u8]>);

/// A message.
#[derive(Debug, Clone, Default)]
pub struct Message<'a> {
    /// The topic, or the subject.
    pub topic: Option<&'a str>,
    /// The number of its partition.
    pub partition: Option<i32>,
    /// The number that the broker gave it.
    pub offset: Option<i64>,
    /// When it was made, in milliseconds since 1970, if that is known.
    pub timestamp_ms: Option<i64>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its headers, in their order.
    pub headers: Vec<Header<'a>>,
    /// What it carries; `None` in a tombstone, which is not the same as nothing.
    pub payload: Option<&'a [u8]>,
}

impl Message<'_> {
    /// Returns about how many bytes it takes among others. One without a payload takes some, too.
    pub fn bytes(&self) -> usize {
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers = self.headers.iter().map(|(name, value)| HEADER_BYTES + name.len() + length(*value));
        ROW_BYTES + length(self.payload) + length(self.key) + headers.sum::<usize>()
    }
}

/// Headers on their own, in their order: all their bytes behind each other, since a message may have thousands of a few bytes each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Headers {
    bytes: Box<[u8]>,
    /// Where each name ends, and its value if it has one.
    ends: Box<[(u32, Option<u32>)]>,
}

impl Headers {
    /// Returns each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let mut from = 0;
        self.ends.iter().map(move |(name_end, value_end)| {
            let name = &self.bytes[from..*name_end as usize];
            let value = value_end.map(|end| &self.bytes[*name_end as usize..end as usize]);
            from = value_end.unwrap_or(*name_end) as usize;
            (std::str::from_utf8(name).expect("a name was text"), value)
        })
    }

    /// Returns how many bytes they take.
    fn bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.ends)
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, Option<V>)> for Headers {
    fn from_iter<T: IntoIterator<Item = (N, Option<V>)>>(headers: T) -> Self {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let mut append = |part: &[u8]| {
            bytes.extend_from_slice(part);
            u32::try_from(bytes.len()).expect("no broker takes a message of 4 GiB")
        };
        for (name, value) in headers {
            ends.push((append(name.as_ref().as_bytes()), value.map(|value| append(value.as_ref()))));
        }
        Self { bytes: bytes.into(), ends: ends.into() }
    }
}

/// A message without its payload, on its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Envelope {
    /// The topic, or the subject.
    pub topic: Option<Box<str>>,
    /// The number of its partition.
    pub partition: Option<i32>,
    /// The number that the broker gave it; `None` where it is its position.
    pub offset: Option<i64>,
    /// When it was made, in milliseconds since 1970, if that is known.
    pub timestamp_ms: Option<i64>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its headers.
    pub headers: Headers,
}

impl Envelope {
    /// Takes what is said of a message that stands at `position`.
    pub fn new(message: &Message<'_>, position: u64) -> Self {
        Self {
            topic: message.topic.map(Into::into),
            partition: message.partition,
            offset: message.offset.filter(|offset| u64::try_from(*offset) != Ok(position)),
            timestamp_ms: message.timestamp_ms,
            key: message.key.map(Bytes::copy_from_slice),
            headers: message.headers.iter().map(|(name, value)| (name, *value)).collect(),
        }
    }

    /// Returns the message with its payload, which stood at `position`.
    pub fn message<'a>(&'a self, position: u64, payload: Option<&'a [u8]>) -> Message<'a> {
        Message {
            topic: self.topic.as_deref(),
            partition: self.partition,
            offset: self.offset.or_else(|| i64::try_from(position).ok()),
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            headers: self.headers.iter().map(|(name, value)| (name.into(), value)).collect(),
            payload,
        }
    }

    /// Returns about how many bytes it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.key.as_ref().map_or(0, Bytes::len) + self.headers.bytes()
    }
}

/// Payloads of one partition, one behind the other: each is one record, whatever bytes it has.
#[derive(Debug, Clone)]
pub struct Payloads {
    rows: RecordBatch,
}

impl Payloads {
    /// Counts them.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns all payloads; that of a tombstone is null.
    pub fn payloads(&self) -> &BinaryArray {
        self.rows.column(0).as_binary()
    }

    /// Returns where in its partition a payload stands.
    pub fn position(&self, index: usize) -> u64 {
        self.rows.column(1).as_primitive::<UInt64Type>().value(index)
    }

    /// Returns all there is, a row each, as [`Self::from_rows`] takes it.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// Takes rows that came out of [`Self::rows`]; `None` if they did not.
    pub fn from_rows(rows: RecordBatch) -> Option<Self> {
        (rows.schema().fields() == SCHEMA.fields()).then_some(Self { rows })
    }

    /// Returns what is said beside the payloads, a row each: the columns above.
    pub fn beside(&self) -> RecordBatch {
        let columns: Vec<usize> = (BESIDE..self.rows.num_columns()).collect();
        self.rows.project(&columns).expect("the columns are there")
    }

    /// Returns one message whole.
    pub fn message(&self, index: usize) -> Message<'_> {
        let [topics, partitions, offsets, timestamps, keys, headers] = std::array::from_fn(|column| self.rows.column(BESIDE + column));
        let topics = topics.as_dictionary::<Int32Type>();
        Message {
            topic: topics.key(index).map(|key| topics.values().as_string::<i32>().value(key)),
            partition: partitions.is_valid(index).then(|| partitions.as_primitive::<Int32Type>().value(index)),
            offset: offsets.is_valid(index).then(|| offsets.as_primitive::<Int64Type>().value(index)),
            timestamp_ms: timestamps.is_valid(index).then(|| timestamps.as_primitive::<TimestampMillisecondType>().value(index)),
            key: binary_at(keys.as_binary(), index),
            headers: headers_at(headers.as_list(), index),
            payload: binary_at(self.payloads(), index),
        }
    }

    /// Takes the first `count` off, leaving the rest in `self`; copies nothing.
    pub fn split_off_front(&mut self, count: usize) -> Self {
        let front = self.rows.slice(0, count);
        self.rows = self.rows.slice(count, self.len() - count);
        Self { rows: front }
    }
}

fn binary_at(array: &BinaryArray, index: usize) -> Option<&[u8]> {
    array.is_valid(index).then(|| array.value(index))
}

/// Returns the headers of a row of `_headers`; none for null.
pub fn headers_at(headers: &ListArray, index: usize) -> Vec<Header<'_>> {
    if headers.is_null(index) {
        return Vec::new();
    }
    let of_all: &StructArray = headers.values().as_struct();
    let (names, values) = (of_all.column(0).as_string::<i32>(), of_all.column(1).as_binary::<i32>());
    let ends = headers.value_offsets();
    let range = ends[index] as usize..ends[index + 1] as usize;
    range.map(|at| (names.value(at).into(), binary_at(values, at))).collect()
}

/// Collects payloads.
pub struct PayloadsBuilder {
    payloads: BinaryBuilder,
    positions: UInt64Builder,
    topics: StringDictionaryBuilder<Int32Type>,
    /// The topic of the last messages, and how many of them are not in `topics` yet: most have that of the one before.
    topic: (Option<String>, usize),
    partitions: Int32Builder,
    offsets: Int64Builder,
    timestamps: TimestampMillisecondBuilder,
    keys: BinaryBuilder,
    headers: ListBuilder<StructBuilder>,
    bytes: usize,
}

impl fmt::Debug for PayloadsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PayloadsBuilder").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Default for PayloadsBuilder {
    fn default() -> Self {
        let header = StructBuilder::new(HEADER.clone(), vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())]);
        let headers = ListBuilder::new(header).with_field(Field::new_list_field(DataType::Struct(HEADER.clone()), false));
        Self {
            payloads: BinaryBuilder::new(),
            positions: UInt64Builder::new(),
            topics: StringDictionaryBuilder::new(),
            topic: (None, 0),
            partitions: Int32Builder::new(),
            offsets: Int64Builder::new(),
            timestamps: TimestampMillisecondBuilder::new(),
            keys: BinaryBuilder::new(),
            headers,
            bytes: 0,
        }
    }
}

impl PayloadsBuilder {
    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts them.
    pub fn len(&self) -> usize {
        arrow::array::ArrayBuilder::len(&self.positions)
    }

    /// Returns about how many bytes they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a message that stands at `position`.
    pub fn push(&mut self, position: u64, message: &Message<'_>) {
        self.bytes += message.bytes();
        self.payloads.append_option(message.payload);
        self.positions.append_value(position);
        if self.topic.0.as_deref() != message.topic {
            self.end_of_topic();
            self.topic.0 = message.topic.map(str::to_owned);
        }
        self.topic.1 += 1;
        self.partitions.append_option(message.partition);
        self.offsets.append_option(message.offset);
        self.timestamps.append_option(message.timestamp_ms);
        self.keys.append_option(message.key);
        let header = self.headers.values();
        for (name, value) in &message.headers {
            header.field_builder::<StringBuilder>(0).expect("it is of the schema").append_value(name);
            header.field_builder::<BinaryBuilder>(1).expect("it is of the schema").append_option(*value);
            header.append(true);
        }
        self.headers.append(!message.headers.is_empty());
    }

    fn end_of_topic(&mut self) {
        let (topic, messages) = &mut self.topic;
        if *messages > 0 {
            self.topics.append_options(topic.as_deref(), std::mem::take(messages));
        }
    }

    /// Hands out what was collected, and is empty again.
    pub fn finish(&mut self) -> Payloads {
        self.end_of_topic();
        self.bytes = 0;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.payloads.finish()),
            Arc::new(self.positions.finish()),
            Arc::new(self.topics.finish()),
            Arc::new(self.partitions.finish()),
            Arc::new(self.offsets.finish()),
            Arc::new(self.timestamps.finish()),
            Arc::new(self.keys.finish()),
            Arc::new(self.headers.finish()),
        ];
        let rows = RecordBatch::try_new(SCHEMA.clone(), columns).expect("the columns are built by the same table as their schema");
        Payloads { rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> Vec<Message<'static>> {
        let headers = vec![("a".into(), Some(&b"\xff"[..])), ("".into(), None), ("a".into(), Some(b""))];
        vec![
            Message { topic: Some("events"), partition: Some(3), offset: Some(7), payload: Some(b"\0\n\xff"), ..Message::default() },
            Message { topic: Some("others"), key: Some(b"k\0"), timestamp_ms: Some(-5), headers, ..Message::default() },
            Message { payload: Some(b""), key: Some(b""), ..Message::default() },
            Message { payload: Some(b"{}"), offset: Some(100), ..Message::default() },
        ]
    }

    fn collect() -> Payloads {
        let mut builder = PayloadsBuilder::default();
        (7..).zip(&messages()).for_each(|(position, message)| builder.push(position, message));
        let payloads = builder.finish();
        assert!(builder.is_empty());
        payloads
    }

    #[test]
    fn messages_of_any_bytes_come_out_as_they_went_in_also_behind_a_cut() {
        let mut rest = collect();
        let front = rest.split_off_front(1);
        assert_eq!((front.len(), rest.len(), rest.position(0)), (1, 3, 8));
        let found = (0..1).map(|at| front.message(at)).chain((0..3).map(|at| rest.message(at)));
        let shown = |message: Message<'_>| format!("{message:?}");
        assert_eq!(found.map(shown).collect::<Vec<_>>(), messages().into_iter().map(shown).collect::<Vec<_>>());
    }

    #[test]
    fn an_envelope_gives_back_its_message_and_says_an_offset_only_where_that_is_not_the_position() {
        let payloads = collect();
        for at in 0..payloads.len() {
            let (message, position) = (payloads.message(at), payloads.position(at));
            let envelope = Envelope::new(&message, position);
            let back = envelope.message(position, message.payload);
            let expected = Message { offset: message.offset.or(Some(position as i64)), ..message.clone() };
            assert_eq!(format!("{back:?}"), format!("{expected:?}"));
        }
        let offsets = [0, 3].map(|at| Envelope::new(&payloads.message(at), payloads.position(at)).offset);
        assert_eq!(offsets, [None, Some(100)]);
    }

    #[test]
    fn short_headers_on_their_own_take_no_more_than_four_times_their_bytes() {
        let names: Vec<_> = (0..7_000).map(|n| format!("h{n}")).collect();
        let headers = names.iter().map(|name| (name.into(), Some(&b"v"[..]))).collect();
        let message = Message { headers, ..Message::default() };
        let sent: usize = names.iter().map(|name| name.len() + 1).sum();
        let envelope = Envelope::new(&message, 0);
        assert!((sent..4 * sent + size_of::<Envelope>()).contains(&envelope.bytes()), "{} of {sent}", envelope.bytes());
        assert!(message.bytes() > sent + 8 * names.len(), "{}", message.bytes());
    }

    #[test]
    fn rows_of_another_kind_are_no_payloads() {
        let payloads = collect();
        assert!(Payloads::from_rows(payloads.beside()).is_none());
        assert_eq!(Payloads::from_rows(payloads.rows().clone()).unwrap().len(), 4);
    }
}
