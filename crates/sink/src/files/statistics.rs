//! Statistics of a file: what its footer says of each column, for the commit record.
//!
//! Owns: putting the row groups of a column together, in the order that its type defines (Parquet format, `ColumnOrder`).
//! Does not own: which columns have bounds in the footer (see `format`), column ids (the store gives them).

use std::cmp::Ordering;

use parquet::basic::{SortOrder, Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;
use pintail_core::digest::hex;
use pintail_storage::checkpoint::record::ColumnStatistics;

/// Returns the statistics of each column by its name, without their ids. A nested column has its bytes alone.
pub fn of(metadata: &ParquetMetaData) -> Vec<(String, ColumnStatistics)> {
    let mut columns: Vec<(String, Option<Gathered>, u64)> = Vec::new();
    for (leaf, descriptor) in metadata.file_metadata().schema_descr().columns().iter().enumerate() {
        let path = descriptor.path().parts();
        let groups = metadata.row_groups().iter().map(|group| group.column(leaf));
        let bytes = groups.clone().map(|group| u64::try_from(group.compressed_size()).unwrap_or_default()).sum::<u64>();
        match columns.last_mut().filter(|(name, _, _)| *name == path[0]) {
            // A further leaf of the same nested column.
            Some((_, _, sum)) => *sum += bytes,
            None if path.len() > 1 => columns.push((path[0].clone(), None, bytes)),
            None => columns.push((path[0].clone(), Some(Gathered::of(groups)), bytes)),
        }
    }
    let statistics = |(name, gathered, bytes): (String, Option<Gathered>, u64)| {
        let Gathered { nulls, min, max } = gathered.unwrap_or_default();
        (name, ColumnStatistics { id: 0, bytes, nulls, min: min.map(|min| hex(&min)), max: max.map(|max| hex(&max)) })
    };
    columns.into_iter().map(statistics).collect()
}

/// What the row groups of a leaf say together: nothing as soon as one of them says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Gathered {
    nulls: Option<u64>,
    min: Option<Vec<u8>>,
    max: Option<Vec<u8>>,
}

impl Gathered {
    fn of<'a>(groups: impl Iterator<Item = &'a ColumnChunkMetaData>) -> Self {
        let mut gathered = Self { nulls: Some(0), ..Self::default() };
        let mut bounded = true;
        for group in groups {
            let statistics = group.statistics();
            gathered.nulls = gathered.nulls.zip(statistics.and_then(Statistics::null_count_opt)).map(|(sum, more)| sum + more);
            let bounds = statistics.and_then(|of| Some((of.min_bytes_opt()?, of.max_bytes_opt()?)));
            match bounds {
                Some((min, max)) => gathered.widen(group, min, max),
                // All nulls: no value to bound.
                None => {
                    bounded &=
                        statistics.and_then(Statistics::null_count_opt).is_some_and(|nulls| i64::try_from(nulls) == Ok(group.num_values()))
                }
            }
        }
        if !bounded {
            (gathered.min, gathered.max) = (None, None);
        }
        gathered
    }

    fn widen(&mut self, group: &ColumnChunkMetaData, min: &[u8], max: &[u8]) {
        let order = |a: &[u8], b: &[u8]| compare(group.column_type(), group.column_descr().sort_order(), a, b);
        if self.min.as_ref().is_none_or(|known| order(min, known) == Ordering::Less) {
            self.min = Some(min.to_vec());
        }
        if self.max.as_ref().is_none_or(|known| order(max, known) == Ordering::Greater) {
            self.max = Some(max.to_vec());
        }
    }
}

