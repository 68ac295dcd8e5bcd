//! The syntax of values that one section has.
//!
//! Owns: text → value for what TOML has no type for. An error says what was expected; key, value and origin are added by the reader.
//! Does not own: numbers, sizes and durations with their ranges (see [`pintail_settings::reader`]).

use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use pintail_core::error::Error;
use pintail_core::schema::ColumnType;
use pintail_settings::values::name;
use pintail_sink::config::SortColumn;
use serde_json::Deserializer;
use tracing_subscriber::EnvFilter;

/// Bytes of the SQL. DuckDB's parser takes several hundred times as much memory.
pub(super) const SQL_BYTES_MAX: u64 = 1 << 20;
/// Parentheses inside each other in the SQL, as many as DuckDB lets expressions be. Its parser goes down by recursion and looks at no limit
/// of subqueries before its stack overflows.
const SQL_PARENTHESES_MAX: usize = 1_000;

/// The SQL, as far as it can be judged without the engine.
pub(super) fn sql(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("expected one SELECT over events, not an empty text".into());
    }
    if text.len() as u64 > SQL_BYTES_MAX {
        return Err(format!("it has {} bytes, at most {SQL_BYTES_MAX} are taken", text.len()));
    }
    // Those in literals and comments count too: nobody leaves a thousand of them open there.
    let open = |open: &mut usize, byte: u8| {
        match byte {
            b'(' => *open += 1,
            b')' => *open = open.saturating_sub(1),
            _ => {}
        }
        Some(*open)
    };
    if text.bytes().scan(0, open).any(|open| open > SQL_PARENTHESES_MAX) {
        return Err(format!("it has more than {SQL_PARENTHESES_MAX} parentheses inside each other"));
    }
    Ok(text.to_owned())
}

/// The type of a column of the events.
pub(super) fn column_type(text: &str) -> Result<ColumnType, String> {
    text.parse().map_err(|error: Error| error.to_string())
}

/// `zstd(1)`, `snappy`, `lz4`, `gzip(6)`, `none`.
pub(super) fn compression(text: &str) -> Result<Compression, String> {
    let wanted = || "expected \"zstd(1)\" to \"zstd(22)\", \"gzip(0)\" to \"gzip(9)\", \"snappy\", \"lz4\" or \"none\"".to_owned();
    let (codec, level) = match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        Some((codec, level)) => (codec, Some(level.trim().parse::<u8>().map_err(|_| wanted())?)),
        None => (text, None),
    };
    match (codec, level) {
        // zstd takes 0 for "the default", which is not 0.
        ("zstd", Some(0)) => Err(wanted()),
        ("zstd", level) => ZstdLevel::try_new(level.unwrap_or(1).into()).map(Compression::ZSTD).map_err(|_| wanted()),
        ("gzip", level) => GzipLevel::try_new(level.unwrap_or(6).into()).map(Compression::GZIP).map_err(|_| wanted()),
        ("snappy", None) => Ok(Compression::SNAPPY),
        ("lz4", None) => Ok(Compression::LZ4_RAW),
        ("none", None) => Ok(Compression::UNCOMPRESSED),
        _ => Err(wanted()),
    }
}

/// `ts`, `ts asc`, `ts desc`. Only the last word can be an order: `unit price desc` sorts by `unit price`.
pub(super) fn sort_column(text: &str) -> Result<SortColumn, String> {
    let (column, descending) = match text.trim().rsplit_once(' ') {
        Some((column, order)) if order.eq_ignore_ascii_case("desc") => (column, true),
        Some((column, order)) if order.eq_ignore_ascii_case("asc") => (column, false),
        _ => (text, false),
    };
    let name = name(column.trim()).map_err(|_| "expected a column, such as \"ts\" or \"ts desc\"".to_owned())?;
    Ok(SortColumn { name, descending })
}

/// A column of the hive partitions.
pub(super) fn partition_column(text: &str) -> Result<String, String> {
    if text.starts_with(['_', '.']) {
        return Err("a partition column cannot begin with _ or . because readers skip such directories; rename it in the SQL".into());
    }
    name(text)
}

/// The keys that lead into nested objects: `payload.time`, with quotes around a key that has a dot in it: `payload."unix.time"`.
pub(super) fn keys(text: &str) -> Result<Vec<String>, String> {
    let wanted = || "expected keys joined by dots, such as \"payload.time\" or 'payload.\"unix.time\"'".to_owned();
    let mut keys = Vec::new();
    let mut rest = text;
    loop {
        let end = if rest.starts_with('"') {
            let mut quoted = Deserializer::from_str(rest).into_iter::<String>();
            keys.push(quoted.next().and_then(Result::ok).ok_or_else(wanted)?);
            quoted.byte_offset()
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            keys.push(name(&rest[..end]).map_err(|_| wanted())?);
            end
        };
        match rest[end..].strip_prefix('.') {
            Some(next) => rest = next,
            None if end == rest.len() => return Ok(keys),
            None => return Err(wanted()),
        }
    }
}

/// The name of a table, as catalogs and engines take it without quotes.
pub(super) fn table_name(text: &str) -> Result<String, String> {
    let fits = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if fits { Ok(text.to_owned()) } else { Err("expected a name of the characters A-Z a-z 0-9 _, a letter first".into()) }
}

/// A `tracing` filter.
///
/// # Errors
/// What is wrong with it, naming the part of it.
pub fn log_filter(text: &str) -> Result<String, String> {
    const WANTED: &str = "expected a level (off, error, warn, info, debug, trace) or a filter such as \"info,pintail=debug\"";
    // The filter's parser panics at characters that take more than a byte; no target has any.
    if text.trim().is_empty() || !text.is_ascii() {
        return Err(WANTED.into());
    }
    let bad = text.split(',').find(|part| !text.contains('[') && !is_directive(part.trim()));
    match bad {
        Some(bad) if bad.len() < text.len() => Err(format!("`{}` is none: {WANTED}", bad.trim())),
        None if EnvFilter::try_new(text).is_ok() => Ok(text.into()),
        _ => Err(WANTED.into()),
    }
}

/// Returns whether a part of a filter is a level, or gives a target one. The filter takes any other word for a target, which would be logged in full
/// and nothing else: a misspelt level would silence the log.
fn is_directive(part: &str) -> bool {
    let level = part.split_once('=').map_or(part, |(_, level)| level);
    ["off", "error", "warn", "info", "debug", "trace"].iter().any(|known| known.eq_ignore_ascii_case(level))
}
