//! The requests of the commit protocol, to a bucket of a provider.
//!
//! Owns: [`Blob`] over object_store, one request for each of its methods, and the fault that an answer becomes.
//! Does not own: making the client (see `connect`), seeing and judging answers (see `http` and `meaning`).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use chrono::DateTime;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, GetRange, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
};
use pintail_storage::blob::{Answer, Blob, Discard, Fault, Meta, Object, ObjectKey, Page, PartTag, Reach, Shelf, UploadId};

use crate::http::{Seen, seen};
use crate::location::{Location, Provider};
use crate::meaning::{From, Meaning, meaning, no_credentials, told};
use crate::meters::{Meters, RequestKind, Traffic};
use crate::parts::Uploads;

/// What a client of object_store can do, of whichever provider.
pub(crate) trait Store: ObjectStore + MultipartStore + PaginatedListStore {}

impl<S: ObjectStore + MultipartStore + PaginatedListStore> Store for S {}

/// A bucket, from the root of a dataset on.
pub struct Bucket {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) uploads: Uploads,
    pub(crate) location: Location,
    /// The server, as messages call it.
    pub(crate) endpoint: String,
    /// Where the credentials are from, in words.
    pub(crate) credentials: String,
    /// The storage class of data files.
    pub(crate) class: Option<String>,
    pub(crate) meters: Arc<Meters>,
}

impl fmt::Debug for Bucket {
    /// Without the client, which holds credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("location", &self.location).field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Bucket {
    /// Returns where it is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Returns the server, as messages call it.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns where the credentials are from, in words.
    pub fn credentials(&self) -> &str {
        &self.credentials
    }

    /// Returns the counts of all requests so far.
    pub fn traffic(&self) -> Traffic {
        self.meters.traffic()
    }

    /// Returns the whole name of an object. It is taken as it is: a `%` of a hive partition's value stays one.
    fn path(&self, key: &ObjectKey) -> Result<Path, Fault> {
        let prefix = &self.location.prefix;
        let name = if prefix.is_empty() { key.as_str().to_owned() } else { format!("{prefix}/{key}") };
        Path::parse(name).map_err(|_| Fault::Refused(format!("`{key}` cannot be the name of an object")))
    }

    /// Does a request. What its answer means, if that is an error, is told beside the fault.
    async fn ask<T>(&self, kind: RequestKind, request: impl Future<Output = object_store::Result<T>>) -> Result<T, (Meaning, Fault)> {
        let (result, seen) = seen(kind, request).await;
        let error = match result {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let (meaning, fault) = self.judge(kind, &error, seen);
        if fault.may_pass() {
            self.meters.inconclusive();
        }
        Err((meaning, fault))
    }

    fn judge(&self, kind: RequestKind, error: &object_store::Error, seen: Option<Seen>) -> (Meaning, Fault) {
        let bucket = format!("{}://{}", self.scheme(), self.location.bucket);
        let from = From { provider: self.location.provider, endpoint: &self.endpoint, bucket: &bucket, credentials: &self.credentials };
        // An answer of 200 to a question for credentials says nothing of the bucket: what failed is on this side of the line.
        let seen = match seen {
            Some(seen) if !seen.of_credentials => seen,
            Some(seen) => {
                let may_pass = seen.status.is_none_or(|status| status >= 500 || status == 429);
                let text = no_credentials(&seen, from);
                return if may_pass { (Meaning::Unknown, Fault::Unknown(text)) } else { (Meaning::Refused, Fault::Refused(text)) };
            }
            // Nothing was sent: a file of a token that is not there, a program that is not installed.
            None => {
                let seen = Seen { said: Some(system_cause(error).unwrap_or_else(|| "they cannot be used".to_owned())), ..Seen::default() };
                return (Meaning::Refused, Fault::Refused(no_credentials(&seen, from)));
            }
        };
        let meaning = meaning(kind, &seen);
        let fault = match meaning {
            Meaning::Exists => Fault::Exists,
            Meaning::UploadGone => Fault::UploadGone,
            Meaning::Throttled => Fault::Throttled(seen.retry_after),
            Meaning::Unknown => Fault::Unknown(told(kind, &seen, from)),
            Meaning::Absent | Meaning::Beyond | Meaning::Refused => Fault::Refused(told(kind, &seen, from)),
        };
        (meaning, fault)
    }

    fn scheme(&self) -> &'static str {
        match self.location.provider {
            Provider::S3 => "s3",
            Provider::Gcs => "gs",
            Provider::Azure => "az",
        }
    }

