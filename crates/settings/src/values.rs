//! The syntax of single values that several sections have.
//!
//! Owns: text → value for what TOML has no type for. An error says what was expected; key, value and origin are added by the reader.
//! Does not own: numbers, sizes and durations with their ranges (see [`crate::reader`]), values of one section alone.

use std::net::SocketAddr;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use itertools::Itertools;

/// Bytes of a file that holds a secret.
pub const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Text that is not empty.
pub fn name(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("expected a name, not an empty text".into()) } else { Ok(text.into()) }
}

/// A path, relative to the working directory.
pub fn path(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("expected a path, not an empty text".into()),
        _ if text.contains('\0') => Err("a path cannot hold a NUL character".into()),
        _ => Ok(PathBuf::from(text)),
    }
}

/// Bytes of a token.
const TOKEN_BYTES_MAX: u64 = 4096;

/// Characters of a token: who can ask for it a thousand times a second must not find it.
const TOKEN_CHARACTERS_MIN: usize = 16;

/// A token, as an HTTP header can hold it. What is wrong is said without showing it.
pub fn token(text: &str) -> Result<(), String> {
    if text.len() < TOKEN_CHARACTERS_MIN || text.len() as u64 > TOKEN_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("expected a token of {TOKEN_CHARACTERS_MIN} to {TOKEN_BYTES_MAX} letters, digits and signs without spaces"));
    }
    Ok(())
}

/// An address with a port; `""` is none.
pub fn address(text: &str) -> Result<Option<SocketAddr>, String> {
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

/// Returns whether a text is a host with a port, which may be left out; neither holds one of the characters `others`.
pub fn is_host_and_port(text: &str, others: &str) -> bool {
    let parts = match (text.strip_prefix('['), text.rsplit_once(':')) {
        (Some(v6), _) => v6.split_once(']').map(|(host, port)| (host, port.strip_prefix(':'))),
        (None, Some((host, port))) => Some((host, Some(port))),
        (None, None) => Some((text, None)),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = |host: &str| !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control() || others.contains(c));
    parts.is_some_and(|(host, port)| is_host(host) && port.is_none_or(is_port))
}

/// One of a few words.
pub fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    let words = || choices.iter().map(|(word, _)| format!("\"{word}\"")).join(", ");
    found.ok_or_else(|| format!("expected one of {}", words()))
}

/// A point in time, RFC 3339.
pub fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let parsed = DateTime::parse_from_rfc3339(text.trim());
    parsed.map(|time| time.to_utc()).map_err(|_| "expected a time with its zone, such as \"2026-01-01T00:00:00Z\"".into())
}
