//! Positions: where each partition of a topic goes on, judged by what the last commit record says and what the broker shows.
//!
//! Owns: the ids under which partitions are committed, what is to be looked at, and what counts as a gap. Pure.
//! Does not own: asking the broker (see `topics` and `looker`), what a gap leads to (see [`crate::resume`]).
//!
//! The id of a partition holds the id that the broker gave its topic, so a topic that was deleted and made again is another one, whatever
//! its offsets. A broker older than 2.8 gives none: there the last message that was read tells, as it tells of a log that was truncated or
//! restored. Where that message is gone (retention, compaction), its leader epoch tells, if the broker keeps epochs.
//!
//! The end of that epoch is where the log became another one, as long as epochs count forward. Those of a log that was restored to an older
//! state may not: it grows again within the epoch that was read, and the end of that epoch lies behind messages that never were. Such messages
//! are younger than all that was read; where one stands before the end of the epoch, that end tells nothing, and the log is read from its
//! beginning: rather twice than not at all.
//!
//! A log that became another one is known by a number of its own (its *incarnation*). What was known before stays: if what was read then stands
//! in the log again, because a newer state was restored, reading goes on behind it, as a later incarnation that goes on with the earlier one.
//!
//! A position lies behind what is no message: markers of transactions, and messages that were aborted.

use std::fmt;
use std::sync::Arc;

use pintail_core::evidence::{self, Evidence, Look, Mark, Seen, Verdict, Why, Witness};
use pintail_core::offsets::{NoteKind, OffsetRange, Offsets, Partition, PartitionId};

use crate::resume::{Finding, Gap};

/// The mark of a witness that was found gone: nothing has it, so whatever stands there later is something else.
const GONE: Mark = Mark([0; 16]);

/// Earlier incarnations of a log that are looked at, the latest of them. Each costs a fetch at the start of a session.
const EARLIER_MAX: usize = 8;

/// A partition as the broker shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShownPartition {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// The id of the topic; `None` if the broker gives none.
    pub(super) topic_id: Option<String>,
    /// The oldest offset that is there.
    pub(super) low: u64,
    /// The end of what can be read: the next offset to be written, or that of the oldest transaction that is open.
    pub(super) high: u64,
}

/// What is to be read to check a position: from one offset, to a message at or behind the last one before `until`, two messages at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) from: u64,
    pub(super) until: u64,
}

/// A message that was looked at.
pub(super) type Sight = Witness;

/// What was found where it was looked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// What was read for each [`Ask`]; nothing where nothing could be asked.
    pub(super) sights: Vec<Vec<Sight>>,
    /// Whether the leader epoch of the last witness ends before it; `false` also if that was not asked.
    pub(super) disowned: bool,
    /// The first offset behind the end of that epoch, if it was disowned.
    pub(super) fork: Option<u64>,
    /// The last message before that offset; `None` also if the log has none there.
    pub(super) before_fork: Option<Sight>,
}

/// Where reading goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) partition: Arc<Partition>,
    /// The next offset in the order of the commit records; messages begin at `begin`, not before it.
    pub(super) next: u64,
    /// The offset to read from.
    pub(super) begin: u64,
    /// What stands before `next`; `None` in a partition that no record knows.
    pub(super) evidence: Option<Arc<Evidence>>,
}

/// What was found out about a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LogFinding {
    /// What cannot be read any more, or is not what it was.
    Gap(LogGap),
    /// The log was cut behind the last message that was read, where only markers and aborted messages stood: nothing is lost.
    CutBehind { next: u64, last: u64 },
    /// The last message that was read is gone, and nothing contradicts the position.
    Unseen { last: u64 },
    /// The log is again what it was before an older state was restored, and that was read up to `begin`.
    Returned { next: u64, begin: u64 },
    /// The position is of a record without evidence.
    Accepted { next: u64 },
}

/// What cannot be read any more, or is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LogGap {
    /// Messages were removed before they were read.
    Removed { next: u64, low: u64 },
    /// The topic was recreated.
    Recreated { next: u64 },
    /// Another history stands before the position.
    Other { next: u64, why: Why, begin: u64, known_by: KnownBy },
}

/// What tells where to go on in another history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KnownBy {
    /// The end of a leader epoch: up to there the log is what was read.
    Epochs,
    /// What was read before an older state was restored: it stands there again.
    EarlierLog,
    /// Nothing: the log is read from its beginning.
    Nothing,
}

