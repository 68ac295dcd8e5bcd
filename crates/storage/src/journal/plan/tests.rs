use pintail_core::error::ErrorKind;

use super::super::position::Watch;
use super::super::segment::Previous;
use super::super::tests::{DATASET, settings};
use super::*;

fn now() -> Reading {
    Reading { boot: 1, up_ms: 1000, wall_ms: 1_000_000 }
}

fn header(segment: u64, first_offset: u64, previous: Option<(u64, u64)>) -> Header {
    let previous = previous.map(|(segment, bytes)| Previous { segment, bytes });
    Header::new(DATASET, segment, first_offset, previous, Running::from(DATASET, first_offset), Stamp::first(now()))
}

/// A segment of 500 bytes with one frame that holds the records up to `offset`.
fn scanned(header: Header, offset: u64, ending: Ending) -> (Link, Scanned) {
    let (running, stamp) = (Some(Running::from(DATASET, offset)), header.begun);
    let link = Link { header: header.clone(), end: 500, bytes: 500, newest: true };
    (link, Scanned { header, end: 500, offset, running, frames: 1, length: 100, keyed: vec![], stamp, ending })
}

/// Plans for segments of 500 bytes.
fn planned(files: &[u64], scanned: Vec<(Link, Scanned)>, is_gone: bool, committed: Option<u64>) -> Result<Plan> {
    let (settings, committed) = (settings("/".as_ref()), Committed::from(committed));
    let files = files.iter().map(|number| (*number, 500)).collect();
    let watch = Watch::new(&settings.key, None);
    plan(&settings, &committed, Facts { files, in_progress: vec!["/journal/x".into()], is_gone, scanned, watch, now: now() })
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T>, part: &str) {
    let error = result.unwrap_err();
    assert!(error.kind() == ErrorKind::State && error.to_string().contains(part), "{error}");
}

#[test]
fn without_a_segment_one_is_begun_unless_something_says_that_there_was_one() {
    for (is_gone, committed) in [(false, None), (false, Some(0)), (true, None), (false, Some(5)), (true, Some(5))] {
        let plan = planned(&[], vec![], is_gone, committed);
        if is_gone || committed == Some(5) {
            refused(plan, "has no segment");
            continue;
        }
        let plan = plan.unwrap();
        assert_eq!((plan.new.header.segment, plan.new.offset, plan.new.copied.is_some()), (1, 0, false));
        assert_eq!((plan.kept.len(), plan.replaced.len(), plan.in_progress.len()), (0, 0, 1));
    }
}

#[test]
fn the_newest_segment_is_copied_up_to_its_torn_end_and_what_does_not_count_goes() {
    let segments =
        || vec![scanned(header(3, 0, Some((1, 300))), 10, Ending::Whole), scanned(header(4, 10, Some((3, 500))), 15, Ending::Torn(7))];
    let plan = planned(&[2, 3, 4], segments(), false, Some(12)).unwrap();
    let Replacement { header, copied, offset, .. } = plan.new;
    assert_eq!((header.segment, header.first_offset, header.previous, offset), (5, 10, Some(Previous { segment: 3, bytes: 500 }), 15));
    assert_eq!((header.copied, copied.map(|copied| (copied.segment, copied.end, copied.frames))), (100 + HEADER as u64, Some((4, 500, 1))));
    assert_eq!(plan.torn.map(|torn| (torn.at, torn.bytes)), Some((500, 7)));
    assert_eq!(plan.kept.iter().map(|extent| extent.segment).collect::<Vec<_>>(), [3]);
    let settings = settings("/".as_ref());
    assert_eq!(plan.replaced, [2, 4].map(|number| segment::path(&settings.dir, number)));

    // Killed before what was replaced is gone: the copy is the newest then, and is copied again.
    let copy = Header { previous: Some(Previous { segment: 3, bytes: 500 }), ..self::header(5, 10, None) };
    let again = vec![segments().swap_remove(0), scanned(copy, 15, Ending::Whole)];
    let plan = planned(&[3, 4, 5], again, false, Some(12)).unwrap();
    assert_eq!((plan.new.header.segment, plan.new.offset), (6, 15));
    assert_eq!(plan.replaced, [4, 5].map(|number| segment::path(&settings.dir, number)));
}

#[test]
fn what_is_not_whole_or_does_not_join_is_refused_and_nothing_is_planned() {
    let one = |ending| vec![scanned(header(1, 0, None), 10, ending)];
    let damaged = || Ending::Damaged(BadFrame { at: 200, why: "flipped".into() }, 4);
    refused(planned(&[1], one(damaged()), false, None), "flipped");
    refused(planned(&[1], one(Ending::Followed), false, None), "another segment follows");
    refused(planned(&[1], one(Ending::Whole), false, Some(11)), "ends at offset 10");
    let late = vec![scanned(header(2, 10, Some((1, 500))), 20, Ending::Whole)];
    refused(planned(&[2], late, false, Some(9)), "begins at offset 10");
    let apart = vec![scanned(header(1, 0, None), 10, Ending::Whole), scanned(header(2, 11, Some((1, 500))), 20, Ending::Whole)];
    refused(planned(&[1, 2], apart, false, None), "begins at offset 11, the one before it ends at 10");
    let mut other = header(2, 10, Some((1, 500)));
    other.running = Some(Running::from("other", 10));
    let other = vec![scanned(header(1, 0, None), 10, Ending::Whole), scanned(other, 20, Ending::Whole)];
    refused(planned(&[1, 2], other, false, None), "follows other records");
}
