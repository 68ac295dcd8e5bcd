//! What a demonstration has left that was killed itself: its temporary directory.
//!
//! Owns: telling a directory that is in use, by a lock that ends with its process, from one that is not; removing the latter.
//! Does not own: the service of a demonstration, which ends with it (see `service`).

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use std::{env, fs, io};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};

/// What the name of such a directory begins with.
pub(super) const PREFIX: &str = "pintail-demo-";
/// Time for a demonstration to lock the directory that it has made.
const LOCKING: Duration = Duration::from_secs(5);

/// Locks a directory for as long as the returned descriptor is open.
pub(super) fn lock(dir: &Path) -> io::Result<OwnedFd> {
    let opened = open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    flock(&opened, FlockOperation::NonBlockingLockExclusive)?;
    Ok(opened)
}

/// Removes the directories that nobody holds. What cannot be removed, such as another user's, stays.
pub(super) fn remove() {
    remove_in(&env::temp_dir(), LOCKING);
}

fn remove_in(dir: &Path, locking: Duration) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes());
        let changed = entry.metadata().ok().and_then(|metadata| metadata.modified().ok()?.elapsed().ok());
        if is_ours
            && changed.is_some_and(|since| since >= locking)
            && let Ok(_lock) = lock(&path)
        {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_nobody_holds_is_removed_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            fs::create_dir_all(dir.path().join(name).join("lake")).unwrap();
            dir.path().join(name)
        };
        let (held, left, other) = (make("pintail-demo-a"), make("pintail-demo-b"), make("another"));
        let lock = lock(&held).unwrap();
        remove_in(dir.path(), Duration::from_secs(5));
        assert!(left.exists(), "one that was just made may be locked in a moment");
        remove_in(dir.path(), Duration::ZERO);
        assert!(held.exists() && !left.exists() && other.exists());
        drop(lock);
        remove_in(dir.path(), Duration::ZERO);
        assert!(!held.exists());
    }
}
