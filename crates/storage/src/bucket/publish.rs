//! Uploading the files of a checkpoint, and making them visible.
//!
//! Owns: carrying out both, file by file and side by side: sending each request until its answer stays, and again from scratch what expired.
//! Does not own: what an answer means (see `super::verdict`), when either may happen (see [`super`] and `super::open`).

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use pintail_core::error::{Error, Result};
use tracing::debug;

use super::SIDE_BY_SIDE;
use super::beat::Beat;
use super::requests::{Requests, failed};
use super::scratch::Scratch;
use super::verdict::{Publication, publication};
use crate::blob::{Fault, ObjectKey};
use crate::checkpoint::paths::{Paths, StagedBy};
use crate::checkpoint::record::{CommitRecord, FileEntry, FileKind, Upload};
use crate::checkpoint::store::{may_be_gone, ways_out};

/// How often the upload of one file may expire while it is under way.
const UPLOADS_MAX: usize = 4;

/// The files of one checkpoint, in scratch and in the bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files<'a> {
    pub requests: &'a Requests,
    pub scratch: &'a Scratch,
    pub staged_by: StagedBy,
    pub when: When,
}

/// When files are made visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Right behind their record: nobody can have seen one before.
    Commit,
    /// At a later start. Some may have been visible since long, and removed: a provider may answer that it completed an upload which it completed before.
    Recovery,
}

/// What a file of a record came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Published {
    /// It is visible.
    Visible,
    /// Its upload expired, and its bytes are not in scratch: nobody has them but the source.
    Lost,
}

impl Files<'_> {
    /// Uploads a file, without making it visible.
    pub(super) async fn upload(&self, file: &FileEntry) -> Result<Upload> {
        let key = self.key(file);
        for _ in 0..UPLOADS_MAX {
            let uploaded = self.upload_once(&key, file).await?;
            if let Some(upload) = uploaded {
                return Ok(upload);
            }
        }
        Err(Error::try_again(format!("the upload of `{}` was given up {UPLOADS_MAX} times while it was under way", file.path)))
    }

    /// Uploads a file; `None` if the upload was given up by another while it was under way, as a rule of the bucket does with old ones.
    async fn upload_once(&self, key: &ObjectKey, file: &FileEntry) -> Result<Option<Upload>> {
        let doing = format_args!("upload `{}`", file.path);
        let blob = self.requests.blob();
        let id = self.requests.persist(|| blob.create_upload(key)).await.map_err(|fault| failed(doing, fault))?;
        let (mut parts, mut tags) = (self.scratch.parts(self.staged_by, file)?, Vec::new());
        while let Some(part) = parts.next()? {
            match self.requests.persist(|| blob.put_part(key, &id, tags.len(), part.clone())).await {
                Ok(tag) => tags.push(tag),
                Err(Fault::UploadGone) => return Ok(None),
                Err(fault) => return Err(failed(doing, fault)),
            }
        }
        Ok(Some(Upload { id, parts: tags }))
    }

    /// Makes a file visible that a record names. May be repeated, by whichever process.
    ///
    /// # Errors
    /// [`pintail_core::error::ErrorKind::State`] if something else has its name.
    pub(super) async fn publish(&self, file: &FileEntry) -> Result<Published> {
        let Some(named) = &file.upload else { return Ok(Published::Visible) };
        let (key, mut pauses, mut upload) = (self.key(file), self.requests.pauses(), named.clone());
        let is_there =
            async || self.requests.look(&self.requests.paths.published(&file.path)).await.map(|meta| meta.map(|meta| meta.bytes));
        if self.when == When::Recovery && is_there().await? == Some(file.bytes) {
            return Ok(Published::Visible);
        }
        loop {
            let fault = match self.requests.blob().complete(&key, &upload.id, &upload.parts).await {
                Ok(()) if self.when == When::Commit => return Ok(Published::Visible),
                Ok(()) => Fault::UploadGone,
                Err(fault) => fault,
            };
            match publication(&fault, is_there().await?, file.bytes) {
                Publication::Done => return Ok(Published::Visible),
                Publication::Wrong => return Err(self.occupied(file)),
                Publication::Anew if !self.scratch.holds(self.staged_by, file)? => return Ok(Published::Lost),
                Publication::Anew if pauses.pause(&fault).await => upload = self.upload(file).await?,
                Publication::Again if pauses.pause(&fault).await => {}
                Publication::Anew | Publication::Again | Publication::Refused => {
                    let sequence = self.staged_by.sequence;
                    return Err(failed(format_args!("publish `{}` of checkpoint {sequence}, which is committed", file.path), fault));
                }
            }
        }
    }

    /// Gives an upload up that no record names. Whether that is done does not matter: what is left of it is invisible, and expires.
    pub(super) async fn give_up(&self, file: &FileEntry) {
        if let Some(Upload { id, .. }) = &file.upload
            && let Err(fault) = self.requests.blob().abort(&self.key(file), id).await
        {
            debug!(%fault, file = file.path, "could not give up an upload");
        }
    }

    fn key(&self, file: &FileEntry) -> ObjectKey {
        self.requests.key(&self.requests.paths.published(&file.path))
    }

    fn occupied(&self, file: &FileEntry) -> Error {
        Error::state(format!(
            "in the place of `{}` of checkpoint {} lies what is not what the record says: move it away, and start again",
            self.requests.paths.published(&file.path).display(),
            self.staged_by.sequence
        ))
    }
}

