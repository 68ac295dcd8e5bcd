use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use arrow::datatypes::{DataType, Field, Schema};
use pintail_core::error::ErrorKind;
use pintail_core::evidence::Key;
use pintail_core::identity::SourceIdentity;
use pintail_core::offsets::PartitionId;

use super::*;
use crate::checkpoint::format::{Format, PartitionColumn};
use crate::checkpoint::paths::StagedBy;
use crate::checkpoint::record::FileKind;
use crate::checkpoint::state::State;
use crate::checkpoint::{columns, paths, snapshot};
use crate::durable::posix::Posix;
use crate::samples::{draft, expected, open, schema, simulator};

pub(super) fn stage(staging: &mut Staging, path: &str, content: &str) -> NewFile {
    let mut file = staging.create().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    NewFile { staged: file.finish().unwrap(), path: path.into(), kind: FileKind::Parquet, rows: 3, event_time: None, columns: vec![] }
}

/// Commits a checkpoint of one file in `region`.
pub(super) fn commit(store: &mut Store, region: &str) -> CommitRecord {
    let mut staging = store.staging();
    let path = format!("region={region}/events-{}.parquet", store.next_sequence());
    let file = stage(&mut staging, &path, &path);
    let draft = draft(store, vec![file]);
    store.commit(staging, draft).unwrap().clone()
}

#[test]
fn a_commit_is_visible_complete_and_where_the_next_start_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    assert_eq!((store.epoch(), store.next_sequence(), store.offsets().spans().len()), (1, 2, 0));
    let first = commit(&mut store, "us");
    let second = commit(&mut store, "eu");
    assert_eq!(std::fs::read_to_string(dir.path().join("region=eu/events-3.parquet")).unwrap(), "region=eu/events-3.parquet");
    assert_eq!((first.sequence, second.source.partitions[0].from), (2, first.source.partitions[0].to));
    assert_eq!((first.schema.len(), second.schema.len()), (2, 0), "a record says what changed");

    let again = open(dir.path()).unwrap();
    assert_eq!((again.epoch(), again.next_sequence(), again.offsets()), (4, 5, store.offsets()));
    assert_eq!(again.last().unwrap().opened.as_ref().unwrap().pid, std::process::id());
    assert_eq!(std::fs::read_dir(dir.path().join("_pintail/staging")).unwrap().count(), 0);
    assert_eq!(again.missing(), None);
}

#[test]
fn a_staged_file_of_the_right_length_with_other_bytes_is_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let record = commit(&mut open(dir.path()).unwrap(), "us");
    // As a kill right after the commit point leaves it, but for a flipped bit.
    let paths = Paths::new(dir.path());
    let place = paths.published(&record.files[0].path);
    let mut bytes = std::fs::read(&place).unwrap();
    bytes[0] ^= 1;
    std::fs::remove_file(&place).unwrap();
    std::fs::create_dir_all(paths.staging_of(record.staged_by())).unwrap();
    std::fs::write(paths.staged(record.staged_by(), record.files[0].staged), bytes).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("region=us/events-2.parquet"), "{error}");
    assert!(!place.exists());
}

#[test]
fn a_checkpoint_without_rows_advances_the_offsets_and_touches_no_staging() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    let (staging, draft) = (store.staging(), draft(&store, vec![]));
    store.commit(staging, draft).unwrap();
    assert_eq!(open(dir.path()).unwrap().offsets().next_offset(&PartitionId::new("events")), Some(1));
}

#[test]
fn a_draft_that_does_not_join_the_last_commit_or_stands_still_is_refused_and_the_store_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    let late = draft(&store, vec![]);
    commit(&mut store, "us");
    let staging = store.staging();
    let error = store.commit(staging, late).unwrap_err();
    assert!(error.to_string().contains("events is committed up to 3, this checkpoint begins at 0"), "{error}");
    let still = Draft { offsets: store.offsets().clone(), ..draft(&store, vec![]) };
    let staging = store.staging();
    assert!(store.commit(staging, still).unwrap_err().to_string().contains("stands for no records"));
    commit(&mut store, "us");
}

