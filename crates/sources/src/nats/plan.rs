//! Plan: what a look at a stream means for a position that is known in it. Pure.
//!
//! Owns: where reading goes on, and what is to be said of that.
//! Does not own: the look (see `check`), carrying it out (see `reader`), what a gap leads to (see [`crate::resume`]).

use std::sync::Arc;

use pintail_core::evidence::Evidence;
use pintail_core::offsets::NoteKind;

use super::check::{Begins, Checked, Restored, Standing};
use super::position::{Position, Positions, StreamGap};
use crate::resume::{Finding, Gap};

/// What a look at the stream shows.
#[derive(Debug)]
pub(super) struct Facts {
    /// Whether what was read stands before the position.
    pub(super) checked: Checked,
    /// The earlier generations that were read further than what surely stands, and whether what was read of each stands in the stream again.
    pub(super) earlier: Vec<(Position, Standing)>,
    /// What stands before the position; `None` if there is evidence already.
    pub(super) found: Option<Evidence>,
}

/// What was found out about a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StreamFinding {
    /// What was read stands there no more.
    Gap(StreamGap),
    /// The stream is again what was read up to `begin`, before an older state was restored.
    Returned { next: u64, begin: u64 },
    /// Nothing that was read last can be seen any more, and nothing contradicts the position.
    Unseen { next: u64 },
    /// The position had no evidence yet.
    Accepted { next: u64 },
}

impl StreamFinding {
    /// Says it of a stream. `is_filtered`: not all of its subjects are read.
    pub(super) fn found(&self, stream: &str, is_filtered: bool) -> Finding {
        let (kind, text) = match self {
            Self::Gap(gap) => {
                let found = format!("the stream `{stream}` {gap}");
                let noted = format!("{found}: going on with what is there");
                // Under a filter, what was removed may have been others'.
                let lost = gap.lost().filter(|_| !is_filtered);
                return Finding::Gap(Gap { found, then: "reading goes on with what is there".into(), noted, lost });
            }
            Self::Returned { next, begin } => (
                NoteKind::Moved,
                format!(
                    "the stream `{stream}` is again what was read up to sequence {} before an older state of it was restored: reading goes on \
                     there instead of at {next}",
                    begin - 1
                ),
            ),
            Self::Unseen { next } => (
                NoteKind::CannotBeSeen,
                format!("of what was read last before {next}, the stream `{stream}` has nothing any more, and nothing contradicts it"),
            ),
            Self::Accepted { next } => {
                (NoteKind::Accepted, format!("the position {next} in the stream `{stream}` has no evidence yet: accepted"))
            }
        };
        Finding::Remark { kind, text }
    }
}

/// Returns the last sequence behind which an earlier generation may tell more than what stands.
pub(super) fn surely(checked: &Checked, next: u64) -> u64 {
    match checked {
        Checked::Other(restored) => restored.common + 1,
        Checked::Same | Checked::CannotBeSeen(_) => next,
    }
}

/// Returns where reading goes on, and what is to be said of it.
pub(super) fn plan(positions: &Positions, position: Position, facts: Facts) -> (Position, Option<StreamFinding>) {
    let Facts { checked, earlier, found } = facts;
    let next = position.next;
    let of = |standing| earlier.iter().filter(move |(_, stands)| *stands == standing).map(|(earlier, _)| earlier);
    // Of those that surely stand the one farthest on. Of those that may, the one least far: behind it lies what nobody has read, if it is that one.
    let standing = of(Standing::Surely).max_by_key(|earlier| earlier.next);
    let possible = of(Standing::Possibly).min_by_key(|earlier| earlier.next);
    let other = |restored| Some(StreamFinding::Gap(StreamGap::PutBack { restored, next }));
    let with = |evidence: Arc<Evidence>| Position { evidence: Some(evidence), ..position.clone() };
    match (checked, standing) {
        (Checked::Other(restored), Some(earlier)) => {
            let restored = Restored { next: earlier.next, begins: Begins::Known, ..restored };
            (positions.going_on(&position, earlier), other(restored))
        }
        (Checked::Other(restored), None) => {
            let restored = match possible.filter(|earlier| earlier.next < restored.next) {
                Some(earlier) => {
                    let evidence = earlier.evidence.clone().unwrap_or_default();
                    Restored { next: earlier.next, begins: Begins::Somewhere, evidence, ..restored }
                }
                None => restored,
            };
            (positions.behind(&position, restored.next, restored.evidence.clone()), other(restored))
        }
        (_, Some(earlier)) => (positions.going_on(&position, earlier), Some(StreamFinding::Returned { next, begin: earlier.next })),
        (Checked::Same, None) => match found {
            None => (position, None),
            Some(evidence) => (with(evidence.into()), Some(StreamFinding::Accepted { next })),
        },
        (Checked::CannotBeSeen(evidence), None) => (with(evidence.into()), Some(StreamFinding::Unseen { next })),
    }
}

