//! Avro object container files, as far as manifests need them.
//!
//! Owns: reading and writing values by a schema (Avro specification 1.11), blocks without compression and with deflate; fields are told by the
//! `field-id` that Iceberg puts into schemas, so what another writer calls them, or adds, makes no difference.
//! Does not own: the schemas of manifests (see `manifest`).
//!
//! By hand, since the crates of the field cost this workspace more than they are: 17 crates, a second `rand`, and features of `syn` below DuckDB,
//! which would be compiled anew.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde_json::Value as Json;

/// What a file begins with.
const MAGIC: &[u8] = b"Obj\x01";
/// Bytes of a block, decompressed: no file of ours comes near, and a broken length must not take the memory.
const BLOCK_MAX: u64 = 1 << 30;
/// Bytes after which a block of ours ends.
const BLOCK: usize = 1 << 20;
/// Depth of nested values.
const DEPTH_MAX: usize = 32;

/// A value. A record's fields are found by their ids.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Boolean(bool),
    Long(i64),
    /// The bits of a floating-point number, of four or of eight bytes.
    Float(u64),
    Bytes(Vec<u8>),
    Text(String),
    Array(Vec<Value>),
    Map(Vec<(String, Value)>),
    Record(Record),
}

/// The fields of a record, by id.
pub(crate) type Record = BTreeMap<i32, Value>;

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
enum Schema {
    Null,
    Boolean,
    /// Of 32 or 64 bits: they are written alike.
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum,
    Array(Box<Schema>),
    Map(Box<Schema>),
    Union(Vec<Schema>),
    /// The fields with their ids; what has none is read and forgotten.
    Record(Vec<(Option<i32>, Schema)>),
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct File {
    /// What is said of it in its head, without what is Avro's own but the schema.
    pub metadata: BTreeMap<String, Vec<u8>>,
    /// The values.
    pub records: Vec<Record>,
}

/// Reads a file.
pub(super) fn read(bytes: &[u8]) -> Result<File, String> {
    let mut at = Cursor { rest: bytes };
    if at.take(MAGIC.len())? != MAGIC {
        return Err("it is no Avro file".into());
    }
    let mut metadata = BTreeMap::new();
    let head = Schema::Map(Box::new(Schema::Bytes));
    if let Value::Map(entries) = at.value(&head, 0)? {
        metadata.extend(entries.into_iter().map(|(key, value)| match value {
            Value::Bytes(bytes) => (key, bytes),
            _ => (key, Vec::new()),
        }));
    }
    let schema: Json = serde_json::from_slice(metadata.get("avro.schema").ok_or("it has no schema")?).map_err(|e| e.to_string())?;
    let schema = Schema::parse(&schema)?;
    let codec = metadata.remove("avro.codec").unwrap_or_default();
    let sync = at.take(16)?;
    let mut records = Vec::new();
    while !at.rest.is_empty() {
        let (count, length) = (at.long()?, at.length()?);
        let block = at.take(length)?;
        let block = match codec.as_slice() {
            b"" | b"null" => block.to_vec(),
            b"deflate" => inflate(block)?,
            other => return Err(format!("it is compressed by `{}`, which this pintail does not read", String::from_utf8_lossy(other))),
        };
        if usize::try_from(count).map_or(true, |count| count > block.len()) {
            return Err("a block has not the values that it says".into());
        }
        let mut inside = Cursor { rest: &block };
        for _ in 0..count {
            match inside.value(&schema, 0)? {
                Value::Record(record) => records.push(record),
                _ => return Err("its values are no records".into()),
            }
        }
        if at.take(16)? != sync {
            return Err("a block does not end where it says".into());
        }
    }
    Ok(File { metadata, records })
}

/// Writes a file of `records`, whose schema is among the `metadata`.
pub(super) fn write(metadata: &BTreeMap<String, Vec<u8>>, records: &[Record]) -> Result<Vec<u8>, String> {
    let schema: Json = serde_json::from_slice(metadata.get("avro.schema").ok_or("it has no schema")?).map_err(|e| e.to_string())?;
    let schema = Schema::parse(&schema)?;
    let sync = rand::random::<u128>().to_le_bytes();
    let mut out = MAGIC.to_vec();
    let head = metadata.iter().map(|(key, value)| (key.clone(), Value::Bytes(value.clone())));
    let head = head.chain([("avro.codec".to_owned(), Value::Bytes(b"deflate".to_vec()))]).collect();
    put(&mut out, &Schema::Map(Box::new(Schema::Bytes)), &Value::Map(head))?;
    out.extend(sync);
    let (mut block, mut count) = (Vec::new(), 0);
    for (place, record) in records.iter().enumerate() {
        put_record(&mut block, &schema, record)?;
        count += 1;
        if block.len() >= BLOCK || place + 1 == records.len() {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            let packed = encoder.write_all(&block).and_then(|()| encoder.finish()).map_err(|e| e.to_string())?;
            put_long(&mut out, count);
            put_length(&mut out, packed.len());
            out.extend(packed);
            out.extend(sync);
            (block, count) = (Vec::new(), 0);
        }
    }
    Ok(out)
}

fn inflate(block: &[u8]) -> Result<Vec<u8>, String> {
    let mut inflated = Vec::new();
    let read = DeflateDecoder::new(block).take(BLOCK_MAX).read_to_end(&mut inflated).map_err(|e| e.to_string())?;
    if read as u64 == BLOCK_MAX { Err("a block is too large".into()) } else { Ok(inflated) }
}

impl Schema {
    fn parse(json: &Json) -> Result<Self, String> {
        Self::within(json, &mut BTreeMap::new(), 0)
    }