#[test]
fn a_process_is_fenced_by_the_start_of_another_and_publishes_nothing_of_what_it_staged() {
    let dir = tempfile::tempdir().unwrap();
    let mut fenced = open(dir.path()).unwrap();
    commit(&mut fenced, "us");
    let mut staging = fenced.staging();
    let file = stage(&mut staging, "region=us/a.parquet", "of the one that is fenced");
    let drafted = draft(&fenced, vec![file]);
    // No lock keeps it away. It removes the staging of the first.
    let mut other = open(dir.path()).unwrap();
    assert!(!staging.dir().exists());
    let error = fenced.commit(staging, drafted).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TryAgain, "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    assert!(!dir.path().join("region=us/a.parquet").exists());
    let (staging, next) = (fenced.staging(), draft(&fenced, vec![]));
    assert!(fenced.commit(staging, next).unwrap_err().to_string().contains("only a restart"));
    commit(&mut other, "eu");
    // The one that was fenced staged nothing that another start takes for the other's.
    assert_eq!(open(dir.path()).unwrap().offsets().next_offset(&PartitionId::new("events")), Some(6));
}

#[test]
fn a_commit_that_fails_behind_its_commit_point_is_not_taken_for_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    commit(&mut store, "us");
    let before = store.tip.last.clone();
    commit(&mut store, "us");
    // As it stands then: the record is there, and the process does not count it.
    store.tip.last = before;
    assert!(store.fenced().is_none());
    let other = open(dir.path()).unwrap();
    store.tip.last = other.tip.last.clone().map(|last| CommitRecord { sequence: last.sequence - 1, ..last });
    assert_eq!(store.fenced().map(|error| error.kind()), Some(ErrorKind::TryAgain), "the open record of the other one");
}

#[test]
fn what_was_staged_and_removed_is_not_committed() {
    let dir = tempfile::tempdir().unwrap();
    for part in ["", "/0.inprogress"] {
        let mut store = open(dir.path()).unwrap();
        let mut staging = store.staging();
        let file = stage(&mut staging, "region=us/a.parquet", "removed");
        let removed = std::path::PathBuf::from(format!("{}{part}", staging.dir().display()));
        let done = if removed.is_dir() { std::fs::remove_dir_all(removed) } else { std::fs::remove_file(removed) };
        done.unwrap();
        let drafted = draft(&store, vec![file]);
        let error = store.commit(staging, drafted).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TryAgain, "{error}");
        assert!(!Paths::new(dir.path()).record(store.next_sequence()).exists());
    }
    let store = open(dir.path()).unwrap();
    std::fs::remove_dir_all(dir.path().join("_pintail/staging")).unwrap();
    assert_eq!(store.staging().create().unwrap_err().kind(), ErrorKind::TryAgain);
    commit(&mut open(dir.path()).unwrap(), "us");
}

#[test]
fn a_ledger_that_is_removed_under_a_process_is_not_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    commit(&mut store, "us");
    std::fs::remove_dir_all(dir.path().join("_pintail/commits")).unwrap();
    let mut staging = store.staging();
    let file = stage(&mut staging, "region=us/a.parquet", "of a ledger that is gone");
    let drafted = draft(&store, vec![file]);
    let error = store.commit(staging, drafted).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State, "{error}");
    assert!(!dir.path().join("_pintail/commits").exists() && !dir.path().join("region=us/a.parquet").exists());
}

#[test]
fn a_younger_process_keeps_its_staging_whatever_an_older_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let mut older = open(dir.path()).unwrap();
    let mut younger = open(dir.path()).unwrap();
    let mut staging = younger.staging();
    let file = stage(&mut staging, "region=us/a.parquet", "of the younger one");
    older.clear_older_for_test();
    let drafted = draft(&younger, vec![file]);
    younger.commit(staging, drafted).unwrap();
    assert!(dir.path().join("region=us/a.parquet").exists());
}

