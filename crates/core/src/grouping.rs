//! Grouping: brings the rows of a batch together by a number given to each row.
//!
//! Owns: numbering the values of columns, and the one counting sort that every split of a batch goes through.
//! Does not own: what the groups mean (hive partitions in `pintail_sink::layout`, with their hours, rows of the monitor in `pintail::aggregate`).

use std::collections::HashMap;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, MAX_INLINE_VIEW_LEN, RecordBatch, StringViewArray, UInt32Array};
use arrow::compute::{take, take_record_batch};
use arrow::datatypes::{
    ArrowNativeType, DataType, Date32Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use foldhash::fast::RandomState;

/// A number for each row, below `count`. Not every number need occur.
#[derive(Debug)]
pub struct GroupIds {
    /// The number of each row.
    pub ids: Vec<u32>,
    /// First number that cannot occur.
    pub count: usize,
}

/// Most groups that two columns are combined into by multiplication; beyond, the pairs that occur are numbered.
const DENSE_MAX: usize = 1 << 16;

impl GroupIds {
    /// Numbers the distinct values of a partition column. NULL is a value.
    ///
    /// # Panics
    /// If the type is none that a partition column may have: the layout has refused it.
    pub fn of_column(column: &dyn Array) -> Self {
        match column.data_type() {
            DataType::Int8 => Self::of_integers::<Int8Type>(column),
            DataType::Int16 => Self::of_integers::<Int16Type>(column),
            DataType::Int32 => Self::of_integers::<Int32Type>(column),
            DataType::Int64 => Self::of_integers::<Int64Type>(column),
            DataType::UInt8 => Self::of_integers::<UInt8Type>(column),
            DataType::UInt16 => Self::of_integers::<UInt16Type>(column),
            DataType::UInt32 => Self::of_integers::<UInt32Type>(column),
            DataType::UInt64 => Self::of_integers::<UInt64Type>(column),
            DataType::Date32 => Self::of_integers::<Date32Type>(column),
            DataType::Boolean => {
                let id = |value: Option<bool>| value.map_or(2, u32::from);
                Self { ids: column.as_boolean().iter().map(id).collect(), count: 3 }
            }
            DataType::Utf8 => Self::of_text(column.as_string::<i32>().iter(), column.len()),
            DataType::LargeUtf8 => Self::of_text(column.as_string::<i64>().iter(), column.len()),
            DataType::Utf8View => Self::of_views(column.as_string_view()),
            DataType::Dictionary(_, _) => Self::of_dictionary(column),
            other => unreachable!("the layout lets no partition column be {other}"),
        }
    }

    fn of_integers<T: ArrowPrimitiveType>(column: &dyn Array) -> Self {
        let mut numbers = Numbering::default();
        let column = column.as_primitive::<T>();
        // Widening to 64 bits keeps distinct values distinct: signed ones are sign-extended.
        let key = |value: T::Native| value.as_usize() as u128;
        let ids = if column.null_count() == 0 {
            column.values().iter().map(|value| numbers.of_key(key(*value))).collect()
        } else {
            column.iter().map(|value| numbers.of_optional_key(value.map(key))).collect()
        };
        Self { ids, count: numbers.count() }
    }

    fn of_text<'a>(values: impl Iterator<Item = Option<&'a str>>, rows: usize) -> Self {
        let mut numbers = Numbering::default();
        let mut ids = Vec::with_capacity(rows);
        ids.extend(values.map(|value| numbers.of_optional_text(value)));
        Self { ids, count: numbers.count() }
    }

    /// A view of at most 12 bytes is the text itself, with its length: it needs not be looked into.
    fn of_views(column: &StringViewArray) -> Self {
        let mut numbers = Numbering::default();
        let id = |(row, view): (usize, &u128)| match column.is_valid(row) {
            true if *view as u32 <= MAX_INLINE_VIEW_LEN => numbers.of_key(*view),
            true => numbers.of_long_text(column.value(row)),
            false => numbers.of_null(),
        };
        let ids = column.views().iter().enumerate().map(id).collect();
        Self { ids, count: numbers.count() }
    }

    fn of_dictionary(column: &dyn Array) -> Self {
        let dictionary = column.as_any_dictionary();
        // Values may repeat, and may be null, in a dictionary: number them as a column of their own.
        let values = Self::of_column(dictionary.values().as_ref());
        let null = values.count as u32;
        if values.ids.is_empty() {
            return Self { ids: vec![null; column.len()], count: values.count + 1 };
        }
        // A null value has its own number: a null key must not be another group than it.
        let null = (0..values.ids.len()).find(|&i| dictionary.values().is_null(i)).map_or(null, |i| values.ids[i]);
        let keys = dictionary.normalized_keys();
        let ids = match dictionary.keys().nulls() {
            None => keys.iter().map(|&key| values.ids[key]).collect(),
            Some(nulls) => keys.iter().zip(nulls.iter()).map(|(&key, valid)| if valid { values.ids[key] } else { null }).collect(),
        };
        Self { ids, count: values.count + 1 }
    }

    /// Numbers integers in ascending order. A missing one is a value, the lowest.
    pub fn ascending(values: impl Iterator<Item = Option<i64>>) -> Self {
        let mut numbers = Numbering::default();
        let mut distinct = Vec::new();
        let number = |value: Option<i64>| {
            let id = numbers.of_optional_key(value.map(|value| value as u64 as u128));
            if id as usize == distinct.len() {
                distinct.push(value);
            }
            id
        };
        let mut ids: Vec<u32> = values.map(number).collect();
        let mut ascending: Vec<u32> = (0..distinct.len() as u32).collect();
        ascending.sort_unstable_by_key(|&id| distinct[id as usize]);
        let mut ranks = vec![0; distinct.len()];
        for (rank, &id) in ascending.iter().enumerate() {
            ranks[id as usize] = rank as u32;
        }
        for id in &mut ids {
            *id = ranks[*id as usize];
        }
        Self { ids, count: distinct.len() }
    }

    /// Numbers the pairs of two numberings of the same rows, in the order of the first and then of the second.
    pub fn combine(&self, other: &Self) -> Self {
        let pairs = self.ids.iter().zip(&other.ids);
        if self.count.saturating_mul(other.count) <= DENSE_MAX {
            let width = other.count as u32;
            return Self { ids: pairs.map(|(a, b)| a * width + b).collect(), count: self.count * other.count };
        }
        Self::ascending(pairs.map(|(a, b)| Some(i64::from(*a) << 32 | i64::from(*b))))
    }

    /// Sorts the rows by their numbers.
    pub fn order(&self) -> Order {
        let mut ends = vec![0_u32; self.count];
        for &id in &self.ids {
            ends[id as usize] += 1;
        }
        if self.ids.first().is_none_or(|first| ends[*first as usize] as usize == self.ids.len()) {
            let mut end = 0;
            ends.iter_mut().for_each(|count| (end, *count) = (end + *count, end + *count));
            return Order { rows: None, ends };
        }
        let mut end = 0;
        for count in &mut ends {
            // Until the sort below has run, the entry is the group's start.
            (*count, end) = (end, end + *count);
        }
        let mut order = vec![0_u32; self.ids.len()];
        for (row, &id) in self.ids.iter().enumerate() {
            order[ends[id as usize] as usize] = row as u32;
            ends[id as usize] += 1;
        }
        Order { rows: Some(UInt32Array::from(order)), ends }
    }
}

