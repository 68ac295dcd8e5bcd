//! Checkpoints of the log: all that the commits up to one add up to, as Parquet (Delta protocol, "Checkpoints", V1).
//!
//! Owns: their schema, writing and reading them.
//! Does not own: when one is written (see [`crate::publisher::Publisher`]).

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::json::ReaderBuilder;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use super::action::Line;
use super::snapshot::{Depth, Snapshot};

/// Lines that are turned into rows at once.
const ROWS: usize = 8_192;

/// The columns that are read: statistics in columns of their own are passed over, those as text are there too.
const READ: &[&str] = &[
    "txn",
    "metaData",
    "protocol",
    "add.path",
    "add.partitionValues",
    "add.size",
    "add.modificationTime",
    "add.dataChange",
    "add.stats",
    "add.tags",
    "remove.path",
    "remove.deletionTimestamp",
    "remove.dataChange",
    "remove.extendedFileMetadata",
    "remove.partitionValues",
    "remove.size",
];
/// Those of them that a head is made of.
const HEAD: &[&str] = &["txn", "metaData", "protocol"];

fn schema() -> Schema {
    let field = |name: &str, of: DataType| Field::new(name, of, true);
    let required = |name: &str, of: DataType| Field::new(name, of, false);
    let row = |fields: Vec<Field>| DataType::Struct(Fields::from(fields));
    let texts = || {
        let entries = row(vec![required("key", DataType::Utf8), field("value", DataType::Utf8)]);
        DataType::Map(Arc::new(required("key_value", entries)), false)
    };
    let list = || DataType::List(Arc::new(field("element", DataType::Utf8)));
    let (text, long, short, flag) = (DataType::Utf8, DataType::Int64, DataType::Int32, DataType::Boolean);
    let txn = vec![required("appId", text.clone()), required("version", long.clone()), field("lastUpdated", long.clone())];
    let add = vec![
        required("path", text.clone()),
        required("partitionValues", texts()),
        required("size", long.clone()),
        required("modificationTime", long.clone()),
        required("dataChange", flag.clone()),
        field("stats", text.clone()),
        field("tags", texts()),
    ];
    let remove = vec![
        required("path", text.clone()),
        field("deletionTimestamp", long.clone()),
        required("dataChange", flag.clone()),
        field("extendedFileMetadata", flag),
        field("partitionValues", texts()),
        field("size", long.clone()),
    ];
    let format = row(vec![required("provider", text.clone()), field("options", texts())]);
    let meta_data = vec![
        required("id", text.clone()),
        field("name", text.clone()),
        field("description", text.clone()),
        required("format", format),
        required("schemaString", text.clone()),
        required("partitionColumns", list()),
        field("configuration", texts()),
        field("createdTime", long),
    ];
    let protocol = vec![
        required("minReaderVersion", short.clone()),
        required("minWriterVersion", short),
        field("readerFeatures", list()),
        field("writerFeatures", list()),
    ];
    Schema::new(vec![
        field("txn", row(txn)),
        field("add", row(add)),
        field("remove", row(remove)),
        field("metaData", row(meta_data)),
        field("protocol", row(protocol)),
    ])
}

/// Writes a table, without the files that left before `tombstones_from`. Returns the checkpoint with the number of its rows.
///
/// # Errors
/// Why it cannot be written, in words.
pub(super) fn write(table: &Snapshot, tombstones_from: i64) -> Result<(Vec<u8>, usize), String> {
    let one = |line: Line| std::iter::once(line);
    let protocol = one(Line { protocol: table.protocol.clone(), ..Line::default() });
    let meta_data = one(Line { meta_data: table.meta_data.clone(), ..Line::default() });
    let txns = table.txns.values().map(|txn| Line { txn: Some(txn.clone()), ..Line::default() });
    let adds = table.live.values().map(|add| {
        let add = super::action::Add { data_change: false, ..add.clone() };
        Line { add: Some(add), ..Line::default() }
    });
    let told = table.removed.values().filter(|remove| remove.deletion_timestamp.unwrap_or(0) >= tombstones_from);
    let removes = told.map(|remove| {
        let remove = super::action::Remove { data_change: false, ..remove.clone() };
        Line { remove: Some(remove), ..Line::default() }
    });
    let mut lines = protocol.chain(meta_data).chain(txns).chain(adds).chain(removes);
    let (schema, mut rows) = (Arc::new(schema()), 0);
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let write = || -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))?;
        loop {
            let some: Vec<Line> = lines.by_ref().take(ROWS).collect();
            if some.is_empty() {
                return Ok(writer.into_inner()?);
            }
            rows += some.len();
            let mut decoder = ReaderBuilder::new(schema.clone()).with_batch_size(ROWS).build_decoder()?;
            decoder.serialize(&some)?;
            if let Some(batch) = decoder.flush()? {
                writer.write(&batch)?;
            }
        }
    };
    let bytes = write().map_err(|e| e.to_string())?;
    Ok((bytes, rows))
}

/// Reads a checkpoint, or a part of one.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn read(bytes: Vec<u8>, depth: Depth, take: impl FnMut(Line)) -> Result<(), String> {
    read_rows(bytes, depth, take).map_err(|e| e.to_string())
}

fn read_rows(bytes: Vec<u8>, depth: Depth, mut take: impl FnMut(Line)) -> Result<(), Box<dyn std::error::Error>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes))?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), if depth == Depth::Head { HEAD } else { READ }.iter().copied());
    for batch in builder.with_projection(mask).with_batch_size(ROWS).build()? {
        let batch = said(&batch?)?;
        if batch.num_rows() == 0 {
            continue;
        }
        // With nulls: a partition value may be one.
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
        writer.write(&batch)?;
        writer.finish()?;
        for line in writer.into_inner().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let mut value: Value = serde_json::from_slice(line)?;
            without_nulls(&mut value);
            take(serde_json::from_value(value)?);
        }
    }
    Ok(())
}

/// Leaves the rows that say something in the columns that were read.
fn said(batch: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
    let says = |row: usize| batch.columns().iter().any(|column| column.is_valid(row));
    filter_record_batch(batch, &(0..batch.num_rows()).map(|row| Some(says(row))).collect::<BooleanArray>())
}

/// Drops keys without a value, where a text or a list was expected: others write empty maps as nulls.
fn without_nulls(line: &mut Value) {
    let Some(actions) = line.as_object_mut() else { return };
    actions.retain(|_, action| !action.is_null());
    for action in actions.values_mut().filter_map(Value::as_object_mut) {
        action.retain(|_, value| !value.is_null());
        if let Some(format) = action.get_mut("format").and_then(Value::as_object_mut) {
            format.retain(|_, value| !value.is_null());
        }
    }
}
