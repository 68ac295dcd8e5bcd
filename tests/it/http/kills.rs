//! `kill -9` while clients push: they try again with their keys.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;

use super::NDJSON;
use crate::common::Dataset;
use crate::common::http::try_request;
use crate::common::lines::{ids, lines};

const ROUNDS: usize = 8;
const EVENTS: i64 = 50;

/// Ends the clients when the test fails, answered or not: it would wait for them for ever.
struct GiveUp<'a>(&'a AtomicBool);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.0.store(thread::panicking(), Ordering::Relaxed);
    }
}

#[test]
fn pushed_events_arrive_once_however_often_the_process_is_killed_when_clients_try_again_with_their_keys() {
    let dataset = Dataset::new();
    let seed = rand::random();
    println!("the moments of this run: StdRng::seed_from_u64({seed})");
    let mut moments = StdRng::seed_from_u64(seed);
    let address: Mutex<Option<SocketAddr>> = Mutex::new(None);
    let (next, tries) = (AtomicI64::new(0), AtomicI64::new(0));
    let (stop, given_up) = (AtomicBool::new(false), AtomicBool::new(false));
    let client = || {
        while !stop.load(Ordering::Relaxed) && !given_up.load(Ordering::Relaxed) {
            let from = next.fetch_add(EVENTS, Ordering::Relaxed);
            let (body, key) = (lines(from..from + EVENTS), format!("events from {from}"));
            // Until it is answered: a connection that broke off says nothing of what was kept.
            while !given_up.load(Ordering::Relaxed) {
                let to = *address.lock().unwrap();
                tries.fetch_add(1, Ordering::Relaxed);
                let sent = to.and_then(|to| try_request(to, "POST", "/v1/events", &[NDJSON, ("Idempotency-Key", &key)], &body).ok());
                match sent {
                    Some(answer) if answer.status == 200 => break,
                    Some(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                    None => thread::sleep(Duration::from_millis(2)),
                }
            }
        }
    };
    // Small segments: some go, and carry their keys on, between two kills.
    let small = dataset.push().set("source.body_bytes_max", "64KiB").set("source.decompressed_bytes_max", "64KiB");
    let small = small.set("source.journal_bytes_max", "8MiB").set("pipeline.checkpoint_interval", "50ms");
    let run = || small.clone();
    let last = thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        let _give_up = GiveUp(&given_up);
        for _ in 0..ROUNDS {
            let mut process = run().spawn();
            *address.lock().unwrap() = Some(process.http());
            let before = dataset.commits_len();
            if moments.random_bool(0.7) {
                process.wait_for_commits(before + 1);
            }
            thread::sleep(Duration::from_millis(moments.random_range(0..200)));
            assert_eq!(process.kill().code(), 137);
        }
        let mut process = run().spawn();
        *address.lock().unwrap() = Some(process.http());
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
        let all = next.load(Ordering::Relaxed);
        process.wait_for_committed(all.unsigned_abs());
        process.stop(Signal::TERM).assert_code(0);
        all
    });
    println!("{last} events, {} requests for {} answers", tries.load(Ordering::Relaxed), last / EVENTS);
    assert!(tries.load(Ordering::Relaxed) > last / EVENTS, "no request met a kill");
    assert_eq!(dataset.ids(), ids(0..last));
    dataset.assert_clean();
}
