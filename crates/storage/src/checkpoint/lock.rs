//! The lock: one process writes to a dataset.
//!
//! Owns: `_pintail/LOCK`, held for the life of the process by `flock`, which the kernel releases whatever kills the process.
//! Does not own: the fence, which holds also where no lock does (see `store`).

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use pintail_core::error::{Error, Result};
use serde::{Deserialize, Serialize};

use super::directories::cannot;
use super::paths::Paths;
use super::process::host;
use super::sealed::rfc3339;

/// `health` takes the lock for microseconds to see whether it is free: a start must not stumble over that.
const PATIENCE: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(20);

/// Who holds the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id, as the holder sees itself (in a container often 1).
    pub pid: u32,
    /// Host name.
    pub host: String,
    /// When it took the lock.
    #[serde(with = "rfc3339")]
    pub since: DateTime<Utc>,
    /// Where its admin server listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<SocketAddr>,
}

/// The lock, held until dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of an instance of a dataset, making its directory if there is none. Says in it where the admin server listens.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::TryAgain`] if another process holds it, naming that.
    pub fn take(paths: impl Into<Paths>, now: DateTime<Utc>, admin: Option<SocketAddr>) -> Result<Self> {
        let paths = paths.into();
        let (root, private) = (paths.root(), paths.own());
        fs::create_dir_all(&private).map_err(|e| cannot(root, format!("make the directory `{}`", private.display()), e))?;
        let path = paths.lock();
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(|e| cannot(root, format!("open `{}`", path.display()), e))?;
        patiently(|| file.try_lock()).map_err(|error| match error {
            TryLockError::WouldBlock => held(&path, &mut file),
            TryLockError::Error(e) => Error::io(format_args!("lock `{}`", path.display()), e),
        })?;
        let holder = Holder { pid: std::process::id(), host: host(), since: now, admin };
        write_holder(&mut file, &holder).map_err(|e| Error::io(format_args!("write `{}`", path.display()), e))?;
        Ok(Self { file, path })
    }

    /// Checks that the file that is held is still the one that others would try to lock.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::TryAgain`] if somebody removed or replaced it: another process may hold the new one.
    pub fn check(&self) -> Result<()> {
        let held = self.file.metadata().map_err(|e| Error::io(format_args!("look at `{}`", self.path.display()), e))?;
        match fs::metadata(&self.path) {
            Ok(there) if (there.dev(), there.ino()) == (held.dev(), held.ino()) => Ok(()),
            Ok(_) => Err(self.lost("was replaced")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.lost("was removed")),
            Err(error) => Err(Error::io(format_args!("look at `{}`", self.path.display()), error)),
        }
    }

    fn lost(&self, how: &str) -> Error {
        Error::try_again(format!(
            "`{}` {how} while this process held it, so another may write to the dataset: nothing more is committed; start again",
            self.path.display()
        ))
    }

    /// Says that the holder is alive: `health` looks at the time of the last touch.
    pub fn touch(&self) -> Result<()> {
        self.file.set_modified(SystemTime::now()).map_err(|e| Error::io("touch the lock file", e))
    }
}

/// What an onlooker sees of the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// No process holds it, or there is none.
    Free,
    /// A process holds it and touched it this long ago.
    Held {
        /// Time since the last touch.
        age: Duration,
        /// Where its admin server can be asked from here: none if it has none, or runs on another host.
        admin: Option<SocketAddr>,
    },
}

/// Looks at the lock of an instance of a dataset without keeping it.
pub fn look(paths: impl Into<Paths>) -> Result<Seen> {
    let path = paths.into().lock();
    let seen = |error| Error::io(format_args!("look at `{}`", path.display()), error);
    let mut file = match File::open(&path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Seen::Free),
        opened => opened.map_err(seen)?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Seen::Free),
        Err(TryLockError::Error(error)) => Err(seen(error)),
        Err(TryLockError::WouldBlock) => {
            let touched = file.metadata().and_then(|metadata| metadata.modified()).map_err(seen)?;
            // A touch in the future is a clock that was set back, not a dead process.
            let age = SystemTime::now().duration_since(touched).unwrap_or_default();
            let here = read_holder(&mut file).filter(|holder| holder.host == host());
            Ok(Seen::Held { age, admin: here.and_then(|holder| holder.admin) })
        }
    }
}

