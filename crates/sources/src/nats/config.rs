//! `source.type = "nats"`: its settings.
//!
//! Owns: servers, stream and subject, the ways to log in, the files of TLS; what each may be.
//! Does not own: whether they can be reached (see `connect`).

use std::path::PathBuf;

use chrono::{DateTime, Utc};
#[cfg(feature = "nats")]
use pintail_core::error::Result;
use pintail_core::identity::SourceIdentity;
use pintail_core::secret::Secret;
use pintail_settings::{Section, values};

#[cfg(feature = "nats")]
use super::Line;
use crate::OnGap;
#[cfg(feature = "nats")]
use crate::kind::Surroundings;
use crate::kind::{Configured, Kind};
#[cfg(feature = "nats")]
use crate::{Resume, Source};

/// The kind.
pub(super) const NAME: &str = "nats";

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

/// The kind.
pub(crate) const KIND: Kind = Kind { name: NAME, keys: KEYS, read: |section, _| Box::new(read(section)), owns: None };

/// The keys of this source, some of which others have as well.
const KEYS: &[&str] = &[
    "url",
    "stream",
    "subject",
    "consumer",
    "unacknowledged_max",
    "on_gap",
    "credentials_file",
    "nkey_file",
    "user",
    "password",
    "password_file",
    "token",
    "token_file",
    "tls",
    "tls_ca_file",
    "tls_cert_file",
    "tls_key_file",
];

/// Takes the keys.
fn read(section: &mut Section<'_>) -> NatsConfig {
    if !section.has("stream") {
        section.missing("stream", "`source.type = \"nats\"` needs the name of a stream, such as \"EVENTS\"");
    }
    let urls = section.list("url", &["nats://127.0.0.1:4222"], server);
    if urls.is_empty() && !section.is_faulty("url") {
        section.fault("url", "expected at least one server, such as \"nats://127.0.0.1:4222\"");
    }
    NatsConfig {
        urls,
        stream: section.optional_text("stream", name).unwrap_or_default(),
        subject: section.optional_text("subject", subject),
        consumer: section.text("consumer", "pintail", name),
        // About 150 bytes each while they wait for their commit.
        unacknowledged_max: section.count("unacknowledged_max", 200_000, 1_000..=10_000_000),
        on_gap: OnGap::read(section),
        login: login(section),
        tls: tls(section),
    }
}

fn login(section: &mut Section<'_>) -> NatsLogin {
    let ways = ["credentials_file", "nkey_file", "user", "token", "token_file"];
    let given: Vec<_> = ways.into_iter().filter(|key| section.has(key)).collect();
    if let [first, second, ..] = given[..] {
        section.fault(second, format_args!("given together with `source.{first}`: one way to log in is enough, leave the others out"));
    }
    let user_given = section.has("user");
    let password_given = section.has("password") || section.has("password_file");
    let credentials = section.optional_text("credentials_file", values::path).map(NatsLogin::CredentialsFile);
    let nkey = section.optional_text("nkey_file", values::path).map(NatsLogin::NkeyFile);
    let user = section.optional_text("user", values::name);
    let token = secret(section, "token", "token_file");
    let password = secret(section, "password", "password_file");
    if !user_given && password_given {
        section.fault("user", "missing: a password is given");
    }
    if user_given && !password_given {
        let how = "missing: `source.user` is given; set it in the environment (PINTAIL_SOURCE__PASSWORD) or name a `password_file`";
        section.fault("password", how);
    }
    let user = user.zip(password).map(|(user, password)| NatsLogin::User { user, password });
    credentials.or(nkey).or(user).or(token.map(NatsLogin::Token)).unwrap_or(NatsLogin::None)
}

