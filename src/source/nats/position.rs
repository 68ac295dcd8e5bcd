//! Position: where reading goes on in a stream, or why it must not.
//!
//! Owns: the text that identifies a stream, which is the id of its partition in the commit records, what is known of each, and what can
//! contradict it.
//! Does not own: what stands before a position (see `check`), what a gap leads to (see `reader`).
//!
//! The text is `<stream>@<creation time>`, with `#<generation>` behind it from the second on. A stream that was deleted and made again, or
//! put back to an earlier state, counts its messages from another point: it is a partition of its own. Offsets are stream sequences.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};

use super::check::Restored;
use crate::error::{Error, Result};
use crate::evidence::{Evidence, Why};
use crate::offsets::{OffsetRange, Offsets, Partition, PartitionId};
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
    /// The server time of that message, in nanoseconds since 1970, if the server still knows it.
    pub(super) last_time: Option<i64>,
}

impl Observed {
    /// Returns the sequence that the next message will have.
    pub(super) fn end(&self) -> u64 {
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
    /// What stands right before it; `None` if a record of version 1 has no evidence.
    pub(super) evidence: Option<Arc<Evidence>>,
}

/// What is known of a stream that a server shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing: reading begins at what is there. A gap if another stream of the name was read before.
    New { created: String, gap: Option<Gap> },
    /// How far it was read.
    Known(Position),
}

/// What contradicts the offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gap {
    /// Messages were removed before they were read.
    Removed { from: u64, to: u64 },
    /// The stream was deleted and made again.
    MadeAgain { created: String, was: String, read: u64 },
    /// An older state of the stream was restored: what stands before the position `next` is not what was read.
    PutBack { restored: Restored, next: u64 },
}

/// Every stream of that name that is known, by the time it was made.
#[derive(Debug, Clone)]
pub(super) struct Positions {
    stream: String,
    known: BTreeMap<String, Known>,
}

/// The latest generation of a stream, and how far it was read.
#[derive(Debug, Clone)]
struct Known {
    generation: u32,
    next: u64,
    evidence: Option<Arc<Evidence>>,
}

impl Positions {
    /// Takes up what is committed.
    ///
    /// # Errors
    /// `State` if a partition is none of this stream.
    pub(super) fn new(stream: &str, offsets: &Offsets) -> Result<Self> {
        let mut known: BTreeMap<String, Known> = BTreeMap::new();
        for (id, span) in offsets.spans().filter(|(id, _)| !dead_letters::owns(id)) {
            let (created, generation) = parse(stream, id).ok_or_else(|| {
                Error::state(format!("the last commit record has the source partition `{id}`, which is none of the stream `{stream}`"))
            })?;
            if known.get(created).is_none_or(|known| known.generation < generation) {
                known.insert(created.to_owned(), Known { generation, next: span.to, evidence: span.evidence.clone() });
            }
        }
        Ok(Self { stream: stream.to_owned(), known })
    }

    /// Finds the stream that a server shows among those that are known.
    pub(super) fn find(&self, observed: &Observed) -> Found {
        let created = rfc3339(observed.created);
        if let Some(Known { generation, next, evidence }) = self.known.get(&created) {
            let partition = self.partition(&created, *generation);
            return Found::Known(Position { partition, next: *next, evidence: evidence.clone() });
        }
        // Texts of one form and zone: the greatest is the latest.
        let latest = self.known.last_key_value();
        let gap = latest.map(|(was, known)| Gap::MadeAgain { created: created.clone(), was: was.clone(), read: known.next - 1 });
        Found::New { created, gap }
    }

    /// Returns the position in a stream that is not known yet.
    pub(super) fn first(&self, created: &str, next: u64, evidence: Evidence) -> Position {
        Position { partition: self.partition(created, 0), next, evidence: Some(evidence.into()) }
    }

    /// Returns where reading goes on in an older state that was restored: a generation of its own.
    pub(super) fn behind(&self, position: &Position, restored: &Restored) -> Position {
        let (created, generation) = parse(&self.stream, &position.partition.id).expect("it was made here, or parsed before");
        let partition = self.partition(created, generation + 1);
        Position { partition, next: restored.next, evidence: Some(restored.evidence.clone().into()) }
    }

