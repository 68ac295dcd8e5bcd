use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::path::Path;

use arrow::array::*;
use arrow::datatypes::*;
use bytes::Bytes;
use chrono::TimeZone;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use pintail_core::error::ErrorKind;
use pintail_core::hive::HivePartition;
use pintail_storage::checkpoint::columns;
use tempfile::TempDir;

use self::disk::Disk;
use super::*;
use crate::config::SortColumn;

mod disk;
mod limits;
mod parquet_files;

const HOUR: i64 = 3_600_000_000;

/// 2026-01-01T00:00:00Z in microseconds.
const NEW_YEAR: i64 = 1_767_225_600_000_000;

fn opened() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 6, 15, 12, 30, 0).unwrap()
}

pub(crate) fn sink() -> SinkConfig {
    SinkConfig {
        defaulted: Vec::new(),
        partition_by: vec!["region".into()],
        event_time: Some("ts".into()),
        compression: parquet::basic::Compression::ZSTD(Default::default()),
        row_group_rows: 1 << 20,
        row_group_bytes: 64 << 20,
        target_file_bytes: 256 << 20,
        buffer_bytes_max: 128 << 20,
        open_files_max: 64,
        partitions_max: 1000,
        threads: 2,
        sort_by: Vec::new(),
        text_statistics: Vec::new(),
        bloom_filter: Vec::new(),
        allow_new_columns: false,
    }
}

/// Files get a writer with their first rows, as if these were many.
fn eager() -> SinkConfig {
    SinkConfig { row_group_bytes: 1, ..sink() }
}

fn output() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("region", DataType::Utf8View, true),
        Field::new("n", DataType::Int64, true),
    ]))
}

/// A checkpoint being written in a directory of its own.
struct Checkpoint {
    dir: TempDir,
    disk: Arc<Disk>,
    layout: Arc<OutputLayout>,
    files: OpenFiles,
}

impl Checkpoint {
    fn of(output: &SchemaRef, sink: &SinkConfig) -> Self {
        let layout = Arc::new(OutputLayout::new(output, sink).unwrap());
        let columns = columns::number(&[], &columns::describe(output));
        let mut files = OpenFiles::new(layout.clone(), sink, &columns).unwrap();
        let (dir, disk) = (TempDir::new().unwrap(), Arc::new(Disk::default()));
        files.begin(Staging::new(disk.clone(), dir.path().join("staging")), 42, opened());
        Self { dir, disk, layout, files }
    }

    fn new(sink: &SinkConfig) -> Self {
        Self::of(&output(), sink)
    }

    /// Appends rows of event times and numbers to a region.
    fn append(&mut self, region: &str, rows: &[(Option<i64>, i64)]) -> Vec<Unplaced> {
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter(rows.iter().map(|row| row.0)));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)));
        let rows = RecordBatch::try_new(self.layout.file_schema().clone(), vec![times, numbers]).unwrap();
        self.append_rows(region, rows)
    }

    fn append_rows(&mut self, region: &str, rows: RecordBatch) -> Vec<Unplaced> {
        let mut partition = HivePartition::root();
        partition.push("region", Some(region)).unwrap();
        self.append_to(partition, rows)
    }

    /// Appends rows of a partition by hour, as a splitter hands them over.
    fn append_to(&mut self, partition: HivePartition, rows: RecordBatch) -> Vec<Unplaced> {
        let partition = Arc::new(partition);
        let hours = EventTime::of(&self.layout).hours(&rows).unwrap();
        let (rows, hours) = match hours.numbers().map(|numbers| numbers.order()) {
            None => (rows.clone(), vec![(hours.of(0), rows.num_rows())]),
            Some(order) => {
                let by_hour = order.groups().map(|(_, range)| (hours.of(order.old_row(range.start)), range.len()));
                (order.sorted_rows(&rows).unwrap(), by_hour.collect())
            }
        };
        self.files.append(vec![PartitionedRows { partition, rows, hours }]).unwrap()
    }

    fn finish(mut self) -> Vec<Written> {
        let (staging, files) = self.files.finish().unwrap();
        let written: Vec<_> = files.into_iter().map(|file| Written::read(staging.dir(), file)).collect();
        let paths: HashSet<_> = written.iter().map(|file| &file.path).collect();
        assert_eq!(paths.len(), written.len(), "a name was given twice: {:?}", written.iter().map(|file| &file.path).collect::<Vec<_>>());
        assert_eq!(self.disk.open_now(), 0, "a file was left open");
        drop(self.dir);
        written
    }
}

