use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::*;
use chrono::TimeZone;
use pintail_core::hive::{HivePartition, NULL_VALUE};
use proptest::prelude::*;

use super::*;
use crate::config::SortColumn;

fn sink(partition_by: &[&str]) -> SinkConfig {
    SinkConfig {
        defaulted: Vec::new(),
        partition_by: partition_by.iter().map(|name| name.to_string()).collect(),
        event_time: None,
        compression: parquet::basic::Compression::UNCOMPRESSED,
        row_group_rows: 1000,
        row_group_bytes: 1 << 20,
        target_file_bytes: 1 << 20,
        buffer_bytes_max: 1 << 20,
        open_files_max: 4,
        partitions_max: 10,
        threads: 1,
        sort_by: Vec::new(),
        text_statistics: Vec::new(),
        bloom_filter: Vec::new(),
        allow_new_columns: false,
    }
}

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Vec<_>>()))
}

/// A batch of the partition columns and, last, the row numbers.
fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let rows = columns[0].1.len() as i64;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().chain([("n", numbers)]).map(|(name, column)| (name, column, true)))
        .unwrap()
}

fn splitter(rows: &RecordBatch, partition_by: &[&str]) -> Splitter {
    Splitter::new(Arc::new(OutputLayout::new(&rows.schema(), &sink(partition_by)).unwrap()))
}

/// Splits, and returns the row numbers by directory.
fn split(rows: &RecordBatch, partition_by: &[&str]) -> HashMap<String, Vec<i64>> {
    let parts = splitter(rows, partition_by).split(rows).unwrap();
    let count = parts.len();
    let numbers = |rows: &RecordBatch| rows.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec();
    let by_dir: HashMap<_, _> = parts.iter().map(|part| (part.partition.dir().to_owned(), numbers(&part.rows))).collect();
    assert_eq!(by_dir.len(), count, "a directory came twice");
    by_dir
}

fn dir_of(value: ArrayRef) -> Result<String, String> {
    let rows = batch(vec![("region", value)]);
    match splitter(&rows, &["region"]).split(&rows) {
        Ok(parts) => Ok(parts[0].partition.dir().to_owned()),
        Err(SplitError::Unplaceable(Unplaceable { reason, .. })) => Err(reason),
        Err(SplitError::Failed(error)) => panic!("{error}"),
    }
}

fn dir_of_text(text: &str) -> Result<String, String> {
    dir_of(Arc::new(StringArray::from(vec![text])))
}

fn faults(columns: &[(&str, DataType)], sink: &SinkConfig) -> Vec<String> {
    OutputLayout::new(&schema(columns), sink).err().unwrap_or_default()
}

#[test]
fn hostile_texts_stay_inside_their_directory_and_are_encoded_as_duckdb_does() {
    let cases = [
        ("us", "us"),
        ("../../etc", "..%2F..%2Fetc"),
        (".", "."),
        ("..", ".."),
        ("", ""),
        ("%", "%25"),
        ("%41", "%2541"),
        ("=", "%3D"),
        ("a\nb", "a%0Ab"),
        ("a b+c", "a%20b%2Bc"),
        ("a\\b", "a%5Cb"),
        ("a*?[]{}", "a%2A%3F%5B%5D%7B%7D"),
        ("😀é", "%F0%9F%98%80%C3%A9"),
        ("007", "007"),
        ("1e5", "1e5"),
        ("2026-01-01", "2026-01-01"),
        ("A_z-9~.", "A_z-9~."),
        // Case-equal to the literal of NULL: DuckDB gives it a directory of its own, too.
        ("__hive_default_partition__", "%5F_hive_default_partition__"),
        // DuckDB before 2.0 takes the word itself for NULL.
        ("null", "%6Eull"),
        ("NULL", "%4EULL"),
        ("Null", "%4Eull"),
        ("nulls", "nulls"),
        // Unlike DuckDB, whose own glob passes directories over: a directory must not look like a file to others.
        ("x.parquet", "x%2Eparquet"),
        (".PARQUET", "%2EPARQUET"),
        ("parquet", "parquet"),
        ("x.parquet.", "x.parquet."),
    ];
    for (text, encoded) in cases {
        assert_eq!(dir_of_text(text).unwrap(), format!("region={encoded}"), "{text:?}");
    }
}

