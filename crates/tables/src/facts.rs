//! Facts: what the ledger says, in the form that tables are made of.
//!
//! Owns: what a table's publisher needs to know of a dataset; the values that bounds stand for.
//! Does not own: reading them from a disk (see [`crate::ledger`]), what is done with them (see [`crate::delta`]).

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, Utc};
use pintail_core::error::{Error, Result};
use pintail_core::hive::HivePartition;
use pintail_storage::checkpoint::columns::OutputColumn;
use pintail_storage::checkpoint::record::{ColumnStatistics, CommitRecord, FileEntry, FileKind};

/// What a dataset is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Tells it from every other.
    pub id: String,
    /// The columns that are directories, outermost first.
    pub partition_by: Vec<String>,
    /// The columns, with the partition columns, in the order of the SQL's output.
    pub columns: Vec<Column>,
    /// Why the numbers of the columns are not those of one dataset: its instances gave them out each on its own.
    pub clash: Option<String>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its number in the dataset; 0 if the ledger gave it none.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// Whether it can still be another.
    pub settled: Settled,
}

/// Whether name and type of a column can still be others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The SQL's output has it, and no file yet.
    InSqlAlone,
    /// Files of the dataset have it: it stays as it is.
    InFiles,
}

/// A chain of records: what one instance of the dataset has committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    /// The instance.
    pub instance: u32,
    /// The last record whose files are in their places.
    pub last: u64,
}

/// Files of a chain, one record after the other.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Portion {
    /// The last record taken in; that asked for if there is none after it.
    pub to: u64,
    /// The files, in the order of their commits.
    pub files: Vec<DataFile>,
}

/// A committed Parquet file.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFile {
    /// Its place below the dataset's directory.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// When it was committed.
    pub committed: DateTime<Utc>,
    /// What is known of its columns, by name.
    pub columns: Vec<(String, Known)>,
    /// A column to which somebody else gave another number than the dataset has for it: files that were adopted may have such.
    pub misnumbered: Option<String>,
}

/// What is known of a column in a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// Compressed bytes.
    pub bytes: Option<u64>,
    /// Nulls.
    pub nulls: Option<u64>,
    /// No value is less.
    pub min: Option<Bound>,
    /// No value is greater.
    pub max: Option<Bound>,
}

/// A value that bounds others.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// An integer.
    Integer(i64),
    /// A number without its point, and the digits after that.
    Decimal(i128, u8),
    /// Days since 1970.
    Date(i32),
    /// Microseconds since 1970.
    Timestamp(i64),
    /// A floating-point number. A file with NaN has no bounds of that column.
    Double(f64),
    /// A text.
    Text(String),
}

/// Which of the two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// No value is less.
    Min,
    /// No value is greater.
    Max,
}

impl Column {
    /// Takes a column as the ledger keeps it.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if a later version wrote a type that this one does not know.
    pub fn of(column: &OutputColumn) -> Result<Self> {
        let data_type = column.data_type.parse().map_err(|_| {
            Error::config(format!(
                "column `{}` has the type `{}`, which this pintail cannot put into a table",
                column.name, column.data_type
            ))
        })?;
        Ok(Self { id: column.id, name: column.name.clone(), data_type, settled: Settled::InFiles })
    }
}

impl DataFile {
    /// Returns the Parquet files of a record, whose columns are `columns`.
    pub fn of_record(record: &CommitRecord, columns: &[Column]) -> Vec<Self> {
        // What was adopted was written by somebody else, who may have kept a number in another form than its type has here.
        let is_own = record.trigger.is_some();
        let parquet = record.files.iter().filter(|file| file.kind == FileKind::Parquet);
        parquet.map(|file| Self::of(file, record.time, if is_own { columns } else { &[] })).collect()
    }

    fn of(file: &FileEntry, committed: DateTime<Utc>, columns: &[Column]) -> Self {
        let known = |of: &ColumnStatistics| {
            let column = columns.iter().find(|column| column.id == of.id)?;
            let bound = |hex: &Option<String>| Bound::read(&column.data_type, &unhex(hex.as_deref()?)?);
            Some((column.name.clone(), Known { bytes: Some(of.bytes), nulls: of.nulls, min: bound(&of.min), max: bound(&of.max) }))
        };
        let columns = file.columns.iter().filter_map(known).collect();
        Self { path: file.path.clone(), bytes: file.bytes, rows: file.rows, committed, columns, misnumbered: None }
    }

