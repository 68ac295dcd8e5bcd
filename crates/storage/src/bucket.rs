//! A dataset in a bucket: everything that is promised of one on a disk.
//!
//! Owns: the commit order over [`Blob`], the fence, recovery, and who may go in.
//! Does not own: what a record says and what records add up to (the same as on a disk, see [`crate::checkpoint`]), the provider behind [`Blob`].
//!
//! The line writes to it through [`crate::dataset::OpenDataset`]. It is held by its model (`tests/it/bucket`) and by real servers (`crates/bucket`, the
//! adapter to providers).
//!
//! # Protocol
//! 1. *Start*. The last record is found without a list ([`search`]). Its process may still run: [`entry`] says whether to wait. All names of files are
//!    listed: where one is of a younger checkpoint, the ledger is older than its files, and the start is refused (exit 65). Its files are made
//!    visible, all of them. Then this process creates the next record, its *open record*: whoever ran before finds that number taken.
//! 2. *Checkpoint*. Each file is uploaded, and no upload is completed: nothing is visible. If the record before is still there, byte for byte, the next
//!    one is created, naming the uploads with their parts. **That is the commit point, and its name is the fence.** Then all uploads are completed, and become visible. The next record is not
//!    created before they are, so only those of the last one can ever be left.
//! 3. *No answer, or "exists"* to the creation of a record says nothing: what lies there is read. The own bytes: committed. Those of another: fenced,
//!    and what was uploaded is given up by the ids of the uploads. Nothing: it is created again.
//! 4. *No answer, or "no such upload"* to a completion says nothing either: the file is there with its length, or its upload expired, and then it is
//!    uploaded again from scratch; if the bytes are not there, the start is refused (exit 65) with the file and what of the source it held.
//! 5. *Heartbeat*. It looks first whether its last record and FORMAT are there, and the next record is not: a process that has nothing to commit learns so
//!    that the bucket was emptied or put back to an older state, and that it was fenced. What it writes is
//!    believed by nobody; it says where to look for the last record, and keeps others from going in.
//! 6. No process that commits deletes anything, no record and no file (an operator may, what is declared expired: [`discard()`]). The uploads of a checkpoint that another's record overtook are given up, by their ids; those of a
//!    process that failed or was killed stay until a lifecycle rule of the bucket takes them.
//!
//! # Where it differs from a disk
//! - A record has the name of each file's upload ([`Upload`](crate::checkpoint::record::Upload)). All else that a record, a snapshot and FORMAT say is
//!   the same, and the same code reads and makes them (`Tip`, `Chain`).
//! - Staging is private to an epoch on a disk, and removed by a later one. Here it is private to an upload id, and nobody can remove that of another.
//! - What is visible is durable: there is no fsync, and recovery makes nothing durable that it finds.
//! - On a disk a staging directory that is gone says that its checkpoint was published. Here a heartbeat behind the record says so, which may be missing:
//!   then a file that somebody removed looks like one whose upload expired. A start refuses both; readers tell them apart as far as they can (`unseen`).
//! - Old snapshots stay.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use pintail_core::error::{Error, Result};
use tokio::time::Instant;

use crate::blob::Blob;
use crate::checkpoint::log as ledger;
use crate::checkpoint::paths::Paths;
use crate::checkpoint::record::{Action, CommitRecord, FileEntry};
use crate::checkpoint::staging::Staging;
use crate::checkpoint::store::{Adopted, Draft, Sealed, Tip, fenced_by};
use crate::durable::disk_state::DiskState;
use crate::durable::fs::FileIdentity;

mod beat;
mod copies;
mod discard;
pub mod entry;
mod ground;
mod head;
mod heart;
mod listing;
mod open;
mod publish;
mod rebuild;
mod requests;
mod scratch;
pub mod search;
mod tree;
mod unseen;
pub mod verdict;

pub use discard::discard;
pub use heart::Heart;
pub use open::{check_dataset, is_there};
pub use rebuild::rebuild_snapshot;
pub use requests::Patience;
pub use scratch::Scratch;
pub use tree::{BucketTree, Local};
pub use unseen::Unseen;

use publish::{Files, When, check_names, publish_all};
use requests::{Created, Requests};

/// Files that are uploaded or completed at the same time. Each has one part in memory.
const SIDE_BY_SIDE: usize = 16;

/// The time in which nobody empties a bucket or puts it back: a request and its answer.
const SOON: Duration = Duration::from_secs(1);