#[test]
fn staging_of_a_process_that_an_older_copy_of_the_dataset_does_not_know_goes() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    // The next start is number 2, as the other process was in the newer copy.
    let lost = [StagedBy { sequence: 11, epoch: 7 }, StagedBy { sequence: 3, epoch: 2 }].map(|by| Paths::new(dir.path()).staging_of(by));
    for lost in &lost {
        std::fs::create_dir(lost).unwrap();
        std::fs::write(lost.join("0.inprogress"), "of a process whose records are gone").unwrap();
    }
    let mut store = open(dir.path()).unwrap();
    assert!(!lost.iter().any(|lost| lost.exists()), "{lost:?}");
    commit(&mut store, "us");
}

#[test]
fn a_staged_file_that_somebody_replaced_stops_before_the_commit_point() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    let mut staging = store.staging();
    let file = stage(&mut staging, "region=us/a.parquet", "ours");
    let place = staging.dir().join("0.inprogress");
    // Of the same length, and another file: made while the first is there, it has a number of its own.
    std::fs::write(dir.path().join("theirs"), "them").unwrap();
    std::fs::rename(dir.path().join("theirs"), &place).unwrap();
    let drafted = draft(&store, vec![file]);
    let error = store.commit(staging, drafted).unwrap_err();
    assert!(error.to_string().contains("is not the file that was written there"), "{error}");
    assert_eq!(open(dir.path()).unwrap().offsets().spans().len(), 0);
}

#[test]
fn a_stray_file_in_the_place_of_a_new_one_stops_before_the_commit_point() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    std::fs::create_dir(dir.path().join("region=us")).unwrap();
    std::fs::write(dir.path().join("region=us/a.parquet"), "stray").unwrap();
    let mut staging = store.staging();
    let file = stage(&mut staging, "region=us/a.parquet", "ours");
    let draft = draft(&store, vec![file]);
    assert!(store.commit(staging, draft).unwrap_err().to_string().contains("region=us/a.parquet` is in the place"));
    assert_eq!(open(dir.path()).unwrap().next_sequence(), 3);
}

#[test]
fn a_published_file_that_somebody_removed_is_named_and_a_changed_one_refused() {
    let dir = tempfile::tempdir().unwrap();
    commit(&mut open(dir.path()).unwrap(), "us");
    let file = dir.path().join("region=us/events-2.parquet");
    std::fs::write(&file, "torn").unwrap();
    let error = open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("not what the record says"), "{error}");
    std::fs::remove_dir_all(dir.path().join("region=us")).unwrap();
    let mut store = open(dir.path()).unwrap();
    assert!(store.missing().is_some_and(|missing| missing.contains("`region=us/events-2.parquet`")), "{:?}", store.missing());
    commit(&mut store, "us");
}

#[test]
fn a_flipped_bit_in_the_last_record_and_a_broken_chain_refuse_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    commit(&mut store, "us");
    let second = commit(&mut store, "eu");
    let path = dir.path().join("_pintail/commits/000000/0000000003.json");
    let bytes = std::fs::read(&path).unwrap();
    let mut flipped = bytes.clone();
    flipped[20] ^= 1;
    std::fs::write(&path, flipped).unwrap();
    assert!(open(dir.path()).unwrap_err().to_string().contains("checksum"));
    let (unchained, _) = CommitRecord { previous: "f".repeat(64), ..second.clone() }.encode().unwrap();
    std::fs::write(&path, unchained).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("restore it"), "{error}");
    let mut other_state = second;
    other_state.source.partitions[0].to += 1;
    std::fs::write(&path, other_state.encode().unwrap().0).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(error.kind() == ErrorKind::State && error.to_string().contains("the state after it is"), "{error}");
    std::fs::write(&path, bytes).unwrap();
    open(dir.path()).unwrap();
}

