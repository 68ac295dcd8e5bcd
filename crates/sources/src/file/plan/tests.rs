use proptest::prelude::*;

use super::*;
use crate::file::identity::Inode;

fn place(number: u64, born: Option<u64>) -> Place {
    Place { inode: Inode { device: 1, number }, born }
}

fn known(label: &str, number: u64, next: u64) -> KnownFile {
    KnownFile { label: label.into(), place: Some(place(number, Some(number))), next, end: None, shares_name: false, holder: Holder::Wanted }
}

fn file(label: &str, number: u64, pairs: &[Pair]) -> SeenFile {
    let place = place(number, Some(number));
    SeenFile { label: label.into(), name: Name::Matches, place, empty: false, beginning: label.as_bytes().to_vec(), pairs: pairs.to_vec() }
}

fn pair(known: usize, verdict: Verdict) -> Pair {
    Pair { known, verdict, shares: false, edited: Edited::Maybe, prefix: false, whole: false }
}

const DIFFERS: Verdict = Verdict::Other(Why::Differs { at: 0 });
const SHORTER: Verdict = Verdict::Other(Why::Shorter { end: 5 });
const GOES_ON: Fate = Fate::GoesOn { known: 0, beyond: None };

fn decide(known: &[KnownFile], files: &[SeenFile]) -> Plan {
    plan(known, files, Copies::Skip)
}

#[test]
fn reading_goes_on_where_the_content_is_whatever_it_is_called() {
    let app = known("app.log", 1, 5000);
    for (what, files, fates) in [
        ("untouched", vec![file("app.log", 1, &[pair(0, Verdict::Same)])], vec![GOES_ON]),
        ("renamed", vec![file("app.log.1", 1, &[pair(0, Verdict::Same)])], vec![GOES_ON]),
        ("restored", vec![file("app.log", 2, &[pair(0, Verdict::Moved)])], vec![GOES_ON]),
        ("moved and compressed", vec![file("elsewhere.gz", 2, &[pair(0, Verdict::Moved)])], vec![GOES_ON]),
        (
            "rotated, the name taken again",
            vec![file("app.log", 2, &[pair(0, DIFFERS)]), file("app.log.1", 1, &[pair(0, Verdict::Same)])],
            vec![Fate::New, GOES_ON],
        ),
        (
            "copied, then truncated",
            vec![file("app.log", 1, &[pair(0, SHORTER)]), file("app.log.1", 2, &[pair(0, Verdict::Moved)])],
            vec![Fate::New, GOES_ON],
        ),
        (
            "copied",
            vec![file("app.log", 1, &[pair(0, Verdict::Same)]), file("app.log.1", 2, &[pair(0, Verdict::Moved)])],
            vec![GOES_ON, Fate::Copy { of: 0 }],
        ),
        (
            "copied twice, then deleted",
            vec![file("app.log.1", 2, &[pair(0, Verdict::Moved)]), file("app.log", 3, &[pair(0, Verdict::Moved)])],
            vec![Fate::Copy { of: 0 }, GOES_ON],
        ),
    ] {
        assert_eq!(decide(std::slice::from_ref(&app), &files), Plan { fates, losses: Vec::new() }, "{what}");
    }
}

#[test]
fn a_position_that_no_file_holds_is_a_gap_only_if_something_may_be_lost() {
    let app = known("app.log", 1, 5000);
    let unread = KnownFile { end: Some(6000), ..app.clone() };
    let bare = KnownFile { place: Some(place(1, None)), ..app.clone() };
    let edited = Pair { shares: true, ..pair(0, DIFFERS) };
    let rewritten = |why| Loss::Rewritten { file: 0, why };
    for (what, known, files, loss) in [
        ("deleted after it was read", app.clone(), vec![], Loss::Vanished),
        ("deleted with unread bytes", unread.clone(), vec![], Loss::Unread { end: 6000 }),
        ("deleted, its name taken by another", app.clone(), vec![file("app.log", 2, &[pair(0, DIFFERS)])], Loss::Replaced { file: 0 }),
        ("deleted with unread bytes, its name taken", unread, vec![file("app.log", 2, &[pair(0, DIFFERS)])], Loss::Unread { end: 6000 }),
        ("truncated", app.clone(), vec![file("app.log", 1, &[pair(0, SHORTER)])], rewritten(Why::Shorter { end: 5 })),
        ("rewritten", app.clone(), vec![file("app.log", 1, &[pair(0, DIFFERS)])], rewritten(Why::Differs { at: 0 })),
        ("renamed and rewritten", app.clone(), vec![file("b.log", 1, &[pair(0, DIFFERS)])], rewritten(Why::Differs { at: 0 })),
        ("edited and put in its place", app.clone(), vec![file("app.log", 2, &[edited])], rewritten(Why::Differs { at: 0 })),
        ("another with the same banner", app.clone(), vec![file("b.log", 2, &[edited])], Loss::Vanished),
        (
            "its inode taken again",
            app,
            vec![SeenFile { place: place(1, Some(77)), ..file("app.log", 1, &[pair(0, DIFFERS)]) }],
            Loss::Replaced { file: 0 },
        ),
        ("its inode taken under another name, ages unknown", bare.clone(), vec![file("b.log", 1, &[pair(0, DIFFERS)])], Loss::Vanished),
        ("its inode under its name, ages unknown", bare, vec![file("app.log", 1, &[pair(0, DIFFERS)])], rewritten(Why::Differs { at: 0 })),
    ] {
        let plan = decide(&[known], &files);
        assert_eq!(plan.losses, [(0, loss)], "{what}");
        assert!(plan.fates.iter().all(|fate| *fate == Fate::New), "{what}");
    }
}

