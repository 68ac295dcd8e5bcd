//! A power cut at every operation: what was only visible is gone.
//!
//! Owns: when the power goes, and what must hold afterwards. Takes the place of pulling the plug: a missing fsync fails here.
//! Does not own: the disk's behaviour (see `model`), crashes of the process alone (see `crash_points`).

use std::path::Path;
use std::sync::Arc;

use pintail::durable::fs::Fs;

use crate::crash_points::{Crash, CrashingFs, How, When};
use crate::model::Model;
use crate::script;

/// Power cuts tried at each operation beside the one that leaves only what was asked to be durable.
const LATE_CUTS: u64 = 6;

fn handle(model: &Model) -> Arc<dyn Fs> {
    Arc::new(model.clone())
}

/// Runs the script on an empty disk up to operation `at`. Returns the disk and the acknowledged checkpoints; `None` if it got to its end.
fn stopped_at(at: u64, when: When) -> Option<(Model, u64)> {
    let model = Model::new();
    let mut acknowledged = 0;
    let fs = CrashingFs::over(handle(&model), &Crash::new(at, when, How::Refuse, None));
    script::run(&fs, Path::new("/data/out"), &mut acknowledged).is_err().then_some((model, acknowledged))
}

/// Does `check` for each operation of the script that the power may go at.
fn at_every_operation(check: impl Fn(u64, &Model, u64)) {
    for when in [When::Before, When::After] {
        let stops = (1..).map_while(|at| Some((at, stopped_at(at, when)?)));
        let tried = stops.inspect(|(at, (model, acknowledged))| check(*at, model, *acknowledged)).count();
        assert!(tried > 100, "the script has {tried} operations");
    }
}

#[test]
fn a_power_cut_at_any_operation_loses_no_acknowledged_checkpoint_and_tears_no_file() {
    let root = Path::new("/data/out");
    at_every_operation(|at, model, acknowledged| {
        let late = (0..LATE_CUTS).map(|seed| model.after_late_power_cut(seed));
        for (cut, disk) in [model.after_power_cut()].into_iter().chain(late).enumerate() {
            let fs = handle(&disk);
            script::check_crashed(&*fs, root);
            let recovered = script::check_recovered(&fs, root);
            let lawful = acknowledged..=acknowledged + 1;
            assert!(lawful.contains(&recovered), "at {at}, cut {cut}: acknowledged {acknowledged}, recovered {recovered}");
            script::check_completes(&fs, root);
        }
    });
}

#[test]
fn a_power_cut_after_a_recovery_takes_nothing_back_that_it_or_the_next_commits_built_on() {
    let root = Path::new("/data/out");
    at_every_operation(|at, model, _| {
        // The process was killed, the machine was not: all is visible, not all is durable.
        let recovered = script::check_recovered(&handle(model), root);
        let disk = handle(&model.after_power_cut());
        assert_eq!(script::check_recovered(&disk, root), recovered, "at {at}");
        // Nor from the run that goes on: a directory that was found may be the trace of the killed process.
        script::run(&handle(model), root, &mut 0).unwrap();
        let disk = handle(&model.after_power_cut());
        assert_eq!(script::check_recovered(&disk, root), script::CHECKPOINTS, "at {at}");
    });
}

#[test]
fn power_cuts_at_every_operation_of_recovery_lose_no_acknowledged_checkpoint() {
    let root = Path::new("/data/out");
    at_every_operation(|at, model, acknowledged| {
        let mut disk = model.after_power_cut();
        for later in 1.. {
            let crash = Crash::new(later, When::After, How::Refuse, None);
            let opened = script::open(CrashingFs::over(handle(&disk), &crash), root);
            disk = disk.after_late_power_cut(later);
            match opened {
                Ok(_) => break,
                Err(error) => assert!(crash.hit().is_some(), "at {at}: recovery refused on its own: {error}"),
            }
        }
        let recovered = script::check_recovered(&handle(&disk), root);
        assert!(recovered >= acknowledged, "at {at}: acknowledged {acknowledged}, recovered {recovered}");
    });
}

#[test]
fn a_file_that_retention_removes_after_a_power_cut_is_a_warning_and_no_refusal() {
    let (root, model) = (Path::new("/data/out"), Model::new());
    script::run(&handle(&model), root, &mut 0).unwrap();
    let disk = handle(&model.after_power_cut());
    let last = script::tree(&*disk, root).into_keys().find(|path| path.ends_with("events-5.parquet")).unwrap();
    disk.remove_file(&last).unwrap();
    // Had the published staging come back with the power, the file would be missing in both places, and no start possible.
    assert_eq!(script::open(disk, root).unwrap().warnings().len(), 1);
}
