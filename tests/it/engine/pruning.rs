//! Queries that open few files hold against DuckDB over all of them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::ArrowWriter;
use pintail_core::hive::HivePartition;
use pintail_duckdb::query::query;
use pintail_storage::checkpoint::columns::OutputColumn;
use pintail_storage::checkpoint::index::Bounds;
use pintail_storage::checkpoint::reader::{Committed, DataFile};
use proptest::prelude::*;
use tempfile::TempDir;

const DAY: i64 = 86_400_000_000;
const NEW_YEAR: i64 = 1_767_225_600_000_000;
/// Files of each day and region.
const PER_PARTITION: usize = 2;
const REGIONS: [Option<&str>; 8] = [Some("eu"), Some("EU"), Some("007"), Some("a'b"), Some("x/y=z %25"), Some("NULL"), Some(""), None];

struct Dataset {
    dir: TempDir,
    committed: Committed,
}

/// A dataset of three days and all regions. One file in five has no event time at all, some rows have none, the last files have a column more.
fn dataset() -> Dataset {
    let dir = tempfile::tempdir().unwrap();
    let column = |id, name: &str, data_type: String| OutputColumn { id, name: name.into(), data_type, nullable: true };
    let timestamp = arrow::datatypes::DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None).to_string();
    let mut columns = vec![
        column(1, "ts", timestamp),
        column(2, "value", "Float64".into()),
        column(3, "id", "Int64".into()),
        column(4, "region", "Utf8".into()),
        column(5, "day", "Date32".into()),
    ];
    let mut committed = Committed {
        partition_by: vec![("region".into(), "VARCHAR".into()), ("day".into(), "DATE".into())],
        classes: vec![columns.clone()],
        ..Committed::default()
    };
    columns.push(column(6, "extra", "Int64".into()));
    committed.classes.push(columns);
    let mut number = 0;
    for day in 0..3 {
        for region in REGIONS {
            let mut partition = HivePartition::root();
            partition.push("region", region).unwrap();
            partition.push("day", Some(&format!("2026-01-0{}", day + 1))).unwrap();
            committed.dirs.push(partition.dir().to_owned());
            for _ in 0..PER_PARTITION {
                number += 1;
                let class = usize::from(number > 40);
                let name = format!("events-{number}.parquet");
                let bounds = write(&dir.path().join(partition.dir()).join(&name), number, NEW_YEAR + day * DAY, class);
                committed.files.push(DataFile { dir: committed.dirs.len() - 1, name, rows: 4, class: Some(class), bounds });
            }
        }
    }
    Dataset { dir, committed }
}

fn write(path: &Path, number: i64, day: i64, class: usize) -> Vec<Bounds> {
    let times = match number % 5 {
        0 => vec![None; 4],
        _ => vec![Some(day), None, Some(day + number * 60_000_000), Some(day + DAY - 1)],
    };
    let known: Vec<i64> = times.iter().flatten().copied().collect();
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("ts", Arc::new(TimestampMicrosecondArray::from(times))),
        ("value", Arc::new(Float64Array::from(vec![Some(number as f64), Some(f64::NAN), None, Some(-0.0)]))),
        ("id", Arc::new((number * 4..number * 4 + 4).collect::<Int64Array>())),
    ];
    if class == 1 {
        columns.push(("extra", Arc::new(Int64Array::from(vec![Some(number), None, None, Some(1)]))));
    }
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let bounds = known.iter().min().zip(known.iter().max());
    bounds.map(|(min, max)| Bounds(1, *min, *max)).into_iter().collect()
}

fn rows(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        rows.extend(
            (0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join("|")),
        );
    }
    rows.sort();
    rows
}

/// What DuckDB says over all files; `None` if it fails.
fn plain(dataset: &Dataset, sql: &str) -> Option<Vec<String>> {
    let connection = duckdb::Connection::open_in_memory().unwrap();
    let path = |file| dataset.dir.path().join(dataset.committed.path(file));
    let files: Vec<String> =
        dataset.committed.files.iter().map(|file| format!("'{}'", path(file).to_str().unwrap().replace('\'', "''"))).collect();
    let view = format!(
        "CREATE VIEW events AS SELECT * FROM read_parquet([{}], union_by_name = true, hive_partitioning = true, hive_types = {{region: VARCHAR, day: DATE}})",
        files.join(", ")
    );
    connection.execute_batch(&view).unwrap();
    let mut statement = connection.prepare(sql).ok()?;
    let stream = statement.stream_arrow([]).ok()?;
    let batches: Vec<RecordBatch> = stream.collect::<duckdb::Result<_>>().ok()?;
    Some(rows(&batches))
}

