//! `source.type = "http"`: its settings, as they may be used.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use pintail_core::secret::Secret;

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
