use super::*;
use crate::batch::DeadLetterCounts;

fn file(path: &str, staged: u32, kind: FileKind, rows: u64) -> FileEntry {
    let time = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
    let event_time = EventTimes { min: time("2026-01-01T00:00:00Z"), max: time("2026-01-01T00:59:59.123456Z") };
    FileEntry {
        path: path.into(),
        staged,
        kind,
        rows,
        bytes: 10,
        sha256: "c".repeat(64),
        event_time: (kind == FileKind::Parquet).then_some(event_time),
    }
}

/// A record that holds together: 7 records in, 5 rows out, 1 filtered, 1 rejected.
pub(crate) fn record() -> CommitRecord {
    let partitions = vec![PartitionSpan { id: "p".into(), label: "a.ndjson".into(), from: 0, to: 700, new: true, taken_over: None }];
    let dead_letters = DeadLetterCounts { decode: 1, ..DeadLetterCounts::default() };
    CommitRecord {
        version: VERSION,
        sequence: 42,
        generation: 0,
        previous: "a".repeat(64),
        source: SourceRange { kind: "file".into(), partitions },
        counts: Counts { records_in: 7, rows_out: 5, filtered: 1, expanded: 0, dead_letters },
        files: vec![
            file("region=us/events-2026-01-01-00-42.parquet", 0, FileKind::Parquet, 5),
            file("_pintail/dead_letters/0000000042.ndjson", 1, FileKind::DeadLetters, 1),
        ],
        schema: vec![OutputColumn { name: "amount".into(), data_type: "Float64".into(), nullable: true }],
        trigger: Trigger::Interval,
        config_sha256: "d".repeat(64),
        sql_sha256: "e".repeat(64),
        lookups: vec![],
        time: DateTime::from_timestamp(1_767_225_600, 5_000).unwrap(),
        pintail: "0.1.0".into(),
    }
}

#[test]
fn a_record_reads_back_as_it_was() {
    let (bytes, sha256) = record().encode().unwrap();
    assert_eq!(CommitRecord::parse(&bytes, 42).unwrap(), (record(), sha256));
}

#[test]
fn a_record_in_the_place_of_another_is_refused() {
    let (bytes, _) = record().encode().unwrap();
    assert!(CommitRecord::parse(&bytes, 43).unwrap_err().contains("its name says 43"));
}

#[test]
fn a_record_that_does_not_hold_together_is_neither_written_nor_read() {
    type Breaks = fn(&mut CommitRecord);
    let broken: [(&str, Breaks); 14] = [
        ("version 2", |r| r.version = 2),
        ("do not add up", |r| r.counts.filtered = 2),
        ("its files have 6", |r| r.files[0].rows = 6),
        ("its files have 2", |r| r.files[1].rows = 2),
        ("its files have too many", |r| {
            r.files.push(file("a.parquet", 2, FileKind::Parquet, u64::MAX));
        }),
        ("not a SHA-256", |r| r.previous = "a".repeat(63)),
        ("not a SHA-256", |r| r.files[0].sha256 = "A".repeat(64)),
        ("run backwards", |r| r.source.partitions[0].from = 701),
        ("`p` twice", |r| r.source.partitions.push(r.source.partitions[0].clone())),
        ("no place", |r| r.files[0].path = "region=us/../../x.parquet".into()),
        ("no place", |r| r.files[0].path = "/x.parquet".into()),
        ("no place", |r| r.files[0].path = "_pintail/x.parquet".into()),
        ("no place", |r| r.files[1].path = "0000000042.ndjson".into()),
        ("twice", |r| r.files[1].staged = 0),
    ];
    for (needle, breaks) in broken {
        let mut record = record();
        breaks(&mut record);
        let refusal = record.encode().unwrap_err();
        assert!(refusal.contains(needle), "`{needle}` is not in: {refusal}");
        let (bytes, _) = sealed::seal(&record);
        assert_eq!(CommitRecord::parse(&bytes, 42).unwrap_err(), refusal);
    }
}

fn offsets(spans: &[(&str, u64, u64, bool)]) -> Offsets {
    let span = |&(id, from, to, new): &(&str, u64, u64, bool)| {
        (PartitionId::new(id), Span { from, new, unchanged: from == to && !new, ..Span::standing(id.into(), to, None) })
    };
    Offsets::from_spans(spans.iter().map(span))
}

#[test]
fn offsets_read_back_from_a_record_as_they_were() {
    let offsets = offsets(&[("a", 3, 9, false), ("b", 0, 0, true)]);
    let record = CommitRecord { source: SourceRange { kind: "file".into(), partitions: spans(&offsets) }, ..record() };
    assert_eq!(record.offsets(), offsets);
}

#[test]
fn a_gap_an_overlap_a_forgotten_and_a_twice_new_partition_do_not_join() {
    let previous = offsets(&[("a", 0, 10, true), ("b", 0, 5, true)]);
    check_join(&previous, &offsets(&[("a", 10, 12, false), ("b", 5, 5, false), ("c", 100, 101, true)])).unwrap();
    for (next, needle) in [
        (offsets(&[("a", 11, 12, false), ("b", 5, 5, false)]), "a is committed up to 10, this checkpoint begins at 11"),
        (offsets(&[("a", 9, 12, false), ("b", 5, 5, false)]), "begins at 9"),
        (offsets(&[("a", 10, 12, false)]), "forgets it"),
        (offsets(&[("a", 10, 12, true), ("b", 5, 5, false)]), "calls it new"),
        (offsets(&[("a", 10, 12, false), ("b", 5, 5, false), ("c", 0, 1, false)]), "not called new"),
    ] {
        let refusal = check_join(&previous, &next).unwrap_err();
        assert!(refusal.contains(needle), "`{needle}` is not in: {refusal}");
    }
}
