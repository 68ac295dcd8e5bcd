//! The footer of a Parquet file, changed on its way out so that more readers use its least and greatest floating-point numbers.
//!
//! Owns: which columns that is, finding the bytes in the footer and in the page index, and changing them in place.
//! Does not own: what is written otherwise (the crate `parquet`).
//!
//! `parquet` orders floating-point numbers by `IEEE_754_TOTAL_ORDER`, which came into the format in 2026. Arrow C++ 26 and parquet-java 1.16 do not know it
//! and pass over the bounds of such columns; so every query over them reads all row groups. In a column without NaN the old order
//! (`TYPE_ORDER`) says the same but for the zeros, of which it asks that a least zero be -0 and a greatest one +0. A column with NaN keeps the new order:
//! under the old one, readers take its rows to lie within its bounds.
//!
//! Thrift's compact protocol: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>. The fields:
//! <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>.

use std::ops::Range;

use parquet::basic::Type;
use parquet::file::metadata::ParquetMetaData;

/// Bytes behind the footer: its length, and the end of the file.
const END: usize = 8;
/// An order in the list of them: its field, and the ends of the two structs.
const TOTAL_ORDER: [u8; 3] = [0x2C, 0, 0];
const TYPE_ORDER: [u8; 3] = [0x1C, 0, 0];

/// Changes the end of a file, whose first byte stands at `begin` in it. An end that is not understood stays as it is.
pub(super) fn settle(end: &mut [u8], begin: u64, metadata: &ParquetMetaData) {
    let columns = ordered(metadata);
    if columns.iter().any(|column| *column) {
        let edits = edits(end, begin, metadata, &columns).unwrap_or_default();
        for (at, byte) in edits {
            end[at] = byte;
        }
    }
}

/// Returns which leaf columns are numbers without a NaN.
fn ordered(metadata: &ParquetMetaData) -> Vec<bool> {
    let leaves = metadata.file_metadata().schema_descr().columns();
    let is_float = |leaf: usize| matches!(leaves[leaf].physical_type(), Type::FLOAT | Type::DOUBLE);
    let has_none = |leaf: usize| {
        let mut chunks = metadata.row_groups().iter().map(|group| group.column(leaf));
        chunks.all(|chunk| {
            let is_null = |nulls: Option<u64>| nulls.is_some_and(|nulls| i64::try_from(nulls) == Ok(chunk.num_values()));
            chunk.statistics().is_some_and(|statistics| statistics.nan_count_opt() == Some(0) || is_null(statistics.null_count_opt()))
        })
    };
    (0..leaves.len()).map(|leaf| is_float(leaf) && has_none(leaf)).collect()
}

/// Finds the bytes to be changed; `None` if the end is not what was expected.
fn edits(end: &[u8], begin: u64, metadata: &ParquetMetaData, columns: &[bool]) -> Option<Vec<(usize, u8)>> {
    let length = u32::from_le_bytes(end.get(end.len().checked_sub(END)?..)?.first_chunk().copied()?);
    let footer = (end.len() - END).checked_sub(usize::try_from(length).ok()?)?..end.len() - END;
    // The orders are the last field.
    let orders = (footer.end - 1).checked_sub(columns.len() * TOTAL_ORDER.len())?;
    let mut edits = Vec::new();
    for (column, order) in end.get(orders..footer.end - 1)?.chunks_exact(TOTAL_ORDER.len()).enumerate() {
        if columns[column] {
            if order != TOTAL_ORDER {
                return None;
            }
            edits.push((orders + column * TOTAL_ORDER.len(), TYPE_ORDER[0]));
        }
    }
    Walk { bytes: end, at: footer.start }.whole(&mut |path, value| match *path {
        // Row groups, columns, their metadata, statistics: the greatest and the least, each under an old name, too.
        [4, _, 1, column, 3, 12, bound @ (1 | 2 | 5 | 6)] if is_one(columns, column) => {
            widen(end, value, matches!(bound, 2 | 6), &mut edits)
        }
        _ => {}
    })?;
    for group in metadata.row_groups() {
        for (column, _) in columns.iter().enumerate().filter(|(_, is_one)| **is_one) {
            let Some(at) = group.column(column).column_index_offset() else { continue };
            let at = usize::try_from(u64::try_from(at).ok()?.checked_sub(begin)?).ok()?;
            // The page index: the least of each page, and the greatest.
            Walk { bytes: end, at }.whole(&mut |path, value| {
                if let [bound @ (2 | 3), _] = *path {
                    widen(end, value, bound == 2, &mut edits);
                }
            })?;
        }
    }
    Some(edits)
}

fn is_one(columns: &[bool], column: i64) -> bool {
    usize::try_from(column).ok().and_then(|column| columns.get(column)).is_some_and(|is_one| *is_one)
}

/// Makes a zero the one that lies further out.
fn widen(bytes: &[u8], value: Range<usize>, is_least: bool, edits: &mut Vec<(usize, u8)>) {
    let Some((sign, rest)) = bytes[value.clone()].split_last() else { return };
    if rest.iter().all(|byte| *byte == 0) && sign & 0x7F == 0 {
        edits.push((value.end - 1, if is_least { 0x80 } else { 0 }));
    }
}

/// A walk through a struct in Thrift's compact protocol.
struct Walk<'b> {
    bytes: &'b [u8],
    at: usize,
}

/// Takes the path to a value (numbers of fields, places in lists), and where its bytes are.
type Visit<'v> = &'v mut dyn FnMut(&[i64], Range<usize>);

impl Walk<'_> {
    fn whole(mut self, visit: Visit<'_>) -> Option<()> {
        self.fields(&mut Vec::new(), visit)
    }

    fn fields(&mut self, path: &mut Vec<i64>, visit: Visit<'_>) -> Option<()> {
        let mut field = 0;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            field = match head >> 4 {
                0 => self.number()?,
                delta => field + i64::from(delta),
            };
            path.push(field);
            // A boolean field is its type.
            if !matches!(head & 0x0F, 1 | 2) {
                self.value(head & 0x0F, path, visit)?;
            }
            path.pop();
        }
    }

    fn value(&mut self, kind: u8, path: &mut Vec<i64>, visit: Visit<'_>) -> Option<()> {
        match kind {
            1..=3 => self.byte().map(drop),
            4..=6 => self.varint().map(drop),
            7 => self.skip(8),
            8 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let begin = self.at;
                self.skip(length)?;
                visit(path, begin..self.at);
                Some(())
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                (0..i64::try_from(count).ok()?).try_for_each(|place| {
                    path.push(place);
                    self.value(head & 0x0F, path, visit)?;
                    path.pop();
                    Some(())
                })
            }
            12 => self.fields(path, visit),
            _ => None,
        }
    }

    fn byte(&mut self) -> Option<u8> {
        self.at += 1;
        self.bytes.get(self.at - 1).copied()
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.at = self.at.checked_add(count).filter(|at| *at <= self.bytes.len())?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn number(&mut self) -> Option<i64> {
        let number = self.varint()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }
}
