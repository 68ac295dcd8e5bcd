//! Messages that were removed before they were read, and streams that are not what they were.

use async_nats::jetstream::stream::RetentionPolicy::Limits;
use rustix::process::Signal;

use crate::common::Dataset;
use crate::common::lines::ids;
use crate::common::nats::{Broker, STREAM};
use crate::common::process::log_lines;

#[test]
fn messages_purged_unread_are_refused_or_recorded() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(Limits);
    broker.publish_ids(0..100);
    let mut process = dataset.nats(&broker).spawn();
    process.wait_for_rows(100);
    process.stop(Signal::TERM).assert_code(0);
    broker.publish_ids(100..150);
    broker.purge();
    broker.publish_ids(150..160);

    dataset.nats(&broker).run().assert_refused(65, &[STREAM, "begins at sequence 151", "read up to 100", "50 sequences", "source.on_gap"]);
    assert_eq!(dataset.ids(), ids(0..100));
    let mut process = dataset.nats(&broker).set("source.on_gap", "record").spawn();
    process.wait_for_rows(110);
    let log = process.log();
    process.stop(Signal::TERM).assert_code(0);
    assert!(log_lines(&log, &["WARN"]).contains("50 sequences"), "{log}");
    let expected: Vec<_> = (0..100).chain(150..160).collect();
    assert_eq!(dataset.ids(), expected);
    assert_eq!((dataset.last_commit().next_offset(), dataset.counts().records_in), (161, 110));
    dataset.assert_clean();
}

#[test]
fn messages_purged_while_the_process_stands_still_are_noticed_also_under_a_filter() {
    for subject in [None, Some("events.eu")] {
        let (broker, dataset) = (Broker::start(), Dataset::new());
        broker.make_stream(Limits);
        broker.publish_ids(0..100);
        let run = || match subject {
            Some(subject) => dataset.nats(&broker).set("source.subject", subject),
            None => dataset.nats(&broker),
        };
        let mut process = run().spawn();
        process.wait_for_rows(100);
        process.signal(Signal::STOP);
        // Far more than is on its way to a process that does not read.
        for _ in 0..4 {
            broker.publish("events.eu", (0..5000).map(|_| format!("{{\"id\":1,\"ts\":1,\"region\":\"eu\",\"pad\":\"{:>1000}\"}}", "")));
        }
        broker.purge();
        broker.publish_ids(150..160);
        process.signal(Signal::CONT);
        process.wait().assert_refused(65, &[STREAM, "removed unread", "source.on_gap"]);
        dataset.assert_clean();
    }
}

#[test]
fn a_stream_that_was_made_again_is_refused_or_recorded() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(Limits);
    broker.publish_ids(0..100);
    let mut process = dataset.nats(&broker).spawn();
    process.wait_for_rows(100);
    // Also while it is read, and with more messages than were read before.
    broker.delete_stream();
    broker.make_stream(Limits);
    broker.publish_ids(100..250);
    process.wait().assert_refused(65, &[STREAM, "recreated", "up to sequence 100", "source.on_gap"]);
    dataset.nats(&broker).run().assert_refused(65, &[STREAM, "recreated"]);
    assert_eq!(dataset.ids(), ids(0..100));

    let run = || dataset.nats(&broker).set("source.on_gap", "record");
    let mut process = run().spawn();
    process.wait_for_rows(250);
    process.stop(Signal::TERM).assert_code(0);
    broker.publish_ids(250..260);
    let mut process = run().set("source.on_gap", "refuse").spawn();
    process.wait_for_rows(260);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.ids(), ids(0..260));
    assert_eq!(dataset.last_commit().positions.len(), 2, "each is a partition of its own");
    dataset.assert_clean();
}

#[test]
fn another_stream_on_the_same_dataset_is_refused() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(Limits);
    broker.publish_ids(0..1);
    let mut process = dataset.nats(&broker).spawn();
    process.wait_for_rows(1);
    process.stop(Signal::TERM).assert_code(0);
    dataset.nats(&broker).set("source.stream", "ORDERS").run().assert_refused(78, &["stream", STREAM, "ORDERS", "pipeline.out_path"]);
}
