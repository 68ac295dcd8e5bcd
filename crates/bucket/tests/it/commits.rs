//! The protocol of commits on real servers: everything that can happen at each of its requests.
//!
//! Owns: the walk over requests and events, two writers beside each other, files of several parts.
//! Does not own: the exhaustive walk over states (`crates/storage/tests/it/bucket`): here it is the servers that are real.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use pintail_bucket::{Client, Location, Provider, RequestKind};
use pintail_core::error::ErrorKind;
use pintail_storage::blob::Blob;

use crate::dataset::{PART_BYTES, check, commit, open, place, work};
use crate::line::{EVENTS, Event, Line, Place, Standing};
use crate::servers::{Server, server};

/// The time between the first two commits of a writer that another one fences. Each further one is twice as long.
const BETWEEN: Duration = Duration::from_millis(30);
/// How often a writer loses the dataset.
const ROUNDS: usize = 10;
/// Situations that are tried at the same time.
const SIDE_BY_SIDE: usize = 8;

/// Of so many situations one is tried, unless all are asked for: each takes seconds.
const SAMPLED: usize = 23;

static NONCES: AtomicU64 = AtomicU64::new(1);

fn nonce() -> String {
    format!("{:016x}", NONCES.fetch_add(1, Ordering::Relaxed))
}

/// How a process ended.
#[derive(Debug)]
enum End {
    Finished,
    Killed,
    Failed(ErrorKind, String),
}

/// Runs a process to which something happens. If it is stopped, another one does the same meanwhile, on another host.
async fn run(
    server: &Server,
    location: &Location,
    client: &Arc<Client>,
    event: Option<(Place, Event)>,
    scratch: &Path,
) -> (End, Vec<RequestKind>) {
    let line = Line::new(client.clone(), event);
    let blob: Arc<dyn Blob> = Arc::new(server.connect(location, Arc::new(line.clone())));
    let nonce = nonce();
    let mut process = Box::pin(work(location, blob, scratch, &nonce));
    let end = loop {
        tokio::select! {
            ended = &mut process => break match ended {
                Ok(()) => End::Finished,
                Err(error) => End::Failed(error.kind(), error.to_string()),
            },
            standing = line.ended() => {
                if standing == Standing::Killed {
                    break End::Killed;
                }
                let elsewhere = tempfile::tempdir().unwrap();
                let (other, _) = Box::pin(run(server, location, client, None, elsewhere.path())).await;
                assert!(matches!(other, End::Finished), "beside a process that was stopped, another one ended: {other:?}");
                line.go_on();
            }
        }
    };
    (end, line.asked())
}

/// Tries one thing at one request, of the first process of a dataset or of the second one. Whoever comes next must find all in order, and go on.
async fn situation(server: &Server, client: &Arc<Client>, before: usize, place: Place, event: Event) -> Result<(), String> {
    let (location, scratch) = (server.new_place(), tempfile::tempdir().unwrap());
    for _ in 0..before {
        run(server, &location, client, None, scratch.path()).await;
    }
    let (end, _) = run(server, &location, client, Some((place, event)), scratch.path()).await;
    let told = |why: String| format!("{event:?} at {place:?} of process {}: {why}", before + 1);
    match (&end, event) {
        (End::Killed, Event::CrashBefore | Event::CrashAfter) => {}
        (End::Finished, Event::CrashBefore | Event::CrashAfter) => return Err(told("it did not come to that request".into())),
        (End::Finished, _) | (End::Failed(ErrorKind::TryAgain, _), Event::Stopped) => {}
        (End::Failed(kind, why), _) => return Err(told(format!("it ended with {kind:?}: {why}"))),
        (End::Killed, _) => return Err(told("it was killed".into())),
    }
    let (next, _) = run(server, &location, client, None, scratch.path()).await;
    if !matches!(next, End::Finished) {
        return Err(told(format!("the next process ended: {next:?}")));
    }
    check(&server.plain(&location)).await.map(|_| ()).map_err(told)
}