#[test]
fn a_text_that_readers_cannot_give_back_is_unplaceable() {
    assert!(dir_of_text("__HIVE_DEFAULT_PARTITION__").unwrap_err().contains("read back as NULL"));
    assert!(dir_of_text("a\0b").unwrap_err().contains("NUL byte"));
    assert!(dir_of_text(&"x".repeat(300)).unwrap_err().contains("307 bytes"));
}

#[test]
fn the_limit_of_a_directory_name_counts_the_column_and_the_encoding() {
    assert!(dir_of_text(&"x".repeat(200 - "region=".len())).is_ok());
    assert!(dir_of_text(&"x".repeat(201 - "region=".len())).is_err());
    assert!(dir_of_text(&"%".repeat(64)).is_ok());
    assert!(dir_of_text(&"%".repeat(65)).is_err());
}

#[test]
fn null_has_the_directory_that_readers_know() {
    let null = format!("region={NULL_VALUE}");
    for data_type in [DataType::Utf8, DataType::Utf8View, DataType::Int64, DataType::Boolean, DataType::Date32] {
        assert_eq!(dir_of(new_null_array(&data_type, 1)).unwrap(), null);
    }
}

#[test]
fn integers_booleans_and_dates_stand_in_paths_as_their_text() {
    assert_eq!(dir_of(Arc::new(Int8Array::from(vec![-128]))).unwrap(), "region=-128");
    assert_eq!(dir_of(Arc::new(UInt64Array::from(vec![u64::MAX]))).unwrap(), "region=18446744073709551615");
    assert_eq!(dir_of(Arc::new(BooleanArray::from(vec![true]))).unwrap(), "region=true");
    assert_eq!(dir_of(Arc::new(Date32Array::from(vec![20_454]))).unwrap(), "region=2026-01-01");
    assert_eq!(dir_of(Arc::new(Date32Array::from(vec![-719_162]))).unwrap(), "region=0001-01-01");
    for outside in [-719_163, 2_932_897, i32::MAX, i32::MIN] {
        assert!(dir_of(Arc::new(Date32Array::from(vec![outside]))).unwrap_err().contains("years 1 to 9999"), "{outside}");
    }
}

#[test]
fn the_values_of_a_partition_are_read_back_from_its_directory() {
    let mut partition = HivePartition::root();
    partition.push("a", Some("x/y=z %")).unwrap();
    partition.push("b", None).unwrap();
    partition.push("c", Some("")).unwrap();
    partition.push("d", Some("null")).unwrap();
    let values: Vec<_> = partition.values().map(|(column, value)| (column, value.map(|value| value.into_owned()))).collect();
    assert_eq!(values, [("a", Some("x/y=z %".into())), ("b", None), ("c", Some("".into())), ("d", Some("null".into()))]);
    assert_eq!(HivePartition::root().file_path("f"), "f");
    assert_eq!(partition.file_path("f"), "a=x%2Fy%3Dz%20%25/b=__HIVE_DEFAULT_PARTITION__/c=/d=%6Eull/f");
}

#[test]
fn a_batch_of_one_partition_is_not_copied() {
    let rows = batch(vec![("region", Arc::new(StringArray::from(vec!["us"; 100])))]);
    let parts = splitter(&rows, &["region"]).split(&rows).unwrap();
    assert_eq!(parts.len(), 1);
    let address = |array: &ArrayRef| array.to_data().buffers()[0].as_ptr();
    assert_eq!(address(parts[0].rows.column(0)), address(rows.column(1)));
}

#[test]
fn without_partition_columns_rows_keep_to_the_root() {
    let rows = batch(vec![("region", Arc::new(StringArray::from(vec!["us", "eu"])))]);
    assert_eq!(split(&rows, &[]), HashMap::from([(String::new(), vec![0, 1])]));
}

