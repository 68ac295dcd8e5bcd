//! The line to a provider, where its answers are seen.
//!
//! Owns: the HTTP client (TLS by rustls and ring, proxy, private authorities, time limits, no redirects, no retries), and noting the status, the error
//! code and the time of each answer for the request that the task is at.
//! Does not own: what an answer means (see `meaning`), signatures (object_store).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use parking_lot::Mutex;
use pintail_core::error::{Error, Result};
use pintail_core::escape;
use reqwest::{Certificate, Proxy, Url, redirect, retry};

use crate::config::StorageConfig;
use crate::meters::{Meters, RequestKind};

/// Bytes of an error that are looked at for its code.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// Bytes of what a provider says of an error that are shown.
const SHOWN_BYTES_MAX: usize = 300;
/// Bytes of a code.
const CODE_BYTES_MAX: usize = 64;
/// What is as long as that may be a part of a key, a token or a signature.
const SECRET_BYTES_MIN: usize = 12;
/// The time that services on the same machine or link may take to be connected: who is not there does not answer at all.
const NEAR_TIMEOUT: Duration = Duration::from_secs(1);
/// Idle connections are closed before a provider does it, which would cost a request its answer.
const POOL_IDLE: Duration = Duration::from_secs(15);

tokio::task_local! {
    /// The request that the task is at.
    static ASK: Arc<Ask>;
}

/// One request, and the last answer that was seen for it.
#[derive(Debug)]
struct Ask {
    kind: RequestKind,
    seen: Mutex<Option<Seen>>,
}

/// An answer, as far as it is no secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Whether it came from whoever gives credentials, and not from the bucket.
    pub of_credentials: bool,
    /// The status; `None` if no answer came.
    pub status: Option<u16>,
    /// What the provider calls the error.
    pub code: Option<String>,
    /// What it says of it, or why no answer came.
    pub said: Option<String>,
    /// The pause that it asks for.
    pub retry_after: Option<Duration>,
    /// The region that the bucket is in, if it is another one.
    pub region: Option<String>,
}

/// Does a request, and returns what was seen of its last answer beside its result.
pub(crate) async fn seen<T>(
    kind: RequestKind,
    request: impl Future<Output = object_store::Result<T>>,
) -> (object_store::Result<T>, Option<Seen>) {
    let ask = Arc::new(Ask { kind, seen: Mutex::new(None) });
    let result = ASK.scope(ask.clone(), request).await;
    let seen = ask.seen.lock().take();
    (result, seen)
}

/// Makes HTTP clients as `[storage]` says.
#[derive(Debug)]
pub struct Client {
    /// Through the proxy, if there is one.
    far: [reqwest::Client; 2],
    /// For services of this machine or link (metadata, test servers): never through a proxy.
    near: [reqwest::Client; 2],
}

impl Client {
    /// Prepares them.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if TLS cannot be set up.
    pub fn new(config: &StorageConfig) -> Result<Self> {
        use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
        if CryptoProvider::get_default().is_none() {
            // Another thread may be faster, and means the same.
            let _ = ring::default_provider().install_default();
        }
        let make = |is_near: bool, https_only: bool| client(config, is_near, https_only).map_err(|error| unusable(&error));
        Ok(Self { far: [make(false, false)?, make(false, true)?], near: [make(true, false)?, make(true, true)?] })
    }
}

fn client(config: &StorageConfig, is_near: bool, https_only: bool) -> reqwest::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("pintail/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .http1_only()
        .https_only(https_only)
        .timeout(config.request_timeout)
        .connect_timeout(if is_near { NEAR_TIMEOUT.min(config.connect_timeout) } else { config.connect_timeout })
        .pool_idle_timeout(POOL_IDLE);
    if is_near {
        builder = builder.no_proxy();
    } else if let Some(proxy) = &config.proxy {
        builder = builder.proxy(Proxy::all(proxy.as_str())?);
    }
    if let Some((_, pem)) = &config.ca {
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(pem.as_bytes())?);
    }
    builder.build()
}

