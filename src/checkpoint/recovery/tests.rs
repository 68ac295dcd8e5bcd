use super::Found::{Absent, Right, Wrong};
use super::*;

fn facts(staging: &[u64], files: &[(Found, Found)]) -> Facts {
    let file = |(index, &(at_final, at_staged)): (usize, &(Found, Found))| FileFacts {
        path: format!("region=us/{index}.parquet"),
        staged_index: index as u32,
        at_final,
        at_staged,
    };
    let files = files.iter().enumerate().map(file).collect();
    Facts { last: Some(LastRecord { sequence: 7, files }), staging: staging.to_vec() }
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
            let decided = plan(&facts(staging, &[(at_final, at_staged)])).map(|plan| plan.steps[0]).ok();
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
fn all_staging_goes_after_the_last_record_is_published() {
    let decided = plan(&facts(&[3, 7, 8, 20], &[(Absent, Right)])).unwrap();
    assert_eq!(decided, Plan { steps: vec![Step::Publish], remove: vec![3, 7, 8, 20] });
    let decided = plan(&Facts { last: None, staging: vec![1] }).unwrap();
    assert_eq!(decided, Plan { steps: vec![], remove: vec![1] });
}

/// What carrying out the first `done` actions of a plan leaves: renames (a link, then an unlink), then staged files removed one by
/// one, then the directory.
fn carried_out(facts: &Facts, plan: &Plan, done: usize) -> Facts {
    let mut facts = facts.clone();
    let last = facts.last.as_mut().unwrap();
    let mut left = done;
    let mut take = || {
        let acts = left > 0;
        left = left.saturating_sub(1);
        acts
    };
    for (file, _) in last.files.iter_mut().zip(&plan.steps).filter(|(_, step)| **step == Step::Publish) {
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
