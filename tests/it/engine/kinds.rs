//! Errors of many kinds: each is of the records that it is of, and of no other; what is of none stops the line.

use pintail::internals::Plan;
use pintail::internals::Transform;
use pintail_core::breaker::{Usual, WhenRejected};
use pintail_core::error::{Error, ErrorKind};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::dirty::{batch, config, one_by_one, records, shown, transformed};

/// Each fails on some of the records of [`mixed`], and not on all.
const KINDS: [&str; 52] = [
    // Casts.
    "s::INTEGER",
    "n::UTINYINT",
    "n::DOUBLE::FLOAT::SMALLINT",
    "n::DECIMAL(4, 1)",
    "s::JSON",
    "s::INTERVAL",
    "(('{a: ' || s || '}')::STRUCT(a INTEGER)).a",
    "('[' || s || ']')::INTEGER[]",
    "list_transform([s], lambda x: x::INTEGER)[1]",
    "array_value(n, 2)::TINYINT[2]",
    "struct_extract({'a': s}, 'a')::INTEGER",
    "CASE WHEN s LIKE '%1%' THEN s ELSE '1' END::ENUM('1', '11', '21')",
    "(t || CASE WHEN s = 'x' THEN s ELSE '' END)::DATE",
    "(CASE WHEN s = 'x' THEN s ELSE '10:00:00' END)::TIME",
    "(CASE WHEN s = 'x' THEN s ELSE 'true' END)::BOOLEAN",
    "(CASE WHEN s = 'x' THEN s ELSE '2026-01-01 00:00:00+00' END)::TIMESTAMPTZ",
    "(CASE WHEN s = 'x' THEN s ELSE '7d444840-9dc0-11d1-b245-5ffdce74fad2' END)::UUID",
    // Arithmetic.
    "n + n",
    "-n * 2",
    "n // (n - 50)",
    "n % (n - 50)",
    "1::BIGINT << n",
    "n::HUGEINT * n::HUGEINT * n::HUGEINT",
    "CAST(n AS DECIMAL(18, 0)) * CAST(1000 AS DECIMAL(18, 0))",
    "abs(n - 9_223_372_036_854_775_800 - 20)",
    "factorial(n::INTEGER)",
    // Time.
    "make_date(2026, (n % 14)::INTEGER, 1)",
    "epoch_ms(n)",
    "strptime(CASE WHEN s = 'x' THEN s ELSE t END, '%Y-%m-%d')",
    "date_trunc(CASE WHEN s = 'x' THEN s ELSE 'day' END, TIMESTAMP '2026-01-01')",
    "date_part(CASE WHEN s = 'x' THEN s ELSE 'day' END, DATE '2026-01-01')",
    "DATE '2026-01-01' + (n * 100_000_000)::INTEGER",
    "TIMESTAMP '2026-01-01' + to_days(n::INTEGER)",
    "time_bucket(to_days(n::INTEGER), DATE '2026-01-01')",
    // Text, bytes, JSON.
    "regexp_matches('a', s)",
    "regexp_replace(t, s, 'y')",
    "string_split_regex(t, s)[1]",
    "unhex(CASE WHEN s = 'x' THEN s ELSE 'ff' END)",
    "decode(unhex(CASE WHEN s = 'x' THEN 'ff' ELSE '61' END))",
    "from_base64(CASE WHEN s = 'x' THEN s ELSE 'YQ==' END)",
    "json_extract(s, '$.a')::VARCHAR",
    "j->>(CASE WHEN s = 'x' THEN '$[' ELSE '$.a' END)",
    "json_array_length(s)",
    "format(CASE WHEN s = 'x' THEN '{:d}' ELSE '{}' END, s)",
    "repeat('ab', n)",
    "to_base(CASE WHEN n > 100 THEN 7 ELSE n END, (n % 40)::INTEGER)",
    // Functions that refuse, lists and maps, subqueries.
    "CASE WHEN s = 'x' THEN error('Out of Memory Error: ' || s) ELSE s END",
    "map([s, t, CASE WHEN n % 7 = 3 THEN t ELSE 'k' END], [1, 2, 3])['k']",
    "len(range(0, n % 5, (n % 3)::BIGINT - 1)) + s::INTEGER",
    "len(generate_series(1, n))",
    "(SELECT x FROM (SELECT unnest(range(n % 3)) AS x))",
    "(SELECT sum(x::INTEGER) FROM unnest([s, '1']) u(x))",
];

