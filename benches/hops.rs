//! The hops of the line, each alone: what a batch of 50,000 default events costs on one core; and a commit. For the line as a whole, against
//! others, see `compare.py`.
//!
//!     cargo bench
//!
//! Compare two runs on the same machine; an absolute figure says little.

#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::io::{Cursor, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::json::LineDelimitedWriter;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pintail::internals::{Meters, Opened, Plan, Start};
use pintail_config::Config;
use pintail_core::batch::{Batch, Chunk, Counts, OffsetUnit, PartitionedRows, Records, Trigger};
use pintail_core::messages::{Message, PayloadsBuilder};
use pintail_core::offsets::{OffsetRange, Partition, PartitionId};
use pintail_core::schema::{EventSchema, Framing};
use pintail_decode::{Decode as _, Ndjson, avro};
use pintail_sink::files::OpenFiles;
use pintail_sink::layout::Splitter;
use pintail_sources::lines::{LineReader, Unterminated};
use pintail_sources::simulator::events;
use pintail_storage::checkpoint::record::FileKind;
use pintail_storage::checkpoint::staging::Staging;
use pintail_storage::checkpoint::store::{Draft, NewFile};
use pintail_storage::durable::disk_state::DiskState;
use pintail_storage::durable::posix::Posix;

const ROWS: u64 = 50_000;

/// A batch at every stage of its way.
struct Stations {
    config: Config,
    plan: Plan,
    rows: RecordBatch,
    lines: Bytes,
    output: RecordBatch,
    placed: Vec<PartitionedRows>,
}

impl Stations {
    fn new() -> Self {
        let config = Config::load(None, std::iter::empty(), &["transform.threads=1".to_owned(), "sink.threads=1".to_owned()]).unwrap();
        let plan = Plan::new(&config).unwrap();
        let rows = events(42, DateTime::<Utc>::UNIX_EPOCH, 0..ROWS);
        let mut writer = LineDelimitedWriter::new(Vec::new());
        writer.write(&rows).unwrap();
        let lines = Bytes::from(writer.into_inner());
        let output = plan.engine.workers().unwrap()[0].run(&rows).unwrap();
        let mut splitter = Splitter::new(plan.layout.clone());
        let placed = splitter.split(&output).unwrap();
        Self { config, plan, rows, lines, output, placed }
    }

    fn batch(&self) -> Batch {
        let partition = Arc::new(Partition { id: PartitionId::new("bench"), label: "bench".into() });
        let range = OffsetRange::new(partition, 0, self.lines.len() as u64);
        Batch::new(vec![Chunk::new(Records::Lines(self.lines.clone()), range, OffsetUnit::Bytes)])
    }
}

/// The default event in Avro.
const EVENT: &str = r#"{"type":"record","name":"Event","fields":[{"name":"timestamp","type":"long"},{"name":"user_id","type":["null","long"]},
    {"name":"region","type":["null","string"]},{"name":"amount","type":["null","double"]},{"name":"sku","type":["null","string"]}]}"#;

/// Writes rows as a writer of Avro does, a message each.
fn avro_batch(rows: &RecordBatch) -> Batch {
    let numbers = |name: &str| rows.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
    let texts = |name: &str| cast(rows.column_by_name(name).unwrap(), &DataType::Utf8).unwrap().as_string::<i32>().clone();
    let (times, users, regions, skus) = (numbers("timestamp"), numbers("user_id"), texts("region"), texts("sku"));
    let amounts = rows.column_by_name("amount").unwrap().as_primitive::<Float64Type>();
    let mut builder = PayloadsBuilder::default();
    for row in 0..rows.num_rows() {
        let mut payload = Vec::new();
        let long = |value: i64, to: &mut Vec<u8>| {
            let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
            while left > 0x7f {
                to.push((left & 0x7f) as u8 | 0x80);
                left >>= 7;
            }
            to.push(left as u8);
        };
        long(times.value(row), &mut payload);
        payload.push(2);
        long(users.value(row), &mut payload);
        for text in [Some(regions.value(row)), None, Some(skus.value(row))] {
            payload.push(2);
            match text {
                Some(text) => {
                    long(text.len() as i64, &mut payload);
                    payload.extend(text.as_bytes());
                }
                None => payload.extend(amounts.value(row).to_le_bytes()),
            }
        }
        builder.push(row as u64, &Message { topic: Some("events"), payload: Some(&payload), ..Message::default() });
    }
    let partition = Arc::new(Partition { id: PartitionId::new("bench"), label: "bench".into() });
    let range = OffsetRange::new(partition, 0, rows.num_rows() as u64);
    Batch::new(vec![Chunk::new(Records::Payloads(builder.finish()), range, OffsetUnit::Records)])
}

