//! Encoders: threads that work on several files at once.
//!
//! Owns: the threads. They live as long as the process, and stand still between two frames.
//! Does not own: which files, and what is done to them (see `set`).

use std::fmt;

use pintail_core::error::{Error, ErrorKind, Result};
use rayon::ThreadPool;
use rayon::iter::{IntoParallelRefMutIterator, ParallelIterator};

/// Threads for the files of a checkpoint.
pub(super) struct Encoders(Option<ThreadPool>);

impl Encoders {
    /// Starts the threads. One is none of our own: the caller's does the work, file by file in their order.
    pub(super) fn new(threads: usize) -> Result<Self> {
        if threads <= 1 {
            return Ok(Self(None));
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|n| format!("sink-{n}")).build();
        let failed = |e| Error::new(ErrorKind::TryAgain, "cannot start the threads of `sink.threads`").with_source(e);
        pool.map(|pool| Self(Some(pool))).map_err(failed)
    }

    /// Returns how many there are.
    pub(super) fn threads(&self) -> usize {
        self.0.as_ref().map_or(1, ThreadPool::current_num_threads)
    }

    /// Works on each item, and waits for all that was begun.
    ///
    /// # Errors
    /// One of the work's own. Items that it had not come to by then are left out.
    pub(super) fn each<T: Send>(&self, items: &mut [T], work: impl Fn(&mut T) -> Result<()> + Sync + Send) -> Result<()> {
        match &self.0 {
            Some(pool) if items.len() > 1 => pool.install(|| items.par_iter_mut().try_for_each(work)),
            _ => items.iter_mut().try_for_each(work),
        }
    }
}

impl fmt::Debug for Encoders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Encoders").field(&self.threads()).finish()
    }
}
