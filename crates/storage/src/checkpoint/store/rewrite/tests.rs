use std::fs;
use std::os::unix::fs::PermissionsExt;

use chrono::DateTime;
use pintail_core::error::ErrorKind;

use super::*;
use crate::checkpoint::paths::Paths;
use crate::checkpoint::reader::committed;
use crate::checkpoint::record::{Replaced, Rewrite};
use crate::checkpoint::store::tests::{commit, stage};
use crate::durable::posix::Posix;
use crate::samples::open;

/// Puts the files of two commits into one.
fn rewrite(store: &mut Store, paths: [&str; 2]) -> Result<CommitRecord> {
    let mut staging = store.staging();
    let path = format!("region=us/events-2026-01-01-00-{}.parquet", store.next_sequence());
    let merged = stage(&mut staging, &path, "merged");
    let replaces = paths.map(|path| Replaced { path: path.into(), rows: 3 }).to_vec();
    let merged = crate::checkpoint::store::NewFile { rows: 6, ..merged };
    let rewrite = Rewrite { generation: 1, replaces };
    store.rewrite(staging, Rewriting { rewrite, files: vec![merged], time: DateTime::UNIX_EPOCH }).cloned()
}

const TWO: [&str; 2] = ["region=us/events-2.parquet", "region=us/events-3.parquet"];

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A dataset with a directory around it, and three commits.
fn dataset() -> (tempfile::TempDir, std::path::PathBuf, Store) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("out");
    let mut store = open(&root).unwrap();
    (0..3).for_each(|_| drop(commit(&mut store, "us")));
    (dir, root, store)
}

#[test]
fn a_rewrite_puts_one_file_in_the_place_of_others_and_leaves_all_else_in_the_directory_as_it_was() {
    let (dir, root, mut store) = dataset();
    let us = root.join("region=us");
    fs::write(us.join("NOTES"), "of somebody else").unwrap();
    std::os::unix::fs::symlink("NOTES", us.join("_link")).unwrap();
    fs::set_permissions(&us, fs::Permissions::from_mode(0o750)).unwrap();
    store.check_swaps().unwrap();
    assert_eq!(store.unswappable("region=us").unwrap(), None);
    let offsets = store.offsets().clone();
    let record = rewrite(&mut store, TWO).unwrap();
    assert_eq!((record.sequence, store.offsets(), store.state().rest().rewrites), (5, &offsets, 1));
    assert_eq!(names(&us), ["NOTES", "_link", "events-2026-01-01-00-5.parquet", "events-4.parquet"]);
    assert_eq!(fs::read_to_string(us.join("_link")).unwrap(), "of somebody else");
    assert_eq!(fs::metadata(&us).unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(committed(&root).unwrap().files.iter().map(|file| file.rows).sum::<u64>(), 9);
    store.leave_workspace();
    assert_eq!(names(dir.path()), ["out"]);
    commit(&mut store, "us");
    drop(store);
    let again = open(&root).unwrap();
    assert_eq!((again.state().rest().rewrites, again.missing()), (1, None));
}

#[test]
fn what_comes_to_the_directory_between_its_building_and_the_exchange_is_there_afterwards() {
    let (_dir, root, store) = dataset();
    let us = root.join("region=us");
    let mut staging = store.staging();
    let merged = stage(&mut staging, "region=us/events-2026-01-01-00-5.parquet", "merged");
    let merged = crate::checkpoint::store::NewFile { rows: 6, ..merged };
    let replaces = TWO.map(|path| Replaced { path: path.into(), rows: 3 }).to_vec();
    let draft = Rewriting { rewrite: Rewrite { generation: 1, replaces }, files: vec![merged], time: DateTime::UNIX_EPOCH };
    let (record, paths, fs_of) = (store.tip.rewriting(draft), Paths::new(&root), Posix::default());
    let swap = Swap::of(&fs_of, &paths, &record, "aaaaaaaaaaaaaaaa").unwrap();
    swap.build().unwrap();
    fs::write(us.join("late"), "late").unwrap();
    fs::create_dir(us.join("later")).unwrap();
    swap.exchange().unwrap();
    assert!(!us.join("late").exists(), "a reader does not see it for a moment");
    swap.leave().unwrap();
    assert_eq!(names(&us), ["events-2026-01-01-00-5.parquet", "events-4.parquet", "late", "later"]);
    assert_eq!(names(&paths.workspace().unwrap()), [""; 0]);
}

#[test]
fn a_directory_that_holds_another_is_named_and_an_attempt_leaves_the_dataset_and_the_store_as_they_were() {
    let (_dir, root, mut store) = dataset();
    let us = root.join("region=us");
    fs::create_dir(us.join("_archive")).unwrap();
    let why = store.unswappable("region=us").unwrap().expect("it cannot be");
    assert!(why.contains("_archive"), "{why}");
    let error = rewrite(&mut store, TWO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert_eq!(names(&us), ["_archive", "events-2.parquet", "events-3.parquet", "events-4.parquet"]);
    commit(&mut store, "us");
    fs::remove_dir(us.join("_archive")).unwrap();
    assert_eq!(rewrite(&mut store, TWO).unwrap().sequence, 6);
    std::os::unix::fs::symlink("region=us", root.join("region=eu")).unwrap();
    assert!(store.unswappable("region=eu").unwrap().is_some_and(|why| why.contains("a link")));
}

#[test]
fn a_file_system_that_cannot_exchange_directories_beside_the_dataset_is_refused_with_a_sentence() {
    let (dir, _root, store) = dataset();
    // Something else has the name.
    fs::write(dir.path().join(".out.compaction"), "").unwrap();
    let error = store.check_swaps().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("nothing was compacted"), "{error}");
}

#[test]
fn a_rewrite_of_which_only_the_record_was_written_is_completed_by_the_next_start_and_until_then_the_old_files_count() {
    let (_dir, root, mut store) = dataset();
    let us = root.join("region=us");
    let before: Vec<_> = TWO.iter().map(|path| (root.join(path), fs::read(root.join(path)).unwrap())).collect();
    let record = rewrite(&mut store, TWO).unwrap();
    // As a kill right behind the record leaves it.
    let paths = Paths::new(&root);
    fs::create_dir(paths.staging_of(record.staged_by())).unwrap();
    let merged = root.join(&record.files[0].path);
    fs::rename(&merged, paths.staged(record.staged_by(), 0)).unwrap();
    before.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    let rows = |root: &Path| committed(root).unwrap().files.iter().map(|file| file.rows).collect::<Vec<_>>();
    assert_eq!(rows(&root), [3, 3, 3]);
    fs::write(us.join("NOTES"), "came meanwhile").unwrap();
    let again = open(&root).unwrap();
    assert_eq!(again.missing(), None);
    assert_eq!(names(&us), ["NOTES", "events-2026-01-01-00-5.parquet", "events-4.parquet"]);
    assert_eq!(rows(&root), [3, 6]);
}
