//! Whether a bucket can hold a dataset at all.
//!
//! Owns: the probe of the one promise that everything rests on: of any number of requests that create one object, one wins.
//! Does not own: when it is run (`pintail check`, and the first start of a dataset).
//!
//! Nothing here deletes: two small objects stay below `_pintail`, and are used again by the next probe.

use bytes::Bytes;
use futures_util::future::join_all;
use pintail_core::error::{Error, ErrorKind, Result};
use pintail_storage::blob::{Blob, Fault, ObjectKey};
use tokio::time::{Duration, sleep};

/// Requests that create the same object at the same time.
const RACING: usize = 8;
/// How often a request is sent that has no answer.
const TRIES: u32 = 6;
/// The first pause between two of them. Each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of an object of the probe that are read.
const PROBE_BYTES_MAX: u64 = 4 << 10;

/// What a request came to, once it had an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Created {
    Yes,
    Exists,
    /// Nobody knows: what lies there tells.
    Unknown,
}

/// Creates an object twice, and another one by eight requests at the same time. `named` is how messages call the bucket, `nonce` is of this probe alone.
///
/// # Errors
/// [`ErrorKind::Config`] if the provider ignores the condition: no dataset is safe there. [`ErrorKind::Io`] if it refuses a request,
/// [`ErrorKind::TryAgain`] if it does not answer.
pub async fn probe(blob: &dyn Blob, named: &str, nonce: &str) -> Result<()> {
    let twice = ObjectKey::new("_pintail/probe/twice");
    let bytes = |of: &str| Bytes::from(format!("{{\"probe\":\"{nonce}\",\"of\":\"{of}\"}}\n"));
    create(blob, named, &twice, bytes("first")).await?;
    let before = read(blob, named, &twice).await?;
    let again = create(blob, named, &twice, bytes("second")).await?;
    if again == Created::Yes || read(blob, named, &twice).await? != before {
        return Err(ignored(named, "created twice, and both were told that they had done it"));
    }
    let race = ObjectKey::new("_pintail/probe/race");
    let racing: Vec<Bytes> = (0..RACING).map(|number| bytes(&number.to_string())).collect();
    let results = join_all(racing.iter().map(|bytes| create(blob, named, &race, bytes.clone()))).await;
    let results = results.into_iter().collect::<Result<Vec<Created>>>()?;
    let winners: Vec<&Bytes> =
        results.iter().zip(&racing).filter(|(created, _)| **created == Created::Yes).map(|(_, bytes)| bytes).collect();
    let there = read(blob, named, &race).await?;
    match winners.as_slice() {
        [] => Ok(()),
        [winner] if **winner == there => Ok(()),
        [_] => Err(ignored(
            named,
            &format!("created by {RACING} requests at once: one was told that it had done it, and another one's object is there"),
        )),
        more => {
            Err(ignored(named, &format!("created by {RACING} requests at once, of which {} were told that they had done it", more.len())))
        }
    }
}

async fn create(blob: &dyn Blob, named: &str, key: &ObjectKey, bytes: Bytes) -> Result<Created> {
    let mut pause = PAUSE;
    for _ in 0..TRIES {
        match blob.put_if_absent(key, bytes.clone()).await {
            Ok(()) => return Ok(Created::Yes),
            Err(Fault::Exists) => return Ok(Created::Exists),
            // It may have been done: a second one would meet it.
            Err(Fault::Unknown(_)) if blob.head(key).await.is_ok_and(|there| there.is_some()) => return Ok(Created::Unknown),
            Err(fault) if fault.may_pass() => sleep(pause).await,
            Err(fault) => return Err(failed(named, "create", key, fault)),
        }
        pause *= 2;
    }
    Err(Error::try_again(format!("`{named}/{key}` could not be created: the provider did not answer {TRIES} times; start again later")))
}

async fn read(blob: &dyn Blob, named: &str, key: &ObjectKey) -> Result<Bytes> {
    let mut pause = PAUSE;
    for _ in 0..TRIES {
        match blob.get(key, 0..PROBE_BYTES_MAX).await {
            Ok(Some(object)) => return Ok(object.bytes),
            Ok(None) => return Err(ignored(named, "created, and is not there a moment later")),
            Err(fault) if fault.may_pass() => sleep(pause).await,
            Err(fault) => return Err(failed(named, "read", key, fault)),
        }
        pause *= 2;
    }
    Err(Error::try_again(format!("`{named}/{key}` could not be read: the provider did not answer {TRIES} times; start again later")))
}

fn failed(named: &str, doing: &str, key: &ObjectKey, fault: Fault) -> Error {
    Error::new(ErrorKind::Io, format!("cannot {doing} `{named}/{key}`, a probe of the bucket")).with_source(fault)
}

fn ignored(named: &str, what: &str) -> Error {
    Error::config(format!(
        "`{named}` cannot hold a dataset: a probe was {what}; this provider ignores the condition of a request that creates an object \
         (`If-None-Match: *`, `x-goog-if-generation-match: 0`), and two processes could both commit: take another provider, or a version of its server \
         that honours it"
    ))
}
