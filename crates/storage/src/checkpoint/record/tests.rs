use pintail_core::batch::DeadLetterCounts;

use super::*;
use crate::samples::{checkpoint, span};

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
        columns: vec![],
        upload: None,
    }
}

/// A record that holds together: 7 records in, 5 rows out, 1 filtered, 1 rejected.
pub(crate) fn record() -> CommitRecord {
    let dead_letters = DeadLetterCounts { decode: 1, ..DeadLetterCounts::default() };
    let partitions = vec![span("p", 0, 700, true)];
    CommitRecord {
        source: SourceRange { partitions, ..checkpoint(42).source },
        counts: Counts { records_in: 7, rows_out: 5, filtered: 1, expanded: 0, dead_letters },
        files: vec![
            file("region=us/events-2026-01-01-00-42.parquet", 0, FileKind::Parquet, 5),
            file("_pintail/dead_letters/0000000042.ndjson", 1, FileKind::DeadLetters, 1),
        ],
        schema: vec![OutputColumn { id: 1, name: "amount".into(), data_type: "Float64".into(), nullable: true }],
        ..checkpoint(42)
    }
}

/// The same as version 1 wrote it.
fn version_1() -> CommitRecord {
    let mut record = record();
    (record.version, record.epoch, record.state_sha256, record.key, record.schema_version) = (1, 0, None, None, 0);
    record.schema[0].id = 0;
    record
}

#[test]
fn a_record_of_version_1_is_read_and_has_no_key_that_version_1_had_not() {
    let (bytes, sha256) = version_1().encode().unwrap();
    let keys = [
        "version",
        "sequence",
        "previous",
        "source",
        "counts",
        "files",
        "schema",
        "trigger",
        "config_sha256",
        "sql_sha256",
        "lookups",
        "time",
        "pintail",
    ];
    let text = std::str::from_utf8(&bytes).unwrap().lines().next().unwrap();
    let written: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
    assert!(written.keys().all(|key| keys.contains(&key.as_str())), "{text}");
    assert_eq!(CommitRecord::parse(&bytes, 42).unwrap(), (version_1(), sha256));
}

