//! Position: where reading goes on in a stream, or why it must not.
//!
//! Owns: the text that identifies a stream, which is the id of its partition in the commit records, what is known of each, and what can
//! contradict it.
//! Does not own: what stands before a position (see `check`), what a gap leads to (see `reader`).
//!
//! The text is `<stream>@<creation time>`, with `#<generation>` behind it from the second on, and `=<earlier generation>` where that one goes on. A stream that was deleted and made again, or
//! put back to an earlier state, counts its messages from another point: it is a partition of its own. Offsets are stream sequences.
//! What was known of earlier generations stays: a newer state may be restored after an older one. The generation that is begun then goes on
//! where the earlier one was, which is not looked at any more.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use pintail_core::error::{Error, Result};
use pintail_core::evidence::{Evidence, Why};
use pintail_core::offsets::{OffsetRange, Offsets, Partition, PartitionId};

use super::check::{Begins, Restored};

/// Earlier generations of a stream that are looked at, the latest of them. Each costs a question at the start of a session.
const EARLIER_MAX: usize = 16;

/// What a server shows of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShownStream {
    /// When it was made.
    pub(super) created: DateTime<Utc>,
    /// The sequence of its first message; of the next one while it is empty.
    pub(super) first: u64,
    /// The sequence of the last message it ever had; 0 before the first.
    pub(super) last: u64,
    /// The server time of that message, in nanoseconds since 1970, if the server still knows it.
    pub(super) last_time: Option<i64>,
}

impl ShownStream {
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
    New { created: String, gap: Option<StreamGap> },
    /// How far it was read.
    Known(Position),
}

/// What contradicts the offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StreamGap {
    /// Messages were removed before they were read.
    Removed { from: u64, to: u64 },
    /// The stream was deleted and recreated.
    MadeAgain { created: String, was: String, read: u64 },
    /// An older state of the stream was restored: what stands before the position `next` is not what was read.
    PutBack { restored: Restored, next: u64 },
}

/// Every stream of that name that is known, by the time it was made.
#[derive(Debug, Clone)]
pub(super) struct Positions {
    stream: String,
    known: BTreeMap<String, Generations>,
}

/// The generations of a stream by their numbers.
type Generations = BTreeMap<u32, Known>;

/// How far a generation of a stream was read.
#[derive(Debug, Clone)]
struct Known {
    /// The earlier generation that it goes on with.
    goes_on: Option<u32>,
    next: u64,
    evidence: Option<Arc<Evidence>>,
}

impl Positions {
    /// Reads what is committed.
    ///
    /// # Errors
    /// `State` if a partition is none of this stream.
    pub(super) fn new(stream: &str, offsets: &Offsets) -> Result<Self> {
        let mut known: BTreeMap<String, Generations> = BTreeMap::new();
        for (id, span) in offsets.spans().filter(|(id, _)| !id.is_of_dead_letters()) {
            let Id { created, generation, goes_on } = Id::parse(stream, id).ok_or_else(|| {
                Error::state(format!("the last commit record has the source partition `{id}`, which is none of the stream `{stream}`"))
            })?;
            let of_stream = known.entry(created.to_owned()).or_default();
            of_stream.insert(generation, Known { goes_on, next: span.to, evidence: span.evidence.clone() });
        }
        Ok(Self { stream: stream.to_owned(), known })
    }

    /// Finds the stream that a server shows among those that are known.
    pub(super) fn find(&self, observed: &ShownStream) -> Found {
        let created = rfc3339(observed.created);
        if let Some((generation, known)) = self.known.get(&created).and_then(BTreeMap::last_key_value) {
            return Found::Known(self.position(&created, *generation, known));
        }
        // Texts of one form and zone: the greatest is the latest.
        let latest = self.known.last_key_value().and_then(|(was, known)| Some((was, known.values().next_back()?)));
        let gap = latest.map(|(was, known)| StreamGap::MadeAgain { created: created.clone(), was: was.clone(), read: known.next - 1 });
        Found::New { created, gap }
    }

