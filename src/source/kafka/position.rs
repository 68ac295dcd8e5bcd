//! Positions: where each partition of a topic goes on, judged by what the last commit record says and what the broker shows.
//!
//! Owns: the ids under which partitions are committed, and what counts as a gap. Pure.
//! Does not own: asking the broker (see `topics`), what is done about a gap (see `reader`).
//!
//! The id of a partition holds the id that the broker gave its topic, so a topic that was deleted and made again is another one, whatever
//! its offsets. A broker older than 2.8 gives none: there it is noticed only where the offsets end before ours.

use std::fmt;
use std::sync::Arc;

use crate::offsets::{Offsets, Partition, PartitionId};

/// A partition as the broker shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Observed {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// The id of the topic; `None` if the broker gives none.
    pub(super) topic_id: Option<String>,
    /// The oldest offset that is there.
    pub(super) low: u64,
    /// The next offset to be written.
    pub(super) high: u64,
}

/// Where reading goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) partition: Arc<Partition>,
    /// The next offset in the order of the commit records; messages begin at `begin`, not before it.
    pub(super) next: u64,
    /// The offset to read from.
    pub(super) begin: u64,
}

/// What cannot be read any more, or is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gap {
    /// Messages were removed before they were read.
    Removed { next: u64, low: u64 },
    /// The log ends before the position.
    Truncated { next: u64, high: u64 },
    /// The topic was made again.
    Recreated { next: u64 },
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed { next, low } => {
                write!(f, "offsets {next} to {} were removed before they were read (retention)", low - 1)
            }
            Self::Truncated { next, high } => {
                write!(f, "its log ends at offset {high}, but {next} was to be read next: it was truncated, or the topic was made again")
            }
            Self::Recreated { next } => {
                write!(f, "the topic was deleted and made again since offset {next} was to be read next")
            }
        }
    }
}

/// What is committed, by partition.
#[derive(Debug, Clone)]
pub(super) struct Positions {
    offsets: Offsets,
}

impl Positions {
    pub(super) fn new(offsets: &Offsets) -> Self {
        Self { offsets: offsets.clone() }
    }

    /// Takes up that a partition was read up to `next`.
    pub(super) fn advance(&mut self, partition: &Arc<Partition>, next: u64) {
        let from = self.offsets.next_offset(&partition.id).unwrap_or(next);
        let range = crate::offsets::OffsetRange::new(partition.clone(), from, next);
        self.offsets.extend(&range).expect("a reader goes forward only");
    }

    /// Judges a partition.
    pub(super) fn judge(&self, observed: &Observed) -> (Position, Option<Gap>) {
        let known = self.latest(observed);
        let Some(Known { id, incarnation, next }) = known else {
            return (self.position(observed, self.id(observed, 1), observed.low, observed.low), None);
        };
        let same_topic = match (&id.topic_id, &observed.topic_id) {
            (Some(known), Some(shown)) => known == shown,
            // One that is not known cannot be told from the other.
            (None, _) | (_, None) => true,
        };
        if !same_topic {
            let position = self.position(observed, self.id(observed, 1), observed.low, observed.low);
            return (position, Some(Gap::Recreated { next }));
        }
        if next > observed.high {
            let again = self.id(&Observed { topic_id: id.topic_id.clone(), ..observed.clone() }, incarnation + 1);
            return (self.position(observed, again, observed.high, observed.high), Some(Gap::Truncated { next, high: observed.high }));
        }
        let position = self.position(observed, id.text.clone(), next, next.max(observed.low));
        let gap = (next < observed.low).then_some(Gap::Removed { next, low: observed.low });
        (position, gap)
    }

    fn position(&self, observed: &Observed, id: String, next: u64, begin: u64) -> Position {
        let label = format!("{}[{}]", observed.topic, observed.partition);
        let partition = Arc::new(Partition { id: PartitionId::new(id), label: label.into() });
        Position { partition, next, begin }
    }

    fn id(&self, observed: &Observed, incarnation: u64) -> String {
        let mut id = format!("{}/{}", observed.topic, observed.partition);
        if let Some(topic_id) = &observed.topic_id {
            id = format!("{id}@{topic_id}");
        }
        if incarnation > 1 {
            id = format!("{id}~{incarnation}");
        }
        id
    }

    /// Returns what is committed of the partition: of the topic that is shown if there is such, else of the one before it.
    fn latest(&self, observed: &Observed) -> Option<Known> {
        let of_partition = self.offsets.spans().filter_map(|(id, span)| {
            let parsed = Id::parse(id.as_str())?;
            let known = Known { incarnation: parsed.incarnation, next: span.to, id: parsed };
            (known.id.topic == observed.topic && known.id.partition == observed.partition).then_some(known)
        });
        of_partition.max_by_key(|known| (known.id.topic_id == observed.topic_id, known.incarnation))
    }
}

struct Known {
    id: Id,
    incarnation: u64,
    next: u64,
}

/// `topic/partition`, `@` and the topic's id if it has one, `~` and a number from the second log on.
struct Id {
    text: String,
    topic: String,
    partition: i32,
    topic_id: Option<String>,
    incarnation: u64,
}