/// Compares two values in Parquet's plain encoding.
fn compare(of: Type, order: SortOrder, a: &[u8], b: &[u8]) -> Ordering {
    let signed = order != SortOrder::UNSIGNED;
    match (of, a.len(), b.len()) {
        (Type::INT32, 4, 4) if signed => i32::from_le_bytes(fixed(a)).cmp(&i32::from_le_bytes(fixed(b))),
        (Type::INT64, 8, 8) if signed => i64::from_le_bytes(fixed(a)).cmp(&i64::from_le_bytes(fixed(b))),
        (Type::INT32, 4, 4) => u32::from_le_bytes(fixed(a)).cmp(&u32::from_le_bytes(fixed(b))),
        (Type::INT64, 8, 8) => u64::from_le_bytes(fixed(a)).cmp(&u64::from_le_bytes(fixed(b))),
        (Type::FLOAT, 4, 4) => f32::from_le_bytes(fixed(a)).total_cmp(&f32::from_le_bytes(fixed(b))),
        (Type::DOUBLE, 8, 8) => f64::from_le_bytes(fixed(a)).total_cmp(&f64::from_le_bytes(fixed(b))),
        // Decimals: big endian, two's complement, of one length.
        (Type::FIXED_LEN_BYTE_ARRAY, long, same) if order == SortOrder::SIGNED && long == same && long > 0 => {
            let flipped = |value: &[u8]| (value[0] ^ 0x80, value[1..].to_vec());
            flipped(a).cmp(&flipped(b))
        }
        _ => a.cmp(b),
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the length was looked at")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, UInt64Array};
    use arrow::datatypes::Int32Type;
    use parquet::arrow::ArrowWriter;

    use super::*;

    /// Writes each batch as a row group of its own.
    fn statistics(batches: &[RecordBatch]) -> Vec<(String, ColumnStatistics)> {
        let mut writer = ArrowWriter::try_new(Vec::new(), batches[0].schema(), None).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
            writer.flush().unwrap();
        }
        of(&writer.finish().unwrap())
    }

    fn batch(column: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([("c", column, true)]).unwrap()
    }

    fn bounds(columns: [ArrayRef; 2]) -> (Option<u64>, Option<String>, Option<String>) {
        let found = statistics(&columns.map(batch)).pop().unwrap().1;
        (found.nulls, found.min, found.max)
    }

    #[test]
    fn row_groups_are_put_together_in_the_order_of_the_type() {
        let expect = |nulls, min: &[u8], max: &[u8]| (Some(nulls), Some(hex(min)), Some(hex(max)));
        let signed = bounds([Arc::new(Int64Array::from(vec![Some(-2), None])), Arc::new(Int64Array::from(vec![1, 300]))]);
        assert_eq!(signed, expect(1, &(-2_i64).to_le_bytes(), &300_i64.to_le_bytes()));
        let unsigned = bounds([Arc::new(UInt64Array::from(vec![u64::MAX])), Arc::new(UInt64Array::from(vec![7]))]);
        assert_eq!(unsigned, expect(0, &7_u64.to_le_bytes(), &u64::MAX.to_le_bytes()));
        let text = bounds([Arc::new(StringArray::from(vec!["b", "ü"])), Arc::new(StringArray::from(vec!["a"]))]);
        assert_eq!(text, expect(0, b"a", "ü".as_bytes()));
        let float = bounds([Arc::new(Float64Array::from(vec![-0.5])), Arc::new(Float64Array::from(vec![2.0]))]);
        assert_eq!(float, expect(0, &(-0.5_f64).to_le_bytes(), &2.0_f64.to_le_bytes()));
        let decimal = |values: Vec<i128>| Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, 2).unwrap());
        assert_eq!(bounds([decimal(vec![5]), decimal(vec![-5])]), expect(0, &(-5_i128).to_be_bytes(), &5_i128.to_be_bytes()));
    }

    #[test]
    fn a_column_of_nulls_has_no_bounds_and_does_not_hide_those_of_another_row_group() {
        let nulls = || Arc::new(Int64Array::from(vec![None, None]));
        assert_eq!(bounds([nulls(), nulls()]), (Some(4), None, None));
        let (nulls, min, max) = bounds([nulls(), Arc::new(Int64Array::from(vec![3]))]);
        assert_eq!((nulls, min.is_some(), max.is_some()), (Some(2), true, true));
    }

    #[test]
    fn a_nested_column_has_the_bytes_of_all_its_leaves() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)]), None]);
        let found = statistics(&[batch(Arc::new(list))]);
        assert_eq!((found.len(), found[0].0.as_str(), found[0].1.min.as_ref(), found[0].1.nulls), (1, "c", None, None));
        assert!(found[0].1.bytes > 0);
    }
}
