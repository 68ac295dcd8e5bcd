//! Routes: which path answers what.
//!
//! Owns: paths, status codes, headers, the stream of events.
//! Does not own: the figures (see `status`, `metrics`, [`crate::health`]), connections (see `pintail_server`).

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use pintail_server::{Working, asked, guard, working};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::page::{ASSETS, Asset};
use super::{Shared, metrics, sql, status};

/// Checkpoints in an answer that names no limit.
const CHECKPOINTS: usize = 50;

/// Everything is this server's own, and nothing is written into the page itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// Makes the router.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/status", get(api_status))
        .route("/api/checkpoints", get(api_checkpoints))
        .route("/api/history", get(api_history))
        .route("/api/events", get(api_events))
        .route("/api/query", post(sql::answer))
        .fallback(|| async { error(StatusCode::NOT_FOUND, "there is nothing here: the paths are listed at /") })
        .method_not_allowed_fallback(|| async {
            error(StatusCode::METHOD_NOT_ALLOWED, "not with this method: /api/query takes POST, all others GET")
        });
    for Asset { path, content_type, bytes } in ASSETS {
        router = router.route(path, get(move || async move { ([(CONTENT_TYPE, *content_type), (CACHE_CONTROL, "no-cache")], *bytes) }));
    }
    router.layer(from_fn_with_state(shared.clone(), guarded)).with_state(shared)
}

/// Asks the guard first; puts on every answer what keeps a browser from misusing it.
async fn guarded(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let mut response = match guard::check_host(shared.facts.address, request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err((status, why)) => error(status, why),
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Answers with JSON.
pub(super) fn json(status: StatusCode, value: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// Answers with what is wrong, in one sentence.
pub(super) fn error(status: StatusCode, why: impl AsRef<str>) -> Response {
    json(status, &json!({ "error": why.as_ref() }))
}

async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    let dead = shared.health.dead();
    json(available(dead.is_empty()), &json!({ "alive": dead.is_empty(), "dead": dead }))
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let reasons = shared.health.not_ready();
    let state = shared.health.state().name();
    let verified = status::verified(&shared);
    let answer = json!({
        "ready": reasons.is_empty(), "state": state, "not_ready": reasons, "verified": verified, "waiting_inputs": status::waiting(&shared),
    });
    json(available(reasons.is_empty()), &answer)
}

fn available(well: bool) -> StatusCode {
    if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match metrics::text(&shared) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(failure) => error(StatusCode::INTERNAL_SERVER_ERROR, failure.to_string()),
    }
}

async fn api_status(State(shared): State<Arc<Shared>>) -> Response {
    json(StatusCode::OK, &status::status(&shared))
}

async fn api_checkpoints(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let limit = uri.query().into_iter().flat_map(|query| query.split('&')).find_map(|pair| pair.strip_prefix("limit="));
    match limit.map_or(Ok(CHECKPOINTS), str::parse) {
        Ok(limit) => json(StatusCode::OK, &status::checkpoints(&shared, limit)),
        Err(_) => error(StatusCode::BAD_REQUEST, "limit must be a number, such as /api/checkpoints?limit=50"),
    }
}

async fn api_history(State(shared): State<Arc<Shared>>) -> Response {
    json(StatusCode::OK, &status::history(&shared))
}

/// What a listener holds.
struct Listener {
    events: watch::Receiver<Arc<str>>,
    stopped: watch::Receiver<bool>,
    first: Option<Arc<str>>,
    _place: OwnedSemaphorePermit,
    _working: Working,
}

/// Sends the status now and then once a second. A listener that is slow misses some; one that takes nothing is dropped (see `patience`).
async fn api_events(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let Ok(place) = shared.listeners.clone().try_acquire_owned() else {
        return error(StatusCode::TOO_MANY_REQUESTS, "too many listen already: ask for /api/status");
    };
    let first = Some(status::status(&shared).to_string().into());
    let (events, stopped, _working) = (shared.events.subscribe(), shared.stopped.clone(), working(request.extensions()));
    let listener = Listener { events, stopped, first, _place: place, _working };
    let events = stream::unfold(listener, |mut listener| async move {
        let status = match listener.first.take() {
            Some(status) => status,
            None => tokio::select! {
                () = asked(&mut listener.stopped) => return None,
                changed = listener.events.changed() => changed.ok().map(|()| listener.events.borrow_and_update().clone())?,
            },
        };
        let event = Bytes::from(format!("event: status\ndata: {status}\n\n"));
        Some((Ok::<_, Infallible>(event), listener))
    });
    ([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")], Body::from_stream(events)).into_response()
}
