use std::time::{Duration, Instant};

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
    let days: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows as i64).map(|n| if n % 10 == 7 { 32 } else { n % 28 + 1 })));
    RecordBatch::try_from_iter_with_nullable([("s", texts, true), ("n", numbers, true), ("t", odd, true), ("d", days, true)]).unwrap()
}

/// Returns the likely suspects, those that are alike and the others.
fn suspects(sql: &str) -> Option<(Vec<usize>, Vec<usize>)> {
    suspects_in(sql, Scope::Likely)
}

fn suspects_in(sql: &str, scope: Scope) -> Option<(Vec<usize>, Vec<usize>)> {
    let batch = batch(5_000);
    let mut session = Session::new(&Database::open(1 << 30).unwrap(), &batch.schema()).unwrap();
    let select = session.parse(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    let probe = Probe::new(&session, &select).filter(|probe| !probe.stages.is_empty())?;
    let (alike, others): (Vec<_>, Vec<_>) = probe.suspects(&mut session, &batch, scope).into_iter().partition(|suspect| suspect.is_alike);
    let rows = |suspects: Vec<Suspect>| suspects.iter().map(|suspect| suspect.row).collect();
    Some((rows(alike), rows(others)))
}

fn every_tenth() -> Vec<usize> {
    (0..5_000).filter(|n| n % 10 == 7).collect()
}

#[test]
fn culprits_of_one_select_are_named_and_alike_whatever_fails() {
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
        "list_transform(['1', s, NULL], lambda x: x::INTEGER)",
        "array_apply(list_transform([s], lambda x: x::BIGINT::INTEGER), lambda y: y::VARCHAR)",
        "CASE WHEN s LIKE 'x%' THEN error('bad: ' || s) ELSE s END",
        "CASE WHEN s LIKE 'x%' THEN error('bad') END",
        "CASE WHEN s LIKE 'x%' THEN s::INTEGER ELSE 1 END",
        "make_date(2026, CASE WHEN s LIKE 'x%' THEN 13 ELSE 12 END, 1)",
        "s::INTEGER < 0 OR d < 0",
        "s::INTEGER >= 0 AND (d < 0 OR make_date(2026, 1, d) > DATE '2025-01-01')",
        "make_date(2024 + (n % 2), 2, CASE WHEN s LIKE 'x%' THEN 30 ELSE 28 END)",
        "make_date(s::INTEGER % 5_000_000, '3', -n % 2 + 2)",
        "make_date(2026, 1, s::BIGINT % 31 + 1) > DATE '2026-01-07'",
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
fn culprits_are_named_and_alike_wherever_the_expression_stands() {
    let with_t: Vec<usize> = every_tenth().into_iter().filter(|n| n % 3 > 0).collect();
    for (sql, expected) in [
        ("SELECT * REPLACE (s::INTEGER AS s) FROM events", every_tenth()),
        ("SELECT e.s::INTEGER AS v FROM events AS e", every_tenth()),
        ("SELECT events.s::INTEGER AS v FROM events", every_tenth()),
        ("SELECT n, t::DATE AS d FROM Events", with_t.clone()),
        ("SELECT n, t::DATE AS d, strptime(t, '%Y-%m-%d') AS x FROM events", with_t),
        ("SELECT n FROM events WHERE s::INTEGER > 7", every_tenth()),
        ("SELECT n FROM events WHERE s::INTEGER > 7 AND s <> ''", every_tenth()),
        ("SELECT n FROM events WHERE s <> '' AND s::INTEGER > 7", every_tenth()),
        ("SELECT s::INTEGER AS v, v * 2 AS w FROM events WHERE v > 7 OR w < 3", every_tenth()),
        ("SELECT n::VARCHAR AS n, s::INTEGER AS v FROM events WHERE v % 2 = 0", every_tenth()),
        ("SELECT s::INTEGER AS v FROM events WHERE s NOT LIKE 'x%'", vec![]),
        ("SELECT s::INTEGER * f AS v FROM events JOIN (VALUES (7, 1), (1, 2)) w(k, f) ON n % 10 = k OR s LIKE 'x%'", every_tenth()),
        ("SELECT s::INTEGER AS v FROM events JOIN (VALUES ('x17')) w(k) ON s = k", vec![17]),
        ("WITH p AS (SELECT *, s::INTEGER AS v FROM events) SELECT * FROM p", every_tenth()),
        ("WITH p AS (SELECT n, s::INTEGER AS v FROM events) SELECT n, v * 2 AS w FROM p", every_tenth()),
        ("WITH p AS (SELECT *, s::INTEGER AS v FROM events) SELECT n, v * 2 AS w FROM p", every_tenth()),
        (
            "WITH p(a, b) AS (SELECT n, s::INTEGER FROM events), q AS (SELECT x.b + 1 AS c, a FROM p AS x) SELECT c FROM q WHERE q.a IS NOT NULL",
            every_tenth(),
        ),
        ("WITH p AS MATERIALIZED (SELECT n, s::INTEGER AS v FROM events) SELECT v FROM p WHERE n >= 0", every_tenth()),
        ("WITH p AS (SELECT * EXCLUDE (t), s::INTEGER AS t FROM events) SELECT n, t FROM p", every_tenth()),
        ("WITH p AS (SELECT n AS v, s::INTEGER AS n FROM events) SELECT n FROM p", every_tenth()),
        (
            "WITH p AS (SELECT n, s::INTEGER AS v FROM events) SELECT p.*, f FROM p LEFT JOIN (VALUES (7, 1)) w(k, f) ON p.n = k WHERE f IS NULL",
            every_tenth(),
        ),
        (
            "WITH p AS (SELECT n AS k, s::INTEGER AS v FROM events) SELECT k, v, f FROM p JOIN (VALUES (-1, 1)) w(k, f) USING (k)",
            every_tenth(),
        ),
        ("SELECT n, v::VARCHAR AS w FROM (SELECT n, s::INTEGER AS v FROM events WHERE n >= 0)", every_tenth()),
        (
            "SELECT v FROM (SELECT row_id, s::INTEGER AS v FROM (SELECT n + 0 AS row_id, s FROM events) AS a) AS b WHERE b.v < 9",
            every_tenth(),
        ),
        ("SELECT n, k FROM events LEFT JOIN (VALUES (1)) w(k) ON s::INTEGER = k", every_tenth()),
        ("SELECT n, k FROM events e JOIN (VALUES (1)) w(k) ON k < e.s::INTEGER", every_tenth()),
        ("SELECT n, unnest(string_split(s, ','))::INTEGER AS v FROM events", every_tenth()),
        ("SELECT n, unnest([s, '7'])::INTEGER AS v FROM events WHERE n >= 0", every_tenth()),
        ("SELECT v::INTEGER AS w FROM (SELECT n, unnest(['1', s]) AS v FROM events) WHERE v <> '1'", every_tenth()),
        ("SELECT e.n, v::INTEGER AS w FROM events e, unnest(string_split(e.s, ',')) AS u(v)", every_tenth()),
        ("SELECT n, unnest(string_split(s, ',')::INTEGER[]) AS v FROM events", every_tenth()),
        ("SELECT list_transform([s], lambda n: n::INTEGER) AS v FROM (SELECT s FROM events)", every_tenth()),
        (
            "SELECT v FROM (SELECT s::INTEGER AS v, length(s) AS n, s FROM events) WHERE n > 1",
            every_tenth().into_iter().filter(|n| *n > 0).collect(),
        ),
        ("SELECT v FROM (SELECT s::INTEGER AS v, substr(s, 2) AS k FROM events) WHERE k SIMILAR TO '.*[37]'", every_tenth()),
    ] {
        assert_eq!(suspects(sql), Some((expected, vec![])), "{sql}");
    }
    // Another condition of the join may keep the expression away: each is tried.
    let sql = "SELECT n, k FROM events LEFT JOIN (VALUES (1)) w(k) ON s::INTEGER = k AND n = k WHERE n >= 0";
    assert_eq!(suspects(sql), Some((vec![], every_tenth())), "{sql}");
}

#[test]
fn records_that_differ_in_a_part_of_a_condition_are_not_taken_for_alike() {
    let batch = batch(5_000);
    let mut session = Session::new(&Database::open(1 << 30).unwrap(), &batch.schema()).unwrap();
    for sql in [
        "SELECT n FROM events WHERE s::INTEGER > 7 OR t IS NULL",
        "SELECT n FROM events WHERE t IS NULL OR s::INTEGER > 7",
        "SELECT CASE WHEN s::INTEGER > 7 OR t IS NULL THEN n END AS v FROM events",
    ] {
        let probe = Probe::new(&session, &session.parse(sql).unwrap()).unwrap();
        let (has_t, has_none): (Vec<_>, Vec<_>) =
            probe.suspects(&mut session, &batch, Scope::All).into_iter().partition(|suspect| suspect.row % 3 > 0);
        let classes = |suspects: &[Suspect]| suspects.iter().map(|suspect| suspect.class).collect::<BTreeSet<_>>();
        assert!(has_t.iter().all(|suspect| suspect.is_alike) && !has_t.is_empty(), "{sql}");
        assert!(classes(&has_t).is_disjoint(&classes(&has_none)), "{sql}");
    }
}

#[test]
fn records_that_a_condition_may_keep_away_are_named_when_all_are_asked_for() {
    let other = |named: &[usize]| -> Vec<usize> { every_tenth().into_iter().filter(|n| !named.contains(n)).collect() };
    let even: Vec<usize> = every_tenth().into_iter().filter(|n| (i64::MAX - *n as i64) % 4 == 0).collect();
    for sql in [
        "SELECT v FROM (SELECT n, s::INTEGER AS v FROM events) WHERE n % 4 = 0",
        "WITH p AS (SELECT n, s::INTEGER AS v FROM events) SELECT v FROM p WHERE n % 4 = 0 AND n IS NOT NULL",
        "SELECT s::INTEGER AS v FROM events WHERE n % 4 = 0",
    ] {
        assert_eq!(suspects(sql), Some((even.clone(), vec![])), "{sql}");
        assert_eq!(suspects_in(sql, Scope::All), Some((every_tenth(), vec![])), "{sql}");
        assert!(!other(&even).is_empty());
    }
    // What is projected within, whether the outer expression needs it or not.
    let sql = "WITH p AS (SELECT n, s::INTEGER AS v FROM events) SELECT CASE WHEN n % 4 = 0 THEN v END AS w FROM p";
    assert_eq!(suspects(sql), Some((every_tenth(), vec![])));
    // A column that nobody reads is not computed.
    assert_eq!(suspects("WITH p AS (SELECT n, s::INTEGER AS v FROM events) SELECT n FROM p"), None);
}

#[test]
fn records_with_other_answers_of_the_conditions_are_not_of_one_class() {
    let batch = batch(5_000);
    let mut session = Session::new(&Database::open(1 << 30).unwrap(), &batch.schema()).unwrap();
    let classes = |session: &mut Session, sql: &str| {
        let select = session.parse(sql).unwrap();
        let probe = Probe::new(session, &select).unwrap();
        let suspects = probe.suspects(session, &batch, Scope::All);
        suspects.into_iter().map(|suspect| suspect.class).collect::<BTreeSet<_>>().len()
    };
    for (sql, count) in [
        ("SELECT s::INTEGER AS v FROM events", 1),
        ("SELECT s::INTEGER AS v FROM events WHERE n % 4 = 0", 2),
        ("SELECT n FROM events WHERE s::INTEGER > 7 AND n % 4 = 0", 2),
        // With a date, without one, and without a cast that fails: NULL is no failure.
        ("SELECT n FROM events WHERE s::INTEGER > 7 AND t::DATE > DATE '2026-01-01'", 2),
        ("SELECT n, s::INTEGER AS v, t::DATE AS d FROM events", 1),
        ("SELECT n, t::DATE AS d, s::INTEGER AS v FROM events", 2),
    ] {
        assert_eq!(classes(&mut session, sql), count, "{sql}");
    }
}

#[test]
fn what_is_computed_for_which_record_is_not_known_where_the_sql_cannot_be_written_as_one_select() {
    for sql in [
        "SELECT s::INTEGER AS v FROM events UNION ALL SELECT n::SMALLINT FROM events WHERE false",
        "SELECT s::INTEGER AS v FROM events WHERE random() < 2",
        "SELECT s::INTEGER AS v, unnest(range(3)) AS k FROM events JOIN (VALUES (1)) w(k) ON true",
    ] {
        assert_eq!(suspects(sql), Some((vec![], every_tenth())), "{sql}");
    }
}

#[test]
fn what_has_a_form_that_does_not_fail_is_found_at_about_the_cost_of_failing_casts() {
    let batch = batch(50_000);
    let took = |expression: &str| {
        let mut session = Session::new(&Database::open(1 << 30).unwrap(), &batch.schema()).unwrap();
        let select = session.parse(&format!("SELECT {expression} AS v FROM events")).unwrap();
        let probe = Probe::new(&session, &select).unwrap();
        let once = |_| {
            let start = Instant::now();
            assert_eq!(probe.suspects(&mut session, &batch, Scope::Likely).len(), 5_000, "{expression}");
            start.elapsed()
        };
        // The quickest: others may be using the machine.
        (0..5).map(once).min().unwrap()
    };
    let cast = took("s::INTEGER");
    // Caught by exceptions, each record would take twenty microseconds, twice. Where others use the machine, so much less is enough.
    let caught = Duration::from_micros(40) * 5_000;
    for expression in
        ["n + 1_000_000", "(n * 2)::INTEGER", "n::INTEGER", "make_date(2026, 2, d)", "s::INTEGER < 0 OR d < 0", "s::INTEGER >= 0 AND d > 0"]
    {
        let failing = took(expression);
        assert!(failing < (cast * 4).max(caught / 3), "{expression} took {failing:?}, a cast {cast:?}");
    }
}

#[test]
fn there_is_no_probe_of_what_cannot_fail_or_cannot_be_tried() {
    for sql in ["SELECT * FROM events", "SELECT n, s FROM events", "SELECT random()::TINYINT AS v FROM events"] {
        assert_eq!(suspects(sql), None, "{sql}");
    }
}
