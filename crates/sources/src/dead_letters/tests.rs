use std::time::Duration;

use pintail_core::error::ErrorKind;
use pintail_storage::checkpoint::paths::Paths;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A dataset with these files of dead letters.
fn dataset(files: &[(&str, &str)]) -> TempDir {
    let out = tempfile::tempdir().unwrap();
    let directory = out.path().join("_pintail/dead_letters");
    fs::create_dir_all(&directory).unwrap();
    files.iter().for_each(|(name, content)| fs::write(directory.join(name), content).unwrap());
    out
}

/// A line of a record with these fields.
fn with(fields: &str) -> String {
    format!("{{{},{fields}}}\n", r#""phase":"decode","reason":"no number","partition":"a","offset":17"#)
}

fn line(record: &str) -> String {
    with(&format!("\"length\":{},\"record\":{}", record.len(), serde_json::to_string(record).unwrap()))
}

/// Reads to the end: partition, from, to and the records as text. The offsets refuse what does not join.
async fn replay(out: &TempDir, offsets: &mut Offsets) -> Result<Vec<(String, u64, u64, String)>> {
    let mut source = DeadLetterSource::open(&Paths::new(out.path()).dead_letters(), offsets, ())?;
    let mut read = Vec::new();
    while let Some(chunk) = timeout(PATIENCE, source.read()).await.expect("nothing came")? {
        assert_eq!(chunk.unit, OffsetUnit::Records);
        offsets.extend(&chunk.range).unwrap();
        let records = match chunk.records {
            Records::Lines(lines) => String::from_utf8_lossy(&lines).into_owned(),
            Records::TooLong { head, length, .. } => format!("{} of {length}", head.len()),
            Records::Payloads(payloads) => (0..payloads.len()).map(|at| format!("{:?}\n", payloads.message(at))).collect(),
            Records::Arrow(_) => unreachable!("no rows"),
        };
        read.push((chunk.range.partition.id.to_string(), chunk.range.from, chunk.range.to, records));
    }
    *offsets = offsets.committed();
    Ok(read)
}

fn read(partition: &str, from: u64, to: u64, records: &str) -> (String, u64, u64, String) {
    (partition.to_owned(), from, to, records.to_owned())
}

#[tokio::test]
async fn each_rejected_record_is_read_once_in_the_order_of_the_checkpoints() {
    let first = line(r#"{"a":"é\n"}"#) + &line("not json");
    let out = dataset(&[("0000000042.ndjson", &first), ("0000000007.ndjson", &line("early")), ("notes.txt", "no")]);
    let mut offsets = Offsets::default();
    let expected =
        [read("dead_letters/0000000007", 0, 1, "early\n"), read("dead_letters/0000000042", 0, 2, "{\"a\":\"é\\n\"}\nnot json\n")];
    assert_eq!(replay(&out, &mut offsets).await.unwrap(), expected);
    assert_eq!(replay(&out, &mut offsets).await.unwrap(), []);
    // A replay that rejects a record again leaves it in a new file, which the next replay reads.
    fs::write(out.path().join("_pintail/dead_letters/0000000043.ndjson"), line("again")).unwrap();
    assert_eq!(replay(&out, &mut offsets).await.unwrap(), [read("dead_letters/0000000043", 0, 1, "again\n")]);
}

#[tokio::test]
async fn a_line_that_stands_for_many_records_is_read_as_often_and_a_replay_goes_on_amid_it() {
    let many = with(r#""length":1,"then":[[2,3],[7,1]],"record":"1""#);
    let out = dataset(&[("0000000001.ndjson", &(line("a") + &many + &line("b")))]);
    let mut offsets = Offsets::default();
    assert_eq!(replay(&out, &mut offsets).await.unwrap(), [read("dead_letters/0000000001", 0, 7, "a\n1\n1\n1\n1\n1\nb\n")]);
    let partition = Arc::new(Partition { id: PartitionId::of_dead_letters(1), label: "x".into() });
    let mut offsets = Offsets::default();
    offsets.extend(&OffsetRange::new(partition, 0, 4)).unwrap();
    offsets = offsets.committed();
    assert_eq!(replay(&out, &mut offsets).await.unwrap(), [read("dead_letters/0000000001", 4, 7, "1\n1\nb\n")]);
}

#[tokio::test]
async fn a_replay_that_was_killed_goes_on_at_the_committed_line() {
    let content: String = (0..60_000).map(|n| line(&format!("record {n}"))).collect();
    let out = dataset(&[("0000000001.ndjson", &content)]);
    let (mut offsets, mut records, mut starts) = (Offsets::default(), String::new(), 0);
    loop {
        let mut source = DeadLetterSource::open(&Paths::new(out.path()).dead_letters(), &offsets, ()).unwrap();
        let Some(chunk) = timeout(PATIENCE, source.read()).await.unwrap().unwrap() else { break };
        let Records::Lines(lines) = chunk.records else { panic!("not lines") };
        records += std::str::from_utf8(&lines).unwrap();
        offsets.extend(&chunk.range).unwrap();
        starts += 1;
    }
    assert!(starts > 1, "one chunk tests nothing");
    assert_eq!(records, (0..60_000).map(|n| format!("record {n}\n")).collect::<String>());
}

#[tokio::test]
async fn bytes_that_are_no_text_come_back_and_a_line_end_in_a_record_does_not_split_it() {
    let binary = with(r#""length":3,"record_base64":"/wD+""#) + &line("{\"a\":\n1}");
    let out = dataset(&[("0000000001.ndjson", &binary)]);
    let mut source = DeadLetterSource::open(&Paths::new(out.path()).dead_letters(), &Offsets::default(), ()).unwrap();
    let chunk = timeout(PATIENCE, source.read()).await.unwrap().unwrap().unwrap();
    assert!(matches!(chunk.records, Records::Lines(lines) if *lines == *b"\xff\x00\xfe\n{\"a\": 1}\n"));
}

#[tokio::test]
async fn a_record_that_was_too_long_to_keep_is_too_long_again() {
    let cut = with(r#""length":2000000,"record":"head""#);
    let out = dataset(&[("0000000001.ndjson", &(line("a") + &cut + &line("b")))]);
    let expected = [
        read("dead_letters/0000000001", 0, 1, "a\n"),
        read("dead_letters/0000000001", 1, 2, "4 of 2000000"),
        read("dead_letters/0000000001", 2, 3, "b\n"),
    ];
    assert_eq!(replay(&out, &mut Offsets::default()).await.unwrap(), expected);
}

#[tokio::test]
async fn rows_of_the_output_are_blank_among_records_and_nothing_where_they_are_alone() {
    let row = with(r#""length":2,"then":[[1,1]],"output_row":"{}""#);
    let out = dataset(&[("0000000001.ndjson", &row), ("0000000002.ndjson", &(row.clone() + &line("a") + &row))]);
    let mut offsets = Offsets::default();
    assert_eq!(replay(&out, &mut offsets).await.unwrap(), [read("dead_letters/0000000002", 0, 5, "\n\na\n\n\n")]);
    assert_eq!(replay(&out, &mut offsets).await.unwrap(), []);
}

#[tokio::test]
async fn rows_of_the_output_alone_are_nothing_however_many_there_are() {
    let rows = with(r#""length":2,"then":[[1,400000]],"output_row":"{}""#);
    let out = dataset(&[("0000000001.ndjson", &rows)]);
    assert_eq!(replay(&out, &mut Offsets::default()).await.unwrap(), []);
}

#[tokio::test]
async fn a_dataset_without_dead_letters_ends_at_once() {
    let out = tempfile::tempdir().unwrap();
    assert_eq!(replay(&out, &mut Offsets::default()).await.unwrap(), []);
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_the_line_is_named() {
    let damaged = [r#""length":1"#, r#""length":1,"record_base64":"!""#, r#""length":1,"record":"a","tombstone":true"#].map(with);
    for damaged in damaged.into_iter().chain([line("a").trim_end_matches("}\n").to_owned()]) {
        let out = dataset(&[("0000000001.ndjson", &(line("a") + &damaged))]);
        let error = replay(&out, &mut Offsets::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        assert!(error.to_string().contains("line 2 of") && error.to_string().contains("0000000001.ndjson"), "{error}");
    }
    let out = dataset(&[("0000000001.ndjson", &(line("a") + &line("b")))]);
    let mut offsets = Offsets::default();
    replay(&out, &mut offsets).await.unwrap();
    fs::write(out.path().join("_pintail/dead_letters/0000000001.ndjson"), line("a")).unwrap();
    assert_eq!(replay(&out, &mut offsets).await.unwrap_err().kind(), ErrorKind::State);
}

#[tokio::test]
async fn messages_come_back_whole_also_among_lines_of_older_versions_and_rows_of_the_output() {
    let framed = with(
        r#""length":6,"record_base64":"AAAAAAX/","message":{"topic":"t","partition":3,"timestamp_ms":5,"key":"k","headers":[["h",null]]}"#,
    );
    let tombstone = with(r#""length":0,"tombstone":true,"message":{"topic":"t","offset":900,"key_base64":"/w=="}"#);
    let lines = with(r#""length":5,"then":[[2,1]],"record":"{\n\n\n}","message":{}"#);
    let cut = with(r#""length":2000000,"record":"head","message":{"key":"long"}"#);
    let row = with(r#""length":2,"output_row":"{}""#);
    let out = dataset(&[("0000000001.ndjson", &[line("a"), framed, row, tombstone, lines, cut, line("b")].concat())]);
    let mut source = DeadLetterSource::open(&Paths::new(out.path()).dead_letters(), &Offsets::default(), ()).unwrap();
    let mut chunks = Vec::new();
    while let Some(chunk) = timeout(PATIENCE, source.read()).await.unwrap().unwrap() {
        chunks.push(chunk);
    }
    let ranges: Vec<_> = chunks.iter().map(|chunk| (chunk.range.from, chunk.range.to)).collect();
    assert_eq!(ranges, [(0, 1), (1, 6), (6, 7), (7, 8)]);
    let Records::Payloads(payloads) = &chunks[1].records else { panic!("{:?}", chunks[1]) };
    let positions: Vec<_> = (0..payloads.len()).map(|at| payloads.position(at)).collect();
    assert_eq!(positions, [1, 3, 4, 5]);
    let first = payloads.message(0);
    assert_eq!((first.payload, first.topic, first.partition), (Some(&b"\0\0\0\0\x05\xff"[..]), Some("t"), Some(3)));
    assert_eq!(
        (first.offset, first.timestamp_ms, first.key, first.headers),
        (Some(17), Some(5), Some(&b"k"[..]), vec![("h".into(), None)])
    );
    let second = payloads.message(1);
    assert_eq!((second.payload, second.offset, second.key), (None, Some(900), Some(&b"\xff"[..])));
    assert_eq!(
        [2, 3].map(|at| (payloads.message(at).payload, payloads.message(at).offset)),
        [17, 19].map(|at| (Some(&b"{\n\n\n}"[..]), Some(at)))
    );
    let Records::TooLong { message: Some(message), length: 2_000_000, .. } = &chunks[2].records else { panic!("{:?}", chunks[2]) };
    assert_eq!((message.key.as_deref(), message.offset), (Some(&b"long"[..]), Some(17)));
}
