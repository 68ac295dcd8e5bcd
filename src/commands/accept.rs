//! `pintail dead-letters --accept`: lets pass what the line holds back.
//!
//! Owns: the record of it where no service runs, and telling the service where one does.
//! Does not own: when records are held back (see `breaker`), listing rejected ones (see `dead_letters`).

use std::io::Write;
use std::time::{Duration, Instant};

use chrono::Utc;
use pintail_config::Config;
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::invocation::forgotten;
use pintail_storage::checkpoint::held;
use pintail_storage::checkpoint::lock::{self, Seen};
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::process::Process;
use pintail_storage::checkpoint::reader::Dataset;
use pintail_storage::checkpoint::record::{Action, ActionKind};
use pintail_storage::checkpoint::store::{Adopted, Allow};

use crate::pipeline::open_as_it_is;

/// Time for a running service to take what is accepted.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between two looks whether it has.
const LOOK: Duration = Duration::from_millis(100);

/// Lets pass what the line holds back: by a record if no service runs, else by telling the service, which writes that record.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::Config`] if nothing is held back; [`pintail_core::error::ErrorKind::TryAgain`] if the service does not take it in time.
pub(crate) fn run(config: &Config, to: &mut dyn Write) -> Result<()> {
    let paths = config.local_paths();
    if !config.is_in_bucket() {
        Dataset::open(paths.clone())?;
    }
    let held = held::announced(&paths)?.ok_or_else(|| {
        let (out, forgotten) = (config.pipeline.out_path.display(), forgotten("pipeline.out_path"));
        Error::config(format!("nothing is held back in `{out}`: there is nothing to accept{forgotten}"))
    })?;
    let acceptance = held.acceptance(Process::this());
    let opened = match (config.is_in_bucket(), lock::look(paths.clone())?) {
        // Its service writes the record.
        (true, Seen::Held { .. }) => Err(Error::try_again("it runs")),
        (true, Seen::Free) => {
            return Err(Error::config("no service runs on this dataset, which is in a bucket: start it, and accept when it pauses again"));
        }
        (false, _) => open_as_it_is(config, None, Allow::default()),
    };
    match opened {
        Ok((_lock, mut store)) => {
            let text = format!("rejected records may pass: {}", held.places());
            let action = Action { up_to: acceptance.up_to, ..Action::new(ActionKind::AcceptRejected, text) };
            store.act(action, Adopted::default(), Utc::now())?;
            held::withdraw(&paths);
        }
        Err(error) if error.kind() == ErrorKind::TryAgain => {
            held::accept(&paths, &acceptance)?;
            wait_until_taken(&paths)?;
        }
        Err(error) => return Err(error),
    }
    writeln!(to, "accepted: {held}").map_err(|e| Error::io("write to standard output", e))
}

fn wait_until_taken(paths: &Paths) -> Result<()> {
    let begun = Instant::now();
    while held::announced(paths)?.is_some() {
        if begun.elapsed() >= PATIENCE {
            return Err(Error::try_again("the running service has not taken it yet; it does so as soon as it pauses over these records"));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}
