//! The declared event schema and its Arrow form.
//!
//! Owns: the types a column may have, and which Arrow type each becomes.
//! Does not own: reading it from text (`config`), decoding into it (`decode`), guessing it from a sample (`pintail_decode::infer`).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema as ArrowSchema, SchemaRef, TimeUnit};
use itertools::Itertools as _;

use crate::error::{Error, Result};
use crate::suggest;

/// Most digits of a decimal.
const DECIMAL_PRECISION_MAX: u8 = 38;

/// The types by their names in the configuration, `decimal` aside.
const NAMED_TYPES: [(&str, ColumnType); 20] = [
    ("boolean", ColumnType::Boolean),
    ("int8", ColumnType::Int8),
    ("int16", ColumnType::Int16),
    ("int32", ColumnType::Int32),
    ("int64", ColumnType::Int64),
    ("uint8", ColumnType::UInt8),
    ("uint16", ColumnType::UInt16),
    ("uint32", ColumnType::UInt32),
    ("uint64", ColumnType::UInt64),
    ("float32", ColumnType::Float32),
    ("float64", ColumnType::Float64),
    ("text", ColumnType::Text),
    ("dictionary", ColumnType::Dictionary),
    ("timestamp_s", ColumnType::Timestamp(TimeUnit::Second)),
    ("timestamp_ms", ColumnType::Timestamp(TimeUnit::Millisecond)),
    ("timestamp_us", ColumnType::Timestamp(TimeUnit::Microsecond)),
    ("timestamp_ns", ColumnType::Timestamp(TimeUnit::Nanosecond)),
    ("timestamp", ColumnType::TimestampText),
    ("date", ColumnType::Date),
    ("json", ColumnType::Json),
];

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

    /// Returns the bytes of a value, without those of a text: once the SQL has had it, a text is a view of 16 bytes.
    pub fn width(self) -> usize {
        match self {
            Self::Boolean => 1,
            other => other.arrow().primitive_width().unwrap_or(16),
        }
    }
}

impl fmt::Display for ColumnType {
    /// Writes the name that the configuration has for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            _ => f.write_str(NAMED_TYPES.iter().find(|(_, named)| named == self).map_or("", |(name, _)| name)),
        }
    }
}

impl FromStr for ColumnType {
    type Err = Error;

    /// Reads a name as the configuration has it: `int64`, `decimal(10,2)`.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Config`], with the nearest and all known types.
    fn from_str(text: &str) -> Result<Self> {
        let name = text.trim();
        if let Some((_, named)) = NAMED_TYPES.iter().find(|(known, _)| *known == name) {
            return Ok(*named);
        }
        if let Some(digits) = name.strip_prefix("decimal") {
            return decimal(digits).ok_or_else(|| {
                Error::config(format!(
                    "`{}` is not a decimal type: write `decimal(precision,scale)` with 1 to {DECIMAL_PRECISION_MAX} digits, \
                     at most all of them behind the point",
                    text.escape_debug()
                ))
            });
        }
        let known = || NAMED_TYPES.iter().map(|(known, _)| *known).chain(["decimal(precision,scale)"]);
        let meant = called_elsewhere(name).map_or_else(|| suggest::nearest(name, known()), |meant| vec![meant]);
        let hint = suggest::question(&meant).map_or_else(String::new, |question| format!("{question} "));
        Err(Error::config(format!("unknown type `{}`: {hint}the types are {}", text.escape_debug(), known().join(", "))))
    }
}

/// Returns the type that has another name in SQL, JSON Schema or a programming language.
fn called_elsewhere(typed: &str) -> Option<&'static str> {
    Some(match typed.split('(').next()?.trim().to_lowercase().as_str() {
        "bool" => "boolean",
        "tinyint" => "int8",
        "smallint" | "short" => "int16",
        "int" | "int4" => "int32",
        "integer" | "bigint" | "long" => "int64",
        "float" | "real" => "float32",
        "double" | "number" => "float64",
        "numeric" => "decimal(precision,scale)",
        "string" | "str" | "varchar" | "utf8" | "char" | "uuid" => "text",
        "enum" | "category" => "dictionary",
        "datetime" | "timestamptz" | "time" => "timestamp",
        "object" | "struct" | "array" | "list" | "map" => "json",
        _ => return None,
    })
}

/// Reads `(precision,scale)`.
fn decimal(digits: &str) -> Option<ColumnType> {
    let (precision, scale) = digits.trim().strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    ((1..=DECIMAL_PRECISION_MAX).contains(&precision) && scale <= precision).then_some(ColumnType::Decimal { precision, scale })
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

/// The schema of the events: at least one column, names distinct also when case is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSchema {
    /// The columns, in declared order; none where the format says them.
    pub columns: Vec<Column>,
    /// What records are written in.
    pub format: Format,
    /// What the source says of each record beside its payload. None of these names is that of a column.
    pub metadata: Vec<MetadataColumn>,
}

/// What records are written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// JSON objects, of which the declared columns are taken.
    Json,
    /// Avro.
    Avro(Arc<AvroFormat>),
}

/// How records that are Avro are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AvroFormat {
    /// The text of the schema that they are read by.
    pub schema: String,
    /// The columns that it gives.
    pub columns: Fields,
    /// Bytes of a row, without those of its texts and lists.
    pub row_bytes: usize,
    /// What stands before each record.
    pub framing: Framing,
}

