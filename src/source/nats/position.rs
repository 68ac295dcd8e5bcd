//! Position: where reading goes on in a stream, or why it must not.
//!
//! Owns: the text that identifies a stream, which is the id of its partition in the commit records, and the judgement of what a server
//! shows of it.
//! Does not own: asking the server (see `session`), what a gap leads to (see `reader`).
//!
//! The text is `<stream>@<creation time>`, with `#<generation>` behind it from the second on. A stream that was deleted and made again, or
//! put back to an earlier state, counts its messages from another point: it is a partition of its own. Offsets are stream sequences.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::error::{Error, Result};
use crate::offsets::{Offsets, Partition, PartitionId};
use crate::source::dead_letters;

/// What a server shows of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Observed {
    /// When it was made.
    pub(super) created: DateTime<Utc>,
    /// The sequence of its first message; of the next one while it is empty.
    pub(super) first: u64,
    /// The sequence of the last message it ever had; 0 before the first.
    pub(super) last: u64,
}

impl Observed {
    /// Returns the sequence that the next message will have.
    fn end(&self) -> u64 {
        self.last + 1
    }

    /// Returns the first sequence that can be read, now or later.
    pub(super) fn begin(&self) -> u64 {
        self.first.clamp(1, self.end())
    }
}

/// Where reading goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) partition: Arc<Partition>,
    /// The next sequence to read.
    pub(super) next: u64,
}

/// What contradicts the offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gap {
    /// Messages were removed before they were read.
    Removed { from: u64, to: u64 },
    /// The stream was deleted and made again.
    MadeAgain { created: String, was: String, read: u64 },
    /// The stream ends before the last message that was read: an old state was restored.
    PutBack { last: u64, next: u64 },
}

/// Every stream of that name that is known, by the time it was made: its latest generation and the next sequence to read.
#[derive(Debug, Clone)]
pub(super) struct Positions {
    stream: String,
    known: BTreeMap<String, (u32, u64)>,
}

impl Positions {
    /// Takes up what is committed.
    ///
    /// # Errors
    /// `State` if a partition is none of this stream.
    pub(super) fn new(stream: &str, offsets: &Offsets) -> Result<Self> {
        let mut known: BTreeMap<String, (u32, u64)> = BTreeMap::new();
        for (id, span) in offsets.spans().filter(|(id, _)| !dead_letters::owns(id)) {
            let (created, generation) = parse(stream, id).ok_or_else(|| {
                Error::state(format!("the last commit record has the source partition `{id}`, which is none of the stream `{stream}`"))
            })?;
            let latest = known.entry(created.to_owned()).or_insert((generation, span.to));
            if latest.0 < generation {
                *latest = (generation, span.to);
            }
        }
        Ok(Self { stream: stream.to_owned(), known })
    }

    /// Compares what the server shows with what is known. A gap comes with the position at which reading would go on behind it.
    pub(super) fn judge(&self, observed: &Observed) -> (Position, Option<Gap>) {
        let created = rfc3339(observed.created);
        let Some(&(generation, next)) = self.known.get(&created) else {
            // Texts of one form and zone: the greatest is the latest.
            let gap = self.known.last_key_value().map(|(was, (_, next))| Gap::MadeAgain {
                created: created.clone(),
                was: was.clone(),
                read: next - 1,
            });
            return (self.position(&created, 0, observed.begin()), gap);
        };
        if observed.end() < next {
            let gap = Gap::PutBack { last: observed.last, next };
            return (self.position(&created, generation + 1, observed.end()), Some(gap));
        }
        let gap = (observed.begin() > next).then(|| Gap::Removed { from: next, to: observed.begin() });
        (self.position(&created, generation, next), gap)
    }

    /// Takes up where reading has got to.
    pub(super) fn keep(&mut self, position: &Position) {
        if let Some((created, generation)) = parse(&self.stream, &position.partition.id) {
            self.known.insert(created.to_owned(), (generation, position.next));
        }
    }

    fn position(&self, created: &str, generation: u32, next: u64) -> Position {
        let stream = &self.stream;
        let id = match generation {
            0 => format!("{stream}@{created}"),
            _ => format!("{stream}@{created}#{generation}"),
        };
        Position { partition: Arc::new(Partition { id: PartitionId::new(id), label: stream.as_str().into() }), next }
    }
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// Returns creation time and generation of a partition's id.
fn parse<'a>(stream: &str, id: &'a PartitionId) -> Option<(&'a str, u32)> {
    let text = id.as_str().strip_prefix(stream)?.strip_prefix('@')?;
    let (created, generation) = match text.split_once('#') {
        Some((created, generation)) => (created, generation.parse().ok()?),
        None => (text, 0),
    };
    DateTime::parse_from_rfc3339(created).is_ok().then_some((created, generation))
}

