//! Column: one declared column while a batch is decoded.
//!
//! Owns: the values so far, which of them are null, and the words for a value that does not fit.
//! Does not own: where the value stands in the record (see `fields`), whether the record as a whole is good (see `ndjson`).

use arrow::array::{ArrayRef, NullBufferBuilder};
use arrow::datatypes::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use pintail_core::schema::{self, ColumnType};

use super::cursor::Cursor;
use super::number::{Decimal, Float, Integer};
use super::primitive::{Primitives, Scalar};
use super::text::{Booleans, Dictionary, Jsons, Texts};
use super::time::{self, Date, TimestampText};
use super::values::Values;

/// Characters of a value that a reason shows.
const SHOWN_MAX: usize = 60;

/// A declared column and its values so far.
#[derive(Debug)]
pub(super) struct Column {
    declared: schema::Column,
    values: AnyValues,
    nulls: NullBufferBuilder,
}

/// The values of any type. Those that most columns have are called without a detour: it costs as much as reading a value.
#[derive(Debug)]
enum AnyValues {
    Int64(Primitives<Integer<Int64Type>>),
    Float64(Primitives<Float<Float64Type>>),
    Text(Texts),
    Dictionary(Dictionary),
    Other(Box<dyn Values>),
}

impl AnyValues {
    #[inline(always)]
    fn push_usual(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        match self {
            Self::Int64(values) => values.push_usual(cursor),
            Self::Float64(values) => values.push_usual(cursor),
            Self::Text(values) => values.push_usual(cursor),
            Self::Dictionary(values) => values.push_usual(cursor),
            Self::Other(values) => values.push_usual(cursor),
        }
    }

    fn get(&self) -> &dyn Values {
        match self {
            Self::Int64(values) => values,
            Self::Float64(values) => values,
            Self::Text(values) => values,
            Self::Dictionary(values) => values,
            Self::Other(values) => &**values,
        }
    }

    fn get_mut(&mut self) -> &mut dyn Values {
        match self {
            Self::Int64(values) => values,
            Self::Float64(values) => values,
            Self::Text(values) => values,
            Self::Dictionary(values) => values,
            Self::Other(values) => &mut **values,
        }
    }
}

impl Column {
    /// Makes an empty column.
    pub(super) fn new(declared: &schema::Column) -> Self {
        Self { declared: declared.clone(), values: values(declared.column_type), nulls: NullBufferBuilder::new(0) }
    }

    /// Returns the keys that lead to the value.
    pub(super) fn path(&self) -> &[String] {
        &self.declared.path
    }

    /// Returns how many values there are.
    pub(super) fn len(&self) -> usize {
        self.values.get().len()
    }

    /// Appends the value that the cursor stands before; `None` = it does not fit.
    #[inline(always)]
    pub(super) fn push(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        let start = cursor.at();
        if self.values.push_usual(cursor).is_none() {
            self.push_unusual(cursor, start)?;
        }
        self.nulls.append_non_null();
        Some(())
    }

    #[cold]
    fn push_unusual(&mut self, cursor: &mut Cursor<'_>, start: usize) -> Option<()> {
        cursor.go_back(start);
        self.values.get_mut().push_json(cursor.value()?)
    }

    /// Appends a value from its JSON text; `null` is null.
    ///
    /// # Errors
    /// Why it does not fit.
    pub(super) fn push_json(&mut self, json: &str) -> Result<(), String> {
        if json == "null" {
            return self.push_null("is null");
        }
        if self.values.get_mut().push_json(json).is_none() {
            return Err(self.refusal(json));
        }
        self.nulls.append_non_null();
        Ok(())
    }

    /// Appends a null for a value that `is null` or `is missing`.
    ///
    /// # Errors
    /// That the column is required.
    pub(super) fn push_null(&mut self, found: &str) -> Result<(), String> {
        if self.declared.required {
            let schema::Column { name, column_type, .. } = &self.declared;
            return Err(format!("column `{name}`: the value {found}, and the column is required ({column_type})"));
        }
        self.append_null();
        Ok(())
    }

    /// Appends a null if the column takes it.
    #[inline]
    pub(super) fn push_missing(&mut self) -> Option<()> {
        (!self.declared.required).then(|| self.append_null())
    }

    /// Drops the values behind the first `rows`.
    pub(super) fn truncate(&mut self, rows: usize) {
        if self.len() > rows {
            self.values.get_mut().truncate(rows);
            self.nulls.truncate(rows);
        }
    }

