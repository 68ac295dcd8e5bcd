//! A kill or a power cut at every operation, again during the recovery from it, and again.
//!
//! Owns: which sequences of crashes are walked. Takes the place of pulling the plug: a missing fsync fails here.
//! Does not own: the disk's behaviour (see `model`), the oracle (see `states`), a real process on a real disk (see `crash_points`).

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use chrono::DateTime;
use pintail_storage::checkpoint::record::{Action, ActionKind, FileEntry, FileKind};
use pintail_storage::checkpoint::store::Adopted;
use pintail_storage::durable::fs::Fs;

use crate::model::cuts::Subsets;
use crate::model::{Model, Renames};
use crate::script;
use crate::states::{ROOT, States};

mod version_1;

/// Crashes in a row: in the script, in the recovery from that, in the recovery from that one.
const DEPTH: usize = 3;
const STATES_MIN: usize = 10_000;

#[test]
fn every_crash_at_every_operation_and_in_two_recoveries_after_it_loses_doubles_and_tears_nothing() {
    let (begin, mut states) = (Instant::now(), States::new(Renames::Atomic));
    let script = states.script();
    assert!(script.len() > 100, "the script has {} operations", script.len());
    states.walk(&script, "script", DEPTH).unwrap();
    // Past the test harness, which shows what is printed only of tests that fail.
    writeln!(std::io::stderr(), "model: {}; {:.1?}", states.counts, begin.elapsed()).unwrap();
    assert!(states.counts.states >= STATES_MIN);
}

#[test]
fn a_rename_by_link_and_unlink_survives_every_crash_too() {
    let mut states = States::new(Renames::Linked);
    let script = states.script();
    states.walk(&script, "script", 1).unwrap();
    assert!(states.counts.states > 300, "{}", states.counts);
}

#[test]
fn a_file_that_retention_removes_after_a_power_cut_is_named_and_not_refused() {
    let (root, model) = (Path::new(ROOT), Model::new());
    script::run(&model.handle(), root, &mut |_| ()).unwrap();
    for cut in model.disk().cuts(Subsets::All).disks {
        let disk = Model::over(cut, 0, Renames::Atomic);
        let last = script::tree(&disk, root).into_keys().find(|path| path.ends_with("events-5.parquet")).unwrap();
        disk.remove_file(&last).unwrap();
        // Had the published staging come back with the power, the file would be missing in both places, and no start possible.
        let store = script::open(disk.handle(), root).unwrap();
        assert!(store.missing().is_some_and(|missing| missing.contains("events-5.parquet")), "{:?}", store.missing());
    }
}

#[test]
fn a_file_that_was_adopted_is_there_after_a_power_cut_with_the_directories_above_it() {
    let (root, model) = (Path::new(ROOT), Model::new());
    let mut store = script::open(model.handle(), root).unwrap();
    // Somebody copied it there a moment ago.
    let place = "region=us/day=2026-01-01/copied.parquet";
    let dirs = ["region=us", "region=us/day=2026-01-01"];
    dirs.iter().for_each(|dir| model.create_dir(&root.join(dir)).unwrap());
    model.create_new(&root.join(place)).unwrap().write_all(b"rows").unwrap();
    let (by, time) = (script::named("0000000000000001"), DateTime::UNIX_EPOCH);
    let action = Action { by, ..Action::new(ActionKind::Adopt, "a file that was there") };
    let file = FileEntry {
        path: place.into(),
        staged: 0,
        kind: FileKind::Parquet,
        rows: 1,
        bytes: 4,
        sha256: "a".repeat(64),
        event_time: None,
        columns: vec![],
        upload: None,
    };
    store.act(action, Adopted { files: vec![(file, vec![])], schema: None }, time).unwrap();
    let cut = Model::over(model.disk().barest_cut(), 0, Renames::Atomic);
    let left = script::tree(&cut, &root.join("region=us"));
    assert_eq!(left.get(&root.join(place)).map(Vec::as_slice), Some(b"rows".as_slice()), "{left:?}");
}
