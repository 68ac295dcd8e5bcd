//! Server: the limits of the admin server's connections.
//!
//! Owns: how many may ask, and how long they may take.
//! Does not own: the connections (see [`pintail_server`]), what is answered (see `routes`).

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use pintail_core::error::Result;
use pintail_server::{Further, Limits};
use tokio::sync::watch;

use super::{STOP_GRACE, Shared, routes, sampler};

/// Bytes of a request's head, and of what is read at a time.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// The limits of so many connections.
const fn limits(connections_max: usize) -> Limits {
    Limits {
        name: "admin server",
        connections_max,
        further: Further::Close,
        head_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(10),
        head_bytes_max: HEAD_BYTES_MAX,
        read_bytes_max: HEAD_BYTES_MAX,
        stop_grace: STOP_GRACE,
    }
}

/// Serves until told to stop.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>, stopped: watch::Receiver<bool>) -> Result<()> {
    tokio::spawn(sampler::run(shared.clone()));
    let limits = limits(shared.config.connections_max);
    pintail_server::serve(listener, routes::router(shared), None, limits, stopped).await
}
