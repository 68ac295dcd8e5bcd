//! Positions in the source.
//!
//! Owns: what a source partition is, half-open ranges of it, whether ranges join without gap or overlap, and what a source notes of them
//! (gaps, moves, partitions that vanished).
//! Does not own: what an offset counts (bytes, records, sequence numbers: the source says), what evidence is worth (see
//! [`crate::evidence`]), nor where offsets are kept (see `pintail_storage::checkpoint::record`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::evidence::{Evidence, Mark};

/// What the ids of dead letters as partitions begin with.
const DEAD_LETTERS: &str = "dead_letters/";

/// Names a partition of the *source* (never a hive partition of the output). Stable over restarts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(Arc<str>);

impl PartitionId {
    /// Makes the id.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the partition of a checkpoint's dead letters, which are read again as a source of their own.
    pub fn of_dead_letters(sequence: u64) -> Self {
        Self::of_letter_file(&format!("{sequence:010}"))
    }

    /// As [`Self::of_dead_letters`], by the name of the file without its ending.
    pub fn of_letter_file(stem: &str) -> Self {
        Self::new(format!("{DEAD_LETTERS}{stem}"))
    }

    /// Returns whether this is a file of dead letters, and not the original source's.
    pub fn is_of_dead_letters(&self) -> bool {
        self.as_str().starts_with(DEAD_LETTERS)
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// A partition of the source, with the name that people know it by (a file's path, a topic), which may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What offsets are filed under.
    pub id: PartitionId,
    /// What messages call it.
    pub label: Arc<str>,
}

/// The half-open range `[from, to)` of one source partition, with what its source knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetRange {
    /// The partition that the range lies in.
    pub partition: Arc<Partition>,
    /// First offset in the range.
    pub from: u64,
    /// First offset behind the range.
    pub to: u64,
    /// What stands right before `to`; `None` if the source has none, or the range was cut off the front of another.
    pub evidence: Option<Arc<Evidence>>,
    /// Whether it was cut off the front of another, which has evidence of its end: a checkpoint must not end with this one.
    pub is_cut: bool,
    /// What the source found out about the partition before it read this range. An empty range may carry notes alone.
    pub notes: Vec<Note>,
}

impl OffsetRange {
    /// Makes a range without evidence or notes.
    pub fn new(partition: Arc<Partition>, from: u64, to: u64) -> Self {
        Self { partition, from, to, evidence: None, is_cut: false, notes: Vec::new() }
    }

    /// Adds what stands right before its end.
    pub fn with_evidence(self, evidence: Arc<Evidence>) -> Self {
        Self { evidence: Some(evidence), ..self }
    }

    /// Adds a note.
    pub fn with_note(mut self, note: Note) -> Self {
        self.notes.push(note);
        self
    }

    /// Takes the range that begins where this one ends: its evidence stands before the new end, and what was noted of either holds.
    pub fn join(&mut self, next: &Self) {
        if next.to > next.from || next.evidence.is_some() {
            self.evidence.clone_from(&next.evidence);
            self.is_cut = next.is_cut;
        }
        self.to = next.to;
        self.notes.extend_from_slice(&next.notes);
    }

    /// Takes the part before `cut` off the front. The notes are about what lies before it, the evidence about what lies behind.
    pub fn split_off_front(&mut self, cut: u64) -> Self {
        let front = Self {
            partition: self.partition.clone(),
            from: self.from,
            to: cut,
            evidence: None,
            is_cut: self.evidence.is_some(),
            notes: std::mem::take(&mut self.notes),
        };
        self.from = cut;
        front
    }
}

/// What a source found out about a partition, for the commit record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What it is.
    pub kind: NoteKind,
    /// The sentence that was logged.
    pub text: String,
    /// How much is surely lost, in the unit of the offsets; `None` if that cannot be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
}

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// Something was or may have been lost, and `source.on_gap = "record"` (or `--accept`) let it pass.
    Gap,
    /// The partition was found in another place, and goes on there.
    Moved,
    /// What was read cannot be seen any more; nothing contradicts the position.
    CannotBeSeen,
    /// The partition is gone. It is forgotten, but for its fingerprint (see [`Remembered`]).
    Vanished,
    /// A partition that had vanished is back, and read already.
    Returned,
    /// Content that is read already under another name, and is passed over.
    Copy,
    /// A position of a version 1 record, taken over without evidence.
    Accepted,
}