fn unusable(error: &reqwest::Error) -> Error {
    let why = innermost(error);
    Error::config(format!(
        "cannot set up TLS for buckets: {why}; this machine needs certificates of authorities (Debian: the package ca-certificates), or \
         `storage.ca_file` and `storage.proxy` must be right"
    ))
}

impl HttpConnector for Client {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        let chosen = usize::from(!allow_http);
        Ok(HttpClient::new(Way { far: self.far[chosen].clone(), near: self.near[chosen].clone() }))
    }
}

/// Takes the client that reaches a host.
#[derive(Debug)]
struct Way {
    far: reqwest::Client,
    near: reqwest::Client,
}

#[async_trait]
impl HttpService for Way {
    async fn call(&self, request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        let client = if is_near(request.uri().host().unwrap_or_default()) { &self.near } else { &self.far };
        client.call(request).await
    }
}

/// Returns whether a host is this machine, or gives credentials to it.
fn is_near(host: &str) -> bool {
    let is_near = |address: IpAddr| match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local() || address.is_unique_local(),
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    matches!(host, "localhost" | "metadata" | "metadata.google.internal") || address.is_ok_and(is_near)
}

/// Notes every answer that comes through another connector.
#[derive(Debug)]
pub(crate) struct Noting {
    pub inner: Arc<dyn HttpConnector>,
    /// The server of the bucket.
    pub endpoint: Url,
    pub meters: Arc<Meters>,
}

impl HttpConnector for Noting {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let authority = (self.endpoint.host_str().unwrap_or_default().to_owned(), self.endpoint.port_or_known_default());
        Ok(HttpClient::new(Noted { client: self.inner.connect(options)?, authority, meters: self.meters.clone() }))
    }
}

struct Noted {
    client: HttpClient,
    authority: (String, Option<u16>),
    meters: Arc<Meters>,
}

impl fmt::Debug for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noted").field("authority", &self.authority).finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpService for Noted {
    async fn call(&self, request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        let of_bucket = self.is_of_bucket(&request);
        let asked = ASK.try_with(Arc::clone).ok();
        let kind = asked.as_ref().filter(|_| of_bucket).map_or(RequestKind::Credentials, |ask| ask.kind);
        let (secrets, sent) = (secrets(&request), request.body().content_length());
        let begun = Instant::now();
        let answer = self.client.execute(request).await;
        let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
        self.meters.answered(kind, status, begun.elapsed(), sent as u64);
        let (answer, mut seen) = match answer {
            Ok(answer) => look(answer, kind).await,
            Err(error) => (Err(error), Seen::default()),
        };
        if let Err(error) = &answer {
            seen.said = Some(escape::beginning(&innermost(error), SHOWN_BYTES_MAX));
        }
        seen.of_credentials = !of_bucket;
        // Whoever gives credentials may repeat them.
        seen.said = seen.said.filter(|said| answer.is_err() || of_bucket && !secrets.iter().any(|secret| said.contains(secret)));
        if let Some(ask) = asked {
            *ask.seen.lock() = Some(seen);
        }
        answer
    }
}

impl Noted {
    fn is_of_bucket(&self, request: &HttpRequest) -> bool {
        let uri = request.uri();
        let port = uri.port_u16().or_else(|| if uri.scheme_str() == Some("http") { Some(80) } else { Some(443) });
        (uri.host().unwrap_or_default(), port) == (self.authority.0.as_str(), self.authority.1)
    }
}

