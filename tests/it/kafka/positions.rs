//! Positions in Kafka: whatever becomes of a log between two looks at it is noticed, and nothing else is.
//!
//! The source is driven without the rest of the line, on a broker whose logs can be cut, elected, deleted, compacted and made again.

use std::time::{Duration, Instant};

use pintail::batch::Records;
use pintail::config::{Instance, KafkaConfig, OnGap};
use pintail::error::{Error, ErrorKind};
use pintail::evidence::Key;
use pintail::offsets::{NoteKind, Offsets, Span};
use pintail::source::kafka::KafkaSource;
use pintail::source::{Resume, Source as _};
use tokio::runtime::Runtime;

use crate::common::PATIENCE;
use crate::common::broker::log::Log;
use crate::common::broker::{Age, Broker};

const TOPIC: &str = "events";
const AGES: [Age; 3] = [Age::Old, Age::WithoutIds, Age::WithIds];
/// Time in which a reader that has nothing to say says nothing.
const QUIET: Duration = Duration::from_millis(1500);

/// A dataset, as far as a source knows of it.
struct Dataset {
    broker: Broker,
    topics: Vec<String>,
    runtime: Runtime,
    key: Key,
    /// What is committed.
    offsets: Offsets,
    /// The records that were committed, in their order.
    records: Vec<String>,
    /// The notes that were committed.
    notes: Vec<(NoteKind, String)>,
}

/// A start of the source.
struct Run<'a> {
    dataset: &'a mut Dataset,
    source: KafkaSource,
    offsets: Offsets,
    records: Vec<String>,
}

impl Dataset {
    fn new(age: Age) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let broker = Broker::start(age, TOPIC, 1);
        Self {
            broker,
            topics: vec![TOPIC.to_owned()],
            runtime,
            key: Key::new([7; 32]),
            offsets: Offsets::default(),
            records: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Returns one that has read the numbers up to `count`.
    fn having_read(age: Age, count: i64) -> Self {
        let mut dataset = Self::new(age);
        dataset.log(|log| log.append(numbers(0, count)));
        dataset.start().read(count as usize).commit();
        dataset
    }

    fn log<T>(&self, act: impl FnOnce(&mut Log) -> T) -> T {
        self.broker.log(TOPIC, 0, act)
    }

    fn start(&mut self) -> Run<'_> {
        self.start_with(OnGap::Refuse)
    }

    fn start_with(&mut self, on_gap: OnGap) -> Run<'_> {
        let config = KafkaConfig {
            brokers: vec![self.broker.address()],
            topics: self.topics.clone(),
            group: "pintail".to_owned(),
            on_gap,
            password: None,
            properties: Default::default(),
            partitions_interval: Duration::from_secs(30),
            instance: Instance::default(),
        };
        let source = KafkaSource::open(&config, 1 << 20, &Resume { offsets: &self.offsets, key: &self.key }).unwrap();
        let offsets = self.offsets.clone();
        Run { dataset: self, source, offsets, records: Vec::new() }
    }

    /// Starts, and returns the refusal.
    fn refused(&mut self) -> String {
        let error = self.start().fail();
        assert_eq!(error.kind(), ErrorKind::State, "{error}");
        let text = error.to_string();
        assert!(text.contains("`events[") && text.contains("on_gap") && text.contains("--accept"), "{text}");
        text
    }

    /// Starts, reads what there is and commits it; returns the kinds of the notes made.
    fn read_on(&mut self, on_gap: OnGap, count: usize) -> Vec<NoteKind> {
        let before = self.notes.len();
        self.start_with(on_gap).read(count).commit();
        self.notes[before..].iter().map(|(kind, _)| *kind).collect()
    }

    /// Forgets the evidence, as a record of version 1 has none.
    fn forget_evidence(&mut self) {
        let spans = self.offsets.spans().map(|(id, span)| (id.clone(), Span { evidence: None, ..span.clone() }));
        self.offsets = Offsets::from_spans(spans.collect::<Vec<_>>());
    }

    /// Returns the next offset of the partition that was read last.
    fn next(&self) -> u64 {
        self.offsets.spans().last().unwrap().1.to
    }
}

