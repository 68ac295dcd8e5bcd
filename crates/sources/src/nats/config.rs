//! `source.type = "nats"`: its settings, as they may be used.

use std::path::PathBuf;

use pintail_core::secret::Secret;

use crate::OnGap;

/// `source.type = "nats"`
#[derive(Debug, Clone)]
pub struct NatsConfig {
    /// Servers of one cluster: `nats://host:4222`, `tls://host:4222`.
    pub urls: Vec<String>,
    /// The stream.
    pub stream: String,
    /// Which of its subjects to read; `None` = all.
    pub subject: Option<String>,
    /// The durable consumer that acknowledges, where the stream's retention asks for it.
    pub consumer: String,
    /// Records read and not yet committed, where they are acknowledged.
    pub unacknowledged_max: usize,
    /// What to do when messages that were not read are gone, or the stream was made again.
    pub on_gap: OnGap,
    /// How to log in.
    pub login: NatsLogin,
    /// How the connection is encrypted.
    pub tls: NatsTls,
}

/// How to log in to NATS.
#[derive(Debug, Clone)]
pub enum NatsLogin {
    /// Without credentials.
    None,
    /// A `.creds` file: JWT and its key.
    CredentialsFile(PathBuf),
    /// The seed of an nkey, in a file.
    NkeyFile(PathBuf),
    /// User and password.
    User {
        /// The name.
        user: String,
        /// The password.
        password: NatsSecret,
    },
    /// A token.
    Token(NatsSecret),
}

/// How the connection to NATS is encrypted. A URL `tls://…`, or a server that demands it, switches it on as well.
#[derive(Debug, Clone, Default)]
pub struct NatsTls {
    /// Whether a connection without it is refused.
    pub required: bool,
    /// Who signs the server's certificate; `None` = those that the machine trusts.
    pub ca_file: Option<PathBuf>,
    /// The client's own certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A secret, or the file that holds it.
#[derive(Debug, Clone)]
pub enum NatsSecret {
    /// The secret.
    Value(Secret),
    /// A file that holds nothing else; spaces and line ends around it do not count. Read again at each connection.
    File(PathBuf),
}
