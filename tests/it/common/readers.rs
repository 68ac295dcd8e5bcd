//! The rows of a dataset, as three independent readers see them, and the oracle of the simulated ones.
//!
//! Owns: reading by the parquet crate, by DuckDB and by pyarrow (both in Python), all into one form.
//! Does not own: anything of Pintail but the simulator's function of seed, start time and number.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use chrono::{DateTime, Utc};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

use super::{Dataset, START_TIME};

/// A row as JSON; nulls are left out.
pub(crate) type Row = Map<String, Value>;

impl Dataset {
    /// Returns all visible rows, with the columns of their paths as text.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for file in self.data_files() {
            let values = hive_values(&file);
            for mut row in json_rows(&read_parquet(&self.out().join(&file))) {
                row.extend(values.iter().filter_map(|(column, value)| Some((column.clone(), Value::from(value.clone()?)))));
                rows.push(row);
            }
        }
        rows
    }

    /// Returns the number of visible rows.
    pub(crate) fn rows_len(&self) -> usize {
        let rows = |file| open_parquet(&self.out().join(file)).metadata().file_metadata().num_rows() as usize;
        self.data_files().iter().map(rows).sum()
    }

    /// Returns the integer column `id` of all visible rows, sorted.
    pub(crate) fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<_> = self.rows().iter().map(|row| row["id"].as_i64().expect("an integer id")).collect();
        ids.sort_unstable();
        ids
    }

    /// Reads the dataset by DuckDB and by pyarrow, through a plain glob. `hive` gives the columns of the paths and their types in SQL.
    pub(crate) fn read_back(&self, hive: &[(&str, &str)]) -> [ReadBack; 2] {
        let to = tempfile::tempdir().unwrap();
        let hive = serde_json::to_string(hive).unwrap();
        python(READ_BACK, &[self.out().to_str().unwrap(), to.path().to_str().unwrap(), &hive]);
        ["duckdb", "pyarrow"].map(|reader| ReadBack { reader, rows: read_parquet(&to.path().join(format!("{reader}.parquet"))) })
    }

    /// Asserts that all three readers see exactly the simulated events `[0, count)` of seed 42, put through the default SQL.
    pub(crate) fn assert_simulated(&self, count: u64) {
        let expected = simulated(42, count);
        let mut rows = Vec::new();
        for file in self.data_files() {
            let region = hive_values(&file).into_iter().find_map(|(column, value)| (column == "region").then_some(value)).flatten();
            let region = region.expect("a file lies in the hive partition of its region");
            read_parquet(&self.out().join(&file)).iter().for_each(|batch| rows.extend(Event::rows(batch, Some(&region))));
        }
        assert_same("the parquet crate", rows, &expected);
        for back in self.read_back(&[("region", "VARCHAR")]) {
            assert_same(back.reader, back.rows.iter().flat_map(|batch| Event::rows(batch, None)).collect(), &expected);
        }
    }
}

/// What a reader of another program returned.
pub(crate) struct ReadBack {
    /// `duckdb` or `pyarrow`.
    pub reader: &'static str,
    rows: Vec<RecordBatch>,
}

impl ReadBack {
    /// Returns the rows as JSON.
    pub(crate) fn rows(&self) -> Vec<Row> {
        json_rows(&self.rows)
    }
}

/// Reads a Parquet file.
pub(crate) fn read_parquet(path: &Path) -> Vec<RecordBatch> {
    let batches = open_parquet(path).build().unwrap();
    batches.map(|batch| batch.unwrap_or_else(|e| panic!("{} is torn: {e}", path.display()))).collect()
}

fn open_parquet(path: &Path) -> ParquetRecordBatchReaderBuilder<File> {
    let file = File::open(path).unwrap();
    ParquetRecordBatchReaderBuilder::try_new(file).unwrap_or_else(|e| panic!("{} is torn: {e}", path.display()))
}

fn json_rows(batches: &[RecordBatch]) -> Vec<Row> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write_batches(&batches.iter().collect::<Vec<_>>()).unwrap();
    writer.finish().unwrap();
    let text = String::from_utf8(writer.into_inner()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the `column=value` of a path, decoded; `None` stands for NULL.
pub(crate) fn hive_values(file: &Path) -> Vec<(String, Option<String>)> {
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
    let parts = file.parent().unwrap().iter().map(|part| part.to_str().unwrap().split_once('=').expect("a hive directory"));
    parts.map(|(column, value)| (decode(column), (value != "__HIVE_DEFAULT_PARTITION__").then(|| decode(value)))).collect()
}

/// A simulated event behind the default SQL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    ts_ms: i64,
    user_id: i64,
    region: String,
    amount_cents: i64,
    sku: String,
    bucket: &'static str,
}

impl Event {
    fn new(ts_ms: i64, user_id: i64, region: &str, amount: f64, sku: &str, bucket: &str) -> Self {
        let amount_cents = (amount * 100.0).round() as i64;
        // Whether the limits apply before or after rounding is not said, so a rounded value on a limit may fall on either side.
        let bucket = match (amount_cents, bucket) {
            (8000, "high" | "medium") | (3000, "medium" | "low") => "on a limit",
            (_, "high") => "high",
            (_, "medium") => "medium",
            (_, "low") => "low",
            (_, other) => panic!("a bucket `{other}`"),
        };
        Self { ts_ms, user_id, region: region.to_owned(), amount_cents, sku: sku.to_owned(), bucket }
    }

