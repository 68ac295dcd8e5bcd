//! The output schema as the commit records keep it.
//!
//! Owns: which change of the schema a dataset can take from one start to the next, the ids of columns and of what nested ones hold.
//! Does not own: the SQL that makes the schema, the partition columns (they are among these, and FORMAT pins them).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use pintail_core::error::{Error, Result};
use pintail_core::sql_type::name_of_text;
use serde::{Deserialize, Serialize};

/// A column of the output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputColumn {
    /// Its number in the dataset, from 1: never given to another column. 0 in version 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub id: u32,
    /// The name.
    pub name: String,
    /// The Arrow type as text.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Whether it may hold nulls.
    pub nullable: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Numbers the columns `new`: those that `old` has keep their ids, others get ids that none had.
pub fn number(old: &[OutputColumn], new: &[OutputColumn]) -> Vec<OutputColumn> {
    let mut next = old.iter().map(|column| column.id).max().unwrap_or(0);
    let mut id = |name: &str| {
        let known = old.iter().find(|column| column.name == name).map(|column| column.id).filter(|id| *id > 0);
        known.unwrap_or_else(|| {
            next += 1;
            next
        })
    };
    new.iter().map(|column| OutputColumn { id: id(&column.name), ..column.clone() }).collect()
}

/// What a field's id is called in the metadata of its Arrow field; the writer puts it into the Parquet schema.
pub const FIELD_ID: &str = "PARQUET:field_id";
/// The first id of what nested columns hold: no column's own id comes that far.
const NESTED_FIRST: u32 = 1 << 20;
/// Ids that each column has for what it holds.
const NESTED_MAX: u32 = 1 << 10;

/// Returns the id of the `place`th field within a column, counted from 1 with every parent before its children; `None` where there are none left.
/// The type of a column never changes, so neither do these.
pub fn nested_id(column: u32, place: u32) -> Option<u32> {
    let fits = (1..NESTED_FIRST).contains(&column) && (1..NESTED_MAX).contains(&place);
    fits.then(|| NESTED_FIRST + column * NESTED_MAX + place)
}

/// Returns a schema whose fields carry the ids of `columns` in their metadata, by name: tables (Iceberg, Delta) tell columns by them.
pub fn with_field_ids(schema: &Schema, columns: &[OutputColumn]) -> SchemaRef {
    let field = |field: &FieldRef| match columns.iter().find(|column| column.name == *field.name()).map(|column| column.id) {
        Some(id) if id > 0 => {
            let inside = with_nested_ids(field.data_type(), id, &mut 0);
            Arc::new(identified(field, Some(id)).with_data_type(inside))
        }
        _ => field.clone(),
    };
    Arc::new(Schema::new_with_metadata(schema.fields().iter().map(field).collect::<Vec<_>>(), schema.metadata().clone()))
}

fn identified(field: &Field, id: Option<u32>) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.extend(id.map(|id| (FIELD_ID.to_owned(), id.to_string())));
    field.clone().with_metadata(metadata)
}

fn with_nested_ids(of: &DataType, column: u32, place: &mut u32) -> DataType {
    let mut child = |field: &FieldRef| -> FieldRef {
        *place += 1;
        let own = identified(field, nested_id(column, *place));
        Arc::new(own.with_data_type(with_nested_ids(field.data_type(), column, place)))
    };
    match of {
        DataType::List(item) => DataType::List(child(item)),
        DataType::LargeList(item) => DataType::LargeList(child(item)),
        DataType::ListView(item) => DataType::ListView(child(item)),
        DataType::LargeListView(item) => DataType::LargeListView(child(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(child(item), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(child).collect()),
        // The entries are none of a table's fields: its key and its value are.
        DataType::Map(entries, sorted) => {
            let inside = match entries.data_type() {
                DataType::Struct(fields) => DataType::Struct(fields.iter().map(child).collect()),
                other => other.clone(),
            };
            DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(inside)), *sorted)
        }
        other => other.clone(),
    }
}

/// Describes the columns of `schema`, in its order, without ids.
pub fn describe(schema: &Schema) -> Vec<OutputColumn> {
    let column = |field: &FieldRef| OutputColumn {
        id: 0,
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
        nullable: field.is_nullable(),
    };
    schema.fields().iter().map(column).collect()
}

/// What a start may do to the output schema of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewColumns {
    /// The columns stay as they are: one extra column already breaks a plain glob over the tree.
    Refuse,
    /// Nullable columns may join (`allow_new_columns = true`).
    Allow,
}

/// Checks that files with the columns `new` can stand beside files with the columns `old`. Their order is free: Parquet is read by name.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`], naming every column that stands in the way, a line each, and the way out.
pub fn check_evolution(old: &[OutputColumn], new: &[OutputColumn], new_columns: NewColumns) -> Result<()> {
    let changed = old.iter().filter_map(|was| {
        let why = match new.iter().find(|column| column.name == was.name) {
            None => format!("is gone from the SQL's output; the dataset has it as {}: return it again", name_of_text(&was.data_type)),
            Some(is) if is.data_type != was.data_type => changed_type(&was.name, &is.data_type, &was.data_type),
            Some(_) => return None,
        };
        Some((was.name.as_str(), why))
    });
    let joining = new.iter().filter(|column| old.iter().all(|was| was.name != column.name)).filter_map(|is| {
        let why = match new_columns {
            NewColumns::Refuse => "is new in the SQL's output: allow it with `sink.allow_new_columns = true`",
            NewColumns::Allow if !is.nullable => {
                "is new in the SQL's output and cannot be null, but the files there have no value for it: make it nullable"
            }
            NewColumns::Allow => return None,
        };
        Some((is.name.as_str(), why.to_owned()))
    });
    let faults: Vec<String> = changed.chain(joining).map(|(name, why)| format!("column `{name}` {why}")).collect();
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Error::config(format!("{}; or set another `pipeline.out_path`", faults.join("\n")))),
    }
}

