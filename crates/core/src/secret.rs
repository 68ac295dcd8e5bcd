//! Secrets: texts that no message shows.
//!
//! Owns: what holds one, and how settings and URLs that hold one are told apart and shown.
//! Does not own: where they are read from (see `pintail_config`).

use std::borrow::Cow;
use std::fmt;

use crate::digest::sha256_hex;

/// Keys whose values are never shown.
const SECRETS: [&str; 2] = ["password", "token"];

/// A table whose keys are librdkafka's: any may be a secret.
const FOREIGN: &str = "properties";

/// Returns whether the last part of a key is that of a secret.
pub fn is_secret_key(key: &str) -> bool {
    SECRETS.contains(&key)
}

/// Returns whether a setting `key=value` may hold a secret.
pub fn is_secret(key: &str, value: &str) -> bool {
    let names = |name: &str| SECRETS.contains(&name) || name == FOREIGN;
    let in_key = key.split(['.', '"', ' ']).any(names);
    let in_table = value.trim_start().starts_with('{') && value.split(|c: char| !c.is_alphanumeric() && c != '_').any(names);
    in_key || in_table
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for whoever it is to be shown to.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns whether `given` is the same text. The time it takes says nothing but the length of `given`.
    pub fn is(&self, given: &[u8]) -> bool {
        // Hashes have one length, and whoever guesses cannot choose where theirs begin to differ.
        let (own, given) = (sha256_hex(self.0.as_bytes()), sha256_hex(given));
        own.bytes().zip(given.bytes()).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
    }

    /// Returns the lower-case hexadecimal SHA-256.
    pub fn sha256(&self) -> String {
        sha256_hex(self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Leaves user and password out of a URL: `nats://…@host`.
pub fn without_login(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}").into(),
        None => text.into(),
    }
}
