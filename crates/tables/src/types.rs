//! The types of columns: what a table can have, and the cast to write for what it cannot.
//!
//! Owns: which Arrow type is which type of a Delta table (Delta protocol, "Schema Serialization Format"), the refusals; of an Iceberg table see
//! [`iceberg`].
//! Does not own: which types files can have (see `pintail_sink`): a table is stricter, and its refusals are the table's alone.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use pintail_core::sql_type;
use serde_json::{Value, json};

use crate::facts::{Column, Settled};

pub mod iceberg;

/// What a column of a Delta table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaColumn {
    /// Its type, as the schema in the log has it.
    pub kind: Value,
    /// Whether it needs the table feature `timestampNtz`.
    pub without_zone: bool,
}

/// Returns what a column is in a Delta table.
///
/// # Errors
/// Why it cannot be in one, naming the column and the cast to write.
pub fn delta(column: &Column) -> Result<DeltaColumn, String> {
    if let Some(why) = name_fault(&column.name) {
        return Err(format!("{why}: {}", in_sql("rename it", column.settled)));
    }
    let (of, mut without_zone) = (&column.data_type, false);
    match kind(of, &mut without_zone) {
        Ok(kind) => Ok(DeltaColumn { kind, without_zone }),
        Err(why) => Err(refusal(column, why, &mended(of, &has))),
    }
}

fn has(of: &DataType) -> bool {
    kind(of, &mut false).is_ok()
}

/// Says why a column cannot be in a table, and the cast to write.
fn refusal(column: &Column, why: &str, mended: &DataType) -> String {
    let quoted = format!("\"{}\"", column.name.replace('"', "\"\""));
    let write = format!("write `CAST({quoted} AS {}) AS {quoted}`", sql_type::name(mended));
    format!("column `{}` is {}, and {why}: {}", column.name, sql_type::name(&column.data_type), in_sql(&write, column.settled))
}

/// Says where a change of a column is to be made: a dataset that has files keeps its columns.
fn in_sql(change: &str, settled: Settled) -> String {
    match settled {
        Settled::InSqlAlone => format!("{change} in the SQL"),
        Settled::InFiles => format!(
            "the dataset has files with it, and keeps its columns; {change} in the SQL of a new dataset (another `pipeline.out_path`), or do without \
             such a table"
        ),
    }
}

/// Returns what no format of tables takes, whatever the types are.
pub(crate) fn common_faults(columns: &[Column], partition_by: &[String], format: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (place, column) in columns.iter().enumerate() {
        if let Some(other) = columns[..place].iter().find(|other| other.name.to_lowercase() == column.name.to_lowercase()) {
            let settled = if other.settled == column.settled { column.settled } else { Settled::InSqlAlone };
            let renamed = if other.settled == Settled::InSqlAlone { other } else { column };
            let rename = in_sql(&format!("rename `{}`", renamed.name), settled);
            faults.push(format!(
                "columns `{}` and `{}` are one to readers of {format}, which do not tell upper case from lower: {rename}",
                other.name, column.name
            ));
        }
    }
    if !columns.is_empty() && columns.iter().all(|column| partition_by.contains(&column.name)) {
        faults.push(format!("every column is a partition column, and {format} needs one that is not"));
    }
    faults
}

/// Spark refuses these characters in a table without column mapping.
const FORBIDDEN: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='];

fn name_fault(name: &str) -> Option<String> {
    let found = name.chars().find(|c| FORBIDDEN.contains(c))?;
    Some(format!("column `{}` has a {found:?} in its name, which a Delta table cannot have", name.escape_debug()))
}

