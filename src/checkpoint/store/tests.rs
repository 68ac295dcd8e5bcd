use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::batch::DeadLetterCounts;
use crate::durable::posix::Posix;
use crate::error::ErrorKind;
use crate::evidence::Key;
use crate::offsets::{OffsetRange, Partition, PartitionId};
use crate::source::SourceIdentity;

pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("amount", DataType::Int64, true), Field::new("region", DataType::Utf8, true)]))
}

fn simulator(_: DateTime<Utc>) -> SourceIdentity {
    SourceIdentity { kind: "simulator".into(), properties: BTreeMap::from([("seed".into(), "42".into())]) }
}

pub(crate) fn expected() -> Expected<'static> {
    Expected {
        source: &simulator,
        partition_by: vec![("region".into(), "Utf8".into())],
        schema: schema(),
        allow_new_columns: false,
        now: DateTime::from_timestamp(1_767_225_600, 0).unwrap(),
        new_key: Key::new([7; 32]),
        sharing: Sharing::alone(),
    }
}

pub(crate) fn open(root: &Path) -> Result<Store> {
    Store::open(Arc::new(Posix::default()), root, &expected())
}

/// Extends the committed offsets by `rows`.
pub(crate) fn advanced(store: &Store, rows: u64) -> Offsets {
    let mut offsets = store.offsets().clone();
    let id = PartitionId::new("events");
    let from = offsets.next_offset(&id).unwrap_or(0);
    let partition = Arc::new(Partition { id, label: "events".into() });
    offsets.extend(&OffsetRange::new(partition, from, from + rows)).unwrap();
    offsets
}

pub(crate) fn draft(store: &Store, files: Vec<NewFile>) -> Draft {
    let rows = |kind| files.iter().filter(|file: &&NewFile| file.kind == kind).map(|file| file.rows).sum::<u64>();
    let (rows_out, decode) = (rows(FileKind::Parquet), rows(FileKind::DeadLetters));
    let records_in = (rows_out + decode).max(1);
    let dead_letters = DeadLetterCounts { decode, ..DeadLetterCounts::default() };
    let filtered = records_in - rows_out - decode;
    Draft {
        offsets: advanced(store, records_in),
        counts: Counts { records_in, rows_out, filtered, expanded: 0, dead_letters },
        files,
        schema: schema(),
        trigger: Trigger::Interval,
        lookups: vec![],
        config_sha256: "c".repeat(64),
        sql_sha256: "d".repeat(64),
        time: DateTime::from_timestamp(1_767_225_600, 0).unwrap(),
    }
}

fn stage(staging: &mut Staging, path: &str, content: &str) -> NewFile {
    let mut file = staging.create().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    NewFile { staged: file.finish().unwrap(), path: path.into(), kind: FileKind::Parquet, rows: 3, event_time: None }
}

/// Commits a checkpoint of one file in `region`.
fn commit(store: &mut Store, region: &str) -> CommitRecord {
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
    assert_eq!((store.next_sequence(), store.offsets().spans().len()), (1, 0));
    let first = commit(&mut store, "us");
    let second = commit(&mut store, "eu");
    assert_eq!(std::fs::read_to_string(dir.path().join("region=eu/events-2.parquet")).unwrap(), "region=eu/events-2.parquet");
    assert_eq!((first.sequence, second.source.partitions[0].from), (1, first.source.partitions[0].to));

    let again = open(dir.path()).unwrap();
    assert_eq!((again.last(), again.next_sequence(), again.offsets()), (Some(&second), 3, store.offsets()));
    assert_eq!(std::fs::read_dir(dir.path().join("_pintail/staging")).unwrap().count(), 0);
    assert!(again.warnings().is_empty());
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
    std::fs::create_dir_all(paths.staging_of(1)).unwrap();
    std::fs::write(paths.staged(1, record.files[0].staged), bytes).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("region=us/events-1.parquet"), "{error}");
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
fn a_record_that_another_process_wrote_stops_the_commit_and_nothing_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    std::fs::create_dir_all(dir.path().join("_pintail/commits/000000")).unwrap();
    std::fs::write(dir.path().join("_pintail/commits/000000/0000000001.json"), "theirs").unwrap();
    let mut staging = store.staging();
    let file = stage(&mut staging, "region=us/a.parquet", "ours");
    let drafted = draft(&store, vec![file]);
    let error = store.commit(staging, drafted).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("another process"), "{error}");
    assert!(!dir.path().join("region=us/a.parquet").exists());
    let (staging, next) = (store.staging(), draft(&store, vec![]));
    assert!(store.commit(staging, next).unwrap_err().to_string().contains("only a restart"));
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
    assert_eq!(open(dir.path()).unwrap().next_sequence(), 1);
}

