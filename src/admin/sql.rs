//! SQL: the query box.
//!
//! Owns: who may ask, how much an answer may take (rows, bytes, time, one query at a time), ending a query that nobody waits for or that a
//! stop would wait for.
//! Does not own: the guard of the statement and of the files (see `engine::query`), which files are committed (the records say).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

use super::{Shared, guard, routes, values};
use crate::checkpoint::reader;
use crate::config::{self, AdminConfig};
use crate::engine::query::{Answer, Canceller, Limits, query_within};
use crate::error::{Error, ErrorKind, Result};
use crate::invocation::command;
use crate::server::asked;

/// Bytes of a request. A statement is typed by a person.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Time for a client to send it.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer: what a browser still shows.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Stack of a query's thread. DuckDB's parser and planner go down by recursion, and an overflow would end the process: this is room for
/// the deepest statement that has [`BODY_BYTES_MAX`]. What is not used costs nothing.
const STACK_BYTES: usize = 256 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    sql: String,
}

/// A refusal: its status and one sentence.
type Refused = (StatusCode, String);

/// `POST /api/query`
pub(super) async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    match ask(&shared, request).await {
        Ok(json) => routes::json(StatusCode::OK, &json),
        Err((status, why)) => routes::error(status, why),
    }
}

async fn ask(shared: &Shared, request: Request) -> Result<Value, Refused> {
    let (parts, body) = request.into_parts();
    let config = &shared.config;
    if !config.query {
        return Err((StatusCode::FORBIDDEN, "queries are off: admin.query = true switches them on".into()));
    }
    let checked = guard::check_token(config.query_token.as_ref(), &parts.headers).and_then(|()| guard::check_origin(&parts.headers));
    checked.map_err(|(status, why)| (status, why.to_owned()))?;
    let sql = read(body).await?;
    let Ok(place) = shared.queries.clone().try_acquire_owned() else {
        return Err((StatusCode::TOO_MANY_REQUESTS, "another query is running: ask again when it is done".into()));
    };
    let mut draining = shared.draining.clone();
    tokio::select! {
        biased;
        // The last checkpoint has a deadline, and needs the core.
        () = asked(&mut draining) => Err((StatusCode::SERVICE_UNAVAILABLE, "the service is stopping".into())),
        answer = run(shared.facts.paths.root().to_path_buf(), config.clone(), sql, place) => answer,
    }
}

async fn read(body: Body) -> Result<String, Refused> {
    let bad = |why: String| (StatusCode::BAD_REQUEST, why);
    let bytes = timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES_MAX)).await;
    let bytes = bytes.map_err(|_| (StatusCode::REQUEST_TIMEOUT, "the request took too long to arrive".to_owned()))?;
    let bytes = bytes.map_err(|_| bad(format!("the request has more than {BODY_BYTES_MAX} bytes, or broke off")))?;
    let question: Question =
        serde_json::from_slice(&bytes).map_err(|e| bad(format!("the request must be {{\"sql\":\"SELECT …\"}}: {e}")))?;
    config::check_sql(&question.sql).map_err(|why| bad(format!("the query cannot be taken: {why}")))?;
    Ok(question.sql)
}

/// Runs the query on a thread of its own. When this future is dropped (the client went away, the server ends) the query is interrupted.
async fn run(out: PathBuf, config: AdminConfig, sql: String, place: OwnedSemaphorePermit) -> Result<Value, Refused> {
    let running = Arc::<Running>::default();
    let _interrupt = InterruptOnDrop(running.clone());
    let (sender, answered) = oneshot::channel();
    let work = move || {
        let answer = query(&out, &config, &sql, &running);
        // The place first: who hears the answer may ask again at once.
        drop(place);
        let _ = sender.send(answer);
    };
    let failed = || (StatusCode::INTERNAL_SERVER_ERROR, "the query failed inside: see the log".to_owned());
    let spawned = thread::Builder::new().name("pintail-sql".to_owned()).stack_size(STACK_BYTES).spawn(work);
    spawned.map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot start a thread for the query: {e}")))?;
    answered.await.map_err(|_| failed())?.map_err(|error| {
        let status = match error.kind() {
            ErrorKind::Config => StatusCode::BAD_REQUEST,
            ErrorKind::TryAgain => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, error.to_string())
    })
}

fn query(out: &std::path::Path, config: &AdminConfig, sql: &str, running: &Running) -> Result<Value> {
    let begun = Instant::now();
    let too_long = || Error::try_again(format!("the query took longer than {}", humantime::format_duration(config.query_timeout)));
    let left = || config.query_timeout.checked_sub(begun.elapsed()).ok_or_else(too_long);
    let committed = reader::committed_while(out, || left().map(drop))?;
    if committed.files.is_empty() {
        return Err(Error::config("nothing is committed yet"));
    }
    let limits = Limits { rows_max: config.query_rows_max, timeout: left()?, memory_limit: config.query_memory_limit };
    let answer = query_within(&limits, (out, &committed), sql, &|canceller| running.began(canceller));
    // Said of the whole time, not of what was left of it when the query began.
    let answer = answer.map_err(|error| if error.kind() == ErrorKind::TryAgain { too_long() } else { error })?;
    render(&answer, begun)
}

fn render(answer: &Answer, begun: Instant) -> Result<Value> {
    let columns = answer.schema.fields().iter().map(|field| json!({ "name": field.name(), "type": field.data_type().to_string() }));
    let columns: Vec<_> = columns.collect();
    let mut rows = Vec::new();
    let memory: usize = answer.batches.iter().map(|batch| batch.get_array_memory_size()).sum();
    // Looked at before it is made: as JSON it takes several times as much.
    if memory > ANSWER_BYTES_MAX {
        let query = command("query 'SELECT …'");
        return Err(Error::config(format!("the answer has more than {ANSWER_BYTES_MAX} bytes: select less, or use {query}")));
    }
    for batch in &answer.batches {
        rows.extend(values::rows(batch).map_err(|e| Error::internal("cannot write the answer as JSON").with_source(e))?);
    }
    let took_ms = begun.elapsed().as_millis() as u64;
    Ok(json!({ "columns": columns, "rows": rows, "truncated": answer.truncated, "took_ms": took_ms }))
}

/// A query that may have to be ended.
#[derive(Default)]
struct Running(Mutex<Progress>);

#[derive(Default)]
enum Progress {
    /// The records are being read.
    #[default]
    Preparing,
    /// DuckDB is at work.
    Running(Canceller),
    /// Nobody waits for it.
    Unwanted,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn began(&self, canceller: Canceller) {
        let mut progress = self.lock();
        match *progress {
            Progress::Unwanted => canceller.cancel(),
            Progress::Preparing | Progress::Running(_) => *progress = Progress::Running(canceller),
        }
    }
}

struct InterruptOnDrop(Arc<Running>);

impl Drop for InterruptOnDrop {
    fn drop(&mut self) {
        let progress = std::mem::replace(&mut *self.0.lock(), Progress::Unwanted);
        if let Progress::Running(canceller) = progress {
            canceller.cancel();
        }
    }
}
