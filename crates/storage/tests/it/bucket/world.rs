//! A bucket in memory, with the habits of each provider.
//!
//! Owns: what is there, what each request does to it, and what must never be done to it, whoever asks.
//! Does not own: which requests are answered, and when (see `client`), what must hold afterwards (see `oracle`).
//!
//! What it assumes of a provider, and nothing more: a request is done in one step, or not at all; of requests that create one object one wins; what was
//! done is seen by everybody from then on. Where providers differ it has all of their ways (see [`Provider`]).

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use pintail_core::digest::sha256_hex;
use pintail_storage::blob::{Fault, Meta, Object, ObjectKey, Page, PartTag, Reach, UploadId};
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::record::CommitRecord;

use crate::model::disk::Disk;

/// What differs from provider to provider: what becomes of an upload that is completed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Provider {
    /// It is done again, and answered so.
    Aws,
    /// There is no such upload any more (MinIO).
    Minio,
    /// An error of the server (Ceph), each time.
    Ceph,
    /// Blocks belong to the name, with ids of their own; the same list can be written again. Nothing is given up.
    Azure,
}

pub(crate) const PROVIDERS: [Provider; 4] = [Provider::Aws, Provider::Minio, Provider::Ceph, Provider::Azure];

/// A request, as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Get(String, Range<u64>),
    Head(String),
    PutIfAbsent(String, Bytes),
    Replace(String, Bytes),
    CreateUpload(String),
    PutPart(String, String, usize, Bytes),
    Complete(String, String, Vec<String>),
    Abort(String, String),
    List(usize),
    Page(String, Reach, Option<String>),
}

impl Request {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Get(key, _) | Self::Head(key) | Self::PutIfAbsent(key, _) | Self::Replace(key, _) | Self::CreateUpload(key) => key,
            Self::PutPart(key, ..) | Self::Complete(key, ..) | Self::Abort(key, _) => key,
            Self::List(_) | Self::Page(..) => "",
        }
    }

    /// Returns whether it may change anything.
    pub(crate) fn is_change(&self) -> bool {
        !matches!(self, Self::Get(..) | Self::Head(_) | Self::List(_) | Self::Page(..))
    }
}

/// An answer, as it travels.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Object(Option<Object>),
    Meta(Option<Meta>),
    Upload(UploadId),
    Part(PartTag),
    Keys(Vec<ObjectKey>),
    Page(Page),
    Done,
}

/// A bucket, and the local disk of the host that most of its processes run on.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub provider: Provider,
    pub objects: BTreeMap<String, (Bytes, DateTime<Utc>)>,
    /// Parts that were uploaded, by key and upload; with Azure the upload is nameless.
    uploads: BTreeMap<(String, String), BTreeMap<String, Bytes>>,
    /// Lists that were completed: with AWS and Azure they may be again.
    completed: BTreeMap<(String, String), Vec<String>>,
    ids: u64,
    /// Processes that were started.
    pub starts: u64,
    /// The time of the server.
    pub now: DateTime<Utc>,
    /// A request that is still under way although its process is gone.
    pub late: Option<Request>,
    /// The scratch of the host.
    pub scratch: Disk,
    /// The source records that were acknowledged: they must not be lost.
    pub acknowledged: u64,
    /// What was done that must never be.
    pub broken: Option<String>,
    /// Objects and directories on a page of a list.
    pub page_max: usize,
    /// A copy of the bucket that somebody made.
    copy: Option<Box<World>>,
}

impl World {
    pub(crate) fn new(provider: Provider) -> Self {
        Self {
            provider,
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            completed: BTreeMap::new(),
            ids: 0,
            starts: 0,
            now: DateTime::UNIX_EPOCH,
            late: None,
            scratch: Disk::new(),
            acknowledged: 0,
            broken: None,
            page_max: 1_000,
            copy: None,
        }
    }

    /// Lets all uploads expire that are not completed.
    pub(crate) fn expire(&mut self) {
        self.uploads.clear();
    }

