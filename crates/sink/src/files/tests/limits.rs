//! Limits that bite: open files, partitions, sizes, memory.

use super::*;

/// A number that no encoding makes smaller.
fn scrambled(n: i64) -> i64 {
    let n = (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (n ^ n >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) as i64
}

#[test]
fn without_room_a_new_hour_joins_the_nearest_open_file_of_its_partition() {
    let mut checkpoint = Checkpoint::new(&SinkConfig { open_files_max: 2, ..sink() });
    checkpoint.append("us", &[(Some(NEW_YEAR), 1), (Some(NEW_YEAR + 10 * HOUR), 2)]);
    checkpoint.append("us", &[(Some(NEW_YEAR + 2 * HOUR), 3), (Some(NEW_YEAR + 9 * HOUR), 4), (Some(NEW_YEAR - HOUR), 5)]);
    let files = checkpoint.finish();
    let expected =
        [("region=us/events-2025-12-31-23-42.parquet", vec![1, 5, 3]), ("region=us/events-2026-01-01-09-42.parquet", vec![2, 4])];
    assert_eq!(numbers_by_path(&files), expected.into());
}

#[test]
fn two_files_that_turn_out_to_have_the_same_earliest_hour_get_different_names() {
    let mut checkpoint = Checkpoint::new(&SinkConfig { open_files_max: 1, ..eager() });
    checkpoint.append("us", &[(Some(NEW_YEAR), 1)]);
    checkpoint.append("eu", &[(Some(NEW_YEAR), 2)]);
    checkpoint.append("us", &[(Some(NEW_YEAR + HOUR), 3), (Some(NEW_YEAR), 4)]);
    let files = checkpoint.finish();
    let expected = [
        ("region=eu/events-2026-01-01-00-42.parquet", vec![2]),
        ("region=us/events-2026-01-01-00-42.parquet", vec![1]),
        ("region=us/events-2026-01-01-00-42-1.parquet", vec![4, 3]),
    ];
    assert_eq!(numbers_by_path(&files), expected.into());
}

#[test]
fn a_partition_too_many_for_the_writers_closes_the_longest_unused() {
    let mut checkpoint = Checkpoint::new(&SinkConfig { open_files_max: 2, ..eager() });
    for (n, region) in ["a", "b", "a", "c", "a", "b"].into_iter().enumerate() {
        checkpoint.append(region, &[(Some(NEW_YEAR), n as i64)]);
    }
    assert_eq!(checkpoint.disk.open_max(), 2);
    let files = checkpoint.finish();
    let expected = [
        ("region=a/events-2026-01-01-00-42.parquet", vec![0, 2, 4]),
        ("region=b/events-2026-01-01-00-42.parquet", vec![1]),
        ("region=b/events-2026-01-01-00-42-1.parquet", vec![5]),
        ("region=c/events-2026-01-01-00-42.parquet", vec![3]),
    ];
    assert_eq!(numbers_by_path(&files), expected.into());
}

#[test]
fn partitions_with_few_rows_each_do_not_close_one_anothers_files() {
    let mut checkpoint = Checkpoint::new(&SinkConfig { open_files_max: 3, ..sink() });
    for round in 0..10 {
        for region in 0..50 {
            checkpoint.append(&region.to_string(), &[(Some(NEW_YEAR), round)]);
        }
    }
    assert_eq!(checkpoint.disk.open_max(), 0);
    let disk = checkpoint.disk.clone();
    let files = checkpoint.finish();
    assert_eq!(files.len(), 50);
    assert!(files.iter().all(|file| file.numbers() == (0..10).collect::<Vec<_>>()));
    // As many as there are threads.
    assert_eq!(disk.open_max(), 2);
}

#[test]
fn many_partitions_and_hours_keep_every_row_within_few_open_files_and_little_memory() {
    for sort_by in [Vec::new(), vec![SortColumn { name: "n".into(), descending: false }]] {
        let config =
            SinkConfig { open_files_max: 4, row_group_bytes: 2_000, target_file_bytes: 6_000, buffer_bytes_max: 20_000, sort_by, ..sink() };
        let mut checkpoint = Checkpoint::new(&config);
        let mut expected: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for n in 0..200_i64 {
            let region = (n * 31 % 13).to_string();
            let rows: Vec<_> = (0..50).map(|i| (Some(NEW_YEAR + (n * i * 7919 % 30) * HOUR), n * 50 + i)).collect();
            checkpoint.append(&region, &rows);
            expected.entry(format!("region={region}")).or_default().extend(rows.iter().map(|row| row.1));
            assert!(checkpoint.files.held_bytes() <= 20_000, "{}", checkpoint.files.held_bytes());
        }
        let disk = checkpoint.disk.clone();
        let mut found: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for file in checkpoint.finish() {
            found.entry(file.path.split('/').next().unwrap().to_owned()).or_default().extend(file.numbers());
        }
        found.values_mut().for_each(|numbers| numbers.sort_unstable());
        assert_eq!(found, expected);
        assert!(disk.open_max() <= 4, "{}", disk.open_max());
    }
}

#[test]
fn rows_past_the_partitions_of_a_checkpoint_come_back_whole() {
    let output = Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("region", DataType::Utf8View, true),
        Field::new("day", DataType::Date32, true),
        Field::new("shard", DataType::Int16, true),
        Field::new("n", DataType::Int64, true),
    ]));
    let partition_by = vec!["day".into(), "region".into(), "shard".into()];
    let mut checkpoint = Checkpoint::of(&output, &SinkConfig { partitions_max: 1, partition_by, ..sink() });
    let mut append = |region: Option<&str>| {
        let mut partition = HivePartition::root();
        partition.push("day", Some("2026-01-01")).unwrap();
        partition.push("region", region).unwrap();
        partition.push("shard", Some("7")).unwrap();
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![None, Some(NEW_YEAR)]));
        let rows = vec![times, Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef];
        let rows = RecordBatch::try_new(checkpoint.layout.file_schema().clone(), rows).unwrap();
        checkpoint.append_to(partition, rows)
    };
    assert!(append(Some("us")).is_empty());
    let letters = append(Some("a\n\"b\""));
    let rows: Vec<_> = letters.iter().map(|letter| std::str::from_utf8(&letter.row_json).unwrap()).collect();
    let expected = [
        r#"{"ts":null,"region":"a\n\"b\"","day":"2026-01-01","shard":7,"n":1}"#,
        r#"{"ts":"2026-01-01T00:00:00","region":"a\n\"b\"","day":"2026-01-01","shard":7,"n":2}"#,
    ];
    assert_eq!(rows, expected);
    assert!(letters[0].reason.contains("1 of sink.partitions_max"), "{}", letters[0].reason);
    let other = append(None);
    assert!(other[0].row_json.starts_with(br#"{"ts":null,"region":null,"#));
    assert_eq!(other[0].reason, letters[0].reason, "one reason, whatever the values are: the row has them");
    assert!(append(Some("us")).is_empty(), "a known partition goes on");
    assert!(checkpoint.finish().iter().all(|file| file.path.starts_with("day=2026-01-01/region=us/shard=7/")));
}

#[test]
fn a_file_rolls_at_its_size_and_the_next_is_numbered() {
    let mut checkpoint = Checkpoint::new(&SinkConfig { target_file_bytes: 3_000, ..sink() });
    let rows = |from: i64| -> Vec<_> { (from..from + 100).map(|n| (Some(NEW_YEAR), scrambled(n))).collect() };
    (0..20).for_each(|i| assert!(checkpoint.append("us", &rows(i * 100)).is_empty()));
    let files = checkpoint.finish();
    assert!(files.len() > 2, "{:?}", paths(&files));
    for (index, file) in files.iter().enumerate().skip(1) {
        assert_eq!(file.path, format!("region=us/events-2026-01-01-00-42-{index}.parquet"));
    }
    let numbers: Vec<_> = files.iter().flat_map(Written::numbers).collect();
    assert_eq!(numbers, (0..2_000).map(scrambled).collect::<Vec<_>>());
}

#[test]
fn past_the_memory_the_fullest_file_flushes_a_row_group_early() {
    let mut checkpoint = Checkpoint::new(&SinkConfig { buffer_bytes_max: 60_000, ..eager_writers() });
    checkpoint.append("small", &[(Some(NEW_YEAR), 0)]);
    for n in 0..40 {
        let rows: Vec<_> = (0..1_000).map(|i| (Some(NEW_YEAR), scrambled(n * 1_000 + i))).collect();
        checkpoint.append("large", &rows);
        assert!(checkpoint.files.held_bytes() <= 60_000);
    }
    let files = checkpoint.finish();
    assert!(files[0].row_groups().len() > 2, "{:?}", files[0].row_groups());
    assert_eq!(files[0].rows.num_rows(), 40_000);
    assert_eq!(files[1].row_groups(), [1]);
}

/// Writers from the first row, row groups of the usual size.
fn eager_writers() -> SinkConfig {
    SinkConfig { row_group_bytes: 1 << 20, ..sink() }
}

#[test]
fn collected_rows_do_not_keep_the_batch_that_they_were_cut_from() {
    let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..10_000).map(|n| format!("a text that is not inline {n}"))));
    let output = Arc::new(Schema::new(vec![Field::new("region", DataType::Utf8, true), Field::new("text", DataType::Utf8View, true)]));
    // A row group that is to be sorted is collected whole.
    let sort_by = vec![SortColumn { name: "text".into(), descending: false }];
    let mut checkpoint = Checkpoint::of(&output, &SinkConfig { event_time: None, sort_by, ..sink() });
    let whole = RecordBatch::try_new(checkpoint.layout.file_schema().clone(), vec![texts]).unwrap();
    for row in 0..20 {
        checkpoint.append_rows("us", whole.slice(row * 100, 1));
    }
    let held = checkpoint.files.held_bytes();
    assert!(held > 0 && held < 20_000, "{held}");
}

