//! Collected rows: what waits for a row group, in Arrow.
//!
//! Owns: copies of the rows, few of them, and their size.
//! Does not own: when they go to the writer (see `open_file`).
//!
//! The rows are copies of their own, since a slice would keep the whole batch in memory that it was cut from. A frame over many hive partitions brings a
//! file a row or two: an array of each column for each of them would take more than the values, so small pieces are joined.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// Rows below which a piece is small.
const SMALL_ROWS: usize = 64;
/// Small pieces in a row that are joined: each row is copied a few times more, and no oftener.
const JOINED: usize = 8;
/// Bytes of a column of a piece beside its values: headers of the array, of its buffers and of their allocations.
const COLUMN_BYTES: usize = 256;

/// Rows that wait for a row group.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pieces: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Collected {
    /// Returns how many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes copies of rows.
    pub(super) fn push(&mut self, rows: &RecordBatch) -> Result<(), ArrowError> {
        self.rows += rows.num_rows();
        let all = UInt32Array::from_iter_values(0..rows.num_rows() as u32);
        self.put(owned(take_record_batch(rows, &all)?)?);
        while let Some(begin) = self.pieces.len().checked_sub(JOINED) {
            if self.pieces[begin..].iter().any(|piece| piece.num_rows() >= SMALL_ROWS) {
                break;
            }
            let small = self.pieces.split_off(begin);
            self.bytes -= small.iter().map(piece_bytes).sum::<usize>();
            self.put(owned(concat_batches(&small[0].schema(), &small)?)?);
        }
        Ok(())
    }

    fn put(&mut self, piece: RecordBatch) {
        self.bytes += piece_bytes(&piece);
        self.pieces.push(piece);
    }

    /// Gives up the rows, in their order.
    pub(super) fn into_pieces(self) -> Vec<RecordBatch> {
        self.pieces
    }
}

fn piece_bytes(piece: &RecordBatch) -> usize {
    piece.get_array_memory_size() + piece.num_columns() * COLUMN_BYTES
}

/// Copies what views point to: a view that was copied still points into the buffers of the batch.
fn owned(rows: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let own = |column: &ArrayRef| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()),
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => column.clone(),
        }
    };
    RecordBatch::try_new(rows.schema(), rows.columns().iter().map(own).collect())
}
