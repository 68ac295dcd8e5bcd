//! The child: runs batches as the line does, and says after each that it lives.
//!
//! Owns: giving way to the service, and ending with it.
//! Does not own: what the rows are worth: nobody looks at them.

use std::io::{self, BufReader, Write};
use std::process;
use std::thread;
use std::time::Duration;

use pintail_config::Config;
use pintail_core::breaker::{Usual, WhenRejected};
use pintail_core::error::{Error, Result};
use rustix::process::getppid;
use tokio::sync::watch;

use super::wire;
use crate::pipeline::dataset::Plan;
use crate::stages::transform::Transform;

/// What a child says when it has started, and of each batch that it has run.
pub(super) const DONE: u8 = b'.';

/// Time between two looks whether the parent is there.
const LOOK: Duration = Duration::from_secs(1);

/// Runs the batches that come on standard input, until that ends.
///
/// # Errors
/// If the configuration is another than `sha256`, or the parent is gone.
pub(crate) fn run(config: &Config, sha256: &str) -> Result<()> {
    end_with_parent()?;
    // If memory runs out it is this process that shall go. A wish: a system that refuses it has the limit left.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    if config.sha256 != sha256 {
        return Err(Error::config("the configuration was changed while the service ran: start it again"));
    }
    let Plan { engine, layout, aggregator } = Plan::new(config)?;
    let worker = engine.workers()?.into_iter().next().ok_or_else(|| Error::internal("an engine without workers"))?;
    let mut transform =
        Transform::new(config, worker, &layout, &aggregator, (WhenRejected::GoOn, Usual::default(), watch::channel(false).1));
    let (mut from, mut to) = (BufReader::new(io::stdin().lock()), io::stdout().lock());
    let failed = |e| Error::io("talk to the service", e);
    let mut done = || to.write_all(&[DONE]).and_then(|()| to.flush()).map_err(failed);
    done()?;
    while let Some(batch) = wire::read(&mut from).map_err(failed)? {
        // An error in words is for the service to meet: it lives through it, too.
        let _ = transform.apply(&batch, &mut |_| true);
        done()?;
    }
    Ok(())
}

/// Ends this process when the service is gone, also in the middle of a batch. The kernel would do so when the *thread* ends that started it.
#[expect(clippy::exit, reason = "a thread that runs SQL can be stopped in no other way, and this process has nothing to leave in order")]
fn end_with_parent() -> Result<()> {
    let parent = getppid();
    let watch = move || {
        while getppid() == parent {
            thread::sleep(LOOK);
        }
        process::exit(0);
    };
    thread::Builder::new().spawn(watch).map(drop).map_err(|e| Error::io("start a thread", e))
}
