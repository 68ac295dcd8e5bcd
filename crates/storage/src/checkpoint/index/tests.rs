use std::fs;

use pintail_core::identity::SourceIdentity;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::checkpoint::format::Format;
use crate::checkpoint::process::Process;
use crate::checkpoint::reader::{Dataset, committed};
use crate::checkpoint::record::{Action, EventTimes};
use crate::durable::posix::Posix;
use crate::samples::checkpoint;

/// A dataset whose files are empty: nobody reads them.
pub(crate) struct Laid {
    dir: TempDir,
    seal: String,
    next: u64,
}

impl Laid {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        fs::create_dir_all(paths.commits()).unwrap();
        let identity = |_| SourceIdentity { kind: "file".into(), properties: std::collections::BTreeMap::default() };
        let (bytes, seal) = Format::new(Utc::now(), identity, Vec::new()).encode();
        fs::write(paths.format(), bytes).unwrap();
        Self { dir, seal, next: 1 }
    }

    fn paths(&self) -> Paths {
        Paths::new(self.dir.path())
    }

    fn record(&self) -> CommitRecord {
        let path = format!("region=r{}/events-2026-01-05-00-{}.parquet", self.next % 3, self.next);
        let min = DateTime::from_timestamp(1_767_571_200 + self.next as i64, 0).unwrap();
        let micros = u64::to_le_bytes(min.timestamp_micros() as u64);
        let bound = Some(pintail_core::digest::hex(&micros));
        let file = FileEntry {
            path,
            staged: 0,
            kind: FileKind::Parquet,
            rows: 3,
            bytes: 10,
            sha256: "c".repeat(64),
            event_time: Some(EventTimes { min, max: min }),
            columns: vec![ColumnStatistics { id: 2, bytes: 5, nulls: Some(0), min: bound.clone(), max: bound }],
            upload: None,
        };
        let column = |id, name: &str, data_type: &str| OutputColumn { id, name: name.into(), data_type: data_type.into(), nullable: true };
        let columns = vec![
            column(1, "region", "Utf8"),
            column(2, "ts", &DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None).to_string()),
        ];
        CommitRecord {
            previous: self.seal.clone(),
            counts: Counts { records_in: 3, rows_out: 3, ..Counts::default() },
            files: vec![file],
            epoch: self.next - 1,
            schema: if self.next == 1 { columns } else { Vec::new() },
            ..checkpoint(self.next)
        }
    }

    fn add(&mut self, record: CommitRecord) {
        let paths = self.paths();
        for file in &record.files {
            let place = paths.published(&file.path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, "x".repeat(file.bytes as usize)).unwrap();
        }
        let (bytes, sha256) = record.encode().unwrap();
        fs::create_dir_all(paths.commit_dir(self.next)).unwrap();
        fs::write(paths.record(self.next), bytes).unwrap();
        (self.seal, self.next) = (sha256, self.next + 1);
    }

    fn add_many(&mut self, count: u64) {
        (0..count).for_each(|_| self.add(self.record()));
    }

    /// The index that a reader gets, with the records that have a segment.
    fn read(&self) -> (Index, u64) {
        let dataset = Dataset::open(self.paths()).unwrap();
        let loaded = Index::load(&Posix::default(), &self.paths(), &dataset.format().dataset_id, dataset.format_sha256());
        (dataset.index(&|| Ok(())).unwrap(), loaded.end())
    }

    fn segments(&self) -> Vec<PathBuf> {
        segments(&Posix::default(), &self.paths()).into_iter().map(|found| found.path).collect()
    }
}

#[test]
fn an_index_says_what_the_records_say_and_covers_all_but_the_last_few() {
    let mut laid = Laid::new();
    laid.add_many(3 * SMALL + 5);
    let (plain, covered) = laid.read();
    assert_eq!((plain.end(), covered), (3 * SMALL + 5, 0));
    update(&laid.paths()).unwrap();
    let (indexed, covered) = laid.read();
    assert_eq!((&indexed, covered), (&plain, 3 * SMALL));
    assert_eq!(indexed.path(&indexed.records[6].files[0]), "region=r1/events-2026-01-05-00-7.parquet");
    assert_eq!(indexed.records[6].files[0].bounds(), [Bounds(2, 1_767_571_207_000_000, 1_767_571_207_000_000)]);
    assert_eq!(indexed.records[6].class, Some(0));
}

