//! Positions in the source.
//!
//! Owns: what a source partition is, half-open ranges of it, and whether ranges join without gap or overlap.
//! Does not own: what an offset counts (bytes, records, sequence numbers: the source says), nor where offsets are kept
//! (see `checkpoint::record`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};

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

/// The half-open range `[from, to)` of one source partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetRange {
    /// The partition that the range lies in.
    pub partition: Arc<Partition>,
    /// First offset in the range.
    pub from: u64,
    /// First offset behind the range.
    pub to: u64,
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
}

/// The spans of all partitions since the last commit: what the next record says of the source.
///
/// A partition that did not move keeps an empty span, so the last record alone tells every position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offsets {
    spans: BTreeMap<PartitionId, Span>,
}

impl Offsets {
    /// Takes up spans as a record holds them.
    pub fn from_spans(spans: impl IntoIterator<Item = (PartitionId, Span)>) -> Self {
        Self { spans: spans.into_iter().collect() }
    }

    /// Returns the spans in the order of their ids.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = (&PartitionId, &Span)> {
        self.spans.iter()
    }

    /// Returns where reading of `partition` goes on; `None` if it is unknown.
    pub fn next_offset(&self, partition: &PartitionId) -> Option<u64> {
        self.spans.get(partition).map(|span| span.to)
    }

    /// Returns what messages call `partition`; `None` if it is unknown.
    pub fn label(&self, partition: &PartitionId) -> Option<&str> {
        self.spans.get(partition).map(|span| &*span.label)
    }

    /// Returns whether any span is not empty: an idle interval makes no record.
    pub fn moved(&self) -> bool {
        self.spans.values().any(|span| span.to > span.from)
    }

    /// Appends a range.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Internal`] if it does not begin where the partition's span ends: something was lost or doubled
    /// on the way, and committing it would make that permanent.
    pub fn extend(&mut self, range: &OffsetRange) -> Result<()> {
        if range.to < range.from {
            return Err(Error::internal(format!("offsets of {} run backwards: [{}, {})", range.partition.label, range.from, range.to)));
        }
        let span = self.spans.entry(range.partition.id.clone()).or_insert_with(|| Span {
            label: range.partition.label.clone(),
            from: range.from,
            to: range.from,
            new: true,
        });
        if span.to != range.from {
            return Err(Error::internal(format!(
                "offsets of {} do not join: expected {}, got [{}, {})",
                range.partition.label, span.to, range.from, range.to
            )));
        }
        span.to = range.to;
        span.label = range.partition.label.clone();
        Ok(())
    }

    /// Returns what the next checkpoint starts from: every span empty, at its end.
    pub fn committed(&self) -> Self {
        let advance = |span: &Span| Span { label: span.label.clone(), from: span.to, to: span.to, new: false };
        Self { spans: self.spans.iter().map(|(id, span)| (id.clone(), advance(span))).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: u64, to: u64) -> OffsetRange {
        OffsetRange { partition: Arc::new(Partition { id: PartitionId::new("p"), label: "p".into() }), from, to }
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
}
