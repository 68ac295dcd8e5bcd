//! The actions of a Delta log, as far as an appending writer needs them.
//!
//! Owns: their form in JSON (Delta protocol, "Actions"), the paths of files in them.
//! Does not own: what they add up to (see `snapshot`), which are written (see `plan`).

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What stays as it is in a path: the unreserved characters of RFC 2396, and what separates.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'~').remove(b'.').remove(b'/').remove(b'=');

/// One line of the log. Actions that are not understood here need a table feature, and tables with those are refused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line {
    /// What readers and writers must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// What the table is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<MetaData>,
    /// How far an application is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txn: Option<Txn>,
    /// A file that joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<Add>,
    /// A file that leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove: Option<Remove>,
    /// Who wrote the commit: for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_info: Option<Value>,
}

/// `protocol`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Protocol {
    /// From 3 on with features.
    pub min_reader_version: i32,
    /// From 7 on with features.
    pub min_writer_version: i32,
    /// What readers must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader_features: Option<Vec<String>>,
    /// What writers must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_features: Option<Vec<String>>,
}

/// `metaData`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MetaData {
    /// Tells the table from others.
    pub id: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Parquet.
    pub format: FileFormat,
    /// The columns.
    pub schema_string: String,
    /// The columns that are in the paths.
    pub partition_columns: Vec<String>,
    /// Properties of the table.
    #[serde(default)]
    pub configuration: BTreeMap<String, Option<String>>,
    /// Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
}

/// The form of the files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileFormat {
    /// `parquet`
    pub provider: String,
    /// None.
    #[serde(default)]
    pub options: BTreeMap<String, Option<String>>,
}

/// `txn`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Txn {
    /// The application.
    pub app_id: String,
    /// How far it is.
    pub version: i64,
    /// Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<i64>,
}

/// `add`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Add {
    /// The file below the table, percent-encoded.
    pub path: String,
    /// The values of the partition columns.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Bytes.
    pub size: i64,
    /// Milliseconds since 1970.
    pub modification_time: i64,
    /// Whether its rows are new.
    pub data_change: bool,
    /// Rows and bounds, as JSON in a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
    /// What others noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, Option<String>>>,
}

/// `remove`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Remove {
    /// As in the `add`.
    pub path: String,
    /// Milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<i64>,
    /// Whether rows go with it.
    pub data_change: bool,
    /// Whether the rest is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_file_metadata: Option<bool>,
    /// As in the `add`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_values: Option<BTreeMap<String, Option<String>>>,
    /// As in the `add`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
}

impl Protocol {
    /// Returns the oldest protocol that the columns of a table can do with.
    pub(super) fn of(without_zone: bool) -> Self {
        if !without_zone {
            return Self { min_reader_version: 1, min_writer_version: 2, reader_features: None, writer_features: None };
        }
        let features = || Some(vec![super::WITHOUT_ZONE.to_owned()]);
        Self { min_reader_version: 3, min_writer_version: 7, reader_features: features(), writer_features: features() }
    }
}

/// Writes a path as the log has it.
pub(super) fn encode(path: &str) -> String {
    utf8_percent_encode(path, ENCODED).to_string()
}

/// Reads a path of the log.
pub(super) fn decode(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().into_owned()
}

/// Writes the lines of a commit.
pub(super) fn to_bytes(lines: &[Line]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, line).expect("our own structs have text keys and no failing serializer");
        bytes.push(b'\n');
    }
    bytes
}

/// Reads the lines of a commit.
///
/// # Errors
/// What is wrong with them, in words.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Line>, String> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|e| e.to_string())).collect()
}
