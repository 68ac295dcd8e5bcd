//! The dataset that a line writes to, on a disk or in a bucket.
//!
//! Owns: one face for both: where the chain ends, the staging of a checkpoint, the commit, the end of a process that leaves nothing undone.
//! Does not own: how either commits (see [`crate::checkpoint::store`] and [`crate::bucket`]), opening (each has its own questions to ask).

use std::ops::Deref;

use chrono::{DateTime, Utc};
use pintail_core::error::{Error, Result};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::warn;

use crate::bucket::BucketStore;
use crate::checkpoint::paths::Paths;
use crate::checkpoint::record::{Action, CommitRecord};
use crate::checkpoint::staging::Staging;
use crate::checkpoint::store::{Adopted, Draft, Store, Tip};

/// A dataset open for writing. Blocking.
#[derive(Debug)]
pub enum OpenDataset {
    /// In a directory.
    Directory(Box<Store>),
    /// In a bucket.
    Bucket(Box<InBucket>),
}

/// A dataset in a bucket, with the runtime that its requests are sent on.
#[derive(Debug)]
pub struct InBucket {
    store: BucketStore,
    runtime: Handle,
    /// Ends with it.
    _heart: JoinSet<()>,
}

/// Tells that another process has opened the dataset; never, where a lock keeps others away.
#[derive(Debug)]
pub struct Lost(Option<oneshot::Receiver<Error>>);

impl Lost {
    /// Returns the error that says who holds the dataset, once another process does.
    pub async fn wait(self) -> Error {
        let told = match self.0 {
            Some(told) => told.await.ok(),
            None => None,
        };
        match told {
            Some(error) => error,
            // It ended, or there is nothing to lose.
            None => std::future::pending().await,
        }
    }
}

impl OpenDataset {
    /// Takes a dataset in a bucket, and lets its heart beat from now on. `runtime` must be at work as long as it is used.
    pub fn in_bucket(store: BucketStore, runtime: Handle) -> (Self, Lost) {
        let (lost, told) = oneshot::channel();
        let (heart, mut beating) = (store.heart(), JoinSet::new());
        let hold = async move {
            let _ = lost.send(heart.hold().await);
        };
        beating.spawn_on(hold, &runtime);
        (Self::Bucket(Box::new(InBucket { store, runtime, _heart: beating })), Lost(Some(told)))
    }

    /// Takes a dataset in a directory. Its lock is the caller's.
    pub fn in_directory(store: Store) -> (Self, Lost) {
        (Self::Directory(Box::new(store)), Lost(None))
    }

    /// Returns the names in it. Their root is what messages call the dataset.
    pub fn paths(&self) -> &Paths {
        match self {
            Self::Directory(store) => store.paths(),
            Self::Bucket(bucket) => bucket.store.paths(),
        }
    }

    /// Returns the staging of the next checkpoint, on a local disk. Ask once a checkpoint.
    pub fn staging(&self) -> Staging {
        match self {
            Self::Directory(store) => store.staging(),
            Self::Bucket(bucket) => bucket.store.staging(),
        }
    }

    /// Commits the next checkpoint.
    ///
    /// # Errors
    /// As [`Store::commit`] and [`BucketStore::commit`].
    pub fn commit(&mut self, staging: Staging, draft: Draft) -> Result<&CommitRecord> {
        match self {
            Self::Directory(store) => store.commit(staging, draft),
            Self::Bucket(bucket) => bucket.runtime.block_on(bucket.store.commit(staging, draft)),
        }
    }

    /// Writes the record of an action of an operator.
    ///
    /// # Errors
    /// As [`Store::act`] and [`BucketStore::act`].
    pub fn act(&mut self, action: Action, adopted: Adopted, time: DateTime<Utc>) -> Result<&CommitRecord> {
        match self {
            Self::Directory(store) => store.act(action, adopted, time),
            Self::Bucket(bucket) => bucket.runtime.block_on(bucket.store.act(action, adopted, time)),
        }
    }

    /// Ends with everything committed: the next process need not wait for this one. That it may have to is no failure.
    pub fn close(self) {
        if let Self::Bucket(bucket) = self {
            let bucket = *bucket;
            if let Err(error) = bucket.runtime.block_on(bucket.store.close()) {
                warn!(%error, "the next start has to wait until two heartbeats are missed: the last one could not be written");
            }
        }
    }
}

impl Deref for OpenDataset {
    type Target = Tip;

    fn deref(&self) -> &Tip {
        match self {
            Self::Directory(store) => store,
            Self::Bucket(bucket) => &bucket.store,
        }
    }
}
