//! The types of an Iceberg table (Iceberg specification, version 2, "Schemas and Data Types").
//!
//! Owns: which Arrow type is which type of a table, the ids of what nested columns hold, the refusals, how a single value is written.
//! Does not own: the ids of columns (see [`crate::facts`]).

use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use pintail_storage::checkpoint::columns::nested_id;
use serde_json::{Value, json};

use super::{mended, refusal};
use crate::facts::{Bound, Column, Side};

/// Characters of a text that a bound keeps.
const BOUND_CHARACTERS: usize = 16;

/// Returns the type of the column with the number `id`.
///
/// # Errors
/// Why it cannot be in a table, naming the column and the cast to write.
pub fn iceberg(column: &Column, id: u32) -> Result<Value, String> {
    kind(&column.data_type, id, &mut 0).map_err(|why| refusal(column, why, &mended(&column.data_type, &has)))
}

fn has(of: &DataType) -> bool {
    // Of a number that has ids for all that it may hold: a cast does not give it more of them.
    kind(of, 1, &mut 0).is_ok()
}

/// Counts what a column holds in the order of [`pintail_storage::checkpoint::columns::with_field_ids`], which gave the files their ids.
fn kind(of: &DataType, column: u32, place: &mut u32) -> Result<Value, &'static str> {
    let simple = |name: &str| Ok(Value::from(name));
    match of {
        DataType::Boolean => simple("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => simple("int"),
        DataType::Int64 => simple("long"),
        DataType::Float32 => simple("float"),
        DataType::Float64 => simple("double"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => simple("string"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => simple("binary"),
        DataType::Date32 => simple("date"),
        DataType::Time64(TimeUnit::Microsecond) => simple("time"),
        DataType::Dictionary(_, value) => kind(value, column, place),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => simple("timestamptz"),
        DataType::Timestamp(TimeUnit::Microsecond, None) => simple("timestamp"),
        DataType::Decimal128(precision, scale) | DataType::Decimal64(precision, scale) | DataType::Decimal32(precision, scale)
            if (0..=*precision).contains(&scale.unsigned_abs()) && *scale >= 0 =>
        {
            Ok(Value::from(format!("decimal({precision}, {scale})")))
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => {
            let id = next(column, place)?;
            Ok(json!({ "type": "list", "element-id": id, "element": kind(item.data_type(), column, place)?, "element-required": false }))
        }
        DataType::Struct(fields) => {
            let mut inside = |field: &FieldRef| {
                let id = next(column, place)?;
                Ok::<_, &'static str>(field_of(id, field.name(), kind(field.data_type(), column, place)?))
            };
            let fields = fields.iter().map(&mut inside).collect::<Result<Vec<_>, _>>()?;
            Ok(json!({ "type": "struct", "fields": fields }))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                let key_id = next(column, place)?;
                let key = kind(fields[0].data_type(), column, place)?;
                let value_id = next(column, place)?;
                let value = kind(fields[1].data_type(), column, place)?;
                Ok(json!({ "type": "map", "key-id": key_id, "key": key, "value-id": value_id, "value": value, "value-required": false }))
            }
            _ => Err("an Iceberg table has no such map"),
        },
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Err("an Iceberg table has no unsigned integers"),
        DataType::Time32(_) | DataType::Time64(_) => Err("the times of day of an Iceberg table are in microseconds"),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Err("an Iceberg table has no nanoseconds before version 3"),
        DataType::Timestamp(_, _) => Err("the timestamps of an Iceberg table are in microseconds"),
        DataType::FixedSizeBinary(_) => Err("binary of a fixed length is not published to an Iceberg table"),
        DataType::Float16 => Err("an Iceberg table has no half floats"),
        _ => Err("an Iceberg table has no such type"),
    }
}

fn next(column: u32, place: &mut u32) -> Result<u32, &'static str> {
    *place += 1;
    nested_id(column, *place).ok_or("it holds more fields than have numbers")
}

/// Returns a field of a schema. All are optional: an Iceberg table may not promise what its older files do not keep.
pub fn field_of(id: u32, name: &str, kind: Value) -> Value {
    json!({ "id": id, "name": name, "required": false, "type": kind })
}

/// Returns the mapping by name of the fields of a schema, for files that have no ids (`schema.name-mapping.default`).
pub fn name_mapping(fields: &[Value]) -> Value {
    let named = |id: &Value, name: &str, of: &Value| {
        let inside = inside(of);
        match inside.is_empty() {
            true => json!({ "field-id": id, "names": [name] }),
            false => json!({ "field-id": id, "names": [name], "fields": inside }),
        }
    };
    fn inside(of: &Value) -> Vec<Value> {
        let entry = |id: &str, name: &str, of: &Value, key: &str| match inside(&of[key]) {
            inside if inside.is_empty() => json!({ "field-id": of[id], "names": [name] }),
            inside => json!({ "field-id": of[id], "names": [name], "fields": inside }),
        };
        match of["type"].as_str() {
            Some("list") => vec![entry("element-id", "element", of, "element")],
            Some("map") => vec![entry("key-id", "key", of, "key"), entry("value-id", "value", of, "value")],
            Some("struct") => match name_mapping(of["fields"].as_array().map_or(&[], Vec::as_slice)) {
                Value::Array(fields) => fields,
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }
    fields.iter().map(|field| named(&field["id"], field["name"].as_str().unwrap_or_default(), &field["type"])).collect()
}

/// Writes a bound of a column of the type `kind` (Iceberg specification, "Binary single-value serialization"); `None` where that would be none.
pub(crate) fn bound(bound: &Bound, kind: &Value, side: Side) -> Option<Vec<u8>> {
    Some(match (bound, kind.as_str()?) {
        (Bound::Integer(number), "int") => i32::try_from(*number).ok()?.to_le_bytes().to_vec(),
        (Bound::Integer(number), "long") | (Bound::Timestamp(number), "timestamp" | "timestamptz") => number.to_le_bytes().to_vec(),
        (Bound::Date(days), "date") => days.to_le_bytes().to_vec(),
        (Bound::Decimal(unscaled, scale), decimal) if decimal.ends_with(&format!(", {scale})")) => shortest(*unscaled),
        (Bound::Text(text), "string") => truncated(text, side)?.into_bytes(),
        _ => return None,
    })
}

/// Writes a number in as few bytes of two's complement as it has.
fn shortest(number: i128) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let sign = if number < 0 { 0xFF } else { 0 };
    let first = (0..15).find(|at| bytes[*at] != sign || (bytes[at + 1] ^ sign) & 0x80 != 0).unwrap_or(15);
    bytes[first..].to_vec()
}

/// Cuts a text off so that it stays a bound.
fn truncated(text: &str, side: Side) -> Option<String> {
    let Some((cut, _)) = text.char_indices().nth(BOUND_CHARACTERS) else { return Some(text.to_owned()) };
    let mut kept: Vec<char> = text[..cut].chars().collect();
    if side == Side::Max {
        // The last one that has a next one is replaced by that.
        let next = |c: char| match c {
            '\u{D7FF}' => Some('\u{E000}'),
            c => char::from_u32(u32::from(c) + 1),
        };
        loop {
            match next(kept.pop()?) {
                Some(next) => break kept.push(next),
                None => continue,
            }
        }
    }
    Some(kept.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Field;
    use pintail_storage::checkpoint::columns::{FIELD_ID, OutputColumn, with_field_ids};

    use super::*;
    use crate::facts::Settled;

    fn field(name: &str, of: DataType) -> FieldRef {
        Arc::new(Field::new(name, of, true))
    }

    fn table_type(name: &str, id: u32, of: &DataType) -> Result<Value, String> {
        iceberg(&Column { id, name: name.into(), data_type: of.clone(), settled: Settled::InSqlAlone }, id)
    }

    #[test]
    fn what_an_iceberg_table_has_not_is_refused_with_the_cast_to_write() {
        let list = |of: DataType| DataType::List(field("l", of));
        for (of, cast) in [
            (DataType::UInt8, "SMALLINT"),
            (DataType::UInt64, "DECIMAL(20,0)"),
            (DataType::Time32(TimeUnit::Second), "TIME"),
            (DataType::Time64(TimeUnit::Nanosecond), "TIME"),
            (DataType::Timestamp(TimeUnit::Nanosecond, None), "TIMESTAMP"),
            (DataType::Timestamp(TimeUnit::Second, None), "TIMESTAMP"),
            (DataType::FixedSizeBinary(16), "VARCHAR"),
            (list(list(DataType::UInt32)), "BIGINT[][]"),
            (
                DataType::Struct(vec![field("a b", DataType::Int8), field("t", DataType::Time64(TimeUnit::Nanosecond))].into()),
                "STRUCT(\"a b\" TINYINT, t TIME)",
            ),
        ] {
            let refused = table_type("x", 7, &of).unwrap_err();
            assert!(refused.ends_with(&format!("write `CAST(\"x\" AS {cast}) AS \"x\"` in the SQL")), "{of}: {refused}");
            assert!(has(&mended(&of, &has)), "{of}");
        }
        assert_eq!(table_type("t", 1, &DataType::Time64(TimeUnit::Microsecond)), Ok("time".into()));
        assert_eq!(table_type("d", 1, &DataType::Decimal128(12, 2)), Ok("decimal(12, 2)".into()));
    }

    #[test]
    fn nested_fields_have_the_ids_that_they_have_in_the_files() {
        let entries = DataType::Struct(vec![Arc::new(Field::new("key", DataType::Utf8, false)), field("value", DataType::Date32)].into());
        let map = DataType::Map(Arc::new(Field::new("entries", entries, false)), false);
        let deep = DataType::Struct(vec![field("a", DataType::List(field("l", map))), field("b", DataType::Int8)].into());
        let column = OutputColumn { id: 5, name: "x".into(), data_type: deep.to_string(), nullable: true };
        let schema = arrow::datatypes::Schema::new(vec![Field::new("x", deep.clone(), true)]);
        let mut of_files = Vec::new();
        collect_files(&with_field_ids(&schema, &[column]).fields()[0], &mut of_files);
        let mut of_table = Vec::new();
        collect_table(&table_type("x", 5, &deep).unwrap(), &mut of_table);
        assert_eq!(of_files[0], 5);
        assert_eq!(of_files[1..], of_table);
        assert_eq!(of_table.len(), 5);
        let mapping = name_mapping(&[field_of(5, "x", table_type("x", 5, &deep).unwrap())]);
        assert_eq!(mapping[0]["fields"][0]["names"], json!(["a"]));
        assert_eq!(mapping[0]["fields"][0]["fields"][0]["names"], json!(["element"]));
        assert_eq!(mapping[0]["fields"][0]["fields"][0]["fields"][1], json!({ "field-id": of_table[3], "names": ["value"] }));
    }

    fn collect_files(field: &FieldRef, ids: &mut Vec<i64>) {
        ids.extend(field.metadata().get(FIELD_ID).map(|id| id.parse::<i64>().unwrap()));
        match field.data_type() {
            DataType::Struct(fields) => fields.iter().for_each(|field| collect_files(field, ids)),
            DataType::List(inner) | DataType::Map(inner, _) => collect_files(inner, ids),
            _ => {}
        }
    }

    fn collect_table(of: &Value, ids: &mut Vec<i64>) {
        let mut take = |id: &Value, of: &Value| {
            ids.push(id.as_i64().unwrap());
            collect_table(of, ids);
        };
        match of["type"].as_str() {
            Some("struct") => of["fields"].as_array().unwrap().iter().for_each(|field| take(&field["id"], &field["type"])),
            Some("list") => take(&of["element-id"], &of["element"]),
            Some("map") => {
                take(&of["key-id"], &of["key"]);
                take(&of["value-id"], &of["value"]);
            }
            _ => {}
        }
    }

    #[test]
    fn no_bound_is_narrower_than_the_values() {
        let write = |of: Bound, kind: &str, side| bound(&of, &kind.into(), side);
        assert_eq!(write(Bound::Integer(-2), "int", Side::Min), Some(vec![0xFE, 0xFF, 0xFF, 0xFF]));
        assert_eq!(write(Bound::Integer(i64::MAX), "int", Side::Max), None);
        assert_eq!(write(Bound::Integer(1), "long", Side::Min).unwrap().len(), 8);
        assert_eq!(write(Bound::Timestamp(-1), "timestamp", Side::Min), Some(vec![0xFF; 8]));
        assert_eq!(write(Bound::Decimal(127, 2), "decimal(9, 2)", Side::Min), Some(vec![127]));
        assert_eq!(write(Bound::Decimal(128, 2), "decimal(9, 2)", Side::Min), Some(vec![0, 128]));
        assert_eq!(write(Bound::Decimal(-128, 2), "decimal(9, 2)", Side::Min), Some(vec![0x80]));
        assert_eq!(write(Bound::Decimal(-129, 2), "decimal(9, 2)", Side::Min), Some(vec![0xFF, 0x7F]));
        assert_eq!(write(Bound::Decimal(0, 2), "decimal(9, 2)", Side::Min), Some(vec![0]));
        assert_eq!(write(Bound::Decimal(i128::MIN, 2), "decimal(9, 2)", Side::Min), Some(i128::MIN.to_be_bytes().to_vec()));
        assert_eq!(write(Bound::Decimal(1, 3), "decimal(9, 2)", Side::Min), None);
        let text = |text: &str, side| truncated(text, side);
        assert_eq!(text("0123456789abcdef", Side::Max).as_deref(), Some("0123456789abcdef"));
        assert_eq!(text("0123456789abcdefg", Side::Min).as_deref(), Some("0123456789abcdef"));
        assert_eq!(text("0123456789abcdefg", Side::Max).as_deref(), Some("0123456789abcdeg"));
        assert_eq!(text(&format!("0123456789abcde{}x", char::MAX), Side::Max).as_deref(), Some("0123456789abcdf"));
        assert_eq!(text(&format!("{}ü", "\u{D7FF}".repeat(16)), Side::Max), Some(format!("{}\u{E000}", "\u{D7FF}".repeat(15))));
        assert_eq!(text(&char::MAX.to_string().repeat(17), Side::Max), None);
    }
}