    /// Makes a copy of all that is there, as other hands do.
    pub(crate) fn copy(&mut self) {
        self.copy = Some(Box::new(self.clone()));
    }

    /// Puts the bucket back to the copy, or empties it if there is none. The scratch of the host stays, and so does the clock of the server.
    pub(crate) fn put_back(&mut self) {
        let copy = self.copy.take().map_or_else(|| Self::new(self.provider), |copy| *copy);
        self.objects = copy.objects;
        (self.uploads, self.completed, self.acknowledged) = (copy.uploads, copy.completed, copy.acknowledged);
    }

    /// Removes an object, as other hands do.
    pub(crate) fn remove(&mut self, key: &str) {
        self.objects.remove(key);
    }

    /// Returns how many uploads are not completed.
    pub(crate) fn open_uploads(&self) -> usize {
        self.uploads.len()
    }

    /// Returns whether an upload can still be completed.
    pub(crate) fn is_open(&self, key: &str, upload: &str) -> bool {
        self.uploads.contains_key(&(key.to_owned(), upload.to_owned()))
    }

    /// Returns what a reader's glob finds.
    pub(crate) fn visible(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.objects.iter().filter(|(key, _)| key.ends_with(".parquet")).map(|(key, (bytes, _))| (key.as_str(), bytes))
    }

    /// Returns what must not be changed by whoever was fenced: what readers see, and the records.
    pub(crate) fn lasting(&self) -> BTreeMap<String, Bytes> {
        let lasting = self.objects.iter().filter(|(key, _)| key.ends_with(".parquet") || key.contains("/commits/"));
        lasting.map(|(key, (bytes, _))| (key.clone(), bytes.clone())).collect()
    }

    /// Does what a request asks for.
    pub(crate) fn apply(&mut self, request: &Request) -> Result<Reply, Fault> {
        self.now += TimeDelta::milliseconds(1);
        match request {
            Request::Get(key, range) => Ok(Reply::Object(self.get(key, range))),
            Request::Head(key) => Ok(Reply::Meta(self.meta(key))),
            Request::PutIfAbsent(key, _) if self.objects.contains_key(key) => Err(Fault::Exists),
            Request::PutIfAbsent(key, bytes) | Request::Replace(key, bytes) => {
                self.put(key, bytes.clone());
                Ok(Reply::Done)
            }
            Request::CreateUpload(key) => Ok(Reply::Upload(UploadId(self.create_upload(key)))),
            Request::PutPart(key, upload, index, bytes) => self.put_part(key, upload, *index, bytes).map(|tag| Reply::Part(PartTag(tag))),
            Request::Complete(key, upload, parts) => self.complete(key, upload, parts).map(|()| Reply::Done),
            Request::Abort(key, upload) => self.abort(key, upload).map(|()| Reply::Done),
            Request::Page(dir, reach, page) => Ok(Reply::Page(self.page(dir, *reach, page.as_deref()))),
            Request::List(at_most) => Ok(Reply::Keys(self.objects.keys().take(*at_most).map(ObjectKey::new).collect())),
        }
    }

    fn meta(&self, key: &str) -> Option<Meta> {
        self.objects.get(key).map(|(bytes, written)| Meta { bytes: bytes.len() as u64, written: *written })
    }

    fn get(&self, key: &str, range: &Range<u64>) -> Option<Object> {
        let (bytes, _) = self.objects.get(key)?;
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        Some(Object { meta: self.meta(key)?, bytes: bytes.slice(at(range.start)..at(range.end)) })
    }