    fn within(json: &Json, known: &mut BTreeMap<String, Self>, depth: usize) -> Result<Self, String> {
        if depth > DEPTH_MAX {
            return Err("its schema is nested too deeply".into());
        }
        let of = |json: &Json, known: &mut BTreeMap<String, Self>| Self::within(json, known, depth + 1);
        let kind = match json {
            Json::Array(choices) => return choices.iter().map(|choice| of(choice, known)).collect::<Result<_, _>>().map(Self::Union),
            Json::String(kind) => kind.as_str(),
            // A type may be wrapped once more.
            Json::Object(fields) => match fields.get("type") {
                Some(Json::String(kind)) => kind.as_str(),
                Some(inner) => return of(inner, known),
                None => return Err("a type of its schema has no name".into()),
            },
            _ => return Err("its schema cannot be read".into()),
        };
        let schema = match kind {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "int" | "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "bytes" => Self::Bytes,
            "string" => Self::Text,
            "enum" => Self::Enum,
            "fixed" => Self::Fixed(json["size"].as_u64().and_then(|size| usize::try_from(size).ok()).ok_or("a fixed type has no size")?),
            "array" => Self::Array(Box::new(of(&json["items"], known)?)),
            "map" => Self::Map(Box::new(of(&json["values"], known)?)),
            "record" => {
                let field = |field: &Json| {
                    let id = field["field-id"].as_i64().and_then(|id| i32::try_from(id).ok());
                    Ok::<_, String>((id, of(&field["type"], known)?))
                };
                Self::Record(json["fields"].as_array().ok_or("a record has no fields")?.iter().map(field).collect::<Result<_, _>>()?)
            }
            name => known.get(name).cloned().ok_or_else(|| format!("its schema has no type `{}`", name.escape_debug()))?,
        };
        if let (Self::Record(_) | Self::Fixed(_) | Self::Enum, Some(name)) = (&schema, json["name"].as_str()) {
            known.insert(name.to_owned(), schema.clone());
        }
        Ok(schema)
    }