impl fmt::Display for LogGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed { next, low } => {
                write!(f, "offsets {next} to {} were removed before they were read (retention)", low - 1)
            }
            Self::Recreated { next } => {
                write!(f, "the topic was recreated since offset {next} was to be read next")
            }
            Self::Other { next, why: Why::Shorter { end }, .. } => {
                write!(
                    f,
                    "its log ends at offset {end}, but {next} was to be read next: it was truncated or restored, or the topic was recreated"
                )
            }
            Self::Other { next, why: Why::Disowned { at }, .. } => write!(
                f,
                "the message that was read at offset {at} is gone, and its leader epoch ends before it, but {next} was to be read next: the log \
                 was truncated"
            ),
            Self::Other { next, why: Why::Differs { at }, .. } => write!(
                f,
                "offset {at} holds another message than was read there, and {next} was to be read next: the log was truncated or restored, or \
                 the topic was recreated"
            ),
            Self::Other { next, why: Why::Younger, .. } => write!(f, "it {}; {next} was to be read next", Why::Younger),
        }
    }
}

impl LogGap {
    /// Says where reading goes on if the gap is let pass, and at what price.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::Removed { low, .. } => format!("reading goes on at offset {low}"),
            Self::Recreated { .. } => "the new topic is read from its beginning".to_owned(),
            Self::Other { begin, known_by: KnownBy::Epochs, .. } => {
                format!(
                    "by its leader epochs the log is what was read up to offset {begin}: reading goes on there, and nothing is read twice"
                )
            }
            Self::Other { begin, known_by: KnownBy::EarlierLog, .. } => {
                format!("the log is again what was read up to offset {begin} earlier: reading goes on there, and nothing is read twice")
            }
            Self::Other { begin, known_by: KnownBy::Nothing, .. } => {
                format!("reading goes on at its oldest offset, {begin}: what it still has of what was read is read twice")
            }
        }
    }
}

impl LogFinding {
    /// Says it of the partition with this label.
    pub(super) fn found(&self, label: &str) -> Finding {
        let text = self.to_string();
        let kind = match self {
            Self::Gap(gap) => return Finding::Gap(Gap { found: format!("`{label}`: {gap}"), then: gap.remedy(), noted: text, lost: None }),
            Self::CutBehind { .. } | Self::Returned { .. } => NoteKind::Moved,
            Self::Unseen { .. } => NoteKind::CannotBeSeen,
            Self::Accepted { .. } => NoteKind::Accepted,
        };
        Finding::Remark { kind, text }
    }
}

