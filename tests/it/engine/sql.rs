use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use pintail_config::Config;
use pintail_core::error::{Error, ErrorKind};
use pintail_core::transform::TransformConfig;
use pintail_duckdb::{Engine, Failure, FailureKind, SqlError};

use super::{per_batch, transform, worker};

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("region", DataType::Utf8, true),
        Field::new("amount", DataType::Float64, true),
        Field::new("n", DataType::Int64, true),
    ]))
}

/// Rows `from..to`: `n` counts, `region` is its decimal text.
fn batch(from: i64, to: i64) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values((from..to).map(|n| 1_767_225_600_000 + n))),
        Arc::new(StringArray::from_iter_values((from..to).map(|n| n.to_string()))),
        Arc::new(Float64Array::from_iter_values((from..to).map(|n| n as f64 / 2.0))),
        Arc::new(Int64Array::from_iter_values(from..to)),
    ];
    RecordBatch::try_new(input(), columns).unwrap()
}

fn refused(config: &TransformConfig) -> Error {
    let error = Engine::open(config, input()).expect_err(&config.sql);
    assert_eq!(error.kind(), ErrorKind::Config, "{}: {error}", config.sql);
    assert!(!error.to_string().contains('\n'), "{error}");
    error
}

fn numbers(rows: &RecordBatch) -> Vec<i64> {
    rows.column(0).as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn a_misspelt_column_is_refused_at_the_start_with_the_nearest_one() {
    let error = refused(&transform("SELECT regoin FROM events")).to_string();
    assert!(
        error.starts_with("`transform.sql` fails: Binder Error") && error.contains("\"regoin\"") && error.contains("\"region\""),
        "{error}"
    );
    let error = refused(&transform("SELECT n FROM evnets")).to_string();
    assert!(error.contains("evnets") && error.contains("events"), "{error}");
}

#[test]
fn sql_that_nobody_gave_is_not_blamed_on_who_declared_other_columns() {
    let columns = r#"schema.columns=[{name="n",type="int64"}]"#;
    let config = Config::load(None, std::iter::empty(), &[columns.to_owned()]).unwrap();
    let error = Engine::open(&config.transform, config.schema.arrow()).unwrap_err().to_string();
    assert!(error.contains("`transform.sql` is not set") && error.contains("default"), "{error}");
    let given = Config::load(None, std::iter::empty(), &[columns.to_owned(), "transform.sql=SELECT x FROM events".to_owned()]).unwrap();
    let error = Engine::open(&given.transform, given.schema.arrow()).unwrap_err().to_string();
    assert!(!error.contains("default"), "{error}");
}

#[test]
fn sql_that_needs_an_extension_is_refused_with_its_name_and_a_way_out() {
    for (sql, extension, way_out) in [
        ("today() AS d", "icu", "now()::TIMESTAMP::DATE"),
        ("ts AT TIME ZONE 'Europe/Berlin' AS t", "icu", "x::TIMESTAMP"),
        ("region COLLATE de AS r", "icu", "x::TIMESTAMP"),
        ("region::INET AS i", "inet", "where the files are read"),
        ("st_point(n, n) AS p", "spatial", "where the files are read"),
    ] {
        let error = refused(&transform(&format!("SELECT {sql} FROM events"))).to_string();
        let words =
            [format!("DuckDB's extension `{extension}`"), "not linked into pintail".into(), "from the network".into(), way_out.into()];
        assert!(words.iter().all(|word| error.contains(word)) && !error.contains("INSTALL"), "{sql}: {error}");
    }
    // The way out is one.
    let today =
        worker(&transform("SELECT now()::TIMESTAMP::DATE AS d, ts::TIMESTAMP AS t FROM events"), &input()).run(&batch(0, 3)).unwrap();
    assert_eq!(today.num_rows(), 3);
}

#[test]
fn what_only_duckdb_can_read_is_refused_with_the_cast_to_write() {
    for (sql, name) in [("n::VARIANT AS v", "v"), ("n, [n::VARIANT] AS \"a b\"", "a b"), ("{'a': n::VARIANT} AS v", "v")] {
        let error = refused(&transform(&format!("SELECT {sql} FROM events;  -- a comment"))).to_string();
        assert!(error.contains("VARIANT") && error.contains(&format!("`{name}::VARCHAR AS {name}`")), "{error}");
    }
}

#[test]
fn anything_but_one_select_is_refused_and_nothing_of_it_is_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    for sql in [
        format!("COPY (SELECT 1) TO '{path}/a.csv'; SELECT n FROM events"),
        format!("COPY events TO '{path}/b.parquet'"),
        format!("EXPORT DATABASE '{path}/c'"),
        format!("ATTACH '{path}/d.db'"),
        format!("IMPORT DATABASE '{path}'"),
        "SELECT n FROM events; SELECT n FROM events".to_owned(),
        "CREATE TABLE t AS SELECT * FROM events".to_owned(),
        "SET threads = 4".to_owned(),
        "PRAGMA database_list".to_owned(),
        "CALL pragma_version()".to_owned(),
        "INSTALL httpfs".to_owned(),
        "LOAD json".to_owned(),
        "EXPLAIN SELECT n FROM events".to_owned(),
        "EXPLAIN ANALYZE SELECT n FROM events".to_owned(),
        "PREPARE p AS SELECT n FROM events".to_owned(),
        "WITH w AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM w".to_owned(),
        "-- nothing".to_owned(),
        String::new(),
        "SELECT n FROM events WHERE".to_owned(),
    ] {
        let error = refused(&per_batch(&sql)).to_string();
        assert!(error.starts_with("`transform.sql` "), "{sql}: {error}");
    }
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn the_sql_may_end_in_a_semicolon_and_hold_comments() {
    let sql = "-- the numbers; all of them\nSELECT n /* ; */ FROM events;\n-- the end\n";
    assert_eq!(worker(&transform(sql), &input()).run(&batch(0, 10)).unwrap().num_rows(), 10);
}

#[test]
fn files_and_settings_are_out_of_reach() {
    for sql in [
        "SELECT content FROM read_text('/etc/passwd'), events",
        "SELECT * FROM events, read_csv('/etc/passwd')",
        "SELECT * FROM events, '/etc/passwd.csv'",
        "SELECT * FROM events, glob('/etc/*')",
        "SELECT n, getenv('HOME') FROM events",
    ] {
        refused(&per_batch(sql));
    }
    let sql =
        "SELECT current_setting('enable_external_access')::VARCHAR || current_setting('lock_configuration')::VARCHAR AS s FROM events";
    let found = worker(&transform(sql), &input()).run(&batch(0, 1)).unwrap();
    assert_eq!(found.column(0).as_string_view().value(0), "falsetrue");
}

#[test]
fn the_function_that_takes_the_rows_out_is_not_for_the_users_sql() {
    let error = refused(&per_batch("SELECT n, Pintail_Gather(0, n) AS g FROM events")).to_string();
    assert!(error.contains("`pintail_gather`, which is Pintail's own"), "{error}");
}

#[test]
fn coupled_rows_are_refused_unless_the_configuration_allows_them() {
    let sql = "SELECT region, count(*) AS c FROM events GROUP BY region";
    let error = refused(&transform(sql)).to_string();
    assert!(error.contains("aggregates over `events`") && error.contains("transform.per_batch = true"), "{error}");
    assert_eq!(worker(&per_batch(sql), &input()).run(&batch(0, 10)).unwrap().num_rows(), 10);
}

#[test]
fn the_output_schema_is_known_before_any_event_and_text_comes_as_views() {
    let sql = "SELECT ts, region, amount::DECIMAL(9, 2) AS amount, date_trunc('hour', ts) AS hour, ts::DATE AS day FROM events";
    let engine = Engine::open(&transform(sql), input()).unwrap();
    let types: Vec<DataType> = engine.output().fields().iter().map(|field| field.data_type().clone()).collect();
    let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    assert_eq!(types, [millis, DataType::Utf8View, DataType::Decimal128(9, 2), micros, DataType::Date32]);
    let result = engine.workers().unwrap()[0].run(&batch(0, 5000)).unwrap();
    assert_eq!(result.schema_ref(), engine.output());
}

#[test]
fn rows_keep_the_order_of_the_events() {
    let result = worker(&transform("SELECT n FROM events WHERE n % 3 <> 0"), &input()).run(&batch(0, 50_000)).unwrap();
    assert_eq!(numbers(&result), (0..50_000).filter(|n| n % 3 != 0).collect::<Vec<_>>());
}

#[test]
fn what_one_batch_was_like_does_not_show_in_the_next() {
    let mut worker = worker(&transform("SELECT n FROM events WHERE amount < 1000 AND region LIKE '1%'"), &input());
    let expected = |from: i64, to: i64| (from..to).filter(|n| *n < 2000 && n.to_string().starts_with('1')).count();
    // Empty, wholly filtered out, short, long: a plan that knew of one of them would lose the rows of the others.
    for (from, to) in [(0, 0), (5000, 9000), (0, 3), (0, 50_000), (5000, 5000), (1000, 1500), (0, 50_000)] {
        assert_eq!(worker.run(&batch(from, to)).unwrap().num_rows(), expected(from, to), "[{from}, {to})");
    }
}

#[test]
fn a_batch_is_let_go_when_its_query_is_over_though_the_plan_stays() {
    let mut worker = worker(&transform("SELECT n, region FROM events"), &input());
    for _ in 0..3 {
        let batch = batch(0, 5000);
        let holders = |batch: &RecordBatch| batch.columns().iter().map(|c| c.to_data().buffers()[0].strong_count()).collect::<Vec<_>>();
        let before = holders(&batch);
        let rows = worker.run(&batch).unwrap();
        assert_eq!(rows.num_rows(), 5000);
        assert_eq!(holders(&batch), before);
    }
}

#[test]
fn a_value_that_does_not_suit_the_sql_is_a_suspects_and_the_worker_goes_on() {
    for (sql, reason, first) in [
        ("SELECT CASE WHEN n = 4000 THEN 'x' ELSE region END::BIGINT AS v FROM events", "Conversion Error", 4000),
        ("SELECT (n * 1000000000000000)::BIGINT * 1000 AS v FROM events", "Out of Range Error", 10),
        ("SELECT CASE WHEN n = 4000 THEN error('no four thousands') ELSE n END AS v FROM events", "Invalid Input Error", 4000),
        ("SELECT CAST(region AS TINYINT) AS v FROM events", "Conversion Error", 128),
    ] {
        let mut worker = worker(&transform(sql), &input());
        match worker.run(&batch(0, 5000)) {
            Err(SqlError::Suspect(Failure { reason: message, at, .. })) => {
                assert!(at.is_some_and(|at| at.contains(&first)), "{sql}");
                assert!(message.starts_with(reason), "{sql}: {message}");
                assert!(!message.contains('\n'), "{message}");
            }
            other => panic!("{sql}: {other:?}"),
        }
        assert_eq!(worker.run(&batch(0, 9)).unwrap().num_rows(), 9, "{sql}");
    }
}

#[test]
fn want_of_memory_is_told_as_such() {
    let config =
        TransformConfig { memory_limit: 64 << 20, ..per_batch("SELECT length(string_agg(repeat(region, 20000), '')) AS l FROM events") };
    match worker(&config, &input()).run(&batch(0, 50_000)) {
        Err(SqlError::Suspect(failure)) => assert!(failure.kind.hangs_on_neighbours(), "{failure:?}"),
        other => panic!("{:?}", other.map(|rows| rows.num_rows())),
    }
}

#[test]
fn sql_that_runs_too_long_is_interrupted_and_the_next_batch_is_not() {
    let sql = "SELECT n, (SELECT max(md5((a.range * b.range * n)::VARCHAR)) FROM range(CASE WHEN n = 7 THEN 100000 ELSE 1 END) a, \
               range(100000) b) AS c FROM events";
    let config = TransformConfig { timeout: Duration::from_millis(300), ..transform(sql) };
    let mut slow = worker(&config, &input());
    let start = Instant::now();
    match slow.run(&batch(7, 8)) {
        Err(SqlError::Suspect(failure)) => {
            assert_eq!(failure.kind, FailureKind::TimedOut, "{failure:?}");
            assert!(failure.reason.contains("`transform.timeout` (300ms)"), "{failure:?}");
        }
        other => panic!("{:?}", other.map(|rows| rows.num_rows())),
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(slow.run(&batch(1, 2)).unwrap().num_rows(), 1);
}

#[test]
fn a_batch_of_another_schema_stops_the_line() {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let other = RecordBatch::try_from_iter([("n", column)]).unwrap();
    match worker(&transform("SELECT n FROM events"), &input()).run(&other) {
        Err(SqlError::Fatal(error)) => assert_eq!(error.kind(), ErrorKind::Internal, "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn workers_side_by_side_see_their_own_batches_and_outlive_the_engine() {
    let config = TransformConfig { threads: 4, ..transform("SELECT n, region FROM events WHERE n % 2 = 0") };
    let engine = Engine::open(&config, input()).unwrap();
    let workers = engine.workers().unwrap();
    assert_eq!(workers.len(), 4);
    drop(engine);
    thread::scope(|scope| {
        for (index, mut worker) in workers.into_iter().enumerate() {
            scope.spawn(move || {
                for round in 0..50 {
                    let from = (index as i64 * 50 + round) * 10_000;
                    let result = worker.run(&batch(from, from + 10_000)).unwrap();
                    let expected: Vec<i64> = (from..from + 10_000).filter(|n| n % 2 == 0).collect();
                    assert_eq!(numbers(&result), expected, "worker {index}, round {round}");
                }
            });
        }
    });
}
