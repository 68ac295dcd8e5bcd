//! Resume: what becomes of what was found out before reading goes on.
//!
//! Each source resumes in the same three steps: it gathers facts (what stands where it read), a pure plan says what they mean and where reading
//! goes on (with [`pintail_core::evidence::judge`]), and that is carried out. What the plan finds is [`Finding`], whatever the source.
//!
//! Owns: what `source.on_gap` makes of a gap, the line of the log, the note in the next commit record ([`OnGap::meet`]), and the chunk that carries
//! it there ([`carried`]).
//! Does not own: the facts and the plans, which differ as the sources do: `file::plan`, `nats::plan`, `kafka::position`.

use std::sync::Arc;

use pintail_core::batch::{Chunk, OffsetUnit};
use pintail_core::error::{Error, Result};
use pintail_core::evidence::Evidence;
use pintail_core::invocation::service_command;
use pintail_core::offsets::{Note, NoteKind, OffsetRange, Partition};
use pintail_settings::Section;
use tracing::warn;

/// `source.on_gap`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnGap {
    /// Stop with an error that names the file.
    Refuse,
    /// Log a warning, record the file's new identity and go on.
    Record,
}

/// What was found out about a position.
#[derive(Debug)]
pub(crate) enum Finding {
    /// What cannot be read any more, or is not what it was.
    Gap(Gap),
    /// What is no gap, and is said once.
    Remark {
        /// What it is.
        kind: NoteKind,
        /// What is logged and noted.
        text: String,
    },
}

/// What cannot be read any more, or is not what it was.
#[derive(Debug)]
pub(crate) struct Gap {
    /// What was found, beginning with where.
    pub(crate) found: String,
    /// Where reading goes on if it is let pass, and at what price.
    pub(crate) then: String,
    /// What is noted of it.
    pub(crate) noted: String,
    /// How much is surely lost, if that is known.
    pub(crate) lost: Option<u64>,
}

impl OnGap {
    /// Reads the key.
    pub(crate) fn read(section: &mut Section<'_>) -> Self {
        section.choice("on_gap", "refuse", &[("refuse", Self::Refuse), ("record", Self::Record)])
    }

    /// Returns the note of what was found of `partition`, and logs it.
    ///
    /// # Errors
    /// `State` if it is a gap and gaps are refused.
    pub(crate) fn meet(self, partition: &str, finding: Finding) -> Result<Note> {
        let Gap { found, then, noted, lost } = match finding {
            Finding::Gap(gap) => gap,
            Finding::Remark { kind, text } => {
                match kind {
                    NoteKind::Accepted => tracing::info!(partition, "{text}"),
                    _ => warn!(partition, "{text}"),
                }
                return Ok(Note { kind, text, lost: None });
            }
        };
        match self {
            Self::Refuse => Err(Error::state(format!(
                "{found}: refusing to go on; with `source.on_gap = \"record\"`, or once with {}, {then}",
                service_command("run --accept")
            ))),
            Self::Record => {
                warn!(lost, "{found}: {then}");
                Ok(Note { kind: NoteKind::Gap, text: noted, lost })
            }
        }
    }
}

/// Returns the chunk that carries notes from `from` to the next commit record, and what stands before the position `to` then. Nothing was read in it.
pub(crate) fn carried(
    partition: Arc<Partition>,
    (from, to): (u64, u64),
    unit: OffsetUnit,
    evidence: Option<Arc<Evidence>>,
    notes: Vec<Note>,
) -> Chunk {
    Chunk::empty(OffsetRange { evidence, notes, ..OffsetRange::new(partition, from, to) }, unit)
}

#[cfg(test)]
mod tests {
    use pintail_core::error::ErrorKind;

    use super::*;

    #[test]
    fn a_gap_is_refused_with_the_way_out_or_noted() {
        let gap = || Finding::Gap(Gap { found: "`a` is gone".into(), then: "`b` is read".into(), noted: "gone".into(), lost: Some(5) });
        let refused = OnGap::Refuse.meet("a", gap()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::State);
        assert!(["`a` is gone", "on_gap", "--accept", "`b` is read"].iter().all(|part| refused.to_string().contains(part)), "{refused}");
        let Note { kind, text, lost } = OnGap::Record.meet("a", gap()).unwrap();
        assert_eq!((kind, &*text, lost), (NoteKind::Gap, "gone", Some(5)));
    }
}
