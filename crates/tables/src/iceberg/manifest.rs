//! Manifests and the lists of them (Iceberg specification, version 2, "Manifests" and "Manifest Lists").
//!
//! Owns: their schemas, what is said in them of a file.
//! Does not own: Avro (see `avro`), which files join and leave (see `plan`).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde_json::{Value as Json, json};

use super::avro::{self, Record, Value};
use crate::facts::{DataFile, Side};
use crate::types::iceberg::bound;

/// Ids of the fields of an entry.
pub(super) mod entry {
    pub(crate) const STATUS: i32 = 0;
    pub(crate) const SNAPSHOT: i32 = 1;
    pub(crate) const FILE: i32 = 2;
    pub(crate) const SEQUENCE: i32 = 3;
    pub(crate) const FILE_SEQUENCE: i32 = 4;
    pub(crate) const PATH: i32 = 100;
    pub(crate) const PARTITION: i32 = 102;
    pub(crate) const ROWS: i32 = 103;
    pub(crate) const BYTES: i32 = 104;
}

/// Ids of the fields of a manifest in a list.
pub(super) mod listed {
    pub(crate) const PATH: i32 = 500;
    pub(crate) const SPEC: i32 = 502;
    pub(crate) const SNAPSHOT: i32 = 503;
    pub(crate) const ADDED: i32 = 504;
    pub(crate) const EXISTING: i32 = 505;
    pub(crate) const SEQUENCE: i32 = 515;
    pub(crate) const CONTENT: i32 = 517;
}

/// The status of an entry.
pub(super) const EXISTING: i64 = 0;
pub(super) const ADDED: i64 = 1;
pub(super) const DELETED: i64 = 2;

/// The ids of the lists of pairs of a column and what is known of it: of the list, the key and the value.
const SIZES: [i32; 3] = [108, 117, 118];
const VALUES: [i32; 3] = [109, 119, 120];
const NULLS: [i32; 3] = [110, 121, 122];
const LOWER: [i32; 3] = [125, 126, 127];
const UPPER: [i32; 3] = [128, 129, 130];

/// A column of the partitioning: the field of the specification, and the type that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partition {
    pub id: i32,
    pub name: String,
    pub kind: String,
}

/// What manifests say of the table.
#[derive(Debug, Clone)]
pub(super) struct Shape<'a> {
    /// The current schema.
    pub schema: &'a Json,
    /// The specification of the partitioning, and its number.
    pub spec: &'a Json,
    pub spec_id: i64,
    pub partitions: &'a [Partition],
}

/// A manifest that was made.
#[derive(Debug)]
pub(super) struct Made {
    pub bytes: Vec<u8>,
    /// What the list says of it.
    pub listed: Record,
}

fn field(id: i32, name: &str, of: impl Into<Json>) -> Json {
    json!({ "name": name, "type": of.into(), "field-id": id })
}

fn optional(id: i32, name: &str, of: impl Into<Json>) -> Json {
    json!({ "name": name, "type": ["null", of.into()], "default": null, "field-id": id })
}

fn pairs([id, key, value]: [i32; 3], name: &str, of: &str) -> Json {
    let pair =
        json!({ "type": "record", "name": format!("k{key}_v{value}"), "fields": [field(key, "key", "int"), field(value, "value", of)] });
    optional(id, name, json!({ "type": "array", "logicalType": "map", "items": pair }))
}

/// Returns a name as Avro has them, as other writers make them of those that it has not.
fn avro_name(name: &str) -> String {
    let mut made = String::new();
    for (place, c) in name.chars().enumerate() {
        match c {
            c if c.is_ascii_alphabetic() || c == '_' || (c.is_ascii_digit() && place > 0) => made.push(c),
            c if c.is_ascii_digit() => made.extend(['_', c]),
            c => made.push_str(&format!("_x{:X}", u32::from(c))),
        }
    }
    made
}

