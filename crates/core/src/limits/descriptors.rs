//! Descriptors: how many the process may have open, and who may have them.
//!
//! Owns: raising the soft limit to the hard one, and the shares. What is not shared out is the commit's (records, renames, directories) and
//! belongs to what nobody counts: runtimes, listeners, brokers, the log.
//! Does not own: keeping to a share (see `pintail_sink::files`, `pintail_sources::file`, `pintail_server`), what a failed open becomes (see `pintail_storage::durable::disk_state`).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More are never counted on: a limit of a billion is none.
const COUNTED_MAX: u64 = 1 << 20;

/// What stays with the commit and everything that is not counted.
const RESERVE: usize = 96;

/// Connections that the admin server needs at least: a probe, a scraper, a page and a person.
const ADMIN_MIN: usize = 4;

/// How many descriptors the process may have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    limit: usize,
}

impl Descriptors {
    /// Shares out so many.
    pub const fn new(limit: usize) -> Self {
        Self { limit }
    }

    /// Raises the soft limit to the hard one, for this process and those that it starts. Where that is refused the soft one holds.
    pub fn raise() {
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current != maximum {
            let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        }
    }

    /// Looks at the limit of the process itself.
    pub fn of_this_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(COUNTED_MAX).min(COUNTED_MAX);
        Self::new(usize::try_from(limit).expect("a million fits"))
    }

    /// Returns how many there are.
    pub fn limit(self) -> usize {
        self.limit
    }

    fn shared(self) -> usize {
        self.limit - RESERVE.min(self.limit / 2)
    }

    /// Returns how many Parquet files may be written at the same time.
    pub fn written_files(self) -> usize {
        (self.shared() * 2 / 5).max(1)
    }

    /// Returns how many followed files may be open, or connections of those who push: a source has one or the other.
    pub fn input(self) -> usize {
        (self.shared() * 2 / 5).max(1)
    }

    /// Returns how many connections the admin server may have. As many are left to the files that queries read.
    pub fn admin(self) -> usize {
        (self.shared() / 10).max(ADMIN_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_leave_the_commit_its_reserve_at_every_limit() {
        for limit in [64, 100, 256, 1024, 4096, 1 << 20] {
            let descriptors = Descriptors::new(limit);
            let shared = descriptors.written_files() + descriptors.input() + 2 * descriptors.admin();
            assert!(shared <= limit - RESERVE.min(limit / 2) + 2, "{limit}: {shared}");
            assert!(shared * 10 >= (limit - RESERVE.min(limit / 2)) * 8, "{limit}: {shared}");
        }
    }

    #[test]
    fn at_256_there_is_room_for_64_files_on_each_side() {
        let descriptors = Descriptors::new(256);
        assert_eq!((descriptors.written_files(), descriptors.input(), descriptors.admin()), (64, 64, 16));
    }
}
