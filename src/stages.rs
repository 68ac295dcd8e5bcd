//! The stages of the line, one Tokio task each: five, and the trier at a start that may meet a record which ends the process.
//!
//! A stage is a struct with its receiver, its sender and a `run` that ends when its input ends or its output closes. It returns an
//! error only for a failure of its own; a neighbour that is gone is reported by that neighbour.

pub(crate) mod batcher;
pub(crate) mod monitor;
pub(crate) mod outlet;
pub(crate) mod producer;
pub(crate) mod transform;
pub(crate) mod transformer;
pub(crate) mod trier;
pub(crate) mod writer;

use std::future::{Future, pending};

use pintail_core::error::{Error, Result};
use pintail_core::panics;
use tokio::sync::watch;

/// Runs blocking work of a stage to its end on the blocking pool. Started at the call, whether or not the future is polled.
///
/// # Errors
/// The work's own, or [`pintail_core::error::ErrorKind::Internal`] with the panic's message.
pub(crate) fn blocking<T, F>(stage: &'static str, work: F) -> impl Future<Output = Result<T>> + Send + use<T, F>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let handle = tokio::task::spawn_blocking(work);
    async move {
        match handle.await {
            Ok(result) => result,
            Err(failure) => Err(panicked(stage, failure)),
        }
    }
}

/// Waits until the line shall stop; for ever if nobody is left who could say so.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        pending().await
    }
}

/// Turns the end of a task that did not return into the error that names the stage and the panic's message.
pub(crate) fn panicked(stage: &str, failure: tokio::task::JoinError) -> Error {
    match failure.try_into_panic() {
        Ok(payload) => Error::internal(format!("the {stage} panicked: {}", panics::words(&*payload).unwrap_or("no message"))),
        Err(_) => Error::internal(format!("the {stage} was cancelled")),
    }
}