    /// Takes what is known of an object. Without the time of the server nobody could tell who is alive.
    fn meta(&self, meta: &ObjectMeta) -> Result<Meta, Fault> {
        if meta.last_modified == DateTime::UNIX_EPOCH {
            return Err(Fault::Refused(format!("{} does not tell when an object was written (Last-Modified)", self.endpoint)));
        }
        Ok(Meta { bytes: meta.size, written: meta.last_modified })
    }

    async fn look(&self, key: &ObjectKey) -> Result<Option<Meta>, Fault> {
        let path = self.path(key)?;
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.ask(RequestKind::Head, self.store.get_opts(&path, options)).await {
            Ok(found) => self.meta(&found.meta).map(Some),
            Err((Meaning::Absent, _)) => Ok(None),
            Err((Meaning::Refused, fault)) => Err(self.why(&path).await.unwrap_or(fault)),
            Err((_, fault)) => Err(fault),
        }
    }

    /// Asks for a byte of an object that may not be looked at: the answer to that has a body, which says why.
    async fn why(&self, path: &Path) -> Option<Fault> {
        let options = GetOptions { range: Some(GetRange::Bounded(0..1)), ..GetOptions::default() };
        match self.ask(RequestKind::Get, self.store.get_opts(path, options)).await {
            Err((Meaning::Refused, fault)) => Some(fault),
            _ => None,
        }
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<Option<Object>, Fault> {
        let empty = |meta: Option<Meta>| meta.map(|meta| Object { meta, bytes: Bytes::new() });
        if range.is_empty() {
            return self.look(key).await.map(empty);
        }
        let path = self.path(key)?;
        let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let read = async {
            let found = self.store.get_opts(&path, options).await?;
            let meta = found.meta.clone();
            Ok((meta, found.bytes().await?))
        };
        match self.ask(RequestKind::Get, read).await {
            Ok((meta, bytes)) => {
                self.meters.received(bytes.len() as u64);
                Ok(Some(Object { meta: self.meta(&meta)?, bytes }))
            }
            Err((Meaning::Absent, _)) => Ok(None),
            // Of an object without bytes no range can be had.
            Err((Meaning::Beyond, _)) => self.look(key).await.map(empty),
            // Azurite answers such a range with 206, and with a range that ends before it begins.
            Err((Meaning::Unknown, fault)) if range.start > 0 => match self.look(key).await? {
                Some(meta) if meta.bytes <= range.start => Ok(empty(Some(meta))),
                _ => Err(fault),
            },
            Err((_, fault)) => Err(fault),
        }
    }

    async fn put(&self, kind: RequestKind, key: &ObjectKey, bytes: Bytes, mode: PutMode) -> Result<(), Fault> {
        let path = self.path(key)?;
        let put = self.store.put_opts(&path, PutPayload::from_bytes(bytes), PutOptions { mode, ..PutOptions::default() });
        self.ask(kind, put).await.map(|_| ()).map_err(|(_, fault)| fault)
    }

    async fn names(&self, at_most: usize) -> Result<Vec<ObjectKey>, Fault> {
        let prefix = Some(&self.location.prefix).filter(|prefix| !prefix.is_empty()).map(|prefix| format!("{prefix}/"));
        let (mut names, mut page_token) = (Vec::new(), None);
        loop {
            let options = PaginatedListOptions { max_keys: Some(at_most.min(1_000)), page_token, ..PaginatedListOptions::default() };
            let listed = self.ask(RequestKind::List, self.store.list_paginated(prefix.as_deref(), options)).await;
            let page = listed.map_err(|(_, fault)| fault)?;
            for object in page.result.objects {
                let name = object.location.as_ref();
                // An object that stands for the root itself has no name below it.
                let below = prefix.as_deref().map_or(Some(name), |prefix| name.strip_prefix(prefix));
                names.extend(below.map(ObjectKey::new));
            }
            page_token = page.page_token;
            if names.len() >= at_most || page_token.is_none() {
                names.truncate(at_most);
                // SeaweedFS lists a directory as if its name ended with it.
                names.sort();
                return Ok(names);
            }
        }
    }
}

impl Shelf for Bucket {
    fn can_be_completed<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId, parts: &'a [PartTag]) -> Answer<'a, bool> {
        Box::pin(async move {
            let path = self.path(key)?;
            match self.ask(RequestKind::Parts, self.uploads.have(&path, &upload.0, parts)).await {
                Err((Meaning::UploadGone, _)) => Ok(false),
                answer => answer.map_err(|(_, fault)| fault),
            }
        })
    }
}

impl Discard for Bucket {
    fn discard<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, ()> {
        Box::pin(async move {
            let path = self.path(key)?;
            match self.ask(RequestKind::Discard, self.uploads.remove(&path)).await {
                Ok(()) | Err((Meaning::Absent, _)) => Ok(()),
                Err((_, fault)) => Err(fault),
            }
        })
    }
}

impl Blob for Bucket {
    fn get<'a>(&'a self, key: &'a ObjectKey, range: Range<u64>) -> Answer<'a, Option<Object>> {
        Box::pin(self.read(key, range))
    }

