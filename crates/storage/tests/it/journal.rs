//! The journal of HTTP push on the model disk: crashes at every operation, and disks that fail.
//!
//! Owns: walking the crashes, the mutants, the random sequences.
//! Does not own: what is appended and what must hold afterwards (see `script`), the disk's behaviour (see `model`).

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pintail_storage::durable::fs::Fs;
use proptest::prelude::*;

use crate::model::{Model, Moment, Renames, Step};
use crate::mutants::fs::{Mutant, Mutation};
use crate::script::Checked;
use crate::sequences::{Event, Faulty};
use crate::states::{By, State, States};

mod script;

use script::Client;

/// Crashes in a row.
const DEPTH: usize = 3;

/// The walk over what crashes leave.
struct Walk {
    states: States,
    went_on: HashSet<(u64, u64)>,
}

impl Walk {
    fn new(renames: Renames) -> Self {
        Self { states: States::new(renames), went_on: HashSet::new() }
    }

    fn script() -> Vec<Moment> {
        let model = script::empty_disk(Renames::Atomic);
        script::run(&model.handle(), 0, &mut |steps| model.announce(steps)).unwrap();
        model.take_moments()
    }

    fn walk(&mut self, moments: &[Moment], depth: usize) -> Checked<()> {
        let mut level = self.states.crashes(By::Key, moments, "script");
        for crashes in 1..=depth {
            let mut next = Vec::new();
            for state in level {
                let (mut moments, went_on) = self.check(&state)?;
                if crashes == 1 {
                    moments.extend(went_on);
                }
                if crashes < depth {
                    next.append(&mut self.states.crashes(By::Key, &moments, &state.story));
                }
            }
            level = next;
        }
        Ok(())
    }

    /// Opens the journal after a crash, holds it against the script, and goes on to its end. Returns the moments of both.
    fn check(&mut self, state: &State) -> Checked<(Vec<Moment>, Vec<Moment>)> {
        let model = Model::over(state.disk.clone(), state.acknowledged, Renames::Atomic);
        self.check_in(&model).map_err(|why| format!("{}: {why}", state.story))
    }

    fn check_in(&mut self, model: &Model) -> Checked<(Vec<Moment>, Vec<Moment>)> {
        let steps = model.acknowledged();
        script::check_noted(&model.handle(), steps)?;
        let mut log = script::open(&model.handle(), steps).map_err(|error| format!("no start is possible: {error}"))?;
        script::check(&mut log, steps)?;
        let recovery = model.take_moments();
        if !self.went_on.insert((model.disk().key(), steps)) {
            return Ok((recovery, vec![]));
        }
        let mut log = script::go_on(log, &model.handle(), steps, &mut |steps| model.announce(steps))?;
        script::check_end(&mut log)?;
        Ok((recovery, model.take_moments()))
    }
}

#[test]
fn a_crash_at_any_operation_of_the_journal_and_in_two_recoveries_after_it_loses_and_doubles_no_request() {
    let (begin, mut walk) = (Instant::now(), Walk::new(Renames::Atomic));
    let script = Walk::script();
    let removed = script.iter().filter(|moment| matches!(&moment.step, Some((Step::Remove, _)))).count();
    assert!(script.len() > 80 && removed >= 4, "{} operations, {removed} removals", script.len());
    walk.walk(&script, DEPTH).unwrap();
    writeln!(std::io::stderr(), "journal: {}; {:.1?}", walk.states.counts, begin.elapsed()).unwrap();
    assert_eq!(walk.states.counts.sampled, 0, "every subset is tried");
    assert!(walk.states.counts.states > 100_000, "{}", walk.states.counts);
}

/// Operations of the journal that may be left out, and why.
const EQUIVALENT: &[(&str, &str)] = &[];

#[test]
fn every_call_of_the_journal_that_is_left_out_is_caught() {
    let (begin, mut verdicts) = (Instant::now(), BTreeMap::<String, (usize, usize)>::new());
    let calls = Walk::script().len();
    for at in 1..=calls {
        let model = script::empty_disk(Renames::Atomic);
        let mutant = Mutant::over(&model, Mutation::Skip, at);
        let fs: Arc<dyn Fs> = Arc::new(mutant.clone());
        let ran = script::run(&fs, 0, &mut |steps| model.announce(steps));
        let Some((step, path)) = mutant.hit().pop() else { continue };
        let caught = ran.and_then(|()| Walk::new(Renames::Atomic).walk(&model.take_moments(), 1)).is_err();
        let tally = verdicts.entry(format!("{step:?} {}", pattern(&path))).or_default();
        tally.0 += usize::from(caught);
        tally.1 += 1;
    }
    writeln!(std::io::stderr(), "journal mutants, caught of all: {verdicts:?}; {:.1?}", begin.elapsed()).unwrap();
    let uncaught: Vec<_> = verdicts.iter().filter(|(_, (caught, _))| *caught == 0).map(|(kind, _)| kind.as_str()).collect();
    let reasons: Vec<_> = EQUIVALENT.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(uncaught, reasons);
}

/// Returns a path with the segment's number taken out.
fn pattern(path: &Path) -> String {
    let name = path.file_name().map_or("/".into(), |name| name.to_string_lossy());
    name.split_once('.').map_or(name.to_string(), |(_, endings)| format!("N.{endings}"))
}

/// Operations until each fault, and requests after a refusal.
fn faults() -> impl Strategy<Value = Vec<(u64, Event, u64)>> {
    let event = prop_oneof![
        1 => Just(Event::Kill),
        2 => any::<u64>().prop_map(Event::PowerCut),
        3 => Just(Event::Full),
        2 => Just(Event::Broken),
    ];
    prop::collection::vec((1..60_u64, event, 0..8_u64), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn on_a_failing_disk_what_was_accepted_is_there_once_and_what_was_refused_is_not(faults in faults(), last in any::<u64>()) {
        let mut model = script::empty_disk(Renames::Atomic);
        let mut client = Client::default();
        for (at, event, more) in faults {
            let fs: Arc<dyn Fs> = Arc::new(Faulty::over(&model, at, event));
            client.run(&fs, more).map_err(TestCaseError::fail)?;
            if let Event::PowerCut(seed) = event {
                model = Model::over(model.disk().drawn_cut(seed), 0, Renames::Atomic);
            }
        }
        client.check(&model.handle()).map_err(TestCaseError::fail)?;
        let cut = Model::over(model.disk().drawn_cut(last), 0, Renames::Atomic);
        client.check(&cut.handle()).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn a_disk_that_fails_at_any_operation_keeps_what_was_accepted_through_a_power_cut_after_it() {
    for event in [Event::Full, Event::Broken] {
        for at in 1..=Walk::script().len() as u64 {
            for (seed, more) in (0..4).flat_map(|seed| (0..4).map(move |more| (seed, more))) {
                let model = script::empty_disk(Renames::Atomic);
                let mut client = Client::default();
                client.run(&(Arc::new(Faulty::over(&model, at, event)) as Arc<dyn Fs>), more).unwrap();
                let disk = if seed == 0 { model.disk() } else { model.disk().drawn_cut(seed) };
                let model = Model::over(disk, 0, Renames::Atomic);
                client.check(&model.handle()).unwrap_or_else(|why| panic!("{event:?} at operation {at}, {more} more, cut {seed}: {why}"));
            }
        }
    }
}