#[test]
fn an_open_file_without_a_name_is_over_only_if_an_edited_one_has_its_name() {
    let app = KnownFile { holder: Holder::Nameless, end: Some(6000), ..known("app.log", 1, 5000) };
    let edited = Pair { shares: true, ..pair(0, DIFFERS) };
    for (what, files, losses) in [
        ("deleted", vec![], vec![]),
        ("rotated away and deleted", vec![file("app.log", 2, &[pair(0, DIFFERS)])], vec![]),
        ("edited", vec![file("app.log", 2, &[edited])], vec![(0, Loss::Rewritten { file: 0, why: Why::Differs { at: 0 } })]),
        ("another with the same banner", vec![file("b.log", 2, &[edited])], vec![]),
    ] {
        assert_eq!(decide(std::slice::from_ref(&app), &files).losses, losses, "{what}");
    }
    assert_eq!(
        decide(std::slice::from_ref(&app), &[file("app.log", 2, &[pair(0, Verdict::Moved)])]).fates,
        [GOES_ON],
        "saved with more in it"
    );
    // A file and its copy that had more in it have changed places.
    let copied = known("b.log", 3, 4000);
    let longer = file("b.log", 4, &[pair(0, Verdict::Moved), pair(1, Verdict::Moved)]);
    let shorter = file("app.log", 5, &[Pair { shares: true, prefix: true, ..pair(0, SHORTER) }, pair(1, Verdict::Moved)]);
    let plan = decide(&[app, copied], &[longer, shorter]);
    // What it is a part of is over as such, and goes on in the other file.
    assert_eq!(plan.fates, [Fate::GoesOn { known: 1, beyond: Some(0) }, Fate::PartOf { of: 1 }]);
    assert_eq!(plan.losses, [(0, Loss::Elsewhere { file: 0 })]);
}

#[test]
fn a_file_that_is_open_as_another_one_and_took_the_name_of_one_that_begins_alike_is_not_that_one_edited() {
    let (app, other) = (known("app.log", 1, 5000), KnownFile { holder: Holder::Open, ..known("b.log", 2, 9000) });
    let alike = Pair { shares: true, edited: Edited::Yes, ..pair(0, DIFFERS) };
    let took = file("app.log", 2, &[alike, pair(1, Verdict::Same)]);
    let copy = file("app.log.1", 3, &[pair(0, Verdict::Moved)]);
    let plan = decide(&[app.clone(), other.clone()], &[took.clone(), copy]);
    assert_eq!(plan, Plan { fates: vec![Fate::Nothing, GOES_ON], losses: Vec::new() });
    assert_eq!(decide(&[app, other], &[took]).losses, [(0, Loss::Vanished)]);
}

#[test]
fn a_position_whose_content_is_in_a_file_that_is_open_already_is_over_and_that_is_read_by_nobody_else() {
    let open = KnownFile { holder: Holder::Open, ..known("app.log.zst", 2, 9000) };
    for (holder, losses) in [(Holder::Wanted, vec![(0, Loss::Elsewhere { file: 0 })]), (Holder::Nameless, vec![])] {
        let lost = KnownFile { holder, ..known("app.log", 1, 5000) };
        let plan = decide(&[lost, open.clone()], &[file("app.log.zst", 2, &[pair(0, Verdict::Moved), pair(1, Verdict::Same)])]);
        assert_eq!(plan, Plan { fates: vec![Fate::Nothing], losses });
    }
}