#[test]
fn a_record_is_a_checkpoint_an_open_record_or_an_action_and_nothing_between() {
    type Breaks = fn(&mut CommitRecord);
    let broken: [Breaks; 8] = [
        |r| r.trigger = None,
        |r| r.opened = Some(Process::this()),
        |r| r.epoch = 42,
        |r| r.state_sha256 = None,
        |r| r.key = None,
        |r| r.snapshot = Some(SnapshotName { sequence: 42, sha256: "a".repeat(64) }),
        |r| r.version = 1,
        |r| (r.opened, r.trigger, r.epoch) = (Some(Process::this()), None, 41),
    ];
    for (index, breaks) in broken.into_iter().enumerate() {
        let mut record = record();
        breaks(&mut record);
        assert!(record.encode().unwrap_err().contains("it is neither a checkpoint"), "{index}");
    }
    let open = CommitRecord { opened: Some(Process::this()), trigger: None, epoch: 42, ..checkpoint(42) };
    open.encode().unwrap();
    let by = Process::this();
    let action = Action { kind: ActionKind::Expire, by, text: "expired".into(), before: Some(DateTime::UNIX_EPOCH), up_to: Vec::new() };
    CommitRecord { action: Some(action.clone()), trigger: None, ..checkpoint(42) }.encode().unwrap();
    CommitRecord { action: Some(action), ..open }.encode().unwrap();
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
        ("version 4", |r| r.version = 4),
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

#[test]
fn a_record_keeps_the_spans_that_changed_and_reads_them_back_with_their_evidence() {
    let standing = |to| Span::standing("x".into(), to, None);
    let evidence = Arc::new(Evidence { place: Some("1-2".into()), ..Evidence::default() });
    let moved = Span { from: 3, unchanged: false, evidence: Some(evidence), ..standing(9) };
    let all = [("a", moved.clone()), ("b", standing(5)), ("c", Span { unchanged: false, vanished: true, ..standing(7) })];
    let offsets = Offsets::from_spans(all.map(|(id, span)| (PartitionId::new(id), span)));
    let record = CommitRecord { source: SourceRange { partitions: spans(&offsets), ..record().source }, ..record() };
    let read = record.offsets();
    assert_eq!(read.spans().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(read.spans().next().unwrap().1, &moved);
}

#[test]
fn the_seeds_of_the_fuzz_target_are_read() {
    for (seed, sequence) in [
        (include_str!("../../../../../tests/fuzz/seeds/commit_record/version_1"), 42),
        (include_str!("../../../../../tests/fuzz/seeds/commit_record/open_record"), 1),
        (include_str!("../../../../../tests/fuzz/seeds/commit_record/checkpoint"), 42),
        (include_str!("../../../../../tests/fuzz/seeds/commit_record/action"), 42),
    ] {
        let seed = seed.lines().next().unwrap();
        let sealed = format!("{seed}\n{{\"sha256\":\"{}\"}}\n", pintail_core::digest::sha256_hex(seed.as_bytes()));
        CommitRecord::parse(sealed.as_bytes(), sequence).unwrap();
    }
    let seed = include_str!("../../../../../tests/fuzz/seeds/commit_record/snapshot");
    let sealed = format!("{seed}\n{{\"sha256\":\"{}\"}}\n", pintail_core::digest::sha256_hex(seed.as_bytes()));
    crate::checkpoint::snapshot::parse(sealed.as_bytes(), "d", 42).unwrap();
}

/// A rewrite that holds together.
fn rewrite() -> CommitRecord {
    let replaced = |name: &str, rows| Replaced { path: format!("region=us/{name}.parquet"), rows };
    CommitRecord {
        version: REWRITE_VERSION,
        trigger: None,
        rewrite: Some(Rewrite { generation: 1, replaces: vec![replaced("a", 3), replaced("b", 2)] }),
        files: vec![file("region=us/events-2026-01-01-00-42.parquet", 0, FileKind::Parquet, 5)],
        ..checkpoint(42)
    }
}

#[test]
fn a_rewrite_has_a_version_that_those_refuse_who_do_not_know_it() {
    let (bytes, sha256) = rewrite().encode().unwrap();
    assert_eq!(CommitRecord::parse(&bytes, 42).unwrap(), (rewrite(), sha256));
    const { assert!(REWRITE_VERSION > VERSION) };
    for unfit in [CommitRecord { version: VERSION, ..rewrite() }, CommitRecord { version: REWRITE_VERSION, ..record() }] {
        assert!(unfit.encode().unwrap_err().contains("nor a rewrite"));
    }
}

#[test]
fn a_rewrite_moves_as_many_rows_as_it_finds_within_one_directory_and_changes_nothing_else() {
    type Breaks = fn(&mut CommitRecord);
    fn replaces(record: &mut CommitRecord) -> &mut Vec<Replaced> {
        &mut record.rewrite.as_mut().unwrap().replaces
    }
    let broken: [(Breaks, &str); 10] = [
        (|r| r.files[0].rows = 4, "rows"),
        (|r| replaces(r)[0].rows = u64::MAX, "rows"),
        (|r| replaces(r)[0].path = "region=eu/a.parquet".into(), "one hive partition"),
        (|r| replaces(r)[0].path = "region=us/events-2026-01-01-00-42.parquet".into(), "twice"),
        (|r| replaces(r)[0].path = "../a.parquet".into(), "no place"),
        (|r| replaces(r).clear(), "replaces nothing"),
        (|r| r.rewrite.as_mut().unwrap().generation = 0, "replaces nothing"),
        (|r| r.counts.filtered = 1, "do not add up"),
        (|r| r.source.partitions = vec![span("p", 0, 1, true)], "more than files"),
        (|r| r.schema = record().schema, "more than files"),
    ];
    for (breaks, why) in broken {
        let mut record = rewrite();
        breaks(&mut record);
        let refused = record.encode().unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}
