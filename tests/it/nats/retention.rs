//! Streams that keep a message until it is acknowledged.

use std::thread;
use std::time::Duration;

use async_nats::jetstream::stream::RetentionPolicy::{self, Interest, WorkQueue};
use rustix::process::Signal;

use crate::common::http::get;
use crate::common::lines::ids;
use crate::common::nats::Broker;
use crate::common::process::messages;
use crate::common::{Dataset, wait_until};

#[test]
fn messages_of_a_work_queue_stay_there_until_they_are_committed() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(WorkQueue);
    // More than the server lets be unacknowledged by itself.
    broker.publish_ids(0..2500);
    let process = dataset.nats(&broker).set("pipeline.checkpoint_interval", "1h").spawn();
    wait_until("all to be delivered", || broker.consumer().is_some_and(|consumer| consumer.num_ack_pending == 2500));
    thread::sleep(Duration::from_millis(200));
    assert_eq!((broker.stream().state.messages, broker.consumer().unwrap().ack_floor.stream_sequence), (2500, 0));
    process.kill();

    let mut process = dataset.nats(&broker).spawn();
    process.wait_for_rows(2500);
    process.wait_until("all to be acknowledged", |_| broker.stream().state.messages == 0);
    assert_eq!(broker.consumer().unwrap().ack_floor.stream_sequence, 2500);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..2500));

    // What a signal commits is acknowledged before the end.
    broker.publish_ids(2500..2600);
    let mut process = dataset.nats(&broker).set("pipeline.checkpoint_interval", "1h").spawn();
    process.wait_until("all to be delivered", |_| broker.consumer().is_some_and(|consumer| consumer.num_ack_pending == 100));
    thread::sleep(Duration::from_millis(200));
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!((broker.stream().state.messages, dataset.ids()), (0, ids(0..2600)));
    dataset.assert_clean();
}

#[test]
fn a_committed_message_that_a_work_queue_delivers_again_is_acknowledged_at_once() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(WorkQueue);
    broker.publish_ids(0..100);
    let mut process = dataset.nats(&broker).set("pipeline.checkpoint_interval", "2s").spawn();
    process.wait_until("all to be delivered", |_| broker.consumer().is_some_and(|consumer| consumer.num_ack_pending == 100));
    thread::sleep(Duration::from_millis(200));
    // The commit finds nobody to acknowledge to.
    broker.stop();
    process.wait_for_rows(100);
    broker.up();
    process.wait_until("all to be acknowledged", |_| broker.stream().state.messages == 0);
    broker.publish_ids(100..110);
    process.wait_for_rows(110);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!((dataset.ids(), dataset.counts().records_in), (ids(0..110), 110));
    dataset.assert_clean();
}

#[test]
fn an_interest_stream_keeps_messages_while_pintail_is_away_and_until_they_are_committed() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(Interest);
    let mut process = dataset.nats(&broker).spawn();
    process.wait_until("the consumer", |_| broker.consumer().is_some());
    process.kill();
    broker.publish_ids(0..2500);
    let mut process = dataset.nats(&broker).set("pipeline.checkpoint_interval", "1h").spawn();
    process.wait_until("all to be delivered", |_| broker.consumer().is_some_and(|consumer| consumer.num_ack_pending == 2500));
    thread::sleep(Duration::from_millis(300));
    assert_eq!(broker.stream().state.messages, 2500, "nothing is committed");
    process.stop(Signal::TERM).assert_code(0);
    wait_until("all to be acknowledged", || broker.stream().state.messages == 0);
    assert_eq!(dataset.ids(), ids(0..2500));
    dataset.assert_clean();
}

#[test]
fn an_interest_stream_is_read_while_the_consumer_of_an_earlier_session_cannot_be_deleted() {
    let password = "the-right-one";
    let (broker, dataset) = (Broker::that_deletes_nothing_for_ben(password), Dataset::new());
    broker.make_stream(Interest);
    let run = |user: &str| dataset.nats(&broker).set("source.user", user).env("PINTAIL_SOURCE__PASSWORD", password).spawn();
    let mut process = run("ann");
    process.wait_until("the consumer", |_| broker.consumer().is_some());
    process.kill();
    broker.publish_ids(0..100);
    let mut process = run("ben");
    process.wait_for_rows(100);
    process.kill();
    // Both consumers are there: one goes, and the other keeps what comes.
    broker.publish_ids(100..200);
    let mut process = run("ann");
    process.wait_for_rows(200);
    process.wait_until("nothing to be kept", |_| broker.consumer().is_some() && broker.stream().state.messages == 0);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..200));
    dataset.assert_clean();
}

#[test]
fn what_waits_behind_the_messages_that_may_be_unacknowledged_is_the_lag() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(WorkQueue);
    broker.publish_ids(0..5000);
    let run = || dataset.nats(&broker).set("source.unacknowledged_max", 1000).set("admin.listen", "127.0.0.1:0");
    let mut process = run().set("pipeline.checkpoint_interval", "1h").spawn();
    let address = process.admin();
    process.wait_until("a lag of 4000", |_| get(address, "/metrics").try_metric("pintail_lag_records") == Some(4000.0));
    assert_eq!(broker.consumer().unwrap().num_ack_pending, 1000);
    process.kill();
    // Each checkpoint makes room for the next thousand.
    let mut process = run().spawn();
    let address = process.admin();
    process.wait_for_rows(5000);
    process.wait_until("all to be acknowledged", |_| broker.stream().state.messages == 0);
    process.wait_until("no lag", |_| get(address, "/metrics").metric("pintail_lag_records") == 0.0);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..5000));
    assert!(dataset.commits_len() >= 5, "{} checkpoints", dataset.commits_len());
    dataset.assert_clean();
}

/// Ends a session while messages wait for their commit: the next one has another consumer, and they are delivered to that again.
fn delivered_again_before_the_commit(retention: RetentionPolicy) {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(retention);
    let mut process = dataset.nats(&broker).set("pipeline.checkpoint_interval", "4s").spawn();
    let delivered = |count: usize| broker.consumer().is_some_and(|consumer| consumer.num_ack_pending == count);
    process.wait_until("the consumer", |_| delivered(0));
    broker.publish_ids(0..1000);
    process.wait_until("all to be delivered", |_| delivered(1000));
    thread::sleep(Duration::from_millis(200));
    broker.stop();
    wait_until("the end of the session", || !messages(&process.log(), "source unavailable, retrying").is_empty());
    broker.up();
    // The consumer of the session before is gone then, and what it would have kept with it.
    wait_until("the next session", || !messages(&process.log(), "source available again").is_empty());
    process.wait_until("all to be delivered again", |_| delivered(1000));
    assert_eq!((dataset.commits_len(), broker.stream().state.messages), (0, 1000), "they are kept until they are committed");
    broker.publish_ids(1000..1100);
    process.wait_for_rows(1100);
    process.wait_until("all to be acknowledged", |_| broker.stream().state.messages == 0);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!((dataset.ids(), dataset.counts().records_in), (ids(0..1100), 1100));
    dataset.assert_clean();
}

#[test]
fn a_message_of_a_work_queue_that_is_delivered_again_before_its_commit_is_there_once() {
    delivered_again_before_the_commit(WorkQueue);
}

#[test]
fn a_message_of_an_interest_stream_is_kept_over_sessions_until_its_commit_and_is_there_once() {
    delivered_again_before_the_commit(Interest);
}
