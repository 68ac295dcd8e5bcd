use std::sync::Arc;

use arrow::array::{
    Array, AsArray, DictionaryArray, Float64Array, Int32Array, StringViewArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{Float64Type, Int32Type};

use super::*;

fn monitor(group_by: &str, value: &str) -> MonitorConfig {
    MonitorConfig { group_by: group_by.into(), value: value.into(), defaulted: Vec::new(), groups_max: 10 }
}

fn output(rows: Range<i32>) -> RecordBatch {
    let bucket = |row: i32| (row % 5 != 4).then_some(["low", "medium", "high", "a bucket beyond twelve bytes"][(row % 5 % 4) as usize]);
    let buckets: ArrayRef = Arc::new(StringViewArray::from_iter(rows.clone().map(bucket)));
    let amounts: ArrayRef = Arc::new(Float64Array::from_iter(rows.clone().map(|row| (row % 3 != 0).then_some(f64::from(row)))));
    let counts: ArrayRef = Arc::new(Int32Array::from_iter_values(rows));
    RecordBatch::try_from_iter_with_nullable([("bucket", buckets, true), ("amount", amounts, true), ("n", counts, true)]).unwrap()
}

fn totals(aggregator: &Aggregator, rows: &RecordBatch) -> Vec<(Option<String>, Total)> {
    let totals = aggregator.totals(rows).unwrap();
    totals.groups().map(|(name, total)| (name.map(str::to_owned), *total)).collect()
}

#[test]
fn counts_and_sums_equal_those_added_up_by_hand_also_of_the_null_group() {
    let rows = output(0..5000);
    let aggregator = Aggregator::new(rows.schema_ref(), &monitor("bucket", "amount"));
    assert!(aggregator.warnings().is_empty());
    let mut expected = Totals::default();
    let (groups, values) = (rows.column(0).as_string_view(), rows.column(1).as_primitive::<Float64Type>());
    for row in 0..rows.num_rows() {
        let value = values.is_valid(row).then(|| values.value(row));
        let total = Total { rows: 1, values: value.map_or(0, |_| 1), sum: value.unwrap_or_default() };
        expected.add(groups.is_valid(row).then(|| groups.value(row)), total, 10);
    }
    assert_eq!(aggregator.totals(&rows).unwrap(), expected);
    assert_eq!(expected.groups().len(), 5);
}

#[test]
fn a_dictionary_as_group_and_an_integer_as_value_are_cast() {
    let groups: DictionaryArray<Int32Type> = ["us", "eu", "us"].into_iter().collect();
    let values = Int32Array::from(vec![Some(1), Some(2), None]);
    let columns: [(&str, ArrayRef); 2] = [("region", Arc::new(groups)), ("n", Arc::new(values))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let aggregator = Aggregator::new(batch.schema_ref(), &monitor("region", "n"));
    let total = |rows, values, sum| Total { rows, values, sum };
    assert_eq!(totals(&aggregator, &batch), [(Some("eu".into()), total(1, 1, 2.0)), (Some("us".into()), total(2, 1, 1.0))]);
}

#[test]
fn a_missing_column_narrows_the_figures_and_is_named_with_the_nearest() {
    let batch = output(0..10);
    let all = |values, sum| vec![(Some("all".to_owned()), Total { rows: 10, values, sum })];

    let neither = Aggregator::new(batch.schema_ref(), &monitor("buckets", "amuont"));
    assert_eq!(
        neither.warnings(),
        [
            "monitor.group_by = `buckets` is no column of the output: did you mean `bucket`?",
            "monitor.value = `amuont` is no column of the output: did you mean `amount`?"
        ]
    );
    assert_eq!(totals(&neither, &batch), all(0, 0.0));

    let defaults = MonitorConfig { defaulted: vec!["group_by", "value"], ..monitor("buckets", "amuont") };
    let unasked = Aggregator::new(batch.schema_ref(), &defaults);
    assert!(unasked.warnings().is_empty(), "nobody asked for these columns: {:?}", unasked.warnings());
    assert_eq!(totals(&unasked, &batch), all(0, 0.0));

    let no_group = Aggregator::new(batch.schema_ref(), &monitor("buckets", "amount"));
    assert_eq!(totals(&no_group, &batch), all(6, 27.0));

    let no_value = Aggregator::new(batch.schema_ref(), &monitor("bucket", "bucket"));
    assert_eq!(no_value.warnings(), ["monitor.value = `bucket` is of type VARCHAR, which cannot be shown"]);
    assert_eq!(totals(&no_value, &batch)[0], (None, Total { rows: 2, values: 0, sum: 0.0 }));
}

#[test]
fn no_rows_make_no_groups() {
    let batch = output(0..0);
    let aggregator = Aggregator::new(batch.schema_ref(), &monitor("bucket", "amount"));
    assert_eq!(aggregator.totals(&batch).unwrap(), Totals::default());
}

#[test]
fn polars_reads_numbers_where_arrow_put_them() {
    for rows in [output(0..3000), output(3000..6000).slice(7, 100)] {
        let amounts = polars_series("value", rows.column(1)).unwrap();
        let after = amounts.f64().unwrap().downcast_iter().next().unwrap();
        assert_eq!(after.values().as_slice().as_ptr(), rows.column(1).as_primitive::<Float64Type>().values().as_ptr());
    }
}

#[test]
fn a_time_that_no_calendar_of_ours_has_is_a_group_as_any_other() {
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(i64::MAX), Some(0), Some(i64::MAX), None]));
    let hours: ArrayRef = Arc::new(Time64MicrosecondArray::from(vec![Some(86_400_000_000), Some(0), None, None]));
    let rows = RecordBatch::try_from_iter_with_nullable([("at", times, true), ("hour", hours, true)]).unwrap();
    for (column, name, count) in [("at", "infinity", 2), ("hour", "24:00:00", 1)] {
        let aggregator = Aggregator::new(rows.schema_ref(), &monitor(column, ""));
        let found = totals(&aggregator, &rows).into_iter().find(|(group, _)| group.as_deref() == Some(name));
        assert_eq!(found.map(|(_, total)| total.rows), Some(count), "{column}");
    }
}
