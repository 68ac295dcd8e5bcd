//! Types as the user writes them: DuckDB's names.
//!
//! Owns: the name of each Arrow type that DuckDB reads or returns, in the words that a cast takes.
//! Does not own: which types a column may have (see [`crate::schema`]), which can be in a path (see [`crate::hive`]).

use arrow::datatypes::{DataType, Field, TimeUnit};
use itertools::Itertools;

/// Key of a field's metadata that names the type which it has, or holds, in DuckDB, where Arrow has no counterpart and gives it as another one.
pub const LOSSY: &str = "pintail.lossy";

/// Returns the name of a type in DuckDB, as it can be written in a cast. A type that DuckDB has none for is called what Arrow calls it.
pub fn name(of: &DataType) -> String {
    plain(of).map_or_else(|| composed(of), str::to_owned)
}

/// As [`name`], of a type that is no composition of others; `None` of one that is.
pub(crate) fn plain(of: &DataType) -> Option<&'static str> {
    Some(match of {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INTEGER",
        DataType::Int64 => "BIGINT",
        DataType::UInt8 => "UTINYINT",
        DataType::UInt16 => "USMALLINT",
        DataType::UInt32 => "UINTEGER",
        DataType::UInt64 => "UBIGINT",
        DataType::Boolean => "BOOLEAN",
        DataType::Float16 | DataType::Float32 => "FLOAT",
        DataType::Float64 => "DOUBLE",
        DataType::Date32 => "DATE",
        DataType::Time32(_) | DataType::Time64(TimeUnit::Microsecond) => "TIME",
        DataType::Time64(_) => "TIME_NS",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ",
        DataType::Timestamp(TimeUnit::Second, None) => "TIMESTAMP_S",
        DataType::Timestamp(TimeUnit::Millisecond, None) => "TIMESTAMP_MS",
        DataType::Timestamp(TimeUnit::Microsecond, None) => "TIMESTAMP",
        DataType::Timestamp(TimeUnit::Nanosecond, None) => "TIMESTAMP_NS",
        DataType::Interval(_) => "INTERVAL",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "BLOB",
        DataType::Null => "\"NULL\"",
        _ => return None,
    })
}

/// As [`name`], of a type that was kept as Arrow's text.
pub fn name_of_text(kept: &str) -> String {
    kept.parse().map_or_else(|_| kept.to_owned(), |of| name(&of))
}

fn composed(of: &DataType) -> String {
    let member = |field: &Field| format!("{} {}", quoted(field.name()), name(field.data_type()));
    match of {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision},{scale})"),
        // An ENUM's words are in the rows, not in the type; its text can be cast to any.
        DataType::Dictionary(_, value) => name(value),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            format!("{}[]", name(item.data_type()))
        }
        DataType::FixedSizeList(item, length) => format!("{}[{length}]", name(item.data_type())),
        DataType::Struct(fields) => format!("STRUCT({})", fields.iter().map(|field| member(field)).join(", ")),
        DataType::Union(members, _) => format!("UNION({})", members.iter().map(|(_, field)| member(field)).join(", ")),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => format!("MAP({})", fields.iter().map(|field| name(field.data_type())).join(", ")),
            _ => of.to_string(),
        },
        other => other.to_string(),
    }
}

fn quoted(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn nullable(name: &str, of: DataType) -> Arc<Field> {
        Arc::new(Field::new(name, of, true))
    }

    #[test]
    fn a_nested_type_is_named_as_a_cast_takes_it() {
        let list = DataType::List(nullable("l", DataType::Int32));
        let of = DataType::Struct(vec![nullable("a b", list.clone()), nullable("n", DataType::Decimal128(12, 2))].into());
        assert_eq!(name(&of), "STRUCT(\"a b\" INTEGER[], n DECIMAL(12,2))");
        let entries = DataType::Struct(vec![nullable("key", DataType::Utf8View), nullable("value", list)].into());
        assert_eq!(name(&DataType::Map(nullable("entries", entries), false)), "MAP(VARCHAR, INTEGER[])");
    }

    #[test]
    fn a_type_kept_as_text_is_named_as_the_type_itself() {
        let item = nullable("l", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
        for of in [DataType::Utf8View, DataType::Decimal128(38, 0), DataType::List(item), DataType::Timestamp(TimeUnit::Millisecond, None)]
        {
            assert_eq!(name_of_text(&of.to_string()), name(&of), "{of}");
        }
        assert_eq!(name_of_text("of a later version"), "of a later version");
    }
}