/// Runs a query both ways. Returns the files that were opened.
fn same(dataset: &Dataset, sql: &str) -> Option<usize> {
    let answer = query(dataset.dir.path(), &dataset.committed, sql, usize::MAX);
    let expected = plain(dataset, sql);
    match (answer, expected) {
        (Ok(answer), Some(expected)) => {
            assert_eq!(rows(&answer.batches), expected, "{sql}");
            Some(answer.files)
        }
        (Err(_), None) => None,
        (answer, expected) => panic!("{sql}: {:?}, DuckDB alone: {expected:?}", answer.map(|answer| rows(&answer.batches))),
    }
}

#[test]
fn what_the_index_knows_opens_only_the_files_that_tell_the_columns() {
    let dataset = dataset();
    for sql in [
        "SELECT 1",
        "SELECT count(*) FROM events",
        "SELECT region, day, count(*) FROM events GROUP BY ALL",
        "SELECT count(*) FROM events WHERE region = '007' AND day > '2026-01-01'",
        "SELECT DISTINCT typeof(region), typeof(day) FROM events",
        "SELECT a.region, count(*) FROM events a JOIN events b USING (region, day) GROUP BY ALL",
        "WITH e AS (SELECT * FROM events) SELECT max(day) FROM e WHERE region IS NULL",
        "DESCRIBE events",
    ] {
        assert_eq!(same(&dataset, sql), Some(2), "{sql}");
    }
}

#[test]
fn a_where_leaves_out_the_files_that_it_rules_out() {
    let dataset = dataset();
    let all = dataset.committed.files.len();
    // Each needs the two files that tell the columns as well.
    for (sql, files) in [
        ("SELECT sum(id) FROM events WHERE region = 'eu'", 6 + 1),
        ("SELECT sum(id) FROM events e WHERE e.region IS NULL AND day = DATE '2026-01-03'", 2 + 2),
        ("SELECT sum(id) FROM events WHERE ts < '2026-01-02' AND region = 'EU'", 2 + 2 + 2),
        ("SELECT sum(id) FROM (SELECT * FROM events WHERE region = 'a''b') WHERE id > 3", 6 + 2),
        ("SELECT sum(id) FROM events", all),
        ("SELECT sum(id) FROM events WHERE NOT ts < '2026-01-02'", all),
        ("SELECT sum(id) FROM events WHERE region = 'eu' OR id = 3", all),
        ("SELECT sum(a.id) FROM events a, events b WHERE a.region = 'eu' AND b.region = 'eu' AND a.id = b.id", all),
        ("SELECT sum(id) FROM events WHERE random() < 2 AND region < 'f' || random()::VARCHAR", all),
    ] {
        let opened = same_files(&dataset, sql);
        assert_eq!(opened, files, "{sql}");
    }
    let opened = same_files(&dataset, "SELECT sum(id) FROM events WHERE ts >= '2026-01-03' AND ts < '2026-01-04'");
    assert!(opened < all / 2 + 3, "{opened}");
    // Nothing is younger than that; the files without bounds may be.
    let opened = same_files(&dataset, "SELECT sum(id) FROM events WHERE ts > now()::TIMESTAMP - INTERVAL 1 HOUR");
    assert!(opened < all / 4 + 3, "{opened}");
}

fn same_files(dataset: &Dataset, sql: &str) -> usize {
    same(dataset, sql).unwrap_or_else(|| panic!("fails: {sql}"))
}

