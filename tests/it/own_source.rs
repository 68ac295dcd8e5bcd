//! A kind of source that another program brings along: one file, and one line where the configuration is loaded.

use pintail::{Config, Pipeline};
use pintail_storage::checkpoint::reader::Dataset;

#[path = "../../examples/own_source.rs"]
mod example;

use example::{TICKS, settings};

async fn run(out: &str, count: u64) {
    let config = Config::load_with(&[TICKS], None, std::iter::empty(), &settings(out, count)).unwrap();
    Pipeline::builder(config).build().run().await.unwrap();
}

fn rows(out: &str) -> u64 {
    Dataset::open(std::path::Path::new(out)).unwrap().records().unwrap().map(|record| record.unwrap().counts.rows_out).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_of_ones_own_is_configured_read_and_gone_on_with_like_any_other() {
    let out = tempfile::tempdir().unwrap();
    let out = out.path().to_str().unwrap();
    run(out, 100).await;
    assert_eq!(rows(out), 100);
    run(out, 250).await;
    assert_eq!(rows(out), 250);
}

#[test]
fn its_keys_are_known_and_checked_like_those_of_others() {
    let load = |set: &str| Config::load_with(&[TICKS], None, std::iter::empty(), &[set.to_owned()]).unwrap_err().to_string();
    assert!(
        load("source.coutn=5").contains("`source.coutn` (--set): unknown key, did you mean `source.count`?"),
        "{}",
        load("source.coutn=5")
    );
    assert!(load("source.count=0").contains("`source.count` = 0"), "{}", load("source.count=0"));
    assert!(load("source.type=file").contains("expected one of \"ticks\""), "{}", load("source.type=file"));
}