#[test]
fn a_name_that_another_known_file_has_is_not_taken_by_a_new_one() {
    let known = [known("app.log", 1, 5000), known("app.log", 2, 7000)].map(|known| KnownFile { shares_name: true, ..known });
    let plan = decide(&known, &[file("app.log", 2, &[pair(0, DIFFERS), pair(1, Verdict::Same)])]);
    assert_eq!(plan.losses, [(0, Loss::Vanished)]);
}

#[test]
fn a_few_lines_are_told_apart_by_their_name_as_well() {
    let short = known("app.log", 1, 20);
    for (label, fate) in [("app.log.1", GOES_ON), ("app.log.gz", GOES_ON), ("other.log", Fate::New)] {
        assert_eq!(decide(std::slice::from_ref(&short), &[file(label, 2, &[pair(0, Verdict::Moved)])]).fates, [fate], "{label}");
    }
}

#[test]
fn a_position_of_version_1_is_accepted_in_its_place_or_under_its_name_and_elsewhere_by_a_kilobyte() {
    let v1 = KnownFile { place: Some(place(1, None)), ..known("app.log", 1, 5000) };
    for (label, number, shares, fate) in [
        ("app.log", 2, false, GOES_ON),
        ("app.log.1", 2, false, GOES_ON),
        ("b.log", 1, false, GOES_ON),
        ("b.log", 2, true, GOES_ON),
        ("b.log", 2, false, Fate::New),
    ] {
        let seen = Pair { shares, ..pair(0, Verdict::CannotBeSeen) };
        let plan = decide(std::slice::from_ref(&v1), &[file(label, number, &[seen])]);
        assert_eq!(plan.fates, [fate], "{label} {number}");
    }
}

#[test]
fn a_copy_is_read_if_that_is_wanted_and_one_that_was_made_again_is_passed_over_up_to_its_original() {
    let files = [file("app.log", 1, &[pair(0, Verdict::Same)]), file("copy", 2, &[pair(0, Verdict::Moved), pair(1, Verdict::Same)])];
    let known = [known("app.log", 1, 9000), known("copy", 2, 5000)];
    assert_eq!(decide(&known, &files).fates, [GOES_ON, Fate::GoesOn { known: 1, beyond: Some(0) }]);
    assert_eq!(plan(&known, &files, Copies::Read).fates, [GOES_ON, Fate::GoesOn { known: 1, beyond: None }]);
    assert_eq!(plan(&known[..1], &[file("copy", 2, &[pair(0, Verdict::Moved)])], Copies::Read).fates, [GOES_ON], "it is no copy");
}

#[test]
fn a_position_whose_content_goes_on_under_another_one_is_over_without_a_gap() {
    let known = [KnownFile { end: Some(9500), ..known("app.log", 1, 9000) }, known("copy", 2, 5000)];
    let plan = decide(&known, &[file("copy", 2, &[pair(0, Verdict::Moved), pair(1, Verdict::Same)])]);
    assert_eq!(plan.fates, [Fate::GoesOn { known: 1, beyond: Some(0) }]);
    assert_eq!(plan.losses, [(0, Loss::Elsewhere { file: 0 })]);
}

#[test]
fn of_two_unknown_files_that_begin_alike_the_second_waits_for_the_first() {
    let with = |label: &str, head: &[u8]| SeenFile { beginning: head.to_vec(), ..file(label, 9, &[]) };
    let long = [b'x'; 1024];
    for (files, second) in [
        ([with("a.log", &long), with("b.log", &long)], Fate::After { other: 0 }),
        ([with("a.log", b"1\n"), with("a.log.gz", b"1\n2\n")], Fate::After { other: 0 }),
        ([with("a.log", b"1\n"), with("b.log", b"1\n")], Fate::New),
        ([with("a.log", b"1\n"), with("a.log.1", b"2\n")], Fate::New),
    ] {
        assert_eq!(decide(&[], &files).fates, [Fate::New, second]);
    }
}

#[test]
fn a_stranger_under_a_name_that_is_not_wanted_and_an_empty_file_are_left_alone() {
    let stranger = SeenFile { name: Name::Renamed, ..file("app.log.1", 2, &[pair(0, DIFFERS)]) };
    let empty = SeenFile { empty: true, beginning: Vec::new(), ..file("new.log", 3, &[]) };
    let plan = decide(&[known("app.log", 1, 5000)], &[stranger, empty]);
    assert_eq!(plan, Plan { fates: vec![Fate::Nothing, Fate::Nothing], losses: vec![(0, Loss::Vanished)] });
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(Verdict::Same), Just(Verdict::Moved), Just(Verdict::CannotBeSeen), Just(DIFFERS), Just(SHORTER)]
}

