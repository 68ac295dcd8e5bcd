//! The footer of a Parquet file, changed on its way out so that more readers use its least and greatest floating-point numbers.
//!
//! Owns: which columns that is, finding the bytes in the footer and in the page index, and changing them in place.
//! Does not own: what is written otherwise (the crate `parquet`).
//!
//! `parquet` orders floating-point numbers by `IEEE_754_TOTAL_ORDER`, which came into the format in 2026. Arrow C++ 26 and parquet-java 1.16 do not know it
//! and pass over the bounds of such columns, so every query over them reads all row groups; Polars 1.41 cannot open the file at all; DuckDB 1.5 and
//! ClickHouse 26.9 take a row with NaN to lie within its row group's bounds, and skip it. The old order (`TYPE_ORDER`) says the same of numbers but for the
//! zeros, of which it asks that a least zero be -0 and a greatest one +0. It has no place for NaN, so a row group with NaN has no bounds of that column, and
//! no reader skips it: what DuckDB's own writer does.
//!
//! Thrift's compact protocol: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>. The fields:
//! <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>.

use std::collections::HashSet;
use std::ops::Range;

use parquet::basic::Type;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

/// Bytes behind the footer: its length, and the end of the file.
const END: usize = 8;
/// An order in the list of them: its field, and the ends of the two structs.
const TOTAL_ORDER: [u8; 3] = [0x2C, 0, 0];
const TYPE_ORDER: [u8; 3] = [0x1C, 0, 0];

/// Changes the end of a file, whose first byte stands at `begin` in it. An end that is not understood stays as it is.
pub(super) fn settle(end: Vec<u8>, begin: u64, metadata: &ParquetMetaData) -> Vec<u8> {
    let numbers = numbers(metadata);
    if !numbers.contains(&true) {
        return end;
    }
    let unbounded = unbounded(metadata, &numbers);
    let Some(edits) = edits(&end, begin, metadata, &numbers) else { return end };
    let mut settled = end.clone();
    for (at, byte) in edits {
        settled[at] = byte;
    }
    without_bounds(&settled, &unbounded).unwrap_or(end)
}

/// Returns which leaf columns are floating-point numbers.
fn numbers(metadata: &ParquetMetaData) -> Vec<bool> {
    let leaves = metadata.file_metadata().schema_descr().columns();
    leaves.iter().map(|leaf| matches!(leaf.physical_type(), Type::FLOAT | Type::DOUBLE)).collect()
}

/// Returns the row groups and columns of them that have a NaN, or may have one.
fn unbounded(metadata: &ParquetMetaData, numbers: &[bool]) -> HashSet<(i64, i64)> {
    let has_none = |chunk: &ColumnChunkMetaData| {
        let is_null = |nulls: Option<u64>| nulls.is_some_and(|nulls| i64::try_from(nulls) == Ok(chunk.num_values()));
        chunk.statistics().is_some_and(|statistics| statistics.nan_count_opt() == Some(0) || is_null(statistics.null_count_opt()))
    };
    let groups = (0..).zip(metadata.row_groups());
    let chunks = groups.flat_map(|(group, chunks)| (0..).zip(chunks.columns()).zip(numbers).map(move |chunk| (group, chunk)));
    chunks.filter(|(_, ((_, chunk), is_number))| **is_number && !has_none(chunk)).map(|(group, ((column, _), _))| (group, column)).collect()
}

/// Finds the bytes to be changed; `None` if the end is not what was expected.
fn edits(end: &[u8], begin: u64, metadata: &ParquetMetaData, columns: &[bool]) -> Option<Vec<(usize, u8)>> {
    let footer = footer(end)?;
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

/// Returns where the footer's struct stands.
fn footer(end: &[u8]) -> Option<Range<usize>> {
    let length = u32::from_le_bytes(end.get(end.len().checked_sub(END)?..)?.first_chunk().copied()?);
    Some((end.len() - END).checked_sub(usize::try_from(length).ok()?)?..end.len() - END)
}

/// Returns the end of a file in which some columns of row groups have neither bounds nor a place in the page index, which would have bounds as well.
fn without_bounds(end: &[u8], unbounded: &HashSet<(i64, i64)>) -> Option<Vec<u8>> {
    let footer = footer(end)?;
    let mut shorter = end[..footer.start].to_vec();
    let is_kept = |path: &[i64]| match *path {
        [4, group, 1, column, 3, 12, 1 | 2 | 5..=8] | [4, group, 1, column, 6 | 7] => !unbounded.contains(&(group, column)),
        _ => true,
    };
    let mut walk = Walk { bytes: end, at: footer.start };
    walk.copy(&mut Vec::new(), &is_kept, &mut shorter)?;
    let length = u32::try_from(shorter.len() - footer.start).ok()?;
    // Nothing but the struct lies within its length.
    (walk.at == footer.end).then_some(())?;
    shorter.extend(length.to_le_bytes());
    shorter.extend_from_slice(&end[end.len() - 4..]);
    Some(shorter)
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

    /// Copies a struct without the fields that are not kept. A field's number is written as the distance from the one before it, so those behind a gap
    /// get another head.
    fn copy(&mut self, path: &mut Vec<i64>, is_kept: &dyn Fn(&[i64]) -> bool, to: &mut Vec<u8>) -> Option<()> {
        let (mut field, mut written) = (0, 0);
        loop {
            let head = self.byte()?;
            if head == 0 {
                to.push(0);
                return Some(());
            }
            field = match head >> 4 {
                0 => self.number()?,
                delta => field + i64::from(delta),
            };
            path.push(field);
            let kind = head & 0x0F;
            let length = to.len();
            to.push(u8::try_from(field - written).ok().filter(|distance| (1..=15).contains(distance))? << 4 | kind);
            if !matches!(kind, 1 | 2) {
                self.copy_value(kind, path, is_kept, to)?;
            }
            if is_kept(path) {
                written = field;
            } else {
                to.truncate(length);
            }
            path.pop();
        }
    }

    fn copy_value(&mut self, kind: u8, path: &mut Vec<i64>, is_kept: &dyn Fn(&[i64]) -> bool, to: &mut Vec<u8>) -> Option<()> {
        let begin = self.at;
        match kind {
            9 | 10 => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                to.extend_from_slice(&self.bytes[begin..self.at]);
                (0..i64::try_from(count).ok()?).try_for_each(|place| {
                    path.push(place);
                    self.copy_value(head & 0x0F, path, is_kept, to)?;
                    path.pop();
                    Some(())
                })
            }
            12 => self.copy(path, is_kept, to),
            _ => {
                self.value(kind, path, &mut |_, _| {})?;
                to.extend_from_slice(&self.bytes[begin..self.at]);
                Some(())
            }
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