/// Rows sorted by their numbers, those of one number in their old order.
#[derive(Debug)]
pub struct Order {
    /// The old place of each row; `None` if it is the new one.
    rows: Option<UInt32Array>,
    /// Where the rows of each number end.
    ends: Vec<u32>,
}

impl Order {
    /// Returns a column in this order; copies nothing if it is in it.
    pub fn sorted(&self, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        self.rows.as_ref().map_or_else(|| Ok(column.clone()), |order| take(column, order, None))
    }

    /// Returns a batch in this order; copies nothing if it is in it.
    pub fn sorted_rows(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        self.rows.as_ref().map_or_else(|| Ok(rows.clone()), |order| take_record_batch(rows, order))
    }

    /// Returns where a row stood before.
    pub fn old_row(&self, row: usize) -> usize {
        self.rows.as_ref().map_or(row, |rows| rows.value(row) as usize)
    }

    /// Returns the numbers that occur, and where their rows are.
    pub fn groups(&self) -> impl Iterator<Item = (u32, Range<usize>)> {
        let mut start = 0;
        self.ends.iter().enumerate().filter_map(move |(id, &end)| {
            let range = start..end as usize;
            start = range.end;
            (!range.is_empty()).then_some((id as u32, range))
        })
    }
}

/// Gives each distinct value the next number.
///
/// Short values are keys of 128 bits, found in a small direct-mapped memo before the hash map is asked: batches have few partitions.
struct Numbering<'a> {
    memo: Box<[(u128, u32); 256]>,
    keys: HashMap<u128, u32, RandomState>,
    long: HashMap<&'a str, u32, RandomState>,
    null: Option<u32>,
    next: u32,
}

