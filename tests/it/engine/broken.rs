//! Records on which a check of DuckDB's own fails, after which DuckDB answers nothing more of that database.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pintail::internals::Plan;
use pintail_decode::{Decode as _, Ndjson};
use pintail_duckdb::{FailureKind, SqlError};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::dirty::{batch, config, records, transformed};

/// An expression on a JSON text that is `n` deep: an error that DuckDB says the function never raises.
const DEEP: &str = "(repeat('[', n) || repeat(']', n))::JSON";

fn deep_ones(count: usize, deep: &[u64]) -> Vec<Value> {
    let mut records = records(&mut StdRng::seed_from_u64(1), count, 0.0);
    records.iter_mut().for_each(|record| record["n"] = json!(3));
    deep.iter().for_each(|row| records[*row as usize]["n"] = json!(1_100));
    records
}

#[test]
fn a_record_that_breaks_the_database_is_set_aside_and_no_other() {
    let deep = BTreeSet::from([0, 1, 777, 2_400, 2_999]);
    for sql in [
        format!("SELECT id, json_structure({DEEP})::VARCHAR AS v FROM events"),
        format!("SELECT id FROM events WHERE json_structure({DEEP})::VARCHAR <> 'x'"),
        format!("SELECT id, CAST(s AS INTEGER) AS v, [json_structure({DEEP})::VARCHAR] AS l FROM events"),
        format!("WITH d AS (SELECT id, json_structure({DEEP}) AS v FROM events) SELECT id, v::VARCHAR AS v FROM d"),
    ] {
        let mut records = deep_ones(3_000, &deep.iter().copied().collect::<Vec<_>>());
        let mut expected = deep.clone();
        if sql.contains("CAST(s") {
            records[1_500]["s"] = json!("x");
            expected.insert(1_500);
        }
        let (rows, letters, _) = transformed(&config(&sql, &[]), &records);
        assert_eq!(letters, expected, "{sql}");
        assert_eq!(rows.iter().map(|rows| rows.num_rows()).sum::<usize>(), 3_000 - expected.len(), "{sql}");
    }
}

#[test]
fn what_breaks_the_database_is_told_by_its_kind_and_the_next_database_has_the_lookup_tables() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("names.csv");
    std::fs::write(&path, "n,name\n3,three\n1100,many\n").unwrap();
    let lookups = format!(r#"transform.lookup=[{{name="Odd Names",path={path:?}}}]"#);
    let sql = format!("SELECT id, json_structure({DEEP})::VARCHAR AS v, name FROM events LEFT JOIN \"Odd Names\" USING (n)");
    let config = config(&sql, &[&lookups]);
    let plan = Plan::new(&config).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut worker = plan.engine.workers().unwrap().remove(0);
    let decoded = Ndjson::new(&config.schema).decode(&batch(&deep_ones(3, &[1]))).unwrap().batch;
    let mut meter = plan.engine.memory().unwrap();
    for _ in 0..3 {
        match worker.run(&decoded.slice(1, 1)) {
            Err(SqlError::Suspect(failure)) => assert_eq!(failure.kind, FailureKind::Broken, "{}", failure.reason),
            other => panic!("{other:?}"),
        }
        let rows = worker.run(&decoded.slice(2, 1)).unwrap();
        assert!(format!("{rows:?}").contains("three"), "{rows:?}");
        assert!(meter.bytes().unwrap() > 0);
    }
}

/// Says that a thread is over, also when it panics: whoever waits for it would wait for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_worker_beside_one_that_breaks_the_database_sees_nothing_of_it() {
    let config = config(&format!("SELECT id, json_structure({DEEP})::VARCHAR AS v FROM events"), &["transform.threads=2"]);
    let plan = Plan::new(&config).unwrap();
    let mut workers = plan.engine.workers().unwrap();
    let decoded = Ndjson::new(&config.schema).decode(&batch(&deep_ones(2_000, &[1_999]))).unwrap().batch;
    let (good, bad, broken) = (decoded.slice(0, 1_999), decoded.slice(1_999, 1), AtomicBool::new(false));
    let (mut breaking, mut working) = (workers.remove(0), workers.remove(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let _over = Over(&broken);
            for _ in 0..20 {
                assert!(matches!(breaking.run(&bad), Err(SqlError::Suspect(_))));
            }
        });
        while !broken.load(Ordering::Relaxed) {
            assert_eq!(working.run(&good).unwrap().num_rows(), 1_999);
        }
    });
}
