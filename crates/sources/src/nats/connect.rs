//! Connecting: login, TLS, and what a refusal of the server means in words.
//!
//! Owns: the options of a connection, and when it counts as lost.
//! Does not own: trying again (see `reader`). The client's own reconnecting is not relied on: after it nobody looks whether the stream is
//! still the one that was read.

use std::error::Error as _;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind, RequestError, RequestErrorKind};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use futures_util::StreamExt;
use parking_lot::Mutex;
use pintail_core::error::{Error, Result};
use tokio::sync::watch;

use super::config::{NatsConfig, NatsLogin, NatsSecret};

/// Time for a server to answer, also in another part of the world.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// Time between two signs of life. A connection that is cut without a word is noticed after twice as much.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Streams that are named where the one that is asked for is missing.
const STREAMS_NAMED: usize = 5;

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Failure {
    /// It may pass: the reason, as a half sentence.
    Passing(String),
    /// The server does not let us in, or is not the one that the certificates say.
    Login(String),
    /// It will not pass.
    Refused(Error),
}

/// A connection.
pub(super) struct Connection {
    pub(super) client: Client,
    /// Turns true once it is lost.
    pub(super) lost: watch::Receiver<bool>,
    /// The last thing that the server complained of, if it did: a request that is not permitted is not answered.
    complaint: Arc<Mutex<Option<String>>>,
}

impl Connection {
    /// Connects to one of the servers.
    pub(super) async fn open(config: &NatsConfig) -> Result<Self, Failure> {
        let (lost_sender, lost) = watch::channel(false);
        let complaint = Arc::new(Mutex::new(None));
        let last = complaint.clone();
        let options = options(config).await?.event_callback(move |event| {
            match &event {
                Event::Disconnected | Event::Closed => drop(lost_sender.send_replace(true)),
                Event::ServerError(error) => *last.lock() = Some(error.to_string()),
                _ => {}
            }
            std::future::ready(())
        });
        let client = options.connect(addresses(config)?).await.map_err(|e| failure(config, &e))?;
        Ok(Self { client, lost, complaint })
    }

    /// Returns JetStream behind this connection.
    pub(super) fn jetstream(&self) -> jetstream::Context {
        let mut context = jetstream::new(self.client.clone());
        context.set_timeout(ANSWER);
        context
    }

    /// Finds the stream.
    pub(super) async fn stream(&self, config: &NatsConfig) -> Result<jetstream::stream::Stream, Failure> {
        let error = match self.jetstream().get_stream(&config.stream).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let reason = match error.kind() {
            GetStreamErrorKind::JetStream(refusal) if refusal.error_code() == ErrorCode::STREAM_NOT_FOUND => self.no_stream(config).await,
            _ => stream_failure(&config.stream, &error),
        };
        Err(Failure::Passing(self.explain(reason)))
    }

    /// Names the streams that are there instead, as far as they may be asked for.
    async fn no_stream(&self, config: &NatsConfig) -> String {
        let jetstream = self.jetstream();
        let names = jetstream.stream_names().take(STREAMS_NAMED).filter_map(|name| std::future::ready(name.ok()));
        let names: Vec<_> = names.map(|name| format!("`{name}`")).collect().await;
        let others = if names.is_empty() { String::new() } else { format!("; it has {}", names.join(", ")) };
        format!("the server has no stream `{}` (`source.stream`){others}", config.stream)
    }

    /// Adds what the server complained of.
    pub(super) fn explain(&self, failure: String) -> String {
        match self.complaint.lock().take() {
            Some(complaint) => format!("{failure} ({complaint})"),
            None => failure,
        }
    }
}

fn addresses(config: &NatsConfig) -> Result<Vec<ServerAddr>, Failure> {
    let parse = |url: &String| url.parse().map_err(|e| Failure::Refused(Error::config(format!("`source.url`: {url:?} is no server: {e}"))));
    config.urls.iter().map(parse).collect()
}

