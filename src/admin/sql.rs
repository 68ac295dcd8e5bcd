//! SQL: the query box.
//!
//! Owns: who may ask, how many answers are held at a time, what a failure is answered with, ending a query that nobody waits for or that a stop
//! would wait for.
//! Does not own: what a query may take, and the process that it runs in (see [`crate::sql_box`]); the guard of the statement and of the files (see
//! `pintail_duckdb::query`); which files are committed (the records say).
//!
//! | status | when |
//! |---|---|
//! | 400 | the statement is none, is refused, or fails |
//! | 422 | it was ended: it took too long or too much memory, or its process died. Not 408: browsers ask again by themselves after that |
//! | 429 | another query runs, or earlier answers are not read to their end |
//! | 503 | the service stops, or the machine has no process to spare |

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use pintail_config::AdminConfig;
use pintail_core::error::{Error, ErrorKind};
use pintail_server::{asked, working};
use pintail_storage::checkpoint::reader;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;
use tracing::warn;

use super::{Shared, guard, routes};
use crate::sql_box::{self, Failure, Limits};

/// Bytes of a request. A statement is typed by a person.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Time for a client to send it.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer: what a browser still shows.
const ANSWER_BYTES_MAX: usize = 16 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    sql: String,
}

/// A refusal: its status and one sentence.
type Refused = (StatusCode, String);

/// An answer on its way to a client. Its place is free when it is sent or given up.
struct Held {
    answer: Vec<u8>,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

/// `POST /api/query`
pub(super) async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match ask(&shared, request).await {
        Ok(held) => ([(CONTENT_TYPE, "application/json")], Bytes::from_owner(held)).into_response(),
        Err((status, why)) => routes::error(status, why),
    }
}

async fn ask(shared: &Shared, request: Request) -> Result<Held, Refused> {
    let (parts, body) = request.into_parts();
    let config = &shared.config;
    if !config.query {
        return Err((StatusCode::FORBIDDEN, "queries are off: admin.query = true switches them on".into()));
    }
    let checked = guard::check_token(config.query_token.as_ref(), &parts.headers).and_then(|()| guard::check_origin(&parts.headers));
    checked.map_err(|(status, why)| (status, why.to_owned()))?;
    let sql = read(body).await?;
    let busy = |why: &str| (StatusCode::TOO_MANY_REQUESTS, why.to_owned());
    let place = shared.queries.clone().try_acquire_owned().map_err(|_| busy("another query is running: ask again when it is done"))?;
    let held =
        shared.answers.clone().try_acquire_owned().map_err(|_| busy("earlier answers are not read to their end: ask again later"))?;
    let _working = working(&parts.extensions);
    let mut draining = shared.health.draining.clone();
    let answer = tokio::select! {
        biased;
        // The last checkpoint has a deadline, and needs the core.
        () = asked(&mut draining) => Err((StatusCode::SERVICE_UNAVAILABLE, "the service is stopping".into())),
        answer = run(shared, sql, place) => answer,
    };
    answer.map(|answer| Held { answer, _place: held })
}

async fn read(body: Body) -> Result<String, Refused> {
    let bad = |why: String| (StatusCode::BAD_REQUEST, why);
    let bytes = timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES_MAX)).await;
    let bytes = bytes.map_err(|_| bad("the request took too long to arrive".to_owned()))?;
    let bytes = bytes.map_err(|_| bad(format!("the request has more than {BODY_BYTES_MAX} bytes, or broke off")))?;
    let question: Question =
        serde_json::from_slice(&bytes).map_err(|e| bad(format!("the request must be {{\"sql\":\"SELECT …\"}}: {e}")))?;
    pintail_config::check_sql(&question.sql).map_err(|why| bad(format!("the query cannot be taken: {why}")))?;
    Ok(question.sql)
}

/// Runs the query, with a thread of its own to watch it. When this future is dropped (the client went away, the server ends) the query is ended.
async fn run(shared: &Shared, sql: String, place: OwnedSemaphorePermit) -> Result<Vec<u8>, Refused> {
    let unwanted = Arc::<AtomicBool>::default();
    let _ended = SetOnDrop(unwanted.clone());
    let (sender, answered) = oneshot::channel();
    let (out, config) = (shared.facts.paths.root().to_path_buf(), shared.config.clone());
    let work = move || {
        let answer = query(&out, &config, &sql, &unwanted);
        // The place first: who hears the answer may ask again at once.
        drop(place);
        let _ = sender.send(answer);
    };
    let failed = || (StatusCode::INTERNAL_SERVER_ERROR, "the query failed inside: see the log".to_owned());
    let spawned = thread::Builder::new().name("pintail-sql".to_owned()).spawn(work);
    spawned.map_err(|e| (StatusCode::SERVICE_UNAVAILABLE, format!("the query cannot be watched over: {e}")))?;
    answered.await.map_err(|_| failed())?.map_err(|failure| (status(&failure), failure.to_string()))
}

fn query(out: &Path, config: &AdminConfig, sql: &str, unwanted: &AtomicBool) -> Result<Vec<u8>, Failure> {
    let begun = Instant::now();
    let is_late = || begun.elapsed() >= config.query_timeout;
    let go_on = || if is_late() { Err(Error::try_again("the time is up")) } else { Ok(()) };
    let committed = reader::committed_while(out, go_on).map_err(|error| match error.kind() {
        ErrorKind::TryAgain if is_late() => Failure::Time(config.query_timeout),
        kind => Failure::Query(kind, error.to_string()),
    })?;
    if committed.files.is_empty() {
        return Err(Failure::Query(ErrorKind::Config, committed.nothing.to_string()));
    }
    let limits = Limits {
        rows_max: config.query_rows_max,
        bytes_max: ANSWER_BYTES_MAX,
        memory_limit: config.query_memory_limit,
        timeout: config.query_timeout,
        begun,
    };
    let answer = sql_box::ask(out, &committed, sql, &limits, unwanted);
    if let Err(failure @ (Failure::Died(_) | Failure::Start(_))) = &answer {
        warn!(%failure, "a query of the SQL box has no answer");
    }
    answer
}

fn status(failure: &Failure) -> StatusCode {
    match failure {
        Failure::Query(ErrorKind::Config, _) => StatusCode::BAD_REQUEST,
        Failure::Query(..) => StatusCode::INTERNAL_SERVER_ERROR,
        Failure::Time(_) | Failure::Memory(_) | Failure::Died(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Failure::Unwanted | Failure::Start(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
