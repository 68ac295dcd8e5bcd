//! The Avro decoder: against what fastavro wrote, against an encoder of the tests, and against schemas and payloads that mean harm.

use pintail_core::batch::{Batch, OffsetUnit, Records};
use pintail_core::json_rows;
use pintail_core::messages::{Message, PayloadsBuilder};
use pintail_core::schema::{EventSchema, Format};
use serde_json::{Value, json};

use super::*;
use crate::tests::chunk;

mod hostile;
mod payloads;
mod resolution;
mod round_trip;
mod types;

/// A value as a writer has it.
#[derive(Debug, Clone, PartialEq)]
enum Written {
    Null,
    Boolean(bool),
    /// An int, a long, or the symbol of an enum.
    Integer(i64),
    /// By its bits.
    Float(u32),
    Double(u64),
    /// Bytes, or text.
    Sized(Vec<u8>),
    Fixed(Vec<u8>),
    Array(Vec<Written>),
    Map(Vec<(String, Written)>),
    Record(Vec<Written>),
    Branch(usize, Box<Written>),
}

use Written::{Array, Boolean, Branch, Double, Fixed, Float, Integer, Map, Null, Record, Sized};

/// How many items a block has, and whether it says its bytes.
#[derive(Debug, Clone, Copy)]
struct Blocks {
    items: usize,
    are_sized: bool,
}

const PLAIN: Blocks = Blocks { items: usize::MAX, are_sized: false };

fn integer(value: i64, to: &mut Vec<u8>) {
    let mut value = (value.wrapping_mul(2) ^ (value >> 63)) as u64;
    while value > 127 {
        to.push(value as u8 | 128);
        value >>= 7;
    }
    to.push(value as u8);
}

fn sized(bytes: &[u8], to: &mut Vec<u8>) {
    integer(bytes.len() as i64, to);
    to.extend(bytes);
}

impl Written {
    fn encode(&self, blocks: Blocks, to: &mut Vec<u8>) {
        match self {
            Null => {}
            Boolean(value) => to.push((*value).into()),
            Integer(value) => integer(*value, to),
            Float(bits) => to.extend(bits.to_le_bytes()),
            Double(bits) => to.extend(bits.to_le_bytes()),
            Sized(bytes) => sized(bytes, to),
            Fixed(bytes) => to.extend(bytes),
            Array(items) => write_blocks(items, blocks, to, |item, to| item.encode(blocks, to)),
            Map(pairs) => write_blocks(pairs, blocks, to, |(key, value), to| {
                sized(key.as_bytes(), to);
                value.encode(blocks, to);
            }),
            Record(fields) => fields.iter().for_each(|field| field.encode(blocks, to)),
            Branch(branch, value) => {
                integer(*branch as i64, to);
                value.encode(blocks, to);
            }
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode(PLAIN, &mut bytes);
        bytes
    }
}

fn write_blocks<T>(items: &[T], blocks: Blocks, to: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    for block in items.chunks(blocks.items) {
        let mut content = Vec::new();
        block.iter().for_each(|item| write(item, &mut content));
        if blocks.are_sized {
            integer(-(block.len() as i64), to);
            integer(content.len() as i64, to);
        } else {
            integer(block.len() as i64, to);
        }
        to.extend(content);
    }
    to.push(0);
}

fn text(text: &str) -> Written {
    Sized(text.as_bytes().to_vec())
}

fn some(branch: usize, value: Written) -> Written {
    Branch(branch, Box::new(value))
}

/// A record of these fields.
fn record(fields: Value) -> String {
    json!({ "type": "record", "name": "R", "fields": fields }).to_string()
}

fn decoder_of(schema: &str, framing: Framing) -> Avro {
    let schema = EventSchema::avro(format(schema, framing).unwrap());
    let Format::Avro(format) = &schema.format else { unreachable!() };
    Avro::new(&schema, format)
}

fn messages<'a>(payloads: impl IntoIterator<Item = Option<&'a [u8]>>) -> Batch {
    let mut builder = PayloadsBuilder::default();
    (100..).zip(payloads).for_each(|(position, payload)| builder.push(position, &Message { payload, ..Message::default() }));
    Batch::new(vec![chunk(Records::Payloads(builder.finish()), 100, OffsetUnit::Records)])
}

fn decode_all(decoder: &mut Avro, payloads: &[&[u8]]) -> Decoded {
    let decoded = decoder.decode(&messages(payloads.iter().map(|payload| Some(*payload)))).unwrap();
    assert_eq!(decoded.records_in as usize, payloads.len(), "one payload is one record");
    assert_eq!(decoded.batch.num_rows() + decoded.dead_letters.len(), payloads.len());
    for letter in &decoded.dead_letters {
        assert_eq!(letter.bytes, payloads[(letter.offset - 100) as usize], "a dead letter has its bytes");
    }
    decoded
}

fn rows_of(decoded: &Decoded) -> Vec<Value> {
    let lines = json_rows::lines(&decoded.batch).unwrap();
    lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// Decodes one payload: its row, or why there is none.
fn one(schema: &str, payload: &[u8]) -> Result<Value, String> {
    let decoded = decode_all(&mut decoder_of(schema, Framing::None), &[payload]);
    match decoded.dead_letters.first() {
        Some(letter) => Err(letter.reason.to_string()),
        None => Ok(rows_of(&decoded).remove(0)),
    }
}

/// Decodes a value of one column `v`.
fn value(of: Value, written: &[u8]) -> Result<Value, String> {
    one(&record(json!([{ "name": "v", "type": of }])), written).map(|row| row["v"].clone())
}