async fn options(config: &NatsConfig) -> Result<ConnectOptions, Failure> {
    let options = login(config).await.map_err(Failure::Login)?;
    let options = options
        .name("pintail")
        .connection_timeout(ANSWER)
        .request_timeout(Some(ANSWER))
        .ping_interval(PING_INTERVAL)
        .max_reconnects(config.urls.len())
        .require_tls(config.tls.required);
    let options = match &config.tls.ca_file {
        Some(path) => options.add_root_certificates(path.clone()),
        None => options,
    };
    Ok(match &config.tls.client {
        Some((certificate, key)) => options.add_client_certificate(certificate.clone(), key.clone()),
        None => options,
    })
}

async fn login(config: &NatsConfig) -> Result<ConnectOptions, String> {
    let options = ConnectOptions::new();
    Ok(match &config.login {
        NatsLogin::None => options,
        NatsLogin::CredentialsFile(path) => {
            let read = options.credentials_file(path).await;
            read.map_err(|e| format!("`source.credentials_file`: cannot use `{}`: {e}", path.display()))?
        }
        NatsLogin::NkeyFile(path) => options.nkey(read_secret("nkey_file", path)?),
        NatsLogin::User { user, password } => options.user_and_password(user.clone(), secret("password_file", password)?),
        NatsLogin::Token(token) => options.token(secret("token_file", token)?),
    })
}

fn secret(key: &str, secret: &NatsSecret) -> Result<String, String> {
    match secret {
        NatsSecret::Value(text) => Ok(text.reveal().to_owned()),
        NatsSecret::File(path) => read_secret(key, path),
    }
}

fn read_secret(key: &str, path: &Path) -> Result<String, String> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Ok(_) => Err(format!("`source.{key}`: `{}` is empty", path.display())),
        Err(e) => Err(format!("`source.{key}`: cannot read `{}`: {e}", path.display())),
    }
}

/// Checks that the files of TLS can be read: the client would try them again and again.
pub(super) fn check_files(config: &NatsConfig) -> Result<()> {
    let (certificate, key) = config.tls.client.as_ref().map(|(certificate, key)| (certificate, key)).unzip();
    let files = [("tls_ca_file", config.tls.ca_file.as_ref()), ("tls_cert_file", certificate), ("tls_key_file", key)];
    for (name, path) in files.into_iter().filter_map(|(name, path)| Some((name, path?))) {
        fs::File::open(path).map_err(|e| Error::config(format!("`source.{name}`: cannot read `{}`: {e}", path.display())))?;
    }
    Ok(())
}

/// Returns whether the server was there, and its certificate or ours was not taken: rustls says so as data that are not valid.
fn is_certificate_refused(error: &ConnectError) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn failure(config: &NatsConfig, error: &ConnectError) -> Failure {
    let servers = config.urls.join(", ");
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation => Failure::Login(format!(
            "{servers} refuses the login (authorization violation): check `source.user`, `source.token`, `source.credentials_file` or \
             `source.nkey_file`"
        )),
        ConnectErrorKind::Authentication => Failure::Login(format!("{servers}: the credentials cannot be used: {error}")),
        ConnectErrorKind::Tls => Failure::Login(format!("cannot reach {servers}: {error}")),
        ConnectErrorKind::Io if is_certificate_refused(error) => Failure::Login(format!("cannot reach {servers}: {error}")),
        ConnectErrorKind::TimedOut => Failure::Passing(format!("{servers} does not answer")),
        _ => Failure::Passing(format!("cannot reach {servers}: {error}")),
    }
}

/// Returns whether nobody listens at the subject of the request.
fn is_unanswered(error: &GetStreamError) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<RequestError>());
    cause.is_some_and(|cause| cause.kind() == RequestErrorKind::NoResponders)
}

fn stream_failure(stream: &str, error: &GetStreamError) -> String {
    match error.kind() {
        GetStreamErrorKind::JetStream(refusal) => format!("the stream `{stream}` cannot be read: {refusal}"),
        // Nobody answers at the subject of the request.
        _ if is_unanswered(error) => "JetStream does not answer: it is not enabled on the server, or not for this account".to_owned(),
        _ => format!("the stream `{stream}` cannot be looked at: {error}"),
    }
}
