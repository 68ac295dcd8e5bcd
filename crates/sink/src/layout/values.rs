//! Which values of a column that files can hold come back from them.
//!
//! Owns: the times that DuckDB reads back, in columns, lists and structs; which row has another.
//! Does not own: which types files can hold (see `storable`), which values can be in a path (see [`pintail_core::hive`]).
//!
//! DuckDB computes times that it does not take itself. `make_timestamp` makes some before its first one, and to show one of them fails a
//! check of DuckDB's own, after which it takes no query; a file with milliseconds whose microseconds are no 64-bit number cannot be read at
//! all. pyarrow and Polars read any number.

use std::ops::RangeInclusive;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Schema, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
};

use pintail_core::sql_type;

use super::storable::children;

/// The microseconds that DuckDB takes: from 290309-12-22 (BC) to the last before infinity.
const FIRST: i64 = -9_223_372_022_400_000_000;
const LAST: i64 = INFINITY - 1;
/// The greatest number. Its negative is the other infinity.
const INFINITY: i64 = i64::MAX;
/// Microseconds of a day. 24:00:00 is a time of its own.
const DAY: i64 = 86_400_000_000;

/// The numbers that stand for times.
struct Times {
    finite: RangeInclusive<i64>,
    or_infinite: bool,
}

impl Times {
    /// Returns those of a type; `None` if it has no others.
    fn of(data_type: &DataType) -> Option<Self> {
        let (finite, or_infinite) = match data_type {
            DataType::Timestamp(TimeUnit::Microsecond, _) => (FIRST..=LAST, true),
            DataType::Timestamp(TimeUnit::Millisecond, _) => (FIRST / 1_000..=LAST / 1_000, true),
            DataType::Time64(TimeUnit::Microsecond) => (0..=DAY, false),
            DataType::Time64(TimeUnit::Nanosecond) => (0..=DAY * 1_000, false),
            _ => return None,
        };
        Some(Self { finite, or_infinite })
    }

    fn have(&self, number: i64) -> bool {
        self.finite.contains(&number) || (self.or_infinite && (number == INFINITY || number == -INFINITY))
    }
}

/// Returns the columns that may hold a value that does not come back.
pub(super) fn doubtful(schema: &Schema) -> Vec<usize> {
    (0..schema.fields().len()).filter(|&index| is_doubtful(schema.field(index).data_type())).collect()
}

fn is_doubtful(data_type: &DataType) -> bool {
    Times::of(data_type).is_some() || children(data_type).into_iter().any(|child| is_doubtful(child.data_type()))
}

/// Returns the first row of a batch whose value in one of these columns does not come back, and why.
pub(super) fn fault(rows: &RecordBatch, doubtful: &[usize]) -> Option<(usize, String)> {
    doubtful.iter().find_map(|&index| {
        let column = rows.column(index);
        if all_come_back(column) {
            return None;
        }
        let (row, number) = (0..column.len()).find_map(|row| Some((row, lost(column, row)?)))?;
        let (name, data_type) = (rows.schema_ref().field(index).name().clone(), column.data_type());
        Some((
            row,
            format!("column `{name}` ({}): DuckDB cannot read the time {number} back: test for it in the SQL", sql_type::name(data_type)),
        ))
    })
}

/// Looks at all numbers at once, also at those behind nulls: if it says yes, all come back.
fn all_come_back(column: &dyn Array) -> bool {
    match column.data_type() {
        DataType::List(_) => all_come_back(column.as_list::<i32>().values()),
        DataType::LargeList(_) => all_come_back(column.as_list::<i64>().values()),
        DataType::FixedSizeList(..) => all_come_back(column.as_fixed_size_list().values()),
        DataType::Map(..) => all_come_back(column.as_map().entries()),
        DataType::Struct(_) => column.as_struct().columns().iter().all(|child| all_come_back(child)),
        other => match (Times::of(other), numbers(column)) {
            (Some(times), Some(numbers)) => numbers.iter().all(|number| times.have(*number)),
            _ => !is_doubtful(other),
        },
    }
}

/// Returns a number in a row that does not come back.
fn lost(column: &dyn Array, row: usize) -> Option<i64> {
    if column.is_null(row) {
        return None;
    }
    let in_any = |items: &dyn Array| (0..items.len()).find_map(|item| lost(items, item));
    match column.data_type() {
        DataType::List(_) => in_any(&column.as_list::<i32>().value(row)),
        DataType::LargeList(_) => in_any(&column.as_list::<i64>().value(row)),
        DataType::ListView(_) => in_any(&column.as_list_view::<i32>().value(row)),
        DataType::LargeListView(_) => in_any(&column.as_list_view::<i64>().value(row)),
        DataType::FixedSizeList(..) => in_any(&column.as_fixed_size_list().value(row)),
        DataType::Map(..) => in_any(&column.as_map().value(row)),
        DataType::Struct(_) => column.as_struct().columns().iter().find_map(|child| lost(child, row)),
        other => {
            let (times, number) = (Times::of(other)?, numbers(column)?[row]);
            (!times.have(number)).then_some(number)
        }
    }
}