/// No key: texts carry a length of at most 15 in their last byte, integers have zeros there.
const NO_KEY: u128 = u128::MAX;

impl Default for Numbering<'_> {
    fn default() -> Self {
        Self { memo: Box::new([(NO_KEY, 0); 256]), keys: HashMap::default(), long: HashMap::default(), null: None, next: 0 }
    }
}

impl<'a> Numbering<'a> {
    fn count(&self) -> usize {
        self.next as usize
    }

    fn of_null(&mut self) -> u32 {
        *self.null.get_or_insert_with(|| post_increment(&mut self.next))
    }

    fn of_optional_key(&mut self, key: Option<u128>) -> u32 {
        match key {
            Some(key) => self.of_key(key),
            None => self.of_null(),
        }
    }

    fn of_optional_text(&mut self, text: Option<&'a str>) -> u32 {
        match text {
            Some(text) => self.of_text(text),
            None => self.of_null(),
        }
    }

    #[inline]
    fn of_key(&mut self, key: u128) -> u32 {
        // Fibonacci hashing of both halves.
        let hash = (key as u64 ^ ((key >> 64) as u64).rotate_left(29)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let slot = (hash >> 56) as usize;
        let (known, id) = self.memo[slot];
        if known == key {
            return id;
        }
        let id = *self.keys.entry(key).or_insert_with(|| post_increment(&mut self.next));
        self.memo[slot] = (key, id);
        id
    }

    fn of_long_text(&mut self, text: &'a str) -> u32 {
        *self.long.entry(text).or_insert_with(|| post_increment(&mut self.next))
    }

    #[inline]
    fn of_text(&mut self, text: &'a str) -> u32 {
        if text.len() > 15 {
            return self.of_long_text(text);
        }
        let mut key = [0; 16];
        key[..text.len()].copy_from_slice(text.as_bytes());
        key[15] = text.len() as u8;
        self.of_key(u128::from_le_bytes(key))
    }
}

fn post_increment(next: &mut u32) -> u32 {
    let id = *next;
    *next += 1;
    id
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn texts_are_one_group_only_if_they_are_equal_whether_their_views_hold_them_or_not() {
        // The last two would have one key, if views and texts of 13 bytes were keys in the same way.
        let texts = ["", "a", "aaaaaaaaaaaa", "aaaaaaaaaaaaa", "a\0", "ABCDEFGHI\0\0\r", "\u{c}\0\0\0ABCDEFGHI"];
        let column = StringViewArray::from_iter(texts.iter().chain(&texts).map(Some).chain([None, None]));
        let GroupIds { ids, count } = GroupIds::of_column(&column);
        assert_eq!(ids, [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4, 5, 6, 7, 7]);
        assert_eq!(count, 8);
    }

    #[test]
    fn rows_are_sorted_by_number_and_keep_their_order_within_one() {
        let column: ArrayRef = Arc::new(StringViewArray::from(vec!["b", "a", "b", "c", "a"]));
        let order = GroupIds::of_column(&column).order();
        let groups: Vec<_> = order.groups().collect();
        assert_eq!(groups, [(0, 0..2), (1, 2..4), (2, 4..5)]);
        assert_eq!((0..5).map(|row| order.old_row(row)).collect::<Vec<_>>(), [0, 2, 1, 4, 3]);
        let sorted = order.sorted(&column).unwrap();
        assert_eq!(sorted.as_string_view().iter().flatten().collect::<String>(), "bbaac");
    }

    #[test]
    fn rows_of_one_number_are_in_order_already_and_numbers_that_do_not_occur_are_no_groups() {
        let ids = GroupIds { ids: vec![1; 3], count: 4 };
        let order = ids.order();
        assert_eq!(order.groups().collect::<Vec<_>>(), [(1, 0..3)]);
        let column: ArrayRef = Arc::new(UInt32Array::from(vec![7, 8, 9]));
        assert!(Arc::ptr_eq(&order.sorted(&column).unwrap(), &column));
        assert_eq!(GroupIds { ids: Vec::new(), count: 2 }.order().groups().count(), 0);
    }
}