/// A secret under `key`, or in the file under `file_key`.
fn secret(section: &mut Section<'_>, key: &str, file_key: &str) -> Option<NatsSecret> {
    let given = section.has(key);
    if given && section.has(file_key) {
        section.fault(file_key, format_args!("given together with `source.{key}`: leave one of them out"));
    }
    let value = section.secret(key).map(|text| NatsSecret::Value(Secret::new(text)));
    if given && value.is_none() && !section.is_faulty(key) {
        // An empty variable of the environment is a secret that somebody forgot to fill in, not a login without one.
        section.fault(key, "expected a text that is not empty");
    }
    let file = section.optional_text(file_key, values::path).map(NatsSecret::File);
    value.or(file)
}

fn tls(section: &mut Section<'_>) -> NatsTls {
    let required = section.boolean("tls", false);
    let ca_file = section.optional_text("tls_ca_file", values::path);
    for (key, other) in [("tls_cert_file", "tls_key_file"), ("tls_key_file", "tls_cert_file")] {
        if section.has(key) && !section.has(other) {
            section.fault(other, format_args!("missing: `source.{key}` is given, and one is of no use without the other"));
        }
    }
    let certificate = section.optional_text("tls_cert_file", values::path);
    let key = section.optional_text("tls_key_file", values::path);
    NatsTls { required, ca_file, client: certificate.zip(key) }
}

/// A server of NATS. Checked without a parser of URLs: what is between scheme and port is a host name or address.
fn server(text: &str) -> Result<String, String> {
    let wanted = || "expected a server, such as \"nats://127.0.0.1:4222\" or \"tls://nats.example.com:4222\"".to_owned();
    let rest = text.strip_prefix("nats://").or_else(|| text.strip_prefix("tls://")).ok_or_else(wanted)?;
    if rest.contains('@') {
        return Err("a password does not belong into a URL, which is logged: use `source.user`, `source.token` and their like".into());
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if values::is_host_and_port(rest, "/?#") { Ok(text.to_owned()) } else { Err(wanted()) }
}

/// The name of a stream or a consumer of NATS.
fn name(text: &str) -> Result<String, String> {
    let name = values::name(text)?;
    match name.chars().find(|c| c.is_whitespace() || c.is_control() || ".*>/\\".contains(*c)) {
        Some(c) => Err(format!("{c:?} cannot be in the name of a stream or consumer")),
        None => Ok(name),
    }
}

/// A subject of NATS, which may have wildcards: `events.*.eu`, `events.>`.
fn subject(text: &str) -> Result<String, String> {
    let wanted = || "expected a subject, such as \"events.eu\", \"events.*\" or \"events.>\"".to_owned();
    let tokens: Vec<_> = text.split('.').collect();
    let last = tokens.len() - 1;
    let fits = |(index, token): (usize, &&str)| match *token {
        "*" => true,
        ">" => index == last,
        token => !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || c.is_control() || "*>".contains(c)),
    };
    if tokens.iter().enumerate().all(fits) { Ok(text.to_owned()) } else { Err(wanted()) }
}

impl Configured for NatsConfig {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    /// The stream. When it was made is in the id of its partition, so that a stream that was made again can be told apart from one that goes on
    /// without a server to ask.
    fn identity(&self, _created_at: DateTime<Utc>) -> SourceIdentity {
        SourceIdentity { kind: NAME.to_owned(), properties: [("stream".to_owned(), self.stream.clone())].into() }
    }

    fn accepting_gaps(&self) -> Box<dyn Configured> {
        Box::new(Self { on_gap: OnGap::Record, ..self.clone() })
    }

    fn gives_messages(&self) -> bool {
        true
    }

    #[cfg(feature = "nats")]
    fn open(&self, around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Box<dyn Source>> {
        Ok(Box::new(super::NatsSource::open(self, line(around), resume)?))
    }

    #[cfg(feature = "nats")]
    fn check(&self, around: &Surroundings<'_>, resume: &Resume<'_>) -> Result<Vec<String>> {
        super::NatsSource::probe(self, line(around), resume).map(|found| vec![found])
    }
}

/// Returns what a session must know of the line.
#[cfg(feature = "nats")]
fn line(around: &Surroundings<'_>) -> Line {
    Line { checkpoint_interval: around.checkpoint_interval, bytes_max: around.line_bytes_max, record_bytes_max: around.record_bytes_max }
}
