//! `pintail health`: whether a process works on the dataset, for the container's health check.
//!
//! Owns: how old a sign of life may be.
//! Does not own: giving it (the supervisor touches the lock, but not while the disk is full).

use std::path::Path;
use std::time::Duration;

use crate::checkpoint::lock::{self, Seen};
use crate::error::{Error, Result};

/// The lock is touched every few seconds: this long without a touch, the process hangs or waits for room on the disk.
const AGE_MAX: Duration = Duration::from_secs(30);

/// Succeeds if the lock of the dataset at `out` is held and was touched lately.
///
/// # Errors
/// [`crate::error::ErrorKind::TryAgain`] if it is free or stale.
pub fn run(out: &Path) -> Result<()> {
    match lock::look(out)? {
        Seen::Held { age } if age <= AGE_MAX => Ok(()),
        Seen::Held { age } => Err(Error::try_again(format!(
            "pintail on `{}` gave no sign of life for {} (at most {}): it hangs, or its disk is full",
            out.display(),
            humantime::format_duration(Duration::from_secs(age.as_secs())),
            humantime::format_duration(AGE_MAX)
        ))),
        Seen::Free => Err(Error::try_again(format!("no pintail runs on `{}`", out.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::lock::Lock;
    use crate::checkpoint::paths::Paths;

    #[test]
    fn a_process_that_touches_its_lock_is_healthy_and_a_silent_or_absent_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(run(dir.path()).unwrap_err().to_string().contains("no pintail runs"));
        let held = Lock::take(dir.path(), chrono::DateTime::UNIX_EPOCH).unwrap();
        run(dir.path()).unwrap();
        let file = std::fs::File::options().write(true).open(Paths::new(dir.path()).lock()).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(31)).unwrap();
        assert!(run(dir.path()).unwrap_err().to_string().contains("no sign of life for 31s"));
        drop(held);
    }
}