    /// Takes up where reading has got to.
    pub(super) fn keep(&mut self, range: &OffsetRange) {
        if let Some((created, generation)) = parse(&self.stream, &range.partition.id) {
            let known = Known { generation, next: range.to, evidence: range.evidence.clone() };
            self.known.insert(created.to_owned(), known);
        }
    }

    fn partition(&self, created: &str, generation: u32) -> Arc<Partition> {
        let stream = &self.stream;
        let id = match generation {
            0 => format!("{stream}@{created}"),
            _ => format!("{stream}@{created}#{generation}"),
        };
        Arc::new(Partition { id: PartitionId::new(id), label: stream.as_str().into() })
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
            Self::PutBack { restored, next } => {
                let (Restored { why, common, next: on, exact, .. }, read) = (restored, next - 1);
                match why {
                    Why::Shorter { end } => write!(f, "ends at sequence {}, and was read up to {read} already", end - 1)?,
                    Why::Differs { at } | Why::Disowned { at } => {
                        write!(f, "holds another message at sequence {at} than was read there, and was read up to {read}")?
                    }
                    Why::Younger => {
                        write!(f, "holds a message younger than all that was read, and was read up to {read}, which lies behind it")?
                    }
                }
                f.write_str(": an older state of it was restored; ")?;
                match (*common, exact) {
                    (common, true) if common + 1 == *on => write!(f, "sequence {on} is the first that was not read")?,
                    (_, true) => write!(f, "by their times, sequence {on} is the first that was not read")?,
                    (0, false) => {
                        write!(f, "what was not read cannot be told from what was, so all from sequence {on} on may be there twice")?
                    }
                    (common, false) => write!(f, "it is surely what was read up to {common} only, so what follows may be there twice")?,
                }
                f.write_str(", and what the lost state had behind it may be lost")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const SECOND: i64 = 1_767_225_600;

    fn observed(created: i64, first: u64, last: u64) -> Observed {
        Observed { created: DateTime::from_timestamp(created, 123_456_789).unwrap(), first, last, last_time: None }
    }

    fn committed(ids: &[(&str, u64)]) -> Offsets {
        let mut offsets = Offsets::default();
        for (id, to) in ids {
            let partition = Arc::new(Partition { id: PartitionId::new(*id), label: "x".into() });
            let evidence = Evidence { end: Some(*to), ..Evidence::default() };
            offsets.extend(&OffsetRange::new(partition, 1, *to).with_evidence(evidence.into())).unwrap();
        }
        offsets.committed()
    }

    const MADE: &str = "EVENTS@2026-01-01T00:00:00.123456789Z";

    fn positions(ids: &[(&str, u64)]) -> Positions {
        Positions::new("EVENTS", &committed(ids)).unwrap()
    }

    fn known(ids: &[(&str, u64)], observed: Observed) -> (String, u64) {
        match positions(ids).find(&observed) {
            Found::Known(position) => {
                assert_eq!(position.evidence.unwrap().end, Some(position.next), "evidence and position belong together");
                (position.partition.id.as_str().to_owned(), position.next)
            }
            found @ Found::New { .. } => panic!("{found:?}"),
        }
    }

    #[test]
    fn a_new_dataset_begins_at_the_first_message_that_is_there() {
        for (first, last, next) in [(0, 0, 1), (1, 0, 1), (1, 10, 1), (500, 900, 500), (901, 900, 901)] {
            let observed = observed(SECOND, first, last);
            let Found::New { created, gap: None } = positions(&[]).find(&observed) else { panic!("nothing is known") };
            let position = positions(&[]).first(&created, observed.begin(), Evidence::default());
            assert_eq!((position.partition.id.as_str(), position.next), (MADE, next), "[{first}, {last}]");
        }
    }

    #[test]
    fn a_known_stream_goes_on_behind_the_last_message_that_was_read() {
        for (first, last) in [(1, 9), (1, 100), (10, 100), (10, 9), (51, 100), (1, 5)] {
            assert_eq!(known(&[(MADE, 10)], observed(SECOND, first, last)), (MADE.to_owned(), 10), "[{first}, {last}]");
        }
    }

    #[test]
    fn a_stream_made_again_is_another_partition_even_with_as_many_messages() {
        let Found::New { created, gap } = positions(&[(MADE, 10)]).find(&observed(SECOND + 1, 1, 9)) else { panic!("it is another one") };
        let id = positions(&[]).first(&created, 1, Evidence::default()).partition.id.to_string();
        assert_eq!(id, "EVENTS@2026-01-01T00:00:01.123456789Z");
        let text = gap.unwrap().to_string();
        assert!(text.contains("made again at 2026-01-01T00:00:01") && text.contains("up to sequence 9"), "{text}");
        // Both are known from then on.
        assert_eq!(known(&[(MADE, 10), (&id, 3)], observed(SECOND + 1, 1, 9)), (id, 3));
    }

    #[test]
    fn a_stream_put_back_to_an_older_state_goes_on_as_its_next_generation() {
        let mut positions = positions(&[(MADE, 100)]);
        let Found::Known(position) = positions.find(&observed(SECOND, 1, 50)) else { panic!("it is known") };
        let restored = Restored { why: Why::Shorter { end: 51 }, common: 50, next: 51, exact: true, evidence: Evidence::default() };
        let behind = positions.behind(&position, &restored);
        let id = format!("{MADE}#1");
        assert_eq!((behind.partition.id.as_str(), behind.next), (id.as_str(), 51));
        positions.keep(&OffsetRange::new(behind.partition, 51, 60));
        let Found::Known(position) = positions.find(&observed(SECOND, 1, 70)) else { panic!("it is known") };
        assert_eq!((position.partition.id.as_str(), position.next), (id.as_str(), 60));
        assert_eq!(known(&[(MADE, 100), (&id, 60)], observed(SECOND, 1, 70)), (id, 60));
    }

    #[test]
    fn a_restored_stream_is_told_with_what_is_lost_and_what_may_be_there_twice() {
        let text = |why, common, next, exact| {
            let restored = Restored { why, common, next, exact, evidence: Evidence::default() };
            Gap::PutBack { restored, next: 101 }.to_string()
        };
        for (found, parts) in [
            (
                text(Why::Shorter { end: 51 }, 37, 51, true),
                ["ends at sequence 50", "up to 100", "by their times, sequence 51 is the first"],
            ),
            (text(Why::Differs { at: 69 }, 50, 51, true), ["another message at sequence 69", "up to 100", "; sequence 51 is the first"]),
            (text(Why::Differs { at: 69 }, 37, 38, false), ["sequence 69", "surely what was read up to 37 only", "may be there twice"]),
            (text(Why::Younger, 0, 1, false), ["younger than all that was read", "up to 100", "all from sequence 1 on may be there twice"]),
        ] {
            assert!(parts.iter().all(|part| found.contains(part)) && found.contains("may be lost"), "{found}");
        }
    }

    #[test]
    fn messages_removed_unread_are_counted() {
        let removed = Gap::Removed { from: 10, to: 51 };
        assert_eq!(removed.lost(), Some(41));
        assert!(removed.to_string().contains("begins at sequence 51, and was read up to 9: 41 sequences"), "{removed}");
    }

    #[test]
    fn a_partition_of_another_stream_is_refused_and_replayed_dead_letters_are_left_alone() {
        for other in ["ORDERS@2026-01-01T00:00:00.123456789Z", "EVENTS", "EVENTS@yesterday", "EVENTS@2026-01-01T00:00:00.123456789Z#x"] {
            assert_eq!(Positions::new("EVENTS", &committed(&[(other, 10)])).unwrap_err().kind(), ErrorKind::State, "{other}");
        }
        let found = positions(&[("dead_letters/0000000042", 7)]).find(&observed(SECOND, 1, 9));
        assert!(matches!(found, Found::New { gap: None, .. }), "{found:?}");
    }
}
