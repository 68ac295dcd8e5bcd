use std::fs;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use pintail_core::batch::{DeadLetter, LetterForm, Phase};
use pintail_core::error::ErrorKind;
use pintail_core::offsets::PartitionId;
use pintail_storage::checkpoint::dead_letters::DeadLetterFile;
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::reader;
use pintail_storage::checkpoint::record::{Action, ActionKind, FileKind};
use pintail_storage::checkpoint::store::{Adopted, NewFile, Store};
use pintail_storage::samples::{draft, open};

use super::*;

/// Commits a checkpoint of one Parquet file and one rejected record.
fn commit(store: &mut Store, rows: i64) {
    let (mut staging, sequence) = (store.staging(), store.next_sequence());
    let mut staged = staging.create().unwrap();
    let amounts: arrow::array::ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let batch = RecordBatch::try_from_iter([("amount", amounts)]).unwrap();
    let mut writer = ArrowWriter::try_new(&mut staged, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let path = format!("region=us/events-{sequence}.parquet");
    let rows = rows as u64;
    let data = NewFile { staged: staged.finish().unwrap(), path, kind: FileKind::Parquet, rows, event_time: None, columns: vec![] };
    let mut letters = DeadLetterFile::create(&mut staging, Paths::new("").dead_letters_of(sequence)).unwrap();
    let bytes = Bytes::from_static(b"bad");
    let letter = DeadLetter {
        phase: Phase::Decode,
        reason: "bad".into(),
        partition: PartitionId::new("p"),
        offset: 0,
        form: LetterForm::Record,
        bytes,
        length: 3,
        message: None,
    };
    letters.write(&letter, None).unwrap();
    let draft = draft(store, vec![data, letters.finish().unwrap()]);
    store.commit(staging, draft).unwrap();
}

fn dataset() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    [3, 4, 5].into_iter().for_each(|rows| commit(&mut store, rows));
    dir
}

fn verify(out: &Path, since: Option<u64>) -> (String, Option<Error>) {
    let mut text = Vec::new();
    let error = run(out, since, Depth::Content, &mut text).err();
    (String::from_utf8(text).unwrap(), error)
}

fn contradiction(out: &Path, needle: &str) {
    let (text, error) = verify(out, None);
    let error = error.unwrap_or_else(|| panic!("found clean: {text}"));
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(error.to_string().matches(needle).count() == 1 && !text.contains(needle), "`{needle}` is not once in: {error}\n{text}");
    assert!(!text.contains("clean"), "{text}");
}

#[test]
fn a_sound_dataset_is_clean_and_its_counts_are_told() {
    let dir = dataset();
    let (text, error) = verify(dir.path(), None);
    assert!(error.is_none(), "{text}");
    assert!(text.contains("3 checkpoints, 6 files"), "{text}");
    assert!(text.contains("15 records in + 0 expanded = 12 rows out + 0 filtered + 3 dead letters"), "{text}");
    assert!(text.ends_with("clean\n"), "{text}");
}

#[test]
fn a_flipped_bit_a_cut_and_a_stray_file_are_contradictions() {
    let dir = dataset();
    let file = dir.path().join("region=us/events-3.parquet");
    let sound = fs::read(&file).unwrap();
    let mut flipped = sound.clone();
    flipped[10] ^= 1;
    fs::write(&file, flipped).unwrap();
    contradiction(dir.path(), "commit record 3 says: its SHA-256");
    contradiction(dir.path(), "restore what differs from its record from a copy");
    contradiction(dir.path(), "expire --before 2026-01-01T00:00:01Z");
    assert!(verify(dir.path(), Some(4)).1.is_none(), "only later files were to be read");
    fs::write(&file, &sound[1..]).unwrap();
    contradiction(dir.path(), "bytes, not");
    fs::write(&file, sound).unwrap();
    fs::write(dir.path().join("region=us/copy.parquet"), "").unwrap();
    contradiction(dir.path(), "copy.parquet` is visible, but no commit record names it");
    contradiction(dir.path(), "pintail adopt");
}