    fn fits(&self, value: &Value) -> bool {
        matches!(
            (self, value),
            (Self::Null, Value::Null)
                | (Self::Boolean, Value::Boolean(_))
                | (Self::Long | Self::Enum, Value::Long(_))
                | (Self::Float | Self::Double, Value::Float(_))
                | (Self::Bytes | Self::Fixed(_), Value::Bytes(_))
                | (Self::Text, Value::Text(_))
                | (Self::Array(_), Value::Array(_))
                | (Self::Map(_), Value::Map(_))
                | (Self::Record(_), Value::Record(_))
        )
    }
}

fn put(out: &mut Vec<u8>, schema: &Schema, value: &Value) -> Result<(), String> {
    match (schema, value) {
        (Schema::Union(choices), value) => {
            let chosen = choices.iter().position(|choice| choice.fits(value)).ok_or("a value is none of those that the schema has")?;
            put_length(out, chosen);
            put(out, &choices[chosen], value)?;
        }
        (Schema::Null, Value::Null) => {}
        (Schema::Boolean, Value::Boolean(is)) => out.push(u8::from(*is)),
        (Schema::Long | Schema::Enum, Value::Long(number)) => put_long(out, *number),
        (Schema::Float, Value::Float(bits)) => out.extend(&bits.to_le_bytes()[..4]),
        (Schema::Double, Value::Float(bits)) => out.extend(bits.to_le_bytes()),
        (Schema::Fixed(size), Value::Bytes(bytes)) if bytes.len() == *size => out.extend(bytes),
        (Schema::Bytes, Value::Bytes(bytes)) => put_bytes(out, bytes),
        (Schema::Text, Value::Text(text)) => put_bytes(out, text.as_bytes()),
        (Schema::Array(item), Value::Array(items)) => {
            if !items.is_empty() {
                put_length(out, items.len());
                items.iter().try_for_each(|value| put(out, item, value))?;
            }
            out.push(0);
        }
        (Schema::Map(of), Value::Map(entries)) => {
            if !entries.is_empty() {
                put_length(out, entries.len());
                for (key, value) in entries {
                    put_bytes(out, key.as_bytes());
                    put(out, of, value)?;
                }
            }
            out.push(0);
        }
        (Schema::Record(_), Value::Record(record)) => put_record(out, schema, record)?,
        _ => return Err(format!("{value:?} is not {schema:?}")),
    }
    Ok(())
}

fn put_record(out: &mut Vec<u8>, schema: &Schema, record: &Record) -> Result<(), String> {
    let Schema::Record(fields) = schema else { return Err("the schema is no record".into()) };
    fields.iter().try_for_each(|(id, of)| put(out, of, id.and_then(|id| record.get(&id)).unwrap_or(&Value::Null)))
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend(bytes);
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    put_long(out, i64::try_from(length).expect("what is in memory has a length of less than 63 bits"));
}

fn put_long(out: &mut Vec<u8>, number: i64) {
    let mut rest = (number.cast_unsigned() << 1) ^ (number >> 63).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7F).expect("it has seven bits") | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).expect("it has seven bits"));
}

