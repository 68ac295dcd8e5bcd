//! Logs of Kafka that were restored to another state, once or more often: nothing that can be read is lost, and what is sure to be read is not
//! read again.

use pintail_core::offsets::NoteKind;
use pintail_sources::OnGap;
use pintail_sources::Source as _;

use super::dataset::{AGES, Dataset, TOPIC, numbers};
use crate::common::broker::Age;

impl Dataset {
    /// Reads what there is and records what is found, until the log's end.
    fn record(&mut self) -> Vec<NoteKind> {
        let before = self.notes.len();
        let end = self.log(|log| log.stable()).unsigned_abs();
        let run = self.start_with(OnGap::Record);
        run.until("the end", |run| run.offsets.spans().last().is_some_and(|(_, span)| span.to == end) && run.source.remaining() == Some(0))
            .commit();
        self.notes[before..].iter().map(|(kind, _)| *kind).collect()
    }

    fn has_all(&self, numbers: &[String]) -> bool {
        numbers.iter().all(|number| self.records.contains(number))
    }
}

#[test]
fn a_log_restored_within_an_epoch_that_has_not_grown_up_to_the_position_loses_nothing() {
    for age in AGES {
        for grown in [0, 2] {
            for elected in [false, true] {
                let mut dataset = Dataset::having_read(age, 10);
                dataset.log(|log| {
                    log.cut(7);
                    log.append(numbers(100, 100 + grown));
                    if elected {
                        log.elect();
                    }
                });
                assert!(dataset.refused().contains("10 was to be read next"));
                assert_eq!(dataset.record(), [NoteKind::Gap], "{age:?} {grown} {elected}");
                assert!(dataset.has_all(&numbers(100, 100 + grown)), "{age:?} {grown} {elected}: {:?}", dataset.records);
                if grown == 0 {
                    assert_eq!(dataset.records, numbers(0, 10), "nothing is read twice where nothing has grown");
                }
                dataset.log(|log| log.append(numbers(200, 220)));
                assert_eq!(dataset.read_on(OnGap::Refuse, 20), []);
                assert!(dataset.has_all(&numbers(200, 220)));
            }
        }
    }
}

#[test]
fn a_log_that_is_truncated_again_below_the_place_where_reading_went_on_is_noticed() {
    for age in AGES {
        let mut dataset = Dataset::having_read(age, 10);
        dataset.log(|log| log.elect_unclean(7));
        assert_eq!(dataset.record(), [NoteKind::Gap]);
        // It has grown past the position, of which nothing was read yet.
        dataset.log(|log| {
            log.cut(5);
            log.append(numbers(100, 110));
        });
        let text = dataset.refused();
        assert!(text.contains("offset 6 holds another message") && text.contains("7 was to be read next"), "{age:?}: {text}");
        assert_eq!(dataset.record(), [NoteKind::Gap]);
        assert!(dataset.has_all(&numbers(100, 110)), "{:?}", dataset.records);
    }
}

#[test]
fn what_is_removed_from_a_partition_that_was_empty_when_it_was_seen_first_is_a_gap() {
    let mut dataset = Dataset::new(Age::WithIds);
    assert_eq!(dataset.read_on(OnGap::Refuse, 0), []);
    dataset.log(|log| {
        log.append(numbers(0, 8));
        log.delete_before(5);
    });
    assert!(dataset.refused().contains("offsets 0 to 4 were removed before they were read"));
    assert_eq!(dataset.read_on(OnGap::Record, 3), [NoteKind::Gap]);
    assert_eq!(dataset.read_on(OnGap::Refuse, 0), []);
    assert_eq!(dataset.records, numbers(5, 8));
}

#[test]
fn a_log_that_is_restored_older_and_then_to_what_it_was_goes_on_where_it_was_read_to() {
    for age in AGES {
        for grown in [0, 2, 20] {
            let mut dataset = Dataset::having_read(age, 10);
            let newest = dataset.log(|log| log.clone());
            dataset.log(|log| {
                log.cut(7);
                log.append(numbers(100, 100 + grown));
            });
            assert_eq!(dataset.record(), [NoteKind::Gap], "{age:?} {grown}");
            let read = dataset.records.len();
            dataset.log(|log| {
                *log = newest;
                log.append(numbers(10, 15));
            });
            let kinds = dataset.read_on(OnGap::Record, 5);
            assert_eq!(kinds, [if grown == 0 { NoteKind::Moved } else { NoteKind::Gap }], "{age:?} {grown}: {:?}", dataset.notes);
            assert_eq!(dataset.records[read..], numbers(10, 15), "{age:?} {grown}");
            assert_eq!(dataset.read_on(OnGap::Refuse, 0), []);
            // And the older state once more is another history once more.
            dataset.log(|log| {
                log.cut(7);
                log.append(numbers(300, 330));
            });
            dataset.refused();
            assert_eq!(dataset.record(), [NoteKind::Gap]);
            assert!(dataset.has_all(&numbers(300, 330)));
        }
    }
}

#[test]
fn a_log_whose_last_messages_were_compacted_away_is_read_on() {
    let mut dataset = Dataset::having_read(Age::WithIds, 10);
    dataset.log(|log| log.compact_away(9));
    assert_eq!(dataset.read_on(OnGap::Refuse, 0), [NoteKind::CannotBeSeen]);
    dataset.log(|log| log.append(numbers(10, 13)));
    assert_eq!(dataset.read_on(OnGap::Refuse, 3), []);
    assert_eq!(dataset.records, numbers(0, 13));
}

#[test]
fn a_partition_that_appears_is_read_from_its_beginning_and_one_that_is_gone_is_missed() {
    let mut dataset = Dataset::having_read(Age::WithIds, 10);
    dataset.broker.add_partitions(TOPIC, 2);
    dataset.broker.log(TOPIC, 1, |log| log.append(numbers(20, 25)));
    assert_eq!(dataset.read_on(OnGap::Refuse, 5), []);
    // Made again with fewer.
    dataset.broker.create(TOPIC, 1);
    assert!(dataset.refused().contains("recreated"));
    dataset.log(|log| log.append(numbers(30, 33)));
    assert_eq!(dataset.read_on(OnGap::Record, 3), [NoteKind::Gap]);
    assert_eq!(dataset.records, [numbers(0, 10), numbers(20, 25), numbers(30, 33)].concat());
}