impl Run<'_> {
    /// Reads one chunk, or nothing for a while.
    fn turn(&mut self) -> Result<(), Error> {
        let patience = Duration::from_millis(50);
        let read = self.dataset.runtime.block_on(async { tokio::time::timeout(patience, self.source.read()).await });
        let Ok(chunk) = read else { return Ok(()) };
        let chunk = chunk?.expect("a topic does not end");
        assert!(chunk.range.evidence.is_some(), "a checkpoint may end behind any chunk: {:?}", chunk.range);
        self.offsets.extend(&chunk.range).unwrap();
        if let Records::Lines(lines) | Records::Messages { lines, .. } = chunk.records {
            let lines = String::from_utf8(lines.to_vec()).unwrap();
            self.records.extend(lines.lines().filter(|line| !line.is_empty()).map(str::to_owned));
        }
        Ok(())
    }

    fn until(mut self, what: &str, done: impl Fn(&Self) -> bool) -> Self {
        let begun = Instant::now();
        while !done(&self) {
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}; read {:?}", self.records);
            self.turn().unwrap();
        }
        self
    }

    /// Reads so many records, and no more.
    fn read(self, count: usize) -> Self {
        let run = self.until("records, and no lag", |run| run.records.len() >= count && run.source.remaining() == Some(0));
        assert_eq!(run.records.len(), count, "{:?}", run.records);
        run
    }

    /// Reads on for a while, in which nothing comes.
    fn quiet(mut self) -> Self {
        let (begun, before) = (Instant::now(), self.records.len());
        while begun.elapsed() < QUIET {
            self.turn().unwrap();
        }
        assert_eq!(self.records.len(), before, "{:?}", self.records);
        self
    }

    /// Reads until it fails.
    fn fail(mut self) -> Error {
        let begun = Instant::now();
        loop {
            if let Err(error) = self.turn() {
                return error;
            }
            assert!(begun.elapsed() < PATIENCE, "read in silence: {:?}", self.records);
        }
    }

    fn commit(self) {
        self.dataset.offsets = self.offsets.committed();
        self.dataset.notes.extend(self.offsets.notes().iter().map(|(_, note)| (note.kind, note.text.clone())));
        self.dataset.records.extend(self.records);
    }
}

fn numbers(from: i64, to: i64) -> Vec<String> {
    (from..to).map(|number| number.to_string()).collect()
}

#[test]
fn an_unclean_election_is_noticed_however_far_the_log_has_grown_again_and_goes_on_at_the_fork() {
    for age in AGES {
        for grown in [0, 1, 3, 20] {
            let mut dataset = Dataset::having_read(age, 10);
            dataset.log(|log| {
                log.elect_unclean(7);
                log.append(numbers(100, 100 + grown));
            });
            let text = dataset.refused();
            assert!(text.contains("10 was to be read next") && text.contains("truncated"), "{age:?} {grown}: {text}");
            assert_eq!(dataset.read_on(OnGap::Record, grown as usize), [NoteKind::Gap], "{age:?} {grown}");
            assert_eq!(dataset.records, [numbers(0, 10), numbers(100, 100 + grown)].concat(), "{age:?}: nothing lost, nothing doubled");
            assert!(dataset.notes[0].1.contains("read up to offset 7"), "{:?}", dataset.notes);
            // What was recorded is no gap any more.
            dataset.log(|log| log.append(["next"]));
            assert_eq!(dataset.read_on(OnGap::Refuse, 1), []);
        }
    }
}

#[test]
fn a_log_that_was_restored_older_and_has_grown_again_in_the_same_epoch_is_noticed_by_its_last_message() {
    for age in AGES {
        let mut dataset = Dataset::having_read(age, 10);
        dataset.log(|log| {
            log.cut(7);
            log.append(numbers(100, 105));
        });
        let text = dataset.refused();
        assert!(text.contains("offset 9 holds another message") && text.contains("10 was to be read next"), "{text}");
        assert_eq!(dataset.read_on(OnGap::Record, 12), [NoteKind::Gap]);
        assert!(dataset.notes[0].1.contains("read twice"), "{:?}", dataset.notes);
        assert_eq!(dataset.records[10..], [numbers(0, 7), numbers(100, 105)].concat(), "nothing that can be read is lost");
        assert_eq!(dataset.read_on(OnGap::Refuse, 0), []);
    }
}

#[test]
fn the_same_content_at_another_time_is_another_message() {
    let mut dataset = Dataset::having_read(Age::Old, 10);
    dataset.log(|log| {
        log.cut(9);
        log.time += 1;
        log.append(["9"]);
    });
    assert!(dataset.refused().contains("offset 9 holds another message"));
}

#[test]
fn a_topic_that_was_made_again_with_the_same_offsets_is_noticed_with_and_without_ids() {
    for age in AGES {
        let mut dataset = Dataset::having_read(age, 10);
        dataset.broker.create(TOPIC, 1);
        dataset.log(|log| log.append(numbers(100, 112)));
        let text = dataset.refused();
        assert!(text.contains("made again"), "{text}");
        assert_eq!(dataset.read_on(OnGap::Record, 12), [NoteKind::Gap], "{age:?}");
        assert_eq!(dataset.records, [numbers(0, 10), numbers(100, 112)].concat());
        assert_eq!(dataset.read_on(OnGap::Refuse, 0), []);
    }
}