    /// Takes the rows of a batch; `region` is the one of the path, if the batch lacks it.
    fn rows(batch: &RecordBatch, region: Option<&str>) -> Vec<Self> {
        let ts = cast(&column(batch, "ts", &DataType::Timestamp(TimeUnit::Millisecond, None)), &DataType::Int64).unwrap();
        let (ts, users) = (ts.as_primitive::<Int64Type>(), column(batch, "user_id", &DataType::Int64));
        let (amounts, skus) = (column(batch, "amount", &DataType::Float64), column(batch, "sku", &DataType::Utf8));
        let buckets = column(batch, "bucket", &DataType::Utf8);
        let regions = region.is_none().then(|| column(batch, "region", &DataType::Utf8));
        let row = |i: usize| {
            let region = region.unwrap_or_else(|| regions.as_ref().expect("read above").as_string::<i32>().value(i));
            let amount = amounts.as_primitive::<Float64Type>().value(i);
            assert!((amount * 100.0 - (amount * 100.0).round()).abs() < 1e-6, "the amount {amount} is not rounded to 2 places");
            let user = users.as_primitive::<Int64Type>().value(i);
            Self::new(ts.value(i), user, region, amount, skus.as_string::<i32>().value(i), buckets.as_string::<i32>().value(i))
        };
        (0..batch.num_rows()).map(row).collect()
    }
}

fn column(batch: &RecordBatch, name: &str, to: &DataType) -> ArrayRef {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("the column `{name}` in {:?}", batch.schema()));
    assert_eq!(column.null_count(), 0, "nulls in `{name}`");
    cast(column, to).unwrap()
}

/// Returns the simulated events `[0, count)` put through the default SQL, sorted.
fn simulated(seed: u64, count: u64) -> Vec<Event> {
    let start: DateTime<Utc> = START_TIME.parse().unwrap();
    let batch = pintail_sources::simulator::events(seed, start, 0..count);
    let (ts, users) = (column(&batch, "timestamp", &DataType::Int64), column(&batch, "user_id", &DataType::Int64));
    let (regions, skus) = (column(&batch, "region", &DataType::Utf8), column(&batch, "sku", &DataType::Utf8));
    let amounts = column(&batch, "amount", &DataType::Float64);
    let event = |i: usize| {
        let amount = amounts.as_primitive::<Float64Type>().value(i);
        let bucket = ["low", "medium", "high"][usize::from(amount >= 30.0) + usize::from(amount >= 80.0)];
        let (ts, user) = (ts.as_primitive::<Int64Type>().value(i), users.as_primitive::<Int64Type>().value(i));
        Event::new(ts, user, regions.as_string::<i32>().value(i), amount, skus.as_string::<i32>().value(i), bucket)
    };
    let mut events: Vec<_> = (0..batch.num_rows()).map(event).collect();
    events.sort_unstable();
    events
}

fn assert_same(reader: &str, mut rows: Vec<Event>, expected: &[Event]) {
    rows.sort_unstable();
    let differ = rows.iter().zip(expected).position(|(row, expected)| row != expected);
    if let Some(i) = differ {
        panic!("{reader}: row {i} of {} is {:?}, expected {:?} of {}", rows.len(), rows[i], expected[i], expected.len());
    }
    assert_eq!(rows.len(), expected.len(), "{reader}: number of rows");
}

/// Returns the Python that has `duckdb` and `pyarrow`.
pub(crate) fn interpreter() -> OsString {
    std::env::var_os("PINTAIL_TEST_PYTHON").unwrap_or_else(|| "python3".into())
}

/// Runs a Python script that knows `duckdb`, `pyarrow`, `deltalake` and `pyiceberg`; returns what it printed.
pub(crate) fn python(script: &str, args: &[&str]) -> String {
    let interpreter = interpreter();
    let output = Command::new(&interpreter).arg("-c").arg(script).args(args).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run {interpreter:?}: {e}; set PINTAIL_TEST_PYTHON"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "python failed (PINTAIL_TEST_PYTHON names an interpreter with duckdb, pyarrow, deltalake and pyiceberg; now {interpreter:?}):\n{stderr}"
    );
    String::from_utf8(output.stdout).unwrap()
}

const READ_BACK: &str = r#"
import json, sys, glob
import duckdb, pyarrow as pa, pyarrow.dataset as ds, pyarrow.parquet as pq
out, to, hive = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])

# The log of a Delta table has checkpoints that are Parquet files, and no data.
globbed = [path for path in glob.glob(f"{out}/**/*.parquet", recursive=True) if "/_delta_log/" not in path]
types = ", ".join(f'"{name}": {sql}' for name, sql in hive)
# It takes no list without types.
hive_types = f", hive_types={{{types}}}" if hive else ""
con = duckdb.connect()
con.execute(f"""COPY (SELECT * FROM read_parquet({globbed}, hive_partitioning=true, hive_types_autocast=false{hive_types})) TO '{to}/duckdb.parquet' (FORMAT parquet)""")

arrow = {"VARCHAR": pa.string(), "BIGINT": pa.int64(), "INTEGER": pa.int32(), "BOOLEAN": pa.bool_(), "DATE": pa.date32()}
flavor = ds.partitioning(pa.schema([(name, arrow[sql]) for name, sql in hive]), flavor="hive")
found = ds.dataset(out, format="parquet", partitioning=flavor)
assert len(found.files) == len(globbed), f"pyarrow finds {len(found.files)} files, a glob {len(globbed)}"
pq.write_table(found.to_table(), f"{to}/pyarrow.parquet")
"#;