fn kind(of: &DataType, without_zone: &mut bool) -> Result<Value, &'static str> {
    let simple = |name: &str| Ok(Value::from(name));
    match of {
        DataType::Boolean => simple("boolean"),
        DataType::Int8 => simple("byte"),
        DataType::Int16 => simple("short"),
        DataType::Int32 => simple("integer"),
        DataType::Int64 => simple("long"),
        DataType::Float32 => simple("float"),
        DataType::Float64 => simple("double"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => simple("string"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => simple("binary"),
        DataType::Date32 => simple("date"),
        DataType::Dictionary(_, value) => kind(value, without_zone),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => simple("timestamp"),
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            *without_zone = true;
            simple("timestamp_ntz")
        }
        DataType::Decimal128(precision, scale) | DataType::Decimal64(precision, scale) | DataType::Decimal32(precision, scale)
            if (0..=*precision).contains(&scale.unsigned_abs()) && *scale >= 0 =>
        {
            Ok(Value::from(format!("decimal({precision},{scale})")))
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => {
            Ok(json!({ "type": "array", "elementType": kind(item.data_type(), without_zone)?, "containsNull": true }))
        }
        DataType::Struct(fields) => {
            let inside = |field: &FieldRef| match name_fault(field.name()) {
                Some(_) => Err("a field of it has a name that a Delta table cannot have"),
                None => Ok(delta_field(field.name(), kind(field.data_type(), without_zone)?)),
            };
            let fields = fields.iter().map(inside).collect::<Result<Vec<_>, _>>()?;
            Ok(json!({ "type": "struct", "fields": fields }))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                let (key, value) = (kind(fields[0].data_type(), without_zone)?, kind(fields[1].data_type(), without_zone)?);
                Ok(json!({ "type": "map", "keyType": key, "valueType": value, "valueContainsNull": true }))
            }
            _ => Err("a Delta table has no such map"),
        },
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Err("a Delta table has no unsigned integers"),
        DataType::Time32(_) | DataType::Time64(_) => Err("a Delta table has no times of day"),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Err("a Delta table has no nanoseconds"),
        DataType::Timestamp(_, _) => Err("the timestamps of a Delta table are in microseconds"),
        DataType::FixedSizeBinary(_) => Err("a Delta table has no binary of a fixed length"),
        DataType::Float16 => Err("a Delta table has no half floats"),
        _ => Err("a Delta table has no such type"),
    }
}

/// Returns a field of a schema in the log. All are nullable: what a table promises of nulls, every writer of it would have to check.
pub fn delta_field(name: &str, kind: Value) -> Value {
    json!({ "name": name, "type": kind, "nullable": true, "metadata": {} })
}

