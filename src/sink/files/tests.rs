use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::*;
use arrow::datatypes::*;
use chrono::TimeZone;
use rand::prelude::*;

use super::*;
use crate::config::SortColumn;
use crate::durable::fs::{Entry, EntryKind, Fs, FsFile};
use crate::sink::layout::Splitter;

/// A directory of the test, as far as staging needs one.
#[derive(Debug)]
struct Disk;

#[derive(Debug)]
struct DiskFile(File);

impl Write for DiskFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FsFile for DiskFile {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Fs for Disk {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        Ok(Box::new(DiskFile(File::create_new(path)?)))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }
    fn open(&self, _: &Path) -> io::Result<Box<dyn io::Read + Send>> {
        unreachable!()
    }
    fn entry(&self, _: &Path) -> io::Result<Option<EntryKind>> {
        unreachable!()
    }
    fn list(&self, _: &Path) -> io::Result<Vec<Entry>> {
        unreachable!()
    }
    fn sync_file(&self, _: &Path) -> io::Result<()> {
        unreachable!()
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!()
    }
    fn rename_noreplace(&self, _: &Path, _: &Path) -> io::Result<()> {
        unreachable!()
    }
    fn remove_file(&self, _: &Path) -> io::Result<()> {
        unreachable!()
    }
    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        unreachable!()
    }
    fn device(&self, _: &Path) -> io::Result<u64> {
        unreachable!()
    }
}

fn sink() -> SinkConfig {
    SinkConfig {
        partition_by: vec!["region".into()],
        event_time: Some("ts".into()),
        compression: parquet::basic::Compression::ZSTD(Default::default()),
        row_group_rows: 1 << 20,
        row_group_bytes: 64 << 20,
        target_file_bytes: 256 << 20,
        buffer_bytes_max: 128 << 20,
        open_files_max: 64,
        partitions_max: 1000,
        sort_by: vec![],
        bloom_filter: vec![],
        allow_new_columns: false,
    }
}

#[test]
fn speed() {
    let mut rng = StdRng::seed_from_u64(1);
    let fields = vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("user_id", DataType::Int64, true),
        Field::new("region", DataType::Utf8View, true),
        Field::new("amount", DataType::Float64, true),
        Field::new("sku", DataType::Utf8View, true),
        Field::new("bucket", DataType::Utf8View, true),
    ];
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let n = 50_000i64;
    let regions = ["us", "eu", "apac", "latam", "africa"];
    let skus: Vec<String> = (0..5000).map(|i| format!("SKU-{i:05}")).collect();
    let batches: Vec<RecordBatch> = (0..100i64)
        .map(|b| {
            let amounts: Vec<f64> = (0..n).map(|_| (rng.random_range(0.0..100.0f64) * 100.0).round() / 100.0).collect();
            let cols: Vec<ArrayRef> = vec![
                Arc::new(TimestampMillisecondArray::from_iter_values((0..n).map(|i| 1_767_225_600_000 + (b * n + i) / 50))),
                Arc::new(Int64Array::from_iter_values((0..n).map(|_| rng.random_range(1..1_000_000)))),
                Arc::new(StringViewArray::from_iter_values((0..n).map(|_| regions[rng.random_range(0..5)]))),
                Arc::new(Float64Array::from(amounts.clone())),
                Arc::new(StringViewArray::from_iter_values((0..n).map(|_| &skus[rng.random_range(0..5000)]))),
                Arc::new(StringViewArray::from_iter_values(amounts.iter().map(|a| if *a >= 80. { "high" } else if *a >= 30. { "medium" } else { "low" }))),
            ];
            RecordBatch::try_new(schema.clone(), cols).unwrap()
        })
        .collect();
    let layout = Arc::new(OutputLayout::new(&schema, &sink()).unwrap());
    let rows = 5_000_000.0;
    let mut splitter = Splitter::new(layout.clone());
    let t = Instant::now();
    let mut parts: Vec<_> = Vec::new();
    for b in &batches {
        parts.extend(splitter.split(b).unwrap());
    }
    println!("split {:.1} M rows/s", rows / t.elapsed().as_secs_f64() / 1e6);
    for round in 0..2 {
        let mut config = sink();
        if round == 1 {
            config.sort_by = vec![SortColumn { name: "ts".into(), descending: false }];
            config.bloom_filter = vec!["user_id".into()];
        }
        let dir = PathBuf::from("/tmp/sinkrt/speed").join(format!("{round}"));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        let mut files = OpenFiles::new(layout.clone(), &config);
        files.begin(Staging::new(Arc::new(Disk), dir.join("s")), 1, Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).unwrap());
        let t = Instant::now();
        let mut held = 0;
        for p in &parts {
            files.append(p.clone()).unwrap();
            held = held.max(files.held_bytes());
        }
        let (_, done) = files.finish().unwrap();
        let bytes: u64 = done.iter().map(|f| f.staged.bytes).sum();
        println!("round {round}: {:.2} M rows/s, {:.2} B/row, held {} MiB, {} files", rows / t.elapsed().as_secs_f64() / 1e6, bytes as f64 / rows, held >> 20, done.len());
    }
}