impl fmt::Display for LogFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap(gap) => write!(f, "{gap}; {}", gap.remedy()),
            Self::CutBehind { next, last } => write!(
                f,
                "the log was truncated behind the last message that was read, at offset {last}: nothing is lost, offsets up to {} were markers \
                 and aborted messages",
                next - 1
            ),
            Self::Unseen { last } => {
                write!(
                    f,
                    "the last message that was read, at offset {last}, is gone (retention or compaction); nothing contradicts the position"
                )
            }
            Self::Returned { next, begin } => write!(
                f,
                "the log is again what it was before an older state of it was restored, and was read up to offset {begin} then: reading goes on \
                 there instead of at {next}"
            ),
            Self::Accepted { next } => {
                write!(f, "offset {next} is taken from a record of an earlier version, which holds no evidence of it")
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

    /// Records that a partition was read up to `next`, before which stands `evidence`.
    pub(super) fn advance(&mut self, partition: &Arc<Partition>, next: u64, evidence: Arc<Evidence>) {
        let from = self.offsets.next_offset(&partition.id).unwrap_or(next);
        let range = OffsetRange::new(partition.clone(), from, next).with_evidence(evidence);
        self.offsets.extend(&range).expect("a reader goes forward only");
    }

    /// Returns what is known of a partition and is to be looked at, the latest log first: nothing if it is new or its topic was recreated.
    pub(super) fn known(&self, observed: &ShownPartition) -> Vec<Known> {
        let mut known = self.of_partition(observed);
        known.retain(|known| known.is_of(observed));
        let over: Vec<u64> = known.iter().filter_map(|known| known.id.goes_on).collect();
        known.retain(|known| !over.contains(&known.id.incarnation));
        known.truncate(1 + EARLIER_MAX);
        known
    }

    /// Judges a partition by a look at each of [`Self::known`].
    pub(super) fn judge(&self, observed: &ShownPartition, looked: &[Looked]) -> (Position, Option<LogFinding>) {
        let known = self.known(observed);
        let Some((latest, earlier)) = known.split_first() else {
            let made_again = self.of_partition(observed).first().map(|known| LogFinding::Gap(LogGap::Recreated { next: known.next }));
            let evidence = made_again.as_ref().map(|_| Arc::default());
            return (position(observed, id(observed, 1), observed.low, evidence), made_again);
        };
        let nothing = Looked::default();
        let (position, finding) = latest.judge(observed, looked.first().unwrap_or(&nothing));
        let standing = earlier.iter().zip(looked.iter().skip(1)).filter(|(earlier, looked)| earlier.stands(observed, looked));
        // Where an earlier log stands, the latest does not: the end of an epoch that both were written in tells nothing.
        let is_other = matches!(finding, Some(LogFinding::Gap(LogGap::Other { .. })));
        match standing.map(|(earlier, _)| earlier).max_by_key(|earlier| earlier.next) {
            Some(earlier) if is_other || earlier.next > position.next => latest.go_back(observed, earlier, finding),
            _ => (position, finding),
        }
    }

    /// Returns what is committed of the partition: of the topic that is shown before those of its name, of each the latest log first.
    fn of_partition(&self, observed: &ShownPartition) -> Vec<Known> {
        let known = self.offsets.spans().filter_map(|(id, span)| {
            let id = Id::parse(id.as_str())?;
            let is_it = id.topic == observed.topic && id.partition == observed.partition;
            is_it.then(|| Known { next: span.to, evidence: span.evidence.clone(), id })
        });
        let mut known: Vec<_> = known.collect();
        known.sort_by_key(|known| std::cmp::Reverse((known.id.topic_id == observed.topic_id, known.id.incarnation)));
        known
    }
}

/// What is committed of one partition.
#[derive(Debug)]
pub(super) struct Known {
    id: Id,
    next: u64,
    evidence: Option<Arc<Evidence>>,
}

impl Known {
    fn is_of(&self, observed: &ShownPartition) -> bool {
        match (&self.id.topic_id, &observed.topic_id) {
            (Some(known), Some(shown)) => known == shown,
            // One that is not known cannot be told from the other.
            (None, _) | (_, None) => true,
        }
    }

    fn witnesses(&self) -> &[Witness] {
        self.evidence.as_ref().map_or(&[], |evidence| &evidence.witnesses)
    }

    /// Returns what is to be read to check the position, one for each witness; `None` for one that lies outside the log. Without evidence the
    /// message before the position is asked for, to be evidence from now on.
    pub(super) fn asks(&self, observed: &ShownPartition) -> Vec<Option<Ask>> {
        let inside = |from: u64, until| (observed.low..observed.high).contains(&from).then_some(Ask { from, until });
        if self.evidence.is_none() {
            return vec![self.next.checked_sub(1).and_then(|from| inside(from, self.next))];
        }
        let witnesses = self.witnesses();
        let until = |index, witness: &Witness| if index + 1 == witnesses.len() { self.next } else { witness.to };
        witnesses.iter().enumerate().map(|(index, witness)| inside(witness.from, until(index, witness))).collect()
    }

    /// Returns what the leader epochs are to be asked for, as an offset and the epoch of a message before it: if the last witness cannot be
    /// seen, or to find out where another history begins.
    pub(super) fn epoch_to_ask(&self, observed: &ShownPartition, looked: &Looked) -> Option<(u64, i32)> {
        let last = self.witnesses().last()?;
        let is_there = matches!(self.seen(looked).last(), Some(Seen::Present { .. }));
        let is_open = !is_there || self.verdict(observed, looked) != Verdict::Same;
        // What lies before the log's beginning would be refused whatever its epoch.
        last.epoch.filter(|_| is_open).map(|epoch| (last.to.max(observed.low), epoch))
    }