impl Gap {
    /// Returns how many messages are surely or possibly lost; `None` if it cannot be known.
    pub(super) fn lost(&self) -> Option<u64> {
        match self {
            Self::Removed { from, to } => Some(to - from),
            Self::MadeAgain { .. } | Self::PutBack { .. } => None,
        }
    }
}

impl fmt::Display for Gap {
    /// Completes a sentence that begins with the stream.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed { from, to } => {
                write!(f, "begins at sequence {to}, and was read up to {}: {} sequences between were removed unread", from - 1, to - from)
            }
            Self::MadeAgain { created, was, read } => {
                write!(
                    f,
                    "was made again at {created}; the one made at {was} was read up to sequence {read}, and what followed may be lost"
                )
            }
            Self::PutBack { last, next } => {
                write!(f, "ends at sequence {last}, and was read up to {} already: an older state of it was restored", next - 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::offsets::OffsetRange;

    const SECOND: i64 = 1_767_225_600;

    fn observed(created: i64, first: u64, last: u64) -> Observed {
        Observed { created: DateTime::from_timestamp(created, 123_456_789).unwrap(), first, last }
    }

    fn committed(ids: &[(&str, u64)]) -> Offsets {
        let mut offsets = Offsets::default();
        for (id, to) in ids {
            let partition = Arc::new(Partition { id: PartitionId::new(*id), label: "x".into() });
            offsets.extend(&OffsetRange::new(partition, 1, *to)).unwrap();
        }
        offsets.committed()
    }

    const MADE: &str = "EVENTS@2026-01-01T00:00:00.123456789Z";

    fn judge(ids: &[(&str, u64)], observed: Observed) -> (String, u64, Option<Gap>) {
        let (position, gap) = Positions::new("EVENTS", &committed(ids)).unwrap().judge(&observed);
        (position.partition.id.as_str().to_owned(), position.next, gap)
    }

    #[test]
    fn a_new_dataset_begins_at_the_first_message_that_is_there() {
        for (first, last, next) in [(0, 0, 1), (1, 0, 1), (1, 10, 1), (500, 900, 500), (901, 900, 901)] {
            assert_eq!(judge(&[], observed(SECOND, first, last)), (MADE.to_owned(), next, None), "[{first}, {last}]");
        }
    }

    #[test]
    fn a_known_stream_goes_on_behind_the_last_message_that_was_read() {
        for (first, last) in [(1, 9), (1, 100), (10, 100), (10, 9)] {
            assert_eq!(judge(&[(MADE, 10)], observed(SECOND, first, last)), (MADE.to_owned(), 10, None), "[{first}, {last}]");
        }
    }

    #[test]
    fn messages_removed_unread_are_a_gap_also_if_none_came_after_them() {
        let removed = Gap::Removed { from: 10, to: 51 };
        assert_eq!(removed.lost(), Some(41));
        let gap = Some(removed);
        assert_eq!(judge(&[(MADE, 10)], observed(SECOND, 51, 100)), (MADE.to_owned(), 10, gap.clone()));
        assert_eq!(judge(&[(MADE, 10)], observed(SECOND, 51, 50)), (MADE.to_owned(), 10, gap));
    }

    #[test]
    fn a_stream_made_again_is_another_partition_even_with_as_many_messages() {
        let (id, next, gap) = judge(&[(MADE, 10)], observed(SECOND + 1, 1, 9));
        assert_eq!((id.as_str(), next), ("EVENTS@2026-01-01T00:00:01.123456789Z", 1));
        let text = gap.unwrap().to_string();
        assert!(text.contains("made again at 2026-01-01T00:00:01") && text.contains("up to sequence 9"), "{text}");
        // Both are known from then on.
        assert_eq!(judge(&[(MADE, 10), (&id, 3)], observed(SECOND + 1, 1, 9)), (id, 3, None));
    }

    #[test]
    fn a_stream_put_back_to_an_older_state_goes_on_as_its_next_generation() {
        let (id, next, gap) = judge(&[(MADE, 100)], observed(SECOND, 1, 50));
        assert_eq!((id.as_str(), next, gap), (format!("{MADE}#1").as_str(), 51, Some(Gap::PutBack { last: 50, next: 100 })));
        assert_eq!(judge(&[(MADE, 100), (&id, 60)], observed(SECOND, 1, 70)), (id, 60, None));
    }

    #[test]
    fn a_partition_of_another_stream_is_refused_and_replayed_dead_letters_are_left_alone() {
        for other in ["ORDERS@2026-01-01T00:00:00.123456789Z", "EVENTS", "EVENTS@yesterday", "EVENTS@2026-01-01T00:00:00.123456789Z#x"] {
            assert_eq!(Positions::new("EVENTS", &committed(&[(other, 10)])).unwrap_err().kind(), ErrorKind::State, "{other}");
        }
        assert_eq!(judge(&[("dead_letters/0000000042", 7)], observed(SECOND, 1, 9)).2, None);
    }
}
