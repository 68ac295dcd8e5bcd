//! Streams whose server is restored to one state and then to another, and streams of which nothing was read yet.

use async_nats::jetstream::stream::RetentionPolicy::{Limits, WorkQueue};
use rustix::process::Signal;

use crate::common::Dataset;
use crate::common::lines::ids;
use crate::common::nats::{Broker, STREAM};

/// Returns where the latest generation of the stream goes on.
fn next_offset(dataset: &Dataset) -> Option<u64> {
    dataset.commits().last()?.positions.values().next_back().copied()
}

/// Lets Pintail read until the stream's end, and stops it.
fn read(dataset: &Dataset, broker: &Broker, on_gap: &str) {
    let mut process = dataset.nats(broker).set("source.on_gap", on_gap).spawn();
    let end = broker.stream().state.last_sequence + 1;
    process.wait_until("the end of the stream", |dataset| next_offset(dataset) == Some(end));
    process.stop(Signal::TERM).assert_code(0);
}

fn restore(broker: &Broker, name: &str) {
    broker.stop();
    broker.restore_from(name);
    broker.up();
}

#[test]
fn a_stream_restored_older_and_then_to_what_it_was_goes_on_where_it_was_read_to() {
    for grown in [0, 10, 80] {
        let (broker, dataset) = (Broker::start(), Dataset::new());
        broker.make_stream(Limits);
        broker.publish_ids(0..50);
        broker.back_up_as("older");
        broker.publish_ids(50..100);
        read(&dataset, &broker, "refuse");
        broker.back_up_as("newer");
        restore(&broker, "older");
        broker.publish_ids(1000..1000 + grown);
        read(&dataset, &broker, "record");
        let mut expected: Vec<_> = (0..100).chain(1000..1000 + grown).collect();
        assert_eq!(dataset.ids(), expected, "{grown}");

        // What was read of the older state is gone, where something was.
        restore(&broker, "newer");
        broker.publish_ids(100..110);
        let process = dataset.nats(&broker);
        if grown > 0 {
            process.run().assert_refused(65, &[STREAM, "up to sequence 100", "--accept"]);
        }
        read(&dataset, &broker, if grown > 0 { "record" } else { "refuse" });
        drop(expected.splice(100..100, 100..110));
        assert_eq!(dataset.ids(), expected, "{grown}");
        let noted = dataset.noted();
        assert_eq!(noted, ["gap", if grown > 0 { "gap" } else { "moved" }], "{grown}");

        // And the older state once more is another history once more.
        restore(&broker, "older");
        dataset.nats(&broker).run().assert_refused(65, &[STREAM, "state of it was restored"]);
        broker.publish_ids(2000..2100);
        read(&dataset, &broker, "record");
        expected.extend(2000..2100);
        assert_eq!(dataset.ids(), expected, "{grown}");
        dataset.assert_clean();
    }
}

#[test]
fn what_is_removed_from_a_stream_that_was_empty_when_it_was_seen_first_is_a_gap() {
    for retention in [Limits, WorkQueue] {
        let (broker, dataset) = (Broker::start(), Dataset::new());
        broker.make_stream(retention);
        let mut process = dataset.nats(&broker).spawn();
        process.wait_until("the position", |dataset| next_offset(dataset) == Some(1));
        process.stop(Signal::TERM).assert_code(0);
        broker.publish_ids(0..10);
        broker.purge();
        broker.publish_ids(10..20);
        dataset.nats(&broker).run().assert_refused(65, &[STREAM, "begins at sequence 11", "10 sequences", "source.on_gap"]);
        read(&dataset, &broker, "record");
        assert_eq!((dataset.ids(), dataset.noted()), (ids(10..20), vec!["gap".to_owned()]));
        dataset.assert_clean();
    }
}
