//! Rows: records that come as Arrow.
//!
//! Owns: what of a client's types is as good as the declared ones, and what becomes of rows that do not fit.
//! Does not own: the journal, which keeps the stream as it came: it is read once to be accepted and once more by the line, by the same code.
//!
//! | declared | taken |
//! |---|---|
//! | `text`, `dictionary`, `json` | text of any kind: plain, large, view, dictionary |
//! | a timestamp | the same unit, with or without a time zone: the values are UTC |
//! | any other | the same type |
//!
//! The columns may come in any order. A row that lacks a required value, or has a time outside of the years 1 to 9999, goes on as JSON, and so
//! becomes a dead letter like any other record of that kind. So do all rows of a stream that was accepted before the declared schema was changed, if they do not fit any more.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, make_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Field, Int64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::root_as_message;
use axum::http::StatusCode;
use bytes::Bytes;
use pintail_core::schema::EventSchema;
use pintail_core::{json_rows, panics};
use pintail_decode::{date_range, timestamp_range};
use tracing::{debug, warn};

use super::refusal::Refusal;
use crate::flood::Flood;

/// Begins a message of an IPC stream; its length follows. <https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format>
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Bodies at which the reader panicked: a client may send any number of them.
#[derive(Debug, Default)]
pub(super) struct Panics(Flood);

impl Panics {
    fn note(&self, panic: &str) {
        debug!(%panic, "an Arrow stream was refused: its reader panicked");
        if let Some(bodies) = self.0.count() {
            warn!(bodies, %panic, "Arrow streams were refused: their reader panicked");
        }
    }
}

/// Rows in a row that are of one kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Run {
    /// Rows in the declared schema.
    Rows(RecordBatch),
    /// Rows that do not fit: JSON, a line each.
    Lines(Bytes),
}

/// Reads a stream and counts its rows, as the line will.
///
/// # Errors
/// If it is no stream, or has another schema; if a text is longer than a record may be, or all are together longer than `bytes_max`:
/// values that stand in the stream once and are meant a million times.
pub(super) fn check(body: &[u8], schema: &EventSchema, bytes_max: usize, record_bytes_max: usize, panics: &Panics) -> Result<u64, Refusal> {
    // The reader panics at lengths and offsets that contradict each other, before it has changed anything but itself.
    let counted = panics::contained(|| count(body, schema, bytes_max, record_bytes_max));
    counted.unwrap_or_else(|panic| {
        panics.note(&panic);
        Err(Refusal::bad("not a valid Arrow IPC stream: its lengths and offsets contradict each other"))
    })
}

fn count(body: &[u8], schema: &EventSchema, bytes_max: usize, record_bytes_max: usize) -> Result<u64, Refusal> {
    let mut reader = StreamReader::try_new(body, None).map_err(|error| broken(0, &error))?;
    fit(&reader.schema(), schema).map_err(Refusal::bad)?;
    let (mut rows, mut bytes) = (0, 0);
    for number in 1.. {
        let Some(batch) = reader.next() else { break };
        let batch = batch.map_err(|error| if is_compressed(body) { compressed() } else { broken(number, &error) })?;
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            let longest;
            (longest, bytes) = texts(column).into_iter().fold((0, bytes), |(longest, sum), length| (length.max(longest), sum + length));
            if longest > record_bytes_max || bytes > bytes_max {
                let (name, what) =
                    (field.name().escape_debug(), if bytes > bytes_max { "decompressed_bytes_max" } else { "record_bytes_max" });
                let why = format!("batch {number}: the texts of column `{name}` are longer than `source.{what}` allows");
                return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why));
            }
        }
        runs(&batch, schema).map_err(|error| broken(number, &error))?;
        rows += batch.num_rows() as u64;
    }
    if !reader.get_ref().is_empty() {
        return Err(Refusal::bad(format!("there are {} bytes behind the end of the Arrow stream", reader.get_ref().len())));
    }
    Ok(rows)
}

fn compressed() -> Refusal {
    let why = "the buffers of the Arrow stream are compressed (LZ4 or ZSTD within IPC), which is not taken: write it without that \
               (pyarrow: `IpcWriteOptions(compression=None)`) and compress the whole body, with `Content-Encoding: zstd` or `gzip`";
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why)
}

/// Returns whether a message of a stream says that its buffers are compressed.
fn is_compressed(stream: &[u8]) -> bool {
    let mut rest = stream;
    while let Some((head, behind)) = rest.split_first_chunk::<8>().filter(|(head, _)| head.starts_with(&CONTINUATION)) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let Some((Ok(message), bodies)) = behind.split_at_checked(length).map(|(meta, bodies)| (root_as_message(meta), bodies)) else {
            break;
        };
        let rows = message.header_as_record_batch().or_else(|| message.header_as_dictionary_batch()?.data());
        if rows.is_some_and(|rows| rows.compression().is_some()) {
            return true;
        }
        let Some(next) = usize::try_from(message.bodyLength()).ok().and_then(|length| bodies.get(length..)) else { break };
        rest = next;
    }
    false
}

fn broken(batch: usize, error: &ArrowError) -> Refusal {
    let place = if batch == 0 { String::new() } else { format!(", batch {batch}") };
    Refusal::bad(format!("not a valid Arrow IPC stream{place}: {error}"))
}

/// Returns the lengths of all texts of a column, null ones too.
fn texts(column: &ArrayRef) -> Vec<usize> {
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().offsets().lengths().collect(),
        DataType::LargeUtf8 => column.as_string::<i64>().offsets().lengths().collect(),
        DataType::Utf8View => column.as_string_view().views().iter().map(|view| *view as u32 as usize).collect(),
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_any_dictionary();
            let lengths = texts(dictionary.values());
            if lengths.is_empty() {
                return lengths;
            }
            let keys = dictionary.normalized_keys();
            keys.iter().map(|key| lengths[*key]).collect()
        }
        _ => Vec::new(),
    }
}

