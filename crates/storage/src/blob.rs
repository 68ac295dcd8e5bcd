//! The requests to a bucket that a commit is made of.
//!
//! Owns: the contract, request by request, of what is there afterwards, and the kinds of answers that a request can have.
//! Does not own: the order of requests, and what follows from an answer (see `bucket`); how a provider is spoken to.
//!
//! It stands beside [`crate::durable::fs`], and is smaller: an object appears whole, is durable once it can be seen, and has one name. What a disk
//! does not do, a bucket does all the time: it answers late, or not at all, or says that it failed although it did not. So an answer is one of
//! three: done, not done, or *unknown*; and whoever hears the third must be able to ask again.
//!
//! The shape follows `ObjectStore` and `MultipartStore` of the crate object_store 0.14, with what these three providers have in common:
//!
//! | | S3 | GCS | Azure |
//! |---|---|---|---|
//! | create if absent | `If-None-Match: *` | `x-goog-if-generation-match: 0` | `If-None-Match: *` |
//! | an upload | has an id | has an id | has none: blocks belong to the name, each with a random id |
//! | complete an upload | no condition is passed | has no conditions | no condition is passed |
//! | complete it again | 200, `NoSuchUpload` or 500, by the server | not tried yet | 201, the same blocks |
//! | abort | by id | by id | nothing to do: blocks expire |
//!
//! [`Blob`] has no request that deletes an object ([`Discard`] has, for retention). Records are never deleted (the fence stands on their names), and an upload that is not committed is
//! given up by its id: nobody who was fenced can remove what another process wrote. Of a process that was killed nobody has the ids; a lifecycle rule
//! of the bucket for incomplete uploads takes what is left of them.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The answer to a request, once there is one.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'a>>;

/// A page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Objects with their lengths, in no order.
    pub objects: Vec<(ObjectKey, u64)>,
    /// Directories, where the list does not go into them: the beginnings of names up to the next `/`, without that.
    pub dirs: Vec<ObjectKey>,
    /// What the next page is asked for with; `None` behind the last one.
    pub next: Option<String>,
}

/// How far a list goes below its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It names what lies right there, and the directories.
    Level,
    /// It names all objects.
    All,
}

/// The name of an object, below the root of the dataset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

/// What a provider calls an upload; empty where uploads have no names of their own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UploadId(pub String);

/// What a provider calls a part of an upload (an entity tag, or the id of a block).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartTag(pub String);

/// What is known of an object without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// Its length.
    pub bytes: u64,
    /// When it was written, by the clock of the *server*: the only one that all who use a bucket share.
    pub written: DateTime<Utc>,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// What is known of the whole of it.
    pub meta: Meta,
    /// The bytes that were asked for.
    pub bytes: Bytes,
}

/// Why a request has no other answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It was not done, and never will be: no permission, no such bucket, a request that the provider does not understand.
    Refused(String),
    /// It was not done, for now: too many requests. To be asked again, not before the pause that the provider asks for.
    Throttled(Option<Duration>),
    /// Nobody knows whether it was done: no answer came, or one that says so of the server (5xx), or a conflict with another request.
    Unknown(String),
    /// The condition did not hold: something is there. *Never an answer by itself*: what is there may be this very request, done before by a client
    /// that tries again on its own; and S3's `ConditionalRequestConflict`, after which nothing is there, is reported in the same way.
    Exists,
    /// The upload is not there: it was completed, given up, or it expired.
    UploadGone,
}

/// A bucket, as the commit protocol uses it: below the root of one dataset. Each request may be sent again.
pub trait Blob: Send + Sync + fmt::Debug {
    /// Reads the bytes of an object that lie in `range`, or what there is of them; `None` if there is no object.
    fn get<'a>(&'a self, key: &'a ObjectKey, range: Range<u64>) -> Answer<'a, Option<Object>>;

    /// Tells what is there; `None` if nothing is.
    fn head<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, Option<Meta>>;

    /// Creates an object, if there is none of that name: of any number of requests one wins.
    fn put_if_absent<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> Answer<'a, ()>;

    /// Writes an object, whatever was there. Only for what nobody believes (the mark that tells a start where to begin to look), and for what is told by
    /// its checksum (a snapshot that is made again).
    fn replace<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> Answer<'a, ()>;

    /// Begins an upload. Nothing is visible before it is completed. Two of them may have the same key.
    fn create_upload<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, UploadId>;

    /// Uploads the part of an index, counted from 0. All parts but the last have the same length, of at least 5 MiB.
    fn put_part<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId, index: usize, bytes: Bytes) -> Answer<'a, PartTag>;

    /// Completes an upload: from now on the object is visible, whole.
    fn complete<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId, parts: &'a [PartTag]) -> Answer<'a, ()>;

    /// Lists what lies below the root, in the order of names, at most `at_most` of it. For a first start alone: it costs what there is, and many
    /// credentials don't allow it.
    fn list(&self, at_most: usize) -> Answer<'_, Vec<ObjectKey>>;

    /// Gives an upload up. Other uploads of the same key, and an object of that name, stay.
    fn abort<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId) -> Answer<'a, ()>;

    /// Lists what lies below a directory, which is empty for the root. `page` is what the page before has named as the next. No commit rests on it: a
    /// start looks for files that its ledger does not know, and readers want what names alone do not tell.
    fn page<'a>(&'a self, dir: &'a str, reach: Reach, page: Option<String>) -> Answer<'a, Page>;
}

/// A bucket as those see it who only read.
pub trait Shelf: Blob {
    /// Tells whether an upload that is not completed has these parts, so that it can be completed. It has not if it was completed, given up, or expired.
    fn can_be_completed<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId, parts: &'a [PartTag]) -> Answer<'a, bool>;
}

/// A bucket as retention sees it. Whoever commits has nothing to do with it.
pub trait Discard: Send + Sync + fmt::Debug {
    /// Removes an object, or finds that there is none.
    fn discard<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, ()>;
}

impl ObjectKey {
    /// Names an object by its path below the root of the dataset.
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    /// Returns the path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Fault {
    /// Returns whether the same request may have another answer later.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Throttled(_) | Self::Unknown(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "the provider refuses it: {why}"),
            Self::Throttled(_) => f.write_str("the provider has too many requests"),
            Self::Unknown(why) => write!(f, "it is not known whether it was done: {why}"),
            Self::Exists => f.write_str("something is there already"),
            Self::UploadGone => f.write_str("the upload is not there"),
        }
    }
}

impl std::error::Error for Fault {}
