//! The admin server: what the service says of itself, over HTTP.
//!
//! Owns: its own thread and runtime, so that neither holds the line up and a line that hangs can still be asked; the figures that follow
//! from the meters.
//! Does not own: the meters (see [`crate::meters`]; the stages write them), the page's looks (`page/`).
//!
//! | path | answers |
//! |---|---|
//! | `/healthz`, `/readyz` | 200 or 503 with the reasons, as JSON |
//! | `/metrics` | Prometheus' text format |
//! | `/api/status`, `/api/checkpoints`, `/api/history` | figures as JSON; `/api/events` sends the status once a second |
//! | `/api/query` | SQL over the committed files, if `admin.query` is on |
//! | `/` | the page |
//!
//! | file | holds |
//! |---|---|
//! | `server` | the limits of its connections (see [`pintail_server`]) |
//! | `routes`, `guard`, `page` | who may ask what, and the static files |
//! | `status`, `metrics` | what is answered, beside health (see [`crate::health`]) |
//! | `sampler`, `earlier` | what must be noted before it can be asked for: the last minutes, the records of earlier processes |
//! | `sql` | the SQL box, whose statements run in a process of their own (see [`crate::sql_box`]) |

mod earlier;
mod guard;
mod metrics;
mod page;
mod routes;
mod sampler;
mod server;
mod sql;
mod status;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use pintail_config::{AdminConfig, Config, Listen, MonitorConfig};
use pintail_core::error::{Error, Result};
use pintail_core::invocation::command;
use pintail_storage::checkpoint::lock::{self, Seen};
use pintail_storage::checkpoint::paths::Paths;
use tokio::sync::{Semaphore, oneshot, watch};
use tracing::{info, warn};

use crate::health::Health;
use crate::meters::Meters;
use crate::pipeline::Input;
use sampler::Sampler;

/// Time for answers that are under way when the service ends.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// Those who listen to `/api/events` at the same time.
const LISTENERS_MAX: usize = 16;
/// Queries at the same time: a second one would take a second core from the line.
const QUERIES_MAX: usize = 1;
/// Answers of queries that clients are still reading: each is held in memory until then.
const ANSWERS_MAX: usize = 4;

/// The running server. Ends when dropped; [`Admin::stop`] waits for it.
pub struct Admin {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

impl Admin {
    /// Starts the server; `None` if it is off, or if its default address is taken: several lines may run on one machine, and none of
    /// them must fail for want of an address that nobody asked for.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::TryAgain`] if an address that the user wrote is taken, `Config` if there is no such address here.
    pub fn start(config: &Config, input: Input, meters: Arc<Meters>, draining: watch::Receiver<bool>) -> Result<Option<Self>> {
        let Some(listen) = config.admin.listen else { return Ok(None) };
        let Some(listener) = bind(listen)? else { return Ok(None) };
        let failed = |e| Error::io("start the admin server", e);
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = watch::channel(false);
        let (ending, ended) = oneshot::channel();
        let shared = Arc::new(Shared::new(config, input, meters, draining, stopped.clone(), address));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let serve = move || {
            let served = runtime.block_on(server::serve(listener, shared, stopped));
            runtime.shutdown_background();
            if let Err(error) = served {
                warn!(%error, "the admin server has ended");
            }
            let _ = ending.send(());
        };
        thread::Builder::new().name("pintail-admin".to_owned()).spawn(serve).map_err(failed)?;
        info!(%address, "admin server listens");
        if config.admin.query && config.admin.query_token.is_none() {
            info!("whoever reaches the admin server may query the committed files: admin.query_token asks for a token");
        }
        Ok(Some(Self { address, stop, ended }))
    }

    /// Takes the address that the user wrote, to see whether it can be had; none that is the default, and none if a running service of the dataset
    /// may have it.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn reserve(config: &Config) -> Result<Option<TcpListener>> {
        let Some(listen) = config.admin.listen.filter(|listen| listen.chosen) else { return Ok(None) };
        match bind(listen) {
            Err(_) if matches!(lock::look(config.local_paths()), Ok(Seen::Held { .. })) => Ok(None),
            bound => bound,
        }
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends the server; answers that are under way get a moment.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = tokio::time::timeout(STOP_GRACE, self.ended).await;
    }
}

fn bind(listen: Listen) -> Result<Option<TcpListener>> {
    let Listen { address, chosen } = listen;
    match pintail_server::listen("admin.listen", address, ", or \"\" for no admin server") {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if !chosen => {
            warn!(%address, %error, "no admin server: its default address cannot be had; set admin.listen, \"\" switches it off");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What all answers are made of.
struct Shared {
    meters: Arc<Meters>,
    config: AdminConfig,
    facts: Facts,
    health: Health,
    /// Whether the server was asked to stop.
    stopped: watch::Receiver<bool>,
    sampler: Mutex<Sampler>,
    /// The status of the last second, if somebody listens.
    events: watch::Sender<Arc<str>>,
    listeners: Arc<Semaphore>,
    queries: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

/// What the configuration says and answers repeat.
struct Facts {
    address: SocketAddr,
    paths: Paths,
    is_in_bucket: bool,
    source: &'static str,
    checkpoint_interval: Duration,
    monitor: MonitorConfig,
}

impl Shared {
    fn new(
        config: &Config,
        input: Input,
        meters: Arc<Meters>,
        draining: watch::Receiver<bool>,
        stopped: watch::Receiver<bool>,
        address: SocketAddr,
    ) -> Self {
        let source = match input {
            Input::DeadLetters => "dead_letters",
            Input::Source => config.source.kind.name(),
        };
        let facts = Facts {
            address,
            paths: config.paths(),
            is_in_bucket: config.is_in_bucket(),
            source,
            checkpoint_interval: config.pipeline.checkpoint_interval,
            monitor: config.monitor.clone(),
        };
        // The options of this process are for those on its host alone.
        let accept = match address.ip().is_loopback() {
            true => command("dead-letters --accept"),
            false => "`pintail dead-letters --accept` with the options of the service".to_owned(),
        };
        Self {
            health: Health::new(config, meters.clone(), draining, accept),
            sampler: Mutex::new(Sampler::new(&meters)),
            meters,
            config: config.admin.clone(),
            facts,
            stopped,
            events: watch::Sender::new("".into()),
            listeners: Arc::new(Semaphore::new(LISTENERS_MAX)),
            queries: Arc::new(Semaphore::new(QUERIES_MAX)),
            answers: Arc::new(Semaphore::new(ANSWERS_MAX)),
        }
    }

    fn sampler(&self) -> MutexGuard<'_, Sampler> {
        self.sampler.lock()
    }
}
