//! Access: who may send.
//!
//! Owns: the tokens, of which any one is good.
//! Does not own: where they come from (see `pintail_config`).

use std::net::SocketAddr;

use axum::http::{HeaderMap, StatusCode, Uri};
use pintail_core::digest::sha256_hex;
use pintail_core::secret::Secret;
use pintail_server::guard;
use subtle::{Choice, ConstantTimeEq};

use super::refusal::Refusal;

/// Who may send.
#[derive(Debug)]
pub(super) struct Access {
    address: SocketAddr,
    /// Their hashes: all of one length, and whoever guesses cannot choose where theirs begin to differ.
    tokens: Vec<String>,
}

impl Access {
    /// Takes the tokens; without any, everybody who reaches `address` may send, but for pages in a browser.
    pub(super) fn new(address: SocketAddr, tokens: &[Secret]) -> Self {
        Self { address, tokens: tokens.iter().map(Secret::sha256).collect() }
    }

    /// Refuses who may not. The time it takes says nothing of the tokens.
    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.tokens.is_empty() {
            return guard::check_host(self.address, uri, headers).map_err(|(status, why)| Refusal::new(status, why));
        }
        let refused = |why| Err(Refusal::new(StatusCode::UNAUTHORIZED, why));
        let Some(given) = guard::bearer(headers) else { return refused("a token is needed, as the header Authorization: Bearer …") };
        let given = sha256_hex(given);
        let good = self.tokens.iter().fold(Choice::from(0), |good, token| good | token.as_bytes().ct_eq(given.as_bytes()));
        if good.into() { Ok(()) } else { refused("the token is not the right one") }
    }
}
