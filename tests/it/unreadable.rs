//! Files that cannot be read: the others go on.

use std::fs;

use rustix::process::Signal;

use crate::common::Dataset;
use crate::common::http::get;
use crate::common::lines::{gzip, ids, lines};

#[test]
fn what_is_read_once_is_committed_but_for_the_damaged_file_which_is_an_error_and_is_read_when_it_is_whole() {
    let dataset = Dataset::new();
    let whole = gzip(lines(10..2000));
    fs::create_dir(dataset.root().join("in")).unwrap();
    fs::write(dataset.root().join("in/a.gz"), &whole[..whole.len() - 3]).unwrap();
    dataset.append("in/b.ndjson", lines(0..10));
    let finished = dataset.file("in/*").run();
    assert_eq!(finished.code(), 74);
    assert_eq!(dataset.ids(), ids(0..10));
    dataset.assert_clean();
    fs::write(dataset.root().join("in/a.gz"), &whole).unwrap();
    dataset.file("in/*").run().assert_code(0);
    assert_eq!(dataset.ids(), ids(0..2000));
    dataset.assert_clean();
}

#[test]
fn while_files_are_followed_one_that_cannot_be_read_is_named_and_the_service_is_ready() {
    let dataset = Dataset::new();
    let whole = gzip(lines(10..2000));
    fs::create_dir(dataset.root().join("in")).unwrap();
    fs::write(dataset.root().join("in/a.gz"), &whole[..whole.len() / 2]).unwrap();
    dataset.append("in/b.ndjson", lines(0..10));
    let mut process = dataset.follow("*/**/*").set("admin.listen", "127.0.0.1:0").spawn();
    let admin = process.admin();
    process.wait_for_rows(10);
    let ready = get(admin, "/readyz");
    assert_eq!(ready.status, 200);
    let waiting = &ready.json()["waiting_inputs"];
    assert_eq!(waiting["count"], 1);
    assert!(waiting["first"][0]["path"].as_str().unwrap().ends_with("in/a.gz"));
    assert_eq!(get(admin, "/metrics").metric("pintail_source_files_waiting"), 1.0);
    fs::write(dataset.root().join("in/a.gz"), &whole).unwrap();
    process.wait_for_rows(2000);
    assert_eq!(get(admin, "/metrics").metric("pintail_source_files_waiting"), 0.0);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..2000));
    assert!(dataset.dead_letters().is_empty(), "the dataset lies below the glob, and is no input");
    dataset.assert_clean();
}
