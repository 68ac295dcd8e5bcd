//! The admin server, asked by HTTP as a person, a scraper and a supervisor ask it.

mod api;
mod crowd;
mod life;
mod listen;
mod metrics;
mod sql;
mod sql_box;

use crate::common::Dataset;
use crate::common::process::Pintail;

impl Dataset {
    /// Prepares a run on endless simulated events with an admin server on any free port and several checkpoints a second.
    fn watched(&self) -> Pintail<'_> {
        let pintail = self.simulator(0).set("source.rate", 200_000).set("pipeline.batch_rows", 5_000);
        pintail.set("pipeline.checkpoint_interval", "100ms").set("admin.listen", "127.0.0.1:0")
    }
}
