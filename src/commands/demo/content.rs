//! What a dataset holds, whatever files it stands in.
//!
//! Owns: the hash of a content, and which rows of two differ.
//! Does not own: what should be there.

use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use pintail_core::digest::sha256_hex;
use pintail_core::error::{Error, Result};
use pintail_duckdb::query::query;
use pintail_storage::checkpoint::reader;

/// The hashes of all rows, sorted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content(Vec<u64>);

/// What one content has less, and more, than another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Difference {
    pub lost: u64,
    pub too_many: u64,
}

impl Difference {
    pub(super) fn is_none(self) -> bool {
        self.lost == 0 && self.too_many == 0
    }
}

impl Content {
    /// Reads the committed rows of the dataset at `out`.
    pub(super) fn of(out: &Path) -> Result<Self> {
        let answer = query(out, &reader::committed(out)?, "SELECT hash(event) AS hash FROM events AS event", usize::MAX)?;
        let mut hashes = Vec::new();
        for batch in &answer.batches {
            let column = batch.column(0).as_primitive_opt::<UInt64Type>();
            let column = column.ok_or_else(|| Error::internal(format!("a hash is a {}", batch.schema().field(0).data_type())))?;
            hashes.extend(column.values());
        }
        hashes.sort_unstable();
        Ok(Self(hashes))
    }

    pub(super) fn rows(&self) -> usize {
        self.0.len()
    }

    /// Returns the hash of all, in hexadecimal.
    pub(super) fn hash(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().flat_map(|hash| hash.to_le_bytes()).collect();
        let mut hash = sha256_hex(&bytes);
        hash.truncate(16);
        hash
    }

    /// Compares it with what should be there, row by row.
    pub(super) fn difference(&self, expected: &Self) -> Difference {
        let mut difference = Difference { lost: 0, too_many: 0 };
        let (mut own, mut other) = (self.0.iter().peekable(), expected.0.iter().peekable());
        loop {
            match (own.peek(), other.peek()) {
                (None, None) => return difference,
                (Some(a), Some(b)) if a == b => {
                    own.next();
                    other.next();
                }
                (Some(a), Some(b)) if a > b => {
                    difference.lost += 1;
                    other.next();
                }
                (None, Some(_)) => {
                    difference.lost += 1;
                    other.next();
                }
                (Some(_), _) => {
                    difference.too_many += 1;
                    own.next();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_that_is_missing_and_each_that_is_too_many_is_counted() {
        let difference = |own: &[u64], expected: &[u64]| {
            let Difference { lost, too_many } = Content(own.to_vec()).difference(&Content(expected.to_vec()));
            (lost, too_many)
        };
        assert_eq!(difference(&[], &[]), (0, 0));
        assert_eq!(difference(&[1, 2, 2, 3], &[1, 2, 2, 3]), (0, 0));
        assert_eq!(difference(&[1, 2, 3], &[1, 2, 2, 3]), (1, 0));
        assert_eq!(difference(&[1, 1, 2, 2, 3, 9], &[1, 2, 2, 3]), (0, 2));
        assert_eq!(difference(&[1, 4], &[2, 3, 4, 5]), (3, 1));
        assert_ne!(Content(vec![1, 2]).hash(), Content(vec![1, 3]).hash());
    }
}
