//! `source.type = "http"`: its settings.
//!
//! Owns: every key and the reason of its default, and that they fit each other.
//! Does not own: whether the address can be had and the certificate be read (see `source`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use pintail_core::error::Result;
use pintail_core::evidence::Key;
use pintail_core::limits::Limits;
use pintail_core::offsets::{Offsets, PartitionId};
use pintail_core::secret::Secret;
use pintail_settings::bounds::{DAY, HOUR, MILLISECOND, bounded, in_memory, secret_or_file, sizes};
use pintail_settings::{Section, values};
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::journal::time::Machine;
use pintail_storage::journal::{self, Committed};

use crate::kind::{Configured, Kind, Surroundings};
#[cfg(feature = "http")]
use crate::{Resume, Source};

/// The kind, and the only partition.
pub(super) const NAME: &str = "http";

/// `source.type = "http"`
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// The address; port 0 = any that is free.
    pub listen: SocketAddr,
    /// What a request must bring, any of them; none = nothing.
    pub tokens: Vec<Secret>,
    /// How it is encrypted; `None` = not at all.
    pub tls: Option<HttpTls>,
    /// Bytes of a body as it is sent.
    pub body_bytes_max: usize,
    /// Bytes of a body once it is decompressed.
    pub decompressed_bytes_max: usize,
    /// Bytes of all bodies that are not answered.
    pub bodies_bytes_max: usize,
    /// Time for a body to come.
    pub body_timeout: Duration,
    /// Time for the head of a request, and of a connection between two requests.
    pub idle_timeout: Duration,
    /// Connections at the same time.
    pub connections_max: usize,
    /// The directory of the journal; `None` = in the dataset's.
    pub journal_path: Option<PathBuf>,
    /// Whether what was acknowledged may be lost with the scratch of a dataset in a bucket.
    pub ephemeral: bool,
    /// Bytes of the journal on the disk.
    pub journal_bytes_max: u64,
    /// How long an idempotency key is remembered.
    pub key_ttl: Duration,
    /// Idempotency keys that are remembered at the same time.
    pub keys_max: usize,
}

/// Certificate and key, both PEM.
#[derive(Debug, Clone)]
pub struct HttpTls {
    /// The chain of certificates, the server's own first.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// The kind.
pub(crate) const KIND: Kind = Kind { name: NAME, keys: KEYS, read: |section, limits| Box::new(read(section, limits)), owns: None };

/// The keys.
const KEYS: &[&str] = &[
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
    "journal_path",
    "ephemeral",
    "journal_bytes_max",
    "idempotency_ttl",
    "idempotency_keys_max",
];

/// Requests that wait for the journal's thread: it takes up to a thousand at once.
const QUEUE: usize = 1024;
/// Size of a segment, unless the journal is small: what is committed goes in pieces of this size.
const SEGMENT_BYTES: u64 = 64 << 20;
/// The least size: below it, there would be a new file for every few requests.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// Tokens that are good at the same time: the old and the new one while clients change over.
const TOKENS_MAX: usize = 2;

/// Bytes that a remembered key takes in the journal; twice that while it is carried from an old segment into a new one.
const KEY_BYTES: u64 = 96;

/// Reads the keys.
fn read(section: &mut Section<'_>, limits: Limits) -> HttpConfig {
    // A neighbour of the admin server's port would be taken for it.
    let listen = section.text("listen", "127.0.0.1:8088", listen_address);
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
        journal_path: section.optional_text("journal_path", values::path),
        ephemeral: section.boolean("ephemeral", false),
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

fn listen_address(text: &str) -> Result<SocketAddr, String> {
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

/// Returns what the commit records say of the journal.
pub fn journal_committed(offsets: &Offsets) -> Committed {
    let partition = PartitionId::new(NAME);
    Committed { offset: offsets.next_offset(&partition), evidence: offsets.evidence(&partition).cloned() }
}

impl HttpConfig {
    /// Returns the settings of the journal of a dataset.
    pub fn journal_settings(&self, around: &Surroundings<'_>, key: &Key) -> journal::Settings {
        // The least of the journal's own limits, with room for some segments.
        let keys = 2 * (self.keys_max * journal::frame::HEADER) as u64;
        let segment_bytes = (self.journal_bytes_max.saturating_sub(keys) / 8).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES);
        journal::Settings {
            dir: self.journal_path.as_deref().map_or_else(|| Paths::new(around.out_path).journal(), with_parent),
            dataset_id: around.dataset_id.to_owned(),
            segment_bytes,
            bytes_max: self.journal_bytes_max,
            key_ttl: self.key_ttl,
            keys_max: self.keys_max,
            queue: QUEUE,
            key: key.clone(),
            clocks: Arc::new(Machine::default()),
        }
    }
}

/// Names the directory that a path lies in also where that is this process' own.
fn with_parent(path: &Path) -> PathBuf {
    if path.parent() == Some(Path::new("")) { Path::new(".").join(path) } else { path.to_owned() }
}

impl Configured for HttpConfig {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn accepting_gaps(&self) -> Box<dyn Configured> {
        Box::new(self.clone())
    }

    fn pushed_bytes_max(&self) -> usize {
        self.bodies_bytes_max
    }

    fn lacks_journal(&self) -> bool {
        self.journal_path.is_none() && !self.ephemeral
    }

    #[cfg(feature = "http")]
    fn open(&self, around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Box<dyn Source>> {
        Ok(Box::new(super::HttpSource::open(self, around, resume)?))
    }

    #[cfg(feature = "http")]
    fn check(&self, around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Vec<String>> {
        super::HttpSource::check(self, around, resume).map(|()| Vec::new())
    }
}
