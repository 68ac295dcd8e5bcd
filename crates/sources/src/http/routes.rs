//! Routes: `POST /v1/events`, from the request's head to the answer.
//!
//! Owns: the order of the checks, and what each outcome of the journal is answered with.
//! Does not own: the checks, connections (see [`pintail_server`]).

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use pintail_server::working;
use pintail_storage::journal::{self, AppendError, Journal, Receipt};
use tokio::sync::Semaphore;
use tracing::error;

use super::access::Access;
use super::body::{Incoming, Limits};
use super::budget::{Budget, Held};
use super::compressed::Encoding;
use super::config::HttpConfig;
use super::meter::PushMeter;
use super::records::{self, MediaType, Rules};
use super::refusal::Refusal;
use super::rows::Panics;
use crate::kind::Surroundings;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Bytes of an idempotency key: a UUID has 36.
const KEY_BYTES_MAX: usize = 256;

/// Refused bodies that are read at the same time.
const DISCARDS_MAX: usize = 64;

/// Seconds after which a refused client may come back, where nothing better is known.
const RETRY_SECONDS_MAX: u64 = 30;

/// Everything that a request meets.
#[derive(Debug)]
pub(super) struct Intake {
    access: Access,
    limits: Limits,
    budget: Budget,
    rules: Rules,
    /// Bodies that are cut at the same time: more would only take turns.
    cutters: Semaphore,
    /// Refused bodies that are read to their end at the same time: each has a buffer, and anybody can send one.
    discards: Semaphore,
    journal: Journal,
    meter: Arc<PushMeter>,
    /// Seconds until the journal has probably room again.
    retry_after: u64,
}

impl Intake {
    /// Takes the settings.
    pub(super) fn new(http: &HttpConfig, around: &Surroundings<'_>, address: SocketAddr, journal: Journal, meter: Arc<PushMeter>) -> Self {
        Self {
            access: Access::new(address, &http.tokens),
            limits: Limits { bytes_max: http.body_bytes_max, timeout: http.body_timeout },
            budget: Budget::new(http.bodies_bytes_max),
            rules: Rules {
                decompressed_bytes_max: http.decompressed_bytes_max,
                schema: around.schema.clone(),
                record_bytes_max: around.record_bytes_max,
                panics: Panics::default(),
            },
            cutters: Semaphore::new(around.cores),
            discards: Semaphore::new(DISCARDS_MAX),
            journal,
            meter,
            retry_after: around.checkpoint_interval.as_secs().clamp(1, RETRY_SECONDS_MAX),
        }
    }
}

/// Makes the router.
pub(super) fn router(intake: Arc<Intake>) -> Router {
    Router::new()
        .route("/v1/events", post(events))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "there is nothing here: events go to /v1/events") })
        .method_not_allowed_fallback(|| async { Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "/v1/events takes POST") })
        .layer(from_fn_with_state(intake.clone(), counted))
        .with_state(intake)
}

async fn counted(State(intake): State<Arc<Intake>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    intake.meter.answered(response.status().as_u16());
    response
}

/// What the head of a request says of its body.
#[derive(Debug)]
struct Announced {
    media_type: MediaType,
    encoding: Encoding,
    key: Option<Vec<u8>>,
}

impl Announced {
    fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        if headers.get_all(IDEMPOTENCY_KEY).iter().nth(1).is_some() {
            return Err(Refusal::bad("a request has one Idempotency-Key"));
        }
        let key = match headers.get(IDEMPOTENCY_KEY).map(|key| key.as_bytes()) {
            Some(key) if key.is_empty() || key.len() > KEY_BYTES_MAX => {
                return Err(Refusal::bad(format!("an Idempotency-Key has 1 to {KEY_BYTES_MAX} characters")));
            }
            key => key.map(<[u8]>::to_vec),
        };
        Ok(Self { media_type: MediaType::parse(text(CONTENT_TYPE))?, encoding: Encoding::parse(text(CONTENT_ENCODING))?, key })
    }
}

async fn events(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = Incoming::new(body, &head.headers);
    let announced = match intake.access.check(&head.uri, &head.headers).and_then(|()| Announced::read(&head.headers)) {
        Ok(announced) => announced,
        Err(refusal) => {
            if let Ok(_turn) = intake.discards.try_acquire() {
                body.discard().await;
            }
            return refusal.into_response();
        }
    };
    // Whoever may send is not sent away for another. A client without a token is: it holds its place only as long as nobody else wants it.
    let _working = working(&head.extensions);
    let mut held = intake.budget.hold();
    let received = match body.receive(intake.limits, &mut held).await {
        Ok(received) => received,
        Err(refusal) => return refusal.into_response(),
    };
    // Carried out to its end also if the client goes away: what waits for the journal stays counted.
    let taking = tokio::spawn(take(intake, received, announced, held));
    match taking.await {
        Ok(Ok(Receipt { offset, records })) => {
            let answer = format!("{{\"accepted\":{records},\"offset\":{offset}}}\n");
            (StatusCode::OK, [(CONTENT_TYPE, "application/json")], answer).into_response()
        }
        Ok(Err(refusal)) => refusal.into_response(),
        Err(failure) => internal(&failure).into_response(),
    }
}

/// Cuts a body into records and appends them.
async fn take(intake: Arc<Intake>, body: bytes::Bytes, announced: Announced, mut held: Held) -> Result<Receipt, Refusal> {
    let (request, _held) = {
        let _turn = intake.cutters.acquire().await.expect("never closed");
        let intake = intake.clone();
        let cutting = tokio::task::spawn_blocking(move || {
            let cut = records::cut(body, announced.media_type, announced.encoding, &intake.rules, &mut held)?;
            let key = announced.key.as_deref();
            let request = || journal::Request::new(cut.form, cut.records, cut.body, key).with_former(cut.former);
            Ok(((cut.records > 0 || key.is_some()).then(request), held))
        });
        cutting.await.map_err(|failure| internal(&failure))??
    };
    // Nothing to remember: neither records nor a key.
    let Some(request) = request else { return Ok(Receipt { offset: intake.journal.end(), records: 0 }) };
    let receipt = intake.journal.append(request).await.map_err(|error| refusal(error, intake.retry_after))?;
    intake.meter.accepted(receipt.records);
    Ok(receipt)
}

fn refusal(error: AppendError, retry_after: u64) -> Refusal {
    match error {
        AppendError::Conflict => {
            let why = "this Idempotency-Key came with another body before: nothing of this one is kept";
            Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, why)
        }
        AppendError::Full => {
            let why = "the journal is full until the next checkpoint (`source.journal_bytes_max`): nothing of this request is kept";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why).retry_after(retry_after)
        }
        AppendError::NoRoom => {
            let why = "the disk is full: nothing of this request is kept";
            Refusal::new(StatusCode::INSUFFICIENT_STORAGE, why).retry_after(retry_after)
        }
        AppendError::Stopped => {
            let why = "the service is stopping; whether this request is kept is not known: send it again with the same Idempotency-Key";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, why).retry_after(retry_after)
        }
    }
}

fn internal(failure: &tokio::task::JoinError) -> Refusal {
    error!(%failure, "a request could not be taken");
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "this request could not be taken: nothing of it is kept")
}