/// A finished file, read back.
struct Written {
    path: String,
    event_time: Option<(DateTime<Utc>, DateTime<Utc>)>,
    metadata: ParquetMetaData,
    rows: RecordBatch,
}

impl Written {
    fn read(dir: &Path, file: NewFile) -> Self {
        let path = dir.join(format!("{}.inprogress", file.staged.index));
        assert_eq!(fs::metadata(&path).unwrap().len(), file.staged.bytes);
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
        let schema = builder.schema().clone();
        let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
        let rows = arrow::compute::concat_batches(&schema, &batches).unwrap();
        assert_eq!(rows.num_rows() as u64, file.rows);
        let bytes = Bytes::from(fs::read(&path).unwrap());
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap();
        Self { path: file.path, event_time: file.event_time, metadata, rows }
    }

    fn numbers(&self) -> Vec<i64> {
        self.rows.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec()
    }

    fn row_groups(&self) -> Vec<i64> {
        self.metadata.row_groups().iter().map(|group| group.num_rows()).collect()
    }
}

fn paths(files: &[Written]) -> Vec<&str> {
    files.iter().map(|file| file.path.as_str()).collect()
}

fn numbers_by_path(files: &[Written]) -> BTreeMap<&str, Vec<i64>> {
    files.iter().map(|file| (file.path.as_str(), file.numbers())).collect()
}

#[test]
fn a_file_is_named_after_its_earliest_event_time_and_the_checkpoint() {
    let mut checkpoint = Checkpoint::new(&sink());
    checkpoint.append("us", &[(Some(NEW_YEAR + HOUR - 1), 1), (Some(NEW_YEAR + 5), 2)]);
    let files = checkpoint.finish();
    assert_eq!(paths(&files), ["region=us/events-2026-01-01-00-42.parquet"]);
    let time = |micros| DateTime::from_timestamp_micros(micros).unwrap();
    assert_eq!(files[0].event_time, Some((time(NEW_YEAR + 5), time(NEW_YEAR + HOUR - 1))));
    assert_eq!(files[0].numbers(), [1, 2]);
}

#[test]
fn while_there_is_room_each_hour_has_its_file_and_rows_keep_their_order() {
    let mut checkpoint = Checkpoint::new(&sink());
    checkpoint.append("us", &[(Some(NEW_YEAR + HOUR), 1), (Some(NEW_YEAR), 2), (Some(NEW_YEAR + HOUR), 3)]);
    checkpoint.append("us", &[(Some(NEW_YEAR - 1), 4), (Some(NEW_YEAR), 5)]);
    let files = checkpoint.finish();
    let expected = [
        ("region=us/events-2025-12-31-23-42.parquet", vec![4]),
        ("region=us/events-2026-01-01-00-42.parquet", vec![2, 5]),
        ("region=us/events-2026-01-01-01-42.parquet", vec![1, 3]),
    ];
    assert_eq!(numbers_by_path(&files), expected.into());
}

#[test]
fn without_an_event_time_the_hour_is_that_of_the_checkpoint() {
    let mut checkpoint = Checkpoint::new(&SinkConfig { event_time: None, ..sink() });
    checkpoint.append("us", &[(Some(NEW_YEAR), 1), (Some(NEW_YEAR + HOUR), 2)]);
    let files = checkpoint.finish();
    assert_eq!(paths(&files), ["region=us/events-2026-06-15-12-42.parquet"]);
    assert_eq!(files[0].event_time, None);
}

#[test]
fn a_missing_or_impossible_event_time_goes_by_the_hour_of_the_checkpoint() {
    let mut checkpoint = Checkpoint::new(&sink());
    checkpoint.append("us", &[(None, 1), (Some(i64::MAX), 2), (Some(i64::MIN), 3)]);
    checkpoint.append("us", &[(None, 4), (Some(NEW_YEAR), 5), (Some(-i64::MAX), 6)]);
    checkpoint.append("us", &[(None, 7)]);
    checkpoint.append("us", &[(None, 8), (Some(NEW_YEAR), 9)]);
    let files = checkpoint.finish();
    let expected = [
        ("region=us/events-2026-01-01-00-42.parquet", vec![5, 9]),
        ("region=us/events-2026-06-15-12-42.parquet", vec![1, 2, 3, 4, 6, 7, 8]),
    ];
    assert_eq!(numbers_by_path(&files), expected.into());
    assert_eq!(files[1].event_time, None);
}

