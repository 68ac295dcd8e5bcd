//! The decoder against a slow oracle, and the corners of JSON one by one.

use std::sync::Arc;

use bytes::Bytes;
use pintail_core::batch::{Batch, Chunk, OffsetUnit, Phase, Records};
use pintail_core::offsets::{OffsetRange, Partition, PartitionId};
use pintail_core::schema::{Column, ColumnType, EventSchema};

use super::{Decode as _, Decoded, Ndjson};

mod corners;
mod oracle;
mod origins;
mod payloads;
mod rule;

use rule::{cell, cells};

pub(crate) fn chunk(records: Records, from: u64, unit: OffsetUnit) -> Chunk {
    let partition = Arc::new(Partition { id: PartitionId::new("p"), label: "p".into() });
    let units = match (&records, unit) {
        (Records::Lines(bytes), OffsetUnit::Bytes) => bytes.len() as u64,
        (Records::Lines(bytes), OffsetUnit::Records) => bytes.split(|byte| *byte == b'\n').count() as u64,
        (Records::Payloads(payloads), _) => payloads.position(payloads.len() - 1) + 1 - from,
        (Records::Arrow(rows), _) => rows.num_rows() as u64,
        (Records::TooLong { length, .. }, OffsetUnit::Bytes) => length + 1,
        (Records::TooLong { .. }, OffsetUnit::Records) => 1,
    };
    Chunk::new(records, OffsetRange::new(partition, from, from + units), unit)
}

fn lines(text: impl Into<Bytes>) -> Batch {
    Batch::new(vec![chunk(Records::Lines(text.into()), 0, OffsetUnit::Bytes)])
}

fn column(path: &str, column_type: &str) -> Column {
    let path: Vec<String> = path.split('.').map(Into::into).collect();
    let (column_type, required) = column_type.strip_suffix('!').map_or((column_type, false), |name| (name, true));
    Column { name: path.join("_"), path, column_type: column_type.parse().unwrap(), required }
}

fn schema(columns: &[(&str, &str)]) -> EventSchema {
    EventSchema::new(columns.iter().map(|(path, column_type)| column(path, column_type)).collect())
}

fn decode(columns: &[(&str, &str)], text: impl Into<Bytes>) -> Decoded {
    Ndjson::new(&schema(columns)).decode(&lines(text)).unwrap()
}

/// Decodes `{"v":<json>}` into one column: the cell (`None` = null), or the reason.
fn one(column_type: &str, json: &str) -> Result<Option<String>, String> {
    let mut decoded = decode(&[("v", column_type)], format!("{{\"v\":{json}}}\n"));
    match decoded.dead_letters.pop() {
        Some(letter) => {
            assert_eq!(decoded.batch.num_rows(), 0);
            Err(letter.reason.to_string())
        }
        None => Ok(cell(&decoded.batch, 0, 0)),
    }
}