#[test]
fn partition_columns_are_nested_in_the_configured_order_and_left_out_of_the_files() {
    let regions: ArrayRef = Arc::new(StringArray::from(vec!["us", "eu", "us", "us"]));
    let days: ArrayRef = Arc::new(Date32Array::from(vec![20_454, 20_454, 20_455, 20_454]));
    let rows = batch(vec![("region", regions), ("day", days)]);
    let expected = [("day=2026-01-01/region=us", vec![0, 3]), ("day=2026-01-01/region=eu", vec![1]), ("day=2026-01-02/region=us", vec![2])];
    assert_eq!(split(&rows, &["day", "region"]), expected.map(|(dir, rows)| (dir.to_owned(), rows)).into());
    let parts = splitter(&rows, &["day", "region"]).split(&rows).unwrap();
    assert!(parts.iter().all(|part| part.rows.schema().fields().len() == 1));
}

#[test]
fn every_text_type_and_dictionary_splits_alike() {
    let values = [Some("us"), None, Some("a text longer than any inline view"), Some(""), Some("us"), None, Some("exactly15bytes.")];
    let expected = split(&batch(vec![("region", Arc::new(StringArray::from(values.to_vec())))]), &["region"]);
    assert_eq!(expected.len(), 5);
    assert_eq!(expected["region=us"], [0, 4]);
    assert_eq!(expected[&format!("region={NULL_VALUE}")], [1, 5]);
    let dictionary: DictionaryArray<Int8Type> = values.into_iter().collect();
    // The same with a null among the values, beside null keys, and a value twice.
    let keys = Int32Array::from(vec![Some(0), None, Some(2), Some(3), Some(4), Some(1), Some(5)]);
    let words = StringViewArray::from(vec![Some("us"), None, values[2], Some(""), Some("us"), values[6], Some("unused\0")]);
    let nulls_twice = DictionaryArray::new(keys, Arc::new(words));
    let others: Vec<ArrayRef> = vec![
        Arc::new(LargeStringArray::from(values.to_vec())),
        Arc::new(StringViewArray::from(values.to_vec())),
        Arc::new(dictionary),
        Arc::new(nulls_twice),
        new_null_array(&DataType::Utf8, 0),
    ];
    for column in others.into_iter().filter(|column| !column.is_empty()) {
        let rows = batch(vec![("region", column)]);
        assert_eq!(split(&rows, &["region"]), expected, "{}", rows.column(0).data_type());
        let slice = rows.slice(1, 5);
        assert_eq!(split(&slice, &["region"])["region=us"], [4]);
    }
}

#[test]
fn rows_of_a_partition_are_split_by_the_hour_of_their_event_time() {
    const HOUR: i64 = 3_600_000_000;
    let columns = |times: Vec<Option<i64>>, regions: Vec<&str>| {
        batch(vec![("ts", Arc::new(TimestampMicrosecondArray::from(times)) as ArrayRef), ("region", Arc::new(StringArray::from(regions)))])
    };
    let split = |rows: &RecordBatch, partition_by: &[&str]| {
        let sink = SinkConfig { event_time: Some("ts".into()), ..sink(partition_by) };
        let parts = Splitter::new(Arc::new(OutputLayout::new(&rows.schema(), &sink).unwrap())).split(rows).unwrap();
        let numbers = |rows: &RecordBatch| rows.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec();
        parts.iter().map(|part| (part.partition.dir().to_owned(), part.hours.clone(), numbers(&part.rows))).collect::<Vec<_>>()
    };
    // The last microsecond before 1970 is of the hour before; a time that no calendar has is of none.
    let times = vec![Some(HOUR), Some(-1), Some(2 * HOUR - 1), None, Some(i64::MAX), Some(HOUR)];
    let rows = columns(times, vec!["us", "us", "us", "eu", "eu", "eu"]);
    let of = |dir: &str, hours: &[(Option<i64>, usize)], rows: &[i64]| (dir.to_owned(), hours.to_vec(), rows.to_vec());
    let expected = [of("region=us", &[(Some(-1), 1), (Some(1), 2)], &[1, 0, 2]), of("region=eu", &[(None, 2), (Some(1), 1)], &[3, 4, 5])];
    assert_eq!(split(&rows, &["region"]), expected);
    assert_eq!(split(&rows, &[]), [of("", &[(None, 2), (Some(-1), 1), (Some(1), 3)], &[3, 4, 1, 0, 2, 5])]);
    let one_hour = columns(vec![Some(0), Some(HOUR - 1)], vec!["us", "us"]);
    assert_eq!(split(&one_hour, &[]), [of("", &[(Some(0), 2)], &[0, 1])]);
    let without = columns(vec![None, None], vec!["us", "us"]);
    assert_eq!(split(&without, &["region"]), [of("region=us", &[(None, 2)], &[0, 1])]);
}

