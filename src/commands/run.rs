//! `pintail run`: the line, from start to exit.
//!
//! Owns: signals first, then the admin server (it answers while the line recovers), then opening in the blocking pool, then the line; also
//! the deadline of a stop that comes while opening, and that a full disk does not hold it up.
//! Does not own: the line itself (see `pipeline`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pintail_config::Config;
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_core::invocation::command;
use pintail_storage::checkpoint::permission;
use pintail_storage::checkpoint::{index, lock};
use pintail_storage::durable::disk_state::DiskState;
use pintail_storage::durable::posix::Posix;
use rustix::fs::{Access, Mode, OFlags, access, mkdir, open, rmdir};
use rustix::io::Errno;
use tracing::{info, warn};

use crate::admin::Admin;
use crate::commands::verify::background;
use crate::health::Health;
use crate::logging::Log;
use crate::meters::{Meters, Verified};
use crate::pipeline::{self, Input, Line, Outside, Start, open_to_read};
use crate::signals::{self, Early};
use crate::stages::blocking;
use crate::supervisor;
use crate::terminal::Screen;

/// Time for a slow reader of the log, where a stop did not come to its end.
const LAST_WORDS_PATIENCE: Duration = Duration::from_millis(200);

/// Runs until the input ends or a signal comes.
pub(crate) async fn run(config: Config, (input, start): (Input, Start), early: Early, screen: Option<Arc<Screen>>, log: Log) -> Result<()> {
    let shutdown_timeout = config.pipeline.shutdown_timeout;
    let last_words = log.clone();
    let signals = signals::install(early, shutdown_timeout, move || last_words.flush(LAST_WORDS_PATIENCE))?;
    let mut deadline = pipeline::deadline(signals.stop.clone(), shutdown_timeout);
    for overruled in &config.given.overruled {
        warn!("{overruled}");
    }
    log_limits(&config);
    let disk = DiskState::default();
    let meters = Arc::new(Meters::new(disk.clone()).with_log(move || log.dropped()));
    if input == Input::DeadLetters {
        // A dataset that is not there has none to replay, and must not be made.
        let asked = config.clone();
        blocking("look for the dataset", move || open_to_read(&asked).map(drop)).await?;
    }
    // Before an address is taken that the holder may have: that it holds the dataset is what matters.
    let paths = config.local_paths();
    let free = blocking("look at the lock", move || lock::check_free(paths)).await;
    free.map_err(|error| if error.kind() == ErrorKind::TryAgain { Error::try_again(format!("{error}{}", beside(input))) } else { error })?;
    let admin = Admin::start(&config, input, meters.clone(), signals.stop.clone())?;
    let health = Health::new(&config, meters.clone(), signals.stop.clone(), command("dead-letters --accept"));
    tokio::spawn(supervisor::tell(health));
    let address = admin.as_ref().map(Admin::address);
    let (out, verified, is_in_bucket) = (config.pipeline.out_path.clone(), meters.clone(), config.is_in_bucket());
    let (stopping, unopened) = (signals.stop.clone(), disk.clone());
    let (paths, indexed) = (config.paths(), Arc::downgrade(&meters));
    let opening = blocking("start", move || {
        check_writable(config.local_paths().root())?;
        let fs = Arc::new(Posix::new(disk));
        Line::open(
            &config,
            input,
            start,
            Outside { stop: signals.stop, reload: signals.reload, screen, meters, admin: address, fs, is_own_program: true },
        )
    });
    let line = Line::opened(opening, stopping, unopened, &mut deadline).await?;
    if is_in_bucket {
        let not_read = format!("files in a bucket are not looked at when a service starts: {} reads them", command("verify"));
        verified.set_verified(Verified::Failed(not_read));
    } else {
        if admin.is_some() {
            background::start(out, verified);
        }
        index::start(paths, move || indexed.upgrade().map(|meters| meters.last_sequence()));
    }
    let ran = line.run(deadline).await;
    if let Some(admin) = admin {
        admin.stop().await;
    }
    ran?;
    info!("stopped: everything read is committed");
    Ok(())
}

/// Says what to do where a process holds the dataset already.
fn beside(input: Input) -> &'static str {
    match input {
        Input::Source => "; or set another `pipeline.out_path`, for a dataset of its own",
        Input::DeadLetters => "; a replay writes to its dataset as the service does: replay while that is stopped, and start it again then",
    }
}

/// Says what the process may take, and the settings that follow from it where they were not given.
fn log_limits(config: &Config) {
    info!(
        cores = config.limits.cores,
        memory = config.limits.memory.map_or_else(|| "no limit".into(), |bytes| bytes.to_string()),
        transform_threads = config.transform.threads,
        transform_memory_limit = config.transform.memory_limit,
        sink_threads = config.sink.threads,
        sink_buffer_bytes_max = config.sink.buffer_bytes_max,
        sink_row_group_bytes = config.sink.row_group_bytes,
        line_bytes_max = config.pipeline.line_bytes_max,
        batch_bytes_max = config.pipeline.batch_bytes_max,
        descriptors = config.limits.descriptors.limit(),
        sink_open_files_max = config.sink.open_files_max,
        "limits"
    );
}

/// Refuses an output directory that this user cannot write to, with the command that fixes it. Leaves nothing behind.
pub(crate) fn check_writable(out: &Path) -> Result<()> {
    let existing = out.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    if !existing.is_dir() {
        return Err(Error::config(format!("`{}` is no directory: set another `pipeline.out_path`", existing.display())));
    }
    let places = if existing == out { permission::written_to(out) } else { vec![existing.to_path_buf()] };
    places.iter().try_for_each(|place| match probe(place) {
        Ok(()) => Ok(()),
        Err(Errno::ACCESS) => {
            let uid = rustix::process::geteuid().as_raw();
            Err(Error::config(format!("`{}` cannot be written to by user {uid}: {}", out.display(), permission::way_out(out))))
        }
        Err(errno) => Err(Error::io(format_args!("write to `{}`", place.display()), errno.into())),
    })
}

/// Opens a file without a name in a directory, which the kernel takes back with the descriptor: not every refusal stands in an owner and a mode.
fn probe(directory: &Path) -> Result<(), Errno> {
    access(directory, Access::WRITE_OK | Access::EXEC_OK)?;
    match open(directory, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR) {
        Ok(_) => Ok(()),
        // The file system has no such files.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => come_and_go(directory).or_else(may_come),
        Err(errno) => may_come(errno),
    }
}

/// Makes a directory and removes it. It has the same name each time, so that the next start removes what a kill between the two left.
fn come_and_go(directory: &Path) -> Result<(), Errno> {
    let name = directory.join(permission::PROBE);
    match mkdir(&name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    match rmdir(&name) {
        // Another process that asks the same was quicker.
        Err(Errno::NOENT) => Ok(()),
        removed => removed,
    }
}

/// Passes over a want of room or of descriptors: it is waited for.
fn may_come(errno: Errno) -> Result<(), Errno> {
    if matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE) { Ok(()) } else { Err(errno) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_a_kill_left_behind_goes_with_the_next_one() {
        let directory = tempfile::tempdir().expect("directory");
        let own = directory.path().join("_pintail");
        std::fs::create_dir_all(own.join(permission::PROBE)).expect("left behind");

        for place in permission::written_to(directory.path()) {
            come_and_go(&place).expect("written to");
        }

        assert!(own.read_dir().expect("listing").next().is_none());
    }
}
