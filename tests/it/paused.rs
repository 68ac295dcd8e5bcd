//! Too much is rejected: an endless source pauses, a single client cannot make it, and a person lets the records pass.

use std::io::Write;

use rustix::process::Signal;
use serde_json::json;

use crate::common::Dataset;
use crate::common::http::get;
use crate::common::lines::{ids, lines};
use crate::common::process::{Pintail, Process};
use crate::http::{NDJSON, post};
use crate::operator::actions;

/// Rejected lines of ten units.
const BAD: usize = 10_000;

fn follow(dataset: &Dataset) -> Pintail<'_> {
    dataset.follow("events.ndjson").set("pipeline.checkpoint_interval", "50ms").set("admin.listen", "127.0.0.1:0")
}

fn append(dataset: &Dataset, text: &str) {
    let mut file = std::fs::File::options().append(true).open(dataset.root().join("events.ndjson")).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn bad_lines() -> String {
    "{\"id\": \n".repeat(BAD)
}

/// Starts on a hundred good records, and lets a wrong schema come in.
fn paused(dataset: &Dataset) -> Process<'_> {
    dataset.write("events.ndjson", lines(0..100));
    let mut process = follow(dataset).spawn();
    process.wait_for_rows(100);
    append(dataset, &bad_lines());
    append(dataset, &lines(100..200));
    process.wait_until("the pause", |dataset| dataset.internal("HELD").exists());
    process
}

#[test]
fn a_followed_file_of_which_too_much_is_rejected_pauses_until_that_is_accepted() {
    let dataset = Dataset::new();
    let mut process = paused(&dataset);
    let address = process.admin();
    let ready = get(address, "/readyz");
    assert_eq!((ready.status, get(address, "/healthz").status), (503, 200), "it is not ready, and no restart would help");
    for said in ["paused", "events.ndjson", "pintail dead-letters --accept --config ", "not a JSON object"] {
        assert!(ready.body.contains(said), "`{said}` in {}", ready.body);
    }
    assert_eq!(get(address, "/metrics").metric("pintail_paused"), 1.0);
    assert!(process.log().contains("paused"), "{}", process.log());
    assert_eq!((dataset.ids(), dataset.dead_letters().len()), (ids(0..100), 0), "what came before is committed, nothing of the rest");

    dataset.pintail().args(["dead-letters", "--accept"]).run_ok();
    process.wait_for_rows(200);
    assert_eq!(get(address, "/readyz").status, 200);
    assert_eq!(dataset.dead_letters().len(), BAD);
    assert!(actions(&dataset).iter().any(|(kind, text)| kind == "accept_rejected" && text.contains("events.ndjson")));
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..200));
    dataset.pintail().args(["verify"]).run_ok();
    dataset.pintail().args(["dead-letters", "--accept"]).run().assert_refused(78, &["nothing is held back"]);
}

#[test]
fn what_is_held_back_when_the_service_is_stopped_can_be_accepted_before_the_next_start() {
    let dataset = Dataset::new();
    let stopped = paused(&dataset).stop(Signal::TERM);
    stopped.assert_refused(65, &["stopped while paused", "dead-letters --accept"]);
    // Without an acceptance the next start comes to the same.
    let mut again = follow(&dataset).spawn();
    again.wait_until("the pause", |dataset| dataset.internal("HELD").exists());
    again.kill();
    follow(&dataset).args(["dead-letters", "--accept"]).run_ok();
    let mut process = follow(&dataset).spawn();
    process.wait_for_rows(200);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!((dataset.ids(), dataset.dead_letters().len()), (ids(0..200), BAD));
    dataset.pintail().args(["verify"]).run_ok();
}

#[test]
fn what_is_held_back_of_a_file_without_a_commit_can_be_accepted_while_the_service_is_stopped() {
    let dataset = Dataset::new();
    dataset.write("events.ndjson", lines(0..100) + &bad_lines());
    let mut process = follow(&dataset).spawn();
    process.wait_until("the pause", |dataset| dataset.internal("HELD").exists());
    process.stop(Signal::TERM).assert_code(65);
    assert_eq!(dataset.ids(), ids(0..0));
    follow(&dataset).args(["dead-letters", "--accept"]).run_ok();
    let mut process = follow(&dataset).spawn();
    process.wait_for_rows(100);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.dead_letters().len(), BAD);
    dataset.pintail().args(["verify"]).run_ok();
}

#[test]
fn a_mended_configuration_needs_no_acceptance() {
    let dataset = Dataset::new();
    paused(&dataset).stop(Signal::TERM).assert_code(65);
    let mut process = follow(&dataset).set("dead_letters.ratio_max", 1.0).spawn();
    process.wait_for_rows(200);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!((dataset.ids(), dataset.dead_letters().len()), (ids(0..200), BAD));
}

