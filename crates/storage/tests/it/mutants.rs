//! The protocol with one call done wrongly: every such mutant must be caught.
//!
//! Owns: the list of mutants (each call of the script and of each different recovery: left out, swapped with the next, renaming onto a
//! name that is taken), the verdict on each, and the list of those that change nothing, with the reason.
//! Does not own: what catches them (see `states`), mutants that the trait cannot express (see `tests/proof/mutants`).
//!
//! A mutant is *caught* if its run fails, or if a crash at some moment of it leaves a state that fails the oracle. It is *without effect*
//! if each state that a crash can leave is in essence one that the unchanged protocol leaves too. Anything else needs a reason below, and so does a
//! kind of mutant (call and path) of which none is caught.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use pintail_storage::durable::fs::{Fs, ReadFs};

use crate::model::disk::Disk;
use crate::model::{Model, Moment, Renames, Step};
use crate::script::{self, Checked};
use crate::states::{ROOT, State, States};

mod equivalent;
pub(crate) mod fs;

use equivalent::EQUIVALENT;
use fs::{Mutant, Mutation, THEIRS};

/// What became of a mutant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Caught,
    WithoutEffect,
    /// It leaves states that the unchanged protocol does not, and all of them hold.
    Survived,
}

/// All mutants of one kind.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    caught: usize,
    without_effect: usize,
    survived: usize,
}

/// Verdicts by kind: `recovery: Skip SyncDir _pintail/commits/N`.
#[derive(Debug, Default)]
struct Verdicts(BTreeMap<String, Tally>);

impl Verdicts {
    fn add(&mut self, phase: &str, mutation: Mutation, hit: &[(Step, PathBuf)], verdict: Verdict) {
        let calls: Vec<_> = hit.iter().map(|(step, path)| format!("{step:?} {}", pattern(path))).collect();
        let tally = self.0.entry(format!("{phase}: {mutation:?} {}", calls.join(" / "))).or_default();
        match verdict {
            Verdict::Caught => tally.caught += 1,
            Verdict::WithoutEffect => tally.without_effect += 1,
            Verdict::Survived => tally.survived += 1,
        }
    }

    fn total(&self, count: impl Fn(&Tally) -> usize) -> usize {
        self.0.values().map(count).sum()
    }

    /// Returns the kinds that need a reason: a mutant of them survived, or none was caught.
    fn open(&self) -> Vec<(&str, Tally)> {
        let open = self.0.iter().filter(|(_, tally)| tally.survived > 0 || tally.caught == 0);
        open.map(|(kind, tally)| (kind.as_str(), *tally)).collect()
    }
}

/// Returns a path with everything that differs from checkpoint to checkpoint taken out.
fn pattern(path: &Path) -> String {
    let below = path.strip_prefix(ROOT).map_or_else(|_| path.display().to_string(), |below| format!("./{}", below.display()));
    let pieces = below.as_bytes().chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit());
    let numbered: String = pieces.map(|piece| if piece[0].is_ascii_digit() { "N" } else { std::str::from_utf8(piece).unwrap() }).collect();
    let regions = ["us", "eu", "apac"].iter().fold(numbered, |path, region| path.replace(&format!("region={region}"), "region=R"));
    regions.replace("N-N-N", "N")
}

/// Runs the script from `state` with one call mutated. Returns the calls hit, and what is wrong, or the moments.
fn run(state: &State, mutation: Mutation, at: usize) -> (Vec<(Step, PathBuf)>, Checked<Vec<Moment>>) {
    let model = Model::over(state.disk.clone(), state.acknowledged, Renames::Atomic);
    let mutant = Mutant::over(&model, mutation, at);
    let fs: Arc<dyn Fs> = Arc::new(mutant.clone());
    let ran = script::run(&fs, Path::new(ROOT), &mut |checkpoints| model.announce(checkpoints));
    (mutant.hit(), ran.map(|()| model.take_moments()).map_err(|error| error.to_string()))
}

fn verdict(states: &mut States, ran: Checked<Vec<Moment>>) -> Verdict {
    match ran.and_then(|moments| states.judge(&moments, "mutant")) {
        Err(_) => Verdict::Caught,
        Ok(0) => Verdict::WithoutEffect,
        Ok(_) => Verdict::Survived,
    }
}

/// Tries the mutants of each of the first `calls` calls from `state`.
fn try_all(states: &mut States, verdicts: &mut Verdicts, phase: &str, state: &State, calls: usize) {
    for mutation in [Mutation::Skip, Mutation::Swap] {
        for at in 1..=calls {
            let (hit, ran) = run(state, mutation, at);
            if hit.len() == if mutation == Mutation::Swap { 2 } else { 1 } {
                verdicts.add(phase, mutation, &hit, verdict(states, ran));
            }
        }
    }
}

/// Counts the calls of opening the dataset from `state`, each with its place.
fn recovery_of(state: &State) -> Vec<(Step, String)> {
    let model = Model::over(state.disk.clone(), state.acknowledged, Renames::Atomic);
    let mutant = Mutant::over(&model, Mutation::Skip, 0);
    script::open(Arc::new(mutant), Path::new(ROOT)).unwrap();
    let steps = model.take_moments().into_iter().filter_map(|moment| moment.step);
    // A write is two moments and one call.
    let mut calls: Vec<_> = steps.map(|(step, path)| (step, pattern(&path))).collect();
    calls.dedup_by(|a, b| a == b && a.0 == Step::Write);
    calls
}

