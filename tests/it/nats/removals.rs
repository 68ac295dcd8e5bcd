//! Messages that are removed after they were read: what is remembered of them cannot be seen any more, and that is no gap.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::Config;
use async_nats::jetstream::stream::RetentionPolicy::{Limits, WorkQueue};
use pintail_core::batch::Chunk;
use pintail_core::evidence::Key;
use pintail_core::offsets::{NoteKind, OffsetRange, Offsets, Partition, PartitionId};
use pintail_sources::OnGap;
use pintail_sources::nats::config::{NatsConfig, NatsLogin, NatsTls};
use pintail_sources::nats::{Line, NatsSource};
use pintail_sources::{Resume, Source};
use rustix::process::Signal;

use crate::common::Dataset;
use crate::common::lines::ids;
use crate::common::nats::{Broker, STREAM};

/// Reads all that is there, and stops.
fn read(dataset: &Dataset, broker: &Broker, rows: usize) {
    let mut process = dataset.nats(broker).spawn();
    process.wait_for_rows(rows);
    process.wait_until("the position", |dataset| dataset.last_commit().next_offset() == broker.stream().state.last_sequence + 1);
    process.stop(Signal::TERM).assert_code(0);
}

/// Starts and stops, without anything to read; waits until `kinds` are noted.
fn start_and_stop(dataset: &Dataset, broker: &Broker, kinds: &[&str]) {
    let mut process = dataset.nats(broker).set("admin.listen", "127.0.0.1:0").spawn();
    let address = process.admin();
    process.wait_until("to be ready", |_| crate::common::http::get(address, "/readyz").status == 200);
    process.wait_until("what is noted", |dataset| dataset.noted() == kinds);
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(dataset.noted(), kinds);
}

#[test]
fn messages_deleted_one_by_one_are_no_gap_and_it_is_said_once_when_none_is_left_to_see() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(Limits);
    broker.publish_ids(0..100);
    read(&dataset, &broker, 100);
    // The last one is among them: the stream ends there all the same.
    (90..=100).for_each(|sequence| broker.delete(sequence));
    start_and_stop(&dataset, &broker, &[]);
    (1..90).for_each(|sequence| broker.delete(sequence));
    broker.publish_ids(100..101);
    read(&dataset, &broker, 101);
    assert_eq!(dataset.noted(), ["cannot_be_seen"]);
    // One is left to see.
    start_and_stop(&dataset, &broker, &["cannot_be_seen"]);
    broker.delete(101);
    broker.stop();
    broker.up();
    broker.publish_ids(101..102);
    read(&dataset, &broker, 102);
    assert_eq!(dataset.noted(), ["cannot_be_seen"; 2]);
    assert_eq!(dataset.ids(), ids(0..102));
    dataset.assert_clean();
}

#[test]
fn a_purged_stream_goes_on_and_that_nothing_can_be_seen_is_said_once() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(Limits);
    broker.publish_ids(0..100);
    read(&dataset, &broker, 100);
    broker.purge();
    // The server still knows when the last message came.
    start_and_stop(&dataset, &broker, &[]);
    broker.publish_ids(100..110);
    read(&dataset, &broker, 110);
    assert_eq!(dataset.noted(), ["cannot_be_seen"]);
    broker.purge();
    for _ in 0..3 {
        start_and_stop(&dataset, &broker, &["cannot_be_seen"]);
    }
    broker.publish_ids(110..120);
    read(&dataset, &broker, 120);
    assert_eq!(dataset.ids(), ids(0..120));
    dataset.assert_clean();
}

#[test]
fn a_stream_that_keeps_one_message_of_each_subject_shows_the_last_one() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    let config = Config { name: STREAM.into(), subjects: vec!["events.>".into()], max_messages_per_subject: 1, ..Config::default() };
    broker.run(broker.js().create_stream(config)).unwrap();
    let mut process = dataset.nats(&broker).spawn();
    for round in 0..20 {
        broker.publish_ids(round..round + 1);
        process.wait_for_rows(round as usize + 1);
    }
    process.stop(Signal::TERM).assert_code(0);
    assert_eq!(broker.stream().state.messages, 1);
    start_and_stop(&dataset, &broker, &[]);
    // What was read last is overwritten by what comes next.
    broker.publish_ids(20..21);
    read(&dataset, &broker, 21);
    assert_eq!(dataset.noted(), ["cannot_be_seen"]);
    // And a restore shows.
    broker.back_up();
    broker.publish_ids(21..22);
    read(&dataset, &broker, 22);
    broker.stop();
    broker.restore();
    broker.up();
    broker.publish_ids(22..23);
    dataset.nats(&broker).run().assert_refused(65, &[STREAM, "another message at sequence 22"]);
    dataset.assert_clean();
}