#[test]
fn a_batch_without_rows_has_no_partition() {
    let rows = batch(vec![("region", new_null_array(&DataType::Utf8, 0))]);
    assert!(split(&rows, &["region"]).is_empty());
    let mut all_null: DictionaryArray<Int32Type> = vec![None::<&str>; 3].into_iter().collect();
    all_null = all_null.with_values(Arc::new(StringArray::from(Vec::<Option<&str>>::new())));
    assert_eq!(split(&batch(vec![("region", Arc::new(all_null))]), &["region"])[&format!("region={NULL_VALUE}")], [0, 1, 2]);
}

#[test]
fn the_unplaceable_row_is_named() {
    let rows = batch(vec![("region", Arc::new(StringArray::from(vec!["us", "eu", "bad\0", "us", "bad\0"])))]);
    let Err(SplitError::Unplaceable(found)) = splitter(&rows, &["region"]).split(&rows) else { panic!("was split") };
    assert_eq!(found.row, 2);
    assert!(found.reason.contains("`region`"), "{}", found.reason);
}

#[test]
fn a_partition_is_remembered_between_batches() {
    let rows = batch(vec![("region", Arc::new(StringArray::from(vec!["us", "eu"])))]);
    let mut splitter = splitter(&rows, &["region"]);
    let first = splitter.split(&rows).unwrap();
    let second = splitter.split(&rows).unwrap();
    assert!(first.iter().zip(&second).all(|(a, b)| Arc::ptr_eq(&a.partition, &b.partition)));
}

#[test]
fn a_batch_of_another_schema_is_refused() {
    let rows = batch(vec![("region", Arc::new(StringArray::from(vec!["us"])))]);
    let mut splitter = splitter(&rows, &["region"]);
    assert!(matches!(splitter.split(&rows.project(&[0]).unwrap()), Err(SplitError::Failed(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_split_agrees_with_grouping_row_by_row(
        rows in prop::collection::vec((0..400_i64, prop::option::of(prop::sample::select(vec!["", "a", "b", "ab"])), any::<Option<bool>>()), 1..300),
    ) {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0 * i64::from(u32::MAX))));
        let texts: ArrayRef = Arc::new(StringViewArray::from_iter(rows.iter().map(|row| row.1)));
        let flags: ArrayRef = Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.2)));
        let mut expected: HashMap<String, Vec<i64>> = HashMap::new();
        for (row, (id, text, flag)) in rows.iter().enumerate() {
            let or_null = |value: Option<String>| value.unwrap_or(NULL_VALUE.into());
            let dir = format!(
                "id={}/text={}/flag={}",
                id * i64::from(u32::MAX), or_null(text.map(str::to_owned)), or_null(flag.map(|flag| flag.to_string()))
            );
            expected.entry(dir).or_default().push(row as i64);
        }
        let rows = batch(vec![("id", ids), ("text", texts), ("flag", flags)]);
        prop_assert_eq!(split(&rows, &["id", "text", "flag"]), expected);
    }
}

#[test]
fn thousands_of_partitions_keep_every_row() {
    let rows = 40_000_i64;
    let ids: ArrayRef = Arc::new(Int32Array::from_iter_values((0..rows).map(|row| (row * 7919 % 1013) as i32)));
    let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..rows).map(|row| format!("t{}", row % 101))));
    let batch = batch(vec![("id", ids), ("text", texts)]);
    let by_dir = split(&batch, &["id", "text"]);
    assert!(by_dir.len() > 30_000, "{}", by_dir.len());
    let mut seen: Vec<i64> = by_dir.values().flatten().copied().collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..rows).collect::<Vec<_>>());
    for (dir, numbers) in &by_dir {
        assert!(numbers.is_sorted());
        assert!(numbers.iter().all(|row| *dir == format!("id={}/text=t{}", row * 7919 % 1013, row % 101)), "{dir}");
    }
}

