//! Hive partitions: directories named after the values of columns.
//!
//! Owns: which columns and values can be in a path, and how they are written there so that DuckDB and pyarrow read them back.
//! Does not own: which rows belong where (see `pintail_sink::layout::split`).

use std::borrow::Cow;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use chrono::{Datelike, NaiveDate};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::sql_type;

/// What stands for NULL in a path.
pub const NULL_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// A text that some readers take for NULL, in letters of any case.
const NULL_WORD: &str = "null";

/// Longest `column=value` in bytes, encoded: file systems take 255, and tools that copy a tree add endings.
pub const COMPONENT_BYTES_MAX: usize = 200;

/// The ending of the files. No directory may have it: a plain glob for it, `**/*.parquet`, would find the directory, and pyarrow refuse it.
const FILE_ENDING: &str = ".parquet";

/// What DuckDB 2.0 encodes (`StringUtil::URLEncode`): all but `A-Z a-z 0-9 _ - ~ .`; so no separator and no `=` is ever in a value.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'~').remove(b'.');

/// A hive partition of the output: the directory of its files, relative to the dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HivePartition {
    dir: String,
}

impl HivePartition {
    /// Returns the partition of an output without partition columns: the dataset's own directory.
    pub fn root() -> Self {
        Self::default()
    }

    /// Returns that of a directory, as [`Self::dir`] has named it.
    pub fn of_dir(dir: impl Into<String>) -> Self {
        Self { dir: dir.into() }
    }

    /// Returns the directory, such as `region=us/day=2026-01-01`; empty without partition columns.
    pub fn dir(&self) -> &str {
        &self.dir
    }

    /// Returns the path of a file in it.
    pub fn file_path(&self, name: &str) -> String {
        if self.dir.is_empty() { name.to_owned() } else { format!("{}/{name}", self.dir) }
    }

    /// Returns the columns with their values as text, `None` for NULL.
    pub fn values(&self) -> impl Iterator<Item = (&str, Option<Cow<'_, str>>)> {
        Self::values_of(&self.dir)
    }

    /// As [`Self::values`], of a directory.
    pub fn values_of(dir: &str) -> impl Iterator<Item = (&str, Option<Cow<'_, str>>)> {
        dir.split('/').filter_map(|component| {
            let (column, value) = component.split_once('=')?;
            let value = (value != NULL_VALUE).then(|| percent_decode_str(value).decode_utf8_lossy());
            Some((column, value))
        })
    }

    /// Adds a level of directory.
    ///
    /// # Errors
    /// Why the value cannot be in a path: readers could not give it back.
    pub fn push(&mut self, column: &str, value: Option<&str>) -> Result<(), String> {
        let value = match value {
            None => Cow::Borrowed(NULL_VALUE),
            Some(text) => encode(text).map_err(|why| format!("partition column `{column}`: {why}"))?,
        };
        let length = column.len() + 1 + value.len();
        if length > COMPONENT_BYTES_MAX {
            return Err(format!(
                "partition column `{column}`: its directory name would have {length} bytes, at most {COMPONENT_BYTES_MAX} fit"
            ));
        }
        if !self.dir.is_empty() {
            self.dir.push('/');
        }
        self.dir.extend([column, "=", &value]);
        Ok(())
    }
}

fn encode(text: &str) -> Result<Cow<'_, str>, String> {
    if text == NULL_VALUE {
        return Err(format!("the text `{NULL_VALUE}` would be read back as NULL"));
    }
    if text.contains('\0') {
        return Err("a text with a NUL byte cannot be a directory name".into());
    }
    let encoded = Cow::from(utf8_percent_encode(text, ENCODED));
    if encoded.eq_ignore_ascii_case(NULL_VALUE) {
        // As DuckDB does: on a file system that ignores case this would be the directory of NULL.
        return Ok(format!("%5F{}", &encoded[1..]).into());
    }
    if encoded.eq_ignore_ascii_case(NULL_WORD) {
        // DuckDB before 2.0 takes the word for NULL, before it decodes.
        return Ok(format!("%{:02X}{}", encoded.as_bytes()[0], &encoded[1..]).into());
    }
    if let Some((start, ending)) = encoded.split_at_checked(encoded.len().saturating_sub(FILE_ENDING.len()))
        && ending.eq_ignore_ascii_case(FILE_ENDING)
    {
        return Ok(format!("{start}%2E{}", &ending[1..]).into());
    }
    Ok(encoded)
}

/// Returns why a column of that name cannot be a partition column; `None` if it can.
pub fn column_name_fault(name: &str) -> Option<String> {
    if name.starts_with(['_', '.']) {
        return Some(format!(
            "partition column `{name}` begins with `{}`: readers skip such directories, rename it in the SQL",
            &name[..1]
        ));
    }
    // DuckDB does not decode the names of columns in paths, pyarrow does.
    if name.is_empty() || !matches!(Cow::from(utf8_percent_encode(name, ENCODED)), Cow::Borrowed(_)) {
        return Some(format!(
            "partition column `{name}` may have only the characters A-Z a-z 0-9 _ - . ~ in its name: rename it in the SQL"
        ));
    }
    None
}

/// Returns DuckDB's name for a type that a partition column may have, for `hive_types`; `None` if it may not.
pub fn duckdb_type(data_type: &DataType) -> Option<&'static str> {
    match data_type {
        DataType::Dictionary(_, value) if matches!(**value, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => {
            sql_type::plain(value)
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean | DataType::Date32 => sql_type::plain(data_type),
        integer if integer.is_integer() => sql_type::plain(integer),
        _ => None,
    }
}

/// Returns a value as it stands in a path, before encoding; `None` for NULL.
///
/// # Errors
/// Why it has no text that readers give back.
pub fn value_text(column: &dyn Array, row: usize) -> Result<Option<String>, String> {
    let value = column.slice(row, 1);
    // A dictionary's null may be in its key or in its value: both are seen on the plain text.
    let value = match value.data_type() {
        DataType::Dictionary(_, _) => cast(&value, &DataType::Utf8).map_err(|e| e.to_string())?,
        _ => value,
    };
    if value.is_null(0) {
        return Ok(None);
    }
    if value.data_type() == &DataType::Date32 {
        let date = value.as_primitive::<Date32Type>().value_as_date(0);
        return match date {
            Some(date) if (1..=9999).contains(&date.year()) => Ok(Some(date.format("%Y-%m-%d").to_string())),
            _ => Err(format!(
                "{} is outside the years 1 to 9999 that readers agree on",
                date.map_or("the date".into(), |d: NaiveDate| d.to_string())
            )),
        };
    }
    let options = FormatOptions::new();
    let formatter = ArrayFormatter::try_new(&value, &options).map_err(|e| e.to_string())?;
    Ok(Some(formatter.value(0).to_string()))
}