    /// Lists what lies behind the name that a page ended with.
    fn page(&self, dir: &str, reach: Reach, after: Option<&str>) -> Page {
        let dir = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let (mut page, mut last) = (Page::default(), None);
        for (key, (bytes, _)) in self.objects.iter().filter(|(key, _)| key.starts_with(&dir)) {
            let below = key[dir.len()..].split_once('/').filter(|_| reach == Reach::Level);
            let name = below.map_or(key.clone(), |(below, _)| format!("{dir}{below}/"));
            if after.is_some_and(|after| name.as_str() <= after) || last.as_ref() == Some(&name) {
                continue;
            }
            if page.objects.len() + page.dirs.len() == self.page_max {
                page.next = last;
                return page;
            }
            match below {
                Some(_) => page.dirs.push(ObjectKey::new(name.trim_end_matches('/'))),
                None => page.objects.push((ObjectKey::new(name.as_str()), bytes.len() as u64)),
            }
            last = Some(name);
        }
        page
    }

    fn put(&mut self, key: &str, bytes: Bytes) {
        let before = self.objects.insert(key.to_owned(), (bytes.clone(), self.now));
        let must_stay = !key.ends_with("/BEAT") && !key.ends_with("/CLOCK");
        if must_stay && before.is_some_and(|(before, _)| before != bytes) {
            self.broken.get_or_insert(format!("{key} was there, and holds something else now"));
        }
    }

    fn create_upload(&mut self, key: &str) -> String {
        self.ids += 1;
        let id = if self.provider == Provider::Azure { String::new() } else { format!("upload-{}", self.ids) };
        self.uploads.entry((key.to_owned(), id.clone())).or_default();
        id
    }

    fn put_part(&mut self, key: &str, upload: &str, index: usize, bytes: &Bytes) -> Result<String, Fault> {
        self.ids += 1;
        let tag = match self.provider {
            Provider::Azure => format!("block-{}", self.ids),
            _ => format!("{index}-{}", &sha256_hex(bytes)[..8]),
        };
        let of = (key.to_owned(), upload.to_owned());
        let parts = match self.provider {
            Provider::Azure => self.uploads.entry(of).or_default(),
            _ => self.uploads.get_mut(&of).ok_or(Fault::UploadGone)?,
        };
        parts.insert(tag.clone(), bytes.clone());
        Ok(tag)
    }

    fn complete(&mut self, key: &str, upload: &str, tags: &[String]) -> Result<(), Fault> {
        let of = (key.to_owned(), upload.to_owned());
        if self.completed.get(&of).is_some_and(|completed| completed == tags) {
            return match self.provider {
                Provider::Aws | Provider::Azure => Ok(()),
                Provider::Minio => Err(Fault::UploadGone),
                Provider::Ceph => Err(Fault::Unknown("500".into())),
            };
        }
        let parts = self.uploads.get(&of).ok_or(Fault::UploadGone)?;
        let parts: Option<Vec<&[u8]>> = tags.iter().map(|tag| parts.get(tag).map(|part| &**part)).collect();
        let bytes = Bytes::from(parts.ok_or(Fault::UploadGone)?.concat());
        self.uploads.remove(&of);
        self.completed.insert(of, tags.to_vec());
        self.check_committed(key, &bytes);
        self.put(key, bytes);
        Ok(())
    }

    /// Notes if a file becomes visible that no record names, or as another than its record says.
    fn check_committed(&mut self, key: &str, bytes: &Bytes) {
        let paths = Paths::new("");
        let named = paths.checkpoint_of(key.as_ref()).and_then(|sequence| {
            let (record, _) = self.objects.get(paths.record(sequence).to_str()?)?;
            CommitRecord::parse(record, sequence).ok()?.0.files.into_iter().find(|file| file.path == key)
        });
        if named.is_none_or(|file| file.sha256 != sha256_hex(bytes)) {
            self.broken.get_or_insert(format!("{key} is visible, and no record names what it holds"));
        }
    }

    fn abort(&mut self, key: &str, upload: &str) -> Result<(), Fault> {
        match self.provider {
            Provider::Azure => Ok(()),
            _ => self.uploads.remove(&(key.to_owned(), upload.to_owned())).map(|_| ()).ok_or(Fault::UploadGone),
        }
    }
}