/// What is left to be read.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("it ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn long(&mut self) -> Result<i64, String> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
        }
        Err("a number in it does not end".into())
    }

    fn length(&mut self) -> Result<usize, String> {
        usize::try_from(self.long()?).map_err(|_| "a length in it is negative".into())
    }

    fn bytes(&mut self) -> Result<Vec<u8>, String> {
        let length = self.length()?;
        self.take(length).map(<[u8]>::to_vec)
    }

    fn text(&mut self) -> Result<String, String> {
        String::from_utf8(self.bytes()?).map_err(|_| "a text in it is not UTF-8".into())
    }

    /// Visits the items of an array or a map, which come in blocks.
    fn items(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        loop {
            let count = self.long()?;
            if count < 0 {
                self.long()?;
            }
            if count == 0 {
                return Ok(());
            }
            (0..count.unsigned_abs()).try_for_each(|_| item(self))?;
        }
    }

    fn value(&mut self, of: &Schema, depth: usize) -> Result<Value, String> {
        if depth > DEPTH_MAX {
            return Err("it is nested too deeply".into());
        }
        Ok(match of {
            Schema::Null => Value::Null,
            Schema::Boolean => Value::Boolean(self.take(1)?[0] != 0),
            Schema::Long | Schema::Enum => Value::Long(self.long()?),
            Schema::Float => Value::Float(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| "four bytes")?).into()),
            Schema::Double => Value::Float(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| "eight bytes")?)),
            Schema::Bytes => Value::Bytes(self.bytes()?),
            Schema::Text => Value::Text(self.text()?),
            Schema::Fixed(size) => Value::Bytes(self.take(*size)?.to_vec()),
            Schema::Array(item) => {
                let mut items = Vec::new();
                self.items(|at| {
                    // A value without bytes could come any number of times.
                    if items.len() > at.rest.len() {
                        return Err("it ends too early".into());
                    }
                    items.push(at.value(item, depth + 1)?);
                    Ok(())
                })?;
                Value::Array(items)
            }
            Schema::Map(of) => {
                let mut entries = Vec::new();
                self.items(|at| {
                    entries.push((at.text()?, at.value(of, depth + 1)?));
                    Ok(())
                })?;
                Value::Map(entries)
            }
            Schema::Union(choices) => {
                let chosen = self.length()?;
                self.value(choices.get(chosen).ok_or("a value in it is none of its schema")?, depth + 1)?
            }
            Schema::Record(fields) => {
                let mut record = Record::new();
                for (id, of) in fields {
                    let value = self.value(of, depth + 1)?;
                    record.extend(id.map(|id| (id, value)));
                }
                Value::Record(record)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Json {
        let field = |name: &str, id: i32, of: Json| json!({ "name": name, "type": of, "field-id": id });
        let pair =
            json!({ "type": "record", "name": "pair", "fields": [field("key", 11, "int".into()), field("value", 12, "bytes".into())] });
        json!({ "type": "record", "name": "all", "fields": [
            field("number", 1, "long".into()),
            field("maybe", 2, json!(["null", "string"])),
            field("pairs", 3, json!(["null", { "type": "array", "items": pair }])),
            field("again", 4, json!(["null", "pair"])),
            field("flag", 5, "boolean".into()),
            field("fixed", 6, json!({ "type": "fixed", "name": "four", "size": 4 })),
            { "name": "nameless", "type": ["null", "int"] },
            field("double", 7, "double".into()),
        ] })
    }

    fn records() -> Vec<Record> {
        let pair = |key: i64| Value::Record([(11, Value::Long(key)), (12, Value::Bytes(vec![1, 2]))].into());
        let record = |number: i64, maybe: Value, pairs: Value, again: Value| {
            let double = Value::Float(1.5_f64.to_bits());
            let fixed = Value::Bytes(vec![1, 2, 3, 4]);
            [(1, Value::Long(number)), (2, maybe), (3, pairs), (4, again), (5, Value::Boolean(true)), (6, fixed), (7, double)].into()
        };
        vec![
            record(i64::MIN, Value::Null, Value::Null, Value::Null),
            record(i64::MAX, Value::Text("ü%".into()), Value::Array(vec![pair(-1), pair(64)]), pair(i64::from(i32::MIN))),
            record(-65, Value::Text(String::new()), Value::Array(Vec::new()), Value::Null),
        ]
    }

    #[test]
    fn what_is_written_is_read_back_in_one_block_and_in_many() {
        let metadata = BTreeMap::from([("avro.schema".into(), schema().to_string().into_bytes()), ("content".into(), b"data".to_vec())]);
        for count in [0, 1, 3, 90_000] {
            let records: Vec<Record> = records().into_iter().cycle().take(count).collect();
            let read = read(&write(&metadata, &records).unwrap()).unwrap();
            assert!(read.records == records, "{count}");
            assert_eq!(read.metadata, metadata);
        }
    }

    #[test]
    fn a_file_that_is_cut_or_has_a_wrong_byte_is_refused_and_never_read_beyond_its_end() {
        let metadata = BTreeMap::from([("avro.schema".to_owned(), schema().to_string().into_bytes())]);
        let whole = write(&metadata, &records()).unwrap();
        let head = whole.len() - 60;
        for cut in (0..whole.len()).filter(|cut| *cut < 200 || *cut > head) {
            // Only a file that ends after its head is a whole one.
            if let Ok(file) = read(&whole[..cut]) {
                assert_eq!(file.records, [], "{cut}");
            }
        }
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 0x55;
            let _ = read(&broken);
        }
    }

    #[test]
    fn a_file_of_another_writer_is_read_whatever_its_fields_are_called() {
        // Written by fastavro's way: sizes of blocks with a negative count.
        let metadata = json!({ "type": "record", "name": "r", "fields": [{ "name": "x", "field-id": 1, "type": { "type": "array", "items": "int" } }] });
        let mut bytes = MAGIC.to_vec();
        let head = vec![("avro.schema".to_owned(), Value::Bytes(metadata.to_string().into_bytes()))];
        put(&mut bytes, &Schema::Map(Box::new(Schema::Bytes)), &Value::Map(head)).unwrap();
        bytes.extend([7; 16]);
        let block = [3, 4, 2, 4, 0];
        bytes.extend([2, 10]);
        bytes.extend(block);
        bytes.extend([7; 16]);
        let expected = Value::Array(vec![Value::Long(1), Value::Long(2)]);
        assert_eq!(read(&bytes).unwrap().records, [[(1, expected)].into()]);
    }
}
