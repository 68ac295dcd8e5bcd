//! What the line may hold is less than it would like to.

use serde_json::json;

use crate::common::Dataset;
use crate::common::lines::{columns, ids, lines};

#[test]
fn a_limit_below_one_batch_lets_one_after_the_other_through() {
    let dataset = Dataset::new();
    dataset
        .small_events()
        .set("source.type", "stdin")
        .set("pipeline.memory_max", "8MiB")
        .set("pipeline.batch_bytes_max", "64MiB")
        .set("pipeline.batch_rows", 150_000)
        .stdin(lines(0..400_000))
        .run_ok();
    assert_eq!(dataset.ids(), ids(0..400_000));
    dataset.assert_clean();
}

#[test]
fn wide_rows_of_many_partitions_are_committed_before_the_interval_when_only_that_frees_memory() {
    const ROWS: i64 = 2_000;
    let dataset = Dataset::new();
    let mut columns = columns();
    let names = (0..100).map(|n| format!("c{n}"));
    columns.as_array_mut().unwrap().extend(names.clone().map(|name| json!({ "name": name, "type": "text" })));
    let line = |id: i64| {
        let mut record = json!({ "id": id, "ts": 1_767_225_600_000 + id, "region": format!("r{}", id % 50) });
        names.clone().for_each(|name| record[&name] = format!("the text {name} of the record {id}").into());
        format!("{record}\n")
    };
    let pintail = dataset.pintail().set("schema.columns", columns).set("transform.sql", "SELECT * FROM events").set("source.type", "stdin");
    pintail
        .set("pipeline.checkpoint_interval", "1h")
        .set("pipeline.memory_max", "8MiB")
        .set("pipeline.batch_rows", 100)
        .stdin((0..ROWS).map(line).collect::<String>())
        .run_ok();
    assert!(dataset.commits_len() > 1, "{}", dataset.commits_len());
    assert_eq!(dataset.ids(), ids(0..ROWS));
    dataset.assert_clean();
}