/// What the records say, the newest first, with the parts that they came in.
fn backwards(laid: &Laid) -> (Vec<(u64, u64, String)>, Vec<u64>) {
    let dataset = Dataset::open(laid.paths()).unwrap();
    let parts: Vec<Part> = dataset.backwards(laid.next - 1).collect::<Result<_>>().unwrap();
    let told = |part: &Part| -> Vec<_> {
        let path = |file: &IndexedFile| format!("{}/{}", part.dir(file), file.name());
        part.newest_first().map(|(sequence, record)| (sequence, record.counts.rows_out, path(&record.files[0]))).collect()
    };
    (parts.iter().flat_map(told).collect(), parts.iter().map(|part| part.from).collect())
}

#[test]
fn from_its_end_an_index_says_the_same_and_no_record_is_read_that_a_segment_holds() {
    let mut laid = Laid::new();
    laid.add_many(LARGE + SMALL + 2);
    let (plain, parts) = backwards(&laid);
    assert_eq!((plain.len() as u64, parts.len() as u64), (LARGE + SMALL + 2, LARGE + SMALL + 2));
    assert_eq!(
        plain[0],
        (LARGE + SMALL + 2, 3, format!("region=r{}/events-2026-01-05-00-{}.parquet", (LARGE + SMALL + 2) % 3, LARGE + SMALL + 2))
    );
    update(&laid.paths()).unwrap();
    (1..=LARGE + SMALL).for_each(|sequence| fs::remove_file(laid.paths().record(sequence)).unwrap());
    let (indexed, parts) = backwards(&laid);
    assert_eq!(parts, [LARGE + SMALL + 2, LARGE + SMALL + 1, LARGE + 1, 1]);
    assert_eq!(indexed, plain);
}

#[test]
fn from_its_end_a_segment_that_is_damaged_or_of_other_records_is_passed_over() {
    let mut laid = Laid::new();
    laid.add_many(3 * SMALL);
    let (plain, _) = backwards(&laid);
    update(&laid.paths()).unwrap();
    let of_others = |path: &PathBuf| {
        let (mut segment, _) = sealed::unseal::<Segment>(&fs::read(path).unwrap()).unwrap();
        segment.seal = "d".repeat(64);
        fs::write(path, sealed::seal(&segment).0).unwrap();
    };
    for (place, damage) in [(1, &(|path: &PathBuf| fs::write(path, "").unwrap()) as &dyn Fn(&PathBuf)), (2, &of_others)] {
        damage(&laid.segments()[place]);
        let (indexed, parts) = backwards(&laid);
        assert_eq!(indexed, plain);
        assert_eq!(parts.len() as u64, 3 - place as u64 + place as u64 * SMALL);
    }
}

#[test]
fn from_its_end_an_index_whose_records_do_not_begin_at_format_is_an_error() {
    let mut laid = Laid::new();
    laid.add_many(SMALL + 1);
    update(&laid.paths()).unwrap();
    let path = &laid.segments()[0];
    let (mut segment, _) = sealed::unseal::<Segment>(&fs::read(path).unwrap()).unwrap();
    segment.previous = "d".repeat(64);
    fs::write(path, sealed::seal(&segment).0).unwrap();
    let dataset = Dataset::open(laid.paths()).unwrap();
    let parts: Vec<_> = dataset.backwards(SMALL + 1).collect();
    assert!(parts.len() == 2 && parts[1].is_err(), "{parts:?}");
}

#[test]
fn many_small_segments_become_a_large_one() {
    let mut laid = Laid::new();
    laid.add_many(LARGE + SMALL);
    update(&laid.paths()).unwrap();
    assert_eq!(laid.segments().len(), 2);
    let (indexed, covered) = laid.read();
    assert_eq!(covered, LARGE + SMALL);
    fs::remove_dir_all(laid.paths().index()).unwrap();
    assert_eq!(laid.read(), (indexed, 0));
}

#[test]
fn a_damaged_or_missing_segment_is_passed_over_and_written_again() {
    for damage in [
        |path: &PathBuf| fs::remove_file(path).unwrap(),
        |path: &PathBuf| fs::write(path, "").unwrap(),
        |path: &PathBuf| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).unwrap();
        },
    ] {
        let mut laid = Laid::new();
        laid.add_many(3 * SMALL);
        update(&laid.paths()).unwrap();
        let (before, _) = laid.read();
        damage(&laid.segments()[1]);
        assert_eq!(laid.read(), (before.clone(), SMALL));
        update(&laid.paths()).unwrap();
        assert_eq!(laid.read(), (before, 3 * SMALL));
    }
}