/// Returns the nearest type that a table can have, if it `has` those.
fn mended(of: &DataType, has: &dyn Fn(&DataType) -> bool) -> DataType {
    let item = |item: &Field| Arc::new(item.clone().with_data_type(mended(item.data_type(), has)));
    let fits = |mended: DataType| if has(&mended) { mended } else { DataType::Utf8 };
    match of {
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Time32(_) | DataType::Time64(_) => fits(DataType::Time64(TimeUnit::Microsecond)),
        DataType::List(inner)
        | DataType::LargeList(inner)
        | DataType::ListView(inner)
        | DataType::LargeListView(inner)
        | DataType::FixedSizeList(inner, _) => DataType::List(item(inner)),
        DataType::Struct(fields) => fits(DataType::Struct(fields.iter().map(|field| item(field)).collect())),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(fields) => {
                let inside = DataType::Struct(fields.iter().map(|field| item(field)).collect());
                fits(DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(inside)), *sorted))
            }
            _ => DataType::Utf8,
        },
        other => fits(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, of: DataType) -> FieldRef {
        Arc::new(Field::new(name, of, true))
    }

    fn column(name: &str, of: &DataType) -> Column {
        Column { id: 1, name: name.into(), data_type: of.clone(), settled: Settled::InSqlAlone }
    }

    #[test]
    fn what_a_delta_table_has_not_is_refused_with_the_cast_to_write() {
        let list = |of: DataType| DataType::List(field("l", of));
        for (of, cast) in [
            (DataType::UInt8, "SMALLINT"),
            (DataType::UInt16, "INTEGER"),
            (DataType::UInt32, "BIGINT"),
            (DataType::UInt64, "DECIMAL(20,0)"),
            (DataType::Time64(TimeUnit::Microsecond), "VARCHAR"),
            (DataType::Timestamp(TimeUnit::Nanosecond, None), "TIMESTAMP"),
            (DataType::Timestamp(TimeUnit::Millisecond, None), "TIMESTAMP"),
            (DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), "TIMESTAMPTZ"),
            (DataType::FixedSizeBinary(16), "VARCHAR"),
            (list(DataType::UInt32), "BIGINT[]"),
            (
                DataType::Struct(vec![field("a", DataType::Int8), field("b", list(DataType::UInt64))].into()),
                "STRUCT(a TINYINT, b DECIMAL(20,0)[])",
            ),
            (DataType::Struct(vec![field("a b", DataType::Int8)].into()), "VARCHAR"),
        ] {
            let refused = delta(&column("x", &of)).unwrap_err();
            assert!(refused.ends_with(&format!("write `CAST(\"x\" AS {cast}) AS \"x\"` in the SQL")), "{of}: {refused}");
            assert_eq!(kind(&mended(&of, &has), &mut false).map(|_| ()), Ok(()), "{of}");
        }
        assert!(delta(&column("a b", &DataType::Int8)).unwrap_err().ends_with("rename it in the SQL"));
    }

    #[test]
    fn of_a_column_that_files_have_already_nothing_is_advised_that_the_dataset_refuses() {
        let written = |name: &str, of: DataType| Column { settled: Settled::InFiles, ..column(name, &of) };
        let way_out = "in the SQL of a new dataset (another `pipeline.out_path`), or do without such a table";
        for refused in [delta(&written("x", DataType::UInt64)).unwrap_err(), delta(&written("a b", DataType::Int8)).unwrap_err()] {
            assert!(refused.contains("keeps its columns") && refused.ends_with(way_out), "{refused}");
        }
        // Of two names, that one can be another which no file has.
        let faults = common_faults(&[written("ID", DataType::Int8), column("id", &DataType::Int8)], &[], "Delta");
        assert!(faults[0].ends_with("rename `id` in the SQL"), "{faults:?}");
        let faults = common_faults(&[written("ID", DataType::Int8), written("id", DataType::Int8)], &[], "Delta");
        assert!(faults[0].ends_with(way_out), "{faults:?}");
    }

    #[test]
    fn nested_types_are_written_as_the_protocol_has_them_and_a_time_without_zone_is_seen_inside() {
        let entries = DataType::Struct(vec![field("key", DataType::Utf8), field("value", DataType::Decimal128(12, 2))].into());
        let map = delta(&column("m", &DataType::Map(field("entries", entries), false))).unwrap();
        assert_eq!(map.kind, json!({ "type": "map", "keyType": "string", "valueType": "decimal(12,2)", "valueContainsNull": true }));
        assert!(!map.without_zone);
        let times = DataType::List(field("l", DataType::Timestamp(TimeUnit::Microsecond, None)));
        let times = delta(&column("t", &times)).unwrap();
        assert_eq!(times.kind, json!({ "type": "array", "elementType": "timestamp_ntz", "containsNull": true }));
        assert!(times.without_zone);
    }

    #[test]
    fn the_types_that_the_ledger_keeps_as_text_are_read_back() {
        let pair = DataType::Struct(vec![field("a b", DataType::Int32), field("c", DataType::Utf8View)].into());
        let entries = DataType::Struct(vec![Arc::new(Field::new("key", DataType::Utf8, false)), field("value", DataType::Int64)].into());
        for of in [
            DataType::Decimal128(38, 4),
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::List(field("l", pair.clone())),
            pair,
            DataType::Map(Arc::new(Field::new("entries", entries, false)), false),
            DataType::Dictionary(Box::new(DataType::UInt8), Box::new(DataType::Utf8)),
        ] {
            assert_eq!(of.to_string().parse::<DataType>().unwrap(), of, "{of}");
        }
    }
}