#[test]
fn the_log_of_a_table_is_no_file_of_a_dataset() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("_delta_log")).unwrap();
    std::fs::write(dir.path().join("_delta_log/00000000000000000010.checkpoint.parquet"), "").unwrap();
    open(dir.path()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("_region=us")).unwrap();
    std::fs::write(dir.path().join("_region=us/a.parquet"), "").unwrap();
    assert_eq!(open(dir.path()).unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn files_without_a_ledger_and_a_ledger_older_than_its_files_are_refused_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    let older = commit_named(&mut store, "region=us/events-2026-01-05-00-2.parquet");
    let copy = tempfile::tempdir().unwrap();
    copy_dir(&dir.path().join("_pintail"), copy.path());
    commit_named(&mut store, "region=us/events-2026-01-05-00-3.parquet");
    drop(store);
    let private = dir.path().join("_pintail");

    std::fs::remove_dir_all(&private).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("pintail adopt") && error.to_string().contains(".parquet"), "{error}");
    assert!(!private.exists(), "nothing is made");

    std::fs::create_dir(&private).unwrap();
    copy_dir(copy.path(), &private);
    let error = open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State, "{error}");
    assert!(error.to_string().contains("events-2026-01-05-00-3.parquet` is of checkpoint 3, and the last commit record is 2"), "{error}");

    std::fs::remove_dir_all(private.join("commits")).unwrap();
    std::fs::remove_file(dir.path().join("region=us/events-2026-01-05-00-3.parquet")).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(error.kind() == ErrorKind::State && error.to_string().contains("the last commit record is missing"), "{error}");
    assert_eq!(older.sequence, 2);
}

/// Commits a checkpoint of one file with that path.
fn commit_named(store: &mut Store, path: &str) -> CommitRecord {
    let mut staging = store.staging();
    let file = stage(&mut staging, path, path);
    let draft = draft(store, vec![file]);
    store.commit(staging, draft).unwrap().clone()
}

fn copy_dir(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.as_ref().unwrap().file_name()));
        if from.is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy_dir(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

#[test]
fn a_snapshot_stands_for_the_records_before_it_and_old_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    (0..200).for_each(|_| drop(commit(&mut store, "us")));
    let paths = Paths::new(dir.path());
    let snapshots = || {
        let mut found: Vec<_> =
            std::fs::read_dir(paths.snapshots()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        found
    };
    assert_eq!(snapshots(), ["0000000128.json", "0000000192.json"]);
    assert_eq!(store.last().unwrap().snapshot.as_ref().unwrap().sequence, 192);
    // The records before it are not read.
    std::fs::write(paths.record(100), "torn").unwrap();
    let again = open(dir.path()).unwrap();
    assert_eq!((again.offsets(), again.state().sha256()), (store.offsets(), store.state().sha256()));
    // It is not believed either.
    let path = paths.snapshot(192);
    let sound = std::fs::read_to_string(&path).unwrap();
    // Whole in itself, and not the one that the record names.
    let other = String::from_utf8(snapshot::encode(&store.format().dataset_id, 192, &State::default()).0).unwrap();
    let torn = sound.replacen("\"to\":573", "\"to\":574", 1);
    for (wrong, needle) in [(torn, "its content has"), (String::new(), "cut off"), (other, "the record that names it says")] {
        std::fs::write(&path, wrong).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(error.kind() == ErrorKind::State && error.to_string().contains(needle), "{error}");
        assert!(error.to_string().contains("pintail repair --snapshot"), "{error}");
    }
}

#[test]
fn a_snapshot_of_another_state_in_the_place_of_a_new_one_is_named_by_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(Arc::new(Posix::default()), dir.path(), &Expected { records_max: 2, ..expected() }).unwrap();
    commit(&mut store, "us");
    std::fs::write(store.paths().snapshot(2), snapshot::encode(&store.format().dataset_id, 2, &State::default()).0).unwrap();
    let error = store.commit(store.staging(), draft(&store, vec![])).unwrap_err();
    assert!(error.kind() == ErrorKind::State && error.to_string().contains("0000000002.json` is there"), "{error}");
    assert!(!store.paths().record(3).exists());
}

