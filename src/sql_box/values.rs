//! Values: rows of Arrow as JSON.
//!
//! Owns: what JSON cannot hold, or JavaScript not exactly: such values become text.
//! Does not own: the query (see `pintail_duckdb::query`).

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Decimal128Type, Float32Type, Float64Type};
use arrow::datatypes::{Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Map, Value, json};

/// Up to here a JavaScript number holds every integer.
const EXACT: i128 = 1 << 53;

/// Returns a row of a batch as a list of values.
pub(super) fn row(batch: &RecordBatch, row: usize) -> Result<Vec<Value>, ArrowError> {
    batch.columns().iter().map(|column| value(column, row)).collect()
}

fn value(column: &ArrayRef, row: usize) -> Result<Value, ArrowError> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match column.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::Int8 => integer::<Int8Type>(column, row),
        DataType::Int16 => integer::<Int16Type>(column, row),
        DataType::Int32 => integer::<Int32Type>(column, row),
        DataType::Int64 => integer::<Int64Type>(column, row),
        DataType::UInt8 => integer::<UInt8Type>(column, row),
        DataType::UInt16 => integer::<UInt16Type>(column, row),
        DataType::UInt32 => integer::<UInt32Type>(column, row),
        DataType::UInt64 => integer::<UInt64Type>(column, row),
        // DuckDB's HUGEINT, what a sum of integers is.
        DataType::Decimal128(_, 0) => integer::<Decimal128Type>(column, row),
        DataType::Float32 => float(column.as_primitive::<Float32Type>().value(row).into()),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => json!(column.as_string::<i64>().value(row)),
        DataType::Utf8View => json!(column.as_string_view().value(row)),
        DataType::List(_) => list(&column.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(row))?,
        DataType::FixedSizeList(..) => list(&column.as_fixed_size_list().value(row))?,
        DataType::Struct(fields) => {
            let structure = column.as_struct();
            let members = fields.iter().zip(structure.columns()).map(|(field, column)| Ok((field.name().clone(), value(column, row)?)));
            Value::Object(members.collect::<Result<Map<_, _>, ArrowError>>()?)
        }
        _ => Value::String(ArrayFormatter::try_new(column, &FormatOptions::default())?.value(row).try_to_string()?),
    })
}

fn integer<T: ArrowPrimitiveType<Native: Into<i128>>>(column: &ArrayRef, row: usize) -> Value {
    let number: i128 = column.as_primitive::<T>().value(row).into();
    match i64::try_from(number) {
        Ok(exact) if number.abs() <= EXACT => json!(exact),
        _ => json!(number.to_string()),
    }
}

fn float(number: f64) -> Value {
    if number.is_finite() { json!(number) } else { json!(number.to_string()) }
}

fn list(items: &ArrayRef) -> Result<Value, ArrowError> {
    (0..items.len()).map(|index| value(items, index)).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn what_a_javascript_number_cannot_hold_becomes_text() {
        let columns: [(&str, ArrayRef); 5] = [
            ("a", Arc::new(Int64Array::from(vec![Some(1 << 53), Some((1 << 53) + 1), Some(i64::MIN), None]))),
            ("b", Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::NAN), Some(f64::INFINITY), None]))),
            ("c", Arc::new(StringArray::from(vec![Some("<script>"), Some("\"\n"), Some(""), None]))),
            (
                "d",
                Arc::new(
                    Decimal128Array::from(vec![Some(7), Some(i128::MAX / 100), Some(-7), None]).with_precision_and_scale(38, 0).unwrap(),
                ),
            ),
            ("e", Arc::new(TimestampMicrosecondArray::from(vec![Some(0), Some(1), None, None]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let rows: Vec<Vec<Value>> = (0..4).map(|number| row(&batch, number).unwrap()).collect();
        assert_eq!(json!(rows[0]), json!([9_007_199_254_740_992_i64, 1.5, "<script>", 7, "1970-01-01T00:00:00"]));
        let huge = (i128::MAX / 100).to_string();
        assert_eq!(json!(rows[1]), json!(["9007199254740993", "NaN", "\"\n", huge, "1970-01-01T00:00:00.000001"]));
        assert_eq!(json!(rows[2]), json!(["-9223372036854775808", "inf", "", -7, null]));
        assert_eq!(json!(rows[3]), json!([null, null, null, null, null]));
    }
}