fn numbers(column: &dyn Array) -> Option<&[i64]> {
    Some(match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => column.as_primitive::<TimestampMicrosecondType>().values(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => column.as_primitive::<TimestampMillisecondType>().values(),
        DataType::Time64(TimeUnit::Microsecond) => column.as_primitive::<Time64MicrosecondType>().values(),
        DataType::Time64(TimeUnit::Nanosecond) => column.as_primitive::<Time64NanosecondType>().values(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, FixedSizeListArray, ListArray, MapArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
        TimestampMillisecondArray, TimestampNanosecondArray,
    };
    use arrow::buffer::{NullBuffer, OffsetBuffer};
    use arrow::datatypes::{Field, Fields};

    use super::*;

    fn faulty_row(column: ArrayRef) -> Option<usize> {
        let rows = RecordBatch::try_from_iter_with_nullable([("x", column, true)]).unwrap();
        fault(&rows, &doubtful(rows.schema_ref())).map(|(row, reason)| {
            assert!(reason.contains("column `x`"), "{reason}");
            row
        })
    }

    #[test]
    fn times_come_back_up_to_the_first_and_the_last_of_duckdb_and_the_infinite_ones() {
        let micros = |number: i64| faulty_row(Arc::new(TimestampMicrosecondArray::from(vec![0, number]).with_timezone_opt(Some("UTC"))));
        for number in [FIRST, LAST, INFINITY, -INFINITY] {
            assert_eq!(micros(number), None, "{number}");
        }
        for number in [FIRST - 1, 1 - INFINITY, i64::MIN] {
            assert_eq!(micros(number), Some(1), "{number}");
        }
        let millis = |number: i64| faulty_row(Arc::new(TimestampMillisecondArray::from(vec![number])));
        for number in [FIRST / 1_000, LAST / 1_000, INFINITY, -INFINITY] {
            assert_eq!(millis(number), None, "{number}");
        }
        for number in [FIRST / 1_000 - 1, LAST / 1_000 + 1, LAST, i64::MIN] {
            assert_eq!(millis(number), Some(0), "{number}");
        }
        assert_eq!(faulty_row(Arc::new(TimestampNanosecondArray::from(vec![i64::MIN, i64::MAX]))), None);
        assert_eq!(faulty_row(Arc::new(Time64MicrosecondArray::from(vec![0, DAY]))), None);
        assert_eq!(faulty_row(Arc::new(Time64MicrosecondArray::from(vec![0, DAY + 1]))), Some(1));
    }

    #[test]
    fn a_time_in_a_list_a_struct_or_a_map_is_looked_at_and_one_behind_a_null_is_not() {
        let numbers: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![0, i64::MIN, 0]));
        let item = Arc::new(Field::new("item", numbers.data_type().clone(), true));
        let list = |nulls: Vec<bool>| -> ArrayRef {
            let offsets = OffsetBuffer::from_lengths([1, 1, 1]);
            Arc::new(ListArray::new(item.clone(), offsets, numbers.clone(), Some(NullBuffer::from(nulls))))
        };
        assert_eq!(faulty_row(list(vec![true, true, true])), Some(1));
        assert_eq!(faulty_row(list(vec![true, false, true])), None);
        assert_eq!(faulty_row(list(vec![true, true, true]).slice(2, 1)), None);
        let fixed = FixedSizeListArray::new(item.clone(), 1, numbers.clone(), None);
        assert_eq!(faulty_row(Arc::new(fixed)), Some(1));
        let fields = Fields::from(vec![item.clone()]);
        let structs = |nulls: Option<Vec<bool>>| StructArray::new(fields.clone(), vec![numbers.clone()], nulls.map(NullBuffer::from));
        assert_eq!(faulty_row(Arc::new(structs(None))), Some(1));
        assert_eq!(faulty_row(Arc::new(structs(Some(vec![true, false, true])))), None);
        let entry =
            Fields::from(vec![Field::new("k", numbers.data_type().clone(), false), Field::new("v", numbers.data_type().clone(), true)]);
        let entries =
            StructArray::new(entry.clone(), vec![Arc::new(TimestampMicrosecondArray::from(vec![0, 1, 2])), numbers.clone()], None);
        let map = MapArray::new(
            Arc::new(Field::new("entries", DataType::Struct(entry), false)),
            OffsetBuffer::from_lengths([0, 2, 1]),
            entries,
            None,
            false,
        );
        assert_eq!(faulty_row(Arc::new(map)), Some(1));
        assert_eq!(faulty_row(Arc::new(TimestampMicrosecondArray::from(vec![None, Some(0)]))), None);
    }
}