#[test]
fn a_work_queue_without_messages_is_no_gap_however_often_it_is_looked_at() {
    let (broker, dataset) = (Broker::start(), Dataset::new());
    broker.make_stream(WorkQueue);
    broker.publish_ids(0..300);
    let mut process = dataset.nats(&broker).spawn();
    process.wait_for_rows(300);
    process.wait_until("all to be acknowledged", |_| broker.stream().state.messages == 0);
    process.stop(Signal::TERM).assert_code(0);
    for _ in 0..3 {
        start_and_stop(&dataset, &broker, &[]);
    }
    broker.publish_ids(300..310);
    read(&dataset, &broker, 310);
    let noted = dataset.noted();
    assert!(noted.is_empty() || noted == ["cannot_be_seen"], "{noted:?}");
    assert_eq!(dataset.ids(), ids(0..310));
    dataset.assert_clean();
}

fn chunk(broker: &Broker, source: &mut NatsSource) -> Chunk {
    broker.run(source.read()).unwrap().expect("a stream has no end")
}

#[test]
fn a_position_of_an_earlier_version_is_accepted_once_and_has_evidence_then() {
    let broker = Broker::start();
    broker.make_stream(Limits);
    broker.publish_ids(0..100);
    let config = NatsConfig {
        urls: vec![broker.url()],
        stream: STREAM.into(),
        subject: None,
        consumer: "pintail".into(),
        unacknowledged_max: 1000,
        on_gap: OnGap::Refuse,
        login: NatsLogin::None,
        tls: NatsTls::default(),
    };
    let key = Key::random();
    let open = |offsets: &Offsets| {
        let line = Line { checkpoint_interval: Duration::from_secs(1), bytes_max: 1 << 30, record_bytes_max: 1 << 20 };
        let open = async { NatsSource::open(&config, line, &Resume { offsets, key: &key }) };
        broker.run(open).unwrap()
    };
    let mut source = open(&Offsets::default());
    let begin = chunk(&broker, &mut source).range;
    assert_eq!((begin.from, begin.to, begin.notes.len()), (1, 1, 0), "where reading begins is recorded before anything is read");
    let first = chunk(&broker, &mut source).range;
    assert_eq!((first.from, first.to, first.notes.len()), (1, 101, 0));
    let witnesses: Vec<_> = first.evidence.as_ref().unwrap().witnesses.iter().map(|witness| witness.from).collect();
    assert_eq!(witnesses, [37, 69, 85, 93, 97, 99, 100]);

    // As a record of version 1 has it.
    let partition = Arc::new(Partition { id: PartitionId::new(first.partition.id.as_str()), label: STREAM.into() });
    let mut offsets = Offsets::default();
    offsets.extend(&OffsetRange::new(partition, 1, 51)).unwrap();
    let mut source = open(&offsets.committed());
    let accepted = chunk(&broker, &mut source).range;
    assert_eq!((accepted.from, accepted.to, accepted.notes[0].kind), (51, 51, NoteKind::Accepted));
    let witnesses: Vec<_> = accepted.evidence.as_ref().unwrap().witnesses.iter().map(|witness| witness.from).collect();
    assert_eq!(witnesses, [19, 35, 43, 47, 49, 50]);
    offsets.extend(&accepted).unwrap();
    let rest = chunk(&broker, &mut source).range;
    assert_eq!((rest.from, rest.to, rest.notes.len()), (51, 101, 0));
    // With its evidence, it is not told again.
    let mut source = open(&offsets.committed());
    let rest = chunk(&broker, &mut source).range;
    assert_eq!((rest.from, rest.to, rest.notes.len()), (51, 101, 0));
}