fn entry_schema(partitions: &[Partition]) -> Json {
    let partition = |of: &Partition| {
        let kind = if of.kind == "date" { json!({ "type": "int", "logicalType": "date" }) } else { Json::from(of.kind.as_str()) };
        optional(of.id, &avro_name(&of.name), kind)
    };
    let partition: Vec<Json> = partitions.iter().map(partition).collect();
    let list = |id: i32, item: &str| json!({ "type": "array", "items": item, "element-id": id });
    let file = json!({ "type": "record", "name": "r2", "fields": [
        field(134, "content", "int"),
        field(entry::PATH, "file_path", "string"),
        field(101, "file_format", "string"),
        field(entry::PARTITION, "partition", json!({ "type": "record", "name": "r102", "fields": partition })),
        field(entry::ROWS, "record_count", "long"),
        field(entry::BYTES, "file_size_in_bytes", "long"),
        pairs(SIZES, "column_sizes", "long"),
        pairs(VALUES, "value_counts", "long"),
        pairs(NULLS, "null_value_counts", "long"),
        pairs([137, 138, 139], "nan_value_counts", "long"),
        pairs(LOWER, "lower_bounds", "bytes"),
        pairs(UPPER, "upper_bounds", "bytes"),
        optional(131, "key_metadata", "bytes"),
        optional(132, "split_offsets", list(133, "long")),
        optional(135, "equality_ids", list(136, "int")),
        optional(140, "sort_order_id", "int"),
    ] });
    json!({ "type": "record", "name": "manifest_entry", "fields": [
        field(entry::STATUS, "status", "int"),
        optional(entry::SNAPSHOT, "snapshot_id", "long"),
        optional(entry::SEQUENCE, "sequence_number", "long"),
        optional(entry::FILE_SEQUENCE, "file_sequence_number", "long"),
        field(entry::FILE, "data_file", file),
    ] })
}

fn list_schema() -> Json {
    let summary = json!({ "type": "record", "name": "r508", "fields": [
        field(509, "contains_null", "boolean"),
        optional(518, "contains_nan", "boolean"),
        optional(510, "lower_bound", "bytes"),
        optional(511, "upper_bound", "bytes"),
    ] });
    json!({ "type": "record", "name": "manifest_file", "fields": [
        field(listed::PATH, "manifest_path", "string"),
        field(501, "manifest_length", "long"),
        field(listed::SPEC, "partition_spec_id", "int"),
        field(listed::CONTENT, "content", "int"),
        field(listed::SEQUENCE, "sequence_number", "long"),
        field(516, "min_sequence_number", "long"),
        field(listed::SNAPSHOT, "added_snapshot_id", "long"),
        field(listed::ADDED, "added_files_count", "int"),
        field(listed::EXISTING, "existing_files_count", "int"),
        field(506, "deleted_files_count", "int"),
        field(512, "added_rows_count", "long"),
        field(513, "existing_rows_count", "long"),
        field(514, "deleted_rows_count", "long"),
        optional(507, "partitions", json!({ "type": "array", "items": summary, "element-id": 508 })),
        optional(519, "key_metadata", "bytes"),
    ] })
}

/// Writes a manifest of `entries`. `path` is what it will be called.
pub(super) fn write(path: &str, shape: &Shape<'_>, entries: &[Record], snapshot_id: i64, sequence: i64) -> Result<Made, String> {
    let text = |text: String| text.into_bytes();
    let metadata = BTreeMap::from([
        ("avro.schema".to_owned(), text(entry_schema(shape.partitions).to_string())),
        ("schema".to_owned(), text(shape.schema.to_string())),
        ("schema-id".to_owned(), text(shape.schema["schema-id"].to_string())),
        ("partition-spec".to_owned(), text(shape.spec["fields"].to_string())),
        ("partition-spec-id".to_owned(), text(shape.spec_id.to_string())),
        ("format-version".to_owned(), text("2".into())),
        ("content".to_owned(), text("data".into())),
    ]);
    let bytes = avro::write(&metadata, entries)?;
    let count = |status: i64| entries.iter().filter(|of| long(of, entry::STATUS) == Some(status)).count();
    let rows = |status: i64| {
        let of = entries.iter().filter(|of| long(of, entry::STATUS) == Some(status));
        of.map(|of| data_file(of).and_then(|file| long(file, entry::ROWS)).unwrap_or(0)).sum::<i64>()
    };
    let number = |count: usize| Value::Long(i64::try_from(count).unwrap_or(i64::MAX));
    let of_entry = |of: &Record| long(of, entry::SEQUENCE).unwrap_or(sequence);
    let live = entries.iter().filter(|of| long(of, entry::STATUS) != Some(DELETED));
    let first = live.map(of_entry).min().unwrap_or(sequence);
    let listed = Record::from([
        (listed::PATH, Value::Text(path.to_owned())),
        (501, number(bytes.len())),
        (listed::SPEC, Value::Long(shape.spec_id)),
        (listed::CONTENT, Value::Long(0)),
        (listed::SEQUENCE, Value::Long(sequence)),
        (516, Value::Long(first)),
        (listed::SNAPSHOT, Value::Long(snapshot_id)),
        (listed::ADDED, number(count(ADDED))),
        (listed::EXISTING, number(count(EXISTING))),
        (506, number(count(DELETED))),
        (512, Value::Long(rows(ADDED))),
        (513, Value::Long(rows(EXISTING))),
        (514, Value::Long(rows(DELETED))),
        (507, Value::Array(shape.partitions.iter().map(|partition| Value::Record(summary(entries, partition))).collect())),
    ]);
    Ok(Made { bytes, listed })
}