/// Looks at an answer. Of an error nothing but the status goes further; so does an answer of 200 to a completion, whole, for it may hold an error.
async fn look(answer: HttpResponse, kind: RequestKind) -> (std::result::Result<HttpResponse, HttpError>, Seen) {
    let (parts, body) = answer.into_parts();
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let mut seen = Seen {
        status: Some(parts.status.as_u16()),
        code: header("x-ms-error-code").and_then(code),
        retry_after: header("retry-after").and_then(|seconds| Some(Duration::from_secs(seconds.trim().parse().ok()?))),
        region: header("x-amz-bucket-region").map(str::to_owned),
        ..Seen::default()
    };
    let is_success = parts.status.is_success();
    if is_success && kind != RequestKind::Complete {
        return (Ok(HttpResponse::from_parts(parts, body)), seen);
    }
    let body = if is_success {
        match body.bytes().await {
            Ok(body) => body,
            Err(error) => return (Err(error), seen),
        }
    } else {
        beginning(body).await
    };
    let text = String::from_utf8_lossy(&body);
    if !is_success || text.contains("<Error>") {
        seen.code = seen.code.or_else(|| between(&text, "<Code>", "</Code>").and_then(code));
        let said = between(&text, "<Message>", "</Message>").map(|said| escape::beginning(first_line(said), SHOWN_BYTES_MAX));
        seen.said = said.filter(|said| !said.is_empty());
        if kind == RequestKind::Credentials {
            // OAuth: {"error": "invalid_client", …}
            seen.code = seen.code.or_else(|| {
                let answer: serde_json::Value = serde_json::from_slice(&body).ok()?;
                code(answer.get("error")?.as_str()?)
            });
        }
    }
    let body = if is_success { body } else { Bytes::new() };
    (Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(body))), seen)
}

/// Reads the beginning of a body, or what of it comes.
async fn beginning(body: HttpResponseBody) -> Bytes {
    let (mut stream, mut read) = (body.bytes_stream(), Vec::new());
    while let Some(Ok(chunk)) = stream.next().await {
        let room = ERROR_BYTES_MAX - read.len();
        read.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if read.len() == ERROR_BYTES_MAX {
            break;
        }
    }
    read.into()
}

fn between<'a>(text: &'a str, before: &str, behind: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(behind)?.0)
}

fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or_default()
}

/// Takes a text as a code, if it can be one.
fn code(text: &str) -> Option<String> {
    let is_code =
        (1..=CODE_BYTES_MAX).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    is_code.then(|| text.to_owned())
}

/// Returns all that a request holds that may be a part of a key, a token or a signature: what a provider says is not shown if it repeats any of it.
fn secrets(request: &HttpRequest) -> Vec<String> {
    let names = ["authorization", "x-amz-security-token", "x-amz-s3session-token", "x-ms-encryption-key", "x-goog-encryption-key"];
    let headers = names.iter().filter_map(|name| request.headers().get(*name)).filter_map(|value| value.to_str().ok());
    let query = request.uri().query().unwrap_or_default();
    let decoded =
        Url::parse(&format!("http://x/?{query}")).map(|url| url.query_pairs().map(|(_, value)| value.into_owned()).collect::<Vec<_>>());
    let texts: Vec<String> = headers.chain([query]).map(str::to_owned).chain(decoded.unwrap_or_default()).collect();
    let separators: [&[char]; 2] = [&[' ', ',', ':', '&', '?', ';'], &[' ', ',', ':', '&', '?', ';', '/', '=', '+', '%']];
    let pieces = texts.iter().flat_map(|text| separators.iter().flat_map(move |by| text.split(*by)));
    pieces.filter(|piece| piece.len() >= SECRET_BYTES_MIN).map(str::to_owned).collect()
}

/// Returns the cause beneath all others, which names no URL.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_taken_and_texts_that_are_none_are_not() {
        assert_eq!(code("NoSuchUpload").as_deref(), Some("NoSuchUpload"));
        for text in ["", "a b", "<x>", "\u{1b}[2J", &"x".repeat(65)] {
            assert_eq!(code(text), None);
        }
    }

    #[test]
    fn a_host_of_this_machine_or_link_is_never_reached_by_a_proxy() {
        for host in ["127.0.0.1", "localhost", "169.254.169.254", "169.254.170.23", "[fd00:ec2::254]", "metadata.google.internal"] {
            assert!(is_near(host), "{host}");
        }
        assert!(!is_near("s3.eu-central-1.amazonaws.com") && !is_near("10.0.0.1"));
    }
}
