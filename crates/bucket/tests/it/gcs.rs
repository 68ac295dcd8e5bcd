//! A fake of GCS: the XML API, as far as object_store speaks it.
//!
//! Owns: a bucket in memory, with preconditions, uploads and lists as Google's documentation has them; one token is right.
//! Does not own: anything that the documentation leaves open: an upload that was completed is gone.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use object_store::client::HttpResponseBody;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// The one token that is right.
pub(crate) const TOKEN: &str = "ya29.a-token-of-the-tests-only";

/// What a server answers, however it comes to that.
pub(crate) type Reply = Response<HttpResponseBody>;

/// A server on a thread of its own.
#[derive(Debug)]
pub(crate) struct Fake {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Starts one that keeps a bucket.
    pub(crate) fn start() -> Self {
        let bucket = Arc::new(Mutex::new(Store::default()));
        Self::serve(move |request, body| bucket.lock().unwrap().answer(&request, body))
    }

    /// Starts one that answers as a function says.
    pub(crate) fn serve(answer: impl Fn(Request<()>, Bytes) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve_by(None, answer)
    }

    /// As [`Self::serve`], with a certificate.
    pub(crate) fn serve_by(tls: Option<TlsAcceptor>, answer: impl Fn(Request<()>, Bytes) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel();
        let answer = Arc::new(answer);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! { () = accept(listener, tls, answer) => {}, _ = stopped => {} }
            });
        });
        Self { port, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().map(JoinHandle::join);
    }
}

async fn accept<F>(listener: tokio::net::TcpListener, tls: Option<TlsAcceptor>, answer: Arc<F>)
where
    F: Fn(Request<()>, Bytes) -> Reply + Send + Sync + 'static,
{
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (tls, answer) = (tls.clone(), answer.clone());
        tokio::spawn(async move {
            match tls {
                None => talk(stream, answer).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        talk(stream, answer).await;
                    }
                }
            }
        });
    }
}

async fn talk<F>(stream: impl AsyncRead + AsyncWrite + Unpin + Send, answer: Arc<F>)
where
    F: Fn(Request<()>, Bytes) -> Reply + Send + Sync + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = collect(body).await;
            Ok::<_, Infallible>(answer(Request::from_parts(parts, ()), body))
        }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn collect(mut body: Incoming) -> Bytes {
    use hyper::body::Body;
    let mut whole = Vec::new();
    while let Some(Ok(frame)) = std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await {
        whole.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    whole.into()
}

/// Makes an answer.
pub(crate) fn reply(status: u16, body: impl Into<Bytes>) -> Reply {
    let body: Bytes = body.into();
    let length = body.len();
    let response = Response::builder().status(StatusCode::from_u16(status).unwrap()).header("content-length", length);
    response.body(HttpResponseBody::from(body)).unwrap()
}

/// Makes an error as S3 and GCS tell it.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Reply {
    reply(status, format!("<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"))
}

#[derive(Debug)]
struct Stored {
    bytes: Bytes,
    generation: u64,
    written: DateTime<Utc>,
}

/// The parts of an upload, each with its tag, by number.
type Parts = BTreeMap<u32, (String, Bytes)>;

#[derive(Debug, Default)]
struct Store {
    objects: BTreeMap<String, Stored>,
    uploads: BTreeMap<String, (String, Parts)>,
    count: u64,
}

impl Store {
    fn answer(&mut self, request: &Request<()>, body: Bytes) -> Reply {
        if header(request.headers(), "authorization") != Some(&format!("Bearer {TOKEN}")) {
            return error(401, "AuthenticationRequired", "Authentication required.");
        }
        let path = percent_decode_str(request.uri().path()).decode_utf8().unwrap().into_owned();
        let query = query(request.uri().query().unwrap_or_default());
        let upload = query.get("uploadId");
        let Some(key) = path.strip_prefix("/lake") else { return error(404, "NoSuchBucket", "The specified bucket does not exist.") };
        let key = key.trim_start_matches('/');
        match (request.method(), upload) {
            (&Method::GET, _) if key.is_empty() => self.list(&query),
            (&Method::GET, Some(upload)) => self.parts(upload),
            (&Method::GET | &Method::HEAD, None) => self.get(request, key),
            (&Method::PUT, Some(upload)) => self.put_part(upload, query["partNumber"].parse().unwrap(), body),
            (&Method::PUT, None) => self.put(request.headers(), key, body),
            (&Method::POST, None) if query.contains_key("uploads") => self.begin(key),
            (&Method::POST, Some(upload)) => self.complete(upload, &body),
            (&Method::DELETE, Some(upload)) => match self.uploads.remove(upload) {
                Some(_) => reply(204, ""),
                None => no_upload(),
            },
            (&Method::DELETE, None) => match self.objects.remove(key) {
                Some(_) => reply(204, ""),
                None => error(404, "NoSuchKey", "The specified key does not exist."),
            },
            _ => error(400, "InvalidArgument", "Not a request that object_store sends."),
        }
    }

