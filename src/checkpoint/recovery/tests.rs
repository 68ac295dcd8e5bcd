use super::Found::{Absent, Right, Wrong};
use super::*;

/// A checkpoint of the process that opened the dataset with record 2.
fn by(sequence: u64) -> StagedBy {
    StagedBy { sequence, epoch: 2 }
}

fn facts(staging: &[u64], files: &[(Found, Found)]) -> Facts {
    let file = |(index, &(at_final, at_staged)): (usize, &(Found, Found))| FileFacts {
        path: format!("region=us/{index}.parquet"),
        staged_index: index as u32,
        at_final,
        at_staged,
    };
    let files = files.iter().enumerate().map(file).collect();
    Facts { last: Some(LastRecord { staged_by: by(7), files }), staging: staging.iter().map(|sequence| by(*sequence)).collect() }
}

/// The whole table: with and without the record's staging, every pair.
#[test]
fn every_pair_of_facts_has_its_step_or_its_refusal() {
    let while_staged = [
        (Absent, Absent, None),
        (Absent, Right, Some(Step::Publish)),
        (Absent, Wrong, None),
        (Right, Absent, Some(Step::Keep)),
        (Right, Right, Some(Step::Keep)),
        (Right, Wrong, None),
        (Wrong, Absent, None),
        (Wrong, Right, None),
        (Wrong, Wrong, None),
    ];
    let when_published = [
        (Absent, Absent, Some(Step::Missing)),
        (Absent, Right, None),
        (Absent, Wrong, None),
        (Right, Absent, Some(Step::Keep)),
        (Right, Right, None),
        (Right, Wrong, None),
        (Wrong, Absent, None),
        (Wrong, Right, None),
        (Wrong, Wrong, None),
    ];
    for (staging, table) in [(&[7, 8][..], while_staged), (&[8][..], when_published)] {
        for (at_final, at_staged, expected) in table {
            let decided = plan(&facts(staging, &[(at_final, at_staged)])).map(|steps| steps[0]).ok();
            assert_eq!(decided, expected, "staging {staging:?}, final {at_final:?}, staged {at_staged:?}");
        }
    }
}

#[test]
fn one_file_that_no_crash_explains_refuses_the_whole_plan_and_is_named() {
    let error = plan(&facts(&[7], &[(Right, Absent), (Absent, Absent), (Absent, Right)])).unwrap_err();
    assert_eq!(error.kind(), crate::error::ErrorKind::State);
    for needle in ["record 7", "`region=us/1.parquet`", "pintail verify"] {
        assert!(error.to_string().contains(needle), "{error}");
    }
}

#[test]
fn staging_of_older_processes_goes_and_that_of_a_younger_one_stays() {
    let version_1 = StagedBy { sequence: 1, epoch: 0 };
    let (ours, younger) = (StagedBy { sequence: 10, epoch: 9 }, StagedBy { sequence: 12, epoch: 11 });
    assert_eq!(garbage(&[version_1, by(3), by(8), ours, younger], 9), [version_1, by(3), by(8)]);
    assert_eq!(plan(&Facts { last: None, staging: vec![by(1)] }).unwrap(), []);
}

#[test]
fn the_staging_of_another_process_says_nothing_of_a_published_checkpoint() {
    let mut facts = facts(&[], &[(Right, Absent), (Absent, Absent)]);
    facts.staging = vec![StagedBy { sequence: 7, epoch: 5 }];
    assert_eq!(plan(&facts).unwrap(), [Step::Keep, Step::Missing]);
}

/// What carrying out the first `done` actions of a plan leaves: renames (a link, then an unlink), then staged files removed one by
/// one, then the directory.
fn carried_out(facts: &Facts, steps: &[Step], done: usize) -> Facts {
    let mut facts = facts.clone();
    let last = facts.last.as_mut().unwrap();
    let mut left = done;
    let mut take = || {
        let acts = left > 0;
        left = left.saturating_sub(1);
        acts
    };
    for (file, _) in last.files.iter_mut().zip(steps).filter(|(_, step)| **step == Step::Publish) {
        if take() {
            file.at_final = Right;
        }
        if take() {
            file.at_staged = Absent;
        }
    }
    for file in &mut last.files {
        if take() {
            file.at_staged = Absent;
        }
    }
    if take() {
        facts.staging.clear();
    }
    facts
}

#[test]
fn a_plan_killed_at_any_step_is_taken_up_to_the_same_end() {
    let start = facts(&[7], &[(Absent, Right), (Right, Absent), (Right, Right), (Absent, Right)]);
    let first = plan(&start).unwrap();
    for done in 0..=9 {
        let interrupted = carried_out(&start, &first, done);
        let second = plan(&interrupted).unwrap_or_else(|error| panic!("after {done} actions: {error}"));
        let end = carried_out(&interrupted, &second, usize::MAX);
        assert!(end.staging.is_empty());
        let places: Vec<_> = end.last.unwrap().files.iter().map(|file| (file.at_final, file.at_staged)).collect();
        assert_eq!(places, [(Right, Absent); 4], "after {done} actions");
    }
}
