//! Guard: who may ask, as far as every server here has to know.
//!
//! Owns: keeping pages of other sites out (a browser on this machine reaches what listens on loopback), finding the token of a request.
//! Does not own: whether a token is the right one.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, StatusCode, Uri};

/// Why a request is refused.
pub type Refusal = (StatusCode, &'static str);

/// Refuses a name that a foreign site has pointed at this machine (DNS rebinding). Only a loopback listener can tell: others are reached
/// by names that nobody here knows.
///
/// A request with more than one is refused by every listener, as RFC 9112 asks: what stands before this server may go by another of them.
pub fn check_host(listener: SocketAddr, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.get_all(HOST).iter().nth(1).is_some() {
        return Err((StatusCode::BAD_REQUEST, "a request has one Host"));
    }
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

/// Returns the token that a request brings, as the header `Authorization: Bearer …`.
pub fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let given = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let given = given.and_then(|value| value.split_at_checked(7)).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "));
    given.map(|(_, token)| token)
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
        let mut two = headers(&[("host", "localhost")]);
        two.append(HOST, "127.0.0.1".parse().unwrap());
        assert!([loopback, open].iter().all(|listener| check_host(*listener, &uri, &two).is_err()));
        assert!(check_host(loopback, &Uri::from_static("http://evil.example/"), &headers(&[("host", "localhost")])).is_err());
    }

    #[test]
    fn a_token_is_what_follows_bearer_in_any_case_and_nothing_else() {
        let token = |value: &str| bearer(&headers(&[("authorization", value)])).map(<[u8]>::to_vec);
        assert_eq!(token("Bearer abc").as_deref(), Some(&b"abc"[..]));
        assert_eq!(token("bEARER abc").as_deref(), Some(&b"abc"[..]));
        for other in ["abc", "Basic abc", "Bearer", "Bearerabc", ""] {
            assert_eq!(token(other), None, "{other}");
        }
    }
}