#[test]
fn another_key_than_the_records_were_made_with_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    commit(&mut open(dir.path()).unwrap(), "us");
    let path = Paths::new(dir.path()).key();
    for key in ["08".repeat(32) + "\n", "08".repeat(31) + "\n", String::new()] {
        std::fs::write(&path, key).unwrap();
        assert_eq!(open(dir.path()).unwrap_err().kind(), ErrorKind::State);
    }
    let other = Expected { new_key: Key::new([9; 32]), ..expected() };
    let refused = || Store::open(Arc::new(Posix::default()), dir.path(), &other).unwrap_err().to_string();
    std::fs::write(&path, "08".repeat(32) + "\n").unwrap();
    assert!(refused().contains("KEY` is not the key"), "{}", refused());
    // One that is gone is not made anew: it would lie in the way of whoever restores it.
    std::fs::remove_file(&path).unwrap();
    assert!(refused().contains("KEY` is missing"), "{}", refused());
    assert!(!path.exists());
}

#[test]
fn another_seed_another_partition_and_another_column_type_are_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    commit(&mut open(dir.path()).unwrap(), "us");
    let refused = |expected: &Expected| {
        let error = Store::open(Arc::new(Posix::default()), dir.path(), expected).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        error.to_string()
    };
    let seed = |_| SourceIdentity { properties: BTreeMap::from([("seed".into(), "43".into())]), ..simulator(DateTime::UNIX_EPOCH) };
    assert!(refused(&Expected { source: &seed, ..expected() }).contains("seed"));
    assert!(refused(&Expected { partition_by: vec![], ..expected() }).contains("partitioned by"));
    let text = Arc::new(Schema::new(vec![Field::new("amount", DataType::Utf8, true), Field::new("region", DataType::Utf8, true)]));
    assert!(refused(&Expected { schema: Some(text), ..expected() }).contains("`amount` is VARCHAR"));
}

#[test]
fn records_without_their_format_refuse_to_start() {
    let dir = tempfile::tempdir().unwrap();
    commit(&mut open(dir.path()).unwrap(), "us");
    std::fs::remove_file(dir.path().join("_pintail/FORMAT")).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("FORMAT` is missing, but there are 2 commit records"), "{error}");
}

/// Lays the end of a log of `count` records of version 1 without the cost of committing them: of all but the last two only the names count. Whoever
/// reads one of the others, or looks into an earlier directory, fails.
fn lay_log(root: &Path, count: u64) {
    let format = Format::new(expected().now, simulator, vec![PartitionColumn { name: "region".into(), data_type: "Utf8".into() }]);
    let (paths, (bytes, _)) = (Paths::new(root), format.encode());
    std::fs::create_dir_all(paths.private()).unwrap();
    std::fs::write(paths.format(), bytes).unwrap();
    for sequence in paths::first_of_dir(count)..=count {
        std::fs::create_dir_all(paths.commit_dir(sequence)).unwrap();
        std::fs::write(paths.record(sequence), "").unwrap();
    }
    let mut previous = "a".repeat(64);
    for sequence in [count - 1, count] {
        let mut record =
            CommitRecord { previous, version: 1, epoch: 0, state_sha256: None, key: None, ..crate::samples::checkpoint(sequence) };
        record.source.partitions = vec![crate::samples::span("events", sequence - 1, sequence, false)];
        record.schema = columns::describe(&schema());
        record.schema_version = 0;
        let (bytes, sha256) = record.encode().unwrap();
        std::fs::write(paths.record(sequence), bytes).unwrap();
        previous = sha256;
    }
}

#[test]
fn a_dataset_of_a_hundred_thousand_checkpoints_of_version_1_opens_by_its_last_directory_and_goes_on_in_version_2() {
    let dir = tempfile::tempdir().unwrap();
    // The worst case: the last directory is full.
    lay_log(dir.path(), 109_999);
    let mut store = open(dir.path()).unwrap();
    assert_eq!((store.epoch(), store.offsets().next_offset(&PartitionId::new("events"))), (110_000, Some(109_999)));
    let first = commit(&mut store, "us");
    assert_eq!(first.snapshot.as_ref().unwrap().sequence, 109_999);
    assert!(first.schema.is_empty(), "the columns of version 1 are numbered and the same");
    assert!(dir.path().join("_pintail/commits/000011/0000110001.json").is_file());
    assert_eq!(open(dir.path()).unwrap().offsets(), store.offsets());
}
