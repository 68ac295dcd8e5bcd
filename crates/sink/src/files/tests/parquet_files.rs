//! What is in the files: row groups, order, filters, types.

use parquet::basic::Encoding;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::*;

fn rows(count: i64) -> Vec<(Option<i64>, i64)> {
    (0..count).map(|n| (Some(NEW_YEAR + n), n * 7_919 % 1_000)).collect()
}

#[test]
fn row_groups_hold_the_configured_rows() {
    for sort_by in [Vec::new(), vec![SortColumn { name: "n".into(), descending: false }]] {
        let mut checkpoint = Checkpoint::new(&SinkConfig { row_group_rows: 100, sort_by, ..sink() });
        checkpoint.append("us", &rows(70));
        checkpoint.append("us", &rows(170));
        checkpoint.append("us", &rows(20));
        assert_eq!(checkpoint.finish()[0].row_groups(), [100, 100, 60]);
    }
}

#[test]
fn row_groups_end_at_the_configured_bytes() {
    let mut checkpoint = Checkpoint::new(&SinkConfig { row_group_bytes: 2_000, ..sink() });
    (0..10).for_each(|_| assert!(checkpoint.append("us", &rows(500)).is_empty()));
    let files = checkpoint.finish();
    assert!(files[0].row_groups().len() > 2, "{:?}", files[0].row_groups());
    assert_eq!(files[0].rows.num_rows(), 5_000);
}

#[test]
fn each_row_group_is_sorted_and_says_so() {
    let sort_by = vec![SortColumn { name: "n".into(), descending: true }, SortColumn { name: "ts".into(), descending: false }];
    let mut checkpoint = Checkpoint::new(&SinkConfig { row_group_rows: 600, sort_by, ..sink() });
    checkpoint.append("us", &rows(500));
    checkpoint.append("us", &[(None, 999), (None, 5)]);
    checkpoint.append("us", &rows(500));
    let files = checkpoint.finish();
    let file = files.iter().find(|file| file.path.contains("2026-01-01")).unwrap();
    assert_eq!(file.row_groups(), [600, 400]);
    let times = file.rows.column(0).as_primitive::<TimestampMicrosecondType>();
    let numbers = file.numbers();
    for group in [0..600, 600..1000] {
        let keys: Vec<_> = group.map(|row| (-numbers[row], times.value(row))).collect();
        assert!(keys.is_sorted());
    }
    let sorting = file.metadata.row_group(1).sorting_columns().unwrap();
    let sorting: Vec<_> = sorting.iter().map(|column| (column.column_idx, column.descending, column.nulls_first)).collect();
    assert_eq!(sorting, [(1, true, false), (0, false, false)]);
}

#[test]
fn nulls_are_sorted_last_and_a_sort_column_is_counted_by_leaves() {
    let pair = Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Int32, true)]);
    let fields = vec![Field::new("pair", DataType::Struct(pair.clone()), true), Field::new("k", DataType::Utf8View, true)];
    let output = Arc::new(Schema::new(fields));
    for (descending, expected) in [(false, [Some("a"), Some("b"), None]), (true, [Some("b"), Some("a"), None])] {
        let sort_by = vec![SortColumn { name: "k".into(), descending }];
        let config = SinkConfig { partition_by: Vec::new(), event_time: None, sort_by, ..sink() };
        let mut checkpoint = Checkpoint::of(&output, &config);
        let pairs = new_null_array(&DataType::Struct(pair.clone()), 3);
        let keys: ArrayRef = Arc::new(StringViewArray::from(vec![None, Some("b"), Some("a")]));
        let rows = RecordBatch::try_new(output.clone(), vec![pairs, keys]).unwrap();
        checkpoint.append_to(HivePartition::root(), rows);
        let file = checkpoint.finish().remove(0);
        assert_eq!(file.rows.column(1).as_string::<i32>().iter().collect::<Vec<_>>(), expected);
        let sorting = &file.metadata.row_group(0).sorting_columns().unwrap()[0];
        assert_eq!((sorting.column_idx, sorting.descending, sorting.nulls_first), (2, descending, false));
    }
}

#[test]
fn files_have_statistics_page_index_compression_and_their_maker() {
    let mut checkpoint = Checkpoint::new(&SinkConfig { bloom_filter: vec!["n".into()], ..sink() });
    checkpoint.append("us", &rows(50_000));
    let file = checkpoint.finish().remove(0);
    assert_eq!(
        file.metadata.file_metadata().created_by(),
        Some(concat!("pintail version ", env!("CARGO_PKG_VERSION"), " (build unknown)"))
    );
    let group = file.metadata.row_group(0);
    for column in group.columns() {
        assert!(column.statistics().is_some_and(|statistics| statistics.min_bytes_opt().is_some()));
        assert!(matches!(column.compression(), parquet::basic::Compression::ZSTD(_)));
        assert!(column.offset_index_offset().is_some() && column.column_index_offset().is_some());
        assert!(column.encodings().any(|encoding| encoding == Encoding::DELTA_BINARY_PACKED));
    }
    assert!(group.column(1).bloom_filter_offset().is_some());
    assert!(group.column(0).bloom_filter_offset().is_none());
}

