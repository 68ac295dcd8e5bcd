use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use arrow::ipc::writer::StreamWriter;
use pintail_core::offsets::PartitionId;
use pintail_core::schema::{Column, ColumnType};
use pintail_storage::durable::posix::Posix;
use pintail_storage::journal::time::Machine;
use pintail_storage::journal::{Journal, Request, Settings};

use super::*;

const RECORD_BYTES_MAX: usize = 100_000;

fn schema() -> EventSchema {
    EventSchema::new(vec![Column { name: "id".into(), path: vec!["id".into()], column_type: ColumnType::Int64, required: true }])
}

fn journal(root: &Path) -> Journal {
    let settings = Settings {
        dir: root.join("journal"),
        dataset_id: "test".into(),
        segment_bytes: 1 << 20,
        bytes_max: 1 << 24,
        key_ttl: Duration::from_secs(60),
        keys_max: 10,
        queue: 10,
        key: Key::new([7; 32]),
        clocks: Arc::new(Machine::default()),
    };
    Journal::open(Arc::new(Posix::unwaiting()), settings, None).unwrap()
}

fn chunks(journal: &Journal, from: u64) -> Chunks {
    let partition = Arc::new(Partition { id: PartitionId::new("http"), label: "http".into() });
    Chunks::new(journal.reader(from), partition, RECORD_BYTES_MAX, schema(), Key::new([7; 32]))
}

/// Reads everything from an offset on, and asserts that no offset is left out or comes twice.
fn read(journal: &Journal, from: u64) -> Vec<Chunk> {
    let mut chunks = chunks(journal, from);
    let mut all = Vec::new();
    let mut send = |chunk: Chunk| -> Result<(), Exit> {
        all.push(chunk);
        Ok(())
    };
    while let Some(recorded) = chunks.reader.read(Duration::ZERO).unwrap() {
        chunks.take(recorded, &mut send).unwrap();
    }
    chunks.hand_on_small(&mut send).unwrap();
    let mut next = from;
    for chunk in &all {
        assert_eq!((chunk.range.from, chunk.records() as u64), (next, chunk.range.to - next));
        next = chunk.range.to;
    }
    assert_eq!(next, journal.end());
    all
}

/// Returns each record as text by its offset.
fn records(chunks: &[Chunk]) -> BTreeMap<u64, String> {
    let mut records = BTreeMap::new();
    for chunk in chunks {
        let texts: Vec<_> = match &chunk.records {
            Records::Lines(lines) => {
                lines.split_inclusive(|byte| *byte == b'\n').map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
            }
            Records::Arrow(rows) => rows.column(0).as_primitive::<Int64Type>().values().iter().map(|id| format!("row {id}")).collect(),
            Records::TooLong { head, length, .. } => vec![format!("{} of {length}", head.len())],
            Records::Payloads(payloads) => {
                let positions = (0..payloads.len()).map(|at| payloads.position(at));
                assert!(positions.eq(chunk.range.from..chunk.range.to));
                payloads.payloads().iter().map(|payload| String::from_utf8(payload.unwrap().to_vec()).unwrap()).collect()
            }
        };
        records.extend((chunk.range.from..).zip(texts));
    }
    records
}

async fn append(journal: &Journal, form: Form, count: u64, body: impl Into<Bytes>) {
    journal.append(Request::new(form, count, body.into(), None)).await.unwrap();
}

fn bodies(records: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    records.iter().for_each(|record| payloads::push(&mut body, record.as_bytes()));
    body
}