async fn walk(provider: Provider) {
    let begun = Instant::now();
    let server = server(provider);
    let client = Arc::new(Client::new(&server.config()).unwrap());
    let (location, scratch) = (server.new_place(), tempfile::tempdir().unwrap());
    let mut situations = Vec::new();
    for before in 0..2 {
        let (end, asked) = run(&server, &location, &client, None, scratch.path()).await;
        assert!(matches!(end, End::Finished), "{end:?}");
        for (at, kind) in asked.iter().enumerate() {
            let number = asked[..at].iter().filter(|before| *before == kind).count();
            let events = EVENTS.iter().filter(|event| may_happen(*kind, **event));
            situations.extend(events.map(|event| (before, (*kind, number), *event)));
        }
    }
    check(&server.plain(&location)).await.unwrap();
    let all = std::env::var_os("PINTAIL_TEST_BUCKET_ALL").is_some();
    let situations: Vec<_> = situations.into_iter().step_by(if all { 1 } else { SAMPLED }).collect();
    let count = situations.len();
    let tried = stream::iter(situations).map(|(before, place, event)| situation(&server, &client, before, place, event));
    let broken: Vec<String> = tried.buffer_unordered(SIDE_BY_SIDE).filter_map(async |tried| tried.err()).collect().await;
    eprintln!("{provider}: {count} situations, {} broken; {:.1?}", broken.len(), begun.elapsed());
    assert!(broken.is_empty(), "{broken:#?}");
}

/// A request that only looks is not killed at: that is a crash after the change before it.
fn may_happen(kind: RequestKind, event: Event) -> bool {
    let looks = matches!(kind, RequestKind::Get | RequestKind::Head | RequestKind::List);
    !looks || matches!(event, Event::AnswerLost | Event::Done500 | Event::NotDone503 | Event::NotSent | Event::Stopped)
}

#[tokio::test]
async fn whatever_happens_at_a_request_to_seaweedfs_nothing_is_lost_or_doubled() {
    walk(Provider::S3).await;
}

#[tokio::test]
async fn whatever_happens_at_a_request_to_azurite_nothing_is_lost_or_doubled() {
    walk(Provider::Azure).await;
}

#[tokio::test]
async fn whatever_happens_at_a_request_to_gcs_nothing_is_lost_or_doubled() {
    walk(Provider::Gcs).await;
}

/// Again and again, a writer that goes on without end loses the dataset to another one.
async fn two_writers(provider: Provider) {
    let server = server(provider);
    let location = server.new_place();
    let scratches = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let bucket: Arc<dyn Blob> = Arc::new(server.plain(&location));
    for round in 0..ROUNDS {
        let [endless, other] = scratches.each_ref().map(|scratch| place(&location, bucket.clone(), scratch.path()));
        let mut endless_store = open(&endless, &nonce()).await.unwrap();
        let endless = async {
            // Whoever opens it needs more requests than a commit has: it is left more and more time.
            let mut pause = BETWEEN;
            loop {
                if let Err(error) = commit(&mut endless_store, 0).await {
                    break error;
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        };
        let other = async {
            let mut store = open(&other, &nonce()).await?;
            for _ in 0..3 {
                commit(&mut store, 0).await?;
            }
            store.close().await
        };
        let (fenced, ended) = tokio::join!(endless, other);
        assert_eq!(fenced.kind(), ErrorKind::TryAgain, "{provider}, round {round}: {fenced}");
        ended.unwrap_or_else(|error| panic!("{provider}, round {round}: {error}"));
        assert_eq!(check(&server.plain(&location)).await.map(drop), Ok(()), "{provider}, round {round}");
    }
}

#[tokio::test]
async fn of_two_writers_on_one_dataset_in_seaweedfs_one_is_fenced_and_rows_are_there_once() {
    two_writers(Provider::S3).await;
}

#[tokio::test]
async fn of_two_writers_on_one_dataset_in_azurite_one_is_fenced_and_rows_are_there_once() {
    two_writers(Provider::Azure).await;
}

#[tokio::test]
async fn a_file_of_several_parts_is_one_object_and_so_it_is_after_its_upload_is_gone() {
    for provider in crate::servers::PROVIDERS {
        let server = server(provider);
        let (location, scratch) = (server.new_place(), tempfile::tempdir().unwrap());
        let bucket = Arc::new(server.plain(&location));
        let mut store = open(&place(&location, bucket.clone(), scratch.path()), &nonce()).await.unwrap();
        commit(&mut store, 2 * PART_BYTES).await.unwrap();
        let parts = |record: &pintail_storage::checkpoint::record::CommitRecord| record.files[0].upload.as_ref().unwrap().parts.len();
        assert_eq!(parts(store.last().unwrap()), 3);
        store.close().await.unwrap();
        let chain = check(&bucket).await.unwrap();
        assert_eq!(chain[1].files[0].bytes, 2 * PART_BYTES as u64 + 14);
    }
}