fn mixed(count: usize) -> Vec<Value> {
    let mut records = records(&mut StdRng::seed_from_u64(7), count, 0.0);
    for (id, record) in records.iter_mut().enumerate() {
        match id % 25 {
            3 => record["s"] = json!("x"),
            11 => record["s"] = json!("("),
            17 => record["n"] = json!(i64::MAX - id as i64),
            _ => {}
        }
    }
    records
}

#[test]
fn an_error_of_any_kind_sets_aside_its_records_and_no_neighbour() {
    let records = mixed(400);
    for expression in KINDS {
        for sql in [
            format!("SELECT id, ({expression})::VARCHAR AS v FROM events"),
            format!("SELECT id FROM events WHERE ({expression}) IS NOT DISTINCT FROM NULL OR hash({expression}) > 0"),
        ] {
            let config = config(&sql, &["transform.memory_limit=256MB"]);
            let (rows, letters, _) = transformed(&config, &records);
            let (expected, failed) = one_by_one(&config, &records);
            assert!(!failed.is_empty() && failed.len() < records.len(), "{} of {}: {sql}", failed.len(), records.len());
            assert_eq!(letters, failed, "{sql}");
            assert_eq!(shown(&rows, false), shown(&expected, false), "{sql}");
        }
    }
}

fn failure(sql: &str, sets: &[&str], records: &[Value]) -> Error {
    let config = config(sql, sets);
    let plan = Plan::new(&config).unwrap();
    let worker = plan.engine.workers().unwrap().remove(0);
    let mut transform =
        Transform::new(&config, worker, &plan.layout, &plan.aggregator, (WhenRejected::Stop, Usual::default(), watch::channel(false).1));
    transform.apply(&batch(records), &mut |_| true).err().unwrap_or_else(|| panic!("{sql} passes"))
}

#[test]
fn what_cannot_be_reproduced_or_fails_for_all_or_has_no_single_culprit_stops_the_line() {
    let records = records(&mut StdRng::seed_from_u64(7), 1_500, 0.0);
    let chance = "SELECT id, CASE WHEN random() < 0.5 THEN error('by chance') ELSE 1 END AS v FROM events";
    assert_eq!(failure(chance, &[], &records).kind(), ErrorKind::Internal);
    let all = "SELECT id, (s || 'x')::INTEGER AS v FROM events";
    assert_eq!(failure(all, &["dead_letters.ratio_max=0.1"], &records).kind(), ErrorKind::DeadLetters);
    let together = "SELECT sum(CASE WHEN id = 700 THEN 'x' ELSE s END::INTEGER) AS v FROM events";
    assert_eq!(failure(together, &["transform.per_batch=true"], &records).kind(), ErrorKind::DeadLetters);
    let window = "SELECT id, CASE WHEN count(*) OVER () > 1000 THEN error('too many') ELSE s END AS v FROM events";
    assert_eq!(failure(window, &["transform.per_batch=true"], &records).kind(), ErrorKind::DeadLetters);
}

#[test]
fn a_rare_failure_by_chance_sets_nothing_aside() {
    let records = records(&mut StdRng::seed_from_u64(7), 1_500, 0.0);
    let sql = "SELECT id, CASE WHEN random() < 0.0005 THEN error('by chance') ELSE 1 END AS v FROM events";
    let (rows, letters, _) = transformed(&config(sql, &[]), &records);
    assert!(letters.is_empty());
    assert_eq!(rows.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 1_500);
}