#[test]
fn a_truncation_under_a_running_reader_is_noticed() {
    for age in AGES {
        for idle in [false, true] {
            let mut dataset = Dataset::having_read(age, 10);
            if !idle {
                dataset.log(|log| log.append(numbers(10, 20)));
            }
            let run = dataset.start().read(if idle { 0 } else { 10 }).quiet().quiet();
            run.dataset.broker.restart(TOPIC, 0, |log| {
                log.elect_unclean(7);
                log.append(numbers(100, 130));
            });
            let error = run.fail();
            assert_eq!(error.kind(), ErrorKind::State, "{age:?} {idle}: {error}");
            assert!(error.to_string().contains("truncated"), "{age:?} {idle}: {error}");
        }
    }
}

#[test]
fn a_log_that_is_restored_in_the_same_epoch_under_a_running_reader_is_noticed() {
    for age in [Age::Old, Age::WithIds] {
        let mut dataset = Dataset::having_read(age, 10);
        let run = dataset.start().read(0).quiet().quiet();
        run.dataset.broker.restart(TOPIC, 0, |log| {
            log.cut(7);
            log.append(numbers(100, 130));
        });
        let error = run.fail();
        assert_eq!(error.kind(), ErrorKind::State, "{age:?}: {error}");
        assert!(error.to_string().contains("offset 9 holds another message"), "{age:?}: {error}");
    }
}

#[test]
fn leaders_that_change_and_brokers_that_restart_with_the_whole_log_are_no_gap() {
    for age in AGES {
        let mut dataset = Dataset::having_read(age, 10);
        let mut run = dataset.start().read(0).quiet();
        for round in 1..4 {
            run.dataset.broker.restart(TOPIC, 0, |log| {
                log.elect();
                log.append(numbers(10 * round, 10 * round + 10));
            });
            run = run.read(10 * round as usize);
            run.dataset.log(Log::elect);
            run = run.quiet();
        }
        run.commit();
        assert_eq!((&dataset.records, &dataset.notes), (&numbers(0, 40), &vec![]), "{age:?}");
        assert_eq!(dataset.read_on(OnGap::Refuse, 0), []);
    }
}

#[test]
fn retention_of_what_was_read_is_no_gap_and_said_once() {
    for age in AGES {
        let mut dataset = Dataset::having_read(age, 10);
        dataset.log(|log| {
            log.elect();
            log.delete_before(10);
        });
        assert_eq!(dataset.read_on(OnGap::Refuse, 0), [NoteKind::CannotBeSeen], "{age:?}");
        assert_eq!(dataset.read_on(OnGap::Refuse, 0), [], "{age:?}");
        dataset.log(|log| {
            log.elect();
            log.append(numbers(10, 15));
        });
        assert_eq!(dataset.read_on(OnGap::Refuse, 5), []);
        dataset.log(|log| log.delete_before(13));
        assert_eq!(dataset.read_on(OnGap::Refuse, 0), []);
        assert_eq!(dataset.records, numbers(0, 15));
    }
}

#[test]
fn retention_of_what_was_not_read_is_a_gap_that_names_it() {
    let mut dataset = Dataset::having_read(Age::WithIds, 10);
    dataset.log(|log| {
        log.append(numbers(10, 20));
        log.delete_before(15);
    });
    assert!(dataset.refused().contains("offsets 10 to 14 were removed before they were read"));
    assert_eq!(dataset.read_on(OnGap::Record, 5), [NoteKind::Gap]);
    assert_eq!(dataset.records, [numbers(0, 10), numbers(15, 20)].concat());
    assert_eq!(dataset.read_on(OnGap::Refuse, 0), []);
}

#[test]
fn compaction_of_the_last_message_is_no_gap_unless_its_epoch_ended_before_it() {
    for age in AGES {
        let mut dataset = Dataset::having_read(age, 10);
        dataset.log(|log| {
            log.append(numbers(10, 12));
            log.compact_away(9);
        });
        assert_eq!(dataset.read_on(OnGap::Refuse, 2), [NoteKind::CannotBeSeen], "{age:?}");
        dataset.log(|log| {
            log.elect_unclean(11);
            log.append(numbers(100, 110));
            log.compact_away(11);
        });
        let text = dataset.refused();
        assert!(text.contains("read at offset 11 is gone") && text.contains("leader epoch ends before it"), "{age:?}: {text}");
        assert_eq!(dataset.read_on(OnGap::Record, 9), [NoteKind::Gap]);
        assert_eq!(dataset.records, [numbers(0, 12), numbers(101, 110)].concat());
    }
}

