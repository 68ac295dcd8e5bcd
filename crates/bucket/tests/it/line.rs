//! The line to a server, with one thing that goes wrong.
//!
//! Owns: which request it happens to, and how: the answer, whether it was done, whether the process goes on afterwards.
//! Does not own: what a process asks for (see `dataset`), which events are tried (see `commits`).

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService};
use pintail_bucket::{Client, RequestKind};
use tokio::sync::watch;

/// What happens at a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The process is killed before it.
    CrashBefore,
    /// The process is killed after it was done.
    CrashAfter,
    /// It is done, and the connection breaks before the answer comes.
    AnswerLost,
    /// It is done, and the server says that it failed.
    Done500,
    /// It is done and answered 5xx, and something on the way sends it again: the second answer is the one that is heard.
    DoneTwice,
    /// It is not done: there are too many requests.
    NotDone503,
    /// It is not done: the server cannot be reached.
    NotSent,
    /// The process is stopped before it, until it is let go on.
    Stopped,
}

pub(crate) const EVENTS: [Event; 8] = [
    Event::CrashBefore,
    Event::CrashAfter,
    Event::AnswerLost,
    Event::Done500,
    Event::DoneTwice,
    Event::NotDone503,
    Event::NotSent,
    Event::Stopped,
];

/// What became of the process by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Running,
    Killed,
    Stopped,
}

/// Where to something happens: the request of this kind, counted from 0.
pub(crate) type Place = (RequestKind, usize);

#[derive(Debug, Default)]
struct State {
    asked: Vec<RequestKind>,
    /// What a secret could hide in: URLs and headers.
    sent: Vec<String>,
}

/// The line of one process.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    inner: Arc<Client>,
    event: Option<(Place, Event)>,
    state: Arc<Mutex<State>>,
    standing: Arc<watch::Sender<Standing>>,
}

impl Line {
    pub(crate) fn new(inner: Arc<Client>, event: Option<(Place, Event)>) -> Self {
        Self { inner, event, state: Arc::default(), standing: Arc::new(watch::Sender::new(Standing::Running)) }
    }

    /// Returns the requests so far.
    pub(crate) fn asked(&self) -> Vec<RequestKind> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Returns the URLs and headers of all requests so far.
    pub(crate) fn sent(&self) -> Vec<String> {
        self.state.lock().unwrap().sent.clone()
    }

    /// Passes when the process does not run any more.
    pub(crate) async fn ended(&self) -> Standing {
        *self.standing.subscribe().wait_for(|standing| *standing != Standing::Running).await.unwrap()
    }

    /// Lets the process go on after it was stopped.
    pub(crate) fn go_on(&self) {
        self.standing.send_replace(Standing::Running);
    }

    /// Counts a request. Returns what happens at it.
    fn count(&self, request: &HttpRequest) -> Option<Event> {
        let kind = kind(request);
        let mut state = self.state.lock().unwrap();
        let number = state.asked.iter().filter(|asked| **asked == kind).count();
        state.asked.push(kind);
        let headers = request.headers().values().filter_map(|value| value.to_str().ok().map(str::to_owned));
        state.sent.extend(headers.chain([request.uri().to_string()]).collect::<Vec<_>>());
        self.event.filter(|(place, _)| *place == (kind, number)).map(|(_, event)| event)
    }
}

impl HttpConnector for Line {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Lossy { client: self.inner.connect(options)?, line: self.clone() }))
    }
}

#[derive(Debug)]
struct Lossy {
    client: HttpClient,
    line: Line,
}

#[async_trait]
impl HttpService for Lossy {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Whoever is not running sends nothing.
        let mut standing = self.line.standing.subscribe();
        let _ = standing.wait_for(|standing| *standing == Standing::Running).await;
        let done = || async {
            let answer = self.client.execute(request.clone()).await?;
            let (parts, body) = answer.into_parts();
            let body = body.bytes().await?;
            Ok::<_, HttpError>(HttpResponse::from_parts(parts, body.into()))
        };
        match self.line.count(&request) {
            None => self.client.execute(request).await,
            Some(Event::CrashBefore) => self.end(Standing::Killed).await,
            Some(Event::CrashAfter) => {
                done().await?;
                self.end(Standing::Killed).await
            }
            Some(Event::AnswerLost) => {
                done().await?;
                Err(HttpError::new(HttpErrorKind::Interrupted, std::io::Error::from(std::io::ErrorKind::ConnectionReset)))
            }
            Some(Event::Done500) => {
                done().await?;
                Ok(answer(500, "InternalError"))
            }
            Some(Event::DoneTwice) => {
                done().await?;
                done().await
            }
            Some(Event::NotDone503) => Ok(answer(503, "SlowDown")),
            Some(Event::NotSent) => {
                Err(HttpError::new(HttpErrorKind::Connect, std::io::Error::from(std::io::ErrorKind::ConnectionRefused)))
            }
            Some(Event::Stopped) => {
                self.line.standing.send_replace(Standing::Stopped);
                let _ = standing.wait_for(|standing| *standing == Standing::Running).await;
                self.client.execute(request).await
            }
        }
    }
}

impl Lossy {
    async fn end(&self, standing: Standing) -> Result<HttpResponse, HttpError> {
        self.line.standing.send_replace(standing);
        std::future::pending().await
    }
}

fn answer(status: u16, code: &str) -> HttpResponse {
    let body = format!("<Error><Code>{code}</Code><Message>it says</Message></Error>");
    let mut answer = HttpResponse::new(body.into_bytes().into());
    *answer.status_mut() = reqwest::StatusCode::from_u16(status).unwrap();
    answer
}

/// Returns what a request asks for, whichever provider it is sent to.
fn kind(request: &HttpRequest) -> RequestKind {
    let query = request.uri().query().unwrap_or_default();
    let has = |name: &str| query.split('&').any(|pair| pair == name || pair.starts_with(&format!("{name}=")));
    let conditional = ["if-none-match", "x-goog-if-generation-match"].iter().any(|name| request.headers().contains_key(*name));
    match request.method().as_str() {
        "HEAD" => RequestKind::Head,
        "GET" if has("uploadId") || has("blocklisttype") => RequestKind::Parts,
        "GET" if has("list-type") || has("comp") => RequestKind::List,
        "GET" => RequestKind::Get,
        "DELETE" if has("uploadId") => RequestKind::Abort,
        "DELETE" => RequestKind::Discard,
        "POST" if has("uploads") => RequestKind::Begin,
        "POST" => RequestKind::Complete,
        _ if query.contains("comp=blocklist") => RequestKind::Complete,
        _ if has("partNumber") || query.contains("comp=block") => RequestKind::Part,
        _ if conditional => RequestKind::Create,
        _ => RequestKind::Replace,
    }
}