/// The span of one partition in a checkpoint, as the commit record keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What messages call the partition.
    pub label: Arc<str>,
    /// First offset in the span.
    pub from: u64,
    /// Next offset: where reading goes on.
    pub to: u64,
    /// Whether no earlier record knows the partition.
    pub new: bool,
    /// What stands right before `to`.
    pub evidence: Option<Arc<Evidence>>,
    /// Whether it ends amid what its source read at once (see [`OffsetRange::is_cut`]). No record has such a span.
    pub is_cut: bool,
    /// Whether the partition is as the last record has it: nothing was read, found out or noted since.
    pub unchanged: bool,
    /// Whether it vanished: it is forgotten with this checkpoint.
    pub vanished: bool,
}

impl Span {
    /// Makes the span of a partition that stands still at `at`, as the last record has it.
    pub fn standing(label: Arc<str>, at: u64, evidence: Option<Arc<Evidence>>) -> Self {
        Self { label, from: at, to: at, new: false, evidence, is_cut: false, unchanged: true, vanished: false }
    }
}

/// The fingerprint of a partition that vanished after it was read: what comes back later is not read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Bytes at its beginning that the key of the entry marks, at most 1,024.
    pub head_bytes: u16,
    /// The mark of the bytes before the offset, and of the body if there is one.
    pub tail: Mark,
    /// The offset up to which it was read.
    pub to: u64,
    /// When it was forgotten, in seconds since 1970.
    pub at: u32,
}

impl Fingerprint {
    /// Bytes of its key that are of the beginning alone; the others tell apart what begins alike.
    const HEAD_BYTES: usize = 12;

    /// Makes the fingerprint of what was read up to `to`, with its key.
    ///
    /// With a body, `tail` is the mark of the last bytes and of the body in one, and the end of the key is its beginning. Records of earlier versions have
    /// no body: there the key is the mark of the beginning, and of several that begin alike one is kept.
    pub fn of(evidence: &Evidence, to: u64, at: u32) -> Option<(Mark, Self)> {
        let head = evidence.witnesses.first().filter(|head| head.from == 0)?;
        let tail = evidence.witnesses.last()?.mark;
        let head_bytes = u16::try_from(head.to).ok()?;
        let Some(body) = evidence.body else { return Some((head.mark, Self { head_bytes, tail, to, at })) };
        let fingerprint = Self { head_bytes, tail: tail.with(body), to, at };
        Some((fingerprint.key(head.mark), fingerprint))
    }

    /// Returns the key of one with a body that begins with what has the mark `head`.
    pub fn key(&self, head: Mark) -> Mark {
        let mut key = head;
        key.0[Self::HEAD_BYTES..].copy_from_slice(&self.tail.0[..head.0.len() - Self::HEAD_BYTES]);
        key
    }

    /// Returns whether it lies under `key` since it begins with what has the mark `head`.
    pub fn begins_with(&self, head: Mark, key: Mark) -> bool {
        key == head || key == self.key(head)
    }

    /// Returns the range of keys in which those lie that begin with what has the mark `head`.
    pub fn keys_of(head: Mark) -> std::ops::RangeInclusive<Mark> {
        let end = |byte| {
            let mut key = head;
            key.0[Self::HEAD_BYTES..].fill(byte);
            key
        };
        end(0)..=end(u8::MAX)
    }

    /// Returns whether content with this mark before the offset, and with this body, is what was read.
    pub fn is_of(&self, tail: Mark, body: Option<Mark>) -> bool {
        self.tail == tail || body.is_some_and(|body| self.tail == tail.with(body))
    }
}

/// Partitions that vanished, by the mark of their first bytes (see [`Fingerprint::of`]). About 48 bytes each, at most `source.remember_max`, for `source.remember`.
pub type Remembered = BTreeMap<Mark, Fingerprint>;

