//! Refusal: why a request is not taken, as a status and a sentence.
//!
//! Owns: the form of every answer that is not 200.
//! Does not own: the reasons.

use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Where in a body something is wrong, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The line.
    pub line: usize,
    /// The character in it, counted in bytes.
    pub column: usize,
}

/// Why a request is not taken. Nothing of it is kept, unless the sentence says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    why: String,
    place: Option<Place>,
    retry_after: Option<u64>,
}

impl Refusal {
    /// Says why.
    pub(super) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), place: None, retry_after: None }
    }

    /// Says of a body why it cannot be cut into records.
    pub(super) fn bad(why: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why)
    }

    /// Adds where.
    pub(super) fn at(mut self, line: usize, column: usize) -> Self {
        self.place = Some(Place { line, column });
        self
    }

    /// Adds after how many seconds it may be tried again.
    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Returns the status.
    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the place.
    #[cfg(test)]
    pub(super) fn place(&self) -> Option<(usize, usize)> {
        self.place.map(|place| (place.line, place.column))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = match self.place {
            Some(Place { line, column }) => json!({ "error": self.why, "line": line, "column": column }),
            None => json!({ "error": self.why }),
        };
        let mut response = (self.status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        match self.status {
            StatusCode::UNAUTHORIZED => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            // The rest of the body is not waited for.
            StatusCode::REQUEST_TIMEOUT => drop(headers.insert(CONNECTION, HeaderValue::from_static("close"))),
            _ => {}
        }
        response
    }
}