#[cfg(test)]
mod tests {
    use pintail_core::evidence::Why;
    use pintail_core::offsets::Offsets;

    use super::*;

    const MADE: &str = "2026-01-01T00:00:00.123456789Z";

    fn positions() -> Positions {
        Positions::new("EVENTS", &Offsets::default()).unwrap()
    }

    fn at(next: u64) -> Position {
        positions().first(MADE, next, Evidence { end: Some(next), ..Evidence::default() })
    }

    fn other(common: u64, next: u64) -> Checked {
        let why = Why::Shorter { end: common + 1 };
        Checked::Other(Restored { why, common, next, begins: Begins::ByTime, evidence: Arc::default() })
    }

    /// Plans for a position at 100: the generation that goes on, where, and what is said.
    fn planned(checked: Checked, earlier: &[(u64, Standing)]) -> (String, u64, Option<StreamFinding>) {
        let earlier = earlier.iter().map(|(next, standing)| (at(*next), *standing)).collect();
        let (position, finding) = plan(&positions(), at(100), Facts { checked, earlier, found: None });
        let generation = position.partition.id.as_str().split_once(MADE).unwrap().1.to_owned();
        (generation, position.next, finding)
    }

    #[test]
    fn what_stands_goes_on_and_what_cannot_be_seen_is_said() {
        assert_eq!(planned(Checked::Same, &[(200, Standing::Not)]), ("".into(), 100, None));
        let unseen = Checked::CannotBeSeen(Evidence::default());
        assert_eq!(planned(unseen, &[]), ("".into(), 100, Some(StreamFinding::Unseen { next: 100 })));
        let facts = Facts { checked: Checked::Same, earlier: Vec::new(), found: Some(Evidence::default()) };
        let (position, finding) = plan(&positions(), at(100), facts);
        assert_eq!((position.evidence, finding), (Some(Arc::default()), Some(StreamFinding::Accepted { next: 100 })));
    }

    #[test]
    fn of_earlier_generations_that_stand_again_the_farthest_goes_on() {
        let earlier = [(150, Standing::Surely), (200, Standing::Surely), (300, Standing::Possibly)];
        assert_eq!(planned(Checked::Same, &earlier), ("#1=0".into(), 200, Some(StreamFinding::Returned { next: 100, begin: 200 })));
        let (generation, next, finding) = planned(other(50, 51), &earlier);
        assert_eq!((generation.as_str(), next), ("#1=0", 200));
        assert!(matches!(
            finding,
            Some(StreamFinding::Gap(StreamGap::PutBack { restored: Restored { begins: Begins::Known, next: 200, .. }, next: 100 }))
        ));
    }

    #[test]
    fn what_may_stand_again_holds_reading_back_and_never_sends_it_on() {
        let begins = |earlier: &[(u64, Standing)]| match planned(other(50, 80), earlier) {
            (generation, next, Some(StreamFinding::Gap(StreamGap::PutBack { restored, .. }))) => (generation, next, restored.begins),
            planned => panic!("{planned:?}"),
        };
        assert_eq!(begins(&[]), ("#1".into(), 80, Begins::ByTime));
        assert_eq!(begins(&[(70, Standing::Possibly), (60, Standing::Possibly)]), ("#1".into(), 60, Begins::Somewhere));
        assert_eq!(begins(&[(90, Standing::Possibly)]), ("#1".into(), 80, Begins::ByTime));
    }
}