#[test]
fn missing_event_times_share_a_file_with_the_hour_of_the_checkpoint() {
    let noon = opened().timestamp_micros();
    let mut checkpoint = Checkpoint::new(&sink());
    checkpoint.append("us", &[(None, 1), (Some(noon), 2)]);
    let files = checkpoint.finish();
    assert_eq!(paths(&files), ["region=us/events-2026-06-15-12-42.parquet"]);
    assert_eq!(files[0].event_time, Some((opened(), opened())));
}

#[test]
fn every_unit_of_time_and_dates_name_the_hour() {
    let seven = NEW_YEAR + 7 * HOUR;
    let columns: Vec<(ArrayRef, &str)> = vec![
        (Arc::new(TimestampMillisecondArray::from(vec![seven / 1000])), "07"),
        (Arc::new(TimestampMicrosecondArray::from(vec![seven])), "07"),
        (Arc::new(TimestampNanosecondArray::from(vec![seven * 1000]).with_timezone("UTC")), "07"),
        (Arc::new(Date32Array::from(vec![20_454])), "00"),
    ];
    for (times, hour) in columns {
        let fields = vec![Field::new("ts", times.data_type().clone(), true), Field::new("n", DataType::Int64, true)];
        let output = Arc::new(Schema::new(fields));
        let mut checkpoint = Checkpoint::of(&output, &SinkConfig { partition_by: Vec::new(), ..sink() });
        let rows = RecordBatch::try_new(output, vec![times, Arc::new(Int64Array::from(vec![1]))]).unwrap();
        checkpoint.append_to(HivePartition::root(), rows);
        assert_eq!(paths(&checkpoint.finish()), [format!("events-2026-01-01-{hour}-42.parquet")]);
    }
}

#[test]
fn a_checkpoint_without_rows_touches_no_disk() {
    let mut checkpoint = Checkpoint::new(&sink());
    checkpoint.append("us", &[]);
    let (staging, files) = checkpoint.files.finish().unwrap();
    assert!(files.is_empty() && !staging.is_made());
}

#[test]
fn files_are_used_only_within_a_checkpoint() {
    let mut checkpoint = Checkpoint::new(&eager());
    checkpoint.append("us", &[(None, 1)]);
    assert_eq!(checkpoint.disk.open_now(), 1);
    checkpoint.files.discard();
    assert_eq!(checkpoint.disk.open_now(), 0);
    assert_eq!(checkpoint.files.finish().unwrap_err().kind(), ErrorKind::Internal);
    let rows = RecordBatch::new_empty(checkpoint.layout.file_schema().clone());
    let rows = PartitionedRows { partition: Arc::default(), rows, hours: Vec::new() };
    assert!(checkpoint.files.append(vec![rows]).is_err());
    let staging = Staging::new(checkpoint.disk.clone(), checkpoint.dir.path().join("next"));
    checkpoint.files.begin(staging, 43, opened());
    checkpoint.append("us", &[(None, 2)]);
    assert_eq!(paths(&checkpoint.finish()), ["region=us/events-2026-06-15-12-43.parquet"]);
}

#[test]
fn a_discarded_file_is_not_written_to() {
    let mut checkpoint = Checkpoint::new(&eager());
    checkpoint.append("us", &[(None, 1)]);
    checkpoint.disk.fail_writes();
    checkpoint.files.discard();
    assert_eq!(checkpoint.disk.failed_writes(), 0);
}

#[test]
fn a_failing_disk_is_an_error_of_the_disk_that_names_the_file_and_says_the_cause_once() {
    let mut checkpoint = Checkpoint::new(&sink());
    checkpoint.append("us", &[(None, 1)]);
    checkpoint.disk.fail_writes();
    let error = checkpoint.files.finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let file = checkpoint.dir.path().join("staging/0.inprogress");
    assert_eq!(error.to_string(), format!("cannot write a Parquet file: `{}`: the disk of the test is broken", file.display()));
}