proptest! {
    /// Whatever is known and seen: a position goes on in one file or is over, and a file is read once.
    #[test]
    fn each_position_goes_on_once_or_is_over_and_each_file_has_one_fate(
        knowns in proptest::collection::vec((0_u64..4, 0_u64..3, 1_u64..3000, proptest::option::of(3000_u64..4000), 0_u8..4), 0..5),
        files in proptest::collection::vec(
            (0_u64..4, 0_u64..3, proptest::bool::ANY, proptest::collection::vec((0_usize..5, verdicts(), proptest::bool::ANY), 0..5)), 0..5),
        skip in proptest::bool::ANY,
    ) {
        let holders = [Holder::Wanted, Holder::Open, Holder::Unsearched, Holder::Nameless];
        let known: Vec<KnownFile> = knowns.iter().map(|(number, label, next, end, holder)| KnownFile {
            end: *end, holder: holders[usize::from(*holder)], ..known(&format!("{label}.log"), *number, *next)
        }).collect();
        let files: Vec<SeenFile> = files.into_iter().map(|(number, label, matches, pairs)| {
            let mut seen = std::collections::BTreeSet::new();
            let pairs: Vec<Pair> = pairs.into_iter().filter(|(at, ..)| *at < known.len() && seen.insert(*at))
                .map(|(at, verdict, shares)| Pair { shares, ..pair(at, verdict) }).collect();
            let name = if matches { Name::Matches } else { Name::Renamed };
            SeenFile { name, ..file(&format!("{label}.log"), number, &pairs) }
        }).collect();
        let copies = if skip { Copies::Skip } else { Copies::Read };
        let plan = plan(&known, &files, copies);
        prop_assert_eq!(plan.fates.len(), files.len());
        for (at, position) in known.iter().enumerate() {
            let goes_on = plan.fates.iter().filter(|fate| matches!(fate, Fate::GoesOn { known, .. } if *known == at)).count();
            let over = plan.losses.iter().filter(|(known, _)| *known == at).count();
            match position.holder {
                Holder::Wanted => prop_assert_eq!(goes_on + over, 1),
                Holder::Open => prop_assert_eq!(goes_on + over, 0),
                Holder::Unsearched => prop_assert!(goes_on <= 1 && over == 0),
                Holder::Nameless => prop_assert!(goes_on + over <= 1),
            }
        }
        for (file, fate) in files.iter().zip(&plan.fates) {
            match fate {
                Fate::GoesOn { known, .. } | Fate::Copy { of: known } => {
                    prop_assert!(file.pairs.iter().any(|pair| pair.known == *known && !matches!(pair.verdict, Verdict::Other(_))));
                }
                Fate::New => prop_assert_eq!(file.name, Name::Matches),
                _ => {}
            }
        }
        // What a file surely holds is never begun anew, unless copies are read or its holder goes on.
        for (file, fate) in files.iter().zip(&plan.fates) {
            if *fate == Fate::New && copies == Copies::Skip {
                prop_assert!(file.pairs.iter().all(|pair| pair.verdict != Verdict::Same));
            }
        }
    }
}

/// Returns whether two files that nothing is known of may be one content: a KiB of it, or all of it under names that may be of one file.
fn begin_alike(a: &SeenFile, b: &SeenFile) -> bool {
    let shared = a.beginning.len().min(b.beginning.len());
    let whole = shared as u64 >= EDGE_BYTES;
    shared > 0 && a.beginning[..shared] == b.beginning[..shared] && (whole || are_related(&a.label, &b.label))
}

proptest! {
    /// Looking up which file is read first finds what comparing each with each does.
    #[test]
    fn of_new_files_that_begin_alike_the_first_one_is_read_first(
        drawn in proptest::collection::vec((0_usize..6, 0_usize..5, 0_u8..2), 1..12),
    ) {
        let labels = ["app.log", "app.log.1", "app-20260101.log", "b.log", "c", "app.log.2.gz"];
        let files: Vec<SeenFile> = drawn
            .iter()
            .enumerate()
            .map(|(at, (label, length, byte))| {
                let head = vec![*byte; [0, 3, 700, 1024, 1030][*length]];
                SeenFile { beginning: head, ..file(labels[*label], at as u64, &[]) }
            })
            .collect();
        let fates = decide(&[], &files).fates;
        for (at, seen) in files.iter().enumerate() {
            let first = (0..at).find(|other| fates[*other] == Fate::New && begin_alike(&files[*other], seen));
            prop_assert_eq!(fates[at], first.map_or(Fate::New, |other| Fate::After { other }));
        }
    }
}
