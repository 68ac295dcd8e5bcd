//! Guard: who may ask.
//!
//! Owns: keeping pages of other sites out (a browser on this machine reaches what listens on loopback), the token of the SQL box.
//! Does not own: the SQL's own guard (see `engine::statement`).

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode, Uri};

use crate::config::Secret;

/// Why a request is refused.
pub(super) type Refusal = (StatusCode, &'static str);

/// Refuses a name that a foreign site has pointed at this machine (DNS rebinding). Only a loopback listener can tell: others are reached
/// by names that nobody here knows.
pub(super) fn check_host(listener: SocketAddr, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    if !listener.ip().is_loopback() {
        return Ok(());
    }
    let header = headers.get(HOST).map(|host| host.to_str().unwrap_or("?"));
    match uri.authority().map(|authority| authority.as_str()).or(header) {
        // HTTP/1.0 knows no Host; a browser always sends it.
        None => Ok(()),
        Some(host) if is_own(host) => Ok(()),
        Some(_) => {
            Err((StatusCode::FORBIDDEN, "this server listens on loopback and answers only to an address or to localhost as its Host"))
        }
    }
}

fn is_own(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

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
    let given = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let given = given.and_then(|value| value.split_at_checked(7)).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "));
    match given {
        Some((_, given)) if token.is(given) => Ok(()),
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
    fn a_loopback_listener_answers_to_addresses_and_localhost_and_to_no_other_name() {
        let (loopback, open): (SocketAddr, SocketAddr) = ("127.0.0.1:9464".parse().unwrap(), "0.0.0.0:9464".parse().unwrap());
        let uri = Uri::from_static("/metrics");
        let asked = |listener, host: &str| check_host(listener, &uri, &headers(&[("host", host)])).is_ok();
        for host in ["127.0.0.1:9464", "localhost:9464", "LOCALHOST", "[::1]:9464", "127.0.0.1", "10.0.0.7:80"] {
            assert!(asked(loopback, host), "{host}");
        }
        for host in ["evil.example:9464", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "["] {
            assert!(!asked(loopback, host), "{host}");
            assert!(asked(open, host), "{host}");
        }
        assert!(check_host(loopback, &Uri::from_static("http://evil.example/"), &headers(&[("host", "localhost")])).is_err());
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
