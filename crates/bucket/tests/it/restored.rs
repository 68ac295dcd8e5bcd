//! An older ledger that was put back beside newer files, on real servers: who starts, checks and reads refuses it.
//!
//! Owns: the lists that tell, as each server gives them.
//! Does not own: what else is told by names and records, and everything that may happen under a process (see `crates/storage/tests/it/bucket`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use pintail_bucket::{Bucket, Location, Provider};
use pintail_core::error::{Error, ErrorKind};
use pintail_storage::blob::{Blob, ObjectKey};
use pintail_storage::bucket::BucketTree;
use pintail_storage::checkpoint::paths::Paths;
use pintail_storage::checkpoint::reader::{self, Dataset};

use crate::dataset::{PATIENCE, check, objects, open, place, work};
use crate::servers::{PROVIDERS, Server, server};

/// Lays objects into a place where nothing is.
async fn lay(server: &Server, objects: impl IntoIterator<Item = (&String, &Bytes)>) -> Location {
    let location = server.new_place();
    let bucket = server.plain(&location);
    for (key, bytes) in objects {
        bucket.replace(&ObjectKey::new(key.as_str()), bytes.clone()).await.unwrap();
    }
    location
}

fn is_ledger(key: &str) -> bool {
    key.starts_with("_pintail/")
}

/// Reads what is committed, as a query does.
async fn committed(location: &Location, bucket: Bucket) -> Result<u64, Error> {
    let paths = Paths::new(location.as_str());
    let read = move || {
        let scratch = tempfile::tempdir().unwrap();
        let tree = BucketTree::new(Arc::new(bucket), paths, PATIENCE, scratch.path().to_owned())?;
        let committed = reader::committed_in(&Dataset::open_in_bucket(Arc::new(tree))?, || Ok(()))?;
        Ok(committed.files.iter().map(|file| file.rows).sum())
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

fn assert_older(told: &Error) {
    let text = told.to_string();
    assert_eq!(told.kind(), ErrorKind::State, "{text}");
    assert!(
        text.contains("is of checkpoint 6") && text.contains("the ledger is older than the files") && !text.contains("adopt"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_ledger_beside_newer_files_and_one_without_its_last_record_are_refused_by_starts_and_readers() {
    for provider in PROVIDERS {
        let server = server(provider);
        let (location, scratch) = (server.new_place(), tempfile::tempdir().unwrap());
        let bucket = server.plain(&location);
        let mut copies = Vec::new();
        for run in 0..3 {
            work(&location, Arc::new(server.plain(&location)), scratch.path(), &format!("{run:016x}")).await.unwrap();
            copies.push(objects(&bucket).await);
        }
        // The fake of GCS lists no directories, which readers go by.
        let reads = provider != Provider::Gcs;
        if reads {
            assert_eq!(committed(&location, server.plain(&location)).await.unwrap(), 9);
        }
        let [oldest, _, newest] = &copies[..] else { unreachable!("there were three runs") };
        let put_back: BTreeMap<_, _> =
            oldest.iter().filter(|(key, _)| is_ledger(key)).chain(newest.iter().filter(|(key, _)| !is_ledger(key))).collect();
        let without_last: BTreeMap<_, _> =
            newest.iter().filter(|(key, _)| !key.ends_with("/0000000006.json") && !key.ends_with("/BEAT")).collect();
        for (laid, last) in [(put_back, 2), (without_last, 5)] {
            let location = lay(&server, laid.iter().map(|(key, bytes)| (*key, *bytes))).await;
            let before = objects(&server.plain(&location)).await;
            let told = open(&place(&location, Arc::new(server.plain(&location)), scratch.path()), "00000000000000aa").await.unwrap_err();
            assert_older(&told);
            assert!(told.to_string().contains(&format!("the last commit record is {last}")), "{told}");
            if reads {
                assert_older(&committed(&location, server.plain(&location)).await.unwrap_err());
            }
            assert_eq!(objects(&server.plain(&location)).await, before, "nothing was written");
        }
        // The ledger as it was with the files.
        let restored = lay(&server, newest).await;
        work(&restored, Arc::new(server.plain(&restored)), scratch.path(), "00000000000000bb").await.unwrap();
        check(&server.plain(&restored)).await.unwrap();
    }
}
