//! The keys of `source.type = "http"`: default, limits, meaning.
//!
//! Owns: every such key and the reason of its default, and that they fit each other.
//! Does not own: whether the address can be had and the certificate be read (see `source::http`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use pintail_core::limits::Limits;
use pintail_core::secret::Secret;
use pintail_sources::http::config::{HttpConfig, HttpTls};

use super::reader::Section;
use super::sections::{DAY, HOUR, MILLISECOND, bounded, in_memory, secret_or_file, sizes};
use super::values;

/// The keys.
pub(super) const KEYS: &[&str] = &[
    "listen",
    "token",
    "token_file",
    "allow_without_token",
    "tls_cert_file",
    "tls_key_file",
    "body_bytes_max",
    "decompressed_bytes_max",
    "bodies_bytes_max",
    "body_timeout",
    "idle_timeout",
    "connections_max",
    "journal_bytes_max",
    "idempotency_ttl",
    "idempotency_keys_max",
];

/// Tokens that are good at the same time: the old and the new one while clients change over.
const TOKENS_MAX: usize = 2;

/// Bytes that a remembered key takes in the journal; twice that while it is carried from an old segment into a new one.
const KEY_BYTES: u64 = 96;

/// Reads the keys.
pub(super) fn http(section: &mut Section<'_>, limits: Limits) -> HttpConfig {
    // A neighbour of the admin server's port would be taken for it.
    let listen = section.text("listen", "127.0.0.1:8088", address);
    let tokens = tokens(section);
    let allow_without_token = section.boolean("allow_without_token", false);
    if tokens.is_empty() && !allow_without_token && !listen.ip().is_loopback() {
        let why = "others than this machine reach that address, and no token is set: set `source.token_file` or `source.token`, or \
                   `source.allow_without_token = true` if everybody who reaches it may send";
        section.fault("listen", why);
    }
    // 100,000 small events. What a client sends in one request is accepted, or refused, as a whole.
    let body_bytes_max = section.size("body_bytes_max", ByteSize::mib(16), sizes(ByteSize::kib(1), ByteSize::gib(1)));
    // JSON compresses to a tenth: a compressed body of the usual size fits.
    let decompressed_bytes_max = section.size("decompressed_bytes_max", ByteSize::mib(32), sizes(ByteSize::kib(1), ByteSize::gib(1)));
    // The largest takes its bytes as sent, decompressed, and as lines.
    let largest = body_bytes_max + 2 * decompressed_bytes_max.max(body_bytes_max);
    let all = sizes(ByteSize::kib(3), ByteSize::tib(1));
    let bodies_bytes_max = bounded(section, "bodies_bytes_max", ByteSize::mib(256), all, |size| limits.at_most_part(8, size).max(largest));
    if bodies_bytes_max < largest {
        let why = "smaller than `source.body_bytes_max` and twice the larger of that and `source.decompressed_bytes_max`: the largest body \
                   would never be taken";
        section.fault("bodies_bytes_max", why);
    }
    let config = HttpConfig {
        listen,
        tokens,
        tls: tls(section),
        body_bytes_max: in_memory(body_bytes_max),
        decompressed_bytes_max: in_memory(decompressed_bytes_max),
        bodies_bytes_max: in_memory(bodies_bytes_max),
        // The largest body at 2 Mbit/s.
        body_timeout: section.duration("body_timeout", Duration::from_secs(60), Duration::from_millis(100)..=HOUR),
        // Longer than most clients keep an idle connection, so that they close first.
        idle_timeout: section.duration("idle_timeout", Duration::from_secs(30), Duration::from_millis(100)..=HOUR),
        connections_max: section.count("connections_max", 1_024, 1..=65_536).min(limits.descriptors.input()),
        // Two checkpoint intervals of 30 s at 60 MB/s: what comes in while one is being committed waits for the next.
        journal_bytes_max: section.size("journal_bytes_max", ByteSize::gib(4), sizes(ByteSize::mib(1), ByteSize::tib(16))),
        // Longer than a client goes on trying after an outage over night.
        key_ttl: section.duration("idempotency_ttl", DAY, MILLISECOND..=DAY * 31),
        // 150 MB of memory and 96 MB of disk when all are taken.
        keys_max: section.count("idempotency_keys_max", 1_000_000, 0..=100_000_000),
    };
    let room = 2 * largest + 4 * KEY_BYTES * config.keys_max as u64;
    if config.journal_bytes_max < room {
        let why = format!(
            "smaller than {}, which two of the largest bodies and the keys of `source.idempotency_keys_max` may take",
            ByteSize::b(room)
        );
        section.fault("journal_bytes_max", why);
    }
    config
}

fn address(text: &str) -> Result<SocketAddr, String> {
    values::address(text)?.ok_or_else(|| "expected an address and a port, such as \"127.0.0.1:8088\", not an empty text".into())
}

/// `source.token`, or what `source.token_file` holds: two while clients change over, separated by a space or a line end.
fn tokens(section: &mut Section<'_>) -> Vec<Secret> {
    let Some((key, text)) = secret_or_file(section, "token", "token_file") else { return Vec::new() };
    let tokens: Vec<_> = text.split_ascii_whitespace().collect();
    if tokens.is_empty() || tokens.len() > TOKENS_MAX {
        section.fault(key, format_args!("expected one token, or {TOKENS_MAX} separated by a space or a line end"));
    } else if let Some(problem) = tokens.iter().find_map(|token| values::token(token).err()) {
        section.fault(key, problem);
    }
    tokens.into_iter().map(Secret::new).collect()
}

fn tls(section: &mut Section<'_>) -> Option<HttpTls> {
    let cert_file: Option<PathBuf> = section.optional_text("tls_cert_file", values::path);
    let key_file = section.optional_text("tls_key_file", values::path);
    match (cert_file, key_file) {
        (Some(cert_file), Some(key_file)) => Some(HttpTls { cert_file, key_file }),
        (Some(_), None) => {
            section.fault("tls_cert_file", "given without `source.tls_key_file`");
            None
        }
        (None, Some(_)) => {
            section.fault("tls_key_file", "given without `source.tls_cert_file`");
            None
        }
        (None, None) => None,
    }
}
