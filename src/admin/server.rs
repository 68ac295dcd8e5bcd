//! Server: connections.
//!
//! Owns: how many there are at a time, how long a client may take to ask and to listen, the end.
//! Does not own: what is answered (see `routes`).

use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::patience::Patience;
use super::{STOP_GRACE, Shared, routes, sampler};
use crate::error::{Error, Result};

/// Connections at the same time; a further one is closed at once. More than the listeners, so that a scrape finds room beside them.
const CONNECTIONS_MAX: usize = 64;
/// Time for the head of a request, and of a connection between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for a client to take anything of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Wait after a connection that could not be accepted: without descriptors, the next one would fail as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves until told to stop.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|e| Error::io("listen for the admin server", e))?;
    tokio::spawn(sampler::run(shared.clone()));
    let router = routes::router(shared);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            () = asked(&mut stopped) => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "the admin server cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = connections.clone().try_acquire_owned() else {
            debug!(limit = CONNECTIONS_MAX, "a connection to the admin server was closed: too many");
            continue;
        };
        let (router, stopped) = (router.clone(), stopped.clone());
        tokio::spawn(async move {
            connection(stream, router, stopped).await;
            drop(place);
        });
    }
    drop(listener);
    // All places are free once all connections have ended.
    let _ = timeout(STOP_GRACE, connections.acquire_many(CONNECTIONS_MAX as u32)).await;
    Ok(())
}

async fn connection(stream: TcpStream, router: Router, mut stopped: watch::Receiver<bool>) {
    let io = TokioIo::new(Patience::new(stream, WRITE_TIMEOUT));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    let mut serving = pin!(builder.serve_connection(io, TowerToHyperService::new(router)));
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = asked(&mut stopped) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        // A client that went away, or was too slow: its affair.
        debug!(%error, "a connection to the admin server broke off");
    }
}

/// Waits until the server is asked to stop, or its owner is gone.
pub(super) async fn asked(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
