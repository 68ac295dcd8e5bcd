//! HTTP push: records that others send.
//!
//! Owns: the source over the journal, the server's life (it listens once the dataset is recovered), the end: what is in flight is answered
//! first, what is journaled by then goes with the last checkpoint if it is there in time.
//! Does not own: batching and decoding, as no source does; the page and the health checks (see `admin`).
//!
//! ```text
//!   POST /v1/events ──▶ routes ──▶ body ──▶ records ──▶ journal ──▶ 200 {"accepted":n,"offset":…}
//!                      (who may)  (limits)  (blocking)    │ fsync
//!                                                         └──▶ chunks ──▶ the line ──▶ commit ──▶ segments go
//! ```
//!
//! | file | holds |
//! |---|---|
//! | `routes`, `access`, `refusal` | who may ask, what is answered |
//! | `body`, `budget` | a body on its way in, and the memory of all of them |
//! | `records`, `json`, `compressed`, `rows` | a body cut into records, on a blocking thread |
//! | `pintail_storage::journal` | the records on the disk, and what was answered |
//! | `chunks` | the journal read for the line |
//! | `meter` | what can be seen of it |

#[cfg(feature = "http")]
mod access;
#[cfg(feature = "http")]
mod body;
#[cfg(feature = "http")]
mod budget;
#[cfg(feature = "http")]
mod chunks;
#[cfg(feature = "http")]
mod compressed;
pub mod config;
#[cfg(feature = "http")]
mod json;
#[cfg(feature = "http")]
mod meter;
#[cfg(feature = "http")]
mod records;
#[cfg(feature = "http")]
mod refusal;
#[cfg(feature = "http")]
mod routes;
#[cfg(feature = "http")]
mod rows;
#[cfg(feature = "http")]
mod source;

#[cfg(feature = "http")]
pub use source::HttpSource;

pub(crate) use config::KIND;
