//! A kill or a power cut at every operation of the first start on a dataset of version 1.
//!
//! Owns: the dataset, as version 1 left it: its last record may not be durable, and what it names is published or not.
//! Does not own: datasets that the binary of version 1 made (see `upgrade`).

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::record::CommitRecord;
use pintail_storage::durable::fs::{Fs, ReadFs};

use crate::model::disk::Disk;
use crate::model::{Model, Renames};
use crate::script;
use crate::states::{By, ROOT, States};

/// Checkpoints that version 1 committed; of the last it may have been killed at any moment.
const CHECKPOINTS: u64 = 3;

/// Makes a file with the directories above it, all durable.
fn lay(model: &Model, path: &Path, bytes: &[u8]) {
    make_dir(model, path.parent().unwrap());
    let mut file = model.create_new(path).unwrap();
    file.write_all(bytes).unwrap();
    file.sync().unwrap();
    model.sync_dir(path.parent().unwrap()).unwrap();
}

fn make_dir(model: &Model, dir: &Path) {
    if model.entry(dir).unwrap().is_none() {
        make_dir(model, dir.parent().unwrap());
        model.create_dir(dir).unwrap();
        model.sync_dir(dir.parent().unwrap()).unwrap();
    }
}

/// Takes out of a record what version 1 had not, and puts it behind `previous`.
fn as_version_1(record: CommitRecord, sequence: u64, previous: &str, first: &CommitRecord) -> (Vec<u8>, String) {
    let mut schema = first.schema.clone();
    schema.iter_mut().for_each(|column| column.id = 0);
    let old = CommitRecord {
        version: 1,
        sequence,
        previous: previous.into(),
        epoch: 0,
        snapshot: None,
        state_sha256: None,
        key: None,
        schema,
        schema_version: 0,
        pintail: "0.1.0".into(),
        ..record
    };
    old.encode().unwrap()
}

/// Returns the disk of a version 1 that commits its last checkpoint: all is staged, and the record is about to appear.
fn dataset() -> (Model, Vec<CommitRecord>) {
    let (root, paths) = (Path::new(ROOT), Paths::new(ROOT));
    let made = Model::new();
    script::run(&made.handle(), root, &mut |_| ()).unwrap();
    let (files, published) = (script::tree(&made, root), script::expected_files(root, CHECKPOINTS));
    let records: Vec<_> = script::records(&made, root).unwrap().into_iter().take(usize::try_from(CHECKPOINTS).unwrap()).collect();
    let model = Model::over(Disk::new(), CHECKPOINTS - 1, Renames::Atomic);
    for dir in [paths.commits(), paths.staging(), paths.dead_letters(), paths.commit_dir(1)] {
        make_dir(&model, &dir);
    }
    lay(&model, &paths.format(), &files[&paths.format()]);
    let mut previous = pintail_storage::checkpoint::format::Format::parse(&files[&paths.format()]).unwrap().1;
    for (record, sequence) in records.iter().zip(1..) {
        let (bytes, sha256) = as_version_1(record.clone(), sequence, &previous, &records[0]);
        previous = sha256;
        for file in &record.files {
            let last = paths.staging().join(format!("{sequence:010}")).join(format!("{}.inprogress", file.staged));
            let place = if sequence == CHECKPOINTS { last } else { paths.published(&file.path) };
            lay(&model, &place, &published[&paths.published(&file.path)]);
            make_dir(&model, paths.published(&file.path).parent().unwrap());
        }
        if sequence < CHECKPOINTS {
            lay(&model, &paths.record(sequence), &bytes);
        } else {
            lay(&model, &pintail_storage::checkpoint::paths::in_progress(&paths.record(sequence)), &bytes);
        }
    }
    (model, records)
}

/// Ends the commit as version 1 did: the record, its files, their staging.
fn commit(model: &Model, last: &CommitRecord) {
    let paths = Paths::new(ROOT);
    let record = paths.record(CHECKPOINTS);
    model.rename_noreplace(&pintail_storage::checkpoint::paths::in_progress(&record), &record).unwrap();
    model.sync_dir(&paths.commit_dir(CHECKPOINTS)).unwrap();
    let staging = paths.staging().join(format!("{CHECKPOINTS:010}"));
    for file in &last.files {
        let place = paths.published(&file.path);
        model.rename_noreplace(&staging.join(format!("{}.inprogress", file.staged)), &place).unwrap();
        model.sync_dir(place.parent().unwrap()).unwrap();
    }
    model.remove_dir(&staging).unwrap();
    model.sync_dir(&paths.staging()).unwrap();
}

#[test]
fn a_dataset_of_version_1_goes_on_after_every_crash_of_its_last_commit_and_of_the_first_starts_after_it() {
    let (model, records) = dataset();
    model.take_moments();
    commit(&model, records.last().unwrap());
    let mut states = States::new(Renames::Atomic);
    let commit = model.take_moments();
    states.walk(&commit, "version 1", 2).unwrap();
    // And where nothing went wrong before: the first start writes the key, a snapshot and its open record.
    let started = Model::over(commit.last().unwrap().disk.clone(), CHECKPOINTS, Renames::Atomic);
    script::run(&started.handle(), Path::new(ROOT), &mut |checkpoints| started.announce(checkpoints)).unwrap();
    let moments = started.take_moments();
    let path = |moment: &crate::model::Moment| moment.step.as_ref().map(|(_, path)| path.clone());
    let at = |wanted: &Path| moments.iter().position(|moment| path(moment).as_deref() == Some(wanted));
    let paths = Paths::new(ROOT);
    let (key, snapshot, open) = (at(&paths.key()), at(&paths.snapshot(CHECKPOINTS)), at(&paths.record(CHECKPOINTS + 1)));
    assert!(key.is_some() && key < snapshot && snapshot < open, "{key:?} {snapshot:?} {open:?}");
    let crashes = states.crashes(By::Essence, &moments, "first start");
    crashes.iter().try_for_each(|state| states.check(state).map(|_| ())).unwrap();
    writeln!(std::io::stderr(), "model, version 1: {}", states.counts).unwrap();
    let fs: Arc<dyn Fs> = started.handle();
    assert_eq!(script::check_recovered(&fs, Path::new(ROOT)), Ok(script::STEPS));
}