#[test]
fn a_file_with_other_rows_than_its_record_is_a_contradiction() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path()).unwrap();
    let mut staging = store.staging();
    let mut staged = staging.create().unwrap();
    staged.write_all(b"no parquet").unwrap();
    let path = "region=us/x.parquet".to_owned();
    let file = NewFile { staged: staged.finish().unwrap(), path, kind: FileKind::Parquet, rows: 1, event_time: None, columns: vec![] };
    let draft = draft(&store, vec![file]);
    store.commit(staging, draft).unwrap();
    contradiction(dir.path(), "no Parquet file");
}

#[test]
fn a_torn_and_a_missing_record_are_contradictions_and_the_rest_is_still_read() {
    let dir = dataset();
    let record = dir.path().join("_pintail/commits/000000/0000000003.json");
    let sound = fs::read(&record).unwrap();
    fs::write(&record, &sound[..50]).unwrap();
    contradiction(dir.path(), "0000000003.json` cannot be trusted");
    assert!(verify(dir.path(), None).0.contains("2 checkpoints"));
    fs::remove_file(&record).unwrap();
    contradiction(dir.path(), "commit record 3 is missing");
}

#[test]
fn a_missing_file_is_a_contradiction_unless_its_rows_are_older_than_what_was_declared_expired() {
    let dir = dataset();
    fs::remove_file(dir.path().join("region=us/events-3.parquet")).unwrap();
    contradiction(dir.path(), "events-3.parquet` is missing");
    let refused = reader::committed(dir.path()).unwrap_err();
    assert!(refused.kind() == ErrorKind::State && refused.to_string().contains("1 committed file of"), "{refused}");
    let declare = |at: i64| {
        let before = Some(DateTime::from_timestamp(at, 0).unwrap());
        let action = Action { before, ..Action::new(ActionKind::Expire, "declared") };
        let mut store = open(dir.path()).unwrap();
        store.act(action, Adopted::default(), DateTime::from_timestamp(at, 0).unwrap()).unwrap();
    };
    // Its record was made at that second.
    declare(1_767_225_600);
    contradiction(dir.path(), "events-3.parquet` is missing");
    declare(1_767_225_601);
    let (text, error) = verify(dir.path(), None);
    assert!(error.is_none() && text.contains("1 expired files are gone") && text.contains("before 2026-01-01T00:00:01Z"), "{text}");
    let committed = reader::committed(dir.path()).unwrap();
    assert_eq!(committed.partition_by, [("region".to_owned(), "Utf8".to_owned())]);
    let paths: Vec<_> = committed.files.iter().map(|file| committed.path(file)).collect();
    assert_eq!(paths, [2, 4].map(|n| PathBuf::from(format!("region=us/events-{n}.parquet"))));
}

#[test]
fn a_directory_without_a_format_is_no_dataset() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(verify(dir.path(), None).1.unwrap().kind(), ErrorKind::Config);
}

#[test]
fn a_file_that_cannot_be_read_contradicts_nothing_and_is_not_given_up() {
    let out = tempfile::tempdir().unwrap();
    let mut store = open(out.path()).unwrap();
    let name = format!("events-{}.parquet", store.next_sequence());
    commit(&mut store, 3);
    drop(store);
    let file = out.path().join("region=us").join(&name);
    let bytes = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    // Whoever opens it is refused, root too.
    std::os::unix::fs::symlink(&name, &file).unwrap();
    let refused = run(out.path(), None, Depth::Content, &mut io::sink()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Io, "{refused}");
    assert!(refused.to_string().contains(&name) && !refused.to_string().contains("expire"), "{refused}");
    fs::remove_file(&file).unwrap();
    fs::write(&file, bytes).unwrap();
    run(out.path(), None, Depth::Content, &mut io::sink()).unwrap();
}