    fn list(&self, query: &BTreeMap<String, String>) -> Reply {
        let text = |name: &str| query.get(name).map_or("", String::as_str);
        let most: usize = text("max-keys").parse().unwrap_or(1_000);
        let begin = text("continuation-token");
        let mut found = self.objects.range(begin.to_owned()..).filter(|(key, _)| key.starts_with(text("prefix")));
        let mut xml = "<ListBucketResult>".to_owned();
        for (key, stored) in found.by_ref().take(most) {
            let (written, bytes) = (stored.written.to_rfc3339_opts(chrono::SecondsFormat::Millis, true), stored.bytes.len());
            let key = key.replace('&', "&amp;").replace('<', "&lt;");
            let _ = write!(
                xml,
                "<Contents><Key>{key}</Key><LastModified>{written}</LastModified><ETag>\"e\"</ETag><Size>{bytes}</Size></Contents>"
            );
        }
        if let Some((next, _)) = found.next() {
            let _ = write!(xml, "<NextContinuationToken>{}</NextContinuationToken>", next.replace('&', "&amp;"));
        }
        reply(200, xml + "</ListBucketResult>")
    }

    fn get(&self, request: &Request<()>, key: &str) -> Reply {
        let Some(stored) = self.objects.get(key) else { return error(404, "NoSuchKey", "The specified key does not exist.") };
        let length = stored.bytes.len();
        let range = header(request.headers(), "range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let mut response = Response::builder()
            .header("etag", format!("\"{}\"", stored.generation))
            .header("x-goog-generation", stored.generation)
            .header("last-modified", stored.written.format("%a, %d %b %Y %H:%M:%S GMT").to_string());
        let bytes = match range {
            None => stored.bytes.clone(),
            Some((from, to)) => {
                let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap_or(usize::MAX));
                let to = to.saturating_add(1).min(length);
                if from >= to {
                    return error(416, "InvalidRange", "The requested range cannot be satisfied.");
                }
                response = response.status(206).header("content-range", format!("bytes {from}-{}/{length}", to - 1));
                stored.bytes.slice(from..to)
            }
        };
        response = response.header("content-length", bytes.len());
        let bytes = if request.method() == Method::HEAD { Bytes::new() } else { bytes };
        response.body(HttpResponseBody::from(bytes)).unwrap()
    }

    fn put(&mut self, headers: &HeaderMap, key: &str, bytes: Bytes) -> Reply {
        let generation = self.objects.get(key).map_or(0, |stored| stored.generation);
        match header(headers, "x-goog-if-generation-match") {
            Some(wanted) if wanted.parse() != Ok(generation) => {
                error(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")
            }
            _ => self.store(key, bytes),
        }
    }

    fn store(&mut self, key: &str, bytes: Bytes) -> Reply {
        self.count += 1;
        self.objects.insert(key.to_owned(), Stored { bytes, generation: self.count, written: Utc::now() });
        let mut response =
            reply(200, format!("<CompleteMultipartUploadResult><ETag>\"{}\"</ETag></CompleteMultipartUploadResult>", self.count));
        response.headers_mut().insert("etag", format!("\"{}\"", self.count).parse().unwrap());
        response.headers_mut().insert("x-goog-generation", self.count.into());
        response
    }

    fn begin(&mut self, key: &str) -> Reply {
        self.count += 1;
        let id = format!("upload/{}+=", self.count);
        self.uploads.insert(id.clone(), (key.to_owned(), BTreeMap::new()));
        reply(200, format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
    }

    fn put_part(&mut self, upload: &str, number: u32, bytes: Bytes) -> Reply {
        self.count += 1;
        let tag = format!("\"part-{}\"", self.count);
        let Some((_, parts)) = self.uploads.get_mut(upload) else { return no_upload() };
        parts.insert(number, (tag.clone(), bytes));
        let mut response = reply(200, "");
        response.headers_mut().insert("etag", tag.parse().unwrap());
        response
    }

    /// Lists the parts of an upload. One page has all of them.
    fn parts(&self, upload: &str) -> Reply {
        let Some((_, parts)) = self.uploads.get(upload) else { return no_upload() };
        let part = |(number, (tag, bytes)): (&u32, &(String, Bytes))| {
            let tag = tag.replace('"', "&quot;");
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag><Size>{}</Size></Part>", bytes.len())
        };
        let parts: String = parts.iter().map(part).collect();
        reply(200, format!("<ListPartsResult><IsTruncated>false</IsTruncated>{parts}</ListPartsResult>"))
    }

    fn complete(&mut self, upload: &str, body: &[u8]) -> Reply {
        let Some((key, parts)) = self.uploads.get(upload) else { return no_upload() };
        let text = std::str::from_utf8(body).unwrap();
        let tags: Vec<&str> = text.split("<ETag>").skip(1).map(|rest| rest.split("</ETag>").next().unwrap()).collect();
        let mut whole = Vec::new();
        for (number, tag) in (1..).zip(&tags) {
            match parts.get(&number) {
                Some((known, bytes)) if known == tag => whole.extend_from_slice(bytes),
                _ => return error(400, "InvalidPart", "One or more of the specified parts could not be found."),
            }
        }
        let key = key.clone();
        self.uploads.remove(upload);
        self.store(&key, whole.into())
    }
}

fn no_upload() -> Reply {
    error(404, "NoSuchUpload", "The requested upload was not found.")
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn query(text: &str) -> BTreeMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://x/?{text}")).unwrap();
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}
