use arrow::array::{ArrayRef, Int64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema};

use super::*;
use crate::callback::{forget_fault, take_fault};
use crate::scan::Pace;
use crate::session::{Database, Session};

/// The text of `n`: of each length around what a header holds, empty, and beyond ASCII.
const TEXT: &str = "CASE n % 5 WHEN 0 THEN '' WHEN 1 THEN repeat('x', 12) WHEN 2 THEN repeat('é', 6) || 'y' WHEN 3 THEN n::VARCHAR \
                    ELSE 'a long text, the bytes of which are elsewhere: ' || n END";

/// A value of each gathered type, made of `n`.
const VALUES: [&str; 18] = [
    "n % 3 = 0",
    "(n % 100)::TINYINT",
    "(n % 1000)::SMALLINT",
    "n::INTEGER",
    "n",
    "(n % 200)::UTINYINT",
    "(n % 1000)::USMALLINT",
    "n::UINTEGER",
    "n::UBIGINT",
    "(n / 3)::FLOAT",
    "n / 7",
    "DATE '2026-01-01' + (n % 5000)::INTEGER",
    "TIME '00:00:01' + to_seconds(n % 80_000)",
    "make_timestamp(n * 1_000_003)",
    "epoch_ms(n)",
    "make_timestamp_ns(n)",
    "make_timestamp(n)::TIMESTAMPTZ",
    TEXT,
];

fn session() -> Session {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    Session::new(&Database::open(1 << 30).unwrap(), &schema).unwrap()
}

fn numbers(rows: i64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    RecordBatch::try_from_iter_with_nullable([("n", numbers, true)]).unwrap()
}

/// Runs a query through the gather, with room for all rows.
fn gather(session: &mut Session, query: &str, output: &SchemaRef, batch: &RecordBatch) -> Result<Columns, String> {
    let (schema, columns) = (session.schema().clone(), Columns::new(output, batch.num_rows(), usize::MAX));
    let (columns, ran) = session.gather(query, (&schema, batch), Pace::default(), columns);
    ran.map(|()| columns).map_err(|failed| failed.message)
}

/// Asserts that the gather returns what DuckDB's own result holds.
fn assert_gathered(session: &mut Session, sql: &str, rows: i64) {
    let batch = numbers(rows);
    let (schema, pieces) = session.run(sql, &batch).unwrap();
    let query = session.gathering(sql, &schema).unwrap().unwrap_or_else(|| panic!("not gathered: {schema:?}"));
    let gathered = gather(session, &query, &schema, &batch).unwrap().finish().unwrap();
    let expected = concat_batches(&schema, &pieces).unwrap();
    assert_eq!(gathered, expected, "{sql}, {rows} rows");
    // Views are compared by what they show: that they are well formed is asked apart.
    gathered.columns().iter().for_each(|column| column.to_data().validate_full().unwrap());
}

#[test]
fn rows_of_every_type_that_is_gathered_are_those_of_duckdbs_own_result() {
    let mut session = session();
    for nulls in ["false", "n % 2 = 0", "n % 65 = 64", "true"] {
        let columns: Vec<String> =
            VALUES.iter().enumerate().map(|(i, value)| format!("CASE WHEN {nulls} THEN NULL ELSE {value} END AS c{i}")).collect();
        for rows in [0, 1, 63, 64, 2047, 2048, 2049, 10_000] {
            assert_gathered(&mut session, &format!("SELECT {} FROM events", columns.join(", ")), rows);
        }
    }
}

#[test]
fn rows_keep_their_order_and_number_whatever_the_sql_does() {
    let mut session = session();
    let text = format!("SELECT n, {TEXT} AS t");
    for sql in [
        format!("{text} FROM events WHERE n % 7 = 3"),
        format!("{text} FROM events WHERE false"),
        format!("{text} FROM events ORDER BY n % 10 DESC, n"),
        format!("{text} FROM events ORDER BY n DESC LIMIT 100"),
        format!("{text} FROM events LIMIT 100 OFFSET 2040"),
        format!("{text} FROM events UNION ALL {text} FROM events WHERE n < 5"),
        "SELECT n, unnest([n, n + 1, NULL]) AS u FROM events".to_owned(),
        "SELECT 1 AS one, 'a constant of every row' AS text, NULL::VARCHAR AS nothing FROM events".to_owned(),
        "SELECT n % 3 AS g, count(*) AS c, sum(n)::BIGINT AS s FROM events GROUP BY g ORDER BY g".to_owned(),
        "WITH w AS (SELECT n FROM events) SELECT a.n AS \"a \"\"quoted\"\" name\" FROM w AS a; -- and a remark".to_owned(),
    ] {
        for rows in [0, 1, 5000] {
            assert_gathered(&mut session, &sql, rows);
        }
    }
}

#[test]
fn a_type_that_is_not_gathered_is_left_to_duckdbs_own_result_though_arrow_may_show_it_as_one_that_is() {
    let session = session();
    for value in ["uuid()", "'a'::ENUM ('a')", "n::HUGEINT", "1.5::DECIMAL(9, 2)", "[n]", "'101'::BIT", "INTERVAL 1 DAY", "'x'::BLOB"] {
        let sql = format!("SELECT n, {value} AS value FROM events");
        let (schema, _) = session.run(&sql, &numbers(1)).unwrap();
        assert_eq!(session.gathering(&sql, &schema).unwrap(), None, "{value}");
    }
}

#[test]
fn columns_that_are_not_what_was_declared_are_refused_as_a_fault_of_our_own() {
    let mut session = session();
    let (declared, _) = session.run("SELECT n FROM events", &numbers(1)).unwrap();
    for query in ["SELECT pintail_gather(0, n::INTEGER) FROM events", "SELECT pintail_gather(0, n, n) FROM events"] {
        forget_fault();
        assert!(gather(&mut session, query, &declared, &numbers(5)).is_err(), "{query}");
        assert!(take_fault().is_some(), "{query}");
    }
    let error = gather(&mut session, "SELECT pintail_gather(99, n) FROM events", &declared, &numbers(5)).unwrap_err();
    assert!(error.contains("nothing is to be gathered"), "{error}");
}

#[test]
fn rows_beyond_the_room_end_the_query_and_are_no_fault_of_our_own() {
    let mut session = session();
    let sql = format!("SELECT n, {TEXT} AS text, n % 2 = 0 AS even FROM events");
    let batch = numbers(10_000);
    let (output, _) = session.run(&sql, &batch).unwrap();
    let query = session.gathering(&sql, &output).unwrap().unwrap();
    let schema = session.schema().clone();
    for (room, fits) in [(1_000_000, true), (100_000, false), (8 * 10_000 + 16, false), (1, false)] {
        forget_fault();
        let (columns, ran) = session.gather(&query, (&schema, &batch), Pace::default(), Columns::new(&output, 10, room));
        assert_eq!((ran.is_ok(), columns.is_full(), take_fault()), (fits, !fits, None), "{room} bytes");
    }
}