/// Makes all files of a record visible, side by side. May be repeated, by whichever process. Those whose rows are all older than `expired_before` may
/// be gone.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`] if one cannot be, naming all of them; the others are visible then.
pub(super) async fn publish_all(
    requests: &Requests,
    scratch: &Scratch,
    record: &CommitRecord,
    expired_before: Option<DateTime<Utc>>,
    when: When,
) -> Result<()> {
    let of = Files { requests, scratch, staged_by: record.staged_by(), when };
    let publish = |file| async move { (file, of.publish(file).await) };
    let published: Vec<(&FileEntry, Result<Published>)> =
        stream::iter(record.files.iter().map(publish)).buffered(SIDE_BY_SIDE).collect().await;
    let mut lost = Vec::new();
    for (file, published) in published {
        if published? == Published::Lost {
            lost.push(file);
        }
    }
    check_lost(record, lost, expired_before)
}

/// Checks that the files of a record are there, if they are known to have been visible. Changes nothing. What lies in scratch is uploaded again by a start.
///
/// # Errors
/// [`pintail_core::error::ErrorKind::State`], naming all that are gone.
pub(super) async fn check_still_visible(
    requests: &Requests,
    scratch: &Scratch,
    record: &CommitRecord,
    expired_before: Option<DateTime<Utc>>,
) -> Result<()> {
    let beat = requests.read(&requests.paths.beat()).await?.and_then(|object| Beat::parse(&object.bytes));
    if beat.is_none_or(|beat| beat.sequence < record.sequence) {
        return Ok(());
    }
    let look = |file: &FileEntry| {
        let place = requests.paths.published(&file.path);
        async move { requests.look(&place).await }
    };
    let looked: Vec<_> = stream::iter(record.files.iter().map(look)).buffered(SIDE_BY_SIDE).collect().await;
    let mut lost = Vec::new();
    for (file, there) in record.files.iter().zip(looked) {
        let is_there = there?.is_some() || scratch.holds(record.staged_by(), file)?;
        if !is_there && file.upload.is_some() {
            lost.push(file);
        }
    }
    check_lost(record, lost, expired_before)
}

/// Refuses files that are lost, but for those that may be gone: their rows are all older than `expired_before`.
fn check_lost(record: &CommitRecord, mut lost: Vec<&FileEntry>, expired_before: Option<DateTime<Utc>>) -> Result<()> {
    lost.retain(|file| !may_be_gone(record, file, expired_before));
    if lost.is_empty() { Ok(()) } else { Err(expired(record, &lost)) }
}

/// Returns the error that says that files are committed and cannot become visible any more.
fn expired(record: &CommitRecord, files: &[&FileEntry]) -> Error {
    let names: Vec<String> = files.iter().map(|file| format!("`{}`", file.path)).collect();
    let spans = record.source.partitions.iter().map(|span| format!("{} [{}, {})", span.label, span.from, span.to));
    Error::state(format!(
        "checkpoint {} is committed and cannot publish {}: somebody removed that, or the upload expired before it was completed; it held records of {}; {}",
        record.sequence,
        names.join(", "),
        spans.collect::<Vec<_>>().join(", "),
        ways_out(record, files)
    ))
}

/// Checks that the names of a record's files hold its sequence number and the instance: a file of that name and length can be no other.
///
/// # Errors
/// Says in words which name does not.
pub(super) fn check_names(paths: &Paths, record: &CommitRecord) -> std::result::Result<(), String> {
    let names_it = |file: &FileEntry| match file.kind {
        FileKind::Parquet => paths.checkpoint_of(file.path.as_ref()) == Some(record.sequence),
        FileKind::DeadLetters => file.path == paths.dead_letters_of(record.sequence),
    };
    let uploaded = record.files.iter().filter(|file| file.upload.is_some());
    match uploaded.into_iter().find(|file| !names_it(file)) {
        Some(file) => Err(format!("it names `{}`, a name that is not of this checkpoint alone", file.path)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::{PartTag, UploadId};
    use crate::checkpoint::record::tests::record;

    #[test]
    fn only_files_named_after_their_checkpoint_and_instance_are_told_by_their_names() {
        let paths = Paths::new("s3://lake");
        let upload = Some(Upload { id: UploadId("id".into()), parts: vec![PartTag("tag".into())] });
        let mut record = record();
        record.files.iter_mut().for_each(|file| file.upload.clone_from(&upload));
        assert_eq!(check_names(&paths, &record), Ok(()));
        assert!(check_names(&paths.of_instance(2), &record).is_err(), "of another instance");
        for name in ["region=us/events-2026-01-01-00-41.parquet", "region=us/events-2026-01-01-00-i2-42.parquet", "region=us/mine.parquet"]
        {
            record.files[0].path = name.into();
            assert!(check_names(&paths, &record).unwrap_err().contains(name));
        }
        record.files[0].upload = None;
        assert_eq!(check_names(&paths, &record), Ok(()), "one that an operator adopted keeps its name");
    }
}
