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
        may_be_gone: false,
    };
    let files = files.iter().enumerate().map(file).collect();
    Facts { last: Some(LastRecord { staged_by: by(7), files }), staging: staging.iter().map(|sequence| by(*sequence)).collect() }
}

/// The whole table: with and without the record's staging, declared to be gone or not, every pair.
#[test]
fn every_pair_of_facts_has_its_step() {
    let pairs = [Absent, Right, Wrong].map(|at_final| [Absent, Right, Wrong].map(|at_staged| (at_final, at_staged)));
    for (staging, may_be_gone) in [(&[7, 8][..], false), (&[7, 8], true), (&[8], false), (&[8], true)] {
        for (at_final, at_staged) in pairs.into_iter().flatten() {
            let mut facts = facts(staging, &[(at_final, at_staged)]);
            facts.last.as_mut().unwrap().files[0].may_be_gone = may_be_gone;
            let expected = match (at_final, at_staged) {
                (Right, _) => Step::Keep,
                (Wrong, _) => Step::Occupied,
                (Absent, Right) => Step::Publish,
                (Absent, Absent | Wrong) if staging == [8] || may_be_gone => Step::Missing,
                (Absent, Absent | Wrong) => Step::Lost,
            };
            assert_eq!(plan(&facts), [expected], "staging {staging:?}, final {at_final:?}, staged {at_staged:?}, {may_be_gone}");
        }
    }
}

#[test]
fn staging_of_older_processes_goes_and_that_of_a_younger_one_stays() {
    let version_1 = StagedBy { sequence: 1, epoch: 0 };
    let younger = StagedBy { sequence: 12, epoch: 11 };
    // This process has staged nothing yet: what bears its number is of one that took it in a newer copy of the dataset.
    let of_another_copy = StagedBy { sequence: 10, epoch: 9 };
    assert_eq!(garbage(&[version_1, by(3), by(8), of_another_copy, younger], 9), [version_1, by(3), by(8), of_another_copy]);
    assert_eq!(plan(&Facts { last: None, staging: vec![by(1)] }), []);
}

#[test]
fn the_staging_of_another_process_says_nothing_of_a_published_checkpoint() {
    let mut facts = facts(&[], &[(Right, Absent), (Absent, Absent)]);
    facts.staging = vec![StagedBy { sequence: 7, epoch: 5 }];
    assert_eq!(plan(&facts), [Step::Keep, Step::Missing]);
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
    let first = plan(&start);
    for done in 0..=9 {
        let interrupted = carried_out(&start, &first, done);
        let second = plan(&interrupted);
        assert!(second.iter().all(|step| matches!(step, Step::Keep | Step::Publish)), "after {done} actions: {second:?}");
        let end = carried_out(&interrupted, &second, usize::MAX);
        assert!(end.staging.is_empty());
        let places: Vec<_> = end.last.unwrap().files.iter().map(|file| (file.at_final, file.at_staged)).collect();
        assert_eq!(places, [(Right, Absent); 4], "after {done} actions");
    }
}