#[test]
fn text_has_statistics_only_where_it_has_an_order_or_they_are_asked_for() {
    let fields = ["plain", "asked", "sorted"].map(|name| Field::new(name, DataType::Utf8View, true));
    let output = Arc::new(Schema::new(fields.to_vec()));
    let config = SinkConfig {
        partition_by: Vec::new(),
        event_time: None,
        sort_by: vec![SortColumn { name: "sorted".into(), descending: false }],
        text_statistics: vec!["asked".into()],
        ..sink()
    };
    let mut checkpoint = Checkpoint::of(&output, &config);
    let texts: ArrayRef = Arc::new(StringViewArray::from(vec![Some("b"), None, Some("a")]));
    let rows = RecordBatch::try_new(output, vec![texts.clone(), texts.clone(), texts]).unwrap();
    checkpoint.append_to(HivePartition::root(), rows);
    let file = checkpoint.finish().remove(0);
    let least = file.metadata.row_group(0).columns().iter().map(|column| column.statistics()?.min_bytes_opt());
    assert_eq!(least.collect::<Vec<_>>(), [None, Some(b"a".as_slice()), Some(b"a")]);
}

#[test]
fn a_bloom_filter_finds_what_was_written_and_little_else() {
    let mut checkpoint = Checkpoint::new(&SinkConfig { bloom_filter: vec!["n".into()], ..sink() });
    let numbers: Vec<_> = (0..10_000).map(|n| (Some(NEW_YEAR), n * 2)).collect();
    checkpoint.append("us", &numbers);
    let (staging, files) = checkpoint.files.finish().unwrap();
    let path = staging.dir().join(format!("{}.inprogress", files[0].staged.index));
    let properties = parquet::file::properties::ReaderProperties::builder().set_read_bloom_filter(true).build();
    let options = parquet::file::serialized_reader::ReadOptionsBuilder::new().with_reader_properties(properties).build();
    let reader = SerializedFileReader::new_with_options(File::open(path).unwrap(), options).unwrap();
    let group = reader.get_row_group(0).unwrap();
    let filter = group.get_column_bloom_filter(1).unwrap();
    assert!((0..10_000_i64).all(|n| filter.check(&(n * 2))));
    assert!((0..10_000_i64).filter(|n| filter.check(&(n * 2 + 1))).count() < 1_500);
}

#[test]
fn every_kind_of_column_is_read_back_as_it_was() {
    let decimals = Decimal128Array::from(vec![Some(12_345), None, Some(-1)]).with_precision_and_scale(38, 2).unwrap();
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), None, Some(vec![])]);
    let ints: ArrayRef = Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(i32::MAX)]));
    let structs = StructArray::from(vec![(Arc::new(Field::new("a", DataType::Int32, true)), ints.clone())]);
    let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None, Some("x")].into_iter().collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("view", Arc::new(StringViewArray::from(vec![Some("short"), None, Some("long enough to leave the view")]))),
        ("binary", Arc::new(BinaryViewArray::from(vec![Some(b"\0\xff".as_slice()), None, Some(b"")]))),
        ("decimal", Arc::new(decimals)),
        ("list", Arc::new(lists)),
        ("struct", Arc::new(structs)),
        ("dictionary", Arc::new(dictionary)),
        ("int", ints),
        ("long", Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]))),
        ("unsigned", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None, Some(0)]))),
        ("double", Arc::new(Float64Array::from(vec![Some(f64::MIN_POSITIVE), None, Some(-0.0)]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
    ];
    let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap();
    let config = SinkConfig { partition_by: Vec::new(), event_time: None, ..sink() };
    let mut checkpoint = Checkpoint::of(&rows.schema(), &config);
    checkpoint.append_to(HivePartition::root(), rows.clone());
    // Dictionaries and views come back as plain values: the files carry no Arrow schema.
    let plain = |column: &ArrayRef| match column.data_type() {
        DataType::Dictionary(..) | DataType::Utf8View => arrow::compute::cast(column, &DataType::Utf8).unwrap(),
        DataType::BinaryView => arrow::compute::cast(column, &DataType::Binary).unwrap(),
        _ => column.clone(),
    };
    let read = &checkpoint.finish()[0].rows;
    for (name, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let found = read.column_by_name(name.name()).unwrap();
        assert_eq!(format!("{found:?}"), format!("{:?}", plain(column)), "{name}");
    }
}

/// A file of floating-point numbers, also within lists and structs, beside other columns.
fn numbers(values: &[Option<f64>], groups: usize) -> Written {
    let list = Arc::new(Field::new_list_field(DataType::Float32, true));
    let pair = Fields::from(vec![Field::new("x", DataType::Float64, true), Field::new("n", DataType::Int64, true)]);
    let output = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("f", DataType::Float64, true),
        Field::new("p", DataType::Struct(pair.clone()), true),
        Field::new("l", DataType::List(list), true),
        Field::new("nan", DataType::Float64, true),
    ]));
    let config = SinkConfig { partition_by: Vec::new(), event_time: None, row_group_rows: values.len().div_ceil(groups).max(1), ..eager() };
    let mut checkpoint = Checkpoint::of(&output, &config);
    let count = values.len() as i64;
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    let floats: ArrayRef = Arc::new(Float64Array::from_iter(values.iter().copied()));
    let mut lists = ListBuilder::new(Float32Builder::new());
    for value in values {
        lists.values().append_option(value.map(|value| value as f32));
        lists.append(true);
    }
    let nan: ArrayRef =
        Arc::new(Float64Array::from_iter(values.iter().enumerate().map(|(row, value)| if row == 0 { Some(f64::NAN) } else { *value })));
    let pairs: ArrayRef = Arc::new(StructArray::new(pair, vec![floats.clone(), ids.clone()], None));
    let rows = RecordBatch::try_new(output, vec![ids, floats, pairs, Arc::new(lists.finish()), nan]).unwrap();
    checkpoint.append_to(HivePartition::root(), rows);
    checkpoint.finish().remove(0)
}