/// Refuses if another process holds the lock of an instance of a dataset, before anything is done that it would be in the way of.
///
/// # Errors
/// As [`Lock::take`], which alone is sure.
pub fn check_free(paths: impl Into<Paths>) -> Result<()> {
    let path = paths.into().lock();
    let mut file = match File::open(&path) {
        Ok(file) => file,
        // Whose directory it is, taking the lock says.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied) => {
            return Ok(());
        }
        Err(error) => return Err(Error::io(format_args!("open `{}`", path.display()), error)),
    };
    match patiently(|| file.try_lock_shared()) {
        Err(TryLockError::WouldBlock) => Err(held(&path, &mut file)),
        _ => Ok(()),
    }
}

fn held(path: &Path, file: &mut File) -> Error {
    let holder = read_holder(file).map_or_else(|| "another process".into(), |holder| holder.to_string());
    Error::try_again(format!("`{}` is held by {holder}: stop that first", path.display()))
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {} since {}", self.pid, self.host, self.since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
    }
}

/// Tries for a while to lock a file.
fn patiently(lock: impl Fn() -> Result<(), TryLockError>) -> Result<(), TryLockError> {
    let mut left = PATIENCE;
    loop {
        match lock() {
            Err(TryLockError::WouldBlock) if !left.is_zero() => {
                thread::sleep(RETRY);
                left = left.saturating_sub(RETRY);
            }
            done => return done,
        }
    }
}

fn read_holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn write_holder(file: &mut File, holder: &Holder) -> io::Result<()> {
    let text = serde_json::to_string(holder)?;
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{text}")
}

#[cfg(test)]
mod tests {
    use pintail_core::error::ErrorKind;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600, 0).unwrap()
    }

    #[test]
    fn a_second_process_is_refused_and_told_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::take(dir.path(), now(), None).unwrap();
        let refused = Lock::take(dir.path(), now(), None).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TryAgain);
        let expected = format!("process {} on {} since 2026-01-01T00:00:00Z", std::process::id(), host());
        assert!(refused.to_string().contains(&expected), "{refused}");
        drop(held);
        Lock::take(dir.path(), now(), None).unwrap();
    }

    #[test]
    fn an_onlooker_tells_a_free_lock_a_touched_one_and_a_stale_one_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(dir.path()).unwrap(), Seen::Free);
        let held = Lock::take(dir.path(), now(), None).unwrap();
        held.file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        assert!(matches!(look(dir.path()).unwrap(), Seen::Held { age, .. } if age >= Duration::from_secs(60)));
        held.touch().unwrap();
        assert!(matches!(look(dir.path()).unwrap(), Seen::Held { age, .. } if age < Duration::from_secs(30)));
        drop(held);
        assert_eq!(look(dir.path()).unwrap(), Seen::Free);
    }

    #[test]
    fn a_lock_that_somebody_removed_or_replaced_is_held_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::take(dir.path(), now(), None).unwrap();
        held.check().unwrap();
        let path = Paths::new(dir.path()).lock();
        fs::remove_file(&path).unwrap();
        let gone = held.check().unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::TryAgain);
        assert!(gone.to_string().contains("was removed"), "{gone}");
        let other = Lock::take(dir.path(), now(), None).unwrap();
        assert!(held.check().unwrap_err().to_string().contains("was replaced"));
        other.check().unwrap();
    }

    #[test]
    fn a_start_does_not_stumble_over_an_onlooker() {
        let dir = tempfile::tempdir().unwrap();
        drop(Lock::take(dir.path(), now(), None).unwrap());
        let onlooker = File::open(Paths::new(dir.path()).lock()).unwrap();
        onlooker.try_lock_shared().unwrap();
        let looking = thread::spawn(move || {
            thread::sleep(RETRY * 3);
            drop(onlooker);
        });
        Lock::take(dir.path(), now(), None).unwrap();
        looking.join().unwrap();
    }
}