/// The spans of all partitions since the last commit: what the next record says of the source.
///
/// A partition that did not move keeps an empty span, so that every position is known here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offsets {
    spans: BTreeMap<PartitionId, Span>,
    notes: Vec<(PartitionId, Note)>,
    remembered: Arc<Remembered>,
}

impl Offsets {
    /// Takes spans as a record holds them.
    pub fn from_spans(spans: impl IntoIterator<Item = (PartitionId, Span)>) -> Self {
        Self { spans: spans.into_iter().collect(), ..Self::default() }
    }

    /// Adds the partitions that vanished before.
    pub fn with_remembered(self, remembered: Arc<Remembered>) -> Self {
        Self { remembered, ..self }
    }

    /// Returns the spans in the order of their ids.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = (&PartitionId, &Span)> {
        self.spans.iter()
    }

    /// Returns what the source noted since the last commit, in its order.
    pub fn notes(&self) -> &[(PartitionId, Note)] {
        &self.notes
    }

    /// Returns the partitions that vanished before.
    pub fn remembered(&self) -> &Arc<Remembered> {
        &self.remembered
    }

    /// Returns where reading of `partition` goes on; `None` if it is unknown.
    pub fn next_offset(&self, partition: &PartitionId) -> Option<u64> {
        self.spans.get(partition).map(|span| span.to)
    }

    /// Returns what stands right before the next offset of `partition`.
    pub fn evidence(&self, partition: &PartitionId) -> Option<&Arc<Evidence>> {
        self.spans.get(partition)?.evidence.as_ref()
    }

    /// Returns what messages call `partition`; `None` if it is unknown.
    pub fn label(&self, partition: &PartitionId) -> Option<&str> {
        self.spans.get(partition).map(|span| &*span.label)
    }

    /// Returns whether there is anything to record: an idle interval makes no record.
    pub fn moved(&self) -> bool {
        !self.notes.is_empty() || self.spans.values().any(|span| !span.unchanged)
    }

    /// Returns whether a partition ends amid what its source read at once: what the next start could not find again must not be recorded.
    pub fn is_cut(&self) -> bool {
        self.spans.values().any(|span| span.is_cut)
    }

    /// Appends a range.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Internal`] if it does not begin where the partition's span ends: something was lost or doubled
    /// on the way, and committing it would make that permanent.
    pub fn extend(&mut self, range: &OffsetRange) -> Result<()> {
        let OffsetRange { partition, from, to, evidence, is_cut, notes } = range;
        if to < from {
            return Err(Error::internal(format!("offsets of {} run backwards: [{from}, {to})", partition.label)));
        }
        let span = self.spans.entry(partition.id.clone()).or_insert_with(|| Span {
            new: true,
            unchanged: false,
            ..Span::standing(partition.label.clone(), *from, None)
        });
        if span.to != *from {
            return Err(Error::internal(format!("offsets of {} do not join: expected {}, got [{from}, {to})", partition.label, span.to)));
        }
        if to > from || evidence.is_some() {
            span.evidence.clone_from(evidence);
            span.is_cut = *is_cut;
            span.unchanged = false;
        }
        span.to = *to;
        span.label = partition.label.clone();
        span.vanished = false;
        for note in notes {
            span.vanished |= note.kind == NoteKind::Vanished;
            span.unchanged = false;
            self.notes.push((partition.id.clone(), note.clone()));
        }
        Ok(())
    }

    /// Returns what the next checkpoint starts from: every span empty, at its end; without those that vanished.
    pub fn committed(&self) -> Self {
        let kept = self.spans.iter().filter(|(_, span)| !span.vanished);
        let advance = |span: &Span| Span::standing(span.label.clone(), span.to, span.evidence.clone());
        let spans = kept.map(|(id, span)| (id.clone(), advance(span))).collect();
        Self { spans, notes: Vec::new(), remembered: self.remembered.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: u64, to: u64) -> OffsetRange {
        OffsetRange::new(Arc::new(Partition { id: PartitionId::new("p"), label: "p".into() }), from, to)
    }

    #[test]
    fn a_gap_and_an_overlap_are_refused() {
        let mut offsets = Offsets::default();
        offsets.extend(&range(0, 10)).unwrap();
        assert!(offsets.extend(&range(11, 12)).is_err());
        assert!(offsets.extend(&range(9, 12)).is_err());
        offsets.extend(&range(10, 12)).unwrap();
        assert_eq!(offsets.next_offset(&PartitionId::new("p")), Some(12));
    }

    #[test]
    fn a_committed_partition_stands_still_until_it_moves() {
        let mut offsets = Offsets::default();
        offsets.extend(&range(0, 10)).unwrap();
        let mut offsets = offsets.committed();
        assert!(!offsets.moved());
        offsets.extend(&range(10, 11)).unwrap();
        assert!(offsets.moved());
        assert!(offsets.spans().all(|(_, span)| !span.new && span.from == 10));
    }

    fn evidence(end: u64) -> Arc<Evidence> {
        Arc::new(Evidence { end: Some(end), ..Evidence::default() })
    }

    #[test]
    fn evidence_belongs_to_the_end_of_a_span_and_one_that_stands_still_keeps_it() {
        let p = PartitionId::new("p");
        let mut offsets = Offsets::default();
        offsets.extend(&range(0, 10).with_evidence(evidence(1))).unwrap();
        let mut offsets = offsets.committed();
        assert_eq!(offsets.evidence(&p), Some(&evidence(1)));
        assert!(!offsets.moved());
        let mut whole = range(10, 20).with_evidence(evidence(2)).with_note(note(NoteKind::Moved));
        let front = whole.split_off_front(15);
        assert_eq!((front.to, front.notes.len(), front.evidence.is_some()), (15, 1, false));
        offsets.extend(&front).unwrap();
        assert_eq!(offsets.evidence(&p), None, "nothing is known of what stands before 15");
        assert!(offsets.is_cut());
        offsets.extend(&whole).unwrap();
        assert_eq!(offsets.evidence(&p), Some(&evidence(2)));
        assert!(!offsets.is_cut());
        assert_eq!(offsets.notes().len(), 1);
    }

    #[test]
    fn ranges_that_are_joined_have_the_evidence_of_the_last_and_the_notes_of_all() {
        let mut joined = range(0, 10).with_evidence(evidence(1)).with_note(note(NoteKind::Moved));
        joined.join(&range(10, 10).with_note(note(NoteKind::Gap)));
        assert_eq!((joined.evidence.clone(), joined.notes.len()), (Some(evidence(1)), 2));
        joined.join(&range(10, 20).with_evidence(evidence(2)));
        assert_eq!((joined.from, joined.to, joined.evidence.clone()), (0, 20, Some(evidence(2))));
        joined.join(&range(20, 21));
        assert_eq!(joined.evidence, None, "nothing is known of what stands before 21");
    }

    fn note(kind: NoteKind) -> Note {
        Note { kind, text: "said".into(), lost: None }
    }

    #[test]
    fn a_note_or_new_evidence_is_recorded_although_nothing_was_read() {
        let mut read = Offsets::default();
        read.extend(&range(0, 10)).unwrap();
        let committed = read.committed();
        for range in [range(10, 10).with_evidence(evidence(1)), range(10, 10).with_note(note(NoteKind::CannotBeSeen))] {
            let mut offsets = committed.clone();
            offsets.extend(&range).unwrap();
            assert!(offsets.moved() && !offsets.committed().moved(), "{range:?}");
        }
        let mut offsets = committed;
        offsets.extend(&range(10, 10)).unwrap();
        assert!(!offsets.moved());
    }

    #[test]
    fn a_partition_that_vanished_is_forgotten_with_the_commit_unless_it_came_back_before() {
        let mut offsets = Offsets::default();
        offsets.extend(&range(0, 10)).unwrap();
        offsets.extend(&range(10, 10).with_note(note(NoteKind::Vanished))).unwrap();
        assert_eq!(offsets.committed().spans().len(), 0);
        offsets.extend(&range(10, 11)).unwrap();
        assert_eq!(offsets.committed().spans().len(), 1);
    }
}
