//! Each request, to each provider: what is there afterwards, and what is said when it fails.
//!
//! Owns: the contract of [`Blob`] on real servers, and on servers that answer badly.
//! Does not own: the order of requests (see `commits`), secrets (see `secrets`).

use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use pintail_bucket::{Bucket, Location, Provider, RequestKind, StorageConfig};
use pintail_storage::blob::{Blob, Discard, Fault, PartTag, Shelf, UploadId};

use crate::dataset::{PART_BYTES, key};
use crate::gcs::{Fake, error, reply};
use crate::servers::{PROVIDERS, environment, server};

const ALL: std::ops::Range<u64> = 0..4 << 30;

fn new_bucket(provider: Provider) -> (std::sync::Arc<crate::servers::Server>, Bucket) {
    let server = server(provider);
    let bucket = server.plain(&server.new_place());
    (server, bucket)
}

#[tokio::test]
async fn an_object_is_created_once_and_read_as_it_was_written() {
    for provider in PROVIDERS {
        let (_server, bucket) = new_bucket(provider);
        let name = key("region=ä b%2F+c&d~e=f/x.json");
        assert_eq!(bucket.get(&name, ALL).await, Ok(None), "{provider}");
        assert_eq!(bucket.head(&name).await, Ok(None));
        bucket.put_if_absent(&name, Bytes::from_static(b"0123456789")).await.unwrap();
        assert_eq!(bucket.put_if_absent(&name, Bytes::from_static(b"theirs")).await, Err(Fault::Exists), "{provider}");
        let object = bucket.get(&name, ALL).await.unwrap().unwrap();
        assert_eq!((&*object.bytes, object.meta.bytes), (b"0123456789".as_slice(), 10));
        assert!((Utc::now() - object.meta.written).abs() < chrono::TimeDelta::seconds(60), "{:?}", object.meta);
        assert_eq!(bucket.head(&name).await.unwrap(), Some(object.meta));
        for (range, expected) in [(3..5, "34"), (8..100, "89"), (10..20, ""), (4..4, "")] {
            let part = bucket.get(&name, range.clone()).await.unwrap().unwrap();
            assert_eq!((&*part.bytes, part.meta.bytes), (expected.as_bytes(), 10), "{provider} {range:?}");
        }
        bucket.replace(&name, Bytes::new()).await.unwrap();
        let empty = bucket.get(&name, ALL).await.unwrap().unwrap();
        assert_eq!((empty.bytes.len(), empty.meta.bytes), (0, 0), "{provider}");
    }
}

#[tokio::test]
async fn a_list_has_what_is_below_the_root_sorted_by_name_and_no_more_than_asked_for() {
    for provider in PROVIDERS {
        let (server, bucket) = new_bucket(provider);
        let names = ["a/1", "a/2", "a b%2F/3", "b"];
        for name in names {
            bucket.replace(&key(name), Bytes::from_static(b"x")).await.unwrap();
        }
        let beside = Location::parse(&format!("{}-beside", bucket.location())).unwrap().unwrap();
        server.plain(&beside).replace(&key("z"), Bytes::from_static(b"x")).await.unwrap();
        let mut expected = names.map(key).to_vec();
        expected.sort();
        assert_eq!(bucket.list(1_000).await.unwrap(), expected, "{provider}");
        let two = bucket.list(2).await.unwrap();
        // SeaweedFS has its own order of directories, so that its first two names are others.
        assert!(two.len() == 2 && two.is_sorted() && two.iter().all(|name| expected.contains(name)), "{provider}: {two:?}");
    }
}

