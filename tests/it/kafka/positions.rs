//! Positions in Kafka: whatever becomes of a log between two looks at it is noticed, and nothing else is.

use pintail_core::error::ErrorKind;
use pintail_core::offsets::NoteKind;
use pintail_sources::OnGap;
use pintail_sources::Source as _;

use super::dataset::{AGES, Dataset, TOPIC, numbers};
use crate::common::broker::Age;
use crate::common::broker::log::Log;

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
        assert!(text.contains("recreated"), "{text}");
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