    /// Returns its name if a value lost digits since this was asked last.
    pub(super) fn take_cut(&self) -> Option<&str> {
        self.values.get().take_cut().then_some(&self.declared.name)
    }

    /// Hands out the array, and is empty again.
    pub(super) fn finish(&mut self) -> ArrayRef {
        self.values.get_mut().finish(self.nulls.finish())
    }

    /// Says that there is no object at `key` to look for the value in, and why it is none if it looks like one.
    pub(super) fn no_object(&self, key: &str, json: &str, why: &str) -> String {
        format!("column `{}`: expected an object at `{key}`{why}, got {}", self.declared.name, shown(json))
    }

    fn append_null(&mut self) {
        self.values.get_mut().push_null();
        self.nulls.append_null();
    }

    fn refusal(&self, json: &str) -> String {
        let schema::Column { name, column_type, .. } = &self.declared;
        let detail = match column_type {
            ColumnType::Text | ColumnType::Dictionary if !json.starts_with('"') => " (declare the column as `json` to take any value)",
            ColumnType::Text | ColumnType::Dictionary | ColumnType::Json => " (half of a surrogate pair is no character)",
            ColumnType::Timestamp(_) => " (an integer of that unit, in the years 1 to 9999)",
            ColumnType::TimestampText => " (RFC 3339, like \"2026-01-31T23:59:59Z\")",
            ColumnType::Date => " (like \"2026-01-31\")",
            ColumnType::Decimal { .. } => " (no digit may be lost)",
            _ => "",
        };
        format!("column `{name}`: expected {column_type}{detail}, got {}", shown(json))
    }
}

/// Shortens a piece of a record to what fits in a reason.
pub(super) fn shown(json: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let mut text: String = json.chars().take(SHOWN_MAX).map(escape).collect();
    if json.chars().nth(SHOWN_MAX).is_some() {
        text.push('…');
    }
    text
}

/// Makes the values of a type.
fn values(column_type: ColumnType) -> AnyValues {
    fn boxed<S: Scalar + 'static>(scalar: S, column_type: ColumnType) -> AnyValues {
        AnyValues::Other(Box::new(Primitives::new(scalar, column_type.arrow())))
    }
    match column_type {
        ColumnType::Boolean => AnyValues::Other(Box::new(Booleans::default())),
        ColumnType::Int8 => boxed(Integer::<Int8Type>::between(i8::MIN, i8::MAX), column_type),
        ColumnType::Int16 => boxed(Integer::<Int16Type>::between(i16::MIN, i16::MAX), column_type),
        ColumnType::Int32 => boxed(Integer::<Int32Type>::between(i32::MIN, i32::MAX), column_type),
        ColumnType::Int64 => AnyValues::Int64(Primitives::new(Integer::<Int64Type>::between(i64::MIN, i64::MAX), column_type.arrow())),
        ColumnType::UInt8 => boxed(Integer::<UInt8Type>::between(u8::MIN, u8::MAX), column_type),
        ColumnType::UInt16 => boxed(Integer::<UInt16Type>::between(u16::MIN, u16::MAX), column_type),
        ColumnType::UInt32 => boxed(Integer::<UInt32Type>::between(u32::MIN, u32::MAX), column_type),
        ColumnType::UInt64 => boxed(Integer::<UInt64Type>::between(u64::MIN, u64::MAX), column_type),
        ColumnType::Float32 => boxed(Float::<Float32Type>::new(), column_type),
        ColumnType::Float64 => AnyValues::Float64(Primitives::new(Float::<Float64Type>::new(), column_type.arrow())),
        ColumnType::Decimal { precision, scale } => boxed(Decimal { precision, scale }, column_type),
        ColumnType::Text => AnyValues::Text(Texts::new()),
        ColumnType::Dictionary => AnyValues::Dictionary(Dictionary::new()),
        ColumnType::Timestamp(unit) => match unit {
            TimeUnit::Second => boxed(time::timestamps::<TimestampSecondType>(unit), column_type),
            TimeUnit::Millisecond => boxed(time::timestamps::<TimestampMillisecondType>(unit), column_type),
            TimeUnit::Microsecond => boxed(time::timestamps::<TimestampMicrosecondType>(unit), column_type),
            TimeUnit::Nanosecond => boxed(time::timestamps::<TimestampNanosecondType>(unit), column_type),
        },
        ColumnType::TimestampText => boxed(TimestampText::default(), column_type),
        ColumnType::Date => boxed(Date, column_type),
        ColumnType::Json => AnyValues::Other(Box::new(Jsons::new())),
    }
}