proptest::proptest! {
    #[test]
    fn numbers_have_the_order_that_all_readers_know_with_zeros_that_lie_further_out_and_no_bounds_beside_a_nan(
        values in proptest::collection::vec(proptest::option::of(proptest::prop_oneof![
            proptest::strategy::Just(0.0), proptest::strategy::Just(-0.0), proptest::strategy::Just(f64::INFINITY), proptest::strategy::Just(f64::NEG_INFINITY),
            proptest::strategy::Just(1.5), proptest::strategy::Just(-2.5), proptest::strategy::Just(f64::MIN_POSITIVE),
        ]), 1..40),
        groups in 1_usize..4,
    ) {
        let file = numbers(&values, groups);
        let orders = file.metadata.file_metadata().column_orders().unwrap();
        let kinds: Vec<bool> = orders.iter().map(|order| matches!(order, parquet::basic::ColumnOrder::TYPE_DEFINED_ORDER(_))).collect();
        assert_eq!(kinds, [true; 6]);
        let step = values.len().div_ceil(groups).max(1);
        for (group, values) in file.metadata.row_groups().iter().zip(values.chunks(step)) {
            let known: Vec<f64> = values.iter().flatten().copied().collect();
            let least = known.iter().copied().reduce(f64::min).map(|least| if least == 0.0 { -0.0 } else { least });
            let most = known.iter().copied().reduce(f64::max).map(|most| if most == 0.0 { 0.0 } else { most });
            for column in [1, 2] {
                let statistics = group.column(column).statistics().unwrap();
                let bits = |bytes: Option<&[u8]>| bytes.map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
                assert_eq!(bits(statistics.min_bytes_opt()), least.map(f64::to_bits));
                assert_eq!(bits(statistics.max_bytes_opt()), most.map(f64::to_bits));
            }
        }
        for (group, chunks) in file.metadata.row_groups().iter().enumerate() {
            let beside_nan = chunks.column(5);
            let has_bounds = beside_nan.statistics().is_some_and(|statistics| statistics.min_bytes_opt().is_some() || statistics.max_bytes_opt().is_some());
            let has_numbers = values.iter().skip(group * step).take(step).any(Option::is_some);
            assert_eq!((has_bounds, beside_nan.column_index_range().is_some()), (group > 0 && has_numbers, group > 0));
            assert!(chunks.column(1).column_index_range().is_some());
        }
    }
}

#[test]
fn every_column_has_the_id_of_the_ledger_also_what_a_nested_one_holds() {
    let pair = Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Int32, true)]);
    let fields = vec![
        Field::new("region", DataType::Utf8View, true),
        Field::new("pair", DataType::Struct(pair.clone()), true),
        Field::new("k", DataType::Utf8View, true),
    ];
    let output = Arc::new(Schema::new(fields));
    for sort_by in [Vec::new(), vec![SortColumn { name: "k".into(), descending: false }]] {
        let config = SinkConfig { event_time: None, sort_by, ..sink() };
        let mut checkpoint = Checkpoint::of(&output, &config);
        let rows = new_null_array(&DataType::Struct(checkpoint.layout.file_schema().fields().clone()), 3);
        let rows = RecordBatch::try_new(checkpoint.layout.file_schema().clone(), rows.as_struct().columns().to_vec()).unwrap();
        checkpoint.append_rows("us", rows);
        let written = checkpoint.finish();
        let root = written[0].metadata.file_metadata().schema();
        let id = |of: &parquet::schema::types::Type| of.get_basic_info().has_id().then(|| of.get_basic_info().id());
        let ids: Vec<_> = root.get_fields().iter().map(|of| id(of)).collect();
        // `region` is 1, and in the path.
        assert_eq!(ids, [Some(2), Some(3)]);
        let inside: Vec<_> = root.get_fields()[0].get_fields().iter().map(|of| id(of)).collect();
        assert_eq!(inside, [1, 2].map(|place| columns::nested_id(2, place).and_then(|id| i32::try_from(id).ok())));
    }
}
