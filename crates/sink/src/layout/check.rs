//! The faults of an output schema, all at once.
//!
//! Owns: what is asked of the columns that the configuration names, and the wording.
//! Does not own: which types files can hold (see `storable`), what a directory can be called (see [`pintail_core::hive`]).

use arrow::array::new_empty_array;
use arrow::compute::{SortColumn, lexsort_to_indices};
use arrow::datatypes::{DataType, Field, Schema};
use pintail_core::{hive, sql_type, suggest};

use super::{names, storable};
use crate::config::SinkConfig;

/// Returns every fault of an output schema; none means that its rows can be written.
pub(super) fn faults(output: &Schema, sink: &SinkConfig) -> Vec<String> {
    let mut faults = name_faults(output);
    partition_faults(output, sink, &mut faults);
    event_time_faults(output, sink, &mut faults);
    sort_faults(output, sink, &mut faults);
    for name in &sink.text_statistics {
        find_in_files(output, sink, "sink.text_statistics", name, &mut faults);
    }
    bloom_faults(output, sink, &mut faults);
    let stored = output.fields().iter().filter(|field| !sink.partition_by.contains(field.name()));
    faults.extend(stored.filter_map(|field| storable::fault(field)));
    faults
}

/// Returns which columns of an output have one name. That is asked also where nothing else is known of the sink.
pub fn name_faults(output: &Schema) -> Vec<String> {
    let mut faults = Vec::new();
    for (i, field) in output.fields().iter().enumerate() {
        let name = field.name();
        let earlier = output.fields()[..i].iter().map(|field| field.name());
        let Some(twin) = earlier.into_iter().find(|earlier| earlier.to_lowercase() == name.to_lowercase()) else { continue };
        faults.push(if twin == name {
            format!("the SQL returns the column `{name}` twice: rename one with `AS`")
        } else {
            format!("the columns `{twin}` and `{name}` differ only in case, and DuckDB takes them for one: rename one with `AS`")
        });
    }
    faults
}

fn partition_faults(output: &Schema, sink: &SinkConfig, faults: &mut Vec<String>) {
    for (i, name) in sink.partition_by.iter().enumerate() {
        if sink.partition_by[..i].contains(name) {
            faults.push(format!("sink.partition_by names `{name}` twice"));
            continue;
        }
        if is_absent_default(output, sink, "partition_by", name, faults) {
            continue;
        }
        let Some(field) = find(output, "sink.partition_by", name, faults) else { continue };
        faults.extend(hive::column_name_fault(name));
        if hive::duckdb_type(field.data_type()).is_none() {
            faults.push(format!(
                "partition column `{name}` is {}, and only text, integers, booleans and dates can be in a path: write `{name}::VARCHAR AS {name}`, or `{name}::DATE AS {name}` of a time",
                sql_type::name(field.data_type())
            ));
        }
    }
    if !output.fields().is_empty() && output.fields().iter().all(|field| sink.partition_by.contains(field.name())) {
        faults
            .push("all columns of the output are partition columns, so that the files would have none: return one more in the SQL".into());
    }
    if output.fields().is_empty() {
        faults.push("the SQL returns no column".into());
    }
}

fn event_time_faults(output: &Schema, sink: &SinkConfig, faults: &mut Vec<String>) {
    let Some(name) = &sink.event_time else { return };
    if is_absent_default(output, sink, "event_time", name, faults) {
        return;
    }
    let Some(field) = find(output, "sink.event_time", name, faults) else { return };
    if sink.partition_by.contains(name) {
        faults.push(format!("`{name}` is both sink.event_time and in sink.partition_by, and partition columns are not in the files: partition by another column, such as `{name}::DATE AS day`"));
    }
    if !matches!(field.data_type(), DataType::Timestamp(_, _) | DataType::Date32 | DataType::Date64) {
        faults.push(format!(
            "sink.event_time names the column `{name}`, which is {} and not a time: convert it in the SQL, for example `epoch_ms({name}) AS {name}` of an integer of milliseconds or `{name}::TIMESTAMP AS {name}` of a text",
            sql_type::name(field.data_type())
        ));
    }
}

fn sort_faults(output: &Schema, sink: &SinkConfig, faults: &mut Vec<String>) {
    for (i, column) in sink.sort_by.iter().enumerate() {
        let name = &column.name;
        if sink.sort_by[..i].iter().any(|earlier| earlier.name == *name) {
            faults.push(format!("sink.sort_by names `{name}` twice"));
            continue;
        }
        if let Some((column, word)) = name.rsplit_once(' ')
            && output.column_with_name(name).is_none()
            && output.column_with_name(column).is_some()
        {
            faults.push(format!("sink.sort_by = \"{name}\": behind a column stands `asc` or `desc`, not `{word}`"));
            continue;
        }
        let Some(field) = find_in_files(output, sink, "sink.sort_by", name, faults) else { continue };
        let empty = SortColumn { values: new_empty_array(field.data_type()), options: None };
        if field.data_type().is_nested() || lexsort_to_indices(&[empty], None).is_err() {
            faults.push(format!(
                "sink.sort_by names the column `{name}`, which is {} and has no order: leave it out",
                sql_type::name(field.data_type())
            ));
        }
    }
}

fn bloom_faults(output: &Schema, sink: &SinkConfig, faults: &mut Vec<String>) {
    for name in &sink.bloom_filter {
        let Some(field) = find_in_files(output, sink, "sink.bloom_filter", name, faults) else { continue };
        if field.data_type().is_nested() || field.data_type() == &DataType::Boolean {
            faults.push(format!(
                "sink.bloom_filter names the column `{name}`, which is {}: Parquet has no bloom filter for it, leave it out",
                sql_type::name(field.data_type())
            ));
        }
    }
}

/// Says of a key that was not set and whose default fits the simulator's events that this is why its column is not there.
fn is_absent_default(output: &Schema, sink: &SinkConfig, key: &str, name: &str, faults: &mut Vec<String>) -> bool {
    if !sink.defaulted.contains(&key) || output.column_with_name(name).is_some() {
        return false;
    }
    let none = if key == "partition_by" { "[]" } else { "\"\"" };
    faults.push(format!(
        "sink.{key} is not set, and its default, the simulator's column `{name}`, is not in the output: set it to one of {}, or to {none} for none",
        names(output)
    ));
    true
}

/// Finds a column that has to be in the files.
fn find_in_files<'a>(output: &'a Schema, sink: &SinkConfig, key: &str, name: &str, faults: &mut Vec<String>) -> Option<&'a Field> {
    let field = find(output, key, name, faults)?;
    if sink.partition_by.iter().any(|column| column == name) {
        faults.push(format!("{key} names the partition column `{name}`, which is not in the files: leave it out"));
        return None;
    }
    Some(field)
}

/// Finds a column that the configuration names, or says what is there instead.
fn find<'a>(output: &'a Schema, key: &str, name: &str, faults: &mut Vec<String>) -> Option<&'a Field> {
    if let Some((_, field)) = output.column_with_name(name) {
        return Some(field);
    }
    let nearest = suggest::nearest(name, output.fields().iter().map(|field| field.name().as_str()));
    let hint = suggest::question(&nearest).unwrap_or_else(|| format!("it returns {}", names(output)));
    faults.push(format!("{key} names the column `{name}`, but the SQL dropped or renamed it: {hint}"));
    None
}