#[tokio::test]
async fn an_upload_is_visible_when_it_is_completed_and_one_that_was_given_up_is_gone() {
    for provider in PROVIDERS {
        let (_server, bucket) = new_bucket(provider);
        let name = key("region=us/1.parquet");
        let (first, second) = (bucket.create_upload(&name).await.unwrap(), bucket.create_upload(&name).await.unwrap());
        assert_eq!(first == second, provider == Provider::Azure, "with Azure an upload has no name of its own");
        let parts = [Bytes::from(vec![1; PART_BYTES]), Bytes::from_static(b"the rest")];
        let mut tags = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            tags.push(bucket.put_part(&name, &first, index, part.clone()).await.unwrap());
        }
        assert_eq!(bucket.head(&name).await, Ok(None), "{provider}: it is not visible yet");
        assert_eq!(bucket.list(10).await, Ok(vec![]));
        let can = async |upload: &UploadId, tags: &[PartTag]| bucket.can_be_completed(&name, upload, tags).await;
        assert_eq!(can(&first, &tags).await, Ok(true), "{provider}");
        let other = [tags[0].clone(), PartTag("ffffffffffffffffffffffffffffffff".into())];
        assert_eq!(can(&first, &other).await, Ok(false), "{provider}: it has another part");
        bucket.abort(&name, &second).await.unwrap();
        bucket.complete(&name, &first, &tags).await.unwrap();
        assert_eq!(can(&first, &tags).await, Ok(false), "{provider}: it is completed");
        let whole = bucket.get(&name, ALL).await.unwrap().unwrap();
        assert_eq!((whole.bytes.len(), &whole.bytes[PART_BYTES..]), (PART_BYTES + 8, b"the rest".as_slice()));
        let again = bucket.complete(&name, &first, &tags).await;
        assert!(matches!(again, Ok(()) | Err(Fault::UploadGone)), "{provider}: {again:?}");
        assert_eq!(bucket.head(&name).await.unwrap().unwrap().bytes, whole.meta.bytes, "{provider}");
        if provider != Provider::Azure {
            assert_eq!(bucket.put_part(&name, &second, 0, Bytes::from_static(b"x")).await, Err(Fault::UploadGone), "{provider}");
            assert_eq!(bucket.abort(&name, &second).await.err().filter(|fault| *fault != Fault::UploadGone), None);
        }
        let other = key("region=us/2.parquet");
        let gone = if provider == Provider::Azure { UploadId(String::new()) } else { second };
        let tag = PartTag("ffffffffffffffffffffffffffffffff".into());
        assert_eq!(bucket.can_be_completed(&other, &gone, std::slice::from_ref(&tag)).await, Ok(false), "{provider}");
        assert_eq!(bucket.complete(&other, &gone, &[tag]).await, Err(Fault::UploadGone), "{provider}");
    }
}