    /// Returns what stands in the place of each witness.
    fn seen(&self, looked: &Looked) -> Vec<Seen> {
        let sights = |index: usize| looked.sights.get(index).map_or(&[][..], Vec::as_slice);
        let seen = self.witnesses().iter().enumerate().map(|(index, witness)| match sights(index).first() {
            Some(Witness { from, time, epoch, mark, .. }) if *from == witness.from => {
                Seen::Present { mark: *mark, time: *time, epoch: *epoch }
            }
            _ if looked.disowned => Seen::Disowned,
            _ => Seen::Gone,
        });
        seen.collect()
    }

    /// Returns the first message between the last witness and the position, where there was none.
    fn between(&self, looked: &Looked) -> Option<u64> {
        let last = self.witnesses().last()?;
        let sights = looked.sights.last()?;
        sights.iter().map(|sight| sight.from).find(|from| (last.to..self.next).contains(from))
    }

    /// Judges the end of the last message that was read: what lies between it and the position was never read.
    fn verdict(&self, observed: &ShownPartition, looked: &Looked) -> Verdict {
        let seen = self.seen(looked);
        let look = Look { place: None, end: Some(observed.high), seen: &seen, newest_before: None };
        let read_to = self.witnesses().last().map_or(self.next, |last| last.to);
        match evidence::judge(read_to, self.evidence.as_deref(), &look) {
            Verdict::CannotBeSeen if observed.high < self.next => Verdict::Other(Why::Shorter { end: observed.high }),
            Verdict::CannotBeSeen => self.between(looked).map_or(Verdict::CannotBeSeen, |at| Verdict::Other(Why::Differs { at })),
            verdict => verdict,
        }
    }

    /// Returns whether the last message that was read surely stands in the log.
    fn stands(&self, observed: &ShownPartition, looked: &Looked) -> bool {
        let agrees = self.witnesses().last().zip(self.seen(looked).last()).and_then(|(last, seen)| last.agrees(seen));
        agrees == Some(true)
            && self.verdict(observed, looked) == Verdict::Same
            && self.between(looked).is_none()
            && observed.high >= self.next
    }

    /// Goes on behind what was read of an earlier log, since that stands in the place of this one.
    fn go_back(&self, observed: &ShownPartition, earlier: &Self, finding: Option<LogFinding>) -> (Position, Option<LogFinding>) {
        let (next, begin) = (self.next, earlier.next);
        let finding = match finding {
            Some(LogFinding::Gap(LogGap::Other { why, .. })) => {
                LogFinding::Gap(LogGap::Other { next, why, begin, known_by: KnownBy::EarlierLog })
            }
            _ => LogFinding::Returned { next, begin },
        };
        let id = format!("{}={}", self.id_of_next_log(observed), earlier.id.incarnation);
        (position(observed, id, begin, earlier.evidence.clone()), Some(finding))
    }

    fn id_of_next_log(&self, observed: &ShownPartition) -> String {
        id(&ShownPartition { topic_id: self.id.topic_id.clone(), ..observed.clone() }, self.id.incarnation + 1)
    }

    /// Returns where the log forks by its leader epochs, if all that stands before that can be what was read.
    fn fork(&self, observed: &ShownPartition, looked: &Looked) -> Option<u64> {
        // An epoch that the broker does not know at all forks nowhere.
        let fork = looked.fork.filter(|fork| *fork > observed.low)?;
        let mut witnesses = self.witnesses().iter().zip(self.seen(looked));
        let differs = witnesses.any(|(witness, seen)| witness.from < fork && witness.agrees(&seen) == Some(false));
        let newest_read = self.witnesses().iter().filter_map(|witness| witness.time).max();
        let younger = looked.before_fork.is_some_and(|before| before.time.is_none() || before.time > newest_read);
        (!differs && !younger).then_some(fork)
    }