    /// Returns the positions in earlier generations of the same stream that no later one goes on with, the latest first.
    pub(super) fn earlier(&self, position: &Position) -> Vec<Position> {
        let Some(Id { created, generation, .. }) = Id::parse(&self.stream, &position.partition.id) else { return Vec::new() };
        let Some(of_stream) = self.known.get(created) else { return Vec::new() };
        let is_over = |generation: u32| of_stream.values().any(|known| known.goes_on == Some(generation));
        let earlier = of_stream.range(..generation).rev().filter(|(generation, _)| !is_over(**generation));
        earlier.take(EARLIER_MAX).map(|(generation, known)| self.position(created, *generation, known)).collect()
    }

    fn position(&self, created: &str, generation: u32, known: &Known) -> Position {
        let id = Id { created, generation, goes_on: known.goes_on };
        Position { partition: self.partition(id), next: known.next, evidence: known.evidence.clone() }
    }

    /// Returns the position in a stream that is not known yet.
    pub(super) fn first(&self, created: &str, next: u64, evidence: Evidence) -> Position {
        let id = Id { created, generation: 0, goes_on: None };
        Position { partition: self.partition(id), next, evidence: Some(evidence.into()) }
    }

    /// Returns where reading goes on in an older state that was restored: a generation of its own, behind the latest.
    pub(super) fn behind(&self, latest: &Position, next: u64, evidence: Arc<Evidence>) -> Position {
        let id = Id::parse(&self.stream, &latest.partition.id).expect("it was made here, or parsed before");
        let id = Id { generation: id.generation + 1, goes_on: None, ..id };
        Position { partition: self.partition(id), next, evidence: Some(evidence) }
    }

    /// Returns where reading goes on if what was read of an earlier generation stands in the stream again: behind the latest, too.
    pub(super) fn going_on(&self, latest: &Position, earlier: &Position) -> Position {
        let generation = |position: &Position| Id::parse(&self.stream, &position.partition.id).map(|id| id.generation);
        let id = Id::parse(&self.stream, &latest.partition.id).expect("it was made here, or parsed before");
        let id = Id { generation: id.generation + 1, goes_on: generation(earlier), ..id };
        Position { partition: self.partition(id), ..earlier.clone() }
    }

    /// Takes where reading has got to.
    pub(super) fn keep(&mut self, range: &OffsetRange) {
        if let Some(Id { created, generation, goes_on }) = Id::parse(&self.stream, &range.partition.id) {
            let known = Known { goes_on, next: range.to, evidence: range.evidence.clone() };
            self.known.entry(created.to_owned()).or_default().insert(generation, known);
        }
    }

    fn partition(&self, id: Id<'_>) -> Arc<Partition> {
        let stream = &self.stream;
        let Id { created, generation, goes_on } = id;
        let id = match (generation, goes_on) {
            (0, _) => format!("{stream}@{created}"),
            (_, None) => format!("{stream}@{created}#{generation}"),
            (_, Some(earlier)) => format!("{stream}@{created}#{generation}={earlier}"),
        };
        Arc::new(Partition { id: PartitionId::new(id), label: stream.as_str().into() })
    }
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// What a partition's id says.
#[derive(Debug, Clone, Copy)]
struct Id<'a> {
    /// When the stream was made.
    created: &'a str,
    generation: u32,
    /// The earlier generation that it goes on with.
    goes_on: Option<u32>,
}

impl<'a> Id<'a> {
    fn parse(stream: &str, id: &'a PartitionId) -> Option<Self> {
        let text = id.as_str().strip_prefix(stream)?.strip_prefix('@')?;
        let (created, generation) = text.split_once('#').unwrap_or((text, "0"));
        let (generation, goes_on) = match generation.split_once('=') {
            Some((generation, goes_on)) => (generation, Some(goes_on.parse().ok()?)),
            None => (generation, None),
        };
        DateTime::parse_from_rfc3339(created).ok()?;
        Some(Self { created, generation: generation.parse().ok()?, goes_on })
    }
}