fn predicate() -> impl Strategy<Value = String> {
    let region = proptest::sample::select(vec!["'eu'", "'EU'", "'007'", "7", "'a''b'", "'x/y=z %25'", "'NULL'", "''", "NULL", "region"]);
    let time = proptest::sample::select(vec![
        "'2026-01-02'",
        "TIMESTAMP '2026-01-01 23:59:59.999999'",
        "DATE '2026-01-03'",
        "'2026-01-02 00:19:00'",
        "now()",
        "now() - INTERVAL 300 DAY",
        "now()::TIMESTAMP - INTERVAL 300 DAY",
        "NULL",
        "ts",
        "TIMESTAMP '2026-01-01' + INTERVAL 1 DAY",
        "TIMESTAMPTZ '2026-01-02 00:00:00+00'",
        "date_trunc('day', TIMESTAMP '2026-01-02 11:00:00')",
        "'infinity'",
        "make_timestamp(2026, 1, 2, 0, 0, 0)",
    ]);
    let of_time = proptest::sample::select(vec![
        "ts",
        "events.ts",
        "ts::DATE",
        "date_trunc('day', ts)",
        "ts::TIMESTAMP",
        "ts + INTERVAL 1 DAY",
        "day",
        "TRY_CAST(ts AS DATE)",
    ]);
    let compare = proptest::sample::select(vec!["=", "<", "<=", ">", ">=", "<>", "IS DISTINCT FROM"]);
    let leaf = prop_oneof![
        (compare.clone(), region.clone()).prop_map(|(compare, region)| format!("region {compare} {region}")),
        (compare.clone(), region.clone()).prop_map(|(compare, region)| format!("{region} {compare} events.region")),
        (region.clone(), region).prop_map(|(a, b)| format!("region IN ({a}, {b})")),
        (of_time.clone(), compare.clone(), time.clone()).prop_map(|(of, compare, time)| format!("{of} {compare} {time}")),
        (time.clone(), compare.clone(), of_time.clone()).prop_map(|(time, compare, of)| format!("{time} {compare} {of}")),
        (of_time.clone(), time.clone(), time).prop_map(|(of, a, b)| format!("{of} BETWEEN {a} AND {b}")),
        of_time.prop_map(|of| format!("{of} IS NULL")),
        (compare, -2_i64..60).prop_map(|(compare, value)| format!("value {compare} {value}")),
        proptest::sample::select(vec![
            "region IS NULL",
            "region LIKE 'e%'",
            "isnan(value)",
            "extra IS NULL",
            "lower(region) = 'eu'",
            "region::INTEGER = 7",
            "TRY_CAST(region AS INTEGER) = 7",
            "region = (SELECT min(region) FROM events)",
            "EXISTS (SELECT 1 FROM events inside WHERE inside.region = events.region AND inside.day < events.day)",
            "length(region) > 2",
            "true",
            "NULL",
            "coalesce(region, 'none') = 'none'",
            "CASE WHEN region = 'eu' THEN day > '2026-01-01' ELSE false END",
            "(region = 'eu') IS NOT TRUE",
            "region COLLATE nocase = 'eu'",
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} AND {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} OR {b})")),
            inner.prop_map(|a| format!("(NOT {a})")),
        ]
    })
}

fn statement() -> impl Strategy<Value = String> {
    let columns = proptest::sample::select(vec![
        "*",
        "region, day",
        "count(*), count(ts), sum(id)",
        "id",
        "day, count(*)",
        "region AS ts, id AS region",
    ]);
    let form = proptest::sample::select(vec![
        "SELECT {columns} FROM events WHERE {where}",
        "SELECT {columns} FROM (SELECT * FROM events WHERE {where}) WHERE {other}",
        "WITH e AS (SELECT * FROM events WHERE {where}) SELECT {columns} FROM e",
        "WITH events AS (SELECT * FROM events WHERE {where}) SELECT {columns} FROM events WHERE {other}",
        "SELECT {columns} FROM events WHERE {where} UNION ALL SELECT {columns} FROM events WHERE {other}",
        "SELECT count(*) FROM (SELECT * FROM events WHERE {where}) a JOIN (SELECT * FROM events WHERE {other}) b USING (region, day)",
        "SELECT count(*), sum(b.id) FROM (SELECT * FROM events WHERE {where}) a LEFT JOIN events b ON a.id = b.id + 4 AND b.region = 'eu'",
        "SELECT count(*) FROM events NATURAL JOIN (SELECT region, id FROM events WHERE {where})",
        "SELECT count(*) FILTER (WHERE {other}) FROM events WHERE {where}",
        "FROM events WHERE {where}",
        "SELECT {columns} FROM query_table('events') AS events WHERE {where}",
        "SELECT count(*) FROM events AS events(a, region, c, ts, day) WHERE region > 3",
    ]);
    (form, columns, predicate(), predicate()).prop_map(|(form, columns, narrow, other)| {
        let grouped = if columns.contains("day, count") { " GROUP BY day" } else { "" };
        // In the outer `SELECT` the table has another name.
        let other = if form.contains("(SELECT * FROM events WHERE {where}) WHERE") { other.replace("events.", "") } else { other };
        let sql = form.replace("{columns}", columns).replace("{where}", &narrow).replace("{other}", &other);
        if form.contains("UNION") && !grouped.is_empty() { sql.replace("day, count(*)", "count(*)") } else { format!("{sql}{grouped}") }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_query_that_opens_few_files_says_what_one_over_all_files_says(statements in proptest::collection::vec(statement(), 1..2)) {
        thread_local! { static DATASET: Dataset = dataset(); }
        DATASET.with(|dataset| statements.iter().for_each(|sql| _ = same(dataset, sql)));
    }
}