/// Says why a stream with the schema `given` cannot hold events.
fn fit(given: &SchemaRef, schema: &EventSchema) -> Result<(), String> {
    let declared = schema.arrow();
    for field in declared.fields() {
        let name = field.name();
        let shown = name.escape_debug();
        let mut found = given.fields().iter().filter(|given| given.name() == name);
        let Some(first) = found.next() else { return Err(format!("the Arrow schema has no column `{shown}`")) };
        if found.next().is_some() {
            return Err(format!("the Arrow schema has two columns `{shown}`"));
        }
        if !is_as_good(first.data_type(), field.data_type()) {
            return Err(format!("the Arrow column `{shown}` has the type {}, declared is {}", first.data_type(), field.data_type()));
        }
    }
    let unknown = given.fields().iter().find(|given| declared.field_with_name(given.name()).is_err());
    unknown.map_or(Ok(()), |field| Err(format!("the Arrow column `{}` is not declared in [[schema.columns]]", field.name().escape_debug())))
}

fn is_as_good(given: &DataType, declared: &DataType) -> bool {
    match (given, declared) {
        (DataType::Timestamp(given, _), DataType::Timestamp(declared, _)) => given == declared,
        (given, declared) if is_text(declared) => is_text(given),
        (given, declared) => given == declared,
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => matches!(**values, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
        _ => false,
    }
}

/// Brings a batch into the declared schema, as far as its rows fit.
pub(super) fn runs(batch: &RecordBatch, schema: &EventSchema) -> Result<Vec<Run>, ArrowError> {
    if batch.num_rows() == 0 {
        return Ok(Vec::new());
    }
    if fit(&batch.schema(), schema).is_err() {
        return Ok(vec![Run::Lines(lines(batch)?)]);
    }
    let declared = schema.arrow();
    let column = |name: &str| batch.column_by_name(name).expect("the schema fits");
    let columns = declared.fields().iter().map(|field| convert(column(field.name()), field.data_type()));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let unfit: Vec<_> = declared.fields().iter().zip(&columns).filter_map(|(field, column)| unfit(field, column)).collect();
    let is_unfit = |row: usize| unfit.iter().any(|rows| rows.value(row));
    let mut runs = Vec::new();
    let mut from = 0;
    while from < batch.num_rows() {
        let bad = is_unfit(from);
        let length = match unfit.as_slice() {
            [] => batch.num_rows(),
            _ => (from..batch.num_rows()).take_while(|row| is_unfit(*row) == bad).count(),
        };
        runs.push(if bad {
            Run::Lines(lines(&batch.slice(from, length))?)
        } else {
            let columns = columns.iter().map(|column| column.slice(from, length)).collect();
            Run::Rows(RecordBatch::try_new(declared.clone(), columns)?)
        });
        from += length;
    }
    Ok(runs)
}

/// Returns which rows the decoder would refuse for their value in a column of a declared type; `None` if there are none.
fn unfit(field: &Field, column: &ArrayRef) -> Option<BooleanBuffer> {
    let nulls = column.logical_nulls().filter(|nulls| nulls.null_count() > 0);
    let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
    let refused = |row: usize| !field.is_nullable() && is_null(row);
    let rows = match field.data_type() {
        DataType::Timestamp(unit, _) => {
            let (values, range) = (relabelled(column, &DataType::Int64).ok()?, timestamp_range(*unit));
            let values = values.as_primitive::<Int64Type>().values();
            BooleanBuffer::collect_bool(values.len(), |row| refused(row) || (!is_null(row) && !range.contains(&values[row])))
        }
        DataType::Date32 => {
            let (values, range) = (column.as_primitive::<Date32Type>().values(), date_range());
            BooleanBuffer::collect_bool(values.len(), |row| refused(row) || (!is_null(row) && !range.contains(&values[row])))
        }
        _ if nulls.is_none() => return None,
        _ => BooleanBuffer::collect_bool(column.len(), refused),
    };
    (rows.count_set_bits() > 0).then_some(rows)
}

fn convert(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    match (column.data_type(), to) {
        (same, to) if same == to => Ok(column.clone()),
        // Values with a zone are UTC as well: only the label goes.
        (DataType::Timestamp(_, _), DataType::Timestamp(_, _)) => relabelled(column, to),
        // By way of plain text: not every pair of text types has a way of its own.
        (DataType::Dictionary(_, _), DataType::Dictionary(_, _)) | (_, DataType::Utf8) => cast(column, to),
        _ => cast(&cast(column, &DataType::Utf8)?, to),
    }
}

/// Writes rows as JSON, a line each. Times are numbers, as the decoder takes them: a text of them would need the zone's name.
fn lines(rows: &RecordBatch) -> Result<Bytes, ArrowError> {
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
        let is_time = matches!(field.data_type(), DataType::Timestamp(_, _));
        let column = if is_time { relabelled(column, &DataType::Int64)? } else { column.clone() };
        Ok((field.name().as_str(), column, true))
    });
    let rows = RecordBatch::try_from_iter_with_nullable(columns.collect::<Result<Vec<_>, ArrowError>>()?)?;
    Ok(json_rows::lines(&rows)?.into())
}

/// Reads the same values as another type of the same width.
fn relabelled(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    Ok(make_array(column.to_data().into_builder().data_type(to.clone()).build()?))
}

/// Reads a stream that was accepted.
pub(super) fn read(body: Bytes) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>>, ArrowError> {
    StreamReader::try_new(bytes::Buf::reader(body), None)
}

#[cfg(test)]
mod tests;