    fn head<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, Option<Meta>> {
        Box::pin(self.look(key))
    }

    fn put_if_absent<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> Answer<'a, ()> {
        Box::pin(self.put(RequestKind::Create, key, bytes, PutMode::Create))
    }

    fn replace<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> Answer<'a, ()> {
        Box::pin(self.put(RequestKind::Replace, key, bytes, PutMode::Overwrite))
    }

    fn create_upload<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, UploadId> {
        Box::pin(async move {
            let path = self.path(key)?;
            let attributes: Attributes = self.class.iter().map(|class| (Attribute::StorageClass, class.clone())).collect();
            let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
            let begun = self.ask(RequestKind::Begin, self.store.create_multipart_opts(&path, options)).await;
            begun.map(UploadId).map_err(|(_, fault)| fault)
        })
    }

    fn put_part<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId, index: usize, bytes: Bytes) -> Answer<'a, PartTag> {
        Box::pin(async move {
            let path = self.path(key)?;
            let put = self.store.put_part(&path, &upload.0, index, PutPayload::from_bytes(bytes));
            self.ask(RequestKind::Part, put).await.map(|part| PartTag(part.content_id)).map_err(|(_, fault)| fault)
        })
    }

    fn complete<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId, parts: &'a [PartTag]) -> Answer<'a, ()> {
        Box::pin(async move {
            let path = self.path(key)?;
            let parts = parts.iter().map(|part| PartId { content_id: part.0.clone() }).collect();
            let completed = self.ask(RequestKind::Complete, self.store.complete_multipart(&path, &upload.0, parts)).await;
            completed.map(|_| ()).map_err(|(_, fault)| fault)
        })
    }

    fn list(&self, at_most: usize) -> Answer<'_, Vec<ObjectKey>> {
        Box::pin(self.names(at_most))
    }

    fn abort<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId) -> Answer<'a, ()> {
        Box::pin(async move {
            let path = self.path(key)?;
            self.ask(RequestKind::Abort, self.store.abort_multipart(&path, &upload.0)).await.map_err(|(_, fault)| fault)
        })
    }

    fn page<'a>(&'a self, dir: &'a str, reach: Reach, page: Option<String>) -> Answer<'a, Page> {
        Box::pin(async move {
            let root = Some(&self.location.prefix).filter(|root| !root.is_empty()).map_or(String::new(), |root| format!("{root}/"));
            let below = if dir.is_empty() { root.clone() } else { format!("{root}{dir}/") };
            let options = PaginatedListOptions {
                delimiter: (reach == Reach::Level).then(|| "/".into()),
                page_token: page,
                ..PaginatedListOptions::default()
            };
            let prefix = Some(below.as_str()).filter(|below| !below.is_empty());
            let listed = self.ask(RequestKind::List, self.store.list_paginated(prefix, options)).await;
            let page = listed.map_err(|(_, fault)| fault)?;
            let key = |path: &Path| path.as_ref().strip_prefix(&*root).filter(|name| !name.is_empty()).map(ObjectKey::new);
            Ok(Page {
                objects: page.result.objects.iter().filter_map(|object| Some((key(&object.location)?, object.size))).collect(),
                dirs: page.result.common_prefixes.iter().filter_map(key).collect(),
                next: page.page_token,
            })
        })
    }
}

/// Returns what the operating system says beneath an error. All else that object_store says may hold a secret.
fn system_cause(error: &object_store::Error) -> Option<String> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(system) = error.downcast_ref::<std::io::Error>().filter(|error| error.raw_os_error().is_some()) {
            return Some(system.to_string());
        }
        cause = error.source();
    }
    None
}
