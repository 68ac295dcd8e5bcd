//! The probe of a bucket, on servers that honour the condition and on some that do not.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use pintail_bucket::{Bucket, Client, RequestKind, probe};
use pintail_core::error::ErrorKind;
use pintail_storage::blob::{Answer, Blob, Fault, Meta, Object, ObjectKey, Page, PartTag, Reach, UploadId};
use tokio::sync::Barrier;

use crate::line::{EVENTS, Event, Line};
use crate::servers::{PROVIDERS, server};

#[tokio::test]
async fn a_server_that_honours_the_condition_passes_the_probe_again_and_again() {
    for provider in PROVIDERS {
        let server = server(provider);
        let bucket = server.plain(&server.new_place());
        for nonce in ["1", "2"] {
            probe(&bucket, bucket.location().as_str(), nonce).await.unwrap();
        }
        assert_eq!(bucket.list(10).await.unwrap().len(), 2, "{provider}: it leaves two small objects");
    }
}

#[tokio::test]
async fn a_lost_answer_does_not_make_the_probe_fail_a_good_server() {
    let server = server(pintail_bucket::Provider::S3);
    let client = Arc::new(Client::new(&server.config()).unwrap());
    let events = EVENTS.into_iter().filter(|event| !matches!(event, Event::CrashBefore | Event::CrashAfter | Event::Stopped));
    for (number, event) in events.flat_map(|event| (0..4).map(move |number| (number, event))) {
        let line = Line::new(client.clone(), Some(((RequestKind::Create, number), event)));
        let bucket = server.connect(&server.new_place(), Arc::new(line));
        let passed = probe(&bucket, bucket.location().as_str(), "1").await;
        assert!(passed.is_ok(), "{event:?} at creation {number}: {passed:?}");
    }
}

/// A server that does not honour the condition.
#[derive(Debug)]
struct Careless {
    bucket: Bucket,
    /// It looks first, so that only those fail that come at the same time: those of the race, which all look before one of them writes.
    looks: Option<Barrier>,
}

impl Blob for Careless {
    fn get<'a>(&'a self, key: &'a ObjectKey, range: Range<u64>) -> Answer<'a, Option<Object>> {
        self.bucket.get(key, range)
    }
    fn head<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, Option<Meta>> {
        self.bucket.head(key)
    }
    fn put_if_absent<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> Answer<'a, ()> {
        Box::pin(async move {
            if let Some(all) = &self.looks {
                let is_there = self.bucket.head(key).await?.is_some();
                if key.as_str().ends_with("/race") {
                    all.wait().await;
                }
                if is_there {
                    return Err(Fault::Exists);
                }
            }
            self.bucket.replace(key, bytes).await
        })
    }
    fn replace<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes) -> Answer<'a, ()> {
        self.bucket.replace(key, bytes)
    }
    fn create_upload<'a>(&'a self, key: &'a ObjectKey) -> Answer<'a, UploadId> {
        self.bucket.create_upload(key)
    }
    fn put_part<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId, index: usize, bytes: Bytes) -> Answer<'a, PartTag> {
        self.bucket.put_part(key, upload, index, bytes)
    }
    fn complete<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId, parts: &'a [PartTag]) -> Answer<'a, ()> {
        self.bucket.complete(key, upload, parts)
    }
    fn list(&self, at_most: usize) -> Answer<'_, Vec<ObjectKey>> {
        self.bucket.list(at_most)
    }
    fn abort<'a>(&'a self, key: &'a ObjectKey, upload: &'a UploadId) -> Answer<'a, ()> {
        self.bucket.abort(key, upload)
    }
    fn page<'a>(&'a self, dir: &'a str, reach: Reach, page: Option<String>) -> Answer<'a, Page> {
        self.bucket.page(dir, reach, page)
    }
}

#[tokio::test]
async fn a_server_that_ignores_the_condition_is_refused_also_if_it_does_so_only_in_a_race() {
    for (looks, part) in [(false, "created twice"), (true, "by 8 requests at once")] {
        for provider in PROVIDERS {
            let server = server(provider);
            let bucket = server.plain(&server.new_place());
            let named = bucket.location().as_str().to_owned();
            let looks = looks.then(|| Barrier::new(8));
            let refused = probe(&Careless { bucket, looks }, &named, "1").await.unwrap_err();
            assert_eq!((refused.kind(), refused.kind().exit_code()), (ErrorKind::Config, 78));
            assert!(refused.to_string().contains(part) && refused.to_string().contains(&named), "{provider}: {refused}");
        }
    }
}
