//! The running stages of a line.
//!
//! Owns: waiting for all of them, the one root cause of a failure, bringing the others down after it.
//! Does not own: the stages, the deadline of a stop (see [`super`]).

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use pintail_core::error::Result;
use tokio::task::JoinSet;
use tracing::{error, warn};

use crate::stages::panicked;

/// The stage that shows figures: it ends last, and is not waited for long.
pub(super) const MONITOR: &str = "monitor";
/// The stage that reads the source: it ends first.
pub(super) const PRODUCER: &str = "producer";

/// After a failure, stages that do not end are not waited for longer than this.
const FAILURE_GRACE: Duration = Duration::from_secs(5);
/// A terminal that stands still is not waited for longer than this.
const MONITOR_GRACE: Duration = Duration::from_millis(500);

/// The running stages.
pub(super) struct Tasks {
    set: JoinSet<Result<()>>,
    names: HashMap<tokio::task::Id, &'static str>,
    producer: Option<tokio::task::AbortHandle>,
}

impl Tasks {
    pub(super) fn spawn(stages: Vec<(&'static str, BoxFuture<'static, Result<()>>)>) -> Self {
        let mut tasks = Self { set: JoinSet::new(), names: HashMap::new(), producer: None };
        for (name, stage) in stages {
            let handle = tasks.set.spawn(stage);
            tasks.names.insert(handle.id(), name);
            if name == PRODUCER {
                tasks.producer = Some(handle);
            }
        }
        tasks
    }

    /// Waits for all stages, or for the first failure.
    pub(super) async fn join(&mut self) -> Result<()> {
        while let Some((name, result)) = self.next().await {
            result?;
            let only_monitor_left = self.names.len() == 1 && self.names.values().all(|name| *name == MONITOR);
            if only_monitor_left && name != MONITOR {
                return match tokio::time::timeout(MONITOR_GRACE, self.next()).await {
                    Ok(Some((_, result))) => result,
                    Ok(None) => Ok(()),
                    Err(_) => {
                        warn!("the terminal does not take the last figures");
                        Ok(())
                    }
                };
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Option<(&'static str, Result<()>)> {
        let joined = self.set.join_next_with_id().await?;
        let (id, result) = match joined {
            Ok((id, result)) => (id, result),
            Err(failure) => {
                let name = self.names.get(&failure.id()).copied().unwrap_or("line");
                (failure.id(), Err(panicked(name, failure)))
            }
        };
        Some((self.names.remove(&id).unwrap_or("line"), result))
    }

    /// Ends the stages after a failure. The producer goes without saying why, so nothing more is committed.
    pub(super) async fn bring_down(&mut self) {
        if let Some(producer) = self.producer.take() {
            producer.abort();
        }
        let rest = async {
            while let Some((name, result)) = self.next().await {
                if name != PRODUCER
                    && let Err(cascade) = result
                {
                    error!(stage = name, error = %cascade, "failed as well");
                }
            }
        };
        let _ = tokio::time::timeout(FAILURE_GRACE, rest).await;
    }
}
