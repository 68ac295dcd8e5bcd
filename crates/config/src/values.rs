//! The syntax of single values.
//!
//! Owns: text → value for what TOML has no type for. An error says what was expected; key, value and origin are added by the reader.
//! Does not own: numbers, sizes and durations with their ranges (see `reader`).

use std::net::SocketAddr;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use itertools::Itertools;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use pintail_core::error::Error;
use pintail_core::schema::ColumnType;
use pintail_sink::config::SortColumn;
use serde_json::Deserializer;
use tracing_subscriber::EnvFilter;

/// Bytes of a file that holds a secret.
pub(super) const SECRET_BYTES_MAX: u64 = 64 << 10;
/// Bytes of the SQL. DuckDB's parser takes several hundred times as much memory.
pub(super) const SQL_BYTES_MAX: u64 = 1 << 20;
/// Parentheses inside each other in the SQL, as many as DuckDB lets expressions be. Its parser goes down by recursion and looks at no limit
/// of subqueries before its stack overflows.
const SQL_PARENTHESES_MAX: usize = 1_000;

/// Text that is not empty.
pub(super) fn name(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("expected a name, not an empty text".into()) } else { Ok(text.into()) }
}

/// A path, relative to the working directory.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("expected a path, not an empty text".into()),
        _ if text.contains('\0') => Err("a path cannot hold a NUL character".into()),
        _ => Ok(PathBuf::from(text)),
    }
}

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

/// Bytes of a token.
const TOKEN_BYTES_MAX: u64 = 4096;
/// Characters of a token: who can ask for it a thousand times a second must not find it.
const TOKEN_CHARACTERS_MIN: usize = 16;

/// A token, as an HTTP header can hold it. What is wrong is said without showing it.
pub(super) fn token(text: &str) -> Result<(), String> {
    if text.len() < TOKEN_CHARACTERS_MIN || text.len() as u64 > TOKEN_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("expected a token of {TOKEN_CHARACTERS_MIN} to {TOKEN_BYTES_MAX} letters, digits and signs without spaces"));
    }
    Ok(())
}

/// An address with a port; `""` is none.
pub(super) fn address(text: &str) -> Result<Option<SocketAddr>, String> {
    let text = text.trim();
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    match text {
        "" => Ok(None),
        _ => numeric.parse().map(Some).map_err(|_| "expected an address and a port, such as \"127.0.0.1:9464\" or \"0.0.0.0:9464\"".into()),
    }
}

/// The type of a column of the events.
pub(super) fn column_type(text: &str) -> Result<ColumnType, String> {
    text.parse().map_err(|error: Error| error.to_string())
}

/// One of a few words.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    let words = || choices.iter().map(|(word, _)| format!("\"{word}\"")).join(", ");
    found.ok_or_else(|| format!("expected one of {}", words()))
}

/// A file name or a glob, checked.
pub(super) fn glob(text: &str) -> Result<String, String> {
    let pattern = name(text)?;
    glob::Pattern::new(&pattern).map_err(|e| format!("not a glob: {} at character {}", e.msg, e.pos + 1))?;
    Ok(pattern)
}

/// A broker of Kafka, `host:port`; the port may be left out.
pub(super) fn kafka_broker(text: &str) -> Result<String, String> {
    let wanted = || "expected a broker, such as \"127.0.0.1:9092\" or \"kafka.example.com:9093\"".to_owned();
    let (host, port) = match (text.strip_prefix('['), text.rsplit_once(':')) {
        (Some(v6), _) => v6.split_once(']').map(|(host, port)| (host, port.strip_prefix(':'))).ok_or_else(wanted)?,
        (None, Some((host, port))) => (host, Some(port)),
        (None, None) => (text, None),
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let host_fits = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || "/?#,@".contains(c));
    if port_fits && host_fits { Ok(text.to_owned()) } else { Err(wanted()) }
}

/// The name of a topic of Kafka.
pub(super) fn kafka_topic(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match text.len() {
        1..=249 if text.chars().all(fits) && text != "." && text != ".." => Ok(text.to_owned()),
        _ => Err("expected the name of a topic: at most 249 letters, digits, `.`, `_` or `-`".into()),
    }
}

/// A point in time, RFC 3339.
pub(super) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let parsed = DateTime::parse_from_rfc3339(text.trim());
    parsed.map(|time| time.to_utc()).map_err(|_| "expected a time with its zone, such as \"2026-01-01T00:00:00Z\"".into())
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

/// A `tracing` filter.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let wanted = "expected a level (off, error, warn, info, debug, trace) or a filter such as \"info,pintail=debug\"";
    // A misspelt level is a valid filter: it names a target, and nothing would be logged at all.
    let near = |word: &str| LEVELS.iter().any(|level| *level != word && strsim::damerau_levenshtein(level, word) <= 1);
    let misspelt = text.split(',').any(|part| near(&part.trim().to_lowercase()));
    // The filter's parser panics at characters that take more than a byte; no target has any.
    if text.trim().is_empty() || misspelt || !text.is_ascii() || EnvFilter::try_new(text).is_err() {
        return Err(wanted.into());
    }
    Ok(text.into())
}