#[test]
fn of_thousands_of_partitions_each_comes_once_with_its_hours_in_order() {
    const HOUR: i64 = 3_600_000_000;
    let rows = 100_000_i64;
    let ids: ArrayRef = Arc::new(Int32Array::from_iter_values((0..rows).map(|row| (row * 7919 % 40_009) as i32)));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values((0..rows).map(|row| row * 31 % 3 * HOUR)));
    let batch = batch(vec![("id", ids), ("ts", times)]);
    let sink = SinkConfig { event_time: Some("ts".into()), ..sink(&["id"]) };
    let parts = Splitter::new(Arc::new(OutputLayout::new(&batch.schema(), &sink).unwrap())).split(&batch).unwrap();
    let mut dirs: Vec<_> = parts.iter().map(|part| part.partition.dir()).collect();
    dirs.sort_unstable();
    dirs.dedup();
    assert_eq!((parts.len(), dirs.len()), (40_009, 40_009));
    for part in &parts {
        let times = part.rows.column_by_name("ts").unwrap().as_primitive::<TimestampMicrosecondType>();
        assert!(part.hours.is_sorted() && times.values().is_sorted(), "{:?}", part.hours);
        assert_eq!(part.hours.iter().map(|(_, rows)| rows).sum::<usize>(), part.rows.num_rows());
    }
}

#[test]
fn all_faults_are_named_at_once_with_the_nearest_column() {
    let mut sink = sink(&["reigon", "day", "_part"]);
    sink.event_time = Some("amount".into());
    sink.sort_by = vec![SortColumn { name: "tags".into(), descending: false }];
    sink.bloom_filter = vec!["nowhere_at_all".into()];
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int32, true)));
    let columns = [
        ("region", DataType::Utf8),
        ("day", DataType::Float64),
        ("_part", DataType::Int32),
        ("amount", DataType::Float64),
        ("Amount", DataType::Int32),
        ("tags", list),
        ("d", DataType::Interval(IntervalUnit::MonthDayNano)),
    ];
    let faults = faults(&columns, &sink);
    let expected = [
        "`amount` and `Amount` differ only in case",
        "`reigon`, but the SQL dropped or renamed it: did you mean `region`",
        "partition column `day` is DOUBLE",
        "partition column `_part` begins with `_`",
        "`amount`, which is DOUBLE and not a time",
        "`tags`, which is INTEGER[] and has no order",
        "`nowhere_at_all`, but the SQL dropped or renamed it: it returns `region`, `day`",
        "`d` is INTERVAL, which Parquet readers do not agree on: write `d::VARCHAR AS d`",
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.contains(expected), "{fault}\nlacks\n{expected}");
    }
}

#[test]
fn a_misspelt_direction_is_not_taken_for_a_part_of_the_column() {
    let mut sink = sink(&[]);
    sink.sort_by = vec![SortColumn { name: "a desk".into(), descending: false }];
    let faults = faults(&[("a", DataType::Int32)], &sink);
    assert!(faults.len() == 1 && faults[0].contains("`asc` or `desc`, not `desk`"), "{faults:?}");
}

#[test]
fn a_column_returned_twice_is_a_fault() {
    assert!(faults(&[("a", DataType::Int32), ("a", DataType::Int32)], &sink(&[]))[0].contains("`a` twice"));
}

#[test]
fn an_output_of_partition_columns_alone_is_a_fault() {
    assert!(faults(&[("a", DataType::Int32)], &sink(&["a"]))[0].contains("all columns"));
    assert!(faults(&[], &sink(&[]))[0].contains("no column"));
}

#[test]
fn an_event_time_in_the_path_is_a_fault() {
    let mut sink = sink(&["day"]);
    sink.event_time = Some("day".into());
    let faults = faults(&[("day", DataType::Date32), ("n", DataType::Int32)], &sink);
    assert!(faults.len() == 1 && faults[0].contains("both sink.event_time and in sink.partition_by"), "{faults:?}");
}

#[test]
fn a_sort_statistics_or_bloom_column_in_the_path_is_a_fault() {
    let mut sink = sink(&["a"]);
    sink.text_statistics = vec!["a".into()];
    sink.sort_by = vec![SortColumn { name: "a".into(), descending: true }];
    sink.bloom_filter = vec!["a".into()];
    assert_eq!(faults(&[("a", DataType::Int32), ("n", DataType::Int32)], &sink).len(), 3);
}

