use super::*;
use crate::journal::frame::{Fingerprint, Form, Kind};
use crate::journal::running::Running;
use crate::journal::time::Stamp;

const MARK: Mark = *b"marktest";

/// Returns a group as it is written at `at`, of a request of these bytes.
fn group(at: u64, body: &[u8]) -> Vec<u8> {
    let (kind, digest) = (Kind::Records(Form::Arrow), Fingerprint::of(body));
    let head = Head { group: at, left: 0, kind, offset: 7, records: 1, at_ms: 0, key: None, digest, length: body.len() as u64 };
    let frame = [&head.encode(MARK)[..], body].concat();
    let mut zeros = Zeros::behind(at + HEADER as u64);
    zeros.take(&frame);
    let (running, stamp) = (Running([0; 16]), Stamp::default());
    let opening = Opening { group: at, frames: 1, length: frame.len() as u64, zeros: zeros.count(), running, stamp };
    [&opening.encode(MARK)[..], &frame].concat()
}

/// Returns the positions at which parts of sectors of the group begin, and its end.
fn cuts(at: u64, group: &[u8]) -> Vec<usize> {
    let end = at + group.len() as u64;
    let sectors = (at / SECTOR + 1..).map(|sector| sector * SECTOR).take_while(|begin| *begin < end);
    std::iter::once(at).chain(sectors).chain([end]).map(|begin| usize::try_from(begin - at).unwrap()).collect()
}

fn bodies() -> Vec<Vec<u8>> {
    let mut holes = vec![7; 3000];
    holes[900..2500].fill(0);
    vec![b"x".to_vec(), vec![7; 1500], vec![0; 2000], holes]
}

fn judged(tail: &[u8], at: u64) -> Tail {
    judge(tail, at, MARK, Version::Two)
}

#[test]
fn whatever_subset_of_its_sectors_a_power_cut_leaves_of_a_group_it_is_torn_or_whole() {
    let mut torn = 0;
    for body in bodies() {
        for at in (0..SECTOR).step_by(37).chain(410..425).chain([505, 511]) {
            let whole = group(at, &body);
            let cuts = cuts(at, &whole);
            for subset in 0..1_u32 << (cuts.len() - 1) {
                let mut left = whole.clone();
                for (sector, part) in cuts.windows(2).enumerate().filter(|(sector, _)| subset & (1 << sector) == 0) {
                    left[part[0]..part[1]].fill(0);
                    assert!(sector < 32);
                }
                if left != whole {
                    assert_eq!(judged(&left, at), Tail::Torn, "{} bytes at {at}, sectors {subset:b}", whole.len());
                    torn += 1;
                }
            }
            for end in 0..whole.len() {
                assert_eq!(judged(&whole[..end], at), Tail::Torn, "cut at {end}");
            }
        }
    }
    assert!(torn > 5_000, "{torn}");
}

#[test]
fn a_changed_byte_anywhere_in_a_group_of_full_length_is_damage_also_beside_sectors_of_zeros_that_were_written() {
    for body in bodies() {
        for at in [0, 100, 420, 511] {
            let whole = group(at, &body);
            for changed in 0..whole.len() {
                for bits in [1, 0x80, 0xff] {
                    let mut left = whole.clone();
                    left[changed] ^= bits;
                    assert!(matches!(judged(&left, at), Tail::Damaged(_)), "{} bytes at {at}, byte {changed}", whole.len());
                }
            }
        }
    }
}

#[test]
fn what_stands_before_anything_else_was_synced() {
    let first = group(300, b"x");
    let at = 300 + first.len() as u64;
    for (followed, zeros) in [(first.clone(), 1), ([&first[..], &group(at, b"y")].concat(), 0)] {
        for damaged in [0, first.len() - 1] {
            let mut left = [&followed[..], &vec![0; zeros]].concat();
            left[damaged] ^= 1;
            assert!(matches!(judged(&left, 300), Tail::Damaged(_)), "byte {damaged}, {zeros} zeros");
        }
    }
    // Also if it reads as zeros: not a crash has made them.
    let mut left = [&first[..], &group(at, b"y")].concat();
    left[..first.len()].fill(0);
    assert!(matches!(judged(&left, 300), Tail::Damaged(_)));
}

#[test]
fn a_sector_in_which_the_mark_lies_is_never_one_of_zeros() {
    assert_eq!(mark_without_zeros(&[0, 1, 2, 0, 255, 0, 0, 0, 9]), [1, 1, 2, 1, 255, 1, 1, 1]);
}
