//! What files can hold.
//!
//! Owns: which types come back from Parquet as what they were, in DuckDB and in pyarrow (both tried), and the cast to write for the others.
//! Does not own: partition columns, which are not in files (see [`pintail_core::hive`]), single values (see `values`).

use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use pintail_core::sql_type::{self, LOSSY};

/// Returns why a column cannot be in the files, with the cast to write; `None` if it can.
pub(super) fn fault(field: &Field) -> Option<String> {
    let name = field.name();
    let say = |found: &Unreadable| {
        let within = if found.nested { format!(" (within {})", sql_type::name(field.data_type())) } else { String::new() };
        format!("the column `{name}` is {}{within}, {}: write `{name}::{} AS {name}`", found.what, found.why, found.cast)
    };
    if let Some(found) = unreadable(field) {
        return Some(say(&found));
    }
    let refused = write_one_null(field).err()?;
    Some(format!(
        "the column `{name}` is {}, which Parquet cannot hold ({refused}): write `{name}::VARCHAR AS {name}`",
        sql_type::name(field.data_type())
    ))
}

struct Unreadable {
    what: String,
    why: &'static str,
    cast: String,
    nested: bool,
}

/// Finds a type that can be written but is read back as another.
fn unreadable(field: &Field) -> Option<Unreadable> {
    let found = |what: String, why, cast: &str| Some(Unreadable { what, why, cast: cast.to_owned(), nested: false });
    if let Some(name) = field.metadata().get(LOSSY) {
        return found(format!("or holds {name}"), "which Arrow lacks, so that readers would get other values", "VARCHAR");
    }
    match field.data_type() {
        DataType::Interval(_) => found("INTERVAL".into(), "which Parquet readers do not agree on", "VARCHAR"),
        DataType::Duration(_) => found("a duration".into(), "which DuckDB reads back as an integer", "VARCHAR"),
        DataType::Null => found("of no type (NULL in every row)".into(), "so that readers cannot know one", "VARCHAR"),
        DataType::Union(_, _) => found("UNION".into(), "which Parquet has not", "VARCHAR"),
        DataType::Timestamp(TimeUnit::Second, _) => {
            found("a timestamp in seconds".into(), "which DuckDB reads back as an integer", "TIMESTAMP")
        }
        DataType::Date64 => found("a date in milliseconds".into(), "which readers take for an integer", "DATE"),
        DataType::Time32(TimeUnit::Second) => found("a time in seconds".into(), "which DuckDB reads back as an integer", "TIME"),
        DataType::Decimal256(precision, scale) => {
            let cast = format!("DECIMAL(38, {})", (*scale).clamp(0, 38));
            found(format!("a decimal of {precision} digits"), "which DuckDB reads back as DOUBLE", &cast)
        }
        other => {
            let inner = children(other).into_iter().find_map(unreadable)?;
            Some(Unreadable { cast: "VARCHAR".into(), nested: true, ..inner })
        }
    }
}

/// Returns what a nested type holds; nothing for others.
pub(super) fn children(data_type: &DataType) -> Vec<&Field> {
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => vec![item],
        DataType::Struct(fields) => fields.iter().map(Arc::as_ref).collect(),
        _ => Vec::new(),
    }
}

/// Tries the writer itself: it alone knows every type that it refuses.
fn write_one_null(field: &Field) -> Result<(), ParquetError> {
    let schema = Arc::new(Schema::new(vec![field.clone().with_nullable(true)]));
    let row = RecordBatch::try_new(schema.clone(), vec![new_null_array(field.data_type(), 1)])?;
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, None)?;
    writer.write(&row)?;
    writer.close()?;
    Ok(())
}
