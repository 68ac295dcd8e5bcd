//! The declared event schema and its Arrow form.
//!
//! Owns: the types a column may have, and which Arrow type each becomes.
//! Does not own: reading it from text (`config`), decoding into it (`decode`), guessing it from a sample (`decode::infer`).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef, TimeUnit};

/// The type of a column of the event schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// `boolean`
    Boolean,
    /// `int8`
    Int8,
    /// `int16`
    Int16,
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// `uint8`
    UInt8,
    /// `uint16`
    UInt16,
    /// `uint32`
    UInt32,
    /// `uint64`
    UInt64,
    /// `float32`
    Float32,
    /// `float64`
    Float64,
    /// `decimal(precision, scale)`: at most 38 digits, taken exactly from a JSON number or string.
    Decimal {
        /// All digits, 1 to 38.
        precision: u8,
        /// Digits behind the point, 0 to `precision`.
        scale: u8,
    },
    /// `text`
    Text,
    /// `dictionary`: text of few distinct values, kept as an Arrow dictionary.
    Dictionary,
    /// `timestamp_s`, `timestamp_ms`, `timestamp_us`, `timestamp_ns`: an integer of that unit since 1970-01-01 UTC.
    Timestamp(TimeUnit),
    /// `timestamp`: RFC 3339 text, converted to UTC; microseconds.
    TimestampText,
    /// `date`: text `YYYY-MM-DD`.
    Date,
    /// `json`: any JSON value, kept as its text.
    Json,
}

impl ColumnType {
    /// Returns the Arrow type. Timestamps are UTC *without* a zone: DuckDB's bundled build has no ICU, and `date_trunc` on `TIMESTAMPTZ` would not bind.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int8 => DataType::Int8,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::UInt8 => DataType::UInt8,
            Self::UInt16 => DataType::UInt16,
            Self::UInt32 => DataType::UInt32,
            Self::UInt64 => DataType::UInt64,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Decimal { precision, scale } => DataType::Decimal128(precision, scale as i8),
            Self::Text | Self::Json => DataType::Utf8,
            Self::Dictionary => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            Self::Timestamp(unit) => DataType::Timestamp(unit, None),
            Self::TimestampText => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Date => DataType::Date32,
        }
    }
}

/// A column of the event schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The name in the SQL.
    pub name: String,
    /// The keys that lead to the value in the JSON record, outermost first; `[name]` unless configured. Never empty.
    pub path: Vec<String>,
    /// The type.
    pub column_type: ColumnType,
    /// Whether a record without a value (absent or null) is rejected.
    pub required: bool,
}

/// The declared schema of the events: at least one column, names distinct also when case is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSchema {
    /// The columns, in declared order.
    pub columns: Vec<Column>,
}

impl EventSchema {
    /// Returns the Arrow schema of a decoded batch. A required column is not nullable.
    pub fn arrow(&self) -> SchemaRef {
        let field = |column: &Column| Field::new(&column.name, column.column_type.arrow(), !column.required);
        Arc::new(ArrowSchema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    /// Returns the schema of the simulator's events: the default.
    pub fn simulator() -> Self {
        let column = |name: &str, column_type, required| Column { name: name.into(), path: vec![name.into()], column_type, required };
        Self {
            columns: vec![
                column("timestamp", ColumnType::Int64, true),
                column("user_id", ColumnType::Int64, false),
                column("region", ColumnType::Dictionary, false),
                column("amount", ColumnType::Float64, false),
                column("sku", ColumnType::Text, false),
            ],
        }
    }
}
