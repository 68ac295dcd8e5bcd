//! `kill -9`, of Pintail and of the server, while messages come in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use async_nats::jetstream::stream::RetentionPolicy::{self, Interest, Limits, WorkQueue};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rustix::process::Signal;

use super::assert_whole;
use crate::common::Dataset;
use crate::common::lines::line;
use crate::common::nats::Broker;

/// Messages that are published at a time: the last one is of another subject, and a hole in what is read.
const TOGETHER: u64 = 101;

/// Returns the message with sequence n + 1.
fn message(n: u64) -> (&'static str, String) {
    match n % TOGETHER {
        100 => ("events.us", line(-1)),
        _ => ("events.eu", line((n - n / TOGETHER) as i64)),
    }
}

/// Ends the publisher also when the test fails, or the test would wait for it forever.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kills the process in each round, and the server as well in every fifth.
fn killed_while_messages_come_in(retention: RetentionPolicy, rounds: u64) {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    let seed = rand::random();
    println!("the moments of this run: StdRng::seed_from_u64({seed})");
    let mut moments = StdRng::seed_from_u64(seed);
    broker.make_stream(retention);
    let run = || {
        let pintail = dataset.nats(&broker).set("source.subject", "events.eu").set("pipeline.checkpoint_interval", "40ms");
        pintail.set("pipeline.batch_rows", 250)
    };
    if retention == Interest {
        // Nothing is kept before somebody is interested.
        let mut process = run().spawn();
        process.wait_until("the consumer", |_| broker.consumer().is_some());
        process.kill();
    }
    let stop = AtomicBool::new(false);
    let published = thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut next = 0;
            while !stop.load(Ordering::Relaxed) {
                next += TOGETHER;
                broker.publish_up_to(next, message);
                thread::sleep(Duration::from_millis(5));
            }
            next
        });
        let _stop = StopOnDrop(&stop);
        for round in 0..rounds {
            let before = dataset.commits_len();
            let mut process = run().spawn();
            process.wait_for_commits(before + 1);
            let pause = |moments: &mut StdRng| thread::sleep(Duration::from_millis(moments.random_range(0..120)));
            pause(&mut moments);
            let server_too = round % 5 == 2;
            if server_too {
                broker.stop();
                pause(&mut moments);
            }
            assert_eq!(process.kill().code(), 137);
            if server_too {
                broker.up();
            }
        }
        stop.store(true, Ordering::Relaxed);
        let times: u64 = publisher.join().unwrap() / TOGETHER;
        let published = (times * (TOGETHER - 1)) as i64;
        let mut process = run().spawn();
        process.wait_for_rows(published as usize);
        if retention != Limits {
            let done = || broker.consumer().is_some_and(|consumer| (consumer.num_pending, consumer.num_ack_pending) == (0, 0));
            process.wait_until("all to be acknowledged", |_| done());
            // Of an interest stream a hundred messages were left at times on a busy machine, with 2.9.10, though no consumer waits for them: they
            // are committed, and go with the stream's limits. Why is not known.
            if retention == WorkQueue {
                process.wait_until("what is acknowledged to be removed", |_| broker.stream().state.messages == times);
            }
        }
        process.stop(Signal::TERM).assert_code(0);
        published
    });
    println!("{published} messages, {rounds} kills, {} checkpoints", dataset.commits_len());
    assert_whole(&dataset, 0..published);
    assert_eq!(dataset.counts().records_in as i64, published);
    dataset.assert_clean();
}

#[test]
fn messages_arrive_once_however_often_process_and_server_are_killed() {
    killed_while_messages_come_in(Limits, 8);
}

#[test]
fn messages_of_a_work_queue_arrive_once_however_often_process_and_server_are_killed() {
    killed_while_messages_come_in(WorkQueue, 5);
}

#[test]
fn messages_of_an_interest_stream_arrive_once_however_often_process_and_server_are_killed() {
    killed_while_messages_come_in(Interest, 3);
}
