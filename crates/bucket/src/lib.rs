//! Buckets of S3, GCS and Azure, as the commit protocol uses them.
//!
//! Owns: everything between [`pintail_storage::blob::Blob`] and a provider: the URL of a dataset ([`Location`]), `[storage]` ([`StorageConfig`]), where
//! credentials come from, the HTTP client, what each answer means ([`Fault`](pintail_storage::blob::Fault)), counts of all requests ([`Traffic`]), and
//! the probe that tells whether a provider can be used at all ([`probe()`]).
//! Does not own: the order of requests, how often one is sent again and what follows from an answer (see [`pintail_storage::bucket`]); signatures and
//! the forms of requests (object_store).
//!
//! Reading order: `location`, `config`, `environment` and `profile` (what was asked for), `connect` (a client of object_store for each provider),
//! `http` (the line to the provider, where answers are seen), `meaning` (what they say), `bucket` (the requests), `probe`, `meters`.
//!
//! # Who sends a request again
//! The protocol, and nobody below it. The retries of object_store are switched off, and so are those of reqwest: the protocol counts its time by
//! `Patience`, asks for fresh credentials each time, and must be told of each answer that is unknown. A client that tries again on its own after a 5xx
//! meets its own object and reports that one exists; the protocol would not believe that, but it would pay for it with two more requests. What is left
//! of such clients (proxies, load balancers) is why `Exists` is never an answer by itself.
//!
//! # Where an answer is seen
//! object_store hides the status of most answers behind a text, and control flow must not read texts. So the HTTP client of each store is wrapped: the
//! status, the provider's error code (`<Code>`, `x-ms-error-code`) and `Retry-After` are noted for the request that the task is at, and the body of an
//! error goes no further. No error of object_store is ever shown: they quote URLs (with a SAS in them) and bodies (with the text that was signed).
//!
//! # Redirects
//! None is followed: a PUT that is redirected becomes a GET, whose 200 would say that something was written.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod bucket;
mod config;
mod connect;
mod credentials;
mod environment;
mod http;
mod location;
mod meaning;
mod meters;
mod parts;
mod probe;
mod profile;

pub use bucket::Bucket;
pub use config::{Checksum, Encryption, StorageConfig};
pub use environment::Environment;
pub use http::Client;
pub use location::{Location, Provider};
pub use meters::{BUCKETS_SECONDS, Counted, RequestKind, Traffic};
pub use probe::probe;