#[test]
fn a_published_file_that_somebody_removed_is_a_warning_and_a_changed_one_a_refusal() {
    let dir = tempfile::tempdir().unwrap();
    commit(&mut open(dir.path()).unwrap(), "us");
    let file = dir.path().join("region=us/events-1.parquet");
    std::fs::write(&file, "torn").unwrap();
    let error = open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("not what the record says"), "{error}");
    std::fs::remove_dir_all(dir.path().join("region=us")).unwrap();
    let mut store = open(dir.path()).unwrap();
    assert!(store.warnings()[0].contains("`region=us/events-1.parquet` of checkpoint 1"), "{:?}", store.warnings());
    commit(&mut store, "us");
}

#[test]
fn a_flipped_bit_in_the_last_record_and_a_broken_chain_refuse_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    commit(&mut store, "us");
    let second = commit(&mut store, "eu");
    let path = dir.path().join("_pintail/commits/000000/0000000002.json");
    let bytes = std::fs::read(&path).unwrap();
    let mut flipped = bytes.clone();
    flipped[20] ^= 1;
    std::fs::write(&path, flipped).unwrap();
    assert!(open(dir.path()).unwrap_err().to_string().contains("checksum"));
    let (unchained, _) = CommitRecord { previous: "f".repeat(64), ..second }.encode().unwrap();
    std::fs::write(&path, unchained).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("pintail verify"), "{error}");
    std::fs::write(&path, bytes).unwrap();
    open(dir.path()).unwrap();
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
    assert!(refused(&Expected { partition_by: vec![], ..expected() }).contains("partition_by"));
    let text = Arc::new(Schema::new(vec![Field::new("amount", DataType::Utf8, true), Field::new("region", DataType::Utf8, true)]));
    assert!(refused(&Expected { schema: text, ..expected() }).contains("`amount` is Utf8"));
}

#[test]
fn records_without_their_format_refuse_to_start() {
    let dir = tempfile::tempdir().unwrap();
    commit(&mut open(dir.path()).unwrap(), "us");
    std::fs::remove_file(dir.path().join("_pintail/FORMAT")).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().contains("FORMAT` is missing, but there are 1 commit records"), "{error}");
}

/// Lays the end of a log of `count` records without the cost of committing them: of all but the last two only the names count.
fn lay_log(root: &Path, count: u64) {
    let store = open(root).unwrap();
    let (mut previous, paths) = (store.previous.clone(), store.paths.clone());
    let template = store.record(&store.staging(), draft(&store, vec![])).unwrap();
    for sequence in paths::first_of_dir(count)..=count {
        std::fs::create_dir_all(paths.commit_dir(sequence)).unwrap();
        std::fs::write(paths.record(sequence), "").unwrap();
    }
    for sequence in [count - 1, count] {
        let mut record = CommitRecord { sequence, previous, ..template.clone() };
        let span = &mut record.source.partitions[0];
        (span.from, span.to, span.new) = (sequence - 1, sequence, false);
        let (bytes, sha256) = record.encode().unwrap();
        std::fs::write(paths.record(sequence), bytes).unwrap();
        previous = sha256;
    }
}

#[test]
fn a_dataset_of_a_hundred_thousand_checkpoints_opens_by_its_last_directory() {
    let dir = tempfile::tempdir().unwrap();
    // The worst case: the last directory is full.
    lay_log(dir.path(), 109_999);
    let started = Instant::now();
    let mut store = open(dir.path()).unwrap();
    let took = started.elapsed();
    assert_eq!(store.next_sequence(), 110_000);
    assert!(took.as_millis() < 300, "{took:?}");
    commit(&mut store, "us");
    assert!(dir.path().join("_pintail/commits/000011/0000110000.json").is_file());
}
