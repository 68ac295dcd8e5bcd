//! Streams whose server was restored to an older state, and has gone on since.

use std::thread;
use std::time::Duration;

use async_nats::jetstream::stream::RetentionPolicy::{self, Interest, Limits, WorkQueue};
use rustix::process::Signal;

use crate::common::Dataset;
use crate::common::lines::line;
use crate::common::nats::{Broker, STREAM};
use crate::common::process::{Pintail, Process, log_lines};

/// A dataset that has read a hundred messages of a stream, and the server as it was after fifty.
struct Restored {
    broker: Broker,
    dataset: Dataset,
    subject: Option<&'static str>,
}

impl Restored {
    fn run(&self) -> Pintail<'_> {
        let pintail = self.dataset.nats(&self.broker);
        match self.subject {
            Some(subject) => pintail.set("source.subject", subject),
            None => pintail,
        }
    }

    /// Reads the first hundred, of which the server is to forget the latter half. Returns the process, which runs.
    fn read(&self, retention: RetentionPolicy) -> Process<'_> {
        self.broker.make_stream(retention);
        let mut process = self.run().spawn();
        if retention != Limits {
            process.wait_until("the consumer", |_| self.broker.consumer().is_some());
        }
        self.publish(0..50);
        process.wait_for_rows(50);
        if retention != Limits {
            process.wait_until("all to be acknowledged", |_| self.broker.consumer().is_some_and(|consumer| consumer.num_ack_pending == 0));
        }
        self.broker.back_up();
        self.publish(50..100);
        process.wait_for_rows(100);
        process
    }

    /// Publishes messages; under a filter, each with one beside it that is not read.
    fn publish(&self, ids: std::ops::Range<i64>) {
        match self.subject {
            Some(_) => ids.for_each(|id| {
                self.broker.publish("events.us", [line(-1)]);
                self.broker.publish("events.eu", [line(id)]);
            }),
            None => self.broker.publish_ids(ids),
        }
    }

    /// Restores the server, and publishes seventy others there, so that the stream is longer than it was read.
    fn restore(&self) {
        self.broker.stop();
        self.broker.restore();
        self.broker.up();
        self.publish(1050..1120);
    }

    /// Asserts that nothing is refused or missing once the gap is recorded, and that it is recorded once.
    fn goes_on(&self) {
        let mut process = self.run().set("source.on_gap", "record").spawn();
        process.wait_for_rows(170);
        let log = process.log();
        process.stop(Signal::TERM).assert_code(0);
        let warnings = log_lines(&log, &["WARN"]);
        assert!(warnings.contains("an older state of it was restored") && warnings.contains("may be lost"), "{log}");
        self.publish(1120..1130);
        let mut process = self.run().spawn();
        process.wait_for_rows(180);
        process.stop(Signal::TERM).assert_code(0);
        let expected: Vec<_> = (0..100).chain(1050..1130).collect();
        assert_eq!(self.dataset.ids(), expected);
        assert_eq!(gaps(&self.dataset), 1, "{:?}", self.dataset.noted());
        self.dataset.assert_clean();
    }
}

/// Counts the gaps that are recorded.
fn gaps(dataset: &Dataset) -> usize {
    dataset.noted().iter().filter(|kind| *kind == "gap").count()
}

/// Restores while Pintail is away, or stands still.
fn restored(retention: RetentionPolicy, subject: Option<&'static str>, running: bool) {
    let it = Restored { broker: Broker::start(), dataset: Dataset::new(), subject };
    let process = it.read(retention);
    let refused = [STREAM, "another message at sequence", "was read up to", "source.on_gap = \"record\"", "--accept"];
    if running {
        process.signal(Signal::STOP);
        it.restore();
        process.signal(Signal::CONT);
        process.wait().assert_refused(65, &refused);
    } else {
        process.stop(Signal::TERM).assert_code(0);
        it.restore();
    }
    it.run().run().assert_refused(65, &refused);
    assert_eq!(it.dataset.ids(), (0..100).collect::<Vec<_>>());
    it.goes_on();
}

#[test]
fn a_restored_stream_that_has_grown_past_what_was_read_is_refused_or_recorded() {
    restored(Limits, None, false);
}

#[test]
fn a_restored_stream_of_which_some_subjects_are_read_is_refused_or_recorded() {
    restored(Limits, Some("events.eu"), false);
}

#[test]
fn a_stream_restored_while_it_is_read_is_refused_or_recorded() {
    restored(Limits, None, true);
}

#[test]
fn a_restored_work_queue_is_refused_or_recorded() {
    restored(WorkQueue, None, false);
}

#[test]
fn a_work_queue_restored_while_some_of_its_subjects_are_read_is_refused_or_recorded() {
    restored(WorkQueue, Some("events.eu"), true);
}

