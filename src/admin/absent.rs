//! The admin server of a program that was built without it.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use pintail_config::{Config, Listen};
use pintail_core::error::{Error, Result};
use tokio::sync::watch;

use crate::meters::Meters;
use crate::pipeline::Input;

/// A server that never runs.
#[derive(Debug)]
pub struct Admin(Infallible);

impl Admin {
    /// Starts nothing.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::Config`] if the user wrote an address to listen on.
    pub fn start(config: &Config, _input: Input, _meters: Arc<Meters>, _draining: watch::Receiver<bool>) -> Result<Option<Self>> {
        Self::reserve(config).map(|_| None)
    }

    /// Takes no address.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn reserve(config: &Config) -> Result<Option<TcpListener>> {
        match config.admin.listen {
            Some(Listen { chosen: true, .. }) => {
                Err(Error::config("`admin.listen`: this program was built without the admin server; build with the feature `admin`"))
            }
            _ => Ok(None),
        }
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        match self.0 {}
    }

    /// Ends the server.
    pub async fn stop(self) {
        match self.0 {}
    }
}