#[test]
fn a_topic_that_ends_in_markers_and_aborted_messages_has_no_lag_and_retention_of_them_is_no_gap() {
    for commit in [true, false] {
        let mut dataset = Dataset::new(Age::WithIds);
        dataset.log(|log| {
            log.append(numbers(0, 3));
            log.append_in(7, ["4", "5"]);
            log.append(["3"]);
            log.finish(7, commit);
            log.append_in(8, ["aborted"]);
            log.finish(8, false);
        });
        let expected = if commit { vec!["0", "1", "2", "4", "5", "3"] } else { vec!["0", "1", "2", "3"] };
        dataset.start().read(expected.len()).commit();
        assert_eq!((dataset.records.clone(), dataset.next()), (expected.iter().map(|text| (*text).to_owned()).collect(), 9));
        assert_eq!(dataset.read_on(OnGap::Refuse, 0), []);
        dataset.log(|log| log.delete_before(9));
        assert_eq!(dataset.read_on(OnGap::Refuse, 0), [NoteKind::CannotBeSeen]);
        dataset.log(|log| log.append(["next"]));
        assert_eq!(dataset.read_on(OnGap::Refuse, 1), []);
    }
}

#[test]
fn an_open_transaction_is_read_when_it_is_committed() {
    let mut dataset = Dataset::having_read(Age::WithIds, 3);
    dataset.log(|log| {
        log.append_in(7, ["3"]);
        log.append(["4"]);
    });
    dataset.start().read(0).quiet().commit();
    assert_eq!(dataset.next(), 3);
    dataset.log(|log| log.finish(7, true));
    assert_eq!(dataset.read_on(OnGap::Refuse, 2), []);
    assert_eq!((dataset.records.clone(), dataset.next()), (numbers(0, 5), 6));
}

#[test]
fn a_log_that_was_cut_behind_the_last_message_goes_on_there_and_nothing_is_lost() {
    for grown in [0, 5] {
        let mut dataset = Dataset::new(Age::WithIds);
        dataset.log(|log| {
            log.append_in(7, numbers(0, 3));
            log.finish(7, true);
        });
        dataset.start().read(3).commit();
        assert_eq!(dataset.next(), 4);
        dataset.log(|log| {
            log.elect_unclean(3);
            log.append(numbers(3, 3 + grown));
        });
        assert_eq!(dataset.read_on(OnGap::Refuse, grown as usize), [NoteKind::Moved]);
        assert_eq!(dataset.records, numbers(0, 3 + grown));
        assert_eq!(dataset.read_on(OnGap::Refuse, 0), []);
    }
}

#[test]
fn a_position_of_an_earlier_version_is_accepted_once_and_then_has_evidence() {
    let mut dataset = Dataset::having_read(Age::WithIds, 10);
    dataset.forget_evidence();
    assert_eq!(dataset.read_on(OnGap::Refuse, 0), [NoteKind::Accepted]);
    assert_eq!(dataset.read_on(OnGap::Refuse, 0), []);
    dataset.log(|log| {
        log.cut(9);
        log.append(["other"]);
    });
    assert!(dataset.refused().contains("offset 9 holds another message"));
}

#[test]
fn the_group_is_told_the_position_behind_a_marker() {
    let mut dataset = Dataset::new(Age::WithIds);
    dataset.log(|log| {
        log.append_in(7, numbers(0, 3));
        log.finish(7, true);
    });
    let mut run = dataset.start().read(3);
    let offsets = run.offsets.clone();
    run.dataset.runtime.block_on(run.source.committed(&offsets)).unwrap();
    run.commit();
    assert_eq!(dataset.broker.told(TOPIC, 0), Some(4), "tools that show the lag show none");
}

#[test]
fn of_many_logs_whose_last_message_is_gone_the_one_that_was_truncated_is_named() {
    let mut dataset = Dataset::new(Age::WithoutIds);
    dataset.broker.create(TOPIC, 4);
    dataset.broker.create("other", 2);
    dataset.topics.push("other".to_owned());
    let logs = [(TOPIC, 0), (TOPIC, 1), (TOPIC, 2), (TOPIC, 3), ("other", 0), ("other", 1)];
    logs.iter().for_each(|(topic, partition)| dataset.broker.log(topic, *partition, |log| log.append(numbers(0, 10))));
    dataset.start().read(60).commit();
    for (topic, partition) in logs {
        dataset.broker.log(topic, partition, |log| {
            match partition {
                0 => log.compact_away(9),
                2 => log.elect_unclean(6),
                _ => log.delete_before(10),
            }
            log.elect();
            log.append(numbers(100, 106));
            log.compact_away(9);
        });
    }
    let text = dataset.refused();
    assert!(text.contains("`events[2]`") && text.contains("read at offset 9 is gone"), "{text}");
    let mut kinds = dataset.read_on(OnGap::Record, 5 * 6 + 5);
    kinds.sort_by_key(|kind| *kind == NoteKind::Gap);
    assert_eq!(kinds, [vec![NoteKind::CannotBeSeen; 5], vec![NoteKind::Gap]].concat());
    assert_eq!(dataset.read_on(OnGap::Refuse, 0), []);
}
