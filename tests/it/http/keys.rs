//! Idempotency keys.

use std::thread;

use rustix::process::Signal;

use super::{NDJSON, assert_taken, post};
use crate::common::Dataset;
use crate::common::lines::{ids, lines};

#[test]
fn a_key_is_answered_as_before_also_after_a_kill_and_after_its_records_were_committed() {
    let dataset = Dataset::new();
    let key = [NDJSON, ("Idempotency-Key", "first")];
    let mut process = dataset.push().spawn();
    let address = process.http();
    assert_taken(&post(address, &key, lines(0..10)), 10, 0);
    assert_taken(&post(address, &[NDJSON], lines(10..15)), 5, 10);
    assert_taken(&post(address, &key, lines(0..10)), 10, 0);
    assert_eq!(post(address, &key, lines(0..9)).status, 422);
    assert_eq!(process.kill().code(), 137);

    let mut process = dataset.push().spawn();
    let address = process.http();
    assert_taken(&post(address, &key, lines(0..10)), 10, 0);
    process.wait_for_committed(15);
    process.stop(Signal::TERM).assert_code(0);

    let mut process = dataset.push().spawn();
    let address = process.http();
    assert_taken(&post(address, &key, lines(0..10)), 10, 0);
    assert_eq!(post(address, &key, lines(0..9)).status, 422);
    assert_taken(&post(address, &[NDJSON, ("Idempotency-Key", "second")], lines(15..16)), 1, 15);
    process.wait_for_committed(16);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..16));
    dataset.assert_clean();
}

#[test]
fn a_key_sent_many_times_at_once_is_taken_once() {
    let dataset = Dataset::new();
    let mut process = dataset.push().spawn();
    let address = process.http();
    thread::scope(|scope| {
        let sends: Vec<_> = (0..16)
            .map(|_| scope.spawn(move || assert_taken(&post(address, &[NDJSON, ("Idempotency-Key", "one")], lines(0..1000)), 1000, 0)))
            .collect();
        sends.into_iter().for_each(|send| send.join().unwrap());
    });
    process.wait_for_committed(1000);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..1000));
    dataset.assert_clean();
}