    /// Returns the values of the partition columns, `None` for NULL.
    pub fn partition_values(&self) -> BTreeMap<String, Option<String>> {
        let dir = self.path.rsplit_once('/').map_or("", |(dir, _)| dir);
        HivePartition::values_of(dir).map(|(name, value)| (name.to_owned(), value.map(std::borrow::Cow::into_owned))).collect()
    }
}

impl Bound {
    /// Reads a value in Parquet's plain encoding; `None` for types whose bounds say nothing in a table.
    fn read(of: &DataType, bytes: &[u8]) -> Option<Self> {
        let short = || bytes.try_into().ok().map(i32::from_le_bytes);
        let long = || bytes.try_into().ok().map(i64::from_le_bytes);
        Some(match of {
            DataType::Int8 | DataType::Int16 | DataType::Int32 => Self::Integer(short()?.into()),
            DataType::Int64 => Self::Integer(long()?),
            DataType::Date32 => Self::Date(short()?),
            DataType::Float32 => Self::Double(f32::from_le_bytes(bytes.try_into().ok()?).into()),
            DataType::Float64 => Self::Double(f64::from_le_bytes(bytes.try_into().ok()?)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Self::Timestamp(long()?),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text(std::str::from_utf8(bytes).ok()?.to_owned()),
            DataType::Dictionary(_, value) => return Self::read(value, bytes),
            DataType::Decimal128(precision, scale) => {
                let unscaled = match precision {
                    0..=9 => short()?.into(),
                    10..=18 => long()?.into(),
                    _ => big_endian(bytes)?,
                };
                Self::Decimal(unscaled, u8::try_from(*scale).ok()?)
            }
            _ => return None,
        })
    }
}

/// Reads a number in two's complement.
fn big_endian(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let mut whole = [if first & 0x80 == 0 { 0 } else { 0xFF }; 16];
    whole.get_mut(16_usize.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(i128::from_be_bytes(whole))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    text.len().is_multiple_of(2).then(|| text.as_bytes().chunks_exact(2).map(pair).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_read_by_their_type_and_those_of_another_length_are_none() {
        let read = |of: DataType, hex: &str| Bound::read(&of, &unhex(hex).unwrap());
        assert_eq!(read(DataType::Int64, "feffffffffffffff"), Some(Bound::Integer(-2)));
        assert_eq!(read(DataType::Int8, "80ffffff"), Some(Bound::Integer(-128)));
        assert_eq!(read(DataType::Int64, "feffffff"), None);
        assert_eq!(read(DataType::Decimal128(9, 2), "fbffffff"), Some(Bound::Decimal(-5, 2)));
        assert_eq!(read(DataType::Decimal128(38, 2), &format!("{}fb", "ff".repeat(15))), Some(Bound::Decimal(-5, 2)));
        assert_eq!(read(DataType::Decimal128(20, 0), "00ffffffffffffffff"), Some(Bound::Decimal(u64::MAX.into(), 0)));
        assert_eq!(read(DataType::Utf8View, "c3bc"), Some(Bound::Text("ü".into())));
        assert_eq!(read(DataType::Utf8View, "c3"), None);
        assert_eq!(read(DataType::Float64, "0000000000000040"), Some(Bound::Double(2.0)));
        assert_eq!(read(DataType::Float32, "00000040"), Some(Bound::Double(2.0)));
    }

    #[test]
    fn partition_values_are_those_that_the_path_was_made_of() {
        let path = "region=eu%20west%25/n=__HIVE_DEFAULT_PARTITION__/events-2026-01-01-00-2.parquet".to_owned();
        let file = DataFile { path, bytes: 0, rows: 0, committed: DateTime::UNIX_EPOCH, columns: Vec::new(), misnumbered: None };
        let expected = [("n".to_owned(), None), ("region".to_owned(), Some("eu west%".to_owned()))];
        assert_eq!(file.partition_values(), BTreeMap::from(expected));
    }
}