    fn judge(&self, observed: &ShownPartition, looked: &Looked) -> (Position, Option<LogFinding>) {
        let next = self.next;
        let again = || self.id_of_next_log(observed);
        let stay = |evidence| Position { begin: next.max(observed.low), ..position(observed, self.id.text.clone(), next, Some(evidence)) };
        let removed = (next < observed.low).then_some(LogFinding::Gap(LogGap::Removed { next, low: observed.low }));
        match (self.verdict(observed, looked), self.witnesses().last()) {
            (Verdict::Other(why), _) => {
                let fork = self.fork(observed, looked);
                let (begin, known_by) = fork.map_or((observed.low, KnownBy::Nothing), |fork| (fork, KnownBy::Epochs));
                let before = fork.and(looked.before_fork);
                let evidence = Evidence { witnesses: before.into_iter().collect(), ..Evidence::default() };
                let gap = LogGap::Other { next, why, begin, known_by };
                (position(observed, again(), begin, Some(Arc::new(evidence))), Some(LogFinding::Gap(gap)))
            }
            (Verdict::Same | Verdict::Moved, Some(last)) if observed.high < next || self.between(looked).is_some() => {
                let evidence = Evidence { witnesses: vec![*last], ..Evidence::default() };
                let position = position(observed, again(), last.to, Some(Arc::new(evidence)));
                (position, Some(LogFinding::CutBehind { next, last: last.from }))
            }
            (Verdict::Same | Verdict::Moved, _) => (stay(self.evidence.clone().unwrap_or_default()), None),
            (Verdict::CannotBeSeen, Some(last)) => {
                let said = last.mark == GONE;
                let evidence = Evidence { witnesses: vec![Witness { mark: GONE, ..*last }], ..Evidence::default() };
                let unseen = (!said).then_some(LogFinding::Unseen { last: last.from });
                (stay(Arc::new(evidence)), removed.or(unseen))
            }
            (Verdict::CannotBeSeen, None) => {
                let known = self.evidence.clone();
                let accepted = known.is_none().then_some(LogFinding::Accepted { next });
                let before = looked.sights.first().and_then(|sights| sights.iter().find(|sight| sight.to == next));
                let found = || Arc::new(Evidence { witnesses: before.copied().into_iter().collect(), ..Evidence::default() });
                (stay(known.unwrap_or_else(found)), removed.or(accepted))
            }
        }
    }
}

fn position(observed: &ShownPartition, id: String, next: u64, evidence: Option<Arc<Evidence>>) -> Position {
    let label = format!("{}[{}]", observed.topic, observed.partition);
    let partition = Arc::new(Partition { id: PartitionId::new(id), label: label.into() });
    Position { partition, next, begin: next, evidence }
}

fn id(observed: &ShownPartition, incarnation: u64) -> String {
    let mut id = format!("{}/{}", observed.topic, observed.partition);
    if let Some(topic_id) = &observed.topic_id {
        id = format!("{id}@{topic_id}");
    }
    if incarnation > 1 {
        id = format!("{id}~{incarnation}");
    }
    id
}

/// `topic/partition`, `@` and the topic's id if it has one, `~` and a number from the second log on, `=` and the number of the earlier log that it
/// goes on with.
#[derive(Debug)]
struct Id {
    text: String,
    topic: String,
    partition: i32,
    topic_id: Option<String>,
    incarnation: u64,
    goes_on: Option<u64>,
}

impl Id {
    fn parse(text: &str) -> Option<Self> {
        let (rest, number) = text.rsplit_once('~').unwrap_or((text, "1"));
        let (incarnation, goes_on) = match number.split_once('=') {
            Some((number, goes_on)) => (number.parse().ok()?, Some(goes_on.parse().ok()?)),
            None => (number.parse().ok()?, None),
        };
        let (rest, topic_id) = match rest.split_once('@') {
            Some((rest, topic_id)) => (rest, Some(topic_id.to_owned())),
            None => (rest, None),
        };
        let (topic, partition) = rest.rsplit_once('/')?;
        Some(Self { text: text.to_owned(), topic: topic.to_owned(), partition: partition.parse().ok()?, topic_id, incarnation, goes_on })
    }
}

/// Returns the topic and the partition that an id stands for; `None` if it is not one of Kafka's.
pub(super) fn place(id: &PartitionId) -> Option<(String, i32)> {
    Id::parse(id.as_str()).map(|id| (id.topic, id.partition))
}

/// Returns whether a partition is read by instance `index` of `count`. Neighbours go to different ones, of topics with a single partition too.
pub(super) fn is_ours((index, count): (u32, u32), topic: &str, partition: i32) -> bool {
    let place = topic.bytes().map(u64::from).sum::<u64>() + u64::from(partition.unsigned_abs());
    place % u64::from(count) == u64::from(index)
}

/// Returns whether instance `index` of `count` reads a partition, going by its id.
pub(super) fn owns(index: u32, count: u32, id: &PartitionId) -> bool {
    place(id).is_some_and(|(topic, partition)| is_ours((index, count), &topic, partition))
}

#[cfg(test)]
mod tests;
