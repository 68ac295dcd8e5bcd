//! Batches of which the SQL makes so many rows that they are handed on in parts: committed as a whole, once, or not at all.

use std::collections::BTreeMap;

use rustix::process::Signal;

use crate::common::http::get;
use crate::common::lines::{ids, lines};
use crate::common::process::Pintail;
use crate::common::{Dataset, wait_until};

/// Rejected lines of a dozen units, which are read with the others before them.
const BAD: usize = 20_000;
/// The metric of what the batcher has taken.
const BATCHED: &str = "pintail_stage_records_total{stage=\"batcher\"}";

fn parts<'a>(pintail: Pintail<'a>, sql: &str) -> Pintail<'a> {
    pintail.set("transform.sql", sql).set("transform.rows_bytes_max", "1MiB").set("transform.threads", 1)
}

/// Returns how often each id stands in the dataset.
fn times(dataset: &Dataset) -> BTreeMap<i64, usize> {
    let mut times = BTreeMap::new();
    dataset.ids().into_iter().for_each(|id| *times.entry(id).or_default() += 1);
    times
}

fn each(ids: impl IntoIterator<Item = i64>, count: usize) -> BTreeMap<i64, usize> {
    ids.into_iter().map(|id| (id, count)).collect()
}

#[test]
fn a_batch_in_parts_of_which_too_much_is_rejected_is_taken_once_and_the_line_pauses_behind_it() {
    let dataset = Dataset::new();
    let sql = "SELECT id, ts, region, unnest(range(CASE WHEN id >= 100 THEN 50 ELSE 1 END)) AS k FROM events";
    let follow = || parts(dataset.follow("events.ndjson"), sql).set("admin.listen", "127.0.0.1:0");
    dataset.write("events.ndjson", lines(0..100));
    let mut process = follow().spawn();
    process.wait_for_rows(100);
    dataset.append("events.ndjson", lines(100..2_100) + &"{\"id\": \n".repeat(BAD));
    process.wait_for_rows(100 + 2_000 * 50);
    let mut expected = each(0..100, 1);
    expected.extend(each(100..2_100, 50));
    assert_eq!((times(&dataset), dataset.dead_letters().len()), (expected.clone(), BAD));
    dataset.append("events.ndjson", lines(2_100..2_200));
    process.wait_until("the pause", |dataset| dataset.internal("HELD").exists());
    assert_eq!(get(process.admin(), "/readyz").status, 503);
    assert_eq!(times(&dataset), expected, "nothing of what is held back is committed");
    process.kill();
    let mut process = follow().spawn();
    process.wait_for_rows(100 + 2_100 * 50);
    process.stop(Signal::TERM).assert_code(0);
    expected.extend(each(2_100..2_200, 50));
    assert_eq!((times(&dataset), dataset.dead_letters().len()), (expected, BAD));
    dataset.assert_clean();
}

#[test]
fn files_that_take_turns_in_a_batch_make_one_in_parts_too() {
    let dataset = Dataset::new();
    let sql = "SELECT id, ts, region, unnest(range(20_000)) AS k FROM events";
    for name in ["a.ndjson", "b.ndjson"] {
        dataset.write(name, "");
    }
    let pintail = parts(dataset.follow("*.ndjson"), sql).set("pipeline.checkpoint_interval", "5s").set("admin.listen", "127.0.0.1:0");
    let mut process = pintail.spawn();
    let address = process.admin();
    // The batch stays open until the checkpoint ends.
    for (turn, name) in ["a.ndjson", "b.ndjson", "a.ndjson", "b.ndjson"].into_iter().enumerate() {
        let read = 5 * turn as i64;
        dataset.append(name, lines(read..read + 5));
        wait_until("the batcher has them", || get(address, "/metrics").metric(BATCHED) == (read + 5) as f64);
    }
    process.wait_for_rows(20 * 20_000);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(times(&dataset), each(0..20, 20_000));
    dataset.assert_clean();
}

#[test]
fn a_stop_amid_a_batch_in_parts_commits_nothing_of_it_and_it_is_read_again_once() {
    let dataset = Dataset::new();
    dataset.write("events.ndjson", lines(0..10_000));
    // Many records of the second batch fail, in a way that only trying them one after the other finds.
    let sql = "SELECT id, ts, region, unnest(range(50)) AS k, \
               list_reduce(CASE WHEN id >= 5000 AND id % 50 = 0 THEN []::INTEGER[] ELSE [1, 2] END, lambda a, b: a + b) AS v FROM events";
    let run = || parts(dataset.file("events.ndjson"), sql).set("dead_letters.ratio_max", 1.0).set("pipeline.batch_rows", 5_000);
    let process = run().spawn();
    wait_until("the search of the second batch", || process.log().matches("setting the records aside").count() == 2);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!((dataset.rows_len(), dataset.dead_letters().len()), (0, 0));
    dataset.pintail().args(["verify"]).run_ok();
    run().run_ok();
    assert_eq!(times(&dataset), each((0..10_000).filter(|id| *id < 5_000 || id % 50 > 0), 50));
    assert_eq!(dataset.dead_letters().len(), 100);
    dataset.assert_clean();
}

#[test]
fn standard_input_is_read_to_the_end_of_a_search_when_it_is_stopped() {
    let dataset = Dataset::new();
    let sql = "SELECT id, ts, region, \
               list_reduce(CASE WHEN id % 20 = 0 THEN []::INTEGER[] ELSE [1, 2] END, lambda a, b: a + b) AS v FROM events";
    let run = dataset.small_events().set("source.type", "stdin").set("transform.sql", sql).set("dead_letters.ratio_max", 1.0);
    let mut process = run.set("pipeline.batch_rows", 2_000).stdin_open().spawn();
    process.feed(lines(0..2_000));
    wait_until("the search", || process.log().contains("setting the records aside"));
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..2_000).into_iter().filter(|id| id % 20 > 0).collect::<Vec<_>>());
    assert_eq!(dataset.dead_letters().len(), 100);
    dataset.assert_clean();
}
