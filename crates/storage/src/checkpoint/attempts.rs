//! Attempts: how often a start has begun at the same positions without coming to a commit.
//!
//! Owns: the file that counts them.
//! Does not own: what follows from many (see `trial`). The file is no part of the ledger: without it a start is the first one, and a disk that
//! refuses it stops nothing.

use std::fs;
use std::io::ErrorKind;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::paths::Paths;
use super::sealed;

#[derive(Serialize, Deserialize)]
struct Attempts {
    /// The hash of the state that they began with.
    state_sha256: String,
    count: u32,
}

/// Counts a start. Returns the how-manieth it is, from 1, that begins with this state and whose predecessors ended in no orderly way.
pub fn begin(paths: &Paths, state_sha256: String) -> u32 {
    let path = paths.attempts();
    // What cannot be read counts for nothing, as what a kill has left in the middle of its writing: it is made anew.
    let before = fs::read(&path).ok().and_then(|bytes| sealed::unseal::<Attempts>(&bytes).ok());
    let count = before.map_or(0, |(before, _)| if before.state_sha256 == state_sha256 { before.count } else { 0 }).saturating_add(1);
    if let Err(error) = fs::write(&path, sealed::seal(&Attempts { state_sha256, count }).0) {
        warn!(%error, "`{}` cannot be written: this start is not counted", path.display());
    }
    count
}

/// Records that a process has ended in an orderly way: it was not the records that stopped it.
pub fn end(paths: &Paths) {
    let path = paths.attempts();
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            warn!(%error, "`{}` cannot be removed: the next start counts this one as failed", path.display());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_starts_from_the_same_state_that_ended_in_no_order_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path());
        fs::create_dir(paths.own()).unwrap();
        let start = |state: &str| begin(&paths, state.to_owned());
        assert_eq!([start("a"), start("a"), start("a")], [1, 2, 3]);
        assert_eq!([start("b"), start("b"), start("a")], [1, 2, 1]);
        end(&paths);
        end(&paths);
        assert_eq!(start("a"), 1);
        fs::write(paths.attempts(), "{").unwrap();
        assert_eq!([start("a"), start("a")], [1, 2]);
        fs::remove_file(paths.attempts()).unwrap();
        fs::create_dir(paths.attempts()).unwrap();
        assert_eq!([start("a"), start("a")], [1, 1], "a file that cannot be written stops no start");
        end(&paths);
    }
}