fn arrow(ids: &[Option<i64>]) -> Vec<u8> {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
    for ids in ids.chunks(3) {
        let ids = Int64Array::from(ids.to_vec());
        writer.write(&RecordBatch::try_new(schema.clone(), vec![Arc::new(ids)]).unwrap()).unwrap();
    }
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn what_is_read_after_a_restart_at_any_offset_is_the_rest() {
    let root = tempfile::tempdir().unwrap();
    let journal = journal(root.path());
    append(&journal, Form::Lines, 3, "{\"id\":1}\n{\"id\":2}\nthree\n").await;
    append(&journal, Form::Arrow, 5, arrow(&[Some(4), Some(5), None, Some(7), Some(8)])).await;
    append(&journal, Form::Lines, 1, "{\"id\":9}\n").await;
    append(&journal, Form::Lines, 3, format!("a\n{}\nb\n", "x".repeat(RECORD_BYTES_MAX + 1))).await;
    append(&journal, Form::Lines, 100_000, "{\"id\":10}\n".repeat(100_000)).await;
    let all = records(&read(&journal, 0));
    assert_eq!(all.len(), 100_012);
    assert_eq!(
        (all[&3].as_str(), all[&5].as_str(), all[&6].as_str()),
        ("row 4", "{\"id\":null}\n", "row 7"),
        "the row without an id is JSON"
    );
    assert_eq!(all[&10], format!("{HEAD_BYTES_MAX} of {}", RECORD_BYTES_MAX + 1));
    for from in (0..15).chain([50_000, 100_011, 100_012]) {
        let rest: BTreeMap<_, _> = all.range(from..).map(|(offset, text)| (*offset, text.clone())).collect();
        assert_eq!(records(&read(&journal, from)), rest, "from {from}");
    }
}

#[tokio::test]
async fn small_requests_are_joined_and_large_ones_are_cut() {
    let root = tempfile::tempdir().unwrap();
    let journal = journal(root.path());
    for _ in 0..50 {
        append(&journal, Form::Lines, 2, "{\"id\":1}\n{\"id\":2}\n").await;
    }
    assert_eq!(read(&journal, 0).len(), 1);
    append(&journal, Form::Lines, 200_000, "{\"id\":10}\n".repeat(200_000)).await;
    let chunks = read(&journal, 100);
    assert!(chunks.len() >= 4 && chunks.iter().all(|chunk| chunk.bytes() <= CHUNK_BYTES), "{}", chunks.len());
}

#[tokio::test]
async fn records_that_are_no_lines_come_whole_after_a_restart_at_any_offset() {
    let root = tempfile::tempdir().unwrap();
    let journal = journal(root.path());
    let long = "x\n".repeat(RECORD_BYTES_MAX);
    append(&journal, Form::Lines, 2, "{\"id\":0}\n{\"id\":1}\n").await;
    append(&journal, Form::Payloads, 3, bodies(&["{\n\"id\":2}", "", "\0\r\n"])).await;
    append(&journal, Form::Payloads, 3, bodies(&["{\"id\":5}\n", &long, "{\"id\":7}"])).await;
    append(&journal, Form::Lines, 1, "{\"id\":8}\n").await;
    append(&journal, Form::Payloads, 100_000, bodies(&vec!["{\n\"id\":9}"; 100_000])).await;
    let chunks = read(&journal, 0);
    let requests: Vec<_> = chunks.iter().take(5).map(|chunk| (chunk.range.from, chunk.requests.as_deref().unwrap().to_vec())).collect();
    assert_eq!(requests, [(0, vec![0]), (2, vec![2, 5]), (6, vec![5]), (7, vec![5]), (8, vec![8])]);
    assert!(chunks.iter().all(|chunk| chunk.bytes() <= CHUNK_BYTES + CHUNK_BYTES / 4), "small enough");
    let all = records(&chunks);
    assert_eq!(all.len(), 100_009);
    assert_eq!((all[&2].as_str(), all[&3].as_str(), all[&4].as_str(), all[&5].as_str()), ("{\n\"id\":2}", "", "\0\r\n", "{\"id\":5}\n"));
    assert_eq!(all[&6], format!("{HEAD_BYTES_MAX} of {}", long.len()));
    for from in (0..12).chain([50_000, 100_008, 100_009]) {
        let rest: BTreeMap<_, _> = all.range(from..).map(|(offset, text)| (*offset, text.clone())).collect();
        assert_eq!(records(&read(&journal, from)), rest, "from {from}");
    }
}
