//! What a key takes, as the reader asked for it.
//!
//! Owns: types and bounds of keys, for people ([`std::fmt::Display`]) and as JSON Schema.
//! Does not own: the words for a key, which stand in `config.example.toml`, nor its default, which stands there too.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use itertools::Itertools;
use pintail_core::quantity::grouped;
use serde_json::{Value as Json, json};

/// The values of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Takes {
    /// An integer.
    Integer(RangeInclusive<u64>),
    /// A number with a fraction.
    Number(RangeInclusive<f64>),
    /// `true` or `false`.
    Boolean,
    /// Bytes, as a number or with a unit.
    Size(RangeInclusive<ByteSize>),
    /// A time with its unit.
    Duration(RangeInclusive<Duration>),
    /// Text that the key has a syntax for.
    Text,
    /// One of a few words.
    Choice(Vec<String>),
    /// Text that is not to be seen.
    Secret,
    /// A list of texts, or a single one.
    Texts,
    /// A list of tables, whose keys are described on their own.
    Tables,
    /// A table, whose keys are described on their own.
    Table,
    /// A table of texts whose keys are not ours.
    Map,
}

/// A key.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// What it takes.
    pub takes: Takes,
    /// Whether it has a value where none is given.
    pub has_default: bool,
    /// Whether it must be given.
    pub is_required: bool,
}

impl Described {
    /// A key with a default.
    pub(crate) const fn with_default(takes: Takes) -> Self {
        Self { takes, has_default: true, is_required: false }
    }

    /// A key that may be left out, and has no value then.
    pub(crate) const fn optional(takes: Takes) -> Self {
        Self { takes, has_default: false, is_required: false }
    }

    /// A key that must be given.
    pub(crate) const fn required(takes: Takes) -> Self {
        Self { takes, has_default: false, is_required: true }
    }
}

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: &Duration| humantime::format_duration(*time).to_string();
        match self {
            Self::Integer(range) => write!(f, "an integer from {} to {}", grouped(*range.start(), '_'), grouped(*range.end(), '_')),
            Self::Number(range) => write!(f, "a number from {:?} to {:?}", range.start(), range.end()),
            Self::Boolean => f.write_str("true or false"),
            Self::Size(range) => write!(f, "a size from {} to {}", range.start(), range.end()),
            Self::Duration(range) => write!(f, "a duration from {} to {}", time(range.start()), time(range.end())),
            Self::Text => f.write_str("a text"),
            Self::Choice(words) => write!(f, "one of {}", words.iter().map(|word| format!("\"{word}\"")).join(", ")),
            Self::Secret => f.write_str("a text, which is never shown"),
            Self::Texts => f.write_str("a list of texts, or a single text"),
            Self::Tables => f.write_str("a list of tables"),
            Self::Table => f.write_str("a table"),
            Self::Map => f.write_str("a table of texts"),
        }
    }
}

impl Takes {
    /// Returns the JSON Schema of the values, draft 2020-12, without the keys of tables.
    pub fn schema(&self) -> Json {
        match self {
            Self::Integer(range) => json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() }),
            Self::Number(range) => json!({ "type": "number", "minimum": range.start(), "maximum": range.end() }),
            Self::Boolean => json!({ "type": "boolean" }),
            Self::Size(range) => json!({ "oneOf": [
                { "type": "integer", "minimum": range.start().as_u64(), "maximum": range.end().as_u64() },
                { "type": "string", "pattern": "^\\s*[0-9]" },
            ] }),
            Self::Duration(_) => json!({ "type": "string", "pattern": "^\\s*[0-9]" }),
            Self::Text => json!({ "type": "string" }),
            Self::Choice(words) => json!({ "enum": words }),
            Self::Secret => json!({ "type": "string", "writeOnly": true }),
            Self::Texts => json!({ "oneOf": [{ "type": "array", "items": { "type": "string" } }, { "type": "string" }] }),
            Self::Tables => json!({ "type": "array" }),
            Self::Table => json!({ "type": "object" }),
            // Tables in it are read as keys with dots.
            Self::Map => json!({ "type": "object" }),
        }
    }
}