#[test]
fn a_sound_segment_that_says_something_else_than_its_records_is_found() {
    let mut laid = Laid::new();
    laid.add_many(2 * SMALL);
    update(&laid.paths()).unwrap();
    assert!(differences(&laid).is_empty());
    let path = &laid.segments()[1];
    let (mut segment, _) = sealed::unseal::<Segment>(&fs::read(path).unwrap()).unwrap();
    segment.records[5].files[0].3 += 1;
    fs::write(path, sealed::seal(&segment).0).unwrap();
    assert_eq!(differences(&laid), [SMALL + 6]);
}

#[test]
fn a_large_segment_holds_what_its_records_say() {
    let mut laid = Laid::new();
    laid.add_many(LARGE + SMALL + 1);
    update(&laid.paths()).unwrap();
    assert_eq!((laid.segments().len(), differences(&laid)), (2, vec![]));
    let path = &laid.segments()[0];
    let (mut segment, _) = sealed::unseal::<Segment>(&fs::read(path).unwrap()).unwrap();
    segment.dirs[1] = "region=elsewhere".into();
    fs::write(path, sealed::seal(&segment).0).unwrap();
    assert_eq!(differences(&laid), [2]);
}

/// The records of which the stored index says something else, the first of each segment.
fn differences(laid: &Laid) -> Vec<u64> {
    let dataset = Dataset::open(laid.paths()).unwrap();
    let mut comparison = dataset.index_comparison();
    let mut compare = |sequence| {
        let (record, sha256) = dataset.record(sequence).unwrap();
        comparison.push(&record, sha256).unwrap()
    };
    (1..laid.next).filter_map(&mut compare).collect()
}

#[test]
fn an_index_of_a_ledger_that_went_another_way_is_of_no_use() {
    let mut laid = Laid::new();
    laid.add_many(SMALL - 1);
    let (seal, next) = (laid.seal.clone(), laid.next);
    laid.add_many(1);
    update(&laid.paths()).unwrap();
    // An older copy was restored, and went on from there.
    fs::remove_file(laid.paths().record(SMALL)).unwrap();
    assert_eq!(laid.read().1, 0);
    (laid.seal, laid.next) = (seal, next);
    let record = laid.record();
    laid.add(CommitRecord { pintail: "another".into(), ..record });
    let (_, covered) = laid.read();
    assert_eq!(covered, 0);
    update(&laid.paths()).unwrap();
    assert_eq!(laid.read().1, SMALL);
}

#[test]
fn a_missing_file_is_named_unless_it_was_declared_expired() {
    let mut laid = Laid::new();
    laid.add_many(SMALL + 2);
    update(&laid.paths()).unwrap();
    assert_eq!(committed(laid.dir.path()).unwrap().files.len() as u64, SMALL + 2);
    for sequence in [3, SMALL + 1] {
        fs::remove_file(laid.paths().published(&format!("region=r{}/events-2026-01-05-00-{sequence}.parquet", sequence % 3))).unwrap();
    }
    let error = committed(laid.dir.path()).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("2 committed files") && text.contains("region=r0/events-2026-01-05-00-3.parquet"), "{text}");
    let expire = |sequence: u64| {
        let before = DateTime::from_timestamp(1_767_571_200 + sequence as i64, 0);
        let by = Process::this();
        Action { kind: ActionKind::Expire, by, text: String::new(), before, up_to: Vec::new() }
    };
    let declare = |laid: &mut Laid, sequence| {
        let record =
            CommitRecord { files: vec![], counts: Counts::default(), trigger: None, action: Some(expire(sequence)), ..laid.record() };
        laid.add(record);
    };
    declare(&mut laid, 4);
    let text = committed(laid.dir.path()).unwrap_err().to_string();
    assert!(text.starts_with("1 committed file of `") && text.contains("` is missing"), "{text}");
    declare(&mut laid, SMALL + 2);
    assert_eq!(committed(laid.dir.path()).unwrap().files.len() as u64, SMALL);
}

#[test]
fn the_file_of_a_commit_that_is_under_way_is_not_missing() {
    let mut laid = Laid::new();
    laid.add_many(2);
    let record = laid.record();
    let place = laid.paths().published(&record.files[0].path);
    let staged = laid.paths().staged(record.staged_by(), 0);
    laid.add(record);
    fs::create_dir_all(staged.parent().unwrap()).unwrap();
    fs::copy(&place, &staged).unwrap();
    fs::remove_file(&place).unwrap();
    assert_eq!(committed(laid.dir.path()).unwrap().files.len(), 2);
}

