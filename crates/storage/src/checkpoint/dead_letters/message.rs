//! What a broker said beside a rejected message, as JSON.
//!
//! Owns: the form. What is no UTF-8 stands in base64, under a name that says so.
//! Does not own: the payload, and the line that this is a part of.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use pintail_core::messages::Envelope;
use serde::{Deserialize, Serialize};

/// A message without its payload.
#[derive(Serialize, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partition: Option<i32>,
    /// Where that is not the offset of the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timestamp_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(Cow<'a, str>, Option<Value<'a>>)>,
}

/// The value of a header.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Value<'a> {
    Text(Cow<'a, str>),
    Binary { base64: String },
}

impl<'a> Message<'a> {
    pub(super) fn new(envelope: &'a Envelope) -> Self {
        let key = envelope.key.as_deref();
        let text = key.and_then(|key| std::str::from_utf8(key).ok());
        Self {
            topic: envelope.topic.as_deref().map(Into::into),
            partition: envelope.partition,
            offset: envelope.offset,
            timestamp_ms: envelope.timestamp_ms,
            key: text.map(Into::into),
            key_base64: key.filter(|_| text.is_none()).map(|key| BASE64_STANDARD.encode(key)),
            headers: envelope.headers.iter().map(|(name, value)| (name.into(), value.map(Value::new))).collect(),
        }
    }

    /// Returns the message.
    ///
    /// # Errors
    /// What in it is not of this form.
    pub(super) fn envelope(self) -> Result<Envelope, String> {
        let key = match (self.key, self.key_base64) {
            (None, None) => None,
            (Some(key), None) => Some(Bytes::from(key.into_owned())),
            (None, Some(key)) => Some(decode(&key)?),
            (Some(_), Some(_)) => return Err("it must not have both `key` and `key_base64`".into()),
        };
        let headers = self.headers.into_iter().map(|(name, value)| Ok((name, value.map(Value::bytes).transpose()?)));
        Ok(Envelope {
            topic: self.topic.map(Into::into),
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key,
            headers: headers.collect::<Result<_, String>>()?,
        })
    }
}

impl<'a> Value<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.into()),
            Err(_) => Self::Binary { base64: BASE64_STANDARD.encode(bytes) },
        }
    }

    fn bytes(self) -> Result<Bytes, String> {
        match self {
            Self::Text(text) => Ok(Bytes::from(text.into_owned())),
            Self::Binary { base64 } => decode(&base64),
        }
    }
}

/// Reads base64.
pub(super) fn decode(base64: &str) -> Result<Bytes, String> {
    BASE64_STANDARD.decode(base64).map(Bytes::from).map_err(|e| format!("no base64: {e}"))
}
