//! Server: HTTP/1.1 connections, plain or with TLS. The admin server and the HTTP source stand on it.
//!
//! Owns: how many connections there are at a time and which one makes room, how long a client may take to ask and to listen, the end.
//! Does not own: what is answered (a router says), threads and runtimes, how long a body may take.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests do to files what others do"))]

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use pintail_core::error::{Error, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use patience::Patience;
use places::{Place, Places};

pub mod guard;
mod patience;
mod places;
pub mod tls;

pub use places::{Working, working};

/// Wait after a connection that could not be accepted: without descriptors, the next one would fail as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What clients may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What the log calls the server.
    pub name: &'static str,
    /// Connections at the same time. A further one takes the place of the one that has had no request in work for the longest time.
    pub connections_max: usize,
    /// What happens to a further one if all have work.
    pub further: Further,
    /// Time for a TLS handshake, for the head of a request, and of a connection between two requests.
    pub head_timeout: Duration,
    /// Time for a client to take anything of an answer.
    pub write_timeout: Duration,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// Bytes read at a time.
    pub read_bytes_max: usize,
    /// Time for answers that are under way when the server ends.
    pub stop_grace: Duration,
}

/// What happens to a connection beyond the limit if all others have work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Further {
    /// It is closed at once.
    Close,
    /// It waits, and those after it in the kernel's queue, until another ends or has no more work.
    Wait,
}

/// Listens on the address that the setting `key` has. `or_else` says what else than another port would help.
///
/// # Errors
/// `TryAgain` if another process has it, else `Config`.
pub fn listen(key: &str, address: SocketAddr, or_else: &str) -> Result<TcpListener> {
    let bound = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            Error::try_again(format!("`{key}` = \"{address}\" is taken by another process: choose another port{or_else}"))
        }
        _ => Error::config(format!("`{key}` = \"{address}\" cannot be listened on: {error}")),
    })
}

/// Serves until told to stop, and until what was asked by then is answered or the grace is over.
///
/// # Errors
/// If the listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) -> Result<()> {
    let name = limits.name;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(|e| Error::io(format_args!("listen for the {name}"), e))?;
    let places = Places::new(limits.connections_max);
    loop {
        let (stream, place) = tokio::select! {
            biased;
            () = asked(&mut stopped) => break,
            accepted = accept(&listener, &places, limits) => accepted,
        };
        let Some(place) = place else {
            debug!(name, limit = limits.connections_max, "a connection was closed: all others have work");
            continue;
        };
        let (router, tls, stopped) = (router.clone(), tls.clone(), stopped.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = accepted(stream, tls, router, limits, &place, stopped) => {}
                () = place.evicted() => debug!(name, "a connection without a request was closed: another one came"),
            }
        });
        // A new connection gets its turn to ask before the next one is accepted, however many wait.
        yield_now().await;
    }
    drop(listener);
    let _ = timeout(limits.stop_grace, places.empty()).await;
    Ok(())
}

/// Waits for a connection, and for a place if the limit says so. Safe to cancel.
async fn accept(listener: &tokio::net::TcpListener, places: &Arc<Places>, limits: Limits) -> (TcpStream, Option<Place>) {
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let place = match limits.further {
                    Further::Wait => Some(places.take().await),
                    Further::Close => places.try_take().await,
                };
                return (stream, place);
            }
            Err(error) => {
                if !failing {
                    warn!(name = limits.name, %error, "a connection cannot be accepted");
                }
                failing = true;
                // Whatever is short (descriptors, memory), a connection that asks nothing has some of it.
                places.evict();
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accepted(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    place: &Place,
    stopped: watch::Receiver<bool>,
) {
    // An answer is one short write, and is waited for.
    let _ = stream.set_nodelay(true);
    let stream = Patience::new(stream, limits.write_timeout);
    let Some(tls) = tls else { return connection(stream, router, limits, place, stopped).await };
    match timeout(limits.head_timeout, tls.accept(stream)).await {
        Ok(Ok(stream)) => connection(stream, router, limits, place, stopped).await,
        Ok(Err(error)) => debug!(name = limits.name, %error, "a TLS handshake failed"),
        Err(_) => debug!(name = limits.name, "a TLS handshake took too long"),
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    limits: Limits,
    place: &Place,
    mut stopped: watch::Receiver<bool>,
) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout);
    builder.max_header_size(limits.head_bytes_max).max_buf_size(limits.read_bytes_max);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        place.carry(request.extensions_mut());
        router.call(request)
    });
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = asked(&mut stopped) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = served {
        // A client that went away, or was too slow: its affair.
        debug!(name = limits.name, %error, "a connection broke off");
    }
}

/// Waits until the server is asked to stop, or its owner is gone.
pub async fn asked(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