/// Where a dataset lies, and how its process behaves there.
#[derive(Debug, Clone)]
pub struct Place {
    /// The bucket.
    pub blob: Arc<dyn Blob>,
    /// The names in it. The root is how messages call it, such as `s3://lake/events`.
    pub paths: Paths,
    /// The local disk.
    pub scratch: Scratch,
    /// How requests are sent again.
    pub patience: Patience,
    /// The time between two heartbeats.
    pub beat_every: Duration,
    /// Who may see that something is waited for, and who may end the waiting.
    pub waits: DiskState,
    /// What an opening does while another process may hold the dataset.
    pub when_held: WhenHeld,
}

/// What an opening does while another process may hold the dataset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenHeld {
    /// It stands by until it may go in.
    #[default]
    Wait,
    /// It ends, and says who that is: a person is waiting.
    Refuse,
}

/// A dataset in a bucket, open for writing. Its open record fences whoever wrote before.
///
/// Reads its scratch where it is polled: it belongs on a thread that may block.
#[derive(Debug)]
pub struct BucketStore {
    requests: Requests,
    scratch: Scratch,
    heart: Heart,
    tip: Tip,
}

impl Deref for BucketStore {
    type Target = Tip;

    fn deref(&self) -> &Tip {
        &self.tip
    }
}

impl BucketStore {
    /// Returns the names in the bucket.
    pub fn paths(&self) -> &Paths {
        &self.requests.paths
    }

    /// Returns the staging of the next checkpoint, in scratch. Ask once a checkpoint.
    pub fn staging(&self) -> Staging {
        self.scratch.staging(self.tip.next_staged())
    }

    /// Commits the next checkpoint: uploads the files, creates the record, makes the files visible.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::TryAgain`] if another process has opened the dataset since: nothing was published. After any error
    /// nothing more can be committed: the process ends, and the next start rolls the checkpoint forward or back.
    pub async fn commit(&mut self, staging: Staging, draft: Draft) -> Result<&CommitRecord> {
        self.tip.begin(&staging, &self.staging(), &draft)?;
        let committed = draft.offsets.committed();
        self.write_checkpoint(&staging, draft).await?;
        Ok(self.tip.take_checkpoint(committed))
    }