/// Says that a column has another type than in the dataset, with the cast that gives it back.
fn changed_type(column: &str, is: &str, was: &str) -> String {
    let (is_named, was_named) = (name_of_text(is), name_of_text(was));
    if is_named == was_named {
        // DuckDB has one name for both.
        return format!("is {is_named} in the SQL's output and in the dataset, but of another form ({is}, not {was}): return it as it was");
    }
    let name = format!("\"{}\"", column.replace('"', "\"\""));
    format!("is {is_named} in the SQL's output, {was_named} in the dataset: write `CAST({name} AS {was_named}) AS {name}` in the SQL")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(columns: &[(&str, &str, bool)]) -> Vec<OutputColumn> {
        let column = |&(name, data_type, nullable): &(&str, &str, bool)| OutputColumn {
            id: 0,
            name: name.into(),
            data_type: data_type.into(),
            nullable,
        };
        columns.iter().map(column).collect()
    }

    #[test]
    fn a_removed_column_and_a_changed_type_are_refused_by_name_even_when_new_columns_are_allowed() {
        let old = columns(&[("a", "Int64", true), ("b", "Utf8", true)]);
        for (new, needle) in [
            (columns(&[("a", "Int64", true)]), "column `b` is gone"),
            (
                columns(&[("a", "Float64", true), ("b", "Utf8", true)]),
                "column `a` is DOUBLE in the SQL's output, BIGINT in the dataset: write `CAST(\"a\" AS BIGINT) AS \"a\"`",
            ),
            (columns(&[("A", "Int64", true), ("b", "Utf8", true)]), "column `a` is gone"),
        ] {
            let error = check_evolution(&old, &new, NewColumns::Allow).unwrap_err();
            assert!(error.to_string().contains(needle), "{error}");
        }
    }

    #[test]
    fn a_new_column_is_taken_only_when_allowed_and_nullable() {
        let old = columns(&[("a", "Int64", true)]);
        let new = columns(&[("b", "Utf8", true), ("a", "Int64", true)]);
        assert!(check_evolution(&old, &new, NewColumns::Refuse).unwrap_err().to_string().contains("allow_new_columns"));
        check_evolution(&old, &new, NewColumns::Allow).unwrap();
        let required = columns(&[("a", "Int64", true), ("b", "Utf8", false)]);
        assert!(check_evolution(&old, &required, NewColumns::Allow).unwrap_err().to_string().contains("cannot be null"));
    }

    #[test]
    fn a_column_keeps_its_number_and_a_new_one_gets_one_that_none_had() {
        let ids = |columns: &[OutputColumn]| columns.iter().map(|column| (column.name.clone(), column.id)).collect::<Vec<_>>();
        let first = number(&[], &columns(&[("a", "Int64", true), ("b", "Utf8", true)]));
        assert_eq!(ids(&first), [("a".into(), 1), ("b".into(), 2)]);
        let second = number(&first, &columns(&[("b", "Utf8", true), ("c", "Utf8", true), ("a", "Int64", true)]));
        assert_eq!(ids(&second), [("b".into(), 2), ("c".into(), 3), ("a".into(), 1)]);
        assert_eq!(number(&second, &second), second);
        // Those of version 1 have none yet.
        let old = columns(&[("x", "Int64", true)]);
        assert_eq!(ids(&number(&old, &old)), [("x".into(), 1)]);
    }

    #[test]
    fn every_field_has_an_id_of_its_own_however_deep_it_lies() {
        let field = |name: &str, of: DataType| Arc::new(Field::new(name, of, true));
        let pair = DataType::Struct(vec![field("a", DataType::Int32), field("b", DataType::Utf8)].into());
        let entries = DataType::Struct(vec![field("key", DataType::Utf8), field("value", pair.clone())].into());
        let map = DataType::Map(field("entries", entries), false);
        let schema = Schema::new(vec![field("n", DataType::Int64), field("l", DataType::List(field("item", pair))), field("m", map)]);
        let found = with_field_ids(&schema, &number(&number(&[], &columns(&[("gone", "Int64", true)])), &describe(&schema)));
        let mut ids = Vec::new();
        fn collect(field: &Field, ids: &mut Vec<u32>) {
            ids.extend(field.metadata().get(FIELD_ID).map(|id| id.parse::<u32>().unwrap()));
            match field.data_type() {
                DataType::List(item) | DataType::Map(item, _) => collect(item, ids),
                DataType::Struct(fields) => fields.iter().for_each(|field| collect(field, ids)),
                _ => {}
            }
        }
        found.fields().iter().for_each(|field| collect(field, &mut ids));
        // `gone` had 1, which is not given again.
        let within = |column: u32, places: std::ops::RangeInclusive<u32>| places.map(move |place| nested_id(column, place).unwrap());
        let expected: Vec<u32> = [2, 3].into_iter().chain(within(3, 1..=3)).chain([4]).chain(within(4, 1..=4)).collect();
        assert_eq!(ids, expected);
    }

    #[test]
    fn the_same_columns_in_another_order_are_taken() {
        let old = columns(&[("a", "Int64", true), ("b", "Utf8", true)]);
        let new = columns(&[("b", "Utf8", false), ("a", "Int64", true)]);
        check_evolution(&old, &new, NewColumns::Refuse).unwrap();
    }
}