#[test]
fn a_row_group_ends_when_its_file_gets_no_rows_for_a_while_unless_it_is_small() {
    let mut checkpoint = Checkpoint::new(&sink());
    let random = |n: i64| {
        let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64);
        (Some(NEW_YEAR), (mixed ^ (mixed >> 29)).wrapping_mul(0x3F58_476D_1CE4_E5B9))
    };
    let many: Vec<_> = (0..60_000).map(random).collect();
    checkpoint.append("large", &many);
    checkpoint.append("small", &many[..20_000]);
    let held = checkpoint.files.held_bytes();
    for n in 0..20 {
        checkpoint.append("busy", &[(Some(NEW_YEAR), n)]);
    }
    assert!(checkpoint.files.held_bytes() < held / 2, "{} of {held}", checkpoint.files.held_bytes());
    for region in ["large", "small"] {
        checkpoint.append(region, &many[..10]);
    }
    let files = checkpoint.finish();
    let groups: BTreeMap<_, _> = files.iter().map(|file| (file.path.split('/').next().unwrap(), file.row_groups())).collect();
    assert_eq!(groups, [("region=busy", vec![20]), ("region=large", vec![60_000, 10]), ("region=small", vec![20_010])].into());
}

#[test]
fn shedding_ends_when_making_room_for_the_fullest_file_closes_another_full_one() {
    let sort_by = vec![SortColumn { name: "n".into(), descending: false }];
    let mut checkpoint = Checkpoint::new(&SinkConfig { open_files_max: 1, buffer_bytes_max: 20_000, sort_by, ..sink() });
    let rows = |count: i64| (0..count).map(|n| (Some(NEW_YEAR), n)).collect::<Vec<_>>();
    // The first has a writer from here on.
    checkpoint.append("a", &rows(5_000));
    let frame = [("a", 4_000), ("b", 5_000)].map(|(region, count)| {
        let mut partition = HivePartition::root();
        partition.push("region", Some(region)).unwrap();
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![NEW_YEAR; count]));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count as i64));
        let rows = RecordBatch::try_new(checkpoint.layout.file_schema().clone(), vec![times, numbers]).unwrap();
        PartitionedRows { partition: Arc::new(partition), rows, hours: vec![(Some(NEW_YEAR / HOUR), count)] }
    });
    checkpoint.files.append(frame.into()).unwrap();
    assert!(checkpoint.files.held_bytes() <= 20_000);
    let files = checkpoint.finish();
    assert_eq!(files.iter().map(|file| file.row_groups()).collect::<Vec<_>>(), [vec![5_000, 4_000], vec![5_000]]);
}