#[test]
fn records_of_version_1_and_2_are_told_apart_by_their_columns_not_by_their_version() {
    let mut laid = Laid::new();
    let mut first = laid.record();
    first.schema.iter_mut().for_each(|column| column.id = 0);
    (first.version, first.epoch, first.state_sha256, first.key, first.schema_version) = (1, 0, None, None, 0);
    laid.add(first);
    laid.add_many(1);
    let committed = committed(laid.dir.path()).unwrap();
    assert_eq!(committed.files.iter().map(|file| file.class).collect::<Vec<_>>(), [Some(0), Some(0)]);
    assert_eq!(committed.files.iter().map(|file| file.bounds.len()).collect::<Vec<_>>(), [0, 1]);
}

proptest! {
    #[test]
    fn what_a_file_says_comes_back(rows: u64, bytes: u64, min: i64, max: i64, name in "[a-zA-Z%\"\\\\é_=-]{1,20}", seconds in 0_i64..4_000_000_000, nanos in 0_u32..1_000_000_000) {
        let file = IndexedFile(0, name.into(), Kind::Parquet, rows, bytes, Some((Time(seconds, nanos), Time(seconds, nanos))), vec![Bounds(7, min, max)]);
        let text = serde_json::to_string(&file).unwrap();
        prop_assert_eq!(serde_json::from_str::<IndexedFile>(&text).unwrap(), file);
    }

    #[test]
    fn bounds_are_read_as_parquet_writes_them(value: i64) {
        let hex = Some(pintail_core::digest::hex(&value.to_le_bytes()));
        let column = ColumnStatistics { id: 1, bytes: 0, nulls: None, min: hex.clone(), max: hex };
        prop_assert_eq!(bounds(&column), Some(Bounds(1, value, value)));
    }
}

#[test]
fn files_that_a_rewrite_replaces_are_no_data_any_more_whether_its_record_has_a_segment_or_not() {
    let mut laid = Laid::new();
    laid.add_many(SMALL);
    // Of the records 3 and 6, which are of one directory.
    let before = laid.read().0;
    let replaces = [3, 6]
        .map(|sequence: usize| crate::checkpoint::record::Replaced { path: before.path(&before.records[sequence - 1].files[0]), rows: 3 });
    let mut rewrite = laid.record();
    rewrite.files[0] =
        FileEntry { path: format!("region=r0/events-2026-01-05-00-{}.parquet", laid.next), rows: 6, ..rewrite.files[0].clone() };
    laid.add(CommitRecord {
        version: crate::checkpoint::record::REWRITE_VERSION,
        trigger: None,
        counts: Counts::default(),
        rewrite: Some(Rewrite { generation: 1, replaces: replaces.to_vec() }),
        ..rewrite
    });
    replaces.iter().for_each(|file| fs::remove_file(laid.paths().published(&file.path)).unwrap());
    let plain = laid.read().0;
    let shown = |index: &Index| -> Vec<String> {
        let replaced = index.replaced();
        let files = index.records.iter().flat_map(|record| &record.files).filter(|file| !replaced.contains(file));
        files.map(|file| index.path(file)).collect()
    };
    assert_eq!(shown(&plain).len() as u64, SMALL - 1);
    assert!(replaces.iter().all(|file| !shown(&plain).contains(&file.path)));
    let found = committed(laid.dir.path()).unwrap();
    assert_eq!((found.files.len() as u64, found.files.iter().map(|file| file.rows).sum::<u64>()), (SMALL - 1, 3 * SMALL));
    assert!(found.files.iter().all(|file| file.class == Some(0)), "what was rewritten has the columns of the dataset");
    laid.add_many(SMALL);
    let plain = laid.read().0;
    update(&laid.paths()).unwrap();
    assert_eq!(laid.read(), (plain.clone(), 2 * SMALL));
    assert_eq!(shown(&laid.read().0).len() as u64, 2 * SMALL - 1);
    // Who does not know of rewrites passes over the segment, and reads the records.
    let versions = laid.segments().into_iter().map(|path| sealed::unseal::<Segment>(&fs::read(path).unwrap()).unwrap().0.version);
    assert_eq!(versions.collect::<Vec<_>>(), [VERSION, REWRITTEN_VERSION]);
}
