use std::time::Instant;

use arrow::array::StringArray;

use super::*;
use crate::session::Database;

/// Texts that are numbers, but for every tenth.
fn batch(rows: usize) -> RecordBatch {
    let texts: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..rows).map(|n| if n % 10 == 7 { format!("x{n}") } else { n.to_string() })));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows as i64).map(|n| if n % 10 == 7 { i64::MAX - n } else { n })));
    let odd: ArrayRef = Arc::new(StringArray::from_iter(
        (0..rows).map(|n| (n % 3 > 0).then(|| if n % 10 == 7 { "2026-13-01".to_owned() } else { "2026-12-01".to_owned() })),
    ));
    RecordBatch::try_from_iter_with_nullable([("s", texts, true), ("n", numbers, true), ("t", odd, true)]).unwrap()
}

/// Returns the suspects, the certain ones and the others.
fn suspects(sql: &str) -> Option<(Vec<usize>, Vec<usize>)> {
    let batch = batch(5_000);
    let mut session = Session::new(&Database::open(1 << 30).unwrap(), &batch.schema()).unwrap();
    let select = session.parse(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    let probe = Probe::new(&session, &select)?;
    let (certain, others): (Vec<_>, Vec<_>) = probe.suspects(&mut session, &batch).into_iter().partition(|suspect| suspect.is_certain);
    let rows = |suspects: Vec<Suspect>| suspects.iter().map(|suspect| suspect.row).collect();
    Some((rows(certain), rows(others)))
}

fn every_tenth() -> Vec<usize> {
    (0..5_000).filter(|n| n % 10 == 7).collect()
}

#[test]
fn culprits_of_one_select_are_named_for_certain_whatever_fails() {
    for expression in [
        "CAST(s AS INTEGER)",
        "s::INTEGER * 2 + n % 3",
        "CAST(s AS INTEGER)::SMALLINT",
        "strptime(substr(s, 1, 1) || '-01', '%d-%m') ",
        "n + 1_000_000",
        "(n + 1_000_000) * 0",
        "(s::INTEGER + 1) * (n - 1) + 2",
        "n::INTEGER",
        "(CASE WHEN s LIKE 'x%' THEN 2147483647 ELSE 0 END + 1)::INTEGER::VARCHAR",
        "CASE WHEN n > 1_000_000 THEN n * 1_000_000 ELSE 1 END",
        "CASE WHEN s LIKE 'x%' THEN 200 ELSE 2 END::UTINYINT * 2::UTINYINT",
        "1::UTINYINT - CASE WHEN s LIKE 'x%' THEN 2 ELSE 1 END::UTINYINT",
        "CASE WHEN s LIKE 'x%' THEN 18446744073709551615 ELSE 2 END::UBIGINT * 18446744073709551615::UBIGINT * CASE WHEN s LIKE 'x%' THEN 1 ELSE 0 END::UBIGINT",
        "list_transform([n], lambda x: x + 1_000_000)",
        "CASE WHEN s LIKE 'x%' THEN error('bad: ' || s) ELSE s END",
        "CASE WHEN s LIKE 'x%' THEN error('bad') END",
        "CASE WHEN s LIKE 'x%' THEN s::INTEGER ELSE 1 END",
        "make_date(2026, CASE WHEN s LIKE 'x%' THEN 13 ELSE 12 END, 1)",
        "coalesce(s::INTEGER, 3)",
        "CAST(s AS DECIMAL(9, 2))",
        "list_value(s::INTEGER)",
    ] {
        let (certain, others) = suspects(&format!("SELECT n, {expression} AS v FROM events")).unwrap_or_else(|| panic!("{expression}"));
        let expected: Vec<usize> = match expression.starts_with("strptime") {
            true => (0..5_000).filter(|n| n % 10 == 7 || n.to_string().starts_with('0')).collect(),
            false => every_tenth(),
        };
        assert_eq!((certain, others), (expected, vec![]), "{expression}");
    }
}

#[test]
fn each_shape_of_a_select_names_what_it_evaluates() {
    let with_t: Vec<usize> = every_tenth().into_iter().filter(|n| n % 3 > 0).collect();
    for (sql, expected) in [
        ("SELECT * REPLACE (s::INTEGER AS s) FROM events", every_tenth()),
        ("SELECT e.s::INTEGER AS v FROM events AS e", every_tenth()),
        ("SELECT events.s::INTEGER AS v FROM events", every_tenth()),
        ("SELECT n, t::DATE AS d FROM Events", with_t.clone()),
        ("SELECT n, t::DATE AS d, strptime(t, '%Y-%m-%d') AS x FROM events", with_t),
        ("SELECT n FROM events WHERE s::INTEGER > 7", every_tenth()),
        ("SELECT s::INTEGER AS v FROM events WHERE s NOT LIKE 'x%'", vec![]),
        ("SELECT s::INTEGER * f AS v FROM events JOIN (VALUES (7, 1), (1, 2)) w(k, f) ON n % 10 = k OR s LIKE 'x%'", every_tenth()),
        ("SELECT s::INTEGER AS v FROM events JOIN (VALUES ('x17')) w(k) ON s = k", vec![17]),
        ("WITH p AS (SELECT *, s::INTEGER AS v FROM events) SELECT * FROM p", every_tenth()),
        ("WITH p AS (SELECT n, s::INTEGER AS v FROM events) SELECT n, v * 2 AS w FROM p", every_tenth()),
        ("WITH p AS (SELECT *, s::INTEGER AS v FROM events) SELECT n, v * 2 AS w FROM p", every_tenth()),
        ("SELECT n, v::VARCHAR AS w FROM (SELECT n, s::INTEGER AS v FROM events WHERE n >= 0)", every_tenth()),
        ("SELECT n, k FROM events LEFT JOIN (VALUES (1)) w(k) ON s::INTEGER = k", every_tenth()),
        ("SELECT n, k FROM events e JOIN (VALUES (1)) w(k) ON k < e.s::INTEGER", every_tenth()),
    ] {
        assert_eq!(suspects(sql), Some((expected, vec![])), "{sql}");
    }
}

#[test]
fn what_another_select_or_another_condition_may_never_evaluate_is_not_certain() {
    for sql in [
        "WITH p AS (SELECT n, s::INTEGER AS v FROM events) SELECT n FROM p",
        "WITH p AS (SELECT n, s::INTEGER AS v FROM events) SELECT CASE WHEN n % 2 = 0 THEN v END AS w FROM p",
        "WITH p AS (SELECT *, s::INTEGER AS t FROM events) SELECT n, t FROM p",
        "WITH p AS (SELECT * RENAME (t AS v), s::INTEGER AS v FROM events) SELECT n, v FROM p",
        "WITH p AS (SELECT *, s::INTEGER AS k FROM events, (VALUES (1)) w(k)) SELECT n, k FROM p",
        "WITH p AS (SELECT n, s::INTEGER AS v FROM events) SELECT v FROM p WHERE n % 2 = 0",
        "WITH p AS (SELECT n AS v, s::INTEGER AS v FROM events) SELECT v FROM p",
        "SELECT x.v AS w FROM (SELECT n, {'v': n} AS x, s::INTEGER AS v FROM events)",
        "SELECT n, k FROM events LEFT JOIN (VALUES (1)) w(k) ON s::INTEGER = k AND n = k",
        "SELECT n, k FROM events LEFT JOIN (VALUES (1)) w(k) ON s::INTEGER = k WHERE n % 2 = 0",
        "SELECT v FROM (SELECT n, s::INTEGER AS v FROM events) WHERE n % 2 = 0",
        "SELECT s::INTEGER AS v, unnest(range(n % 2)) AS k FROM events",
        "SELECT n FROM events WHERE s::INTEGER > 7 AND n % 2 = 0",
    ] {
        assert_eq!(suspects(sql), Some((vec![], every_tenth())), "{sql}");
    }
}

#[test]
fn overflows_are_found_at_about_the_cost_of_failing_casts() {
    let batch = batch(50_000);
    let took = |expression: &str| {
        let mut session = Session::new(&Database::open(1 << 30).unwrap(), &batch.schema()).unwrap();
        let select = session.parse(&format!("SELECT {expression} AS v FROM events")).unwrap();
        let probe = Probe::new(&session, &select).unwrap();
        let once = |_| {
            let start = Instant::now();
            assert_eq!(probe.suspects(&mut session, &batch).len(), 5_000, "{expression}");
            start.elapsed()
        };
        // The quickest: others may be using the machine.
        (0..5).map(once).min().unwrap()
    };
    let cast = took("s::INTEGER");
    // Caught by exceptions, each overflow would take twenty microseconds.
    for expression in ["n + 1_000_000", "(n * 2)::INTEGER", "n::INTEGER"] {
        let overflow = took(expression);
        assert!(overflow < cast * 4, "{expression} took {overflow:?}, a cast {cast:?}");
    }
}

#[test]
fn there_is_no_probe_of_what_cannot_fail_or_cannot_be_tried() {
    for sql in ["SELECT * FROM events", "SELECT n, s FROM events", "SELECT random()::TINYINT AS v FROM events"] {
        assert_eq!(suspects(sql), None, "{sql}");
    }
}