#[test]
fn wide_rows_of_many_partitions_end_files_early_and_so_many_files_end_the_checkpoint() {
    const COLUMNS: usize = 100;
    let names = (0..COLUMNS).map(|n| Field::new(format!("c{n}"), DataType::Utf8View, true));
    let output = Arc::new(Schema::new(std::iter::once(Field::new("region", DataType::Utf8, true)).chain(names).collect::<Vec<_>>()));
    let buffer_bytes_max = 500_000;
    let mut checkpoint = Checkpoint::of(&output, &SinkConfig { event_time: None, buffer_bytes_max, row_group_bytes: 500_000, ..sink() });
    let mut rows = 0;
    while !checkpoint.files.is_due() {
        let text: ArrayRef = Arc::new(StringViewArray::from(vec![format!("the text of row {rows} is not inline")]));
        let row = RecordBatch::try_new(checkpoint.layout.file_schema().clone(), vec![text; COLUMNS]).unwrap();
        checkpoint.append_rows(&(rows % 20).to_string(), row);
        assert!(checkpoint.files.held_bytes() <= buffer_bytes_max, "{}", checkpoint.files.held_bytes());
        rows += 1;
        assert!(rows < 10_000, "it is never due");
    }
    assert!(checkpoint.files.written_bytes() < buffer_bytes_max / 2, "{}", checkpoint.files.written_bytes());
    let files = checkpoint.finish();
    assert_eq!(files.iter().map(|file| file.rows.num_rows()).sum::<usize>(), rows);
}
