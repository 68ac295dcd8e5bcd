//! Guard: who may ask for SQL.
//!
//! Owns: what a page of another site could send, the token of the SQL box.
//! Does not own: the check of the host (see `pintail_server::guard`), the SQL's own guard (see `pintail_duckdb`).

use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use pintail_core::secret::Secret;
use pintail_server::guard::{Refusal, bearer};

/// Refuses what a page of another site could send without asking (CSRF): a browser asks before it sends JSON elsewhere, and this server
/// never says yes.
pub(super) fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let json = text(CONTENT_TYPE).and_then(|kind| kind.split(';').next()).map(str::trim);
    if !json.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
        return Err((StatusCode::BAD_REQUEST, "the body must be JSON, with the header Content-Type: application/json"));
    }
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let site = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, site)| site);
    if site.is_some() && site == text(HOST) { Ok(()) } else { Err((StatusCode::FORBIDDEN, "a page of another site may not ask")) }
}

/// Refuses who does not bring the token, if one is set.
pub(super) fn check_token(token: Option<&Secret>, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(token) = token else { return Ok(()) };
    match bearer(headers) {
        Some(given) if token.is(given) => Ok(()),
        Some(_) => Err((StatusCode::UNAUTHORIZED, "the token is not the right one")),
        None => Err((StatusCode::UNAUTHORIZED, "a token is needed, as the header Authorization: Bearer …")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_form_of_another_site_is_refused() {
        let json = ("content-type", "application/json; charset=utf-8");
        assert!(check_origin(&headers(&[json])).is_ok());
        assert!(check_origin(&headers(&[json, ("host", "localhost:9464"), ("origin", "http://localhost:9464")])).is_ok());
        for origin in ["http://evil.example", "null", "http://localhost:80"] {
            let refused = check_origin(&headers(&[json, ("host", "localhost:9464"), ("origin", origin)]));
            assert_eq!(refused.unwrap_err().0, StatusCode::FORBIDDEN, "{origin}");
        }
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
            assert_eq!(check_origin(&headers(&[("content-type", kind)])).unwrap_err().0, StatusCode::BAD_REQUEST, "{kind}");
        }
        assert!(check_origin(&headers(&[])).is_err());
    }
}
