//! Body: a request's bytes on their way in.
//!
//! Owns: its limit as it is sent, the time that it may take, and what becomes of one that is refused.
//! Does not own: what it holds (see `records`).

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::budget::Held;
use super::refusal::Refusal;

/// Of a body that is announced, so much is reserved at once.
const RESERVED_MAX: usize = 256 << 10;

/// Bytes of a refused body that are read all the same, and thrown away: a client that is still sending would otherwise see a broken connection
/// instead of the answer.
const REFUSED_BYTES_MAX: usize = 64 << 20;
/// Time for that.
const REFUSED_TIMEOUT: Duration = Duration::from_secs(1);

/// What a body may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Its bytes as it is sent.
    pub bytes_max: usize,
    /// The time that it takes.
    pub timeout: Duration,
}

/// A body that is coming.
#[derive(Debug)]
pub(super) struct Incoming {
    pieces: BodyDataStream,
    /// Its `Content-Length`.
    announced: Option<u64>,
    /// Whether the client waits to be asked for it.
    waits: bool,
}

impl Incoming {
    /// Takes a request's body and what its head says of it.
    pub(super) fn new(body: Body, headers: &HeaderMap) -> Self {
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let waits = headers.contains_key(EXPECT);
        Self { pieces: body.into_data_stream(), announced, waits }
    }

    /// Receives it whole.
    pub(super) async fn receive(mut self, limits: Limits, held: &mut Held) -> Result<Bytes, Refusal> {
        if self.announced.is_some_and(|bytes| bytes > limits.bytes_max as u64) {
            self.discard().await;
            return Err(too_large(limits));
        }
        match timeout(limits.timeout, self.collect(limits, held)).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(refusal)) => {
                self.waits = false;
                self.discard().await;
                Err(refusal)
            }
            Err(_) => {
                let time = humantime::format_duration(limits.timeout);
                let why = format!("the body did not come within {time} (`source.body_timeout`)");
                Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, why))
            }
        }
    }

    async fn collect(&mut self, limits: Limits, held: &mut Held) -> Result<Bytes, Refusal> {
        let announced = self.announced.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
        let mut all = BytesMut::with_capacity(announced.min(RESERVED_MAX));
        while let Some(piece) = self.pieces.next().await {
            let piece = piece.map_err(|error| Refusal::bad(format!("the body broke off: {error}")))?;
            if all.len() + piece.len() > limits.bytes_max {
                return Err(too_large(limits));
            }
            held.grow(piece.len()).await?;
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// Throws away what a refused client is sending, up to a limit. Who asks before sending is told no by the answer.
    pub(super) async fn discard(mut self) {
        if self.waits {
            return;
        }
        let mut left = REFUSED_BYTES_MAX;
        let reading = async {
            while let Some(Ok(piece)) = self.pieces.next().await {
                left = left.saturating_sub(piece.len());
                if left == 0 {
                    break;
                }
            }
        };
        let _ = timeout(REFUSED_TIMEOUT, reading).await;
    }
}

fn too_large(limits: Limits) -> Refusal {
    let why = format!("the body has more than {} bytes (`source.body_bytes_max`): send it in parts", limits.bytes_max);
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why)
}