/// Writes a list of manifests.
pub(super) fn write_list(manifests: &[Record], snapshot_id: i64, parent: Option<i64>, sequence: i64) -> Result<Vec<u8>, String> {
    let metadata = BTreeMap::from([
        ("avro.schema".to_owned(), list_schema().to_string().into_bytes()),
        ("snapshot-id".to_owned(), snapshot_id.to_string().into_bytes()),
        ("parent-snapshot-id".to_owned(), parent.map_or_else(|| "null".into(), |id| id.to_string()).into_bytes()),
        ("sequence-number".to_owned(), sequence.to_string().into_bytes()),
        ("format-version".to_owned(), b"2".to_vec()),
    ]);
    avro::write(&metadata, manifests)
}

/// Returns what a list says of the values of a partition column.
fn summary(entries: &[Record], of: &Partition) -> Record {
    let values = || {
        entries.iter().filter_map(|entry| match data_file(entry)?.get(&entry::PARTITION)? {
            Value::Record(partition) => Some(partition.get(&of.id).unwrap_or(&Value::Null)),
            _ => None,
        })
    };
    let order = |a: &&Value, b: &&Value| match (a, b) {
        (Value::Long(a), Value::Long(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (Value::Boolean(a), Value::Boolean(b)) => a.cmp(b),
        _ => Ordering::Equal,
    };
    let known = || values().filter(|value| **value != Value::Null);
    let bytes = |value: Option<&Value>| match (value, of.kind.as_str()) {
        (Some(Value::Text(text)), _) => Value::Bytes(text.clone().into_bytes()),
        (Some(Value::Boolean(is)), _) => Value::Bytes(vec![u8::from(*is)]),
        (Some(Value::Long(number)), "long") => Value::Bytes(number.to_le_bytes().to_vec()),
        (Some(Value::Long(number)), _) => i32::try_from(*number).map_or(Value::Null, |number| Value::Bytes(number.to_le_bytes().to_vec())),
        _ => Value::Null,
    };
    Record::from([
        (509, Value::Boolean(values().any(|value| *value == Value::Null))),
        (518, Value::Boolean(false)),
        (510, bytes(known().min_by(order))),
        (511, bytes(known().max_by(order))),
    ])
}

/// Returns the entry of a file that joins, which lies below `root`. `columns` are the numbers and types of the columns, by name.
pub(super) fn added(
    file: &DataFile,
    root: &str,
    columns: &BTreeMap<&str, (i64, &Json)>,
    partitions: &[Partition],
    snapshot_id: i64,
) -> Result<Record, String> {
    let values = file.partition_values();
    let mut partition = Record::new();
    for of in partitions {
        let value = values.get(&of.name).ok_or_else(|| format!("`{}` has no value of `{}` in its path", file.path, of.name))?;
        let value = match value {
            None => Value::Null,
            Some(text) => typed(text, &of.kind).ok_or_else(|| format!("`{}` in the path of `{}` is no {}", text, file.path, of.kind))?,
        };
        partition.insert(of.id, value);
    }
    let long = |number: u64| Value::Long(i64::try_from(number).unwrap_or(i64::MAX));
    let mut data = Record::from([
        (134, Value::Long(0)),
        (entry::PATH, Value::Text(format!("{root}/{}", file.path))),
        (101, Value::Text("PARQUET".into())),
        (entry::PARTITION, Value::Record(partition)),
        (entry::ROWS, long(file.rows)),
        (entry::BYTES, long(file.bytes)),
    ]);
    // Of what is nested nothing is told: the numbers are those of the column, not of what it holds.
    let plain =
        || file.columns.iter().filter_map(|(name, known)| Some((columns.get(name.as_str()).filter(|(_, kind)| kind.is_string())?, known)));
    let list = |[id, key, value]: [i32; 3], told: Vec<(i64, Value)>| {
        let pair = |(column, of): (i64, Value)| Value::Record([(key, Value::Long(column)), (value, of)].into());
        (id, Value::Array(told.into_iter().map(pair).collect()))
    };
    data.extend([
        list(SIZES, plain().filter_map(|((id, _), known)| Some((*id, long(known.bytes?)))).collect()),
        list(VALUES, plain().map(|((id, _), _)| (*id, long(file.rows))).collect()),
        list(NULLS, plain().filter_map(|((id, _), known)| Some((*id, long(known.nulls?)))).collect()),
        list(LOWER, plain().filter_map(|((id, kind), of)| Some((*id, Value::Bytes(bound(of.min.as_ref()?, kind, Side::Min)?)))).collect()),
        list(UPPER, plain().filter_map(|((id, kind), of)| Some((*id, Value::Bytes(bound(of.max.as_ref()?, kind, Side::Max)?)))).collect()),
    ]);
    Ok([(entry::STATUS, Value::Long(ADDED)), (entry::SNAPSHOT, Value::Long(snapshot_id)), (entry::FILE, Value::Record(data))].into())
}

/// Reads the value of a partition column.
fn typed(text: &str, kind: &str) -> Option<Value> {
    Some(match kind {
        "string" => Value::Text(text.to_owned()),
        "boolean" => Value::Boolean(text.parse().ok()?),
        "int" => Value::Long(text.parse::<i32>().ok()?.into()),
        "long" => Value::Long(text.parse().ok()?),
        "date" => Value::Long(text.parse::<NaiveDate>().ok()?.signed_duration_since(NaiveDate::default()).num_days()),
        _ => return None,
    })
}

/// Makes the entries of a manifest such that they can stand in another: with the numbers that they had from it. Those of files that left go.
pub(super) fn carried(entries: Vec<Record>, manifest: &Record) -> Vec<Record> {
    let of = |id: i32| manifest.get(&id).cloned().unwrap_or(Value::Null);
    let live = entries.into_iter().filter(|of| long(of, entry::STATUS) != Some(DELETED));
    let carry = |mut record: Record| {
        for (own, inherited) in
            [(entry::SNAPSHOT, listed::SNAPSHOT), (entry::SEQUENCE, listed::SEQUENCE), (entry::FILE_SEQUENCE, listed::SEQUENCE)]
        {
            if matches!(record.get(&own), None | Some(Value::Null)) {
                record.insert(own, of(inherited));
            }
        }
        record.insert(entry::STATUS, Value::Long(EXISTING));
        record
    };
    live.map(carry).collect()
}

/// Returns the file of an entry.
pub(super) fn data_file(entry: &Record) -> Option<&Record> {
    match entry.get(&entry::FILE) {
        Some(Value::Record(file)) => Some(file),
        _ => None,
    }
}

/// Returns the path of an entry's file.
pub(super) fn path(entry: &Record) -> Option<&str> {
    text(data_file(entry)?, entry::PATH)
}

pub(super) fn text(record: &Record, id: i32) -> Option<&str> {
    match record.get(&id) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

pub(super) fn long(record: &Record, id: i32) -> Option<i64> {
    match record.get(&id) {
        Some(Value::Long(number)) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_paths_have_the_type_of_their_column() {
        assert_eq!(typed("a b%", "string"), Some(Value::Text("a b%".into())));
        assert_eq!(typed("1969-12-31", "date"), Some(Value::Long(-1)));
        assert_eq!(typed("-7", "int"), Some(Value::Long(-7)));
        assert_eq!(typed("true", "boolean"), Some(Value::Boolean(true)));
        for (text, kind) in [("3000000000", "int"), ("x", "long"), ("1", "boolean"), ("2026-13-01", "date"), ("1", "double")] {
            assert_eq!(typed(text, kind), None, "{text} {kind}");
        }
    }

    #[test]
    fn names_that_avro_has_not_are_written_as_others_write_them() {
        for (name, made) in [("region", "region"), ("a-b.c", "a_x2Db_x2Ec"), ("1st", "_1st"), ("~", "_x7E")] {
            assert_eq!(avro_name(name), made);
        }
    }
}