#[test]
fn a_restored_interest_stream_is_refused_or_recorded() {
    restored(Interest, None, false);
}

#[test]
fn an_interest_stream_restored_while_it_is_read_is_refused_or_recorded() {
    restored(Interest, None, true);
}

#[test]
fn a_restored_stream_in_which_what_would_tell_was_deleted_is_told_by_what_is_too_young() {
    for retention in [Limits, WorkQueue] {
        let it = Restored { broker: Broker::start(), dataset: Dataset::new(), subject: None };
        it.read(retention).stop(Signal::TERM).assert_code(0);
        it.restore();
        // At the distances where messages are remembered.
        let deleted = [100, 99, 97, 93, 85, 69, 37_u64];
        for sequence in deleted.into_iter().filter(|sequence| retention == Limits || *sequence > 50) {
            it.broker.delete(sequence);
        }
        it.run().run().assert_refused(65, &[STREAM, "younger than all that was read", "source.on_gap", "--accept"]);
        let mut process = it.run().set("source.on_gap", "record").spawn();
        process.wait_for_rows(164);
        process.stop(Signal::TERM).assert_code(0);
        let expected: Vec<_> = (0..100).chain((1050..1120).filter(|id: &i64| !deleted.contains(&(id.unsigned_abs() - 999)))).collect();
        assert_eq!((it.dataset.ids(), gaps(&it.dataset)), (expected, 1), "{retention:?}");
        it.dataset.assert_clean();
    }
}

#[test]
fn messages_that_a_restored_stream_has_where_others_were_passed_over_are_not_lost() {
    for retention in [Limits, WorkQueue] {
        let (broker, dataset) = (Broker::start(), Dataset::new());
        broker.make_stream(retention);
        let run = || dataset.nats(&broker).set("source.subject", "events.eu");
        broker.publish_ids(0..40);
        let mut process = run().spawn();
        process.wait_for_rows(40);
        broker.back_up();
        broker.publish("events.us", (0..60).map(|_| line(-1)));
        process.wait_until("all sequences", |dataset| dataset.commits().last().is_some_and(|last| last.next_offset() == 101));
        process.stop(Signal::TERM).assert_code(0);
        broker.stop();
        broker.restore();
        broker.up();
        broker.publish_ids(40..60);
        broker.publish("events.us", (0..60).map(|_| line(-1)));
        run().run().assert_refused(65, &[STREAM, "another message at sequence 100", "source.on_gap"]);
        let mut process = run().set("source.on_gap", "record").spawn();
        process.wait_for_rows(60);
        process.stop(Signal::TERM).assert_code(0);
        assert_eq!((dataset.ids(), gaps(&dataset)), ((0..60).collect(), 1), "{retention:?}");
        dataset.assert_clean();
    }
}

#[test]
fn a_stream_restored_long_before_what_is_remembered_goes_on_where_the_new_history_begins() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(Limits);
    broker.publish_ids(0..500);
    let mut process = dataset.nats(&broker).spawn();
    process.wait_for_rows(500);
    broker.back_up();
    broker.publish_ids(500..2000);
    process.wait_for_rows(2000);
    process.stop(Signal::TERM).assert_code(0);
    for (longer, count) in [(false, 50), (true, 3000)] {
        broker.stop();
        broker.restore();
        broker.up();
        broker.publish_ids(5000..5000 + count);
        let words = if longer { "another message at sequence" } else { "ends at sequence 550" };
        dataset.nats(&broker).run().assert_refused(65, &[STREAM, words, "by their times, sequence 501 is the first"]);
    }
    let mut process = dataset.nats(&broker).set("source.on_gap", "record").spawn();
    process.wait_for_rows(5000);
    process.stop(Signal::TERM).assert_code(0);
    let expected: Vec<_> = (0..2000).chain(5000..8000).collect();
    assert_eq!(dataset.ids(), expected);
    dataset.assert_clean();
}

#[test]
fn a_server_restored_to_what_was_read_is_no_gap() {
    for retention in [Limits, WorkQueue, Interest] {
        let it = Restored { broker: Broker::start(), dataset: Dataset::new(), subject: None };
        let mut process = it.read(retention);
        // Another copy, of all that was read. It may hold messages that are committed and whose acknowledgement it does not know.
        it.broker.back_up();
        it.broker.stop();
        it.broker.restore();
        it.broker.up();
        it.publish(100..110);
        process.wait_for_rows(110);
        thread::sleep(Duration::from_millis(200));
        process.stop(Signal::TERM).assert_code(0);
        assert_eq!(it.dataset.ids(), (0..110).collect::<Vec<_>>(), "{retention:?}");
        assert_eq!(gaps(&it.dataset), 0, "{retention:?}: {:?}", it.dataset.noted());
        it.dataset.assert_clean();
    }
}
