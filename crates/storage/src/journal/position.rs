//! The journal held against the commit records.
//!
//! Owns: what a commit record says of the journal (its *evidence*), and whether a journal is the one that it speaks of.
//! Does not own: the judgement of a position (see [`pintail_core::evidence::judge`]), reading the segments (see `open`).
//!
//! A record says what the running hash was behind the last request that was read, and at the journal's durable end at that moment, each as
//! an HMAC, and where that end lay (segment and byte). The hash follows from what was accepted and from nothing else: it stays the same
//! when segments are copied, begun and removed.

use pintail_core::evidence::{Evidence, Key, Look, Mark, Seen, Verdict, Why, Witness, judge};

use super::reader::Recorded;
use super::running::Running;
use super::shared::Durable;

/// Makes the evidence for a commit that ends within or behind `read`.
pub fn evidence(key: &Key, read: Option<&Recorded>, durable: &Durable) -> Evidence {
    let witness = |from, to, running: Running| Witness { from, to, time: None, epoch: None, mark: running.mark(key, to) };
    let read = read.filter(|read| read.lost.is_none() && read.end() < durable.offset);
    let read = read.and_then(|read| Some(witness(read.offset, read.end(), read.running?)));
    let end = witness(durable.offset.saturating_sub(1), durable.offset, durable.running);
    Evidence {
        place: Some(format!("{}:{}", durable.segment, durable.bytes).into()),
        end: Some(durable.offset),
        witnesses: read.into_iter().chain([end]).collect(),
        ..Evidence::default()
    }
}

/// Looks at the places of witnesses while the journal is scanned.
#[derive(Debug)]
pub struct Watch<'a> {
    key: &'a Key,
    evidence: Option<&'a Evidence>,
    seen: Vec<Seen>,
}

/// What contradicts the commit records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contradiction {
    /// The journal ends too early: what was accepted up to there is missing.
    Ends {
        /// Where it should end at least.
        end: u64,
    },
    /// Something else was accepted from there on.
    Differs {
        /// The offset.
        at: u64,
    },
    /// The end of a segment is missing that holds no records, but keys.
    Keys {
        /// The segment.
        segment: u64,
        /// Bytes of it that were durable.
        bytes: u64,
    },
}

impl<'a> Watch<'a> {
    /// Begins to look.
    pub fn new(key: &'a Key, evidence: Option<&'a Evidence>) -> Self {
        let witnesses = evidence.map_or(0, |evidence| evidence.witnesses.len());
        Self { key, evidence, seen: vec![Seen::Gone; witnesses] }
    }

    /// Records that the running hash is this one at an offset.
    pub fn stand(&mut self, offset: u64, running: Option<Running>) {
        let Some(evidence) = self.evidence else { return };
        for (witness, seen) in evidence.witnesses.iter().zip(&mut self.seen) {
            if witness.to == offset {
                let present = |running: Running| Seen::Present { mark: running.mark(self.key, offset), time: None, epoch: None };
                *seen = running.map_or(Seen::Gone, present);
            }
        }
    }

    /// Records that a request lies between two offsets: nothing ever ended within.
    pub fn pass(&mut self, from: u64, to: u64) {
        let Some(evidence) = self.evidence else { return };
        for (witness, seen) in evidence.witnesses.iter().zip(&mut self.seen) {
            if from < witness.to && witness.to < to {
                *seen = Seen::Present { mark: Mark([0; 16]), time: None, epoch: None };
            }
        }
    }

    /// Returns whether something else was accepted than the record says, as far as it was looked at.
    pub fn differs(&self) -> bool {
        let witnesses = self.evidence.iter().flat_map(|evidence| &evidence.witnesses);
        witnesses.zip(&self.seen).any(|(witness, seen)| matches!(seen, Seen::Present { mark, .. } if *mark != witness.mark))
    }

    /// Judges a journal that was looked at: it ends at offset `end`, its newest segment is this one, with so many bytes that are whole.
    pub fn judge(&self, committed: u64, end: u64, (segment, bytes): (u64, u64)) -> Result<(), Contradiction> {
        let look = Look { place: None, end: Some(end), seen: &self.seen, newest_before: None };
        let stood = self.evidence.iter().flat_map(|evidence| &evidence.witnesses).map(|witness| witness.to).max();
        match judge(committed, self.evidence, &look) {
            Verdict::Other(Why::Differs { at } | Why::Disowned { at }) => Err(Contradiction::Differs { at }),
            Verdict::Other(Why::Shorter { .. } | Why::Younger) => Err(Contradiction::Ends { end: committed.max(stood.unwrap_or(0)) }),
            Verdict::Same | Verdict::Moved | Verdict::CannotBeSeen => match self.evidence.and_then(place) {
                Some((was, had)) if segment < was || (segment == was && bytes < had) => {
                    Err(Contradiction::Keys { segment: was, bytes: had })
                }
                _ => Ok(()),
            },
        }
    }
}

/// Returns the newest segment at the time of a record.
pub fn newest_segment(evidence: &Evidence) -> Option<u64> {
    place(evidence).map(|(segment, _)| segment)
}

/// Returns the newest segment at the time of a record, and its length.
fn place(evidence: &Evidence) -> Option<(u64, u64)> {
    let (segment, bytes) = evidence.place.as_deref()?.split_once(':')?;
    Some((segment.parse().ok()?, bytes.parse().ok()?))
}