impl StreamGap {
    /// Returns how many messages are surely or possibly lost; `None` if it cannot be known.
    pub(super) fn lost(&self) -> Option<u64> {
        match self {
            Self::Removed { from, to } => Some(to - from),
            Self::MadeAgain { .. } | Self::PutBack { .. } => None,
        }
    }
}

impl fmt::Display for StreamGap {
    /// Completes a sentence that begins with the stream.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed { from, to } => {
                write!(f, "begins at sequence {to}, and was read up to {}: {} sequences between were removed unread", from - 1, to - from)
            }
            Self::MadeAgain { created, was, read } => {
                write!(f, "was recreated at {created}; the one made at {was} was read up to sequence {read}, and what followed may be lost")
            }
            Self::PutBack { restored, next } => {
                let (Restored { why, common, next: on, begins, .. }, read) = (restored, next - 1);
                match why {
                    Why::Shorter { end } => write!(f, "ends at sequence {}, and was read up to {read} already", end - 1)?,
                    Why::Differs { at } | Why::Disowned { at } => {
                        write!(f, "holds another message at sequence {at} than was read there, and was read up to {read}")?
                    }
                    Why::Younger => {
                        write!(f, "holds a message younger than all that was read, and was read up to {read}, which lies behind it")?
                    }
                }
                let older = if *begins == Begins::Known { "another" } else { "an older" };
                write!(f, ": {older} state of it was restored; ")?;
                match (*common, begins) {
                    (_, Begins::Known) => {
                        write!(f, "it is again what was read up to sequence {} earlier, and reading goes on there", on - 1)?
                    }
                    (common, Begins::ByTime) if common + 1 == *on => write!(f, "sequence {on} is the first that was not read")?,
                    (_, Begins::ByTime) => write!(f, "by their times, sequence {on} is the first that was not read")?,
                    (0, Begins::Somewhere) => {
                        write!(f, "what was not read cannot be told from what was, so all from sequence {on} on may be there twice")?
                    }
                    (common, Begins::Somewhere) => {
                        write!(f, "it is surely what was read up to {common} only, so what follows may be there twice")?
                    }
                }
                f.write_str(", and what the lost state had behind it may be lost")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pintail_core::error::ErrorKind;

    use super::*;

    const SECOND: i64 = 1_767_225_600;

    fn observed(created: i64, first: u64, last: u64) -> ShownStream {
        ShownStream { created: DateTime::from_timestamp(created, 123_456_789).unwrap(), first, last, last_time: None }
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

    fn known(ids: &[(&str, u64)], observed: ShownStream) -> (String, u64) {
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
        assert!(text.contains("recreated at 2026-01-01T00:00:01") && text.contains("up to sequence 9"), "{text}");
        // Both are known from then on.
        assert_eq!(known(&[(MADE, 10), (&id, 3)], observed(SECOND + 1, 1, 9)), (id, 3));
    }

    #[test]
    fn a_stream_put_back_to_an_older_state_goes_on_as_its_next_generation() {
        let mut positions = positions(&[(MADE, 100)]);
        let Found::Known(position) = positions.find(&observed(SECOND, 1, 50)) else { panic!("it is known") };
        let behind = positions.behind(&position, 51, Arc::default());
        let id = format!("{MADE}#1");
        assert_eq!((behind.partition.id.as_str(), behind.next), (id.as_str(), 51));
        positions.keep(&OffsetRange::new(behind.partition, 51, 60));
        let Found::Known(position) = positions.find(&observed(SECOND, 1, 70)) else { panic!("it is known") };
        assert_eq!((position.partition.id.as_str(), position.next), (id.as_str(), 60));
        assert_eq!(known(&[(MADE, 100), (&id, 60)], observed(SECOND, 1, 70)), (id.clone(), 60));
        let earlier: Vec<_> = positions.earlier(&position).iter().map(|earlier| (earlier.partition.id.to_string(), earlier.next)).collect();
        assert_eq!(earlier, [(MADE.to_owned(), 100)]);
    }

    #[test]
    fn a_generation_that_goes_on_with_an_earlier_one_takes_its_place() {
        let first = format!("{MADE}#1");
        let mut positions = positions(&[(MADE, 100), (first.as_str(), 60)]);
        let Found::Known(latest) = positions.find(&observed(SECOND, 1, 120)) else { panic!("it is known") };
        let earlier = positions.earlier(&latest).remove(0);
        let back = positions.going_on(&latest, &earlier);
        assert_eq!((back.partition.id.as_str(), back.next), (&*format!("{MADE}#2=0"), 100));
        positions.keep(&OffsetRange::new(back.partition, 100, 110));
        let Found::Known(latest) = positions.find(&observed(SECOND, 1, 120)) else { panic!("it is known") };
        assert_eq!((latest.partition.id.as_str(), latest.next), (&*format!("{MADE}#2=0"), 110));
        let earlier: Vec<_> = positions.earlier(&latest).iter().map(|earlier| earlier.partition.id.to_string()).collect();
        assert_eq!(earlier, [first]);
        assert_eq!(positions.behind(&latest, 50, Arc::default()).partition.id.as_str(), format!("{MADE}#3"));
    }

    #[test]
    fn a_restored_stream_is_told_with_what_is_lost_and_what_may_be_there_twice() {
        let text = |why, common, next, begins| {
            let restored = Restored { why, common, next, begins, evidence: Arc::default() };
            StreamGap::PutBack { restored, next: 101 }.to_string()
        };
        for (found, parts) in [
            (
                text(Why::Shorter { end: 51 }, 37, 51, Begins::ByTime),
                ["ends at sequence 50", "up to 100", "by their times, sequence 51 is the first"],
            ),
            (
                text(Why::Differs { at: 69 }, 50, 51, Begins::ByTime),
                ["another message at sequence 69", "up to 100", "; sequence 51 is the first"],
            ),
            (
                text(Why::Differs { at: 69 }, 37, 38, Begins::Somewhere),
                ["sequence 69", "surely what was read up to 37 only", "may be there twice"],
            ),
            (
                text(Why::Younger, 0, 1, Begins::Somewhere),
                ["younger than all that was read", "up to 100", "all from sequence 1 on may be there twice"],
            ),
            (
                text(Why::Differs { at: 69 }, 50, 141, Begins::Known),
                ["sequence 69", "another state of it was restored", "again what was read up to sequence 140 earlier"],
            ),
        ] {
            assert!(parts.iter().all(|part| found.contains(part)) && found.contains("may be lost"), "{found}");
        }
    }

    #[test]
    fn messages_removed_unread_are_counted() {
        let removed = StreamGap::Removed { from: 10, to: 51 };
        assert_eq!(removed.lost(), Some(41));
        assert!(removed.to_string().contains("begins at sequence 51, and was read up to 9: 41 sequences"), "{removed}");
    }

    #[test]
    fn a_partition_of_another_stream_is_refused_and_replayed_dead_letters_are_left_alone() {
        for other in [
            "ORDERS@2026-01-01T00:00:00.123456789Z",
            "EVENTS",
            "EVENTS@yesterday",
            "EVENTS@2026-01-01T00:00:00.123456789Z#x",
            "EVENTS@2026-01-01T00:00:00.123456789Z#2=x",
        ] {
            assert_eq!(Positions::new("EVENTS", &committed(&[(other, 10)])).unwrap_err().kind(), ErrorKind::State, "{other}");
        }
        let found = positions(&[("dead_letters/0000000042", 7)]).find(&observed(SECOND, 1, 9));
        assert!(matches!(found, Found::New { gap: None, .. }), "{found:?}");
    }
}