#[test]
fn a_pause_ends_a_checkpoint_where_the_next_start_goes_on_and_nothing_is_read_twice() {
    // More of them than are read at once, which is 512 KiB, and enough wherever a checkpoint ends among them.
    let bad_len = 2 * BAD;
    let bad = format!("{}\n", "{".repeat(99)).repeat(bad_len);
    for batch_rows in [50_000, 10_000, 70] {
        let dataset = Dataset::new();
        dataset.write("events.ndjson", lines(0..60_000) + &bad + &lines(60_000..60_100));
        let start = || follow(&dataset).set("pipeline.checkpoint_interval", "2s").set("pipeline.batch_rows", batch_rows);
        let mut process = start().spawn();
        process.wait_until("the pause", |dataset| dataset.internal("HELD").exists());
        let before = dataset.rows_len();
        assert!(before > 10_000, "what came before is committed: {before} rows with batches of {batch_rows}");
        process.stop(Signal::TERM).assert_code(65);
        follow(&dataset).set("dead_letters.ratio_max", 1.0).set("source.follow", false).run_ok();
        assert_eq!((dataset.ids(), dataset.dead_letters().len()), (ids(0..60_100), bad_len), "batches of {batch_rows}");
    }
}

#[test]
fn rows_without_a_place_pause_the_line_behind_their_batch() {
    let dataset = Dataset::new();
    dataset.write("events.ndjson", lines(0..100));
    let mut process = follow(&dataset).set("sink.partitions_max", 3).spawn();
    process.wait_for_rows(100);
    let shop = |id: i64| json!({ "id": id, "ts": 1_767_225_600_000 + id, "region": format!("shop {id}") }).to_string() + "\n";
    append(&dataset, &(1_000..1_000 + BAD as i64).map(shop).collect::<String>());
    let mut more = 100;
    process.wait_until("the pause", |dataset| {
        append(dataset, &lines(more..more + 1));
        more += 1;
        dataset.internal("HELD").exists()
    });
    process.stop(Signal::TERM).assert_code(65);
}

#[test]
fn what_was_accepted_once_is_usual_afterwards() {
    let dataset = Dataset::new();
    dataset.write("events.ndjson", lines(0..100));
    let mut process = follow(&dataset).spawn();
    process.wait_for_rows(100);
    append(&dataset, &bad_lines().repeat(5));
    process.wait_until("the pause", |dataset| dataset.internal("HELD").exists());
    dataset.pintail().args(["dead-letters", "--accept"]).run_ok();
    append(&dataset, &bad_lines());
    append(&dataset, &lines(100..200));
    process.wait_for_rows(200);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!((dataset.ids(), dataset.dead_letters().len()), (ids(0..200), 6 * BAD));
}

#[test]
fn no_single_request_pauses_the_service_but_clients_that_are_all_wrong_do_however_slow_they_are() {
    let dataset = Dataset::new();
    let mut process = dataset.push().set("pipeline.checkpoint_interval", "50ms").spawn();
    let address = process.http();
    let send = |body: &str| assert_eq!(post(address, &[NDJSON], body).status, 200);
    send(&lines(0..100));
    send(&bad_lines());
    send(&lines(100..200));
    process.wait_for_rows(200);
    assert!(!dataset.internal("HELD").exists());
    assert_eq!(dataset.dead_letters().len(), BAD);
    // So large that it makes many batches.
    send(&"{}\n".repeat(400_000));
    send(&lines(200..300));
    process.wait_for_rows(300);
    assert!(!dataset.internal("HELD").exists());

    // The share of what came before is in the last million: a new dataset has less to go by.
    let dataset = Dataset::new();
    let mut process = dataset.push().set("pipeline.checkpoint_interval", "50ms").spawn();
    let address = process.http();
    let mut sent = 0;
    process.wait_until("the pause", |dataset| {
        if sent < 20 {
            assert_eq!(post(address, &[NDJSON], "1\n".repeat(200)).status, 200);
            sent += 1;
        }
        dataset.internal("HELD").exists()
    });
    assert!(dataset.dead_letters().len() < 8 * 200, "what came later is kept");
    assert_eq!(post(address, &[NDJSON], lines(0..100)).status, 200, "requests are taken as long as the journal has room");
    process.kill();
    let mut process = dataset.push().set("dead_letters.ratio_max", 1.0).spawn();
    process.wait_for_rows(100);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!((dataset.ids(), dataset.dead_letters().len()), (ids(0..100), 200 * sent));
}

#[test]
fn a_pause_is_told_by_dead_letters_and_what_waits_behind_it_is_the_lag() {
    let dataset = Dataset::new();
    let mut process = paused(&dataset);
    let address = process.admin();
    let list = || dataset.pintail().args(["dead-letters"]).run_ok().stdout;
    let unread =
        |dataset: &Dataset| std::fs::metadata(dataset.root().join("events.ndjson")).unwrap().len() - dataset.last_commit().next_offset();
    process.wait_until("the lag", |dataset| get(address, "/metrics").metric("pintail_lag_bytes") as u64 == unread(dataset));
    let said = list();
    for words in ["PAUSED since", "events.ndjson", "not a JSON object", "pintail dead-letters --accept --config "] {
        assert!(said.contains(words), "`{words}` in {said}");
    }
    process.stop(Signal::TERM).assert_code(65);
    assert!(list().contains("STOPPED WHILE PAUSED"), "{}", list());
    dataset.pintail().args(["dead-letters", "--accept"]).run_ok();
    assert!(!list().contains("PAUSED"));
    let mut process = follow(&dataset).spawn();
    process.wait_for_rows(200);
    let address = process.admin();
    process.wait_until("no lag", |_| get(address, "/metrics").metric("pintail_lag_bytes") == 0.0);
}
