//! A pipeline inside another program.
//!
//! Owns: opening and running one line without a terminal, an admin server, signals or a log of its own.
//! Does not own: the line itself (see [`crate::pipeline`]); what `pintail run` does around it (see [`crate::commands::run`]).

use std::sync::Arc;

use pintail_config::Config;
use pintail_core::error::Result;
use pintail_sources::kind::Configured;
use pintail_storage::durable::disk_state::DiskState;
use pintail_storage::durable::posix::Posix;
use tokio::sync::watch;

use crate::meters::Meters;
use crate::pipeline::{Input, Line, Outside, Start, deadline};
use crate::stages::blocking;

/// A pipeline that was set up and not started. See the example `own_source` in the repository.
#[derive(Debug)]
pub struct Pipeline {
    config: Config,
    stop: watch::Receiver<bool>,
}

/// What a pipeline is made of.
#[derive(Debug)]
pub struct Builder {
    pipeline: Pipeline,
}

/// Stops a pipeline: it commits what it has read, and ends. When this is dropped, the pipeline runs on.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Pipeline {
    /// Begins with a configuration.
    pub fn builder(config: Config) -> Builder {
        Builder { pipeline: Self { config, stop: watch::channel(false).1 } }
    }

    /// Opens the dataset and the source, and runs until the input ends or a stop is asked for. Inside a Tokio runtime of several threads. When this
    /// is dropped, it ends as if the process were killed: the next start goes on at the last commit.
    ///
    /// # Errors
    /// As `pintail run`; [`pintail_core::error::ErrorKind`] has the kinds. What is committed stays so.
    pub async fn run(self) -> Result<()> {
        let Self { config, stop } = self;
        let mut deadline = deadline(stop.clone(), config.pipeline.shutdown_timeout);
        let disk = DiskState::default();
        let outside = Outside {
            stop: stop.clone(),
            reload: watch::channel(0).1,
            screen: None,
            meters: Arc::new(Meters::new(disk.clone())),
            admin: None,
            fs: Arc::new(Posix::new(disk.clone())),
            is_own_program: false,
        };
        let opening = blocking("start", move || Line::open(&config, Input::Source, Start::Usual, outside));
        Line::opened(opening, stop, disk, &mut deadline).await?.run(deadline).await
    }
}

impl Builder {
    /// Reads from this source, not from the one that the configuration names. Its keys are the embedding program's own affair; a kind that is given
    /// to [`Config::load_with`] has them in the configuration.
    pub fn source(mut self, source: impl Configured) -> Self {
        self.pipeline.config.source.kind = Arc::new(source);
        self
    }

    /// Ends the pipeline when the handle that is returned says so.
    pub fn stop_handle(mut self) -> (Self, Stop) {
        let (sender, receiver) = watch::channel(false);
        self.pipeline.stop = receiver;
        (self, Stop(Arc::new(sender)))
    }

    /// Returns the pipeline.
    pub fn build(self) -> Pipeline {
        self.pipeline
    }
}

impl Stop {
    /// Asks for the end. What was read until now is committed first.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}