#[test]
fn a_partition_column_whose_name_duckdb_would_not_decode_is_a_fault() {
    for name in ["a b", "é", "a=b", "a/b", ".a", "_a"] {
        assert_eq!(faults(&[(name, DataType::Int32), ("n", DataType::Int32)], &sink(&[name])).len(), 1, "{name}");
    }
    assert_eq!(faults(&[("a-b.c~D_9", DataType::Int32), ("n", DataType::Int32)], &sink(&["a-b.c~D_9"])), Vec::<String>::new());
}

#[test]
fn types_that_readers_disagree_on_are_refused_with_the_cast_also_within_others() {
    let item = |data_type| Arc::new(Field::new("item", data_type, true));
    let refused = [
        (DataType::Interval(IntervalUnit::YearMonth), "c::VARCHAR"),
        (DataType::Duration(TimeUnit::Microsecond), "c::VARCHAR"),
        (DataType::Null, "c::VARCHAR"),
        (DataType::Union(UnionFields::empty(), UnionMode::Sparse), "c::VARCHAR"),
        (DataType::Timestamp(TimeUnit::Second, None), "c::TIMESTAMP"),
        (DataType::Date64, "c::DATE"),
        (DataType::Time32(TimeUnit::Second), "c::TIME"),
        (DataType::Decimal256(70, 2), "c::DECIMAL(38, 2)"),
        (DataType::Struct(Fields::empty()), "c::VARCHAR"),
        (DataType::List(item(DataType::Duration(TimeUnit::Second))), "c::VARCHAR"),
    ];
    for (data_type, cast) in refused {
        let faults = faults(&[("c", data_type.clone())], &sink(&[]));
        assert!(faults.len() == 1 && faults[0].contains(&format!("write `{cast} AS c`")), "{data_type}: {faults:?}");
    }
}

#[test]
fn types_that_readers_agree_on_are_taken() {
    let item = |data_type| Arc::new(Field::new("item", data_type, true));
    let pair = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, true)]);
    let taken = vec![
        DataType::Utf8View,
        DataType::BinaryView,
        DataType::Float16,
        DataType::Decimal128(38, 2),
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(TimeUnit::Nanosecond, None),
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::List(item(DataType::Utf8View)),
        DataType::FixedSizeList(item(DataType::Int32), 3),
        DataType::Struct(vec![Field::new("a", DataType::Int32, true)].into()),
        DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false),
        DataType::Dictionary(Box::new(DataType::UInt8), Box::new(DataType::Utf8)),
    ];
    for data_type in taken {
        assert_eq!(faults(&[("c", data_type.clone())], &sink(&[])), Vec::<String>::new(), "{data_type}");
    }
}

#[test]
fn the_layout_tells_readers_the_types_and_users_the_path() {
    let output = schema(&[("n", DataType::Int32), ("region", DataType::Utf8View), ("day", DataType::Date32)]);
    let layout = OutputLayout::new(&output, &sink(&["region", "day"])).unwrap();
    assert_eq!(layout.partition_columns(), [("region".into(), "VARCHAR".into()), ("day".into(), "DATE".into())]);
    assert_eq!(layout.file_schema().fields().len(), 1);
    let hour = Utc.with_ymd_and_hms(2026, 1, 1, 7, 0, 0).unwrap();
    assert_eq!(layout.example_path(hour), "region=<region>/day=<day>/events-2026-01-01-07-2.parquet");
}

#[test]
fn a_default_that_fits_the_simulator_alone_is_named_as_what_asks_for_the_column() {
    let output = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("time", DataType::Int64, true)]));
    let config = SinkConfig { defaulted: vec!["partition_by", "event_time"], event_time: Some("ts".into()), ..sink(&["region"]) };
    let faults = OutputLayout::new(&output, &config).unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
    for (fault, key) in faults.iter().zip(["sink.partition_by", "sink.event_time"]) {
        assert!(fault.starts_with(&format!("{key} is not set, and its default")) && fault.contains("`id`, `time`"), "{fault}");
    }
    // One that somebody wrote is a name that is not there.
    let written = OutputLayout::new(&output, &SinkConfig { defaulted: Vec::new(), ..config }).unwrap_err();
    assert!(written.iter().all(|fault| fault.contains("names the column")), "{written:?}");
}