fn hops(criterion: &mut Criterion) {
    let stations = Stations::new();
    let mut group = criterion.benchmark_group("hops");
    group.throughput(Throughput::Elements(ROWS)).sample_size(20);
    group.bench_function("simulate", |bencher| bencher.iter(|| events(42, DateTime::<Utc>::UNIX_EPOCH, 0..black_box(ROWS))));
    group.bench_function("split lines", |bencher| {
        bencher.iter(|| {
            let mut reader = LineReader::new(Cursor::new(stations.lines.clone()), 1 << 20);
            while let Some(piece) = reader.next(Unterminated::Record).unwrap() {
                black_box(piece);
            }
        });
    });
    let mut decoder = Ndjson::new(&stations.config.schema);
    let batch = stations.batch();
    group.bench_function("decode", |bencher| bencher.iter(|| decoder.decode(&batch).unwrap()));
    let schema = EventSchema::avro(avro::format(EVENT, Framing::None).unwrap());
    let (mut decoder, batch) = (pintail_decode::decoder(&schema), avro_batch(&stations.rows));
    group.bench_function("decode avro", |bencher| bencher.iter(|| decoder.decode(&batch).unwrap()));
    // Every column is handed over, no row comes back.
    let sql = r#"transform.sql=SELECT * FROM events WHERE user_id = -1 AND amount = -1 AND sku = '' AND "timestamp" = -1"#;
    let nothing = [sql, "sink.event_time=", "transform.threads=1"].map(str::to_owned);
    let nothing = Config::load(None, std::iter::empty(), &nothing).unwrap();
    let mut scanner = Plan::new(&nothing).unwrap().engine.workers().unwrap().pop().unwrap();
    group.bench_function("scan", |bencher| bencher.iter(|| scanner.run(&stations.rows).unwrap()));
    let mut worker = stations.plan.engine.workers().unwrap().pop().unwrap();
    group.bench_function("transform", |bencher| bencher.iter(|| worker.run(&stations.rows).unwrap()));
    let mut splitter = Splitter::new(stations.plan.layout.clone());
    group.bench_function("partition", |bencher| bencher.iter(|| splitter.split(&stations.output).unwrap()));
    group.bench_function("aggregate", |bencher| bencher.iter(|| stations.plan.aggregator.totals(&stations.output).unwrap()));
    // Ten batches, so that the making and the footer of five files weigh as little as they do in a stream.
    group.throughput(Throughput::Elements(ROWS * 10));
    group.bench_function("encode, hash and fsync", |bencher| {
        let dir = tempfile::tempdir().unwrap();
        let mut sequence = 0;
        bencher.iter_batched(
            || {
                sequence += 1;
                Staging::new(Arc::new(Posix::default()), dir.path().join(sequence.to_string()))
            },
            |staging| {
                let mut files = OpenFiles::new(stations.plan.layout.clone(), &stations.config.sink, &[]).unwrap();
                files.begin(staging, 1, DateTime::<Utc>::UNIX_EPOCH);
                for rows in std::iter::repeat_n(&stations.placed, 10) {
                    files.append(rows.clone()).unwrap();
                }
                files.finish().unwrap().1
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// What a checkpoint costs beside its rows: five files that are written and durable become visible.
fn commit(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let out_path = format!("pipeline.out_path={}", dir.path().display());
    let config = Config::load(None, std::iter::empty(), &[out_path]).unwrap();
    let plan = Plan::new(&config).unwrap();
    let Opened { lock: _lock, mut store, .. } =
        plan.open_store(&config, Start::Usual, Arc::new(Posix::default()), &Meters::new(DiskState::default()), None).unwrap();
    let partition = Arc::new(Partition { id: PartitionId::new("bench"), label: "bench".into() });
    criterion.bench_function("checkpoint/commit", |bencher| {
        bencher.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for _ in 0..times {
                let sequence = store.next_sequence();
                let mut staging = store.staging();
                let mut offsets = store.offsets().clone();
                offsets.extend(&OffsetRange::new(partition.clone(), sequence - 1, sequence)).unwrap();
                let files = ["africa", "apac", "eu", "latam", "us"].map(|region| {
                    let mut file = staging.create().unwrap();
                    file.write_all(&[0; 64 << 10]).unwrap();
                    let path = format!("region={region}/events-1970-01-01-00-{sequence}.parquet");
                    NewFile { staged: file.finish().unwrap(), path, kind: FileKind::Parquet, rows: 1, event_time: None, columns: vec![] }
                });
                let draft = Draft {
                    offsets,
                    counts: Counts { records_in: 5, rows_out: 5, ..Counts::default() },
                    files: files.into(),
                    schema: plan.layout.output_schema().clone(),
                    trigger: Trigger::Interval,
                    lookups: Vec::new(),
                    config_sha256: config.sha256.clone(),
                    sql_sha256: config.transform.sql_sha256(),
                    time: DateTime::UNIX_EPOCH,
                };
                let start = Instant::now();
                store.commit(staging, draft).unwrap();
                took += start.elapsed();
            }
            took
        });
    });
}

criterion_group!(benches, hops, commit);
criterion_main!(benches);