#[tokio::test]
async fn an_object_that_is_removed_is_gone_and_one_that_is_not_there_is_no_fault() {
    for provider in PROVIDERS {
        let (_server, bucket) = new_bucket(provider);
        let (name, other) = (key("region=ä b%2F+c/1.parquet"), key("region=ä b%2F+c/2.parquet"));
        for name in [&name, &other] {
            bucket.replace(name, Bytes::from_static(b"rows")).await.unwrap();
        }
        for _ in 0..2 {
            assert_eq!(bucket.discard(&name).await, Ok(()), "{provider}");
            assert_eq!(bucket.head(&name).await, Ok(None), "{provider}");
        }
        assert!(bucket.head(&other).await.unwrap().is_some(), "{provider}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_kind_and_status() {
    let (_server, bucket) = new_bucket(Provider::S3);
    bucket.put_if_absent(&key("a"), Bytes::from_static(b"12345")).await.unwrap();
    let _ = bucket.put_if_absent(&key("a"), Bytes::from_static(b"12345")).await;
    bucket.get(&key("a"), ALL).await.unwrap();
    let traffic = bucket.traffic();
    let count = |kind, status| {
        traffic.counted.iter().find(|counted| (counted.kind, counted.status) == (kind, Some(status))).map(|counted| counted.requests)
    };
    assert_eq!([count(RequestKind::Create, 200), count(RequestKind::Create, 412), count(RequestKind::Get, 206)], [Some(1); 3]);
    assert_eq!((traffic.sent_bytes, traffic.received_bytes, traffic.inconclusive), (10, 5, 0));
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_named_with_the_way_out() {
    for provider in PROVIDERS {
        let server = server(provider);
        let scheme = server.place("x").as_str().split("://").next().unwrap().to_owned();
        let nowhere = Location::parse(&format!("{scheme}://nowhere/x")).unwrap().unwrap();
        let refused = server.plain(&nowhere).put_if_absent(&key("a"), Bytes::from_static(b"x")).await.unwrap_err();
        let Fault::Refused(why) = &refused else { panic!("{provider}: {refused:?}") };
        assert!(why.contains(&format!("create {scheme}://nowhere")) && why.contains("http://127.0.0.1:"), "{provider}: {why}");
    }
}

/// Connects to a server of S3 that is not one.
fn by_s3(fake: &Fake) -> Bucket {
    let location = Location::parse("s3://lake/x").unwrap().unwrap();
    let config = StorageConfig {
        endpoint: Some(fake.endpoint().parse().unwrap()),
        request_timeout: Duration::from_millis(500),
        ..StorageConfig::default()
    };
    Bucket::connect(&location, &config, &environment(&[("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "hunter2")])).unwrap()
}

#[tokio::test]
async fn a_redirect_is_refused_with_the_region_and_never_followed() {
    let fake = Fake::serve(|request, _| {
        if request.method() == "GET" {
            return reply(200, "a page that says that all is well");
        }
        let mut redirect = reply(302, "");
        redirect.headers_mut().insert("location", "/elsewhere".parse().unwrap());
        redirect.headers_mut().insert("x-amz-bucket-region", "eu-west-1".parse().unwrap());
        redirect
    });
    let bucket = by_s3(&fake);
    let refused = bucket.put_if_absent(&key("a"), Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(&refused, Fault::Refused(why) if why.contains("`storage.region = \"eu-west-1\"`")), "{refused:?}");
    let traffic = bucket.traffic();
    assert_eq!(traffic.counted.iter().map(|counted| counted.requests).sum::<u64>(), 1, "{traffic:?}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_or_is_cut_short_leaves_it_unknown_after_one_request() {
    let slow = Fake::serve(|_, _| {
        std::thread::sleep(Duration::from_secs(2));
        reply(200, "")
    });
    let unreachable = { Fake::serve(|_, _| reply(200, "")).endpoint() };
    let bucket = by_s3(&slow);
    let fault = bucket.put_if_absent(&key("a"), Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(&fault, Fault::Unknown(why) if why.contains(&slow.endpoint())), "{fault:?}");
    assert_eq!((bucket.traffic().counted[0].status, bucket.traffic().counted[0].requests, bucket.traffic().inconclusive), (None, 1, 1));
    let location = Location::parse("s3://lake/x").unwrap().unwrap();
    let config = StorageConfig { endpoint: Some(unreachable.parse().unwrap()), ..StorageConfig::default() };
    let keys = environment(&[("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "hunter2")]);
    let fault = Bucket::connect(&location, &config, &keys).unwrap().head(&key("a")).await.unwrap_err();
    let Fault::Unknown(why) = &fault else { panic!("{fault:?}") };
    assert!(why.contains(&unreachable) && why.contains("refused"), "{why}");
}

#[tokio::test]
async fn a_5xx_is_told_at_once_and_nothing_is_sent_again_below_the_protocol() {
    for (status, code, expected) in [
        (500, "InternalError", None),
        (503, "SlowDown", Some(Fault::Throttled(Some(Duration::from_secs(7))))),
        (429, "TooManyRequests", Some(Fault::Throttled(Some(Duration::from_secs(7))))),
    ] {
        let fake = Fake::serve(move |_, _| {
            let mut reply = error(status, code, "not now");
            reply.headers_mut().insert("retry-after", "7".parse().unwrap());
            reply
        });
        let bucket = by_s3(&fake);
        let fault = bucket.put_part(&key("a"), &UploadId("u".into()), 0, Bytes::from_static(b"x")).await.unwrap_err();
        match expected {
            Some(expected) => assert_eq!(fault, expected),
            None => assert!(matches!(&fault, Fault::Unknown(why) if why.contains("500: InternalError: not now")), "{fault:?}"),
        }
        assert_eq!(bucket.traffic().counted.iter().map(|counted| counted.requests).sum::<u64>(), 1);
    }
}

#[tokio::test]
async fn a_completion_that_is_answered_200_with_an_error_inside_is_no_completion() {
    for (code, expected) in [("InternalError", None), ("NoSuchUpload", Some(Fault::UploadGone))] {
        let fake = Fake::serve(move |_, _| error(200, code, "all is not well"));
        let tags = [PartTag("e".into())];
        let fault = by_s3(&fake).complete(&key("a"), &UploadId("u".into()), &tags).await.unwrap_err();
        match expected {
            Some(expected) => assert_eq!(fault, expected),
            None => assert!(matches!(&fault, Fault::Unknown(why) if why.contains("InternalError")), "{fault:?}"),
        }
    }
}