    /// Writes the record of an action of an operator. The files that it takes in are visible already, and stay as they are.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub async fn act(&mut self, action: Action, adopted: Adopted, time: DateTime<Utc>) -> Result<&CommitRecord> {
        self.tip.begin_record()?;
        self.check_still_there().await?;
        write_due_snapshot(&self.requests, &mut self.tip).await?;
        let record = CommitRecord { action: Some(action), ..self.tip.adopting(adopted, time) };
        let sealed = self.tip.seal(record)?;
        self.create_record(&sealed).await?;
        self.take(sealed);
        Ok(self.tip.take_record())
    }

    /// Returns what shows that this process holds the dataset, while it commits.
    pub fn heart(&self) -> Heart {
        self.heart.clone()
    }

    /// Says that this process still holds the dataset, after a look whether it does.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::TryAgain`] if another process has opened the dataset since, or the bucket does not answer.
    pub async fn beat(&self) -> Result<()> {
        self.heart.beat().await
    }

    /// Says that this process has stopped, with everything committed: the next one goes in at once.
    ///
    /// # Errors
    /// As [`Self::beat`].
    pub async fn close(self) -> Result<()> {
        self.heart.stop(self.tip.is_certain()).await
    }

    /// Takes up that a record is there.
    fn take(&mut self, sealed: Sealed) {
        self.heart.has_record(&sealed);
        self.tip.take(sealed);
    }

    async fn write_checkpoint(&mut self, staging: &Staging, draft: Draft) -> Result<()> {
        if self.tip.needs_snapshot() {
            // Nothing is left in a ledger that is another one by now.
            self.check_still_there().await?;
            write_due_snapshot(&self.requests, &mut self.tip).await?;
        }
        let identities: Vec<FileIdentity> = draft.files.iter().map(|file| file.staged.identity).collect();
        let mut record = self.tip.checkpoint(draft);
        record.files = self.upload(record.files, &identities).await?;
        check_names(&self.requests.paths, &record).map_err(|why| {
            let sequence = record.sequence;
            Error::internal(format!("record {sequence} must not be written: {why}"))
        })?;
        let sealed = self.tip.seal(record)?;
        // Right before, so that no record lies behind a gap; and again where the bucket was away meanwhile: what it held may be older when it is back.
        self.check_follows(&sealed.record).await?;
        let looked = Instant::now();
        self.create_record(&sealed).await?;
        if looked.elapsed() > SOON {
            let path = self.requests.paths.record(sealed.record.sequence);
            let behind =
                |error: Error| Error::new(error.kind(), format!("{error}; move `{}` away, which lies behind the gap", path.display()));
            self.check_follows(&sealed.record).await.map_err(behind)?;
        }
        // The commit point. From here on nothing is given up.
        publish_all(&self.requests, &self.scratch, &sealed.record, self.tip.state.rest().expired_before, When::Commit).await?;
        if staging.is_made() {
            self.scratch.remove(sealed.record.staged_by())?;
        }
        self.take(sealed);
        Ok(())
    }

    /// Uploads all files of a checkpoint, side by side. Returns them with their uploads.
    async fn upload(&self, files: Vec<FileEntry>, identities: &[FileIdentity]) -> Result<Vec<FileEntry>> {
        let of = Files { requests: &self.requests, scratch: &self.scratch, staged_by: self.tip.next_staged(), when: When::Commit };
        let upload = |(file, identity): (FileEntry, FileIdentity)| async move {
            of.scratch.check_written(of.staged_by, &file, &identity)?;
            let upload = of.upload(&file).await?;
            Ok(FileEntry { upload: Some(upload), ..file })
        };
        let uploads = stream::iter(files.into_iter().zip(identities.iter().copied()).map(upload));
        let uploaded: Vec<Result<FileEntry>> = uploads.buffered(SIDE_BY_SIDE).collect().await;
        uploaded.into_iter().collect()
    }

    /// Creates the record of a checkpoint. If another has its number, what the checkpoint uploaded is given up.
    ///
    /// # Errors
    /// After any but that of another's record, it may come to be all the same, and nothing is given up.
    async fn create_record(&self, sealed: &Sealed) -> Result<()> {
        let Sealed { record, bytes, .. } = sealed;
        let path = self.requests.paths.record(record.sequence);
        let Created::Anothers(there) = self.requests.create(&path, bytes.clone().into()).await? else { return Ok(()) };
        let (by, _) = ledger::parse(Some(&there), &path, record.sequence)?;
        if by.epoch == record.epoch {
            return Err(Error::internal(format!("`{}` is of this process, and not what it wrote", path.display())));
        }
        self.give_up(record).await;
        Err(fenced_by(&by, &self.requests.paths))
    }

    /// Checks that the record that the next one follows is still there.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::State`] if it is gone, [`pintail_core::error::ErrorKind::TryAgain`] if another process has written it anew.
    async fn check_still_there(&self) -> Result<()> {
        lost(&self.requests, &self.tip).await?.map_or(Ok(()), Err)
    }

    /// As [`Self::check_still_there`], for the record of a checkpoint. If it does not follow any more, what the checkpoint uploaded is given up.
    async fn check_follows(&self, record: &CommitRecord) -> Result<()> {
        let Some(lost) = lost(&self.requests, &self.tip).await? else { return Ok(()) };
        self.give_up(record).await;
        Err(lost)
    }

    /// Gives up what a record names that does not come to be.
    async fn give_up(&self, record: &CommitRecord) {
        let of = Files { requests: &self.requests, scratch: &self.scratch, staged_by: record.staged_by(), when: When::Commit };
        stream::iter(&record.files).for_each_concurrent(SIDE_BY_SIDE, |file| of.give_up(file)).await;
    }
}

/// Returns the error that says why nothing can follow the last record any more, if it is not there.
async fn lost(requests: &Requests, tip: &Tip) -> Result<Option<Error>> {
    let Some(last) = tip.last() else { return Ok(None) };
    ground::lost(requests, last.sequence, &tip.previous).await
}

/// Writes the snapshot of the state as it is, if the next record needs one.
async fn write_due_snapshot(requests: &Requests, tip: &mut Tip) -> Result<()> {
    let Some(due) = tip.due_snapshot() else { return Ok(()) };
    let path = requests.paths.snapshot(due.name.sequence);
    // The same state is the same bytes: of a process that was killed before its record, or of one that does the same now.
    if let Created::Anothers(_) = requests.create(&path, due.bytes.clone().into()).await? {
        return Err(Error::state(format!("`{}` is there and holds another state: move it away, and start again", path.display())));
    }
    tip.take_snapshot(due);
    Ok(())
}
