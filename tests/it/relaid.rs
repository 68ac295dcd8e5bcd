//! Partition columns and types that are changed while no rows are stored, and after that.

use rustix::process::Signal;

use crate::common::Dataset;
use crate::common::process::Pintail;
use crate::http::{NDJSON, assert_taken, post};

/// A service whose partition column is `shop`, declared with a type.
fn service<'a>(dataset: &'a Dataset, of: &str, source: &str) -> Pintail<'a> {
    let columns = format!("[[schema.columns]]\nname = \"id\"\ntype = \"int64\"\n[[schema.columns]]\nname = \"shop\"\ntype = \"{of}\"\n");
    let pintail = dataset.pintail().set("source.type", source).set("transform.sql", "SELECT id, shop FROM events");
    let pintail = pintail.set("sink.partition_by", vec!["shop".to_owned()]).set("sink.event_time", "").set("monitor.group_by", "shop");
    pintail.set("monitor.value", "id").set("pipeline.checkpoint_interval", "100ms").tables(&columns)
}

fn http<'a>(dataset: &'a Dataset, of: &str) -> Pintail<'a> {
    service(dataset, of, "http").set("source.listen", "127.0.0.1:0")
}

#[test]
fn a_wrong_type_of_a_partition_column_is_mended_while_no_rows_are_stored_and_what_was_accepted_is_committed() {
    let dataset = Dataset::new();
    let mut process = http(&dataset, "int64").spawn();
    let bodies: String = (0..3000).map(|id| format!("{{\"id\":{id},\"shop\":\"berlin\"}}\n")).collect();
    assert_taken(&post(process.http(), &[NDJSON], bodies), 3000, 0);
    process.stop(Signal::TERM);
    assert_eq!(dataset.rows_len(), 0, "all are rejected");

    // Every command of an operator can be run on it as well.
    http(&dataset, "text").args(["check"]).run_ok();
    http(&dataset, "text").args(["repair", "--journal"]).run_ok();
    let mut process = http(&dataset, "text").spawn();
    assert_taken(&post(process.http(), &[NDJSON], "{\"id\":5000,\"shop\":\"boston\"}\n"), 1, 3000);
    process.wait_for_committed(3001);
    process.stop(Signal::TERM).assert_code(0);
    http(&dataset, "text").args(["dead-letters", "--replay"]).run_ok();
    assert_eq!(dataset.rows_len(), 3001);
    dataset.pintail().args(["verify"]).run_ok();
    let counted =
        dataset.pintail().args(["query", "SELECT shop, typeof(shop) FROM events GROUP BY ALL ORDER BY ALL", "--format", "csv"]).run_ok();
    assert_eq!(counted.stdout, "shop,typeof(shop)\nberlin,VARCHAR\nboston,VARCHAR\n");
}

#[test]
fn with_rows_stored_another_type_or_partition_is_refused_with_the_ways_out() {
    let dataset = Dataset::new();
    service(&dataset, "int64", "stdin").run_ok();
    // As often as it takes to get it right.
    service(&dataset, "text", "stdin").run_ok();
    service(&dataset, "int64", "stdin").stdin("{\"id\":1,\"shop\":7}\n").run_ok();
    assert_eq!(dataset.rows_len(), 1);
    let unpartitioned = service(&dataset, "int64", "stdin").set("sink.partition_by", serde_json::json!([]));
    for (asked, way_back) in
        [(service(&dataset, "text", "stdin"), "CAST(shop AS BIGINT)"), (unpartitioned, "sink.partition_by = [\"shop\"]")]
    {
        asked.clone().run().assert_refused(78, &["partitioned by", "pipeline.out_path", way_back]);
        asked.args(["check"]).run().assert_refused(78, &["partitioned by"]);
    }
    service(&dataset, "text", "stdin").set("transform.sql", "SELECT id, shop::BIGINT AS shop FROM events").run_ok();
}