#[test]
fn every_call_left_out_or_swapped_with_the_next_is_caught_or_is_without_effect_for_a_reason() {
    let begin = Instant::now();
    let (mut states, mut verdicts) = (States::new(Renames::Atomic), Verdicts::default());
    let script = states.script();
    states.judge(&script, "script").unwrap();
    let empty = State { disk: Disk::new(), acknowledged: 0, story: String::new() };
    try_all(&mut states, &mut verdicts, "script", &empty, script.len());

    // The recoveries that differ in what they do, or in what a process that was killed left pending for them.
    let (mut different, mut recoveries) = (HashSet::new(), 0);
    for moment in &script {
        let state = State { disk: moment.disk.clone(), acknowledged: moment.acknowledged, story: "kill".into() };
        let calls = recovery_of(&state);
        let pending: Vec<_> = state.disk.pending.iter().map(std::mem::discriminant).collect();
        if different.insert((calls.clone(), pending)) {
            recoveries += 1;
            let (recovery, went_on) = states.check(&state).unwrap();
            states.judge(&[recovery, went_on].concat(), "known").unwrap();
            try_all(&mut states, &mut verdicts, "recovery", &state, calls.len());
        }
    }

    let all = verdicts.total(|tally| tally.caught + tally.without_effect + tally.survived);
    let mut shown = std::io::stderr();
    writeln!(
        shown,
        "mutants: {all} of {} kinds, in the script and in {recoveries} recoveries: {} caught, {} without effect, {} harmless for a reason; {:.1?}",
        verdicts.0.len(),
        verdicts.total(|tally| tally.caught),
        verdicts.total(|tally| tally.without_effect),
        verdicts.total(|tally| tally.survived),
        begin.elapsed()
    )
    .unwrap();
    let rules: Vec<_> = EQUIVALENT.iter().map(|(pattern, _)| glob::Pattern::new(pattern).unwrap()).collect();
    let open = verdicts.open();
    let survivors: Vec<_> = open.iter().filter(|(kind, _)| !rules.iter().any(|rule| rule.matches(kind))).collect();
    assert!(survivors.is_empty(), "not caught, and no reason is given: {survivors:#?}");
    let stale: Vec<_> = rules.iter().filter(|rule| !open.iter().any(|(kind, _)| rule.matches(kind))).map(glob::Pattern::as_str).collect();
    assert!(stale.is_empty(), "these cover no mutant any more: {stale:#?}");
}

/// Runs the script from `state`; somebody else takes the name of the rename numbered `at` just before it. Returns the name, `None` if
/// that call is no rename, and what is wrong.
fn intruded(state: &State, mutation: Mutation, at: usize) -> Option<(PathBuf, Checked<()>)> {
    let model = Model::over(state.disk.clone(), state.acknowledged, Renames::Atomic);
    let mutant = Mutant::over(&model, mutation, at);
    let fs: Arc<dyn Fs> = Arc::new(mutant.clone());
    let ran = script::run(&fs, Path::new(ROOT), &mut |checkpoints| model.announce(checkpoints));
    let (_, name) = mutant.hit().pop().filter(|(step, _)| *step == Step::Rename)?;
    let left = |_| {
        let mut bytes = Vec::new();
        model.open(&name).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(|error| error.to_string())?;
        if bytes != THEIRS {
            return Err("what somebody else wrote is gone".into());
        }
        // Beside theirs, all is as a crash there leaves it: above all, nothing of a record that is not ours is published.
        model.remove_file(&name).map_err(|error| error.to_string())?;
        script::check_crashed(&model, Path::new(ROOT)).map(|_| ())
    };
    let checked = ran.map_or_else(left, |()| Err("the run did not notice".to_owned()));
    Some((name, checked))
}

#[test]
fn a_rename_onto_a_name_that_somebody_else_has_just_taken_refuses_and_each_that_would_replace_is_caught() {
    let states = States::new(Renames::Atomic);
    let script = states.script();
    let (mut renames, mut kinds) = (0, BTreeSet::new());
    let kills = script.iter().map(|moment| State { disk: moment.disk.clone(), acknowledged: moment.acknowledged, story: "kill".into() });
    let empty = State { disk: Disk::new(), acknowledged: 0, story: String::new() };
    for (state, calls) in kills
        .map(|state| {
            let calls = recovery_of(&state).len();
            (state, calls)
        })
        .chain([(empty, script.len())])
    {
        for at in 1..=calls {
            if let Some((name, checked)) = intruded(&state, Mutation::Intrude, at) {
                checked.unwrap_or_else(|why| panic!("{}: {why}", name.display()));
                let (_, replaced) = intruded(&state, Mutation::IntrudeAndReplace, at).unwrap();
                assert!(replaced.is_err(), "replacing {} is not caught", name.display());
                renames += 1;
                kinds.insert(pattern(&name));
            }
        }
    }
    writeln!(std::io::stderr(), "mutants: {renames} renames that would replace, all caught").unwrap();
    assert!(kinds.len() >= 6, "{kinds:?}");
}