/// What stands before a record in its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Nothing.
    None,
    /// The frame of a schema registry: a zero, and the number of the writer's schema in four bytes.
    Confluent,
}

/// A column that comes from the source, not from the payload. Null where the source does not say it, as of a dead letter that is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetadataColumn {
    /// The name in the SQL; begins with `_`.
    pub name: &'static str,
    /// The type.
    pub column_type: ColumnType,
}

impl EventSchema {
    /// Returns the bytes of a row, without those of its texts.
    pub fn row_bytes(&self) -> usize {
        let of_format = match &self.format {
            Format::Json => 0,
            Format::Avro(avro) => avro.row_bytes,
        };
        let own = self.columns.iter().map(|column| column.column_type);
        own.chain(self.metadata.iter().map(|column| column.column_type)).map(ColumnType::width).sum::<usize>() + of_format
    }

    /// Takes columns of JSON objects; there is nothing beside them.
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, format: Format::Json, metadata: Vec::new() }
    }

    /// Takes records that are Avro; there is nothing beside them.
    pub fn avro(format: AvroFormat) -> Self {
        Self { columns: Vec::new(), format: Format::Avro(Arc::new(format)), metadata: Vec::new() }
    }

    /// Returns the names of the columns that come from the payload.
    pub fn names(&self) -> Vec<&str> {
        let of_format: &[_] = match &self.format {
            Format::Json => &[],
            Format::Avro(avro) => &avro.columns,
        };
        let declared = self.columns.iter().map(|column| column.name.as_str());
        declared.chain(of_format.iter().map(|field| field.name().as_str())).collect()
    }

    /// Returns the Arrow schema of a decoded batch: the columns, then the metadata. A required column is not nullable.
    pub fn arrow(&self) -> SchemaRef {
        Arc::new(ArrowSchema::new(self.column_fields().into_iter().chain(self.metadata_fields()).collect::<Vec<_>>()))
    }

    /// Returns the Arrow schema of the payload.
    pub fn arrow_columns(&self) -> SchemaRef {
        Arc::new(ArrowSchema::new(self.column_fields()))
    }

    /// Returns the Arrow schema of the metadata.
    pub fn arrow_metadata(&self) -> SchemaRef {
        Arc::new(ArrowSchema::new(self.metadata_fields().collect::<Vec<_>>()))
    }

    fn column_fields(&self) -> Vec<Field> {
        match &self.format {
            Format::Json => {
                self.columns.iter().map(|column| Field::new(&column.name, column.column_type.arrow(), !column.required)).collect()
            }
            Format::Avro(avro) => avro.columns.iter().map(|field| field.as_ref().clone()).collect(),
        }
    }

    fn metadata_fields(&self) -> impl Iterator<Item = Field> {
        self.metadata.iter().map(|column| Field::new(column.name, column.column_type.arrow(), true))
    }

    /// Returns the schema of the simulator's events: the default.
    pub fn simulator() -> Self {
        let column = |name: &str, column_type, required| Column { name: name.into(), path: vec![name.into()], column_type, required };
        Self::new(vec![
            column("timestamp", ColumnType::Int64, true),
            column("user_id", ColumnType::Int64, false),
            column("region", ColumnType::Dictionary, false),
            column("amount", ColumnType::Float64, false),
            column("sku", ColumnType::Text, false),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_back_from_its_own_name() {
        for column_type in NAMED_TYPES.map(|(_, named)| named).into_iter().chain([ColumnType::Decimal { precision: 10, scale: 2 }]) {
            let name = column_type.to_string();
            assert!(!name.is_empty());
            assert_eq!(name.parse::<ColumnType>().unwrap(), column_type, "{name}");
        }
        assert_eq!(" decimal( 38 , 0 ) ".parse::<ColumnType>().unwrap(), ColumnType::Decimal { precision: 38, scale: 0 });
    }

    #[test]
    fn an_unknown_type_is_refused_with_the_nearest() {
        let error = "Inte64".parse::<ColumnType>().unwrap_err().to_string();
        assert!(error.starts_with("unknown type `Inte64`: did you mean `int64`? the types are boolean, int8"), "{error}");
        let hint = |typed: &str| typed.parse::<ColumnType>().unwrap_err().to_string();
        assert!(hint("int46").contains("did you mean `int64` or `int16`?"), "{}", hint("int46"));
        assert!(hint("unit32").contains("did you mean `uint32`?"), "{}", hint("unit32"));
        assert!(!hint("colour(20)").contains("did you mean"), "{}", hint("colour(20)"));
        for (elsewhere, meant) in
            [("varchar(20)", "text"), ("String", "text"), ("integer", "int64"), ("double", "float64"), ("datetime", "timestamp")]
        {
            assert!(hint(elsewhere).contains(&format!("did you mean `{meant}`?")), "{}", hint(elsewhere));
        }
        for bad in ["decimal", "decimal(0,0)", "decimal(39,2)", "decimal(5,6)", "decimal(5)", "decimal(5,-1)", "decimal(5,2"] {
            assert!(bad.parse::<ColumnType>().unwrap_err().to_string().contains("not a decimal type"), "{bad}");
        }
    }
}