impl Id {
    fn parse(text: &str) -> Option<Self> {
        let (rest, incarnation) = match text.rsplit_once('~') {
            Some((rest, number)) => (rest, number.parse().ok()?),
            None => (text, 1),
        };
        let (rest, topic_id) = match rest.split_once('@') {
            Some((rest, topic_id)) => (rest, Some(topic_id.to_owned())),
            None => (rest, None),
        };
        let (topic, partition) = rest.rsplit_once('/')?;
        Some(Self { text: text.to_owned(), topic: topic.to_owned(), partition: partition.parse().ok()?, topic_id, incarnation })
    }
}

/// Returns the topic and the partition that an id stands for; `None` if it is not one of Kafka's.
pub(super) fn place(id: &PartitionId) -> Option<(String, i32)> {
    Id::parse(id.as_str()).map(|id| (id.topic, id.partition))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(topic_id: Option<&str>, low: u64, high: u64) -> Observed {
        Observed { topic: "a.b-c".into(), partition: 3, topic_id: topic_id.map(Into::into), low, high }
    }

    /// Commits `next` for what was observed, and returns what is then known.
    fn committed(at: &[(Observed, u64)]) -> Positions {
        let mut positions = Positions::new(&Offsets::default());
        for (observed, next) in at {
            let (position, _) = positions.judge(observed);
            positions.advance(&position.partition, position.next);
            positions.advance(&position.partition, *next);
        }
        positions
    }

    fn judge(positions: &Positions, observed: &Observed) -> (String, u64, u64, Option<Gap>) {
        let (position, gap) = positions.judge(observed);
        (position.partition.id.as_str().to_owned(), position.next, position.begin, gap)
    }

    #[test]
    fn an_unknown_partition_begins_with_the_oldest_message_and_a_known_one_where_it_was() {
        let shown = observed(Some("X"), 5, 9);
        assert_eq!(judge(&committed(&[]), &shown), ("a.b-c/3@X".into(), 5, 5, None));
        let positions = committed(&[(shown.clone(), 8)]);
        assert_eq!(judge(&positions, &shown), ("a.b-c/3@X".into(), 8, 8, None));
        let other = Observed { partition: 4, ..shown };
        assert_eq!(judge(&positions, &other), ("a.b-c/4@X".into(), 5, 5, None));
    }

    #[test]
    fn messages_that_were_removed_unread_are_a_gap_within_the_same_partition() {
        let positions = committed(&[(observed(Some("X"), 0, 9), 4)]);
        assert_eq!(judge(&positions, &observed(Some("X"), 4, 9)).3, None);
        let removed = Gap::Removed { next: 4, low: 6 };
        assert_eq!(removed.to_string(), "offsets 4 to 5 were removed before they were read (retention)");
        assert_eq!(judge(&positions, &observed(Some("X"), 6, 9)), ("a.b-c/3@X".into(), 4, 6, Some(removed)));
    }

    #[test]
    fn a_log_that_ends_before_the_position_is_another_one_from_its_end_on() {
        let positions = committed(&[(observed(Some("X"), 0, 9), 9)]);
        assert_eq!(judge(&positions, &observed(Some("X"), 0, 9)).3, None);
        let shorter = observed(Some("X"), 0, 7);
        assert_eq!(judge(&positions, &shorter), ("a.b-c/3@X~2".into(), 7, 7, Some(Gap::Truncated { next: 9, high: 7 })));
        let positions = committed(&[(observed(Some("X"), 0, 9), 9), (shorter.clone(), 7)]);
        assert_eq!(judge(&positions, &observed(Some("X"), 0, 12)), ("a.b-c/3@X~2".into(), 7, 7, None));
    }

    #[test]
    fn a_topic_that_was_made_again_is_another_one_whatever_its_offsets() {
        let positions = committed(&[(observed(Some("X"), 0, 9), 4)]);
        let again = observed(Some("Y"), 0, 100);
        assert_eq!(judge(&positions, &again), ("a.b-c/3@Y".into(), 0, 0, Some(Gap::Recreated { next: 4 })));
        let positions = committed(&[(observed(Some("X"), 0, 9), 4), (again.clone(), 50)]);
        assert_eq!(judge(&positions, &again), ("a.b-c/3@Y".into(), 50, 50, None));
    }

    #[test]
    fn a_broker_that_begins_to_give_ids_changes_nothing() {
        let positions = committed(&[(observed(None, 0, 9), 4)]);
        assert_eq!(judge(&positions, &observed(Some("X"), 0, 9)), ("a.b-c/3".into(), 4, 4, None));
        let positions = committed(&[(observed(Some("X"), 0, 9), 4)]);
        assert_eq!(judge(&positions, &observed(None, 0, 9)), ("a.b-c/3@X".into(), 4, 4, None));
    }

    #[test]
    fn an_id_leads_back_to_its_topic_and_partition() {
        for (id, place_of) in [("a.b-c/3@X~2", Some(("a.b-c".to_owned(), 3))), ("t/0", Some(("t".to_owned(), 0))), ("stdin", None)] {
            assert_eq!(place(&PartitionId::new(id)), place_of, "{id}");
        }
    }
}
